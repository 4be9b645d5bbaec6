//! Joins one torrent's announce schedule to the threads that ask its trackers.
//!
//! The schedule (`announce::tiers`) is pure and says what is due; a thread a tier does the asking,
//! so that a tracker that hangs delays no other tier; the answers come back to the coordinator.

use super::hands::Hands;
use super::noticeboard::Noticeboard;
use super::torrent::Torrent;
use super::{Notice, Role};
use crate::announce::http::{ANNOUNCE_LIMIT, AnnounceError, STOP_LIMIT};
use crate::announce::tiers::{Due, Tiers};
use crate::announce::{Answered, Job, http, spawn_announcer};
use crate::protocol::InfoHash;
use crate::protocol::peer::PeerId;
use crate::protocol::tracker::http::{Occasion, Request};
use crate::swarm::event::{Event, Moment, Origin};
use crossbeam_channel::{Sender, unbounded};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Addresses asked for in one announce.
const NUM_WANT: u32 = 80;

/// Addresses of ours that are remembered: more than a host has at a time.
const SEEN_AS_MAX: usize = 16;

/// The totals that an announce tells the tracker, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AnnouncedBytes {
    /// Payload served in this run.
    pub(super) uploaded: u64,
    /// Payload fetched in this run.
    pub(super) downloaded: u64,
    /// Missing bytes.
    pub(super) left: u64,
}

/// Who announces: the parts of a request that never change in a run.
#[derive(Debug, Clone)]
pub(super) struct Announcer {
    pub(super) task: usize,
    pub(super) info_hash: InfoHash,
    pub(super) id: PeerId,
    pub(super) port: u16,
    pub(super) key: String,
    /// The address of ours that trackers are asked from.
    pub(super) bind: Option<IpAddr>,
}

/// One torrent's trackers.
pub(super) struct Announcing {
    who: Announcer,
    tiers: Tiers,
    answers: Sender<Answered>,
    threads: Vec<Thread>,
    /// Outstanding answers; once we leave, those to `stopped` alone.
    asking: usize,
    /// Everything that is wanted is here: nobody has to be found.
    content: bool,
    /// Our addresses as trackers see them (BEP 24), the latest last: nobody dials itself.
    // Bound: `SEEN_AS_MAX`.
    seen_as: VecDeque<IpAddr>,
    /// Trackers that the user was told of because they fail.
    failing: BTreeSet<String>,
    /// What trackers warned of last: the user was told.
    warned: BTreeMap<String, String>,
    leaving: bool,
}

/// The line to the thread of a tier, if it was needed so far.
#[derive(Default)]
struct Thread {
    jobs: Option<Sender<Job>>,
    /// Jobs without an answer.
    busy: usize,
}

impl Announcing {
    /// Joins `tiers` to the coordinator's channel of answers. Threads start when first needed.
    pub(super) fn new(who: Announcer, tiers: Tiers, answers: Sender<Answered>) -> Announcing {
        Announcing {
            who,
            tiers,
            answers,
            threads: Vec::new(),
            asking: 0,
            content: false,
            seen_as: VecDeque::new(),
            failing: BTreeSet::new(),
            warned: BTreeMap::new(),
            leaving: false,
        }
    }

    /// When `ask_what_is_due` has something to do.
    pub(super) fn wake_at(&self) -> Option<Moment> {
        self.tiers.wake_at()
    }

    /// Sends out what is due.
    pub(super) fn ask_what_is_due(&mut self, totals: AnnouncedBytes, now: Moment) {
        for due in self.tiers.due(now) {
            self.ask(due, totals, ANNOUNCE_LIMIT);
        }
    }

    /// Tells every tracker that knows us that we leave; what it answers is of no interest. A tier that
    /// waits for another tracker must not delay this: a second thread says it then.
    pub(super) fn say_stopped(&mut self, totals: AnnouncedBytes) {
        self.leaving = true;
        self.asking = 0;
        for due in self.tiers.stop() {
            self.ask(due, totals, STOP_LIMIT);
        }
    }

    /// Tells no tracker anything any more.
    pub(super) fn fall_silent(&mut self) {
        self.leaving = true;
        self.asking = 0;
        self.tiers.stop();
    }

    /// The download became complete in this run.
    pub(super) fn completed(&mut self) {
        self.tiers.completed();
        self.wants_nobody();
    }

    /// Nothing is to be fetched: those who want something find us, we need not hurry to find them.
    pub(super) fn wants_nobody(&mut self) {
        self.content = true;
        self.tiers.hungry(false);
    }

