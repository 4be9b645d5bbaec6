//! What the values of options mean: text in, a number, a time or an address out, or a sentence that
//! names the option and shows what was wrong with it.

use super::complaint::Complaint;
use super::shown::shown;
use super::words::Word;
use crate::create::{PIECE_LENGTH_LONGEST, PIECE_LENGTH_SHORTEST};
use crate::protocol::glob::Glob;
use crate::protocol::metainfo::{tracker_address, webseed_address};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The greatest limit that means one, in bytes a second: a tebibyte.
const RATE_MAX: u64 = 1 << 40;

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

/// Seconds, more than 0; not given means no limit.
pub fn seconds(option: &str, word: Option<&Word>) -> Result<Option<Duration>, Complaint> {
    let Some(word) = word else {
        return Ok(None);
    };
    let number = word.text().parse::<f64>().ok();
    let number = number.filter(|it| it.is_finite() && *it > 0.0);
    let number = number.ok_or_else(|| wrong(option, word, "a number of seconds above 0"))?;
    time(option, Some(number), 1.0).map_err(|complaint| Complaint {
        hint: format!("without {option} there is no limit"),
        ..complaint
    })
}

/// `--port`, `--tracker-port`.
pub fn port(option: &str, word: Option<&Word>) -> Result<Option<u16>, Complaint> {
    word.map(|word| {
        word.text()
            .parse()
            .map_err(|_| wrong(option, word, "a number from 0 to 65535"))
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

/// A whole number within bounds, or what is meant without it.
pub fn count(
    option: &str,
    word: Option<&Word>,
    bounds: std::ops::RangeInclusive<usize>,
    default: usize,
) -> Result<usize, Complaint> {
    let Some(word) = word else {
        return Ok(default);
    };
    let number = word.text().parse().ok();
    number
        .filter(|number| bounds.contains(number))
        .ok_or_else(|| {
            let (least, most) = (bounds.start(), bounds.end());
            wrong(option, word, &format!("a number from {least} to {most}"))
        })
}

/// Where a tracker is without being told: every address, of both families, and the usual port.
pub const EVERYWHERE: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 6969);

/// `--http` and `--udp` of `tracker`: an address and a port, or a port alone.
pub fn listen(option: &str, words: &[Word]) -> Result<Vec<SocketAddr>, Complaint> {
    let address = |word: &Word| {
        let text = word.text();
        let port = text.strip_prefix(':').unwrap_or(&text);
        let everywhere = |port| SocketAddr::new(EVERYWHERE.ip(), port);
        let address = text.parse().ok();
        address
            .or_else(|| port.parse().ok().map(everywhere))
            .ok_or_else(|| {
                let mut complaint = wrong(option, word, "ADDRESS:PORT, [IPV6]:PORT or a port");
                let parts = text.rsplit_once(':');
                let meant = parts.and_then(|(ip, port)| {
                    let ip = ip.parse::<Ipv6Addr>().ok()?;
                    Some(SocketAddr::new(ip.into(), port.parse().ok()?))
                });
                if let Some(meant) = meant {
                    complaint.hint = format!("an IPv6 address stands in brackets: {meant}");
                } else if let Ok(ip) = text.trim_matches(['[', ']']).parse() {
                    let usual = SocketAddr::new(ip, EVERYWHERE.port());
                    complaint.hint = format!("with the usual port: {usual}");
                }
                complaint
            })
    };
    let addresses: Vec<SocketAddr> = words.iter().map(address).collect::<Result<_, _>>()?;
    for (number, one) in addresses.iter().enumerate() {
        if let SocketAddr::V6(v6) = one
            && v6.ip().is_unicast_link_local()
            && v6.scope_id() == 0
        {
            let sentence = format!("{option} {one} does not say on which interface");
            let hint =
                "an address of one link has the number of an interface, [fe80::1%2]:80 (`ip link`)";
            return Err(Complaint::usage(sentence, hint));
        }
        if let Some(other) = addresses[..number].iter().find(|it| are_one_place(it, one)) {
            let sentence = format!("{option} {one} is served by {option} {other} already");
            let hint =
                "[::], or a port alone, is every address of this machine; name each place once";
            return Err(Complaint::usage(sentence, hint));
        }
    }
    Ok(addresses)
}

/// Whether a system refuses to serve both at once.
fn are_one_place(one: &SocketAddr, other: &SocketAddr) -> bool {
    let holds = |all: &SocketAddr, one: &SocketAddr| match all.ip() {
        IpAddr::V4(ip) => ip.is_unspecified() && one.is_ipv4(),
        IpAddr::V6(ip) => ip.is_unspecified(),
    };
    let same = one.ip() == other.ip() || holds(one, other) || holds(other, one);
    same && one.port() == other.port() && one.port() != 0
}

/// `--up`, `--down`: bytes a second, or with K, M or G in powers of 1024; `None`, or 0: no limit.
pub fn rate(option: &str, word: Option<&Word>) -> Result<Option<u64>, Complaint> {
    let Some(word) = word else {
        return Ok(None);
    };
    let text = word.text();
    let units = [('K', 10), ('M', 20), ('G', 30)];
    let (digits, shift) = units
        .iter()
        .find_map(|(unit, shift)| {
            let digits = text.strip_suffix([*unit, unit.to_ascii_lowercase()])?;
            Some((digits, *shift))
        })
        .unwrap_or((&*text, 0));
    let whole = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // Halves of a megabyte are common: a fraction is read if there is a unit.
    let (before, after) = digits.split_once('.').unwrap_or((digits, "0"));
    let number = digits
        .parse::<f64>()
        .ok()
        .filter(|_| whole(before) && whole(after) && (shift > 0 || !digits.contains('.')));
    let bytes = number.map(|number| (number * f64::from(1u32 << shift)).round());
    match bytes.filter(|bytes| *bytes <= RATE_MAX as f64) {
        Some(bytes) if bytes == 0.0 && number != Some(0.0) => Err(wrong_rate(option, word)),
        Some(bytes) => Ok((bytes > 0.0).then_some(bytes as u64)),
        None => Err(wrong_rate(option, word)),
    }
}

fn wrong_rate(option: &str, word: &Word) -> Complaint {
    let mut complaint = wrong(option, word, "bytes a second, such as 500K or 2M");
    complaint.hint = "K, M and G are powers of 1024; 0 means no limit".to_owned();
    complaint
}

/// `--bind`. An IPv4 address in the clothes of IPv6 is that IPv4 address.
pub fn bind(word: Option<&Word>) -> Result<Option<IpAddr>, Complaint> {
    word.map(|word| {
        let text = word.text();
        let text = text.trim_start_matches('[').trim_end_matches(']');
        let (address, interface) = text.split_once('%').unwrap_or((text, ""));
        let wrong = || wrong("--bind", word, "an IPv4 or IPv6 address of this machine");
        match address.parse().map(|ip: IpAddr| ip.to_canonical()) {
            Ok(ip) if ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST) => {
                Err(Complaint::usage(
                    format!("--bind {ip}: an address of many hosts is no address of this one"),
                    "`ip address` lists those of this machine",
                ))
            }
            Ok(IpAddr::V6(ip)) if ip.is_unicast_link_local() => Err(Complaint::usage(
                format!("--bind {address}: an address of one link means nothing elsewhere"),
                "name another address of this machine; `ip address` calls these `scope link`",
            )),
            Ok(ip) if interface.is_empty() => Ok(ip),
            Err(_) if is_device(text) => Err(Complaint::unsupported(
                format!(
                    "--bind {}: devices by name are not supported yet",
                    shown(text)
                ),
                "name an address of it; `ip address` lists those of this machine",
            )),
            _ => Err(wrong()),
        }
    })
    .transpose()
}

/// Whether this machine has a network device of that name.
fn is_device(name: &str) -> bool {
    let is_a_name = !matches!(name, "" | "." | "..") && !name.contains('/');
    is_a_name && Path::new("/sys/class/net").join(name).exists()
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

/// `--piece-length`: bytes, or with K or M in powers of 1024; whole blocks.
pub fn piece_length(word: Option<&Word>) -> Result<Option<u32>, Complaint> {
    let Some(word) = word else {
        return Ok(None);
    };
    let text = word.text();
    let (digits, unit) = match text.strip_suffix(['K', 'k']) {
        Some(digits) => (digits, 1 << 10),
        None => match text.strip_suffix(['M', 'm']) {
            Some(digits) => (digits, 1 << 20),
            None => (&*text, 1),
        },
    };
    let number = digits.parse::<u32>().ok();
    number
        .filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|number| number.checked_mul(unit))
        .filter(|bytes| {
            (PIECE_LENGTH_SHORTEST..=PIECE_LENGTH_LONGEST).contains(bytes)
                && bytes % PIECE_LENGTH_SHORTEST == 0
        })
        .map(Some)
        .ok_or_else(|| wrong("--piece-length", word, "a multiple of 16K from 16K to 16M"))
}

/// `--tracker`: each is a tier, with commas between equals.
pub fn trackers(words: &[Word]) -> Result<Vec<Vec<String>>, Complaint> {
    let mut seen = Vec::new();
    let mut tiers = Vec::new();
    for word in words {
        let text = word.text();
        let mut tier = Vec::new();
        for address in apart(&text) {
            let address = tracker_address(address).map_err(|why| {
                let what = "an http, https or udp address";
                let complaint = wrong("--tracker", word, what);
                Complaint::usage(complaint.sentence, format!("in one of them, {why}"))
            })?;
            if seen.contains(&address) {
                let sentence = format!("the tracker {} is named twice", shown(&address));
                return Err(Complaint::usage(sentence, ""));
            }
            seen.push(address.clone());
            tier.push(address);
        }
        tiers.push(tier);
    }
    Ok(tiers)
}

/// Addresses with commas between them. A comma may also stand in an address: only one with a scheme
/// behind it parts.
fn apart(text: &str) -> Vec<&str> {
    let mut begin = 0;
    let mut addresses = Vec::new();
    for (at, _) in text.match_indices(',') {
        let behind = &text[at + 1..];
        let scheme = behind.split_once("://").map_or("", |it| it.0);
        if !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            addresses.push(&text[begin..at]);
            begin = at + 1;
        }
    }
    addresses.push(&text[begin..]);
    addresses
}

