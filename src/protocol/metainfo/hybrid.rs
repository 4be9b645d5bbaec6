//! The version 2 half of a hybrid torrent (BEP 52), as far as it concerns the version 1 half.
//!
//! A hybrid tells the same files twice, and programs of both versions meet in one swarm. Only the
//! version 1 half is used here. The other is looked at for two reasons: a file tree that is not
//! well-formed makes the file one to refuse, and a tree that tells other files than the list does
//! is not the same content, so that its hash must not be given out as another name of it.
//! Piece layers are not looked at: they prove nothing about version 1.

use super::files::{has_attribute, length, path};
use super::{Dict, Item, MetainfoError, Oddities, dict};

/// Whether the torrent can be called by its version 2 hash too. An error where its tree is malformed.
pub(super) fn check(
    info: Dict<'_>,
    piece_length: u32,
    oddities: &mut Oddities,
) -> Result<bool, MetainfoError> {
    let version = info.get(b"meta version");
    let tree = info.get(b"file tree");
    if version.is_none() && tree.is_none() {
        return Ok(false);
    }
    let contradiction = match (version.and_then(|item| item.as_int()), tree) {
        (Some(2), Some(tree)) => compare(info, dict(tree, "file tree")?, piece_length)?,
        (Some(2), None) => Some("it has no file tree"),
        _ => Some("its version is unknown"),
    };
    if let Some(why) = contradiction {
        oddities.add(|| format!("only the version 1 half is used; of the other, {why}"));
    }
    Ok(contradiction.is_none())
}

/// Walks the tree beside the list and says where they differ, if they do.
fn compare(
    info: Dict<'_>,
    tree: Dict<'_>,
    piece_length: u32,
) -> Result<Option<&'static str>, MetainfoError> {
    let mut contradiction = None;
    if !piece_length.is_power_of_two() || piece_length < 16 * 1024 {
        contradiction = Some("pieces of this length are not allowed");
    }
    let mut listed = Listed::new(info);
    let mut path: Vec<&[u8]> = Vec::new();
    // Depth first in the tree's own order, with the branches still to see on a stack of our own.
    let mut branches = Vec::new();
    push_children(tree, 0, &mut branches);
    while let Some((depth, name, item)) = branches.pop() {
        path.truncate(depth);
        path.push(name);
        let node = dict(item, "an entry of the file tree")?;
        let Some(leaf) = node.get(b"") else {
            push_children(node, depth + 1, &mut branches);
            continue;
        };
        let Some(length) = read_leaf(node, leaf)? else {
            continue;
        };
        let same = match listed.next()? {
            None => Err("there are more files"),
            Some(file) if file.path != path || file.length != length => Err("the files are others"),
            Some(file) if length > 0 && !file.start.is_multiple_of(u64::from(piece_length)) => {
                Err("a file does not begin with a piece")
            }
            Some(_) => Ok(()),
        };
        contradiction = contradiction.or(same.err());
    }
    if contradiction.is_none() && listed.next()?.is_some() {
        contradiction = Some("there are fewer files");
    }
    Ok(contradiction)
}

type Branch<'d> = (usize, &'d [u8], Item<'d>);

fn push_children<'d>(node: Dict<'d>, depth: usize, branches: &mut Vec<Branch<'d>>) {
    let first = branches.len();
    branches.extend(node.iter().map(|(name, item)| (depth, name, item)));
    branches[first..].reverse();
}

/// The length of the file that `leaf` describes; `None` for a link, which the list leaves out too.
fn read_leaf(node: Dict<'_>, leaf: Item<'_>) -> Result<Option<u64>, MetainfoError> {
    let fail = |problem| {
        let at = leaf.position();
        Err(MetainfoError::FileTree { at, problem })
    };
    if node.iter().count() != 1 {
        return fail("an entry is both a file and a folder");
    }
    let leaf = dict(leaf, "a file of the file tree")?;
    if has_attribute(leaf, b'l') {
        return Ok(None);
    }
    let length = length(leaf)?;
    let root = leaf.get(b"pieces root").and_then(|item| item.as_bytes());
    match root {
        _ if length == 0 => Ok(Some(0)),
        Some(root) if root.len() == 32 && root.iter().any(|&byte| byte != 0) => Ok(Some(length)),
        _ => fail("a file has no root hash"),
    }
}

/// The files of the version 1 half that version 2 knows too: neither padding nor links.
struct Listed<'d> {
    files: Box<dyn Iterator<Item = Item<'d>> + 'd>,
    start: u64,
    single: Option<ListedFile<'d>>,
}

struct ListedFile<'d> {
    path: Vec<&'d [u8]>,
    length: u64,
    start: u64,
}

impl<'d> Listed<'d> {
    /// `info` has been read before: what is malformed in it was refused then.
    fn new(info: Dict<'d>) -> Listed<'d> {
        let name = info.get(b"name").and_then(|item| item.as_bytes());
        let length = length(info).ok();
        let single = name.zip(length).map(|(name, length)| ListedFile {
            path: vec![name],
            length,
            start: 0,
        });
        let files = info.get(b"files").and_then(|item| item.as_list());
        Listed {
            files: Box::new(files.into_iter().flatten()),
            start: 0,
            single,
        }
    }

    fn next(&mut self) -> Result<Option<ListedFile<'d>>, MetainfoError> {
        if let Some(single) = self.single.take() {
            return Ok(Some(single));
        }
        for item in self.files.by_ref() {
            let entry = dict(item, "a file")?;
            if has_attribute(entry, b'l') {
                continue;
            }
            let length = length(entry)?;
            let start = self.start;
            self.start += length;
            if !has_attribute(entry, b'p') {
                return Ok(Some(ListedFile {
                    path: path(entry)?.unwrap_or_default(),
                    length,
                    start,
                }));
            }
        }
        Ok(None)
    }
}
