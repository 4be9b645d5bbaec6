//! The brain: all that is known about one swarm, and every decision.
//!
//! ```text
//! let mut swarm = Swarm::new(setup, now);
//! swarm.handle(event, now, &mut actions);          // what happened in, what to do out
//! let alarm = swarm.wake_at();                     // hand it Event::Woken then
//! ```
//!
//! [`Swarm`] only dispatches. What it knows lies in sub-machines, one a file, which know no others but those that
//! they are built on: [`availability`] and [`picker`] (which block), [`delivery`], [`pipeline`] and [`ahead`] (how
//! many), [`choker`] and [`uploads`] (what a peer asks for), [`turns`] (whom to serve), [`spread`] (what a seed shows),
//! [`news`] (when haves go out), [`suspects`] (who lied), [`addresses`] (whom to call), [`host`] (whose connections
//! they are), [`ledger`] (how much). What joins them is told by topic: `arrivals` (who comes and goes), `conversation`
//! (what a peer's message means), `downloads` (a block's way to a checked piece), `serving` (the choker and the
//! spread), `takeover`, `endgame` with its table of `spares`, `doubts` (what others wrote to).
//!
//! The same seed and the same events give the same actions: no clock, no dice, no map without an order.

pub mod addresses;
pub mod ahead;
pub mod allowance;
mod arrivals;
pub mod availability;
pub mod choker;
mod conversation;
pub mod delivery;
mod doubts;
mod downloads;
mod endgame;
pub mod event;
pub mod gifts;
pub mod host;
pub mod ledger;
pub mod news;
mod partial;
pub mod peer;
pub mod picker;
pub mod pipeline;
#[cfg(test)]
mod scene;
mod serving;
mod spares;
pub mod spread;
pub mod suspects;
mod takeover;
pub mod turns;
pub mod uploads;

use crate::protocol::bitfield::Bitfield;
use crate::protocol::peer::PeerId;
use crate::protocol::{Block, Geometry, InfoHash, PieceIndex};
use addresses::AddressBook;
use ahead::Ahead;
use choker::Choker;
use doubts::Doubts;
use endgame::Endgame;
use event::{Action, Event, Moment, PeerKey};
use ledger::Ledger;
use news::News;
use peer::Peer;
use picker::Picker;
use spread::Spread;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use suspects::Suspects;
use takeover::Moves;
use turns::Turns;

/// How often requests are looked at for time-outs, while there are any.
const TICK: Duration = Duration::from_secs(1);
/// How often peers without work look for what they can take over.
const TICK_IDLE: Duration = Duration::from_millis(100);
/// The same while the last hundredth is under way: it takes no longer than a tick or two. With 100 ms the
/// last of our leechers in a mixed swarm was done 0.06 s later.
const TICK_LAST: Duration = Duration::from_millis(30);

/// How much of the machine this swarm may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections, those being made included.
    pub peers: usize,
    /// Peers served at a time.
    pub upload_slots: usize,
    /// Whether there is a limit for bytes sent: threads are granted theirs in portions then, and need enough
    /// at hand to use them.
    pub up_limited: bool,
    /// Bytes a second that will be read at most; `None`: no limit. Holding to it is the peer threads' part,
    /// asking for no more than that the brain's.
    pub down_rate: Option<u64>,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            peers: 50,
            upload_slots: 8,
            up_limited: false,
            down_rate: None,
        }
    }
}

/// What a swarm starts from.
#[derive(Debug, Clone)]
pub struct SwarmSetup {
    /// The torrent's cut.
    pub geometry: Geometry,
    /// The torrent's name on the network.
    pub info_hash: InfoHash,
    /// Pieces that are on disk and verified.
    pub have: Bitfield,
    /// Pieces that are wanted, whether they are there or not. The others are never asked for.
    pub wanted: Bitfield,
    /// Fetch pieces in their order instead of the rarest first.
    pub sequential: bool,
    /// Blocks of unfinished pieces that a former run laid.
    pub laid: Vec<Block>,
    /// Whether only trackers, and the user, may say whom to call (BEP 27).
    pub private: bool,
    /// Our id.
    pub id: PeerId,
    /// Whether anything may be asked for (false: only serve).
    pub downloads: bool,
    /// The port we take calls at, told to peers.
    pub listen_port: Option<u16>,
    /// Limits.
    pub limits: Limits,
    /// What the dice start from.
    pub seed: u64,
}

