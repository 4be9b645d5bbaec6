//! What a block costs the brain, as pieces and peers grow: the cost must stay where it is.
//!
//! ```text
//! cargo bench --bench growth            # the tables of docs/benchmarks.md
//! cargo bench --bench growth -- --test  # once, small: only to see that it runs
//! ```
//!
//! Each row is a download of real decisions: peers with half of the pieces each, at random, who answer
//! every request in turn. "Begin" is the time from nothing; "end" are the last 100 pieces with the
//! endgame, when all the others are had.

#[path = "crowd.rs"]
mod crowd;

use crowd::{Crowd, Plan};
use std::time::{Duration, Instant};

/// Blocks of one measured stretch.
const BLOCKS: u32 = 16_000;

struct Cost {
    /// Nanoseconds a block.
    block: f64,
    /// A peer's arrival with its bitfield.
    arrival: Duration,
    /// Haves to tell, for each block.
    told: f64,
}

fn once(plan: Plan) -> Cost {
    let mut crowd = Crowd::gather(plan);
    let arrival = crowd.gathering / plan.peers as u32;
    let said = crowd.said;
    let began = Instant::now();
    crowd.unchoke();
    let blocks = crowd.run(BLOCKS);
    let took = began.elapsed();
    assert!(blocks > 0, "nothing was asked for: {plan:?}");
    Cost {
        block: took.as_nanos() as f64 / f64::from(blocks),
        arrival,
        told: (crowd.said - said) as f64 / f64::from(blocks),
    }
}

/// The best of some runs: what the others took longer was somebody else's.
fn cost(plan: Plan, test: bool) -> Cost {
    let runs = match plan.pieces {
        _ if test => 1,
        ..=100_000 => 7,
        _ => 3,
    };
    let mut costs: Vec<Cost> = (0..runs).map(|_| once(plan)).collect();
    costs.sort_by(|one, two| one.block.total_cmp(&two.block));
    costs.swap_remove(0)
}

fn row(name: &str, plan: Plan, test: bool) {
    let begin = cost(plan, test);
    let end = cost(
        Plan {
            missing: 100,
            // So slow that requests grow old enough to be repeated.
            step: Duration::from_micros(200),
            ..plan
        },
        test,
    );
    println!(
        "| {name} | {:.0} ns | {:.0} ns | {:.1} | {:.2} ms |",
        begin.block,
        end.block,
        begin.told,
        begin.arrival.as_secs_f64() * 1e3,
    );
}

fn head(what: &str) {
    println!(
        "| {what} | a block, from the beginning | a block, the last 100 pieces | messages told a block | a peer's arrival |"
    );
    println!("|---|---|---|---|---|");
}

fn main() {
    let test = std::env::args().any(|argument| argument == "--test");
    head("pieces, 50 peers");
    let sizes = if test {
        &[1_000][..]
    } else {
        &[1_000, 10_000, 100_000, 1_000_000]
    };
    for pieces in sizes {
        let plan = Plan {
            pieces: *pieces,
            ..Plan::default()
        };
        row(&pieces.to_string(), plan, test);
    }
    println!();
    head("peers, 1,000 pieces");
    for peers in if test { &[10][..] } else { &[10, 100, 1_000] } {
        let plan = Plan {
            peers: *peers,
            ..Plan::default()
        };
        row(&peers.to_string(), plan, test);
    }
}
