//! The windows one thread has open: which run of slots becomes one, and when it is closed.
//!
//! ```text
//! let window = windows.cover(&slot, &waiting, fresh, now)?;   // None: positional store
//! windows.leave(&slot);                                       // the last one closes it
//! ```

use super::budget::LandingBudget;
use super::lazy_file::LazyFile;
use super::places::Place;
use super::positional::{still_there, why_unbacked};
use super::reach::{RAMFS, TMPFS, is_plain};
use super::slot::{BlockSlot, StorageError};
use super::window::{Unopened, WINDOW_LENGTH_MAX, Window};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Windows one thread keeps open: answers come in the order of the requests from nearly everybody.
const WINDOWS_MAX: usize = 4;

/// How long a window may lie unused before it is unmapped.
pub const WINDOW_IDLE: Duration = Duration::from_secs(1);

/// The open windows of one thread.
#[derive(Debug)]
pub(super) struct Windows {
    budget: LandingBudget,
    pub(super) open: Vec<Prepared>,
    /// The file system looked at last, and whether its files are mapped.
    device: Option<(u64, bool)>,
}

/// A window and the offsets of those of its slots that wait for their first byte or are under way.
#[derive(Debug)]
pub(super) struct Prepared {
    window: Window,
    file: Arc<LazyFile>,
    pub(super) waiting: Vec<u64>,
    used: Instant,
}

impl Prepared {
    fn holds(&self, file: &Arc<LazyFile>, offset: u64) -> bool {
        Arc::ptr_eq(&self.file, file) && self.waiting.contains(&offset)
    }
}

impl Windows {
    pub(super) fn new(budget: LandingBudget) -> Windows {
        Windows {
            budget,
            open: Vec::new(),
            device: None,
        }
    }

    /// The window that covers `slot`, opened now if the slot is `fresh`: no byte of it has come. `None`: the
    /// positional store has to serve. `held` are the slots no byte has come for either; they must not
    /// contain `slot`.
    pub(super) fn cover(
        &mut self,
        slot: &BlockSlot,
        held: &VecDeque<BlockSlot>,
        fresh: bool,
        now: Instant,
    ) -> Result<Option<&Window>, StorageError> {
        let Some((file, offset, _)) = in_one_file(slot) else {
            return Ok(None);
        };
        let known = self
            .open
            .iter()
            .position(|prepared| prepared.holds(file, offset));
        let at = match known {
            None if fresh => self.open_window(slot, held, now)?,
            known => known,
        };
        Ok(at.map(|at| {
            let prepared = &mut self.open[at];
            prepared.used = now;
            &prepared.window
        }))
    }

    /// Whether files are mapped where one was looked at last: what has no window is an exception.
    pub(super) fn are_usual(&self) -> bool {
        self.device.is_some_and(|(_, mapped)| mapped) && !self.budget.maps_refused()
    }

    /// The slot needs its window no longer; the last one to leave closes it.
    pub(super) fn leave(&mut self, slot: &BlockSlot) {
        let Some((file, offset, _)) = in_one_file(slot) else {
            return;
        };
        self.open.retain_mut(|prepared| {
            if Arc::ptr_eq(&prepared.file, file) {
                prepared.waiting.retain(|waiting| *waiting != offset);
            }
            !prepared.waiting.is_empty()
        });
    }

    /// Closes all of them.
    pub(super) fn clear(&mut self) {
        self.open = Vec::new();
    }

    /// When [`Windows::rest`] has something to do.
    pub(super) fn rest_at(&self) -> Option<Instant> {
        let oldest = self.open.iter().map(|prepared| prepared.used).min();
        oldest.map(|used| used + WINDOW_IDLE)
    }

    /// Closes those that lay unused for [`WINDOW_IDLE`].
    pub(super) fn rest(&mut self, now: Instant) {
        self.open
            .retain(|prepared| now < prepared.used + WINDOW_IDLE);
    }

