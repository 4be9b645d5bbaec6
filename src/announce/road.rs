//! The way to a tracker's host over HTTP: over which family, from which of our addresses, to which of its
//! own, and whether we got there.

use super::http::{AnnounceError, CallLimits};
use super::lookup::lookup;
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed, Ordering::SeqCst};
use std::time::Duration;
use ureq::Proxy;
use ureq::config::IpFamily;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport,
};

/// ureq takes no more addresses of a host.
const ADDRESSES_MAX: usize = 16;

/// A way to a host.
#[derive(Debug, Clone)]
pub(super) struct Road {
    /// What is kept of the addresses of hosts to which redirects lead.
    pub(super) family: IpFamily,
    /// The host's addresses, all of the family; `None`: somebody else looks them up.
    pub(super) known: Option<Vec<SocketAddr>>,
}

impl Road {
    /// The one that the system and the environment choose.
    pub(super) const ANY: Road = Road {
        family: IpFamily::Any,
        known: None,
    };
}

/// The ways to the tracker at `uri`: one for each family of which it has addresses (BEP 7), the bound
/// address's alone where one is bound, and one to a proxy.
pub(super) fn roads(
    uri: &Uri,
    limits: &CallLimits,
    halted: &dyn Fn() -> bool,
) -> Result<Vec<Road>, AnnounceError> {
    let proxy = limits.proxies.then(Proxy::try_from_env).flatten();
    if proxy.is_some_and(|proxy| !proxy.is_no_proxy(uri)) {
        return Ok(vec![Road::ANY]);
    }
    let host = uri.host().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let usual = if uri.scheme_str() == Some("https") {
        443
    } else {
        80
    };
    let port = uri.port_u16().unwrap_or(usual);
    let found = lookup(host, port, limits.resolve.min(limits.total), halted)?;
    Ok(split(&fitting(found, limits.bind)?))
}

/// Those of `found` that can be reached from the address `bind`.
pub(super) fn fitting(
    mut found: Vec<SocketAddr>,
    bind: Option<IpAddr>,
) -> Result<Vec<SocketAddr>, AnnounceError> {
    found.retain(|it| bind.is_none_or(|bind| bind.is_ipv4() == it.is_ipv4()));
    if found.is_empty() {
        let why = "has no host of the same family (IPv4, IPv6) as --bind";
        return Err(AnnounceError::Address(why));
    }
    Ok(found)
}

pub(super) fn split(found: &[SocketAddr]) -> Vec<Road> {
    let (v4, v6): (Vec<SocketAddr>, Vec<SocketAddr>) = found.iter().partition(|it| it.is_ipv4());
    let roads = [(IpFamily::Ipv4Only, v4), (IpFamily::Ipv6Only, v6)];
    let roads = roads.into_iter().filter(|(_, known)| !known.is_empty());
    let road = |(family, known)| Road {
        family,
        known: Some(known),
    };
    roads.map(road).collect()
}

/// Whether a question got through, for those on both ends of a thread.
#[derive(Debug, Default)]
pub(super) struct Reach {
    reached: AtomicBool,
    given_up: AtomicBool,
}

impl Reach {
    /// A connection is there; false if nobody wants it any more.
    fn arrive(&self) -> bool {
        self.reached.store(true, SeqCst);
        !self.given_up.load(SeqCst)
    }

    /// Nobody waits any more: a connection that comes later is not used.
    pub(super) fn give_up(&self) {
        self.given_up.store(true, SeqCst);
    }

    /// Whether the tracker may have heard something.
    pub(super) fn reached(&self) -> bool {
        self.reached.load(SeqCst)
    }
}

/// The end of each connector: notes that a connection is there.
#[derive(Debug)]
pub(super) struct NoteArrival(pub(super) Arc<Reach>);

impl<In: Transport> Connector<In> for NoteArrival {
    type Out = In;

