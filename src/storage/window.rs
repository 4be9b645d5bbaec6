//! A window: the map of a short run of one file, into which the kernel receives payload directly.
//!
//! ```text
//! let window = Window::open(&file, offset, length, &budget)?;   // budget, map, zeros, populate
//! window.receive(socket, offset, 16_384, &mut spill)?;          // one readv(2) into the map
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

use memmap2::{Advice, MmapOptions, MmapRaw};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The longest run one window maps, in bytes.
pub const WINDOW_LENGTH_MAX: usize = 512 * 1024;

/// What all windows of the process may map together, in bytes, whatever the number of peers: mapped
/// pages count as ours in the figures people look at.
pub const MAPPED_MAX: usize = 8 * 1024 * 1024;

/// How much may be mapped: one for the process, a clone for each thread that maps.
#[derive(Debug, Clone)]
pub struct MapBudget {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    left: AtomicUsize,
    refused: AtomicBool,
}

impl Default for MapBudget {
    fn default() -> MapBudget {
        MapBudget::new(MAPPED_MAX)
    }
}

impl MapBudget {
    /// A budget of so many bytes. With 0 nothing is ever mapped and all writes are positional.
    pub fn new(bytes: usize) -> MapBudget {
        MapBudget {
            shared: Arc::new(Shared {
                left: AtomicUsize::new(bytes),
                refused: AtomicBool::new(false),
            }),
        }
    }

    /// Whether the system has refused a map (ENODEV, EAGAIN, ENOMEM): from then on nobody tries again.
    /// Worth one warning.
    pub fn refused(&self) -> bool {
        self.shared.refused.load(Ordering::Relaxed)
    }

    pub(super) fn refuse(&self) {
        self.shared.refused.store(true, Ordering::Relaxed);
    }

    fn claim(&self, bytes: usize) -> Option<Claim> {
        self.shared
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(bytes)
            })
            .ok()?;
        Some(Claim {
            shared: Arc::clone(&self.shared),
            bytes,
        })
    }
}

/// A share of the budget, given back when dropped.
#[derive(Debug)]
struct Claim {
    shared: Arc<Shared>,
    bytes: usize,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.shared.left.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

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
    _claim: Claim,
}

impl Window {
    /// Maps `length` bytes of `file` from `start` on and makes sure that they are backed by the disk.
    /// Their content is lost.
    pub(super) fn open(
        file: &File,
        start: u64,
        length: usize,
        budget: &MapBudget,
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
        if let Err(error) = map.advise_range(Advice::PopulateWrite, 0, length) {
            match Errno::from_io_error(&error) {
                // Kernels before 5.14 do not know the advice: faults are taken one by one, inside `readv`.
                Some(Errno::INVAL) => {}
                Some(Errno::FAULT) => return Err(Unopened::Unbacked(error)),
                _ => return Err(Unopened::Refused),
            }
        }
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

    /// One `readv(2)`: at most `length` bytes to `offset` of the file, what follows them into `spill`.
    /// EFAULT says that the file's bytes are no longer backed; nothing was taken from the socket then.
    pub(super) fn receive(
        &self,
        socket: BorrowedFd<'_>,
        offset: u64,
        length: usize,
        spill: &mut [u8],
    ) -> io::Result<usize> {
        if !self.covers(offset, length) {
            return Err(io::Error::from(Errno::INVAL));
        }
        let from_start = (offset - self.start) as usize;
        // SAFETY: `covers` has shown that `from_start + length` is within the map.
        let target = unsafe { self.map.as_mut_ptr().add(from_start) };
        let parts = [
            libc::iovec {
                iov_base: target.cast(),
                iov_len: length,
            },
            libc::iovec {
                iov_base: spill.as_mut_ptr().cast(),
                iov_len: spill.len(),
            },
        ];
        // SAFETY: both parts are valid for writes of their length: the first by the check above, and
        // it is reached by the kernel only; the second is an exclusive borrow. Neither outlives the call.
        let got = unsafe { libc::readv(socket.as_raw_fd(), parts.as_ptr(), parts.len() as i32) };
        usize::try_from(got).map_err(|_| io::Error::last_os_error())
    }
}

/// One block of zeros, small enough to stay in the nearest cache while it is written many times.
static ZEROS: [u8; 16 * 1024] = [0; 16 * 1024];

/// Overwrites `length` bytes from `start` on with zeros, in as few calls as possible: the file system
/// makes folios and extents of the size of the write.
pub(super) fn write_zeros(file: &File, start: u64, length: usize) -> io::Result<()> {
    let (mut at, mut left) = (start, length);
    while left > 0 {
        let parts: [IoSlice<'_>; WINDOW_LENGTH_MAX / ZEROS.len()] = std::array::from_fn(|part| {
            let rest = left.saturating_sub(part * ZEROS.len());
            IoSlice::new(&ZEROS[..rest.min(ZEROS.len())])
        });
        let used = left.div_ceil(ZEROS.len()).min(parts.len());
        match rustix::io::pwritev(file, &parts[..used], at) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                at += written as u64;
                left -= written;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
