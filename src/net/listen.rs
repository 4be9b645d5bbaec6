//! The listener: one port, IPv4 and IPv6, for all torrents.
//!
//! ```text
//! let listener = Listener::open(None, None)?;    // first free of 6881 to 6889
//! let port = listener.port();
//! let (callers, inbox) = crossbeam_channel::bounded(16);
//! let listening = listener.start(callers)?;      // (stream, address) arrive in `inbox`
//! drop(listening);                               // stops the thread and closes the port
//! ```

use super::greeting::wait;
use super::mailbox::Bell;
use crossbeam_channel::{Receiver, Sender, TrySendError};
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The ports tried where the user names none: those of the first client (BEP 3).
pub const USUAL_PORTS: std::ops::RangeInclusive<u16> = 6881..=6889;

/// Callers the kernel keeps for us while we are busy.
const BACKLOG: i32 = 64;

/// How long accepting rests when descriptors or memory have run out: a busy loop would only make it worse.
const PAUSE: Duration = Duration::from_secs(1);

/// Callers that may wait for the coordinator; each costs a descriptor. More wait in the kernel.
pub const CALLERS_MAX: usize = 4;

/// A bound port that nobody is accepted on yet.
#[derive(Debug)]
pub struct Listener {
    sockets: Vec<TcpListener>,
    port: u16,
}

/// A running listener thread. Dropping it stops the thread and closes the port.
#[derive(Debug)]
pub struct Listening {
    bell: Bell,
    thread: Option<JoinHandle<()>>,
}

/// Somebody who connected, and from where.
pub type Caller = (TcpStream, SocketAddr);

/// Opens the channel that brings callers to the coordinator.
pub fn callers() -> (Sender<Caller>, Receiver<Caller>) {
    // Bound: CALLERS_MAX; beyond that callers wait in the kernel's queue.
    crossbeam_channel::bounded(CALLERS_MAX)
}

impl Listener {
    /// Binds `port` (0: any; `None`: the first free one of [`USUAL_PORTS`], else any) on `bind`, or on
    /// all addresses of both families. Where IPv6 is switched off, IPv4 alone is served.
    pub fn open(port: Option<u16>, bind: Option<IpAddr>) -> io::Result<Listener> {
        if let Some(port) = port {
            return Listener::bind(port, bind);
        }
        let usual = USUAL_PORTS.map(|port| Listener::bind(port, bind));
        for attempt in usual {
            match attempt {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                other => return other,
            }
        }
        Listener::bind(0, bind)
    }

    /// The port, in both families.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Starts the thread that accepts. Every caller is sent with its address as seen by IPv4 where it is one.
    pub fn start(self, callers: Sender<Caller>) -> io::Result<Listening> {
        let bell = Bell::new()?;
        let stop = bell.clone();
        let thread = thread::Builder::new()
            .name("listener".to_owned())
            .stack_size(128 * 1024)
            .spawn(move || self.accept_all(&callers, &stop))?;
        Ok(Listening {
            bell,
            thread: Some(thread),
        })
    }

    fn bind(port: u16, bind: Option<IpAddr>) -> io::Result<Listener> {
        if let Some(address) = bind {
            let socket = open_socket(SocketAddr::new(address, port))?;
            let port = socket.local_addr()?.port();
            let sockets = vec![socket];
            return Ok(Listener { sockets, port });
        }
        // Any port that is free in one family may be taken in the other: a few draws settle it.
        let mut attempts = if port == 0 { 16 } else { 1 };
        loop {
            attempts -= 1;
            match bind_both(port) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && attempts > 0 => {}
                other => return other,
            }
        }
    }

    fn accept_all(self, callers: &Sender<Caller>, stop: &Bell) {
        let mut held: Option<Caller> = None;
        loop {
            // While the coordinator has no room, and after a shortage, only the bell and the clock are heard.
            let mut deadline = held.is_some().then(|| Instant::now() + PAUSE / 20);
            if held.is_none() {
                match self.accept_waiting(callers) {
                    Accepted::All => {}
                    Accepted::Full(caller) => {
                        held = Some(caller);
                        continue;
                    }
                    Accepted::Short => deadline = Some(Instant::now() + PAUSE),
                    Accepted::Nobody => return,
                }
            }
            let mut waiting = vec![PollFd::from_borrowed_fd(stop.as_fd(), PollFlags::IN)];
            if deadline.is_none() {
                let sockets = self.sockets.iter();
                waiting.extend(sockets.map(|socket| PollFd::new(socket, PollFlags::IN)));
            }
            if wait(&mut waiting, deadline).is_err() || !waiting[0].revents().is_empty() {
                return;
            }
            if let Some(caller) = held.take() {
                match callers.try_send(caller) {
                    Ok(()) => {}
                    Err(TrySendError::Full(caller)) => held = Some(caller),
                    Err(TrySendError::Disconnected(_)) => return,
                }
            }
        }
    }

    /// Accepts everybody who waits.
    fn accept_waiting(&self, callers: &Sender<Caller>) -> Accepted {
        for socket in &self.sockets {
            loop {
                match socket.accept() {
                    Ok((stream, address)) => {
                        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
                        match callers.try_send((stream, address)) {
                            Ok(()) => {}
                            Err(TrySendError::Full(caller)) => return Accepted::Full(caller),
                            Err(TrySendError::Disconnected(_)) => return Accepted::Nobody,
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => match Errno::from_io_error(&error) {
                        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                            return Accepted::Short;
                        }
                        // The caller has gone already, or its network broke: the next one.
                        Some(
                            Errno::CONNABORTED
                            | Errno::INTR
                            | Errno::PROTO
                            | Errno::NETDOWN
                            | Errno::HOSTDOWN
                            | Errno::HOSTUNREACH
                            | Errno::NETUNREACH,
                        ) => {}
                        _ => return Accepted::Short,
                    },
                }
            }
        }
        Accepted::All
    }
}

