//! The ids by which a tracker knows that who asks over UDP is where it seems to be (BEP 15).
//!
//! ```text
//! let id = ids.issue(now, ip);          // the answer to a question for one
//! if ids.accepts(now, ip, id) { ... }   // any later datagram of this address
//! ```
//!
//! Nothing is kept: an id is a keyed hash of the address and of the time, cut into parts of eight
//! seconds. It names the last four bits of its part, so one hash is enough to check it. It is good
//! for two minutes, as BEP 15 has it, and for eight seconds more at most; an id of another address, of
//! the future or of an earlier run is as good as a guess. The port is not in it: a router in between may
//! change it from one datagram to the next.

use crate::protocol::siphash::Key;
use std::net::IpAddr;
use std::time::Duration;

/// Seconds of one part.
const PART: u64 = 8;

/// The bits of an id that name its part.
const PART_MASK: u64 = 15;

/// Makes ids and checks them.
#[derive(Debug)]
pub(super) struct ConnectionIds {
    key: Key,
}

impl ConnectionIds {
    /// `key` is this run's secret.
    pub(super) fn new(key: Key) -> ConnectionIds {
        ConnectionIds { key }
    }

    /// The id for an address; `now` is the time since the start.
    pub(super) fn issue(&self, now: Duration, ip: IpAddr) -> u64 {
        self.of(now.as_secs() / PART, ip)
    }

    /// Whether this address was given this id lately.
    pub(super) fn accepts(&self, now: Duration, ip: IpAddr, id: u64) -> bool {
        let part = now.as_secs() / PART;
        let age = part.wrapping_sub(id) & PART_MASK;
        let genuine = part.checked_sub(age).map(|issued| self.of(issued, ip));
        // Two numbers of one machine word are compared in one step, whatever they are.
        genuine == Some(id)
    }

    fn of(&self, part: u64, ip: IpAddr) -> u64 {
        let ip = match ip.to_canonical() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        let mut message = [0; 24];
        message[..16].copy_from_slice(&ip.octets());
        message[16..].copy_from_slice(&part.to_le_bytes());
        self.key.hash(&message) & !PART_MASK | part & PART_MASK
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(9, 9, 9, 9));

    fn ids(key: u8) -> ConnectionIds {
        ConnectionIds::new(Key::from_bytes([key; 16]))
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn an_id_is_good_for_two_minutes_and_eight_seconds_at_most() {
        let ids = ids(1);
        for issued in [0, 1, 7, 8, 59, 1_000_003] {
            let id = ids.issue(seconds(issued), HERE);
            for age in 0..=120 {
                assert!(ids.accepts(seconds(issued + age), HERE, id), "{age}");
            }
            for age in [128, 129, 180, 256, 10_000] {
                assert!(!ids.accepts(seconds(issued + age), HERE, id), "{age}");
            }
        }
    }

    #[test]
    fn an_id_of_the_future_or_of_another_run_is_none() {
        let now = seconds(500);
        for ahead in (8..200).step_by(8) {
            let id = ids(1).issue(now + seconds(ahead), HERE);
            assert!(!ids(1).accepts(now, HERE, id), "{ahead}");
        }
        assert!(!ids(1).accepts(now, HERE, ids(2).issue(now, HERE)));
        // Before the clock has come so far, there is no older part.
        assert!(!ids(1).accepts(seconds(0), HERE, 3));
    }

    #[test]
    fn an_id_belongs_to_one_address_in_whatever_clothes() {
        let ids = ids(1);
        let id = ids.issue(seconds(9), HERE);
        assert!(ids.accepts(seconds(9), "::ffff:9.9.9.9".parse().unwrap(), id));
        for other in ["9.9.9.8", "::9.9.9.9", "2001:db8::1"] {
            assert!(!ids.accepts(seconds(9), other.parse().unwrap(), id));
        }
    }

    #[test]
    fn no_bit_of_an_id_can_be_changed() {
        let ids = ids(1);
        let id = ids.issue(seconds(9_999), HERE);
        for bit in 0..64 {
            assert!(!ids.accepts(seconds(9_999), HERE, id ^ 1 << bit), "{bit}");
        }
    }
}
