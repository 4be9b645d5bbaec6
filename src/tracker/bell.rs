//! Wakes a thread that waits in `poll` or `epoll` for something that came over a channel.
//!
//! ```text
//! sender.send(batch); bell.ring();                                   // any thread
//! if bell.may_sleep(|| receiver.is_empty()) { poll(..); bell.woken(); }  // the one that is woken
//! ```
//!
//! A thread that is at work is not rung for: it looks at its channel before it sleeps.

use rustix::event::{EventfdFlags, eventfd};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

/// Both ends hold one.
#[derive(Debug, Clone)]
pub(super) struct Bell(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    eventfd: OwnedFd,
    asleep: AtomicBool,
}

impl Bell {
    pub(super) fn new() -> io::Result<Bell> {
        let flags = EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC;
        Ok(Bell(Arc::new(Inner {
            eventfd: eventfd(0, flags)?,
            asleep: AtomicBool::new(false),
        })))
    }

    /// Wakes the thread if it sleeps, or is about to.
    pub(super) fn ring(&self) {
        // What was sent before has to be seen by who says after this that it sleeps.
        fence(Ordering::SeqCst);
        if self.0.asleep.swap(false, Ordering::SeqCst) {
            // An error could only be a counter that is full, so readable already.
            let _ = rustix::io::write(&self.0.eventfd, &1u64.to_ne_bytes());
        }
    }

    /// Whether the thread may wait: says that it sleeps, and looks once more for work.
    pub(super) fn may_sleep(&self, idle: impl FnOnce() -> bool) -> bool {
        self.0.asleep.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let idle = idle();
        if !idle && !self.0.asleep.swap(false, Ordering::SeqCst) {
            self.silence();
        }
        idle
    }

    /// The thread has slept and is awake.
    pub(super) fn woken(&self) {
        self.0.asleep.store(false, Ordering::SeqCst);
        self.silence();
    }

    /// A ring that comes late, by somebody who saw the thread asleep, wakes it once for nothing.
    fn silence(&self) {
        let _ = rustix::io::read(&self.0.eventfd, &mut [0; 8]);
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.eventfd.as_fd()
    }
}
