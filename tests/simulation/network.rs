//! A network without sockets, in virtual time, from a seed: any number of brains, each with an
//! uplink, a distance and a character. Messages on a connection arrive in order; a member's uplink
//! sends one block at a time, its connections in turn.
//!
//! ```text
//! let mut network = Network::new(geometry, seed);
//! let seed = network.join(Member { has: Has::All, ..Member::default() });
//! network.run_until(Duration::from_secs(600), |network| network.all_complete());
//! ```

use crate::hands::{Due, Hand};
use ropewalk::protocol::bitfield::Bitfield;
use ropewalk::protocol::digest::Hasher;
use ropewalk::protocol::peer::{Message, PeerId, WireBlock};
use ropewalk::protocol::{Block, Digest, Geometry, InfoHash, PieceIndex};
use ropewalk::swarm::event::{Action, Event, Farewell, Greeting, Origin, PeerKey, Verdict, Way};
use ropewalk::swarm::{Limits, Setup, Swarm};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::net::SocketAddr;
use std::time::Duration;

/// How long a piece is hashed.
const CHECK_TIME: Duration = Duration::from_millis(2);

/// How long a peer's thread takes to tell what a command brought about.
const TURN: Duration = Duration::from_micros(300);

/// What a member has when it joins.
#[derive(Debug, Clone)]
pub enum Has {
    /// Every piece.
    All,
    /// None.
    Nothing,
    /// These.
    Pieces(Vec<u32>),
}

/// How a member behaves towards others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Character {
    /// As the protocol says.
    Honest,
    /// Sends wrong data in one of so many blocks.
    Liar { one_in: u32 },
    /// Sends wrong data for this piece, always.
    LiesAbout { piece: u32 },
    /// Unchokes and never sends a block.
    Silent,
}

/// One member of the swarm.
#[derive(Debug, Clone)]
pub struct Member {
    /// What it begins with.
    pub has: Has,
    /// Bytes a second.
    pub uplink: u64,
    /// One way to the middle of the network.
    pub delay: Duration,
    /// How it behaves.
    pub character: Character,
    /// Whether it speaks the fast extension.
    pub fast: bool,
    /// Whether it asks for anything.
    pub downloads: bool,
    /// Its limits.
    pub limits: Limits,
}

impl Default for Member {
    fn default() -> Member {
        Member {
            has: Has::Nothing,
            uplink: 625_000,
            delay: Duration::from_millis(20),
            character: Character::Honest,
            fast: true,
            downloads: true,
            limits: Limits::default(),
        }
    }
}

struct Seat {
    plan: Member,
    swarm: Swarm,
    address: SocketAddr,
    /// Blocks with a slot out, and to which connection end.
    out: BTreeMap<Block, usize>,
    /// What lies in the files: the truth of each block.
    laid: BTreeMap<Block, bool>,
    here: bool,
    sending: bool,
    next_hand: usize,
    hands: Vec<usize>,
    wakes: BTreeSet<Duration>,
    completed: Option<Duration>,
}

enum Happening {
    Wake(usize),
    Arrive {
        hand: usize,
        message: Message,
    },
    Block {
        hand: usize,
        block: Block,
        good: bool,
    },
    Sent {
        hand: usize,
        block: Block,
    },
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
    Vanish(usize),
}

