//! SHA-1 fingerprints: of pieces, of blocks, and of the info dictionary, which names a torrent.
//!
//! ```
//! use ropewalk::protocol::digest::Digest;
//! assert_eq!(Digest::of(b"test").to_string(), "a94a8fe5ccb19ba61c4c0873d391e987982fbbd3");
//! ```
//!
//! One message at a time is [`Digest::of`] or a [`Hasher`]; many at once are for [`lanes`].

pub mod lanes;

use std::fmt;

/// A SHA-1 digest, 20 bytes. `Display` is 40 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 20]);

impl Digest {
    /// The digest of one message held in memory.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest(sha1_smol::Sha1::from(bytes).digest().bytes())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// SHA-1 of a message that arrives in parts, such as a piece read chunk by chunk.
#[derive(Default)]
pub struct Hasher(sha1_smol::Sha1);

impl Hasher {
    /// Appends `bytes` to the message.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all bytes given so far.
    pub fn finish(self) -> Digest {
        Digest(self.0.digest().bytes())
    }
}

/// The SHA-256 of one message held in memory; what version 2 torrents are named by (BEP 52).
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).into()
}

/// The `N` bytes that twice as many hex digits stand for, large or small; `None`: they are none, or too few or many.
pub fn from_hex<const N: usize>(digits: &str) -> Option<[u8; N]> {
    let (pairs, []) = digits.as_bytes().as_chunks::<2>() else {
        return None;
    };
    let value = |digit: u8| char::from(digit).to_digit(16);
    let bytes = pairs
        .iter()
        .map(|[high, low]| Some((value(*high)? * 16 + value(*low)?) as u8));
    bytes.collect::<Option<Vec<u8>>>()?.try_into().ok()
}

/// The name of a torrent everywhere on the network: the SHA-1 of its info dictionary's bytes, as
/// they were found (BEP 3). `Display` is 40 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InfoHash(pub [u8; 20]);

impl fmt::Display for InfoHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Digest(self.0), f)
    }
}

impl fmt::Debug for InfoHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
