#![allow(clippy::unwrap_used)]
use super::*;
use crate::announce::http::fake::request;
use crate::protocol::tracker::http::Occasion;
use crossbeam_channel::Receiver;

const PATIENCE: Duration = Duration::from_secs(20);

/// A scripted tracker. What it has heard is to be read, question by question.
struct Tracker {
    address: SocketAddr,
    heard: Receiver<Vec<u8>>,
}

impl Tracker {
    /// Answers each datagram with what `answer` makes of it and of its number, from 0.
    fn start(
        at: &str,
        mut answer: impl FnMut(Question, usize) -> Vec<Vec<u8>> + Send + 'static,
    ) -> Tracker {
        let socket = UdpSocket::bind(at).unwrap();
        let address = socket.local_addr().unwrap();
        // Bound: the questions of one test.
        let (tell, heard) = unbounded();
        std::thread::spawn(move || {
            let mut buffer = [0; 2048];
            for number in 0.. {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else {
                    return;
                };
                let question = Question::decode(&buffer[..length]).unwrap();
                let replies = answer(question, number);
                if tell.send(buffer[..length].to_vec()).is_err() {
                    return;
                }
                for reply in replies {
                    socket.send_to(&reply, from).unwrap();
                }
            }
        });
        Tracker { address, heard }
    }

    fn url(&self, path: &str) -> String {
        format!("udp://{}{path}", self.address)
    }

    /// What came so far, shortly: `c`onnect, `a`nnounce, `s`crape.
    fn log(&self) -> String {
        let letter = |datagram: Vec<u8>| match Question::decode(&datagram).unwrap() {
            Question::Connect { .. } => 'c',
            Question::Announce { .. } => 'a',
            Question::Scrape { .. } => 's',
        };
        self.heard.try_iter().map(letter).collect()
    }
}

/// What an honest tracker answers, with these peers.
fn honest(question: Question, peers: &[u8]) -> Vec<u8> {
    match question {
        Question::Connect { transaction } => Reply::Connected {
            transaction,
            connection: 0x1234_5678_9abc_def0,
        }
        .encode(),
        Question::Announce {
            connection,
            transaction,
            ..
        } => {
            assert_eq!(connection, 0x1234_5678_9abc_def0);
            Reply::Announced {
                transaction,
                interval: 1234,
                leechers: 5,
                seeders: 6,
                peers,
            }
            .encode()
        }
        Question::Scrape { transaction, .. } => Reply::Scraped {
            transaction,
            counts: vec![Counts {
                complete: 1,
                incomplete: 2,
                downloaded: Some(3),
            }],
        }
        .encode(),
    }
}

const V4_PEER: [u8; 6] = [192, 168, 0, 1, 0x1a, 0xe1];
const V6_PEER: [u8; 18] = [
    0x20, 0x01, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0x1a, 0xe1,
];

fn quickly() -> CallLimits {
    CallLimits {
        resend: Duration::from_millis(50),
        ..CallLimits::within(PATIENCE)
    }
}

fn announce(asker: &mut UdpAsker, tracker: &Tracker) -> Result<Answer, AnnounceError> {
    asker.announce(&tracker.url("/announce"), &request(), &quickly(), &|| false)
}

#[test]
fn a_tracker_is_asked_for_an_id_and_then_told() {
    let tracker = Tracker::start("127.0.0.1:0", |question, _| {
        vec![honest(question, &V4_PEER)]
    });
    let request = Request {
        event: Some(Occasion::Started),
        key: Some("00c0ffee".into()),
        ..request()
    };
    let mut asker = UdpAsker::new();
    let url = tracker.url("/x/announce?passkey=abc");
    assert!(!asker.has_told(&url));
    let answer = asker
        .announce(&url, &request, &quickly(), &|| false)
        .unwrap();
    assert!(asker.has_told(&url));
    let expected = Answer {
        peers: vec!["192.168.0.1:6881".parse().unwrap()],
        interval: Some(1234),
        complete: Some(6),
        incomplete: Some(5),
        ..Answer::default()
    };
    assert_eq!(answer, expected);
    let connect = tracker.heard.recv_timeout(PATIENCE).unwrap();
    assert_eq!(connect.len(), 16, "no word of the passkey yet");
    let told = tracker.heard.recv_timeout(PATIENCE).unwrap();
    let Ok(Question::Announce {
        announce, options, ..
    }) = Question::decode(&told)
    else {
        panic!("an announce");
    };
    assert_eq!(announce.info_hash, request.info_hash);
    assert_eq!((announce.left, announce.port), (request.left, request.port));
    assert_eq!((announce.key, announce.num_want), (0x00c0_ffee, None));
    assert_eq!(announce.event, request.event);
    assert_eq!(wire::url_data(options), b"/x/announce?passkey=abc");
}