/// The network and everybody on it.
pub struct Network {
    geometry: Geometry,
    now: Duration,
    seats: Vec<Seat>,
    hands: Vec<Hand>,
    due: BinaryHeap<Reverse<(Duration, u64)>>,
    happenings: BTreeMap<u64, Happening>,
    count: u64,
    keys: u64,
    rng: fastrand::Rng,
    log: Hasher,
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
            happenings: BTreeMap::new(),
            count: 0,
            keys: 0,
            rng: fastrand::Rng::with_seed(seed),
            log: Hasher::default(),
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
        let address = SocketAddr::from(([10, 1, (number >> 8) as u8, number as u8], 6881));
        let setup = Setup {
            geometry: self.geometry,
            info_hash: InfoHash([7; 20]),
            have,
            wanted: Bitfield::full(&self.geometry),
            sequential: false,
            laid: Vec::new(),
            id: PeerId(id),
            downloads: plan.downloads,
            listen_port: Some(6881),
            limits: plan.limits,
            seed: self.rng.u64(..),
        };
        self.seats.push(Seat {
            swarm: Swarm::new(setup, self.now),
            plan,
            address,
            out: BTreeMap::new(),
            laid: BTreeMap::new(),
            here: true,
            sending: false,
            next_hand: 0,
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
        let mut here = self.seats.iter().filter(|seat| seat.here);
        here.all(|seat| !seat.plan.downloads || seat.swarm.is_complete())
    }

    /// A digest of everything that was done, by whom and when.
    pub fn digest(self) -> Digest {
        self.log.finish()
    }

    /// Runs until `done` or the end of time. Says whether it was done.
    pub fn run_until(&mut self, end: Duration, done: impl Fn(&Network) -> bool) -> bool {
        while !done(self) {
            let Some(Reverse((at, number))) = self.due.pop() else {
                return false;
            };
            if at > end {
                return false;
            }
            self.now = at;
            if let Some(happening) = self.happenings.remove(&number) {
                self.happen(happening);
            }
        }
        true
    }

    pub fn now(&self) -> Duration {
        self.now
    }

    fn schedule(&mut self, at: Duration, happening: Happening) {
        self.count += 1;
        self.happenings.insert(self.count, happening);
        self.due.push(Reverse((at, self.count)));
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Wake(member) => {
                let now = self.now;
                if self.seats[member].wakes.remove(&now) {
                    self.tell(member, Event::Woken);
                }
            }
            Happening::Arrive { hand, message } => self.arrive(hand, message),
            Happening::Block { hand, block, good } => self.block_arrives(hand, block, good),
            Happening::Sent { hand, block } => self.sent(hand, block),
            Happening::Dialled { from, to } => self.dialled(from, to),
            Happening::Checked {
                member,
                piece,
                by_block,
            } => self.checked(member, piece, by_block),
            Happening::Closed { hand, why } => self.close(hand, why),
            Happening::Turn(hand) => self.turn(hand),
            Happening::Vanish(member) => {
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
            let line = format!("{now:?} {member} {action:?}\n");
            self.log.update(line.as_bytes());
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
        let hands = self.seats[member].hands.iter();
        let mut hands = hands.filter(|hand| !self.hands[**hand].closed);
        hands.find(|hand| self.hands[**hand].key == peer).copied()
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
                let laid = &self.seats[member].laid;
                let mut blocks = self.geometry.blocks(piece);
                assert!(blocks.all(|block| laid[&block]), "{piece:?} is wrong");
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
                    self.send(hand, Message::Cancel(block.into()));
                    self.report(hand, Event::Returned { peer, block });
                }
            }
            Action::Settle { peer, block } => {
                let Some(hand) = self.hand_of(member, peer) else {
                    return;
                };
                let held = self.hands[hand].due.remove(&block);
                let Some(Due::Held { good }) = held else {
                    panic!("a slot for a spare that is not held: {block:?} {held:?}");
                };
                let seat = &mut self.seats[member];
                assert!(!seat.out.contains_key(&block), "{block:?} is out already");
                let old = seat.laid.insert(block, good);
                assert_eq!(old, None, "{block:?} laid twice");
                self.report(hand, Event::Received { peer, block });
            }
            Action::Discard { peer, block } => {
                let Some(hand) = self.hand_of(member, peer) else {
                    return;
                };
                match self.hands[hand].due.get(&block) {
                    Some(Due::Spare) => {
                        self.hands[hand].due.remove(&block);
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
                if self.seats[member].plan.character != Character::Silent {
                    self.hands[hand].to_serve.push_back(block);
                    self.use_uplink(member);
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
        if due == Due::Slot {
            let old = seat.out.insert(block, hand);
            assert_eq!(old, None, "{block:?} is out to two peers");
        }
        let old = self.hands[hand].due.insert(block, due);
        assert_eq!(old, None, "{block:?} was asked twice of {peer:?}");
        self.hands[hand].asked.insert(block);
        self.send(hand, Message::Request(block.into()));
    }

    /// A second copy may be asked for only if every missing block that could be asked for is out.
    fn must_be_endgame(&self, member: usize, block: Block) {
        let seat = &self.seats[member];
        assert!(seat.out.contains_key(&block), "{block:?} is not out");
        for piece in self.geometry.all_pieces() {
            let known = || {
                let mut peers = seat.swarm.peers();
                peers.any(|(_, peer)| !peer.leaving && peer.holds.has(piece))
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

    /// Puts a message on the line.
    fn send(&mut self, hand: usize, message: Message) {
        let other = self.hands[hand].other;
        let delay = self.delay_between(hand);
        let at = (self.now + delay).max(self.hands[hand].last_arrival);
        self.hands[hand].last_arrival = at;
        self.schedule(
            at,
            Happening::Arrive {
                hand: other,
                message,
            },
        );
    }

    fn delay_between(&self, hand: usize) -> Duration {
        let (here, there) = (&self.hands[hand], &self.hands[self.hands[hand].other]);
        self.seats[here.member].plan.delay + self.seats[there.member].plan.delay
    }

    /// Begins to send the next block, if the line is free: connections take turns.
    fn use_uplink(&mut self, member: usize) {
        let seat = &mut self.seats[member];
        if seat.sending || seat.hands.is_empty() || !seat.here {
            return;
        }
        let count = seat.hands.len();
        let start = seat.next_hand;
        for step in 0..count {
            let turn = (start + step) % count;
            let hand = self.seats[member].hands[turn];
            if self.hands[hand].closed {
                continue;
            }
            let Some(block) = self.hands[hand].to_serve.pop_front() else {
                continue;
            };
            let seat = &mut self.seats[member];
            seat.next_hand = turn + 1;
            seat.sending = true;
            let nanos = u64::from(block.length()) * 1_000_000_000 / seat.plan.uplink;
            let sent = self.now + Duration::from_nanos(nanos);
            let arrival = (sent + self.delay_between(hand)).max(self.hands[hand].last_arrival);
            self.hands[hand].last_arrival = arrival;
            let good = match self.seats[member].plan.character {
                Character::Liar { one_in } => self.rng.u32(0..one_in) > 0,
                Character::LiesAbout { piece } => piece != block.piece().get(),
                Character::Honest | Character::Silent => true,
            };
            let other = self.hands[hand].other;
            self.schedule(sent, Happening::Sent { hand, block });
            self.schedule(
                arrival,
                Happening::Block {
                    hand: other,
                    block,
                    good,
                },
            );
            return;
        }
    }

    fn sent(&mut self, hand: usize, block: Block) {
        let (member, peer) = (self.hands[hand].member, self.hands[hand].key);
        self.seats[member].sending = false;
        if !self.hands[hand].closed {
            self.tell(member, Event::Served { peer, block });
        }
        self.use_uplink(member);
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
                let asked = self.hands[hand].asked.contains(&block);
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
        let to = self.seats.iter().position(|seat| seat.address == address);
        let Some(to) = to.filter(|to| self.seats[*to].here) else {
            let why = Farewell::Unreachable("refused".into());
            return self.tell(from, Event::Unreached { address, why });
        };
        let fast = self.seats[from].plan.fast && self.seats[to].plan.fast;
        let keys = [PeerKey(self.keys + 1), PeerKey(self.keys + 2)];
        self.keys += 2;
        let hands = [self.hands.len(), self.hands.len() + 1];
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
        let due = &self.hands[hand].due;
        assert!(
            due.is_empty(),
            "{due:?} was asked of who sent all slots home"
        );
        self.hands[hand].closed = true;
        self.seats[member].hands.retain(|other| *other != hand);
        self.tell(member, Event::Gone { peer, why });
    }
}
