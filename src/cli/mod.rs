//! The roof: commands, progress, complaints. The only floor that prints.
//!
//! ```text
//! words --arguments--> Invocation --get, seed, share, create, show, verify, peers, tracker, lab--> ExitStatus
//! ```
//!
//! [`arguments`] (with [`words`] and [`values`]) says what the user wants; each command has its file
//! ([`session`] is what `get`, `seed` and `share` tell);
//! [`complaint`] is where errors become sentences, [`status`] what the shell sees. [`output`] is the
//! only file that writes to standard output or standard error, [`stream`] how long a reader is waited for,
//! [`terminal`] where a bar is drawn ([`progress`]), [`shown`] what makes text from strangers safe to show,
//! [`events`] what `--json` writes.

pub mod arguments;
pub mod complaint;
pub mod create;
pub mod events;
pub mod figures;
pub mod hook;
pub mod lab;
pub mod output;
pub mod peers;
pub mod progress;
pub mod session;
pub mod share;
pub mod show;
pub mod shown;
pub mod signals;
pub mod status;
pub mod stream;
pub mod terminal;
pub mod torrent;
pub mod tracker;
pub mod transfer;
pub mod values;
pub mod verify;
pub mod words;

use crate::client::Role;
use arguments::Invocation;
use complaint::Complaint;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use status::ExitStatus;
use std::process::ExitCode;

/// Runs the command that the arguments name; what it returns is what the shell sees.
pub fn main() -> ExitCode {
    let words = std::env::args_os().skip(1).collect::<Vec<_>>();
    run(&words).into()
}

fn run(words: &[std::ffi::OsString]) -> ExitStatus {
    let command = match arguments::parse(words) {
        Ok(command) => command,
        Err(complaint) => return fail(&complaint),
    };
    prepare_process();
    let outcome = match command {
        Invocation::Print(text) => output::line(text.trim_end()).map(|()| ExitStatus::Done),
        Invocation::Get(options) => return transfer::run(Role::Get, options),
        Invocation::Seed(options) => return transfer::run(Role::Seed, options),
        Invocation::Show { json, torrent } => show::run(json, &torrent),
        Invocation::Peers { json, torrent } => peers::run(json, &torrent),
        Invocation::Verify {
            json,
            quiet,
            torrent,
            folder,
        } => verify::run(json, quiet, &torrent, &folder),
        Invocation::Share(options) => return share::run(&options),
        Invocation::Create(options) => create::run(&options),
        Invocation::Tracker(options) => tracker::run(&options),
        Invocation::Lab(options) => lab::run(&options),
    };
    outcome.unwrap_or_else(|complaint| fail(&complaint))
}

fn fail(complaint: &Complaint) -> ExitStatus {
    complaint.say();
    complaint.status
}

/// Each peer and each file is a descriptor, and the soft limit is made for programs that use
/// `select`: take what the hard limit gives.
fn prepare_process() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let _ = setrlimit(
            Resource::Nofile,
            Rlimit {
                current: limit.maximum,
                ..limit
            },
        );
    }
    signals::survive_file_size_limit();
}
