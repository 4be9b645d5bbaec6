//! The first 68 bytes each side sends (BEP 3).
//!
//! ```text
//! 0   1                     20          28           48         68
//! | 19 | BitTorrent protocol | reserved 8 | info-hash 20 | peer id 20 |
//! ```
//!
//! ```
//! use ropewalk::protocol::{InfoHash, peer::{Handshake, PeerId}};
//! let ours = Handshake::new(InfoHash([7; 20]), PeerId::new([1; 12]));
//! let bytes = ours.encode();
//! assert_eq!(Handshake::parse(&bytes[..67]), Ok(None)); // one byte is still to come
//! assert_eq!(Handshake::parse(&bytes), Ok(Some(ours)));
//! assert!(Handshake::parse(b"GET / HT").is_err()); // known at the first byte
//! ```

use crate::protocol::InfoHash;

/// What every handshake begins with: the length of the protocol's name, and the name.
const START: [u8; 20] = *b"\x13BitTorrent protocol";

/// The bits of the reserved field that mean something, as (byte, mask).
const EXTENDED: (usize, u8) = (5, 0x10);
const DHT: (usize, u8) = (7, 0x01);
const FAST: (usize, u8) = (7, 0x04);
const V2: (usize, u8) = (7, 0x10);

/// The 20 bytes a peer calls itself by (BEP 20 describes their usual form, such as `-RW0100-` and twelve random bytes).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PeerId(pub [u8; 20]);

/// A handshake: which torrent, who speaks, and which extensions it knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handshake {
    /// The torrent.
    pub info_hash: InfoHash,
    /// The speaker's id.
    pub id: PeerId,
    /// Eight bytes of extension bits as found.
    pub reserved: [u8; 8],
}

/// Bytes that begin no handshake of BitTorrent's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("byte {position} of the handshake is {found:#04x} where BitTorrent's has {expected:#04x}")]
pub struct HandshakeError {
    /// Where the difference is, counted from 0.
    pub position: usize,
    /// The byte that came.
    pub found: u8,
    /// The byte that belongs there.
    pub expected: u8,
}

impl Handshake {
    /// The length of every handshake in bytes.
    pub const LENGTH: usize = 68;

    /// Our handshake: announces the fast extension (BEP 6) and the extension protocol (BEP 10).
    pub fn new(info_hash: InfoHash, id: PeerId) -> Handshake {
        let mut reserved = [0; 8];
        for (byte, mask) in [EXTENDED, FAST] {
            reserved[byte] |= mask;
        }
        Handshake {
            info_hash,
            id,
            reserved,
        }
    }

    /// The bytes for the wire.
    pub fn encode(&self) -> [u8; Handshake::LENGTH] {
        let mut bytes = [0; Handshake::LENGTH];
        bytes[..20].copy_from_slice(&START);
        bytes[20..28].copy_from_slice(&self.reserved);
        bytes[28..48].copy_from_slice(&self.info_hash.0);
        bytes[48..].copy_from_slice(&self.id.0);
        bytes
    }

    /// Reads a handshake from the first bytes of a stream, as many as have come.
    ///
    /// `Ok(None)` while more are needed. A stranger who speaks another protocol is told apart at the
    /// first byte that differs, so nobody has to wait for 68 bytes that will never come.
    pub fn parse(bytes: &[u8]) -> Result<Option<Handshake>, HandshakeError> {
        let differs = bytes.iter().zip(&START).position(|(a, b)| a != b);
        if let Some(position) = differs {
            return Err(HandshakeError {
                position,
                found: bytes[position],
                expected: START[position],
            });
        }
        let Some(whole) = bytes.first_chunk::<{ Handshake::LENGTH }>() else {
            return Ok(None);
        };
        let (mut reserved, mut info_hash, mut id) = ([0; 8], [0; 20], [0; 20]);
        reserved.copy_from_slice(&whole[20..28]);
        info_hash.copy_from_slice(&whole[28..48]);
        id.copy_from_slice(&whole[48..]);
        Ok(Some(Handshake {
            info_hash: InfoHash(info_hash),
            id: PeerId(id),
            reserved,
        }))
    }

    /// Whether the speaker knows the extension protocol (BEP 10).
    pub fn extended(&self) -> bool {
        self.has(EXTENDED)
    }

