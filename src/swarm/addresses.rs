//! Whom to call: every address we were told, when it was tried, and when it may be tried again.
//!
//! ```text
//! book.found(address, origin) ; book.due(now, room, ..) -> addresses to dial
//! book.failed(address, ..) / book.joined(address) / book.left(address, ..) ; book.wake_at()
//! ```
//!
//! Where a caller says it listens is a claim: somebody else may listen there, at the same router. So what becomes of
//! a caller costs an address that others told us of a pause at most.

use super::event::{Farewell, Moment, Origin};
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Addresses remembered. A tracker that tells more, or a liar who invents some, costs no more.
pub const ADDRESSES_MAX: usize = 1_000;
/// Hosts remembered that lied. The next one takes the place of the first, which may lie once more.
const BANNED_MAX: usize = 1_000;
/// Addresses remembered that are our own. One that is forgotten is called once more, and found out again.
const OURSELVES_MAX: usize = 100;
/// Connections being made at a time, without those that meet silence.
pub const DIALS_MAX: usize = 24;
/// The same with them. Each is a thread, a descriptor, and a line in the table of a small router.
const HALF_OPEN_MAX: usize = 64;
/// After so long a call meets silence: somebody who is there has answered, if only to refuse.
const SILENT_AFTER: Duration = Duration::from_secs(1);
/// Failures in a row after which a tracker's address is not tried again.
const FAILURES_MAX: u32 = 6;
/// The same where somebody is there and hangs up each time: half an hour, and a tracker tells of it again by then.
const TURNED_AWAY_MAX: u32 = 30;
/// How long an address is left alone of which a caller said that it is its own, and then behaved so that it would not
/// be called again.
const DOUBTFUL_PAUSE: Duration = Duration::from_secs(300);
/// The same where the user named it.
const DOUBTFUL_PAUSE_USER: Duration = Duration::from_secs(30);
/// How long a connection has to last for its address to start with a clean slate.
const GOOD_VISIT: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AddressState {
    /// May be dialled from this moment on.
    Waiting(Moment),
    /// Is being dialled.
    Dialling,
    /// Is a peer since then, whoever called.
    Joined(Moment),
    /// Could not be reached again and again, or is not ours to call: is not called unless it is told again.
    Lost,
    /// Is not to be called again.
    Never,
}

#[derive(Debug)]
struct Entry {
    origin: Origin,
    state: AddressState,
    failures: u32,
}

/// The address book of one torrent.
#[derive(Debug)]
pub struct AddressBook {
    private: bool,
    entries: BTreeMap<SocketAddr, Entry>,
    /// The latest last, as in `ourselves`.
    banned: VecDeque<IpAddr>,
    ourselves: VecDeque<SocketAddr>,
    /// The calls under way and when they began, the oldest first.
    calls: VecDeque<(Moment, SocketAddr)>,
    /// The earliest moment an entry waits for: kept, so that asking for it costs nothing.
    next: Option<Moment>,
}

impl AddressBook {
    /// An empty one. `private`: nobody is called only because it said where it listens (BEP 27).
    pub fn new(private: bool) -> AddressBook {
        AddressBook {
            private,
            entries: BTreeMap::new(),
            banned: VecDeque::new(),
            ourselves: VecDeque::new(),
            calls: VecDeque::new(),
            next: None,
        }
    }

    /// An address was told; says whether it is new and of use.
    pub fn found(&mut self, address: SocketAddr, origin: Origin, now: Moment) -> bool {
        let address = canonical(address);
        if address.port() == 0
            || address.ip().is_unspecified()
            || address.ip().is_multicast()
            || self.is_banned(address)
            || self.ourselves.contains(&address)
        {
            return false;
        }
        if let Some(entry) = self.entries.get_mut(&address) {
            entry.origin = entry.origin.min(origin);
            if entry.state == AddressState::Lost {
                entry.state = AddressState::Waiting(now);
                self.sooner(now);
            }
            return false;
        }
        if self.entries.len() >= ADDRESSES_MAX && !self.make_room(origin) {
            return false;
        }
        let entry = Entry {
            origin,
            state: AddressState::Waiting(now),
            failures: 0,
        };
        self.entries.insert(address, entry);
        self.sooner(now);
        true
    }

