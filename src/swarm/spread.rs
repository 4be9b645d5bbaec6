//! How a seed spreads its pieces: each goes out once before any goes out twice.
//!
//! Standard: BEP 16. Ours: that nobody has to ask for it, and the ways out; decision 123.
//!
//! Nobody in a swarm can be done before the seed has sent every piece once. A second copy of a piece
//! while first copies are missing is therefore time lost for everybody, and leechers that each take
//! "the rarest piece" from a seed collide all the time: they know what others have, not what others
//! have just asked for. So the seed hides: it tells a newcomer that it has nothing, then shows it one
//! piece at a time, to each a different one, the next when the last is nearly sent (BEP 16). Any
//! leecher can live with that, as a piece on show looks like a piece just fetched. When every piece
//! was sent to somebody, everything is shown to everybody.
//!
//! Who was here first knows all, and may have asked for all. What others are shown it is sent after everything else.
//!
//! That a peer passed a piece on we learn from others who announce it: those we showed a piece need not announce
//! it to us. Who keeps two of them to itself gets no more while others wait.
//!
//! What somebody is shown and does not fetch is shown to another after a while, and then to everybody: else
//! connections that never fetch anything, or little, would hand it around among themselves for minutes.
//! Who let a piece lie is shown no other before it has taken something, or has nothing to ask for.
//!
//! ```text
//! spread.arrive(peer)                      true: say have-none, show pieces one by one
//! spread.next(peer, window, ..)            the piece to show it now, if it needs one
//! spread.begun(..) ; spread.served(..)     what is being sent and was
//! spread.gained(..)                        what it announced
//! spread.unveil()                          who is to be shown everything from now on
//! ```
//!
//! Who is alone with the seed is told everything at once: nobody is there to collide with.

use super::event::{Moment, PeerKey};
use super::peer::Holding;
use crate::protocol::bitfield::Bitfield;
use crate::protocol::{Block, Geometry, PieceIndex};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A piece on show of which nothing was sent for so long is shown to somebody else, too.
const STALLED: Duration = Duration::from_secs(5);

/// So many peers may let a piece on show lie, one after the other, before everybody is shown it.
const LEFT_MAX: u32 = 2;

/// Pieces a peer may have of us and nobody else of it, and how many more for each that it passed on.
const KEPT_MAX: u32 = 2;
const KEPT_MORE: u32 = 2;

/// One part in so many of the book is kept for a peer that knows all and has asked for it.
const ASKED_PART: usize = 16;

/// What one peer was shown.
#[derive(Debug)]
struct Viewer {
    /// It was told that we have nothing, and then of these pieces. `None`: it knows all.
    shown: Option<Bitfield>,
    /// Pieces on show that it has not announced yet, and how much of each was not sent.
    open: BTreeMap<PieceIndex, u32>,
    /// Pieces it has from us that nobody else is known to have.
    kept: u32,
    /// Pieces it had from us first and others have now.
    passed: u32,
    /// When it was last shown a piece.
    shown_at: Moment,
    /// It let a piece lie that it could have fetched, and has taken nothing since.
    lets_lie: bool,
}

impl Viewer {
    /// Pieces it has of us and nobody else has been seen with. Who was shown a piece need not announce it to
    /// us: all of it was sent.
    fn keeps(&self) -> u32 {
        let sent = self.open.values().filter(|left| **left == 0).count();
        self.kept + sent as u32
    }

    fn keeps_too_much(&self) -> bool {
        self.keeps() >= KEPT_MAX + KEPT_MORE * self.passed
    }
}

/// What a peer makes of what it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Viewing {
    /// It asks for it, and has its turn sooner or later: on a slow line after minutes.
    InLine,
    /// It could ask and does not, or does not take what it asked for.
    Silent,
    /// It is choked, not interested, or gone.
    Not,
}

/// A piece that somebody was shown and nobody has announced.
#[derive(Debug, Default)]
struct Show {
    viewers: BTreeSet<PeerKey>,
    /// When it was shown, or a block of it last sent.
    touched: Moment,
    /// How often it was let lie by those who could have fetched it.
    left: u32,
    /// All of it was sent to somebody.
    sent: bool,
}

