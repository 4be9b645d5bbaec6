//! How many share a torrent, asked without joining them: scrape over HTTP (BEP 48).
//!
//! The question goes to an address made from the one to announce to, the answer is a bencoded
//! dictionary. Both directions are here, for the client and for the tracker server.
//!
//! ```
//! use ropewalk::protocol::tracker::scrape::{Scraped, scrape_address};
//! let at = scrape_address("http://t.example/announce?passkey=x").unwrap();
//! assert_eq!(at, "http://t.example/scrape?passkey=x");
//! let body = b"d5:filesd20:aaaaaaaaaaaaaaaaaaaad8:completei4e10:downloadedi6e10:incompletei5eeee";
//! assert_eq!(Scraped::decode(body).unwrap().files[0].1.complete, 4);
//! ```

use super::http::{
    AnswerError, RequestError, document, percent_decode, percent_encode, retry, text,
};
use crate::protocol::InfoHash;
use crate::protocol::bencode::{Item, Value};

/// How many torrents of one question or answer are kept. Whole trackers are not for us.
pub const TORRENTS_MAX: usize = 1_000;

/// The most that a count can be: what a signed number of 32 bits holds, as in a datagram (BEP 15), where
/// more is somebody's -1.
pub const COUNT_MAX: u64 = i32::MAX as u64;

/// What a tracker knows of one torrent's swarm.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Peers that have everything: seeds.
    pub complete: u64,
    /// Peers that still lack something: leechers.
    pub incomplete: u64,
    /// How often the download was completed, as far as the tracker was told; `None`: it does not count these.
    pub downloaded: Option<u64>,
}

impl Counts {
    /// Whether there can be so many.
    pub fn are_possible(&self) -> bool {
        let counts = [Some(self.complete), Some(self.incomplete), self.downloaded];
        counts.into_iter().flatten().all(|it| it <= COUNT_MAX)
    }

    /// The greater number of each, where a tracker is asked twice.
    pub fn most(self, other: Counts) -> Counts {
        Counts {
            complete: self.complete.max(other.complete),
            incomplete: self.incomplete.max(other.incomplete),
            downloaded: self.downloaded.max(other.downloaded),
        }
    }
}

/// A tracker's answer to a scrape.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scraped {
    /// The torrents it knows, in the answer's order; at most 1,000. One that was asked for and is
    /// missing is unknown to it.
    pub files: Vec<(InfoHash, Counts)>,
    /// Seconds between two scrapes that the tracker asks for, as given.
    pub min_interval: Option<i64>,
}

/// The address to scrape, made from the one to announce to: the last part of the path has to begin
/// with `announce`, which becomes `scrape`. `None` where it does not: then the tracker has none.
pub fn scrape_address(announce: &str) -> Option<String> {
    let announce = announce.split('#').next()?;
    let path_end = announce.find('?').unwrap_or(announce.len());
    let (path, query) = announce.split_at(path_end);
    let authority = path.find("://")? + 3;
    let slash = authority + path[authority..].rfind('/')?;
    let rest = path[slash..].strip_prefix("/announce")?;
    Some(format!("{}/scrape{rest}{query}", &path[..slash]))
}

/// The address that asks about `info_hashes`: that of [`scrape_address`] and a query.
pub fn to_url(scrape: &str, info_hashes: &[InfoHash]) -> String {
    let joint = match scrape.split_once('?') {
        None => "?",
        Some((_, query)) if query.is_empty() || query.ends_with('&') => "",
        Some(_) => "&",
    };
    let asked = info_hashes
        .iter()
        .map(|it| format!("info_hash={}", percent_encode(&it.0)));
    let asked: Vec<String> = asked.collect();
    format!("{scrape}{joint}{}", asked.join("&"))
}

