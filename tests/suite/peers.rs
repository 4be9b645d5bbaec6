//! `peers`, and trackers of both kinds with a script.

use crate::desk::{Desk, is_calm, single};
use crate::fake_tracker::{reply, tracker_hearing};
use crossbeam_channel::{Receiver, unbounded};
use ropewalk::protocol::InfoHash;
use ropewalk::protocol::tracker::http::{Answer, Occasion, Request};
use ropewalk::protocol::tracker::scrape::{Counts, Scraped};
use ropewalk::protocol::tracker::udp::{Question, Reply, url_data};
use std::io::Write;
use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);
const KEY: &str = "5ecre7be571e1ef7";

/// A tracker in this process, and what it was told: the event and the port of each announce.
struct Tracker {
    url: String,
    told: Receiver<(Option<Occasion>, u16)>,
}

const COUNTS: Counts = Counts {
    complete: 3,
    incomplete: 2,
    downloaded: Some(40),
};

fn peers() -> Vec<SocketAddr> {
    let peers = ["192.0.2.1:6881", "192.0.2.2:6882"];
    peers.iter().map(|it| it.parse().unwrap()).collect()
}

/// An HTTP tracker; it knows no scrapes where `scrapes` is false. It counts who announces among the leechers.
fn http(scrapes: bool) -> Tracker {
    // Bound: the announces of one test.
    let (tell, told) = unbounded();
    let tracker = tracker_hearing(&format!("/{KEY}/announce"), move |first, stream| {
        let (path, query) = first.split(' ').nth(1).unwrap().split_once('?').unwrap();
        let body = if path.ends_with("/announce") {
            let heard = Request::from_query(query).unwrap();
            tell.send((heard.event, heard.port)).unwrap();
            let answer = Answer {
                peers: peers(),
                interval: Some(900),
                complete: Some(7),
                incomplete: Some(5),
                warning: Some(format!("be\u{1b}[31m kind, {KEY}")),
                ..Answer::default()
            };
            answer.encode(true)
        } else if scrapes {
            let mut hash = [0; 20];
            let asked = ropewalk::protocol::tracker::scrape::from_query(query).unwrap();
            hash.copy_from_slice(&asked[0].0);
            let files = vec![(InfoHash(hash), COUNTS)];
            let min_interval = None;
            Scraped {
                files,
                min_interval,
            }
            .encode()
        } else {
            let none = b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n";
            return stream.write_all(none).unwrap();
        };
        reply(stream, &body);
    });
    let url = tracker.url;
    Tracker { url, told }
}

fn udp() -> Tracker {
    udp_that_knows(COUNTS, [9, 9])
}

/// A UDP tracker that answers a scrape with these counts, and an announce with these leechers and seeds.
fn udp_that_knows(counts: Counts, [leechers, seeders]: [u32; 2]) -> Tracker {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let url = format!("udp://{}/{KEY}/announce", socket.local_addr().unwrap());
    // Bound: the announces of one test.
    let (tell, told) = unbounded();
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let reply = match Question::decode(&buffer[..length]).unwrap() {
                Question::Connect { transaction } => Reply::Connected {
                    transaction,
                    connection: 5,
                },
                Question::Announce {
                    transaction,
                    announce,
                    options,
                    ..
                } => {
                    assert!(url_data(options).starts_with(b"/5ecre7"));
                    tell.send((announce.event, announce.port)).unwrap();
                    let peers = &[192, 0, 2, 2, 0x1a, 0xe2, 192, 0, 2, 3, 0x1a, 0xe3];
                    Reply::Announced {
                        transaction,
                        interval: 1800,
                        leechers,
                        seeders,
                        peers,
                    }
                }
                Question::Scrape { transaction, .. } => Reply::Scraped {
                    transaction,
                    counts: vec![counts],
                },
            };
            socket.send_to(&reply.encode(), from).unwrap();
        }
    });
    Tracker { url, told }
}

/// A tracker that nobody runs any more.
fn gone() -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    format!("udp://{}/{KEY}", socket.local_addr().unwrap())
}

fn torrent(desk: &Desk, trackers: &[&str]) {
    let mut draft = single("book", b"x", 16384);
    draft.trackers = trackers.iter().map(|it| vec![it.to_string()]).collect();
    desk.write("it.torrent", &draft.compose());
}