    /// Forgets an address that is not in use: first one that is not to be called again, as who must never come
    /// back is known by other lists; then what a caller said of itself; then the one that failed most. A caller's
    /// claim takes the place of claims alone: it is free, and nobody can be called under most of them.
    fn make_room(&mut self, origin: Origin) -> bool {
        let spare = |entry: &Entry| match entry.state {
            AddressState::Never => true,
            AddressState::Lost => entry.origin >= origin,
            AddressState::Waiting(_) => {
                entry.origin > origin || entry.origin == origin && entry.failures > 0
            }
            AddressState::Dialling | AddressState::Joined(_) => false,
        };
        let never = |entry: &Entry| entry.state == AddressState::Never;
        let worst = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.origin != Origin::User && spare(entry))
            .max_by_key(|(_, entry)| (never(entry), entry.origin, entry.failures))
            .map(|(address, _)| *address);
        if let Some(worst) = worst {
            self.entries.remove(&worst);
        }
        worst.is_some()
    }

    /// Up to `room` addresses to dial now, the user's first, then those that failed least.
    pub fn due(&mut self, now: Moment, room: usize, rng: &mut fastrand::Rng) -> Vec<SocketAddr> {
        let room = room.min(self.places(now));
        if room == 0 || self.next.is_none_or(|next| next > now) {
            return Vec::new();
        }
        let mut due: Vec<_> = self
            .entries
            .iter()
            .filter(|(_, entry)| matches!(entry.state, AddressState::Waiting(at) if at <= now))
            .map(|(address, entry)| (entry.origin, entry.failures, rng.u32(..), *address))
            .collect();
        due.sort_unstable();
        due.truncate(room);
        let due: Vec<_> = due.into_iter().map(|(.., address)| address).collect();
        for address in &due {
            self.set(*address, AddressState::Dialling);
            self.calls.push_back((now, *address));
        }
        self.look_ahead();
        due
    }

    /// How many calls may begin: one that meets silence gives up its place, or a few hundred addresses where nobody is
    /// any more would keep us from a seed behind them for minutes.
    fn places(&self, now: Moment) -> usize {
        let begun = self.calls.iter().rev();
        let fresh = begun.take_while(|(began, _)| *began + SILENT_AFTER > now);
        let free = DIALS_MAX.saturating_sub(fresh.count());
        free.min(HALF_OPEN_MAX.saturating_sub(self.calls.len()))
    }

    /// From when on a call may begin, as far as those under way are concerned; `None`: when one of them is over.
    fn place_at(&self) -> Option<Moment> {
        if self.calls.len() >= HALF_OPEN_MAX {
            return None;
        }
        let in_the_way = self.calls.iter().rev().nth(DIALS_MAX - 1);
        Some(in_the_way.map_or(Moment::ZERO, |(began, _)| *began + SILENT_AFTER))
    }

    /// When `due` will have something to say, if it may dial at all then.
    pub fn wake_at(&self) -> Option<Moment> {
        Some(self.next?.max(self.place_at()?))
    }

    /// How many are being dialled.
    pub fn dialling(&self) -> usize {
        self.calls.len()
    }

    /// Whether some address is being dialled or will be.
    pub fn any_hope(&self) -> bool {
        !self.calls.is_empty() || self.next.is_some()
    }

    /// A peer at this address was there when it was called, or said that it listens there.
    pub fn joined(&mut self, address: SocketAddr, now: Moment) {
        let address = canonical(address);
        if !self.entries.contains_key(&address) && !self.found(address, Origin::Peer, now) {
            return;
        }
        self.set(address, AddressState::Joined(now));
        self.look_ahead();
    }

    /// A call failed.
    pub fn failed(&mut self, address: SocketAddr, why: &Farewell, now: Moment) {
        let address = canonical(address);
        let Some(entry) = self.entries.get_mut(&address) else {
            return;
        };
        // A lack of room, threads or descriptors is ours.
        entry.failures += u32::from(*why != Farewell::NoRoom);
        self.is_over(address, why, now);
    }

    /// A peer left.
    pub fn left(&mut self, address: SocketAddr, why: &Farewell, now: Moment) {
        let address = canonical(address);
        let Some(entry) = self.entries.get_mut(&address) else {
            return;
        };
        if let AddressState::Joined(since) = entry.state
            && now >= since + GOOD_VISIT
        {
            entry.failures = 0;
        }
        entry.failures += 1;
        self.is_over(address, why, now);
    }

    /// A caller left that had said it listens at this address. Only calls tell whether that is true, so it is its own
    /// failure alone, and no reason never to call.
    pub fn claimant_left(&mut self, address: SocketAddr, why: &Farewell, now: Moment) {
        let address = canonical(address);
        let banned = self.is_banned(address);
        let entry = self.entries.get_mut(&address);
        let Some((entry, since)) = entry.and_then(|entry| match entry.state {
            AddressState::Joined(since) => Some((entry, since)),
            _ => None,
        }) else {
            return;
        };
        if now >= since + GOOD_VISIT {
            entry.failures = 0;
        }
        entry.failures += u32::from(entry.origin == Origin::Peer);
        let state = next_try(entry.origin, entry.failures.max(1), why, now);
        let state = match (state, entry.origin) {
            _ if banned => AddressState::Never,
            (AddressState::Never, Origin::User) => AddressState::Waiting(now + DOUBTFUL_PAUSE_USER),
            (AddressState::Never, Origin::Tracker) => AddressState::Waiting(now + DOUBTFUL_PAUSE),
            (AddressState::Never, Origin::Peer) => AddressState::Lost,
            (AddressState::Waiting(_), Origin::Peer) if self.private => AddressState::Lost,
            (state, _) => state,
        };
        self.set(address, state);
        self.look_ahead();
    }

    /// A call or a visit is over. Of a private torrent nobody is called whom only itself named. Who was banned
    /// meanwhile stays so, whatever `why`: a liar may be quicker to hang up than we.
    fn is_over(&mut self, address: SocketAddr, why: &Farewell, now: Moment) {
        let banned = self.is_banned(address);
        let Some(entry) = self.entries.get(&address) else {
            return;
        };
        let rumour = self.private && entry.origin == Origin::Peer;
        let state = match next_try(entry.origin, entry.failures, why, now) {
            _ if banned || entry.state == AddressState::Never => AddressState::Never,
            AddressState::Waiting(_) if rumour => AddressState::Lost,
            state => state,
        };
        self.set(address, state);
        self.look_ahead();
    }

    /// This address answered with our own id: it is us.
    pub fn is_us(&mut self, address: SocketAddr) {
        let address = canonical(address);
        keep_latest(&mut self.ourselves, address, OURSELVES_MAX);
        self.set(address, AddressState::Never);
        self.look_ahead();
    }

    /// Somebody at this address lied: no call to it, and none from it. On a network each address is
    /// a host; on the loopback each port is one.
    pub fn ban(&mut self, address: SocketAddr) {
        let address = canonical(address);
        self.set(address, AddressState::Never);
        if !address.ip().is_loopback() {
            keep_latest(&mut self.banned, address.ip(), BANNED_MAX);
            let same: Vec<_> = self
                .entries
                .iter()
                .filter(|(other, entry)| {
                    other.ip() == address.ip() && matches!(entry.state, AddressState::Waiting(_))
                })
                .map(|(other, _)| *other)
                .collect();
            for other in same {
                self.set(other, AddressState::Never);
            }
        }
        self.look_ahead();
    }

    /// Whether calls from this address are refused.
    pub fn is_banned(&self, address: SocketAddr) -> bool {
        self.banned.contains(&canonical(address).ip())
    }

    fn set(&mut self, address: SocketAddr, state: AddressState) {
        if let Some(entry) = self.entries.get_mut(&address) {
            if entry.state == AddressState::Dialling {
                self.calls.retain(|(_, called)| *called != address);
            }
            entry.state = state;
        }
    }

    fn sooner(&mut self, at: Moment) {
        self.next = Some(self.next.map_or(at, |next| next.min(at)));
    }

    fn look_ahead(&mut self) {
        let waits = self.entries.values().filter_map(|entry| match entry.state {
            AddressState::Waiting(at) => Some(at),
            _ => None,
        });
        self.next = waits.min();
    }
}

