//! The way from the coordinator to whoever watches: a reader that does not keep up loses figures,
//! never outcomes, and never holds the coordinator up.

use super::Notice;
use crossbeam_channel::{Receiver, Sender, unbounded};

/// Unread notices beyond which only outcomes are put up.
const UNREAD_MAX: usize = 1_000;

/// The sending end.
pub(super) struct Noticeboard {
    sender: Sender<Notice>,
}

impl Noticeboard {
    /// A board and the end that is read.
    pub(super) fn new() -> (Noticeboard, Receiver<Notice>) {
        // Bound: `post` drops what can be dropped above UNREAD_MAX; what cannot is a few a torrent.
        let (sender, receiver) = unbounded();
        (Noticeboard { sender }, receiver)
    }

    /// Puts up a notice. Nobody left to read it is no trouble.
    pub(super) fn post(&self, notice: Notice) {
        let outcome = matches!(
            notice,
            Notice::Complete { .. } | Notice::Stopped { .. } | Notice::Started { .. }
        );
        if outcome || self.sender.len() < UNREAD_MAX {
            let _ = self.sender.send(notice);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{Ending, Snapshot};

    #[test]
    fn a_reader_that_sleeps_misses_figures_but_no_outcome() {
        let (board, reader) = Noticeboard::new();
        for _ in 0..UNREAD_MAX + 10 {
            board.post(Notice::Progress {
                task: 0,
                snapshot: Snapshot::default(),
            });
        }
        board.post(Notice::Stopped {
            task: 0,
            snapshot: Snapshot::default(),
            ending: Ending::Done,
        });
        let all: Vec<Notice> = reader.try_iter().collect();
        assert_eq!(all.len(), UNREAD_MAX + 1);
        assert!(matches!(all.last(), Some(Notice::Stopped { .. })));
    }
}
