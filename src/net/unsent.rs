//! How much may lie unsent in the kernel: what leaves within ten milliseconds (`TCP_NOTSENT_LOWAT`).
//!
//! ```text
//! unsent.sent(socket, 0, now);                       // before each write: it may have become slow
//! unsent.sent(socket, bytes, now);                   // after it
//! ```
//!
//! What lies there can neither be cancelled nor overtaken, by a have least of all: with 128 KiB a peer, 24 leechers on
//! uplinks of 40 Mbit/s made each other wait for half a second, and a quarter of all cancels came too late. But half of
//! it has to leave before the socket counts as writable again, and then the thread is woken: for a block at a time on
//! a fast line a thousand times a second. A peer that suddenly reads slowly takes what lies there first.

use std::net::TcpStream;
use std::time::{Duration, Instant};

/// The least: a block.
pub(super) const UNSENT_MIN: u32 = 16 * 1024;

/// The most. More does not make it cheaper.
const UNSENT_MAX: u32 = 128 * 1024;

/// How long the rate is measured at a time.
const WINDOW: Duration = Duration::from_millis(100);

/// The part of a window in which it is to leave.
const PART: u32 = 10;

/// What one socket takes, and the limit it has. It begins with [`UNSENT_MIN`].
#[derive(Debug)]
pub(super) struct UnsentLimit {
    since: Instant,
    bytes: usize,
    limit: u32,
}

impl UnsentLimit {
    pub(super) fn new(now: Instant) -> UnsentLimit {
        UnsentLimit {
            since: now,
            bytes: 0,
            limit: UNSENT_MIN,
        }
    }

    /// The socket has taken so many bytes more.
    pub(super) fn sent(&mut self, socket: &TcpStream, bytes: usize, now: Instant) {
        self.bytes += bytes;
        let time = now.saturating_duration_since(self.since);
        if time < WINDOW {
            return;
        }
        let limit = limit(self.bytes, time);
        let socket = socket2::SockRef::from(socket);
        if limit != self.limit && socket.set_tcp_notsent_lowat(limit).is_ok() {
            self.limit = limit;
        }
        (self.since, self.bytes) = (now, 0);
    }
}

/// The limit for a socket that took so many bytes in that time: a power of two, so that it seldom changes.
fn limit(bytes: usize, time: Duration) -> u32 {
    let part = bytes as u128 * WINDOW.as_nanos() / time.as_nanos().max(1) / u128::from(PART);
    let part = u32::try_from(part).unwrap_or(UNSENT_MAX);
    1 << part.clamp(UNSENT_MIN, UNSENT_MAX).ilog2()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn what_leaves_in_ten_milliseconds_may_wait() {
        let second = Duration::from_secs(1);
        let mebibytes = [0, 1, 3, 4, 7, 12, 13, 1_000];
        let kibibytes = mebibytes.map(|rate| limit(rate << 20, second) >> 10);
        assert_eq!(kibibytes, [16, 16, 16, 32, 64, 64, 128, 128]);
    }

    #[test]
    fn a_socket_is_told_after_a_tenth_of_a_second_and_again_when_it_has_become_slow() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let begin = Instant::now();
        let mut unsent = UnsentLimit::new(begin);
        let mut after = |windows: u32, mebibytes: usize| {
            unsent.sent(&socket, mebibytes << 20, begin + windows * WINDOW / 2);
            socket2::SockRef::from(&socket).tcp_notsent_lowat().unwrap()
        };
        after(1, 20);
        assert_eq!(after(2, 20), UNSENT_MAX);
        assert_eq!(after(3, 0), UNSENT_MAX);
        assert_eq!(after(4, 0), UNSENT_MIN);
    }
}
