//! What `ropewalk share` prints on one host is all that another host needs: for `ropewalk get` the line,
//! for aria2 the http address in it.

use crate::programs::{PORT, Running, ropewalk};
use crate::room::{Host, Room};
use rustix::process::Signal;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

const LENGTH: usize = (8 << 20) + 17;

/// A host that shares one file, and the printed line.
struct Shop {
    running: Running,
    line: String,
    book: Vec<u8>,
}

impl Shop {
    fn open(host: &Host, desk: &Path, options: &[&str]) -> Shop {
        let mut dice = fastrand::Rng::with_seed(9);
        let book: Vec<u8> = std::iter::repeat_with(|| dice.u8(..))
            .take(LENGTH)
            .collect();
        let path = desk.join("shop/book.bin");
        std::fs::create_dir_all(desk.join("shop")).unwrap();
        std::fs::write(&path, &book).unwrap();
        let mut command = host.command(env!("CARGO_BIN_EXE_ropewalk"));
        command.arg("share").args(options).arg(&path);
        let mut running = Running::start("ropewalk share", command, &desk.join("share"));
        let line = running.until("it prints the line", 30, |running| {
            let said = running.said();
            let (line, _) = said.split_once("\n-- stderr")?;
            line.starts_with("ropewalk get ")
                .then(|| line.trim().to_owned())
        });
        println!("{}", running.said());
        Shop {
            running,
            line,
            book,
        }
    }

    fn torrent(&self) -> &str {
        self.line.strip_prefix("ropewalk get ").unwrap()
    }

    /// Runs a command that leaves when it has everything, and compares.
    fn serves(&self, name: &'static str, command: Command, desk: &Path) {
        let mut running = Running::start(name, command, desk);
        let status = running.ended(60);
        assert!(status.success(), "{status}: {}", running.said());
        let arrived = std::fs::read(desk.join("book.bin")).unwrap();
        assert!(arrived == self.book, "{name} has other bytes");
    }

    /// Ends it; nothing is left.
    fn close(mut self, desk: &Path) {
        self.running.signal(Signal::INT);
        assert_eq!(self.running.exit_code(20), 0, "{}", self.running.said());
        let left = std::fs::read_dir(desk.join("shop")).unwrap();
        assert_eq!(left.count(), 1);
    }
}

/// The very words of the line, with a folder to download into.
fn get(host: &Host, line: &str, desk: &Path) -> Command {
    let words: Vec<&str> = line.split(' ').collect();
    assert_eq!(words[0], "ropewalk");
    let mut command = ropewalk(host, words[1]);
    command.arg(words[2]).args(["-e", "-o"]).arg(desk);
    command
}

fn aria2(host: &Host, torrent: &str, desk: &Path) -> Command {
    let mut command = host.command("aria2c");
    command.args([
        "--no-conf=true",
        "--enable-dht=false",
        "--enable-dht6=false",
    ]);
    command.args(["--bt-enable-lpd=false", "--enable-peer-exchange=false"]);
    command.args([
        "--seed-time=0",
        "--file-allocation=none",
        "--summary-interval=0",
    ]);
    command.arg(format!("--listen-port={PORT}"));
    command.arg("--dir").arg(desk).arg(torrent);
    command
}

#[test]
#[ignore = "needs root, aria2c, nftables"]
fn the_printed_line_is_all_that_another_host_needs() {
    let desk = tempfile::tempdir().unwrap();
    let desk = desk.path();
    let room = Room::new();
    let (here, there, beyond) = (room.host_of_both(), room.host(), room.host());
    let counter = "table ip watch { chain out { type filter hook output priority 0; oifname \"eth0\" counter; }; }";
    let nft = |words: &[&str]| {
        let done = here.command("nft").args(words).output().unwrap();
        assert!(done.status.success(), "{done:?}");
        String::from_utf8_lossy(&done.stdout).into_owned()
    };
    nft(&[counter]);
    let shop = Shop::open(&here, desk, &[]);
    // Nobody has asked yet, and nobody was told.
    let counted = nft(&["list", "table", "ip", "watch"]);
    assert!(counted.contains("counter packets 0 bytes 0"), "{counted}");
    let address = format!("http://{}:6969/", here.address);
    assert!(shop.torrent().starts_with(&address), "{}", shop.line);
    let six = here.six.unwrap().to_string();
    assert!(shop.running.complained().contains(&six));

    let first = desk.join("get");
    shop.serves("ropewalk get", get(&there, &shop.line, &first), &first);
    let second = desk.join("aria2");
    let command = aria2(&beyond, shop.torrent(), &second);
    shop.serves("aria2c", command, &second);
    shop.close(desk);
}

