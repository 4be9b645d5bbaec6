#![allow(clippy::unwrap_used)]
use super::*;
use crate::protocol::peer::PeerId;
use crate::protocol::siphash::Key;
use fastrand::Rng;
use proptest::prelude::*;

const INTERVAL: Duration = Duration::from_secs(1_800);

fn registry(limits: Capacity) -> Registry {
    Registry::new(Charter {
        limits,
        interval: INTERVAL,
        allowed: None,
        loopback_as: None,
        key: Key::from_bytes([9; 16]),
        dice: Rng::with_seed(1),
    })
}

const WIDE: Capacity = Capacity {
    torrents: 1_000,
    peers: 100_000,
    per_ip: 64,
};

fn hash(number: u32) -> InfoHash {
    let mut bytes = [0; 20];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    InfoHash(bytes)
}

fn from(address: &str) -> Announce {
    Announce {
        info_hash: hash(1),
        address: address.parse().unwrap(),
        peer_id: PeerId([7; 20]),
        key: None,
        share: Completeness::Leecher,
        event: None,
        want: 50,
        families: Families::Both,
    }
}

fn seed(address: &str) -> Announce {
    Announce {
        share: Completeness::Seed,
        ..from(address)
    }
}

/// The nth host of the public network, as text.
fn host(number: u32) -> String {
    format!(
        "{}:6881",
        std::net::Ipv4Addr::from(0x0100_0000 + number * 256)
    )
}

fn hear(registry: &mut Registry, announce: &Announce) -> (Receipt, Vec<SocketAddr>) {
    let mut found = CompactPeers::default();
    let receipt = registry.announce(announce, &mut found).unwrap();
    let mut all = compact::decode_v4(&found.v4).unwrap();
    all.extend(compact::decode_v6(&found.v6).unwrap());
    (receipt, all)
}

fn swarm(seeds: usize, leechers: usize, downloaders: usize, completed: u32) -> SwarmSize {
    SwarmSize {
        seeds,
        leechers,
        downloaders,
        completed,
    }
}

fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn two_who_announce_find_each_other_and_nobody_finds_itself() {
    let mut registry = registry(WIDE);
    let (first, found) = hear(&mut registry, &seed("1.2.3.4:1"));
    assert_eq!((first.swarm, found), (swarm(1, 0, 0, 0), vec![]));
    let (second, found) = hear(&mut registry, &from("5.6.7.8:2"));
    assert_eq!(
        (second.swarm, found),
        (swarm(1, 1, 1, 0), addresses(&["1.2.3.4:1"]))
    );
    let (again, found) = hear(&mut registry, &seed("1.2.3.4:1"));
    assert_eq!(
        (again.swarm, found),
        (swarm(1, 1, 1, 0), addresses(&["5.6.7.8:2"]))
    );
    assert_eq!(registry.scrape(&hash(1)), swarm(1, 1, 1, 0));
    assert_eq!(registry.scrape(&hash(2)), SwarmSize::default());
    let totals = Totals {
        torrents: 1,
        peers: 2,
        seeds: 1,
    };
    assert_eq!(registry.totals(), totals);
}

#[test]
fn who_stops_is_gone_and_who_was_never_here_may_stop_too() {
    let mut registry = registry(WIDE);
    let stopped = |address| Announce {
        event: Some(Occasion::Stopped),
        ..from(address)
    };
    let (receipt, found) = hear(&mut registry, &stopped("1.2.3.4:1"));
    assert_eq!((receipt.swarm, found), (SwarmSize::default(), vec![]));
    assert_eq!(registry.totals(), Totals::default());
    hear(&mut registry, &from("1.2.3.4:1"));
    hear(&mut registry, &from("[2001:db8::1]:1"));
    let (receipt, found) = hear(&mut registry, &stopped("1.2.3.4:1"));
    assert_eq!(
        (receipt.swarm, receipt.listed, found),
        (swarm(0, 1, 1, 0), false, vec![])
    );
    hear(&mut registry, &stopped("[2001:db8::1]:2"));
    assert_eq!(registry.totals().peers, 1);
    hear(&mut registry, &stopped("[2001:db8::1]:1"));
    assert_eq!(registry.totals(), Totals::default());
}

