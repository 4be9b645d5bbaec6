//! Addresses on the web: which can be asked, where redirects lead, and what of them may be shown.

use super::http::AnnounceError;
use crate::protocol::tracker::http::percent_decode;
use std::collections::BTreeSet;
use ureq::http::Uri;

/// Parts of paths that are everybody's.
const USUAL: [&str; 2] = ["announce", "announce.php"];

/// The same, and what they call the question how many share a torrent.
const THEIRS: [&str; 4] = ["announce", "announce.php", "scrape", "scrape.php"];

/// `url` without what is secret in it: scheme, host, port, and the last part of the path where it is
/// the usual `announce`. Private trackers put a passkey into the path or the query. Not escaped.
pub fn shown(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return "(not an address)".to_owned();
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let host = authority.rsplit('@').next().unwrap_or_default();
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let (before, last) = path.rsplit_once('/').unwrap_or(("", ""));
    let usual = USUAL.contains(&last);
    let shown_path = match (before.is_empty(), usual) {
        (true, true) => format!("/{last}"),
        (false, true) => format!("/…/{last}"),
        (true, false) if last.is_empty() => String::new(),
        (_, false) => "/…".to_owned(),
    };
    format!("{scheme}://{host}{shown_path}")
}

/// Secrets of so many bytes or more are blanked wherever they occur; shorter ones only as whole words.
const LONG: usize = 8;

/// `text`, which the server at `url` sent, without what [`shown`] leaves out of `url`: many a tracker says which
/// passkey it does not know.
pub(super) fn without_secrets(text: &str, url: &str) -> String {
    let mut secrets: Vec<String> = secrets(url).into_iter().collect();
    // A part of another one comes behind it.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    let blank = |text, secret: String| blank(text, &secret);
    secrets.into_iter().fold(text.to_owned(), blank)
}

