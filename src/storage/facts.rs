//! By what a file on disk is known again.
//!
//! ```text
//! let facts = FileFacts::from(&stat);       // or of `std::fs::Metadata`
//! ```

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

/// A time of a file: seconds since 1970, and nanoseconds.
pub type FileTime = (i64, u32);

/// How a file was when it was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileFacts {
    /// Bytes.
    pub length: u64,
    /// The device it is on.
    pub device: u64,
    /// Its number on that device.
    pub inode: u64,
    /// When it was last written to. Anybody can set it to anything.
    pub modified: FileTime,
    /// When anything of it last changed, its name and its times included. Nobody can set it.
    pub changed: FileTime,
}

impl From<&Metadata> for FileFacts {
    fn from(found: &Metadata) -> FileFacts {
        FileFacts {
            length: found.len(),
            device: found.dev(),
            inode: found.ino(),
            modified: (found.mtime(), found.mtime_nsec() as u32),
            changed: (found.ctime(), found.ctime_nsec() as u32),
        }
    }
}

impl From<&rustix::fs::Stat> for FileFacts {
    fn from(stat: &rustix::fs::Stat) -> FileFacts {
        // The fields' types differ between machines; nothing is lost in a u64.
        #[allow(clippy::unnecessary_cast)]
        FileFacts {
            length: stat.st_size as u64,
            device: stat.st_dev as u64,
            inode: stat.st_ino as u64,
            modified: (stat.st_mtime as i64, stat.st_mtime_nsec as u32),
            changed: (stat.st_ctime as i64, stat.st_ctime_nsec as u32),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn std_and_the_system_call_say_the_same_of_a_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "bytes").unwrap();
        let stat = rustix::fs::stat(file.path()).unwrap();
        let facts = FileFacts::from(&std::fs::metadata(file.path()).unwrap());
        assert_eq!(facts, FileFacts::from(&stat));
        assert_eq!(facts.length, 5);
    }
}
