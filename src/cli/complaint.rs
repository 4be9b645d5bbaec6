//! Everything that can go wrong, as a person reads it: one sentence that says what could not be
//! done and why, and a hint that says what to try. The only place where errors become words.
//!
//! ```text
//! ropewalk: cannot read ubuntu.torrent: byte 17: a string of 400 bytes runs past the end
//!   hint: it is not a .torrent file, or it was cut short on its way
//! ```

mod ending;

use super::output;
use super::shown::{shown, shown_path};
use super::status::ExitStatus;
use crate::client::{Role, StartError};
use crate::create::CreateError;
use crate::share::OpenError;
use crate::storage::slot::{StorageError, StorageTrouble};
use std::fmt::{Display, Write};
use std::io::ErrorKind;
use std::path::Path;

/// The kinds of failure, as `reason` in JSON output tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The command line makes no sense.
    Usage,
    /// Something is not supported (yet).
    Unsupported,
    /// A file named on the command line cannot be read or written.
    File,
    /// What was read is no torrent.
    Metainfo,
    /// An address of a .torrent file gave none, or a host name has no address.
    Network,
    /// The listening port is not to be had.
    Port,
    /// The system gave too little: threads, open files.
    Resources,
    /// No space, no quota, or a size limit.
    StorageFull,
    /// Something that is not ours is where the data should go.
    InTheWay,
    /// Another instance of this program is at work on the same data.
    Busy,
    /// The disk failed in another way.
    Storage,
    /// Nothing arrived for the time given with `--timeout`, or the .torrent not within it.
    Timeout,
    /// There is nobody to ask.
    NoPeers,
    /// Data does not match the torrent.
    Data,
    /// No file fits what was asked for.
    NoMatch,
    /// Stopped from outside before everything was done.
    Interrupted,
    /// The `--on-complete` command failed.
    Hook,
    /// Standard output takes no more.
    Output,
}

impl Reason {
    /// The word in JSON output.
    pub fn word(self) -> &'static str {
        match self {
            Reason::Usage => "usage",
            Reason::Unsupported => "unsupported",
            Reason::File => "file",
            Reason::Metainfo => "metainfo",
            Reason::Network => "network",
            Reason::Port => "port",
            Reason::Resources => "resources",
            Reason::StorageFull => "storage-full",
            Reason::InTheWay => "in-the-way",
            Reason::Busy => "busy",
            Reason::Storage => "storage",
            Reason::Timeout => "timeout",
            Reason::NoPeers => "no-peers",
            Reason::Data => "data",
            Reason::NoMatch => "no-match",
            Reason::Interrupted => "interrupted",
            Reason::Hook => "hook",
            Reason::Output => "output",
        }
    }
}

/// What to try where files change while they are shared.
const SEED_AGAIN: &str =
    "another program changed it; run the same command again when nobody writes to it any more";

/// Why a command could not do what it was asked to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// What could not be done and why, one line, safe to show. Empty: there is nobody to tell.
    pub sentence: String,
    /// What to try, one line; empty where nobody knows.
    pub hint: String,
    /// The kind.
    pub reason: Reason,
    /// What the shell shall see.
    pub status: ExitStatus,
}

impl Complaint {
    /// A failure with exit status 2. `sentence` must be safe to show.
    pub fn new(reason: Reason, sentence: impl Into<String>, hint: impl Into<String>) -> Complaint {
        Complaint {
            sentence: sentence.into(),
            hint: hint.into(),
            reason,
            status: ExitStatus::Failed,
        }
    }

    /// The command line makes no sense: exit status 1.
    pub fn usage(sentence: impl Into<String>, hint: impl Into<String>) -> Complaint {
        Complaint {
            status: ExitStatus::Usage,
            ..Complaint::new(Reason::Usage, sentence, hint)
        }
    }

    /// Something that will come one day, or never.
    pub fn unsupported(sentence: impl Into<String>, hint: impl Into<String>) -> Complaint {
        Complaint::new(Reason::Unsupported, sentence, hint)
    }

    /// No file fits `--only`.
    pub fn unwanted(sentence: impl Into<String>) -> Complaint {
        let hint = "`ropewalk show TORRENT` lists the files; quote a pattern, so that the shell leaves it alone";
        Complaint::new(Reason::NoMatch, sentence, hint)
    }

