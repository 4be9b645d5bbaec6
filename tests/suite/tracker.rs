//! The tracker as the one who runs it meets it, with scripted clients.

use crate::desk::{Desk, Running};
use ropewalk::protocol::InfoHash;
use ropewalk::protocol::peer::PeerId;
use ropewalk::protocol::tracker::http::{Answer, AnswerError, Occasion, Request};
use ropewalk::protocol::tracker::udp::{self, Announce, Question, Reply};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, prlimit};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);

/// Starts a tracker and gives where it serves HTTP and UDP.
fn start(desk: &Desk, options: &[&str]) -> (Running, SocketAddr, SocketAddr) {
    let words = [&["tracker", "--json"], options].concat();
    let mut running = desk.start(&words);
    let listening = running.wait_for("listening");
    let first = |kind: &str| match listening[kind][0].as_str() {
        Some(address) => address.parse().unwrap(),
        None => "127.0.0.1:0".parse().unwrap(),
    };
    (running, first("http"), first("udp"))
}

const ANYWHERE: [&str; 4] = ["--http", "127.0.0.1:0", "--udp", "127.0.0.1:0"];

fn get(from: SocketAddr, target: &str) -> String {
    let mut stream = TcpStream::connect(from).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {target} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

fn by_http(
    to: SocketAddr,
    info_hash: [u8; 20],
    port: u16,
    left: u64,
) -> Result<Answer, AnswerError> {
    let request = Request {
        info_hash: InfoHash(info_hash),
        peer_id: PeerId([b'x'; 20]),
        port,
        uploaded: 0,
        downloaded: 0,
        left,
        event: Some(Occasion::Started),
        num_want: None,
        key: None,
        compact: true,
        no_peer_id: false,
        tracker_id: None,
    };
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let target = request.to_url("/announce");
    write!(stream, "GET {target} HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let body = answer.windows(4).position(|it| it == b"\r\n\r\n").unwrap() + 4;
    Answer::decode(&answer[body..])
}

/// A client by UDP.
struct Client(UdpSocket);

impl Client {
    fn of(to: SocketAddr) -> Client {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(to).unwrap();
        Client(socket)
    }

    fn ask(&self, question: &Question, patience: Duration) -> Option<Vec<u8>> {
        self.0.set_read_timeout(Some(patience)).unwrap();
        self.0.send(&question.encode()).unwrap();
        let mut answer = vec![0; 2_048];
        let length = self.0.recv(&mut answer).ok()?;
        answer.truncate(length);
        Some(answer)
    }

    fn connect(&self) -> u64 {
        let answer = self
            .ask(&Question::Connect { transaction: 1 }, PATIENCE)
            .unwrap();
        match Reply::decode(&answer) {
            Ok(Reply::Connected { connection, .. }) => connection,
            other => panic!("{other:?}"),
        }
    }

    fn announce(
        &self,
        connection: u64,
        info_hash: [u8; 20],
        port: u16,
        patience: Duration,
    ) -> Option<Vec<SocketAddr>> {
        let announce = Announce {
            info_hash: InfoHash(info_hash),
            peer_id: PeerId([b'y'; 20]),
            downloaded: 0,
            left: 1,
            uploaded: 0,
            event: Some(Occasion::Started),
            key: 7,
            num_want: None,
            port,
        };
        let question = Question::Announce {
            connection,
            transaction: 2,
            announce,
            options: &[],
        };
        let answer = self.ask(&question, patience)?;
        match Reply::decode(&answer) {
            Ok(Reply::Announced { peers, .. }) => Some(udp::peers(peers, false)),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn who_announces_by_http_and_who_by_udp_find_each_other_and_the_figures_say_so() {
    let desk = Desk::new();
    let (mut running, http, udp) = start(&desk, &ANYWHERE);
    let hash = [7; 20];
    assert_eq!(by_http(http, hash, 1_001, 0).unwrap().peers, []);
    let client = Client::of(udp);
    let found = client.announce(client.connect(), hash, 1_002, PATIENCE);
    assert_eq!(found.unwrap(), ["127.0.0.1:1001".parse().unwrap()]);
    let answer = by_http(http, hash, 1_003, 9).unwrap();
    assert_eq!((answer.complete, answer.incomplete), (Some(1), Some(2)));
    assert_eq!(answer.interval, Some(1_800));
    assert_eq!(answer.external_ip, Some([127, 0, 0, 1].into()));
    assert_eq!(answer.peers.len(), 2);

    let text = get(http, "/stats");
    assert!(
        text.contains("\npeers 3\n") && text.contains("\nudp_announces 1\n"),
        "{text}"
    );
    let json = get(http, "/stats.json");
    let body = json.split("\r\n\r\n").nth(1).unwrap();
    let figures: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(
        (&figures["torrents"], &figures["seeds"]),
        (&1.into(), &1.into())
    );
    let scraped = get(http, &format!("/scrape?info_hash={}", "%07".repeat(20)));
    assert!(
        scraped.contains("8:completei1e") && scraped.contains("10:incompletei2e"),
        "{scraped}"
    );
    assert!(get(http, "/scrape").contains("failure reason"));
    assert!(get(http, "/etc/passwd").starts_with("HTTP/1.1 404"));
    assert!(get(http, "/../../../../etc/passwd").starts_with("HTTP/1.1 404"));

    running.signal(Signal::TERM);
    assert_eq!(running.end().code(), Some(0));
}

#[test]
fn a_restart_harms_nobody_who_held_an_old_connection_id() {
    let desk = Desk::new();
    let (mut running, http, udp) = start(&desk, &ANYWHERE);
    let client = Client::of(udp);
    let id = client.connect();
    assert!(client.announce(id, [7; 20], 1_002, PATIENCE).is_some());
    running.signal(Signal::INT);
    assert_eq!(running.end().code(), Some(0));

    let (at_http, at_udp) = (http.to_string(), udp.to_string());
    let options = ["--http", at_http.as_str(), "--udp", at_udp.as_str()];
    let (mut running, _, _) = start(&desk, &options);
    let short = Duration::from_millis(300);
    assert_eq!(client.announce(id, [7; 20], 1_002, short), None);
    assert!(get(http, "/stats").contains("\nudp_bad_ids 1\n"));
    assert!(
        client
            .announce(client.connect(), [7; 20], 1_002, PATIENCE)
            .is_some()
    );
    assert_eq!(by_http(http, [7; 20], 1_003, 1).unwrap().peers.len(), 1);
    running.signal(Signal::TERM);
    assert_eq!(running.end().code(), Some(0));
}

/// Lets a tracker have so many descriptors from now on, and gives what it was allowed.
fn limit_descriptors(tracker: &Running, limit: u64) -> Rlimit {
    let limit = Rlimit {
        current: Some(limit),
        // Ours and so the tracker's: it can be raised again up to this.
        maximum: getrlimit(Resource::Nofile).maximum,
    };
    prlimit(Some(tracker.pid()), Resource::Nofile, limit).unwrap()
}

/// Processor time that a tracker has used, in hundredths of a second.
fn ticks(tracker: &Running) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", tracker.pid())).unwrap();
    let rest = stat.rsplit(')').next().unwrap().split_whitespace();
    // `utime` and `stime`: the fourteenth and fifteenth, and the first here is the third.
    rest.skip(11)
        .take(2)
        .map(|it| it.parse::<u64>().unwrap())
        .sum()
}

#[test]
fn where_descriptors_are_few_silent_callers_make_room_for_those_who_ask() {
    let desk = Desk::new();
    let (running, http, _) = start(&desk, &ANYWHERE);
    limit_descriptors(&running, 20);
    let silent: Vec<TcpStream> = (0..100)
        .map(|_| TcpStream::connect(http).unwrap())
        .collect();
    assert!(by_http(http, [7; 20], 1, 1).is_ok());
    assert!(get(http, "/stats").contains("\nhttp_announces 1\n"));
    drop(silent);
    assert!(by_http(http, [7; 20], 2, 1).is_ok());
}

#[test]
fn without_a_descriptor_left_a_tracker_waits_without_work_and_recovers() {
    let desk = Desk::new();
    let (running, http, udp) = start(&desk, &ANYWHERE);
    let before = limit_descriptors(&running, 3);
    let mut caller = TcpStream::connect(http).unwrap();
    write!(caller, "GET /stats HTTP/1.0\r\n\r\n").unwrap();
    let idle = ticks(&running);
    // There is nothing to wait for but that nothing comes.
    caller
        .set_read_timeout(Some(Duration::from_secs(2)))
        .unwrap();
    let silence = caller.read(&mut [0; 1]).unwrap_err();
    assert_eq!(silence.kind(), std::io::ErrorKind::WouldBlock);
    let used = ticks(&running) - idle;
    assert!(
        used < 50,
        "{used} hundredths of a second of work for nothing"
    );
    // Datagrams need none.
    let client = Client::of(udp);
    let found = client.announce(client.connect(), [7; 20], 1_002, PATIENCE);
    assert_eq!(found.unwrap(), []);

    prlimit(Some(running.pid()), Resource::Nofile, before).unwrap();
    caller.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = String::new();
    caller.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("\npeers 1\n"), "{answer}");
    assert!(by_http(http, [7; 20], 2, 1).is_ok());
}

#[test]
fn a_scrape_of_as_many_torrents_as_are_told_of_at_once_is_answered() {
    let desk = Desk::new();
    let (_running, http, _) = start(&desk, &ANYWHERE);
    by_http(http, [0xf3; 20], 1, 0).unwrap();
    let hashes: Vec<String> = (0..74)
        .map(|number| {
            format!(
                "info_hash={}",
                format!("%{:02X}", 0xff_u8 - number).repeat(20)
            )
        })
        .collect();
    let scraped = get(http, &format!("/scrape?{}", hashes.join("&")));
    assert_eq!(scraped.matches("8:completei").count(), 74, "{scraped}");
    assert_eq!(scraped.matches("8:completei1e").count(), 1, "{scraped}");
}

#[test]
fn an_empty_list_of_what_is_served_is_warned_of() {
    let desk = Desk::new();
    desk.write("list", b"# nothing yet\n");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let words = ["tracker", "--allow", "list", "--http", address.as_str()];
    let outcome = desk.run(&words).expect(2);
    assert!(
        outcome
            .err
            .contains("warning: list names no torrent: nobody can announce"),
        "{}",
        outcome.err
    );
}

#[test]
fn a_tracker_that_is_told_to_end_while_everybody_asks_ends_well() {
    let desk = Desk::new();
    let (mut running, http, udp) = start(&desk, &ANYWHERE);
    let (busy, heard) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        for caller in 0..4 {
            let busy = busy.clone();
            scope.spawn(move || {
                let target = format!("/scrape?info_hash={}", "a".repeat(20));
                // Until nobody is there any more.
                while let Ok(mut stream) = TcpStream::connect(http) {
                    let _ = write!(stream, "GET {target} HTTP/1.0\r\n\r\n");
                    let _ = stream.read(&mut [0; 512]);
                    let _ = busy.send(caller);
                }
            });
        }
        let client = Client::of(udp);
        let id = client.connect();
        for caller in 0..4 {
            while heard.recv_timeout(PATIENCE).unwrap() != caller {}
            assert!(client.announce(id, [7; 20], 1_002, PATIENCE).is_some());
        }
        running.signal(Signal::TERM);
        assert_eq!(running.end().code(), Some(0));
    });
}

#[test]
fn only_what_is_on_the_list_is_served() {
    let desk = Desk::new();
    let list = desk.write("list", format!("{} # a book\n", "07".repeat(20)).as_bytes());
    let allow = ["--allow", list.to_str().unwrap(), "--http", "127.0.0.1:0"];
    let (_running, http, _) = start(&desk, &allow);
    assert!(by_http(http, [7; 20], 1, 1).is_ok());
    let refused = by_http(http, [8; 20], 1, 1).unwrap_err();
    assert!(refused.to_string().contains("does not serve"), "{refused}");
    desk.write("list", b"not a hash\n");
    let outcome = desk.run(&["tracker", "--allow", "list"]).expect(2);
    assert!(outcome.err.contains("line 1"), "{}", outcome.err);
    desk.run(&["tracker", "--allow", "nowhere"]).expect(2);
}

#[test]
fn an_address_that_is_taken_or_foreign_is_named_with_status_2() {
    let desk = Desk::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let outcome = desk.run(&["tracker", "--http", &address]).expect(2);
    assert!(
        outcome.err.contains(&address) && outcome.err.contains("hint"),
        "{}",
        outcome.err
    );
    let outcome = desk.run(&["tracker", "--udp", "192.0.2.1:1"]).expect(2);
    assert!(outcome.err.contains("192.0.2.1:1"), "{}", outcome.err);
}
