//! Load for a tracker, on the loopback: so many announces, as fast as the tracker answers, and how
//! many it answered in a second. Ours and opentracker are measured by the same program, in turns.
//!
//! ```text
//! cargo bench --bench tracker_load --no-run     # prints where the program is
//! tracker_load udp ADDR [announces] [torrents] [flight] # flight: how many are under way at a time
//! tracker_load http ADDR [announces] [torrents] [flight]
//! tracker_load fill ADDR [peers] [torrents]             # by UDP, each peer once, none lost
//! tracker_load hashes [torrents]                        # the info-hashes, for a list of what is allowed
//! ```
//!
//! tests/bench/trackers.sh runs the whole comparison.

use ropewalk::protocol::InfoHash;
use ropewalk::protocol::peer::PeerId;
use ropewalk::protocol::tracker::http::Request;
use ropewalk::protocol::tracker::udp::{Announce, Question, Reply};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

/// Nothing is waited for longer than this.
const PATIENCE: Duration = Duration::from_secs(2);

/// Hosts of the loopback that the load comes from.
const HOSTS: u32 = 64;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: u32| {
        words
            .get(at)
            .map_or(default, |word| word.parse().expect("a number"))
    };
    let address = || -> SocketAddr {
        words
            .get(1)
            .and_then(|it| it.parse().ok())
            .expect("ADDR:PORT")
    };
    match words.first().map(String::as_str) {
        Some("udp") => udp(
            address(),
            number(2, 200_000),
            number(3, 10_000),
            number(4, 64),
        ),
        Some("http") => http(
            address(),
            number(2, 20_000),
            number(3, 10_000),
            number(4, 64),
        ),
        Some("fill") => fill(address(), number(2, 1_000_000), number(3, 100_000)),
        Some("hashes") => (0..number(1, 10_000)).for_each(|it| println!("{}", info_hash(it))),
        // The test runner calls it without a word, or with options of its own.
        _ => println!("tracker_load: nothing to do; see the head of tests/bench/tracker_load.rs"),
    }
}

fn info_hash(number: u32) -> InfoHash {
    let mut dice = fastrand::Rng::with_seed(u64::from(number) + 1);
    InfoHash(std::array::from_fn(|_| dice.u8(..)))
}

fn host(number: u32) -> Ipv4Addr {
    let number = number % HOSTS;
    Ipv4Addr::new(127, 1, (number >> 8) as u8, number as u8)
}

/// The nth announce of a run: a peer of a torrent, both drawn by its number.
fn announce(number: u32, torrents: u32) -> Announce {
    let mut dice = fastrand::Rng::with_seed(u64::from(number));
    Announce {
        info_hash: info_hash(dice.u32(..torrents)),
        peer_id: PeerId(std::array::from_fn(|_| dice.u8(..))),
        downloaded: 0,
        left: u64::from(dice.u8(..4) > 0),
        uploaded: 0,
        event: None,
        key: dice.u32(..),
        num_want: None,
        port: dice.u16(1_024..),
    }
}

/// A socket of one host, and the id that the tracker gave it.
struct Client {
    socket: UdpSocket,
    connection: u64,
}

impl Client {
    fn connect(to: SocketAddr, from: Ipv4Addr) -> Client {
        let socket = UdpSocket::bind(SocketAddrV4::new(from, 0)).expect("a port");
        socket.connect(to).expect("an address");
        socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        let mut answer = [0; 64];
        for _ in 0..3 {
            socket
                .send(&Question::Connect { transaction: 7 }.encode())
                .expect("sent");
            let Ok(length) = socket.recv(&mut answer) else {
                continue;
            };
            if let Ok(Reply::Connected { connection, .. }) = Reply::decode(&answer[..length]) {
                return Client { socket, connection };
            }
        }
        panic!("{to} does not answer");
    }
}

/// `count` announces by UDP, `flight` under way at a time.
fn udp(to: SocketAddr, count: u32, torrents: u32, flight: u32) {
    // A few sockets: with more, the load would mostly look for what has come.
    let clients: Vec<Client> = (0..flight.min(4))
        .map(|it| Client::connect(to, host(it)))
        .collect();
    // Made before the clock runs: making them is not what is measured.
    let datagrams: Vec<Vec<u8>> = (0..count)
        .map(|number| {
            let client = &clients[number as usize % clients.len()];
            Question::Announce {
                connection: client.connection,
                transaction: number,
                announce: announce(number, torrents),
                options: &[],
            }
            .encode()
        })
        .collect();
    let each = (flight as usize / clients.len()).max(1);
    let mut turns = vec![0_usize; clients.len()];
    let mut under_way = vec![0_usize; clients.len()];
    let (mut answered, mut refused, mut bytes, mut lost) = (0_u32, 0_u32, 0_u64, 0_u32);
    let mut answer = [0; 4_096];
    clients
        .iter()
        .for_each(|it| it.socket.set_nonblocking(true).expect("a socket"));
    let begun = Instant::now();
    let mut heard = Instant::now();
    while answered + lost < count {
        let mut still = true;
        for (at, client) in clients.iter().enumerate() {
            while let Ok(length) = client.socket.recv(&mut answer) {
                under_way[at] = under_way[at].saturating_sub(1);
                answered += 1;
                refused += u32::from(answer[3] != 1);
                bytes += length as u64;
                still = false;
            }
            while under_way[at] < each {
                let Some(datagram) = datagrams.get(turns[at] * clients.len() + at) else {
                    break;
                };
                turns[at] += 1;
                if client.socket.send(datagram).is_err() {
                    lost += 1;
                    continue;
                }
                under_way[at] += 1;
                still = false;
            }
        }
        if !still {
            heard = Instant::now();
        } else if heard.elapsed() > PATIENCE {
            lost = count - answered;
        } else {
            rest(&clients);
        }
    }
    report("udp", begun.elapsed(), answered, refused, lost, bytes);
}

