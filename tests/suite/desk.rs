//! A folder to work in, and the binary run in it.

use assert_cmd::Command;
use crossbeam_channel::{Receiver, RecvTimeoutError, unbounded};
use ropewalk::protocol::Digest;
use ropewalk::protocol::metainfo::{Draft, FileEntry};
use rustix::fs::OFlags;
use rustix::{pty, termios};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Nothing in this suite takes as long.
const DEADLINE: Duration = Duration::from_secs(120);

/// What a run left behind.
#[derive(Debug)]
pub struct Outcome {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Outcome {
    /// Standard output as one JSON value.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Standard output as JSON lines.
    pub fn events(&self) -> Vec<serde_json::Value> {
        self.out
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
            .collect()
    }

    /// Checks the exit status; shows everything if it is another one.
    pub fn expect(self, code: i32) -> Outcome {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }
}

/// A folder of its own for one test.
pub struct Desk {
    folder: TempDir,
}

impl Desk {
    pub fn new() -> Desk {
        Desk {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub fn path(&self, name: impl AsRef<OsStr>) -> PathBuf {
        self.folder.path().join(name.as_ref())
    }

    /// Writes a file, and the folders it lies in.
    pub fn write(&self, name: impl AsRef<OsStr>, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    pub fn command<S: AsRef<OsStr>>(&self, words: &[S]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ropewalk"));
        command
            .args(words)
            .current_dir(self.folder.path())
            .env_remove("http_proxy")
            .env("TMPDIR", self.folder.path())
            .timeout(DEADLINE);
        command
    }

    /// The binary, here, for a run that is sent signals. Those that are ignored around us (`nohup`, a shell's
    /// background) would be ignored by it too, as they should.
    pub fn signalled(&self) -> std::process::Command {
        let mut command = std::process::Command::new("env");
        command
            .arg("--default-signal=HUP,INT,TERM")
            .arg(env!("CARGO_BIN_EXE_ropewalk"))
            .env("TMPDIR", self.folder.path())
            .current_dir(self.folder.path());
        command
    }

    pub fn run<S: AsRef<OsStr>>(&self, words: &[S]) -> Outcome {
        outcome(&mut self.command(words))
    }

    pub fn run_with_input<S: AsRef<OsStr>>(&self, words: &[S], input: &[u8]) -> Outcome {
        outcome(self.command(words).write_stdin(input))
    }

    /// Starts the binary and goes on; what it tells as JSON lines can be waited for.
    pub fn start(&self, words: &[&str]) -> Running {
        let mut child = self
            .signalled()
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        // Bound: what one run says.
        let (tell, lines) = unbounded();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if tell.send(line).is_err() {
                    return;
                }
            }
        });
        Running { child, lines }
    }
}

fn outcome(command: &mut Command) -> Outcome {
    let output = command.output().unwrap();
    Outcome {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A pipe that takes nothing more until somebody reads from it.
pub fn full_pipe() -> (std::io::PipeReader, std::io::PipeWriter) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let flags = rustix::fs::fcntl_getfl(&writer).unwrap();
    rustix::fs::fcntl_setfl(&writer, flags | rustix::fs::OFlags::NONBLOCK).unwrap();
    while writer.write(&[0; 4096]).is_ok() {}
    rustix::fs::fcntl_setfl(&writer, flags).unwrap();
    (reader, writer)
}

/// A terminal that takes nothing, as after Ctrl-S, and whoever would look at it.
pub fn stopped_terminal() -> (OwnedFd, File) {
    let viewer = pty::openpt(pty::OpenptFlags::RDWR | pty::OpenptFlags::NOCTTY).unwrap();
    pty::grantpt(&viewer).unwrap();
    pty::unlockpt(&viewer).unwrap();
    let name = pty::ptsname(&viewer, Vec::new()).unwrap();
    let mut options = File::options();
    let options = options
        .write(true)
        .custom_flags(OFlags::NOCTTY.bits() as i32);
    let terminal = options.open(name.to_str().unwrap()).unwrap();
    termios::tcflow(&terminal, termios::Action::OOff).unwrap();
    (viewer, terminal)
}

/// Waits until the run takes signals itself.
pub fn wait_for_handlers(child: &Child) {
    let status = format!("/proc/{}/status", child.id());
    let takes = |signal: rustix::process::Signal| {
        let text = std::fs::read_to_string(&status).unwrap();
        let mut lines = text.lines();
        let mask = lines.find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        let mask = u64::from_str_radix(mask.trim(), 16).unwrap();
        mask & (1 << (signal.as_raw() - 1)) != 0
    };
    let deadline = Instant::now() + DEADLINE;
    while !takes(rustix::process::Signal::TERM) {
        assert!(Instant::now() < deadline, "it never takes signals");
        std::thread::yield_now();
    }
}

/// Waits until the run has read so many bytes, from whatever.
pub fn wait_until_read(child: &Child, bytes: u64) {
    let io = format!("/proc/{}/io", child.id());
    let has_read = || {
        let text = std::fs::read_to_string(&io).unwrap();
        let count = text.lines().find_map(|line| line.strip_prefix("rchar: "));
        count.unwrap().parse::<u64>().unwrap()
    };
    let deadline = Instant::now() + DEADLINE;
    while has_read() < bytes {
        assert!(Instant::now() < deadline, "it never reads {bytes} bytes");
        std::thread::yield_now();
    }
}

/// Waits until the run has a thread of this name.
pub fn wait_for_thread(child: &Child, name: &str) {
    let tasks = format!("/proc/{}/task", child.id());
    let is_there = || {
        let mut tasks = std::fs::read_dir(&tasks).unwrap();
        tasks.any(|task| {
            let comm = std::fs::read_to_string(task.unwrap().path().join("comm"));
            comm.is_ok_and(|comm| comm.trim_end() == name)
        })
    };
    let deadline = Instant::now() + DEADLINE;
    while !is_there() {
        assert!(Instant::now() < deadline, "it never gets to {name}");
        std::thread::yield_now();
    }
}

/// Waits for the end of a run and says its status; kills it where it does not end.
pub fn end_of(mut child: Child) -> Option<i32> {
    let pid = rustix::process::Pid::from_child(&child);
    // Bound: one, it ends once.
    let (tell, ended) = unbounded();
    std::thread::spawn(move || tell.send(child.wait().unwrap()));
    match ended.recv_timeout(DEADLINE) {
        Ok(status) => status.code(),
        Err(_) => {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            panic!("it does not end");
        }
    }
}

/// A run that is still going on. Killed when dropped.
pub struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    /// The next line; `None` where the output has ended.
    fn line(&self, awaited: &str) -> Option<String> {
        match self.lines.recv_timeout(DEADLINE) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("waited {DEADLINE:?} for {awaited}"),
        }
    }

