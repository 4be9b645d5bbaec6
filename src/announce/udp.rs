//! Asks one tracker by datagrams (BEP 15, 41).
//!
//! ```no_run
//! # use ropewalk::announce::{http::CallLimits, udp::UdpAsker};
//! # fn f(request: &ropewalk::protocol::tracker::http::Request) {
//! let mut asker = UdpAsker::new();
//! let answer = asker.announce("udp://t.example:6969", request, &CallLimits::ANNOUNCE, &|| false);
//! # }
//! ```
//!
//! A tracker first gives a connection id, good for a minute, and answers questions that carry it. A
//! datagram that is lost is sent again after 15 seconds, then after 30, and so on as long as the limit
//! allows; who called waits, or goes to the next tracker, and comes back after a wait that doubles.
//! So the schedule of BEP 15 holds without one silent tracker that keeps others waiting.
//!
//! A tracker with addresses of both families is asked over both at once: each knows only those of
//! its own (BEP 7). Datagrams from other addresses never reach us, as the socket is connected; those
//! that are cut, or carry another number than ours, are passed over. The address comes from a stranger's
//! .torrent file and may be any host and port: before it has answered 16 bytes rightly, it gets no more
//! than 16 bytes.

use super::http::{AnnounceError, CallLimits};
use super::lookup::{GLANCE, lookup};
use super::road::{self, fitting};
use super::{GRACE, merged, secret};
use crate::protocol::InfoHash;
use crate::protocol::tracker::http::{Answer, AnswerError, Request};
use crate::protocol::tracker::scrape::Counts;
use crate::protocol::tracker::udp::{self as wire, Question, Reply};
use crossbeam_channel::{Sender, unbounded};
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::Builder;
use std::time::{Duration, Instant};

/// How long a connection id is used.
const CONNECTION_LIFE: Duration = Duration::from_secs(60);

/// The wait for an answer doubles so often, at most.
const DOUBLINGS_MAX: u32 = 8;

/// The port of an address that names none, as others have it.
const PORT: u16 = 80;

/// Room for an answer, in bytes: 2,700 IPv4 peers. What is longer is cut by the system, and its whole
/// peers are taken.
const BUFFER: usize = 16 << 10;

/// The stack of a thread that asks over one family, in bytes: its buffer is not on it.
const STACK: usize = 128 * 1024;

/// A connection id and when it came.
type DatedId = (u64, Instant);

/// Asks trackers, and remembers the ids they gave.
#[derive(Debug, Default)]
pub struct UdpAsker {
    connections: Vec<(SocketAddr, DatedId)>,
    /// Addresses of trackers to which an announce was sent.
    told: BTreeSet<String>,
}

/// What is asked, apart from the numbers of the exchange.
enum Ask {
    Announce(Box<wire::Announce>, Vec<u8>),
    Scrape(Vec<[u8; 20]>),
}

impl UdpAsker {
    /// One that knows no tracker yet.
    pub fn new() -> UdpAsker {
        UdpAsker::default()
    }

    /// Whether an announce was sent to the tracker at `url`: one that was never reached need not
    /// hear that we leave.
    pub fn has_told(&self, url: &str) -> bool {
        self.told.contains(url)
    }

    /// Announces `request` to the tracker at `url` and waits for its answer, until `halted`.
    pub fn announce(
        &mut self,
        url: &str,
        request: &Request,
        limits: &CallLimits,
        halted: &(dyn Fn() -> bool + Sync),
    ) -> Result<Answer, AnnounceError> {
        let key = request.key.as_deref();
        let announce = wire::Announce {
            info_hash: request.info_hash,
            peer_id: request.peer_id,
            downloaded: request.downloaded,
            left: request.left,
            uploaded: request.uploaded,
            event: request.event,
            key: key.map_or(0, |key| u32::from_str_radix(key, 16).unwrap_or(0)),
            num_want: request.num_want,
            port: request.port,
        };
        let options = wire::url_options(place(url)?.path);
        let ask = Ask::Announce(Box::new(announce), options);
        let answers = self.ask(url, &ask, limits, halted)?;
        let read = |(tracker, datagram): (SocketAddr, Vec<u8>)| match Reply::decode(&datagram) {
            Ok(Reply::Announced {
                interval,
                leechers,
                seeders,
                peers,
                ..
            }) => Some(Answer {
                interval: Some(interval.into()),
                complete: Some(seeders.into()),
                incomplete: Some(leechers.into()),
                peers: wire::peers(peers, tracker.is_ipv6()),
                ..Answer::default()
            }),
            _ => None,
        };
        let answers = answers.into_iter().filter_map(read);
        answers.reduce(merged).ok_or_else(silence)
    }

