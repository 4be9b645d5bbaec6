//! Creation, tracker and seed in one: what the command `share` does.
//!
//! ```text
//! let stall = Stall::open(&venue)?;                  // ports are taken before hours of hashing
//! let work = Creation::start(path, TorrentSettings { trackers: stall.trackers(), .. }, threads)?;
//! let hashed = work.hashed()?;
//! let share = stall.take_in(&work.finish()?, hashed, sharing);
//! let client = share.start(settings)?;               // when it has announced, others may come:
//! println!("ropewalk get {}", share.torrent());
//! ```
//!
//! The tracker ([`crate::tracker`]) serves this one torrent and hands out its .torrent from memory; the
//! seed is a client like any other that announces to it over the loopback and is handed out under the
//! address that others reach ([`addresses`]). Nothing is written to disk, nothing is hashed twice
//! ([`crate::storage::hashed`]), and nobody outside is told.

pub mod addresses;

use crate::client::{Client, Role, Settings, Sharing, StartError, Task};
use crate::create::TorrentFile;
use crate::net::listen::Listener;
use crate::net::self_call::reaches_itself;
use crate::protocol::metainfo::Metainfo;
use crate::protocol::selection::Selection;
use crate::storage::hashed::Hashed;
use crate::tracker::{self, Page, Running};
use addresses::Addresses;
use crossbeam_channel::Receiver;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The ports that are tried for the tracker where none is asked for; after them, any.
pub const TRACKER_PORTS: RangeInclusive<u16> = 6969..=6977;

/// How often peers are asked to announce: who leaves without a word is forgotten after ten minutes, and
/// so few peers are no burden.
const INTERVAL: Duration = Duration::from_secs(300);

/// Where to share.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Venue {
    /// Serve on this address alone; `None`: on all, IPv4 and IPv6.
    pub bind: Option<IpAddr>,
    /// The port of the seed; `None`: the first free one of 6881 to 6889, else any. 0: any.
    pub port: Option<u16>,
    /// The port of the tracker, HTTP and UDP; `None`: the first free one of [`TRACKER_PORTS`], else any.
    pub tracker_port: Option<u16>,
}