    /// The next JSON line with this event; panics where the output ends before.
    pub fn wait_for(&mut self, event: &str) -> serde_json::Value {
        while let Some(line) = self.line(event) {
            let value: serde_json::Value = serde_json::from_str(&line).unwrap();
            if value["event"] == event {
                return value;
            }
        }
        panic!("the output ended without the event {event}");
    }

    /// The next line, whatever it is; panics where the output ends before.
    pub fn wait_for_line(&mut self) -> String {
        self.line("a line").expect("no more lines")
    }

    pub fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.child)
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(self.pid(), signal).unwrap();
    }

    /// Waits for the end; panics where it does not come.
    pub fn end(&mut self) -> std::process::ExitStatus {
        let deadline = Instant::now() + DEADLINE;
        while self.line("the end").is_some() {
            assert!(Instant::now() < deadline, "it talks on and does not end");
        }
        self.child.wait().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Bytes that look like nothing and are the same in every run.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut dice = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(|| dice.u8(..))
        .take(length)
        .collect()
}

/// The torrent of one file.
pub fn single(name: &str, bytes: &[u8], piece_length: u32) -> Draft {
    Draft {
        name: name.into(),
        piece_length,
        single_file: true,
        files: vec![FileEntry::plain(name, bytes.len() as u64)],
        piece_digests: digests(bytes, piece_length),
        ..Draft::default()
    }
}

/// The torrent of a folder with these files.
pub fn folder(name: &str, files: &[(&str, Vec<u8>)], piece_length: u32) -> Draft {
    let bytes = files
        .iter()
        .flat_map(|(_, bytes)| bytes.iter().copied())
        .collect::<Vec<_>>();
    Draft {
        name: name.into(),
        piece_length,
        single_file: false,
        files: files
            .iter()
            .map(|(path, bytes)| FileEntry::plain(path, bytes.len() as u64))
            .collect(),
        piece_digests: digests(&bytes, piece_length),
        ..Draft::default()
    }
}

fn digests(bytes: &[u8], piece_length: u32) -> Vec<Digest> {
    bytes
        .chunks(piece_length as usize)
        .map(Digest::of)
        .collect()
}

/// Whether `text` could move a cursor: anything below a space but the line's end.
pub fn is_calm(text: &str) -> bool {
    !text
        .chars()
        .any(|letter| letter != '\n' && letter.is_control() || letter == '\u{202e}')
}
