//! The first 68 bytes each side sends (BEP 3).

use crate::protocol::InfoHash;

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
