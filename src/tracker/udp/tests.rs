#![allow(clippy::unwrap_used)]
use super::*;
use crate::protocol::peer::PeerId;
use crate::protocol::siphash::Key;
use crate::tracker::registry::{self, Capacity};
use proptest::prelude::*;

const NOW: Duration = Duration::from_secs(1_000);
const HERE: &str = "9.9.9.9:1000";
const NOTHING: [u8; 0] = [];

/// A desk, a registry, and the last answer.
struct Office {
    desk: Desk,
    registry: Registry,
}

impl Office {
    fn new() -> Office {
        let key = Key::from_bytes([5; 16]);
        let interval = Duration::from_secs(900);
        let limits = Capacity {
            torrents: 2,
            peers: 10_000,
            per_ip: 0,
        };
        let setup = registry::Charter {
            limits,
            interval,
            allowed: None,
            loopback_as: None,
            key,
            dice: fastrand::Rng::with_seed(1),
        };
        Office {
            desk: Desk::new(ConnectionIds::new(key), interval, Arc::default()),
            registry: Registry::new(setup),
        }
    }

    fn ask(&mut self, datagram: &[u8], from: &str, now: Duration) -> Vec<u8> {
        let mut out = Vec::new();
        let from = from.parse().unwrap();
        self.desk
            .answer(datagram, from, now, &mut self.registry, &mut out);
        out
    }

    fn connection(&mut self, from: &str) -> u64 {
        let answer = self.ask(&Question::Connect { transaction: 1 }.encode(), from, NOW);
        match Reply::decode(&answer) {
            Ok(Reply::Connected { connection, .. }) => connection,
            other => panic!("{other:?}"),
        }
    }

    fn counted(&self, what: Counted) -> u64 {
        self.desk.counters.get(what)
    }
}

fn announce(connection: u64, announce: udp::Announce) -> Vec<u8> {
    let question = Question::Announce {
        connection,
        transaction: 42,
        announce,
        options: &[],
    };
    question.encode()
}

fn someone() -> udp::Announce {
    udp::Announce {
        info_hash: InfoHash([1; 20]),
        peer_id: PeerId([2; 20]),
        downloaded: 0,
        left: 5,
        uploaded: 0,
        event: None,
        key: 0,
        num_want: None,
        port: 6881,
    }
}

/// Interval, leechers, seeders, and the bytes of the peers.
fn announced(answer: &[u8]) -> (u32, u32, u32, &[u8]) {
    match Reply::decode(answer) {
        Ok(Reply::Announced {
            transaction: 42,
            interval,
            leechers,
            seeders,
            peers,
        }) => (interval, leechers, seeders, peers),
        other => panic!("{other:?}"),
    }
}

#[test]
fn two_clients_find_each_other() {
    let mut office = Office::new();
    let (one, two) = ("1.1.1.1:5", "[::ffff:2.2.2.2]:6");
    let (id_one, id_two) = (office.connection(one), office.connection(two));
    let first = office.ask(&announce(id_one, someone()), one, NOW);
    assert_eq!(announced(&first), (900, 1, 0, &[][..]));
    let seed = udp::Announce {
        left: 0,
        port: 7,
        ..someone()
    };
    let second = office.ask(&announce(id_two, seed), two, NOW);
    assert_eq!(
        announced(&second),
        (900, 1, 1, &[1, 1, 1, 1, 0x1a, 0xe1][..])
    );
    let third = office.ask(&announce(id_one, someone()), one, NOW);
    assert_eq!(announced(&third).3, [2, 2, 2, 2, 0, 7]);
}

#[test]
fn over_ipv6_the_peers_are_of_ipv6() {
    let mut office = Office::new();
    for from in ["1.1.1.1:5", "[2001:db8::1]:5", "[2001:db8::2]:5"] {
        let id = office.connection(from);
        office.ask(&announce(id, someone()), from, NOW);
    }
    let from = "[2001:db8::2]:9";
    let id = office.connection(from);
    let answer = office.ask(&announce(id, someone()), from, NOW);
    let (_, leechers, _, peers) = announced(&answer);
    assert_eq!(leechers, 3);
    let found = udp::peers(peers, true);
    assert_eq!(found, ["[2001:db8::1]:6881".parse().unwrap()]);
}

#[test]
fn an_id_that_is_not_good_gets_no_answer_and_is_counted() {
    let mut office = Office::new();
    let id = office.connection(HERE);
    let question = announce(id, someone());
    let minute = Duration::from_secs(60);
    for (from, now) in [
        ("9.9.9.8:1000", NOW),       // another address
        ("[2001:db8::1]:1000", NOW), // another family
        (HERE, NOW + minute * 3),    // expired
        (HERE, NOW - minute),        // of the future
    ] {
        assert_eq!(office.ask(&question, from, now), NOTHING, "{from} {now:?}");
    }
    let guessed = announce(id ^ 1 << 33, someone());
    assert_eq!(office.ask(&guessed, HERE, NOW), NOTHING);
    let info_hashes = &[[1; 20]];
    let scrape = Question::Scrape {
        connection: 0,
        transaction: 1,
        info_hashes,
    };
    assert_eq!(office.ask(&scrape.encode(), HERE, NOW), NOTHING);
    assert_eq!(office.counted(Counted::UdpBadIds), 6);
    assert_eq!(office.registry.totals().peers, 0);
    // From another port of the same address, two minutes later, it is good.
    let answer = office.ask(&question, "9.9.9.9:65535", NOW + minute * 2);
    assert_eq!(announced(&answer).1, 1);
}

