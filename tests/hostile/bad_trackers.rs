//! Trackers that answer too much, too little, nonsense or nothing. Beside each is an honest one, in
//! the next tier, and it is enough.

use crate::fake_peer::seeds;
use crate::fake_tracker::{
    Tracker, answer, compact, reply, tracker, tracker_at, tracker_knowing, tracker_saying,
};
use crate::gate::{Gate, Waiting};
use crate::run::{PATIENCE, Room, Run};
use crate::torrent::{Torrent, string};
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

fn torrent() -> Torrent {
    Torrent::file(b"data", 300_000, 32_768)
}

fn host(url: &str) -> &str {
    url.split('/').nth(2).unwrap()
}

/// Waits for what is said about the tracker at `url`.
fn verdict(run: &mut Run, url: &str) -> serde_json::Value {
    run.event("tells of the tracker", |event| {
        let named = event["tracker"].as_str().unwrap_or_default();
        event["event"] == "tracker" && named.contains(host(url))
    })
}

/// The error that is told of the bad tracker; meanwhile memory stays flat, and then all goes well.
pub fn beside_an_honest_tracker(bad: &str) -> String {
    let torrent = torrent();
    let room = Room::new();
    let gate = Gate::closed();
    let good = tracker_knowing(&[seeds(&torrent, gate.queue())]);
    let torrent = torrent.announced(&[bad, &good.url]);
    let mut run = room.get(&torrent).start();
    let error = verdict(&mut run, bad)["error"].clone();
    run.memory_is_flat();
    gate.open();
    run.succeeds();
    room.holds("data", &torrent.content[..]);
    error
        .as_str()
        .unwrap_or_else(|| panic!("{bad} was believed"))
        .to_owned()
}

#[test]
fn a_tracker_is_asked_from_the_bound_address() {
    // Bound: a handful of announces.
    let (tell, told) = crossbeam_channel::unbounded();
    let torrent = torrent();
    let honest = seeds(&torrent, Waiting::not());
    let curious = tracker(move |stream| {
        tell.send(stream.peer_addr().unwrap().ip()).unwrap();
        reply(stream, &answer(&compact(&[honest])));
    });
    let room = Room::new();
    let torrent = torrent.announced(&[&curious.url]);
    let mut order = room.get(&torrent);
    order.args(["--bind", "127.0.0.2"]).start().succeeds();
    let asked: Vec<_> = told.try_iter().collect();
    assert!(asked.len() >= 3, "{asked:?}");
    assert!(
        asked.iter().all(|it| it.to_string() == "127.0.0.2"),
        "{asked:?}"
    );
}

#[test]
fn an_answer_without_end_is_cut_off() {
    let long = tracker(|stream| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 1 << 30);
        let _ = stream.write_all(head.as_bytes());
        while stream.write_all(&[b'd'; 65_536]).is_ok() {}
    });
    beside_an_honest_tracker(&long.url);
    let endless = tracker(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
        while stream.write_all(&[b'l'; 65_536]).is_ok() {}
    });
    beside_an_honest_tracker(&endless.url);
    let chunked = tracker(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        let chunk = [&b"10000\r\n"[..], &[b'l'; 65_536], b"\r\n"].concat();
        while stream.write_all(&chunk).is_ok() {}
    });
    beside_an_honest_tracker(&chunked.url);
}

/// A gzip stream of zeros that grows two hundredfold when unpacked.
fn bomb() -> Vec<u8> {
    let mut bits = Bits::default();
    bits.push(0b011, 3); // the last block, fixed codes
    bits.push_code(0x30, 8); // the byte 0
    for _ in 0..700_000 {
        bits.push_code(0b1100_0101, 8); // 258 bytes more
        bits.push_code(0, 5); // of what stood one byte before
    }
    bits.push_code(0, 7);
    bits.push(0, 7);
    [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3][..], &bits.bytes].concat()
}

#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    pending: u32,
    count: u32,
}

impl Bits {
    fn push(&mut self, value: u32, width: u32) {
        self.pending |= value << self.count;
        self.count += width;
        while self.count >= 8 {
            self.bytes.push(self.pending as u8);
            self.pending >>= 8;
            self.count -= 8;
        }
    }

    /// A Huffman code stands with its first bit first.
    fn push_code(&mut self, code: u32, width: u32) {
        self.push(code.reverse_bits() >> (32 - width), width);
    }
}

#[test]
fn an_answer_that_unpacks_to_hundreds_of_megabytes_is_not_unpacked() {
    let bomb = bomb();
    assert!(bomb.len() > 1_000_000);
    for encoding in ["gzip", "gzip, gzip", "br", "deflate"] {
        let bomb = bomb.clone();
        let packed = tracker(move |stream| {
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\nContent-Length: {}\r\n\r\n",
                bomb.len()
            );
            let _ = stream.write_all(head.as_bytes());
            let _ = stream.write_all(&bomb);
        });
        beside_an_honest_tracker(&packed.url);
    }
}