/// Who was shown which piece, and who has which.
#[derive(Debug)]
pub struct Spread {
    geometry: Geometry,
    viewers: BTreeMap<PeerKey, Viewer>,
    /// How many connected peers have each piece.
    copies: Vec<u16>,
    /// Pieces that no connected peer has.
    missing: u32,
    /// Pieces on show that nobody has.
    shows: BTreeMap<PieceIndex, Show>,
    /// How many of these were sent.
    sent: u32,
    /// Pieces with one holder, who had it from us.
    sole: BTreeMap<PieceIndex, PeerKey>,
    /// All pieces by chance, and how many of them from the front are on show or out.
    order: Vec<PieceIndex>,
    next: usize,
    /// When a block was last sent to anybody.
    served_at: Option<Moment>,
}

impl Spread {
    /// Nobody has been shown anything.
    pub fn new(geometry: Geometry, rng: &mut fastrand::Rng) -> Spread {
        let mut order: Vec<_> = geometry.all_pieces().collect();
        rng.shuffle(&mut order);
        Spread {
            geometry,
            viewers: BTreeMap::new(),
            copies: vec![0; geometry.pieces() as usize],
            missing: geometry.pieces(),
            shows: BTreeMap::new(),
            sent: 0,
            sole: BTreeMap::new(),
            order,
            next: 0,
            served_at: None,
        }
    }

    /// A newcomer. True: it is to be told that we have nothing, and shown pieces one by one.
    pub fn arrive(&mut self, peer: PeerKey) -> bool {
        let others = self.viewers.len();
        let hide = self.missing > self.sent && others > 0;
        let viewer = Viewer {
            shown: hide.then(|| Bitfield::new(&self.geometry)),
            open: BTreeMap::new(),
            kept: 0,
            passed: 0,
            shown_at: Moment::ZERO,
            lets_lie: false,
        };
        self.viewers.insert(peer, viewer);
        hide
    }

    /// A peer with these pieces is gone.
    pub fn leave(&mut self, peer: PeerKey, holds: &Holding) {
        if self.viewers.remove(&peer).is_none() {
            return;
        }
        let geometry = self.geometry;
        for piece in geometry.all_pieces().filter(|piece| holds.has(*piece)) {
            let copies = &mut self.copies[piece.as_usize()];
            *copies = copies.saturating_sub(1);
            if *copies == 0 {
                self.missing += 1;
                // It has to be shown again; the search for the next one begins anew.
                self.next = 0;
            }
        }
        self.sole.retain(|_, holder| *holder != peer);
        let viewers = &self.viewers;
        self.shows.retain(|piece, show| {
            show.viewers.remove(&peer);
            let mut rest = show.viewers.iter().filter_map(|it| viewers.get(it));
            show.sent = rest.any(|viewer| viewer.open.get(piece) == Some(&0));
            !show.viewers.is_empty()
        });
        self.sent = self.shows.values().filter(|show| show.sent).count() as u32;
        self.next = 0;
    }

    /// A peer announced a piece.
    pub fn gained(&mut self, peer: PeerKey, piece: PieceIndex) {
        if !self.viewers.contains_key(&peer) {
            return;
        }
        let copies = &mut self.copies[piece.as_usize()];
        *copies = copies.saturating_add(1);
        let first = *copies == 1;
        self.missing -= u32::from(first);
        let ours = self
            .viewers
            .get_mut(&peer)
            .and_then(|viewer| viewer.open.remove(&piece));
        // If a peer that was not shown it announces it, one of those we gave it to must have passed it on.
        let Show { viewers, sent, .. } = self.shows.remove(&piece).unwrap_or_default();
        self.sent -= u32::from(sent);
        let passed = !viewers.contains(&peer);
        for viewer in viewers {
            if let Some(viewer) = self.viewers.get_mut(&viewer)
                && viewer.open.remove(&piece) == Some(0)
            {
                viewer.passed += u32::from(passed);
                viewer.kept += u32::from(!passed);
            }
        }
        if first && ours.is_some() {
            self.sole.insert(piece, peer);
            self.count_kept(peer, 1);
        } else if let Some(holder) = self.sole.remove(&piece) {
            self.count_kept(holder, -1);
        }
    }

    fn count_kept(&mut self, peer: PeerKey, step: i32) {
        if let Some(viewer) = self.viewers.get_mut(&peer) {
            viewer.kept = viewer.kept.saturating_add_signed(step);
            viewer.passed += u32::from(step < 0);
        }
    }

    /// Whether a peer was told of everything.
    pub fn knows_all(&self, peer: PeerKey) -> bool {
        self.viewers.get(&peer).is_some_and(|it| it.shown.is_none())
    }

