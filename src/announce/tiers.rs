//! Which tracker of a torrent to ask, and when (BEP 3, 12, 31).
//!
//! A torrent names its trackers in tiers. Within a tier one tracker is enough: they stand in random
//! order, one that fails hands over to the next, and one that answers moves to the front (BEP 12).
//! A deviation from BEP 12: it goes to the next tier only when all of one have failed, here all tiers
//! are asked side by side, because their trackers may know different peers (decision 54); but for
//! private torrents (decision 181). Another, from BEP 3: while no peer is known a tracker is asked again
//! before its interval is over, because in a swarm that begins everybody asks before anybody is known
//! (decision 185); its `min interval` is kept. This is a schedule and nothing else: it is told the time and
//! what came of each announce, and says which are due.
//!
//! ```
//! use ropewalk::announce::tiers::Tiers;
//! use std::time::Duration;
//! let trackers = vec![vec!["http://t.example/announce".to_owned()]];
//! let mut tiers = Tiers::new(&trackers, fastrand::Rng::with_seed(1));
//! let due = tiers.due(Duration::ZERO);
//! assert_eq!(due[0].url, "http://t.example/announce");
//! // … announce it, then:
//! tiers.answered(due[0].tier, Ok(&Default::default()), Duration::from_secs(1));
//! tiers.hungry(false); // there are peers: no haste
//! assert_eq!(tiers.wake_at(), Some(Duration::from_secs(1 + 1800)));
//! ```

use crate::protocol::tracker::http::{Answer, Occasion};
use crate::swarm::event::Moment;
use std::collections::BTreeSet;
use std::time::Duration;

/// What a tracker that failed said about asking it again (BEP 31).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// Nothing.
    Unsaid,
    /// After so long.
    In(Duration),
    /// Not in this run.
    Never,
}

/// The tiers that are kept apart, as each may need a thread; trackers of further ones join the last.
pub const TIERS_MAX: usize = 32;

/// The trackers of one torrent that are kept. A .torrent file may name a million.
const TRACKERS_MAX: usize = 200;

/// The longest tracker address that is kept, in bytes.
const URL_MAX: usize = 2_048;

/// What a tracker means that names no interval.
const INTERVAL: Duration = Duration::from_secs(30 * 60);

/// Intervals below are raised: a tracker must not be able to make us a flood.
const INTERVAL_MIN: Duration = Duration::from_secs(60);

/// Intervals above are cut: a tracker must not be able to silence us.
const INTERVAL_MAX: Duration = Duration::from_secs(2 * 60 * 60);

/// The longest wait that a tracker can demand: it may mean more than [`INTERVAL_MAX`], but not for ever.
const DEMAND_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// How long after an answer a tracker is asked again while there is no peer at all, whatever its
/// interval: in a swarm that is just starting everybody asks before anybody is known.
const HUNGRY: [Duration; 3] = [
    Duration::from_secs(5),
    Duration::from_secs(15),
    Duration::from_secs(30),
];

/// The wait after a tier has failed for the first time; doubles with each further time.
const BACK_OFF: Duration = Duration::from_secs(15);

/// The longest wait after failures.
const BACK_OFF_MAX: Duration = Duration::from_secs(30 * 60);

/// An announce that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// The tier it is for, to be given back to [`Tiers::answered`].
    pub tier: usize,
    /// The tracker's address.
    pub url: String,
    /// The occasion to name.
    pub event: Option<Occasion>,
    /// What to send as `trackerid`.
    pub tracker_id: Option<Vec<u8>>,
    /// It is known to have heard of us. `false` for one that is being asked when we leave: the answer is
    /// outstanding, and `stopped` makes sense only behind it.
    pub sure: bool,
}

/// The schedule of one torrent's announces.
#[derive(Debug)]
pub struct Tiers {
    tiers: Vec<Tier>,
    skipped: Vec<String>,
    rng: fastrand::Rng,
    hungry: bool,
    stopped: bool,
}

