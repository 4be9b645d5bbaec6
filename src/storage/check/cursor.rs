//! Reads the bytes of a piece, over files and padding, as much at a time as there is room for.
//!
//! `create/hashing` goes through a piece, too, and on purpose not with this. Here files are those of a torrent:
//! runs of a layout, padding among them, opened as others keep them open, and one that is too short makes the
//! piece bad. There they are the author's: the whole of each in turn, behind whatever links, and one that is
//! shorter or otherwise than it was found ends the work with its name. One reader would need to be told how to
//! open, what an error means and what to do at the end of a file, and that is all that a reader does. What both
//! need is shared: [`will_read`].

use crate::storage::lazy_file::{LazyFile, Opened};
use crate::storage::places::Place;
use crate::storage::slot::{StorageError, StorageTrouble};
use rustix::fs::Advice;
use std::io;
use std::num::NonZeroU64;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

/// Why a piece could not be read to its end.
pub(super) enum Unread {
    /// The bytes are not there.
    Missing(StorageError),
    /// They cannot be had.
    Failed(StorageError),
}

/// Goes through the bytes of a piece with no more than one file open at a time, not counting those that
/// others keep open.
pub(super) struct Cursor<'a> {
    places: std::slice::Iter<'a, Place>,
    keep: bool,
    here: Here<'a>,
}

/// Where a cursor stands.
enum Here<'a> {
    /// Before the next place.
    Between,
    /// In padding, with so many bytes to go.
    Zeros(usize),
    /// In a file.
    File {
        file: &'a LazyFile,
        open: Opened<'a>,
        offset: u64,
        left: usize,
        /// The disk was told of bytes up to here.
        told: u64,
    },
}

impl<'a> Cursor<'a> {
    /// At the first byte of `places`. With `keep`, files stay open as long as their handles.
    pub(super) fn new(places: &'a [Place], keep: bool) -> Cursor<'a> {
        Cursor {
            places: places.iter(),
            keep,
            here: Here::Between,
        }
    }

    /// Reads the next bytes into `room`: all that fit, or all that are left.
    pub(super) fn fill(&mut self, room: &mut [u8]) -> Result<usize, Unread> {
        let mut filled = 0;
        while filled < room.len() {
            let room = &mut room[filled..];
            let (count, left) = match &mut self.here {
                Here::Between => match self.places.next() {
                    Some(place) => {
                        self.here = Here::at(place, self.keep)?;
                        continue;
                    }
                    None => break,
                },
                Here::Zeros(left) => {
                    let count = room.len().min(*left);
                    room[..count].fill(0);
                    *left -= count;
                    (count, *left)
                }
                Here::File {
                    file,
                    open,
                    offset,
                    left,
                    told,
                } => {
                    let most = room.len().min(*left);
                    if *told <= *offset && *left > most {
                        *told = will_read(&**open, *offset, *left as u64);
                    }
                    let count = read_some(file, open, &mut room[..most], *offset)?;
                    *offset += count as u64;
                    *left -= count;
                    (count, *left)
                }
            };
            filled += count;
            if left == 0 {
                self.here = Here::Between; // closes the file
            }
        }
        Ok(filled)
    }
}

impl<'a> Here<'a> {
    fn at(place: &'a Place, keep: bool) -> Result<Here<'a>, Unread> {
        match place {
            Place::Padding { length } => Ok(Here::Zeros(*length as usize)),
            Place::File {
                file,
                offset,
                length,
            } => {
                let open = if keep {
                    file.get().map(Opened::Kept)
                } else {
                    file.get_once()
                };
                Ok(Here::File {
                    file,
                    open: open.map_err(Unread::of)?,
                    offset: *offset,
                    left: *length as usize,
                    told: if keep { u64::MAX } else { 0 },
                })
            }
        }
    }
}

/// At least one byte at `offset`.
fn read_some(
    file: &LazyFile,
    open: &Opened,
    room: &mut [u8],
    offset: u64,
) -> Result<usize, Unread> {
    loop {
        match open.read_at(room, offset) {
            Ok(0) => {
                let end = io::ErrorKind::UnexpectedEof.into();
                let error = StorageError::from_io("read", file.path(), &end);
                return Err(Unread::Missing(error));
            }
            Ok(count) => return Ok(count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                let error = StorageError::from_io("read", file.path(), &error);
                return Err(Unread::Failed(error));
            }
        }
    }
}

/// How far ahead the disk is told what will be read, in bytes.
const AHEAD: u64 = 2 * 1024 * 1024;

/// The most that the kernel takes note of in one call may be less.
const TOLD_AT_ONCE: u64 = 256 * 1024;

/// Behind the first bytes of a file the kernel reads this far ahead without being told.
const SMALL: u64 = 64 * 1024;

/// Tells the disk which of the `left` bytes from `offset` on will be read soon, and returns the end of
/// what it was told of. Sixteen pieces that are read in turns, 32 KiB of each, look like reading here and
/// there, which the kernel does not read ahead for: a disk with a head would do nothing but move it.
pub(crate) fn will_read(file: impl AsFd, offset: u64, left: u64) -> u64 {
    let end = offset + AHEAD.min(left);
    if offset == 0 && left <= SMALL {
        return end;
    }
    for from in (offset..end).step_by(TOLD_AT_ONCE as usize) {
        let length = NonZeroU64::new(TOLD_AT_ONCE.min(end - from));
        // A file system that cannot read ahead says so, and is read all the same.
        let _ = rustix::fs::fadvise(&file, from, length, Advice::WillNeed);
    }
    end
}

impl Unread {
    fn of(error: StorageError) -> Unread {
        match error.kind {
            StorageTrouble::Vanished => Unread::Missing(error),
            _ => Unread::Failed(error),
        }
    }
}
