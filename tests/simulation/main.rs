//! Whole swarms of real brains in virtual time, from a seed: nothing here has a socket, a thread or
//! a clock, and a failing run repeats exactly.

#![allow(clippy::unwrap_used)]

mod fluid;
mod hands;
mod limits;
mod member;
mod network;
mod timeline;

use network::{Character, Has, Member, Network};
use ropewalk::protocol::{Digest, Geometry};
use ropewalk::swarm::Limits;
use std::time::Duration;

fn geometry(pieces: u64, blocks: u32) -> Geometry {
    // The last piece is short, and so is its last block.
    let length = blocks * 16 * 1024;
    Geometry::new(pieces * u64::from(length) - 20_000, length).unwrap()
}

fn seconds(s: u64) -> Duration {
    Duration::from_secs(s)
}

fn seed() -> Member {
    Member {
        has: Has::All,
        uplink: 2_500_000,
        ..Member::default()
    }
}

fn crowd(seed_of_run: u64) -> Digest {
    let mut network = Network::new(geometry(40, 4), seed_of_run);
    network.join(seed());
    for _ in 1..50 {
        network.join(Member::default());
    }
    network.introduce_all();
    let done = network.run_until(seconds(900), Network::all_complete);
    assert!(done, "at {:?}: {:?}", network.now(), network.completions());
    assert!(network.accused.is_empty());
    network.digest()
}

#[test]
fn fifty_brains_end_with_everything_and_the_same_seed_gives_the_same_run() {
    let first = crowd(1);
    assert_eq!(first, crowd(1));
    assert_ne!(first, crowd(2));
}

#[test]
fn a_crowd_that_has_everything_only_together_needs_no_seed() {
    for run in 0..4 {
        let mut network = Network::new(geometry(60, 3), run);
        for n in 0..12 {
            let pieces = (0..60).filter(|piece| piece % 12 == n).collect();
            network.join(Member {
                has: Has::Pieces(pieces),
                fast: n % 3 > 0,
                ..Member::default()
            });
        }
        network.introduce_all();
        assert!(network.run_until(seconds(600), Network::all_complete));
    }
}

#[test]
fn a_liar_is_found_out_by_those_it_lied_to_and_nobody_else_is_accused() {
    for run in 0..6 {
        let mut network = Network::new(geometry(30, 8), run);
        network.join(seed());
        let liar = network.join(Member {
            character: Character::Liar { one_in: 4 },
            ..seed()
        });
        for _ in 0..8 {
            network.join(Member::default());
        }
        network.introduce_all();
        let done = network.run_until(seconds(900), Network::all_complete);
        assert!(done, "{:?}", network.completions());
        assert!(!network.accused.is_empty());
        for (by, whom) in &network.accused {
            assert_eq!(*whom, liar, "run {run}: {by} accuses {whom}");
        }
    }
}

#[test]
fn a_piece_everybody_lies_about_is_given_up_and_the_others_arrive() {
    let mut network = Network::new(geometry(20, 4), 5);
    for _ in 0..7 {
        network.join(Member {
            character: Character::LiesAbout { piece: 3 },
            downloads: false,
            ..seed()
        });
    }
    let leecher = network.join(Member::default());
    network.introduce_all();
    let failed = |network: &Network| !network.swarm(leecher).failed_pieces().is_empty();
    assert!(network.run_until(seconds(600), failed));
    let rest = |network: &Network| network.swarm(leecher).have().count() == 19;
    assert!(network.run_until(seconds(600), rest));
    assert!(!network.swarm(leecher).is_complete());
}

#[test]
fn peers_that_vanish_half_way_take_nothing_with_them() {
    for run in 0..6 {
        let mut network = Network::new(geometry(40, 6), run);
        network.join(Member {
            uplink: 1_000_000,
            ..seed()
        });
        for n in 1..16 {
            network.join(Member {
                fast: n % 2 == 0,
                ..Member::default()
            });
        }
        for n in 8..16 {
            network.vanish_at(Duration::from_millis(1_500 * n as u64), n);
        }
        network.introduce_all();
        let done = network.run_until(seconds(900), Network::all_complete);
        assert!(done, "run {run}: {:?}", network.completions());
    }
}