    fn connect(
        &self,
        _: &ConnectionDetails,
        chained: Option<In>,
    ) -> Result<Option<In>, ureq::Error> {
        if chained.is_some() && !self.0.arrive() {
            return Err(ureq::Error::Other(Box::new(AnnounceError::Interrupted)));
        }
        Ok(chained)
    }
}

/// Connects from an address of ours.
#[derive(Debug)]
pub(super) struct Bound(pub(super) IpAddr);

impl<In: Transport> Connector<In> for Bound {
    type Out = Either<In, Wire>;

    fn connect(
        &self,
        details: &ConnectionDetails,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        if chained.is_some() {
            // The line through a proxy, which this has connected to before.
            return Ok(chained.map(Either::A));
        }
        let number = details.addrs.len().max(1) as u32;
        let each = details.timeout.not_zero().map(|it| *it / number);
        let mut failure = ureq::Error::HostNotFound;
        for address in details.addrs.iter() {
            match self.dial(*address, each) {
                Ok(stream) => {
                    let (input, output) = (
                        details.config.input_buffer_size(),
                        details.config.output_buffer_size(),
                    );
                    let buffers = LazyBuffers::new(input, output);
                    return Ok(Some(Either::B(Wire { stream, buffers })));
                }
                Err(error) => failure = ureq::Error::Io(error),
            }
        }
        Err(failure)
    }
}

impl Bound {
    fn dial(&self, address: SocketAddr, wait: Option<Duration>) -> std::io::Result<TcpStream> {
        let domain = Domain::for_address(address);
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        socket.bind(&SocketAddr::new(self.0, 0).into())?;
        match wait {
            Some(wait) => socket.connect_timeout(&address.into(), wait)?,
            None => socket.connect(&address.into())?,
        }
        Ok(socket.into())
    }
}

/// A TCP connection as ureq wants it: its own is made by its own connector alone.
#[derive(Debug)]
pub(super) struct Wire {
    stream: TcpStream,
    buffers: LazyBuffers,
}

impl Transport for Wire {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        let wait = timeout.not_zero().map(|it| *it);
        self.stream.set_write_timeout(wait)?;
        let output = &self.buffers.output()[..amount];
        self.stream
            .write_all(output)
            .map_err(|error| late(error, timeout))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        let wait = timeout.not_zero().map(|it| *it);
        self.stream.set_read_timeout(wait)?;
        let input = self.buffers.input_append_buf();
        let read = loop {
            match self.stream.read(input) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        let amount = read.map_err(|error| late(error, timeout))?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        // Connections are used once.
        false
    }
}

fn late(error: std::io::Error, timeout: NextTimeout) -> ureq::Error {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => ureq::Error::Timeout(timeout.reason),
        _ => ureq::Error::Io(error),
    }
}

/// No answer came, for this reason. rustls names its own in one word, and some are for its makers; the number
/// that Rust puts behind the system's words is for nobody.
pub(super) fn unreachable(reason: &str) -> AnnounceError {
    let too_old = ["ProtocolVersion", "ServerDoesNotSupportTls12Or13"];
    let too_old = too_old.iter().any(|name| reason.contains(name));
    let words = reason.split(" (os error").next().unwrap_or_default();
    AnnounceError::Unreachable(match too_old {
        true => "the server's TLS is too old: it must be version 1.2 or later".into(),
        false => words.to_owned(),
    })
}

/// Looks names up as the system does and looks at what comes out. It stands where the address is
/// used, so a name that changes its meaning between a check and the connection gains nothing.
#[derive(Debug)]
pub(super) struct Watchful {
    pub(super) known: Option<Vec<SocketAddr>>,
    pub(super) public_only: bool,
    pub(super) met_public: Arc<AtomicBool>,
    /// A .torrent file may name a service on this very machine as its tracker. Only what looks like
    /// a tracker is asked.
    pub(super) loopback_allowed: bool,
}