/// The figures of a swarm at one moment. Bytes of payload, and bytes a second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// Fetched in this run.
    pub downloaded: u64,
    /// Served in this run.
    pub uploaded: u64,
    /// Thrown away in this run: late, twice, unasked, or part of a bad piece.
    pub wasted: u64,
    /// Fetched a second, lately.
    pub down_rate: u64,
    /// Served a second, lately.
    pub up_rate: u64,
    /// Connected peers.
    pub peers: usize,
    /// Those of them that have everything.
    pub seeds: usize,
    /// Peers that were parted with because they sent wrong data.
    pub liars: usize,
    /// Pieces that are verified.
    pub pieces_have: u32,
    /// Bytes that are verified.
    pub have: u64,
    /// Bytes that are verified, of wanted pieces.
    pub wanted_have: u64,
}

/// What never changes, and the limits.
#[derive(Debug)]
struct Facts {
    geometry: Geometry,
    info_hash: InfoHash,
    id: PeerId,
    downloads: bool,
    wanted: Bitfield,
    listen_port: Option<u16>,
    limits: Limits,
}

/// What happens by the clock, and what has to be done once.
#[derive(Debug, Default)]
struct Pace {
    started: bool,
    told_complete: bool,
    congested: bool,
    /// Somebody's interest or slot changed: the choker has to look.
    choker_due: bool,
    /// Blocks were withheld, or their peer left: the line is somebody else's.
    pump_due: bool,
    tick: Option<Moment>,
    /// When to look for peers in which we have lost interest.
    lapse: Option<Moment>,
    /// When to look for pieces on show that nobody takes.
    show: Option<Moment>,
    /// When it may turn out that a peer to which nothing moves keeps others waiting.
    pump: Option<Moment>,
    announced: Option<Moment>,
    replaced: Moment,
    /// When somebody was last called.
    dialled: Moment,
    /// Requests out to peers that had given nothing for `QUIET` at the last tick.
    out_to_quiet: usize,
}

/// One swarm, as seen by one of its members: us.
#[derive(Debug)]
pub struct Swarm {
    facts: Facts,
    have: Bitfield,
    doubts: Doubts,
    peers: BTreeMap<PeerKey, Peer>,
    picker: Picker,
    endgame: Endgame,
    moves: Moves,
    /// Peers with room in their pipeline for which nothing was to be picked.
    hungry: BTreeSet<PeerKey>,
    ahead: Ahead,
    choker: Choker,
    turns: Turns,
    /// Only where we had everything from the start.
    spread: Option<Spread>,
    suspects: Suspects,
    /// Who sent wrong data: each of them whole pieces, so there are never many.
    liars: BTreeSet<PeerKey>,
    addresses: AddressBook,
    news: News,
    ledger: Ledger,
    pace: Pace,
    rng: fastrand::Rng,
}

impl Swarm {
    /// A swarm without peers. Pieces that `setup.laid` completes are checked at the first event.
    pub fn new(setup: SwarmSetup, now: Moment) -> Swarm {
        let mut rng = fastrand::Rng::with_seed(setup.seed);
        let geometry = setup.geometry;
        // To the picker, what is not wanted is there already, and of one that never downloads, everything.
        let mut settled = setup.have.clone();
        for piece in geometry.all_pieces() {
            if !setup.downloads || !setup.wanted.has(piece) {
                settled.set(piece);
            }
        }
        let mut picker = Picker::new(geometry, &settled, &setup.laid, &mut rng);
        if setup.sequential {
            picker.pick_in_order();
        }
        let mut ahead = Ahead::default();
        ahead.set_rate(setup.limits.down_rate);
        let spread = setup
            .have
            .is_full()
            .then(|| Spread::new(geometry, &mut rng));
        Swarm {
            spread,
            pace: Pace {
                told_complete: setup.wanted.is_within(&setup.have),
                replaced: now,
                ..Pace::default()
            },
            facts: Facts {
                geometry,
                info_hash: setup.info_hash,
                id: setup.id,
                downloads: setup.downloads,
                wanted: setup.wanted,
                listen_port: setup.listen_port,
                limits: setup.limits,
            },
            have: setup.have,
            doubts: Doubts::default(),
            peers: BTreeMap::new(),
            picker,
            endgame: Endgame::default(),
            moves: Moves::default(),
            hungry: BTreeSet::new(),
            ahead,
            choker: Choker::new(setup.limits.upload_slots),
            turns: Turns::new(geometry.piece_length()),
            suspects: Suspects::default(),
            liars: BTreeSet::new(),
            addresses: AddressBook::new(setup.private),
            news: News::default(),
            ledger: Ledger::default(),
            rng,
        }
    }

