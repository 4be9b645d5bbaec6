//! One seed, one leecher, a tracker between them, and every kind of torrent.

use crate::programs::{PORT, Program, Tracker};
use crate::room::{Host, Room};
use crate::torrents::{Maker, Plan, Work, every_kind};
use std::path::Path;
use std::time::Instant;

/// Sends every kind of torrent from one program to another, all at the same time, each between two
/// hosts of its own: most of an exchange is waiting for trackers.
fn send_all(from: Program, to: Program, plans: &[Plan]) {
    send_all_by(Tracker::announce_on, from, to, plans);
}

/// The same with torrents that name the tracker as `announce_on` does.
fn send_all_by(announce_on: fn(&Host) -> String, from: Program, to: Program, plans: &[Plan]) {
    let desk = tempfile::tempdir().unwrap();
    let room = Room::new();
    let at_tracker = room.host();
    let announce = announce_on(&at_tracker);
    let make = |plan: &Plan| plan.carry_out(&announce, desk.path());
    let readable = |plan: &&Plan| {
        plan.maker != Maker::Libtorrent("hybrid") || from.reads_hybrids() && to.reads_hybrids()
    };
    let works: Vec<_> = plans.iter().filter(readable).map(make).collect();
    let hashes: Vec<_> = works.iter().map(|work| work.info_hash.clone()).collect();
    let tracker = Tracker::start(&at_tracker, &hashes, &desk.path().join("tracker"));
    std::thread::scope(|scope| {
        for (number, work) in works.iter().enumerate() {
            let hosts = [room.host(), room.host()];
            let own = desk.path().join(number.to_string());
            let tracker = &tracker;
            let name = format!("{from:?} to {to:?}: {}", work.name);
            let exchange = move || send(from, to, work, tracker, hosts, &own);
            let thread = std::thread::Builder::new().name(name);
            thread.spawn_scoped(scope, exchange).unwrap();
        }
    });
}

/// Sends one torrent from the first host to the second.
fn send(
    from: Program,
    to: Program,
    work: &Work,
    tracker: &Tracker,
    [at_seed, at_leecher]: [Host; 2],
    own: &Path,
) {
    let begun = Instant::now();
    let target = own.join("target");
    std::fs::create_dir_all(&target).unwrap();
    let folder = work.folder(!from.knows_padding());
    let mut seed = from.seed(&at_seed, &work.torrent, folder, &own.join("seed"));
    tracker.await_seed(&work.info_hash, &mut seed);
    let ready = begun.elapsed();
    to.leech(&at_leecher, &work.torrent, &target, &own.join("leecher"));
    work.assert_arrived(&target, to);
    println!(
        "{from:?} to {to:?}: {} ({} bytes), seed known after {ready:.1?}, arrived after {:.1?}",
        work.name,
        work.size,
        begun.elapsed()
    );
}

#[test]
#[ignore = "needs root, aria2c, transmission-daemon, opentracker, mktorrent, python3-libtorrent"]
fn the_others_understand_each_other_aria2_to_transmission() {
    send_all(Program::Aria2, Program::Transmission, &every_kind());
}

#[test]
#[ignore = "needs root, transmission-daemon, opentracker, mktorrent, python3-libtorrent"]
fn the_others_understand_each_other_transmission_to_libtorrent() {
    send_all(Program::Transmission, Program::Libtorrent, &every_kind());
}

#[test]
#[ignore = "needs root, aria2c, opentracker, mktorrent, python3-libtorrent"]
fn the_others_understand_each_other_libtorrent_to_aria2() {
    send_all(Program::Libtorrent, Program::Aria2, &every_kind());
}

#[test]
#[ignore = "needs root, aria2c, opentracker, mktorrent, python3-libtorrent"]
fn every_kind_of_torrent_arrives_from_an_aria2_seed() {
    send_all(Program::Aria2, Program::Ropewalk, &every_kind());
}

#[test]
#[ignore = "needs root, transmission-daemon, opentracker, mktorrent, python3-libtorrent"]
fn every_kind_of_torrent_arrives_from_a_transmission_seed() {
    send_all(Program::Transmission, Program::Ropewalk, &every_kind());
}

