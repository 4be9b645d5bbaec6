//! What has happened at the table so far: who has which page from whom, who gave how much to whom,
//! whom each serves. Drawn while the lab runs, told in the end.
//!
//! ```text
//! chronicle.gives(giver, taker, piece, bytes) ; chronicle.verified(who, piece, at)
//! chronicle.turned(who, whom, open, at)       ; chronicle.limits() -> what is possible at all
//! ```

use super::Plan;
use super::cast::{CastPart, LabRole};
use crate::protocol::InfoHash;
use std::collections::BTreeMap;
use std::time::Duration;

/// The book, as far as it matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Book {
    /// Its file name, not escaped.
    pub name: String,
    /// Its bytes.
    pub bytes: u64,
    /// Its pieces, which the lab calls pages.
    pub pieces: u32,
    /// Bytes a piece.
    pub piece_length: u32,
    /// The torrent's name everywhere.
    pub info_hash: InfoHash,
}

/// Somebody at the table.
#[derive(Debug, Clone)]
pub struct Member {
    /// Name, letter, role.
    pub part: CastPart,
    /// Which pieces it has, verified.
    pub has: Vec<bool>,
    /// How many those are.
    pub count: u32,
    /// When it had them all, synced to disk. Times are since the lab began.
    pub complete: Option<Duration>,
    /// When it left before the others.
    pub left: Option<Duration>,
    /// Payload it sent, in bytes.
    pub given: u64,
    /// Payload it received, in bytes.
    pub taken: u64,
    /// Payload it threw away: wrong, or there already.
    pub wasted: u64,
    /// Pieces that did not match their hash.
    pub wrong: u32,
}

/// A piece has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PieceArrival {
    /// When.
    pub at: Duration,
    /// To whom.
    pub who: usize,
    /// Which.
    pub piece: u32,
    /// Who gave most of it, if that was overheard.
    pub from: Option<usize>,
}

/// Somebody was unchoked, or choked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChokeChange {
    /// When.
    pub at: Duration,
    /// Who said it.
    pub who: usize,
    /// To whom.
    pub whom: usize,
    /// Unchoked.
    pub open: bool,
    /// Somebody said so; otherwise the connection ended.
    pub said: bool,
}

/// How fast the book can be with everybody at all. Seconds; `None` where there is no limit of rate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FluidLimits {
    /// A swarm: nobody can be faster than the seeds' lines carry the book once, nor than all lines
    /// together carry all copies.
    pub fluid: f64,
    /// All copies from the seeds' lines alone.
    pub http: f64,
}

/// Everything that is known.
#[derive(Debug, Clone)]
pub struct Chronicle {
    /// What was planned.
    pub plan: Plan,
    /// The book.
    pub book: Book,
    /// Everybody, in the order of the table.
    pub members: Vec<Member>,
    /// Payload that was overheard, in bytes, by giver and taker.
    pub given: Vec<Vec<u64>>,
    /// Each piece that came, in order.
    pub arrivals: Vec<PieceArrival>,
    /// Each choke and unchoke, in order.
    pub turns: Vec<ChokeChange>,
    /// When the leechers sat down.
    pub opened: Duration,
    /// When all pieces were among the leechers, and the seeds were not needed any more.
    pub spread: Option<Duration>,
    /// When payload was last overheard.
    pub last_payload: Duration,
    /// When it was over.
    pub ended: Duration,
    /// Notices that came too fast to be heard: pieces and peers, among others.
    pub untold: u64,
    /// Messages that passed too fast to be overheard.
    pub unheard: u64,
    /// Who gave how much of the pieces that are on their way, by taker and piece.
    on_the_way: BTreeMap<(usize, u32), BTreeMap<usize, u64>>,
}

impl Chronicle {
    /// Nothing has happened yet.
    pub fn new(plan: Plan, book: Book, cast: Vec<CastPart>) -> Chronicle {
        let pieces = book.pieces as usize;
        let count = cast.len();
        let member = |part: CastPart| Member {
            part,
            has: vec![false; pieces],
            count: 0,
            complete: None,
            left: None,
            given: 0,
            taken: 0,
            wasted: 0,
            wrong: 0,
        };
        Chronicle {
            plan,
            book,
            members: cast.into_iter().map(member).collect(),
            given: vec![vec![0; count]; count],
            arrivals: Vec::new(),
            turns: Vec::new(),
            opened: Duration::ZERO,
            spread: None,
            last_payload: Duration::ZERO,
            ended: Duration::ZERO,
            untold: 0,
            unheard: 0,
            on_the_way: BTreeMap::new(),
        }
    }

