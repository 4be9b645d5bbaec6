//! Peers with a script: a thread on 127.0.0.1 that says what bytes it likes, when it likes.
//!
//! [`listens`] waits to be dialled, [`calls`] dials; both run a story over a [`Line`] and hand its
//! outcome to [`Story::end`]. [`seeds`] and [`leech`] are the honest ones.

use crate::gate::Waiting;
use crate::torrent::Torrent;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long a script waits for the other side before it calls the test failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// No extension.
pub const PLAIN: [u8; 8] = [0; 8];
/// The fast extension (BEP 6).
pub const FAST: [u8; 8] = [0, 0, 0, 0, 0, 0, 0, 4];
/// The fast extension and the extension protocol (BEP 10).
pub const FAST_EXTENDED: [u8; 8] = [0, 0, 0, 0, 0, 0x10, 0, 4];

/// The numbers of the messages.
pub mod id {
    pub const CHOKE: u8 = 0;
    pub const UNCHOKE: u8 = 1;
    pub const INTERESTED: u8 = 2;
    pub const NOT_INTERESTED: u8 = 3;
    pub const HAVE: u8 = 4;
    pub const BITFIELD: u8 = 5;
    pub const REQUEST: u8 = 6;
    pub const PIECE: u8 = 7;
    pub const CANCEL: u8 = 8;
    pub const PORT: u8 = 9;
    pub const SUGGEST: u8 = 13;
    pub const HAVE_ALL: u8 = 14;
    pub const HAVE_NONE: u8 = 15;
    pub const REJECT: u8 = 16;
    pub const ALLOWED_FAST: u8 = 17;
    pub const EXTENDED: u8 = 20;
}

/// A message with a body, as it goes over the wire.
pub fn message(id: u8, body: &[u8]) -> Vec<u8> {
    let length = body.len() as u32 + 1;
    [&length.to_be_bytes(), &[id][..], body].concat()
}

/// Three numbers as in a request.
pub fn triple(index: u32, begin: u32, length: u32) -> Vec<u8> {
    [index, begin, length].map(u32::to_be_bytes).concat()
}

/// A message that carries a block.
pub fn piece(index: u32, begin: u32, block: &[u8]) -> Vec<u8> {
    let head = [index, begin].map(u32::to_be_bytes).concat();
    message(id::PIECE, &[&head, block].concat())
}

/// 68 bytes of greeting from somebody new each time.
pub fn greeting(info_hash: [u8; 20], reserved: [u8; 8]) -> Vec<u8> {
    let who = format!("-FK0001-{:012}", fastrand::u64(..1_000_000_000_000));
    greeting_of(info_hash, reserved, who.as_bytes())
}

/// 68 bytes of greeting.
pub fn greeting_of(info_hash: [u8; 20], reserved: [u8; 8], who: &[u8]) -> Vec<u8> {
    [b"\x13BitTorrent protocol", &reserved[..], &info_hash, who].concat()
}

/// One side of a connection.
pub struct Line {
    /// The socket, for scripts that do odd things to it.
    pub stream: TcpStream,
    deadline: Instant,
}

/// What a peer under test said: the id (`None` for a keep-alive) and the rest.
pub struct Heard {
    /// Which message.
    pub id: Option<u8>,
    /// Its body.
    pub body: Vec<u8>,
}

impl Heard {
    /// The three numbers of a request or its like.
    pub fn triple(&self) -> (u32, u32, u32) {
        let at = |n: usize| u32::from_be_bytes(*self.body[n..].first_chunk().unwrap());
        (at(0), at(4), at(8))
    }
}

impl Line {
    /// Takes a connected socket; everything that is waited for must come within [`PATIENCE`] from now.
    pub fn new(stream: TcpStream) -> Line {
        stream.set_nodelay(true).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Line {
            stream,
            deadline: Instant::now() + PATIENCE,
        }
    }

    /// From now on things may take so long again.
    pub fn patience(&mut self, time: Duration) {
        self.deadline = Instant::now() + time;
    }

