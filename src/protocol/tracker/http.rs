//! What a client asks a tracker over HTTP and what the tracker answers (BEP 3, 7, 23, 24, 31).
//!
//! The request is a query string, the answer a bencoded dictionary. Both directions are here, so the
//! client and the tracker server read and write the same thing.
//!
//! ```
//! use ropewalk::protocol::tracker::http::Answer;
//! let answer = Answer::decode(b"d8:intervali1800e5:peers6:\x01\x02\x03\x04\x1a\xe1e").unwrap();
//! assert_eq!(answer.interval, Some(1800));
//! assert_eq!(answer.peers, ["1.2.3.4:6881".parse().unwrap()]);
//! ```

use super::compact;
use crate::protocol::InfoHash;
use crate::protocol::bencode::{self, DecodeLimits, Dict, Document, Item, Value};
use crate::protocol::peer::PeerId;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

/// How many addresses of one answer are kept. Trackers give 50 to 200; the rest is somebody's joke.
pub const PEERS_MAX: usize = 1_000;

/// How many characters of a tracker's texts are kept.
pub const TEXT_MAX: usize = 200;

/// How many bytes of a tracker id or a key are kept.
const OPAQUE_MAX: usize = 200;

/// What happened to the client, if anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Occasion {
    /// The first announce of a run.
    Started,
    /// The download became complete in this run.
    Completed,
    /// The client is leaving.
    Stopped,
    /// The client lacks something and wants nothing more: said in every announce of a partial seed
    /// (BEP 21).
    Paused,
}

impl Occasion {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Occasion::Started => "started",
            Occasion::Completed => "completed",
            Occasion::Stopped => "stopped",
            Occasion::Paused => "paused",
        }
    }
}

/// An announce: who asks, about which torrent, and how far it has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The torrent.
    pub info_hash: InfoHash,
    /// The client's id.
    pub peer_id: PeerId,
    /// The TCP port on which it listens.
    pub port: u16,
    /// Payload bytes sent since `started`.
    pub uploaded: u64,
    /// Payload bytes received since `started`.
    pub downloaded: u64,
    /// Bytes still missing.
    pub left: u64,
    /// The occasion; none for the regular announce.
    pub event: Option<Occasion>,
    /// How many addresses are wanted; the tracker decides if not said.
    pub num_want: Option<u32>,
    /// A secret by which the tracker knows a client whose address has changed.
    pub key: Option<String>,
    /// Addresses as bytes rather than dictionaries.
    pub compact: bool,
    /// In the dictionary form, leave the ids out.
    pub no_peer_id: bool,
    /// What the tracker called itself in its last answer.
    pub tracker_id: Option<Vec<u8>>,
}