    /// Whether the speaker knows the fast extension (BEP 6).
    pub fn fast(&self) -> bool {
        self.has(FAST)
    }

    /// Whether the speaker runs a DHT node (BEP 5).
    pub fn dht(&self) -> bool {
        self.has(DHT)
    }

    /// Whether the speaker could use version 2 of the protocol for a hybrid torrent (BEP 52).
    pub fn v2(&self) -> bool {
        self.has(V2)
    }

    fn has(&self, (byte, mask): (usize, u8)) -> bool {
        self.reserved[byte] & mask != 0
    }
}

/// Two-letter codes of clients one meets (BEP 20 and the clients' own documents).
const CLIENTS: [(&[u8; 2], &str); 28] = [
    (b"7T", "aTorrent"),
    (b"A2", "aria2"),
    (b"AZ", "Vuze"),
    (b"BC", "BitComet"),
    (b"BI", "BiglyBT"),
    (b"BN", "Baidu Netdisk"),
    (b"BT", "BitTorrent"),
    (b"DE", "Deluge"),
    (b"FD", "Free Download Manager"),
    (b"FX", "Freebox BitTorrent"),
    (b"GR", "GetRight"),
    (b"GT", "anacrolix/torrent"),
    (b"KT", "KTorrent"),
    (b"LT", "libtorrent"),
    (b"PI", "PicoTorrent"),
    (b"RW", "ropewalk"),
    (b"SD", "Thunder"),
    (b"TL", "Tribler"),
    (b"TR", "Transmission"),
    (b"TX", "Tixati"),
    (b"UM", "uTorrent for Mac"),
    (b"UT", "uTorrent"),
    (b"UW", "uTorrent Web"),
    (b"WW", "WebTorrent"),
    (b"XL", "Xunlei"),
    (b"lt", "rTorrent"),
    (b"qB", "qBittorrent"),
    (b"rQ", "rqbit"),
];

impl PeerId {
    /// Our id for one run: `-RW0100-` (ropewalk 0.1.0) and twelve bytes that nobody else has.
    pub fn new(random: [u8; 12]) -> PeerId {
        let mut id = *b"-RW0100-............";
        id[8..].copy_from_slice(&random);
        PeerId(id)
    }

    /// The client's name and version as far as the id tells, safe to show on a terminal:
    /// `qBittorrent 4.2.5`, or the id's readable characters where it follows no known form.
    pub fn client_name(&self) -> String {
        self.azureus_name()
            .or_else(|| self.dashed_name())
            .unwrap_or_else(|| self.readable())
    }

    /// The form `-XXabcd-`: two characters for the client, four for its version.
    fn azureus_name(&self) -> Option<String> {
        let [b'-', first, second, v0, v1, v2, v3, b'-', ..] = self.0 else {
            return None;
        };
        let (_, name) = CLIENTS.iter().find(|(code, _)| **code == [first, second])?;
        if first == b'T' && second == b'R' {
            return transmission_name([v0, v1, v2, v3]);
        }
        let mut parts = Vec::new();
        for byte in [v0, v1, v2, v3] {
            parts.push(char::from(byte).to_digit(36)?.to_string());
        }
        while parts.len() > 2 && parts.last().is_some_and(|part| part == "0") {
            parts.pop();
        }
        Some(format!("{name} {}", parts.join(".")))
    }

    /// The form `A2-1-37-0-` of aria2 and `M7-10-5--` of the first client.
    fn dashed_name(&self) -> Option<String> {
        let (name, rest) = match &self.0[..] {
            [b'A', b'2', b'-', rest @ ..] => ("aria2", rest),
            [b'M', rest @ ..] => ("BitTorrent", rest),
            _ => return None,
        };
        let mut parts = rest.split(|byte| *byte == b'-');
        let mut version = Vec::new();
        for _ in 0..3 {
            let part = std::str::from_utf8(parts.next()?).ok()?;
            let is_number = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            version.push(is_number.then_some(part)?);
        }
        parts.next()?;
        Some(format!("{name} {}", version.join(".")))
    }

    fn readable(&self) -> String {
        let head = &self.0[..8];
        if head.iter().filter(|byte| byte.is_ascii_graphic()).count() < 4 {
            return "unknown client".to_owned();
        }
        let shown = head.iter().map(|byte| {
            let readable = byte.is_ascii_graphic();
            if readable { char::from(*byte) } else { '.' }
        });
        shown.collect()
    }
}

