//! The tracker server: knows who shares what, and nothing of the content.
//!
//! ```no_run
//! use ropewalk::tracker::{Setup, start};
//! let here = "127.0.0.1:0".parse().unwrap();
//! let running = start(Setup { http: vec![here], udp: vec![here], ..Setup::default() }).unwrap();
//! println!("http://{}/announce, udp://{}", running.http()[0], running.udp()[0]);
//! running.stop();
//! ```
//!
//! * [`registry`] holds the peers and decides everything; it is pure.
//! * One thread owns it and serves UDP (`owner`, `udp`, `connection_ids`; BEP 15).
//! * A few threads serve HTTP and ask the owner (`http`; BEP 3, 7, 21, 23, 24, 31, 48). They also
//!   hand out [`Page`]s from memory. No path of a request ever reaches a file system.

mod bell;
mod connection_ids;
pub mod counters;
mod http;
mod owner;
pub mod registry;
mod udp;

use crate::protocol::InfoHash;
use crate::protocol::siphash::Key;
use bell::Bell;
use connection_ids::ConnectionIds;
use counters::Counters;
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use owner::{Owner, Way};
use registry::{Limits, Registry};
use rustix::process::{Resource, getrlimit};
use rustix::rand::{GetRandomFlags, getrandom};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};
use udp::{Desk, Line};

/// How often peers are asked to announce, unless told otherwise.
pub const INTERVAL: Duration = Duration::from_secs(1_800);

/// What is held at most, unless told otherwise: less than 64 MiB.
pub const LIMITS: Limits = Limits {
    torrents: 100_000,
    peers: 1_000_000,
    per_ip: 64,
};

/// Threads that serve HTTP at most; never more than there are processors.
const HTTP_THREADS_MAX: usize = 4;

/// Connections of HTTP at a time, where descriptors abound.
const CONNECTIONS_MAX: u64 = 4_096;

/// Descriptors in use beside connections.
const DESCRIPTORS_BESIDE: u64 = 64;

/// What the kernel keeps of datagrams while we are busy, in bytes.
const RECEIVE_BUFFER: usize = 1 << 20;

/// Calls that wait in the kernel to be taken.
const BACKLOG: i32 = 1_024;

/// What a tracker is started with.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Where to serve HTTP. Port 0 is any that is free; `[::]` is every address of both families.
    pub http: Vec<SocketAddr>,
    /// Where to serve UDP.
    pub udp: Vec<SocketAddr>,
    /// How often peers are asked to announce.
    pub interval: Duration,
    /// What is held at most.
    pub limits: Limits,
    /// The torrents that are served; `None`: all.
    pub allowed: Option<Vec<InfoHash>>,
    /// The address under which peers on the loopback are handed out; `None`: their own.
    pub loopback_as: Option<IpAddr>,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup {
            http: Vec::new(),
            udp: Vec::new(),
            interval: INTERVAL,
            limits: LIMITS,
            allowed: None,
            loopback_as: None,
        }
    }
}

/// Something that is handed out over HTTP from memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// `application/x-bittorrent`, say.
    pub content_type: String,
    /// The body.
    pub bytes: Vec<u8>,
}

/// Why a tracker did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address} ({protocol}): {error}")]
    Bind {
        /// Which.
        address: SocketAddr,
        /// `HTTP` or `UDP`.
        protocol: &'static str,
        /// Why.
        error: io::Error,
    },
    /// The system gives no thread, descriptor or random bytes.
    #[error("cannot start the tracker: {0}")]
    System(#[from] io::Error),
}

/// A tracker at work. It ends when this is dropped.
#[derive(Debug)]
pub struct Running {
    http: Vec<SocketAddr>,
    udp: Vec<SocketAddr>,
    counters: Arc<Counters>,
    stop: Arc<AtomicBool>,
    bells: Vec<Bell>,
    pages: Vec<Sender<(String, Arc<Page>)>>,
    admit: Sender<(InfoHash, Sender<()>)>,
    threads: Vec<JoinHandle<()>>,
    sentinel: Sender<()>,
    ended: Receiver<()>,
}

