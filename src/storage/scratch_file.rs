//! For tests: a torrent of one file whose block places lie between canaries.

#![allow(clippy::unwrap_used)]

use super::lazy_file::{Access, LazyFile};
use super::places::{Place, Places};
use super::slot::{BlockSlot, ReadableBlock, SlotBook};
use crate::protocol::{Block, Geometry};
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What lies wherever nothing was written.
pub(crate) const CANARY: u8 = 0xc5;

/// A file with the torrent's bytes after `lead` bytes and before as many more.
pub(crate) struct ScratchFile {
    pub(crate) geometry: Geometry,
    pub(crate) book: SlotBook,
    pub(crate) path: PathBuf,
    lead: u64,
    file: Arc<LazyFile>,
    _folder: tempfile::TempDir,
}

impl ScratchFile {
    pub(crate) fn new(geometry: Geometry, lead: u64) -> ScratchFile {
        ScratchFile::below(&std::env::temp_dir(), geometry, lead)
    }

    pub(crate) fn below(folder: &Path, geometry: Geometry, lead: u64) -> ScratchFile {
        let folder = tempfile::tempdir_in(folder).unwrap();
        let path = folder.path().join("data");
        std::fs::write(&path, vec![CANARY; (2 * lead + geometry.total()) as usize]).unwrap();
        let root: Arc<Path> = folder.path().into();
        let file = Arc::new(LazyFile::new(root, path.clone(), Access::Write));
        ScratchFile {
            geometry,
            book: SlotBook::new(geometry),
            path,
            lead,
            file,
            _folder: folder,
        }
    }

    pub(crate) fn block(&self, piece: u32, number: usize) -> Block {
        let piece = self.geometry.piece(piece).unwrap();
        self.geometry.block(piece, number).unwrap()
    }

    pub(crate) fn file(&self) -> Arc<LazyFile> {
        Arc::clone(&self.file)
    }

    pub(crate) fn places(&self, block: Block) -> Places {
        Places::from(Place::File {
            file: Arc::clone(&self.file),
            offset: self.lead + self.geometry.block_start(block),
            length: block.length(),
        })
    }

    /// The block cut into three places, padding in the middle.
    pub(crate) fn places_with_padding(&self, block: Block, padding: u32) -> Places {
        let offset = self.lead + self.geometry.block_start(block);
        let first = 5;
        let part = |offset, length| Place::File {
            file: Arc::clone(&self.file),
            offset,
            length,
        };
        let after = first + padding;
        let places = [
            part(offset, first),
            Place::Padding { length: padding },
            part(offset + u64::from(after), block.length() - after),
        ];
        places.into_iter().collect()
    }

    pub(crate) fn slot(&mut self, block: Block) -> BlockSlot {
        let places = self.places(block);
        self.book.take(block, places).unwrap()
    }

    pub(crate) fn source(&self, block: Block) -> ReadableBlock {
        let places = self.places(block);
        ReadableBlock { block, places }
    }

    pub(crate) fn truncate(&self, length: u64) {
        let file = OpenOptions::new().write(true).open(&self.path).unwrap();
        file.set_len(length).unwrap();
    }

    /// What lies in the file now.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        std::fs::read(&self.path).unwrap()
    }

    /// What the file should hold if exactly these blocks were laid with [`payload`].
    pub(crate) fn expected(&self, laid: &[Block]) -> Vec<u8> {
        let mut bytes = vec![CANARY; (2 * self.lead + self.geometry.total()) as usize];
        for block in laid {
            let at = (self.lead + self.geometry.block_start(*block)) as usize;
            bytes[at..at + block.length() as usize].copy_from_slice(&payload(*block));
        }
        bytes
    }
}

/// Bytes that belong to this block and to no other.
pub(crate) fn payload(block: Block) -> Vec<u8> {
    let seed = (u64::from(block.piece().get()) << 32) | u64::from(block.begin());
    let mut dice = fastrand::Rng::with_seed(seed);
    (0..block.length()).map(|_| dice.u8(..)).collect()
}
