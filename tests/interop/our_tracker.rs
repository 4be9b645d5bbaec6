//! Everybody's clients find each other through our tracker: four seeds, and four leechers of each, by
//! HTTP and by UDP, over IPv4 and over IPv6. Nothing else brings them together: DHT, local discovery,
//! peer exchange and port mapping are off or have nobody to ask, and nobody is told where anybody is.
//!
//! By UDP over IPv6 not all can, as strace showed, asked for `udp://[::1]:6969` and for a name in the hosts
//! file that has an IPv6 address alone:
//!
//! * aria2 1.36 cannot: it sends from the IPv4 socket of its DHT whatever the address is (`sendto` fails with
//!   EAFNOSUPPORT, with `--enable-dht6` too), and looks names up for IPv4 alone ("No address returned").
//! * transmission 3.00 asks for the host `[` where the address is in brackets, and opens its socket only where the
//!   host has an address in 2000::/3 and a route to 2001:1890:1112:1::20. With a name and such a host it announces and is
//!   found, and takes the answer for one of IPv4 ("Got 3 peers" where there was one): it has to be called.

use crate::programs::{PYTHON, Program, Running, Tracker};
use crate::room::{Host, Room, await_event, percent};
use crate::torrents::{Maker, Plan, Work};
use rustix::process::Signal;
use std::path::Path;
use std::time::Instant;

const EVERYBODY: [Program; 4] = [
    Program::Aria2,
    Program::Transmission,
    Program::Libtorrent,
    Program::Ropewalk,
];

/// Those that read answers by UDP over IPv6; see above.
const BY_UDP_OVER_IPV6: [Program; 2] = [Program::Libtorrent, Program::Ropewalk];

/// The name of the tracker's host, where it has one.
const NAME: &str = "tracker.test";

fn name(seed: Program) -> &'static str {
    match seed {
        Program::Aria2 => "by aria2.bin",
        Program::Transmission => "by transmission.bin",
        Program::Libtorrent => "by libtorrent.bin",
        Program::Ropewalk => "by ropewalk.bin",
    }
}

/// The torrent that one program seeds.
fn work(seed: Program, announce: &str, desk: &Path) -> Work {
    let plan = Plan {
        name: name(seed),
        files: vec![(String::new(), (2 << 20) + 17)],
        piece_bits: 16,
        maker: Maker::Mktorrent,
    };
    plan.carry_out(announce, desk)
}

fn start_tracker(host: &Host, desk: &Path) -> Running {
    let mut command = host.command(env!("CARGO_BIN_EXE_ropewalk"));
    command.args(["tracker", "--http", "6969", "--udp", "6969"]);
    let mut running = Running::start("ropewalk tracker", command, desk);
    running.until("it serves", 20, |running| {
        running.said().contains("serving udp").then_some(())
    });
    running
}

/// What our tracker answers to a GET.
fn ask(at_tracker: &Host, path: &str) -> String {
    let answer = at_tracker.http_get(Tracker::address_on(at_tracker), path);
    String::from_utf8_lossy(&answer).into_owned()
}

fn hash_of(work: &Work) -> String {
    let pairs = work.info_hash.as_bytes().chunks(2);
    let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    percent(&pairs.map(byte).collect::<Vec<u8>>())
}

fn everybody_finds_everybody(scheme: &str, six: bool, programs: &[Program]) {
    let desk = tempfile::tempdir().unwrap();
    let room = Room::new();
    let at_tracker = room.host_of_both();
    let host = || if six { room.host_of_six() } else { room.host() };
    let address = match at_tracker.six.filter(|_| six) {
        Some(six) => format!("[{six}]"),
        None => at_tracker.address.to_string(),
    };
    let announce = format!("{scheme}://{address}:6969/announce");
    let mut tracker = start_tracker(&at_tracker, &desk.path().join("tracker"));
    let tables: Vec<_> = programs
        .iter()
        .map(|&seed| {
            let leechers: Vec<_> = programs.iter().map(|&it| (it, host())).collect();
            (seed, host(), leechers, work(seed, &announce, desk.path()))
        })
        .collect();
    std::thread::scope(|scope| {
        for (seed, at_seed, leechers, work) in &tables {
            let own = desk.path().join(name(*seed));
            let at_tracker = &at_tracker;
            let thread = std::thread::Builder::new().name(format!("{seed:?}"));
            let table = move || table(*seed, at_seed, leechers, work, at_tracker, &own);
            thread.spawn_scoped(scope, table).unwrap();
        }
    });
    let least = (programs.len() * (programs.len() + 1)) as u64;
    match scheme {
        "http" => assert_announces(&at_tracker, "http_announces", "udp_announces", least),
        _ => assert_by_udp_alone(&at_tracker, least),
    }
    tracker.signal(Signal::TERM);
    assert_eq!(tracker.exit_code(20), 0);
}