#[test]
fn an_id_serves_for_a_minute() {
    let tracker = Tracker::start("127.0.0.1:0", |question, _| vec![honest(question, &[])]);
    let mut asker = UdpAsker::new();
    announce(&mut asker, &tracker).unwrap();
    announce(&mut asker, &tracker).unwrap();
    let counts = asker.scrape(&tracker.url(""), &[InfoHash([1; 20])], &quickly(), &|| {
        false
    });
    let counted = Counts {
        complete: 1,
        incomplete: 2,
        downloaded: Some(3),
    };
    assert_eq!(counts, Ok(vec![counted]));
    assert_eq!(tracker.log(), "caas");
    let now = Instant::now();
    assert!(is_young((1, now), now + Duration::from_secs(59)));
    assert!(!is_young((1, now), now + Duration::from_secs(60)));
}

#[test]
fn lost_datagrams_are_sent_again() {
    let tracker = Tracker::start("127.0.0.1:0", |question, number| match number {
        1 | 4 => vec![honest(question, &V4_PEER)],
        _ => Vec::new(),
    });
    assert_eq!(
        announce(&mut UdpAsker::new(), &tracker)
            .unwrap()
            .peers
            .len(),
        1
    );
    assert_eq!(tracker.log(), "ccaaa");
}

#[test]
fn an_id_that_the_tracker_has_forgotten_is_asked_for_again() {
    for answers in [true, false] {
        let tracker = Tracker::start("127.0.0.1:0", move |question, number| {
            match (number, question) {
                (2, Question::Announce { transaction, .. }) => {
                    let reason = b"bad connection id";
                    let refused = Reply::Refused {
                        transaction,
                        reason,
                    };
                    answers.then(|| refused.encode()).into_iter().collect()
                }
                (_, question) => vec![honest(question, &[])],
            }
        });
        let mut asker = UdpAsker::new();
        announce(&mut asker, &tracker).unwrap();
        announce(&mut asker, &tracker).unwrap();
        assert_eq!(tracker.log(), "caaca");
    }
}

#[test]
fn what_nobody_asked_for_is_passed_over() {
    let tracker = Tracker::start("127.0.0.1:0", |question, _| {
        let right = honest(question, &V4_PEER);
        let with = |at: usize, byte: u8| {
            let mut changed = right.clone();
            changed[at] ^= byte;
            changed
        };
        let mut replies: Vec<Vec<u8>> = (0..8).map(|cut| right[..cut].to_vec()).collect();
        replies.push(right[..right.len().min(20) - 1].to_vec());
        // Other numbers, other actions, and no action at all.
        replies.extend([with(7, 1), with(4, 0x80), with(3, 1), with(3, 4)]);
        replies.push([&[0, 0, 0, 2], &right[4..]].concat());
        replies.push(b"\0\0\0\x03abcdno".to_vec());
        replies.push(with(0, 0x80));
        replies.push(vec![0xff; 60_000]);
        replies.push(right.clone());
        // Longer than it must be, and twice.
        replies.push([&right[..], b"extra"].concat());
        replies
    });
    let answer = announce(&mut UdpAsker::new(), &tracker).unwrap();
    assert_eq!(answer.peers, ["192.168.0.1:6881".parse().unwrap()]);
}

