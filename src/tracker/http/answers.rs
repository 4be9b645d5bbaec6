//! What is sent back over HTTP: a head and a body, whole.

use crate::protocol::InfoHash;
use crate::protocol::bencode::Value;
use crate::protocol::tracker::compact;
use crate::protocol::tracker::http::Answer;
use crate::tracker::counters::Counters;
use crate::tracker::registry::{CompactPeers, Receipt, Refusal, SwarmSize};
use std::io::Write;
use std::net::IpAddr;
use std::time::Duration;

/// Said to who is answered but not listed.
const UNLISTED: &str = "too many peers of your address are here; you are not handed out";

/// A whole response.
fn response(status: &str, content_type: &str, body: &[u8]) -> Vec<u8> {
    let mut out = head(status, content_type, body.len());
    out.extend(body);
    out
}

/// The head of a response. Every connection ends after one: a client comes back in half an hour.
pub(super) fn head(status: &str, content_type: &str, length: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(192 + length.min(4_096));
    // Writing to memory cannot fail.
    let _ = write!(
        out,
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    out
}

/// A line of text.
pub(super) fn plain(status: &str, text: &str) -> Vec<u8> {
    response(status, "text/plain", text.as_bytes())
}

/// A body of bencode, which is always a success of HTTP: a refusal too is an answer.
pub(super) fn bencoded(body: &[u8]) -> Vec<u8> {
    response("200 OK", "text/plain", body)
}

/// What an announce is answered with. `ip` is the asker's, as seen (BEP 24).
pub(super) fn announced(
    receipt: &Receipt,
    stopped: bool,
    found: &CompactPeers,
    compact: bool,
    interval: Duration,
    ip: IpAddr,
) -> Vec<u8> {
    let interval = interval.as_secs().max(1);
    let swarm = receipt.swarm;
    let warning = (!receipt.listed && !stopped).then_some(UNLISTED);
    if !compact {
        let v4 = compact::decode_v4(&found.v4).unwrap_or_default();
        let v6 = compact::decode_v6(&found.v6).unwrap_or_default();
        let answer = Answer {
            peers: [v4, v6].concat(),
            interval: i64::try_from(interval).ok(),
            min_interval: i64::try_from(interval.div_ceil(2)).ok(),
            complete: Some(swarm.seeds as u64),
            incomplete: Some(swarm.leechers as u64),
            downloaded: Some(u64::from(swarm.completed)),
            tracker_id: None,
            warning: warning.map(str::to_owned),
            external_ip: Some(ip),
        };
        return bencoded(&answer.encode(false));
    }
    // The same as `Answer` writes; the addresses stay the bytes that they are.
    let mut body = Vec::with_capacity(200 + found.v4.len() + found.v6.len());
    let number = |body: &mut Vec<u8>, key: &str, number: u64| {
        let _ = write!(body, "{}:{key}i{number}e", key.len());
    };
    let bytes = |body: &mut Vec<u8>, key: &str, value: &[u8]| {
        let _ = write!(body, "{}:{key}{}:", key.len(), value.len());
        body.extend(value);
    };
    body.push(b'd');
    number(&mut body, "complete", swarm.seeds as u64);
    number(&mut body, "downloaded", u64::from(swarm.completed));
    match ip {
        IpAddr::V4(ip) => bytes(&mut body, "external ip", &ip.octets()),
        IpAddr::V6(ip) => bytes(&mut body, "external ip", &ip.octets()),
    }
    number(&mut body, "incomplete", swarm.leechers as u64);
    number(&mut body, "interval", interval);
    number(&mut body, "min interval", interval.div_ceil(2));
    bytes(&mut body, "peers", &found.v4);
    if !found.v6.is_empty() {
        bytes(&mut body, "peers6", &found.v6);
    }
    if let Some(warning) = warning {
        bytes(&mut body, "warning message", warning.as_bytes());
    }
    body.push(b'e');
    bencoded(&body)
}

/// The body of a refusal, with the time after which it makes sense to ask again (BEP 31).
pub(super) fn refused(refusal: Refusal, interval: Duration) -> Vec<u8> {
    let retry = match refusal {
        Refusal::Full => {
            let minutes = interval.as_secs().div_ceil(60);
            Value::from(i64::try_from(minutes).unwrap_or(i64::MAX))
        }
        Refusal::NotAllowed | Refusal::Unusable => Value::from("never"),
    };
    let reason = Value::from(refusal.to_string().as_str());
    bencoded(&Value::dict([("failure reason", reason), ("retry in", retry)]).encode())
}

/// What a scrape is answered with (BEP 48); `downloaders` are those who want something (BEP 21).
pub(super) fn scraped(asked: &[InfoHash], swarms: &[SwarmSize]) -> Vec<u8> {
    let number = |count: usize| Value::from(i64::try_from(count).unwrap_or(i64::MAX));
    let files = asked.iter().zip(swarms).map(|(info_hash, swarm)| {
        let entry = Value::dict([
            ("complete", number(swarm.seeds)),
            ("downloaded", number(swarm.completed as usize)),
            ("downloaders", number(swarm.downloaders)),
            ("incomplete", number(swarm.leechers)),
        ]);
        (info_hash.0, entry)
    });
    bencoded(&Value::dict([("files", Value::dict(files))]).encode())
}

/// The tracker's figures.
pub(super) fn stats(json: bool, counters: &Counters, up: Duration) -> Vec<u8> {
    let figures = counters.figures(up);
    if json {
        let mut pairs = serde_json::Map::new();
        pairs.extend(figures.map(|(name, figure)| (name.to_owned(), figure.into())));
        let object = serde_json::Value::Object(pairs);
        return response("200 OK", "application/json", object.to_string().as_bytes());
    }
    let lines: String = figures
        .map(|(name, figure)| format!("{name} {figure}\n"))
        .collect();
    response("200 OK", "text/plain", lines.as_bytes())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::protocol::tracker::http::{AnswerError, RetryIn};
    use crate::protocol::tracker::scrape::Scraped;
    use crate::tracker::counters::Counted;
    use crate::tracker::registry::Totals;

    fn body(response: &[u8]) -> &[u8] {
        let text = response.windows(4).position(|it| it == b"\r\n\r\n");
        &response[text.unwrap() + 4..]
    }

    #[test]
    fn both_forms_of_an_answer_say_the_same() {
        let found = CompactPeers {
            v4: vec![1, 2, 3, 4, 0, 5, 6, 7, 8, 9, 0, 1],
            v6: [[0x20; 16].to_vec(), vec![0, 9]].concat(),
        };
        for (v6, listed) in [(true, true), (false, false)] {
            let receipt = Receipt {
                swarm: SwarmSize {
                    seeds: 3,
                    leechers: 8,
                    downloaders: 7,
                    completed: 9,
                },
                listed,
            };
            let found = CompactPeers {
                v6: if v6 { found.v6.clone() } else { Vec::new() },
                ..found.clone()
            };
            let ip: IpAddr = if v6 {
                "2001:db8::1".parse().unwrap()
            } else {
                [9, 9, 9, 9].into()
            };
            let answer = |compact| {
                let interval = Duration::from_secs(1_801);
                let response = announced(&receipt, false, &found, compact, interval, ip);
                (
                    Answer::decode(body(&response)).unwrap(),
                    body(&response).to_vec(),
                )
            };
            let ((compact, bytes), (plain, _)) = (answer(true), answer(false));
            assert_eq!(compact, plain);
            assert_eq!(compact.encode(true), bytes);
            assert_eq!(compact.warning.is_some(), !listed);
            assert_eq!(compact.external_ip, Some(ip));
            assert_eq!(
                (compact.interval, compact.min_interval),
                (Some(1_801), Some(901))
            );
            assert_eq!(compact.peers.len(), 2 + usize::from(v6));
        }
    }

    #[test]
    fn a_refusal_says_when_to_come_again() {
        let of = |refusal| {
            let response = refused(refusal, Duration::from_secs(1_801));
            match Answer::decode(body(&response)) {
                Err(AnswerError::Refused { reason, retry }) => (reason, retry.unwrap()),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(of(Refusal::Full).1, RetryIn::Minutes(31));
        assert_eq!(of(Refusal::NotAllowed).1, RetryIn::Never);
        assert!(of(Refusal::NotAllowed).0.contains("does not serve"));
    }

    #[test]
    fn a_scrape_tells_of_each_torrent() {
        let swarm = SwarmSize {
            seeds: 1,
            leechers: 5,
            downloaders: 2,
            completed: 7,
        };
        let asked = [InfoHash([1; 20]), InfoHash([2; 20])];
        let response = scraped(&asked, &[swarm, SwarmSize::default()]);
        let read = Scraped::decode(body(&response)).unwrap();
        let counts = read.of(asked[0]).unwrap();
        assert_eq!(
            (counts.complete, counts.incomplete, counts.downloaded),
            (1, 5, Some(7))
        );
        assert_eq!(read.of(asked[1]).unwrap().complete, 0);
        assert!(String::from_utf8_lossy(&response).contains("11:downloadersi2e"));
    }

    #[test]
    fn the_figures_are_the_same_in_both_forms() {
        let counters = Counters::default();
        counters.count(Counted::UdpBadIds);
        let totals = Totals {
            torrents: 2,
            peers: 5,
            seeds: 1,
        };
        counters.note(totals);
        let up = Duration::from_millis(7_900);
        let text = stats(false, &counters, up);
        let json = stats(true, &counters, up);
        let object: serde_json::Value = serde_json::from_slice(body(&json)).unwrap();
        let text = String::from_utf8(body(&text).to_vec()).unwrap();
        assert_eq!(text.lines().count(), object.as_object().unwrap().len());
        for line in text.lines() {
            let (name, figure) = line.split_once(' ').unwrap();
            assert_eq!(object[name].to_string(), figure);
        }
        assert_eq!(
            (
                &object["leechers"],
                &object["udp_bad_ids"],
                &object["uptime"]
            ),
            (&4.into(), &1.into(), &7.into())
        );
    }
}
