//! A network without sockets, in virtual time, from a seed: any number of brains, each with an
//! uplink, a distance and a character. Messages on a connection arrive in order. An uplink sends one
//! parcel at a time, a block or messages that were written together, and on a slow line a segment of it, its
//! connections in turn, as TCP shares it; a message overtakes the blocks of its connection that the kernel has not been given yet
//! and no others.
//!
//! ```text
//! let mut network = Network::new(geometry, seed);
//! let seed = network.join(Member { has: Has::All, ..Member::default() });
//! network.run_until(Duration::from_secs(600), |network| network.all_complete());
//! ```

use crate::hands::{Due, Hand, Parcel};
use crate::timeline::Timeline;
use ropewalk::protocol::bitfield::Bitfield;
use ropewalk::protocol::digest::Hasher;
use ropewalk::protocol::peer::{Message, PeerId, WireBlock};
use ropewalk::protocol::{Block, Digest, Geometry, InfoHash, PieceIndex};
use ropewalk::swarm::event::{Action, Event, Farewell, Greeting, Origin, PeerKey, Verdict, Way};
use ropewalk::swarm::{Swarm, SwarmSetup};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

pub use crate::member::{Character, Has, Member};

/// How long a piece is hashed.
const CHECK_TIME: Duration = Duration::from_millis(2);

/// A connection sends so many bytes in its turn at least, and as many as make so many turns a second: on fast
/// lines a block at a time.
const SEGMENT: u64 = 1_448;
const TURNS_A_SECOND: u64 = 200;

/// How long a peer's thread takes to tell what a command brought about.
const TURN: Duration = Duration::from_micros(300);

struct Seat {
    plan: Member,
    swarm: Swarm,
    address: SocketAddr,
    /// Blocks with a slot out, and to which connection end.
    out: BTreeMap<Block, usize>,
    /// What lies in the files: the truth of each block.
    laid: BTreeMap<Block, bool>,
    here: bool,
    /// Connections that wait for the uplink, in turn.
    line: VecDeque<usize>,
    /// What the uplink is sending, and from which connection; without a parcel it is not the parcel's last part.
    sending: Option<(usize, Option<Parcel>)>,
    /// Bytes of payload that have left.
    sent: u64,
    hands: Vec<usize>,
    wakes: BTreeSet<Duration>,
    completed: Option<Duration>,
}

enum Happening {
    Wake(usize),
    Arrive {
        hand: usize,
        parcel: Parcel,
        good: bool,
    },
    Sent(usize),
    Dialled {
        from: usize,
        to: SocketAddr,
    },
    Checked {
        member: usize,
        piece: PieceIndex,
        by_block: bool,
    },
    Closed {
        hand: usize,
        why: Farewell,
    },
    Turn(usize),
    Introduced(usize, Vec<usize>),
    Vanish(usize),
}

/// A happening and its time; the heap gives the earliest first, in the order in which they were made.
struct Dated {
    at: Duration,
    number: u64,
    happening: Happening,
}