#[test]
fn a_download_is_counted_as_completed_once_for_each_peer() {
    let mut registry = registry(WIDE);
    hear(&mut registry, &from("1.2.3.4:1"));
    let completed = Announce {
        event: Some(Occasion::Completed),
        ..seed("1.2.3.4:1")
    };
    assert_eq!(hear(&mut registry, &completed).0.swarm, swarm(1, 0, 0, 1));
    assert_eq!(hear(&mut registry, &completed).0.swarm, swarm(1, 0, 0, 1));
    // Who says so and still lacks something has completed nothing.
    let mistaken = Announce {
        share: Completeness::Leecher,
        ..completed
    };
    assert_eq!(hear(&mut registry, &mistaken).0.swarm, swarm(0, 1, 1, 1));
}

#[test]
fn a_partial_seed_is_no_downloader_and_is_shown_to_downloaders_only() {
    let mut registry = registry(WIDE);
    let partial = |address| Announce {
        share: Completeness::Partial,
        ..from(address)
    };
    hear(&mut registry, &partial("1.1.1.1:1"));
    let (receipt, found) = hear(&mut registry, &partial("1.1.1.2:1"));
    assert_eq!((receipt.swarm, found), (swarm(0, 2, 0, 0), vec![]));
    let (receipt, found) = hear(&mut registry, &from("1.1.1.3:1"));
    assert_eq!((receipt.swarm, found.len()), (swarm(0, 3, 1, 0), 2));
    let (_, found) = hear(&mut registry, &partial("1.1.1.1:1"));
    assert_eq!(found, addresses(&["1.1.1.3:1"]));
}

#[test]
fn the_families_are_separate_and_an_answer_has_those_that_fit() {
    let mut registry = registry(WIDE);
    hear(&mut registry, &from("1.1.1.1:1"));
    hear(&mut registry, &from("[2001:db8::1]:1"));
    let all = addresses(&["1.1.1.1:1", "[2001:db8::1]:1"]);
    for (families, expected) in [
        (Families::Both, &all[..]),
        (Families::V4, &all[..1]),
        (Families::V6, &all[1..]),
    ] {
        let asker = Announce {
            families,
            ..from("9.9.9.9:9")
        };
        assert_eq!(hear(&mut registry, &asker).1, expected, "{families:?}");
    }
    // Where there is room for one, it is one of the asker's own family.
    let one = |address| Announce {
        want: 1,
        ..from(address)
    };
    hear(&mut registry, &from("[2001:db8::2]:1"));
    assert!(hear(&mut registry, &one("[2001:db8::3]:1")).1[0].is_ipv6());
    assert!(hear(&mut registry, &one("9.9.9.9:9")).1[0].is_ipv4());
    // An IPv4 address in IPv6 clothes is one of IPv4.
    assert_eq!(hear(&mut registry, &from("[::ffff:1.1.1.1]:1")).1.len(), 4);
    assert_eq!(registry.totals().peers, 5);
}

#[test]
fn who_moves_takes_its_key_along_and_leaves_no_ghost() {
    let mut registry = registry(WIDE);
    let with_key = |address, key| Announce {
        key,
        ..from(address)
    };
    hear(&mut registry, &with_key("1.1.1.1:1", Some(5)));
    hear(&mut registry, &with_key("2.2.2.2:1", Some(5)));
    assert_eq!(registry.scrape(&hash(1)).leechers, 1);
    hear(&mut registry, &with_key("3.3.3.3:1", Some(6)));
    assert_eq!(registry.scrape(&hash(1)).leechers, 2);
    let stranger = Announce {
        peer_id: PeerId([8; 20]),
        ..with_key("4.4.4.4:1", Some(5))
    };
    hear(&mut registry, &stranger);
    assert_eq!(registry.scrape(&hash(1)).leechers, 3);
    hear(&mut registry, &with_key("5.5.5.5:1", None));
    hear(&mut registry, &with_key("6.6.6.6:1", None));
    assert_eq!(registry.scrape(&hash(1)).leechers, 5);
}

#[test]
fn the_silent_are_forgotten_between_one_and_a_half_and_two_intervals() {
    let mut registry = registry(WIDE);
    assert_eq!(registry.turn(Duration::ZERO), None);
    let late = INTERVAL * 10;
    registry.turn(late);
    for number in 0..600 {
        let announce = Announce {
            info_hash: hash(number),
            ..from(&host(number))
        };
        hear(&mut registry, &announce);
    }
    hear(&mut registry, &from("[2001:db8::1]:1"));
    // A turn is due while anybody is here, and enough of them look at everybody.
    let mut now = late;
    let mut gone = None;
    while let Some(due) = registry.turn(now) {
        now = due.max(now);
        if now <= late + INTERVAL * 3 / 2 {
            assert_eq!(registry.totals().peers, 601, "{now:?}");
        }
        gone = Some(now);
    }
    assert!(gone.unwrap() < late + INTERVAL * 2, "{gone:?}");
    assert_eq!(registry.totals(), Totals::default());
}