#[test]
fn whoever_has_not_proved_its_address_gets_no_more_bytes_than_it_sent() {
    let mut office = Office::new();
    let mut dice = fastrand::Rng::with_seed(3);
    let mut answered = 0;
    for length in (0..=200).chain([2_048, 65_507]) {
        for action in 0..=255_u32 {
            let mut datagram = vec![0; length];
            dice.fill(&mut datagram);
            for (place, byte) in datagram.iter_mut().skip(8).zip(action.to_be_bytes()) {
                *place = byte;
            }
            if action % 2 == 0 && length >= 8 {
                datagram[..8].copy_from_slice(&udp::PROTOCOL_ID.to_be_bytes());
            }
            let answer = office.ask(&datagram, HERE, NOW);
            assert!(
                answer.len() <= length,
                "{length} {action}: {}",
                answer.len()
            );
            assert!(answer.is_empty() || answer.len() == 16);
            answered += usize::from(!answer.is_empty());
        }
    }
    assert!(answered > 0, "not even who wants to connect has an answer");
    assert_eq!(office.counted(Counted::UdpAnnounces), 0);
    assert_eq!(
        office.ask(
            &Question::Connect { transaction: 1 }.encode(),
            "9.9.9.9:0",
            NOW
        ),
        NOTHING
    );
}

#[test]
fn datagrams_of_every_length_and_action_with_a_good_id_do_no_harm() {
    let mut office = Office::new();
    let id = office.connection(HERE);
    for length in (0..=200).chain([2_048, 65_507]) {
        for action in 0..=255_u32 {
            let mut datagram = vec![0xff; length];
            let head = [&id.to_be_bytes()[..], &action.to_be_bytes()].concat();
            let fitting = head.len().min(length);
            datagram[..fitting].copy_from_slice(&head[..fitting]);
            let answer = office.ask(&datagram, HERE, NOW);
            assert!(answer.len() <= 1_400);
            let is_question = action == 1 && length >= 98 || action == 2 && length >= 36;
            assert_eq!(!answer.is_empty(), is_question, "{length} {action}");
        }
    }
}

#[test]
fn as_many_peers_as_wanted_and_never_more_than_a_packet_holds() {
    let mut office = Office::new();
    for number in 0..300_u32 {
        for from in [
            format!("1.1.{}.{}:5", number / 250, number % 250 + 1),
            format!("[2001:db8::{number:x}]:5"),
        ] {
            let id = office.connection(&from);
            office.ask(&announce(id, someone()), &from, NOW);
        }
    }
    for (wanted, v4, v6) in [
        (None, 50, 50),
        (Some(0), 0, 0),
        (Some(1), 1, 1),
        (Some(100), 100, 74),
        (Some(0x7fff_ffff), 200, 74),
    ] {
        for (from, count, size) in [(HERE, v4, 6), ("[2001:db9::]:5", v6, 18)] {
            let id = office.connection(from);
            let one = udp::Announce {
                num_want: wanted,
                ..someone()
            };
            let answer = office.ask(&announce(id, one), from, NOW);
            assert_eq!(announced(&answer).3.len(), count * size, "{wanted:?}");
            assert!(answer.len() <= 1_400);
        }
    }
}

#[test]
fn a_scrape_is_answered_in_its_order_and_cut_at_74() {
    let mut office = Office::new();
    let id = office.connection(HERE);
    office.ask(&announce(id, someone()), HERE, NOW);
    let scrape = |info_hashes: &[[u8; 20]]| {
        let head = [
            &id.to_be_bytes()[..],
            &2_u32.to_be_bytes(),
            &9_u32.to_be_bytes(),
        ];
        [&head.concat(), info_hashes.as_flattened()].concat()
    };
    let answer = office.ask(&scrape(&[[9; 20], [1; 20]]), HERE, NOW);
    let Ok(Reply::Scraped { counts, .. }) = Reply::decode(&answer) else {
        panic!("a scrape");
    };
    let incomplete: Vec<_> = counts.iter().map(|it| it.incomplete).collect();
    assert_eq!(incomplete, [0, 1]);
    let answer = office.ask(&scrape(&[[1; 20]; 1_000]), HERE, NOW);
    assert_eq!(answer.len(), 8 + 12 * 74);
}

#[test]
fn a_refusal_is_said_to_who_has_proved_its_address() {
    let mut office = Office::new();
    let id = office.connection(HERE);
    for torrent in 1..=3 {
        let one = udp::Announce {
            info_hash: InfoHash([torrent; 20]),
            ..someone()
        };
        let answer = office.ask(&announce(id, one), HERE, NOW);
        let refused = matches!(Reply::decode(&answer), Ok(Reply::Refused { reason, .. }) if udp::reason(reason).contains("full"));
        assert_eq!(refused, torrent == 3);
    }
    let no_port = udp::Announce {
        port: 0,
        ..someone()
    };
    let answer = office.ask(&announce(id, no_port), HERE, NOW);
    assert!(matches!(
        Reply::decode(&answer),
        Ok(Reply::Refused {
            transaction: 42,
            ..
        })
    ));
    assert_eq!(office.counted(Counted::UdpRefused), 2);
}

proptest! {
    #[test]
    fn noise_is_no_panic_and_no_long_answer(bytes in proptest::collection::vec(any::<u8>(), 0..300), good in any::<bool>(), action in 0u8..4) {
        let mut office = Office::new();
        let id = office.connection(HERE);
        let mut datagram = bytes;
        if good && datagram.len() >= 16 {
            datagram[..8].copy_from_slice(&id.to_be_bytes());
            datagram[8..12].copy_from_slice(&[0, 0, 0, action]);
        }
        let answer = office.ask(&datagram, HERE, NOW);
        prop_assert!(answer.len() <= 1_400);
        prop_assert!(good || answer.len() <= datagram.len());
    }
}
