//! `--on-complete CMD`: a shell command that is run when a torrent is complete and on disk.
//!
//! What a torrent says about itself never becomes part of the command's text: it is handed over in
//! the environment, where a shell does not look for commands.

use super::complaint::{Complaint, Reason};
use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::thread::JoinHandle;

/// What a command is told about the torrent.
pub struct HookFacts {
    /// ROPEWALK_NAME.
    pub name: String,
    /// ROPEWALK_PATH: the file or folder.
    pub path: PathBuf,
    /// ROPEWALK_INFO_HASH: 40 hex digits.
    pub info_hash: String,
    /// ROPEWALK_SIZE: bytes.
    pub size: u64,
}

/// Starts `command` and waits for it on a thread of its own, whose result is how it ended.
pub fn start(
    command: &OsStr,
    facts: HookFacts,
    name: String,
) -> std::io::Result<JoinHandle<Result<(), Complaint>>> {
    let command: OsString = command.into();
    let thread = std::thread::Builder::new().name("hook".into());
    thread.spawn(move || judge(&name, run(&command, &facts)))
}

fn run(command: &OsStr, facts: &HookFacts) -> std::io::Result<ExitStatus> {
    // Standard output belongs to our own results, JSON lines above all.
    let screen = std::io::stderr().as_fd().try_clone_to_owned()?;
    Command::new("sh")
        .arg("-c")
        .arg(command)
        .env("ROPEWALK_NAME", &facts.name)
        .env("ROPEWALK_PATH", &facts.path)
        .env("ROPEWALK_INFO_HASH", &facts.info_hash)
        .env("ROPEWALK_SIZE", facts.size.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::from(screen))
        .status()
}

pub(super) fn judge(name: &str, outcome: std::io::Result<ExitStatus>) -> Result<(), Complaint> {
    let why = match outcome {
        Ok(status) if status.success() => return Ok(()),
        Ok(status) => status.to_string(),
        Err(error) => super::complaint::plain(&error),
    };
    Err(Complaint::new(
        Reason::Hook,
        format!("{name}: the --on-complete command failed: {why}"),
        "the torrent itself is complete",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(command: &str) -> Option<Result<(), Complaint>> {
        let facts = HookFacts {
            name: "$(touch /nowhere/x)".into(),
            path: PathBuf::from("/nowhere/a b"),
            info_hash: "00".repeat(20),
            size: 7,
        };
        let hook = start(OsStr::new(command), facts, "x".into());
        hook.ok()?.join().ok()
    }

    #[test]
    fn the_facts_are_in_the_environment() {
        let test = "test \"$ROPEWALK_NAME\" = '$(touch /nowhere/x)' \
            && test \"$ROPEWALK_PATH\" = '/nowhere/a b' && test $ROPEWALK_SIZE = 7";
        assert_eq!(outcome(test), Some(Ok(())));
    }

    #[test]
    fn a_failing_command_is_told() {
        let complaint = outcome("exit 9").and_then(Result::err);
        assert!(complaint.is_some_and(|c| c.reason == Reason::Hook && c.sentence.contains('9')));
    }
}
