//! One libtorrent seed and one host for `ropewalk get`, introduced to each other without a tracker:
//! the set-up of every test that is about what happens on our side.

use crate::programs::{PORT, Program, Running, ropewalk};
use crate::room::{Host, Room};
use crate::torrents::{Maker, Plan, Work};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The set-up. The seed serves until the end of the test.
pub struct Lane {
    /// What is to be fetched.
    pub work: Work,
    /// Where ropewalk runs.
    pub here: Host,
    /// Where the seed runs; its line can be slowed.
    pub there: Host,
    seed: Running,
    desk: tempfile::TempDir,
    _room: Room,
}

impl Lane {
    /// A seed of one file of `length` bytes in pieces of 2^`piece_bits`.
    pub fn new(length: usize, piece_bits: u32) -> Lane {
        let plan = Plan {
            name: "cargo.bin",
            files: vec![(String::new(), length)],
            piece_bits,
            maker: Maker::Libtorrent("v1"),
        };
        let desk = tempfile::tempdir().unwrap();
        let room = Room::new();
        let (there, here) = (room.host(), room.host());
        let work = plan.carry_out("http://10.99.0.9:6969/announce", desk.path());
        let own = desk.path().join("seed");
        let folder = work.folder(false);
        let mut seed = Program::Libtorrent.seed(&there, &work.torrent, folder, &own);
        seed.until("it is seeding", 60, |_| {
            figures(&own)["seeding"].as_bool().filter(|yes| *yes)
        });
        Lane {
            work,
            here,
            there,
            seed,
            desk,
            _room: room,
        }
    }

    /// A folder of this test, made if it is not there.
    pub fn folder(&self, name: &str) -> PathBuf {
        let folder = self.desk.path().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// Payload bytes the seed has sent so far.
    pub fn sent(&self) -> u64 {
        figures(&self.desk.path().join("seed"))["uploaded"]
            .as_u64()
            .unwrap_or(0)
    }

    /// `ropewalk get` of the torrent into `target`, from the seed alone, with JSON to standard output.
    pub fn get(&self, target: &Path) -> Command {
        self.get_under(&[], target)
    }

    /// The same, run by another program: `["prlimit", "--nofile=64"]`.
    pub fn get_under(&self, wrapper: &[&str], target: &Path) -> Command {
        let mut command = match wrapper {
            [] => ropewalk(&self.here, "get"),
            [program, arguments @ ..] => {
                let mut command = self.here.command(program);
                command.args(arguments);
                command.arg(env!("CARGO_BIN_EXE_ropewalk"));
                command.args(["get", "--port", &PORT.to_string()]);
                command
            }
        };
        let seed = format!("{}:{PORT}", self.there.address);
        command.args(["--json", "--no-tracker", "--peer", &seed]);
        command.arg("-o").arg(target);
        command
    }

    /// Starts a command that `get` began, for this torrent; leaves when complete.
    pub fn run(&self, mut command: Command) -> Running {
        command.arg("-e").arg(&self.work.torrent);
        let desk = self.desk.path().join(format!("run-{}", fastrand::u64(..)));
        Running::start("ropewalk get", command, &desk)
    }

    /// Starts a command that `get` began, for this torrent; shares when complete, until told to stop.
    pub fn run_on(&self, mut command: Command) -> Running {
        command.args(["--seed-ratio", "1000", "--seed-time", "0"]);
        command.arg(&self.work.torrent);
        let desk = self.desk.path().join(format!("run-{}", fastrand::u64(..)));
        Running::start("ropewalk get", command, &desk)
    }

    /// Runs `get` once more, without faults, and panics unless everything is there and right.
    pub fn finish(&self, target: &Path) {
        let mut run = self.run(self.get(target));
        assert_eq!(run.exit_code(120), 0, "{}", run.said());
        self.work.assert_arrived(target, Program::Ropewalk);
    }

    /// Stops the seed's process: nothing comes any more, and no connection is closed.
    pub fn freeze(&self) {
        self.seed.signal(rustix::process::Signal::STOP);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.seed.signal(rustix::process::Signal::CONT);
    }
}

fn figures(desk: &Path) -> serde_json::Value {
    let text = std::fs::read(desk.join("figures.json")).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}