    /// A peer that knows all asks for a piece: others need not be shown it, as long as it does not ask for all.
    pub fn requested(&mut self, peer: PeerKey, block: Block, now: Moment) {
        let most = self.order.len() / ASKED_PART;
        if self
            .viewers
            .get(&peer)
            .is_some_and(|it| it.open.len() < most)
        {
            self.begun(peer, block, now);
        }
    }

    /// A peer that knows all is sent a piece: others need not be shown it.
    pub fn begun(&mut self, peer: PeerKey, block: Block, now: Moment) {
        let piece = block.piece();
        let show = self.shows.get(&piece);
        let noted = show.is_some_and(|show| show.viewers.contains(&peer));
        if self.knows_all(peer) && self.copies[piece.as_usize()] == 0 && !noted {
            self.show(peer, piece, now);
        }
    }

    /// A block was sent to a peer.
    pub fn served(&mut self, peer: PeerKey, block: Block, now: Moment) {
        self.served_at = Some(now);
        let Some(viewer) = self.viewers.get_mut(&peer) else {
            return;
        };
        viewer.lets_lie = false;
        if let Some(left) = viewer.open.get_mut(&block.piece()) {
            *left = left.saturating_sub(block.length());
            if let Some(show) = self.shows.get_mut(&block.piece()) {
                show.touched = now;
                self.sent += u32::from(*left == 0 && !show.sent);
                show.sent |= *left == 0;
            }
        }
    }

    /// The piece to show to `peer` now. `None`: it has enough to ask for, or knows all, or nothing is
    /// left to be shown. `window`: bytes it may be shown ahead of what was sent; `viewing`: what a
    /// peer makes of what it is shown.
    pub fn next(
        &mut self,
        peer: PeerKey,
        window: u64,
        others_wait: bool,
        now: Moment,
        viewing: impl Fn(PeerKey) -> Viewing,
    ) -> Option<PieceIndex> {
        let viewer = self.viewers.get(&peer)?;
        let shown = viewer.shown.as_ref()?;
        let ahead: u64 = viewer.open.values().map(|left| u64::from(*left)).sum();
        // While others fill the line, who passes nothing on gets nothing more.
        if ahead >= window || others_wait && viewer.keeps_too_much() {
            return None;
        }
        while let Some(piece) = self.order.get(self.next) {
            let taken = self.copies[piece.as_usize()] > 0 || self.shows.contains_key(piece);
            if !taken {
                break;
            }
            self.next += 1;
        }
        // What it would let lie, too, is lost to others for as long again.
        let lets_lie = viewer.lets_lie && viewing(peer) == Viewing::Silent;
        let fresh = self.order.get(self.next).filter(|_| !lets_lie).copied();
        let piece = fresh.or_else(|| {
            let left_lying = self.shows.iter().filter(|(piece, show)| {
                let stalled = now >= show.touched + STALLED;
                let left = |it: &PeerKey| match viewing(*it) {
                    Viewing::Not => true,
                    Viewing::Silent => stalled,
                    // What it waits for in line is something else where all of this was sent.
                    Viewing::InLine => stalled && self.was_sent(*it, **piece),
                };
                let for_all = show.left >= LEFT_MAX;
                let is_left = for_all || !lets_lie && show.viewers.iter().all(left);
                !shown.has(**piece) && is_left
            });
            left_lying
                .min_by_key(|(_, show)| (show.viewers.len(), show.touched))
                .map(|(piece, _)| *piece)
        })?;
        if let Some(show) = self.shows.get_mut(&piece)
            && now >= show.touched + STALLED
        {
            show.left += 1;
            for left in &show.viewers {
                if let Some(viewer) = self.viewers.get_mut(left)
                    && viewing(*left) == Viewing::Silent
                {
                    viewer.lets_lie = true;
                }
            }
        }
        self.show(peer, piece, now);
        Some(piece)
    }

    fn show(&mut self, peer: PeerKey, piece: PieceIndex, now: Moment) {
        let show = self.shows.entry(piece).or_default();
        show.viewers.insert(peer);
        show.touched = now;
        if let Some(viewer) = self.viewers.get_mut(&peer) {
            viewer.open.insert(piece, self.geometry.piece_size(piece));
            viewer.shown_at = now;
            if let Some(shown) = &mut viewer.shown {
                shown.set(piece);
            }
        }
    }

    fn was_sent(&self, peer: PeerKey, piece: PieceIndex) -> bool {
        let viewer = self.viewers.get(&peer);
        viewer.is_some_and(|viewer| viewer.open.get(&piece) == Some(&0))
    }

