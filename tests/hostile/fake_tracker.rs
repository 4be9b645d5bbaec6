//! Trackers with a script: an HTTP server on 127.0.0.1 that answers what it likes. `tests/suite` has this file, too.

use crossbeam_channel::{Receiver, unbounded};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// A tracker that is being acted out.
pub struct Tracker {
    /// Its announce address.
    pub url: String,
    /// The first line of each request, as they came.
    pub asked: Receiver<String>,
}

/// A tracker at `path` that hands each connection to `answer` once the request's head has come, with its first line.
pub fn tracker_hearing(
    path: &str,
    answer: impl Fn(&str, &mut TcpStream) + Send + Sync + 'static,
) -> Tracker {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}{path}", listener.local_addr().unwrap());
    // Bound: a handful of announces.
    let (sender, asked) = unbounded();
    let answer = Arc::new(answer);
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(io::Result::ok) {
            let (sender, answer) = (sender.clone(), answer.clone());
            thread::spawn(move || {
                let wait = Some(Duration::from_secs(30));
                stream.set_write_timeout(wait).unwrap();
                stream.set_read_timeout(wait).unwrap();
                let first = head(&mut stream);
                let _ = sender.send(first.clone());
                answer(&first, &mut stream);
            });
        }
    });
    Tracker { url, asked }
}

/// The same, whatever was asked.
pub fn tracker_at(path: &str, answer: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> Tracker {
    tracker_hearing(path, move |_, stream| answer(stream))
}

/// [`tracker_at`] the usual path.
pub fn tracker(answer: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> Tracker {
    tracker_at("/announce", answer)
}

/// A tracker that always gives this body.
pub fn tracker_saying(body: Vec<u8>) -> Tracker {
    tracker(move |stream| reply(stream, &body))
}

/// An honest tracker that knows these peers.
pub fn tracker_knowing(peers: &[SocketAddr]) -> Tracker {
    tracker_saying(answer(&compact(peers)))
}

/// Peers at six bytes each.
pub fn compact(peers: &[SocketAddr]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for peer in peers {
        let SocketAddr::V4(peer) = peer else { panic!() };
        bytes.extend(peer.ip().octets());
        bytes.extend(peer.port().to_be_bytes());
    }
    bytes
}

/// An announce answer with these compact peers.
pub fn answer(peers: &[u8]) -> Vec<u8> {
    let head = format!("d8:intervali1800e5:peers{}:", peers.len());
    [head.as_bytes(), peers, b"e"].concat()
}

/// A proper HTTP answer.
pub fn reply(stream: &mut TcpStream, body: &[u8]) {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all(head.as_bytes());
    let _ = stream.write_all(body);
}

fn head(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
        bytes.push(byte[0]);
    }
    let text = String::from_utf8_lossy(&bytes);
    text.lines().next().unwrap_or_default().to_owned()
}

/// A UDP tracker that is being acted out.
pub struct UdpTracker {
    /// Its announce address, with a path.
    pub url: String,
    /// Each datagram that came.
    pub asked: Receiver<Vec<u8>>,
}

/// A UDP tracker that answers each datagram with what `answer` makes of it.
pub fn udp_tracker(
    path: &str,
    answer: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static,
) -> UdpTracker {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let url = format!("udp://{}{path}", socket.local_addr().unwrap());
    // Bound: a handful of announces.
    let (sender, asked) = unbounded();
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let replies = answer(&buffer[..length]);
            let _ = sender.send(buffer[..length].to_vec());
            for reply in replies {
                let _ = socket.send_to(&reply, from);
            }
        }
    });
    UdpTracker { url, asked }
}

/// What an honest UDP tracker answers that knows these peers.
pub fn udp_reply(question: &[u8], peers: &[SocketAddr]) -> Vec<u8> {
    let (action, transaction) = (&question[8..12], &question[12..16]);
    let head = [action, transaction].concat();
    match action {
        [0, 0, 0, 0] => [&head[..], b"8bytesid"].concat(),
        [0, 0, 0, 1] => {
            assert_eq!(&question[..8], b"8bytesid");
            let numbers = [0, 0, 7, 8, 0, 0, 0, 1, 0, 0, 0, 1];
            [&head[..], &numbers, &compact(peers)].concat()
        }
        other => panic!("action {other:?}"),
    }
}

/// The event of an announce that came as a datagram: 1 completed, 2 started, 3 stopped.
pub fn udp_event(datagram: &[u8]) -> Option<u8> {
    (datagram[8..12] == [0, 0, 0, 1]).then(|| datagram[83])
}
