//! The thread that owns the registry. It serves UDP itself, and answers the threads that serve HTTP,
//! which ask in batches.
//!
//! ```text
//! sockets --datagrams--> owner <--Batch-- HTTP threads
//!                          `----(token, Answered)----^
//! ```
//!
//! It waits in one `poll`, on its sockets and its bell. Nobody waits for it with a lock: an HTTP thread
//! goes on with other callers until its answers come.

use super::bell::Bell;
use super::counters::Counters;
use super::registry::{Announce, Found, Heard, Refusal, Registry, Swarm};
use super::udp::{Desk, Line};
use crate::protocol::InfoHash;
use crossbeam_channel::{Receiver, Sender};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A question of an HTTP thread.
#[derive(Debug)]
pub(super) enum Asked {
    /// Somebody announces.
    Announce(Announce),
    /// The sizes of these swarms.
    Scrape(Vec<InfoHash>),
}

/// The owner's answer.
#[derive(Debug)]
pub(super) enum Answered {
    /// To an announce.
    Heard(Heard, Found),
    /// To an announce, too.
    Refused(Refusal),
    /// To a scrape, in its order.
    Swarms(Vec<Swarm>),
}

/// All questions of a turn of one HTTP thread, each with the token of who waits for it.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) worker: usize,
    pub(super) asked: Vec<(u64, Asked)>,
}

/// The way back to one HTTP thread.
pub(super) struct Way {
    pub(super) answers: Sender<Vec<(u64, Answered)>>,
    pub(super) bell: Bell,
}

/// See the module's head.
pub(super) struct Owner {
    pub(super) registry: Registry,
    pub(super) lines: Vec<Line>,
    pub(super) desk: Desk,
    pub(super) inbox: Receiver<Batch>,
    /// Torrents that are served from now on, and who waits until that is so.
    pub(super) admitted: Receiver<(InfoHash, Sender<()>)>,
    pub(super) ways: Vec<Way>,
    pub(super) bell: Bell,
    pub(super) counters: Arc<Counters>,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) started: Instant,
}

impl Owner {
    /// Works until it is told to stop.
    pub(super) fn run(mut self) {
        let mut busy = true;
        let mut due = None;
        while !self.stop.load(Ordering::Relaxed) {
            if !busy {
                self.wait(due);
            }
            let now = self.started.elapsed();
            due = self.registry.turn(now);
            self.counters.note(self.registry.totals());
            busy = due.is_some_and(|due| due <= now);
            while let Ok((info_hash, done)) = self.admitted.try_recv() {
                self.registry.admit(info_hash);
                let _ = done.try_send(());
            }
            for line in &mut self.lines {
                busy |= line.serve(&mut self.desk, now, &mut self.registry);
            }
            while let Ok(batch) = self.inbox.try_recv() {
                self.answer(batch);
            }
        }
    }

    /// Waits for a datagram, a ring, or the time at which the registry wants a turn.
    fn wait(&self, due: Option<Duration>) {
        let idle = || {
            self.inbox.is_empty() && self.admitted.is_empty() && !self.stop.load(Ordering::Relaxed)
        };
        if !self.bell.may_sleep(idle) {
            return;
        }
        let timeout = due.map(|due| due.saturating_sub(self.started.elapsed()));
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        let mut waited: Vec<PollFd> = vec![PollFd::new(&self.bell, PollFlags::IN)];
        waited.extend(self.lines.iter().map(|it| PollFd::new(it, PollFlags::IN)));
        // An error is an interruption by a signal: there is nothing to do then, and it waits again.
        let _ = poll(&mut waited, timeout.as_ref());
        self.bell.woken();
    }

    fn answer(&mut self, batch: Batch) {
        let Some(way) = self.ways.get(batch.worker) else {
            return;
        };
        let registry = &mut self.registry;
        let answers = batch.asked.into_iter().map(|(token, asked)| {
            let answered = match asked {
                Asked::Announce(announce) => {
                    let mut found = Found::default();
                    match registry.announce(&announce, &mut found) {
                        Ok(heard) => Answered::Heard(heard, found),
                        Err(refusal) => Answered::Refused(refusal),
                    }
                }
                Asked::Scrape(asked) => {
                    Answered::Swarms(asked.iter().map(|it| registry.scrape(it)).collect())
                }
            };
            (token, answered)
        });
        let answers = answers.collect();
        self.counters.note(self.registry.totals());
        // The only batch of this thread: there is room.
        let _ = way.answers.try_send(answers);
        way.bell.ring();
    }
}