impl PartialEq for Dated {
    fn eq(&self, other: &Dated) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Dated {}

impl PartialOrd for Dated {
    fn partial_cmp(&self, other: &Dated) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Dated {
    fn cmp(&self, other: &Dated) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

/// The network and everybody on it.
pub struct Network {
    geometry: Geometry,
    now: Duration,
    seats: Vec<Seat>,
    hands: Vec<Hand>,
    due: BinaryHeap<Dated>,
    count: u64,
    rng: fastrand::Rng,
    log: Hasher,
    /// What threads told at this very moment and nobody has heard yet.
    told: VecDeque<(usize, Event)>,
    /// Connections something was said or served on, whose threads have not written yet.
    written: Vec<usize>,
    /// Members that are here, download, and are not complete.
    waiting: usize,
    riders: usize,
    /// Pieces that somebody has who had none of them at first, and when the last of them came so far.
    pub out: (Bitfield, Duration),
    /// Payload that left in each second: the first member's, and everybody else's.
    pub traffic: Vec<[u64; 2]>,
    /// Who gave what to whom, if that is to be kept.
    pub timeline: Option<Timeline>,
    /// Check the brains' own invariants after every so many events.
    pub check_every: u64,
    steps: u64,
    /// Everybody who was hung up for lying, by whom.
    pub accused: BTreeSet<(usize, usize)>,
    /// Blocks asked for twice, in endgames.
    pub spares: u64,
    /// Blocks that arrived.
    pub delivered: u64,
    /// Every other reason for a hang-up, and how often.
    pub farewells: BTreeMap<String, u64>,
}

impl Network {
    /// An empty network.
    pub fn new(geometry: Geometry, seed: u64) -> Network {
        Network {
            geometry,
            now: Duration::ZERO,
            seats: Vec::new(),
            hands: Vec::new(),
            due: BinaryHeap::new(),
            count: 0,
            rng: fastrand::Rng::with_seed(seed),
            log: Hasher::default(),
            told: VecDeque::new(),
            written: Vec::new(),
            waiting: 0,
            riders: 0,
            out: (Bitfield::new(&geometry), Duration::ZERO),
            traffic: Vec::new(),
            timeline: None,
            check_every: 1,
            steps: 0,
            accused: BTreeSet::new(),
            spares: 0,
            delivered: 0,
            farewells: BTreeMap::new(),
        }
    }

    /// A member joins now; it is told of `meet` when the run goes on.
    pub fn join(&mut self, plan: Member) -> usize {
        let number = self.seats.len();
        let have = match &plan.has {
            Has::All => Bitfield::full(&self.geometry),
            Has::Nothing => Bitfield::new(&self.geometry),
            Has::Pieces(pieces) => {
                let mut have = Bitfield::new(&self.geometry);
                for piece in pieces.iter().filter_map(|n| self.geometry.piece(*n)) {
                    have.set(piece);
                }
                have
            }
        };
        let mut id = [b'-'; 20];
        id[12..].copy_from_slice(&self.rng.u64(..).to_be_bytes());
        let address = address_of(number);
        let setup = SwarmSetup {
            geometry: self.geometry,
            info_hash: InfoHash([7; 20]),
            have,
            wanted: Bitfield::full(&self.geometry),
            sequential: false,
            laid: Vec::new(),
            private: false,
            id: PeerId(id),
            downloads: plan.downloads,
            listen_port: Some(6881),
            limits: plan.limits,
            seed: self.rng.u64(..),
        };
        let swarm = Swarm::new(setup, self.now);
        self.riders += usize::from(plan.character == Character::FreeRider);
        self.waiting += usize::from(plan.downloads && !swarm.is_complete());
        self.seats.push(Seat {
            swarm,
            plan,
            address,
            out: BTreeMap::new(),
            laid: BTreeMap::new(),
            here: true,
            line: VecDeque::new(),
            sending: None,
            sent: 0,
            hands: Vec::new(),
            wakes: BTreeSet::new(),
            completed: None,
        });
        number
    }

    /// A tracker tells `member` of `others`.
    pub fn introduce(&mut self, member: usize, others: &[usize]) {
        let addresses = others.iter().filter(|other| **other != member);
        let addresses = addresses.map(|other| self.seats[*other].address).collect();
        self.tell(
            member,
            Event::Found {
                addresses,
                origin: Origin::Tracker,
            },
        );
    }

    /// A tracker tells everybody of everybody.
    pub fn introduce_all(&mut self) {
        let all: Vec<_> = (0..self.seats.len()).collect();
        for member in &all {
            self.introduce(*member, &all);
        }
    }

    /// A tracker tells `member` of `others` at that time: until then it knows nobody.
    pub fn introduce_at(&mut self, at: Duration, member: usize, others: Vec<usize>) {
        self.schedule(at, Happening::Introduced(member, others));
    }

    /// Pulls the plug of a member's machine at that time: no goodbye.
    pub fn vanish_at(&mut self, at: Duration, member: usize) {
        self.schedule(at, Happening::Vanish(member));
    }

    pub fn swarm(&self, member: usize) -> &Swarm {
        &self.seats[member].swarm
    }

    /// When each member that is still here was complete.
    pub fn completions(&self) -> Vec<Option<Duration>> {
        let here = self.seats.iter().filter(|seat| seat.here);
        here.map(|seat| seat.completed).collect()
    }

    /// Whether everybody who is here and downloads has everything.
    pub fn all_complete(&self) -> bool {
        self.waiting == 0
    }

    /// Whether everybody who is here, downloads and gives has everything.
    pub fn contributors_complete(&self) -> bool {
        self.waiting <= self.riders
            && self.seats.iter().all(|seat| {
                let waits = seat.here && seat.plan.downloads && !seat.swarm.is_complete();
                !waits || seat.plan.character == Character::FreeRider
            })
    }

    /// When `member` was complete.
    pub fn completed(&self, member: usize) -> Option<Duration> {
        self.seats[member].completed
    }

    /// Whether `member` is a free rider.
    pub fn rides(&self, member: usize) -> bool {
        self.seats[member].plan.character == Character::FreeRider
    }

    /// Bytes of payload that `member` has sent.
    pub fn sent(&self, member: usize) -> u64 {
        self.seats[member].sent
    }

    /// A digest of everything that was done, by whom and when.
    pub fn digest(self) -> Digest {
        self.log.finish()
    }

    /// Runs until `done` or the end of time. Says whether it was done.
    pub fn run_until(&mut self, end: Duration, done: impl Fn(&Network) -> bool) -> bool {
        while !done(self) {
            if self.due.peek().is_none_or(|next| next.at > end) {
                return false;
            }
            let Some(Dated { at, happening, .. }) = self.due.pop() else {
                return false;
            };
            self.now = at;
            self.happen(happening);
            self.settle_down();
        }
        true
    }

    pub fn now(&self) -> Duration {
        self.now
    }

    fn schedule(&mut self, at: Duration, happening: Happening) {
        self.count += 1;
        let number = self.count;
        self.due.push(Dated {
            at,
            number,
            happening,
        });
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Wake(member) => {
                let now = self.now;
                if self.seats[member].wakes.remove(&now) {
                    self.tell(member, Event::Woken);
                }
            }
            Happening::Arrive { hand, parcel, good } => match parcel {
                Parcel::Words(words) => words.into_iter().for_each(|it| self.arrive(hand, it)),
                Parcel::Payload(block) => self.block_arrives(hand, block, good),
            },
            Happening::Sent(member) => self.parcel_left(member),
            Happening::Dialled { from, to } => self.dialled(from, to),
            Happening::Checked {
                member,
                piece,
                by_block,
            } => self.checked(member, piece, by_block),
            Happening::Closed { hand, why } => self.close(hand, why),
            Happening::Turn(hand) => self.turn(hand),
            Happening::Introduced(member, others) => self.introduce(member, &others),
            Happening::Vanish(member) => {
                let seat = &mut self.seats[member];
                let missed = seat.plan.downloads && !seat.swarm.is_complete();
                self.waiting -= usize::from(missed && seat.here);
                self.seats[member].here = false;
                for hand in self.seats[member].hands.clone() {
                    let other = self.hands[hand].other;
                    let why = Farewell::Broken("reset".into());
                    self.hands[hand].closed = true;
                    self.close(other, why);
                }
            }
        }
    }

    /// Tells a brain what happened and does what it says.
    fn tell(&mut self, member: usize, event: Event) {
        if !self.seats[member].here {
            return;
        }
        let mut actions = Vec::new();
        let now = self.now;
        let seat = &mut self.seats[member];
        seat.swarm.handle(event, now, &mut actions);
        self.steps += 1;
        if self.steps.is_multiple_of(self.check_every) {
            seat.swarm.check_invariants();
        }
        for action in actions {
            if self.check_every == 1 {
                let line = format!("{now:?} {member} {action:?}\n");
                self.log.update(line.as_bytes());
            }
            self.act(member, action);
        }
        let seat = &mut self.seats[member];
        if let Some(at) = seat.swarm.wake_at() {
            let at = at.max(now);
            if seat.wakes.first().is_none_or(|first| at < *first) {
                seat.wakes.insert(at);
                self.schedule(at, Happening::Wake(member));
            }
        }
    }

    fn hand_of(&self, member: usize, peer: PeerKey) -> Option<usize> {
        let hand = peer.0 as usize;
        let known = self.hands.get(hand)?;
        (known.member == member && !known.closed).then_some(hand)
    }

    fn act(&mut self, member: usize, action: Action) {
        match action {
            Action::Dial { address } => {
                let at = self.now + self.seats[member].plan.delay * 4;
                let from = member;
                self.schedule(at, Happening::Dialled { from, to: address });
            }
            Action::HangUp { peer, why } => self.hang_up(member, peer, why),
            Action::Say { peer, message } => {
                if let Some(hand) = self.hand_of(member, peer) {
                    self.send(hand, message);
                }
            }
            Action::Request { .. }
            | Action::RequestSpare { .. }
            | Action::Revoke { .. }
            | Action::Settle { .. }
            | Action::Discard { .. } => self.act_on_request(member, action),
            Action::Serve { .. } | Action::Withhold { .. } => self.act_on_upload(member, action),
            Action::Check { piece, by_block } => {
                let seat = &self.seats[member];
                for block in self.geometry.blocks(piece) {
                    assert!(seat.laid.contains_key(&block), "{block:?} is not laid");
                }
                let at = self.now + CHECK_TIME;
                self.schedule(
                    at,
                    Happening::Checked {
                        member,
                        piece,
                        by_block,
                    },
                );
            }
            Action::Keep { piece } => {
                let laid = &mut self.seats[member].laid;
                let mut blocks = self.geometry.blocks(piece);
                if self.out.0.set(piece) {
                    self.out.1 = self.now;
                }
                let right = blocks.all(|block| laid.remove(&block) == Some(true));
                assert!(right, "{piece:?} is wrong");
            }
            Action::Forget { piece } => {
                let laid = &mut self.seats[member].laid;
                laid.retain(|block, _| block.piece() != piece);
            }
            Action::Announce => {}
            Action::Complete => {
                let now = self.now;
                let old = self.seats[member].completed.replace(now);
                assert_eq!(old, None, "complete twice");
                self.waiting -= usize::from(self.seats[member].here);
            }
        }
    }

    /// What a peer's thread does about our requests.
    fn act_on_request(&mut self, member: usize, action: Action) {
        match action {
            Action::Request { peer, block } => self.request(member, peer, block, Due::Slot),
            Action::RequestSpare { peer, block } => {
                self.must_be_endgame(member, block);
                self.spares += 1;
                self.request(member, peer, block, Due::Spare);
            }
            Action::Revoke { peer, block } => {
                let Some(hand) = self.hand_of(member, peer) else {
                    return;
                };
                if self.hands[hand].due.get(&block) == Some(&Due::Slot) {
                    self.hands[hand].due.remove(&block);
                    self.hands[hand].taken_back.insert(block);
                    self.send(hand, Message::Cancel(block.into()));
                    self.report(hand, Event::Returned { peer, block });
                }
            }
            Action::Settle { peer, block } => {
                let Some(hand) = self.hand_of(member, peer) else {
                    return;
                };
                let seat = &mut self.seats[member];
                assert!(!seat.out.contains_key(&block), "{block:?} is out already");
                match self.hands[hand].due.remove(&block) {
                    Some(Due::Held { good }) => {
                        let old = seat.laid.insert(block, good);
                        assert_eq!(old, None, "{block:?} laid twice");
                        self.report(hand, Event::Received { peer, block });
                    }
                    Some(Due::Spare) => {
                        self.hands[hand].due.insert(block, Due::Slot);
                        seat.out.insert(block, hand);
                    }
                    // It was refused a moment ago.
                    None => {
                        seat.out.insert(block, hand);
                        self.report(hand, Event::Returned { peer, block });
                    }
                    Some(Due::Slot) => panic!("{block:?} has two slots"),
                }
            }
            Action::Discard { peer, block } => {
                let Some(hand) = self.hand_of(member, peer) else {
                    return;
                };
                match self.hands[hand].due.get(&block) {
                    Some(Due::Spare) => {
                        self.hands[hand].due.remove(&block);
                        self.hands[hand].taken_back.insert(block);
                        self.send(hand, Message::Cancel(block.into()));
                    }
                    Some(Due::Held { .. }) => {
                        self.hands[hand].due.remove(&block);
                    }
                    Some(Due::Slot) => panic!("{block:?} was discarded and has a slot"),
                    None => {}
                }
            }
            _ => unreachable!("{action:?}"),
        }
    }

    /// What a peer's thread does about its requests.
    fn act_on_upload(&mut self, member: usize, action: Action) {
        match action {
            Action::Serve { peer, block } => {
                let seat = &self.seats[member];
                assert!(
                    seat.swarm.have().has(block.piece()),
                    "{block:?} is not ours"
                );
                let Some(hand) = self.hand_of(member, peer) else {
                    return;
                };
                let most = match self.seats[member].plan.character {
                    Character::Silent { after } => after,
                    _ => u32::MAX,
                };
                if self.hands[hand].served < most {
                    self.hands[hand].served += 1;
                    self.hands[hand].to_serve.push_back(block);
                    self.written.push(hand);
                }
            }
            Action::Withhold { peer, block } => {
                let Some(hand) = self.hand_of(member, peer) else {
                    return;
                };
                let queue = &mut self.hands[hand].to_serve;
                if let Some(at) = queue.iter().position(|other| *other == block) {
                    queue.remove(at);
                    if self.hands[hand].fast {
                        self.send(hand, Message::Reject(block.into()));
                    }
                }
            }
            _ => unreachable!("{action:?}"),
        }
    }

    /// What a command brought about is told at the thread's next turn, never at once.
    fn report(&mut self, hand: usize, event: Event) {
        self.hands[hand].batch.push(event);
        let at = self.now + TURN;
        self.schedule(at, Happening::Turn(hand));
    }

    fn turn(&mut self, hand: usize) {
        let member = self.hands[hand].member;
        for event in std::mem::take(&mut self.hands[hand].batch) {
            if let Event::Returned { block, .. } = &event {
                let was = self.seats[member].out.remove(block);
                assert_eq!(was, Some(hand));
            }
            self.tell(member, event);
        }
    }

    fn request(&mut self, member: usize, peer: PeerKey, block: Block, due: Due) {
        let Some(hand) = self.hand_of(member, peer) else {
            // The connection ended a moment ago: the slot comes straight home.
            panic!("a request to {peer:?}, which is gone");
        };
        let seat = &mut self.seats[member];
        assert!(!seat.laid.contains_key(&block), "{block:?} is laid already");
        let ours = seat.swarm.have().has(block.piece());
        assert!(!ours, "{block:?} is ours already");
        if due == Due::Slot {
            let old = seat.out.insert(block, hand);
            assert_eq!(old, None, "{block:?} is out to two peers");
        }
        let old = self.hands[hand].due.insert(block, due);
        assert_eq!(old, None, "{block:?} was asked twice of {peer:?}");
        self.send(hand, Message::Request(block.into()));
    }

    /// A second copy may be asked for only if every missing block that could be asked for is out.
    fn must_be_endgame(&self, member: usize, block: Block) {
        if self.check_every > 1 {
            return;
        }
        let seat = &self.seats[member];
        assert!(seat.out.contains_key(&block), "{block:?} is not out");
        for piece in self.geometry.all_pieces() {
            let known = || {
                let mut peers = seat.swarm.peers();
                peers.any(|(_, peer)| !peer.is_leaving() && peer.holds.has(piece))
            };
            if seat.swarm.have().has(piece) {
                continue;
            }
            let mut blocks = self.geometry.blocks(piece);
            let free = blocks.any(|it| !seat.out.contains_key(&it) && !seat.laid.contains_key(&it));
            assert!(
                !free || !known(),
                "a spare of {block:?} while {piece:?} has free blocks"
            );
        }
    }

    /// A thread has something to say.
    fn send(&mut self, hand: usize, message: Message) {
        let free = self.seats[self.hands[hand].member].plan.character != Character::FreeRider;
        if free || message != Message::Unchoke {
            self.hands[hand].words.push(message);
            self.written.push(hand);
        }
    }

    fn delay_between(&self, hand: usize) -> Duration {
        let (here, there) = (&self.hands[hand], &self.hands[self.hands[hand].other]);
        self.seats[here.member].plan.delay + self.seats[there.member].plan.delay
    }

    /// Everything that follows at this very moment: threads write, brains hear what was written.
    fn settle_down(&mut self) {
        loop {
            for hand in std::mem::take(&mut self.written) {
                self.write(hand);
            }
            let Some((hand, event)) = self.told.pop_front() else {
                return;
            };
            if !self.hands[hand].closed {
                self.tell(self.hands[hand].member, event);
            }
        }
    }

    /// A thread writes what the kernel takes, and the connection stands in line for the uplink.
    fn write(&mut self, hand: usize) {
        let end = &mut self.hands[hand];
        if end.closed {
            return;
        }
        let (peer, member) = (end.key, end.member);
        let mut served = Vec::new();
        end.write(&mut served);
        for block in served {
            self.told.push_back((hand, Event::Served { peer, block }));
        }
        if !self.hands[hand].in_line && !self.hands[hand].unsent.is_empty() {
            self.hands[hand].in_line = true;
            self.seats[member].line.push_back(hand);
            self.use_uplink(member);
        }
    }

    /// Begins to send the next parcel, if the line is free: connections take turns.
    fn use_uplink(&mut self, member: usize) {
        while self.seats[member].here && self.seats[member].sending.is_none() {
            let Some(hand) = self.seats[member].line.pop_front() else {
                return;
            };
            self.hands[hand].in_line = false;
            if self.hands[hand].closed {
                continue;
            }
            let uplink = self.seats[member].plan.uplink;
            let turn = (uplink / TURNS_A_SECOND).max(SEGMENT);
            let Some((bytes, parcel)) = self.hands[hand].send(turn) else {
                continue;
            };
            let nanos = bytes * 1_000_000_000 / uplink;
            self.seats[member].sending = Some((hand, parcel));
            let at = self.now + Duration::from_nanos(nanos);
            self.schedule(at, Happening::Sent(member));
        }
    }

    /// The uplink has sent a parcel: it travels on.
    fn parcel_left(&mut self, member: usize) {
        let Some((hand, parcel)) = self.seats[member].sending.take() else {
            return;
        };
        if let Some(parcel) = parcel {
            self.send_on(member, hand, parcel);
        }
        // Behind those that wait already.
        self.write(hand);
        self.use_uplink(member);
    }

    fn send_on(&mut self, member: usize, hand: usize, parcel: Parcel) {
        let mut good = true;
        if let Parcel::Payload(block) = &parcel {
            self.seats[member].sent += u64::from(block.length());
            let second = self.now.as_secs() as usize;
            self.traffic
                .resize(self.traffic.len().max(second + 1), [0; 2]);
            self.traffic[second][usize::from(member > 0)] += u64::from(block.length());
            good = match self.seats[member].plan.character {
                Character::Liar { one_in } => self.rng.u32(0..one_in) > 0,
                Character::LiesAbout { piece } => piece != block.piece().get(),
                _ => true,
            };
        }
        if !self.hands[hand].closed {
            let at = (self.now + self.delay_between(hand)).max(self.hands[hand].last_arrival);
            self.hands[hand].last_arrival = at;
            let hand = self.hands[hand].other;
            self.schedule(at, Happening::Arrive { hand, parcel, good });
        }
    }

    fn arrive(&mut self, hand: usize, message: Message) {
        if self.hands[hand].closed {
            return;
        }
        let (member, peer) = (self.hands[hand].member, self.hands[hand].key);
        let mut home = Vec::new();
        match &message {
            Message::Choke if !self.hands[hand].fast => home = self.hands[hand].take_slots(),
            Message::Reject(wire) => {
                // The answer to a cancel: a request made again meanwhile stands.
                let mut taken_back = self.hands[hand].taken_back.iter();
                let back = taken_back.find(|block| WireBlock::from(**block) == *wire);
                if let Some(block) = back.copied() {
                    self.hands[hand].taken_back.remove(&block);
                    return;
                }
                let due = self.hands[hand].due.iter();
                let mut due = due.filter(|(block, _)| WireBlock::from(**block) == *wire);
                let due = due.next().map(|(block, due)| (*block, *due));
                match due {
                    Some((block, Due::Slot)) => {
                        self.hands[hand].due.remove(&block);
                        return self.give_back(hand, block);
                    }
                    Some((block, _)) => {
                        self.hands[hand].due.remove(&block);
                    }
                    None => {}
                }
            }
            _ => {}
        }
        self.tell(member, Event::Said { peer, message });
        for block in home {
            self.give_back(hand, block);
        }
    }

    /// A slot comes home unused.
    fn give_back(&mut self, hand: usize, block: Block) {
        let (member, peer) = (self.hands[hand].member, self.hands[hand].key);
        let was = self.seats[member].out.remove(&block);
        assert_eq!(was, Some(hand));
        self.tell(member, Event::Returned { peer, block });
    }

    fn block_arrives(&mut self, hand: usize, block: Block, good: bool) {
        if self.hands[hand].closed {
            return;
        }
        self.delivered += 1;
        let from = self.hands[self.hands[hand].other].member;
        if let Some(timeline) = &mut self.timeline {
            timeline.arrived(from, self.hands[hand].member, block, self.now);
        }
        let (member, peer) = (self.hands[hand].member, self.hands[hand].key);
        match self.hands[hand].due.get(&block).copied() {
            Some(Due::Slot) => {
                self.hands[hand].due.remove(&block);
                self.lay(hand, block, good);
            }
            Some(Due::Spare) => {
                self.hands[hand].due.insert(block, Due::Held { good });
                self.tell(member, Event::Held { peer, block });
            }
            Some(Due::Held { .. }) | None => {
                let bytes = block.length();
                let asked = self.hands[hand].taken_back.remove(&block);
                self.tell(member, Event::Wasted { peer, bytes, asked });
            }
        }
    }

    fn lay(&mut self, hand: usize, block: Block, good: bool) {
        let (member, peer) = (self.hands[hand].member, self.hands[hand].key);
        let seat = &mut self.seats[member];
        assert_eq!(seat.out.remove(&block), Some(hand));
        assert_eq!(seat.laid.insert(block, good), None, "{block:?} laid twice");
        self.tell(member, Event::Received { peer, block });
    }

    fn checked(&mut self, member: usize, piece: PieceIndex, by_block: bool) {
        let laid = &self.seats[member].laid;
        let truth: Vec<_> = self.geometry.blocks(piece).map(|it| laid[&it]).collect();
        let verdict = if truth.iter().all(|good| *good) {
            Verdict::Good
        } else {
            Verdict::Bad
        };
        let blocks = if by_block || verdict == Verdict::Bad {
            // Any two lies about a block are different ones.
            let lie = self.rng.u64(..);
            let digest = |(number, good): (usize, &bool)| {
                Digest::of(format!("{number} {}", if *good { 0 } else { lie }).as_bytes())
            };
            truth.iter().enumerate().map(digest).collect()
        } else {
            Vec::new()
        };
        self.tell(
            member,
            Event::Checked {
                piece,
                verdict,
                blocks,
            },
        );
    }

    fn dialled(&mut self, from: usize, address: SocketAddr) {
        if !self.seats[from].here {
            return;
        }
        let to = number_at(address);
        let Some(to) = to.filter(|to| self.seats.get(*to).is_some_and(|seat| seat.here)) else {
            let why = Farewell::Unreachable("refused".into());
            return self.tell(from, Event::Unreached { address, why });
        };
        let fast = self.seats[from].plan.fast && self.seats[to].plan.fast;
        let hands = [self.hands.len(), self.hands.len() + 1];
        let keys = hands.map(|hand| PeerKey(hand as u64));
        self.hands.push(Hand::new(from, keys[0], hands[1], fast));
        self.hands.push(Hand::new(to, keys[1], hands[0], fast));
        self.seats[from].hands.push(hands[0]);
        self.seats[to].hands.push(hands[1]);
        let caller = SocketAddr::new(self.seats[from].address.ip(), 40_000);
        let ends = [
            (from, to, keys[0], address, Way::Dialled),
            (to, from, keys[1], caller, Way::Accepted),
        ];
        for (member, other, peer, address, way) in ends {
            let greeting = Greeting {
                address,
                way,
                id: self.id_of(other),
                fast,
                extended: true,
            };
            self.tell(member, Event::Connected { peer, greeting });
        }
    }

    fn id_of(&self, member: usize) -> PeerId {
        self.seats[member].swarm.id()
    }

    fn hang_up(&mut self, member: usize, peer: PeerKey, why: Farewell) {
        let Some(hand) = self.hand_of(member, peer) else {
            return;
        };
        let other = self.hands[hand].other;
        if why == Farewell::Lied {
            self.accused.insert((member, self.hands[other].member));
        }
        *self.farewells.entry(why.to_string()).or_default() += 1;
        let delay = self.delay_between(hand);
        let at = (self.now + delay).max(self.hands[hand].last_arrival);
        self.schedule(
            at,
            Happening::Closed {
                hand: other,
                why: Farewell::Closed,
            },
        );
        self.schedule(self.now, Happening::Closed { hand, why });
    }

    /// One end of a connection ends: its slots go home, then it is gone.
    fn close(&mut self, hand: usize, why: Farewell) {
        if self.hands[hand].closed {
            return;
        }
        let (member, peer) = (self.hands[hand].member, self.hands[hand].key);
        self.turn(hand);
        for block in self.hands[hand].take_slots() {
            self.give_back(hand, block);
        }
        let due = &mut self.hands[hand].due;
        due.retain(|_, due| !matches!(due, Due::Held { .. }));
        assert!(
            due.is_empty(),
            "{due:?} was asked of who sent all slots home"
        );
        self.hands[hand].closed = true;
        self.seats[member].hands.retain(|other| *other != hand);
        self.tell(member, Event::Gone { peer, why });
    }
}

/// The address of a member, and the member at an address.
fn address_of(number: usize) -> SocketAddr {
    SocketAddr::from(([10, 1, (number >> 8) as u8, number as u8], 6881))
}

fn number_at(address: SocketAddr) -> Option<usize> {
    match address.ip() {
        std::net::IpAddr::V4(ip) => {
            let [.., high, low] = ip.octets();
            Some(usize::from(high) << 8 | usize::from(low))
        }
        std::net::IpAddr::V6(_) => None,
    }
}
