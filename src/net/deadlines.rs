//! How long a peer may take over what. A deadline is for the whole of a thing, never for one read:
//! who sends a byte now and then must not live for ever.

use crate::swarm::event::{Farewell, Slowness};
use std::time::{Duration, Instant};

/// A wait that lasted this much longer than it should was our own sleep (a stopped process, a closed
/// lid): nobody is to blame.
const SUSPENDED: Duration = Duration::from_secs(30);

/// The deadlines of one connection. The defaults are for the real world, tests have shorter ones.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// For the connection to be accepted. Systems knock at once, after one second and after three (RFC 6298): the
    /// third knock has two seconds to be answered, and who is missed by it is called again.
    pub connect: Duration,
    /// For all 68 bytes of the handshake.
    pub handshake: Duration,
    /// For the coordinator's answer to a caller.
    pub admission: Duration,
    /// Our silence after which a keep-alive is sent. Peers hang up after 120 s (BEP 3).
    pub keep_alive: Duration,
    /// The peer's silence after which it is gone.
    pub silence: Duration,
    /// For a message that has begun, if [`Deadlines::pace`] does not give it longer.
    pub finish: Duration,
    /// The slowest pace of a long message, in bytes a second.
    pub pace: u32,
    /// For the peer to take any byte of what waits for it.
    pub stuck: Duration,
}

impl Default for Deadlines {
    fn default() -> Deadlines {
        Deadlines {
            connect: Duration::from_secs(5),
            handshake: Duration::from_secs(10),
            admission: Duration::from_secs(10),
            keep_alive: Duration::from_secs(110),
            silence: Duration::from_secs(130),
            finish: Duration::from_secs(60),
            pace: 1024,
            stuck: Duration::from_secs(60),
        }
    }
}

/// The running times of one conversation.
#[derive(Debug)]
pub(super) struct Watch {
    deadlines: Deadlines,
    heard: Instant,
    said: Instant,
    /// Since when a message is unfinished, and how many bytes it had then, as far as is known.
    begun: Option<(Instant, u32)>,
    /// Since when the peer has taken nothing of what waits for it.
    waiting: Option<Instant>,
    /// Something waits, for the peer or for our own limit.
    queued: bool,
    /// Since when we do not read: what the peer says meanwhile is not heard.
    deaf: Option<Instant>,
}

impl Watch {
    pub(super) fn new(deadlines: Deadlines, now: Instant) -> Watch {
        Watch {
            deadlines,
            heard: now,
            said: now,
            begun: None,
            waiting: None,
            queued: false,
            deaf: None,
        }
    }

    /// We do not read for a while, or do so again. That time is not the peer's.
    pub(super) fn listen(&mut self, now: Instant, listens: bool) {
        if !listens {
            self.deaf.get_or_insert(now);
        } else if let Some(since) = self.deaf.take() {
            let missed = now.saturating_duration_since(since);
            self.heard += missed;
            self.begun = self.begun.map(|(at, length)| (at + missed, length));
        }
    }

    /// Bytes came. `unfinished`: the length of the message that is not all there, or what is still to come of it;
    /// `fresh`: another one than last time.
    pub(super) fn heard(&mut self, now: Instant, unfinished: Option<u32>, fresh: bool) {
        self.heard = now;
        self.begun = match (self.begun, unfinished) {
            // What has come of it does not make its time shorter.
            (Some((since, known)), Some(length)) if !fresh => Some((since, known.max(length))),
            (_, unfinished) => unfinished.map(|length| (now, length)),
        };
    }

    /// What was written: whether any byte left, whether something still waits, and whether it waits for
    /// the peer: what is held back by our own limit is not the peer's delay.
    pub(super) fn wrote(&mut self, now: Instant, progress: bool, waits: bool, for_peer: bool) {
        if progress {
            self.said = now;
            self.waiting = None;
        }
        self.queued = waits;
        self.waiting = (waits && for_peer).then(|| self.waiting.unwrap_or(now));
    }

    /// When a keep-alive is due. Not while something waits: that is speech enough once it leaves.
    fn keep_alive_at(&self) -> Option<Instant> {
        (!self.queued).then(|| self.said + self.deadlines.keep_alive)
    }