/// How a round of accepting ended.
enum Accepted {
    /// Nobody waits any more.
    All,
    /// The coordinator has no room for this one yet.
    Full(Caller),
    /// Descriptors or memory have run out.
    Short,
    /// The coordinator has gone.
    Nobody,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.bell.ring();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One port in both families, or in IPv4 alone where there is no IPv6.
fn bind_both(port: u16) -> io::Result<Listener> {
    let v6 = open_socket(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)));
    let v6 = match v6 {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
        other => other.ok(),
    };
    let port = match &v6 {
        Some(socket) => socket.local_addr()?.port(),
        None => port,
    };
    let v4 = open_socket(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)));
    let sockets: Vec<TcpListener> = match (v4, v6) {
        (Ok(v4), v6) => std::iter::once(v4).chain(v6).collect(),
        (Err(error), Some(v6)) if error.kind() != io::ErrorKind::AddrInUse => vec![v6],
        (Err(error), _) => return Err(error),
    };
    let port = sockets[0].local_addr()?.port();
    Ok(Listener { sockets, port })
}

fn open_socket(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // A port of our own that lingers after a restart is no obstacle; one in use by others is.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Read;

    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn callers_of_both_families_arrive_on_one_port() {
        let listener = Listener::open(Some(0), None).unwrap();
        let port = listener.port();
        // A machine without IPv6 has one family to show.
        let both = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
        let (sender, inbox) = callers();
        let _listening = listener.start(sender).unwrap();
        let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let caller = TcpStream::connect(v4).unwrap();
        let (_, address) = inbox.recv_timeout(PATIENCE).unwrap();
        assert_eq!(address, caller.local_addr().unwrap());
        let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
        if both {
            let caller = TcpStream::connect(v6).unwrap();
            let (_, address) = inbox.recv_timeout(PATIENCE).unwrap();
            assert_eq!(address, caller.local_addr().unwrap());
        }
    }

    #[test]
    fn dropping_it_stops_the_thread_and_frees_the_port() {
        let listener = Listener::open(Some(0), Some(Ipv4Addr::LOCALHOST.into())).unwrap();
        let port = listener.port();
        let (sender, inbox) = callers();
        drop(listener.start(sender).unwrap());
        assert!(inbox.recv().is_err());
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        assert!(TcpStream::connect(address).is_err());
    }

    #[test]
    fn a_port_in_use_is_an_error_and_without_a_wish_another_is_found() {
        let taken = Listener::open(Some(0), None).unwrap();
        let again = Listener::open(Some(taken.port()), None);
        assert_eq!(again.unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let first = Listener::open(None, None).unwrap();
        let second = Listener::open(None, None).unwrap();
        assert_ne!(first.port(), second.port());
    }

    #[test]
    fn callers_beyond_what_the_coordinator_takes_wait_and_are_not_lost() {
        let listener = Listener::open(Some(0), Some(Ipv4Addr::LOCALHOST.into())).unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, listener.port()));
        let (sender, inbox) = callers();
        let listening = listener.start(sender).unwrap();
        let crowd = CALLERS_MAX + 8;
        let callers: Vec<TcpStream> = (0..crowd)
            .map(|_| TcpStream::connect(address).unwrap())
            .collect();
        let mut known: Vec<SocketAddr> = callers
            .iter()
            .map(|caller| caller.local_addr().unwrap())
            .collect();
        for _ in 0..crowd {
            let (_, address) = inbox.recv_timeout(PATIENCE).unwrap();
            known.retain(|other| *other != address);
        }
        assert!(known.is_empty(), "{known:?} were lost");
        // Who was accepted and dropped hears it.
        drop(listening);
        let mut first = &callers[0];
        assert_eq!(first.read(&mut [0]).unwrap(), 0);
    }
}
