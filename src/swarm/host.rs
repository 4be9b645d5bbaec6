//! Which addresses are one host, where somebody's connections are counted.
//!
//! ```
//! use ropewalk::swarm::host::host_of;
//! let of = |text: &str| host_of(text.parse().unwrap());
//! assert_eq!(of("2001:db8::1"), of("2001:db8::2"));
//! assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
//! ```

use std::net::{IpAddr, Ipv6Addr};

/// An IPv4 address, or the /64 of an IPv6 one, as who has one address there has 2^64 of them. Near ones are hosts of
/// their own.
pub fn host_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) if !is_near(address) => {
            let network = v6.to_bits() & !u128::from(u64::MAX);
            Ipv6Addr::from_bits(network).into()
        }
        address => address,
    }
}

/// Loopback and private addresses: in a network of one's own nobody makes up addresses, and one of them often stands
/// for many peers (a lab, a NAT).
pub fn is_near(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_network_of_ipv6_is_one_host_unless_it_is_ones_own() {
        let same = |one: &str, other: &str| {
            host_of(one.parse().unwrap()) == host_of(other.parse().unwrap())
        };
        assert!(same("2001:db8:0:7::1", "2001:db8:0:7:ffff::2"));
        assert!(!same("2001:db8:0:7::1", "2001:db8:0:8::1"));
        assert!(!same("fe80::1", "fe80::2"));
        assert!(!same("fd00::1", "fd00::2"));
        assert!(same("::ffff:192.0.2.1", "192.0.2.1"));
        assert!(!same("::ffff:192.0.2.1", "::ffff:192.0.2.2"));
    }
}