fn assert_by_udp_alone(at_tracker: &Host, least: u64) {
    assert_announces(at_tracker, "udp_announces", "http_announces", least);
}

/// There were so many announces at least of the one kind, and none of the other.
fn assert_announces(at_tracker: &Host, used: &str, unused: &str, least: u64) {
    let stats = ask(at_tracker, "/stats");
    println!("{stats}");
    let counted = |name: &str| -> u64 {
        let line = stats.lines().find_map(|line| line.strip_prefix(name));
        line.map_or(0, |number| number.trim().parse().unwrap())
    };
    assert!(counted(used) >= least, "{stats}");
    assert_eq!(counted(unused), 0, "{stats}");
}

/// One seed, and one leecher after the other, each on a host of its own.
fn table(
    seed: Program,
    at_seed: &Host,
    leechers: &[(Program, Host)],
    work: &Work,
    at_tracker: &Host,
    own: &Path,
) {
    let folder = work.folder(!seed.knows_padding());
    let mut seeding = seed.seed(at_seed, &work.torrent, folder, &own.join("seed"));
    let scrape = format!("/scrape?info_hash={}", hash_of(work));
    seeding.until("our tracker knows it as a seed", 60, |_| {
        let known = ask(at_tracker, &scrape).contains("8:completei1e");
        known.then_some(())
    });
    for (leecher, host) in leechers {
        let begun = Instant::now();
        let own = own.join(format!("{leecher:?}"));
        let target = own.join("target");
        std::fs::create_dir_all(&target).unwrap();
        leecher.leech(host, &work.torrent, &target, &own);
        work.assert_arrived(&target, *leecher);
        println!("{seed:?} to {leecher:?}: {:.1?}", begun.elapsed());
    }
}

#[test]
#[ignore = "needs root, aria2c, transmission-daemon, mktorrent, python3-libtorrent"]
fn everybody_finds_everybody_by_http_over_ipv4() {
    everybody_finds_everybody("http", false, &EVERYBODY);
}

#[test]
#[ignore = "needs root, aria2c, transmission-daemon, mktorrent, python3-libtorrent"]
fn everybody_finds_everybody_by_http_over_ipv6() {
    everybody_finds_everybody("http", true, &EVERYBODY);
}

#[test]
#[ignore = "needs root, aria2c, transmission-daemon, mktorrent, python3-libtorrent"]
fn everybody_finds_everybody_by_udp_over_ipv4() {
    everybody_finds_everybody("udp", false, &EVERYBODY);
}

/// A seed that cannot read what it is told finds nobody, and is found.
#[test]
#[ignore = "needs root, transmission-daemon, mktorrent, python3-libtorrent"]
fn transmission_seeds_to_who_finds_it_by_udp_over_ipv6() {
    let desk = tempfile::tempdir().unwrap();
    let room = Room::new();
    let at_tracker = room.host_of_both_worldwide();
    let host = || worldwide(&room, &at_tracker);
    let mut tracker = start_tracker(&at_tracker, &desk.path().join("tracker"));
    let seed = Program::Transmission;
    let work = work(seed, &format!("udp://{NAME}:6969/announce"), desk.path());
    let leechers: Vec<_> = BY_UDP_OVER_IPV6.iter().map(|&it| (it, host())).collect();
    let own = desk.path().join("own");
    table(seed, &host(), &leechers, &work, &at_tracker, &own);
    assert_by_udp_alone(&at_tracker, 3);
    tracker.signal(Signal::TERM);
    assert_eq!(tracker.exit_code(20), 0);
}