#[test]
#[ignore = "needs root, opentracker, mktorrent, python3-libtorrent"]
fn every_kind_of_torrent_arrives_from_a_libtorrent_seed() {
    send_all(Program::Libtorrent, Program::Ropewalk, &every_kind());
}

#[test]
#[ignore = "needs root, aria2c, opentracker, mktorrent, python3-libtorrent"]
fn aria2_fetches_every_kind_of_torrent_from_our_seed() {
    send_all(Program::Ropewalk, Program::Aria2, &every_kind());
}

#[test]
#[ignore = "needs root, transmission-daemon, opentracker, mktorrent, python3-libtorrent"]
fn transmission_fetches_every_kind_of_torrent_from_our_seed() {
    send_all(Program::Ropewalk, Program::Transmission, &every_kind());
}

#[test]
#[ignore = "needs root, opentracker, mktorrent, python3-libtorrent"]
fn libtorrent_fetches_every_kind_of_torrent_from_our_seed() {
    send_all(Program::Ropewalk, Program::Libtorrent, &every_kind());
}

/// aria2 asks UDP trackers only through its DHT, which is off here; so it is not among these.
fn found_by_udp(from: Program, to: Program) {
    send_all_by(Tracker::udp_announce_on, from, to, &every_kind()[..1]);
}

#[test]
#[ignore = "needs root, opentracker, mktorrent, python3-libtorrent"]
fn a_libtorrent_seed_is_found_by_udp() {
    found_by_udp(Program::Libtorrent, Program::Ropewalk);
}

#[test]
#[ignore = "needs root, opentracker, mktorrent, python3-libtorrent"]
fn libtorrent_finds_our_seed_by_udp() {
    found_by_udp(Program::Ropewalk, Program::Libtorrent);
}

#[test]
#[ignore = "needs root, transmission-daemon, opentracker, mktorrent, python3-libtorrent"]
fn a_transmission_seed_is_found_by_udp() {
    found_by_udp(Program::Transmission, Program::Ropewalk);
}

#[test]
#[ignore = "needs root, transmission-daemon, opentracker, mktorrent, python3-libtorrent"]
fn transmission_finds_our_seed_by_udp() {
    found_by_udp(Program::Ropewalk, Program::Transmission);
}

#[test]
#[ignore = "needs root, opentracker, python3-libtorrent"]
fn peers_finds_a_seed_by_udp_and_by_http_and_leaves_no_trace() {
    let desk = tempfile::tempdir().unwrap();
    let room = Room::new();
    let [at_tracker, at_seed, at_us] = [room.host(), room.host(), room.host()];
    let announce = Tracker::udp_announce_on(&at_tracker);
    let work = every_kind()[0].carry_out(&announce, desk.path());
    let hashes = [work.info_hash.clone()];
    let tracker = Tracker::start(&at_tracker, &hashes, &desk.path().join("tracker"));
    let mut seed = Program::Libtorrent.seed(
        &at_seed,
        &work.torrent,
        work.folder(false),
        &desk.path().join("seed"),
    );
    tracker.await_seed(&work.info_hash, &mut seed);
    let by_http = Tracker::announce_on(&at_tracker);
    let link = format!(
        "magnet:?xt=urn:btih:{}&tr={announce}&tr={by_http}",
        work.info_hash
    );
    let mut peers = at_us.command(env!("CARGO_BIN_EXE_ropewalk"));
    let output = peers.args(["peers", "--json", &link]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    let found: serde_json::Value = serde_json::from_str(&said).unwrap();
    let address = format!("{}:{PORT}", at_seed.address);
    for row in 0..2 {
        let row = &found["trackers"][row];
        assert_eq!(
            (&row["seeds"], &row["scraped"]),
            (&1.into(), &true.into()),
            "{row}"
        );
        assert_eq!(row["leechers"], 0, "{row}");
        assert_eq!(row["addresses"], serde_json::json!([address]), "{row}");
    }
    assert_eq!(tracker.knows(&work.info_hash), (1, 0));
}
