//! From the word TORRENT on a command line to a [`Metainfo`]: a file, standard input, or an http(s)
//! address. Whatever it is, no more than [`METAINFO_BYTES_MAX`] bytes are read.

use super::complaint::{Complaint, Reason};
use super::figures;
use super::shown::{shown, shown_path};
use crate::announce::http::{self, AnnounceError, CallLimits};
use crate::protocol::magnet::Magnet;
use crate::protocol::metainfo::{METAINFO_BYTES_MAX, Metainfo, MetainfoError};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

/// What the word TORRENT stands for.
#[derive(Debug)]
pub enum Named {
    /// A .torrent, read.
    Torrent(Box<Metainfo>),
    /// A magnet link: what there is to be fetched is not known.
    Link(Box<Magnet>),
}

/// Reads the torrent or the magnet link that `word` is or names.
pub fn load_or_link(word: &OsStr) -> Result<Named, Complaint> {
    let text = word.to_string_lossy();
    if !is_magnet(&text) {
        return load(word, None, None).map(|metainfo| Named::Torrent(Box::new(metainfo)));
    }
    text.parse()
        .map(|link| Named::Link(Box::new(link)))
        .map_err(|error| {
            let sentence = format!("cannot read the magnet link: {error}");
            let hint = "quote it, or the shell takes its & for the end of the command";
            Complaint::new(Reason::Metainfo, sentence, hint)
        })
}

fn is_magnet(text: &str) -> bool {
    let scheme = text.get(..7).unwrap_or_default();
    scheme.eq_ignore_ascii_case("magnet:")
}

/// Reads the torrent that `word` names; what is fetched for it is asked for from `bind`, and waited for no longer
/// than `timeout`.
pub fn load(
    word: &OsStr,
    bind: Option<IpAddr>,
    timeout: Option<Duration>,
) -> Result<Metainfo, Complaint> {
    let text = word.to_string_lossy();
    let lower = text
        .chars()
        .take(8)
        .collect::<String>()
        .to_ascii_lowercase();
    if is_magnet(&text) {
        return Err(Complaint::unsupported(
            "magnet links are not supported yet",
            "look for the .torrent file of the same torrent",
        ));
    }
    let (label, bytes) = if word == "-" {
        ("standard input".to_owned(), from_input()?)
    } else if lower.starts_with("http://") || lower.starts_with("https://") {
        let label = shown(&http::shown(&text));
        let usual = CallLimits::TORRENT;
        let limits = CallLimits {
            bind,
            total: timeout.map_or(usual.total, |timeout| timeout.min(usual.total)),
            ..usual
        };
        (label.clone(), from_network(&text, &label, &limits)?)
    } else {
        (shown_path(Path::new(word)), from_file(Path::new(word))?)
    };
    understand(&label, &bytes)
}

fn understand(label: &str, bytes: &[u8]) -> Result<Metainfo, Complaint> {
    Metainfo::from_bytes(bytes).map_err(|error| match error {
        MetainfoError::VersionTwoOnly => Complaint::unsupported(
            format!("cannot read {label}: {}", shown(&error.to_string())),
            "look for a hybrid or version 1 torrent of the same files",
        ),
        error @ MetainfoError::Path { .. } => Complaint {
            hint:
                "whoever made it has to make it again with shorter paths, and a name for each file"
                    .to_owned(),
            ..Complaint::metainfo(label, &error)
        },
        error => Complaint::metainfo(label, &error),
    })
}

fn from_input() -> Result<Vec<u8>, Complaint> {
    let label = Path::new("standard input");
    capped(std::io::stdin().lock(), 0).map_err(|error| Complaint::reading(label, &error))
}

fn from_file(path: &Path) -> Result<Vec<u8>, Complaint> {
    let complain = |error: std::io::Error| match scheme(path) {
        Some(scheme) => Complaint::unsupported(
            format!(
                "cannot read {}: addresses that begin with {scheme}: are not read",
                shown_path(path)
            ),
            "give a path, or an http or https address",
        ),
        None => Complaint::reading(path, &error),
    };
    // Without O_NONBLOCK the opening of a FIFO waits for a writer that may never come.
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .map_err(complain)?;
    let facts = file.metadata().map_err(complain)?;
    let kind = facts.file_type();
    if kind.is_dir() {
        return Err(Complaint::new(
            Reason::File,
            format!("cannot read {}: it is a folder", shown_path(path)),
            "name the .torrent file itself",
        ));
    }
    if !kind.is_file() {
        return Err(Complaint::new(
            Reason::File,
            format!("cannot read {}: it is not a regular file", shown_path(path)),
            "to read from a pipe, give - and redirect standard input",
        ));
    }
    capped(file, facts.len()).map_err(complain)
}

fn from_network(address: &str, label: &str, limits: &CallLimits) -> Result<Vec<u8>, Complaint> {
    let own = limits.total < CallLimits::TORRENT.total;
    http::fetch_torrent(address, limits).map_err(|error| {
        if let AnnounceError::TimedOut(_) = error
            && own
        {
            let time = figures::duration(limits.total);
            return Complaint::new(
                Reason::Timeout,
                format!("{label}: gave up, it did not arrive within {time}"),
                "run the same command again later, or allow more with --timeout",
            );
        }
        let hint = match error {
            AnnounceError::NoTls => "use a build with the feature tls, or fetch the file yourself",
            AnnounceError::Status { .. } => "the address may be wrong or out of date",
            _ => "check the address and the network, or fetch the file yourself",
        };
        let cause = shown(&error.to_string());
        Complaint::new(
            Reason::Network,
            format!("cannot fetch {label}: {cause}"),
            hint,
        )
    })
}

/// All of `input`, or an error if it has more than [`METAINFO_BYTES_MAX`] bytes. `length`: what it should have, so that
/// no memory is taken twice.
fn capped(input: impl Read, length: u64) -> std::io::Result<Vec<u8>> {
    const LIMIT: u64 = METAINFO_BYTES_MAX as u64;
    let mut bytes = Vec::with_capacity(length.min(LIMIT) as usize);
    input.take(LIMIT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LIMIT {
        return Err(std::io::Error::other(format!(
            "it has more than {}, too much for a .torrent",
            figures::size(LIMIT)
        )));
    }
    Ok(bytes)
}

/// The `scheme` of `scheme://rest`.
fn scheme(path: &Path) -> Option<&str> {
    let (scheme, _) = path.to_str()?.split_once("://")?;
    let plain = !scheme.is_empty()
        && scheme
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    plain.then_some(scheme)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn more_than_the_limit_is_not_read() {
        let error = capped(std::io::repeat(b'l'), 0).unwrap_err();
        assert!(error.to_string().contains("16.0 MiB"), "{error}");
        assert_eq!(capped(&b"de"[..], 2).unwrap(), b"de");
    }

    #[test]
    fn what_is_no_regular_file_is_refused_at_once() {
        for path in ["/dev/zero", "/dev/null", "/"] {
            let complaint = from_file(Path::new(path)).unwrap_err();
            assert_eq!(complaint.reason, Reason::File, "{path}");
        }
    }

    #[test]
    fn addresses_of_other_kinds_are_refused() {
        for word in [
            "magnet:?xt=urn:btih:00",
            "MAGNET:?",
            "file:///etc/passwd",
            "ftp://h/x",
        ] {
            let complaint = load(OsStr::new(word), None, None).unwrap_err();
            assert_eq!(complaint.reason, Reason::Unsupported, "{word}");
        }
    }
}
