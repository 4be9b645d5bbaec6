//! What an HTTP request asks for: the head is read by httparse, its path and query here.
//!
//! ```text
//! match Question::read(&bytes, from) {
//!     Ok(None) => { /* more of the head is to come */ }
//!     Ok(Some(question)) => ...,
//!     Err(bad) => ...
//! }
//! ```

use crate::protocol::InfoHash;
use crate::protocol::siphash::Key;
use crate::protocol::tracker::http::{Request, RequestError};
use crate::protocol::tracker::scrape;
use crate::tracker::registry::{Announce, Families};
use crate::tracker::udp;
use std::net::SocketAddr;

/// A head is not longer. An announce has some 400 bytes, a browser sends a thousand; a scrape of as many
/// torrents as we tell of at once has 5,254 bytes of them alone, if every byte is escaped.
pub(super) const HEAD_MAX: usize = 8_192;

/// Lines of a head.
const HEADERS_MAX: usize = 48;

/// What somebody wants.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// To be listed, and peers.
    Announce {
        announce: Announce,
        /// Addresses as bytes rather than dictionaries.
        compact: bool,
    },
    /// The sizes of some swarms.
    Scrape(Vec<InfoHash>),
    /// The tracker's figures.
    Stats {
        /// As JSON.
        json: bool,
    },
    /// Whatever else is at this path.
    Page(String),
}

/// Why a request gets no answer of the kind it wants.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Bad {
    /// This is no HTTP.
    NotHttp,
    /// The head is too long, or has too many lines.
    TooLong,
    /// It is another method than GET, or than HEAD where nobody announces or scrapes.
    Method,
    /// It is no announce or scrape; a tracker says so in its own way.
    Refused(String),
}

impl Question {
    /// Reads a head, if it is whole. `from` is who asks.
    pub(super) fn read(bytes: &[u8], from: SocketAddr) -> Result<Option<Question>, Bad> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut head = httparse::Request::new(&mut headers);
        match head.parse(bytes) {
            Ok(status) if status.is_complete() => {}
            Ok(_) if bytes.len() >= HEAD_MAX => return Err(Bad::TooLong),
            Ok(_) => return Ok(None),
            Err(httparse::Error::TooManyHeaders) => return Err(Bad::TooLong),
            Err(_) => return Err(Bad::NotHttp),
        }
        let get = match head.method {
            Some("GET") => true,
            Some("HEAD") => false,
            _ => return Err(Bad::Method),
        };
        let target = origin_form(head.path.unwrap_or_default());
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        match path {
            "/announce" | "/scrape" if !get => Err(Bad::Method),
            "/announce" => announce(query, from).map(Some),
            "/scrape" => scraped(query).map(Some),
            "/stats" => Ok(Some(Question::Stats { json: false })),
            "/stats.json" => Ok(Some(Question::Stats { json: true })),
            path => Ok(Some(Question::Page(path.to_owned()))),
        }
    }
}

/// The path and query of a request target that names scheme and host as well, as one for a proxy does
/// and every server has to take (RFC 9112, section 3.2.2).
fn origin_form(target: &str) -> &str {
    match target.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => {
            rest.find(['/', '?']).map_or("/", |at| &rest[at..])
        }
        _ => target,
    }
}

fn announce(query: &str, from: SocketAddr) -> Result<Question, Bad> {
    let request = Request::from_query(query).map_err(refused)?;
    Ok(Question::Announce {
        announce: Announce {
            info_hash: request.info_hash,
            address: SocketAddr::new(from.ip().to_canonical(), request.port),
            peer_id: request.peer_id,
            key: request.key.as_deref().and_then(key),
            share: udp::share(request.left, request.event),
            event: request.event,
            want: udp::want(request.num_want, udp::WANT_MAX),
            families: Families::Both,
        },
        compact: request.compact,
    })
}

/// A key as the number it is in datagrams; what is longer is made one.
fn key(text: &str) -> Option<u32> {
    if text.is_empty() {
        return None;
    }
    let number = u32::from_str_radix(text, 16);
    Some(number.unwrap_or_else(|_| Key::from_bytes([0; 16]).hash(text.as_bytes()) as u32))
}

fn scraped(query: &str) -> Result<Question, Bad> {
    let mut asked = scrape::from_query(query).map_err(refused)?;
    if asked.is_empty() {
        // All of them would be megabytes for a line of text.
        let reason = "name the torrents: this tracker does not tell of all at once";
        return Err(Bad::Refused(reason.into()));
    }
    asked.truncate(crate::protocol::tracker::udp::SCRAPE_MAX);
    Ok(Question::Scrape(asked))
}

