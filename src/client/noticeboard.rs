//! The way from the coordinator to whoever watches: a reader that does not keep up never holds the
//! coordinator up. It loses figures and what single peers and pieces do, and is told how many of
//! them; everything else it gets.

use super::Notice;
use crossbeam_channel::{Receiver, Sender, unbounded};
use std::cell::Cell;

/// Unread notices beyond which those are dropped that a reader can do without.
const UNREAD_MAX: usize = 1_000;

/// The sending end.
pub(super) struct Noticeboard {
    sender: Sender<Notice>,
    /// How many were dropped since the reader was last told.
    dropped: Cell<u64>,
}

impl Noticeboard {
    /// A board and the end that is read.
    pub(super) fn new() -> (Noticeboard, Receiver<Notice>) {
        // Bound: `post` drops what can be dropped above UNREAD_MAX. What cannot is a few a torrent, one for
        // each file that a seed lacks, and from then on as many as its trackers answer.
        let (sender, receiver) = unbounded();
        let dropped = Cell::new(0);
        (Noticeboard { sender, dropped }, receiver)
    }

    /// Puts up a notice. Nobody left to read it is no trouble.
    pub(super) fn post(&self, notice: Notice) {
        if may_be_dropped(&notice) && self.sender.len() >= UNREAD_MAX {
            self.dropped.set(self.dropped.get() + 1);
            return;
        }
        let notices = self.dropped.take();
        if notices > 0 {
            let _ = self.sender.send(Notice::Dropped { notices });
        }
        let _ = self.sender.send(notice);
    }
}

/// Whether a reader can do without: the next figures say it too, or it is about one of many.
fn may_be_dropped(notice: &Notice) -> bool {
    match notice {
        Notice::Progress { .. }
        | Notice::Checking { .. }
        | Notice::PeerJoined { .. }
        | Notice::PeerLeft { .. }
        | Notice::Piece { .. } => true,
        Notice::Listening { .. }
        | Notice::Started { .. }
        | Notice::Tracker { .. }
        | Notice::Missing { .. }
        | Notice::Warning { .. }
        | Notice::Complete { .. }
        | Notice::Stopped { .. }
        | Notice::Dropped { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{Ending, Snapshot};

    fn figures() -> Notice {
        let snapshot = Snapshot::default();
        Notice::Progress { task: 0, snapshot }
    }

    fn warning() -> Notice {
        let (task, text) = (None, "odd".to_owned());
        Notice::Warning { task, text }
    }

    #[test]
    fn a_reader_that_sleeps_misses_figures_and_learns_how_many_before_anything_else() {
        let (board, reader) = Noticeboard::new();
        let stopped = Notice::Stopped {
            task: 0,
            snapshot: Snapshot::default(),
            ending: Ending::Done,
        };
        (0..UNREAD_MAX + 10).for_each(|_| board.post(figures()));
        board.post(warning());
        board.post(figures());
        board.post(stopped.clone());
        let all: Vec<Notice> = reader.try_iter().collect();
        assert_eq!(all[..UNREAD_MAX], vec![figures(); UNREAD_MAX]);
        let dropped = |notices| Notice::Dropped { notices };
        assert_eq!(
            all[UNREAD_MAX..],
            [dropped(10), warning(), dropped(1), stopped]
        );
    }

    #[test]
    fn of_ten_thousand_files_that_are_missing_a_reader_that_sleeps_misses_none() {
        let (board, reader) = Noticeboard::new();
        for number in 0..10_000 {
            let path = number.to_string();
            let (task, bytes) = (0, 1);
            board.post(Notice::Missing { task, path, bytes });
        }
        assert_eq!(reader.try_iter().count(), 10_000);
    }

    #[test]
    fn a_reader_that_has_caught_up_gets_figures_again_after_what_it_missed() {
        let (board, reader) = Noticeboard::new();
        (0..UNREAD_MAX + 3).for_each(|_| board.post(figures()));
        assert_eq!(reader.try_iter().count(), UNREAD_MAX);
        board.post(figures());
        board.post(figures());
        let all: Vec<Notice> = reader.try_iter().collect();
        assert_eq!(all, [Notice::Dropped { notices: 3 }, figures(), figures()]);
    }
}