/// Why nothing can be shared from here.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The seed's port, or the address.
    #[error(transparent)]
    Client(#[from] StartError),
    /// The tracker's.
    #[error(transparent)]
    Tracker(#[from] tracker::StartError),
    /// The seed would not reach its own tracker.
    #[error("nothing reaches {address} on this machine: {error}")]
    Deaf {
        /// Where the tracker would be.
        address: IpAddr,
        /// Why.
        error: io::Error,
    },
}

/// A place to share from: the ports are taken, nothing is there yet.
#[derive(Debug)]
pub struct Stall {
    venue: Venue,
    addresses: Addresses,
    tracker: Running,
    /// Keeps the seed's port until the seed is there.
    listener: Listener,
}

impl Stall {
    /// Takes the ports and starts a tracker that serves nobody yet.
    pub fn open(venue: &Venue) -> Result<Stall, OpenError> {
        // Every address of IPv6 is every address: the tracker's sockets serve both families, the seed's then do.
        let venue = Venue {
            bind: venue.bind.filter(|bind| *bind != Ipv6Addr::UNSPECIFIED),
            ..*venue
        };
        let addresses = Addresses::of_this_machine(venue.bind);
        let address = next_door(&venue, &addresses);
        match reaches_itself(address) {
            // That it is not ours is told with the port.
            Err(error) if error.kind() != io::ErrorKind::AddrNotAvailable => {
                return Err(OpenError::Deaf { address, error });
            }
            _ => {}
        }
        let listen =
            || Listener::open(venue.port, venue.bind).map_err(|error| no_port(&venue, &error));
        let track = || start_tracker(&venue, addresses.chosen);
        // Who was given no port takes another than the one that the other was given.
        let (listener, tracker) = if venue.port.is_none() && venue.tracker_port.is_some() {
            let tracker = track()?;
            (listen()?, tracker)
        } else {
            (listen()?, track()?)
        };
        Ok(Stall {
            tracker,
            venue,
            addresses,
            listener,
        })
    }

    /// What others may call this machine.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// The tiers (BEP 12) that the .torrent shall name.
    pub fn trackers(&self) -> Vec<Vec<String>> {
        let (http, udp) = (self.tracker.http(), self.tracker.udp());
        let http = http.iter().map(|it| ("http", it.port()));
        let udp = udp.iter().map(|it| ("udp", it.port()));
        http.chain(udp)
            .map(|(scheme, port)| {
                let at = SocketAddr::new(self.addresses.chosen, port);
                vec![format!("{scheme}://{at}/announce")]
            })
            .collect()
    }

    /// The torrent is made: the tracker serves it and hands it out.
    pub fn take_in(self, torrent: &TorrentFile, hashed: Hashed, sharing: Sharing) -> Share {
        let info_hash = torrent.metainfo.info_hash;
        let path = format!("/{info_hash}.torrent");
        self.tracker.admit(info_hash);
        let page = Page {
            content_type: "application/x-bittorrent".to_owned(),
            bytes: torrent.bytes.clone(),
        };
        self.tracker.publish(&path, page);
        let port = self.tracker.http().first().map_or(0, SocketAddr::port);
        let at = SocketAddr::new(self.addresses.chosen, port);
        let task = Task {
            metainfo: Metainfo {
                trackers: self.next_door(),
                ..torrent.metainfo.clone()
            },
            folder: PathBuf::new(),
            role: Role::Seed,
            hashed: Some(Arc::new(hashed)),
            check: false,
            overwrite: false,
            peers: Vec::new(),
            trackers: true,
            wanted: Selection::all(&torrent.metainfo),
            sequential: false,
            sharing,
            timeout: None,
        };
        Share {
            stall: self,
            torrent: format!("http://{at}{path}"),
            magnet: torrent.metainfo.magnet(),
            tasks: vec![task],
        }
    }

    /// Where our own seed finds the tracker: by UDP, which no proxy carries away.
    fn next_door(&self) -> Vec<Vec<String>> {
        let Some(port) = self.tracker.udp().first().map(SocketAddr::port) else {
            return Vec::new();
        };
        let ip = next_door(&self.venue, &self.addresses);
        vec![vec![format!("udp://{}", SocketAddr::new(ip, port))]]
    }
}

/// Something to share, and the place where others get it.
#[derive(Debug)]
pub struct Share {
    stall: Stall,
    torrent: String,
    magnet: String,
    tasks: Vec<Task>,
}

impl Share {
    /// Where the .torrent is handed out.
    pub fn torrent(&self) -> &str {
        &self.torrent
    }

    /// The link for those who can do without it (BEP 9).
    pub fn magnet(&self) -> &str {
        &self.magnet
    }

    /// What others may call this machine.
    pub fn addresses(&self) -> &Addresses {
        &self.stall.addresses
    }

    /// What the seed will do: one task.
    pub fn tasks(&self) -> &[Task] {
        &self.tasks
    }

    /// Starts the seed. The tracker works until the second half of what this gives is dropped; the port and
    /// address of `settings` do not count.
    pub fn start(self, settings: Settings) -> Result<(Client, Counter), StartError> {
        let settings = Settings {
            bind: self.stall.venue.bind,
            ..settings
        };
        let client = Client::start_on(self.stall.listener, settings, self.tasks)?;
        Ok((client, Counter(self.stall.tracker)))
    }
}

/// The tracker of a share at work. It ends when this is dropped, which is best done after the seed's end.
#[derive(Debug)]
pub struct Counter(Running);

impl Counter {
    /// Gives something when the tracker has ended by itself, which is a fault of ours.
    pub fn ended(&self) -> &Receiver<()> {
        self.0.ended()
    }
}

/// The address at which our own seed finds the tracker: the loopback's where the tracker listens there.
fn next_door(venue: &Venue, addresses: &Addresses) -> IpAddr {
    match venue.bind.filter(|bind| !bind.is_unspecified()) {
        Some(only) => only,
        None if addresses.chosen.is_ipv6() => Ipv6Addr::LOCALHOST.into(),
        None => Ipv4Addr::LOCALHOST.into(),
    }
}

fn no_port(venue: &Venue, error: &io::Error) -> StartError {
    let cause = error.to_string();
    match (venue.bind, venue.port) {
        (Some(address), _) if error.kind() == io::ErrorKind::AddrNotAvailable => {
            StartError::Bind { address, cause }
        }
        (_, port) => StartError::Port {
            port: port.unwrap_or(0),
            cause,
        },
    }
}

/// The tracker, on one port for HTTP and UDP unless that is any.
fn start_tracker(venue: &Venue, known_as: IpAddr) -> Result<Running, tracker::StartError> {
    let on = |port| {
        let at = SocketAddr::new(venue.bind.unwrap_or(Ipv6Addr::UNSPECIFIED.into()), port);
        tracker::start(tracker::Setup {
            http: vec![at],
            udp: vec![at],
            interval: INTERVAL,
            allowed: Some(Vec::new()),
            loopback_as: Some(known_as),
            ..tracker::Setup::default()
        })
    };
    if let Some(port) = venue.tracker_port {
        return on(port);
    }
    for port in TRACKER_PORTS {
        match on(port) {
            Err(tracker::StartError::Bind { error, .. })
                if error.kind() == io::ErrorKind::AddrInUse => {}
            other => return other,
        }
    }
    on(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[test]
    fn a_tracker_on_one_of_the_seeds_usual_ports_leaves_it_another() {
        let free = |port| {
            let tcp = std::net::TcpListener::bind((HERE, port)).is_ok();
            tcp && std::net::UdpSocket::bind((HERE, port)).is_ok()
        };
        // Where another test or program has all of them, the seed takes any.
        let port = (6881..=6889).find(|port| free(*port)).unwrap_or(0);
        let venue = Venue {
            bind: Some(HERE),
            port: None,
            tracker_port: Some(port),
        };
        let stall = Stall::open(&venue).unwrap();
        assert_ne!(stall.listener.port(), stall.tracker.http()[0].port());
    }

    #[test]
    fn a_port_that_is_taken_is_told_before_anything_is_hashed() {
        let taken = std::net::TcpListener::bind((HERE, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let venue = Venue {
            bind: Some(HERE),
            port: Some(0),
            tracker_port: Some(0),
        };
        let seed = Venue {
            port: Some(port),
            ..venue
        };
        let error = Stall::open(&seed).unwrap_err();
        assert!(
            matches!(error, OpenError::Client(StartError::Port { port: it, .. }) if it == port)
        );
        let tracker = Venue {
            tracker_port: Some(port),
            ..venue
        };
        let error = Stall::open(&tracker).unwrap_err();
        assert!(
            matches!(&error, OpenError::Tracker(tracker::StartError::Bind { address, .. })
                if address.port() == port),
            "{error}"
        );
        let foreign = Venue {
            bind: Some(Ipv4Addr::new(192, 0, 2, 7).into()),
            ..venue
        };
        let error = Stall::open(&foreign).unwrap_err();
        assert!(matches!(error, OpenError::Client(StartError::Bind { .. })));
    }

    #[test]
    fn every_address_of_ipv6_is_every_address_for_the_seed_too() {
        let venue = Venue {
            bind: Some(Ipv6Addr::UNSPECIFIED.into()),
            port: Some(0),
            tracker_port: Some(0),
        };
        let stall = Stall::open(&venue).unwrap();
        for port in [stall.listener.port(), stall.tracker.http()[0].port()] {
            std::net::TcpStream::connect((HERE, port)).unwrap();
        }
    }

    #[test]
    fn the_tiers_name_the_address_that_others_reach() {
        let venue = Venue {
            bind: Some(Ipv6Addr::LOCALHOST.into()),
            port: Some(0),
            tracker_port: Some(0),
        };
        if std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
            return; // a machine without IPv6 has nothing to show here
        }
        let stall = Stall::open(&venue).unwrap();
        let (http, udp) = (stall.tracker.http()[0], stall.tracker.udp()[0]);
        assert_eq!(
            stall.trackers(),
            [
                [format!("http://[::1]:{}/announce", http.port())],
                [format!("udp://[::1]:{}/announce", udp.port())]
            ]
        );
    }
}
