//! The handshake of the extension protocol (BEP 10), and upload-only in it (BEP 21).
//!
//! Message 20 is an envelope. Inside, id 0 is this handshake: a dictionary in which each side says
//! under which ids it wants to be sent which kinds of further messages, and a few things about itself.
//! Strangers write it, so each field is read on its own and one that makes no sense is as good as absent.
//!
//! ```
//! use ropewalk::protocol::peer::extension::ExtensionHandshake;
//! let theirs = ExtensionHandshake::decode(b"d1:md6:ut_pexi1ee1:pi6889e1:v5:aria2e").unwrap();
//! assert_eq!(theirs.client.as_deref(), Some("aria2"));
//! assert_eq!(theirs.listen_port, Some(6889));
//! assert_eq!(theirs.messages.get("ut_pex"), Some(&1));
//! ```

use super::Message;
use crate::protocol::bencode::{self, DecodeLimits, Dict, Value};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How many of the stranger's message names are kept: far more than exist.
const MESSAGES_MAX: usize = 32;

/// How long a message name may be, in bytes.
const NAME_MAX: usize = 32;

/// How many characters of the client's name are kept.
const CLIENT_MAX: usize = 64;

/// The longest request queue we believe in.
const QUEUE_MAX: i64 = 2_000;

/// What we call ourselves.
pub const CLIENT: &str = "ropewalk 0.1";

/// The request queue we announce and keep.
pub const REQUEST_QUEUE: u32 = 2_000;

/// What a peer says of itself in the extension protocol's handshake. A field is `None` where it was
/// absent or made no sense.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExtensionHandshake {
    /// The program, as it names itself (`v`). A stranger's text: escape it before it is shown.
    pub client: Option<String>,
    /// The TCP port on which the peer listens (`p`), never 0.
    pub listen_port: Option<u16>,
    /// How many requests the peer is willing to queue (`reqq`), 1 to 2,000.
    pub reqq: Option<u32>,
    /// The peer wants nothing (more) of this torrent (`upload_only`, BEP 21).
    pub upload_only: bool,
    /// The length of the info dictionary in bytes as the peer claims it (BEP 9); not believed, only positive.
    pub metadata_size: Option<u32>,
    /// Our address as the peer sees it (`yourip`).
    pub yourip: Option<IpAddr>,
    /// An IPv4 address at which the peer can be reached too.
    pub ipv4: Option<Ipv4Addr>,
    /// An IPv6 address at which the peer can be reached too.
    pub ipv6: Option<Ipv6Addr>,
    /// The ids under which the peer wants to be sent messages, by the messages' names (`m`). Never 0.
    pub messages: BTreeMap<String, u8>,
}

impl ExtensionHandshake {
    /// Our handshake to a peer at `to`. No further message of the extension protocol is supported yet.
    pub fn ours(listen_port: Option<u16>, upload_only: bool, to: IpAddr) -> ExtensionHandshake {
        ExtensionHandshake {
            client: Some(CLIENT.to_owned()),
            listen_port,
            reqq: Some(REQUEST_QUEUE),
            upload_only,
            yourip: Some(to.to_canonical()),
            ..ExtensionHandshake::default()
        }
    }

    /// The message that carries it.
    pub fn message(&self) -> Message {
        Message::Extended {
            id: 0,
            payload: self.encode().into(),
        }
    }

    /// The bytes of the dictionary.
    pub fn encode(&self) -> Vec<u8> {
        let ids = self.messages.iter();
        let ids = ids.map(|(name, id)| (name.as_str(), Value::Int(i64::from(*id))));
        let mut entries = vec![("m", Value::dict(ids))];
        let mut put = |key, value: Option<Value>| entries.extend(value.map(|value| (key, value)));
        put("v", self.client.as_deref().map(Value::from));
        put("p", self.listen_port.map(|port| i64::from(port).into()));
        put("reqq", self.reqq.map(|reqq| i64::from(reqq).into()));
        put("upload_only", self.upload_only.then_some(1.into()));
        let size = self.metadata_size.map(|size| i64::from(size).into());
        put("metadata_size", size);
        put("yourip", self.yourip.map(|ip| address(ip).into()));
        let (v4, v6) = (self.ipv4.map(IpAddr::from), self.ipv6.map(IpAddr::from));
        put("ipv4", v4.map(|ip| address(ip).into()));
        put("ipv6", v6.map(|ip| address(ip).into()));
        Value::dict(entries).encode()
    }

    /// Reads a handshake. `None` where the bytes are no dictionary at all, which is best ignored;
    /// fields that make no sense are left out.
    pub fn decode(payload: &[u8]) -> Option<ExtensionHandshake> {
        let document = bencode::decode_prefix(payload, DecodeLimits::MESSAGE).ok()?;
        let root = document.root().as_dict()?;
        let int = |key: &str| root.get(key.as_bytes())?.as_int();
        let bytes = |key: &str| root.get(key.as_bytes())?.as_bytes();
        let reqq = int("reqq").filter(|reqq| *reqq > 0);
        Some(ExtensionHandshake {
            client: bytes("v").map(client),
            listen_port: int("p")
                .and_then(|port| u16::try_from(port).ok())
                .filter(|port| *port != 0),
            reqq: reqq.map(|reqq| reqq.min(QUEUE_MAX) as u32),
            upload_only: int("upload_only").is_some_and(|value| value != 0),
            metadata_size: int("metadata_size")
                .and_then(|size| u32::try_from(size).ok())
                .filter(|size| *size != 0),
            yourip: bytes("yourip").and_then(ip),
            ipv4: bytes("ipv4").and_then(|it| Some(Ipv4Addr::from(<[u8; 4]>::try_from(it).ok()?))),
            ipv6: bytes("ipv6").and_then(|it| Some(Ipv6Addr::from(<[u8; 16]>::try_from(it).ok()?))),
            messages: root
                .get(b"m")
                .and_then(|m| m.as_dict())
                .map(messages)
                .unwrap_or_default(),
        })
    }
}