    /// Sends bytes; whether all left.
    pub fn say(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Sends a message; whether all left.
    pub fn tell(&mut self, id: u8, body: &[u8]) -> bool {
        self.say(&message(id, body))
    }

    /// Reads some bytes; 0 when the other side has closed, in order or not.
    pub fn read(&mut self, bytes: &mut [u8]) -> usize {
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "the connection stood open and still");
            self.stream.set_read_timeout(Some(left)).unwrap();
            match self.stream.read(bytes) {
                Ok(count) => return count,
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::TimedOut => {}
                    ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => return 0,
                    _ => panic!("{error}"),
                },
            }
        }
    }

    fn fill(&mut self, bytes: &mut [u8]) -> bool {
        let mut done = 0;
        while done < bytes.len() {
            match self.read(&mut bytes[done..]) {
                0 => return false,
                count => done += count,
            }
        }
        true
    }

    /// Reads the other side's 68 bytes; `None` if it closed instead.
    pub fn their_greeting(&mut self) -> Option<[u8; 68]> {
        let mut bytes = [0; 68];
        self.fill(&mut bytes).then_some(bytes)
    }

    /// Exchanges greetings about `torrent`.
    pub fn greet(&mut self, torrent: &Torrent, reserved: [u8; 8]) {
        self.say(&greeting(torrent.info_hash(), reserved));
        let theirs = self.their_greeting().expect("a greeting was answered");
        assert_eq!(theirs[..20], b"\x13BitTorrent protocol"[..]);
        assert_eq!(theirs[28..48], torrent.info_hash());
    }

    /// The next message; `None` when the other side has closed.
    pub fn hear(&mut self) -> Option<Heard> {
        let mut prefix = [0; 4];
        if !self.fill(&mut prefix) {
            return None;
        }
        let length = u32::from_be_bytes(prefix) as usize;
        assert!(length <= 1 << 20, "a message of {length} bytes from us");
        let mut bytes = vec![0; length];
        if !self.fill(&mut bytes) {
            return None;
        }
        let (id, body) = match bytes.split_first() {
            None => (None, Vec::new()),
            Some((&id, body)) => (Some(id), body.to_vec()),
        };
        Some(Heard { id, body })
    }

    /// The next message with this id; others are passed over. Fails if the other side closes first.
    pub fn hear_of(&mut self, id: u8) -> Heard {
        loop {
            let heard = self.hear();
            let heard = heard.unwrap_or_else(|| panic!("closed before message {id} came"));
            if heard.id == Some(id) {
                return heard;
            }
        }
    }

    /// Greets, claims to have everything, and waits until the other side wants something.
    pub fn lure(&mut self, torrent: &Torrent, reserved: [u8; 8]) {
        self.greet(torrent, reserved);
        self.tell(id::BITFIELD, &torrent.full_bitfield());
        self.hear_of(id::INTERESTED);
    }

    /// [`Line::lure`], then unchokes and waits for the first request.
    pub fn lure_into_asking(&mut self, torrent: &Torrent, reserved: [u8; 8]) -> (u32, u32, u32) {
        self.lure(torrent, reserved);
        self.tell(id::UNCHOKE, &[]);
        self.hear_of(id::REQUEST).triple()
    }

    /// Reads on until the other side closes; fails if it does not in time.
    pub fn until_closed(&mut self) {
        let mut bytes = [0; 16_384];
        while self.read(&mut bytes) > 0 {}
    }

    /// Whether the other side keeps the line open until the gate opens. Reads all it says meanwhile.
    pub fn stays_open_until(&mut self, gate: &Waiting) -> bool {
        let mut bytes = [0; 16_384];
        let pause = Duration::from_millis(20);
        self.stream.set_read_timeout(Some(pause)).unwrap();
        loop {
            match self.stream.read(&mut bytes) {
                // An end after the gate has opened is the process's own.
                Ok(0) => return gate.opens_within(Duration::ZERO),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                    return gate.opens_within(Duration::ZERO);
                }
                _ if gate.opens_within(Duration::ZERO) => return true,
                _ => {}
            }
        }
    }

    /// Says that nothing more will be said.
    pub fn half_close(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }
}

/// A script that is being acted out.
pub struct Story<R> {
    /// Where it listens, or from where it calls.
    pub address: SocketAddr,
    thread: JoinHandle<R>,
}

impl<R> Story<R> {
    /// Waits for the script's end; fails as it failed.
    pub fn end(self, name: &str) -> R {
        self.thread.join().unwrap_or_else(|cause| {
            let text = cause.downcast_ref::<String>().cloned();
            let text = text.or(cause.downcast_ref::<&str>().map(ToString::to_string));
            panic!("{name}: {}", text.unwrap_or_default())
        })
    }
}

