//! Addresses on the web: which can be asked, where redirects lead, and what of them may be shown.

use super::http::AnnounceError;
use ureq::http::Uri;

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
    let usual = ["announce", "announce.php"].contains(&last);
    let shown_path = match (before.is_empty(), usual) {
        (true, true) => format!("/{last}"),
        (false, true) => format!("/…/{last}"),
        (true, false) if last.is_empty() => String::new(),
        (_, false) => "/…".to_owned(),
    };
    format!("{scheme}://{host}{shown_path}")
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

/// The address that `location` means on the page at `base` (RFC 3986, what servers use of it).
pub(super) fn join(base: &str, location: &str) -> Option<String> {
    let (scheme, rest) = base.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let path_end = base.find(['?', '#']).unwrap_or(base.len());
    let before_colon = location.split(['/', '?', '#']).next()?;
    Some(if before_colon.contains(':') {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else if location.starts_with('?') {
        format!("{}{location}", &base[..path_end])
    } else {
        let start = scheme.len() + 3 + authority.len();
        let folder = base[start..path_end]
            .rfind('/')
            .map_or("/", |slash| &base[start..start + slash + 1]);
        format!("{scheme}://{authority}{folder}{location}")
    })
}

/// Whether a part of the path is what trackers call theirs.
pub(super) fn path_announces(url: &str) -> bool {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    path.split('/')
        .skip(3)
        .any(|part| part.starts_with("announce") || part.starts_with("scrape"))
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
    fn redirects_are_joined_to_where_they_came_from() {
        let base = "http://h:1/a/b?q=1";
        for (location, expected) in [
            ("https://x/y", "https://x/y"),
            ("//x/y", "http://x/y"),
            ("/y?z=a:b", "http://h:1/y?z=a:b"),
            ("y", "http://h:1/a/y"),
            ("?y", "http://h:1/a/b?y"),
            ("file:/etc", "file:/etc"),
        ] {
            assert_eq!(join(base, location).unwrap(), expected);
        }
        assert_eq!(join("http://h", "y").unwrap(), "http://h/y");
    }
}
