//! Finds the messages in a stream of bytes that may be cut anywhere (BEP 3, 6, 10).
//!
//! This is where a message's *shape* is checked: its length against its id, before a byte of it is
//! kept. A length of four bytes can promise 4 GiB; nobody here believes it. Whether the numbers in a
//! message make *sense* is for the brain to say.
//!
//! ```
//! use ropewalk::protocol::peer::{Message, decoder::{Decoder, WireRules, Decoded}};
//! let decoder = Decoder::new(WireRules { fast: true, extended: true, pieces: 9 });
//! assert_eq!(decoder.step(&[0, 0]), Ok(Decoded::Need(4)));
//! let message = Message::Have { piece: 8 };
//! assert_eq!(decoder.step(&[0, 0, 0, 5, 4, 0, 0, 0, 8, 0xff]), Ok(Decoded::Message { message, used: 9 }));
//! assert!(decoder.step(&[0xff; 4]).is_err()); // not even its id is waited for
//! ```

use super::message::{Message, PIECE_HEAD, WireBlock, id};

/// The longest payload of a block: what we ask for, and nobody may send more than was asked.
pub const BLOCK_MAX: u32 = 16 * 1024;

/// The longest handshake of the extension protocol (BEP 10), a dictionary of names.
pub const EXTENSION_HANDSHAKE_MAX: u32 = 64 * 1024;

/// The longest other message of the extension protocol: 16 KiB of metadata (BEP 9) and its dictionary.
pub const EXTENSION_MAX: u32 = 17 * 1024;

/// The longest message of an unknown kind that is read and thrown away.
pub const UNKNOWN_MAX: u32 = 16 * 1024;

/// What one connection agreed on: decides which messages may come, and how long they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WireRules {
    /// Both sides announced the fast extension (BEP 6).
    pub fast: bool,
    /// Both sides announced the extension protocol (BEP 10).
    pub extended: bool,
    /// How many pieces the torrent has.
    pub pieces: u32,
}

/// What the first bytes of a stream are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded {
    /// Not enough yet: so many bytes, counted from the first, must be there before it can go on.
    Need(usize),
    /// A whole message; the next one begins after `used` bytes.
    Message {
        /// The message, never a `Piece`.
        message: Message,
        /// Bytes it took.
        used: usize,
    },
    /// The head of a piece message; after `used` bytes come `block.length` bytes of payload.
    Payload {
        /// The block that follows, as its sender names it.
        block: WireBlock,
        /// Bytes the head took.
        used: usize,
    },
    /// The head of a message of unknown kind; after `used` bytes come `skip` bytes to throw away.
    Skip {
        /// Bytes the head took.
        used: usize,
        /// Bytes that follow and mean nothing to us.
        skip: u32,
    },
}

/// A message that is malformed or was not agreed on. The stream cannot be followed any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Longer than any message may be; its id was not looked at.
    #[error("a message of {length} bytes where {max} are the most")]
    Endless {
        /// The length it announced.
        length: u32,
        /// The longest that any message may have on this connection.
        max: u32,
    },
    /// A message of fixed length with another one.
    #[error("a {name} message of {length} bytes where it has {expected}")]
    Length {
        /// The message.
        name: &'static str,
        /// The length it announced.
        length: u32,
        /// The length it must have.
        expected: u32,
    },
    /// A message of variable length beyond its bounds.
    #[error("a {name} message of {length} bytes where {min} to {max} are allowed")]
    Bounds {
        /// The message.
        name: &'static str,
        /// The length it announced.
        length: u32,
        /// The shortest allowed.
        min: u32,
        /// The longest allowed.
        max: u32,
    },
    /// An unknown kind of message, too long to be skipped.
    #[error(
        "a message of unknown kind {id} with {length} bytes where up to {UNKNOWN_MAX} are skipped"
    )]
    Unknown {
        /// Its id.
        id: u8,
        /// The length it announced.
        length: u32,
    },
    /// A message of an extension that the two handshakes did not agree on.
    #[error("a {name} message without {extension} having been agreed on")]
    NotAgreed {
        /// The message.
        name: &'static str,
        /// The extension it belongs to.
        extension: &'static str,
    },
}