/// User, password, parts of the path and values of the query, in small letters, as they stand and decoded.
fn secrets(url: &str) -> BTreeSet<String> {
    let rest = url.split_once("://").map_or("", |it| it.1);
    let (authority, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (path, query) = rest.split_at(rest.find(['?', '#']).unwrap_or(rest.len()));
    let user = authority.rsplit_once('@').map_or("", |it| it.0).split(':');
    let path = path.split('/').filter(|it| !USUAL.contains(it));
    let query = query.split(['?', '&', '#']);
    let values = query.map(|pair| pair.split_once('=').map_or(pair, |it| it.1));
    let mut secrets = BTreeSet::new();
    for part in user.chain(path).chain(values).filter(|it| !it.is_empty()) {
        let decoded = percent_decode(part).and_then(|it| String::from_utf8(it).ok());
        secrets.extend(decoded.map(|it| it.to_ascii_lowercase()));
        secrets.insert(part.to_ascii_lowercase());
    }
    secrets
}

fn blank(text: String, secret: &str) -> String {
    // Of the same length, so that places in it are places in the text.
    let small = text.to_ascii_lowercase();
    let (mut safe, mut done) = (String::new(), 0);
    for (at, _) in small.match_indices(secret) {
        let end = at + secret.len();
        let before = small[..at].chars().next_back();
        let beside = [before, small[end..].chars().next()];
        let within_a_word = beside.iter().flatten().any(|it| it.is_alphanumeric());
        if secret.len() >= LONG || !within_a_word {
            safe.push_str(&text[done..at]);
            safe.push('…');
            done = end;
        }
    }
    safe + &text[done..]
}

/// Whether an address is one we can ask: http or https, with a host and a port that exist.
pub(super) fn check(url: &str) -> Result<Uri, AnnounceError> {
    let malformed = AnnounceError::Address("is malformed");
    let (scheme, _) = url
        .split_once("://")
        .ok_or(AnnounceError::Address("is not one of the web"))?;
    match scheme.to_ascii_lowercase().as_str() {
        "http" => {}
        "https" if cfg!(feature = "tls") => {}
        "https" => return Err(AnnounceError::NoTls),
        _ => return Err(AnnounceError::Address("is neither http nor https")),
    }
    let uri: Uri = url.parse().map_err(|_| malformed.clone())?;
    let authority = uri.authority().ok_or(malformed.clone())?;
    let named = authority.as_str().rsplit('@').next().unwrap_or_default();
    // ureq takes a port beyond 65535 for none at all and would ask port 80.
    let sound = match named.strip_prefix(authority.host()) {
        Some("") => true,
        Some(_) => authority.port_u16().is_some_and(|port| port != 0),
        None => false,
    };
    sound.then_some(uri).ok_or(malformed)
}

pub(super) fn is_https(url: &str) -> bool {
    url.get(..6)
        .is_some_and(|it| it.eq_ignore_ascii_case("https:"))
}

/// The address that `location` means on the page at `base` (RFC 3986, section 5.2).
pub(super) fn join(base: &str, location: &str) -> Option<String> {
    let base = base.split('#').next()?;
    let (scheme, rest) = base.split_once("://")?;
    let authority = rest.split(['/', '?']).next()?;
    let path_end = base.find('?').unwrap_or(base.len());
    let before_colon = location.split(['/', '?', '#']).next()?;
    Some(if before_colon.contains(':') {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{}", straight(location))
    } else if location.starts_with('?') {
        format!("{}{location}", &base[..path_end])
    } else if location.is_empty() || location.starts_with('#') {
        base.to_owned()
    } else {
        let start = scheme.len() + 3 + authority.len();
        let folder = base[start..path_end]
            .rfind('/')
            .map_or("/", |slash| &base[start..start + slash + 1]);
        let way = straight(&format!("{folder}{location}"));
        format!("{scheme}://{authority}{way}")
    })
}

/// The path without `.` and `..`, and what follows it as it is: a server may know no way up.
fn straight(path: &str) -> String {
    let (path, rest) = path.split_at(path.find(['?', '#']).unwrap_or(path.len()));
    let mut parts = Vec::new();
    let mut ends_in_folder = false;
    for part in path.split('/').skip(1) {
        ends_in_folder = matches!(part, "." | "..");
        match part {
            "." => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    if ends_in_folder {
        parts.push("");
    }
    format!("/{}{rest}", parts.join("/"))
}

/// Whether a part of the path is what trackers call theirs. A path that leads up again could end anywhere.
pub(super) fn path_announces(url: &str) -> bool {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let plain = percent_decode(path).unwrap_or_default();
    let leads_up = plain.is_empty() || plain.windows(2).any(|two| two == b"..");
    !leads_up && path.split('/').skip(3).any(|part| THEIRS.contains(&part))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn secrets_in_addresses_are_not_shown() {
        for (url, expected) in [
            ("http://t.example/announce", "http://t.example/announce"),
            (
                "https://t.example:443/PASSKEY/announce?key=SECRET",
                "https://t.example:443/…/announce",
            ),
            (
                "http://user:word@t.example/announce.php?passkey=S#x",
                "http://t.example/announce.php",
            ),
            ("http://t.example/SECRET", "http://t.example/…"),
            ("http://t.example/announce/SECRET", "http://t.example/…"),
            ("http://t.example?SECRET", "http://t.example"),
            ("http://t.example", "http://t.example"),
            ("udp://[::1]:80/announce", "udp://[::1]:80/announce"),
            ("SECRET", "(not an address)"),
        ] {
            assert_eq!(shown(url), expected);
        }
    }

    #[test]
    fn a_tracker_that_repeats_our_secrets_does_not_get_them_shown() {
        let url = "http://al:pa%20ss@t.example/5ECRET5E/announce?key=QW&n=1&5ecret5e5ecret5e#frag";
        for (text, expected) in [
            ("unknown passkey 5ecret5e!", "unknown passkey …!"),
            ("key5ECRET5Ekey", "key…key"),
            ("5ecret5e5ecret5e", "…"),
            (
                "GET /5ECRET5E/announce?key=QW&n=1",
                "GET /…/announce?key=…&n=…",
            ),
            (
                "al:pa%20ss, so al and pa ss, are not all",
                "…:…, so … and …, are not all",
            ),
            ("é 11 announce é1", "é 11 announce é1"),
            ("", ""),
        ] {
            assert_eq!(without_secrets(text, url), expected);
        }
        for url in ["http://t.example/announce", "nonsense", "udp://[::1]:1"] {
            assert_eq!(without_secrets("announce 1", url), "announce 1");
        }
    }

    #[test]
    fn redirects_are_joined_to_where_they_came_from() {
        let base = "http://h:1/a/b?q=1";
        for (location, expected) in [
            ("https://x/y", "https://x/y"),
            ("//x/y", "http://x/y"),
            ("/y?z=a:b", "http://h:1/y?z=a:b"),
            ("y", "http://h:1/a/y"),
            ("?y", "http://h:1/a/b?y"),
            ("file:/etc", "file:/etc"),
            ("../y?z=../x#../w", "http://h:1/y?z=../x#../w"),
            ("../../../y", "http://h:1/y"),
            ("./y/./z/..", "http://h:1/a/y/"),
            ("..", "http://h:1/"),
            ("/announce/../y", "http://h:1/y"),
            ("/y/...//z", "http://h:1/y/...//z"),
            ("#y", "http://h:1/a/b?q=1"),
            ("", "http://h:1/a/b?q=1"),
        ] {
            assert_eq!(join(base, location).unwrap(), expected);
        }
        assert_eq!(join("http://h", "y").unwrap(), "http://h/y");
    }

    #[test]
    fn what_trackers_call_theirs_is_a_whole_part_of_the_path() {
        for url in [
            "http://h:1/announce",
            "http://h/announce.php?key=1",
            "http://h/PASSKEY/announce",
            "http://h/announce/PASSKEY",
            "http://h/x/scrape?info_hash=1",
            "http://h/scrape.php#x",
        ] {
            assert!(path_announces(url), "{url}");
        }
        for url in [
            "http://h/api/announcements?x=",
            "http://h/announcer",
            "http://h/announce.cgi",
            "http://h/scrapers/1",
            "http://h/announce/../api/delete",
            "http://h/announce/%2e%2E%2fapi",
            "http://h/announce/%",
            "http://h/?announce",
            "http://h/x?y=/announce",
            "http://announce/x",
            "http://announce",
        ] {
            assert!(!path_announces(url), "{url}");
        }
    }
}
