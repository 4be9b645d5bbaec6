//! A window: the map of a short run of one file, into which the kernel receives payload directly.
//!
//! ```text
//! let window = Window::open(&file, offset, length, &budget)?;          // budget, map, zeros, populate
//! window.receive(socket, &mut parts)?;                          // one readv(2) into the map
//! drop(window);                                                 // unmap, budget given back
//! ```
//!
//! # Why this is sound
//!
//! * No Rust reference to a mapped byte is ever made, and no instruction of this program loads from
//!   or stores to one. [`memmap2::MmapRaw`] hands out a raw pointer; the only thing done with it is
//!   an addition inside the bounds of the map, checked before, and passing it to `readv(2)`. So it
//!   does not matter to the language who else changes these bytes: other windows over the same page,
//!   positional writes, other processes.
//! * The pointer lives as long as the map: it is used inside a method that borrows the window.
//! * A page that cannot be had (disk full, file cut short, medium gone) would be a SIGBUS for an
//!   instruction; for the kernel's copy it is EFAULT, an error like any other, and the bytes stay in
//!   the socket.
//!
//! # Why zeros come first
//!
//! A hole touched through a map is filled page by page at great cost on some file systems, and a
//! disk that is full shows only as EFAULT. Zeros written through the file over exactly the slots of
//! the window let the file system allocate as for any write, and report a full disk as ENOSPC.
//! They never reach beyond the slots: the bytes beside them may be blocks that are laid.
#![allow(unsafe_code)]

use super::budget::{BudgetShare, LandingBudget};
use memmap2::{Advice, MmapOptions, MmapRaw};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd};

/// The longest run one window maps, in bytes.
pub const WINDOW_LENGTH_MAX: usize = 512 * 1024;

/// Why there is no window. After each but `Unbacked` the positional store serves as well.
#[derive(Debug)]
pub(super) enum Unopened {
    /// The budget is spent for the moment.
    NoBudget,
    /// The system maps no file here, or no more memory.
    Refused,
    /// The file's bytes cannot be had: the disk is full, the file is gone, the medium broken.
    Unbacked(io::Error),
}

/// A mapped run of a file. See the module's head.
#[derive(Debug)]
pub(super) struct Window {
    map: MmapRaw,
    start: u64,
    // Dropped after the map: fields drop in order.
    _claim: BudgetShare,
}

impl Window {
    /// Maps `length` bytes of `file` from `start` on and makes sure that they are backed by the disk.
    /// Their content is lost.
    pub(super) fn open(
        file: &File,
        start: u64,
        length: usize,
        budget: &LandingBudget,
    ) -> Result<Window, Unopened> {
        let page = rustix::param::page_size();
        let lead = (start % page as u64) as usize;
        let claim = budget
            .claim((lead + length).next_multiple_of(page))
            .ok_or(Unopened::NoBudget)?;
        let map = MmapOptions::new()
            .offset(start)
            .len(length)
            .map_raw(file)
            .map_err(|_| Unopened::Refused)?;
        write_zeros(file, start, length).map_err(Unopened::Unbacked)?;
        // Only ever a saving, on kernels that know it (5.14): one walk instead of a fault a page. Whatever
        // it says, `readv` has the last word.
        let _ = map.advise_range(Advice::PopulateWrite, 0, length);
        Ok(Window {
            map,
            start,
            _claim: claim,
        })
    }

    /// Whether `length` bytes from `offset` of the file on lie inside.
    pub(super) fn covers(&self, offset: u64, length: usize) -> bool {
        offset >= self.start && offset + length as u64 <= self.start + self.map.len() as u64
    }

