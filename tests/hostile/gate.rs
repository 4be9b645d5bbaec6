//! Holds honest peers back until an attack is over.

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use std::time::Duration;

/// Closed while it lives; opened by [`Gate::open`] or by going away.
pub struct Gate {
    _shut: Sender<()>,
    way: Receiver<()>,
}

/// One who waits at a gate.
#[derive(Clone)]
pub struct Waiting(Receiver<()>);

impl Gate {
    /// A closed gate.
    pub fn closed() -> Gate {
        // Bound: nothing is ever sent, the channel's end is the message.
        let (shut, way) = bounded(0);
        Gate { _shut: shut, way }
    }

    /// A place in the queue.
    pub fn queue(&self) -> Waiting {
        Waiting(self.way.clone())
    }

    /// Lets everybody through, for good.
    pub fn open(self) {}
}

impl Waiting {
    /// A gate that stands open.
    pub fn not() -> Waiting {
        Gate::closed().queue()
    }

    /// Returns when the gate is open.
    pub fn pass(&self) {
        let end = self.0.recv_timeout(Duration::from_secs(600));
        assert_eq!(end, Err(RecvTimeoutError::Disconnected), "the gate stuck");
    }

    /// Waits for the gate for at most so long; whether it is open.
    pub fn opens_within(&self, time: Duration) -> bool {
        self.0.recv_timeout(time) == Err(RecvTimeoutError::Disconnected)
    }
}