/// Tells when its thread has ended, however it ended.
struct Sentinel(Sender<()>);

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.0.try_send(());
    }
}

impl Running {
    /// Gives something when one of its threads has ended though nobody told it to: a fault of ours,
    /// and a tracker that is of no use any more.
    pub fn ended(&self) -> &Receiver<()> {
        &self.ended
    }

    /// The addresses at which HTTP is served, in the order of the setup.
    pub fn http(&self) -> &[SocketAddr] {
        &self.http
    }

    /// The addresses at which UDP is served.
    pub fn udp(&self) -> &[SocketAddr] {
        &self.udp
    }

    /// What it has done so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Hands out `page` at `path` (which begins with a slash) from now on. The tracker's own paths
    /// come first.
    pub fn publish(&self, path: &str, page: Page) {
        let page = Arc::new(page);
        for pages in &self.pages {
            let _ = pages.send((path.to_owned(), page.clone()));
        }
        self.bells.iter().for_each(Bell::ring);
    }

    /// Serves one more torrent where not all are served, from the moment this returns on.
    pub fn admit(&self, info_hash: InfoHash) {
        // Bound: one, the owner's answer.
        let (done, heard) = bounded(1);
        if self.admit.send((info_hash, done)).is_ok() {
            self.bells.iter().for_each(Bell::ring);
            // An owner that has ended by a fault drops the other end.
            let _ = heard.recv();
        }
    }

    /// Ends it and waits until it has ended.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.bells.iter().for_each(Bell::ring);
        for thread in self.threads.drain(..) {
            // One that panicked has ended, too.
            let _ = thread.join();
        }
    }
}

/// Opens the sockets and starts the threads.
pub fn start(setup: Setup) -> Result<Running, StartError> {
    let bind = |addresses: &[SocketAddr], protocol, kind| {
        let open = |&address: &SocketAddr| {
            let failed = |error| StartError::Bind {
                address,
                protocol,
                error,
            };
            open(address, kind).map_err(failed)
        };
        addresses
            .iter()
            .map(open)
            .collect::<Result<Vec<Socket>, _>>()
    };
    let listeners = bind(&setup.http, "HTTP", Type::STREAM)?;
    let sockets = bind(&setup.udp, "UDP", Type::DGRAM)?;
    let listeners: Vec<TcpListener> = listeners.into_iter().map(Into::into).collect();
    let sockets: Vec<UdpSocket> = sockets.into_iter().map(Into::into).collect();
    let http = listeners
        .iter()
        .map(TcpListener::local_addr)
        .collect::<Result<_, _>>()?;
    let udp = sockets
        .iter()
        .map(UdpSocket::local_addr)
        .collect::<Result<_, _>>()?;
    // Bound: one, the first end is enough.
    let (sentinel, ended) = bounded(1);
    // Bound: the torrents of this program, a few.
    let (admit, admitted) = unbounded();
    let mut running = Running {
        http,
        udp,
        counters: Arc::default(),
        stop: Arc::default(),
        bells: Vec::new(),
        pages: Vec::new(),
        admit,
        threads: Vec::new(),
        sentinel,
        ended,
    };
    // Where a thread cannot be started, those that were are ended by the drop.
    running.man(setup, listeners, sockets, admitted)?;
    Ok(running)
}