    /// Nobody reads what we write: end without a word.
    pub fn silent() -> Complaint {
        Complaint::new(Reason::Output, "", "")
    }

    /// Standard output takes no more.
    pub fn output(error: &std::io::Error) -> Complaint {
        Complaint::new(
            Reason::Output,
            format!("cannot write to standard output: {}", plain(error)),
            "",
        )
    }

    /// Whoever should read standard output has stopped reading, and we end. `signal` is the number of the signal
    /// that asked for the end, if one did.
    pub fn unread(signal: Option<u8>) -> Complaint {
        Complaint {
            status: signal.map_or(ExitStatus::Failed, ExitStatus::Signal),
            ..Complaint::new(
                Reason::Output,
                "nobody reads standard output: the end of it is lost",
                "whatever stands behind the | has stopped reading and has not ended",
            )
        }
    }

    /// A file named on the command line could not be read.
    pub fn reading(path: &Path, error: &std::io::Error) -> Complaint {
        let hint = match error.kind() {
            ErrorKind::NotFound => "check the spelling; names are looked up from where you are",
            ErrorKind::PermissionDenied => "you are not allowed to read it",
            _ => "",
        };
        Complaint::new(
            Reason::File,
            format!("cannot read {}: {}", shown_path(path), plain(error)),
            hint,
        )
    }

