//! Small torrents and their files, made by tests.

#![allow(clippy::unwrap_used)]

use super::layout::Layout;
use crate::protocol::metainfo::{FileEntry, Metainfo};
use crate::protocol::{Digest, Geometry, InfoHash};
use std::path::Path;
use std::sync::Arc;

/// Somebody who publishes files.
pub(crate) struct Author {
    name: String,
    piece_length: u32,
    single_file: bool,
    files: Vec<FileEntry>,
    pub(crate) bytes: Vec<u8>,
}

impl Author {
    /// A folder called `name` without files yet.
    pub(crate) fn new(name: &str, piece_length: u32) -> Author {
        Author {
            name: name.to_owned(),
            piece_length,
            single_file: false,
            files: Vec::new(),
            bytes: Vec::new(),
        }
    }

    /// A single file of `length` bytes without a pattern.
    pub(crate) fn single(name: &str, piece_length: u32, length: usize) -> Author {
        let mut author = Author::new(name, piece_length);
        author.single_file = true;
        author.file(name, &noise(length));
        author
    }

    pub(crate) fn file(&mut self, path: &str, bytes: &[u8]) -> &mut FileEntry {
        self.bytes.extend(bytes);
        self.files.push(FileEntry::plain(path, bytes.len() as u64));
        self.files.last_mut().unwrap()
    }

    pub(crate) fn padding(&mut self, length: usize) {
        self.file(".pad/0", &vec![0; length]).padding = true;
    }

    pub(crate) fn metainfo(&self) -> Metainfo {
        let digests: Vec<_> = self.bytes.chunks(self.piece_length as usize).collect();
        let digests: Arc<[Digest]> = digests.into_iter().map(Digest::of).collect();
        let all: Vec<u8> = digests.iter().flat_map(|digest| digest.0).collect();
        Metainfo {
            info_hash: InfoHash(Digest::of(&[self.name.as_bytes(), &all].concat()).0),
            info_hash_v2: None,
            info: 0..0,
            name: self.name.clone(),
            raw_name: None,
            geometry: Geometry::new(self.bytes.len() as u64, self.piece_length).unwrap(),
            piece_digests: digests,
            single_file: self.single_file,
            files: self.files.clone(),
            private: false,
            trackers: Vec::new(),
            unusable_trackers: Vec::new(),
            webseeds: Vec::new(),
            nodes: Vec::new(),
            comment: None,
            created_by: None,
            creation_date: None,
            source: None,
            oddities: Vec::new(),
            renamed: None,
        }
    }

    pub(crate) fn layout(&self, folder: &Path) -> Arc<Layout> {
        Arc::new(Layout::new(&self.metainfo(), folder))
    }

    /// The bytes of each file.
    pub(crate) fn contents(&self) -> Vec<&[u8]> {
        let mut rest = &self.bytes[..];
        let mut contents = Vec::new();
        for file in &self.files {
            let (now, later) = rest.split_at(file.length as usize);
            contents.push(now);
            rest = later;
        }
        contents
    }

    /// Writes every file below `folder`.
    pub(crate) fn publish(&self, folder: &Path) {
        let layout = self.layout(folder);
        for (file, bytes) in layout.files().iter().zip(self.contents()) {
            if !file.padding {
                std::fs::create_dir_all(file.path.parent().unwrap()).unwrap();
                std::fs::write(&file.path, bytes).unwrap();
            }
        }
    }
}

/// Bytes without a pattern, the same each time.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut dice = fastrand::Rng::with_seed(length as u64 + 1);
    let mut bytes = vec![0; length];
    dice.fill(&mut bytes);
    bytes
}
