//! ropewalk: BitTorrent without an async runtime. One blocking OS thread per peer connection feeds
//! one coordinator over channels; pieces are written straight into a memory-mapped file.
//!
//! This page is the map. The modules stand in reading order, from bytes to people:
//!
//! * [`protocol`], the ground floor: bytes ⇄ meaning. Bencode, .torrent files, peer messages,
//!   tracker answers. Nothing here reads a file, a socket or a clock.
//! * [`swarm`], the brain: takes an `Event` and the time, answers with `Action`s. Who has what, whom
//!   to ask, whom to serve. It has no hands, so a thousand of them run in a simulator.
//! * [`storage`], [`net`], [`announce`], the hands: each touches the world in one way. Storage lays
//!   blocks into files and keeps the record of work; net owns one socket per thread; announce asks
//!   trackers. [`tracker`] is the other end: a tracker server, with a pure registry of its own.
//! * [`client`], [`lab`], [`create`], [`verify`], the assemblies: start the threads and join hands to brains.
//!   [`share`] joins assemblies: a torrent is made, tracked and seeded at once.
//! * [`cli`], the roof: commands, progress, complaints. The only place that prints.
//!
//! `docs/architecture.md` says who may import whom and why; `tests/architecture.rs` holds it.

pub mod announce;
pub mod cli;
pub mod client;
pub mod create;
pub mod lab;
pub mod net;
pub mod protocol;
pub mod share;
pub mod storage;
pub mod swarm;
pub mod tracker;
pub mod verify;