    /// A file named on the command line could not be written.
    pub fn writing(path: &Path, error: &std::io::Error) -> Complaint {
        let hint = match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                "make room, or choose another place"
            }
            ErrorKind::BrokenPipe => "whoever read it has left",
            _ => "check that its folder exists and that you may write there",
        };
        Complaint::new(
            Reason::File,
            format!("cannot write {}: {}", shown_path(path), plain(error)),
            hint,
        )
    }

    /// A signal came before a file named on the command line was written: nobody reads it, perhaps.
    pub fn unsaved(path: &Path, signal: u8) -> Complaint {
        Complaint {
            status: ExitStatus::Signal(signal),
            ..Complaint::new(
                Reason::Interrupted,
                format!("stopped before {} was written", shown_path(path)),
                "",
            )
        }
    }

    /// The folder to download into cannot be had.
    pub fn output_folder(path: &Path, error: &std::io::Error) -> Complaint {
        let hint = match error.kind() {
            ErrorKind::AlreadyExists | ErrorKind::NotADirectory => {
                "--output takes a folder and a file is in the way; the torrent names its files itself"
            }
            _ => "choose another folder, or change who may write there",
        };
        Complaint {
            hint: hint.to_owned(),
            ..Complaint::writing(path, error)
        }
    }

    /// What was read from `source` (safe to show) is no torrent.
    pub fn metainfo(source: &str, error: &dyn Display) -> Complaint {
        Complaint::new(
            Reason::Metainfo,
            format!("cannot read {source}: {}", shown(&error.to_string())),
            "it is not a .torrent file, or it was damaged on its way",
        )
    }

    /// A disk made trouble while this was done.
    pub fn storage(error: &StorageError, role: Role) -> Complaint {
        let (reason, hint) = match error.kind {
            StorageTrouble::Full => (
                Reason::StorageFull,
                "make room and run the same command again: what is there is kept",
            ),
            StorageTrouble::TooLarge => (
                Reason::StorageFull,
                "the file system or a limit (see `ulimit -f`) does not allow files of this size",
            ),
            StorageTrouble::Denied => (
                Reason::Storage,
                "choose another folder, or change who may read and write there",
            ),
            StorageTrouble::InTheWay if role == Role::Seed => (Reason::InTheWay, SEED_AGAIN),
            StorageTrouble::InTheWay => (
                Reason::InTheWay,
                "choose another folder, or move it away; a file, but no folder and no link, is replaced by get --overwrite",
            ),
            StorageTrouble::Busy => (
                Reason::Busy,
                "wait for it or stop it; two programs must not write the same files",
            ),
            StorageTrouble::Vanished if role == Role::Seed => (Reason::Storage, SEED_AGAIN),
            StorageTrouble::Vanished => (
                Reason::Storage,
                "another program changed it; run the same command again to fetch what is missing",
            ),
            StorageTrouble::Descriptors => (
                Reason::Resources,
                "raise the limit of open files (see `ulimit -n`) or lower --max-peers",
            ),
            StorageTrouble::Broken => (
                Reason::Storage,
                "look at the disk (`dmesg` may say more); what was recorded is kept",
            ),
        };
        let sentence = format!(
            "cannot {} {}: {}",
            error.doing,
            shown_path(&error.path),
            shown(&error.cause)
        );
        Complaint::new(reason, sentence, hint)
    }

    /// The client did not start.
    pub fn start(error: &StartError) -> Complaint {
        let sentence = shown(&error.to_string());
        match error {
            StartError::Port { .. } => Complaint::new(
                Reason::Port,
                sentence,
                "another program has it; choose another with --port, or --port 0 for any",
            ),
            StartError::Bind { .. } => Complaint::new(
                Reason::Network,
                sentence,
                "--bind takes an address of this machine (`ip address` lists them)",
            ),
            StartError::Thread { .. } => Complaint::new(
                Reason::Resources,
                sentence,
                "the system allows no more threads (see `ulimit -u`)",
            ),
            StartError::Descriptors { .. } => Complaint::new(
                Reason::Resources,
                sentence,
                "raise the limit of open files (see `ulimit -n`)",
            ),
            StartError::Twice(_) => Complaint::usage(sentence, "name each torrent once"),
            StartError::SamePlace(_) => {
                Complaint::usage(sentence, "run one command for each, with different folders")
            }
        }
    }

    /// The tracker did not start.
    pub fn tracker(error: &crate::tracker::StartError) -> Complaint {
        use crate::tracker::StartError;
        let sentence = shown(&error.to_string());
        match error {
            StartError::Bind { error, .. } if error.kind() == ErrorKind::AddrInUse => {
                Complaint::new(
                    Reason::Port,
                    sentence,
                    "another program has it; choose another with --http and --udp",
                )
            }
            StartError::Bind { .. } => Complaint::new(
                Reason::Port,
                sentence,
                "--http and --udp take addresses of this machine (`ip address` lists them)",
            ),
            StartError::System(_) => Complaint::new(
                Reason::Resources,
                sentence,
                "the system allows no more threads or open files (see `ulimit -a`)",
            ),
        }
    }

    /// A tracker that ended without being told to.
    pub fn tracker_has_ended() -> Complaint {
        Complaint::new(
            Reason::Resources,
            "the tracker has stopped by itself",
            "this is a fault in ropewalk: please report it with what stands above",
        )
    }

    /// Nothing can be shared from here.
    pub fn share(error: &OpenError) -> Complaint {
        use crate::tracker::StartError;
        let error = match error {
            OpenError::Client(error) => return Complaint::start(error),
            OpenError::Tracker(error) => error,
            OpenError::Deaf { .. } => {
                return Complaint::new(
                    Reason::Network,
                    error.to_string(),
                    "is the loopback interface up? --bind takes an address of this machine alone",
                );
            }
        };
        let hint = match error {
            StartError::Bind { error, .. } if error.kind() == ErrorKind::AddrInUse => {
                "another program has it; choose another with --tracker-port, or --tracker-port 0 for any"
            }
            StartError::Bind { .. } => {
                "choose another port with --tracker-port; those below 1024 are for root"
            }
            StartError::System(_) => return Complaint::tracker(error),
        };
        Complaint {
            hint: hint.to_owned(),
            ..Complaint::tracker(error)
        }
    }

    /// There is no torrent to write.
    pub fn create(error: &CreateError) -> Complaint {
        let hint = match error {
            CreateError::Read { path, error } => return Complaint::reading(path, error),
            CreateError::NotText { path } => {
                let path = shown_path(path);
                return Complaint::new(
                    Reason::File,
                    format!("the name of {path} is not UTF-8, so others would write another one"),
                    "rename it, or leave it out with --exclude; --name gives the whole another name",
                );
            }
            CreateError::Special { .. }
            | CreateError::Loop { .. }
            | CreateError::TooDeep { .. } => "take it away, or leave it out with --exclude",
            CreateError::TooManyFiles => "leave some out with --exclude, or make several torrents",
            CreateError::Nothing { left_out, .. } if left_out.excluded > 0 => {
                "what is there was left out by --exclude"
            }
            CreateError::Nothing { left_out, .. } if left_out.hidden > 0 => {
                "hidden names were left out, --include-hidden takes them in"
            }
            CreateError::Nothing { .. } => "a torrent needs a file with at least one byte",
            CreateError::NoName { .. } => "give the torrent a name with --name",
            CreateError::Itself { .. } => "choose another place with --output",
            CreateError::Changed { .. } => {
                "wait until nobody writes to it and run the same command again"
            }
            CreateError::Unusable(_) | CreateError::TooLong(_) => {
                "longer pieces (--piece-length) or fewer files (--exclude) may help"
            }
            CreateError::Thread(_) => "the system allows no more threads (see `ulimit -u`)",
            CreateError::Hasher | CreateError::Stopped => "",
        };
        let sentence = match error {
            CreateError::Thread(error) => format!("cannot start a thread: {}", plain(error)),
            CreateError::Stopped => "stopped before it was complete, nothing was written".into(),
            error => shown(&error.to_string()),
        };
        match error {
            CreateError::Itself { .. } => Complaint::usage(sentence, hint),
            CreateError::Thread(_) => Complaint::new(Reason::Resources, sentence, hint),
            CreateError::Stopped => Complaint::new(Reason::Interrupted, sentence, hint),
            _ => Complaint::new(Reason::File, sentence, hint),
        }
    }

    /// Says it on standard error.
    pub fn say(&self) {
        if self.sentence.is_empty() {
            return;
        }
        output::say(&self.text());
    }

    /// The sentence behind the program's name, and the hint on a second line.
    fn text(&self) -> String {
        let mut text = format!("ropewalk: {}", self.sentence);
        if !self.hint.is_empty() {
            let _ = write!(text, "\n  hint: {}", self.hint);
        }
        text
    }
}

