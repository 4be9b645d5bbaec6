//! The programs: how each one is told to seed and to leech. One more program is one more row here.

use crate::room::{Host, await_event, percent};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::net::SocketAddrV4;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

/// The port every program listens on: each has a host of its own.
pub const PORT: u16 = 6881;

/// Debian's python: its libtorrent is made for no other.
pub const PYTHON: &str = "/usr/bin/python3";

/// A BitTorrent program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// aria2c.
    Aria2,
    /// transmission-daemon.
    Transmission,
    /// libtorrent, driven by a few lines of Python.
    Libtorrent,
    /// The one under test.
    Ropewalk,
}

impl Program {
    /// Whether it takes padding files for files: it wants them on disk to seed, and writes them.
    pub fn knows_padding(self) -> bool {
        matches!(self, Program::Libtorrent | Program::Ropewalk)
    }

    /// Whether it makes the files that have no bytes.
    pub fn makes_empty_files(self) -> bool {
        self != Program::Transmission
    }

    /// Whether it can use a hybrid torrent. aria2 1.36 counts a wrong info-hash for one (it encodes
    /// what it understood anew), transmission 3.00 does not parse it.
    pub fn reads_hybrids(self) -> bool {
        self.knows_padding()
    }

    /// Serves `folder`, which holds the torrent's data, until it is stopped.
    pub fn seed(self, host: &Host, torrent: &Path, folder: &Path, desk: &Path) -> Running {
        let port = PORT.to_string();
        match self {
            Program::Aria2 => {
                let mut command = aria2(host, torrent, folder);
                command.args(["--check-integrity=true", "--seed-ratio=0.0"]);
                Running::start("aria2c, seeding", command, desk)
            }
            Program::Transmission => transmission(host, torrent, folder, desk),
            Program::Libtorrent => {
                let mut command = libtorrent(host, desk);
                command.args(["seed", &host.listen(), &port]);
                command
                    .args([torrent, folder])
                    .arg(desk.join("figures.json"));
                Running::start("libtorrent, seeding", command, desk)
            }
            Program::Ropewalk => {
                let mut command = ropewalk(host, "seed");
                command.args(["--seed-ratio", "1000", "--seed-time", "0"]);
                command.args([torrent, folder]);
                Running::start("ropewalk, seeding", command, desk)
            }
        }
    }

    /// Downloads into `folder` and leaves; panics with what the program said if it does not come to
    /// a good end in time.
    pub fn leech(self, host: &Host, torrent: &Path, folder: &Path, desk: &Path) {
        let port = PORT.to_string();
        let mut running = match self {
            Program::Aria2 => {
                let mut command = aria2(host, torrent, folder);
                command.args(["--seed-time=0", "--allow-overwrite=true"]);
                Running::start("aria2c, leeching", command, desk)
            }
            Program::Transmission => {
                let mut running = transmission(host, torrent, folder, desk);
                let done = desk.join("done");
                running.until("it has everything", 90, |_| done.exists().then_some(()));
                running.signal(Signal::TERM);
                running
            }
            Program::Libtorrent => {
                let mut command = libtorrent(host, desk);
                command.args(["leech", &host.listen(), &port]);
                command.args([torrent, folder]);
                Running::start("libtorrent, leeching", command, desk)
            }
            Program::Ropewalk => {
                let mut command = ropewalk(host, "get");
                command.args(["-e", "-o"]).arg(folder).arg(torrent);
                Running::start("ropewalk, leeching", command, desk)
            }
        };
        let status = running.ended(90);
        assert!(
            status.success(),
            "{} ended with {status}:\n{}",
            running.name,
            running.said()
        );
    }
}

fn aria2(host: &Host, torrent: &Path, folder: &Path) -> Command {
    let mut command = host.command("aria2c");
    command.args(["--no-conf=true", "--enable-dht6=false"]);
    // It asks UDP trackers through the socket of its DHT and not without. There is nobody here whom
    // its DHT could ask.
    let bytes = fs::read(torrent).expect("a torrent can be read");
    let by_udp = bytes.windows(6).any(|it| it == b"udp://");
    command.arg(format!("--enable-dht={by_udp}"));
    command.arg("--dht-file-path").arg(folder.join(".dht.dat"));
    command.args(["--bt-enable-lpd=false", "--enable-peer-exchange=false"]);
    command.arg(format!("--disable-ipv6={}", host.six.is_none()));
    command.args(["--file-allocation=none", "--summary-interval=0"]);
    command.args(["--console-log-level=notice", "--bt-max-peers=20"]);
    command.arg(format!("--listen-port={PORT}"));
    command.arg("--dir").arg(folder).arg(torrent);
    command
}