/// The decoder of one connection. It holds the rules and no bytes: what has come is shown to it again
/// until it makes a whole message, so the one buffer is its caller's.
#[derive(Debug, Clone, Copy)]
pub struct Decoder {
    rules: WireRules,
}

impl Decoder {
    /// A decoder for a connection with these rules.
    pub fn new(rules: WireRules) -> Decoder {
        Decoder { rules }
    }

    /// The largest number that [`Decoded::Need`] can ever ask for on this connection, in bytes.
    pub fn head_max(&self) -> usize {
        let extended = if self.rules.extended {
            EXTENSION_HANDSHAKE_MAX
        } else {
            0
        };
        4 + extended.max(self.bitfield_length()).max(13) as usize
    }

    /// Says what the bytes at the start of `head` are. `head` is what has come of the stream since the
    /// last message ended, and may hold more than one.
    pub fn step(&self, head: &[u8]) -> Result<Decoded, DecodeError> {
        let Some((prefix, rest)) = head.split_first_chunk::<4>() else {
            return Ok(Decoded::Need(4));
        };
        let length = u32::from_be_bytes(*prefix);
        if length == 0 {
            return Ok(Decoded::Message {
                message: Message::KeepAlive,
                used: 4,
            });
        }
        // The attack: a length of 4 GiB and then nothing, to make us set the room aside.
        let max = self.length_max();
        if length > max {
            return Err(DecodeError::Endless { length, max });
        }
        let Some((&id, body)) = rest.split_first() else {
            return Ok(Decoded::Need(5));
        };
        let Some(name) = id::name(id) else {
            return skip(id, length);
        };
        self.agreed(id, name)?;
        match id {
            id::PIECE => payload(length, name, body),
            id::EXTENDED => extended(length, name, body),
            _ => self.whole(id, name, length, body),
        }
    }

    /// The longest length that any message may announce here.
    fn length_max(&self) -> u32 {
        let extended = if self.rules.extended {
            EXTENSION_HANDSHAKE_MAX
        } else {
            0
        };
        (BLOCK_MAX + 9)
            .max(UNKNOWN_MAX)
            .max(extended)
            .max(self.bitfield_length())
    }

    /// Id and one bit a piece.
    fn bitfield_length(&self) -> u32 {
        1 + self.rules.pieces.div_ceil(8)
    }

    fn agreed(&self, id: u8, name: &'static str) -> Result<(), DecodeError> {
        let (holds, extension) = match id {
            id::SUGGEST..=id::ALLOWED_FAST => (self.rules.fast, "the fast extension"),
            id::EXTENDED => (self.rules.extended, "the extension protocol"),
            _ => return Ok(()),
        };
        holds
            .then_some(())
            .ok_or(DecodeError::NotAgreed { name, extension })
    }

    /// A message whose length follows from its id.
    fn whole(
        &self,
        id: u8,
        name: &'static str,
        length: u32,
        body: &[u8],
    ) -> Result<Decoded, DecodeError> {
        let expected = match id {
            id::HAVE | id::SUGGEST | id::ALLOWED_FAST => 5,
            id::REQUEST | id::CANCEL | id::REJECT => 13,
            id::PORT => 3,
            id::BITFIELD => self.bitfield_length(),
            _ => 1,
        };
        if length != expected {
            return Err(DecodeError::Length {
                name,
                length,
                expected,
            });
        }
        let used = 4 + length as usize;
        let message = body
            .get(..length as usize - 1)
            .and_then(|body| message(id, body));
        Ok(
            message.map_or(Decoded::Need(used), |message| Decoded::Message {
                message,
                used,
            }),
        )
    }
}

/// The head of a piece message. Its payload is never looked at here: it goes into the file.
fn payload(length: u32, name: &'static str, body: &[u8]) -> Result<Decoded, DecodeError> {
    let (min, max) = (10, BLOCK_MAX + 9);
    if length < min || length > max {
        return Err(DecodeError::Bounds {
            name,
            length,
            min,
            max,
        });
    }
    let (Some(piece), Some(begin)) = (number(body, 0), number(body, 4)) else {
        return Ok(Decoded::Need(PIECE_HEAD));
    };
    Ok(Decoded::Payload {
        block: WireBlock {
            piece,
            begin,
            length: length - 9,
        },
        used: PIECE_HEAD,
    })
}