    /// Asks how many share each of `info_hashes`, at most 74. A shorter answer knows fewer of them.
    pub fn scrape(
        &mut self,
        url: &str,
        info_hashes: &[InfoHash],
        limits: &CallLimits,
        halted: &(dyn Fn() -> bool + Sync),
    ) -> Result<Vec<Counts>, AnnounceError> {
        let ask = Ask::Scrape(info_hashes.iter().map(|it| it.0).collect());
        let mut best: Vec<Counts> = Vec::new();
        for (_, datagram) in self.ask(url, &ask, limits, halted)? {
            if let Ok(Reply::Scraped { mut counts, .. }) = Reply::decode(&datagram) {
                counts.truncate(info_hashes.len());
                best.resize(best.len().max(counts.len()), Counts::default());
                for (best, counts) in best.iter_mut().zip(counts) {
                    *best = best.most(counts);
                }
            }
        }
        Ok(best)
    }

    /// The answers of all families that gave one, at least one.
    fn ask(
        &mut self,
        url: &str,
        ask: &Ask,
        limits: &CallLimits,
        halted: &(dyn Fn() -> bool + Sync),
    ) -> Result<Vec<(SocketAddr, Vec<u8>)>, AnnounceError> {
        let deadline = Instant::now() + limits.total;
        let UdpUrl { host, port, .. } = place(url)?;
        let found = lookup(host, port, limits.resolve.min(limits.total), halted)?;
        let addresses = fitting(found, limits.bind)?;
        let (exchanges, mut failure) = self.open(&addresses, deadline, limits);
        let mut answers = Vec::new();
        let (outcomes, unasked) = side_by_side(exchanges, ask, halted);
        failure = failure.or(unasked);
        for (exchange, outcome) in outcomes {
            if let Some(connection) = exchange.connection {
                self.connections.push((exchange.tracker, connection));
            }
            if exchange.told {
                self.told.insert(url.to_owned());
            }
            match outcome {
                Ok(datagram) => answers.push((exchange.tracker, datagram)),
                Err(error) => failure = Some(error),
            }
        }
        heard(answers, failure)
    }

    /// An exchange with the first address of each family to which there is a way, and why one has none.
    fn open(
        &mut self,
        addresses: &[SocketAddr],
        deadline: Instant,
        limits: &CallLimits,
    ) -> (Vec<Exchange>, Option<AnnounceError>) {
        let v4 = addresses.iter().find(|it| it.is_ipv4());
        let v6 = addresses.iter().find(|it| it.is_ipv6());
        let (mut exchanges, mut failure) = (Vec::new(), None);
        for &tracker in [v4, v6].into_iter().flatten() {
            let known = self.connections.iter().position(|it| it.0 == tracker);
            let known = known.map(|at| self.connections.swap_remove(at).1);
            match Exchange::open(tracker, known, deadline, limits) {
                Ok(exchange) => exchanges.push(exchange),
                Err(error) => failure = Some(error),
            }
        }
        (exchanges, failure)
    }
}

/// Where a udp address leads.
#[derive(Debug, PartialEq, Eq)]
struct UdpUrl<'a> {
    host: &'a str,
    port: u16,
    /// Path and query.
    path: &'a str,
}

