//! Which pieces a newcomer may have before it is unchoked (BEP 6).
//!
//! A peer that has nothing can give nothing, and so might wait long for its first unchoke. The fast
//! extension lets it have a few pieces at once. Both sides can compute which: they follow from the
//! newcomer's network address and the torrent, so coming back under many names wins nothing.
//!
//! ```
//! use ropewalk::protocol::{InfoHash, peer::fast::allowed_fast_set};
//! let set = allowed_fast_set("80.4.4.200".parse().unwrap(), InfoHash([0xaa; 20]), 1313, 3);
//! assert_eq!(set, [1059, 431, 808]);
//! ```

use crate::protocol::{Digest, InfoHash};
use std::net::IpAddr;

/// How often the digest is taken anew before giving up: far above what any `count` below a hundred needs.
const ROUNDS_MAX: usize = 1000;

/// The numbers of up to `count` pieces (of `pieces` in all) that the peer at `ip` may have while it
/// is choked, in the order of BEP 6. Empty for IPv6, for which no rule was ever written.
pub fn allowed_fast_set(ip: IpAddr, info_hash: InfoHash, pieces: u32, count: usize) -> Vec<u32> {
    let IpAddr::V4(ip) = ip.to_canonical() else {
        return Vec::new();
    };
    if pieces as usize <= count {
        return (0..pieces).collect();
    }
    let [a, b, c, _] = ip.octets();
    let mut seed = [&[a, b, c, 0][..], &info_hash.0].concat();
    let mut set = Vec::with_capacity(count);
    for _ in 0..ROUNDS_MAX {
        let digest = Digest::of(&seed).0;
        for word in digest.chunks_exact(4) {
            if set.len() == count {
                return set;
            }
            let number = word.iter().fold(0u32, |n, byte| n << 8 | u32::from(*byte));
            let piece = number % pieces;
            if !set.contains(&piece) {
                set.push(piece);
            }
        }
        seed = digest.to_vec();
    }
    set
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const NINE: [u32; 9] = [1059, 431, 808, 1217, 287, 376, 1188, 353, 508];

    #[test]
    fn the_sets_are_those_of_the_specification() {
        let ip = "80.4.4.200".parse().unwrap();
        let hash = InfoHash([0xaa; 20]);
        assert_eq!(allowed_fast_set(ip, hash, 1313, 7), NINE[..7]);
        assert_eq!(allowed_fast_set(ip, hash, 1313, 9), NINE);
    }

    #[test]
    fn neighbours_in_one_network_get_the_same_set() {
        let hash = InfoHash([0xaa; 20]);
        for ip in ["80.4.4.1", "80.4.4.255", "::ffff:80.4.4.200"] {
            assert_eq!(allowed_fast_set(ip.parse().unwrap(), hash, 1313, 9), NINE);
        }
        assert_ne!(
            allowed_fast_set("80.4.5.200".parse().unwrap(), hash, 1313, 9),
            NINE
        );
    }

    #[test]
    fn small_torrents_are_allowed_whole_and_the_search_always_ends() {
        let (ip, hash) = ("10.0.0.1".parse().unwrap(), InfoHash([1; 20]));
        assert_eq!(allowed_fast_set(ip, hash, 0, 10), [0; 0]);
        assert_eq!(allowed_fast_set(ip, hash, 3, 10), [0, 1, 2]);
        for pieces in 11..40 {
            let mut set = allowed_fast_set(ip, hash, pieces, 10);
            set.sort_unstable();
            set.dedup();
            assert!(set.len() == 10 && set.iter().all(|piece| *piece < pieces));
        }
    }

    #[test]
    fn there_is_no_set_for_ipv6() {
        let ip = "2001:db8::1".parse().unwrap();
        assert_eq!(allowed_fast_set(ip, InfoHash([1; 20]), 100, 10), [0; 0]);
    }
}
