//! Which file holds which byte of a torrent.

use super::slot::StorageError;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// A file that is opened when it is first used, by whichever thread uses it first.
#[derive(Debug)]
pub struct LazyFile {
    path: PathBuf,
    writable: bool,
    file: OnceLock<Result<File, StorageError>>,
}

impl LazyFile {
    /// The open file, or why it cannot be opened (remembered: every user of this handle sees the same).
    pub fn get(&self) -> Result<&File, StorageError> {
        let _ = (self.writable, &self.file);
        todo!("the layout's author is at work")
    }

    /// Where it is, for errors.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// A run of bytes of a block.
#[derive(Debug, Clone)]
pub enum Place {
    /// In a file.
    File {
        /// Which.
        file: Arc<LazyFile>,
        /// The first byte's offset in the file.
        offset: u64,
        /// How many bytes; at least 1.
        length: u32,
    },
    /// In a padding file (BEP 47): zeros that are never on disk. What arrives for it is thrown away.
    Padding {
        /// How many bytes; at least 1.
        length: u32,
    },
}