/// Why a query string is no announce.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Without this parameter there is no announce.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// This parameter is not what it must be.
    #[error("{0} is malformed")]
    Malformed(&'static str),
    /// This parameter is no number, or negative, or too large.
    #[error("{0} is no whole number from {1} to {2}")]
    OutOfRange(&'static str, u64, u64),
}

impl Request {
    /// The address to get: the tracker's own with the announce as its query. Trackers' addresses may have
    /// a query already (passkeys live there); a fragment is dropped, as it never leaves a client.
    pub fn to_url(&self, announce: &str) -> String {
        let announce = announce.split('#').next().unwrap_or_default();
        let joint = match announce.split_once('?') {
            None => "?",
            Some((_, query)) if query.is_empty() || query.ends_with('&') => "",
            Some(_) => "&",
        };
        format!("{announce}{joint}{}", self.to_query())
    }

    /// The query string, without a leading question mark.
    pub fn to_query(&self) -> String {
        let mut query = format!(
            "info_hash={}&peer_id={}&port={}&uploaded={}&downloaded={}&left={}",
            percent_encode(&self.info_hash.0),
            percent_encode(&self.peer_id.0),
            self.port,
            self.uploaded,
            self.downloaded,
            self.left
        );
        let mut put = |name: &str, value: &str| {
            // Writing to a string cannot fail.
            let _ = write!(query, "&{name}={value}");
        };
        put("compact", if self.compact { "1" } else { "0" });
        if self.no_peer_id {
            put("no_peer_id", "1");
        }
        if let Some(event) = self.event {
            put("event", event.as_str());
        }
        if let Some(wanted) = self.num_want {
            put("numwant", &wanted.to_string());
        }
        if let Some(key) = &self.key {
            put("key", &percent_encode(key.as_bytes()));
        }
        if let Some(id) = &self.tracker_id {
            put("trackerid", &percent_encode(id));
        }
        query
    }

    /// Reads a query string. Unknown parameters are passed over, of repeated ones the first counts.
    /// An address in `ip` is deliberately not read: it would let anybody point a swarm at a victim.
    pub fn from_query(query: &str) -> Result<Request, RequestError> {
        let pairs = query.split('&');
        let pairs: Vec<(&str, &str)> = pairs
            .map(|it| it.split_once('=').unwrap_or((it, "")))
            .collect();
        let find = |name: &'static str| {
            let (_, value) = pairs.iter().find(|(key, _)| *key == name)?;
            Some(percent_decode(value).ok_or(RequestError::Malformed(name)))
        };
        let number = |name: &'static str| match find(name) {
            None => Ok(None),
            Some(value) => {
                let digits = value?;
                let text = std::str::from_utf8(&digits).ok();
                let plain = text.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
                let value = plain.and_then(|text| text.parse::<u64>().ok());
                value
                    .map(Some)
                    .ok_or(RequestError::OutOfRange(name, 0, u64::MAX))
            }
        };
        let twenty = |name: &'static str| {
            let value = find(name).ok_or(RequestError::Missing(name))??;
            <[u8; 20]>::try_from(value).map_err(|_| RequestError::Malformed(name))
        };
        let no_port = RequestError::OutOfRange("port", 1, u64::from(u16::MAX));
        let port = number("port").map_err(|_| no_port)?;
        let port = u16::try_from(port.ok_or(RequestError::Missing("port"))?);
        let event = find("event").transpose()?;
        let key = find("key").transpose()?;
        let wanted = number("numwant").unwrap_or_default();
        Ok(Request {
            info_hash: InfoHash(twenty("info_hash")?),
            peer_id: PeerId(twenty("peer_id")?),
            port: port.ok().filter(|port| *port != 0).ok_or(no_port)?,
            uploaded: number("uploaded")?.unwrap_or(0),
            downloaded: number("downloaded")?.unwrap_or(0),
            // Who does not say how much it lacks is not taken for a seed.
            left: number("left")?.unwrap_or(u64::MAX),
            event: match event.as_deref() {
                Some(b"started") => Some(Occasion::Started),
                Some(b"completed") => Some(Occasion::Completed),
                Some(b"stopped") => Some(Occasion::Stopped),
                Some(b"paused") => Some(Occasion::Paused),
                _ => None,
            },
            num_want: wanted.map(|wanted| u32::try_from(wanted).unwrap_or(u32::MAX)),
            key: key.map(|key| text(&key)),
            compact: number("compact").ok().flatten() != Some(0),
            no_peer_id: matches!(number("no_peer_id"), Ok(Some(1..))),
            tracker_id: find("trackerid")
                .transpose()?
                .filter(|id| id.len() <= OPAQUE_MAX),
        })
    }
}

/// Writes every byte but letters, digits and `-._~` as `%` and two hex digits (RFC 3986).
pub fn percent_encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 3);
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// The bytes that percent-encoded text stands for; `None` where a `%` is not followed by two hex
/// digits. A plus is a space, because many libraries encode a space so and none a plus.
pub fn percent_decode(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let decoded = match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                (digit()? * 16 + digit()?) as u8
            }
            b'+' => b' ',
            other => other,
        };
        out.push(decoded);
    }
    Some(out)
}

