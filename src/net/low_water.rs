//! How much must have come before a peer's thread is woken for it.
//!
//! ```text
//! low_water.set(socket, landing.due(), now);         // before each wait, which ends at low_water.next()
//! low_water.heard(bytes, now);                       // after each read; then the next one is worth waiting for
//! ```
//!
//! A thread that is woken for each packet of a fast line pays for waking, for a short read and for an acknowledgement
//! each time. While much is due the kernel waits for a sixteenth of it or somewhat less (`SO_RCVLOWAT`), some 30 ms of
//! the half second that it is worth. The end of the stream wakes the thread at once. What comes without filling that
//! up, a choke behind the last block perhaps, is looked for after 50 ms, and if nothing is there, the next byte wakes
//! again.
#![allow(unsafe_code)]

use crate::protocol::geometry::BLOCK_LENGTH;
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

/// The least to wait for: a block. Nothing can be done with less.
const BYTES_MIN: usize = BLOCK_LENGTH as usize;

/// The most to wait for: half of what one call takes.
const BYTES_MAX: usize = 16 * BYTES_MIN;

/// The part of what is due that is waited for.
const PART: usize = 16;

/// How long bytes may lie unread because they are few.
const PATIENCE: Duration = Duration::from_millis(50);

/// The low-water mark of one socket.
#[derive(Debug, Default)]
pub(super) struct LowWater {
    /// Bytes waited for, as the socket was told; 0 is any byte.
    mark: usize,
    /// When waiting for them has lasted long enough.
    until: Option<Instant>,
    /// Bytes that have to come first, after a wait in vain: who sends little and seldom is not waited for twice.
    lull: usize,
    /// The system does not take a mark.
    refused: bool,
}

impl LowWater {
    /// `due` bytes are asked for and have not begun to come.
    pub(super) fn set(&mut self, socket: &TcpStream, due: usize, now: Instant) {
        let mark = match self.lull > 0 || self.refused {
            true => 0,
            false => mark(due),
        };
        if mark != self.mark {
            match tell(socket, mark) {
                true => self.mark = mark,
                false => self.refused = true,
            }
        }
        if self.mark == 0 {
            self.until = None;
        } else {
            self.until.get_or_insert(now + PATIENCE);
        }
    }

    /// When to read whatever is there.
    pub(super) fn next(&self) -> Option<Instant> {
        self.until
    }

    /// Whether bytes may be there of which the socket does not tell.
    pub(super) fn is_raised(&self) -> bool {
        self.mark > 0
    }

    /// So many bytes were there.
    pub(super) fn heard(&mut self, bytes: usize, now: Instant) {
        let over = self.until.is_some_and(|until| now >= until);
        if bytes == 0 && over {
            self.lull = BYTES_MIN;
        }
        self.lull = self.lull.saturating_sub(bytes);
        if bytes > 0 || over {
            self.until = None;
        }
    }
}

/// The mark where so much is due: a power of two, so that it seldom changes.
fn mark(due: usize) -> usize {
    match due / PART {
        ..BYTES_MIN => 0,
        part => 1 << part.min(BYTES_MAX).ilog2(),
    }
}

/// Whether the kernel took it.
fn tell(socket: &TcpStream, mark: usize) -> bool {
    let bytes = mark.max(1) as libc::c_int;
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

/// The mark of a socket, 1 for any byte.
#[cfg(test)]
pub(super) fn mark_of(socket: &TcpStream) -> usize {
    let mut bytes: libc::c_int = 0;
    let mut length = size_of_val(&bytes) as libc::socklen_t;
    let (level, option) = (libc::SOL_SOCKET, libc::SO_RCVLOWAT);
    // SAFETY: both are integers that outlive the call, the first as long as the second says.
    let told = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw mut bytes).cast(),
            &raw mut length,
        )
    };
    assert_eq!(told, 0);
    bytes as usize
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::net::greeting::wait;
    use rustix::event::{PollFd, PollFlags};
    use std::io::Write;
    use std::net::TcpListener;

    #[test]
    fn little_is_not_waited_for_and_much_by_powers_of_two() {
        let due = [0, 15, 16, 31, 32, 63, 64, 127, 128, 255, 256, 4_096];
        let blocks = due.map(|blocks| mark(blocks * BYTES_MIN) / BYTES_MIN);
        assert_eq!(blocks, [0, 0, 1, 1, 2, 2, 4, 4, 8, 8, 16, 16]);
    }

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let other = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let socket = listener.accept().unwrap().0;
        // Whatever the machine's usual is.
        let tuned = socket2::SockRef::from(&socket);
        tuned.set_recv_buffer_size(1 << 20).unwrap();
        (socket, other)
    }

    #[test]
    fn a_socket_is_readable_when_all_that_is_waited_for_has_come() {
        let (socket, mut other) = pair();
        let readable = |by: Option<Instant>| {
            let mut waiting = [PollFd::new(&socket, PollFlags::IN)];
            wait(&mut waiting, by).unwrap();
            !waiting[0].revents().is_empty()
        };
        let (mut low_water, now) = (LowWater::default(), Instant::now());
        low_water.set(&socket, 64 * BYTES_MIN, now);
        other.write_all(&[0; 2 * BYTES_MIN]).unwrap();
        assert!(!readable(Some(now)));
        other.write_all(&[0; 2 * BYTES_MIN]).unwrap();
        assert!(readable(None));
        low_water.set(&socket, 128 * BYTES_MIN, now);
        assert!(!readable(Some(now)));
        drop(other);
        assert!(readable(None));
    }

    #[test]
    fn where_the_system_takes_no_mark_none_is_waited_for() {
        let no_socket = std::os::fd::OwnedFd::from(tempfile::tempfile().unwrap());
        let no_socket = TcpStream::from(no_socket);
        let mut low_water = LowWater::default();
        for _ in 0..2 {
            low_water.set(&no_socket, 64 * BYTES_MIN, Instant::now());
            assert_eq!((low_water.is_raised(), low_water.next()), (false, None));
        }
        assert!(low_water.refused);
    }

    #[test]
    fn who_was_waited_for_in_vain_is_not_waited_for_before_a_block_has_come() {
        let (socket, _other) = pair();
        let (mut low_water, now, much) = (LowWater::default(), Instant::now(), 64 * BYTES_MIN);
        low_water.set(&socket, much, now);
        assert_eq!(low_water.next(), Some(now + PATIENCE));
        // Commands and other deadlines do not prolong it, bytes do.
        low_water.set(&socket, much, now + PATIENCE / 2);
        low_water.heard(0, now + PATIENCE / 2);
        low_water.set(&socket, much, now + PATIENCE / 2);
        assert_eq!(low_water.next(), Some(now + PATIENCE));
        low_water.heard(1, now + PATIENCE);
        low_water.set(&socket, much, now + PATIENCE);
        assert_eq!(low_water.next(), Some(now + 2 * PATIENCE));
        low_water.heard(0, now + 2 * PATIENCE);
        for bytes in [0, 1, BYTES_MIN - 2] {
            low_water.heard(bytes, now + 2 * PATIENCE);
            low_water.set(&socket, much, now + 2 * PATIENCE);
            assert_eq!((low_water.next(), mark_of(&socket)), (None, 1));
        }
        low_water.heard(1, now + 3 * PATIENCE);
        low_water.set(&socket, much, now + 3 * PATIENCE);
        assert!(low_water.is_raised() && low_water.next().is_some());
    }
}
