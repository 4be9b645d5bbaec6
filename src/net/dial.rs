//! How a connection to an address begins.

use super::greeting::Wait;
use super::unsent::UNSENT_MIN;
use crate::swarm::event::{Farewell, Slowness};
use rustix::event::PollFlags;
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

/// Connects to `address`, from `bind` if given. The stream is non-blocking and tuned.
pub(super) fn connect(
    address: SocketAddr,
    bind: Option<IpAddr>,
    wait: &mut Wait<'_>,
    patience: Duration,
) -> Result<TcpStream, Farewell> {
    let socket = begin(address, bind).map_err(unreachable)?;
    wait.until_ready(&socket, PollFlags::OUT, patience, Slowness::Connect)?;
    if let Some(error) = socket.take_error().map_err(unreachable)? {
        return Err(unreachable(error));
    }
    let stream = TcpStream::from(socket);
    tune(&stream).map_err(unreachable)?;
    Ok(stream)
}

/// A lack of descriptors or memory is ours and says nothing about the address.
fn unreachable(error: io::Error) -> Farewell {
    match Errno::from_io_error(&error) {
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => Farewell::NoRoom,
        _ => Farewell::Unreachable(error.to_string()),
    }
}

fn begin(address: SocketAddr, bind: Option<IpAddr>) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_nonblocking(true)?;
    if let Some(from) = bind {
        socket.bind(&SockAddr::from(SocketAddr::new(from, 0)))?;
    }
    match socket.connect(&SockAddr::from(address)) {
        Err(error) if Errno::from_io_error(&error) != Some(Errno::INPROGRESS) => Err(error),
        _ => Ok(socket),
    }
}

/// Sets what every peer connection needs: no waiting in reads and writes, no delay of small messages,
/// a short queue of unsent data.
pub(super) fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    socket2::SockRef::from(stream).set_tcp_notsent_lowat(UNSENT_MIN)
}
