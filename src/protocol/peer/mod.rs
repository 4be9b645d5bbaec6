//! What two peers say to each other over one TCP connection (BEP 3, 6, 10).
//!
//! First each side sends a [`handshake`] of 68 bytes; from then on both send [`message`]s: a length
//! of four bytes, an id, and what belongs to it. [`decoder`] finds the messages in a stream that may
//! be cut anywhere, [`extension`] reads the handshake of the extension protocol, and [`fast`] knows
//! which pieces a newcomer may have before it is unchoked.

pub mod decoder;
pub mod extension;
pub mod fast;
pub mod handshake;
pub mod message;

pub use decoder::{Decoded, Decoder, WireRules};
pub use handshake::{Handshake, PeerId};
pub use message::{Message, WireBlock};