    /// More addresses are wanted, as soon as the trackers allow.
    pub(super) fn ask_soon(&mut self) {
        self.tiers.ask_soon();
    }

    /// Whether the swarm lacks peers, so that asking early makes sense.
    pub(super) fn hungry(&mut self, hungry: bool) {
        self.tiers.hungry(hungry && !self.content);
    }

    /// Whether no answer is outstanding.
    pub(super) fn is_quiet(&self) -> bool {
        self.asking == 0
    }

    /// Whether there is no tracker that could ever answer.
    pub(super) fn is_hopeless(&self) -> bool {
        self.tiers.hopeless()
    }

    /// A tracker has answered or failed; returns the addresses it gave.
    pub(super) fn answered(
        &mut self,
        answered: Answered,
        board: &Noticeboard,
        now: Moment,
    ) -> Vec<SocketAddr> {
        if !self.leaving || answered.event == Some(Occasion::Stopped) {
            self.asking = self.asking.saturating_sub(1);
        }
        if let Some(thread) = self.threads.get_mut(answered.tier) {
            thread.busy = thread.busy.saturating_sub(1);
        }
        let outcome = answered.outcome.as_ref().map_err(AnnounceError::again);
        self.tiers.answered(answered.tier, outcome, now);
        if answered.outcome == Err(AnnounceError::Interrupted) {
            return Vec::new();
        }
        let tracker = http::shown(&answered.url);
        if let Ok(answer) = &answered.outcome
            && let Some(warning) = &answer.warning
            && self
                .warned
                .insert(tracker.clone(), warning.clone())
                .as_ref()
                != Some(warning)
        {
            let text = format!("the tracker {tracker} warns: {warning}");
            board.post(Notice::Warning {
                task: Some(self.who.task),
                text,
            });
        }
        self.tell_failure(&tracker, answered.outcome.as_ref().err(), board);
        let outcome = match &answered.outcome {
            Ok(answer) => Ok(answer.peers.len()),
            Err(error) => Err(error.to_string()),
        };
        board.post(Notice::Tracker {
            task: self.who.task,
            tracker,
            outcome,
        });
        let Ok(mut answer) = answered.outcome else {
            return Vec::new();
        };
        self.remember(answer.external_ip);
        let ourselves =
            |it: &SocketAddr| it.port() == self.who.port && self.seen_as.contains(&it.ip());
        answer.peers.retain(|peer| !ourselves(peer));
        answer.peers
    }

    /// A tracker sees us at this address. The attack: another one in each answer.
    fn remember(&mut self, external_ip: Option<IpAddr>) {
        let new = external_ip.filter(|it| !self.seen_as.contains(it));
        self.seen_as.extend(new);
        if self.seen_as.len() > SEEN_AS_MAX {
            self.seen_as.pop_front();
        }
    }

    /// Warns of a tracker that fails, once until it answers again: without it there may be no peers.
    fn tell_failure(&mut self, tracker: &str, error: Option<&AnnounceError>, board: &Noticeboard) {
        let Some(error) = error.filter(|_| !self.leaving) else {
            self.failing.remove(tracker);
            return;
        };
        if self.failing.insert(tracker.to_owned()) {
            let text = format!("the tracker {tracker} gives no peers: {error}");
            let task = Some(self.who.task);
            board.post(Notice::Warning { task, text });
        }
    }

    fn ask(&mut self, due: Due, totals: AnnouncedBytes, limit: Duration) {
        let request = Request {
            info_hash: self.who.info_hash,
            peer_id: self.who.id,
            port: self.who.port,
            uploaded: totals.uploaded,
            downloaded: totals.downloaded,
            left: totals.left,
            event: due.event,
            num_want: Some(NUM_WANT),
            key: Some(self.who.key.clone()),
            compact: true,
            no_peer_id: true,
            tracker_id: due.tracker_id,
        };
        let job = Job {
            task: self.who.task,
            tier: due.tier,
            url: due.url,
            request,
            sure: due.sure,
            limit,
        };
        self.asking += 1;
        let unsent = match self.line(due.tier, due.sure) {
            Ok(jobs) => jobs
                .send(job)
                .err()
                .map(|failed| (failed.into_inner(), "its thread has ended".to_owned())),
            Err(error) => Some((job, format!("no thread for it: {error}"))),
        };
        if let Some((job, cause)) = unsent {
            // No answer will come from a thread that is not there; the schedule tries again later.
            let error = AnnounceError::Unreachable(cause);
            let answered = Answered {
                task: job.task,
                tier: job.tier,
                url: job.url,
                event: job.request.event,
                outcome: Err(error),
            };
            let _ = self.answers.try_send(answered);
        }
    }