/// The message ids of the `m` dictionary. Id 0 switches a message off, so it is as good as absent.
fn messages(m: Dict<'_>) -> BTreeMap<String, u8> {
    let usable = m.iter().filter_map(|(name, id)| {
        let name = std::str::from_utf8(name).ok()?;
        let id = u8::try_from(id.as_int()?).ok()?;
        let named = !name.is_empty() && name.len() <= NAME_MAX;
        (named && id != 0).then(|| (name.to_owned(), id))
    });
    let mut messages = BTreeMap::new();
    messages.extend(usable.take(MESSAGES_MAX));
    messages
}

fn client(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(4 * CLIENT_MAX)]);
    text.chars().take(CLIENT_MAX).collect()
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

fn address(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded_again(
            client in proptest::option::of("[ -~]{0,64}"),
            listen_port in proptest::option::of(1u16..),
            reqq in proptest::option::of(1u32..=2000),
            upload_only: bool,
            metadata_size in proptest::option::of(1u32..),
            yourip in proptest::option::of(any::<IpAddr>()),
            ipv4 in proptest::option::of(any::<Ipv4Addr>()),
            ipv6 in proptest::option::of(any::<Ipv6Addr>()),
            messages in proptest::collection::btree_map("[a-z_]{1,32}", 1u8.., 0..5),
        ) {
            let one = ExtensionHandshake {
                client, listen_port, reqq, upload_only, metadata_size, yourip, ipv4, ipv6, messages,
            };
            prop_assert_eq!(ExtensionHandshake::decode(&one.encode()), Some(one));
        }

        #[test]
        fn noise_never_panics(noise in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = ExtensionHandshake::decode(&noise);
            let _ = ExtensionHandshake::decode(&[b"d1:v", &noise[..]].concat());
        }
    }

    #[test]
    fn a_handshake_of_aria2_is_read() {
        let bytes = b"d1:md11:ut_metadatai2e6:ut_pexi1ee13:metadata_sizei1024e1:pi6889e1:v5:aria2e";
        let theirs = ExtensionHandshake::decode(bytes).unwrap();
        let messages = [("ut_metadata".to_owned(), 2), ("ut_pex".to_owned(), 1)];
        assert_eq!(
            theirs,
            ExtensionHandshake {
                client: Some("aria2".into()),
                listen_port: Some(6889),
                metadata_size: Some(1024),
                messages: messages.into(),
                ..ExtensionHandshake::default()
            }
        );
    }

    #[test]
    fn ours_says_who_we_are_and_where_the_peer_is() {
        let ours = ExtensionHandshake::ours(Some(6881), true, "::ffff:1.2.3.4".parse().unwrap());
        assert_eq!(
            ours.encode(),
            b"d1:mde1:pi6881e4:reqqi2000e11:upload_onlyi1e1:v12:ropewalk 0.16:yourip4:\x01\x02\x03\x04e"
        );
    }

    #[test]
    fn fields_that_make_no_sense_are_left_out() {
        for bad in [
            &b"d1:mle1:pi0e4:reqqi0e1:vi1e6:yourip3:abce"[..],
            b"d1:p5:hello4:reqqi-1e13:metadata_sizei-1e6:yourip0:e",
            b"d1:pi70000e13:metadata_sizei4294967296e11:upload_onlyi0ee",
            b"d4:ipv43:abc4:ipv64:abcd1:md0:i1e1:ai0e1:bi256e1:ci-1e1:d1:xee",
            b"de and what follows",
        ] {
            let read = ExtensionHandshake::decode(bad);
            assert_eq!(
                read,
                Some(ExtensionHandshake::default()),
                "{}",
                bad.escape_ascii()
            );
        }
        for none in [&b""[..], b"le", b"i1e", b"4:spam", b"d1:m", b"\xff\xff"] {
            assert_eq!(ExtensionHandshake::decode(none), None);
        }
    }

    #[test]
    fn numbers_and_lists_without_end_are_clamped() {
        let theirs = ExtensionHandshake::decode(b"d4:reqqi2147483648ee").unwrap();
        assert_eq!(theirs.reqq, Some(2000));
        let many = (0..400).map(|n| (format!("x{n:03}"), Value::Int(1 + n % 255)));
        let bytes = Value::dict([("m", Value::dict(many))]).encode();
        let theirs = ExtensionHandshake::decode(&bytes).unwrap();
        assert_eq!(theirs.messages.len(), MESSAGES_MAX);
        let long = Value::dict([("v", Value::from("\u{1b}x".repeat(5000).as_str()))]).encode();
        let client = ExtensionHandshake::decode(&long).unwrap().client.unwrap();
        assert_eq!(client.chars().count(), CLIENT_MAX);
        let deep = [b"d1:m".repeat(2000), b"e".repeat(2000)].concat();
        assert_eq!(ExtensionHandshake::decode(&deep), None);
    }
}