/// Trackers of which one is enough, the one to ask first in front.
#[derive(Debug)]
struct Tier {
    trackers: Vec<Tracker>,
    /// The tracker whose turn it is.
    turn: usize,
    /// What that tracker is being told at this moment, if it is being asked.
    asking: Option<Option<Occasion>>,
    /// When to ask next; when to ask while no peer is connected; when to ask at the earliest.
    next: Moment,
    next_if_hungry: Moment,
    earliest: Moment,
    /// How many answers since the last connected peer were followed by an early question.
    early: usize,
    /// How many times in a row every tracker of the tier failed.
    failed_rounds: u32,
}

#[derive(Debug)]
struct Tracker {
    url: String,
    id: Option<Vec<u8>>,
    /// It has heard `started` from us and not `stopped`.
    knows_us: bool,
    /// It has to hear `completed`.
    owed_completed: bool,
    /// It asked not to be asked before; `None`: ever.
    not_before: Option<Moment>,
}

impl Tiers {
    /// A schedule for the trackers of a torrent. Trackers of a kind that is not supported are left
    /// out, see [`Tiers::skipped`]; of one named twice the first place counts.
    pub fn new(trackers: &[Vec<String>], mut rng: fastrand::Rng) -> Tiers {
        let mut seen = BTreeSet::new();
        let mut unusable = 0;
        let mut tiers: Vec<Vec<Tracker>> = Vec::new();
        for urls in trackers {
            let mut tier = Vec::new();
            for url in urls {
                let scheme = url.split("://").next().unwrap_or_default();
                match scheme.to_ascii_lowercase().as_str() {
                    "http" | "https" | "udp" if seen.contains(url) => {}
                    "http" | "https" | "udp"
                        if url.len() <= URL_MAX && seen.len() < TRACKERS_MAX =>
                    {
                        seen.insert(url);
                        tier.push(Tracker::new(url));
                    }
                    _ => unusable += 1,
                }
            }
            rng.shuffle(&mut tier);
            let full = tiers.len() == TIERS_MAX;
            match tiers.last_mut() {
                Some(last) if full => last.extend(tier),
                _ if tier.is_empty() => {}
                _ => tiers.push(tier),
            }
        }
        let skipped = (unusable > 0).then(|| {
            let why = "not http, https or udp, too long, or too many";
            format!("{unusable} of the torrent's trackers skipped: {why}")
        });
        Tiers {
            tiers: tiers.into_iter().map(Tier::new).collect(),
            skipped: skipped.into_iter().collect(),
            rng,
            hungry: true,
            stopped: false,
        }
    }

    /// A schedule that asks one tracker of all tiers at a time, and the next only when that one fails: what private
    /// torrents demand (BEP 27).
    pub fn one_by_one(trackers: &[Vec<String>], rng: fastrand::Rng) -> Tiers {
        let mut tiers = Tiers::new(trackers, rng);
        let all: Vec<Tracker> = tiers.tiers.drain(..).flat_map(|it| it.trackers).collect();
        if !all.is_empty() {
            tiers.tiers.push(Tier::new(all));
        }
        tiers
    }

    /// A sentence for each reason why trackers were left out.
    pub fn skipped(&self) -> &[String] {
        &self.skipped
    }

    /// What to announce now. Each of these waits for its [`Tiers::answered`].
    pub fn due(&mut self, now: Moment) -> Vec<Due> {
        let (hungry, stopped) = (self.hungry, self.stopped);
        let tiers = self.tiers.iter_mut().enumerate();
        let ready =
            tiers.filter(|(_, tier)| !stopped && tier.when(hungry).is_some_and(|it| it <= now));
        ready
            .filter_map(|(number, tier)| tier.ask(number, now))
            .collect()
    }

    /// Takes note of what came of the announce that was due for `tier`.
    pub fn answered(&mut self, tier: usize, outcome: Result<&Answer, Again>, now: Moment) {
        let Some(tier) = self.tiers.get_mut(tier) else {
            return;
        };
        let Some(event) = tier.asking.take() else {
            return;
        };
        match outcome {
            Ok(answer) => tier.succeeded(event, answer, now),
            Err(again) => tier.failed(again, now, &mut self.rng),
        }
    }