    /// The line to a thread that will take a job for `tier` soon: the tier's own, or if that one waits
    /// for a tracker, and the job need not wait behind it, a new one.
    fn line(&mut self, tier: usize, sure: bool) -> std::io::Result<Sender<Job>> {
        if self.threads.len() <= tier {
            self.threads.resize_with(tier + 1, Thread::default);
        }
        let thread = &mut self.threads[tier];
        thread.busy += 1;
        let beside = thread.busy > 1 && sure;
        if let Some(jobs) = thread.jobs.as_ref().filter(|_| !beside) {
            return Ok(jobs.clone());
        }
        // Bound: the schedule has one announce a tier under way, and a `stopped` for each tracker at the end.
        let (jobs, inbox) = unbounded();
        let (name, answers) = (format!("tier {tier}"), self.answers.clone());
        spawn_announcer(&name, self.who.bind, inbox, answers)?;
        if !beside {
            thread.jobs = Some(jobs.clone());
        }
        Ok(jobs)
    }
}

impl Torrent {
    /// Asks trackers what is due.
    pub(super) fn announce(&mut self, now: Moment) {
        if self.announcing.wake_at().is_some_and(|due| due <= now) {
            let totals = self.totals(now);
            self.announcing.ask_what_is_due(totals, now);
        }
    }

    /// Leaves without a word to trackers.
    pub(super) fn forget_trackers(&mut self) {
        self.announcing.fall_silent();
    }

    /// Says whether trackers should be asked early: while something is missing and nobody is here. Who only
    /// gives is found by those who want something.
    pub(super) fn note_hunger(&mut self) {
        let wants = self.completed.is_none() && self.task.role == Role::Get;
        self.announcing.hungry(wants && self.peers == 0);
    }

    /// A tracker has answered.
    pub(super) fn answered(&mut self, answered: Answered, hands: &mut Hands, now: Moment) {
        let addresses = self.announcing.answered(answered, &hands.noticeboard, now);
        if !addresses.is_empty() && self.takes_callers() {
            self.decide(
                Event::Found {
                    addresses,
                    origin: Origin::Tracker,
                },
                hands,
                now,
            );
        }
        self.leave_on(hands, now);
    }

