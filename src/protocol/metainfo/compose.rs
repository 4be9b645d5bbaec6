//! Writing .torrent files (BEP 3): the way back.

use super::FileEntry;
use crate::protocol::Digest;
use crate::protocol::bencode::{Value, encode_int, encode_string};
use std::collections::BTreeMap;

/// What goes into a .torrent file. Nothing is checked: [`super::Metainfo::from_bytes`] does that, and
/// tests want to write what it refuses.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Draft {
    /// The name of the file or folder.
    pub name: String,
    /// Bytes a piece.
    pub piece_length: u32,
    /// Whether it is the one file in `files` rather than a folder.
    pub single_file: bool,
    /// The files in the order of their bytes, with the padding between them.
    pub files: Vec<FileEntry>,
    /// The SHA-1 of each piece, in order.
    pub piece_digests: Vec<Digest>,
    /// Tiers of tracker addresses: the first is `announce` as well; a list is written if there are more.
    pub trackers: Vec<Vec<String>>,
    /// Web seeds.
    pub webseeds: Vec<String>,
    /// DHT nodes, as (host, port).
    pub nodes: Vec<(String, u16)>,
    /// Peers come from the trackers alone. Written only if so: without it other programs make the same hash.
    pub private: bool,
    /// A remark.
    pub comment: Option<String>,
    /// The program that makes the file.
    pub created_by: Option<String>,
    /// Seconds since 1970.
    pub creation_date: Option<i64>,
    /// What tells apart copies for different trackers; part of the info-hash.
    pub source: Option<String>,
}

impl Draft {
    /// A torrent of one file whose contents are in memory. Pieces of 0 bytes are taken for such of 1.
    pub fn single(name: &str, piece_length: u32, content: &[u8]) -> Draft {
        Draft {
            single_file: true,
            ..Draft::folder(name, piece_length, &[(name, content)])
        }
    }

    /// A torrent of a folder of files, as (path, contents), all in memory.
    pub fn folder(name: &str, piece_length: u32, files: &[(&str, &[u8])]) -> Draft {
        let piece_length = piece_length.max(1);
        let run = files.iter().map(|it| it.1).collect::<Vec<_>>().concat();
        let entry = |(path, content): &(&str, &[u8])| FileEntry::plain(path, content.len() as u64);
        Draft {
            name: name.to_string(),
            piece_length,
            files: files.iter().map(entry).collect(),
            piece_digests: run.chunks(piece_length as usize).map(Digest::of).collect(),
            ..Draft::default()
        }
    }

    /// The bytes of the .torrent file, in canonical form.
    pub fn compose(&self) -> Vec<u8> {
        let mut root = Entries::default();
        let mut addresses = self.trackers.iter().flatten();
        root.put("announce", addresses.next().map(|it| it.as_str().into()));
        if addresses.next().is_some() {
            let tiers = self.trackers.iter().map(|tier| strings(tier));
            root.put("announce-list", Some(Value::list(tiers)));
        }
        root.put("comment", text(&self.comment));
        root.put("created by", text(&self.created_by));
        root.put("creation date", self.creation_date.map(Value::Int));
        root.put("info", Some(self.info()));
        if !self.nodes.is_empty() {
            let pair = |(host, port): &(String, u16)| {
                Value::List(vec![host.as_str().into(), i64::from(*port).into()])
            };
            root.put("nodes", Some(Value::list(self.nodes.iter().map(pair))));
        }
        if !self.webseeds.is_empty() {
            root.put("url-list", Some(strings(&self.webseeds)));
        }
        Value::Dict(root.0).encode()
    }

    fn info(&self) -> Value {
        let mut info = Entries::default();
        match self.files.as_slice() {
            [file] if self.single_file => {
                info.put("attr", attributes(file).map(Value::from));
                info.put("length", Some(length(file).into()));
            }
            files => info.put("files", Some(list_of(files))),
        }
        info.put("name", Some(self.name.as_str().into()));
        info.put(
            "piece length",
            Some(Value::Int(i64::from(self.piece_length))),
        );
        let digests: Vec<u8> = self.piece_digests.iter().flat_map(|it| it.0).collect();
        info.put("pieces", Some(digests.into()));
        info.put("private", self.private.then_some(Value::Int(1)));
        info.put("source", text(&self.source));
        Value::Dict(info.0)
    }
}

/// A dictionary in the making.
#[derive(Default)]
struct Entries(BTreeMap<Vec<u8>, Value>);

impl Entries {
    fn put(&mut self, key: &str, value: Option<Value>) {
        self.0.extend(value.map(|value| (key.into(), value)));
    }
}

/// The list `files`, encoded as it goes: there may be a quarter of a million, and a tree of values for each
/// costs more than all else about it.
fn list_of(files: &[FileEntry]) -> Value {
    let mut out = vec![b'l'];
    for file in files {
        out.push(b'd');
        if let Some(letter) = attributes(file) {
            encode_string(b"attr", &mut out);
            encode_string(letter.as_bytes(), &mut out);
        }
        encode_string(b"length", &mut out);
        encode_int(length(file), &mut out);
        encode_string(b"path", &mut out);
        out.push(b'l');
        for element in file.path.split('/') {
            encode_string(element.as_bytes(), &mut out);
        }
        out.extend_from_slice(b"ee");
    }
    out.push(b'e');
    Value::Encoded(out)
}

fn attributes(file: &FileEntry) -> Option<&'static str> {
    let padding = file.padding.then_some("p");
    let executable = file.executable.then_some("x");
    padding.or(executable)
}

fn length(file: &FileEntry) -> i64 {
    // Above 2^63 the notation ends; nothing on a disk is as long.
    i64::try_from(file.length).unwrap_or(i64::MAX)
}

fn strings(texts: &[String]) -> Value {
    Value::list(texts.iter().map(String::as_str))
}

fn text(text: &Option<String>) -> Option<Value> {
    text.as_deref().map(Value::from)
}