/// A tracker that keeps its caller busy. The honest one must be asked before the caller gives up.
fn does_not_delay_the_honest_one(busy: impl Fn(&mut dyn Write) + Send + Sync + 'static) {
    let torrent = torrent();
    let room = Room::new();
    // Bound: a handful of announces.
    let (tell, given_up) = crossbeam_channel::unbounded();
    let slow = tracker(move |stream| {
        busy(stream);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        while matches!(stream.read(&mut [0; 64]), Ok(1..)) {}
        let _ = tell.send(());
    });
    let good = tracker_knowing(&[seeds(&torrent, Waiting::not())]);
    let torrent = torrent.announced(&[&slow.url, &good.url]);
    let mut run = room.get(&torrent).start();
    slow.asked
        .recv_timeout(PATIENCE)
        .expect("the slow tracker was asked");
    good.asked
        .recv_timeout(PATIENCE)
        .expect("the honest tracker was asked");
    assert!(given_up.is_empty(), "the honest tracker had to wait");
    run.succeeds();
    room.holds("data", &torrent.content[..]);
}

#[test]
fn a_tracker_that_accepts_and_says_nothing_delays_nobody() {
    does_not_delay_the_honest_one(|_| {});
}

#[test]
fn a_tracker_that_stops_in_its_head_delays_nobody() {
    does_not_delay_the_honest_one(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Le");
    });
}

#[test]
fn a_tracker_that_stops_in_its_body_delays_nobody() {
    does_not_delay_the_honest_one(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nd8:interval");
    });
}

#[test]
fn a_tracker_that_says_a_byte_a_second_delays_nobody() {
    does_not_delay_the_honest_one(|stream| {
        let never = Gate::closed();
        let pause = never.queue();
        for byte in b"HTTP/1.1 200 OK\r\n".iter().cycle() {
            if stream.write_all(&[*byte]).is_err() {
                return;
            }
            pause.opens_within(Duration::from_secs(1));
        }
    });
}

#[test]
fn a_head_without_end_is_cut_off() {
    let lines = tracker(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n");
        while stream
            .write_all(&b"X-More: of the same\r\n".repeat(1_000))
            .is_ok()
        {}
    });
    beside_an_honest_tracker(&lines.url);
    let line = tracker(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nX-Long: ");
        while stream.write_all(&[b'x'; 65_536]).is_ok() {}
    });
    beside_an_honest_tracker(&line.url);
}

#[test]
fn a_tracker_that_hangs_up_is_passed_over() {
    let closes = tracker(|_| {});
    beside_an_honest_tracker(&closes.url);
    let resets = tracker(|stream| {
        let socket = socket2::SockRef::from(&*stream);
        socket.set_linger(Some(Duration::ZERO)).unwrap();
    });
    beside_an_honest_tracker(&resets.url);
    let half = tracker(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nd8:");
    });
    beside_an_honest_tracker(&half.url);
    let refuses = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    beside_an_honest_tracker(&format!("http://{refuses}/announce"));
}

#[test]
fn an_answer_that_is_none_is_passed_over() {
    for body in [
        &b""[..],
        b"<html>hello</html>",
        b"i1e",
        b"le",
        b"d",
        b"de",
        b"d5:peers7:1234567e",
        b"d8:intervali1800e5:peers5:12345e",
        b"d8:intervali1800e5:peersi6ee",
        b"d5:peers9999999999:",
        &[b'l'; 100_000],
        &b"d1:a".repeat(20_000),
    ] {
        let nonsense = tracker_saying(body.to_vec());
        let torrent = torrent();
        let room = Room::new();
        let good = tracker_knowing(&[seeds(&torrent, Waiting::not())]);
        let torrent = torrent.announced(&[&nonsense.url, &good.url]);
        let mut run = room.get(&torrent).start();
        let status = run.exit();
        if status != 0 {
            run.fail(&format!(
                "{}: status {status}",
                body[..body.len().min(40)].escape_ascii()
            ));
        }
    }
    for bytes in [
        &b"\0\0\0\0"[..],
        b"HTTP/9.9 1e9 ?\r\n\r\n",
        b"ICY 200 OK\r\n\r\n",
    ] {
        let garbled = tracker(move |stream| drop(stream.write_all(bytes)));
        beside_an_honest_tracker(&garbled.url);
    }
}

/// 150 KB of a reason that would like to own the terminal.
fn loud_refusal() -> Vec<u8> {
    let reason = b"go away \x1b[2J\x1b]0;owned\x07\r\n\x9b\x00 and never come back ".repeat(3_000);
    [&b"d14:failure reason"[..], &string(&reason), b"e"].concat()
}

