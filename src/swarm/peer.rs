//! What is known of one connected peer: what it has, who chokes whom, what is under way.

use super::event::{Farewell, Greeting, Moment};
use super::gifts::Gifts;
use super::ledger::Trade;
use super::pipeline::Pipeline;
use super::uploads::Uploads;
use crate::protocol::bitfield::Bitfield;
use crate::protocol::{Geometry, PieceIndex};
use std::net::SocketAddr;
use std::time::Duration;

/// Changes of mind and signs of life within `WINDOW` that an honest peer stays far below.
const FLIPS_MAX: u32 = 100;
const WINDOW: Duration = Duration::from_secs(10);
/// Haves for pieces that the peer was known to have: an honest peer sends none, or a few in a race.
const IDLE_HAVES_MAX: u32 = 1_000;
/// Late bitfields, have-alls and have-nones in a row that told nothing: an honest peer sends one or two, if any.
const IDLE_FIELDS_MAX: u32 = 10;
/// How long a peer that refuses a request is left alone at first.
const REST: Duration = Duration::from_secs(1);
/// Rests because of refusals, without a block between them, after which a peer is left: 63 seconds.
const REFUSALS_MAX: u32 = 6;
/// Who says it wants something and was free to ask for so long, a turn of the choker, and did not, is mute.
const MUTE: Duration = Duration::from_secs(10);
/// Blocks nobody asked for that are put up with.
const UNASKED_MAX: u32 = 10;

/// The pieces of a peer. Those who have all or nothing, which is most, cost no bitfield.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holding {
    /// No piece.
    Nothing,
    /// Every piece, from the start.
    Everything,
    /// These.
    Some(Bitfield),
}

impl Holding {
    /// Whether `piece` is among them.
    pub fn has(&self, piece: PieceIndex) -> bool {
        match self {
            Holding::Nothing => false,
            Holding::Everything => true,
            Holding::Some(field) => field.has(piece),
        }
    }

    /// Adds a piece; says whether it was new.
    pub fn add(&mut self, piece: PieceIndex, geometry: &Geometry) -> bool {
        match self {
            Holding::Everything => false,
            Holding::Some(field) => field.set(piece),
            Holding::Nothing => {
                let mut field = Bitfield::new(geometry);
                let new = field.set(piece);
                *self = Holding::Some(field);
                new
            }
        }
    }

    /// Whether nothing is missing of a torrent that has pieces.
    pub fn is_full(&self) -> bool {
        match self {
            Holding::Nothing => false,
            Holding::Everything => true,
            Holding::Some(field) => field.is_full(),
        }
    }

    /// Whether there is a piece among them that `others` lack.
    pub fn exceeds(&self, others: &Holding) -> bool {
        match (self, others) {
            (Holding::Nothing, _) | (_, Holding::Everything) => false,
            (Holding::Everything, others) => !others.is_full(),
            (Holding::Some(own), Holding::Nothing) => !own.is_empty(),
            (Holding::Some(own), Holding::Some(field)) => own.exceeds(field),
        }
    }

    /// The pieces among them that `others` lack, in order. Where `others` are all there are, this takes no time.
    pub fn pieces_beyond(&self, others: &Holding, geometry: &Geometry) -> Vec<PieceIndex> {
        match (self, others) {
            (Holding::Nothing, _) => Vec::new(),
            (_, others) if others.is_full() => Vec::new(),
            (Holding::Everything, others) => {
                let lacked = geometry.all_pieces().filter(|piece| !others.has(*piece));
                lacked.collect()
            }
            (Holding::Some(own), Holding::Some(field)) => {
                own.pieces_beyond(field, geometry).collect()
            }
            (Holding::Some(own), _) => own.pieces(geometry).collect(),
        }
    }

    /// The last piece among them that `field` holds, too, of those up to `most`.
    pub fn last_shared(
        &self,
        field: &Bitfield,
        most: PieceIndex,
        geometry: &Geometry,
    ) -> Option<PieceIndex> {
        match self {
            Holding::Nothing => None,
            Holding::Everything => field.last_shared(field, most, geometry),
            Holding::Some(own) => own.last_shared(field, most, geometry),
        }
    }

    /// How many pieces they are, of a torrent of `pieces`.
    pub fn count(&self, pieces: u32) -> u32 {
        match self {
            Holding::Nothing => 0,
            Holding::Everything => pieces,
            Holding::Some(field) => field.count(),
        }
    }
}

/// How well a peer behaves: counters that honest peers keep low.
#[derive(Debug, Default)]
pub struct Manners {
    window: Moment,
    flips: u32,
    idle_haves: u32,
    idle_fields: u32,
    unasked: u32,
}

impl Manners {
    /// Choke, interest, keep-alive, or a cancel of nothing: cheap to send and not free to hear. False: too
    /// many.
    pub fn flip(&mut self, now: Moment) -> bool {
        if now >= self.window + WINDOW {
            self.window = now;
            self.flips = 0;
        }
        self.flips += 1;
        self.flips <= FLIPS_MAX
    }