fn place(url: &str) -> Result<UdpUrl<'_>, AnnounceError> {
    let malformed = AnnounceError::Address("is malformed");
    let (scheme, rest) = url.split_once("://").ok_or(malformed.clone())?;
    if !scheme.eq_ignore_ascii_case("udp") {
        return Err(AnnounceError::Address("is not udp"));
    }
    let rest = rest.split('#').next().unwrap_or_default();
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let named = authority.rsplit('@').next().unwrap_or_default();
    let (host, port) = match named.strip_prefix('[') {
        Some(v6) => v6.split_once(']').ok_or(malformed.clone())?,
        None => named.split_at(named.find(':').unwrap_or(named.len())),
    };
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => Some(PORT),
        None => None,
        Some(port) => port.parse().ok().filter(|port| *port != 0),
    };
    match port {
        Some(port) if !host.is_empty() => Ok(UdpUrl { host, port, path }),
        _ => Err(malformed),
    }
}

/// What was heard, over one family at least: an announce that nobody made is no success.
fn heard<T>(answers: Vec<T>, failure: Option<AnnounceError>) -> Result<Vec<T>, AnnounceError> {
    if answers.is_empty() {
        return Err(failure.unwrap_or_else(silence));
    }
    Ok(answers)
}

fn silence() -> AnnounceError {
    AnnounceError::Unreachable("nothing was heard".into())
}

/// An exchange that is over, and what came of it.
type Concluded = (Exchange, Result<Vec<u8>, AnnounceError>);

/// Runs each exchange in a thread of its own, if there are two: a family that leads nowhere must not
/// keep the other one's peers waiting. Says as well why there was no thread for one.
fn side_by_side(
    mut exchanges: Vec<Exchange>,
    ask: &Ask,
    halted: &(dyn Fn() -> bool + Sync),
) -> (Vec<Concluded>, Option<AnnounceError>) {
    if exchanges.len() < 2 {
        let run = |mut exchange: Exchange| {
            let outcome = exchange.run(ask, halted);
            (exchange, outcome)
        };
        return (exchanges.pop().map(run).into_iter().collect(), None);
    }
    let enough = AtomicBool::new(false);
    let halted = || enough.load(Relaxed) || halted();
    // Bound: an outcome for each of the two families.
    let (tell, outcomes) = unbounded();
    let begin = |mut exchange: Exchange, tell: Sender<_>| {
        let outcome = exchange.run(ask, &halted);
        let _ = tell.send((exchange, outcome));
    };
    std::thread::scope(|scope| {
        let mut unasked = None;
        for exchange in exchanges {
            let tell = tell.clone();
            let thread = Builder::new().name("announce".into()).stack_size(STACK);
            // Without a thread this family is not asked; the socket is closed.
            if let Err(error) = thread.spawn_scoped(scope, || begin(exchange, tell)) {
                unasked = Some(unreachable(error));
            }
        }
        drop(tell);
        let mut done = Vec::new();
        while let Ok(outcome) = outcomes.recv() {
            let answered: bool = matches!(outcome, (_, Ok(_)));
            done.push(outcome);
            if answered {
                done.extend(outcomes.recv_timeout(GRACE).ok());
                enough.store(true, Relaxed);
            }
        }
        (done, unasked)
    })
}

/// One tracker's address, and how far the exchange with it has come.
struct Exchange {
    tracker: SocketAddr,
    socket: UdpSocket,
    connection: Option<DatedId>,
    /// The id is of an earlier exchange: the tracker may have forgotten it.
    reused: bool,
    /// An announce has been sent.
    told: bool,
    /// Questions without an answer so far.
    unanswered: u32,
    deadline: Instant,
    limits: CallLimits,
}

impl Exchange {
    /// A socket that hears this tracker alone. Fails at once where there is no way to its family.
    fn open(
        tracker: SocketAddr,
        known: Option<DatedId>,
        deadline: Instant,
        limits: &CallLimits,
    ) -> Result<Exchange, AnnounceError> {
        let connected = || {
            let any: IpAddr = match tracker {
                SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
            };
            let socket = UdpSocket::bind((limits.bind.unwrap_or(any), 0))?;
            socket.connect(tracker)?;
            socket.set_read_timeout(Some(GLANCE.min(limits.resend)))?;
            Ok(socket)
        };
        let connection = known.filter(|known| is_young(*known, Instant::now()));
        Ok(Exchange {
            tracker,
            socket: connected().map_err(unreachable)?,
            connection,
            reused: connection.is_some(),
            told: false,
            unanswered: 0,
            deadline,
            limits: *limits,
        })
    }