/// A daemon that finds the torrent in its own folder of torrents when it starts, so that nobody has
/// to talk to it; `done` appears on the desk when a download is complete.
fn transmission(host: &Host, torrent: &Path, folder: &Path, desk: &Path) -> Running {
    let home = desk.join("transmission");
    fs::create_dir_all(home.join("torrents")).expect("a folder can be made");
    fs::copy(torrent, home.join("torrents/it.torrent")).expect("a torrent can be copied");
    let script = desk.join("done.sh");
    let text = format!("#!/bin/sh\ntouch '{}'\n", desk.join("done").display());
    fs::write(&script, text).expect("a script can be written");
    let mut mode = fs::metadata(&script).expect("it is there").permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o755);
    fs::set_permissions(&script, mode).expect("it can be made executable");
    let settings = serde_json::json!({
        "download-dir": folder, "incomplete-dir-enabled": false, "watch-dir-enabled": false,
        "rename-partial-files": false, "start-added-torrents": true, "preallocation": 0,
        "dht-enabled": false, "lpd-enabled": false, "utp-enabled": false, "pex-enabled": false,
        "port-forwarding-enabled": false, "peer-port": PORT, "encryption": 0,
        "bind-address-ipv4": if host.six.is_some() { "0.0.0.0".into() } else { host.address.to_string() },
        "rpc-enabled": false,
        "speed-limit-up-enabled": false, "ratio-limit-enabled": false, "umask": 18,
        "script-torrent-done-enabled": true, "script-torrent-done-filename": script,
    });
    fs::write(home.join("settings.json"), settings.to_string()).expect("settings can be written");
    let mut command = host.command("transmission-daemon");
    command.args(["--foreground", "--log-error", "--config-dir"]);
    command.arg(&home);
    Running::start("transmission-daemon", command, desk)
}

/// The command that runs our piece of Python on a host.
pub fn libtorrent(host: &Host, desk: &Path) -> Command {
    let mut command = host.command(PYTHON);
    command.arg(libtorrent_script(desk));
    command
}

/// Lays the piece of Python on the desk.
pub fn libtorrent_script(desk: &Path) -> PathBuf {
    // Its name must not be the module's: Python would import the script instead.
    let script = desk.join("drive_libtorrent.py");
    fs::create_dir_all(desk).expect("a folder can be made");
    fs::write(&script, include_str!("libtorrent.py")).expect("a script can be written");
    script
}

/// `ropewalk COMMAND` on a host, with its port.
pub fn ropewalk(host: &Host, command_name: &str) -> Command {
    let mut command = host.command(env!("CARGO_BIN_EXE_ropewalk"));
    command.args([command_name, "--port", &PORT.to_string()]);
    command
}

/// A program at work. What it says goes to two files on its desk. Dropping it kills it.
pub struct Running {
    /// For messages.
    pub name: &'static str,
    child: Child,
    desk: PathBuf,
}