    pub(super) fn totals(&self, now: Moment) -> AnnouncedBytes {
        let snapshot = self.snapshot(now);
        AnnouncedBytes {
            uploaded: snapshot.uploaded,
            downloaded: snapshot.downloaded,
            left: snapshot.size - snapshot.have,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::protocol::tracker::http::Answer;
    use crate::protocol::tracker::udp::{Question, Reply};
    use crossbeam_channel::Receiver;
    use std::net::UdpSocket;

    const TOTALS: AnnouncedBytes = AnnouncedBytes {
        uploaded: 1,
        downloaded: 2,
        left: 3,
    };
    const PATIENCE: Duration = Duration::from_secs(60);

    fn announcing(urls: &[&str]) -> (Announcing, Receiver<Answered>) {
        let who = Announcer {
            task: 0,
            info_hash: InfoHash([1; 20]),
            id: PeerId::new([b'x'; 12]),
            port: 6881,
            key: "00c0ffee".into(),
            bind: None,
        };
        let tiers = [urls.iter().map(|url| url.to_string()).collect()];
        let tiers = Tiers::new(&tiers, fastrand::Rng::with_seed(1));
        // Bound: the few answers of a test.
        let (answers, outcomes) = unbounded();
        (Announcing::new(who, tiers, answers), outcomes)
    }

    fn answered(url: &str, answer: Answer) -> Answered {
        Answered {
            task: 0,
            tier: 0,
            url: url.to_owned(),
            event: None,
            outcome: Ok(answer),
        }
    }

    fn socket() -> (UdpSocket, String) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let url = format!("udp://{}", socket.local_addr().unwrap());
        (socket, url)
    }

    fn due(url: &str, event: Occasion, sure: bool) -> Due {
        Due {
            tier: 0,
            url: url.to_owned(),
            event: Some(event),
            tracker_id: None,
            sure,
        }
    }

    #[test]
    fn who_wants_nobody_asks_at_the_regular_time_even_without_a_peer() {
        for (content, next) in [(false, 5), (true, 900)] {
            let (mut one, _outcomes) = announcing(&["http://a/"]);
            if content {
                one.completed();
            }
            one.hungry(true);
            let (board, _notices) = Noticeboard::new();
            assert_eq!(one.tiers.due(Moment::ZERO).len(), 1);
            let answer = Answer {
                interval: Some(900),
                ..Answer::default()
            };
            one.answered(answered("http://a/", answer), &board, Moment::ZERO);
            assert_eq!(one.wake_at(), Some(Moment::from_secs(next)));
        }
    }

    #[test]
    fn we_are_not_a_peer_of_ours() {
        let (mut one, _outcomes) = announcing(&["http://a/"]);
        let (board, _notices) = Noticeboard::new();
        one.tiers.due(Moment::ZERO);
        let peers = ["192.0.2.1:6881", "192.0.2.1:6882", "192.0.2.2:6881"];
        let peers: Vec<SocketAddr> = peers.iter().map(|it| it.parse().unwrap()).collect();
        let answer = Answer {
            peers: peers.clone(),
            external_ip: Some(peers[0].ip()),
            ..Answer::default()
        };
        let found = one.answered(answered("http://a/", answer), &board, Moment::ZERO);
        assert_eq!(found, peers[1..]);
    }

    #[test]
    fn a_tracker_that_sees_us_elsewhere_each_time_takes_no_memory() {
        let (mut one, _outcomes) = announcing(&["http://a/"]);
        let (board, _notices) = Noticeboard::new();
        for last in 0..=u8::MAX {
            let answer = Answer {
                external_ip: Some([192, 0, 2, last].into()),
                ..Answer::default()
            };
            one.answered(answered("http://a/", answer), &board, Moment::ZERO);
        }
        assert_eq!(one.seen_as.len(), SEEN_AS_MAX);
        assert_eq!(one.seen_as.back(), Some(&[192, 0, 2, u8::MAX].into()));
    }

    #[test]
    fn a_tracker_that_repeats_its_warning_is_shown_once() {
        let (mut one, _outcomes) = announcing(&["http://a/"]);
        let (board, notices) = Noticeboard::new();
        for warning in ["be kind", "be kind", "be kinder"] {
            let answer = Answer {
                warning: Some(warning.into()),
                ..Answer::default()
            };
            one.answered(answered("http://a/", answer), &board, Moment::ZERO);
        }
        let warnings = notices.try_iter().filter_map(|notice| match notice {
            Notice::Warning { text, .. } => Some(text),
            _ => None,
        });
        let said = |what| format!("the tracker http://a warns: {what}");
        assert_eq!(
            warnings.collect::<Vec<_>>(),
            [said("be kind"), said("be kinder")]
        );
    }

    #[test]
    fn a_goodbye_does_not_wait_behind_a_silent_tracker() {
        let ((silent, silent_url), (knows, knows_url)) = (socket(), socket());
        let (mut one, outcomes) = announcing(&[&silent_url, &knows_url]);
        one.ask(due(&silent_url, Occasion::Started, false), TOTALS, PATIENCE);
        let mut buffer = [0; 200];
        silent.recv(&mut buffer).unwrap();
        // The wait for it has begun and would last a minute.
        one.ask(due(&knows_url, Occasion::Stopped, true), TOTALS, PATIENCE);
        let (length, from) = knows.recv_from(&mut buffer).unwrap();
        let Ok(Question::Connect { transaction }) = Question::decode(&buffer[..length]) else {
            panic!("asks for an id");
        };
        let connection = 7;
        let reply = Reply::Connected {
            transaction,
            connection,
        };
        knows.send_to(&reply.encode(), from).unwrap();
        let length = knows.recv(&mut buffer).unwrap();
        let Ok(Question::Announce { announce, .. }) = Question::decode(&buffer[..length]) else {
            panic!("announces");
        };
        assert_eq!(announce.event, Some(Occasion::Stopped));
        assert!(outcomes.is_empty(), "the silent one is still waited for");
        // That it may have heard of us ends the wait; it never gave an id, so it has not.
        one.ask(due(&silent_url, Occasion::Stopped, false), TOTALS, PATIENCE);
        for _ in 0..2 {
            let outcome = outcomes.recv_timeout(PATIENCE).unwrap();
            assert_eq!(outcome.url, silent_url);
            assert_eq!(outcome.outcome, Err(AnnounceError::Interrupted));
        }
    }
}