#[test]
fn clients_that_find_an_interval_too_short_are_not_forgotten_in_between() {
    let mut registry = Registry::new(Charter {
        limits: WIDE,
        interval: Duration::from_secs(1),
        allowed: None,
        loopback_as: None,
        key: Key::from_bytes([9; 16]),
        dice: Rng::with_seed(1),
    });
    hear(&mut registry, &from("1.1.1.1:1"));
    registry.turn(Duration::from_secs(600));
    assert_eq!(registry.totals().peers, 1);
    registry.turn(Duration::from_secs(660));
    assert_eq!(registry.totals().peers, 0);
}

#[test]
fn who_announces_stays_and_a_machine_that_slept_for_weeks_is_no_exception() {
    let mut registry = registry(WIDE);
    for round in 0..100 {
        registry.turn(INTERVAL * round);
        hear(&mut registry, &from("1.1.1.1:1"));
        assert_eq!(registry.totals().peers, 1);
    }
    // 256 ticks and 8 intervals later the date's byte is the same.
    registry.turn(INTERVAL * 107);
    assert_eq!(registry.totals(), Totals::default());
    assert_eq!(hear(&mut registry, &from("1.1.1.2:1")).1, []);
}

#[test]
fn a_restart_loses_nobody_for_longer_than_an_interval() {
    // Forty peers announce each interval, at forty times in it; the tracker forgets everything.
    let at = |peer: u32| INTERVAL * peer / 40;
    let mut registry = registry(WIDE);
    for peer in 0..40 {
        registry.turn(at(peer));
        hear(&mut registry, &from(&host(peer)));
    }
    let mut after = self::registry(WIDE);
    for peer in 0..40 {
        after.turn(at(peer));
        let (receipt, found) = hear(&mut after, &from(&host(peer)));
        // Everybody who has announced since is here.
        assert_eq!(
            (receipt.swarm.leechers, found.len()),
            (peer as usize + 1, peer as usize)
        );
    }
    assert_eq!(after.totals(), registry.totals());
}

#[test]
fn of_one_host_so_many_are_listed_and_the_next_is_answered_all_the_same() {
    let mut registry = registry(Capacity { per_ip: 2, ..WIDE });
    assert!(hear(&mut registry, &from("1.1.1.1:1")).0.listed);
    assert!(hear(&mut registry, &from("1.1.1.1:2")).0.listed);
    let (receipt, found) = hear(&mut registry, &from("1.1.1.1:3"));
    assert_eq!((receipt.listed, found.len()), (false, 2));
    assert_eq!(registry.totals().peers, 2);
    let elsewhere = Announce {
        info_hash: hash(2),
        ..from("1.1.1.1:3")
    };
    assert!(hear(&mut registry, &elsewhere).0.listed);
    for port in 1..100 {
        assert!(
            hear(&mut registry, &from(&format!("127.0.0.1:{port}")))
                .0
                .listed
        );
        let listed = hear(&mut registry, &from(&format!("[2001:db8::{port:x}]:1")))
            .0
            .listed;
        assert_eq!(listed, port <= 2);
    }
}

#[test]
fn who_changes_its_port_makes_room_for_itself() {
    let mut registry = registry(Capacity { per_ip: 1, ..WIDE });
    let keyed = |address, key| Announce {
        key: Some(key),
        ..from(address)
    };
    assert!(hear(&mut registry, &keyed("1.1.1.1:1000", 7)).0.listed);
    assert!(hear(&mut registry, &keyed("1.1.1.1:2000", 7)).0.listed);
    assert!(!hear(&mut registry, &keyed("1.1.1.1:3000", 8)).0.listed);
    assert_eq!(registry.totals().peers, 1);
}

#[test]
fn a_peer_on_the_loopback_is_handed_out_under_the_address_given_for_it() {
    let mut registry = Registry::new(Charter {
        limits: Capacity { per_ip: 1, ..WIDE },
        interval: INTERVAL,
        allowed: None,
        loopback_as: Some([192, 0, 2, 7].into()),
        key: Key::from_bytes([9; 16]),
        dice: Rng::with_seed(1),
    });
    for address in ["127.0.0.1:1", "127.0.0.1:2", "[::1]:3"] {
        assert!(hear(&mut registry, &seed(address)).0.listed, "{address}");
    }
    let (_, mut found) = hear(&mut registry, &from("9.9.9.9:9"));
    found.sort();
    assert_eq!(
        found,
        addresses(&["192.0.2.7:1", "192.0.2.7:2", "192.0.2.7:3"])
    );
    let stopped = Announce {
        event: Some(Occasion::Stopped),
        ..from("127.0.0.1:2")
    };
    assert_eq!(hear(&mut registry, &stopped).0.swarm.seeds, 2);
}