/// A message of the extension protocol, bounded by its own id.
fn extended(length: u32, name: &'static str, body: &[u8]) -> Result<Decoded, DecodeError> {
    let bounds = |max| DecodeError::Bounds {
        name,
        length,
        min: 2,
        max,
    };
    if length < 2 {
        return Err(bounds(EXTENSION_HANDSHAKE_MAX));
    }
    let Some((&id, rest)) = body.split_first() else {
        return Ok(Decoded::Need(6));
    };
    let max = if id == 0 {
        EXTENSION_HANDSHAKE_MAX
    } else {
        EXTENSION_MAX
    };
    if length > max {
        return Err(bounds(max));
    }
    let used = 4 + length as usize;
    Ok(match rest.get(..length as usize - 2) {
        None => Decoded::Need(used),
        Some(payload) => Decoded::Message {
            message: Message::Extended {
                id,
                payload: payload.into(),
            },
            used,
        },
    })
}

/// An id nobody told us about: protocols grow, so a message of modest length is passed over.
fn skip(id: u8, length: u32) -> Result<Decoded, DecodeError> {
    if length > UNKNOWN_MAX {
        return Err(DecodeError::Unknown { id, length });
    }
    Ok(Decoded::Skip {
        used: 5,
        skip: length - 1,
    })
}

/// The message with this id and this body; `None` if the body is too short for it.
fn message(id: u8, body: &[u8]) -> Option<Message> {
    let piece = || number(body, 0);
    Some(match id {
        id::CHOKE => Message::Choke,
        id::UNCHOKE => Message::Unchoke,
        id::INTERESTED => Message::Interested,
        id::NOT_INTERESTED => Message::NotInterested,
        id::HAVE => Message::Have { piece: piece()? },
        id::BITFIELD => Message::Bitfield(body.into()),
        id::REQUEST => Message::Request(block(body)?),
        id::CANCEL => Message::Cancel(block(body)?),
        id::PORT => Message::Port {
            port: u16::from_be_bytes(*body.first_chunk()?),
        },
        id::SUGGEST => Message::Suggest { piece: piece()? },
        id::HAVE_ALL => Message::HaveAll,
        id::HAVE_NONE => Message::HaveNone,
        id::REJECT => Message::Reject(block(body)?),
        id::ALLOWED_FAST => Message::AllowedFast { piece: piece()? },
        _ => return None,
    })
}

fn number(body: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*body.get(at..)?.first_chunk()?))
}

