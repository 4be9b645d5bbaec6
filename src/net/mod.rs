//! The hands that hold sockets: one thread a connection, and the listener.
//!
//! [`peer_thread`] owns one socket and does what the coordinator's [`Command`]s say; what happened it tells
//! in batches ([`Report`]). Inside it, in the order of a conversation: `dial` and [`listen`] are how
//! connections begin, `greeting` exchanges handshakes, `mailbox` brings commands, `intake` reads, with
//! `copies` what has no slot, and knows by `given_up` what is late; `trickle` tells of blocks that come slowly.
//! `outbox` writes, with `bundle` several blocks at once, `deadlines` says how long anything may take, `noise` how much
//! that means nothing is put up with, [`meter`] how much may pass where the rate is limited, `low_water` and `unsent`
//! for how much the socket is to wake its thread, which pushes nobody off a processor when it wakes (`give_way`).
//! [`trace`] writes down what is said. [`self_call`] is tried before all this where a machine is to talk to itself.
//! Nothing here decides anything about the swarm.
//!
//! ```text
//! coordinator --Vec<Command> + wake-up--> peer thread --Report--> coordinator's inbox
//! ```

mod bundle;
mod copies;
mod deadlines;
mod dial;
mod give_way;
mod given_up;
mod greeting;
mod intake;
pub mod listen;
mod low_water;
mod mailbox;
pub mod meter;
mod noise;
mod outbox;
pub mod peer_thread;
pub mod self_call;
pub mod trace;
mod trickle;
mod unsent;

use crate::protocol::InfoHash;
use crate::protocol::peer::{Message, PeerId};
use crate::protocol::{Block, Geometry};
use crate::storage::slot::{BlockSlot, ReadableBlock, StorageError};
use crate::swarm::event::{Farewell, Flow, Greeting, PeerKey};

/// What a peer thread is told to do. Commands of one batch are carried out in order.
#[derive(Debug)]
pub enum Command {
    /// The answer to `Knocked`: go on, as a peer of this torrent.
    Admit(Introduction),
    /// Send a message.
    Say(Message),
    /// Send a request for this slot's block and lay the answer into it.
    Request(BlockSlot),
    /// Send a request for a block that is out elsewhere; keep the answer in memory.
    RequestSpare(Block),
    /// Cancel a request and send its slot home. Unknown or already laid: nothing to do.
    Revoke(Block),
    /// Write the spare held for this slot's block into it; the slot comes home laid.
    Settle(BlockSlot),
    /// Forget a spare: cancel it if it has not come, drop it if it has.
    Discard(Block),
    /// Send a piece message with this block.
    Serve(ReadableBlock),
    /// Forget a `Serve` that has not begun. Where the peer speaks the fast extension, say so with a reject.
    Withhold(Block),
    /// Where the rate is limited: so many bytes may pass, if they do so soon.
    Grant {
        /// Which way.
        flow: Flow,
        /// How many.
        bytes: u64,
    },
    /// Send what is queued if that takes no wait, close, and end.
    HangUp(Farewell),
}

/// Which torrent a connection is about and who we are in it.
#[derive(Debug, Clone)]
pub struct Introduction {
    /// The torrent.
    pub info_hash: InfoHash,
    /// Our peer id.
    pub id: PeerId,
    /// The torrent's cut: how long a bitfield may be, which blocks exist.
    pub geometry: Geometry,
}

/// What a peer thread tells the coordinator: all that happened in one turn, in order.
#[derive(Debug)]
pub struct Report {
    /// Whose thread.
    pub peer: PeerKey,
    /// What happened. `Happened::Gone` is the last thing any thread ever tells.
    pub batch: Vec<Happened>,
}

/// One thing that happened on a connection.
#[derive(Debug)]
pub enum Happened {
    /// A caller sent its handshake and waits for `Admit` or `HangUp`.
    Knocked {
        /// The torrent it asks for.
        info_hash: InfoHash,
        /// Its id.
        id: PeerId,
    },
    /// Handshakes are through.
    Connected(Greeting),
    /// The peer said something.
    Said(Message),
    /// The slot's block lies in the file.
    Laid(BlockSlot),
    /// The slot comes home unused: revoked, rejected, choked away, or the connection ended.
    Returned(BlockSlot),
    /// A part of a block has come, and the whole one takes more than a second.
    Arriving,
    /// A spare has arrived and waits in memory.
    Held(Block),
    /// Payload was thrown away.
    Wasted {
        /// How much.
        bytes: u32,
        /// Whether this peer had been asked for it at some time.
        asked: bool,
    },
    /// The last byte of this block was given to the kernel.
    Served(Block),
    /// This block of ours could not be opened. A peer that speaks the fast extension was told, and may ask
    /// again.
    Unserved(Block),
    /// What was granted is used up, and there is more to do: the thread waits for a grant.
    Wants {
        /// Which way.
        flow: Flow,
        /// Bytes that wait to be sent; 0 where it has to be seen how much there is to read.
        bytes: u64,
    },
    /// A grant was carried for too long: so much of it was not used.
    Unused {
        /// Which way.
        flow: Flow,
        /// How many bytes.
        bytes: u64,
    },
    /// A slot could not be written, or a block of ours not read: the disk's fault, not the peer's.
    Failed(StorageError),
    /// The end.
    Gone(Farewell),
}