#[test]
fn what_is_not_on_the_list_is_refused_and_so_is_an_address_that_is_none() {
    let mut registry = Registry::new(Charter {
        limits: WIDE,
        interval: INTERVAL,
        allowed: Some(vec![hash(5), hash(1), hash(3)]),
        loopback_as: None,
        key: Key::from_bytes([9; 16]),
        dice: Rng::with_seed(1),
    });
    for (number, served) in [(0, false), (1, true), (2, false), (3, true), (5, true)] {
        let announce = Announce {
            info_hash: hash(number),
            ..from("1.1.1.1:1")
        };
        let outcome = registry.announce(&announce, &mut CompactPeers::default());
        assert_eq!(outcome.is_ok(), served, "{number}");
    }
    let later = Announce {
        info_hash: hash(2),
        ..from("1.1.1.1:1")
    };
    registry.admit(hash(2));
    assert!(
        registry
            .announce(&later, &mut CompactPeers::default())
            .is_ok()
    );
    for address in ["1.1.1.1:0", "0.0.0.0:1", "255.255.255.255:1", "[ff02::1]:1"] {
        let outcome = registry.announce(&from(address), &mut CompactPeers::default());
        assert_eq!(outcome, Err(Refusal::Unusable), "{address}");
    }
}

/// A torrent that is new, shared by one.
fn invented(number: u32, address: &str) -> Announce {
    Announce {
        info_hash: hash(number),
        ..from(address)
    }
}

fn is_let_in(registry: &mut Registry, announce: &Announce) -> bool {
    registry
        .announce(announce, &mut CompactPeers::default())
        .is_ok()
}

const NARROW: Capacity = Capacity {
    torrents: 100,
    ..WIDE
};

#[test]
fn who_fills_the_table_of_torrents_makes_room_for_others_and_gets_none() {
    for flooder in ["6.6.6.6:6", "[2001:db8::6]:6"] {
        let mut registry = registry(NARROW);
        hear(&mut registry, &seed("1.1.1.1:1"));
        for number in 10..1_000 {
            let is_in = is_let_in(&mut registry, &invented(number, flooder));
            assert_eq!(is_in, number < 109, "{flooder}: {number}");
        }
        assert_eq!(registry.totals().torrents, 100);
        // Another address of the same network is the same host.
        let neighbour = invented(1_000, "[2001:db8::7:7]:7");
        assert_eq!(is_let_in(&mut registry, &neighbour), flooder == "6.6.6.6:6");
        for number in 2_000..2_050 {
            let honest = invented(number, &host(number));
            assert!(is_let_in(&mut registry, &honest), "{flooder}: {number}");
        }
        let all = (2_000..2_050).map(|number| registry.scrape(&hash(number)).leechers);
        assert_eq!(all.sum::<usize>(), 50);
        let (_, found) = hear(&mut registry, &from("2.2.2.2:2"));
        assert_eq!(found, addresses(&["1.1.1.1:1"]));
        assert_eq!(registry.totals().torrents, 100);
    }
}

#[test]
fn who_has_most_of_the_table_takes_nothing_from_who_has_less() {
    let mut registry = registry(NARROW);
    for number in 0..100 {
        let address = ["6.6.6.6:6", "7.7.7.7:7"][usize::from(number >= 70)];
        hear(&mut registry, &invented(number, address));
    }
    for number in 100..1_000 {
        let _ = is_let_in(&mut registry, &invented(number, "6.6.6.6:6"));
    }
    let left = (70..100).filter(|number| registry.scrape(&hash(*number)).leechers == 1);
    let left = left.count();
    assert!(left >= 25, "{left}");
    // Who has less gets more, as long as it is much less.
    for number in 1_000..2_000 {
        let _ = is_let_in(&mut registry, &invented(number, "7.7.7.7:7"));
    }
    let new = (1_000..2_000).filter(|number| registry.scrape(&hash(*number)).leechers == 1);
    let new = new.count();
    assert!((5..60).contains(&new), "{new}");
}

