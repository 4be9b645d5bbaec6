//! The messages of the peer wire protocol (BEP 3), the fast extension (BEP 6), and the envelope of
//! the extension protocol (BEP 10).

/// A run of bytes as the wire names it: three numbers nobody has checked yet. Only
/// [`Geometry::locate`](crate::protocol::Geometry::locate) makes a `Block` of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WireBlock {
    /// The piece's number.
    pub piece: u32,
    /// The first byte, counted from the start of the piece.
    pub begin: u32,
    /// How many bytes.
    pub length: u32,
}

/// One message. A `Piece` is its head alone: the payload never lies in a message, it goes from the
/// socket into the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// No message at all, only a sign of life (BEP 3).
    KeepAlive,
    /// "I answer no requests of yours for now."
    Choke,
    /// "Ask: I will answer."
    Unchoke,
    /// "You have something I want."
    Interested,
    /// "You have nothing I want."
    NotInterested,
    /// "I have got this piece."
    Have {
        /// The piece's number.
        piece: u32,
    },
    /// "These are the pieces I have", right after the handshake. One bit a piece, see `Bitfield`.
    Bitfield(Box<[u8]>),
    /// "Send me this block."
    Request(WireBlock),
    /// "Here is the block": the head; `length` bytes of payload follow it on the wire.
    Piece(WireBlock),
    /// "I no longer need this block."
    Cancel(WireBlock),
    /// "My DHT node listens on this UDP port" (BEP 5).
    Port {
        /// The UDP port.
        port: u16,
    },
    /// "You might like to have this piece" (BEP 6).
    Suggest {
        /// The piece's number.
        piece: u32,
    },
    /// "I have everything", instead of a bitfield (BEP 6).
    HaveAll,
    /// "I have nothing", instead of a bitfield (BEP 6).
    HaveNone,
    /// "I will not send you this block" (BEP 6).
    Reject(WireBlock),
    /// "This piece I give you even while you are choked" (BEP 6).
    AllowedFast {
        /// The piece's number.
        piece: u32,
    },
    /// A message of the extension protocol (BEP 10). Id 0 is its handshake.
    Extended {
        /// The id that the receiver chose for this kind of message.
        id: u8,
        /// What follows the id.
        payload: Box<[u8]>,
    },
}