    /// Whether this one is gone without a word to anybody.
    pub fn has_vanished(&self, who: usize) -> bool {
        let member = &self.members[who];
        member.part.role == LabRole::Leaver && member.left.is_some()
    }

    /// Whoever was told to have everything has it.
    pub(super) fn complete(&mut self, who: usize, at: Duration) {
        let member = &mut self.members[who];
        member.has.fill(true);
        member.count = self.book.pieces;
        member.complete.get_or_insert(at);
    }

    /// Payload went from one to another.
    pub(super) fn gives(&mut self, from: usize, to: usize, piece: u32, bytes: u32, at: Duration) {
        self.given[from][to] += u64::from(bytes);
        self.last_payload = self.last_payload.max(at);
        let givers = self.on_the_way.entry((to, piece)).or_default();
        *givers.entry(from).or_default() += u64::from(bytes);
    }

    /// A piece has matched its hash.
    pub(super) fn verified(
        &mut self,
        who: usize,
        piece: u32,
        at: Duration,
    ) -> Option<PieceArrival> {
        let givers = self.on_the_way.remove(&(who, piece)).unwrap_or_default();
        let most = givers.into_iter().max_by_key(|(_, bytes)| *bytes);
        let member = &mut self.members[who];
        let place = member.has.get_mut(piece as usize).filter(|has| !**has)?;
        *place = true;
        member.count += 1;
        let arrival = PieceArrival {
            at,
            who,
            piece,
            from: most.map(|(from, _)| from),
        };
        self.arrivals.push(arrival);
        if self.spread.is_none() && self.missing(|member| member.part.role.wants()).is_empty() {
            self.spread = Some(at);
        }
        Some(arrival)
    }

    /// A piece did not match its hash.
    pub(super) fn spoiled(&mut self, who: usize, piece: u32) {
        self.on_the_way.remove(&(who, piece));
        self.members[who].wrong += 1;
    }

    /// Somebody was choked or unchoked.
    pub(super) fn turned(&mut self, turn: ChokeChange) {
        self.turns.push(turn);
    }

    /// Pieces that nobody of these has who is still there, honest.
    fn missing(&self, of: impl Fn(&Member) -> bool) -> Vec<u32> {
        let members: Vec<&Member> = self
            .members
            .iter()
            .filter(|it| it.left.is_none() && it.part.role != LabRole::Liar && of(it))
            .collect();
        (0..self.book.pieces)
            .filter(|piece| !members.iter().any(|it| it.has[*piece as usize]))
            .collect()
    }

    /// Pieces that nobody who is still there has.
    pub fn lost(&self) -> Vec<u32> {
        self.missing(|_| true)
    }

    /// Those who are to have the book in the end and do not.
    pub fn waiting(&self) -> impl Iterator<Item = usize> + '_ {
        let waits =
            |member: &Member| member.part.role == LabRole::Leecher && member.complete.is_none();
        (0..self.members.len()).filter(move |who| waits(&self.members[*who]))
    }

    /// How long the last of those who were to have the book took; `None` while one has not.
    pub fn time(&self) -> Option<Duration> {
        let leechers = self.members.iter();
        let times: Option<Vec<Duration>> = leechers
            .filter(|member| member.part.role == LabRole::Leecher)
            .map(|member| member.complete)
            .collect();
        Some(times?.into_iter().max()?.saturating_sub(self.opened))
    }

    /// One sentence about what is missing here, if anything is.
    pub fn holes(&self) -> Option<String> {
        let (untold, unheard) = (self.untold, self.unheard);
        (untold + unheard > 0).then(|| {
            format!(
                "Not everything could be noted down, some came too fast (notices: {untold}, messages: {unheard}): \
                 who gave which page to whom is not the whole story; totals and copies are right."
            )
        })
    }

    /// What is possible at all, with the members there are.
    pub fn limits(&self) -> Option<FluidLimits> {
        FluidLimits::of(&self.plan, self.book.bytes, 1)
    }

    /// Who serves whom at this moment, by giver: the taker is unchoked.
    pub fn open(&self) -> Vec<Vec<bool>> {
        let count = self.members.len();
        let mut open = vec![vec![false; count]; count];
        for turn in &self.turns {
            open[turn.who][turn.whom] = turn.open;
        }
        open
    }
}