#[test]
fn a_table_full_of_many_addresses_torrents_takes_no_more_until_some_are_forgotten() {
    let mut registry = registry(NARROW);
    for number in 0..100 {
        hear(&mut registry, &invented(number, &host(number)));
    }
    for number in 100..1_000 {
        let announce = invented(number, &host(number));
        let outcome = registry.announce(&announce, &mut CompactPeers::default());
        assert_eq!(outcome, Err(Refusal::Full), "{number}");
    }
    assert!((0..100).all(|number| registry.scrape(&hash(number)).leechers == 1));
    // One and a half intervals later there is room again.
    let mut now = INTERVAL * 8 / 5;
    while let Some(due) = registry.turn(now).filter(|due| *due <= INTERVAL * 2) {
        now = due;
    }
    assert!(is_let_in(&mut registry, &invented(77_777, "3.3.3.3:3")));
}

#[test]
fn the_loopback_and_hosts_that_nobody_counts_keep_their_torrents() {
    for (per_ip, address) in [(64, "127.0.0.1:1"), (0, "6.6.6.6:6")] {
        let mut registry = registry(Capacity { per_ip, ..NARROW });
        for number in 0..100 {
            hear(&mut registry, &invented(number, address));
        }
        assert!(!is_let_in(&mut registry, &invented(100, "1.1.1.1:1")));
        assert!((0..100).all(|number| registry.scrape(&hash(number)).leechers == 1));
    }
}

#[test]
fn who_seeds_half_of_all_torrents_loses_those_that_nobody_else_is_in() {
    let mut registry = registry(NARROW);
    for number in 0..50 {
        for other in 0..(number % 2) * 20 {
            let address = host(10_000 + number * 100 + other);
            hear(&mut registry, &invented(number, &address));
        }
        hear(&mut registry, &invented(number, "6.6.6.6:6"));
    }
    for number in 50..100 {
        hear(&mut registry, &invented(number, &host(number)));
    }
    for number in 100..112 {
        let _ = registry.announce(
            &invented(number, &host(number)),
            &mut CompactPeers::default(),
        );
    }
    assert!(registry.totals().torrents == 100);
    let left = |odd| {
        (0..50)
            .filter(|it| it % 2 == odd && registry.scrape(&hash(*it)) != SwarmSize::default())
            .count()
    };
    assert!(left(0) < 20 && left(1) == 25, "{}, {}", left(0), left(1));
}

#[test]
fn a_great_torrent_pays_for_the_small_ones_when_everything_is_full() {
    let limits = Capacity {
        peers: 1_000,
        ..WIDE
    };
    let mut registry = registry(limits);
    for number in 0..3 {
        let small = Announce {
            info_hash: hash(2),
            ..seed(&host(900_000 + number))
        };
        hear(&mut registry, &small);
    }
    for number in 0..100_000 {
        hear(&mut registry, &from(&host(number)));
    }
    assert_eq!(registry.totals().peers, 1_000);
    assert_eq!(registry.scrape(&hash(2)).seeds, 3);
    // Newcomers elsewhere are let in.
    for number in 0..200 {
        let small = Announce {
            info_hash: hash(3 + number % 10),
            ..from(&host(800_000 + number))
        };
        assert!(hear(&mut registry, &small).0.listed);
    }
    assert_eq!(registry.totals().peers, 1_000);
    assert_eq!(registry.scrape(&hash(2)).seeds, 3);
    assert_eq!(registry.scrape(&hash(4)).leechers, 20);
    assert_eq!(registry.scrape(&hash(1)).leechers, 797);
}

/// A thousand peers of a thousand addresses in torrent 1, then somebody in as many others as it takes
/// to push them out of room for ten thousand, three times over; how many of the thousand are left, and
/// how many there are in the largest of the others.
fn besieged(address: impl Fn(u32, u32) -> String) -> (usize, usize) {
    let limits = Capacity {
        peers: 10_000,
        ..WIDE
    };
    let mut registry = registry(limits);
    for number in 0..1_000 {
        hear(&mut registry, &from(&host(number)));
    }
    let torrents = 1_000..1_200;
    for _ in 0..3 {
        for torrent in torrents.clone() {
            for port in 1..=64 {
                let announce = Announce {
                    info_hash: hash(torrent),
                    want: 0,
                    ..from(&address(torrent, port))
                };
                hear(&mut registry, &announce);
            }
        }
    }
    assert_eq!(registry.totals().peers, 10_000);
    let others = torrents.map(|torrent| registry.scrape(&hash(torrent)).leechers);
    let largest = others.max().unwrap_or(0);
    (registry.scrape(&hash(1)).leechers, largest)
}