    /// One `readv(2)` over `parts`, in their order; at most [`PARTS_MAX`] of them. EFAULT says that the
    /// file's bytes are no longer backed; what had no place stays in the socket then.
    pub(super) fn receive(
        &self,
        socket: BorrowedFd<'_>,
        parts: &mut [Part<'_>],
    ) -> io::Result<usize> {
        let mut vector = [const { NOWHERE }; PARTS_MAX];
        if parts.len() > PARTS_MAX {
            return Err(io::Error::from(Errno::INVAL));
        }
        for (entry, part) in vector.iter_mut().zip(parts.iter_mut()) {
            *entry = match part {
                Part::Mapped { offset, length } => {
                    if !self.covers(*offset, *length) {
                        return Err(io::Error::from(Errno::INVAL));
                    }
                    let from_start = (*offset - self.start) as usize;
                    // SAFETY: `covers` has shown that `from_start + length` is within the map.
                    let target = unsafe { self.map.as_mut_ptr().add(from_start) };
                    libc::iovec {
                        iov_base: target.cast(),
                        iov_len: *length,
                    }
                }
                Part::Memory(memory) => libc::iovec {
                    iov_base: memory.as_mut_ptr().cast(),
                    iov_len: memory.len(),
                },
            };
        }
        // SAFETY: each entry is valid for writes of its length: a mapped one by the check above, and it is
        // reached by the kernel only; the others are exclusive borrows. None outlives the call.
        let got = unsafe { libc::readv(socket.as_raw_fd(), vector.as_ptr(), parts.len() as i32) };
        usize::try_from(got).map_err(|_| io::Error::last_os_error())
    }
}

/// Where a part of what comes is to go.
#[derive(Debug)]
pub(super) enum Part<'a> {
    /// So many bytes to this offset of the file, through the map.
    Mapped {
        /// From the start of the file, in bytes.
        offset: u64,
        /// In bytes.
        length: usize,
    },
    /// Into memory of ours.
    Memory(&'a mut [u8]),
}

/// The most parts of one call.
pub(super) const PARTS_MAX: usize = 64;

const NOWHERE: libc::iovec = libc::iovec {
    iov_base: std::ptr::null_mut(),
    iov_len: 0,
};

/// One block of zeros, small enough to stay in the nearest cache while it is written many times.
static ZEROS: [u8; 16 * 1024] = [0; 16 * 1024];

/// How many times [`ZEROS`] goes into one call: 32 KiB. File systems with large folios (ext4, xfs) make them
/// as long as the write, and do once for a folio what they did for each page. 32 KiB is the largest block in
/// the kernel's per-CPU free lists. Larger folios come from memory a VM may have returned to its host, which
/// is slow to touch again (docs/measured/zeros-and-windows.md has what each length costs).
const TIMES: usize = 2;

/// Overwrites `length` bytes from `start` on with zeros.
pub(super) fn write_zeros(file: &File, start: u64, length: usize) -> io::Result<()> {
    let end = start + length as u64;
    let mut at = start;
    while at < end {
        let mut left = end - at;
        let parts: [IoSlice<'_>; TIMES] = std::array::from_fn(|_| {
            let part = left.min(ZEROS.len() as u64);
            left -= part;
            IoSlice::new(&ZEROS[..part as usize])
        });
        match rustix::io::pwritev(file, &parts, at) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => at += written as u64,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::os::unix::fs::FileExt;
    use std::os::unix::net::UnixStream;

    fn file(length: usize) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![0xc5; length]).unwrap();
        file
    }

    #[test]
    fn nothing_outside_the_window_can_be_received_into() {
        let file = file(100_000);
        let window = Window::open(&file, 5000, 20_000, &LandingBudget::default()).unwrap();
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(&[1; 100]).unwrap();
        for (offset, length) in [(4999, 10), (24_999, 2), (0, 1), (25_000, 1)] {
            let refused = window.receive(ours.as_fd(), &mut [Part::Mapped { offset, length }]);
            assert!(refused.is_err(), "{offset}+{length} was not refused");
        }
        let last = Part::Mapped {
            offset: 24_999,
            length: 1,
        };
        assert_eq!(window.receive(ours.as_fd(), &mut [last]).unwrap(), 1);
    }

    #[test]
    fn the_zeros_of_a_window_reach_exactly_as_far_as_it_does() {
        let file = file(100_000);
        drop(Window::open(&file, 5000, 20_001, &LandingBudget::default()).unwrap());
        let mut bytes = vec![0; 100_000];
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert!(bytes[..5000].iter().all(|byte| *byte == 0xc5));
        assert!(bytes[5000..25_001].iter().all(|byte| *byte == 0));
        assert!(bytes[25_001..].iter().all(|byte| *byte == 0xc5));
    }

    #[test]
    fn long_runs_are_zeroed_to_the_last_byte() {
        let file = file(0);
        write_zeros(&file, 10, 2 * WINDOW_LENGTH_MAX + 5).unwrap();
        assert_eq!(
            file.metadata().unwrap().len(),
            10 + 2 * WINDOW_LENGTH_MAX as u64 + 5
        );
    }

    #[test]
    fn a_budget_that_is_spent_opens_no_window_until_one_is_closed() {
        let file = file(100_000);
        let budget = LandingBudget::new(32 * 1024, 0);
        let first = Window::open(&file, 0, 20_000, &budget).unwrap();
        let second = Window::open(&file, 40_960, 20_000, &budget);
        assert!(matches!(second, Err(Unopened::NoBudget)));
        drop(first);
        assert!(Window::open(&file, 40_960, 20_000, &budget).is_ok());
    }

    #[test]
    fn a_file_that_cannot_be_mapped_is_refused_and_not_broken() {
        let null = File::options()
            .read(true)
            .write(true)
            .open("/dev/null")
            .unwrap();
        let window = Window::open(&null, 0, 4096, &LandingBudget::default());
        assert!(matches!(window, Err(Unopened::Refused)), "{window:?}");
    }

    #[test]
    fn a_file_cut_short_answers_with_an_error_and_keeps_the_bytes_in_the_socket() {
        let file = file(100_000);
        let window = Window::open(&file, 50_000, 20_000, &LandingBudget::default()).unwrap();
        file.set_len(10).unwrap();
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(&[1; 100]).unwrap();
        let error = window
            .receive(
                ours.as_fd(),
                &mut [Part::Mapped {
                    offset: 60_000,
                    length: 100,
                }],
            )
            .unwrap_err();
        assert_eq!(Errno::from_io_error(&error), Some(Errno::FAULT));
        let mut kept = [0; 100];
        assert_eq!(rustix::io::read(&ours, &mut kept).unwrap(), 100);
    }
}