/// What a tracker answered. Numbers are as given, whatever they are: who uses them clamps them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// Addresses of peers, IPv4 and IPv6, at most 1,000. Ones that cannot be connected to are left out.
    pub peers: Vec<SocketAddr>,
    /// Seconds until the next regular announce.
    pub interval: Option<i64>,
    /// Seconds that must pass before any further announce.
    pub min_interval: Option<i64>,
    /// Peers that have everything.
    pub complete: Option<u64>,
    /// Peers that still lack something.
    pub incomplete: Option<u64>,
    /// How often the download was completed.
    pub downloaded: Option<u64>,
    /// What to send as `trackerid` from now on.
    pub tracker_id: Option<Vec<u8>>,
    /// A remark for the user, cut to 200 characters. A stranger's text: escape it before it is shown.
    pub warning: Option<String>,
    /// Our address as the tracker sees it (BEP 24).
    pub external_ip: Option<IpAddr>,
}

/// When a tracker that refused wants to be asked again (BEP 31).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryIn {
    /// In so many minutes.
    Minutes(u32),
    /// Not in this run.
    Never,
}

/// How everything begins that gzip made (RFC 1952).
const GZIP: &[u8] = b"\x1f\x8b";

/// Why a body is no answer that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// The tracker said no. The reason is cut to 200 characters and a stranger's text: escape it.
    #[error("the tracker refuses{}", because(reason))]
    Refused {
        /// Why, in the tracker's words.
        reason: String,
        /// When to ask again, if it said so.
        retry: Option<RetryIn>,
    },
    /// Not bencode: a web page, most likely.
    #[error("the answer is not a tracker's: {0}")]
    NotBencode(#[from] bencode::DecodeError),
    /// It begins as gzip does, and we said of no compression that we know it (RFC 9110, 12.5.3).
    #[error("the answer is compressed, and nobody asked for that")]
    Compressed,
    /// Bencode, but not a dictionary.
    #[error("the answer is not a tracker's: it is not a dictionary")]
    NotADictionary,
}

/// The bencode that the body of an answer begins with.
pub(super) fn document(body: &[u8]) -> Result<Document<'_>, AnswerError> {
    if body.starts_with(GZIP) {
        return Err(AnswerError::Compressed);
    }
    Ok(bencode::decode_prefix(body, DecodeLimits::TRACKER)?)
}

impl Answer {
    /// Reads the body of an answer. Bytes after its end are passed over.
    pub fn decode(body: &[u8]) -> Result<Answer, AnswerError> {
        let document = document(body)?;
        let root = document.root().as_dict();
        let root = root.ok_or(AnswerError::NotADictionary)?;
        let bytes = |key: &str| root.get(key.as_bytes())?.as_bytes();
        let int = |key: &str| root.get(key.as_bytes())?.as_int();
        let count = |key: &str| u64::try_from(int(key)?).ok();
        if let Some(reason) = bytes("failure reason") {
            return Err(AnswerError::Refused {
                reason: text(reason),
                retry: root.get(b"retry in").and_then(retry),
            });
        }
        Ok(Answer {
            peers: peers(root),
            interval: int("interval"),
            min_interval: int("min interval"),
            complete: count("complete"),
            incomplete: count("incomplete"),
            downloaded: count("downloaded"),
            tracker_id: bytes("tracker id")
                .filter(|id| id.len() <= OPAQUE_MAX)
                .map(<[u8]>::to_vec),
            warning: bytes("warning message").map(text),
            external_ip: bytes("external ip").and_then(external_ip),
        })
    }

    /// The body of an answer, with the peers as bytes or as dictionaries.
    pub fn encode(&self, compact: bool) -> Vec<u8> {
        let mut entries: Vec<(&str, Value)> = Vec::new();
        if compact {
            entries.push(("peers", compact::encode_v4(&self.peers).into()));
            let v6 = compact::encode_v6(&self.peers);
            if !v6.is_empty() {
                entries.push(("peers6", v6.into()));
            }
        } else {
            let peers = self.peers.iter().map(|peer| {
                let ip = peer.ip().to_canonical().to_string();
                let port = i64::from(peer.port());
                Value::dict([("ip", Value::from(ip.as_str())), ("port", port.into())])
            });
            entries.push(("peers", Value::list(peers)));
        }
        let mut put = |key, value: Option<Value>| entries.extend(value.map(|value| (key, value)));
        let count =
            |count: Option<u64>| count.map(|it| i64::try_from(it).unwrap_or(i64::MAX).into());
        put("interval", self.interval.map(Value::from));
        put("min interval", self.min_interval.map(Value::from));
        put("complete", count(self.complete));
        put("incomplete", count(self.incomplete));
        put("downloaded", count(self.downloaded));
        put("tracker id", self.tracker_id.clone().map(Value::from));
        put("warning message", self.warning.as_deref().map(Value::from));
        let ip = self.external_ip.map(|ip| match ip {
            IpAddr::V4(ip) => Value::from(&ip.octets()[..]),
            IpAddr::V6(ip) => Value::from(&ip.octets()[..]),
        });
        put("external ip", ip);
        Value::dict(entries).encode()
    }
}