/// A peer that waits to be dialled once, then follows `story`.
pub fn listens<R: Send + 'static>(story: impl FnOnce(&mut Line) -> R + Send + 'static) -> Story<R> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // Linux obeys the read timeout in accept, too.
    let socket = socket2::SockRef::from(&listener);
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let thread = thread::spawn(move || {
        let (stream, _) = listener.accept().expect("nobody dialled");
        story(&mut Line::new(stream))
    });
    Story { address, thread }
}

/// A peer that dials `to`, then follows `story`.
pub fn calls<R: Send + 'static>(
    to: SocketAddr,
    story: impl FnOnce(&mut Line) -> R + Send + 'static,
) -> Story<R> {
    let stream = TcpStream::connect(to).unwrap();
    let address = stream.local_addr().unwrap();
    let thread = thread::spawn(move || story(&mut Line::new(stream)));
    Story { address, thread }
}

/// An honest seed that answers every call; it unchokes when the gate opens.
pub fn seeds(torrent: &Torrent, gate: Waiting) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let torrent = torrent.clone();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(io::Result::ok) {
            let (torrent, gate) = (torrent.clone(), gate.clone());
            thread::spawn(move || {
                let mut line = Line::new(stream);
                if line.their_greeting().is_some() {
                    line.say(&greeting(torrent.info_hash(), PLAIN));
                    serve(&mut line, &torrent, &gate);
                }
            });
        }
    });
    address
}

/// An honest seed that dials.
pub fn seeds_calling(to: SocketAddr, torrent: &Torrent, gate: Waiting) -> Story<()> {
    let torrent = torrent.clone();
    calls(to, move |line| {
        line.greet(&torrent, PLAIN);
        serve(line, &torrent, &gate);
    })
}

/// Serves all that is asked for until the other side leaves.
pub fn serve(line: &mut Line, torrent: &Torrent, gate: &Waiting) {
    line.patience(Duration::from_secs(600));
    line.tell(id::BITFIELD, &torrent.full_bitfield());
    while let Some(heard) = line.hear() {
        match heard.id {
            Some(id::INTERESTED) => {
                gate.pass();
                line.tell(id::UNCHOKE, &[]);
            }
            Some(id::REQUEST) => answer(line, torrent, heard.triple()),
            _ => {}
        }
    }
}

/// Answers one request rightly.
pub fn answer(line: &mut Line, torrent: &Torrent, (index, begin, length): (u32, u32, u32)) {
    line.say(&piece(index, begin, torrent.block(index, begin, length)));
}

/// Fetches everything from the peer at the other end, whose greeting has been exchanged.
pub fn leech(line: &mut Line, torrent: &Torrent) -> Vec<u8> {
    const WINDOW: usize = 32;
    let mut content = vec![0; torrent.content.len()];
    let mut missing = torrent.requests();
    let mut asked = 0;
    let mut open = false;
    line.tell(id::INTERESTED, &[]);
    while !missing.is_empty() {
        while open && asked < missing.len().min(WINDOW) {
            let (index, begin, length) = missing[asked];
            line.tell(id::REQUEST, &triple(index, begin, length));
            asked += 1;
        }
        let heard = line.hear().expect("the seed hung up");
        match heard.id {
            Some(id::UNCHOKE) => open = true,
            Some(id::CHOKE) => (open, asked) = (false, 0),
            Some(id::PIECE) => {
                let at = |n: usize| u32::from_be_bytes(*heard.body[n..].first_chunk().unwrap());
                let found = missing.iter().position(|it| (it.0, it.1) == (at(0), at(4)));
                let Some(found) = found else { continue };
                missing.remove(found);
                asked = asked.saturating_sub(1);
                let start = at(0) as usize * torrent.piece_length + at(4) as usize;
                content[start..start + heard.body.len() - 8].copy_from_slice(&heard.body[8..]);
            }
            _ => {}
        }
    }
    content
}

/// A peer that has nothing and wants nothing, and keeps the process company until the gate opens.
/// Its outcome is whether it was left alone.
pub fn companion(torrent: &Torrent, gate: Waiting) -> Story<bool> {
    let torrent = torrent.clone();
    listens(move |line| {
        line.greet(&torrent, FAST);
        line.tell(id::HAVE_NONE, &[]);
        line.stays_open_until(&gate)
    })
}
