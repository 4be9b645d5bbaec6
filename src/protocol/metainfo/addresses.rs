//! The addresses in a torrent: trackers (BEP 3, 12), web seeds (BEP 19), DHT nodes (BEP 5).
//!
//! A download can do without any one of them, so none is a reason to refuse the torrent. What cannot
//! be used is left out with a word why; what is given twice counts once; beyond the limits nothing
//! is even looked at, because a torrent with 100,000 trackers is an attack on somebody.

use super::{Dict, Item, Oddities, excerpt};
use std::collections::BTreeSet;
use std::net::Ipv6Addr;

/// The most trackers of a torrent. Public ones carry a hundred.
const TRACKERS_MAX: usize = 256;
/// The most web seeds of a torrent.
const WEBSEEDS_MAX: usize = 64;
/// The most DHT nodes of a torrent.
const NODES_MAX: usize = 64;
/// The longest address, in bytes.
const ADDRESS_BYTES_MAX: usize = 2_048;

const TRACKER_SCHEMES: &[&str] = &["http", "https", "udp"];
const WEBSEED_SCHEMES: &[&str] = &["http", "https"];

/// The address of a tracker as it is read from a .torrent file, in a form that others can parse; an
/// error says why it would be left out.
pub fn tracker_address(text: &str) -> Result<String, &'static str> {
    check(text.as_bytes(), TRACKER_SCHEMES)
}

/// The same for a web seed.
pub fn webseed_address(text: &str) -> Result<String, &'static str> {
    check(text.as_bytes(), WEBSEED_SCHEMES)
}

/// The most addresses without use that are named.
const UNUSABLE_MAX: usize = 30;

/// An address that is none, or of a kind that is not supported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unusable {
    /// As much of it as may be shown, in quotation marks, not escaped.
    pub shown: String,
    /// What it lacks.
    pub why: &'static str,
}

impl Unusable {
    /// Adds one to a list that stays short; what is empty is none at all.
    pub fn note(list: &mut Vec<Unusable>, raw: &[u8], why: &'static str) {
        let shown = origin(raw);
        let new = !raw.trim_ascii().is_empty() && list.iter().all(|it| it.shown != shown);
        if new && list.len() < UNUSABLE_MAX {
            list.push(Unusable { shown, why });
        }
    }
}

/// `announce-list`, or where that holds nothing of use, `announce`.
pub(super) fn trackers(
    root: Dict<'_>,
    oddities: &mut Oddities,
) -> (Vec<Vec<String>>, Vec<Unusable>) {
    let mut collector = Collector::new("tracker", TRACKER_SCHEMES, TRACKERS_MAX);
    let mut tiers = Vec::new();
    let list = root.get(b"announce-list").and_then(|item| item.as_list());
    for tier in list.into_iter().flatten() {
        let tier = collector.take(tier, oddities);
        if !tier.is_empty() {
            tiers.push(tier);
        }
        if collector.full {
            break;
        }
    }
    if tiers.is_empty() {
        let announce = root.get(b"announce");
        let tier = announce.map(|item| collector.take(item, oddities));
        tiers.extend(tier.filter(|tier| !tier.is_empty()));
    }
    (tiers, collector.unusable)
}

/// `url-list`: one address or a list of them.
pub(super) fn webseeds(root: Dict<'_>, oddities: &mut Oddities) -> Vec<String> {
    let mut collector = Collector::new("web seed", WEBSEED_SCHEMES, WEBSEEDS_MAX);
    let list = root.get(b"url-list");
    list.map(|item| collector.take(item, oddities))
        .unwrap_or_default()
}

/// `nodes`: pairs of host and port.
pub(super) fn nodes(root: Dict<'_>, oddities: &mut Oddities) -> Vec<(String, u16)> {
    let list = root.get(b"nodes").and_then(|item| item.as_list());
    let mut nodes = Vec::new();
    for pair in list.into_iter().flatten().take(NODES_MAX) {
        match node(pair) {
            Some(node) => nodes.push(node),
            None => oddities.add(|| "a DHT node is left out: not a host and a port".to_string()),
        }
    }
    nodes
}

fn node(pair: Item<'_>) -> Option<(String, u16)> {
    let mut pair = pair.as_list()?;
    let host = pair.next()?.as_str()?;
    let port = u16::try_from(pair.next()?.as_int()?).ok()?;
    let address = host.parse::<Ipv6Addr>().is_ok() || is_host_name(host);
    (address && port != 0).then(|| (host.to_string(), port))
}

