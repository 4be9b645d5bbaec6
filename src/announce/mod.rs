//! The hands that ask trackers.

pub mod http;
pub mod tiers;
