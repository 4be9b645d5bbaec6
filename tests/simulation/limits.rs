//! The promises: how near a swarm comes to the fluid limit, who gains by not giving, what is lost
//! when somebody leaves. In virtual time, from seeds. The large ones are for release builds:
//! `cargo test --release --test simulation -- --ignored`.

use crate::fluid::Plan;
use crate::network::{Has, Member, Network};
use crate::timeline::Timeline;
use ropewalk::protocol::Geometry;
use std::time::Duration;

/// Runs `plan` with so many seeds of the dice and says each ratio to the limit.
fn ratios(plan: &Plan, runs: u64) -> Vec<f64> {
    Plan::print_head();
    let outcomes = (1..=runs).map(|seed| {
        Plan {
            seed,
            ..plan.clone()
        }
        .print()
    });
    outcomes.map(|it| it.ratio()).collect()
}

/// The worst of three.
fn worst(plan: &Plan) -> f64 {
    ratios(plan, 3).into_iter().fold(0.0, f64::max)
}

fn plan(leechers: usize) -> Plan {
    Plan {
        leechers,
        ..Plan::default()
    }
}

#[test]
fn eight_leechers_are_done_within_a_tenth_of_the_limit() {
    let (outcome, _) = plan(8).run();
    assert!(outcome.ratio() <= 1.10, "{outcome:?}");
    assert!(outcome.copies < 1.08 && outcome.waste < 0.01, "{outcome:?}");
}

#[test]
#[ignore = "large: for a release build"]
fn twenty_four_leechers_are_done_within_fifteen_hundredths_of_the_limit() {
    let ratio = worst(&plan(24));
    assert!(ratio <= 1.15, "{ratio}");
}

#[test]
#[ignore = "large: for a release build"]
fn a_hundred_leechers_are_done_within_a_tenth_of_the_limit() {
    Plan::print_head();
    let hundred = Plan {
        pieces: 1024,
        ..plan(100)
    };
    let ratio = hundred.print().ratio();
    assert!(ratio <= 1.10, "{ratio}");
}

#[test]
#[ignore = "half an hour: for a release build"]
fn a_thousand_leechers_are_done_within_fifteen_hundredths_of_the_limit() {
    Plan::print_head();
    let thousand = Plan {
        pieces: 1024,
        ..plan(1000)
    };
    let outcome = thousand.print();
    assert_eq!(outcome.done.len(), 1000);
    assert!(outcome.ratio() <= 1.15, "{}", outcome.ratio());
}

#[test]
#[ignore = "large: for a release build"]
fn a_slow_seed_and_a_fast_one_are_used_to_their_limits() {
    let slow = Plan {
        seed_uplink: 1_000_000,
        pieces: 128,
        ..plan(8)
    };
    let fast = Plan {
        seed_uplink: 20_000_000,
        uplink: 1_000_000,
        ..plan(8)
    };
    let slow = worst(&slow);
    assert!(slow <= 1.10, "{slow}");
    // How late the last one is depends on the dice here, more than elsewhere.
    let ratios = ratios(&fast, 12);
    let mean = ratios.iter().sum::<f64>() / 12.0;
    assert!(mean <= 1.08, "{mean}: {ratios:?}");
    assert!(ratios.iter().all(|ratio| *ratio <= 1.15), "{ratios:?}");
}

#[test]
#[ignore = "large: for a release build"]
fn ten_who_never_upload_hold_half_of_the_book_at_most_when_twenty_contributors_are_done() {
    Plan::print_head();
    let riders = Plan {
        leechers: 30,
        riders: 10,
        pieces: 512,
        ..Plan::default()
    };
    let outcome = riders.print();
    let held = outcome.riders.iter().sum::<f64>() / outcome.riders.len() as f64;
    assert!(held <= 0.5, "{held}");
    assert!(outcome.ratio() <= 1.25, "{}", outcome.ratio());
}

#[test]
#[ignore = "large: for a release build"]
fn a_third_that_vanishes_and_newcomers_that_come_late_keep_nobody_from_the_end() {
    for run in 1..=3 {
        let mut network = Network::new(Geometry::new(64 << 20, 256 << 10).unwrap(), run);
        network.check_every = u64::MAX;
        let line = Member {
            uplink: 2_000_000,
            ..Member::default()
        };
        network.join(Member {
            has: Has::All,
            ..line.clone()
        });
        for n in 1..=30usize {
            network.join(line.clone());
            let at = Duration::from_millis(if n > 24 {
                3_000 * (n as u64 - 24)
            } else {
                10 * n as u64
            });
            network.introduce_at(at, n, (0..n).collect());
            if n % 3 == 0 {
                network.vanish_at(Duration::from_millis(1_000 * n as u64), n);
            }
        }
        let done = network.run_until(Duration::from_secs(200), Network::all_complete);
        assert!(done, "run {run}: {:?}", network.completions());
    }
}