/// The torrents a query asks about, in its order, at most 1,000; none of them means all.
pub fn from_query(query: &str) -> Result<Vec<InfoHash>, RequestError> {
    let malformed = RequestError::Malformed("info_hash");
    let pairs = query.split('&').filter_map(|it| it.split_once('='));
    let named = pairs.filter(|(key, _)| *key == "info_hash");
    let hash = |(_, value): (&str, &str)| {
        let bytes = percent_decode(value).and_then(|it| it.try_into().ok());
        bytes.map(InfoHash).ok_or(malformed)
    };
    named.take(TORRENTS_MAX).map(hash).collect()
}

impl Scraped {
    /// Reads the body of an answer. Entries without both counts are left out, and so is everything
    /// that is not 20 bytes long where an info-hash should be.
    pub fn decode(body: &[u8]) -> Result<Scraped, AnswerError> {
        let document = document(body)?;
        let root = document.root().as_dict();
        let root = root.ok_or(AnswerError::NotADictionary)?;
        if let Some(reason) = root.get(b"failure reason").and_then(Item::as_bytes) {
            return Err(AnswerError::Refused {
                reason: text(reason),
                retry: root.get(b"retry in").and_then(retry),
            });
        }
        let dict = |key: &[u8]| root.get(key)?.as_dict();
        let files = dict(b"files").into_iter().flat_map(|it| it.iter());
        let files = files
            .filter_map(|(hash, entry)| Some((InfoHash(hash.try_into().ok()?), counts(entry)?)));
        Ok(Scraped {
            files: files.take(TORRENTS_MAX).collect(),
            min_interval: dict(b"flags").and_then(|it| it.get(b"min_request_interval")?.as_int()),
        })
    }

    /// The body of an answer.
    pub fn encode(&self) -> Vec<u8> {
        let number = |count: u64| Value::from(i64::try_from(count).unwrap_or(i64::MAX));
        let files = self.files.iter().map(|(hash, counts)| {
            let mut entry = vec![
                ("complete", number(counts.complete)),
                ("incomplete", number(counts.incomplete)),
            ];
            entry.extend(counts.downloaded.map(|it| ("downloaded", number(it))));
            (hash.0, Value::dict(entry))
        });
        let mut root = vec![("files", Value::dict(files))];
        if let Some(seconds) = self.min_interval {
            let flags = Value::dict([("min_request_interval", Value::from(seconds))]);
            root.push(("flags", flags));
        }
        Value::dict(root).encode()
    }

    /// What the answer says of one torrent.
    pub fn of(&self, info_hash: InfoHash) -> Option<Counts> {
        let mut files = self.files.iter();
        files.find(|it| it.0 == info_hash).map(|it| it.1)
    }
}

