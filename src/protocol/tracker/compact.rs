//! Peers as bare bytes: address and port, big-endian, one after the other (BEP 23; IPv6: BEP 7).
//!
//! ```
//! use ropewalk::protocol::tracker::compact;
//! let peers = compact::decode_v4(&[192, 168, 0, 1, 0x1a, 0xe1]).unwrap();
//! assert_eq!(peers, ["192.168.0.1:6881".parse().unwrap()]);
//! assert_eq!(compact::encode_v4(&peers), [192, 168, 0, 1, 0x1a, 0xe1]);
//! ```

use std::net::{IpAddr, SocketAddr};

/// Bytes of an IPv4 peer.
pub const V4: usize = 6;

/// Bytes of an IPv6 peer.
pub const V6: usize = 18;

/// The IPv4 peers in `bytes`, without those that nobody can connect to. `None` where the length is
/// not a multiple of 6: the borders are unknown then, and every peer read would be a wrong one.
pub fn decode_v4(bytes: &[u8]) -> Option<Vec<SocketAddr>> {
    let (peers, []) = bytes.as_chunks::<V4>() else {
        return None;
    };
    let peers = peers.iter().map(|&[a, b, c, d, high, low]| {
        SocketAddr::new([a, b, c, d].into(), u16::from_be_bytes([high, low]))
    });
    Some(peers.filter(is_usable).collect())
}

/// The IPv6 peers in `bytes`; the same for multiples of 18.
pub fn decode_v6(bytes: &[u8]) -> Option<Vec<SocketAddr>> {
    let (peers, []) = bytes.as_chunks::<V6>() else {
        return None;
    };
    let peers = peers.iter().map(|peer| {
        let (mut ip, mut port) = ([0; 16], [0; 2]);
        ip.copy_from_slice(&peer[..16]);
        port.copy_from_slice(&peer[16..]);
        SocketAddr::new(IpAddr::from(ip).to_canonical(), u16::from_be_bytes(port))
    });
    Some(peers.filter(is_usable).collect())
}

/// The bytes of those of `peers` that have an IPv4 address.
pub fn encode_v4(peers: &[SocketAddr]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(peers.len() * V4);
    for peer in peers {
        if let IpAddr::V4(ip) = peer.ip().to_canonical() {
            bytes.extend(ip.octets());
            bytes.extend(peer.port().to_be_bytes());
        }
    }
    bytes
}

/// The bytes of those of `peers` that have an IPv6 address.
pub fn encode_v6(peers: &[SocketAddr]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(peers.len() * V6);
    for peer in peers {
        if let IpAddr::V6(ip) = peer.ip().to_canonical() {
            bytes.extend(ip.octets());
            bytes.extend(peer.port().to_be_bytes());
        }
    }
    bytes
}

/// Whether a TCP connection to this address can exist at all: it names one host and a port.
pub fn is_usable(peer: &SocketAddr) -> bool {
    let ip = peer.ip();
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    peer.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !broadcast
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn usable_peers_survive_the_round_trip(peers in proptest::collection::vec(any::<SocketAddr>(), 0..40)) {
            let of = |v4: bool| {
                let canonical = peers.iter().map(|peer| SocketAddr::new(peer.ip().to_canonical(), peer.port()));
                canonical.filter(|peer| is_usable(peer) && peer.is_ipv4() == v4).collect::<Vec<_>>()
            };
            prop_assert_eq!(decode_v4(&encode_v4(&peers)), Some(of(true)));
            prop_assert_eq!(decode_v6(&encode_v6(&peers)), Some(of(false)));
        }
    }

    #[test]
    fn an_ipv6_peer_is_18_bytes() {
        let bytes = [
            0x10, 0x02, 0x10, 0x35, 0x45, 0x27, 0x35, 0x46, 0x78, 0x54, 0x12, 0x37, 0x32, 0x47,
            0x32, 0x17, 0x1a, 0xe1,
        ];
        let peer = "[1002:1035:4527:3546:7854:1237:3247:3217]:6881";
        let peers = decode_v6(&bytes).unwrap();
        assert_eq!(peers, [peer.parse().unwrap()]);
        assert_eq!(encode_v6(&peers), bytes);
    }

    #[test]
    fn a_cut_list_gives_no_peer_rather_than_a_wrong_one() {
        assert_eq!(decode_v4(&[1, 2, 3, 4, 0x30, 0x10, 1]), None);
        assert_eq!(decode_v6(&[1; 17]), None);
        assert_eq!(decode_v4(&[]), Some(Vec::new()));
    }

    #[test]
    fn peers_nobody_can_connect_to_are_left_out() {
        let bytes = [
            [1, 2, 3, 4, 0, 0],
            [0, 0, 0, 0, 0, 80],
            [255, 255, 255, 255, 0, 80],
            [224, 0, 0, 1, 0, 80],
            [1, 2, 3, 4, 0, 80],
        ];
        let peers = decode_v4(bytes.as_flattened()).unwrap();
        assert_eq!(peers, ["1.2.3.4:80".parse().unwrap()]);
    }
}