    /// The download became complete in this run: each tracker that knows us is to hear so, at once.
    pub fn completed(&mut self) {
        for tier in &mut self.tiers {
            let asked = tier.asking.is_some().then_some(tier.turn);
            for (number, tracker) in tier.trackers.iter_mut().enumerate() {
                tracker.owed_completed = tracker.knows_us || asked == Some(number);
            }
            let first = tier.trackers.get(tier.turn);
            if first.is_some_and(|tracker| tracker.owed_completed) && tier.failed_rounds == 0 {
                tier.ask_at(Moment::ZERO);
            }
        }
    }

    /// Whether no peer at all is connected: trackers are asked again earlier then, where they allow it.
    pub fn hungry(&mut self, hungry: bool) {
        if hungry && !self.hungry {
            self.tiers.iter_mut().for_each(|tier| tier.early = 0);
        }
        self.hungry = hungry;
    }

    /// More addresses are wanted: ask as soon as each tracker allows, and not within a minute.
    pub fn ask_soon(&mut self) {
        for tier in &mut self.tiers {
            tier.next = tier.next.min(tier.earliest);
        }
    }

    /// We are leaving: what to announce to the trackers that know us, once. Nothing is due afterwards.
    pub fn stop(&mut self) -> Vec<Due> {
        self.stopped = true;
        let mut leaving = Vec::new();
        for (number, tier) in self.tiers.iter_mut().enumerate() {
            let asked = tier.asking.take().map(|_| tier.turn);
            for (place, tracker) in tier.trackers.iter_mut().enumerate() {
                // Of one that is being asked at this moment nobody knows yet whether it has heard.
                if tracker.knows_us || asked == Some(place) {
                    leaving.push(tracker.due(number, Some(Occasion::Stopped)));
                    tracker.knows_us = false;
                }
            }
        }
        leaving
    }

    /// When something will be due, if nothing happens before.
    pub fn wake_at(&self) -> Option<Moment> {
        let hungry = self.hungry;
        let times = self.tiers.iter().filter_map(|tier| tier.when(hungry));
        times.min().filter(|_| !self.stopped)
    }

    /// Whether there is no tracker left that could ever be asked.
    pub fn hopeless(&self) -> bool {
        let mut trackers = self.tiers.iter().flat_map(|tier| &tier.trackers);
        trackers.all(|tracker| tracker.not_before.is_none())
    }
}

impl Tier {
    fn new(trackers: Vec<Tracker>) -> Tier {
        Tier {
            trackers,
            turn: 0,
            asking: None,
            next: Moment::ZERO,
            next_if_hungry: Moment::ZERO,
            earliest: Moment::ZERO,
            early: 0,
            failed_rounds: 0,
        }
    }

    /// When the tier is to be asked; `None` while it is being asked or has no tracker left.
    fn when(&self, hungry: bool) -> Option<Moment> {
        let usable = self.trackers.iter().any(|it| it.not_before.is_some());
        let next = if hungry {
            self.next.min(self.next_if_hungry)
        } else {
            self.next
        };
        (self.asking.is_none() && usable).then_some(next)
    }

    fn ask_at(&mut self, moment: Moment) {
        (self.next, self.next_if_hungry) = (moment, moment);
    }

    /// The first tracker from `place` on that may be asked at `now`.
    fn askable(&self, place: usize, now: Moment) -> Option<usize> {
        let may = |it: &Tracker| it.not_before.is_some_and(|moment| moment <= now);
        let found = self.trackers.get(place..)?.iter().position(may)?;
        Some(place + found)
    }

    /// The announce that is due, and a note that it is under way.
    fn ask(&mut self, number: usize, now: Moment) -> Option<Due> {
        self.turn = self.askable(self.turn, now).or(self.askable(0, now))?;
        let tracker = &mut self.trackers[self.turn];
        let event = if !tracker.knows_us {
            // It will see from the numbers alone whether we are complete.
            tracker.owed_completed = false;
            Some(Occasion::Started)
        } else {
            tracker.owed_completed.then_some(Occasion::Completed)
        };
        self.asking = Some(event);
        Some(tracker.due(number, event))
    }

