//! Magnet links: a torrent's name on the network and where to ask for it, in one line of text (BEP 9,
//! 53; the version 2 hash is a multihash, BEP 52).
//!
//! ```
//! use ropewalk::protocol::magnet::Magnet;
//! let link = "magnet:?xt=urn:btih:64DZYZWMUAVLIWJUXGDIK4QGAAIN7SL6&dn=a+b&tr=udp%3A%2F%2Ft%3A1";
//! let magnet: Magnet = link.parse().unwrap();
//! assert_eq!(magnet.name.as_deref(), Some("a b"));
//! assert_eq!(magnet.trackers, ["udp://t:1"]);
//! ```
//!
//! A link comes from anywhere: what cannot be used of it is left out, only the hash must be right.

use super::digest::{InfoHash, from_hex};
use super::metainfo::{Unusable, tracker_address, webseed_address};
use super::tracker::http::{percent_decode, percent_encode};
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// The longest link that is read, in bytes.
pub const LINK_MAX: usize = 64 << 10;

/// The trackers, web seeds, peers and file ranges of a link that are kept, of each.
const LISTED_MAX: usize = 256;

/// How a multihash of SHA-256 begins.
const SHA256: &str = "1220";

/// What a magnet link says. At least one hash is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Magnet {
    /// The version 1 info-hash.
    pub info_hash: Option<InfoHash>,
    /// The version 2 info-hash.
    pub info_hash_v2: Option<[u8; 32]>,
    /// What to call it until its own name is known.
    pub name: Option<String>,
    /// Its size in bytes.
    pub length: Option<u64>,
    /// Addresses of trackers, each a tier of its own.
    pub trackers: Vec<String>,
    /// What stands among them and cannot be asked.
    pub unusable_trackers: Vec<Unusable>,
    /// Addresses of web seeds.
    pub webseeds: Vec<String>,
    /// Addresses of the .torrent file itself.
    pub exact_sources: Vec<String>,
    /// Peers, HOST:PORT. Names are not looked up.
    pub peers: Vec<String>,
    /// The numbers of the files that are wanted (BEP 53); empty: all.
    pub only: Vec<RangeInclusive<u32>>,
}

/// Why text is no magnet link that can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MagnetError {
    /// It does not begin with `magnet:?`.
    #[error("it does not begin with magnet:?")]
    Scheme,
    /// Longer than 64 KiB.
    #[error("it is longer than {LINK_MAX} bytes")]
    TooLong,
    /// None of its names is one of BitTorrent.
    #[error("it has no info-hash (xt=urn:btih:…)")]
    NoHash,
    /// An info-hash that is none.
    #[error("its info-hash is not 40 hex digits or 32 letters of base32")]
    BadHash,
    /// A version 2 info-hash that is none.
    #[error("its version 2 info-hash is not 1220 and 64 hex digits")]
    BadHashV2,
}

impl FromStr for Magnet {
    type Err = MagnetError;

    fn from_str(link: &str) -> Result<Magnet, MagnetError> {
        if link.len() > LINK_MAX {
            return Err(MagnetError::TooLong);
        }
        let (scheme, query) = link.split_once(":?").ok_or(MagnetError::Scheme)?;
        if !scheme.eq_ignore_ascii_case("magnet") {
            return Err(MagnetError::Scheme);
        }
        let mut magnet = Magnet::default();
        for (key, value) in query.split('&').filter_map(|it| it.split_once('=')) {
            // Several of a kind may be numbered: tr.1, tr.2.
            let kind = match key.rsplit_once('.') {
                Some((kind, number)) if number.parse::<u32>().is_ok() => kind,
                _ => key,
            };
            let text = percent_decode(value).and_then(|it| String::from_utf8(it).ok());
            match (kind, text) {
                ("xt", text) => magnet.take_hash(text.as_deref())?,
                (_, None) => {}
                (kind, Some(text)) => magnet.take(kind, &text),
            }
        }
        if magnet.info_hash.is_none() && magnet.info_hash_v2.is_none() {
            return Err(MagnetError::NoHash);
        }
        Ok(magnet)
    }
}

impl Magnet {
    /// The first hash of each kind counts. Names of other networks are passed over.
    fn take_hash(&mut self, text: Option<&str>) -> Result<(), MagnetError> {
        let text = text.ok_or(MagnetError::BadHash)?;
        if let Some(hash) = text.strip_prefix("urn:btih:") {
            let hash = from_hex(hash).or_else(|| base32(hash));
            let hash = InfoHash(hash.ok_or(MagnetError::BadHash)?);
            self.info_hash.get_or_insert(hash);
        }
        if let Some(multihash) = text.strip_prefix("urn:btmh:") {
            let hash = multihash.strip_prefix(SHA256).and_then(from_hex);
            let hash = hash.ok_or(MagnetError::BadHashV2)?;
            self.info_hash_v2.get_or_insert(hash);
        }
        Ok(())
    }

