//! Clients that do our tracker no good: what is no HTTP, what never ends, what stays silent, and more
//! of them than there is room for. Each test ends with a plain announce that is answered.

use ropewalk::tracker::counters::Counted;
use ropewalk::tracker::{Page, Running, Setup, start};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);
const HASH: &str = "info_hash=aaaaaaaaaaaaaaaaaaaa";
const PEER: &str = "peer_id=bbbbbbbbbbbbbbbbbbbb";

fn tracker() -> Running {
    start(Setup {
        http: vec!["127.0.0.1:0".parse().unwrap()],
        udp: vec!["127.0.0.1:0".parse().unwrap()],
        ..Setup::default()
    })
    .unwrap()
}

fn call(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Everything that comes until the other side ends.
fn rest(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    // A reset after the answer, because something was not read, is an end as well.
    let mut part = [0; 4_096];
    loop {
        match stream.read(&mut part) {
            Ok(0) => break,
            Ok(length) => answer.extend(&part[..length]),
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
                break;
            }
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

fn say(to: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = call(to);
    // It may end before it has heard everything.
    let _ = stream.write_all(bytes);
    rest(stream)
}

fn get(to: SocketAddr, target: &str) -> String {
    say(
        to,
        format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes(),
    )
}

fn assert_well(tracker: &Running) {
    let answer = get(
        tracker.http()[0],
        &format!("/announce?{HASH}&{PEER}&port=7&left=0"),
    );
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("8:completei1e"), "{answer}");
}

#[test]
fn what_is_no_request_is_answered_with_an_error_and_an_end() {
    let tracker = tracker();
    let http = tracker.http()[0];
    let post = "POST /announce HTTP/1.1\r\nContent-Length: 1073741824\r\n\r\n";
    let headers = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(10_000));
    for (bytes, status) in [
        (vec![b'A'; 1 << 20], "431"),
        (headers.into_bytes(), "431"),
        ([post.as_bytes(), &[b'x'; 1 << 20]].concat(), "405"),
        (b"GET /stats\r\n".to_vec(), "400"),
        (b"GET /st\0ats HTTP/1.1\r\n\r\n".to_vec(), "400"),
        (b"\x13BitTorrent protocol".to_vec(), "400"),
        (b"HEAD /announce HTTP/1.1\r\n\r\n".to_vec(), "405"),
        (b"GET /nothing HTTP/1.1\r\n\r\n".to_vec(), "404"),
    ] {
        let answer = say(http, &bytes);
        let expected = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(&expected), "{expected}: {answer}");
    }
    assert_eq!(tracker.counters().get(Counted::HttpMalformed), 8);
    assert_well(&tracker);
}

#[test]
fn what_is_no_announce_is_refused_in_the_trackers_way() {
    let tracker = tracker();
    let (short, long) = ("a".repeat(19), "a".repeat(21));
    let queries = [
        String::new(),
        format!("{HASH}&{PEER}"),
        format!("{HASH}&{PEER}&port=0"),
        format!("{HASH}&{PEER}&port=65536"),
        format!("{HASH}&{PEER}&port=7&left=18446744073709551616"),
        format!("{HASH}&{PEER}&port=7&left=-1"),
        format!("{HASH}&{PEER}&port=7&uploaded=-1"),
        format!("{HASH}&{PEER}&port=7&downloaded=99999999999999999999"),
        format!("info_hash={short}&{PEER}&port=7"),
        format!("info_hash={long}&{PEER}&port=7"),
        format!("info_hash=%&{PEER}&port=7"),
        format!("info_hash=%zz&{PEER}&port=7"),
    ];
    for query in &queries {
        let answer = get(tracker.http()[0], &format!("/announce?{query}"));
        assert!(
            answer.contains("\r\n\r\nd14:failure reason"),
            "{query}: {answer}"
        );
    }
    let refused = tracker.counters().get(Counted::HttpRefused);
    assert_eq!(refused, queries.len() as u64);
    // Of what is said twice the first counts, and nobody announces somebody else.
    let twice = format!("{HASH}&{PEER}&port=9&port=0&ip=6.6.6.6&left=1&left=x");
    get(tracker.http()[0], &format!("/announce?{twice}"));
    let dictionaries = format!("/announce?{HASH}&{PEER}&port=8&compact=0");
    let answer = get(tracker.http()[0], &dictionaries);
    assert!(answer.contains("d2:ip9:127.0.0.14:porti9ee"), "{answer}");
    assert!(!answer.contains("6.6.6.6"), "{answer}");
    assert_well(&tracker);
}