#[test]
fn answers_from_elsewhere_are_not_heard() {
    let other = UdpSocket::bind("127.0.0.1:0").unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let url = format!("udp://{}", socket.local_addr().unwrap());
    let spoofing = std::thread::spawn(move || {
        let mut buffer = [0; 200];
        let (length, from) = socket.recv_from(&mut buffer).unwrap();
        let Ok(Question::Connect { transaction }) = Question::decode(&buffer[..length]) else {
            panic!("asks for an id first");
        };
        let reply = |connection| {
            Reply::Connected {
                transaction,
                connection,
            }
            .encode()
        };
        other.send_to(&reply(666), from).unwrap();
        socket.send_to(&reply(1), from).unwrap();
        let (length, from) = socket.recv_from(&mut buffer).unwrap();
        let Ok(Question::Announce {
            connection,
            transaction,
            ..
        }) = Question::decode(&buffer[..length])
        else {
            panic!("announces then");
        };
        let reason = b"enough";
        let refused = Reply::Refused {
            transaction,
            reason,
        };
        socket.send_to(&refused.encode(), from).unwrap();
        connection
    });
    let limits = CallLimits::within(PATIENCE);
    let refused = UdpAsker::new().announce(&url, &request(), &limits, &|| false);
    assert_eq!(
        refused.unwrap_err().to_string(),
        "the tracker refuses: enough"
    );
    assert_eq!(spoofing.join().unwrap(), 1);
}

#[test]
fn a_refusal_is_told_in_the_trackers_words() {
    let tracker = Tracker::start("127.0.0.1:0", |question, _| {
        let Question::Connect { transaction } = question else {
            panic!("refused already");
        };
        let reason = b"Unable to \x1b[31mConnect\0";
        vec![
            Reply::Refused {
                transaction,
                reason,
            }
            .encode(),
        ]
    });
    let refused = announce(&mut UdpAsker::new(), &tracker);
    let reason = "Unable to \u{1b}[31mConnect".to_owned();
    let retry = None;
    assert_eq!(refused, Err(AnswerError::Refused { reason, retry }.into()));
}

#[test]
fn silence_and_noise_end_with_the_time() {
    for noise in [Vec::new(), vec![vec![1; 100]; 100]] {
        let tracker = Tracker::start("127.0.0.1:0", move |_, _| noise.clone());
        let total = Duration::from_millis(300);
        let limits = CallLimits { total, ..quickly() };
        let outcome = UdpAsker::new().announce(&tracker.url(""), &request(), &limits, &|| false);
        assert_eq!(outcome, Err(AnnounceError::TimedOut(total)));
        let log = tracker.log();
        // At 0, 50, 150 ms; a slow machine may be late for some.
        assert!((1..=3).contains(&log.len()) && !log.contains('a'), "{log}");
    }
}

#[test]
fn a_wait_can_be_broken_off_and_then_the_tracker_knows_nothing_of_us() {
    let tracker = Tracker::start("127.0.0.1:0", |_, _| Vec::new());
    let url = tracker.url("/announce");
    let mut asker = UdpAsker::new();
    let heard = || !tracker.heard.is_empty();
    let outcome = asker.announce(&url, &request(), &CallLimits::within(PATIENCE), &heard);
    assert_eq!(outcome, Err(AnnounceError::Interrupted));
    assert!(!asker.has_told(&url));
}

#[test]
fn where_nobody_listens_the_system_says_so_at_once() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let url = format!("udp://{}/announce", socket.local_addr().unwrap());
    drop(socket);
    let outcome =
        UdpAsker::new().announce(&url, &request(), &CallLimits::within(PATIENCE), &|| false);
    assert!(
        matches!(outcome, Err(AnnounceError::Unreachable(_))),
        "{outcome:?}"
    );
}

#[test]
fn over_ipv6_peers_have_18_bytes() {
    let tracker = Tracker::start("[::1]:0", |question, _| vec![honest(question, &V6_PEER)]);
    let answer = announce(&mut UdpAsker::new(), &tracker).unwrap();
    assert_eq!(answer.peers, ["[2001:db8::1]:6881".parse().unwrap()]);
}