/// The system's words without Rust's number behind them.
pub fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    let words = text.split(" (os error").next().unwrap_or_default();
    shown(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn a_full_disk_is_told_apart_from_a_broken_one() {
        let error = |kind| StorageError {
            kind,
            doing: "write",
            path: PathBuf::from("a\u{1b}[2Jb"),
            cause: "No space left on device".into(),
        };
        let full = Complaint::storage(&error(StorageTrouble::Full), Role::Get);
        let broken = Complaint::storage(&error(StorageTrouble::Broken), Role::Get);
        assert_eq!(
            (full.reason, full.status),
            (Reason::StorageFull, ExitStatus::Failed)
        );
        assert_eq!(broken.reason, Reason::Storage);
        assert!(!full.text().contains('\u{1b}'));
    }

    #[test]
    fn what_helps_where_a_file_changed_depends_on_what_is_done_with_it() {
        let hint = |kind, role| {
            let error = StorageError {
                kind,
                doing: "read",
                path: PathBuf::from("a"),
                cause: "it was changed".into(),
            };
            Complaint::storage(&error, role).hint
        };
        // A seed fetches nothing and replaces nothing, nor does `share`.
        for kind in [StorageTrouble::Vanished, StorageTrouble::InTheWay] {
            let hint = hint(kind, Role::Seed);
            assert!(hint.contains("run the same command again"), "{hint}");
            assert!(!hint.contains("fetch") && !hint.contains("get"), "{hint}");
        }
        assert!(hint(StorageTrouble::Vanished, Role::Get).contains("fetch what is missing"));
        assert!(hint(StorageTrouble::InTheWay, Role::Get).contains("get --overwrite"));
    }

    #[test]
    fn a_folder_that_takes_no_files_is_no_file_that_changed() {
        let absent = std::io::Error::from_raw_os_error(2);
        let error = StorageError::from_io("create", Path::new("/proc/1/a"), &absent);
        let hint = Complaint::storage(&error, Role::Get).hint;
        assert!(hint.starts_with("choose another folder"), "{hint}");
    }

    #[test]
    fn the_systems_words_come_without_a_number() {
        assert_eq!(
            plain(&std::io::Error::from_raw_os_error(2)),
            "No such file or directory"
        );
    }
}
