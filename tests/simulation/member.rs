//! Who takes part in a simulated swarm: what it has, how far away it is, how it behaves.

use ropewalk::swarm::Limits;
use std::time::Duration;

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
    /// Unchokes, sends everybody so many blocks, and then nothing more.
    Silent { after: u32 },
    /// Takes and never gives: nobody is ever unchoked.
    FreeRider,
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
