//! Files that were hashed a moment ago, by whoever made the torrent of them: where they are, and how
//! they were then.
//!
//! ```text
//! let hashed = creation.hashed()?;                                  // before the last look at them
//! let layout = Layout::new(&metainfo, folder).of_hashed(hashed);    // nothing is read twice
//! ```
//!
//! This takes the place of a record of work, and nothing is written. It is worth what a record is: a
//! file that is not as it was is hashed again.

use super::facts::FileFacts;
use super::layout::Layout;
use super::record::{Claim, Record};
use crate::protocol::bitfield::Bitfield;
use std::path::PathBuf;

/// A file that was hashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HashedFile {
    /// Where it is, without symbolic links: they were followed to find it.
    pub path: PathBuf,
    /// How it was before and after it was read.
    pub facts: FileFacts,
}

/// All files of a torrent, in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hashed(pub Vec<HashedFile>);

impl Hashed {
    /// The record that these files are worth.
    pub(super) fn record(&self, layout: &Layout) -> Record<'static> {
        let geometry = *layout.geometry();
        let mut have = Bitfield::new(&geometry);
        geometry.all_pieces().for_each(|piece| {
            have.set(piece);
        });
        Record {
            info_hash: layout.info_hash(),
            geometry,
            claim: Claim {
                have,
                clean: true,
                ..Claim::nothing(&geometry)
            },
            files: self.0.iter().map(|file| Some(file.facts)).collect(),
            part: None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::storage::survey::{self, Found, SurveyRules};
    use crate::storage::test_torrent::Author;
    use std::sync::Arc;

    const SEED: SurveyRules = SurveyRules {
        writable: false,
        check: false,
        overwrite: false,
    };

    #[test]
    fn files_that_are_as_they_were_are_believed_and_others_hashed() {
        let folder = tempfile::tempdir().unwrap();
        let [first, second] = ["a", "b"].map(|name| folder.path().join(name));
        let mut author = Author::new("album", 16 * 1024);
        for (number, path) in [&first, &second].into_iter().enumerate() {
            let bytes = vec![number as u8 + 1; 3 * 16 * 1024];
            author.file(&format!("elsewhere/{number}"), &bytes);
            std::fs::write(path, &bytes).unwrap();
        }
        let files = [&first, &second].map(|path| {
            let stat = rustix::fs::stat(path).unwrap();
            HashedFile {
                path: path.clone(),
                facts: FileFacts::from(&stat),
            }
        });
        let hashed = Arc::new(Hashed(files.into()));
        let nowhere = folder.path().join("nowhere");
        let layout = Layout::new(&author.metainfo(), &nowhere).of_hashed(hashed.clone());
        let layout = Arc::new(layout);
        let look = || {
            let found = survey::look(&layout);
            assert!(found.iter().all(|it| matches!(it, Found::File(_))));
            let record = layout.hashed().map(|it| it.record(&layout));
            survey::judge(&layout, &found, record, SEED).unwrap()
        };
        let all = look();
        assert_eq!((all.trusted.count(), all.unsure.count()), (6, 0));
        let file = std::fs::File::options().write(true).open(&second).unwrap();
        let long_ago = std::time::SystemTime::UNIX_EPOCH;
        file.set_modified(long_ago).unwrap();
        let some = look();
        assert_eq!((some.trusted.count(), some.unsure.count()), (3, 3));
    }

    #[test]
    fn a_list_of_another_length_is_worth_nothing() {
        let author = Author::single("book", 16 * 1024, 5);
        let layout = Layout::new(&author.metainfo(), std::path::Path::new("."));
        let before = layout.files().to_vec();
        let layout = layout.of_hashed(Arc::new(Hashed(Vec::new())));
        assert!(layout.hashed().is_none());
        assert_eq!(layout.files(), before);
    }
}
