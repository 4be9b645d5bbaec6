//! One begun piece: where each of its blocks is.

use super::event::{Moment, PeerKey};

/// How long those who are not to try a bad piece next stand back from it.
const STAND_BACK: Moment = Moment::from_secs(30);
/// How long a piece under suspicion is one peer's alone: a minute, and what each block takes at 64 KiB a second.
pub(super) const CARE_MAX: Moment = Moment::from_secs(60);
pub(super) const CARE_BLOCK: Moment = Moment::from_millis(250);

/// Where a block of a begun piece is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Where {
    /// Nowhere: it can be asked for.
    Free,
    /// Asked of this peer, which holds the right to write it.
    Out(PeerKey),
    /// In the file, from this peer; `None`: from a former run.
    Laid(Option<PeerKey>),
}

/// Who tries a bad piece next.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct NextTry {
    /// One of these, as long as any of them can: they had a part in good pieces.
    pub first: Vec<PeerKey>,
    /// Otherwise anyone but these, who took part in the last failure.
    pub not: Vec<PeerKey>,
}

impl NextTry {
    fn allows(&self, peer: PeerKey) -> bool {
        match self.first.is_empty() {
            true => !self.not.contains(&peer),
            false => self.first.contains(&peer),
        }
    }
}

/// A piece under suspicion is fetched whole from one peer, so that the next failure has one cause.
#[derive(Debug)]
pub(super) struct Care {
    /// The peer that fetches it, once one has begun.
    pub sole: Option<PeerKey>,
    next: NextTry,
    /// For so long others stand back.
    until: Moment,
    /// For so long it is one peer's alone.
    ends: Moment,
}

impl Care {
    /// For a piece of `blocks` blocks, for nobody but `next` for a while.
    pub fn new(next: NextTry, blocks: u32, now: Moment) -> Care {
        Care {
            sole: None,
            next,
            until: now + STAND_BACK,
            ends: now + CARE_MAX + CARE_BLOCK * blocks,
        }
    }

    /// This peer no longer works for us: it keeps nobody from trying.
    pub fn release(&mut self, peer: PeerKey) {
        self.sole.take_if(|sole| *sole == peer);
        self.next.first.retain(|first| *first != peer);
    }

    /// This peer had a part in a good piece: it need not wait for the others of its kind.
    pub fn is_proven(&mut self, peer: PeerKey) {
        let next = &mut self.next;
        if !next.first.is_empty() && !next.not.contains(&peer) && !next.first.contains(&peer) {
            next.first.push(peer);
        }
    }
}

/// A begun piece.
#[derive(Debug)]
pub(super) struct Partial {
    /// Where each block is.
    pub blocks: Vec<Where>,
    /// Blocks that can be asked for.
    pub free: u32,
    laid: u32,
    /// No block before this one is free.
    first_free: u32,
    /// The peer that is working its way through this piece.
    pub worker: Option<PeerKey>,
    /// Set while it is under suspicion.
    pub care: Option<Box<Care>>,
}

impl Partial {
    /// A piece of `count` blocks, all free; `table` is memory to be used again.
    pub fn new(count: usize, mut table: Vec<Where>) -> Partial {
        table.clear();
        table.resize(count, Where::Free);
        Partial {
            blocks: table,
            free: count as u32,
            laid: 0,
            first_free: 0,
            worker: None,
            care: None,
        }
    }

    /// Whether every block is in the file.
    pub fn is_full(&self) -> bool {
        self.laid as usize == self.blocks.len()
    }

    /// How many blocks are out.
    pub fn count_out(&self) -> usize {
        self.blocks.len() - (self.free + self.laid) as usize
    }

    /// Ends the care that has lasted for too long; says whether there is still some.
    pub fn end_care(&mut self, now: Moment) -> bool {
        self.care.take_if(|care| now >= care.ends);
        self.care.is_some()
    }

    /// Whether `peer` may work on it: only one peer may where the piece is under suspicion.
    pub fn allows(&self, peer: PeerKey, now: Moment) -> bool {
        self.care.as_ref().is_none_or(|care| match care.sole {
            Some(sole) => sole == peer,
            None => now >= care.until || care.next.allows(peer),
        })
    }

    /// Gives the first free blocks to `peer`, at most so many, and tells their numbers.
    pub fn take(&mut self, peer: PeerKey, most: usize, mut tell: impl FnMut(usize)) {
        if let Some(care) = &mut self.care {
            care.sole = Some(peer);
        }
        let mut taken = 0;
        let mut number = self.first_free as usize;
        while taken < most && self.free > 0 && number < self.blocks.len() {
            if self.blocks[number] == Where::Free {
                self.blocks[number] = Where::Out(peer);
                self.free -= 1;
                taken += 1;
                tell(number);
            }
            number += 1;
        }
        self.first_free = number as u32;
    }

    /// A block is somewhere else now.
    pub fn put(&mut self, number: usize, place: Where) {
        let Some(old) = self.blocks.get_mut(number) else {
            return;
        };
        match std::mem::replace(old, place) {
            Where::Free => self.free -= 1,
            Where::Laid(_) => self.laid -= 1,
            Where::Out(_) => {}
        }
        match place {
            Where::Free => {
                self.free += 1;
                self.first_free = self.first_free.min(number as u32);
            }
            Where::Laid(_) => self.laid += 1,
            Where::Out(_) => {}
        }
    }

    /// Panics where the counts are wrong.
    pub fn check_invariants(&self) {
        let count = |kind: fn(&Where) -> bool| self.blocks.iter().filter(|at| kind(at)).count();
        assert_eq!(count(|at| *at == Where::Free), self.free as usize);
        assert_eq!(count(|at| matches!(at, Where::Laid(_))), self.laid as usize);
        let first = self.blocks.iter().position(|at| *at == Where::Free);
        assert!(first.is_none_or(|first| first >= self.first_free as usize));
    }
}