#[test]
fn a_long_reason_is_cut_and_cannot_write_to_the_terminal() {
    let error = beside_an_honest_tracker(&tracker_saying(loud_refusal()).url);
    assert!(error.contains("go away"), "{error}");
    assert!(
        error.chars().count() < 1_000,
        "{} characters",
        error.chars().count()
    );

    let torrent = torrent();
    let room = Room::new();
    let gate = Gate::closed();
    let loud = tracker_saying(loud_refusal());
    let good = tracker_knowing(&[seeds(&torrent, gate.queue())]);
    let torrent = torrent.announced(&[&loud.url, &good.url]);
    let mut run = room.get(&torrent).without("--json").arg("-v").start();
    let line = run.complaint("go away");
    assert!(line.len() < 2_000, "a line of {} bytes", line.len());
    gate.open();
    run.complaints.push(line);
    let _ = run.complaint("data");
    let shown = run.complaints.concat();
    assert!(!shown.iter().any(|byte| *byte < b' ' && *byte != b'\n'));
}

#[test]
fn a_tracker_that_refuses_is_told_without_being_asked_for() {
    let torrent = torrent();
    let room = Room::new();
    let gate = Gate::closed();
    let loud = tracker_saying(loud_refusal());
    let good = tracker_knowing(&[seeds(&torrent, gate.queue())]);
    let torrent = torrent.announced(&[&loud.url, &good.url]);
    let mut run = room.get(&torrent).without("--json").start();
    let line = run.complaint("gives no peers");
    assert!(String::from_utf8_lossy(&line).starts_with("warning: "));
    gate.open();
    let _ = run.complaint("fetched");
}

#[test]
fn a_warning_is_not_a_failure() {
    let torrent = torrent();
    let room = Room::new();
    let peers = compact(&[seeds(&torrent, Waiting::not())]);
    let body = [
        &b"d8:intervali1800e5:peers"[..],
        &string(&peers),
        b"15:warning message",
        &string(&b"\x1b[2Jslow down ".repeat(1_000)),
        b"e",
    ]
    .concat();
    let torrent = torrent.announced(&[&tracker_saying(body).url]);
    let mut run = room.get(&torrent).start();
    run.succeeds();
    room.holds("data", &torrent.content[..]);
}

#[test]
fn an_interval_of_nonsense_does_not_make_us_hammer() {
    let intervals = [
        "0",
        "-1",
        "1",
        "9223372036854775807",
        "-9223372036854775808",
    ];
    for interval in intervals {
        let torrent = torrent();
        let room = Room::new();
        let gate = Gate::closed();
        let peers = compact(&[seeds(&torrent, gate.queue())]);
        let body = [
            format!("d8:intervali{interval}e12:min intervali{interval}e5:peers").as_bytes(),
            &string(&peers),
            b"e",
        ]
        .concat();
        let hasty = tracker_saying(body);
        let torrent = torrent.announced(&[&hasty.url]);
        let mut run = room.get(&torrent).start();
        run.event("says that the seed came", |event| {
            event["state"] == "joined"
        });
        // Time enough for a hammer to fall a hundred times.
        gate.queue().opens_within(Duration::from_millis(1_500));
        gate.open();
        run.succeeds();
        room.holds("data", &torrent.content[..]);
        let asked: Vec<String> = hasty.asked.try_iter().collect();
        assert!(asked.len() <= 4, "{interval}: {asked:#?}");
    }
}

#[test]
fn peers_that_cannot_be_are_left_out_and_the_one_that_can_is_found() {
    let torrent = torrent();
    let honest = seeds(&torrent, Waiting::not());
    let impossible: [&str; 6] = [
        "0.0.0.0:6881",
        "127.0.0.1:0",
        "255.255.255.255:6881",
        "224.0.0.1:6881",
        "239.255.255.255:1",
        "0.0.0.0:0",
    ];
    let mut peers: Vec<SocketAddr> = impossible.iter().map(|it| it.parse().unwrap()).collect();
    peers.push(honest);
    let listed = |port: &str, ip: &str| format!("d2:ip{}:{ip}4:porti{port}ee", ip.len());
    let list = [
        "d8:intervali1800e5:peersl",
        &listed("0", "127.0.0.1"),
        &listed("70000", "127.0.0.1"),
        &listed("-1", "127.0.0.1"),
        &listed("6881", "no.such.host.invalid"),
        &listed("6881", ""),
        &listed("6881", "999.1.1.1"),
        "de",
        "i5e",
        "d2:ipi1e4:port1:ae",
        &listed(&honest.port().to_string(), "127.0.0.1"),
        "ee",
    ]
    .concat();
    let short_v6 = [
        &b"d8:intervali1800e5:peers"[..],
        &string(&compact(&[honest])),
        b"6:peers617:12345678901234567e",
    ]
    .concat();
    for body in [answer(&compact(&peers)), list.into_bytes(), short_v6] {
        let room = Room::new();
        let shown = body.escape_ascii().to_string();
        let torrent = torrent.clone().announced(&[&tracker_saying(body).url]);
        let mut run = room.get(&torrent).start();
        let status = run.exit();
        if status != 0 {
            run.fail(&format!("{shown}: status {status}"));
        }
        room.holds("data", &torrent.content[..]);
    }
}