    /// Asks until there is an answer, and returns it.
    fn run(&mut self, ask: &Ask, halted: &dyn Fn() -> bool) -> Result<Vec<u8>, AnnounceError> {
        // The same numbers each time, so that a late answer counts. Each exchange has its own.
        let number = || secret().map_err(unreachable);
        let (connecting, asking) = (number()?, number()?);
        loop {
            let id = self.connection.filter(|it| is_young(*it, Instant::now()));
            let (question, transaction) = match id {
                None => {
                    let transaction = connecting;
                    (Question::Connect { transaction }.encode(), transaction)
                }
                Some((id, _)) => {
                    self.told |= matches!(ask, Ask::Announce(..));
                    (ask.datagram(id, asking), asking)
                }
            };
            let fits = |reply: &Reply| match reply {
                Reply::Refused { .. } => true,
                Reply::Connected { .. } => id.is_none(),
                Reply::Announced { .. } => id.is_some() && matches!(ask, Ask::Announce(..)),
                Reply::Scraped { .. } => id.is_some() && matches!(ask, Ask::Scrape(..)),
            };
            let fits = |reply: &Reply| reply.transaction() == transaction && fits(reply);
            let Some(datagram) = self.once(&question, fits, halted)? else {
                self.unanswered += 1;
                if std::mem::take(&mut self.reused) {
                    self.connection = None;
                }
                continue;
            };
            self.unanswered = 0;
            match Reply::decode(&datagram) {
                Ok(Reply::Connected { connection, .. }) => {
                    self.connection = Some((connection, Instant::now()));
                }
                // It was started anew since it gave the id, perhaps.
                Ok(Reply::Refused { .. }) if std::mem::take(&mut self.reused) => {
                    self.connection = None;
                }
                Ok(Reply::Refused { reason, .. }) => {
                    let reason = wire::reason(reason);
                    let retry = None;
                    return Err(AnswerError::Refused { reason, retry }.into());
                }
                _ => return Ok(datagram),
            }
        }
    }

    /// Sends a question and waits for an answer that fits; `None`: it is time to send it again.
    fn once(
        &self,
        question: &[u8],
        fits: impl Fn(&Reply) -> bool,
        halted: &dyn Fn() -> bool,
    ) -> Result<Option<Vec<u8>>, AnnounceError> {
        let wait = self.limits.resend * 2u32.pow(self.unanswered.min(DOUBLINGS_MAX));
        let until = Instant::now() + wait;
        self.socket.send(question).map_err(unreachable)?;
        let mut buffer = vec![0; BUFFER];
        loop {
            match self.socket.recv(&mut buffer) {
                Ok(length) => {
                    if Reply::decode(&buffer[..length]).is_ok_and(|reply| fits(&reply)) {
                        buffer.truncate(length);
                        return Ok(Some(buffer));
                    }
                }
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {}
                    _ => return Err(unreachable(error)),
                },
            }
            let now = Instant::now();
            if halted() {
                return Err(AnnounceError::Interrupted);
            }
            if now >= self.deadline {
                return Err(AnnounceError::TimedOut(self.limits.total));
            }
            if now >= until {
                return Ok(None);
            }
        }
    }
}

impl Ask {
    fn datagram(&self, connection: u64, transaction: u32) -> Vec<u8> {
        match self {
            Ask::Announce(announce, options) => Question::Announce {
                connection,
                transaction,
                announce: **announce,
                options,
            }
            .encode(),
            Ask::Scrape(info_hashes) => Question::Scrape {
                connection,
                transaction,
                info_hashes,
            }
            .encode(),
        }
    }
}

fn is_young((_, since): DatedId, now: Instant) -> bool {
    now.saturating_duration_since(since) < CONNECTION_LIFE
}

fn unreachable(error: std::io::Error) -> AnnounceError {
    road::unreachable(&error.to_string())
}

#[cfg(test)]
mod tests;
