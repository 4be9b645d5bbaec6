//! `show`: what is in a .torrent file or a magnet link, for people or as one JSON object.

use super::complaint::Complaint;
use super::shown::shown;
use super::status::ExitStatus;
use super::torrent::Named;
use super::{events, figures, output, torrent};
use crate::announce::http::shown as without_secrets;
use crate::protocol::magnet::Magnet;
use crate::protocol::metainfo::{FileEntry, Metainfo};
use serde::Serialize;
use std::ffi::OsStr;
use std::fmt::Write;

/// Runs `show`.
pub fn run(json: bool, torrent: &OsStr) -> Result<ExitStatus, Complaint> {
    let text = match torrent::load_or_link(torrent)? {
        Named::Torrent(metainfo) => {
            for oddity in &metainfo.oddities {
                output::say(&format!("warning: {}", shown(oddity)));
            }
            if json {
                events::json(&ShowKeys::from(&*metainfo))
            } else {
                page(&metainfo)
            }
        }
        Named::Link(magnet) => {
            for one in &magnet.unusable_trackers {
                let (address, why) = (shown(&one.shown), one.why);
                output::say(&format!(
                    "warning: the tracker {address} is left out: {why}"
                ));
            }
            if json {
                events::json(&ShowKeys::from(&*magnet))
            } else {
                link_page(&magnet)
            }
        }
    };
    output::line(&text)?;
    Ok(ExitStatus::Done)
}

/// The magnet link to show. Links are passed on, and those of a private torrent must not carry the user's
/// passkey: its trackers are left out where their addresses hold anything of the kind, and that is said.
pub(super) struct Link {
    pub(super) magnet: String,
    pub(super) remark: Option<&'static str>,
}

impl From<&Metainfo> for Link {
    fn from(metainfo: &Metainfo) -> Link {
        let open = |url: &str| !metainfo.private || without_secrets(url) == url;
        let whole = metainfo.tracker_addresses().all(open);
        let remark =
            "(without trackers: their addresses hold what is yours alone. Pass on the .torrent)";
        Link {
            magnet: metainfo.magnet_naming(open),
            remark: (!whole).then_some(remark),
        }
    }
}

/// The keys of `show --json`. A magnet link knows few of them.
#[derive(Serialize)]
struct ShowKeys<'a> {
    name: Option<&'a str>,
    info_hash: Option<String>,
    info_hash_v2: Option<String>,
    total_size: Option<u64>,
    piece_length: Option<u32>,
    pieces: Option<u32>,
    private: Option<bool>,
    files: Option<Vec<ShownFile<'a>>>,
    trackers: Vec<&'a [String]>,
    webseeds: &'a [String],
    comment: Option<&'a str>,
    created_by: Option<&'a str>,
    creation_date: Option<i64>,
    magnet: String,
}

impl<'a> From<&'a Magnet> for ShowKeys<'a> {
    fn from(magnet: &'a Magnet) -> ShowKeys<'a> {
        ShowKeys {
            name: magnet.name.as_deref(),
            info_hash: magnet.info_hash.map(|hash| hash.to_string()),
            info_hash_v2: magnet.info_hash_v2.map(hex),
            total_size: magnet.length,
            piece_length: None,
            pieces: None,
            private: None,
            files: None,
            trackers: magnet.trackers.chunks(1).collect(),
            webseeds: &magnet.webseeds,
            comment: None,
            created_by: None,
            creation_date: None,
            magnet: magnet.to_string(),
        }
    }
}

/// What a link says, for people.
fn link_page(magnet: &Magnet) -> String {
    let mut page = Sheet(String::new());
    let name = magnet.name.as_deref().unwrap_or("(the link gives none)");
    page.row("name", name);
    if let Some(hash) = magnet.info_hash {
        page.row("info-hash", &hash.to_string());
    }
    if let Some(digest) = magnet.info_hash_v2 {
        page.row("info-hash v2", &hex(digest));
    }
    if let Some(length) = magnet.length {
        page.row("size", &figures::size(length));
    }
    for (number, tracker) in magnet.trackers.iter().enumerate() {
        page.row(
            &format!("trackers {}", number + 1),
            &without_secrets(tracker),
        );
    }
    for address in &magnet.webseeds {
        page.row("web seed", address);
    }
    for address in &magnet.exact_sources {
        page.row("exact source", address);
    }
    for peer in &magnet.peers {
        page.row("peer", peer);
    }
    page.row("magnet", &magnet.to_string());
    page.0.truncate(page.0.trim_end().len());
    page.0
}

#[derive(Serialize)]
struct ShownFile<'a> {
    path: &'a str,
    length: u64,
    padding: bool,
}

impl<'a> From<&'a FileEntry> for ShownFile<'a> {
    fn from(file: &'a FileEntry) -> ShownFile<'a> {
        ShownFile {
            path: &file.path,
            length: file.length,
            padding: file.padding,
        }
    }
}

