//! The messages of the peer wire protocol (BEP 3), the fast extension (BEP 6), and the envelope of
//! the extension protocol (BEP 10).
//!
//! ```text
//! | length 4 | id 1 | what belongs to the id, length - 1 bytes |     all numbers big-endian
//! ```
//!
//! Here messages are turned into bytes; [`decoder`](super::decoder) turns bytes into messages.
//!
//! ```
//! use ropewalk::protocol::peer::Message;
//! let mut out = Vec::new();
//! Message::Have { piece: 42 }.encode(&mut out);
//! assert_eq!(out, [0, 0, 0, 5, 4, 0, 0, 0, 42]);
//! ```

/// The numbers by which the wire tells messages apart.
pub(super) mod id {
    pub const CHOKE: u8 = 0;
    pub const UNCHOKE: u8 = 1;
    pub const INTERESTED: u8 = 2;
    pub const NOT_INTERESTED: u8 = 3;
    pub const HAVE: u8 = 4;
    pub const BITFIELD: u8 = 5;
    pub const REQUEST: u8 = 6;
    pub const PIECE: u8 = 7;
    pub const CANCEL: u8 = 8;
    pub const PORT: u8 = 9;
    pub const SUGGEST: u8 = 0x0d;
    pub const HAVE_ALL: u8 = 0x0e;
    pub const HAVE_NONE: u8 = 0x0f;
    pub const REJECT: u8 = 0x10;
    pub const ALLOWED_FAST: u8 = 0x11;
    pub const EXTENDED: u8 = 0x14;

    /// The name of the message with this id in the field's own terms; `None` for ids we do not know.
    pub fn name(id: u8) -> Option<&'static str> {
        Some(match id {
            CHOKE => "choke",
            UNCHOKE => "unchoke",
            INTERESTED => "interested",
            NOT_INTERESTED => "not interested",
            HAVE => "have",
            BITFIELD => "bitfield",
            REQUEST => "request",
            PIECE => "piece",
            CANCEL => "cancel",
            PORT => "port",
            SUGGEST => "suggest",
            HAVE_ALL => "have all",
            HAVE_NONE => "have none",
            REJECT => "reject",
            ALLOWED_FAST => "allowed fast",
            EXTENDED => "extended",
            _ => return None,
        })
    }
}

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

/// The bytes before a block's payload: length, id, piece, begin.
pub const PIECE_HEAD: usize = 13;

impl Message {
    /// Appends the message as it goes over the wire. Of a `Piece` this is the head of
    /// [`PIECE_HEAD`] bytes: its payload has to follow from elsewhere.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let Some(id) = self.id() else {
            return out.extend([0; 4]);
        };
        match self {
            Message::Have { piece }
            | Message::Suggest { piece }
            | Message::AllowedFast { piece } => {
                frame(out, id, &piece.to_be_bytes());
            }
            Message::Request(block) | Message::Cancel(block) | Message::Reject(block) => {
                frame(out, id, &block.encode());
            }
            Message::Bitfield(bits) => frame(out, id, bits),
            Message::Port { port } => frame(out, id, &port.to_be_bytes()),
            Message::Piece(block) => {
                out.extend(block.length.saturating_add(9).to_be_bytes());
                out.push(id);
                out.extend(&block.encode()[..8]);
            }
            Message::Extended { id: inner, payload } => {
                frame_start(out, payload.len() + 1, id);
                out.push(*inner);
                out.extend(payload);
            }
            _ => frame(out, id, &[]),
        }
    }

    /// The message's name in the field's own terms, such as `not interested`.
    pub fn name(&self) -> &'static str {
        self.id().and_then(id::name).unwrap_or("keep-alive")
    }

    /// The number by which the wire knows this kind of message; a keep-alive has none.
    fn id(&self) -> Option<u8> {
        Some(match self {
            Message::KeepAlive => return None,
            Message::Choke => id::CHOKE,
            Message::Unchoke => id::UNCHOKE,
            Message::Interested => id::INTERESTED,
            Message::NotInterested => id::NOT_INTERESTED,
            Message::Have { .. } => id::HAVE,
            Message::Bitfield(_) => id::BITFIELD,
            Message::Request(_) => id::REQUEST,
            Message::Piece(_) => id::PIECE,
            Message::Cancel(_) => id::CANCEL,
            Message::Port { .. } => id::PORT,
            Message::Suggest { .. } => id::SUGGEST,
            Message::HaveAll => id::HAVE_ALL,
            Message::HaveNone => id::HAVE_NONE,
            Message::Reject(_) => id::REJECT,
            Message::AllowedFast { .. } => id::ALLOWED_FAST,
            Message::Extended { .. } => id::EXTENDED,
        })
    }
}

