//! Peers and trackers that lie, stall and babble, and folders full of traps, against the built binary.
//!
//! Every test has an honest peer beside the hostile one and ends with the right bytes on disk and
//! exit status 0: whatever strangers do, the download is not theirs to stop. The honest peer waits
//! behind a [`gate::Gate`] until the attack is over, so that no attack is outrun.
//!
//! * [`torrent`] makes torrents byte by byte, [`run`] starts the binary and hears its `--json`;
//! * [`fake_peer`] and [`fake_tracker`] are threads with a script on 127.0.0.1;
//! * the other files are the cases: what is said on the wire, what blocks hold, who calls, what a
//!   tracker answers, what lies in the folder already.
//!
//! With `HOSTILE_TALK=1` in the environment a run that ended well prints what it had said.
//!
//! The scripts speak bytes of their own making, not the codecs of the library they test.
#![allow(clippy::unwrap_used)]

mod fake_peer;
mod fake_tracker;
mod gate;
mod run;
mod torrent;

mod bad_announcers;
mod bad_blocks;
mod bad_calls;
#[cfg(feature = "tls")]
mod bad_certificates;
mod bad_datagrams;
mod bad_folders;
mod bad_greetings;
mod bad_messages;
mod bad_names;
mod bad_requests;
mod bad_trackers;
mod sizes;