    /// A have that told nothing. False: too many.
    pub fn idle_have(&mut self) -> bool {
        self.idle_haves += 1;
        self.idle_haves <= IDLE_HAVES_MAX
    }

    /// A bitfield, have-all or have-none where haves are due. What tells `news` makes up for those before it that
    /// told nothing. False: too many of these.
    pub fn late_field(&mut self, news: bool) -> bool {
        self.idle_fields = if news { 0 } else { self.idle_fields + 1 };
        self.idle_fields <= IDLE_FIELDS_MAX
    }

    /// A block nobody asked for. False: too many.
    pub fn unasked(&mut self) -> bool {
        self.unasked += 1;
        self.unasked <= UNASKED_MAX
    }
}

/// Who refuses what it is asked for is left alone for a while: for a second at first, and for twice as long
/// each time until it delivers something.
#[derive(Debug, Default)]
pub struct Rest {
    until: Moment,
    /// Rests because of refusals, one after the other.
    refusals: u32,
}

impl Rest {
    /// Whether it is not to be asked now.
    pub fn lasts(&self, now: Moment) -> bool {
        now < self.until
    }

    /// A slot came home for a reason that says nothing about the peer.
    pub fn pause(&mut self, time: Duration, now: Moment) {
        self.until = self.until.max(now + time);
    }

    /// It refused a request. What was asked for together is refused together, and counts once. False: it has
    /// done nothing else for a minute.
    pub fn refused(&mut self, now: Moment) -> bool {
        if !self.lasts(now) {
            self.until = now + REST * (1 << self.refusals.min(REFUSALS_MAX));
            self.refusals += 1;
        }
        self.refusals <= REFUSALS_MAX
    }

    /// It unchoked us: what it refused while it choked us it may give now.
    pub fn lift(&mut self) {
        self.until = Moment::ZERO;
    }

    /// It delivered something.
    pub fn end(&mut self) {
        *self = Rest::default();
    }
}

/// One connected peer.
#[derive(Debug)]
pub struct Peer {
    /// What the handshakes told.
    pub greeting: Greeting,
    /// Since when it is connected.
    pub since: Moment,
    /// The program it says it is (BEP 10), not escaped.
    pub client: String,
    /// Where it takes calls, if that is known.
    pub listens: Option<SocketAddr>,
    /// The pieces it has. To be changed by `gain` and `tell_all`, which see to the offer, too.
    pub holds: Holding,
    /// The last of them that we want, or wanted when we last looked; `None`: we want none.
    offer: Option<PieceIndex>,
    /// The time for its bitfield is over.
    pub settled_in: bool,
    /// It answers none of our requests.
    pub chokes_us: bool,
    /// It wants something of ours.
    pub wants_us: bool,
    /// We answer none of its requests.
    pub choked: bool,
    /// It was told that we want something.
    pub wanted: bool,
    /// The requests under way to it.
    pub pipeline: Pipeline,
    /// The piece it is working on for us.
    pub current: Option<PieceIndex>,
    /// Its requests.
    pub uploads: Uploads,
    /// Single pieces that it named, and that we named to it (BEP 6).
    pub gifts: Gifts,
    /// How it behaves.
    pub manners: Manners,
    /// What passed between us.
    pub trade: Trade,
    /// When it was first free to ask for what it wants, since it last began to want something.
    pub free_to_ask: Option<Moment>,
    /// It has asked us for something that it may have.
    pub asked: bool,
    /// A slot came home from it and nothing good since: it may be about to leave, or refuse everything.
    pub rest: Rest,
    /// It had a part in a piece that is good.
    pub proven: bool,
    /// Hung up, and why; only its slots are still awaited.
    pub hung_up: Option<Farewell>,
}

impl Peer {
    /// A peer right after the handshakes: both sides choke, neither wants anything (BEP 3).
    pub fn new(greeting: Greeting, now: Moment) -> Peer {
        Peer {
            greeting,
            since: now,
            client: String::new(),
            listens: None,
            holds: Holding::Nothing,
            offer: None,
            settled_in: false,
            chokes_us: true,
            wants_us: false,
            choked: true,
            wanted: false,
            pipeline: Pipeline::default(),
            current: None,
            uploads: Uploads::default(),
            gifts: Gifts::default(),
            manners: Manners::default(),
            trade: Trade::new(now),
            free_to_ask: None,
            asked: false,
            rest: Rest::default(),
            proven: false,
            hung_up: None,
        }
    }

    /// Whether it was hung up and is not gone yet.
    pub fn is_leaving(&self) -> bool {
        self.hung_up.is_some()
    }