/// The body by which a tracker refuses.
pub fn refusal(reason: &str) -> Vec<u8> {
    Value::dict([("failure reason", Value::from(reason))]).encode()
}

/// All addresses of an answer: `peers` in either form, and `peers6`.
fn peers(root: Dict<'_>) -> Vec<SocketAddr> {
    let peers = root.get(b"peers");
    let mut found = Vec::new();
    if let Some(bytes) = peers.and_then(Item::as_bytes) {
        found.extend(compact::decode_v4(bytes).unwrap_or_default());
    }
    if let Some(list) = peers.and_then(Item::as_list) {
        found.extend(list.filter_map(listed_peer).take(PEERS_MAX));
    }
    // Half of the room stays for IPv6 if there is any, or a long IPv4 list would hide it.
    if let Some(bytes) = root.get(b"peers6").and_then(Item::as_bytes) {
        let v6 = compact::decode_v6(bytes).unwrap_or_default();
        found.truncate(PEERS_MAX - v6.len().min(PEERS_MAX / 2));
        found.extend(v6);
    }
    found.truncate(PEERS_MAX);
    found
}

/// A peer in the dictionary form. A host name is not an address: nobody shall make us look up a thousand names.
fn listed_peer(item: Item<'_>) -> Option<SocketAddr> {
    let peer = item.as_dict()?;
    let ip: IpAddr = peer.get(b"ip")?.as_str()?.parse().ok()?;
    let port = u16::try_from(peer.get(b"port")?.as_int()?).ok()?;
    Some(SocketAddr::new(ip.to_canonical(), port)).filter(compact::is_usable)
}

pub(super) fn retry(item: Item<'_>) -> Option<RetryIn> {
    if item.as_bytes() == Some(b"never") {
        return Some(RetryIn::Never);
    }
    let minutes = item.as_int().or_else(|| item.as_str()?.parse().ok())?;
    (minutes >= 0).then(|| RetryIn::Minutes(u32::try_from(minutes).unwrap_or(u32::MAX)))
}

