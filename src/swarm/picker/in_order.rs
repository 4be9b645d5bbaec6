//! Pieces in their order (`--sequential`), so that a player can play a file while it grows. What it
//! costs: everybody in a swarm who fetches like this has the same pieces, and little to trade.

use super::{Asker, HELP_PROBES_MAX, Picker};
use crate::protocol::PieceIndex;
use crate::swarm::event::Moment;

impl Picker {
    /// From now on pieces are begun in their order: for whoever plays the file while it grows.
    pub fn pick_in_order(&mut self) {
        self.sequential = true;
    }

    /// The first piece with a free block that the asker has. All help with the first piece before anyone
    /// begins the next, so what is fetched ahead is what the pipelines hold.
    pub(super) fn choose_in_order(
        &mut self,
        asker: &mut Asker<'_>,
        now: Moment,
        rng: &mut fastrand::Rng,
    ) -> Option<PieceIndex> {
        let mut begun = self.unfinished.iter().copied().take(HELP_PROBES_MAX);
        let begun = begun.find(|piece| self.may_take(*piece, asker, now));
        let open = self.available.first(asker.holds);
        match (begun, open) {
            (Some(begun), Some(open)) if begun < open => Some(begun),
            (Some(begun), None) => Some(begun),
            (_, Some(open)) => {
                self.begin(open);
                Some(open)
            }
            // Its pieces may all lie far ahead: better those than none.
            (None, None) => {
                let far = self.available.rarest(asker.holds, rng);
                if let Some(piece) = far {
                    self.begin(piece);
                }
                far.or_else(|| self.helpable(asker, now, rng))
            }
        }
    }
}