/// Collects addresses of one kind, each once.
struct Collector {
    what: &'static str,
    schemes: &'static [&'static str],
    max: usize,
    full: bool,
    seen: BTreeSet<String>,
    unusable: Vec<Unusable>,
}

impl Collector {
    fn new(what: &'static str, schemes: &'static [&'static str], max: usize) -> Collector {
        Collector {
            what,
            schemes,
            max,
            full: false,
            seen: BTreeSet::new(),
            unusable: Vec::new(),
        }
    }

    /// The new addresses in `item`, which is one or a list of them. Anything else in it is ignored.
    fn take(&mut self, item: Item<'_>, oddities: &mut Oddities) -> Vec<String> {
        let alone = item.as_bytes().map(|_| item);
        let listed = item.as_list().into_iter().flatten();
        let mut taken = Vec::new();
        for raw in alone.into_iter().chain(listed).filter_map(Item::as_bytes) {
            if raw.trim_ascii().is_empty() {
                continue;
            }
            if self.seen.len() == self.max {
                let (what, max) = (self.what, self.max);
                oddities.add(|| format!("only the first {max} {what}s are used"));
                self.full = true;
                break;
            }
            match check(raw, self.schemes) {
                Ok(address) => {
                    if self.seen.insert(address.clone()) {
                        taken.push(address);
                    }
                }
                Err(why) => {
                    Unusable::note(&mut self.unusable, raw, why);
                    let what = self.what;
                    oddities.add(|| format!("the {what} {} is left out: {why}", origin(raw)));
                }
            }
        }
        taken
    }
}

/// An address in a form that others can parse: trimmed, its scheme in small letters, and what is not
/// ASCII, or a space, percent-encoded (where that is possible: not in the host).
fn check(raw: &[u8], schemes: &[&str]) -> Result<String, &'static str> {
    let text = std::str::from_utf8(raw).map_err(|_| "it is not UTF-8")?;
    let text = text.trim();
    if text.len() > ADDRESS_BYTES_MAX {
        return Err("it is too long");
    }
    if text.bytes().any(|byte| byte.is_ascii_control()) {
        return Err("it has control characters");
    }
    let (scheme, rest) = text.split_once("://").ok_or("it has no scheme")?;
    let scheme = scheme.to_ascii_lowercase();
    if !schemes.contains(&scheme.as_str()) {
        return Err("its scheme is not supported");
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let host = authority.rsplit_once('@').map_or(authority, |it| it.1);
    check_host(host)?;
    let mut address = format!("{scheme}://{authority}");
    for byte in path.bytes() {
        if byte.is_ascii_graphic() {
            address.push(char::from(byte));
        } else {
            address.push_str(&format!("%{byte:02X}"));
        }
    }
    Ok(address)
}

/// Whether this is `host` or `host:port`. Without a port, the scheme's usual one is meant; for udp
/// trackers others take 80.
fn check_host(text: &str) -> Result<(), &'static str> {
    let (is_host, after) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, after) = rest.split_once(']').ok_or("it has no host")?;
            (address.parse::<Ipv6Addr>().is_ok(), after)
        }
        None => {
            let (host, after) = text.split_at(text.find(':').unwrap_or(text.len()));
            (is_host_name(host), after)
        }
    };
    if !is_host {
        return Err("it has no host");
    }
    let port = after.strip_prefix(':').map(str::parse::<u16>);
    match port {
        None if after.is_empty() => Ok(()),
        Some(Ok(port)) if port != 0 => Ok(()),
        _ => Err("its port is not one"),
    }
}

fn is_host_name(host: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    !host.is_empty() && host.len() <= 253 && host.bytes().all(legal)
}

/// As much of an address as may be shown: the path may hold a passkey, the user part a password.
fn origin(raw: &[u8]) -> String {
    let raw = raw.trim_ascii();
    let scheme = raw.windows(3).position(|it| it == b"://");
    let (scheme, rest) = raw.split_at(scheme.map_or(0, |at| at + 3));
    let end = rest.iter().position(|it| b"/?#".contains(it));
    let authority = &rest[..end.unwrap_or(rest.len())];
    let host = authority.rsplit(|&byte| byte == b'@').next();
    match [scheme, host.unwrap_or_default()].concat().as_slice() {
        b"" => "without a host".to_string(),
        shown => excerpt(shown),
    }
}
