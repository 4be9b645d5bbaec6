//! `share` as it is met on one machine: the printed line is all that a `get` needs.

use crate::desk::{Desk, Running, noise};
use rustix::process::Signal;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

const HERE: [&str; 7] = [
    "share",
    "--bind",
    "127.0.0.1",
    "--port",
    "0",
    "--tracker-port",
    "0",
];

/// Starts `share --json` and gives the address of the .torrent.
fn start(desk: &Desk, options: &[&str]) -> (Running, String) {
    let mut running = desk.start(&[&HERE[..], &["--json"], options].concat());
    let shared = running.wait_for("shared");
    let torrent = shared["torrent"].as_str().unwrap().to_owned();
    assert_eq!(shared["address"], "127.0.0.1");
    (running, torrent)
}

/// Fetches into the folder `there`.
fn fetch(desk: &Desk, torrent: &str) {
    let words = ["get", "-e", "--port", "0", "-o", "there", torrent];
    desk.run(&words).expect(0);
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let names = entries.map(|it| it.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

fn server_of(torrent: &str) -> SocketAddr {
    let host = torrent.strip_prefix("http://").unwrap();
    host.split('/').next().unwrap().parse().unwrap()
}

fn ask(server: SocketAddr, request: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(server).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    // A server that has read enough may close before the end of a long request.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

#[test]
fn the_printed_line_fetches_the_same_bytes_and_nothing_is_left_behind() {
    let desk = Desk::new();
    let book = noise(1, 300_000);
    desk.write("book.bin", &book);
    let mut running = desk.start(&[&HERE[..], &["-q", "book.bin"]].concat());
    let line = running.wait_for_line();
    let words: Vec<&str> = line.split(' ').collect();
    assert_eq!(words[..2], ["ropewalk", "get"], "{line}");
    desk.run(&[&words[1..], &["-e", "--port", "0", "-o", "there"]].concat())
        .expect(0);
    assert_eq!(desk.read("there/book.bin"), book);
    running.signal(Signal::INT);
    assert_eq!(running.end().code(), Some(0));
    assert_eq!(names(&desk.path("")), ["book.bin", "there"]);
    assert_eq!(names(&desk.path("there")), ["book.bin"]);
}

#[test]
fn what_was_hashed_for_the_torrent_is_not_hashed_by_the_seed() {
    let desk = Desk::new();
    desk.write("album/one", &noise(1, 100_000));
    desk.write("album/two/three", &noise(2, 100_000));
    let mut running = desk.start(&[&HERE[..], &["--json", "album"]].concat());
    let mut seen = Vec::new();
    loop {
        let event: serde_json::Value = serde_json::from_str(&running.wait_for_line()).unwrap();
        seen.push(event["event"].as_str().unwrap().to_owned());
        if event["event"] == "complete" {
            assert_eq!(event["have"], event["size"]);
            assert_eq!(event["already"], true);
            break;
        }
    }
    assert!(!seen.contains(&"checking".to_owned()), "{seen:?}");
    running.signal(Signal::TERM);
    assert_eq!(running.end().code(), Some(0));
}

#[test]
fn a_folder_with_links_in_it_arrives_under_the_name_it_was_given() {
    let desk = Desk::new();
    desk.write("elsewhere/long", &noise(3, 50_000));
    desk.write("album/short", b"short");
    let link = |to: &str, at: &str| std::os::unix::fs::symlink(desk.path(to), desk.path(at));
    link("elsewhere/long", "album/file").unwrap();
    link("elsewhere", "album/folder").unwrap();
    link("album", "door").unwrap();
    let (mut running, torrent) = start(&desk, &["--name", "gift", "door"]);
    fetch(&desk, &torrent);
    for name in ["file", "folder/long"] {
        assert_eq!(
            desk.read(&format!("there/gift/{name}")),
            noise(3, 50_000),
            "{name}"
        );
    }
    assert_eq!(desk.read("there/gift/short"), b"short");
    running.signal(Signal::INT);
    assert_eq!(running.end().code(), Some(0));
}

#[test]
fn only_the_torrent_is_handed_out_whatever_is_asked_for() {
    let desk = Desk::new();
    desk.write("book.bin", &noise(4, 20_000));
    desk.write("secret", b"top secret");
    let (_running, torrent) = start(&desk, &["book.bin"]);
    let server = server_of(&torrent);
    let path = torrent
        .strip_prefix(&format!("http://{server}"))
        .unwrap()
        .to_owned();
    let get = |path: &str| ask(server, format!("GET {path} HTTP/1.1\r\n\r\n").as_bytes());
    let own = get(&path);
    assert!(own.starts_with(b"HTTP/1.1 200"));
    assert!(own.windows(24).any(|it| it == b"application/x-bittorrent"));
    // Download managers ask for the size first.
    let head = ask(server, format!("HEAD {path} HTTP/1.1\r\n\r\n").as_bytes());
    let body = own.windows(4).position(|it| it == b"\r\n\r\n").unwrap() + 4;
    assert_eq!(head, own[..body]);
    let none = ask(server, b"HEAD /none HTTP/1.1\r\n\r\n");
    assert!(none.starts_with(b"HTTP/1.1 404") && none.ends_with(b"\r\n\r\n"));
    let upper = path.to_uppercase();
    let long = format!("/{}", "a".repeat(100_000));
    for other in [
        "/book.bin",
        "/secret",
        "/../secret",
        "/..%2fsecret",
        "//etc/passwd",
        "/etc/passwd",
        &desk.path("secret").to_string_lossy(),
        "file:///etc/passwd",
        &format!("/x/..{path}"),
        &format!("{path}/"),
        &format!("/{path}"),
        &upper,
        "/%00",
        "*",
    ] {
        let answer = String::from_utf8_lossy(&get(other)).into_owned();
        assert!(answer.starts_with("HTTP/1.1 4"), "{other}: {answer}");
        assert!(!answer.contains("top secret") && !answer.contains("root:"));
    }
    let answer = get(&long);
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431"));
    for bad in [
        &b"\x00\xff\xfe\r\n\r\n"[..],
        b"GET\r\n\r\n",
        b"DELETE / HTTP/1.1\r\n\r\n",
        b"PUT /x.torrent HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n",
    ] {
        let answer = ask(server, bad);
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{bad:?}");
    }
    // Another torrent is not tracked, and after all this the book is still to be had.
    let strange = get(&format!(
        "/announce?info_hash={}&peer_id={}&port=1&left=1",
        "%07".repeat(20),
        "x".repeat(20)
    ));
    assert!(String::from_utf8_lossy(&strange).contains("failure reason"));
    fetch(&desk, &torrent);
    assert_eq!(desk.read("there/book.bin"), desk.read("book.bin"));
}

#[test]
fn the_torrent_is_written_where_it_is_asked_for_and_names_this_tracker_alone() {
    let desk = Desk::new();
    desk.write("book.bin", &noise(5, 20_000));
    let options = ["-o", "out.torrent", "--comment=a gift", "--private"];
    let (_running, torrent) = start(&desk, &[&options[..], &["book.bin"]].concat());
    let show = desk
        .run(&["show", "--json", "out.torrent"])
        .expect(0)
        .json();
    let server = server_of(&torrent);
    assert_eq!(show["trackers"][0][0], format!("http://{server}/announce"));
    let udp = show["trackers"][1][0].as_str().unwrap();
    assert!(udp.starts_with("udp://127.0.0.1:"), "{udp}");
    assert_eq!(show["trackers"].as_array().unwrap().len(), 2);
    assert_eq!(
        (&show["comment"], &show["private"]),
        (&"a gift".into(), &true.into())
    );
    // What is there is not replaced unless that is asked for, which is known before any hashing.
    let again = [&HERE[..], &["-o", "out.torrent", "book.bin"]].concat();
    let outcome = desk.run(&again).expect(2);
    assert!(outcome.err.contains("--overwrite"), "{}", outcome.err);
}

#[test]
fn a_limit_ends_it_with_status_0() {
    let desk = Desk::new();
    desk.write("book.bin", &noise(6, 20_000));
    let (mut running, torrent) = start(&desk, &["--seed-ratio", "1", "book.bin"]);
    fetch(&desk, &torrent);
    let stopped = running.wait_for("stopped");
    assert_eq!(stopped["reason"], "done");
    assert_eq!(running.end().code(), Some(0));
}

#[test]
fn what_cannot_be_shared_is_told_in_one_sentence() {
    let desk = Desk::new();
    desk.write("empty", b"");
    std::fs::create_dir(desk.path("nothing")).unwrap();
    desk.write("book.bin", b"some text");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let only = ["share", "--bind", "127.0.0.1"];
    for (options, status, words) in [
        (vec!["missing"], 2, "missing"),
        (vec!["empty"], 2, "at least one byte"),
        (vec!["nothing"], 2, "at least one byte"),
        (vec!["--port", &port, "book.bin"], 2, "--port"),
        (
            vec!["--tracker-port", &port, "book.bin"],
            2,
            "--tracker-port",
        ),
        (vec!["--port=7", "--tracker-port=7", "book.bin"], 1, "same"),
        (vec!["--overwrite", "book.bin"], 1, "--output"),
        (vec!["-o", "-", "book.bin"], 1, "standard output"),
        (vec!["-qv", "book.bin"], 1, "contradict"),
        (vec!["--tracker", "http://x", "book.bin"], 1, "--tracker"),
        (vec![], 1, "PATH"),
    ] {
        let outcome = desk.run(&[&only[..], &options].concat()).expect(status);
        assert!(outcome.err.contains(words), "{options:?}: {}", outcome.err);
        assert!(outcome.err.lines().count() <= 2, "{}", outcome.err);
        assert_eq!(outcome.out, "");
    }
    let foreign = ["share", "--bind", "192.0.2.77", "book.bin"];
    let outcome = desk.run(&foreign).expect(2);
    assert!(outcome.err.contains("192.0.2.77"), "{}", outcome.err);
    let failed = [&only[..], &["--json", "missing"]].concat();
    let events = desk.run(&failed).expect(2).events();
    assert_eq!(events[0]["reason"], "file");
    assert_eq!(names(&desk.path("")), ["book.bin", "empty", "nothing"]);
}

#[test]
fn what_changes_while_it_is_hashed_is_not_shared() {
    let desk = Desk::new();
    for number in 0..64 {
        desk.write(format!("busy/{number:02}"), &noise(number, 400_000));
    }
    let path = desk.path("busy/63");
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let writer = std::thread::spawn(move || {
        let mut file = std::fs::File::options().append(true).open(path).unwrap();
        while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
            file.write_all(b"more").unwrap();
        }
    });
    let outcome = desk.run(&[&HERE[..], &["busy"]].concat());
    drop(stop);
    writer.join().unwrap();
    let outcome = outcome.expect(2);
    let words = "busy/63 changed while it was read";
    assert!(outcome.err.contains(words), "{}", outcome.err);
    assert_eq!(outcome.out, "");
    assert_eq!(names(&desk.path("")), ["busy"]);
}

#[test]
fn a_stop_while_it_is_hashed_shares_nothing_and_has_the_signals_status() {
    let desk = Desk::new();
    // All holes: more than can be hashed before the signal comes.
    let file = std::fs::File::create(desk.path("huge")).unwrap();
    file.set_len(1 << 40).unwrap();
    let mut child = desk
        .signalled()
        .args(HERE)
        .args(["--piece-length=2M", "huge"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // The first line of progress says that the work has begun.
    let mut err = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut err, &mut line).unwrap();
    assert!(line.contains("hashed"), "{line}");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, Signal::INT).unwrap();
    std::io::copy(&mut err, &mut std::io::sink()).unwrap();
    let outcome = child.wait_with_output().unwrap();
    assert_eq!(outcome.status.code(), Some(130));
    assert_eq!(outcome.stdout, b"");
    assert_eq!(names(&desk.path("")), ["huge"]);
}
