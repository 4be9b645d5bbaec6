//! What clients ask trackers and what trackers answer: over HTTP ([`http`], [`scrape`]; BEP 3, 7,
//! 23, 48) and in datagrams ([`udp`]; BEP 15, 41).

pub mod compact;
pub mod http;
pub mod scrape;
pub mod udp;