/// Waits until something has come.
fn rest(clients: &[Client]) {
    let mut waited: Vec<PollFd> = clients
        .iter()
        .map(|it| PollFd::new(&it.socket, PollFlags::IN))
        .collect();
    let timeout = Timespec::try_from(Duration::from_millis(100)).ok();
    let _ = poll(&mut waited, timeout.as_ref());
}

/// `peers` announces, each of another peer, every one of them answered.
fn fill(to: SocketAddr, peers: u32, torrents: u32) {
    let clients: Vec<Client> = (0..HOSTS).map(|it| Client::connect(to, host(it))).collect();
    let begun = Instant::now();
    let mut answer = [0; 4_096];
    let mut waiting: HashMap<u32, u32> = HashMap::new();
    let send = |number: u32| {
        let client = &clients[number as usize % clients.len()];
        // No two are the same: 64 hosts with 64,000 ports, in a torrent of their own turn.
        let port = 1_024 + (number / HOSTS % 64_000) as u16;
        let announce = Announce {
            info_hash: info_hash(number % torrents),
            port,
            num_want: Some(0),
            ..announce(number, torrents)
        };
        let question = Question::Announce {
            connection: client.connection,
            transaction: number,
            announce,
            options: &[],
        };
        let _ = client.socket.send(&question.encode());
    };
    let mut next = 0;
    while next < peers || !waiting.is_empty() {
        while next < peers && waiting.len() < 512 {
            send(next);
            waiting.insert(next, 0);
            next += 1;
        }
        let first = waiting.keys().next().copied();
        let Some(first) = first else { break };
        let client = &clients[first as usize % clients.len()];
        match client.socket.recv(&mut answer) {
            Ok(length) => {
                let reply = Reply::decode(&answer[..length]).expect("an answer");
                assert!(matches!(reply, Reply::Announced { .. }), "{reply:?}");
                waiting.remove(&reply.transaction());
            }
            Err(_) => send(first),
        }
    }
    println!(
        "filled with {peers} peers of {torrents} torrents in {:.1?}",
        begun.elapsed()
    );
}

/// `count` announces by HTTP, a connection each, `flight` under way at a time.
fn http(to: SocketAddr, count: u32, torrents: u32, flight: u32) {
    let requests: Vec<Vec<u8>> = (0..count)
        .map(|number| {
            let announce = announce(number, torrents);
            let request = Request {
                info_hash: announce.info_hash,
                peer_id: announce.peer_id,
                port: announce.port,
                uploaded: 0,
                downloaded: 0,
                left: announce.left,
                event: None,
                num_want: None,
                key: Some(format!("{:08X}", announce.key)),
                compact: true,
                no_peer_id: true,
                tracker_id: None,
            };
            let target = request.to_url("/announce");
            format!("GET {target} HTTP/1.1\r\nHost: {to}\r\nUser-Agent: load\r\nConnection: close\r\n\r\n")
                .into_bytes()
        })
        .collect();
    let mut flying: Vec<(TcpStream, usize)> = Vec::new();
    let (mut answered, mut refused, mut bytes, mut lost) = (0, 0, 0, 0);
    let mut answer = [0; 8_192];
    let mut next = 0;
    let begun = Instant::now();
    while answered + lost < count {
        while next < requests.len() && flying.len() < flight as usize {
            match call(to, host(next as u32), &requests[next]) {
                Some(stream) => flying.push((stream, 0)),
                None => lost += 1,
            }
            next += 1;
        }
        let mut waited: Vec<PollFd> = flying
            .iter()
            .map(|it| PollFd::new(&it.0, PollFlags::IN))
            .collect();
        let timeout = Timespec::try_from(PATIENCE).ok();
        if poll(&mut waited, timeout.as_ref()).unwrap_or(0) == 0 {
            lost += flying.len() as u32;
            flying.clear();
            continue;
        }
        let ready: Vec<bool> = waited.iter().map(|it| !it.revents().is_empty()).collect();
        drop(waited);
        let mut ready = ready.into_iter();
        flying.retain_mut(|(stream, got)| {
            if !ready.next().unwrap_or(false) {
                return true;
            }
            match stream.read(&mut answer) {
                Ok(0) | Err(_) => {
                    let good = *got > 0;
                    answered += u32::from(good);
                    lost += u32::from(!good);
                    false
                }
                Ok(length) => {
                    let failed = answer[..length].windows(7).any(|it| it == b"failure");
                    refused += u32::from(failed);
                    *got += length;
                    bytes += length as u64;
                    true
                }
            }
        });
    }
    report("http", begun.elapsed(), answered, refused, lost, bytes);
}

fn call(to: SocketAddr, from: Ipv4Addr, request: &[u8]) -> Option<TcpStream> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).ok()?;
    // Of each host a few thousand ports: those of past connections are not free at once.
    socket.bind(&SocketAddr::from((from, 0)).into()).ok()?;
    socket.connect_timeout(&to.into(), PATIENCE).ok()?;
    let mut stream = TcpStream::from(socket);
    stream.write_all(request).ok()?;
    stream.set_nonblocking(true).ok()?;
    Some(stream)
}

fn report(kind: &str, time: Duration, answered: u32, refused: u32, lost: u32, bytes: u64) {
    println!(
        "{kind}: {answered} answered ({refused} refused, {lost} lost) in {:.2} s: {:.0}/s, {:.0} bytes each",
        time.as_secs_f64(),
        f64::from(answered) / time.as_secs_f64(),
        bytes as f64 / f64::from(answered.max(1)),
    );
}