impl<'a> From<&'a Metainfo> for ShowKeys<'a> {
    fn from(metainfo: &'a Metainfo) -> ShowKeys<'a> {
        ShowKeys {
            name: Some(&metainfo.name),
            info_hash: Some(metainfo.info_hash.to_string()),
            info_hash_v2: metainfo.info_hash_v2.map(hex),
            total_size: Some(metainfo.geometry.total()),
            piece_length: Some(metainfo.geometry.piece_length()),
            pieces: Some(metainfo.geometry.pieces()),
            private: Some(metainfo.private),
            files: Some(metainfo.files.iter().map(ShownFile::from).collect()),
            trackers: metainfo.trackers.iter().map(Vec::as_slice).collect(),
            webseeds: &metainfo.webseeds,
            comment: metainfo.comment.as_deref(),
            created_by: metainfo.created_by.as_deref(),
            creation_date: metainfo.creation_date,
            magnet: Link::from(metainfo).magnet,
        }
    }
}

fn hex(digest: [u8; 32]) -> String {
    digest.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The page for people. Everything in it but figures comes from strangers.
fn page(metainfo: &Metainfo) -> String {
    let mut page = Sheet(String::new());
    let real = metainfo.files.iter().filter(|file| !file.padding);
    page.row("name", &metainfo.name);
    page.row("info-hash", &metainfo.info_hash.to_string());
    if let Some(digest) = metainfo.info_hash_v2 {
        page.row("info-hash v2", &hex(digest));
    }
    let total = real.clone().map(|file| file.length).sum();
    let files = figures::count(real.clone().count() as u64, "file");
    let padding = match metainfo.geometry.total() - total {
        0 => String::new(),
        bytes => format!(", and {} of padding", figures::size(bytes)),
    };
    page.row(
        "size",
        &format!(
            "{} ({}) in {files}{padding}",
            figures::size(total),
            figures::count(total, "byte")
        ),
    );
    let length = u64::from(metainfo.geometry.piece_length());
    page.row(
        "pieces",
        &format!(
            "{} of {}",
            metainfo.geometry.pieces(),
            figures::size(length)
        ),
    );
    if metainfo.private {
        page.row("private", "yes: peers come from its trackers alone");
    }
    for (number, tier) in metainfo.trackers.iter().enumerate() {
        let tier: Vec<String> = tier.iter().map(|url| without_secrets(url)).collect();
        page.row(&format!("trackers {}", number + 1), &tier.join("  "));
    }
    for address in &metainfo.webseeds {
        page.row("web seed", address);
    }
    let optional = [
        ("comment", metainfo.comment.as_deref()),
        ("source", metainfo.source.as_deref()),
        ("created by", metainfo.created_by.as_deref()),
    ];
    for (key, value) in optional {
        if let Some(value) = value {
            page.row(key, value);
        }
    }
    if let Some(seconds) = metainfo.creation_date {
        page.row("created", &date(seconds));
    }
    let Link { magnet, remark } = metainfo.into();
    page.row("magnet", &magnet);
    if let Some(remark) = remark {
        page.row("", remark);
    }
    if !metainfo.single_file {
        page.0.push_str("\nfiles\n");
        for file in real {
            let _ = writeln!(
                page.0,
                "{:>12}  {}",
                figures::size(file.length),
                shown(&file.path)
            );
        }
    }
    page.0.truncate(page.0.trim_end().len());
    page.0
}

struct Sheet(String);

impl Sheet {
    fn row(&mut self, key: &str, value: &str) {
        let _ = writeln!(self.0, "{key:<14}{}", shown(value));
    }
}

/// Seconds since 1970 as `2026-11-21 12:00:00 UTC`; a year that no calendar has, as seconds.
fn date(seconds: i64) -> String {
    const YEAR_10000: i64 = 253_402_300_800;
    if !(0..YEAR_10000).contains(&seconds) {
        return format!("{seconds} seconds after 1970");
    }
    let (mut day, second) = (seconds / 86_400, seconds % 86_400);
    let mut year = 1970;
    let leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    while day >= 365 + i64::from(leap(year)) {
        day -= 365 + i64::from(leap(year));
        year += 1;
    }
    let february = 28 + i64::from(leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if day < length {
            break;
        }
        day -= length;
        month += 1;
    }
    format!(
        "{year:04}-{month:02}-{:02} {:02}:{:02}:{:02} UTC",
        day + 1,
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let table = [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_709_251_199, "2024-02-29 23:59:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
            (253_402_300_799, "9999-12-31 23:59:59 UTC"),
            (-1, "-1 seconds after 1970"),
        ];
        for (seconds, text) in table {
            assert_eq!(date(seconds), text);
        }
        assert!(date(i64::MAX).ends_with("after 1970"));
    }
}