#[test]
fn both_families_are_asked_and_a_silent_one_keeps_nobody_waiting() {
    for silent in [false, true] {
        let v4 = Tracker::start("127.0.0.1:0", |question, _| {
            vec![honest(question, &V4_PEER)]
        });
        let v6 = Tracker::start("[::1]:0", move |question, _| {
            let reply = honest(question, &V6_PEER);
            (!silent).then_some(reply).into_iter().collect()
        });
        let limits = CallLimits::within(PATIENCE);
        let addresses = [v4.address, v6.address];
        let mut asker = UdpAsker::new();
        let (exchanges, failure) = asker.open(&addresses, Instant::now() + PATIENCE, &limits);
        assert_eq!((exchanges.len(), failure), (2, None));
        let ask = Ask::Scrape(vec![[1; 20]]);
        let outcomes = side_by_side(exchanges, &ask, &|| false);
        let answered: Vec<_> = outcomes
            .0
            .iter()
            .map(|it| (it.0.tracker, it.1.is_ok()))
            .collect();
        assert_eq!(answered.len(), 2);
        assert!(answered.contains(&(v4.address, true)));
        assert!(answered.contains(&(v6.address, !silent)));
    }
}

#[test]
fn addresses_are_taken_apart() {
    let taken = |url| place(url).map(|it| (it.host, it.port, it.path));
    assert_eq!(taken("udp://t.example:6969"), Ok(("t.example", 6969, "")));
    assert_eq!(
        taken("UDP://t:1/announce?a=b#c"),
        Ok(("t", 1, "/announce?a=b"))
    );
    assert_eq!(taken("udp://u:p@[::1]:7?x"), Ok(("::1", 7, "?x")));
    assert_eq!(taken("udp://t"), Ok(("t", 80, "")));
    for bad in [
        "udp://",
        "udp://:80",
        "udp://t:0",
        "udp://t:65536",
        "udp://[::1",
        "udp://[::1]x",
        "http://t",
        "t:80",
    ] {
        assert!(
            matches!(place(bad), Err(AnnounceError::Address(_))),
            "{bad}"
        );
    }
}

#[test]
fn from_a_bound_address_the_tracker_hears_of_that_one() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let bind = Some("127.0.0.2".parse().unwrap());
    let limits = CallLimits { bind, ..quickly() };
    let url = format!("udp://{}", socket.local_addr().unwrap());
    let heard = AtomicBool::new(false);
    let halted = || heard.load(Relaxed);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut buffer = [0; 200];
            let (_, from) = socket.recv_from(&mut buffer).unwrap();
            assert_eq!(Some(from.ip()), bind);
            heard.store(true, Relaxed);
        });
        let outcome = UdpAsker::new().announce(&url, &request(), &limits, &halted);
        assert_eq!(outcome, Err(AnnounceError::Interrupted));
    });
    let other = UdpAsker::new().announce("udp://[::1]:1", &request(), &limits, &|| false);
    assert!(matches!(other, Err(AnnounceError::Address(why)) if why.contains("--bind")));
}

#[test]
fn the_numbers_of_questions_do_not_follow_from_what_was_drawn_before() {
    let tracker = Tracker::start("127.0.0.1:0", |question, _| vec![honest(question, &[])]);
    let mut numbers = BTreeSet::new();
    for _ in 0..3 {
        fastrand::seed(1);
        announce(&mut UdpAsker::new(), &tracker).unwrap();
        for _ in ["connect", "announce"] {
            let question = tracker.heard.recv_timeout(PATIENCE).unwrap();
            let number = match Question::decode(&question).unwrap() {
                Question::Connect { transaction }
                | Question::Announce { transaction, .. }
                | Question::Scrape { transaction, .. } => transaction,
            };
            numbers.insert(number);
        }
    }
    assert_eq!(numbers.len(), 6);
}

#[test]
fn an_announce_that_nobody_made_is_a_failure() {
    assert_eq!(heard::<()>(Vec::new(), None), Err(silence()));
    let failure = AnnounceError::Interrupted;
    assert_eq!(
        heard::<()>(Vec::new(), Some(failure.clone())),
        Err(failure.clone())
    );
    assert_eq!(heard(vec![1], Some(failure)), Ok(vec![1]));
}