    /// Pieces that `peer` has from us and nobody else has been seen with.
    pub fn kept(&self, peer: PeerKey) -> u32 {
        self.viewers.get(&peer).map_or(0, Viewer::keeps)
    }

    /// Whether it has passed anything on.
    pub fn has_passed(&self, peer: PeerKey) -> bool {
        self.viewers.get(&peer).is_some_and(|it| it.passed > 0)
    }

    /// Whether it has been given much and passes little of it on.
    pub fn keeps_too_much(&self, peer: PeerKey) -> bool {
        let viewer = self.viewers.get(&peer);
        viewer.is_some_and(Viewer::keeps_too_much)
    }

    /// Whether some piece was not sent to anybody yet, and it matters.
    pub fn is_on(&self) -> bool {
        self.missing > self.sent && self.viewers.len() > 1
    }

    /// Whether the clock alone may bring `peer`, which is interested, something to ask for: it has taken
    /// what it was shown, and others let lie what they were shown.
    pub fn waits(&self, peer: PeerKey, window: u64) -> bool {
        let Some(viewer) = self.viewers.get(&peer).filter(|it| !it.lets_lie) else {
            return false;
        };
        let Some(shown) = &viewer.shown else {
            return false;
        };
        let ahead: u64 = viewer.open.values().map(|left| u64::from(*left)).sum();
        let fresh = self.next < self.order.len();
        ahead < window && (fresh || self.shows.keys().any(|piece| !shown.has(*piece)))
    }

    /// Whether it may turn out soon that somebody wants nothing of what it was shown. Where nothing has
    /// been sent for a while nobody is in a hurry: whatever peers say next is soon enough.
    pub fn is_lively(&self, now: Moment) -> bool {
        let sent = self.served_at.is_some_and(|at| now < at + 3 * STALLED);
        sent && self.viewers.values().any(|viewer| viewer.shown.is_some())
    }

    /// Shows everything to a peer that is not interested, if what it was shown has left it so for a while:
    /// who wants some files only, or pieces in their order, need not want what the dice gave it. With the
    /// pieces it was shown already.
    pub fn bored(&mut self, peer: PeerKey, now: Moment) -> Option<Bitfield> {
        let viewer = self.viewers.get_mut(&peer)?;
        let refused = viewer.open.values().any(|left| *left > 0);
        if !refused || now < viewer.shown_at + STALLED {
            return None;
        }
        viewer.shown.take()
    }

    /// Nothing is hidden any more: whoever is to be shown everything, with the pieces it was shown already.
    pub fn end(self) -> Vec<(PeerKey, Bitfield)> {
        let viewers = self.viewers.into_iter();
        viewers
            .filter_map(|(peer, viewer)| Some((peer, viewer.shown?)))
            .collect()
    }

