//! What the whole client may use, divided among its torrents. Bytes a second are divided in [`bucket`].
//!
//! ```
//! use ropewalk::swarm::allowance::{Allowance, Need};
//! let all = Allowance { peers: 50, upload_slots: 8, up_limited: false, down_rate: None };
//! let shares = all.divide(&[Need::Busy, Need::Idle]);
//! assert_eq!(shares.iter().map(|share| share.peers).sum::<usize>(), 50);
//! assert!(shares[0].peers > shares[1].peers);
//! ```

pub mod bucket;

/// Limits over all torrents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// Connections.
    pub peers: usize,
    /// Peers served at a time.
    pub upload_slots: usize,
    /// Whether there is a limit for bytes sent.
    pub up_limited: bool,
    /// Bytes a second that may be fetched; `None`: no limit.
    pub down_rate: Option<u64>,
}

/// How much a torrent can make of a share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// It downloads.
    Busy,
    /// It only shares.
    Idle,
    /// It has not begun or has ended.
    Nothing,
}

impl Need {
    fn weight(self) -> usize {
        match self {
            Need::Busy => 3,
            Need::Idle => 1,
            Need::Nothing => 0,
        }
    }
}

impl Allowance {
    /// Each torrent's share, in the order given. Nothing is lost in rounding, nobody who needs
    /// anything is left without a connection or a slot.
    pub fn divide(&self, needs: &[Need]) -> Vec<Allowance> {
        let peers = divide(self.peers, needs);
        let slots = divide(self.upload_slots, needs);
        let busy = needs.iter().filter(|need| **need == Need::Busy).count() as u64;
        let down_rate = self.down_rate.map(|rate| (rate / busy.max(1)).max(1));
        peers
            .into_iter()
            .zip(slots)
            .map(|(peers, upload_slots)| Allowance {
                peers,
                upload_slots,
                up_limited: self.up_limited,
                down_rate,
            })
            .collect()
    }
}

fn divide(total: usize, needs: &[Need]) -> Vec<usize> {
    let mut weight_left: usize = needs.iter().map(|need| need.weight()).sum();
    let mut left = total;
    needs
        .iter()
        .map(|need| {
            if need.weight() == 0 {
                return 0;
            }
            let share = left * need.weight() / weight_left;
            weight_left -= need.weight();
            left -= share;
            share.max(1)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn nothing_is_lost_and_nobody_is_left_out(total in 0usize..500, kinds in proptest::collection::vec(0u8..3, 0..40)) {
            let needs: Vec<_> = kinds.iter().map(|kind| match kind { 0 => Need::Busy, 1 => Need::Idle, _ => Need::Nothing }).collect();
            let shares = divide(total, &needs);
            let alive = needs.iter().filter(|need| **need != Need::Nothing).count();
            let sum: usize = shares.iter().sum();
            for (share, need) in shares.iter().zip(&needs) {
                prop_assert_eq!(*share == 0, *need == Need::Nothing);
            }
            if alive > 0 {
                // Only where everybody needs one and there are not enough is more given than there is.
                prop_assert!(sum >= total && sum <= total + alive);
                if total >= 3 * alive { prop_assert_eq!(sum, total); }
            }
        }
    }
}