    fn take(&mut self, kind: &str, text: &str) {
        let add = |list: &mut Vec<String>, found: Option<String>| {
            let new = found.filter(|it| list.len() < LISTED_MAX && !list.contains(it));
            list.extend(new);
        };
        match kind {
            "dn" if self.name.is_none() => self.name = Some(text.to_owned()),
            "xl" if self.length.is_none() => self.length = text.parse().ok(),
            "tr" => match tracker_address(text) {
                Ok(address) => add(&mut self.trackers, Some(address)),
                Err(why) => Unusable::note(&mut self.unusable_trackers, text.as_bytes(), why),
            },
            "ws" => add(&mut self.webseeds, webseed_address(text).ok()),
            "xs" => add(&mut self.exact_sources, webseed_address(text).ok()),
            "x.pe" => add(&mut self.peers, peer(text)),
            "so" => {
                let room = LISTED_MAX.saturating_sub(self.only.len());
                self.only
                    .extend(text.split(',').filter_map(range).take(room));
            }
            _ => {}
        }
    }
}

/// The link, without what cannot be used. What is read from it again is the same.
impl fmt::Display for Magnet {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut joint = "magnet:?";
        let mut put = |key: &str, value: &str| {
            let written = write!(out, "{joint}{key}={value}");
            joint = "&";
            written
        };
        if let Some(hash) = self.info_hash {
            put("xt", &format!("urn:btih:{hash}"))?;
        }
        if let Some(hash) = self.info_hash_v2 {
            let digits: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
            put("xt", &format!("urn:btmh:{SHA256}{digits}"))?;
        }
        if let Some(length) = self.length {
            put("xl", &length.to_string())?;
        }
        if let Some(name) = &self.name {
            put("dn", &percent_encode(name.as_bytes()))?;
        }
        let lists = [
            ("tr", &self.trackers),
            ("ws", &self.webseeds),
            ("xs", &self.exact_sources),
            ("x.pe", &self.peers),
        ];
        for (key, list) in lists {
            for value in list {
                put(key, &percent_encode(value.as_bytes()))?;
            }
        }
        let one = |it: &RangeInclusive<u32>| match (it.start(), it.end()) {
            (first, last) if first == last => first.to_string(),
            (first, last) => format!("{first}-{last}"),
        };
        let only: Vec<String> = self.only.iter().map(one).collect();
        if !only.is_empty() {
            put("so", &only.join(","))?;
        }
        Ok(())
    }
}

/// The 20 bytes that 32 letters stand for (RFC 4648, without padding; small letters are taken too).
fn base32(text: &str) -> Option<[u8; 20]> {
    let (groups, []) = text.as_bytes().as_chunks::<8>() else {
        return None;
    };
    let value = |byte: u8| match byte.to_ascii_uppercase() {
        letter @ b'A'..=b'Z' => Some(u64::from(letter - b'A')),
        digit @ b'2'..=b'7' => Some(u64::from(digit - b'2') + 26),
        _ => None,
    };
    let mut bytes = Vec::with_capacity(20);
    for group in groups {
        let bits = group
            .iter()
            .try_fold(0, |bits, &it| Some(bits << 5 | value(it)?));
        // Eight letters are 40 bits.
        bytes.extend(&bits?.to_be_bytes()[3..]);
    }
    bytes.try_into().ok()
}

fn peer(text: &str) -> Option<String> {
    let (_, port) = text.rsplit_once(':')?;
    // What can stand before the path of an address is a host and a port.
    let legal =
        !text.contains(['/', '?', '#', '@']) && tracker_address(&format!("udp://{text}")).is_ok();
    (legal && port.parse::<u16>().is_ok()).then(|| text.to_owned())
}