#[test]
fn every_tracker_is_asked_and_told_at_once_that_we_do_not_take_part() {
    let desk = Desk::new();
    let (first, second, third) = (http(true), udp(), http(false));
    torrent(&desk, &[&first.url, &second.url, &gone(), &third.url]);
    let found = desk
        .run(&["peers", "--json", "it.torrent"])
        .expect(0)
        .json();
    let row = |tier: usize| &found["trackers"][tier];
    let figures = |tier: usize| {
        let keys = ["seeds", "leechers", "downloads", "scraped", "interval"];
        keys.map(|key| row(tier)[key].clone())
    };
    use serde_json::{Value::Null, json};
    assert_eq!(
        figures(0),
        [json!(3), json!(2), json!(40), json!(true), json!(900)]
    );
    assert_eq!(
        figures(1),
        [json!(3), json!(2), json!(40), json!(true), json!(1800)]
    );
    assert_eq!(figures(2), [Null, Null, Null, json!(false), Null]);
    assert_eq!(
        figures(3),
        [json!(7), json!(4), Null, json!(false), json!(900)]
    );
    assert_eq!(
        row(0)["addresses"],
        json!(["192.0.2.1:6881", "192.0.2.2:6882"])
    );
    assert_eq!(
        row(1)["addresses"],
        json!(["192.0.2.2:6882", "192.0.2.3:6883"])
    );
    assert!(
        row(2)["error"].is_string() && row(1)["error"].is_null(),
        "{found}"
    );
    let all = ["192.0.2.1:6881", "192.0.2.2:6882", "192.0.2.3:6883"];
    assert_eq!(found["addresses"], json!(all));
    assert!(!found.to_string().contains(KEY), "{found}");
    for tracker in [first, second, third] {
        let told: Vec<_> = tracker.told.try_iter().collect();
        let expected = [(Some(Occasion::Started), 9), (Some(Occasion::Stopped), 9)];
        assert_eq!(told, expected, "{}", tracker.url);
    }
}

#[test]
fn who_only_asks_is_not_counted() {
    use serde_json::json;
    let nobody = Counts::default();
    for (told, expected) in [
        ([1, 0], json!([0, 0, true])),
        ([0, 0], json!([0, 0, true])),
        // It tells nothing to those who only ask.
        ([6, 2], json!([2, 5, false])),
    ] {
        let desk = Desk::new();
        let tracker = udp_that_knows(nobody, told);
        torrent(&desk, &[&tracker.url]);
        let found = desk.run(&["peers", "--json", "it.torrent"]);
        let found = found.expect(0).json();
        let row = &found["trackers"][0];
        let figures = json!([row["seeds"], row["leechers"], row["scraped"]]);
        assert_eq!(figures, expected, "{told:?}");
    }
}

/// An HTTP tracker that answers scrapes and announces with these figures.
fn http_saying(number: &'static str) -> String {
    let tracker = tracker_hearing("/announce", move |first, stream| {
        let counts = format!("8:completei{number}e10:downloadedi{number}e10:incompletei{number}e");
        let body = if first.contains("/announce") {
            format!("d{counts}8:intervali{number}e5:peers0:e")
        } else {
            let hash = ropewalk::protocol::tracker::scrape::from_query(
                first.split(['?', ' ']).nth(2).unwrap(),
            );
            let hash = hash.unwrap()[0].0;
            let mut body = b"d5:filesd20:".to_vec();
            body.extend(hash);
            body.extend(format!("d{counts}eee").as_bytes());
            return reply(stream, &body);
        };
        reply(stream, body.as_bytes());
    });
    tracker.url
}

#[test]
fn what_cannot_be_is_not_shown() {
    use serde_json::Value::Null;
    let endless = Counts {
        complete: u32::MAX.into(),
        ..COUNTS
    };
    let by_udp = udp_that_knows(endless, [u32::MAX, 1]);
    for url in [
        &http_saying("-5"),
        &http_saying("9223372036854775807"),
        &by_udp.url,
    ] {
        let desk = Desk::new();
        torrent(&desk, &[url]);
        let found = desk.run(&["peers", "--json", "it.torrent"]);
        let found = found.expect(0).json();
        let row = &found["trackers"][0];
        for key in ["seeds", "leechers", "downloads", "error"] {
            assert_eq!(row[key], Null, "{url}: {key}: {row}");
        }
        let interval = row["interval"].as_i64();
        assert!(
            interval == Some(1800) || !url.starts_with("udp") && interval.is_none(),
            "{row}"
        );
        let page = desk.run(&["peers", "it.torrent"]).expect(0).out;
        assert!(
            page.contains("      -         -          -          "),
            "{page}"
        );
    }
}

