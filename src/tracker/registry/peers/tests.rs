#![allow(clippy::unwrap_used)]
use super::*;
use fastrand::Rng;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn rules(per_ip: usize) -> Rules {
    Rules {
        key: Key::from_bytes([3; 16]),
        per_ip,
        exempt: None,
    }
}

fn address(host: u16, port: u16) -> [u8; 6] {
    let [a, b] = host.to_be_bytes();
    let [c, d] = port.to_be_bytes();
    [10, 0, a, b, c, d]
}

fn peer(address: [u8; 6], share: Completeness) -> ListedPeer<6> {
    ListedPeer {
        address,
        ident: [0; 4],
        tick: 0,
        share,
    }
}

/// A list of so many leechers and seeds; the leechers have port 1, the seeds port 2.
fn list(rules: &Rules, leechers: u16, seeds: u16) -> Peers<6> {
    let mut peers = Peers::default();
    for host in 0..leechers.max(seeds) {
        if host < seeds {
            peers.insert(rules, peer(address(host, 2), Completeness::Seed));
        }
        if host < leechers {
            peers.insert(rules, peer(address(host, 1), Completeness::Leecher));
        }
    }
    peers
}

fn sample(peers: &Peers<6>, own: Option<usize>, leechers_only: bool, want: usize) -> Vec<[u8; 6]> {
    let mut out = Vec::new();
    let mut dice = Rng::with_seed(want as u64);
    peers.sample(&mut dice, own, leechers_only, want, &mut out);
    out.as_chunks().0.to_vec()
}

#[test]
fn a_peer_is_twelve_bytes_and_24_with_ipv6() {
    assert_eq!(size_of::<ListedPeer<6>>(), 12);
    assert_eq!(size_of::<ListedPeer<18>>(), 24);
}

proptest! {
    /// Whatever comes and goes, in lists with and without an index: everybody is found where it
    /// stands, leechers stand before the others, and the counts are right.
    #[test]
    fn the_list_holds_what_a_plain_map_holds(
        steps in proptest::collection::vec((0u8..4, 0u16..12, 0u16..30, 0u8..3), 1..700), per_ip in prop_oneof![Just(0usize), Just(1000)]
    ) {
        let rules = rules(per_ip);
        let mut peers = Peers::default();
        let mut plain = BTreeMap::new();
        for (step, host, port, share) in steps {
            let share = [Completeness::Leecher, Completeness::Partial, Completeness::Seed][usize::from(share)];
            let address = address(host, port);
            match (peers.look_up(&rules, &address, [0; 4]), step) {
                (Lookup::Known(at), 0) => { peers.remove(&rules, at); plain.remove(&address); }
                (Lookup::Known(at), _) => { peers.refresh(&rules, at, [0; 4], 1, share); plain.insert(address, share); }
                (Lookup::New { .. }, _) => { peers.insert(&rules, peer(address, share)); plain.insert(address, share); }
            }
            prop_assert_eq!(peers.index.is_some() || peers.len() < INDEXED, true);
        }
        for (address, share) in &plain {
            let Lookup::Known(at) = peers.look_up(&rules, address, [0; 4]) else { panic!("lost") };
            prop_assert_eq!(peers.share(at), *share);
            prop_assert_eq!(at < peers.leechers(), *share == Completeness::Leecher);
        }
        prop_assert_eq!(peers.len(), plain.len());
        prop_assert_eq!(peers.seeds(), plain.values().filter(|it| **it == Completeness::Seed).count());
        prop_assert_eq!(peers.leechers(), plain.values().filter(|it| **it == Completeness::Leecher).count());
    }
}

