//! The name of a torrent, and its files: `length` of a single one, or the list `files` (BEP 3, 47).

use super::{
    Dict, FILES_MAX, FileEntry, Item, MetainfoError, Oddities, dict, excerpt, required, wrong_kind,
};
use crate::protocol::digest::InfoHash;
use crate::protocol::filenames::{
    Names, PATH_ELEMENTS_MAX, PathError, raw_path, root_name, safe_name,
};

/// What a torrent is made of.
pub(super) struct Content {
    pub files: Vec<FileEntry>,
    pub total: u64,
    pub single_file: bool,
}

/// A torrent's name.
pub(super) struct TorrentName {
    /// Safe to write.
    pub safe: String,
    /// As it stands, where that is another and its author can have it so.
    pub raw: Option<Box<[u8]>>,
}

/// Reads `name.utf-8`, which some programs write beside a `name` in an old encoding, or `name`.
pub(super) fn torrent_name(
    info: Dict<'_>,
    info_hash: InfoHash,
    oddities: &mut Oddities,
) -> Result<TorrentName, MetainfoError> {
    let item = match info.get(b"name.utf-8") {
        Some(item) if item.as_str().is_some_and(|name| !name.is_empty()) => item,
        _ => required(info, "name")?,
    };
    let raw = item
        .as_bytes()
        .ok_or_else(|| wrong_kind(item, "name", "a string"))?;
    let safe = match raw {
        b"" => info_hash.to_string(),
        raw => root_name(raw),
    };
    if safe.as_bytes() == raw {
        return Ok(TorrentName { safe, raw: None });
    }
    oddities.add_renamed(|| format!("the name {} is written as \"{safe}\"", excerpt(raw)));
    let raw = raw_path(&[raw]);
    Ok(TorrentName { safe, raw })
}

/// Reads the files of `info`. `name` is the torrent's, made safe.
pub(super) fn read(
    info: Dict<'_>,
    name: &str,
    oddities: &mut Oddities,
) -> Result<Content, MetainfoError> {
    let at = info.item().position();
    match (info.get(b"length"), info.get(b"files")) {
        (Some(_), Some(_)) => Err(MetainfoError::FileAndFolder { at }),
        (None, None) => Err(MetainfoError::Missing { at, key: "length" }),
        (Some(_), None) => {
            let length = length(info)?;
            let file = FileEntry {
                executable: has_attribute(info, b'x'),
                ..FileEntry::plain(name, length)
            };
            Ok(Content {
                files: vec![file],
                total: length,
                single_file: true,
            })
        }
        (None, Some(list)) => folder(list, oddities),
    }
}

fn folder(list: Item<'_>, oddities: &mut Oddities) -> Result<Content, MetainfoError> {
    let wrong = || wrong_kind(list, "files", "a list");
    let mut names = Names::default();
    let entries = list.as_list().ok_or_else(wrong)?;
    // A list that grows leaves holes between the paths: half a megabyte with 20,000 files.
    let mut files = Vec::with_capacity(entries.clone().count().min(FILES_MAX));
    let mut total = 0u64;
    for item in entries {
        let at = item.position();
        let entry = dict(item, "a file")?;
        // Links could point anywhere. They take no bytes, whatever length they claim.
        if has_attribute(entry, b'l') {
            let path = path(entry)?.unwrap_or_default().join(&b'/');
            oddities.add(|| format!("the symbolic link {} is left out", excerpt(&path)));
            continue;
        }
        if files.len() == FILES_MAX {
            return Err(MetainfoError::TooManyFiles { at });
        }
        let file = file(entry, &mut names, oddities)?;
        let sum = total.checked_add(file.length);
        total = sum.ok_or_else(|| length_error(entry))?;
        files.push(file);
    }
    if files.is_empty() {
        let at = list.position();
        return Err(MetainfoError::NoFiles { at });
    }
    Ok(Content {
        files,
        total,
        single_file: false,
    })
}

fn file(
    entry: Dict<'_>,
    names: &mut Names,
    oddities: &mut Oddities,
) -> Result<FileEntry, MetainfoError> {
    let length = length(entry)?;
    let path = path(entry)?;
    if has_attribute(entry, b'p') {
        let padding = FileEntry::padding(length);
        let usable = path.filter(|it| !it.is_empty() && it.len() <= PATH_ELEMENTS_MAX);
        return Ok(match usable {
            Some(elements) => FileEntry {
                path: elements
                    .into_iter()
                    .map(safe_name)
                    .collect::<Vec<_>>()
                    .join("/"),
                ..padding
            },
            None => padding,
        });
    }
    let at = entry.item().position();
    let elements = path.ok_or(MetainfoError::Missing { at, key: "path" })?;
    let place = names.place(&elements);
    let placed = place.map_err(|why: PathError| MetainfoError::Path { at, why })?;
    if placed.renamed {
        let raw = elements.join(&b'/');
        oddities.add_renamed(|| format!("{} is written as \"{}\"", excerpt(&raw), placed.path));
    }
    Ok(FileEntry {
        executable: has_attribute(entry, b'x'),
        raw_path: placed.renamed.then(|| raw_path(&elements)).flatten(),
        ..FileEntry::plain(&placed.path, length)
    })
}

/// Whether BEP 47's `attr` has this letter. An `attr` that is no string says nothing.
pub(super) fn has_attribute(entry: Dict<'_>, letter: u8) -> bool {
    let attributes = entry.get(b"attr").and_then(|item| item.as_bytes());
    attributes.is_some_and(|letters| letters.contains(&letter))
}

/// The value of `length`: not negative.
pub(super) fn length(entry: Dict<'_>) -> Result<u64, MetainfoError> {
    let item = required(entry, "length")?;
    let wrong = || wrong_kind(item, "length", "an integer");
    let length = item.as_int().ok_or_else(wrong)?;
    let at = item.position();
    u64::try_from(length).map_err(|_| MetainfoError::Length { at, length })
}

fn length_error(entry: Dict<'_>) -> MetainfoError {
    let item = entry.get(b"length").unwrap_or(entry.item());
    MetainfoError::Length {
        at: item.position(),
        length: item.as_int().unwrap_or_default(),
    }
}

/// A file's path elements as found: `path.utf-8` where it is one, else `path`, else nothing.
pub(super) fn path(entry: Dict<'_>) -> Result<Option<Vec<&[u8]>>, MetainfoError> {
    let elements = |item: Item<'_>, check: fn(Item<'_>) -> bool| {
        item.as_list().is_some_and(|mut list| list.all(check))
    };
    let is_text = |item: Item<'_>| item.as_str().is_some();
    let utf_8 = entry.get(b"path.utf-8").filter(|it| elements(*it, is_text));
    let Some(item) = utf_8.or_else(|| entry.get(b"path")) else {
        return Ok(None);
    };
    let wrong = || wrong_kind(item, "path", "a list of strings");
    let list = item.as_list().ok_or_else(wrong)?;
    let elements: Option<Vec<&[u8]>> = list.map(|element| element.as_bytes()).collect();
    elements.ok_or_else(wrong).map(Some)
}
