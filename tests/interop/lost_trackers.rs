//! Trackers that cannot be reached: packets that vanish, packets that are refused, names that nobody
//! resolves. Peers come from the other tiers, leaving takes no time, and how it ended is told truly.

use crate::programs::{Running, ropewalk};
use crate::room::{Host, Room};
use ropewalk::protocol::Digest;
use ropewalk::protocol::metainfo::{Draft, FileEntry};
use rustix::process::Signal;
use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::process::Command;

const LENGTH: usize = (1 << 20) + 17;
const PIECE: u32 = 1 << 16;

/// A tracker and a seed on one host, and another host that wants what the seed has.
struct Set {
    desk: tempfile::TempDir,
    room: Room,
    here: Host,
    there: Host,
    book: Vec<u8>,
    running: Vec<Running>,
}

impl Set {
    fn new() -> Set {
        let desk = tempfile::tempdir().unwrap();
        let room = Room::new();
        let (here, there) = (room.host_of_both(), room.host_of_both());
        let mut dice = fastrand::Rng::with_seed(3);
        let book: Vec<u8> = std::iter::repeat_with(|| dice.u8(..))
            .take(LENGTH)
            .collect();
        std::fs::write(desk.path().join("book"), &book).unwrap();
        let mut command = there.command(env!("CARGO_BIN_EXE_ropewalk"));
        command.args(["tracker", "--http", "6969", "--udp", "6969"]);
        let mut tracker = Running::start("ropewalk tracker", command, &desk.path().join("tracker"));
        tracker.until("it serves", 20, |running| {
            running.said().contains("serving udp").then_some(())
        });
        Set {
            desk,
            room,
            here,
            there,
            book,
            running: vec![tracker],
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.desk.path().join(name)
    }

    /// The tracker's address for HTTP.
    fn live(&self) -> String {
        format!("http://{}:6969/announce", self.there.address)
    }

    /// The torrent with these trackers, a tier each.
    fn torrent(&self, trackers: &[String]) -> PathBuf {
        let pieces = self.book.chunks(PIECE as usize);
        let draft = Draft {
            name: "book".into(),
            piece_length: PIECE,
            single_file: true,
            files: vec![FileEntry::plain("book", LENGTH as u64)],
            piece_digests: pieces.map(Digest::of).collect(),
            trackers: trackers.iter().map(|url| vec![url.clone()]).collect(),
            ..Draft::default()
        };
        let path = self.path(&format!("{}.torrent", fastrand::u64(..)));
        std::fs::write(&path, draft.compose()).unwrap();
        path
    }

    /// The seed, once the tracker knows it.
    fn with_seed(mut self) -> Set {
        let torrent = self.torrent(&[self.live()]);
        let mut command = ropewalk(&self.there, "seed");
        command.args(["--json", "--seed-ratio", "0", "--seed-time", "0"]);
        command.arg(torrent).arg(self.desk.path());
        let mut seed = Running::start("ropewalk seed", command, &self.path("seed"));
        seed.until("the tracker knows it", 20, told_by_a_tracker);
        self.running.push(seed);
        self
    }

    fn get(&self, trackers: &[String], words: &[&str]) -> Running {
        let mut command = ropewalk(&self.here, "get");
        command
            .arg("--json")
            .args(words)
            .arg("-o")
            .arg(self.path("down"));
        command.arg(self.torrent(trackers));
        Running::start("ropewalk get", command, &self.path("get"))
    }

    /// Fetches all of it although the first tiers lead nowhere.
    fn is_fetched_beside(&self, dead: &[String]) {
        let trackers = [dead, &[self.live()]].concat();
        let mut run = self.get(&trackers, &["-e"]);
        assert_eq!(run.exit_code(60), 0, "{}", run.said());
        assert!(std::fs::read(self.path("down/book")).unwrap() == self.book);
        let _ = std::fs::remove_dir_all(self.path("down"));
    }

    /// Runs `peers`; it ends by itself, and the live tracker's figures are there.
    fn peers(&self, dead: &[String]) -> serde_json::Value {
        let torrent = self.torrent(&[dead, &[self.live()]].concat());
        let mut command: Command = self.here.command(env!("CARGO_BIN_EXE_ropewalk"));
        command.args(["peers", "--json"]).arg(torrent);
        let mut run = Running::start("ropewalk peers", command, &self.path("peers"));
        assert_eq!(run.exit_code(60), 0, "{}", run.said());
        let text = std::fs::read_to_string(self.path("peers/stdout")).unwrap();
        let found: serde_json::Value = serde_json::from_str(&text).unwrap();
        let row = &found["trackers"][dead.len()];
        assert_eq!((&row["seeds"], &row["leechers"]), (&1.into(), &0.into()));
        found
    }
}

/// Whether a tracker has answered.
fn told_by_a_tracker(run: &Running) -> Option<()> {
    let events = run.events();
    let answered = |it: &serde_json::Value| it["event"] == "tracker" && it["error"].is_null();
    events.iter().any(answered).then_some(())
}

/// Addresses of both kinds at a host.
fn both_kinds(host: &str) -> Vec<String> {
    ["http", "udp"]
        .map(|scheme| format!("{scheme}://{host}:6969/announce"))
        .to_vec()
}

/// Ctrl-C ends it before it has heard anything of the trackers, and it says how it ended.
fn leaves_at_once(run: &mut Running) {
    run.until("it has begun", 20, |run| {
        let events = run.events();
        let asks = |it: &serde_json::Value| it["event"] == "progress";
        events.iter().any(asks).then_some(())
    });
    run.signal(Signal::INT);
    assert_eq!(run.exit_code(30), 130, "{}", run.said());
    let events = run.events();
    let told = events.iter().filter(|it| it["event"] == "tracker");
    assert_eq!(told.count(), 0, "it waited for them:\n{}", run.said());
}

#[test]
#[ignore = "needs root, nftables"]
fn b4_a_tracker_whose_packets_vanish_delays_neither_the_others_nor_the_end() {
    let set = Set::new().with_seed();
    let deaf = set.room.host();
    deaf.hear_nothing();
    let dead = both_kinds(&deaf.address.to_string());
    set.is_fetched_beside(&dead);
    leaves_at_once(&mut set.get(&dead, &[]));
    let found = set.peers(&dead);
    for number in 0..2 {
        let error = found["trackers"][number]["error"].as_str().unwrap();
        assert!(error.starts_with("no answer within "), "{error}");
    }
}

#[test]
#[ignore = "needs root, nftables"]
fn b4_a_tracker_that_a_firewall_refuses_is_passed_over() {
    let set = Set::new().with_seed();
    let walled = set.room.host();
    walled.refuse();
    let dead = both_kinds(&walled.address.to_string());
    set.is_fetched_beside(&dead);
    let found = set.peers(&dead);
    for number in 0..2 {
        assert!(found["trackers"][number]["error"].is_string(), "{found}");
    }
}

#[test]
#[ignore = "needs root, nftables"]
fn b4_names_that_nobody_resolves_delay_neither_the_others_nor_the_end() {
    let mut set = Set::new().with_seed();
    let deaf = set.room.host();
    deaf.hear_nothing();
    let patience = format!(
        "nameserver {}\noptions timeout:30 attempts:5\n",
        deaf.address
    );
    set.here.etc("resolv.conf", &patience);
    set.here.etc("hosts", "127.0.0.1 localhost\n");
    let dead = both_kinds("tracker.example");
    set.is_fetched_beside(&dead);
    leaves_at_once(&mut set.get(&dead, &[]));
    let found = set.peers(&dead);
    for number in 0..2 {
        let error = found["trackers"][number]["error"].as_str().unwrap();
        assert!(error.starts_with("no answer within "), "{error}");
    }
    // It knows where we were, and may call: nobody but the dead trackers is to be there.
    set.running.truncate(1);
    let mut run = set.get(&dead, &["--timeout", "8"]);
    assert_eq!(run.exit_code(60), 2, "{}", run.said());
    let events = run.events();
    let failed = events.iter().filter(|it| it["event"] == "tracker");
    assert!(failed.count() >= 2, "{}", run.said());
    let stopped = events.iter().find(|it| it["event"] == "stopped").unwrap();
    assert_eq!(stopped["reason"], "timeout");
}

#[test]
#[ignore = "needs root"]
fn a_resolver_that_is_not_there_is_told_in_words() {
    let set = Set::new().with_seed();
    set.here.etc("resolv.conf", "nameserver 127.0.0.1\n");
    set.here.etc("hosts", "127.0.0.1 localhost\n");
    let dead = both_kinds("tracker.example");
    set.is_fetched_beside(&dead);
    let found = set.peers(&dead);
    for number in 0..2 {
        let error = &found["trackers"][number]["error"];
        assert_eq!(error, "the host was not found");
    }
}

#[test]
#[ignore = "needs root"]
fn an_http_tracker_with_both_families_hears_everything_once_over_each() {
    let set = Set::new();
    let (four, six) = (set.there.address, set.there.six.unwrap());
    let hosts = format!("127.0.0.1 localhost\n{four} tracker.example\n{six} tracker.example\n");
    set.here.etc("hosts", &hosts);
    let tracker = vec!["http://tracker.example:6969/announce".to_owned()];
    let mut run = set.get(&tracker, &[]);
    run.until("the tracker has answered", 20, told_by_a_tracker);
    let stats = || {
        let at = SocketAddrV4::new(four, 6969);
        String::from_utf8(set.there.http_get(at, "/stats")).unwrap()
    };
    let figure = |name: &str| -> u64 {
        let stats = stats();
        let line = stats.lines().find_map(|line| line.strip_prefix(name));
        line.map_or(0, |number| number.trim().parse().unwrap())
    };
    assert_eq!((figure("http_announces"), figure("leechers")), (2, 2));
    run.signal(Signal::INT);
    assert_eq!(run.exit_code(30), 130, "{}", run.said());
    assert_eq!((figure("http_announces"), figure("leechers")), (4, 0));
}

#[test]
#[ignore = "needs root"]
fn from_a_bound_address_a_tracker_of_both_families_is_asked_over_one() {
    let set = Set::new();
    let (four, six) = (set.there.address, set.there.six.unwrap());
    set.here.etc(
        "hosts",
        &format!("{four} tracker.example\n{six} tracker.example\n"),
    );
    let bind = set.here.six.unwrap().to_string();
    for tracker in both_kinds("tracker.example") {
        let mut run = set.get(&[tracker], &["--bind", &bind]);
        run.until("the tracker has answered", 20, told_by_a_tracker);
        let at = SocketAddrV4::new(four, 6969);
        let stats = String::from_utf8(set.there.http_get(at, "/stats")).unwrap();
        assert!(stats.contains("leechers 1\n"), "{stats}");
        run.signal(Signal::INT);
        assert_eq!(run.exit_code(30), 130, "{}", run.said());
    }
}
