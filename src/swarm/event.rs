//! The brain's vocabulary: what can happen to a swarm ([`Event`], past participles) and what can be
//! done about it ([`Action`], imperatives). Plain data: each prints as one line of the debug log, and
//! a test says "these events, then exactly those actions".

use crate::protocol::peer::{Message, PeerId};
use crate::protocol::{Block, Digest, PieceIndex};
use std::net::SocketAddr;
use std::time::Duration;

/// A connection's name inside this program. Never used twice in a run, so a message that arrives
/// after its peer has left cannot be mistaken for a newcomer's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerKey(pub u64);

impl std::fmt::Debug for PeerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "peer {}", self.0)
    }
}

/// Copies asked of one peer in the endgame, held ones included: its thread keeps them in memory until they
/// have a slot.
pub const SPARES_MAX: usize = 8;

/// A point in time: how long the program had been running. The brain has no clock, it is told.
pub type Moment = Duration;

/// Who opened a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// We called them.
    Dialled,
    /// They called us.
    Accepted,
}

/// A direction of traffic, as seen from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flow {
    /// What we send.
    Up,
    /// What we read.
    Down,
}

/// Where an address came from; the brain trusts the user more than a rumour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// `--peer` on the command line.
    User,
    /// A tracker's answer.
    Tracker,
    /// The peer itself, which called us and said where it listens.
    Peer,
}

/// What two handshakes told us about a new peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Greeting {
    /// The other end of the connection.
    pub address: SocketAddr,
    /// Who opened it.
    pub way: Way,
    /// The id the peer gave itself.
    pub id: PeerId,
    /// Both sides speak the fast extension (BEP 6).
    pub fast: bool,
    /// Both sides speak the extension protocol (BEP 10).
    pub extended: bool,
}

/// What the hash of a piece said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The piece is what the author published.
    Good,
    /// It is not.
    Bad,
    /// Its bytes could not be read back from disk; nobody is to blame on the network.
    Unreadable,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Addresses of possible peers became known.
    Found {
        /// The addresses, in no order, perhaps known already.
        addresses: Vec<SocketAddr>,
        /// Who told.
        origin: Origin,
    },
    /// A dialled address did not become a peer.
    Unreached {
        /// The address that was dialled.
        address: SocketAddr,
        /// Why not.
        why: Farewell,
    },
    /// Handshakes were exchanged: there is a new peer.
    Connected {
        /// Its key from now on.
        peer: PeerKey,
        /// What is known of it.
        greeting: Greeting,
    },
    /// A peer said something (anything but the payload of a block).
    Said {
        /// Who.
        peer: PeerKey,
        /// What. Its numbers are not checked yet.
        message: Message,
    },
    /// A block we asked for arrived and lies in its file.
    Received {
        /// From whom.
        peer: PeerKey,
        /// Which.
        block: Block,
    },
    /// The right to write a block came home unused: after a revoke, a reject, a choke, or before `Gone`.
    Returned {
        /// Who held it.
        peer: PeerKey,
        /// Which block is free again.
        block: Block,
    },
    /// A second copy, asked for in the endgame, arrived and waits in memory for `Settle` or `Discard`.
    Held {
        /// Who holds it.
        peer: PeerKey,
        /// Which block.
        block: Block,
    },
    /// Payload arrived that nobody needed (late, asked elsewhere meanwhile) or nobody asked for.
    Wasted {
        /// From whom.
        peer: PeerKey,
        /// Bytes thrown away.
        bytes: u32,
        /// Whether we had ever asked this peer for it: a late block is no offence.
        asked: bool,
    },
    /// A block was sent to a peer and left our process.
    Served {
        /// To whom.
        peer: PeerKey,
        /// Which.
        block: Block,
    },
    /// A block of ours could not be read and will not be sent; who asked for it may ask again.
    Unserved {
        /// For whom it was.
        peer: PeerKey,
        /// Which.
        block: Block,
    },
    /// Somebody else may have changed these pieces of ours: each waits for `Checked`, and nothing of it is sent
    /// before that.
    Doubted {
        /// Which.
        pieces: Vec<PieceIndex>,
    },
    /// A piece was hashed.
    Checked {
        /// Which.
        piece: PieceIndex,
        /// The outcome.
        verdict: Verdict,
        /// The digests of its blocks on the 16 KiB grid, if `Check` asked for them or the verdict is bad.
        blocks: Vec<Digest>,
    },
    /// Storage asks for a pause in requests (true) or has caught up (false).
    Congested(bool),
    /// A peer is no more. All its slots came home before.
    Gone {
        /// Which.
        peer: PeerKey,
        /// Why.
        why: Farewell,
    },
    /// The moment of `Swarm::wake_at` has come.
    Woken,
}