/// Adds to a list of which each member is there once, and the oldest goes when there is no room.
fn keep_latest<T: PartialEq>(list: &mut VecDeque<T>, new: T, max: usize) {
    if !list.contains(&new) {
        list.push_back(new);
        if list.len() > max {
            list.pop_front();
        }
    }
}

/// One address in two notations is one address.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// When an address that failed so often may be tried again.
fn next_try(origin: Origin, failures: u32, why: &Farewell, now: Moment) -> AddressState {
    let doubling = 1u32 << failures.saturating_sub(1).min(10);
    match (why, origin) {
        (Farewell::BothComplete | Farewell::Leaving, _) => AddressState::Never,
        // The other connection to the same peer may end one day.
        (Farewell::Duplicate, _) => AddressState::Waiting(now + Duration::from_secs(300)),
        (
            Farewell::Replaced | Farewell::Useless | Farewell::NoRoom,
            Origin::Tracker | Origin::Peer,
        ) => AddressState::Waiting(now + Duration::from_secs(300)),
        (why, _) if !why.may_retry() => AddressState::Never,
        // A person said there is a peer: it may be about to be started.
        (_, Origin::User) => {
            AddressState::Waiting(now + Duration::from_secs(u64::from(2 * doubling).min(30)))
        }
        // Somebody is there and has no room for us, now.
        (Farewell::Closed, _) if failures < TURNED_AWAY_MAX => {
            AddressState::Waiting(now + Duration::from_secs(u64::from(15 * doubling).min(60)))
        }
        _ if failures >= FAILURES_MAX => AddressState::Lost,
        _ => AddressState::Waiting(now + Duration::from_secs(u64::from(15 * doubling).min(1800))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swarm::event::Slowness;
    use std::net::Ipv4Addr;

    fn address(port: u16) -> SocketAddr {
        ([10, 0, 0, 1], port).into()
    }

    fn seconds(s: u64) -> Moment {
        Duration::from_secs(s)
    }

    fn book() -> (AddressBook, fastrand::Rng) {
        (AddressBook::new(false), fastrand::Rng::with_seed(1))
    }

    fn refused() -> Farewell {
        Farewell::Unreachable("refused".into())
    }

    #[test]
    fn an_address_is_dialled_once_however_often_it_is_told() {
        let (mut book, mut rng) = book();
        for _ in 0..10_000 {
            book.found(address(7), Origin::Tracker, seconds(0));
        }
        book.found(
            "[::ffff:10.0.0.1]:7".parse().unwrap_or(address(8)),
            Origin::Tracker,
            seconds(0),
        );
        assert_eq!(book.due(seconds(0), 10, &mut rng), [address(7)]);
        book.found(address(7), Origin::Tracker, seconds(0));
        assert_eq!(book.due(seconds(0), 10, &mut rng), []);
        assert_eq!(book.wake_at(), None);
    }

    #[test]
    fn who_lied_is_not_called_again_however_its_connection_or_a_call_to_its_host_ends() {
        let here = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        for liar in [address(7), here(7)] {
            let (mut book, mut rng) = book();
            book.found(liar, Origin::Tracker, seconds(0));
            book.due(seconds(0), 10, &mut rng);
            book.joined(liar, seconds(1));
            book.ban(liar);
            // It was quicker to hang up than we.
            book.left(liar, &Farewell::Closed, seconds(2));
            assert_eq!(book.due(seconds(10_000), 10, &mut rng), []);
        }
        let (mut book, mut rng) = book();
        book.found(address(8), Origin::Tracker, seconds(0));
        assert_eq!(book.due(seconds(0), 10, &mut rng), [address(8)]);
        book.ban(address(7));
        book.failed(address(8), &refused(), seconds(1));
        assert_eq!(book.due(seconds(10_000), 10, &mut rng), []);
    }

    #[test]
    fn port_0_and_addresses_of_nobody_are_never_dialled() {
        let (mut book, mut rng) = book();
        for text in ["10.0.0.1:0", "0.0.0.0:5", "[::]:5", "224.0.0.1:5"] {
            assert!(
                !text
                    .parse()
                    .is_ok_and(|a| book.found(a, Origin::User, seconds(0)))
            );
        }
        assert_eq!(book.due(seconds(0), 10, &mut rng), []);
    }

    #[test]
    fn a_trackers_address_is_tried_ever_more_seldom_and_then_no_more() {
        let (mut book, mut rng) = book();
        book.found(address(7), Origin::Tracker, seconds(0));
        let (mut now, mut pauses) = (seconds(0), Vec::new());
        while let Some(at) = book.wake_at() {
            pauses.push((at - now).as_secs());
            now = at;
            assert_eq!(book.due(now, 10, &mut rng), [address(7)]);
            book.failed(address(7), &refused(), now);
        }
        assert_eq!(pauses, [0, 15, 30, 60, 120, 240]);
        assert!(!book.any_hope());
    }

    #[test]
    fn a_users_address_is_tried_for_ever_and_at_least_every_30_seconds() {
        let (mut book, mut rng) = book();
        book.found(address(7), Origin::User, seconds(0));
        let mut now = seconds(0);
        for _ in 0..100 {
            assert_eq!(book.due(now, 10, &mut rng), [address(7)]);
            book.failed(address(7), &refused(), now);
            let next = book.wake_at().unwrap_or_default();
            assert!(next > now && next <= now + seconds(30));
            now = next;
        }
    }

    #[test]
    fn the_book_is_full_at_its_limit_and_calls_are_made_a_few_at_a_time() {
        let (mut book, mut rng) = book();
        let told = (1..5000).filter(|port| book.found(address(*port), Origin::Tracker, seconds(0)));
        assert_eq!(told.count(), ADDRESSES_MAX);
        assert!(book.found(address(6000), Origin::User, seconds(0)));
        let dialled = book.due(seconds(0), 500, &mut rng);
        assert_eq!(dialled.len(), DIALS_MAX);
        assert_eq!(dialled[0], address(6000));
        assert_eq!(book.due(seconds(0), 500, &mut rng), []);
    }

    #[test]
    fn a_seed_behind_three_hundred_silent_addresses_is_called_within_a_minute() {
        let (mut book, mut rng) = book();
        let connect = seconds(5);
        for port in 1..=300 {
            book.found(address(port), Origin::Tracker, seconds(0));
        }
        let (mut now, mut called, mut under_way) = (seconds(0), 0, VecDeque::new());
        // As many as a client with a hundred places calls at a time.
        while called < 300 {
            let due = book.due(now, 40 - under_way.len(), &mut rng);
            called += due.len();
            under_way.extend(due.into_iter().map(|address| (now + connect, address)));
            now += Duration::from_millis(100);
            while let Some((_, address)) = under_way.pop_front_if(|(end, _)| *end <= now) {
                book.failed(address, &Farewell::TooSlow(Slowness::Connect), now);
            }
        }
        assert!(now < seconds(45), "{now:?}");
    }

    #[test]
    fn silent_calls_hold_others_up_for_a_second_and_are_never_more_than_a_router_bears() {
        let (mut book, mut rng) = book();
        for port in 1..=500 {
            book.found(address(port), Origin::Tracker, seconds(0));
        }
        let half = Duration::from_millis(500);
        assert_eq!(book.due(half, 10, &mut rng).len(), 10);
        assert_eq!(book.wake_at(), Some(seconds(0)), "others may be called");
        assert_eq!(book.due(seconds(1), 500, &mut rng).len(), DIALS_MAX - 10);
        assert_eq!(book.wake_at(), Some(half + seconds(1)));
        assert_eq!(book.due(half + seconds(1), 500, &mut rng).len(), 10);
        assert_eq!(book.wake_at(), Some(seconds(2)));
        for second in 2..5 {
            book.due(seconds(second), 500, &mut rng);
        }
        assert_eq!((book.dialling(), book.wake_at()), (HALF_OPEN_MAX, None));
        // Who answers makes room at once, if only by refusing.
        book.failed(book.calls[0].1, &refused(), seconds(4));
        assert_eq!(book.due(seconds(9), 500, &mut rng).len(), 1);
    }

    #[test]
    fn a_banned_host_is_neither_called_nor_let_in_but_the_loopback_has_many_hosts() {
        let (mut book, mut rng) = book();
        book.found(address(7), Origin::User, seconds(0));
        book.ban(address(9));
        assert!(book.is_banned(address(1234)));
        assert_eq!(book.due(seconds(0), 10, &mut rng), []);
        let here = |port| SocketAddr::from(([127, 0, 0, 1], port));
        book.found(here(1), Origin::User, seconds(0));
        book.found(here(2), Origin::User, seconds(0));
        book.ban(here(1));
        assert_eq!(book.due(seconds(0), 10, &mut rng), [here(2)]);
    }

    #[test]
    fn our_own_address_is_never_dialled_again() {
        let (mut book, mut rng) = book();
        book.found(address(7), Origin::User, seconds(0));
        assert_eq!(book.due(seconds(0), 10, &mut rng), [address(7)]);
        book.is_us(address(7));
        book.failed(address(7), &Farewell::Ourselves, seconds(0));
        assert!(!book.found(address(7), Origin::User, seconds(99)));
        assert_eq!(book.due(seconds(999), 10, &mut rng), []);
        assert!(!book.any_hope());
    }

    #[test]
    fn what_we_have_no_room_for_is_not_the_addresss_failure() {
        let (mut book, mut rng) = book();
        let mut now = seconds(1);
        book.found(address(1), Origin::Tracker, now);
        for _ in 0..20 {
            assert_eq!(book.due(now, 1, &mut rng), [address(1)]);
            book.failed(address(1), &Farewell::NoRoom, now);
            now += seconds(301);
        }
        assert_eq!(book.due(now, 1, &mut rng), [address(1)]);
    }

    #[test]
    fn who_has_no_room_is_called_once_a_minute_and_who_was_lost_when_it_is_told_again() {
        let mut book = AddressBook::new(false);
        let mut rng = fastrand::Rng::with_seed(1);
        let (full, lost) = (address(1), address(2));
        let mut calls = [0, 0];
        for second in 0..3_600 {
            let now = Duration::from_secs(second);
            if second == 0 || second == 3_500 {
                book.found(full, Origin::Tracker, now);
                book.found(lost, Origin::Tracker, now);
            }
            for address in book.due(now, 2, &mut rng) {
                if address == full {
                    book.joined(full, now);
                    book.left(full, &Farewell::Closed, now);
                } else {
                    book.failed(lost, &refused(), now);
                }
                calls[usize::from(address == lost)] += 1;
            }
        }
        assert_eq!(calls, [31, 7]);
    }

    #[test]
    fn a_book_full_of_those_who_are_not_called_again_has_room_for_others() {
        let (mut book, mut rng) = book();
        for port in 1..=ADDRESSES_MAX as u16 {
            book.found(address(port), Origin::Tracker, seconds(0));
            book.joined(address(port), seconds(0));
            book.left(address(port), &Farewell::BothComplete, seconds(1));
        }
        assert!(book.found(address(2001), Origin::Tracker, seconds(2)));
        assert!(book.found(address(2002), Origin::User, seconds(2)));
        assert_eq!(book.entries.len(), ADDRESSES_MAX);
        assert_eq!(
            book.due(seconds(2), 9, &mut rng),
            [address(2002), address(2001)]
        );
    }

    #[test]
    fn of_those_who_lied_and_of_our_own_addresses_the_latest_are_known_and_no_flood_of_them_grows()
    {
        let (mut book, _) = book();
        let host = |number: u32| SocketAddr::from((Ipv4Addr::from(0x0a00_0000 + number), 7));
        for number in 0..20_000 {
            book.ban(host(number));
            book.is_us(address(number as u16 + 1));
        }
        assert!(book.is_banned(host(19_999)) && !book.is_banned(host(0)));
        assert!(book.banned.len() <= BANNED_MAX && book.ourselves.len() <= OURSELVES_MAX);
    }

    #[test]
    fn what_callers_say_of_themselves_keeps_nobody_elses_address_out() {
        let (mut book, mut rng) = book();
        book.found(address(60_000), Origin::Tracker, seconds(0));
        for port in 1..=2 * ADDRESSES_MAX as u16 {
            book.joined(address(port), seconds(0));
            book.left(address(port), &refused(), seconds(0));
        }
        assert!(book.found(address(60_001), Origin::Tracker, seconds(0)));
        assert!(book.found(address(60_002), Origin::User, seconds(0)));
        assert_eq!(book.entries.len(), ADDRESSES_MAX);
        let first = book.due(seconds(3_600), 3, &mut rng);
        assert_eq!(first[0], address(60_002));
        assert!(first.contains(&address(60_000)) && first.contains(&address(60_001)));
    }

    #[test]
    fn a_trackers_addresses_make_no_room_for_what_a_caller_says_of_itself() {
        let (mut book, _) = book();
        for port in 1..=ADDRESSES_MAX as u16 {
            book.found(address(port), Origin::Tracker, seconds(0));
            book.failed(address(port), &refused(), seconds(0));
        }
        book.joined(address(2001), seconds(1));
        assert!(!book.entries.contains_key(&address(2001)));
        assert!(book.found(address(2002), Origin::Tracker, seconds(1)));
    }
}