    /// Something happened: pushes what is to be done about it.
    pub fn handle(&mut self, event: Event, now: Moment, actions: &mut Vec<Action>) {
        if !self.pace.started {
            self.pace.started = true;
            self.check_what_was_laid(actions);
        }
        match event {
            Event::Found { addresses, origin } => self.found(&addresses, origin, now),
            Event::Unreached { address, why } => self.unreached(address, &why, now),
            Event::Connected { peer, greeting } => self.connected(peer, greeting, now, actions),
            Event::Said { peer, message } => self.said(peer, message, now, actions),
            Event::Received { peer, block } => self.received(peer, block, now, actions),
            Event::Returned { peer, block } => self.returned(peer, block, now, actions),
            Event::Held { peer, block } => self.held(peer, block, now, actions),
            Event::Wasted { peer, bytes, asked } => self.wasted(peer, bytes, asked, now, actions),
            Event::Served { peer, block } => self.served(peer, block, now, actions),
            Event::Unserved { peer, block } => self.unserved(peer, block, now, actions),
            Event::Doubted { pieces } => self.doubt(&pieces),
            Event::Checked {
                piece,
                verdict,
                blocks,
            } => self.checked(piece, verdict, &blocks, now, actions),
            Event::Congested(congested) => self.congested(congested, now, actions),
            Event::Gone { peer, why } => self.gone(peer, &why, now, actions),
            Event::Woken => {}
        }
        self.keep_time(now, actions);
    }

    /// Does what is due by the clock; costs nothing where nothing is.
    fn keep_time(&mut self, now: Moment, actions: &mut Vec<Action>) {
        if self.news.due().is_some_and(|due| due <= now) {
            self.tell_news(actions);
        }
        if self.pace.lapse.is_some_and(|lapse| lapse <= now) {
            self.lose_interest(actions);
        }
        if self.pace.show.is_some_and(|show| show <= now) {
            self.show_to_all(now, actions);
        }
        if self.pace.tick.is_some_and(|tick| tick <= now) {
            self.pace.tick = None;
            self.look_at_time_outs(now, actions);
        }
        if self.pace.choker_due || self.choker.due().is_some_and(|due| due <= now) {
            self.pace.choker_due = false;
            self.take_turns(now, actions);
        }
        if self.pace.pump_due || self.pace.pump.is_some_and(|pump| pump <= now) {
            self.pace.pump_due = false;
            self.pump(now, actions);
        }
        while let Some(peer) = self.ahead.next(self.picker.out()) {
            self.fill(peer, now, actions);
        }
        self.dial(now, actions);
        self.set_tick(now);
    }

    fn set_tick(&mut self, now: Moment) {
        let waiting = !self.hungry.is_empty();
        let after = if waiting && self.is_last() {
            TICK_LAST
        } else if waiting && self.picker.out() > 0 {
            TICK_IDLE
        } else if self.picker.out() > 0 || waiting && self.picker.any_free() {
            TICK
        } else {
            return;
        };
        let at = now + after;
        self.pace.tick = Some(self.pace.tick.map_or(at, |tick| tick.min(at)));
    }