fn counts(entry: Item<'_>) -> Option<Counts> {
    let entry = entry.as_dict()?;
    let count = |key: &[u8]| u64::try_from(entry.get(key)?.as_int()?).ok();
    Some(Counts {
        complete: count(b"complete")?,
        incomplete: count(b"incomplete")?,
        downloaded: count(b"downloaded"),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn counted(complete: u64, downloaded: impl Into<Option<u64>>, incomplete: u64) -> Counts {
        Counts {
            complete,
            incomplete,
            downloaded: downloaded.into(),
        }
    }

    proptest! {
        #[test]
        fn every_question_survives_its_query(hashes in proptest::collection::vec(any::<[u8; 20]>(), 0..80)) {
            let hashes: Vec<InfoHash> = hashes.into_iter().map(InfoHash).collect();
            let url = to_url("http://t/scrape", &hashes);
            let (_, query) = url.split_once('?').unwrap();
            prop_assert_eq!(from_query(query), Ok(hashes));
        }

        #[test]
        fn every_answer_survives_its_encoding(
            files in proptest::collection::btree_map(any::<[u8; 20]>(), (0..=i64::MAX as u64, proptest::option::of(0..9u64), 0..9u64), 0..20),
            min_interval: Option<i64>,
        ) {
            // On the wire they stand in the order of the hashes.
            let files = files.into_iter().map(|(hash, (a, b, c))| (InfoHash(hash), counted(a, b, c)));
            let one = Scraped { files: files.collect(), min_interval };
            prop_assert_eq!(Scraped::decode(&one.encode()), Ok(one));
        }

        #[test]
        fn noise_is_an_error_and_no_panic(text in "(info_hash=|%|&|=|/announce|://|[a-z]|\\PC){0,60}", body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = from_query(&text);
            let _ = scrape_address(&text);
            let _ = Scraped::decode(&[b"d5:filesd20:", &body[..]].concat());
        }
    }

    #[test]
    fn the_last_part_of_the_path_must_begin_with_announce() {
        for (announce, scrape) in [
            ("http://e.com/announce", Some("http://e.com/scrape")),
            ("http://e.com/x/announce", Some("http://e.com/x/scrape")),
            ("http://e.com/announce.php", Some("http://e.com/scrape.php")),
            ("http://e.com/a", None),
            (
                "http://e.com/announce?x2%0644",
                Some("http://e.com/scrape?x2%0644"),
            ),
            (
                "http://e.com/announce?x=2/4",
                Some("http://e.com/scrape?x=2/4"),
            ),
            ("http://e.com/x%064announce", None),
            ("http://e.com/announce/x", None),
            ("http://e.com/announce#x", Some("http://e.com/scrape")),
            ("https://www.example.com/foo", None),
            ("http://announce", None),
            ("announce", None),
        ] {
            assert_eq!(scrape_address(announce).as_deref(), scrape, "{announce}");
        }
    }

    #[test]
    fn the_answer_of_the_specification_is_read() {
        let body = b"d5:filesd20:xxxxxxxxxxxxxxxxxxxxd8:completei11e10:downloadedi13772e10:incompletei19ee\
            20:yyyyyyyyyyyyyyyyyyyyd8:completei21e10:downloadedi206e10:incompletei20eeee";
        let scraped = Scraped::decode(body).unwrap();
        let (x, y) = (InfoHash([b'x'; 20]), InfoHash([b'y'; 20]));
        assert_eq!(scraped.of(x), Some(counted(11, 13772, 19)));
        assert_eq!(scraped.of(y), Some(counted(21, 206, 20)));
        assert_eq!(scraped.of(InfoHash([b'z'; 20])), None);
        assert_eq!(scraped.encode(), body);
        for cut in 0..body.len() {
            assert!(Scraped::decode(&body[..cut]).is_err(), "{cut}");
        }
    }

    #[test]
    fn entries_that_make_no_sense_are_left_out() {
        let body = b"d5:filesd3:abcd8:completei1e10:incompletei1ee\
            20:aaaaaaaaaaaaaaaaaaaad8:completei-1e10:incompletei1ee\
            20:bbbbbbbbbbbbbbbbbbbbd8:completei1ee20:ccccccccccccccccccccle\
            20:ddddddddddddddddddddd8:completei1e10:incompletei2ee\
            e5:flagsd20:min_request_intervali60eee";
        let scraped = Scraped::decode(body).unwrap();
        let d = InfoHash([b'd'; 20]);
        assert_eq!(scraped.files, [(d, counted(1, None, 2))]);
        assert_eq!(scraped.min_interval, Some(60));
        assert_eq!(Scraped::decode(b"d5:filesi1ee"), Ok(Scraped::default()));
        assert_eq!(Scraped::decode(b"de"), Ok(Scraped::default()));
    }

    #[test]
    fn a_refusal_and_a_web_page_are_errors() {
        let refused = Scraped::decode(b"d14:failure reason2:no8:retry ini1ee").unwrap_err();
        assert_eq!(refused.to_string(), "the tracker refuses: no");
        assert!(Scraped::decode(b"<html>").is_err());
        assert_eq!(Scraped::decode(b"le"), Err(AnswerError::NotADictionary));
    }

    #[test]
    fn a_bad_hash_in_a_question_is_an_error_and_none_at_all_is_not() {
        assert_eq!(from_query("a=b"), Ok(Vec::new()));
        let malformed = Err(RequestError::Malformed("info_hash"));
        assert_eq!(from_query("info_hash=abc"), malformed);
        assert_eq!(from_query("info_hash=%zz"), malformed);
    }
}