impl WireBlock {
    fn encode(&self) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&self.piece.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.begin.to_be_bytes());
        bytes[8..].copy_from_slice(&self.length.to_be_bytes());
        bytes
    }
}

impl From<crate::protocol::Block> for WireBlock {
    fn from(block: crate::protocol::Block) -> WireBlock {
        WireBlock {
            piece: block.piece().get(),
            begin: block.begin(),
            length: block.length(),
        }
    }
}

fn frame(out: &mut Vec<u8>, id: u8, body: &[u8]) {
    frame_start(out, body.len(), id);
    out.extend(body);
}

/// Length and id of a message with `body` bytes after the id. No message of ours comes near 4 GiB.
fn frame_start(out: &mut Vec<u8>, body: usize, id: u8) {
    let length = u32::try_from(body + 1).unwrap_or(u32::MAX);
    out.extend(length.to_be_bytes());
    out.push(id);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(message: Message) -> Vec<u8> {
        let mut out = Vec::new();
        message.encode(&mut out);
        out
    }

    #[test]
    fn messages_have_the_bytes_the_specifications_print() {
        let block = WireBlock {
            piece: 1,
            begin: 0x8000,
            length: 0x4000,
        };
        let numbers = [0, 0, 0, 1, 0, 0, 0x80, 0, 0, 0, 0x40, 0];
        assert_eq!(encoded(Message::KeepAlive), [0, 0, 0, 0]);
        assert_eq!(encoded(Message::Choke), [0, 0, 0, 1, 0]);
        assert_eq!(encoded(Message::Unchoke), [0, 0, 0, 1, 1]);
        assert_eq!(encoded(Message::Interested), [0, 0, 0, 1, 2]);
        assert_eq!(encoded(Message::NotInterested), [0, 0, 0, 1, 3]);
        assert_eq!(
            encoded(Message::Have { piece: 42 }),
            [0, 0, 0, 5, 4, 0, 0, 0, 42]
        );
        assert_eq!(
            encoded(Message::Bitfield([0xa0].into())),
            [0, 0, 0, 2, 5, 0xa0]
        );
        for (message, id) in [
            (Message::Request(block), 6),
            (Message::Cancel(block), 8),
            (Message::Reject(block), 0x10),
        ] {
            assert_eq!(
                encoded(message),
                [&[0, 0, 0, 13, id][..], &numbers].concat()
            );
        }
        assert_eq!(
            encoded(Message::Piece(block)),
            [0, 0, 0x40, 9, 7, 0, 0, 0, 1, 0, 0, 0x80, 0]
        );
        assert_eq!(
            encoded(Message::Port { port: 6881 }),
            [0, 0, 0, 3, 9, 0x1a, 0xe1]
        );
        assert_eq!(
            encoded(Message::Suggest { piece: 2 }),
            [0, 0, 0, 5, 0x0d, 0, 0, 0, 2]
        );
        assert_eq!(encoded(Message::HaveAll), [0, 0, 0, 1, 0x0e]);
        assert_eq!(encoded(Message::HaveNone), [0, 0, 0, 1, 0x0f]);
        assert_eq!(
            encoded(Message::AllowedFast { piece: 2 }),
            [0, 0, 0, 5, 0x11, 0, 0, 0, 2]
        );
        let handshake = Message::Extended {
            id: 0,
            payload: (*b"de").into(),
        };
        assert_eq!(encoded(handshake), *b"\0\0\0\x04\x14\0de");
    }
}