impl Resolver for Watchful {
    fn resolve(
        &self,
        uri: &Uri,
        config: &ureq::config::Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let mut found = self.empty();
        match &self.known {
            Some(known) => {
                let known = known.iter().take(ADDRESSES_MAX);
                known.for_each(|it| found.push(*it));
            }
            None => found = DefaultResolver::default().resolve(uri, config, timeout)?,
        }
        // With a proxy the address is the proxy's, which the user chose.
        let proxy = config.proxy();
        if proxy.is_none_or(|proxy| proxy.is_no_proxy(uri)) {
            let ips: Vec<IpAddr> = found.iter().map(|it| it.ip()).collect();
            self.judge(&ips)
                .map_err(|why| ureq::Error::Other(Box::new(why)))?;
        }
        Ok(found)
    }
}

impl Watchful {
    /// Whether a connection to these addresses of one host may be made.
    fn judge(&self, ips: &[IpAddr]) -> Result<(), AnnounceError> {
        if !self.loopback_allowed && ips.iter().any(|ip| is_loopback(*ip)) {
            let why = "is on this machine and not a tracker's";
            return Err(AnnounceError::Address(why));
        }
        if self.public_only && ips.iter().any(|ip| is_private(*ip)) {
            return Err(AnnounceError::Redirect("leads into the private network"));
        }
        if ips.iter().any(|ip| !is_private(*ip)) {
            self.met_public.store(true, Relaxed);
        }
        Ok(())
    }
}

fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback() || ip.is_unspecified()
}

/// Whether only hosts near us can reach this address.
fn is_private(ip: IpAddr) -> bool {
    is_loopback(ip)
        || match ip.to_canonical() {
            IpAddr::V4(ip) => {
                let [a, b, ..] = ip.octets();
                let carrier_grade = a == 100 && (64..128).contains(&b);
                ip.is_private() || ip.is_link_local() || ip.is_broadcast() || carrier_grade
            }
            IpAddr::V6(ip) => ip.is_unique_local() || ip.is_unicast_link_local(),
        }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn after_a_public_host_private_addresses_are_refused() {
        let resolver = |public_only, loopback_allowed| Watchful {
            known: None,
            public_only,
            met_public: Arc::new(AtomicBool::new(false)),
            loopback_allowed,
        };
        let private = [
            "127.0.0.1",
            "10.1.2.3",
            "169.254.169.254",
            "192.168.0.1",
            "100.64.0.1",
            "0.0.0.0",
            "::1",
            "fe80::1",
            "fd00::1",
            "::ffff:10.0.0.1",
        ];
        for ip in private {
            let ip: IpAddr = ip.parse().unwrap();
            let refused = AnnounceError::Redirect("leads into the private network");
            assert_eq!(resolver(true, true).judge(&[ip]), Err(refused), "{ip}");
            let first = resolver(false, true);
            assert_eq!(first.judge(&[ip]), Ok(()));
            assert!(!first.met_public.load(Relaxed), "{ip}");
        }
        let first = resolver(true, false);
        assert_eq!(first.judge(&["8.8.8.8".parse().unwrap()]), Ok(()));
        assert!(first.met_public.load(Relaxed));
    }

    #[test]
    fn each_family_of_a_host_is_a_road_and_a_bound_address_has_one() {
        let addresses = ["192.0.2.1:80", "[2001:db8::1]:80", "192.0.2.2:80"];
        let found: Vec<SocketAddr> = addresses.iter().map(|it| it.parse().unwrap()).collect();
        let families = |bind: Option<&str>| {
            let bind = bind.map(|it| it.parse().unwrap());
            let roads = split(&fitting(found.clone(), bind).unwrap());
            let road = |it: Road| (it.family, it.known.unwrap().len());
            roads.into_iter().map(road).collect::<Vec<_>>()
        };
        let (v4, v6) = ((IpFamily::Ipv4Only, 2), (IpFamily::Ipv6Only, 1));
        assert_eq!(families(None), [v4, v6]);
        assert_eq!(families(Some("192.0.2.9")), [v4]);
        assert_eq!(families(Some("2001:db8::9")), [v6]);
        let none = fitting(found[..1].to_vec(), Some("::1".parse().unwrap()));
        assert!(matches!(none, Err(AnnounceError::Address(_))));
    }
}