fn block(body: &[u8]) -> Option<WireBlock> {
    Some(WireBlock {
        piece: number(body, 0)?,
        begin: number(body, 4)?,
        length: number(body, 8)?,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    const RULES: WireRules = WireRules {
        fast: true,
        extended: true,
        pieces: 21,
    };

    /// What a stream says: messages and heads of pieces in order, payloads and unknown messages passed over.
    #[derive(Debug, PartialEq)]
    enum Heard {
        Message(Message),
        Payload(WireBlock, u8),
        Skipped(u32),
    }

    /// Plays the peer thread: shows the decoder what has come, chunk by chunk, and keeps the buffer bounded.
    fn listen<'a>(
        rules: WireRules,
        chunks: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Vec<Heard>, DecodeError> {
        let decoder = Decoder::new(rules);
        let (mut buffer, mut heard, mut passing) = (Vec::new(), Vec::new(), 0);
        for chunk in chunks {
            buffer.extend_from_slice(chunk);
            loop {
                let now = buffer.len().min(passing);
                buffer.drain(..now);
                passing -= now;
                if passing > 0 {
                    break;
                }
                match decoder.step(&buffer)? {
                    Decoded::Need(n) => {
                        assert!(n > buffer.len() && n <= decoder.head_max());
                        break;
                    }
                    Decoded::Message { message, used } => {
                        buffer.drain(..used);
                        heard.push(Heard::Message(message));
                    }
                    Decoded::Payload { block, used } => {
                        buffer.drain(..used);
                        passing = block.length as usize;
                        heard.push(Heard::Payload(block, 0));
                    }
                    Decoded::Skip { used, skip } => {
                        buffer.drain(..used);
                        passing = skip as usize;
                        heard.push(Heard::Skipped(skip));
                    }
                }
            }
        }
        Ok(heard)
    }

    fn any_message() -> impl Strategy<Value = Message> {
        let block = || {
            (any::<u32>(), any::<u32>(), any::<u32>()).prop_map(|(piece, begin, length)| {
                WireBlock {
                    piece,
                    begin,
                    length,
                }
            })
        };
        prop_oneof![
            Just(Message::KeepAlive),
            Just(Message::Choke),
            Just(Message::Unchoke),
            Just(Message::Interested),
            Just(Message::NotInterested),
            any::<u32>().prop_map(|piece| Message::Have { piece }),
            vec(any::<u8>(), 3).prop_map(|bits| Message::Bitfield(bits.into())),
            block().prop_map(Message::Request),
            (any::<u32>(), any::<u32>(), 1..=200u32).prop_map(|(piece, begin, length)| {
                Message::Piece(WireBlock {
                    piece,
                    begin,
                    length,
                })
            }),
            block().prop_map(Message::Cancel),
            any::<u16>().prop_map(|port| Message::Port { port }),
            any::<u32>().prop_map(|piece| Message::Suggest { piece }),
            Just(Message::HaveAll),
            Just(Message::HaveNone),
            block().prop_map(Message::Reject),
            any::<u32>().prop_map(|piece| Message::AllowedFast { piece }),
            (any::<u8>(), vec(any::<u8>(), 0..300)).prop_map(|(id, payload)| Message::Extended {
                id,
                payload: payload.into()
            }),
        ]
    }

    /// The bytes of a conversation, and what a listener must hear in it.
    fn spoken(messages: &[Message]) -> (Vec<u8>, Vec<Heard>) {
        let (mut bytes, mut expected) = (Vec::new(), Vec::new());
        for message in messages {
            message.encode(&mut bytes);
            expected.push(match message {
                Message::Piece(block) => {
                    bytes.resize(bytes.len() + block.length as usize, 0xee);
                    Heard::Payload(*block, 0)
                }
                other => Heard::Message(other.clone()),
            });
        }
        (bytes, expected)
    }

    proptest! {
        #[test]
        fn what_is_said_is_heard_however_the_stream_is_cut(
            messages in vec(any_message(), 0..20),
            cuts in vec(0usize..4000, 0..30),
        ) {
            let (bytes, expected) = spoken(&messages);
            let mut cuts: Vec<_> = cuts.into_iter().filter(|cut| *cut <= bytes.len()).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let chunks = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]);
            prop_assert_eq!(listen(RULES, chunks), Ok(expected));
        }

        #[test]
        fn a_stream_that_comes_byte_by_byte_says_the_same(messages in vec(any_message(), 0..8)) {
            let (bytes, expected) = spoken(&messages);
            prop_assert_eq!(listen(RULES, bytes.chunks(1)), Ok(expected));
        }

        #[test]
        fn noise_never_panics_and_never_asks_for_more_than_the_bound(
            noise in vec(any::<u8>(), 0..600),
            fast: bool,
            extended: bool,
            pieces in 0..=(1u32 << 21),
        ) {
            let _ = listen(WireRules { fast, extended, pieces }, [&noise[..]]);
        }

        #[test]
        fn small_lengths_with_any_id_never_panic(
            frames in vec((0u32..40, any::<u8>(), vec(any::<u8>(), 40)), 0..20),
        ) {
            let mut bytes = Vec::new();
            for (length, id, body) in frames {
                bytes.extend(length.to_be_bytes());
                bytes.push(id);
                bytes.extend(&body[..(length as usize).saturating_sub(1)]);
            }
            let _ = listen(RULES, [&bytes[..]]);
        }
    }

    fn prefix(length: u32, id: u8) -> Vec<u8> {
        [&length.to_be_bytes()[..], &[id]].concat()
    }

    #[test]
    fn a_huge_length_is_refused_before_the_id_has_come() {
        let decoder = Decoder::new(RULES);
        for length in [u32::MAX, 1 << 31, (1 << 20) + 1, 64 * 1024 + 1] {
            assert_eq!(
                decoder.step(&length.to_be_bytes()),
                Err(DecodeError::Endless {
                    length,
                    max: 64 * 1024
                })
            );
        }
    }

    #[test]
    fn a_huge_length_is_refused_for_every_id() {
        let decoder = Decoder::new(RULES);
        for id in 0..=255 {
            for length in [u32::MAX, 1 << 31, (1 << 20) + 1, 64 * 1024] {
                let step = decoder.step(&prefix(length, id));
                let waits = id == 0x14 && length == 64 * 1024;
                assert_eq!(step.is_err(), !waits, "id {id} length {length}: {step:?}");
            }
        }
        let other_extension = [0, 1, 0, 0, 0x14, 1];
        assert!(decoder.step(&other_extension).is_err());
    }

    #[test]
    fn fixed_lengths_are_exact() {
        let decoder = Decoder::new(RULES);
        let fixed = [
            (0, 1),
            (1, 1),
            (2, 1),
            (3, 1),
            (4, 5),
            (5, 4), // 21 pieces: three bytes and the id
            (6, 13),
            (8, 13),
            (9, 3),
            (0x0d, 5),
            (0x0e, 1),
            (0x0f, 1),
            (0x10, 13),
            (0x11, 5),
        ];
        for (id, right) in fixed {
            for length in 1..40 {
                let step = decoder.step(&prefix(length, id));
                let refused =
                    matches!(step, Err(DecodeError::Length { expected, .. }) if expected == right);
                assert_eq!(
                    refused,
                    length != right,
                    "id {id} length {length}: {step:?}"
                );
            }
        }
    }

    #[test]
    fn a_block_is_never_empty_and_never_longer_than_we_ask() {
        let decoder = Decoder::new(RULES);
        for length in [1, 8, 9, 16_394, 32_777] {
            assert!(matches!(
                decoder.step(&prefix(length, 7)),
                Err(DecodeError::Bounds { name: "piece", .. })
            ));
        }
        assert_eq!(decoder.step(&prefix(16_393, 7)), Ok(Decoded::Need(13)));
        assert_eq!(decoder.step(&prefix(10, 7)), Ok(Decoded::Need(13)));
    }

    #[test]
    fn messages_nobody_agreed_on_are_refused() {
        let plain = Decoder::new(WireRules {
            fast: false,
            extended: false,
            pieces: 21,
        });
        for (id, length) in [
            (0x0d, 5),
            (0x0e, 1),
            (0x0f, 1),
            (0x10, 13),
            (0x11, 5),
            (0x14, 4),
        ] {
            assert!(
                matches!(
                    plain.step(&prefix(length, id)),
                    Err(DecodeError::NotAgreed { .. })
                ),
                "id {id}"
            );
        }
        assert_eq!(plain.step(&prefix(3, 9)), Ok(Decoded::Need(7)));
    }

    #[test]
    fn unknown_messages_are_passed_over_up_to_16_kib() {
        let decoder = Decoder::new(RULES);
        for id in [10, 12, 0x12, 0x13, 0x15, 0x17, 255] {
            assert_eq!(
                decoder.step(&prefix(UNKNOWN_MAX, id)),
                Ok(Decoded::Skip {
                    used: 5,
                    skip: UNKNOWN_MAX - 1
                })
            );
            assert_eq!(
                decoder.step(&prefix(UNKNOWN_MAX + 1, id)),
                Err(DecodeError::Unknown {
                    id,
                    length: UNKNOWN_MAX + 1
                })
            );
        }
    }

    #[test]
    fn an_error_names_the_message_its_length_and_what_is_allowed() {
        let error = Decoder::new(RULES).step(&prefix(6, 4)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a have message of 6 bytes where it has 5"
        );
    }

    #[test]
    fn the_bitfield_of_the_largest_torrent_fits_the_bound() {
        let decoder = Decoder::new(WireRules {
            pieces: 1 << 21,
            ..RULES
        });
        let length = 1 + (1 << 18);
        assert_eq!(
            decoder.step(&prefix(length, 5)),
            Ok(Decoded::Need(4 + length as usize))
        );
        assert_eq!(decoder.head_max(), 4 + length as usize);
    }
}
