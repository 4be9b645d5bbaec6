//! Wakes the owner from its `epoll` when something has come over a channel.
//!
//! The line to a peer thread (`net/mailbox`) has the same bell. The two houses import nothing of each other, and
//! no floor below both may touch the system: thirty lines are less than such a floor.
//!
//! ```text
//! sender.send(order); bell.ring();     // any thread
//! bell.silence(); receiver.try_recv()  // the owner, once it is awake
//! ```

use rustix::event::{EventfdFlags, eventfd};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// Both ends hold one.
#[derive(Debug, Clone)]
pub(super) struct Bell(Arc<OwnedFd>);

impl Bell {
    pub(super) fn new() -> io::Result<Bell> {
        let flags = EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC;
        Ok(Bell(Arc::new(eventfd(0, flags)?)))
    }

    /// Can be read from now on, until it is silenced.
    pub(super) fn ring(&self) {
        // An error could only be a counter that is full, so readable already.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    pub(super) fn silence(&self) {
        // An error is a bell that is silent.
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