    fn succeeded(&mut self, event: Option<Occasion>, answer: &Answer, now: Moment) {
        // The one that answered is the first to be asked from now on (BEP 12).
        self.trackers[..=self.turn].rotate_right(1);
        self.turn = 0;
        self.failed_rounds = 0;
        let tracker = &mut self.trackers[0];
        tracker.knows_us = true;
        tracker.id = answer.tracker_id.clone().or(tracker.id.take());
        if event == Some(Occasion::Completed) {
            tracker.owed_completed = false;
        }
        let owed = tracker.owed_completed;
        let stated = answer.min_interval.map(seconds);
        let min = stated.unwrap_or_default().min(DEMAND_MAX);
        let interval = answer.interval.map(seconds).or(stated);
        let interval = interval.unwrap_or(INTERVAL);
        let interval = interval.clamp(INTERVAL_MIN, INTERVAL_MAX).max(min);
        self.next = now + interval;
        self.next_if_hungry = match HUNGRY.get(self.early) {
            Some(wait) => now + min.max(*wait),
            None => self.next,
        };
        self.early += 1;
        self.earliest = now + min.max(INTERVAL_MIN);
        if owed {
            self.ask_at(now);
        }
    }

    fn failed(&mut self, again: Again, now: Moment, rng: &mut fastrand::Rng) {
        let not_before = &mut self.trackers[self.turn].not_before;
        match again {
            Again::Unsaid => {}
            Again::In(wait) => *not_before = Some(now + wait.min(DEMAND_MAX)),
            Again::Never => *not_before = None,
        }
        if let Some(next) = self.askable(self.turn + 1, now) {
            self.turn = next;
            self.ask_at(now);
        } else {
            self.turn = 0;
            let wait = BACK_OFF * 2u32.pow(self.failed_rounds.min(7));
            let jitter = rng.f64() / 4.0;
            let wait = wait.mul_f64(1.0 + jitter).min(BACK_OFF_MAX);
            self.failed_rounds += 1;
            let allowed = self.trackers.iter().filter_map(|it| it.not_before).min();
            self.ask_at(allowed.unwrap_or_default().max(now + wait));
        }
        self.earliest = self.next;
    }
}

impl Tracker {
    fn new(url: &str) -> Tracker {
        Tracker {
            url: url.to_owned(),
            id: None,
            knows_us: false,
            owed_completed: false,
            not_before: Some(Moment::ZERO),
        }
    }

    fn due(&self, tier: usize, event: Option<Occasion>) -> Due {
        Due {
            tier,
            url: self.url.clone(),
            event,
            tracker_id: self.id.clone(),
            sure: self.knows_us,
        }
    }
}