/// `--webseed`.
pub fn webseeds(words: &[Word]) -> Result<Vec<String>, Complaint> {
    let address = |word: &Word| {
        webseed_address(&word.text())
            .map_err(|_| wrong("--webseed", word, "an http or https address"))
    };
    words.iter().map(address).collect()
}

/// A text that goes into a torrent.
pub fn text(option: &str, word: Option<&Word>) -> Result<Option<String>, Complaint> {
    word.map(|word| match word.0.to_str() {
        Some(text) if !text.is_empty() => Ok(text.to_owned()),
        _ => Err(wrong(option, word, "UTF-8 text")),
    })
    .transpose()
}

/// `--name`: what can be the name of a file.
pub fn name(word: Option<&Word>) -> Result<Option<String>, Complaint> {
    let name = text("--name", word)?;
    match (word, &name) {
        (Some(word), Some(name)) if name.contains('/') || name == "." || name == ".." => {
            Err(wrong("--name", word, "the name of a file, without folders"))
        }
        _ => Ok(name),
    }
}

/// `--exclude`.
pub fn globs(option: &str, words: &[Word]) -> Result<Vec<Glob>, Complaint> {
    let glob = |word: &Word| {
        let text = word.text();
        Glob::new(&text).map_err(|why| {
            let sentence = format!("{option} {}: {why}", shown(&text));
            Complaint::usage(sentence, "quote it, so that the shell leaves it alone")
        })
    };
    words.iter().map(glob).collect()
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
    use super::super::complaint::Reason;
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
    fn rates_are_in_powers_of_1024_and_0_is_no_limit() {
        for (text, bytes) in [
            ("500K", Some(512_000)),
            ("2M", Some(2 << 20)),
            ("1g", Some(1 << 30)),
            ("0.5m", Some(1 << 19)),
            ("12345", Some(12_345)),
            ("0", None),
            ("0K", None),
        ] {
            assert_eq!(rate("--up", Some(&word(text))).unwrap(), bytes, "{text}");
        }
        for text in [
            "", "K", "-1", "+1", "1.5", ".5K", "1.K", "1KB", "2MiB", "1e3", "1T", "9999999G",
            "inf", "0.0001K", "5 K",
        ] {
            assert!(rate("--up", Some(&word(text))).is_err(), "{text}");
        }
        assert_eq!(rate("--up", None).unwrap(), None);
    }

    #[test]
    fn a_time_that_no_clock_can_add_is_refused() {
        assert!(time("--seed-time", Some(1e300), 60.0).is_err());
        assert!(seconds("--timeout", Some(&word("0"))).is_err());
        assert_eq!(
            seconds("--timeout", Some(&word("1.5"))).unwrap(),
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
    fn piece_lengths_are_whole_blocks() {
        for (text, bytes) in [
            ("16K", 1 << 14),
            ("48k", 49_152),
            ("1M", 1 << 20),
            ("16777216", 1 << 24),
        ] {
            assert_eq!(piece_length(Some(&word(text))).unwrap(), Some(bytes));
        }
        for text in [
            "", "K", "16", "16KB", "15K", "4G", "17M", "4194304M", "-16K", "1.5M",
        ] {
            assert!(piece_length(Some(&word(text))).is_err(), "{text}");
        }
    }

    #[test]
    fn trackers_with_a_comma_between_them_are_one_tier() {
        let words = ["http://a/x,y,udp://b:1/", "HTTPS://c"].map(word);
        let tiers = trackers(&words).unwrap();
        assert_eq!(
            tiers,
            [vec!["http://a/x,y", "udp://b:1/"], vec!["https://c"]]
        );
        assert!(trackers(&["ws://a"].map(word)).is_err());
    }

    #[test]
    fn a_tracker_listens_on_an_address_and_a_port_or_on_a_port_everywhere() {
        let words = ["127.0.0.1:80", "[::1]:0", "7000", ":7001"].map(word);
        let found = listen("--http", &words).unwrap();
        let texts: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["127.0.0.1:80", "[::1]:0", "[::]:7000", "[::]:7001"]);
        for text in ["", ":", "127.0.0.1", "::1:1", "localhost:1", "65536", "-1"] {
            assert!(listen("--http", &[word(text)]).is_err(), "{text}");
        }
    }

    #[test]
    fn a_place_is_served_once_and_an_address_of_a_link_names_the_link() {
        for (one, other, fine) in [
            ("127.0.0.1:8000", "127.0.0.1:8000", false),
            ("8000", "127.0.0.1:8000", false),
            ("[::1]:8000", ":8000", false),
            ("0.0.0.0:8000", "127.0.0.1:8000", false),
            ("0.0.0.0:8000", "[::1]:8000", true),
            ("127.0.0.1:8000", "127.0.0.2:8000", true),
            ("127.0.0.1:8000", "127.0.0.1:8001", true),
            ("127.0.0.1:0", "127.0.0.1:0", true),
            ("[fe80::1%2]:80", "[fe80::2%2]:80", true),
            ("[fe80::1]:80", "127.0.0.1:80", false),
        ] {
            let outcome = listen("--http", &[word(one), word(other)]);
            assert_eq!(outcome.is_ok(), fine, "{one} {other}: {outcome:?}");
        }
        let complaint = listen("--http", &[word("[::1]")]).unwrap_err();
        assert_eq!(complaint.hint, "with the usual port: [::1]:6969");
        let complaint = listen("--http", &[word("::1:7001")]).unwrap_err();
        let hint = "an IPv6 address stands in brackets: [::1]:7001";
        assert_eq!(complaint.hint, hint);
        for (text, said) in [
            ("fe80::1", "one link"),
            ("[fe80::1%eth0]", "one link"),
            ("::1%lo", "an IPv4 or IPv6 address"),
            ("224.0.0.1", "many hosts"),
            ("::ffff:239.1.2.3", "many hosts"),
            ("ff02::1", "many hosts"),
            ("255.255.255.255", "many hosts"),
        ] {
            let complaint = bind(Some(&word(text))).unwrap_err();
            assert!(complaint.sentence.contains(said), "{text}: {complaint:?}");
        }
    }

    #[test]
    fn where_0_is_refused_no_hint_recommends_it() {
        for text in ["0", "-1", "nan", "inf", "1e300", "x", ""] {
            let complaint = seconds("--timeout", Some(&word(text))).unwrap_err();
            assert!(!complaint.sentence.contains("0 or more"), "{complaint:?}");
            assert!(!complaint.hint.contains('0'), "{complaint:?}");
        }
        let half = seconds("--timeout", Some(&word("0.5"))).unwrap();
        assert_eq!(half, Some(Duration::from_millis(500)));
        assert_eq!(seconds("--timeout", None).unwrap(), None);
    }

    #[test]
    fn ports_and_counts_have_bounds() {
        assert_eq!(count("--n", Some(&word("5")), 1..=5, 9).unwrap(), 5);
        assert_eq!(count("--n", None, 1..=5, 9).unwrap(), 9);
        for text in ["0", "6", "-1", "", "+", "1e3"] {
            assert!(count("--n", Some(&word(text)), 1..=5, 9).is_err(), "{text}");
        }
        assert_eq!(port("--port", Some(&word("0"))).unwrap(), Some(0));
        assert!(port("--port", Some(&word("65536"))).is_err());
        assert!(port("--port", Some(&word("-1"))).is_err());
        assert!(max_peers(Some(&word("0")), 5).is_err());
        assert_eq!(max_peers(None, 5).unwrap(), 5);
        let complaint = bind(Some(&word("lo"))).unwrap_err();
        assert_eq!(complaint.reason, Reason::Unsupported);
        for text in ["nowhere", "..", "fe80:", "1.2.3", "", "300.1.1.1", "::1%lo"] {
            let complaint = bind(Some(&word(text))).unwrap_err();
            assert_eq!(complaint.reason, Reason::Usage, "{text}");
        }
        assert!(bind(Some(&word("[::1]"))).unwrap().is_some());
        let mapped = bind(Some(&word("::ffff:127.0.0.1"))).unwrap();
        assert_eq!(mapped, Some(Ipv4Addr::LOCALHOST.into()));
    }
}