impl FluidLimits {
    /// For so many times the leechers. Leavers and liars do not count; free riders take and do not give.
    pub fn of(plan: &Plan, bytes: u64, times: usize) -> Option<FluidLimits> {
        let up = plan.up? as f64;
        let book = bytes as f64;
        let takers = ((plan.peers - plan.leave) * times) as f64;
        let givers = ((plan.peers - plan.leave - plan.free_riders) * times) as f64;
        let seeds = plan.seeds as f64 * up;
        Some(FluidLimits {
            fluid: (book / seeds).max(takers * book / (seeds + givers * up)),
            http: takers * book / seeds,
        })
    }
}

/// A seed (0) and two leechers (1, 2) of a book of three pages.
#[cfg(test)]
pub(crate) fn small() -> Chronicle {
    small_of(Plan {
        peers: 2,
        ..Plan::default()
    })
}

#[cfg(test)]
pub(crate) fn small_of(plan: Plan) -> Chronicle {
    let book = Book {
        name: "book".into(),
        bytes: 3 * 16384,
        pieces: 3,
        piece_length: 16384,
        info_hash: InfoHash([7; 20]),
    };
    let cast = super::cast::of(&plan, &mut fastrand::Rng::with_seed(1));
    let seeds = plan.seeds;
    let mut chronicle = Chronicle::new(plan, book, cast);
    (0..seeds).for_each(|who| chronicle.complete(who, Duration::ZERO));
    chronicle
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_piece_is_from_who_gave_most_of_it_and_counts_once() {
        let mut chronicle = small();
        chronicle.gives(0, 1, 2, 100, at(1));
        chronicle.gives(2, 1, 2, 300, at(2));
        let arrival = chronicle.verified(1, 2, at(3)).unwrap();
        assert_eq!(arrival.from, Some(2));
        assert_eq!(chronicle.verified(1, 2, at(4)), None);
        assert_eq!(chronicle.verified(1, 99, at(4)), None);
        assert_eq!(chronicle.members[1].count, 1);
        assert_eq!((chronicle.given[0][1], chronicle.given[2][1]), (100, 300));
    }

    #[test]
    fn the_book_has_spread_when_the_leechers_have_it_among_them() {
        let mut chronicle = small();
        for (who, piece) in [(1, 0), (2, 1)] {
            chronicle.verified(who, piece, at(1));
        }
        assert_eq!((chronicle.spread, chronicle.lost()), (None, vec![]));
        chronicle.members[0].left = Some(at(2));
        assert_eq!(chronicle.lost(), [2]);
        chronicle.verified(1, 2, at(3));
        assert_eq!((chronicle.spread, chronicle.lost()), (Some(at(3)), vec![]));
        assert_eq!(chronicle.waiting().collect::<Vec<_>>(), [1, 2]);
        assert_eq!(chronicle.time(), None);
        chronicle.complete(1, at(5));
        chronicle.complete(2, at(4));
        assert_eq!(chronicle.time(), Some(at(5)));
    }

    #[test]
    fn more_peers_are_no_slower_in_a_swarm_and_slower_by_http() {
        let plan = Plan {
            peers: 6,
            up: Some(100),
            ..Plan::default()
        };
        let (six, twelve) = (
            FluidLimits::of(&plan, 1_000, 1).unwrap(),
            FluidLimits::of(&plan, 1_000, 2).unwrap(),
        );
        assert_eq!((six.fluid, six.http), (10.0, 60.0));
        assert_eq!((twelve.fluid, twelve.http), (10.0, 120.0));
        let riders = Plan {
            free_riders: 4,
            ..plan.clone()
        };
        assert_eq!(FluidLimits::of(&riders, 1_000, 1).unwrap().fluid, 20.0);
        assert_eq!(FluidLimits::of(&Plan { up: None, ..plan }, 1_000, 1), None);
    }
}