/// A tracker's number of seconds; below zero is none.
fn seconds(number: i64) -> Duration {
    Duration::from_secs(u64::try_from(number).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn tiers(urls: &[&[&str]]) -> Tiers {
        let owned = |tier: &&[&str]| tier.iter().map(|url| url.to_string()).collect();
        let urls: Vec<Vec<String>> = urls.iter().map(owned).collect();
        Tiers::new(&urls, fastrand::Rng::with_seed(7))
    }

    fn at(seconds: u64) -> Moment {
        Moment::from_secs(seconds)
    }

    fn every(interval: i64) -> Answer {
        Answer {
            interval: Some(interval),
            ..Answer::default()
        }
    }

    const DEAD: Result<&Answer, Again> = Err(Again::Unsaid);

    /// What is due now, as (tier, address, event).
    fn due(tiers: &mut Tiers, now: u64) -> Vec<(usize, String, Option<Occasion>)> {
        let due = tiers.due(at(now)).into_iter();
        due.map(|it| (it.tier, it.url, it.event)).collect()
    }

    fn event(tiers: &mut Tiers, now: u64) -> Option<Option<Occasion>> {
        due(tiers, now).first().map(|it| it.2)
    }

    #[test]
    fn all_tiers_are_asked_at_the_start_and_one_tracker_of_each() {
        let mut tiers = tiers(&[&["http://a/", "http://b/"], &["https://c/"]]);
        let first = due(&mut tiers, 0);
        assert_eq!(first.len(), 2);
        assert!(first.iter().all(|it| it.2 == Some(Occasion::Started)));
        assert_eq!(due(&mut tiers, 0), [], "both are under way");
        assert_eq!(tiers.wake_at(), None);
    }

    #[test]
    fn the_order_within_a_tier_is_random_and_follows_from_the_seed() {
        let urls: Vec<String> = (0..20).map(|n| format!("http://{n}/")).collect();
        let first = |seed| {
            let mut tiers = Tiers::new(std::slice::from_ref(&urls), fastrand::Rng::with_seed(seed));
            tiers.due(at(0)).remove(0).url
        };
        assert_eq!(first(1), first(1));
        let seen: BTreeSet<_> = (0..100).map(first).collect();
        assert!(seen.len() > 10, "{seen:?}");
    }

    #[test]
    fn a_tracker_that_fails_hands_over_and_one_that_answers_moves_to_the_front() {
        let mut tiers = tiers(&[&["http://a/", "http://b/", "http://c/"]]);
        let first = due(&mut tiers, 0).remove(0).1;
        tiers.answered(0, DEAD, at(1));
        let second = due(&mut tiers, 1).remove(0).1;
        assert_ne!(first, second);
        tiers.answered(0, Ok(&every(100)), at(2));
        tiers.hungry(false);
        assert_eq!(tiers.wake_at(), Some(at(102)));
        assert_eq!(due(&mut tiers, 101), []);
        assert_eq!(due(&mut tiers, 102), [(0, second, None)]);
        tiers.answered(0, DEAD, at(103));
        assert_eq!(due(&mut tiers, 103), [(0, first, Some(Occasion::Started))]);
    }

    #[test]
    fn of_a_private_torrents_trackers_one_is_asked_at_a_time_and_kept_until_it_fails() {
        let urls = [&["http://a/"][..], &["http://b/"], &["http://c/"]];
        let urls = urls.map(|tier| tier.iter().map(|url| url.to_string()).collect());
        let mut tiers = Tiers::one_by_one(&urls, fastrand::Rng::with_seed(7));
        let mut asked = Vec::new();
        let minute = every(60);
        for (second, outcome) in [DEAD, Ok(&minute), Ok(&minute), DEAD, Ok(&minute)]
            .into_iter()
            .enumerate()
        {
            let now = 100 * second as u64;
            let one = due(&mut tiers, now);
            assert_eq!(one.len(), 1, "{one:?}");
            assert_eq!(tiers.wake_at(), None);
            tiers.answered(one[0].0, outcome, at(now));
            asked.push(one[0].1.clone());
        }
        assert_eq!(
            asked,
            [
                "http://a/",
                "http://b/",
                "http://b/",
                "http://b/",
                "http://a/"
            ]
        );
        assert_eq!(tiers.stop().len(), 2);
        assert_eq!(Tiers::one_by_one(&[], fastrand::Rng::new()).tiers.len(), 0);
    }

    #[test]
    fn intervals_are_clamped_between_a_minute_and_two_hours() {
        for (interval, min, expected) in [
            (None, None, 1800),
            (Some(0), None, 60),
            (Some(-1), Some(-1), 60),
            (Some(1), Some(1), 60),
            (Some(600), Some(60), 600),
            (Some(60), Some(600), 600),
            (None, Some(600), 600),
            (Some(i64::MAX), None, 7200),
            // What it demands counts for a day.
            (Some(60), Some(10_800), 10_800),
            (None, Some(10_800), 10_800),
            (Some(i64::MAX), Some(i64::MAX), 86_400),
        ] {
            let mut tiers = tiers(&[&["http://a/"]]);
            tiers.hungry(false);
            due(&mut tiers, 0);
            let (interval, min_interval) = (interval, min);
            let answer = Answer {
                interval,
                min_interval,
                ..Answer::default()
            };
            tiers.answered(0, Ok(&answer), at(10));
            assert_eq!(
                tiers.wake_at(),
                Some(at(10 + expected)),
                "{interval:?} {min:?}"
            );
        }
    }

    #[test]
    fn while_there_is_no_peer_trackers_are_asked_after_5_15_and_30_seconds() {
        let mut tiers = tiers(&[&["http://a/"]]);
        let mut now = 0;
        for wait in [5, 15, 30, 900] {
            assert_eq!(due(&mut tiers, now).len(), 1);
            tiers.answered(0, Ok(&every(900)), at(now));
            assert_eq!(tiers.wake_at(), Some(at(now + wait)));
            now += wait;
        }
    }

    #[test]
    fn a_connected_peer_ends_the_haste_and_losing_all_brings_it_back() {
        let mut tiers = tiers(&[&["http://a/"]]);
        due(&mut tiers, 0);
        tiers.answered(0, Ok(&every(900)), at(0));
        tiers.hungry(false);
        assert_eq!(tiers.wake_at(), Some(at(900)));
        tiers.hungry(true);
        assert_eq!(tiers.wake_at(), Some(at(5)));
    }

    #[test]
    fn a_min_interval_forbids_haste() {
        let mut tiers = tiers(&[&["http://a/"]]);
        due(&mut tiers, 0);
        let answer = Answer {
            interval: Some(900),
            min_interval: Some(300),
            ..Answer::default()
        };
        tiers.answered(0, Ok(&answer), at(0));
        assert_eq!(tiers.wake_at(), Some(at(300)));
        tiers.hungry(false);
        assert_eq!(tiers.wake_at(), Some(at(900)));
        tiers.ask_soon();
        assert_eq!(tiers.wake_at(), Some(at(300)));
    }

    #[test]
    fn neither_haste_nor_a_want_of_peers_undercuts_a_min_interval_of_hours() {
        let mut tiers = tiers(&[&["http://a/"]]);
        due(&mut tiers, 0);
        let answer = Answer {
            min_interval: Some(20_000),
            ..Answer::default()
        };
        tiers.answered(0, Ok(&answer), at(0));
        assert_eq!(tiers.wake_at(), Some(at(20_000)));
        tiers.ask_soon();
        assert_eq!(tiers.wake_at(), Some(at(20_000)));
    }

    #[test]
    fn asking_soon_leaves_a_minute_between() {
        let mut tiers = tiers(&[&["http://a/"]]);
        tiers.hungry(false);
        due(&mut tiers, 0);
        tiers.answered(0, Ok(&every(900)), at(3));
        tiers.ask_soon();
        assert_eq!(tiers.wake_at(), Some(at(63)));
    }

    #[test]
    fn failures_back_off_from_15_seconds_to_30_minutes() {
        let mut tiers = tiers(&[&["http://a/", "http://b/"]]);
        let (mut now, mut expected) = (at(0), Duration::from_secs(15));
        for _ in 0..12 {
            for _ in 0..2 {
                assert_eq!(tiers.due(now).len(), 1);
                tiers.answered(0, DEAD, now);
            }
            let next = tiers.wake_at().unwrap();
            let wait = next - now;
            let most = expected.mul_f64(1.25).min(BACK_OFF_MAX);
            assert!(
                wait >= expected && wait <= most,
                "{wait:?} for {expected:?}"
            );
            assert_eq!(tiers.due(next - Duration::from_nanos(1)), []);
            now = next;
            expected = (expected * 2).min(BACK_OFF_MAX);
        }
        assert_eq!(tiers.due(now).len(), 1);
        tiers.answered(0, Ok(&every(100)), now);
        tiers.hungry(false);
        assert_eq!(tiers.wake_at(), Some(now + at(100)));
        assert!(!tiers.hopeless());
    }

    #[test]
    fn a_tracker_that_names_a_time_is_left_alone_until_then() {
        let busy = |seconds| Err(Again::In(Duration::from_secs(seconds)));
        let mut tiers = tiers(&[&["http://a/"]]);
        due(&mut tiers, 0);
        tiers.answered(0, busy(500), at(0));
        assert_eq!(tiers.wake_at(), Some(at(500)));
        due(&mut tiers, 500);
        tiers.answered(0, busy(10_800), at(500));
        assert_eq!(tiers.wake_at(), Some(at(500 + 10_800)));
        due(&mut tiers, 20_000);
        tiers.answered(0, busy(1_000_000), at(20_000));
        assert_eq!(tiers.wake_at(), Some(at(20_000 + 86_400)));
    }

    #[test]
    fn a_tracker_that_says_never_is_never_asked_again() {
        let never = Err(Again::Never);

        let mut tiers = tiers(&[&["http://a/", "http://b/"]]);
        due(&mut tiers, 0);
        tiers.answered(0, never, at(0));
        assert!(!tiers.hopeless());
        due(&mut tiers, 0);
        tiers.answered(0, never, at(0));
        assert!(tiers.hopeless());
        assert_eq!(tiers.wake_at(), None);
        assert_eq!(due(&mut tiers, 1_000_000), []);
    }

    #[test]
    fn started_completed_and_stopped_are_told_once_to_each_tracker_that_knows_us() {
        let mut tiers = tiers(&[&["http://a/"], &["http://dead/"]]);
        tiers.hungry(false);
        assert_eq!(due(&mut tiers, 0).len(), 2);
        tiers.answered(0, Ok(&every(900)), at(0));
        tiers.answered(1, DEAD, at(0));
        tiers.completed();
        let completed = Some(Occasion::Completed);
        assert_eq!(due(&mut tiers, 1), [(0, "http://a/".into(), completed)]);
        tiers.answered(0, Ok(&every(900)), at(1));
        assert_eq!(
            due(&mut tiers, 901),
            [
                (0, "http://a/".into(), None),
                (1, "http://dead/".into(), Some(Occasion::Started)),
            ]
        );
        tiers.answered(0, Ok(&every(900)), at(901));
        tiers.answered(1, DEAD, at(901));
        let leaving = tiers.stop();
        assert_eq!(leaving.len(), 1);
        assert_eq!(leaving[0].url, "http://a/");
        assert_eq!(leaving[0].event, Some(Occasion::Stopped));
        assert_eq!(tiers.stop(), []);
        assert_eq!(due(&mut tiers, 1_000_000), []);
        assert_eq!(tiers.wake_at(), None);
    }

    #[test]
    fn across_a_failover_each_tracker_has_its_own_session() {
        let mut tiers = tiers(&[&["http://a/", "udp://b/"]]);
        tiers.hungry(false);
        let first = due(&mut tiers, 0).remove(0).1;
        tiers.answered(0, Ok(&every(900)), at(0));
        due(&mut tiers, 900);
        tiers.answered(0, DEAD, at(900));
        let (_, second, event) = due(&mut tiers, 900).remove(0);
        assert_eq!(event, Some(Occasion::Started));
        assert_ne!(first, second);
        tiers.answered(0, Ok(&every(900)), at(900));
        tiers.completed();
        assert_eq!(
            due(&mut tiers, 901),
            [(0, second.clone(), Some(Occasion::Completed))]
        );
        tiers.answered(0, Ok(&every(900)), at(901));
        assert_eq!(due(&mut tiers, 1801), [(0, second.clone(), None)]);
        tiers.answered(0, DEAD, at(1801));
        // The first one is back: it has not heard yet that we are complete, and knows that we came.
        let completed = Some(Occasion::Completed);
        assert_eq!(due(&mut tiers, 1801), [(0, first.clone(), completed)]);
        tiers.answered(0, Ok(&every(900)), at(1801));
        let leaving = tiers.stop();
        assert!(leaving.iter().all(|it| it.event == Some(Occasion::Stopped)));
        let told: BTreeSet<_> = leaving.into_iter().map(|it| it.url).collect();
        assert_eq!(told, BTreeSet::from([first, second]));
    }

    #[test]
    fn completion_during_an_announce_is_told_right_after_it() {
        let mut tiers = tiers(&[&["http://a/"]]);
        assert_eq!(event(&mut tiers, 0), Some(Some(Occasion::Started)));
        tiers.completed();
        assert_eq!(event(&mut tiers, 0), None);
        tiers.answered(0, Ok(&every(900)), at(2));
        assert_eq!(event(&mut tiers, 2), Some(Some(Occasion::Completed)));
        tiers.answered(0, DEAD, at(3));
        let again = tiers.wake_at().unwrap().as_secs() + 1;
        assert_eq!(event(&mut tiers, again), Some(Some(Occasion::Completed)));
        tiers.answered(0, Ok(&every(900)), at(again));
        tiers.hungry(false);
        assert_eq!(event(&mut tiers, again + 900), Some(None));
    }

    #[test]
    fn a_tracker_that_hears_of_us_after_completion_hears_only_started() {
        let mut tiers = tiers(&[&["http://a/"]]);
        due(&mut tiers, 0);
        tiers.completed();
        tiers.answered(0, DEAD, at(0));
        assert_eq!(event(&mut tiers, 100), Some(Some(Occasion::Started)));
        tiers.answered(0, Ok(&every(900)), at(100));
        tiers.hungry(false);
        assert_eq!(event(&mut tiers, 1000), Some(None));
    }

    #[test]
    fn a_tracker_that_is_being_told_of_us_hears_that_we_leave() {
        let mut tiers = tiers(&[&["http://a/"]]);
        due(&mut tiers, 0);
        assert_eq!(tiers.stop().len(), 1);
        tiers.answered(0, Ok(&every(900)), at(1));
        assert_eq!(tiers.stop(), []);
    }

    #[test]
    fn a_tracker_id_is_given_back() {
        let mut tiers = tiers(&[&["http://a/"]]);
        assert_eq!(tiers.due(at(0))[0].tracker_id, None);
        let tracker_id = Some(b"x".to_vec());
        let answer = Answer {
            tracker_id: tracker_id.clone(),
            ..Answer::default()
        };
        tiers.answered(0, Ok(&answer), at(0));
        assert_eq!(tiers.due(at(5))[0].tracker_id, tracker_id);
        tiers.answered(0, Ok(&every(100)), at(5));
        assert_eq!(tiers.stop()[0].tracker_id, tracker_id);
    }

    #[test]
    fn trackers_that_cannot_be_asked_are_skipped_with_a_sentence() {
        let urls: &[&[&str]] = &[&["wss://a:1/announce", "i2p://b"], &["ftp://c", "nonsense"]];
        let mut none = tiers(urls);
        assert!(none.hopeless());
        let expected =
            "4 of the torrent's trackers skipped: not http, https or udp, too long, or too many";
        assert_eq!(none.skipped(), [expected]);
        assert_eq!((none.due(at(0)), none.wake_at()), (Vec::new(), None));
        let mut one = tiers(&[&["wss://a/"], &["UDP://b/", "UDP://b/"], &["UDP://b/"]]);
        assert_eq!(
            due(&mut one, 0),
            [(0, "UDP://b/".into(), Some(Occasion::Started))]
        );
        assert_eq!(one.tiers.len(), 1);
    }

    #[test]
    fn whether_a_tracker_has_heard_of_us_is_said_when_we_leave() {
        let mut tiers = tiers(&[&["udp://a/"], &["udp://b/"], &["udp://c/"]]);
        tiers.hungry(false);
        assert!(tiers.due(at(0)).iter().all(|it| !it.sure));
        tiers.answered(0, Ok(&every(900)), at(0));
        tiers.answered(2, Ok(&every(60)), at(0));
        assert!(tiers.due(at(60)).iter().all(|it| it.sure));
        let leaving = tiers.stop();
        let sure: Vec<_> = leaving.iter().map(|it| (it.tier, it.sure)).collect();
        assert_eq!(sure, [(0, true), (1, false), (2, true)]);
    }

    #[test]
    fn a_list_without_end_is_cut() {
        let urls: Vec<Vec<String>> = (0..10_000).map(|n| vec![format!("http://{n}/")]).collect();
        let mut tiers = Tiers::new(&urls, fastrand::Rng::with_seed(1));
        assert_eq!(tiers.due(at(0)).len(), TIERS_MAX);
        let kept: usize = tiers.tiers.iter().map(|tier| tier.trackers.len()).sum();
        assert_eq!(kept, TRACKERS_MAX);
        assert_eq!(tiers.skipped().len(), 1);
    }

    #[test]
    fn answers_nobody_waits_for_change_nothing() {
        let mut tiers = tiers(&[&["http://a/"]]);
        tiers.answered(0, Ok(&every(900)), at(0));
        tiers.answered(9, DEAD, at(0));
        assert_eq!(event(&mut tiers, 0), Some(Some(Occasion::Started)));
    }
}
