//! What clients ask trackers and what trackers answer (BEP 3, 7, 23).

pub mod compact;
pub mod http;