#[test]
fn everybody_has_the_same_chance_and_nobody_is_handed_out_twice() {
    for (leechers, want) in [(100u16, 10usize), (97, 50), (200, 7)] {
        let rules = rules(64);
        let peers = list(&rules, leechers, 0);
        let own = 13;
        let mut dice = Rng::with_seed(7);
        let mut drawn = BTreeMap::new();
        let rounds = 20_000;
        for _ in 0..rounds {
            let mut out = Vec::new();
            peers.sample(&mut dice, Some(own), false, want, &mut out);
            let mut chosen = out.as_chunks::<6>().0.to_vec();
            assert_eq!(chosen.len(), want);
            for address in &chosen {
                *drawn.entry(*address).or_insert(0_u32) += 1;
            }
            chosen.sort_unstable();
            chosen.dedup();
            assert_eq!(chosen.len(), want);
        }
        assert!(!drawn.contains_key(&peers.list[own].address));
        assert_eq!(drawn.len(), usize::from(leechers) - 1);
        let chance = want as f64 / f64::from(leechers - 1);
        let (mean, spread) = (
            f64::from(rounds) * chance,
            (f64::from(rounds) * chance * (1.0 - chance)).sqrt(),
        );
        for (address, times) in drawn {
            let away = (f64::from(times) - mean).abs() / spread;
            assert!(
                away < 5.0,
                "{address:?} was drawn {times} times, {mean} are fair"
            );
        }
    }
}

#[test]
fn who_has_what_it_wants_is_shown_those_who_want_something() {
    let rules = rules(64);
    let mut peers = list(&rules, 5, 5);
    peers.insert(&rules, peer(address(99, 3), Completeness::Partial));
    let shown = sample(&peers, None, true, 50);
    assert_eq!(shown.len(), 5);
    assert!(shown.iter().all(|it| it[5] == 1));
    assert_eq!(sample(&peers, None, false, 50).len(), 11);
    assert_eq!(sample(&peers, Some(0), true, 50).len(), 4);
    assert_eq!(sample(&peers, Some(9), true, 3).len(), 3);
    assert_eq!(sample(&peers, None, false, 0).len(), 0);
    assert_eq!(
        sample(&Peers::default(), None, false, 9),
        Vec::<[u8; 6]>::new()
    );
}

#[test]
fn a_host_is_crowded_at_its_share_in_short_lists_and_long_ones() {
    for others in [0, 300] {
        let rules = rules(3);
        let mut peers = list(&rules, others, 0);
        for port in 10..13 {
            let new = Lookup::New {
                before: None,
                crowded: false,
            };
            assert_eq!(
                peers.look_up(&rules, &address(999, port), [0; 4]),
                new,
                "{others}"
            );
            peers.insert(&rules, peer(address(999, port), Completeness::Leecher));
        }
        let crowded = Lookup::New {
            before: None,
            crowded: true,
        };
        assert_eq!(
            peers.look_up(&rules, &address(999, 13), [0; 4]),
            crowded,
            "{others}"
        );
        assert!(matches!(
            peers.look_up(&rules, &address(999, 12), [0; 4]),
            Lookup::Known(_)
        ));
        let [a, b] = 999_u16.to_be_bytes();
        let neighbour = peers.look_up(&rules, &[10, 0, a, b - 1, 0, 13], [0; 4]);
        assert!(matches!(neighbour, Lookup::New { crowded: false, .. }));
    }
}

#[test]
fn the_loopback_and_the_exempt_are_not_counted_and_a_network_of_ipv6_is_one_host() {
    let mut rules = rules(1);
    assert_eq!(rules.host(&[127, 1, 2, 3, 0, 9]), None);
    assert_eq!(rules.host(&[9, 1, 2, 3, 0, 9]), Some(&[9, 1, 2, 3][..]));
    let mut v6 = [0; 18];
    v6[15] = 1;
    assert_eq!(rules.host(&v6), None);
    v6[0] = 0x20;
    assert_eq!(rules.host(&v6), Some(&v6[..8]));
    rules.exempt = Some([9, 1, 2, 3].into());
    assert_eq!(rules.host(&[9, 1, 2, 3, 0, 9]), None);
    rules.per_ip = 0;
    assert_eq!(rules.host(&[9, 1, 2, 4, 0, 9]), None);
}

#[test]
fn a_list_gives_memory_back() {
    let rules = rules(0);
    let mut peers = list(&rules, 2_000, 0);
    let full = peers.list.capacity();
    assert!(full < 2_600, "{full}");
    while peers.len() > 10 {
        peers.remove(&rules, 0);
    }
    assert!(peers.list.capacity() < 64 && peers.index.is_none());
}
