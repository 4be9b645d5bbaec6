//! ropewalk among other people's programs: torrents made and seeded by them are fetched, and what we
//! seed is fetched by them, byte for byte. Each test builds its own room of network namespaces, so
//! nothing leaves the machine.
//!
//! ```text
//! apt-get install aria2 transmission-daemon opentracker mktorrent python3-libtorrent iproute2 strace nftables chromium
//! cargo test --test interop -- --ignored --test-threads=2     # as root
//! ```

#![allow(clippy::unwrap_used)]

mod create;
mod deaf;
mod disk;
mod faults;
mod lab_report;
mod lane;
mod lost_trackers;
mod our_tracker;
mod programs;
mod resume;
mod room;
mod selection;
mod share;
mod torrents;
mod transfers;
mod weather;
