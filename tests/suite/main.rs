//! The built binary, seen from outside: what it prints, what it leaves on disk, what the shell sees.
//!
//! Every test runs `ropewalk` in a folder of its own, on loopback and port 0. Waiting is for an event
//! with a deadline: the binary's own JSON lines, or its end.

#![allow(clippy::unwrap_used)]

mod arguments;
mod create;
mod desk;
// Scripted trackers are as good for well-behaved ones; of those by UDP `peers` has its own.
#[allow(dead_code)]
#[path = "../hostile/fake_tracker.rs"]
mod fake_tracker;
mod lab;
mod limits;
mod only;
mod peers;
mod screen;
mod share;
mod sharing;
mod show;
mod tracker;
mod transfer;
mod verify;