#[test]
fn a_hundred_thousand_peers_take_no_memory() {
    let torrent = torrent();
    let room = Room::new();
    let gate = Gate::closed();
    let mut peers = vec![seeds(&torrent, gate.queue())];
    // Nobody listens on these; each is refused at once.
    peers.extend((0..100_000_u32).map(|n| {
        let [_, b, c, d] = n.to_be_bytes();
        SocketAddr::from(([127, b + 1, c, d], 1))
    }));
    let generous = tracker_knowing(&peers);
    let torrent = torrent.announced(&[&generous.url]);
    let mut run = room.get(&torrent).start();
    run.event("says that the seed came", |event| {
        event["state"] == "joined"
    });
    run.memory_is_flat();
    gate.open();
    run.succeeds();
    room.holds("data", &torrent.content[..]);
}

#[test]
fn the_reason_of_an_http_error_is_told() {
    let busy = tracker(|stream| {
        let body = b"d14:failure reason18:come back tomorrowe";
        let head = format!(
            "HTTP/1.1 503 Busy\r\nRetry-After: 3600\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let _ = stream.write_all(head.as_bytes());
        let _ = stream.write_all(body);
    });
    let error = beside_an_honest_tracker(&busy.url);
    assert!(error.contains("come back tomorrow"), "{error}");
    let bare = tracker(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 404 Gone\r\nContent-Length: 0\r\n\r\n");
    });
    let error = beside_an_honest_tracker(&bare.url);
    assert!(error.contains("404"), "{error}");
}

#[test]
fn redirects_in_a_circle_end() {
    let circle: Tracker = tracker(|stream| {
        let here = stream.local_addr().unwrap();
        let head = format!(
            "HTTP/1.1 302 Found\r\nLocation: http://{here}/announce\r\nContent-Length: 0\r\n\r\n"
        );
        let _ = stream.write_all(head.as_bytes());
    });
    beside_an_honest_tracker(&circle.url);
    assert!(circle.asked.len() <= 12, "{} rounds", circle.asked.len());
    let away = tracker(|stream| {
        let _ = stream.write_all(
            b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n",
        );
    });
    beside_an_honest_tracker(&away.url);
}

#[test]
fn a_passkey_is_never_shown_and_never_written_down() {
    const KEY: &str = "5ecre7be571e1ef70ffee5ecre7be571";
    let works = |path: &str| {
        let peers = answer(&[]);
        tracker_at(path, move |stream| reply(stream, &peers))
    };
    let fails = |path: &str| tracker_at(path, |_| {});
    let says_no = |path: &str| {
        tracker_at(path, |stream| {
            let _ = stream.write_all(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n");
        })
    };
    let in_path = format!("/{KEY}/announce");
    let in_query = format!("/announce?passkey={KEY}");
    for json in [true, false] {
        let torrent = torrent();
        let room = Room::new();
        let gate = Gate::closed();
        let honest = seeds(&torrent, gate.queue());
        let trackers = [&in_path, &in_query].map(|path| [works(path), fails(path), says_no(path)]);
        let urls: Vec<&str> = trackers.iter().flatten().map(|it| &it.url[..]).collect();
        let torrent = torrent.announced(&urls);
        let mut order = room.get(&torrent);
        if !json {
            order.without("--json").arg("-v");
        }
        let mut run = order.peer(honest).start();
        for tracker in trackers.iter().flatten() {
            let line = tracker.asked.recv_timeout(PATIENCE).expect("was asked");
            assert!(line.contains(KEY), "{line}");
        }
        if json {
            for url in &urls {
                verdict(&mut run, url);
            }
        }
        gate.open();
        run.succeeds_whatever_it_prints();
        let said = run.everything_said();
        assert!(!said.contains(KEY), "{said}");
        for entry in fs::read_dir(room.down()).unwrap() {
            let bytes = fs::read(entry.unwrap().path()).unwrap();
            let found = bytes.windows(KEY.len()).any(|it| it == KEY.as_bytes());
            assert!(!found, "the key is on the disk");
        }
    }
}