#[test]
#[ignore = "large: for a release build"]
fn a_slow_seed_sends_each_piece_to_the_end_before_it_turns_to_others() {
    for (pieces, bound) in [(16, 1.3), (64, 1.12)] {
        let ratio = worst(&Plan {
            seed_uplink: 20_000,
            pieces,
            ..plan(24)
        });
        assert!(ratio <= bound, "{pieces} pieces: {ratio}");
    }
}

#[test]
fn small_books_are_spread_by_all_and_not_by_the_first_alone() {
    for (pieces, bound) in [(16, 2.1), (32, 1.55), (64, 1.22)] {
        let ratio = worst(&Plan { pieces, ..plan(8) });
        assert!(ratio <= bound, "{pieces} pieces: {ratio}");
    }
}

#[test]
#[ignore = "large: for a release build"]
fn a_fast_seed_beside_slow_peers_has_work_as_long_as_anything_is_missing() {
    let slow = |leechers, pieces, uplink| Plan {
        pieces,
        uplink,
        ..plan(leechers)
    };
    // The smaller the book, the more the blocks weigh that each slow line has begun to send.
    let bounds = [
        (slow(8, 32, 20_000), 2.5),
        (slow(8, 64, 20_000), 1.55),
        (slow(8, 32, 100_000), 1.3),
        (slow(24, 64, 20_000), 1.4),
        (slow(24, 256, 200_000), 1.07),
    ];
    for (plan, bound) in bounds {
        let ratio = worst(&plan);
        assert!(ratio <= bound, "{plan:?}: {ratio}");
    }
}

#[test]
fn with_one_to_three_connections_each_everybody_finishes() {
    for (connections, seed) in (1..=3).flat_map(|it| [(it, 1), (it, 2), (it, 3)]) {
        let few = Plan {
            connections,
            seed,
            pieces: 32,
            ..plan(40)
        };
        let (outcome, network) = few.run();
        assert!(
            outcome.last().is_finite(),
            "{connections} {seed}: {outcome:?} {:?}",
            network.farewells
        );
    }
}

#[test]
#[ignore = "large: for a release build"]
fn forty_leechers_with_ten_connections_each_make_one_table() {
    let few = Plan {
        connections: 10,
        ..plan(40)
    };
    let ratio = worst(&few);
    assert!(ratio <= 1.45, "{ratio}");
}

/// 32 MiB.
const BOOK: u64 = 32 << 20;

#[test]
fn a_piece_that_one_slow_peer_holds_alone_is_waited_for_and_little_is_fetched_twice() {
    let mut network = Network::new(Geometry::new(BOOK, 256 << 10).unwrap(), 7);
    network.check_every = 1_000;
    let all_but_one = (0..127).collect();
    let fast = Member {
        uplink: 2_000_000,
        ..Member::default()
    };
    network.join(Member {
        has: Has::Pieces(all_but_one),
        ..fast.clone()
    });
    network.join(Member {
        has: Has::Pieces(vec![127]),
        uplink: 50_000,
        ..Member::default()
    });
    for _ in 0..6 {
        network.join(fast.clone());
    }
    network.introduce_all();
    assert!(network.run_until(Duration::from_secs(300), Network::all_complete));
    let wasted: u64 = (0..8)
        .map(|it| network.swarm(it).standing(network.now()).wasted)
        .sum();
    assert!(wasted * 100 < 7 * BOOK, "{wasted} bytes wasted");
    let last = network.completions().into_iter().flatten().max();
    assert!(
        last.is_some_and(|last| last < Duration::from_secs(60)),
        "{last:?}"
    );
}

#[test]
#[ignore = "an instrument: SWARM_LEECHERS=24 SWARM_RIDERS=8 SWARM_TIMELINE=swarm.json"]
fn a_swarm_of_your_own_is_run_and_its_history_written_down() {
    let plan = Plan::from_env();
    Plan::print_head();
    let Ok(path) = std::env::var("SWARM_TIMELINE") else {
        assert!(plan.print().last().is_finite());
        return;
    };
    let (outcome, network) = plan.run_with(Some(Timeline::default()));
    let timeline = network.timeline.unwrap();
    assert!(timeline.gifts().count() >= plan.pieces as usize * plan.leechers);
    println!(
        "last {:.1} s, {:.3} of the limit",
        outcome.last(),
        outcome.ratio()
    );
    std::fs::write(path, timeline.to_json()).unwrap();
}
