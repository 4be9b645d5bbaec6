//! Starts the built binary in a room of its own, hears what it says, and sees how it ends.

use crate::torrent::Torrent;
use crossbeam_channel::{Receiver, RecvTimeoutError, unbounded};
use serde_json::Value;
use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long an event may take. Nothing here takes a tenth of it on a quiet machine.
pub const PATIENCE: Duration = Duration::from_secs(45);

/// What the process may hold in memory at any time, in bytes. Half of it is the debug build itself.
pub const MEMORY: u64 = 40 << 20;

/// A folder for one test: `down` is where data goes, and whatever appears beside it has escaped.
pub struct Room {
    folder: TempDir,
}

impl Room {
    /// An empty room.
    pub fn new() -> Room {
        let room = Room {
            folder: tempfile::tempdir().unwrap(),
        };
        fs::create_dir(room.down()).unwrap();
        fs::write(room.beside("canary"), "alive").unwrap();
        room
    }

    /// The folder that data goes to.
    pub fn down(&self) -> PathBuf {
        self.folder.path().join("down")
    }

    /// A path beside that folder.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The file of a torrent whose name is `name`.
    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.down().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Fails unless the file of this name holds exactly `content`.
    pub fn holds(&self, name: &str, content: &[u8]) {
        let bytes = self.read(name);
        assert_eq!(bytes.len(), content.len(), "the length of {name}");
        let differs = |at: &usize| bytes[*at] != content[*at];
        if let Some(first) = (0..bytes.len()).find(differs) {
            let count = (first..bytes.len()).filter(differs).count();
            let there = &bytes[first..bytes.len().min(first + 8)];
            panic!("{name} differs in {count} bytes from {first} on: {there:02x?}");
        }
    }

    /// Fails if anything was made or changed outside of `down`.
    pub fn nothing_escaped(&self) {
        let mut names: Vec<_> = fs::read_dir(self.folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["canary", "down", "it.torrent"]);
        let canary = fs::read_to_string(self.beside("canary")).unwrap();
        assert_eq!(canary, "alive");
    }

    /// The regular files below `down` that are the torrent's, not our record.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        gather(&self.down(), &mut files);
        files.retain(|path| {
            let name = path.strip_prefix(self.down()).unwrap().to_string_lossy();
            // Records begin with a dot and lie at the top.
            !(name.starts_with('.') && name.ends_with(".ropewalk") && !name.contains('/'))
        });
        files.sort();
        files
    }

    /// `ropewalk get` for `torrent`: leaves when complete, any port, no trackers, events as JSON.
    pub fn get(&self, torrent: &Torrent) -> Order {
        let file = self.beside("it.torrent");
        fs::write(&file, torrent.bytes()).unwrap();
        let mut order = Order::new();
        order.arg("get").args(["--json", "--port", "0", "--exit"]);
        if !torrent.bytes().starts_with(b"d8:announce") {
            order.arg("--no-tracker");
        }
        order.arg("--output").arg(self.down()).arg(file);
        order
    }

    /// `ropewalk seed` of what lies in `down`.
    pub fn seed(&self, torrent: &Torrent) -> Order {
        let file = self.beside("it.torrent");
        fs::write(&file, torrent.bytes()).unwrap();
        let mut order = Order::new();
        order.args(["seed", "--json", "--port", "0", "--no-tracker"]);
        order.args(["--seed-ratio", "0", "--seed-time", "0"]);
        order.arg(file).arg(self.down());
        order
    }
}

fn gather(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let kind = fs::symlink_metadata(&path).unwrap().file_type();
        if kind.is_dir() {
            gather(&path, files);
        } else if kind.is_file() {
            files.push(path);
        }
    }
}

/// A command line in the making.
pub struct Order {
    args: Vec<OsString>,
    files_max: Option<u32>,
}

impl Order {
    fn new() -> Order {
        Order {
            args: Vec::new(),
            files_max: None,
        }
    }

    /// One more word.
    pub fn arg(&mut self, word: impl Into<OsString>) -> &mut Order {
        self.args.push(word.into());
        self
    }

    /// More words.
    pub fn args<const N: usize>(&mut self, words: [&str; N]) -> &mut Order {
        self.args.extend(words.map(OsString::from));
        self
    }

    /// Without a word that is there already.
    pub fn without(&mut self, word: &str) -> &mut Order {
        self.args.retain(|it| it != word);
        self
    }

    /// A peer to connect to.
    pub fn peer(&mut self, address: SocketAddr) -> &mut Order {
        self.args(["--peer", &address.to_string()])
    }

    /// Allows the process so many open files.
    pub fn files_max(&mut self, files: u32) -> &mut Order {
        self.files_max = Some(files);
        self
    }

    /// Starts it.
    pub fn start(&mut self) -> Run {
        let binary = env!("CARGO_BIN_EXE_ropewalk");
        let mut command = match self.files_max {
            None => Command::new(binary),
            Some(files) => {
                let mut command = Command::new("sh");
                let script = format!("ulimit -n {files}; exec \"$0\" \"$@\"");
                command.arg("-c").arg(script).arg(binary);
                command
            }
        };
        for name in ["http_proxy", "https_proxy", "all_proxy"] {
            command.env_remove(name).env_remove(name.to_uppercase());
        }
        let mut child = command
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Run {
            out: lines(child.stdout.take().unwrap()),
            err: lines(child.stderr.take().unwrap()),
            child,
            patience: PATIENCE,
            events: Vec::new(),
            complaints: Vec::new(),
        }
    }
}