    fn open_window(
        &mut self,
        slot: &BlockSlot,
        held: &VecDeque<BlockSlot>,
        now: Instant,
    ) -> Result<Option<usize>, StorageError> {
        let Some((file, offset, length)) = in_one_file(slot) else {
            return Ok(None);
        };
        if self.budget.maps_refused() {
            return Ok(None);
        }
        let open = file.get()?;
        let device = still_there(file, open, offset + u64::from(length), "write")?;
        if !self.is_mapped(device, open) {
            return Ok(None);
        }
        let run = self.run(slot, held, file, offset, length);
        let (start, end) = (run[0].0, run[run.len() - 1].1);
        still_there(file, open, end, "write")?;
        if self.open.len() >= WINDOWS_MAX {
            let used = |(_, prepared): &(usize, &Prepared)| prepared.used;
            if let Some((oldest, _)) = self.open.iter().enumerate().min_by_key(used) {
                self.open.swap_remove(oldest);
            }
        }
        match Window::open(open, start, (end - start) as usize, &self.budget) {
            Ok(window) => {
                self.open.push(Prepared {
                    window,
                    file: Arc::clone(file),
                    waiting: run.iter().map(|(start, _)| *start).collect(),
                    used: now,
                });
                Ok(Some(self.open.len() - 1))
            }
            Err(Unopened::NoBudget) => Ok(None),
            Err(Unopened::Refused) => {
                self.budget.refuse_maps();
                Ok(None)
            }
            Err(Unopened::Unbacked(error)) => Err(match Errno::from_io_error(&error) {
                Some(Errno::FAULT) => why_unbacked(file, start, (end - start) as usize),
                _ => StorageError::from_io("write", file.path(), &error),
            }),
        }
    }

    /// The longest run of adjacent slots held here around `slot`, as offsets in the file: same piece,
    /// same file, and none of them in a window already.
    fn run(
        &self,
        slot: &BlockSlot,
        held: &VecDeque<BlockSlot>,
        file: &Arc<LazyFile>,
        offset: u64,
        length: u32,
    ) -> Vec<(u64, u64)> {
        let piece = slot.block().piece();
        let candidate = |other: &BlockSlot| {
            let (its, offset, length) = in_one_file(other)?;
            let same = other.block().piece() == piece && Arc::ptr_eq(its, file);
            let taken = || {
                self.open
                    .iter()
                    .any(|prepared| prepared.holds(file, offset))
            };
            (same && !taken()).then(|| (offset, offset + u64::from(length)))
        };
        let mut all: Vec<(u64, u64)> = held.iter().filter_map(candidate).collect();
        let own = (offset, offset + u64::from(length));
        all.push(own);
        all.sort_unstable();
        let at = all.partition_point(|other| other.0 < offset);
        let (mut first, mut last) = (at, at);
        let fits =
            |first: usize, last: usize| all[last].1 - all[first].0 <= WINDOW_LENGTH_MAX as u64;
        while last + 1 < all.len() && all[last].1 == all[last + 1].0 && fits(first, last + 1) {
            last += 1;
        }
        while first > 0 && all[first - 1].1 == all[first].0 && fits(first - 1, last) {
            first -= 1;
        }
        all.truncate(last + 1);
        all.drain(..first);
        all
    }

    fn is_mapped(&mut self, device: u64, file: &File) -> bool {
        if let Some((known, mapped)) = self.device
            && known == device
        {
            return mapped;
        }
        let system = rustix::fs::fstatfs(file);
        let mapped = system.is_ok_and(|system| is_worth_mapping(system.f_type as u32));
        self.device = Some((device, mapped));
        mapped
    }
}

/// Where the block lies, if it lies in one file.
pub(super) fn in_one_file(slot: &BlockSlot) -> Option<(&Arc<LazyFile>, u64, u32)> {
    match slot.places() {
        [
            Place::File {
                file,
                offset,
                length,
            },
        ] => Some((file, *offset, *length)),
        _ => None,
    }
}

/// Where shared maps are the page cache itself, and not dearer than a copy: of files in memory, a page is mapped at
/// more cost than it is written to.
fn is_worth_mapping(magic: u32) -> bool {
    is_plain(magic) && ![TMPFS, RAMFS].contains(&magic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_in_memory_and_on_other_machines_are_not_mapped() {
        const EXT4: u32 = 0xef53;
        const NFS: u32 = 0x6969;
        assert!(is_worth_mapping(EXT4));
        assert!(!is_worth_mapping(TMPFS));
        assert!(!is_worth_mapping(RAMFS));
        assert!(!is_worth_mapping(NFS));
    }
}