/// It is there first, so that seeds are told of it and call it.
#[test]
#[ignore = "needs root, transmission-daemon, mktorrent, python3-libtorrent"]
fn transmission_is_found_by_seeds_by_udp_over_ipv6() {
    let desk = tempfile::tempdir().unwrap();
    let room = Room::new();
    let at_tracker = room.host_of_both_worldwide();
    let mut tracker = start_tracker(&at_tracker, &desk.path().join("tracker"));
    for seed in BY_UDP_OVER_IPV6 {
        let work = work(seed, &format!("udp://{NAME}:6969/announce"), desk.path());
        let own = desk.path().join(format!("{seed:?}"));
        let target = own.join("target");
        std::fs::create_dir_all(&target).unwrap();
        let (at_seed, at_leecher) = (worldwide(&room, &at_tracker), worldwide(&room, &at_tracker));
        let scrape = format!("/scrape?info_hash={}", hash_of(&work));
        let leecher = Program::Transmission;
        std::thread::scope(|scope| {
            let leeching = || leecher.leech(&at_leecher, &work.torrent, &target, &own);
            let leeching = scope.spawn(leeching);
            await_event("our tracker knows the leecher", 60, || {
                ask(&at_tracker, &scrape)
                    .contains("10:incompletei1e")
                    .then_some(())
            });
            let folder = work.folder(!seed.knows_padding());
            let _seeding = seed.seed(&at_seed, &work.torrent, folder, &own.join("seed"));
            leeching.join().unwrap();
            work.assert_arrived(&target, leecher);
        });
    }
    assert_by_udp_alone(&at_tracker, 4);
    tracker.signal(Signal::TERM);
    assert_eq!(tracker.exit_code(20), 0);
}

/// A host with an address of IPv6 alone that knows our tracker by name.
fn worldwide(room: &Room, at_tracker: &Host) -> Host {
    let host = room.host_of_six_worldwide();
    host.knows(NAME, at_tracker.six.unwrap().into());
    host
}

/// The first answers do not leave, for want of buffers: they are counted, and the rest goes on.
#[test]
#[ignore = "needs root, strace, python3"]
fn answers_that_the_system_does_not_take_are_lost_and_counted() {
    let desk = tempfile::tempdir().unwrap();
    let room = Room::new();
    let host = room.host();
    let mut command = host.command("strace");
    // -D: what we start and end is the tracker, and strace goes with it.
    command.args(["-D", "-f", "-qq", "-o", "/dev/null"]);
    command.args(["-e", "trace=sendmmsg"]);
    command.args(["-e", "inject=sendmmsg:error=ENOBUFS:when=1..2"]);
    command.args([env!("CARGO_BIN_EXE_ropewalk"), "tracker"]);
    command.args(["--http", "6969", "--udp", "6969"]);
    let mut tracker = Running::start("ropewalk tracker", command, desk.path());
    tracker.until("it serves", 20, |running| {
        running.said().contains("serving udp").then_some(())
    });
    // A question for a connection id, asked until it is answered: which one was it?
    let script = r"if 1:
        import socket, sys
        line = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        line.settimeout(1)
        for turn in range(1, 10):
            line.sendto(bytes.fromhex('0000041727101980') + bytes(4) + b'wxyz', ('127.0.0.1', 6969))
            try:
                line.recv(64)
            except TimeoutError:
                continue
            sys.exit(turn)";
    let mut asking = host.command(PYTHON);
    asking.args(["-c", script]);
    let answered = asking.status().unwrap();
    assert_eq!(answered.code(), Some(3), "{}", tracker.said());
    let stats = ask(&host, "/stats");
    assert!(stats.contains("\nudp_unsent 2\n"), "{stats}");
}

#[test]
#[ignore = "needs root, mktorrent, python3-libtorrent"]
fn who_can_finds_each_other_by_udp_over_ipv6() {
    everybody_finds_everybody("udp", true, &BY_UDP_OVER_IPV6);
}