#[test]
fn an_address_that_is_none_has_a_row_with_what_it_lacks() {
    let desk = Desk::new();
    let good = udp();
    let bad = format!("wss://t.example/{KEY}");
    torrent(&desk, &[&bad, &good.url, "http://"]);
    let page = desk.run(&["peers", "it.torrent"]).expect(0).out;
    for sentence in [
        "\"wss://t.example\": its scheme is not supported",
        "\"http://\": it has no host",
        "2 addresses",
    ] {
        assert!(page.contains(sentence), "{sentence}: {page}");
    }
    assert!(!page.contains(KEY), "{page}");
    let link = format!("magnet:?xt=urn:btih:MFRGCYTBMJQWEYLCMFRGCYTBMJQWEYLC&tr={bad}");
    let found = desk.run(&["peers", "--json", &link]).expect(2);
    assert!(found.err.contains("none of its addresses"), "{}", found.err);
    let row = &found.json()["trackers"][0];
    assert_eq!(
        (
            row["tracker"].as_str(),
            row["error"].as_str(),
            row["tier"].is_null()
        ),
        (
            Some("wss://t.example"),
            Some("its scheme is not supported"),
            true
        )
    );
}

#[test]
fn the_table_is_for_people_and_a_magnet_link_is_enough() {
    let desk = Desk::new();
    let (one, other) = (udp(), http(true));
    let encode = |url: &str| url.replace(':', "%3A").replace('/', "%2F");
    let link = format!(
        "magnet:?xt=urn:btih:MFRGCYTBMJQWEYLCMFRGCYTBMJQWEYLC&dn=a+book&tr={}&tr={}",
        encode(&one.url),
        encode(&other.url)
    );
    let page = desk.run(&["peers", &link]).expect(0).out;
    assert!(is_calm(&page), "{page}");
    for part in [
        "a book",
        "seeds",
        "addresses",
        "udp://127.0.0.1:",
        "be\\u{1b}[31m kind, …",
        "\n3 addresses\n  192.0.2.1:6881\n",
    ] {
        assert!(page.contains(part), "{part} is missing in\n{page}");
    }
    assert!(!page.contains(KEY), "{page}");
    assert_eq!(
        page.lines()
            .filter(|it| it.trim_start().starts_with("3 "))
            .count(),
        3,
        "{page}"
    );
    assert!(one.told.recv_timeout(PATIENCE).is_ok());
}

#[test]
fn where_no_tracker_answers_it_is_status_2_with_each_reason() {
    let desk = Desk::new();
    let (one, other) = (gone(), gone());
    torrent(&desk, &[&one, &other]);
    let outcome = desk.run(&["peers", "it.torrent"]).expect(2);
    assert_eq!(
        outcome.out.matches("onnection refused").count(),
        2,
        "{}",
        outcome.out
    );
    assert!(
        outcome.err.contains("no tracker of book answered"),
        "{}",
        outcome.err
    );
    assert!(!format!("{outcome:?}").contains(KEY), "{outcome:?}");
    let found = desk
        .run(&["peers", "--json", "it.torrent"])
        .expect(2)
        .json();
    assert_eq!(found["trackers"].as_array().unwrap().len(), 2);
}

#[test]
fn what_names_no_tracker_or_no_torrent_is_refused() {
    let desk = Desk::new();
    torrent(&desk, &[]);
    let v2 = format!(
        "magnet:?xt=urn:btmh:1220{}&tr=udp://127.0.0.1:1",
        "ab".repeat(32)
    );
    for (word, said) in [
        ("it.torrent", "names no tracker"),
        (
            "magnet:?xt=urn:btih:MFRGCYTBMJQWEYLCMFRGCYTBMJQWEYLC",
            "names no tracker",
        ),
        (&v2, "not supported yet"),
        ("magnet:?xt=urn:btih:abc", "info-hash is not 40 hex"),
        ("nowhere.torrent", "cannot read"),
    ] {
        let outcome = desk.run(&["peers", word]).expect(2);
        assert!(outcome.err.contains(said), "{word}: {}", outcome.err);
    }
}