    fn limits(&self) -> [Option<(Instant, Slowness)>; 3] {
        let deadlines = &self.deadlines;
        let listens = self.deaf.is_none();
        let finish = self.begun.filter(|_| listens).map(|(since, length)| {
            let paced = Duration::from_secs(u64::from(length / deadlines.pace.max(1)));
            (since + deadlines.finish.max(paced), Slowness::Finish)
        });
        let stuck = self
            .waiting
            .map(|since| (since + deadlines.stuck, Slowness::Read));
        let silence = listens.then(|| (self.heard + deadlines.silence, Slowness::Speak));
        [finish, stuck, silence]
    }

    /// The next moment at which there is something to look at.
    pub(super) fn next(&self) -> Option<Instant> {
        let limits = self.limits().into_iter().flatten().map(|(at, _)| at);
        limits.chain(self.keep_alive_at()).min()
    }

    /// Whether a keep-alive is due, or why the conversation has to end.
    pub(super) fn judge(&mut self, now: Instant) -> Result<bool, Farewell> {
        for (at, slowness) in self.limits().into_iter().flatten() {
            if now >= at + SUSPENDED {
                *self = Watch {
                    begun: self.begun.map(|(_, length)| (now, length)),
                    waiting: self.waiting.map(|_| now),
                    queued: self.queued,
                    deaf: self.deaf.map(|_| now),
                    ..Watch::new(self.deadlines, now)
                };
                return Ok(true);
            }
            if now >= at {
                return Err(Farewell::TooSlow(slowness));
            }
        }
        Ok(self.keep_alive_at().is_some_and(|at| now >= at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch() -> (Watch, Instant) {
        let now = Instant::now();
        (Watch::new(Deadlines::default(), now), now)
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn an_idle_peer_wakes_its_thread_for_keep_alives_alone() {
        let (mut watch, now) = watch();
        assert_eq!(watch.next(), Some(now + seconds(110)));
        assert_eq!(watch.judge(now + seconds(109)), Ok(false));
        assert_eq!(watch.judge(now + seconds(110)), Ok(true));
        watch.wrote(now + seconds(110), true, false, true);
        assert_eq!(watch.next(), Some(now + seconds(130)));
    }

    #[test]
    fn bytes_that_drip_do_not_prolong_a_message() {
        let (mut watch, now) = watch();
        for second in 0..60 {
            watch.heard(now + seconds(second), Some(1000), false);
            assert_eq!(watch.judge(now + seconds(second)), Ok(false));
        }
        let late = Farewell::TooSlow(Slowness::Finish);
        assert_eq!(watch.judge(now + seconds(60)), Err(late));
    }

    #[test]
    fn a_long_message_may_take_as_long_as_its_pace_allows() {
        let (mut watch, now) = watch();
        watch.heard(now, Some(100 * 1024), false);
        watch.heard(now + seconds(90), Some(10 * 1024), false);
        assert_eq!(watch.judge(now + seconds(99)), Ok(false));
        assert!(watch.judge(now + seconds(100)).is_err());
    }

    #[test]
    fn what_we_do_not_read_is_not_late() {
        let (mut watch, now) = watch();
        watch.heard(now + seconds(10), Some(1000), true);
        watch.listen(now + seconds(20), false);
        watch.listen(now + seconds(30), false);
        assert_eq!(watch.next(), Some(now + seconds(110)));
        // Nor is what we hold back, and a keep-alive would wait behind it.
        watch.wrote(now + seconds(20), false, true, false);
        assert_eq!(watch.next(), None);
        assert_eq!(watch.judge(now + seconds(1000)), Ok(false));
        watch.listen(now + seconds(1020), true);
        // Ten of its sixty seconds had passed.
        assert_eq!(watch.judge(now + seconds(1069)), Ok(false));
        assert!(watch.judge(now + seconds(1070)).is_err());
    }

    #[test]
    fn a_night_asleep_is_nobodys_fault() {
        let (mut watch, now) = watch();
        let morning = now + seconds(8 * 3600);
        watch.wrote(now, false, true, true);
        assert_eq!(watch.judge(morning), Ok(true));
        assert_eq!(watch.judge(morning + seconds(59)), Ok(false));
        assert!(watch.judge(morning + seconds(60)).is_err());
    }
}
