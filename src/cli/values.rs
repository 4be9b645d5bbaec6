//! What the values of options mean: text in, a number, a time or an address out, or a sentence that
//! names the option and shows what was wrong with it.

use super::complaint::Complaint;
use super::shown::shown;
use super::words::Word;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

/// Ten years: a longer time is a typing error, and some clocks cannot add it.
const SECONDS_MAX: f64 = 10.0 * 365.0 * 86_400.0;

/// The most connections that can be asked for: each is a thread.
const PEERS_MAX: usize = 10_000;

fn wrong(option: &str, word: &Word, wanted: &str) -> Complaint {
    Complaint::usage(
        format!("{option} takes {wanted}, not {}", quoted(&word.text())),
        "",
    )
}

fn quoted(text: &str) -> String {
    if text.is_empty() {
        "nothing".to_owned()
    } else {
        shown(text)
    }
}

/// A number of 0 or more, where 0 means that there is no limit.
pub fn limit(option: &str, word: Option<&Word>, default: f64) -> Result<Option<f64>, Complaint> {
    let number = match word {
        None => default,
        Some(word) => word
            .text()
            .parse::<f64>()
            .ok()
            .filter(|number| number.is_finite() && *number >= 0.0)
            .ok_or_else(|| wrong(option, word, "a number of 0 or more"))?,
    };
    Ok((number > 0.0).then_some(number))
}

/// So many units of `seconds` each as a time.
pub fn time(
    option: &str,
    number: Option<f64>,
    seconds: f64,
) -> Result<Option<Duration>, Complaint> {
    match number.map(|number| number * seconds) {
        None => Ok(None),
        Some(total) if total <= SECONDS_MAX => Ok(Some(Duration::from_secs_f64(total))),
        Some(_) => Err(Complaint::usage(
            format!("{option} is longer than ten years"),
            "0 means no limit",
        )),
    }
}

/// `--timeout`: seconds, more than 0.
pub fn timeout(word: Option<&Word>) -> Result<Option<Duration>, Complaint> {
    let number = limit("--timeout", word, 0.0)?;
    match (word, number) {
        (Some(word), None) => Err(wrong("--timeout", word, "a number of seconds above 0")),
        _ => time("--timeout", number, 1.0),
    }
}

/// `--port`.
pub fn port(word: Option<&Word>) -> Result<Option<u16>, Complaint> {
    word.map(|word| {
        word.text()
            .parse()
            .map_err(|_| wrong("--port", word, "a number from 0 to 65535"))
    })
    .transpose()
}

/// `--max-peers`, or how many connections are meant without it.
pub fn max_peers(word: Option<&Word>, default: usize) -> Result<usize, Complaint> {
    let Some(word) = word else {
        return Ok(default);
    };
    word.text()
        .parse()
        .ok()
        .filter(|peers| (1..=PEERS_MAX).contains(peers))
        .ok_or_else(|| {
            wrong(
                "--max-peers",
                word,
                &format!("a number from 1 to {PEERS_MAX}"),
            )
        })
}

/// `--bind`.
pub fn bind(word: Option<&Word>) -> Result<Option<IpAddr>, Complaint> {
    word.map(|word| {
        let text = word.text();
        text.trim_start_matches('[')
            .trim_end_matches(']')
            .parse()
            .map_err(|_| wrong("--bind", word, "an IPv4 or IPv6 address of this machine"))
    })
    .transpose()
}

/// A folder; not named is here.
pub fn folder(word: Option<Word>) -> Result<PathBuf, Complaint> {
    match word {
        None => Ok(PathBuf::from(".")),
        Some(word) if word.0.is_empty() => {
            Err(Complaint::usage("the name of a folder is empty", ""))
        }
        Some(word) => Ok(PathBuf::from(word.0)),
    }
}

/// `--peer`, as far as it can be judged without asking for addresses.
pub fn peers(words: &[Word]) -> Result<Vec<String>, Complaint> {
    words
        .iter()
        .map(|word| {
            let text = word.text();
            let (host, port) = text.rsplit_once(':').unwrap_or_default();
            let plausible = !host.is_empty()
                && (!host.contains(':') || (host.starts_with('[') && host.ends_with(']')))
                && port.parse::<u16>().is_ok_and(|port| port > 0);
            plausible
                .then(|| text.clone().into_owned())
                .ok_or_else(|| wrong("--peer", word, "HOST:PORT or [IPV6]:PORT"))
        })
        .collect()
}

/// The addresses of peers; a host name may have several.
pub fn resolve(peers: &[String]) -> Result<Vec<SocketAddr>, Complaint> {
    let mut addresses = Vec::new();
    for peer in peers {
        let found = peer.to_socket_addrs().map_err(|_| {
            Complaint::new(
                super::complaint::Reason::Network,
                format!(
                    "cannot find the peer {}: the name has no address",
                    shown(peer)
                ),
                "check the spelling, or give the peer's address as a number",
            )
        })?;
        for address in found {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn word(text: &str) -> Word {
        Word(text.into())
    }

    #[test]
    fn no_number_that_is_none_gets_through() {
        for text in ["nan", "inf", "-1", "", "1,5", "1e999", "x"] {
            assert!(
                limit("--seed-ratio", Some(&word(text)), 1.0).is_err(),
                "{text}"
            );
        }
        assert_eq!(limit("--seed-ratio", Some(&word("0")), 1.0).unwrap(), None);
        assert_eq!(
            limit("--seed-ratio", Some(&word("2.5")), 1.0).unwrap(),
            Some(2.5)
        );
        assert_eq!(limit("--seed-ratio", None, 1.0).unwrap(), Some(1.0));
    }

    #[test]
    fn a_time_that_no_clock_can_add_is_refused() {
        assert!(time("--seed-time", Some(1e300), 60.0).is_err());
        assert!(timeout(Some(&word("0"))).is_err());
        assert_eq!(
            timeout(Some(&word("1.5"))).unwrap(),
            Some(Duration::from_millis(1500))
        );
    }

    #[test]
    fn peers_are_host_and_port() {
        for text in ["127.0.0.1:6881", "[::1]:1", "host.example:65535"] {
            assert!(peers(&[word(text)]).is_ok(), "{text}");
        }
        for text in ["127.0.0.1", ":1", "::1:1", "h:0", "h:65536", "h:", ""] {
            assert!(peers(&[word(text)]).is_err(), "{text}");
        }
    }

    #[test]
    fn numeric_addresses_need_no_network() {
        let found = resolve(&["127.0.0.1:1".into(), "[::1]:2".into(), "127.0.0.1:1".into()]);
        assert_eq!(found.unwrap().len(), 2);
    }

    #[test]
    fn ports_and_counts_have_bounds() {
        assert_eq!(port(Some(&word("0"))).unwrap(), Some(0));
        assert!(port(Some(&word("65536"))).is_err());
        assert!(port(Some(&word("-1"))).is_err());
        assert!(max_peers(Some(&word("0")), 5).is_err());
        assert_eq!(max_peers(None, 5).unwrap(), 5);
        assert!(bind(Some(&word("eth0"))).is_err());
        assert!(bind(Some(&word("[::1]"))).unwrap().is_some());
    }
}