impl Running {
    /// Starts a command.
    pub fn start(name: &'static str, mut command: Command, desk: &Path) -> Running {
        fs::create_dir_all(desk).expect("a folder can be made");
        let sink = |file| File::create(desk.join(file)).expect("a file can be made");
        command.stdout(sink("stdout")).stderr(sink("stderr"));
        let child = command.spawn().expect("setpriv is installed");
        let desk = desk.to_owned();
        Running { name, child, desk }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has written to standard output and standard error.
    pub fn said(&self) -> String {
        let read = |file| fs::read(self.desk.join(file)).unwrap_or_default();
        let said = [read("stdout"), b"\n-- stderr --\n".to_vec(), read("stderr")].concat();
        String::from_utf8_lossy(&said).into_owned()
    }

    /// Its standard error alone.
    pub fn complained(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.desk.join("stderr")).unwrap_or_default())
            .into_owned()
    }

    /// The JSON objects it has written to standard output, a whole line each.
    pub fn events(&self) -> Vec<serde_json::Value> {
        let text = fs::read_to_string(self.desk.join("stdout")).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let parse = |line: &str| serde_json::from_str(line);
        let objects: Result<_, _> = whole.lines().map(parse).collect();
        objects.unwrap_or_else(|error| panic!("{} wrote bad JSON: {error}\n{text}", self.name))
    }

    /// The last event of this name that has the field, and the field's number.
    pub fn last_figure(&self, event: &str, field: &str) -> Option<u64> {
        let events = self.events();
        let fits = events.iter().filter(|object| object["event"] == event);
        fits.filter_map(|object| object[field].as_u64()).next_back()
    }

    /// Bytes that were verified before this run fetched anything: what its progress tells of bytes
    /// verified less bytes fetched, at its best. `None` if it did not come to fetch.
    pub fn found_on_disk(&self) -> Option<u64> {
        let events = self.events();
        let progress = events.iter().filter(|object| object["event"] == "progress");
        let figures =
            progress.map(|object| (object["have"].as_u64(), object["downloaded"].as_u64()));
        let figures: Vec<_> = figures
            .filter_map(|(have, downloaded)| have.zip(downloaded))
            .collect();
        let fetched = figures.iter().any(|(_, downloaded)| *downloaded > 0);
        let found = figures
            .iter()
            .map(|(have, downloaded)| have.saturating_sub(*downloaded));
        found.max().filter(|_| fetched)
    }

    /// Waits for something to happen while the program lives; panics with what it said otherwise.
    pub fn until<T>(
        &mut self,
        what: &str,
        seconds: u64,
        mut happened: impl FnMut(&Running) -> Option<T>,
    ) -> T {
        let found = {
            let deadline = Instant::now() + Duration::from_secs(seconds);
            loop {
                if let Some(value) = happened(self) {
                    break Some(value);
                }
                let gone = self
                    .child
                    .try_wait()
                    .expect("a child can be asked")
                    .is_some();
                if gone || Instant::now() > deadline {
                    break happened(self);
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        };
        found.unwrap_or_else(|| {
            panic!(
                "{}: in vain waited {seconds} s at most until {what}; it said:\n{}",
                self.name,
                self.said()
            )
        })
    }

    /// The signals that were sent to the process and not delivered yet, one bit each.
    pub fn waiting_signals(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("ShdPnd:"));
        line.map_or(0, |mask| {
            u64::from_str_radix(mask.trim(), 16).expect("a mask")
        })
    }

    /// Waits for its end.
    pub fn ended(&mut self, seconds: u64) -> ExitStatus {
        let deadline = Instant::now() + Duration::from_secs(seconds);
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be asked") {
                return status;
            }
            let late = Instant::now() > deadline;
            assert!(
                !late,
                "{} did not end within {seconds} s; it said:\n{}",
                self.name,
                self.said()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for its end and gives its exit status; a death by signal is a failure of the test.
    pub fn exit_code(&mut self, seconds: u64) -> i32 {
        let status = self.ended(seconds);
        assert_eq!(
            status.signal(),
            None,
            "{} died of a signal; it said:\n{}",
            self.name,
            self.said()
        );
        status.code().expect("no signal, so a code")
    }

    /// Lets it run for so long, then kills it with SIGKILL; gives its exit status if it had ended by
    /// itself.
    pub fn killed_after(&mut self, patience: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().expect("a child can be asked") {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        None
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let _ = kill_process(Pid::from_child(&self.child), signal);
    }

    /// Bytes it has read by system calls since it started, from files and pipes alike; 0 once it has ended.
    pub fn bytes_read(&self) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/io", self.id())).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("rchar: "));
        line.and_then(|number| number.parse().ok()).unwrap_or(0)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// opentracker on a host, for the torrents it was told of.
pub struct Tracker {
    host: Host,
    address: SocketAddrV4,
    _running: Running,
}

impl Tracker {
    /// Where a tracker on this host will be; torrents want to know before it runs.
    pub fn address_on(host: &Host) -> SocketAddrV4 {
        SocketAddrV4::new(host.address, 6969)
    }

    /// The announce address of a tracker on this host.
    pub fn announce_on(host: &Host) -> String {
        format!("http://{}/announce", Tracker::address_on(host))
    }

    /// Its address for those who ask by UDP.
    pub fn udp_announce_on(host: &Host) -> String {
        format!("udp://{}/announce", Tracker::address_on(host))
    }

    /// Starts it and waits until it answers. It locks itself into `desk` and becomes nobody.
    pub fn start(host: &Host, info_hashes: &[String], desk: &Path) -> Tracker {
        fs::create_dir_all(desk).expect("a folder can be made");
        let list = desk.join("whitelist");
        fs::write(&list, info_hashes.join("\n") + "\n").expect("a list can be written");
        let address = Tracker::address_on(host);
        let mut command = host.command("opentracker");
        command.args(["-i", &host.address.to_string(), "-p", "6969", "-P", "6969"]);
        command
            .arg("-d")
            .arg(desk)
            .arg("-w")
            .arg("whitelist")
            .current_dir(desk);
        let running = Running::start("opentracker", command, desk);
        let tracker = Tracker {
            host: host.clone(),
            address,
            _running: running,
        };
        await_event("opentracker answers", 10, || {
            let answer = tracker
                .host
                .http_get(tracker.address, "/stats?mode=everything");
            (!answer.is_empty()).then_some(())
        });
        tracker
    }

    /// How many peers the tracker knows for this torrent: complete, incomplete.
    pub fn knows(&self, info_hash: &str) -> (u64, u64) {
        let path = format!("/scrape?info_hash={}", percent(&from_hex(info_hash)));
        let answer = self.host.http_get(self.address, &path);
        (
            figure(&answer, b"8:completei"),
            figure(&answer, b"10:incompletei"),
        )
    }

    /// Waits until the tracker has heard of a seed.
    pub fn await_seed(&self, info_hash: &str, seed: &mut Running) {
        // Each look costs a process: not more than five a second.
        let mut looked = None::<Instant>;
        seed.until("the tracker knows it as a seed", 60, |_| {
            if looked.is_some_and(|at| at.elapsed() < Duration::from_millis(200)) {
                return None;
            }
            looked = Some(Instant::now());
            (self.knows(info_hash).0 > 0).then_some(())
        });
    }
}

/// The number behind a bencoded key.
fn figure(answer: &[u8], key: &[u8]) -> u64 {
    let found = answer.windows(key.len()).position(|window| window == key);
    let digits = found.map_or(&[][..], |at| &answer[at + key.len()..]);
    let digits = digits.iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0'))
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .filter_map(|c| c.to_digit(16))
        .map(|d| d as u8)
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}