#[test]
fn one_upload_slot_that_changes_hands_serves_everybody_with_and_without_the_fast_extension() {
    for fast in [true, false] {
        let mut network = Network::new(geometry(60, 8), 9);
        let narrow = Limits {
            upload_slots: 1,
            ..Limits::default()
        };
        network.join(Member {
            limits: narrow,
            fast,
            ..seed()
        });
        for _ in 0..6 {
            network.join(Member {
                limits: narrow,
                fast,
                uplink: 200_000,
                ..Member::default()
            });
        }
        network.introduce_all();
        let done = network.run_until(seconds(1200), Network::all_complete);
        assert!(done, "fast {fast}: {:?}", network.completions());
    }
}

#[test]
fn a_peer_that_promises_everything_and_sends_nothing_costs_time_and_no_more() {
    let mut network = Network::new(geometry(30, 8), 4);
    network.join(seed());
    network.join(Member {
        character: Character::Silent { after: 0 },
        downloads: false,
        ..seed()
    });
    for _ in 0..4 {
        network.join(Member::default());
    }
    network.introduce_all();
    let done = network.run_until(seconds(300), Network::all_complete);
    assert!(done, "{:?}", network.completions());
    assert!(network.spares > 0, "the endgame is how it ends");
}

#[test]
fn one_seed_and_one_leecher_use_the_line_they_have() {
    let mut network = Network::new(geometry(64, 16), 3);
    network.join(seed());
    let leecher = network.join(Member::default());
    network.introduce_all();
    assert!(network.run_until(seconds(600), Network::all_complete));
    let took = network.completions()[leecher].unwrap().as_secs_f64();
    let line = (64.0 * 16.0 * 16384.0) / 2_500_000.0;
    assert!(took < line * 1.1 + 1.0, "{took} s, the line alone {line} s");
}

#[test]
fn nothing_is_fetched_twice_where_nobody_is_slow() {
    let mut network = Network::new(geometry(50, 8), 8);
    network.join(seed());
    for _ in 0..8 {
        network.join(Member::default());
    }
    network.introduce_all();
    assert!(network.run_until(seconds(600), Network::all_complete));
    let needed = 8 * (50 * 8 - 1);
    let twice = network.delivered - needed;
    assert!(twice * 50 < needed, "{twice} of {needed} came twice");
}

/// Everything that can go wrong at once, from a seed.
fn chaos(run: u64) {
    let mut rng = fastrand::Rng::with_seed(run);
    let mut network = Network::new(geometry(rng.u64(2..40), rng.u32(1..9)), run);
    network.join(Member {
        uplink: rng.u64(200_000..5_000_000),
        fast: rng.bool(),
        ..seed()
    });
    let mut liars = Vec::new();
    for _ in 0..rng.usize(1..14) {
        let character = match rng.u32(0..10) {
            0 => Character::Liar {
                one_in: rng.u32(1..20),
            },
            1 => Character::Silent {
                after: rng.u32(0..4) * 3,
            },
            _ => Character::Honest,
        };
        let pretends = character != Character::Honest && rng.bool();
        let member = network.join(Member {
            has: if pretends { Has::All } else { Has::Nothing },
            uplink: rng.u64(20_000..3_000_000),
            delay: Duration::from_millis(rng.u64(0..200)),
            fast: rng.u32(0..4) > 0,
            downloads: !pretends,
            limits: Limits {
                upload_slots: rng.usize(1..6),
                peers: rng.usize(4..30),
                ..Limits::default()
            },
            character,
        });
        if matches!(character, Character::Liar { .. }) {
            liars.push(member);
        } else if rng.u32(0..5) == 0 {
            network.vanish_at(Duration::from_millis(rng.u64(0..40_000)), member);
        }
    }
    network.introduce_all();
    let done = network.run_until(seconds(6_000), Network::all_complete);
    assert!(done, "run {run}: {:?}", network.completions());
    for (by, whom) in &network.accused {
        assert!(liars.contains(whom), "run {run}: {by} accuses {whom}");
    }
}

#[test]
fn whatever_goes_wrong_the_honest_end_with_everything() {
    (0..60).for_each(chaos);
}

#[test]
#[ignore = "hundreds of runs: for a release build; CHAOS_RUNS=1000"]
fn whatever_goes_wrong_in_hundreds_of_runs_the_honest_end_with_everything() {
    let runs = std::env::var("CHAOS_RUNS").map_or(600, |it| it.parse().unwrap());
    (60..runs).for_each(chaos);
}
