//! The addresses of this machine that others may reach, without a packet to anybody.
//!
//! ```text
//! let addresses = Addresses::of_this_machine(None);
//! addresses.chosen;      // that of the default route, or the first one there is
//! addresses.others;
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Nobody lives there: addresses for documentation (RFC 5737, RFC 3849), which lie behind the default
/// route. The port is that of `discard`.
const FAR_AWAY: [SocketAddr; 2] = [
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 9),
    SocketAddr::new(
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
        9,
    ),
];

/// What others may call this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses {
    /// The one that is told.
    pub chosen: IpAddr,
    /// Those that it could have been.
    pub others: Vec<IpAddr>,
}

impl Addresses {
    /// Looks at the routes and the interfaces. What is served on `bind` alone is told under it; where that
    /// is `0.0.0.0` or `[::]`, or nothing was asked for, the address of the default route is told, or else
    /// the first one that there is. The loopback's is the last resort.
    pub fn of_this_machine(bind: Option<IpAddr>) -> Addresses {
        let all = match bind {
            Some(one) if !one.is_unspecified() => vec![one],
            every => {
                // `0.0.0.0` serves one family, `[::]` both.
                let six_too = every.is_none_or(|every| every.is_ipv6());
                let candidates = on_the_way_out().chain(on_interfaces());
                candidates
                    .filter(|it| it.is_ipv4() || six_too)
                    .collect::<Vec<_>>()
            }
        };
        Addresses::among(all)
    }

    /// The first, and the others, each once.
    fn among(all: Vec<IpAddr>) -> Addresses {
        let mut once: Vec<IpAddr> = Vec::new();
        for address in all {
            if !once.contains(&address) {
                once.push(address);
            }
        }
        let chosen = once.first().copied();
        Addresses {
            chosen: chosen.unwrap_or(Ipv4Addr::LOCALHOST.into()),
            others: once.into_iter().skip(1).collect(),
        }
    }
}

/// The addresses that this machine would write as the sender's, on a packet that leaves by the default
/// routes. A socket for datagrams that is connected sends nothing.
fn on_the_way_out() -> impl Iterator<Item = IpAddr> {
    let address = |to: SocketAddr| {
        let any: IpAddr = match to {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0)).ok()?;
        socket.connect(to).ok()?;
        let ip = socket.local_addr().ok()?.ip();
        (!ip.is_unspecified() && !ip.is_loopback()).then_some(ip)
    };
    FAR_AWAY.into_iter().filter_map(address)
}

/// The addresses of the interfaces, as Linux tells them.
fn on_interfaces() -> impl Iterator<Item = IpAddr> {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let four = of_fib_trie(&read("/proc/net/fib_trie"));
    let six = of_if_inet6(&read("/proc/net/if_inet6"));
    four.into_iter()
        .map(IpAddr::from)
        .chain(six.into_iter().map(IpAddr::from))
}

/// The host's own addresses in the kernel's table of routes, without the loopback's.
fn of_fib_trie(text: &str) -> Vec<Ipv4Addr> {
    let mut found = Vec::new();
    let mut leaf = None;
    for line in text.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            leaf = address.parse::<Ipv4Addr>().ok();
        } else if line == "/32 host LOCAL" {
            found.extend(leaf.filter(|it| !it.is_loopback()));
        }
    }
    found
}

/// Addresses that mean the same everywhere (scope 0), without those that are being tried, were found
/// taken, or are on their way out (IFA_F_TENTATIVE, IFA_F_DADFAILED, IFA_F_DEPRECATED).
fn of_if_inet6(text: &str) -> Vec<Ipv6Addr> {
    const UNFIT: u32 = 0x40 | 0x08 | 0x20;
    let address = |line: &str| {
        let mut words = line.split_whitespace();
        let bits = u128::from_str_radix(words.next()?, 16).ok()?;
        let scope = words.nth(2)?;
        let flags = u32::from_str_radix(words.next()?, 16).ok()?;
        (scope == "00" && flags & UNFIT == 0).then_some(Ipv6Addr::from_bits(bits))
    };
    text.lines().filter_map(address).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_tables_are_read() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n\
            Local:\n        |-- 10.99.0.0\n           /24 link UNICAST\n        |-- 10.99.0.1\n\
            \x20          /32 host LOCAL\n        |-- 10.99.0.255\n           /32 link BROADCAST\n\
            \x20       |-- 127.0.0.1\n           /32 host LOCAL\n";
        assert_eq!(of_fib_trie(trie), [Ipv4Addr::new(10, 99, 0, 1)]);
        let six = "fd990000000000000000000000000001 02 40 00 80 eth0\n\
            fe800000000000000000000000000001 02 40 20 80 eth0\n\
            00000000000000000000000000000001 01 80 10 80 lo\n\
            fd990000000000000000000000000002 02 40 00 40 eth0\nnonsense\n";
        assert_eq!(
            of_if_inet6(six),
            ["fd99::1".parse::<Ipv6Addr>().unwrap_or(Ipv6Addr::LOCALHOST)]
        );
        assert!(of_fib_trie("").is_empty() && of_if_inet6("").is_empty());
    }

    #[test]
    fn what_is_served_on_one_address_is_told_under_it_and_nobody_is_nowhere() {
        let six: IpAddr = Ipv6Addr::LOCALHOST.into();
        let bound = Addresses::of_this_machine(Some(six));
        assert_eq!((bound.chosen, bound.others), (six, vec![]));
        let nobody = Addresses::among(Vec::new());
        assert!(nobody.chosen.is_loopback() && nobody.others.is_empty());
        let ips: Vec<IpAddr> = [1, 2, 1, 3]
            .map(|it| Ipv4Addr::new(10, 0, 0, it).into())
            .into();
        let among = Addresses::among(ips);
        assert_eq!(among.others.len(), 2);
    }
}