/// Transmission's two schemes: `3000` is 3.00, and since 4.0 `4060` is 4.0.6 with a letter for a beta.
fn transmission_name(version: [u8; 4]) -> Option<String> {
    let readable = version.iter().all(u8::is_ascii_alphanumeric);
    let [a, b, c, d] = readable.then(|| version.map(char::from))?;
    if a <= '3' {
        return Some(format!("Transmission {a}.{b}{c}"));
    }
    let beta = if d == '0' { "" } else { " (beta)" };
    Some(format!("Transmission {a}.{b}.{c}{beta}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_encoded_is_parsed_again(info_hash: [u8; 20], id: [u8; 20], reserved: [u8; 8]) {
            let one = Handshake { info_hash: InfoHash(info_hash), id: PeerId(id), reserved };
            prop_assert_eq!(Handshake::parse(&one.encode()), Ok(Some(one)));
            for length in 0..Handshake::LENGTH {
                prop_assert_eq!(Handshake::parse(&one.encode()[..length]), Ok(None));
            }
        }

        #[test]
        fn a_client_name_is_fit_for_a_terminal(id: [u8; 20]) {
            let shown = PeerId(id).client_name();
            prop_assert!(shown.chars().all(|c| c.is_ascii_graphic() || c == ' '), "{:?}", shown);
            let mut id = id;
            id[0] = b'-';
            id[1..3].copy_from_slice(b"TR");
            id[7] = b'-';
            let shown = PeerId(id).client_name();
            prop_assert!(shown.chars().all(|c| c.is_ascii_graphic() || c == ' '), "{:?}", shown);
        }
    }

    #[test]
    fn ours_announces_the_fast_and_the_extension_protocol_and_no_more() {
        let ours = Handshake::new(InfoHash([1; 20]), PeerId::new([2; 12]));
        assert!(ours.fast() && ours.extended() && !ours.dht() && !ours.v2());
        assert_eq!(ours.reserved, [0, 0, 0, 0, 0, 0x10, 0, 0x04]);
    }

    #[test]
    fn a_handshake_recorded_in_the_wild_is_read() {
        let mut bytes = b"\x13BitTorrent protocol\0\0\0\0\0\x18\0\x05".to_vec();
        bytes.extend([0x2c; 20]);
        bytes.extend(b"-qB4250-scysDI_JuVN3");
        let theirs = Handshake::parse(&bytes).unwrap().unwrap();
        assert!(theirs.fast() && theirs.extended() && theirs.dht() && !theirs.v2());
        assert_eq!(theirs.info_hash, InfoHash([0x2c; 20]));
        assert_eq!(theirs.id.client_name(), "qBittorrent 4.2.5");
    }

    #[test]
    fn other_protocols_are_refused_at_their_first_wrong_byte() {
        for (bytes, position) in [
            (&b"GET /announce HTTP/1.1"[..], 0),
            (b"\x16\x03\x01", 0),
            (b"\x00", 0),
            (b"\xff", 0),
            (b"\x13BitTorrent Protocol", 12),
            (b"\x13BitTorrent protocoL and more", 19),
        ] {
            let found = Handshake::parse(bytes).unwrap_err();
            assert_eq!(found.position, position, "{found}");
        }
    }

    #[test]
    fn clients_are_known_by_their_ids() {
        for (id, name) in [
            (b"-RW0100-abcdefghijkl", "ropewalk 0.1"),
            (b"-TR3000-abcdefghijkl", "Transmission 3.00"),
            (b"-TR4060-abcdefghijkl", "Transmission 4.0.6"),
            (b"-LT20B0-abcdefghijkl", "libtorrent 2.0.11"),
            (b"-lt0D60-abcdefghijkl", "rTorrent 0.13.6"),
            (b"A2-1-37-0-abcdefghij", "aria2 1.37.0"),
            (b"M7-10-5--abcdefghijk", "BitTorrent 7.10.5"),
            (b"-ZZ1234-abcdefghijkl", "-ZZ1234-"),
            (b"-TR\x1b[2J-abcdefghijkl", "-TR.[2J-"),
            (
                b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
                "unknown client",
            ),
        ] {
            assert_eq!(PeerId(*id).client_name(), name);
        }
    }
}