#[test]
fn a_request_in_crumbs_is_put_together_and_a_second_one_is_not_looked_at() {
    let tracker = tracker();
    let http = tracker.http()[0];
    let request = format!("GET /announce?{HASH}&{PEER}&port=7&left=0 HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut stream = call(http);
    stream.set_nodelay(true).unwrap();
    for byte in request.as_bytes() {
        stream.write_all(&[*byte]).unwrap();
    }
    assert!(rest(stream).contains("8:completei1e"));
    let answer = say(http, request.repeat(3).as_bytes());
    assert_eq!(answer.matches("HTTP/1.1 200").count(), 1, "{answer}");
    // Who hangs up in the middle, or half-way, harms nobody.
    for cut in [0, 1, 20, request.len() - 1] {
        let mut stream = call(http);
        stream.write_all(&request.as_bytes()[..cut]).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(rest(stream), "");
    }
    let mut stream = call(http);
    stream.write_all(request.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert!(rest(stream).contains("8:completei1e"));
    assert_well(&tracker);
}

#[test]
fn a_thousand_silent_callers_starve_nobody_and_are_sent_away() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, wanted).unwrap();
    let tracker = tracker();
    let http = tracker.http()[0];
    let mut silent: Vec<TcpStream> = (0..1_000).map(|_| call(http)).collect();
    for (number, stream) in silent.iter_mut().enumerate() {
        if number % 2 == 0 {
            stream.write_all(b"GET /sta").unwrap();
        }
    }
    // This one has its turn among them, not after them: the last of them are there, however slow the machine.
    assert_well(&tracker);
    let sent_away = tracker.counters().get(Counted::HttpSlow);
    assert!(sent_away < 1_000, "{sent_away}");
    // A byte now and then prolongs nothing: the deadline is for the whole head.
    let mut dripping = silent.pop().unwrap();
    let pace = Duration::from_millis(10);
    dripping.set_read_timeout(Some(pace)).unwrap();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let _ = dripping.write(b"x");
        match dripping.read(&mut [0; 16]) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            _ => break,
        }
        assert!(Instant::now() < deadline, "it is never sent away");
    }
    for stream in silent {
        assert_eq!(rest(stream), "");
    }
    assert_eq!(tracker.counters().get(Counted::HttpSlow), 1_000);
    assert_well(&tracker);
}

#[test]
fn pages_come_from_memory_whole_and_at_their_own_path_alone() {
    let tracker = tracker();
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|number| number as u8).collect();
    let page = |bytes: &[u8]| Page {
        content_type: "application/x-bittorrent".into(),
        bytes: bytes.to_vec(),
    };
    tracker.publish("/0123.torrent", page(&bytes));
    tracker.publish("/empty", page(b""));
    let http = tracker.http()[0];
    let deadline = Instant::now() + PATIENCE;
    while !get(http, "/empty").starts_with("HTTP/1.1 200") {
        assert!(Instant::now() < deadline);
    }
    let mut stream = call(http);
    stream
        .write_all(b"GET /0123.torrent HTTP/1.1\r\n\r\n")
        .unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let body = answer.windows(4).position(|it| it == b"\r\n\r\n").unwrap() + 4;
    assert!(answer[body..] == bytes);
    for path in [
        "/0123.torrent/",
        "/./0123.torrent",
        "//0123.torrent",
        "/0123",
    ] {
        assert!(get(http, path).starts_with("HTTP/1.1 404"), "{path}");
    }
    assert_well(&tracker);
}

#[test]
fn datagrams_without_sense_get_no_answer() {
    let tracker = tracker();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(tracker.udp()[0]).unwrap();
    let mut sent = 0;
    for length in (0..200).chain([1_500, 65_507]) {
        socket.send(&vec![7; length]).unwrap();
        sent += 1;
    }
    // A question that does get one, and it is the only one.
    let connect = [
        &0x0417_2710_1980_u64.to_be_bytes()[..],
        &[0, 0, 0, 0, 9, 9, 9, 9],
    ]
    .concat();
    socket.send(&connect).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = [0; 100];
    assert_eq!(socket.recv(&mut answer).unwrap(), 16);
    assert_eq!(answer[..8], [0, 0, 0, 0, 9, 9, 9, 9]);
    let counters = tracker.counters();
    assert_eq!(counters.get(Counted::UdpMalformed), sent);
    assert_well(&tracker);
}