    /// Whoever is to be shown everything from now on: all, once each piece was sent to somebody; the
    /// last one, when the others have left. With the pieces it was shown already.
    pub fn unveil(&mut self) -> Vec<(PeerKey, Bitfield)> {
        if self.is_on() {
            return Vec::new();
        }
        let viewers = self.viewers.iter_mut();
        viewers
            .filter_map(|(peer, viewer)| Some((*peer, viewer.shown.take()?)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::scene::*;
    use super::*;
    use crate::protocol::peer::Message;
    use crate::swarm::event::{Action, Event, PeerKey};
    use std::time::Duration;

    /// A seed of ten pieces of two blocks, and three peers it hides from.
    fn hidden() -> (Spread, Geometry) {
        let geometry = Geometry::new(10 * 32_768, 32_768).unwrap();
        let mut spread = Spread::new(geometry, &mut fastrand::Rng::with_seed(1));
        assert!(!spread.arrive(PeerKey(0)));
        for key in 1..=3 {
            assert!(spread.arrive(PeerKey(key)));
        }
        (spread, geometry)
    }

    /// Shows a peer the next piece and sends all of it.
    fn give(spread: &mut Spread, geometry: &Geometry, key: u64) -> Option<PieceIndex> {
        let (peer, now) = (PeerKey(key), Moment::ZERO);
        let piece = spread.next(peer, 1, true, now, |_| Viewing::Silent)?;
        for block in geometry.blocks(piece) {
            spread.served(peer, block, now);
        }
        Some(piece)
    }

    #[test]
    fn who_passes_nothing_on_gets_two_pieces_and_one_that_does_gets_more() {
        let (mut spread, geometry) = hidden();
        let first = give(&mut spread, &geometry, 1).unwrap();
        give(&mut spread, &geometry, 1).unwrap();
        assert!(spread.keeps_too_much(PeerKey(1)));
        assert_eq!(give(&mut spread, &geometry, 1), None);
        // It does not tell us, who showed it; that another has the piece says enough.
        spread.gained(PeerKey(2), first);
        assert!(!spread.keeps_too_much(PeerKey(1)));
        assert!(give(&mut spread, &geometry, 1).is_some());
    }

    #[test]
    fn what_two_let_lie_everybody_is_shown_however_many_would_let_it_lie() {
        let (mut spread, geometry) = hidden();
        let next = |spread: &mut Spread, key, window, now| {
            spread.next(PeerKey(key), window, false, now, |_| Viewing::Silent)
        };
        let all = geometry.pieces();
        let lain = next(&mut spread, 1, 1, Moment::ZERO).unwrap();
        while next(&mut spread, 2, u64::MAX, Moment::ZERO).is_some() {}
        assert_eq!(spread.shows.len() as u32, all);
        // Nobody else before five seconds are over, one then, and everybody after ten.
        for key in 4..=9 {
            spread.arrive(PeerKey(key));
            assert_eq!(next(&mut spread, key, 1, STALLED / 2), None);
        }
        let shown = |spread: &mut Spread, now| {
            let shown = (4..=9).map(|key| {
                let pieces = std::iter::from_fn(|| next(spread, key, u64::MAX, now));
                pieces.filter(|piece| *piece == lain).count()
            });
            shown.sum::<usize>()
        };
        assert_eq!(shown(&mut spread, STALLED), 1);
        assert_eq!(shown(&mut spread, STALLED * 2), 5);
    }

    #[test]
    fn who_let_a_piece_lie_that_others_have_now_is_shown_another_when_it_takes_something() {
        let (mut spread, _) = hidden();
        let next = |spread: &mut Spread, key, now, viewing| {
            spread.next(PeerKey(key), 1, false, now, |_| viewing)
        };
        let lain = next(&mut spread, 1, Moment::ZERO, Viewing::Silent).unwrap();
        while let Some(piece) = next(&mut spread, 2, Moment::ZERO, Viewing::InLine) {
            spread.gained(PeerKey(2), piece);
        }
        assert_eq!(next(&mut spread, 2, STALLED, Viewing::Silent), Some(lain));
        spread.gained(PeerKey(2), lain);
        // The one who had two pieces has gone, and both can be shown again.
        let mut holds = Holding::Nothing;
        let (first, last) = (spread.order[1], spread.order[2]);
        holds.add(first, &spread.geometry);
        holds.add(last, &spread.geometry);
        spread.leave(PeerKey(2), &holds);
        assert_eq!(next(&mut spread, 1, STALLED, Viewing::Silent), None);
        assert_eq!(next(&mut spread, 3, STALLED, Viewing::Silent), Some(first));
        let block = spread.geometry.block(lain, 0).unwrap();
        spread.served(PeerKey(1), block, STALLED);
        assert_eq!(next(&mut spread, 1, STALLED, Viewing::Silent), Some(last));
    }

    #[test]
    fn a_piece_that_another_had_to_fetch_of_us_again_was_not_passed_on() {
        let (mut spread, geometry) = hidden();
        let first = give(&mut spread, &geometry, 1).unwrap();
        give(&mut spread, &geometry, 1).unwrap();
        spread.show(PeerKey(2), first, Moment::ZERO);
        spread.gained(PeerKey(2), first);
        assert!(spread.keeps_too_much(PeerKey(1)));
    }

    #[test]
    fn what_was_sent_to_somebody_is_out_and_when_all_is_everything_is_shown() {
        let (mut spread, geometry) = hidden();
        for round in 0..10 {
            assert!(spread.is_on());
            let (peer, now) = (PeerKey(1 + round % 3), Moment::ZERO);
            let piece = spread
                .next(peer, 1, false, now, |_| Viewing::Silent)
                .unwrap();
            let sent = geometry.blocks(piece);
            sent.for_each(|block| spread.served(peer, block, now));
        }
        assert!(!spread.is_on());
        assert_eq!(spread.unveil().len(), 3);
    }

    /// The pieces that `key` is shown.
    fn shown(actions: &[Action], key: u64) -> Vec<u32> {
        let shown = actions.iter().filter_map(|action| match action {
            Action::Say {
                peer,
                message: Message::Have { piece },
            } if *peer == PeerKey(key) => Some(*piece),
            _ => None,
        });
        shown.collect()
    }

    /// A seed of ten pieces with the first peer, which knows all and was served a block.
    fn seed_at_work() -> Scene {
        let mut scene = Scene::complete();
        scene.connect(1);
        scene.say(1, Message::Interested);
        scene.say(1, Message::Request(wire(0, 0, 16_384)));
        let (peer, block) = (PeerKey(1), scene.block(0, 0));
        scene.event(Event::Served { peer, block });
        scene
    }

    #[test]
    fn who_asks_for_a_piece_again_and_again_does_not_keep_others_at_two_pieces() {
        let mut scene = seed_at_work();
        let (hog, block) = (PeerKey(1), scene.block(0, 0));
        for _ in 0..40 {
            scene.say(1, Message::Request(wire(0, 0, 16_384)));
        }
        for _ in 0..6 {
            scene.event(Event::Served { peer: hog, block });
        }
        let mut next = shown(&scene.connect(2), 2);
        next.extend(shown(&scene.say(2, Message::Interested), 2));
        let mut seen = Vec::new();
        while let Some(piece) = next.pop() {
            seen.push(piece);
            for number in 0..2 {
                let (peer, block) = (PeerKey(2), scene.block(piece, number));
                scene.say(2, Message::Request(block.into()));
                next.extend(shown(&scene.event(Event::Served { peer, block }), 2));
            }
        }
        assert!(seen.len() > 5, "{seen:?}");
    }

    #[test]
    fn who_knows_all_and_asked_for_all_is_sent_last_what_others_are_shown() {
        let mut scene = Scene::complete();
        scene.connect(1);
        scene.say(1, Message::Interested);
        let mut queue = Vec::new();
        let serves = |actions: &[Action]| -> Vec<_> {
            let served = actions.iter().filter_map(|action| match action {
                Action::Serve { peer, block } => Some((*peer, *block)),
                _ => None,
            });
            served.collect()
        };
        for (piece, number) in (0..10).flat_map(|piece| [(piece, 0), (piece, 1)]) {
            let ask = Message::Request(scene.block(piece, number).into());
            queue.extend(serves(&scene.say(1, ask)));
        }
        let shown = shown(&scene.connect(2), 2);
        assert_eq!(shown.len(), 1);
        assert!(queue.iter().all(|(_, it)| it.piece().get() != shown[0]));
        let mut next = 0;
        while let Some((peer, block)) = queue.get(next).copied() {
            queue.extend(serves(&scene.event(Event::Served { peer, block })));
            next += 1;
        }
        let last = queue.iter().rev().map(|(_, block)| block.piece().get());
        assert_eq!(queue.len(), 20);
        assert_eq!(last.take(2).collect::<Vec<_>>(), [shown[0]; 2]);
    }

    #[test]
    fn what_somebody_is_shown_and_lets_lie_is_shown_to_those_who_wait_and_then_there_is_rest() {
        let mut scene = seed_at_work();
        let lies = shown(&scene.connect(2), 2);
        scene.say(2, Message::Interested);
        // The third fetches all it is shown and goes on; nobody but time can bring it what the second has.
        let mut next = shown(&scene.connect(3), 3);
        scene.say(3, Message::Interested);
        let mut seen = next.clone();
        for _ in 0..40 {
            let mut more = Vec::new();
            for piece in next {
                more.extend(shown(&scene.say(3, Message::Have { piece }), 3));
            }
            more.extend(shown(&scene.wait(Duration::from_secs(1)), 3));
            seen.extend(&more);
            next = more;
        }
        assert!(seen.contains(&lies[0]), "{seen:?} without {lies:?}");
        scene.wait(Duration::from_secs(60));
        assert_eq!(scene.swarm.wake_at(), None);
    }

    #[test]
    fn who_wants_nothing_of_what_it_was_shown_is_shown_everything() {
        let mut scene = seed_at_work();
        let one = shown(&scene.connect(2), 2);
        assert_eq!(one.len(), 1);
        let more = shown(&scene.wait(Duration::from_secs(10)), 2);
        assert_eq!(more.len(), 9, "{more:?} after {one:?}");
        // Where nothing moves no alarm is set for it: what the peer says next is soon enough.
        let one = shown(&scene.connect(3), 3);
        scene.wait(Duration::from_secs(60));
        let four = shown(&scene.connect(4), 4);
        assert_eq!((one.len(), four.len()), (1, 1));
        scene.wait(Duration::from_secs(60));
        assert_eq!(scene.swarm.wake_at(), None);
        assert_eq!(shown(&scene.say(4, Message::KeepAlive), 4).len(), 9);
    }
}