fn refused(error: RequestError) -> Bad {
    Bad::Refused(error.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::tracker::registry::Completeness;
    use proptest::prelude::*;

    const FROM: &str = "[::ffff:9.9.9.9]:1234";
    const HASH: &str = "info_hash=aaaaaaaaaaaaaaaaaaaa";
    const REST: &str = "peer_id=bbbbbbbbbbbbbbbbbbbb&port=7";

    fn read(bytes: &[u8]) -> Result<Option<Question>, Bad> {
        Question::read(bytes, FROM.parse().unwrap())
    }

    fn get(target: &str) -> Result<Option<Question>, Bad> {
        read(format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())
    }

    fn announced(query: &str) -> Announce {
        match get(&format!("/announce?{HASH}&{REST}&{query}")) {
            Ok(Some(Question::Announce { announce, .. })) => announce,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_announce_is_of_the_address_that_was_seen() {
        let announce = announced("ip=6.6.6.6&ipv6=::6&left=5");
        assert_eq!(announce.address, "9.9.9.9:7".parse().unwrap());
        assert_eq!(
            (announce.want, announce.share, announce.key),
            (50, Completeness::Leecher, None)
        );
    }

    #[test]
    fn a_target_with_scheme_and_host_is_its_path_and_query() {
        for (target, same) in [
            ("http://x/stats", "/stats"),
            ("HTTP://[::1]:80/stats.json?a=http://y/", "/stats.json"),
            ("http://x", "/"),
            ("http://x?a/stats", "?a/stats"),
        ] {
            assert_eq!(get(target), get(same), "{target}");
        }
        let page = |path: &str| Ok(Some(Question::Page(path.into())));
        assert_eq!(get("ftp://x/stats"), page("ftp://x/stats"));
        assert_eq!(get("/stats/http://x/stats"), page("/stats/http://x/stats"));
    }

    #[test]
    fn numbers_that_make_no_sense_are_the_usual_ones() {
        for (query, want) in [
            ("numwant=-1", 50),
            ("numwant=0", 0),
            ("numwant=7&numwant=9", 7),
            ("numwant=2147483648", 200),
            ("numwant=99999999999999999999", 50),
            ("numwant=x", 50),
        ] {
            assert_eq!(announced(query).want, want, "{query}");
        }
        for (query, share) in [
            ("left=0", Completeness::Seed),
            ("left=9223372036854775808", Completeness::Leecher),
            ("left=18446744073709551615", Completeness::Leecher),
            ("", Completeness::Leecher),
            ("left=1&event=paused", Completeness::Partial),
            ("left=0&event=paused", Completeness::Seed),
            ("left=1&event=nonsense", Completeness::Leecher),
        ] {
            assert_eq!(announced(query).share, share, "{query}");
        }
    }

    #[test]
    fn a_key_is_the_same_number_in_hex_as_in_a_datagram() {
        assert_eq!(announced("key=00C0FFEE").key, Some(0x00c0_ffee));
        assert_eq!(announced("key=").key, None);
        assert_eq!(announced("key=tracker!").key, announced("key=tracker!").key);
        assert_ne!(announced("key=tracker!").key, announced("key=tracker?").key);
    }

    #[test]
    fn what_is_no_announce_is_refused_in_the_trackers_way() {
        let long = format!("info_hash={}&{REST}", "a".repeat(21));
        let left = format!("{HASH}&{REST}&left=18446744073709551616");
        for query in [
            "",
            HASH,
            REST,
            &long,
            &left,
            "info_hash=%&peer_id=b&port=7",
            "info_hash=%zz",
        ] {
            let outcome = get(&format!("/announce?{query}"));
            assert!(
                matches!(outcome, Err(Bad::Refused(_))),
                "{query}: {outcome:?}"
            );
        }
        assert!(matches!(get("/scrape"), Err(Bad::Refused(_))));
        assert!(matches!(get("/scrape?info_hash=a"), Err(Bad::Refused(_))));
        let many = format!("/scrape?{}", [HASH; 60].join("&"));
        assert!(
            matches!(read(format!("GET {many} HTTP/1.1\r\n\r\n").as_bytes()), Ok(Some(Question::Scrape(all))) if all.len() == 60)
        );
    }

    #[test]
    fn what_is_no_request_is_told_from_what_is_not_whole() {
        let head = format!("GET /announce?{HASH} HTTP/1.1\r\nHost: x\r\n\r\n");
        for cut in 0..head.len() {
            assert_eq!(read(&head.as_bytes()[..cut]), Ok(None), "{cut}");
        }
        for (bytes, bad) in [
            (&b"\x00"[..], Bad::NotHttp),
            (b"GET /stats\r\n", Bad::NotHttp),
            (b"GET /st\0ats HTTP/1.1\r\n\r\n", Bad::NotHttp),
            (b"\x13BitTorrent protocol", Bad::NotHttp),
            (
                b"POST /announce HTTP/1.1\r\nContent-Length: 1073741824\r\n\r\nxxxx",
                Bad::Method,
            ),
            (b"HEAD /announce HTTP/1.1\r\n\r\n", Bad::Method),
            (&[b'a'; HEAD_MAX], Bad::TooLong),
        ] {
            assert_eq!(read(bytes), Err(bad), "{}", String::from_utf8_lossy(bytes));
        }
        let lines = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(100));
        assert_eq!(read(lines.as_bytes()), Err(Bad::TooLong));
        // What follows a head, another request say, is not looked at.
        let two = "GET /stats HTTP/1.1\r\n\r\n".repeat(2);
        assert_eq!(
            read(two.as_bytes()),
            Ok(Some(Question::Stats { json: false }))
        );
    }

    proptest! {
        #[test]
        fn noise_is_an_error_and_no_panic(
            target in "(/announce|/scrape|\\?|info_hash=|%|&|=|[ -~]|\\PC){0,40}",
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let _ = get(&target);
            let _ = read(&bytes);
        }
    }
}