fn external_ip(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

/// The end of the sentence about a refusal.
fn because(reason: &str) -> String {
    match reason.trim() {
        "" => " and does not say why".to_owned(),
        reason => format!(": {reason}"),
    }
}

/// A stranger's text, cut. The bytes are cut before they are decoded: it may be megabytes.
pub(super) fn text(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(4 * TEXT_MAX)]);
    text.chars().take(TEXT_MAX).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn request() -> Request {
        Request {
            info_hash: InfoHash(*b"\x12\x34 +&=%?#/abcXYZ~-._"),
            peer_id: PeerId::new(*b"0123456789ab"),
            port: 6881,
            uploaded: 1,
            downloaded: 2,
            left: u64::MAX,
            event: Some(Occasion::Started),
            num_want: Some(50),
            key: Some("00C0FFEE".into()),
            compact: true,
            no_peer_id: true,
            tracker_id: Some(b"a&b".to_vec()),
        }
    }

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    proptest! {
        #[test]
        fn every_request_survives_its_query(
            info_hash: [u8; 20], peer_id: [u8; 20], port in 1u16.., uploaded: u64, left: u64,
            event in prop_oneof![Just(None), Just(Some(Occasion::Stopped)), Just(Some(Occasion::Paused))],
            num_want: Option<u32>, compact: bool, no_peer_id: bool,
            tracker_id in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..30)),
        ) {
            let one = Request {
                info_hash: InfoHash(info_hash), peer_id: PeerId(peer_id), port, uploaded, left, event,
                num_want, compact, no_peer_id, tracker_id, ..request()
            };
            prop_assert_eq!(Request::from_query(&one.to_query()), Ok(one));
        }

        #[test]
        fn noise_is_an_error_and_no_panic(text in "(info_hash=|peer_id=|%|&|=|[a-z]|\\PC){0,60}", body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Request::from_query(&text);
            let _ = Answer::decode(&body);
            let _ = Answer::decode(&[b"d5:peers", &body[..]].concat());
        }

        #[test]
        fn every_answer_survives_both_forms(
            peers in proptest::collection::vec(any::<SocketAddr>(), 0..20),
            interval: Option<i64>, complete in proptest::option::of(0..=i64::MAX as u64),
            warning in proptest::option::of("\\PC{0,60}"), external_ip: Option<IpAddr>,
        ) {
            // The order on the wire: IPv4 first.
            let mut peers: Vec<_> = peers.into_iter()
                .map(|peer| SocketAddr::new(peer.ip().to_canonical(), peer.port()))
                .filter(compact::is_usable).collect();
            peers.sort_by_key(SocketAddr::is_ipv6);
            let one = Answer { peers, interval, complete, warning, external_ip, ..Answer::default() };
            prop_assert_eq!(Answer::decode(&one.encode(true)), Ok(one.clone()));
            prop_assert_eq!(Answer::decode(&one.encode(false)), Ok(one));
        }
    }

    #[test]
    fn the_query_is_encoded_byte_by_byte() {
        let url = request().to_url("http://tracker.example/announce");
        assert_eq!(
            url,
            "http://tracker.example/announce?info_hash=%124%20%2B%26%3D%25%3F%23%2FabcXYZ~-._\
             &peer_id=-RW0100-0123456789ab&port=6881&uploaded=1&downloaded=2&left=18446744073709551615\
             &compact=1&no_peer_id=1&event=started&numwant=50&key=00C0FFEE&trackerid=a%26b"
        );
    }

    #[test]
    fn a_query_the_tracker_address_has_already_is_kept() {
        for (announce, start) in [
            ("http://t/a", "http://t/a?info_hash="),
            ("http://t/a?", "http://t/a?info_hash="),
            ("http://t/a?passkey=x", "http://t/a?passkey=x&info_hash="),
            ("http://t/a?passkey=x&", "http://t/a?passkey=x&info_hash="),
            ("http://t/a#top", "http://t/a?info_hash="),
        ] {
            assert!(request().to_url(announce).starts_with(start), "{announce}");
        }
    }

    #[test]
    fn what_is_no_announce_is_refused_with_the_parameter_named() {
        let hash = "info_hash=aaaaaaaaaaaaaaaaaaaa";
        let peer = "peer_id=bbbbbbbbbbbbbbbbbbbb";
        let (missing, malformed) = (RequestError::Missing, RequestError::Malformed);
        for (query, error) in [
            (String::new(), missing("port")),
            (format!("{hash}&{peer}"), missing("port")),
            (format!("{peer}&port=1"), missing("info_hash")),
            (format!("{hash}&port=1"), missing("peer_id")),
            (format!("{hash}a&{peer}&port=1"), malformed("info_hash")),
            (format!("info_hash=a&{peer}&port=1"), malformed("info_hash")),
            (format!("{hash}%&{peer}&port=1"), malformed("info_hash")),
            (format!("{hash}%zz&{peer}&port=1"), malformed("info_hash")),
        ] {
            assert_eq!(Request::from_query(&query), Err(error), "{query}");
        }
        for port in ["0", "65536", "+1", "-1", "", "18446744073709551616", "x"] {
            let query = format!("{hash}&{peer}&port={port}");
            let error = Request::from_query(&query).unwrap_err().to_string();
            assert_eq!(error, "port is no whole number from 1 to 65535", "{query}");
        }
        for name in ["uploaded", "downloaded", "left"] {
            for number in [
                "-1",
                "-9223372036854775808",
                "18446744073709551616",
                "1.5",
                "",
            ] {
                let query = format!("{hash}&{peer}&port=1&{name}={number}");
                let error = Request::from_query(&query).unwrap_err();
                let expected = RequestError::OutOfRange(name, 0, u64::MAX);
                assert_eq!(error, expected, "{query}");
            }
        }
        let twice = format!("{hash}&{peer}&port=1&port=2&ip=9.9.9.9&numwant=-1&compact=0");
        let read = Request::from_query(&twice).unwrap();
        assert_eq!((read.port, read.num_want, read.compact), (1, None, false));
    }

    #[test]
    fn a_refusal_is_an_error_with_the_trackers_words() {
        let refused = |reason: &str, retry| {
            let reason = reason.to_owned();
            Err(AnswerError::Refused { reason, retry })
        };
        let body = b"d5:peers0:14:failure reason12:test messagee";
        assert_eq!(Answer::decode(body), refused("test message", None));
        assert_eq!(Answer::decode(&refusal("no")), refused("no", None));
        let silent = Answer::decode(&refusal(" ")).unwrap_err().to_string();
        assert_eq!(silent, "the tracker refuses and does not say why");
        let body = b"d14:failure reason4:full8:retry ini5ee";
        assert_eq!(
            Answer::decode(body),
            refused("full", Some(RetryIn::Minutes(5)))
        );
        let body = b"d14:failure reason4:gone8:retry in5:nevere";
        assert_eq!(Answer::decode(body), refused("gone", Some(RetryIn::Never)));
    }

    #[test]
    fn long_texts_are_cut_to_200_characters() {
        let long = "\u{1b}[31mé".repeat(1_000_000);
        let Err(AnswerError::Refused { reason, .. }) = Answer::decode(&refusal(&long)) else {
            panic!("a refusal");
        };
        assert_eq!(reason, long.chars().take(200).collect::<String>());
        let body = Value::dict([("warning message", Value::from(long.as_str()))]).encode();
        let warning = Answer::decode(&body).unwrap().warning.unwrap();
        assert_eq!(warning.chars().count(), 200);
    }

    #[test]
    fn bad_peers_are_dropped_and_good_ones_kept() {
        let body = b"d5:peersl\
            d2:ip7:8.8.4.44:porti53ee\
            d2:ip11:example.com4:porti80ee\
            d2:ip7:8.8.4.44:porti0ee\
            d2:ip7:8.8.4.44:porti70000ee\
            d2:ip7:8.8.4.44:porti-1ee\
            d4:porti1337ee\
            i1e\
            d2:ip11:2001:db8::14:porti6881ee\
            ee";
        let found = Answer::decode(body).unwrap().peers;
        assert_eq!(
            found,
            [address("8.8.4.4:53"), address("[2001:db8::1]:6881")]
        );
        let cut = Answer::decode(b"d5:peers7:\x01\x02\x03\x040\x10\x01e").unwrap();
        assert_eq!(cut.peers, []);
    }

    #[test]
    fn a_million_peers_are_a_thousand_and_ipv6_is_not_crowded_out() {
        let v4: Vec<u8> = [9, 9, 9, 9, 1, 1].repeat(100_000);
        let v6: Vec<u8> = [0x20; 18].repeat(100_000);
        let body = Value::dict([("peers", Value::from(v4)), ("peers6", v6.into())]).encode();
        let found = Answer::decode(&body).unwrap().peers;
        assert_eq!(found.len(), PEERS_MAX);
        assert_eq!(found.iter().filter(|peer| peer.is_ipv6()).count(), 500);
    }

    #[test]
    fn intervals_are_given_on_as_they_came() {
        let body = b"d8:intervali-1e12:min intervali9223372036854775807e8:completei-5ee";
        let answer = Answer::decode(body).unwrap();
        assert_eq!(answer.interval, Some(-1));
        assert_eq!(answer.min_interval, Some(i64::MAX));
        assert_eq!(answer.complete, None);
    }

    #[test]
    fn web_pages_are_no_answers() {
        for body in [&b"<html>"[..], b"", b"le", b"i0e", b"d5:peers"] {
            let error = Answer::decode(body).unwrap_err();
            assert!(
                error
                    .to_string()
                    .starts_with("the answer is not a tracker's"),
                "{error}"
            );
        }
        assert!(Answer::decode(b"de\r\n").is_ok());
    }
}
