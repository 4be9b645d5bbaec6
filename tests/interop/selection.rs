//! `--only` against other people's programs: what is fetched of them, and what they are served from a
//! share that holds a few files and scraps of their neighbours.

use crate::programs::{PORT, Program, Running, Tracker, ropewalk};
use crate::room::{Host, Room};
use crate::torrents::{Maker, Plan, Work};
use rustix::process::Signal;
use std::fs;
use std::path::{Path, PathBuf};

/// Files of awkward lengths; every one shares its first and its last piece with others.
fn plan() -> Plan {
    let lengths = [100_000, 5_000_001, 0, 70_000, 3_000_000, 1, 900_000];
    let files = lengths.iter().enumerate();
    Plan {
        name: "shelf",
        files: files
            .map(|(n, length)| (format!("{n}/book.bin"), *length))
            .collect(),
        piece_bits: 18,
        maker: Maker::Mktorrent,
    }
}

fn original(work: &Work, file: usize) -> Vec<u8> {
    fs::read(path(work, work.folder(false), file)).unwrap()
}

fn path(work: &Work, folder: &Path, file: usize) -> PathBuf {
    folder.join(&work.name).join(format!("{file}/book.bin"))
}

/// Panics unless these files are in `folder`, and, if `alone`, no others.
fn assert_there(work: &Work, folder: &Path, files: &[usize], alone: bool) {
    for file in 0..7 {
        let found = fs::read(path(work, folder, file));
        if files.contains(&file) {
            assert!(found.unwrap() == original(work, file), "file {file}");
        } else if alone {
            assert!(found.is_err(), "file {file} was not asked for");
        }
    }
}

fn get(host: &Host, work: &Work, target: &Path, more: &[&str], desk: PathBuf) -> Running {
    let mut command = ropewalk(host, "get");
    command.args(["--json", "--seed-ratio", "0", "-o"]);
    command.arg(target).args(more).arg(&work.torrent);
    Running::start("ropewalk get", command, &desk)
}

fn complete(run: &mut Running) {
    run.until("it has what it wants", 60, |run| {
        run.last_figure("complete", "have")
    });
}

#[test]
#[ignore = "needs root, aria2c, opentracker, mktorrent"]
fn aria2_serves_us_some_files_and_fetches_the_shared_pieces_from_us() {
    let desk = tempfile::tempdir().unwrap();
    let room = Room::new();
    let (at_tracker, there, here, other) = (room.host(), room.host(), room.host(), room.host());
    let announce = Tracker::announce_on(&at_tracker);
    let work = plan().carry_out(&announce, desk.path());
    let hashes = [work.info_hash.clone()];
    let tracker = Tracker::start(&at_tracker, &hashes, &desk.path().join("tracker"));
    let folder = work.folder(false);
    let own = desk.path().join("seed");
    let mut seed = Program::Aria2.seed(&there, &work.torrent, folder, &own);
    tracker.await_seed(&work.info_hash, &mut seed);

    // Three, four and five lie between one and six: their ends are shared with files nobody wants.
    let target = desk.path().join("target");
    let only = ["--only", "3", "--only", "4", "--only", "5"];
    let mut run = get(&here, &work, &target, &only, desk.path().join("first"));
    complete(&mut run);
    assert_there(&work, &target, &[3, 4, 5], true);
    assert_eq!(tracker.knows(&work.info_hash).0, 1, "we are no seed");
    seed.signal(Signal::TERM);
    seed.ended(30);

    // aria2 asks for whole pieces as well, and nobody but us is left to give them.
    let (copy, port) = (desk.path().join("copy"), PORT.to_string());
    let mut command = other.command("aria2c");
    command.args([
        "--no-conf=true",
        "--enable-dht=false",
        "--bt-enable-lpd=false",
    ]);
    command.args([
        "--disable-ipv6=true",
        "--file-allocation=none",
        "--seed-time=0",
    ]);
    command.args(["--select-file=4,5,6", "--listen-port", &port, "--dir"]);
    command.arg(&copy).arg(&work.torrent);
    let mut aria2 = Running::start("aria2c, leeching", command, &desk.path().join("aria2"));
    let status = aria2.ended(90);
    assert!(status.success(), "{status}:\n{}", aria2.said());
    assert_there(&work, &copy, &[3, 4, 5], false);
    run.signal(Signal::INT);
    assert_eq!(run.exit_code(30), 0, "{}", run.said());
}

#[test]
#[ignore = "needs root, aria2c, opentracker, mktorrent"]
fn kills_between_selections_end_with_every_file_whole() {
    let desk = tempfile::tempdir().unwrap();
    let room = Room::new();
    let (at_tracker, there, here) = (room.host(), room.host(), room.host());
    let announce = Tracker::announce_on(&at_tracker);
    let work = plan().carry_out(&announce, desk.path());
    let hashes = [work.info_hash.clone()];
    let tracker = Tracker::start(&at_tracker, &hashes, &desk.path().join("tracker"));
    let own = desk.path().join("seed");
    let mut seed = Program::Aria2.seed(&there, &work.torrent, work.folder(false), &own);
    tracker.await_seed(&work.info_hash, &mut seed);
    let peer = format!("{}:{PORT}", there.address);
    there.limit(24);
    let target = desk.path().join("target");
    let number = std::env::var("INTEROP_SEED").ok();
    let number = number.and_then(|text| text.parse().ok());
    let number = number.unwrap_or_else(|| fastrand::u64(..));
    println!("INTEROP_SEED={number} repeats this run's moments");
    let mut dice = fastrand::Rng::with_seed(number);
    for kill in 0..12 {
        let one = dice.usize(0..7).to_string();
        let two = dice.usize(0..7).to_string();
        let mut words = vec!["--no-tracker", "--peer", &peer];
        match kill % 4 {
            3 => {}
            _ => words.extend(["--only", &one, "--only", &two]),
        }
        let own = desk.path().join(format!("kill-{kill}"));
        let mut run = get(&here, &work, &target, &words, own);
        let patience = std::time::Duration::from_millis(dice.u64(0..900));
        let status = run.killed_after(patience);
        assert!(status.is_none(), "kill {kill}: {status:?}:\n{}", run.said());
    }
    there.unlimited();
    let words = ["--no-tracker", "--peer", &peer, "--only", "1", "-e"];
    let mut command = ropewalk(&here, "get");
    command
        .args(words)
        .arg("-o")
        .arg(&target)
        .arg(&work.torrent);
    let mut run = Running::start("ropewalk get", command, &desk.path().join("one"));
    assert_eq!(run.exit_code(60), 0, "{}", run.said());
    assert_there(&work, &target, &[1], false);
    let mut command = ropewalk(&here, "get");
    command.args(["--no-tracker", "--peer", &peer, "-e", "-o"]);
    command.arg(&target).arg(&work.torrent);
    let mut run = Running::start("ropewalk get", command, &desk.path().join("all"));
    assert_eq!(run.exit_code(60), 0, "{}", run.said());
    work.assert_arrived(&target, Program::Ropewalk);
    assert!(!target.join(".shelf.ropewalk.part").exists());
}
