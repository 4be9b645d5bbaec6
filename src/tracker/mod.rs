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
//! * One thread owns it and serves everybody (`owner`): UDP (`udp`, `connection_ids`; BEP 15) and HTTP
//!   (`http`; BEP 3, 7, 21, 23, 24, 31, 48), which also hands out [`Page`]s from memory. No path of a
//!   request ever reaches a file system.

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
use http::Reception;
use owner::{Order, Owner, Source};
use registry::{Capacity, Registry};
use rustix::event::epoll::{self, EventFlags};
use rustix::process::{Resource, getrlimit};
use rustix::rand::{GetRandomFlags, getrandom};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};
use udp::{Desk, Post};

/// How often peers are asked to announce, unless told otherwise.
pub const INTERVAL: Duration = Duration::from_secs(1_800);

/// What is held at most, unless told otherwise: less than 64 MiB.
pub const LIMITS: Capacity = Capacity {
    torrents: 100_000,
    peers: 1_000_000,
    per_ip: 64,
};

/// Connections of HTTP that are kept at a time, where descriptors abound.
const CONNECTIONS_MAX: u64 = 4_096;

/// Descriptors in use beside those connections: our sockets, and the calls that were just taken.
const DESCRIPTORS_BESIDE: u64 = 128;

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
    pub limits: Capacity,
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
    orders: Sender<Order>,
    bell: Bell,
    thread: Option<JoinHandle<()>>,
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
    /// Gives something when its thread has ended though nobody told it to: a fault of ours, and a
    /// tracker that is of no use any more.
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
        self.order(Order::Publish(path.to_owned(), page));
    }

    /// Serves one more torrent where not all are served, from the moment this returns on.
    pub fn admit(&self, info_hash: InfoHash) {
        // Bound: none is sent; it is dropped when that is done, or by an owner that has ended by a fault.
        let (done, heard) = bounded(1);
        self.order(Order::Admit(info_hash, done));
        let _ = heard.recv();
    }

    fn order(&self, order: Order) {
        // An error is an owner that has ended by a fault.
        let _ = self.orders.send(order);
        self.bell.ring();
    }

    /// Ends it and waits until it has ended.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.order(Order::Stop);
        if let Some(thread) = self.thread.take() {
            // One that panicked has ended, too.
            let _ = thread.join();
        }
    }
}

/// Opens the sockets and starts the thread.
pub fn start(setup: Setup) -> Result<Running, StartError> {
    let listeners = bind(&setup.http, "HTTP", Type::STREAM)?;
    let sockets = bind(&setup.udp, "UDP", Type::DGRAM)?;
    let listeners: Vec<TcpListener> = listeners.into_iter().map(Into::into).collect();
    let sockets: Vec<UdpSocket> = sockets.into_iter().map(Into::into).collect();
    let http = listeners.iter().map(TcpListener::local_addr);
    let http = http.collect::<Result<_, _>>()?;
    let udp = sockets.iter().map(UdpSocket::local_addr);
    let udp = udp.collect::<Result<_, _>>()?;
    let (counters, bell) = (Arc::<Counters>::default(), Bell::new()?);
    // Bound: the torrents and pages of this program, a few.
    let (orders, obeyed) = unbounded();
    let owner = owner(
        setup,
        listeners,
        sockets,
        obeyed,
        bell.clone(),
        counters.clone(),
    )?;
    // Bound: one, there is one thread.
    let (sentinel, ended) = bounded(1);
    let sentinel = Sentinel(sentinel);
    let thread = Builder::new().name("tracker".into()).stack_size(256 * 1024);
    let thread = thread.spawn(move || {
        let _sentinel = sentinel;
        owner.run();
    })?;
    Ok(Running {
        http,
        udp,
        counters,
        orders,
        bell,
        thread: Some(thread),
        ended,
    })
}

fn owner(
    setup: Setup,
    listeners: Vec<TcpListener>,
    sockets: Vec<UdpSocket>,
    orders: Receiver<Order>,
    bell: Bell,
    counters: Arc<Counters>,
) -> io::Result<Owner> {
    let started = Instant::now();
    let epoll = Arc::new(epoll::create(epoll::CreateFlags::CLOEXEC)?);
    epoll::add(&epoll, &bell, Source::Bell.into(), EventFlags::IN)?;
    for (at, socket) in sockets.iter().enumerate() {
        epoll::add(&epoll, socket, Source::Post(at).into(), EventFlags::IN)?;
    }
    Ok(Owner {
        posts: sockets.into_iter().map(Post::new).collect(),
        desk: Desk::new(ConnectionIds::new(key()?), setup.interval, counters.clone()),
        reception: Reception::new(http::ReceptionSetup {
            listeners,
            epoll: epoll.clone(),
            connections: connections(),
            interval: setup.interval,
            counters: counters.clone(),
            started,
            loopback_as: setup.loopback_as,
        })?,
        registry: Registry::new(registry::Charter {
            limits: setup.limits,
            interval: setup.interval,
            allowed: setup.allowed,
            loopback_as: setup.loopback_as,
            key: key()?,
            dice: fastrand::Rng::new(),
        }),
        orders,
        bell,
        counters,
        started,
        epoll,
    })
}

/// A secret of this run.
fn key() -> io::Result<Key> {
    let mut bytes = [0; 16];
    if getrandom(&mut bytes, GetRandomFlags::empty())? < bytes.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Key::from_bytes(bytes))
}

/// How many connections may be kept.
fn connections() -> usize {
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    // Where descriptors are few, a quarter of them.
    let ours = allowed.saturating_sub(DESCRIPTORS_BESIDE).max(allowed / 4);
    usize::try_from(ours.clamp(1, CONNECTIONS_MAX)).unwrap_or(1)
}

fn bind(
    addresses: &[SocketAddr],
    protocol: &'static str,
    kind: Type,
) -> Result<Vec<Socket>, StartError> {
    let open = |&address: &SocketAddr| {
        open(address, kind).map_err(|error| StartError::Bind {
            address,
            protocol,
            error,
        })
    };
    addresses.iter().map(open).collect()
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