impl Running {
    /// Starts the threads.
    fn man(
        &mut self,
        setup: Setup,
        listeners: Vec<TcpListener>,
        sockets: Vec<UdpSocket>,
        admitted: Receiver<(InfoHash, Sender<()>)>,
    ) -> io::Result<()> {
        let started = Instant::now();
        let listeners = Arc::new(listeners);
        let workers = if listeners.is_empty() {
            0
        } else {
            http_threads()
        };
        let owner_bell = Bell::new()?;
        self.bells.push(owner_bell.clone());
        // Bound: each HTTP thread asks again only when it has its answers.
        let (asks, inbox) = bounded(workers.max(1));
        let mut ways = Vec::new();
        for number in 0..workers {
            let bell = Bell::new()?;
            // Bound: one, the answers to the only batch of this thread.
            let (answers, answered) = bounded(1);
            // Bound: the pages of this program, a few.
            let (pages, published) = unbounded();
            ways.push(Way {
                answers,
                bell: bell.clone(),
            });
            self.bells.push(bell.clone());
            self.pages.push(pages);
            let worker = http::Worker::new(http::Setup {
                listeners: listeners.clone(),
                connections: connections(workers),
                interval: setup.interval,
                counters: self.counters.clone(),
                bell,
                owner: owner_bell.clone(),
                asks: asks.clone(),
                answers: answered,
                pages: published,
                stop: self.stop.clone(),
                started,
                number,
                loopback_as: setup.loopback_as,
            })?;
            self.spawn("tracker http", || worker.run())?;
        }
        let counters = self.counters.clone();
        let owner = Owner {
            lines: sockets.into_iter().map(Line::new).collect(),
            desk: Desk::new(ConnectionIds::new(key()?), setup.interval, counters),
            registry: Registry::new(registry::Setup {
                limits: setup.limits,
                interval: setup.interval,
                allowed: setup.allowed,
                loopback_as: setup.loopback_as,
                key: key()?,
                dice: fastrand::Rng::new(),
            }),
            inbox,
            admitted,
            ways,
            bell: owner_bell,
            counters: self.counters.clone(),
            stop: self.stop.clone(),
            started,
        };
        self.spawn("tracker", || owner.run())
    }

    fn spawn(&mut self, name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let builder = Builder::new().name(name.to_owned());
        let sentinel = Sentinel(self.sentinel.clone());
        let thread = builder.stack_size(256 * 1024).spawn(move || {
            let _sentinel = sentinel;
            run();
        })?;
        self.threads.push(thread);
        Ok(())
    }
}

/// A secret of this run.
fn key() -> io::Result<Key> {
    let mut bytes = [0; 16];
    if getrandom(&mut bytes, GetRandomFlags::empty())? < bytes.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Key::from_bytes(bytes))
}

fn http_threads() -> usize {
    let processors = std::thread::available_parallelism().map_or(1, |it| it.get());
    processors.min(HTTP_THREADS_MAX)
}

/// How many connections each of so many threads may have.
fn connections(workers: usize) -> usize {
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let ours = allowed
        .saturating_sub(DESCRIPTORS_BESIDE)
        .min(CONNECTIONS_MAX);
    usize::try_from(ours).unwrap_or(usize::MAX) / workers.max(1)
}

fn open(address: SocketAddr, kind: Type) -> io::Result<Socket> {
    let protocol = if kind == Type::STREAM {
        Protocol::TCP
    } else {
        Protocol::UDP
    };
    let socket = match Socket::new(Domain::for_address(address), kind, Some(protocol)) {
        // A system without IPv6: every address is every IPv4 address.
        Err(error)
            if error.raw_os_error() == Some(libc::EAFNOSUPPORT)
                && address.ip().is_unspecified() =>
        {
            let every = SocketAddr::new([0, 0, 0, 0].into(), address.port());
            return if address.is_ipv6() {
                open(every, kind)
            } else {
                Err(error)
            };
        }
        other => other?,
    };
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_nonblocking(true)?;
    if kind == Type::STREAM {
        // A restart finds its port taken by connections of the past otherwise.
        socket.set_reuse_address(true)?;
    } else {
        // The system gives what it allows.
        let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    }
    socket.bind(&address.into())?;
    if kind == Type::STREAM {
        socket.listen(BACKLOG)?;
    }
    Ok(socket)
}