    /// It has one more piece; says whether that is news.
    pub fn gain(&mut self, piece: PieceIndex, wants: &Bitfield, geometry: &Geometry) -> bool {
        let new = self.holds.add(piece, geometry);
        if new && wants.has(piece) {
            self.offer = self.offer.max(Some(piece));
        }
        new
    }

    /// It said all it has.
    pub fn tell_all(&mut self, holds: Holding, wants: &Bitfield, geometry: &Geometry) {
        let last = geometry.last_piece();
        self.offer = last.and_then(|last| holds.last_shared(wants, last, geometry));
        self.holds = holds;
    }

    /// Panics where it has a piece that we want and its offer says otherwise, or the other way round.
    pub fn check_invariants(&self, wants: &Bitfield, geometry: &Geometry) {
        let shared = wants.pieces(geometry);
        let last = shared.filter(|piece| self.holds.has(*piece)).last();
        if !self.is_leaving() && last.is_some() {
            let from = self.greeting.address;
            assert!(self.wanted, "interest in {from}");
            assert!(self.offer >= last, "what {from} has that we want");
        }
        assert!(self.offer.is_none_or(|piece| self.holds.has(piece)));
    }

    /// Whether it has a piece that is in `wants`. Only from the one it was known for on is another looked for, and
    /// downwards: no search goes twice over the same pieces, as nothing is ever wanted again.
    pub fn offers_any(&mut self, wants: &Bitfield, geometry: &Geometry) -> bool {
        if let Some(piece) = self.offer
            && !wants.has(piece)
        {
            self.offer = self.holds.last_shared(wants, piece, geometry);
        }
        self.offer.is_some()
    }

    /// Whether it says that it wants something, had its turn, and never asked for anything.
    pub fn is_mute(&self, now: Moment) -> bool {
        let had_its_turn = self.free_to_ask.is_some_and(|turn| now >= turn + MUTE);
        self.wants_us && !self.asked && had_its_turn
    }

    /// Whether it may be asked for anything at all.
    pub fn may_be_asked(&self) -> bool {
        let gives = !self.chokes_us || !self.gifts.from_it.is_empty();
        gives && self.offer.is_some() && self.wanted && !self.is_leaving()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_thousand_changes_of_mind_a_second_are_too_many_and_ten_are_not() {
        let mut manners = Manners::default();
        assert!((0..1000).all(|n| manners.flip(Duration::from_millis(n * 200))));
        let at = Duration::from_secs(1000);
        assert!(!(0..1000).all(|_| manners.flip(at)));
    }

    #[test]
    fn who_refuses_everything_is_asked_seven_times_in_a_minute_and_a_block_starts_the_count_anew() {
        let second = Duration::from_secs(1);
        let mut rest = Rest::default();
        let asked = (0..64).filter(|n| !rest.lasts(second * *n) && rest.refused(second * *n));
        assert_eq!(asked.collect::<Vec<_>>(), [0, 1, 3, 7, 15, 31]);
        assert!(!rest.refused(second * 63));
        rest.end();
        assert!(!rest.lasts(second * 63) && rest.refused(second * 63));
        assert!(rest.refused(second * 63) && rest.lasts(second * 63));
        assert!(!rest.lasts(second * 64));
    }

    #[test]
    fn a_holding_grows_from_nothing_to_all() {
        let geometry = Geometry::new(3, 1).unwrap();
        let mut holds = Holding::Nothing;
        for (n, piece) in geometry.all_pieces().enumerate() {
            assert!(!holds.is_full() && !holds.has(piece));
            assert!(holds.add(piece, &geometry) && !holds.add(piece, &geometry));
            assert_eq!(holds.count(3), n as u32 + 1);
        }
        assert!(holds.is_full());
        assert!(!Holding::Everything.add(geometry.piece(0).unwrap(), &geometry));
    }

    #[test]
    fn what_a_holding_has_beyond_another_is_what_that_one_lacks() {
        let geometry = Geometry::new(70, 1).unwrap();
        let with = |pieces: &[u32]| {
            let mut field = Bitfield::new(&geometry);
            for piece in pieces {
                field.set(geometry.piece(*piece).unwrap());
            }
            Holding::Some(field)
        };
        let full = Holding::Some(Bitfield::full(&geometry));
        let some = [with(&[]), with(&[0]), with(&[0, 63, 64, 69]), full];
        let all = some
            .into_iter()
            .chain([Holding::Nothing, Holding::Everything]);
        let all: Vec<_> = all.collect();
        for (holds, others) in all.iter().flat_map(|it| all.iter().map(move |b| (it, b))) {
            let pieces = geometry.all_pieces();
            let expected = pieces.filter(|piece| holds.has(*piece) && !others.has(*piece));
            let expected: Vec<_> = expected.collect();
            assert_eq!(holds.exceeds(others), !expected.is_empty());
            assert_eq!(holds.pieces_beyond(others, &geometry), expected);
        }
    }
}
