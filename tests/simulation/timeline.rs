//! Who gave which piece to whom, and when: the history of a simulated swarm.
//!
//! ```text
//! network.timeline = Some(Timeline::default());
//! ... run ...
//! std::fs::write("swarm.json", network.timeline.unwrap().to_json())?;
//! ```

use ropewalk::protocol::Block;
use std::collections::BTreeMap;
use std::time::Duration;

/// Blocks of one piece that one member gave to another, as one line of the history.
#[derive(Debug, Clone, Copy)]
pub struct Gift {
    /// When the first of them arrived.
    pub begun: Duration,
    /// When the last of them arrived.
    pub ended: Duration,
    /// How many.
    pub blocks: u32,
}

/// The history of a swarm, block by block, kept as one line for each giver, taker and piece.
#[derive(Debug, Default)]
pub struct Timeline {
    gifts: BTreeMap<(usize, usize, u32), Gift>,
}

impl Timeline {
    /// A block arrived.
    pub fn arrived(&mut self, from: usize, to: usize, block: Block, now: Duration) {
        let new = Gift {
            begun: now,
            ended: now,
            blocks: 0,
        };
        let gift = self.gifts.entry((from, to, block.piece().get()));
        let gift = gift.or_insert(new);
        gift.ended = now;
        gift.blocks += 1;
    }

    /// (giver, taker, piece) and when.
    pub fn gifts(&self) -> impl Iterator<Item = (usize, usize, u32, Gift)> {
        self.gifts
            .iter()
            .map(|((from, to, piece), gift)| (*from, *to, *piece, *gift))
    }

    /// A JSON array with one object a line, in the order in which the gifts ended.
    pub fn to_json(&self) -> String {
        let mut all: Vec<_> = self.gifts().collect();
        all.sort_by_key(|(from, to, piece, gift)| (gift.ended, *from, *to, *piece));
        let lines = all.iter().map(|(from, to, piece, gift)| {
            serde_json::json!({
                "from": from, "to": to, "piece": piece, "blocks": gift.blocks,
                "begun": gift.begun.as_secs_f64(), "ended": gift.ended.as_secs_f64(),
            })
            .to_string()
        });
        format!("[\n{}\n]\n", lines.collect::<Vec<_>>().join(",\n"))
    }
}