    /// When `Event::Woken` is wanted, at the latest; `None`: whenever something happens.
    pub fn wake_at(&self) -> Option<Moment> {
        if !self.pace.started {
            return Some(Moment::ZERO);
        }
        [
            self.news.due(),
            self.pace.tick,
            self.pace.lapse,
            self.pace.pump,
            self.pace.show,
            self.choker.due(),
            self.dial_at(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Sends the haves that waited for company, to those who lack the pieces.
    fn tell_news(&mut self, actions: &mut Vec<Action>) {
        let pieces = self.news.take();
        for (key, peer) in self.peers.iter().filter(|(_, peer)| !peer.is_leaving()) {
            for piece in pieces.iter().filter(|piece| !peer.holds.has(**piece)) {
                actions.push(serving::have(*key, *piece));
            }
        }
    }

    fn congested(&mut self, congested: bool, now: Moment, actions: &mut Vec<Action>) {
        self.pace.congested = congested;
        if !congested {
            let all: Vec<_> = self.peers.keys().copied().collect();
            for peer in all {
                self.fill(peer, now, actions);
            }
        }
    }

    /// Other limits from now on; connections above them are not closed, only no more are made.
    pub fn set_limits(&mut self, limits: Limits) {
        self.choker.set_slots(limits.upload_slots);
        self.ahead.set_rate(limits.down_rate);
        self.facts.limits = limits;
        self.pace.choker_due = true;
    }

    /// Our own id.
    pub fn id(&self) -> PeerId {
        self.facts.id
    }

    /// Our verified pieces.
    pub fn have(&self) -> &Bitfield {
        &self.have
    }

    /// Blocks of unfinished pieces that lie in the files.
    pub fn laid(&self) -> impl Iterator<Item = Block> {
        self.picker.laid()
    }

    /// Whether every wanted piece is verified.
    pub fn is_complete(&self) -> bool {
        match self.facts.downloads {
            true => self.picker.wants().is_empty() && self.picker.given_up().is_empty(),
            false => self.have.is_full(),
        }
    }

    /// Whether nothing is missing but pieces that no peer could deliver rightly.
    pub fn is_stuck(&self) -> bool {
        self.picker.wants().is_empty() && !self.picker.given_up().is_empty()
    }

    /// Pieces that no peer could deliver rightly and that are not asked for any more, in order.
    pub fn failed_pieces(&self) -> Vec<PieceIndex> {
        self.picker.given_up().iter().copied().collect()
    }

    /// Whether nobody is connected and nobody is left to call.
    pub fn hopeless(&self) -> bool {
        self.peers.is_empty() && !self.addresses.any_hope()
    }

    /// All connections, in the order they were made, those about to end included.
    pub fn peers(&self) -> impl Iterator<Item = (PeerKey, &Peer)> {
        self.peers.iter().map(|(key, peer)| (*key, peer))
    }

    /// The figures as of `now`.
    pub fn standing(&self, now: Moment) -> Standing {
        let here = || self.peers.values().filter(|peer| !peer.is_leaving());
        let geometry = &self.facts.geometry;
        let wanted_have = match self.facts.downloads {
            true => self.facts.wanted.count() - self.missing(),
            false => self.have.count(),
        };
        let last = geometry.last_piece().filter(|last| self.have.has(*last));
        let is_wanted = |last: &PieceIndex| !self.facts.downloads || self.facts.wanted.has(*last);
        let have = geometry.size_of(self.have.count(), last.is_some());
        let wanted_have = geometry.size_of(wanted_have, last.filter(is_wanted).is_some());
        Standing {
            downloaded: self.ledger.downloaded,
            uploaded: self.ledger.uploaded,
            wasted: self.ledger.wasted,
            down_rate: self.ledger.down_rate(now),
            up_rate: self.ledger.up_rate(now),
            peers: here().count(),
            seeds: here().filter(|peer| peer.holds.is_full()).count(),
            liars: self.liars.len(),
            pieces_have: self.have.count(),
            have,
            wanted_have,
        }
    }

    /// Panics where the sub-machines disagree: for tests and simulations, far too slow for more.
    pub fn check_invariants(&self) {
        self.picker.check_invariants();
        self.endgame.check_invariants(&self.peers);
        self.moves.check_invariants();
        for (key, peer) in &self.peers {
            for asked in peer.pipeline.asked() {
                assert_eq!(
                    self.picker.place(asked.block),
                    Some(picker::Where::Out(*key)),
                    "{:?} is under way from {key:?}",
                    asked.block
                );
            }
            peer.uploads.check_invariants();
            peer.check_invariants(self.picker.wants(), &self.facts.geometry);
        }
        let asked: usize = self
            .peers
            .values()
            .map(|p| p.pipeline.asked().count())
            .sum();
        assert_eq!(asked, self.picker.out());
    }
}
