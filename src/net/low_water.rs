//! How much must have come before a peer's thread is woken for it.
//!
//! ```text
//! low_water.set(socket, landing.waiting(), now);     // before each wait, which ends at low_water.next()
//! low_water.heard();                                 // bytes have come
//! ```
//!
//! A thread that is woken for each packet of a fast line pays for waking, for a short read and for an acknowledgement
//! each time. While many blocks are due the kernel waits for a sixteenth of them, some 30 ms of the half second that
//! they are worth. It says so at once when the stream ends. What comes without filling that up, a choke behind the last
//! block perhaps, is looked at by the clock.
#![allow(unsafe_code)]

use crate::protocol::geometry::BLOCK_LENGTH;
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

/// The most blocks to wait for together: half of what one call takes.
const BLOCKS_MAX: usize = 16;

/// The part of what is due that is waited for.
const PART: usize = 16;

/// How long bytes may lie unread because they are few.
const PATIENCE: Duration = Duration::from_millis(50);

/// The low-water mark of one socket.
#[derive(Debug, Default)]
pub(super) struct LowWater {
    /// Blocks waited for, as the socket was told; 0 is any byte.
    mark: usize,
    /// When waiting for them has lasted long enough.
    until: Option<Instant>,
}

impl LowWater {
    /// `due` blocks are asked for and have not begun to come.
    pub(super) fn set(&mut self, socket: &TcpStream, due: usize, now: Instant) {
        let patient = self.until.is_none_or(|until| now < until);
        let mark = if patient { mark(due) } else { 0 };
        if mark > 0 {
            self.until.get_or_insert(now + PATIENCE);
        }
        if mark != self.mark && tell(socket, mark) {
            self.mark = mark;
        }
    }

    /// When to wait for any byte instead.
    pub(super) fn next(&self) -> Option<Instant> {
        self.until.filter(|_| self.mark > 0)
    }

    /// Bytes have come.
    pub(super) fn heard(&mut self) {
        self.until = None;
    }
}

/// The mark for so many blocks: a power of two, so that it seldom changes.
fn mark(due: usize) -> usize {
    match due / PART {
        0 => 0,
        part => 1 << part.min(BLOCKS_MAX).ilog2(),
    }
}

/// Whether the kernel took it. One that does not wakes us for each packet, as before.
fn tell(socket: &TcpStream, mark: usize) -> bool {
    let bytes = (mark * BLOCK_LENGTH as usize).max(1) as libc::c_int;
    let length = size_of_val(&bytes) as libc::socklen_t;
    let (level, option) = (libc::SOL_SOCKET, libc::SO_RCVLOWAT);
    // SAFETY: the value is an integer that outlives the call, as long as is said; the socket is open.
    let told = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const bytes).cast(),
            length,
        )
    };
    told == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::greeting::wait;
    use rustix::event::{PollFd, PollFlags};
    use std::io::Write;
    use std::net::TcpListener;

    #[test]
    fn few_blocks_are_not_waited_for_and_many_by_powers_of_two() {
        let due = [0, 15, 16, 31, 32, 63, 64, 127, 128, 255, 256, 4_096];
        assert_eq!(due.map(mark), [0, 0, 1, 1, 2, 2, 4, 4, 8, 8, 16, 16]);
    }

    #[test]
    fn a_socket_is_readable_when_all_that_is_waited_for_has_come_or_patience_is_over() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut other = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let socket = listener.accept().unwrap().0;
        let readable = |by: Option<Instant>| {
            let mut waiting = [PollFd::new(&socket, PollFlags::IN)];
            wait(&mut waiting, by).unwrap();
            !waiting[0].revents().is_empty()
        };
        let part = [0; 2 * BLOCK_LENGTH as usize];
        let (mut low_water, now) = (LowWater::default(), Instant::now());
        low_water.set(&socket, 64, now);
        assert_eq!(low_water.next(), Some(now + PATIENCE));
        other.write_all(&part).unwrap();
        assert!(!readable(Some(now)));
        other.write_all(&part).unwrap();
        assert!(readable(None));
        // More than has come, and for too long.
        low_water.set(&socket, 256, now);
        assert!(!readable(Some(now)));
        low_water.set(&socket, 256, now + PATIENCE);
        assert_eq!(low_water.next(), None);
        assert!(readable(None));
        low_water.heard();
        low_water.set(&socket, 256, now + PATIENCE);
        assert_eq!(low_water.next(), Some(now + 2 * PATIENCE));
    }
}