#[test]
fn many_torrents_of_many_addresses_leave_a_swarm_as_large_as_theirs() {
    let (left, largest) = besieged(|torrent, port| host(torrent * 64 + port));
    // An even share is 10,000 / 201, so 49.
    assert!(left >= 45 && left + 10 > largest, "{left}, {largest}");
}

#[test]
fn many_torrents_of_one_address_pay_long_before_a_swarm_of_many() {
    for address in ["6.6.6.6", "[2001:db8::6]"] {
        let (left, largest) = besieged(|_, port| format!("{address}:{port}"));
        assert!(left >= 600, "{address}: {left}, {largest}");
    }
}

#[test]
fn who_crowds_a_small_torrent_pays_for_it_alone() {
    let limits = Capacity {
        peers: 1_000,
        ..WIDE
    };
    let mut registry = registry(limits);
    for number in 0..10 {
        hear(&mut registry, &seed(&host(number)));
    }
    // Those who were here first are the ones that were silent for longest.
    registry.turn(INTERVAL / 2);
    for port in 1..=64 {
        hear(&mut registry, &from(&format!("6.6.6.6:{port}")));
    }
    for number in 0..2_000 {
        let great = Announce {
            info_hash: hash(2),
            ..from(&host(1_000 + number))
        };
        hear(&mut registry, &great);
    }
    let small = registry.scrape(&hash(1));
    assert!(small.seeds == 10 && small.leechers < 64, "{small:?}");
}

#[test]
fn a_torrent_that_was_drained_is_no_longer_the_largest() {
    let limits = Capacity { peers: 300, ..WIDE };
    let mut registry = registry(limits);
    let mut hosts = (0..).map(host);
    let mut join = |registry: &mut Registry, torrent, count| {
        for address in hosts.by_ref().take(count) {
            let announce = Announce {
                info_hash: hash(torrent),
                ..from(&address)
            };
            hear(registry, &announce);
        }
    };
    for (torrent, count) in [(2, 90), (3, 90), (1, 120)] {
        join(&mut registry, torrent, count);
    }
    for torrent in 4..64 {
        join(&mut registry, torrent, 1);
    }
    let left = [1, 2, 3].map(|torrent| registry.scrape(&hash(torrent)).leechers);
    assert!(left.iter().all(|left| *left >= 70), "{left:?}");
}

#[test]
fn where_every_torrent_has_one_peer_one_of_them_goes() {
    let limits = Capacity { peers: 50, ..WIDE };
    let mut registry = registry(limits);
    for number in 0..500 {
        let one = Announce {
            info_hash: hash(number),
            ..from(&host(number))
        };
        assert!(hear(&mut registry, &one).0.listed);
        assert!(registry.totals().peers <= 50);
    }
}

proptest! {
    /// The totals are what the torrents hold, whatever happens.
    #[test]
    fn the_totals_are_always_right(steps in proptest::collection::vec(
        (0u32..6, 0u32..40, 0u8..5, 0u8..3, any::<bool>(), 0u64..40), 1..300))
    {
        let mut registry = registry(Capacity { torrents: 5, peers: 60, per_ip: 3 });
        let mut now = Duration::ZERO;
        for (torrent, peer, event, share, v6, minutes) in steps {
            now += Duration::from_secs(minutes * 30);
            registry.turn(now);
            let address = if v6 { format!("[2001:db8:0:{:x}::1]:{}", peer / 4, peer % 4 + 1) } else { format!("9.9.9.{}:{}", peer / 4, peer % 4 + 1) };
            let announce = Announce {
                info_hash: hash(torrent),
                event: [None, Some(Occasion::Started), Some(Occasion::Completed), Some(Occasion::Stopped), None][usize::from(event)],
                share: [Completeness::Leecher, Completeness::Partial, Completeness::Seed][usize::from(share)],
                key: Some(peer % 7),
                ..from(&address)
            };
            let _ = registry.announce(&announce, &mut CompactPeers::default());
            let swarms: Vec<_> = (0..6).map(|number| registry.scrape(&hash(number))).collect();
            prop_assert_eq!(registry.totals().peers, swarms.iter().map(|it| it.seeds + it.leechers).sum::<usize>());
            prop_assert_eq!(registry.totals().seeds, swarms.iter().map(|it| it.seeds).sum::<usize>());
            prop_assert!(registry.totals().peers <= 60 && registry.totals().torrents <= 5);
        }
    }
}