fn lines(pipe: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    // Bound: what one short run prints.
    let (sender, receiver) = unbounded();
    std::thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        loop {
            let mut line = Vec::new();
            match pipe.read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => break,
                Ok(_) => drop(sender.send(line)),
            }
        }
    });
    receiver
}

/// A running process. It is killed when it goes out of scope.
pub struct Run {
    child: Child,
    out: Receiver<Vec<u8>>,
    err: Receiver<Vec<u8>>,
    /// How long an event may take.
    pub patience: Duration,
    /// What came on standard output so far, one object a line.
    pub events: Vec<Value>,
    /// What came on standard error so far, raw.
    pub complaints: Vec<Vec<u8>>,
}

impl Run {
    /// The next event that `wanted` likes, or one that came earlier.
    pub fn event(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        if let Some(event) = self.events.iter().find(|event| wanted(event)) {
            return event.clone();
        }
        let deadline = Instant::now() + self.patience;
        loop {
            match self.out.recv_deadline(deadline) {
                Ok(line) => {
                    let event = self.note(&line);
                    if wanted(&event) {
                        return event;
                    }
                }
                Err(end) => self.fail(&format!("no event came that {what} ({end})")),
            }
        }
    }

    fn note(&mut self, line: &[u8]) -> Value {
        let event: Value = serde_json::from_slice(line)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(line)));
        self.events.push(event.clone());
        event
    }

    /// The port it listens on.
    pub fn port(&mut self) -> SocketAddr {
        let event = self.event("names the port", |event| event["event"] == "listening");
        let port = event["port"].as_u64().expect("a port was to be had");
        SocketAddr::from(([127, 0, 0, 1], port as u16))
    }

    /// What it said when the peer at `address` left.
    pub fn farewell(&mut self, address: SocketAddr) -> String {
        let address = address.to_string();
        let event = self.event("says that a peer left", |event| {
            event["event"] == "peer" && event["state"] == "left" && event["address"] == address
        });
        event["text"].as_str().unwrap_or_default().to_owned()
    }

    /// A line on standard error that holds `text`.
    pub fn complaint(&mut self, text: &str) -> Vec<u8> {
        let deadline = Instant::now() + self.patience;
        loop {
            match self.err.recv_deadline(deadline) {
                Ok(line) => {
                    self.complaints.push(line.clone());
                    if String::from_utf8_lossy(&line).contains(text) {
                        return line;
                    }
                }
                Err(end) => self.fail(&format!("no line on stderr holds {text:?} ({end})")),
            }
        }
    }

    /// Waits until it ends by itself and returns its exit status.
    pub fn exit(&mut self) -> i32 {
        let deadline = Instant::now() + self.patience;
        loop {
            match self.out.recv_deadline(deadline) {
                Ok(line) => drop(self.note(&line)),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => self.fail("it did not end"),
            }
        }
        let status = self.child.wait().unwrap();
        self.complaints.extend(self.err.iter());
        match status.code() {
            Some(code) if code != 101 => code,
            _ => self.fail(&format!("it died: {status}")),
        }
    }

    /// Waits for the end and fails unless everything went well.
    pub fn succeeds(&mut self) {
        let status = self.exit();
        if status != 0 {
            self.fail(&format!("exit status {status}"));
        }
        if std::env::var_os("HOSTILE_TALK").is_some() {
            eprintln!("{}", self.everything_said());
        }
    }

    /// The same for a run whose standard output is not JSON.
    pub fn succeeds_whatever_it_prints(&mut self) {
        let deadline = Instant::now() + self.patience;
        while let Ok(line) = self.out.recv_deadline(deadline) {
            self.complaints.push(line);
        }
        self.succeeds();
    }

    /// Sends the signal that asks for a quick and orderly end.
    pub fn interrupt(&self) {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    }

    /// The most memory it has held so far, in bytes.
    pub fn peak_memory(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = fs::read_to_string(path).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().nth(1));
        kilobytes.unwrap().parse::<u64>().unwrap() << 10
    }

    /// Fails if it ever held more than [`MEMORY`].
    pub fn memory_is_flat(&self) {
        let peak = self.peak_memory();
        assert!(peak < MEMORY, "{peak} bytes of memory");
    }

    /// All of standard error and of the events, for looking through.
    pub fn everything_said(&self) -> String {
        let mut said: String = self
            .events
            .iter()
            .map(|event| format!("{event}\n"))
            .collect();
        for line in &self.complaints {
            said.push_str(&String::from_utf8_lossy(line));
        }
        said
    }

    /// Ends the test with all that is known.
    pub fn fail(&mut self, why: &str) -> ! {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let out: Vec<_> = self.out.iter().collect();
        for line in out {
            self.note(&line);
        }
        self.complaints.extend(self.err.iter());
        let said = self.everything_said();
        let lines: Vec<&str> = said.lines().collect();
        let tail = &lines[lines.len().saturating_sub(60)..];
        panic!("{why}\n{}", tail.join("\n"));
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