/// Something to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Connect to an address; the answer is `Connected` or `Unreached`.
    Dial {
        /// Where.
        address: SocketAddr,
    },
    /// Close a connection; the answer is `Gone`.
    HangUp {
        /// Which.
        peer: PeerKey,
        /// Why.
        why: Farewell,
    },
    /// Send a message that needs neither slot nor payload.
    Say {
        /// To whom.
        peer: PeerKey,
        /// What.
        message: Message,
    },
    /// Ask for a block and hand over the right to write it.
    Request {
        /// Whom.
        peer: PeerKey,
        /// Which.
        block: Block,
    },
    /// Ask a second peer for a block that is out already (endgame): no right to write yet. [`SPARES_MAX`] at a time.
    RequestSpare {
        /// Whom.
        peer: PeerKey,
        /// Which.
        block: Block,
    },
    /// Cancel a request made with `Request`; the answer is `Returned`, or `Received` if it was under way.
    Revoke {
        /// Whom it was asked of.
        peer: PeerKey,
        /// Which.
        block: Block,
    },
    /// Give the right to write to the holder of a spare; the answer is `Received` (or `Returned`).
    Settle {
        /// Who holds the spare.
        peer: PeerKey,
        /// Which block.
        block: Block,
    },
    /// Cancel a request made with `RequestSpare`, or throw the spare away. No answer.
    Discard {
        /// Whom it was asked of.
        peer: PeerKey,
        /// Which block.
        block: Block,
    },
    /// Send a block of ours; the answer is `Served`, `Unserved`, or nothing if withheld or gone.
    Serve {
        /// To whom.
        peer: PeerKey,
        /// Which.
        block: Block,
    },
    /// Forget a `Serve` whose first byte has not left yet. No answer.
    Withhold {
        /// From whom.
        peer: PeerKey,
        /// Which.
        block: Block,
    },
    /// Hash a piece whose blocks all lie in the file; the answer is `Checked`.
    Check {
        /// Which.
        piece: PieceIndex,
        /// Whether the digests of its blocks are wanted whatever the verdict (to find who lied).
        by_block: bool,
    },
    /// A piece is good and ours: put it into the record.
    Keep {
        /// Which.
        piece: PieceIndex,
    },
    /// Blocks of a bad piece are free again: forget that they were laid.
    Forget {
        /// Which piece.
        piece: PieceIndex,
    },
    /// Ask the trackers for more addresses.
    Announce,
    /// Everything that was wanted is here and checked.
    Complete,
}

/// Why a connection ended or never began. A lost peer is a value, never the program's error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Farewell {
    /// No connection could be made; the text is the system's.
    #[error("could not be reached: {0}")]
    Unreachable(String),
    /// The connection broke; the text is the system's.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// The peer closed the connection in good order.
    #[error("closed the connection")]
    Closed,
    /// It took too long over something.
    #[error("took too long to {0}")]
    TooSlow(Slowness),
    /// Its handshake was not one of BitTorrent's.
    #[error("does not speak BitTorrent")]
    NoHandshake,
    /// It wants or serves another torrent.
    #[error("shares another torrent")]
    OtherTorrent,
    /// It is this very program.
    #[error("is this program itself")]
    Ourselves,
    /// There is a connection to it already.
    #[error("is connected already")]
    Duplicate,
    /// There are as many connections as allowed.
    #[error("no room for another connection")]
    NoRoom,
    /// A message broke the protocol's form; the text says which and how.
    #[error("broke the protocol: {0}")]
    Malformed(String),
    /// A message was well formed and made no sense here; the text says why.
    #[error("made no sense: {0}")]
    Senseless(String),
    /// It sent data that does not match the torrent's hashes.
    #[error("sent wrong data")]
    Lied,
    /// It has everything and we want nothing more: nothing is left to say.
    #[error("has everything, and we want nothing more")]
    BothComplete,
    /// Neither side had a use for the other for a long time.
    #[error("was of no use")]
    Useless,
    /// Made room for another peer.
    #[error("made room for another peer")]
    Replaced,
    /// It asks for a piece that we had when it came and have no longer. On its next visit it is told so.
    #[error("asks for what we have no longer")]
    Outdated,
    /// It left too many batches of commands unread.
    #[error("stopped listening")]
    Stuck,
    /// Its thread failed; a fault of ours, kept from spreading.
    #[error("our thread for it failed")]
    Panicked,
    /// We are leaving.
    #[error("we are leaving")]
    Leaving,
}

/// What a peer took too long over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slowness {
    /// Accepting our connection.
    Connect,
    /// Sending its 68 bytes.
    Handshake,
    /// Saying anything at all.
    Speak,
    /// Finishing a message it had begun.
    Finish,
    /// Reading what we send.
    Read,
}

impl std::fmt::Display for Slowness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Slowness::Connect => "accept the connection",
            Slowness::Handshake => "send a handshake",
            Slowness::Speak => "say anything",
            Slowness::Finish => "finish a message",
            Slowness::Read => "read what we send",
        })
    }
}

impl Farewell {
    /// Whether another try at the same address may end better.
    pub fn may_retry(&self) -> bool {
        match self {
            Farewell::Unreachable(_)
            | Farewell::Broken(_)
            | Farewell::Closed
            | Farewell::TooSlow(_) => true,
            Farewell::NoRoom
            | Farewell::Useless
            | Farewell::Replaced
            | Farewell::Outdated
            | Farewell::Stuck
            | Farewell::Panicked => true,
            Farewell::NoHandshake
            | Farewell::OtherTorrent
            | Farewell::Ourselves
            | Farewell::Duplicate => false,
            Farewell::Malformed(_) | Farewell::Senseless(_) | Farewell::Lied => false,
            Farewell::BothComplete | Farewell::Leaving => false,
        }
    }
}