#[test]
#[ignore = "needs root"]
fn a_host_of_ipv6_alone_is_told_by_that_address() {
    let desk = tempfile::tempdir().unwrap();
    let desk = desk.path();
    let room = Room::new();
    let (here, there) = (room.host_of_six(), room.host_of_six());
    let shop = Shop::open(&here, desk, &[]);
    let address = format!("http://[{}]:6969/", here.six.unwrap());
    assert!(shop.torrent().starts_with(&address), "{}", shop.line);
    let own = desk.join("get");
    shop.serves("ropewalk get", get(&there, &shop.line, &own), &own);
    shop.close(desk);
}

#[test]
#[ignore = "needs root"]
fn without_a_default_route_the_address_of_an_interface_is_told() {
    let desk = tempfile::tempdir().unwrap();
    let desk = desk.path();
    let room = Room::new();
    let (here, there) = (room.host(), room.host());
    let mut ip = here.command("ip");
    let done = ip.args(["route", "del", "default"]).status().unwrap();
    assert!(done.success());
    let shop = Shop::open(&here, desk, &[]);
    let address = format!("http://{}:6969/", here.address);
    assert!(shop.torrent().starts_with(&address), "{}", shop.line);
    let own = desk.join("get");
    shop.serves("ropewalk get", get(&there, &shop.line, &own), &own);
    shop.close(desk);
}

#[test]
#[ignore = "needs root"]
fn another_address_is_told_where_it_is_asked_for() {
    let desk = tempfile::tempdir().unwrap();
    let desk = desk.path();
    let room = Room::new();
    let (here, there) = (room.host_of_both(), room.host_of_both());
    let six: IpAddr = here.six.unwrap().into();
    let shop = Shop::open(
        &here,
        desk,
        &["--bind", &six.to_string(), "--tracker-port=7777"],
    );
    let address = format!("http://[{six}]:7777/");
    assert!(shop.torrent().starts_with(&address), "{}", shop.line);
    let own = desk.join("get");
    shop.serves("ropewalk get", get(&there, &shop.line, &own), &own);
    shop.close(desk);
}

#[test]
#[ignore = "needs root"]
fn two_hosts_that_fetch_at_once_find_each_other() {
    let desk = tempfile::tempdir().unwrap();
    let desk = desk.path();
    let room = Room::new();
    let (here, first, second) = (room.host(), room.host(), room.host());
    // So slow that one of them alone could not have it all from here in time.
    let shop = Shop::open(&here, desk, &["--up", "2M"]);
    let leecher = |host: &Host, name: &str| {
        let own = desk.join(name);
        let mut command = ropewalk(host, "get");
        command.args(["--json", "-o"]).arg(&own).arg(shop.torrent());
        Running::start("ropewalk get", command, &own)
    };
    let mut both = [leecher(&first, "first"), leecher(&second, "second")];
    for running in &mut both {
        running.until("it is complete", 60, |it| {
            it.last_figure("complete", "downloaded")
        });
    }
    let given: Vec<u64> = both
        .iter()
        .map(|it| it.last_figure("progress", "uploaded").unwrap_or(0))
        .collect();
    assert!(
        given.iter().sum::<u64>() > 0,
        "they gave each other {given:?}"
    );
    for (running, name) in both.iter_mut().zip(["first", "second"]) {
        running.signal(Signal::INT);
        assert_eq!(running.exit_code(20), 0, "{}", running.said());
        assert!(std::fs::read(desk.join(name).join("book.bin")).unwrap() == shop.book);
    }
    shop.close(desk);
}