fn range(text: &str) -> Option<RangeInclusive<u32>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| {
        text.bytes()
            .all(|it| it.is_ascii_digit())
            .then(|| text.parse().ok())
    };
    let (first, last) = (number(first)??, number(last)??);
    (first <= last).then_some(first..=last)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const HASH: &str = "cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd";

    fn read(link: &str) -> Result<Magnet, MagnetError> {
        link.parse()
    }

    fn with(rest: &str) -> Magnet {
        read(&format!("magnet:?xt=urn:btih:{HASH}&{rest}")).unwrap()
    }

    proptest! {
        #[test]
        fn every_link_survives_its_text(
            info_hash: [u8; 20], v2: Option<[u8; 32]>, name in proptest::option::of("\\PC{0,30}"),
            length: Option<u64>, trackers in proptest::collection::btree_set("udp://[a-z]{1,9}:[1-9]{1,4}", 0..5),
            peers in proptest::collection::btree_set("[a-z]{1,9}:[1-9]{1,4}", 0..5),
            only in proptest::collection::vec((0..9u32, 9..99u32), 0..5),
        ) {
            let one = Magnet {
                info_hash: Some(InfoHash(info_hash)), info_hash_v2: v2, name, length,
                trackers: trackers.into_iter().collect(), peers: peers.into_iter().collect(),
                only: only.into_iter().map(|(first, last)| first..=last).collect(),
                webseeds: vec!["http://w/a%20b".into()], ..Magnet::default()
            };
            prop_assert_eq!(read(&one.to_string()), Ok(one));
        }

        #[test]
        fn noise_is_an_error_and_no_panic(text in "(magnet:\\?|xt=urn:bt[im]h:|1220|so=|-|,|%|&|=|[a-z0-9]|\\PC){0,60}") {
            let _ = read(&text);
            let _ = read(&format!("magnet:?xt=urn:btih:{HASH}&{text}"));
        }
    }

    #[test]
    fn a_hash_is_hex_or_base32_in_letters_of_any_size() {
        let ours = Some(InfoHash([0xcd; 20]));
        for link in [
            format!("magnet:?xt=urn:btih:{HASH}"),
            format!("MAGNET:?xt=urn:btih:{}", HASH.to_uppercase()),
            format!("magnet:?xt.1=urn:btih:{}%64", &HASH[..39]),
            format!(
                "magnet:?dn=x&xt=urn:tree:tiger:ABC&xt=urn:btih:{HASH}&xt=urn:btih:{}",
                "0".repeat(40)
            ),
        ] {
            assert_eq!(read(&link).unwrap().info_hash, ours, "{link}");
        }
        for link in [
            "2I2UAEFDZJFN4W3UE65QSOTCUOEZ744B",
            "2i2uaefdzjfn4w3ue65qsotcuoez744b",
        ] {
            let magnet = read(&format!("magnet:?xt=urn:btih:{link}")).unwrap();
            let hash = magnet.info_hash.unwrap().to_string();
            assert_eq!(hash, "d2354010a3ca4ade5b7427bb093a62a3899ff381");
        }
    }

    #[test]
    fn without_a_good_hash_there_is_no_link() {
        let hash = |it: &str| format!("magnet:?xt=urn:btih:{it}");
        let multihash = |it: &str| format!("magnet:?xt=urn:btmh:{it}");
        for (link, error) in [
            ("mailto:?alice@imdl.io".to_owned(), MagnetError::Scheme),
            ("magnet:".to_owned(), MagnetError::Scheme),
            (HASH.to_owned(), MagnetError::Scheme),
            ("magnet:?dn=a".to_owned(), MagnetError::NoHash),
            ("magnet:?xt=urn:md5:4e7b".to_owned(), MagnetError::NoHash),
            ("magnet:?xt=urn%%3A".to_owned(), MagnetError::BadHash),
            (hash("==="), MagnetError::BadHash),
            (hash(&HASH[1..]), MagnetError::BadHash),
            (hash(&"z".repeat(40)), MagnetError::BadHash),
            (
                hash("abaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n"),
                MagnetError::BadHash,
            ),
            (
                hash("0baaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
                MagnetError::BadHash,
            ),
            (multihash("1114cdcd"), MagnetError::BadHashV2),
            (multihash(&format!("1220{HASH}")), MagnetError::BadHashV2),
            (hash(&"a".repeat(LINK_MAX)), MagnetError::TooLong),
        ] {
            assert_eq!(read(&link), Err(error), "{link:.80}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_left_out() {
        let magnet = with(
            "tr=http://1&tr=http://1&tr=%zz&tr=wss://x&tr.1=udp://2&tr.a=udp://3&ws=ftp://x&empty&=&x.pe=%imdl:1&x.pe=a&x.pe=a:0&x.pe=a/b:1&xl=-1",
        );
        assert_eq!(magnet.trackers, ["http://1", "udp://2"]);
        assert_eq!(
            (magnet.webseeds, magnet.peers, magnet.length),
            (vec![], vec![], None)
        );
        let endless: String = (0..2_000).map(|n| format!("tr=udp://{n}&")).collect();
        assert_eq!(with(&endless).trackers.len(), LISTED_MAX);
    }

    #[test]
    fn names_peers_and_files_are_read() {
        let magnet =
            with("dn=Ubuntu+11.04+%28Final%29&x.pe=1.2.3.4:5&x.pe=[2001:db8::2]:6&x.pe=foo.com:7");
        assert_eq!(magnet.name.as_deref(), Some("Ubuntu 11.04 (Final)"));
        assert_eq!(magnet.peers, ["1.2.3.4:5", "[2001:db8::2]:6", "foo.com:7"]);
        let magnet = with("xs=http%3A%2F%2Fa%2Fb.torrent&xs=urn:btpk:4a");
        assert_eq!(magnet.exact_sources, ["http://a/b.torrent"]);
        assert!(magnet.to_string().contains("&xs=http"));
        assert_eq!(with("so=0,2-4").only, [0..=0, 2..=4]);
        assert_eq!(
            with("so=7-4,x,-4,,+3&so=10&so=0-4294967295").only,
            [10..=10, 0..=u32::MAX]
        );
    }
}
