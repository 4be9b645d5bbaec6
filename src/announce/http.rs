//! Asks one tracker over HTTP(S), and fetches .torrent files from the web; ureq does the talking.
//!
//! ```no_run
//! # use ropewalk::announce::http::{CallLimits, announce, shown};
//! # fn f(url: &str, request: &ropewalk::protocol::tracker::http::Request) {
//! match announce(url, request, &CallLimits::ANNOUNCE) {
//!     Ok(answer) => println!("{}: {} peers", shown(url), answer.peers.len()),
//!     Err(error) => println!("{}: {error}", shown(url)),
//! }
//! # }
//! ```
//!
//! The address comes from a .torrent file and the answer from whoever is there, so everything has an
//! end: the time in all, the bytes of a body, the number of redirects. Redirects are followed by hand,
//! because a stranger's server must not lead us into the network we stand in. Proxies of the
//! environment (`http_proxy`, `https_proxy`, `all_proxy`, `no_proxy`) are honoured.

pub use super::address::shown;
use super::address::{self, is_https, join, path_announces};
use super::lookup::GLANCE;
use super::road::{Bound, NoteArrival, Reach, Road, Watchful, roads, unreachable};
use super::tiers::Again;
use super::{GRACE, merged};
use crate::protocol::InfoHash;
use crate::protocol::tracker::http::{Answer, AnswerError, Request, RetryIn};
use crate::protocol::tracker::scrape::{self, Scraped};
use crossbeam_channel::{RecvTimeoutError, bounded};
use std::collections::BTreeSet;
use std::io::{self, Read};
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::Builder;
use std::time::{Duration, Instant};
use ureq::http::Response;
#[cfg(feature = "tls")]
use ureq::unversioned::transport::RustlsConnector;
use ureq::unversioned::transport::{ConnectProxyConnector, Connector, DefaultConnector};
use ureq::{Agent, Body};

/// How long an announce may take in all.
pub const ANNOUNCE_LIMIT: Duration = Duration::from_secs(30);

/// How long the announce of `stopped` may take: the user waits for it.
pub const STOP_LIMIT: Duration = Duration::from_secs(5);

/// The longest answer of a tracker, in bytes: a thousand times what one needs.
pub const ANSWER_MAX: u64 = 1 << 20;

/// The longest .torrent file fetched from the web, in bytes.
pub const TORRENT_MAX: u64 = 16 << 20;

/// How much of the body of an HTTP error is read in search of the tracker's reason, in bytes.
const ERROR_BODY_MAX: u64 = 64 << 10;

/// How many redirects are followed.
const REDIRECTS_MAX: usize = 3;

/// Room for a request or for the head of an answer, in bytes.
const BUFFER: usize = 16 << 10;

const USER_AGENT: &str = concat!("ropewalk/", env!("CARGO_PKG_VERSION"));

/// How long things may take, and which way they go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallLimits {
    /// Everything together, redirects and body included.
    pub total: Duration,
    /// Connecting, TLS included.
    pub connect: Duration,
    /// Looking up a name.
    pub resolve: Duration,
    /// After how long a lost datagram is sent again; doubles each time (BEP 15).
    pub resend: Duration,
    /// Whether the environment's proxies are used.
    pub proxies: bool,
    /// The address of ours that is asked from, over its family alone; `None`: the system's choice.
    pub bind: Option<IpAddr>,
}

impl CallLimits {
    /// For an announce.
    pub const ANNOUNCE: CallLimits = CallLimits {
        total: ANNOUNCE_LIMIT,
        connect: Duration::from_secs(10),
        resolve: Duration::from_secs(5),
        resend: Duration::from_secs(15),
        proxies: true,
        bind: None,
    };

    /// For a .torrent file of some megabytes over a slow line.
    pub const TORRENT: CallLimits = CallLimits {
        total: Duration::from_secs(120),
        ..CallLimits::ANNOUNCE
    };

    /// For an announce that may take no longer than `total`.
    pub fn within(total: Duration) -> CallLimits {
        CallLimits {
            total,
            ..CallLimits::ANNOUNCE
        }
    }
}

/// Why nothing came of asking the web. Holds no address, so no passkey; texts of the other side are
/// a stranger's: escape them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnnounceError {
    /// The address cannot be used; the text says why.
    #[error("the address {0}")]
    Address(&'static str),
    /// An https address, and this build has no TLS.
    #[error("this build has no TLS: it cannot open https addresses")]
    NoTls,
    /// No answer came; the text is the system's or ureq's.
    #[error("{0}")]
    Unreachable(String),
    /// It took too long.
    #[error("no answer within {} seconds", .0.as_secs_f32())]
    TimedOut(Duration),
    /// More bytes than anything honest has.
    #[error("the answer is longer than {0} bytes")]
    TooLong(u64),
    /// A redirect that is not followed; the text says why.
    #[error("a redirect {0}")]
    Redirect(&'static str),
    /// An HTTP error without a tracker's reason.
    #[error("the server answers with HTTP status {code}")]
    Status {
        /// The status code.
        code: u16,
        /// When to ask again, if the server said so in seconds.
        retry_after: Option<Duration>,
    },
    /// The tracker's answer is a refusal, or is none.
    #[error(transparent)]
    Answer(#[from] AnswerError),
    /// Nobody waits for the answer any more.
    #[error("given up, as it is time to leave")]
    Interrupted,
    /// ureq failed inside, for want of a thread perhaps.
    #[error("asking failed inside this program")]
    Panicked,
}

impl AnnounceError {
    /// Whether the other side said so itself.
    fn is_the_trackers(&self) -> bool {
        matches!(
            self,
            AnnounceError::Answer(_) | AnnounceError::Status { .. }
        )
    }

    /// When the other side wants to be asked again.
    pub fn again(&self) -> Again {
        match self {
            AnnounceError::Status { retry_after, .. } => {
                retry_after.map_or(Again::Unsaid, Again::In)
            }
            AnnounceError::Answer(AnswerError::Refused { retry, .. }) => match retry {
                Some(RetryIn::Minutes(minutes)) => {
                    Again::In(Duration::from_secs(u64::from(*minutes) * 60))
                }
                Some(RetryIn::Never) => Again::Never,
                None => Again::Unsaid,
            },
            _ => Again::Unsaid,
        }
    }
}

/// Announces `request` to the tracker at `url` and waits for its answer.
pub fn announce(
    url: &str,
    request: &Request,
    limits: &CallLimits,
) -> Result<Answer, AnnounceError> {
    HttpAsker::default().announce(url, request, limits, &|| false)
}

/// Asks trackers, over both families where they have both (BEP 7): each knows only those of its own.
#[derive(Debug, Default)]
pub struct HttpAsker {
    /// Addresses of trackers that may have heard of us.
    told: BTreeSet<String>,
}

impl HttpAsker {
    /// Whether an announce may have got through to the tracker at `url`: one that was never reached need
    /// not hear that we leave.
    pub fn has_told(&self, url: &str) -> bool {
        self.told.contains(url)
    }

    /// Announces `request` to the tracker at `url` and waits for its answer; `halted` ends the wait as long
    /// as the tracker was not reached.
    pub fn announce(
        &mut self,
        url: &str,
        request: &Request,
        limits: &CallLimits,
        halted: &dyn Fn() -> bool,
    ) -> Result<Answer, AnnounceError> {
        if url.contains("info_hash=") {
            let why = "holds an announce already";
            return Err(AnnounceError::Address(why));
        }
        let call = Call {
            url: request.to_url(url),
            limits: *limits,
            reach: Arc::default(),
            decode: Answer::decode,
        };
        let roads = roads(&address::check(url)?, limits, halted)?;
        let answers = call.ask_over(roads, halted);
        if call.reach.reached() {
            self.told.insert(url.to_owned());
        }
        Ok(answers?.into_iter().reduce(merged).unwrap_or_default())
    }

    /// Asks the tracker at `url` (its address for announces) how many share each of `info_hashes`; the
    /// answer of each family.
    pub fn scrape(
        &self,
        url: &str,
        info_hashes: &[InfoHash],
        limits: &CallLimits,
    ) -> Result<Vec<Scraped>, AnnounceError> {
        let no_scrape = AnnounceError::Address("is of a tracker that cannot be scraped");
        let at = scrape::scrape_address(url).ok_or(no_scrape)?;
        let call = Call {
            url: scrape::to_url(&at, info_hashes),
            limits: *limits,
            reach: Arc::default(),
            decode: Scraped::decode,
        };
        let roads = roads(&address::check(&at)?, limits, &|| false)?;
        call.ask_over(roads, &|| false)
    }
}

/// What a tracker is asked, and how its answer is read.
#[derive(Clone)]
struct Call<T> {
    url: String,
    limits: CallLimits,
    reach: Arc<Reach>,
    decode: fn(&[u8]) -> Result<T, AnswerError>,
}

impl<T: Clone + Send + 'static> Call<T> {
    /// The answers of all families that gave one, at least one. Each is asked by a thread of its own, which
    /// is left behind where it hangs: a family that leads nowhere must not keep the other one's peers waiting.
    fn ask_over(
        &self,
        roads: Vec<Road>,
        halted: &dyn Fn() -> bool,
    ) -> Result<Vec<T>, AnnounceError> {
        let mut until = Instant::now() + self.limits.total;
        let mut failure = None;
        // Bound: an outcome for each of the two families.
        let (tell, outcomes) = bounded(2);
        for road in roads {
            let (call, tell) = (self.clone(), tell.clone());
            let ask = move || drop(tell.send(guarded(|| call.ask(road))));
            if let Err(error) = Builder::new().name("announce".to_owned()).spawn(ask) {
                failure = Some(AnnounceError::Unreachable(error.to_string()));
            }
        }
        drop(tell);
        let mut answers = Vec::new();
        loop {
            match outcomes.recv_deadline(until.min(Instant::now() + GLANCE)) {
                Ok(Ok(answer)) => {
                    answers.push(answer);
                    until = until.min(Instant::now() + GRACE);
                }
                // What the tracker says itself is worth more than that one family leads nowhere.
                Ok(Err(error)) if error.is_the_trackers() => failure = Some(error),
                Ok(Err(error)) => failure = failure.or(Some(error)),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) if Instant::now() >= until => break,
                Err(RecvTimeoutError::Timeout) if halted() && !self.reach.reached() => {
                    self.reach.give_up();
                    return Err(AnnounceError::Interrupted);
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
        if answers.is_empty() {
            return Err(failure.unwrap_or(AnnounceError::TimedOut(self.limits.total)));
        }
        Ok(answers)
    }

    /// Gets the tracker's answer on this road.
    fn ask(&self, road: Road) -> Result<T, AnnounceError> {
        let limits = &self.limits;
        let errand = Errand {
            limits,
            road,
            reach: self.reach.clone(),
            announce: true,
        };
        let mut response = errand.run(&self.url)?;
        if response.status().is_success() {
            return Ok((self.decode)(&body(&mut response, ANSWER_MAX, limits)?)?);
        }
        Err(refused(&mut response, limits))
    }
}

/// Fetches a .torrent file of at most 16 MiB.
pub fn fetch_torrent(url: &str, limits: &CallLimits) -> Result<Vec<u8>, AnnounceError> {
    guarded(|| {
        let errand = Errand {
            limits,
            road: Road::ANY,
            reach: Arc::default(),
            announce: false,
        };
        let mut response = errand.run(url)?;
        if response.status().is_success() {
            return body(&mut response, TORRENT_MAX, limits);
        }
        Err(status(&response))
    })
}

/// ureq panics where it cannot start the thread that looks up names. That is a failed announce, no more.
fn guarded<T>(ask: impl FnOnce() -> Result<T, AnnounceError>) -> Result<T, AnnounceError> {
    catch_unwind(AssertUnwindSafe(ask)).unwrap_or(Err(AnnounceError::Panicked))
}

/// One question to the web: the address asked for, and wherever it leads.
struct Errand<'a> {
    limits: &'a CallLimits,
    road: Road,
    reach: Arc<Reach>,
    announce: bool,
}

impl Errand<'_> {
    fn run(&self, url: &str) -> Result<Response<Body>, AnnounceError> {
        let deadline = Instant::now() + self.limits.total;
        let met_public = Arc::new(AtomicBool::new(false));
        let mut at = url.to_owned();
        address::check(&at)?;
        for hop in 0..=REDIRECTS_MAX {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(AnnounceError::TimedOut(self.limits.total));
            }
            let resolver = Watchful {
                known: self.road.known.clone().filter(|_| hop == 0),
                // Whoever can be reached from everywhere may not send us where only we can go.
                public_only: met_public.load(Relaxed),
                met_public: met_public.clone(),
                loopback_allowed: !self.announce || path_announces(&at),
            };
            let response = self.agent(left, resolver).get(&at).call();
            let response = response.map_err(|error| translate(error, self.limits))?;
            if !response.status().is_redirection() {
                return Ok(response);
            }
            at = redirected(&at, &response)?;
        }
        Err(AnnounceError::Redirect("follows too many others"))
    }

    fn agent(&self, left: Duration, resolver: Watchful) -> Agent {
        let (config, arrival) = (self.config(left), NoteArrival(self.reach.clone()));
        let Some(bind) = self.limits.bind else {
            let connector = DefaultConnector::default().chain(arrival);
            return Agent::with_parts(config, connector, resolver);
        };
        // ureq's own, in its order, but for the one that opens the connection.
        let connector = ().chain(ConnectProxyConnector::default()).chain(Bound(bind));
        #[cfg(feature = "tls")]
        let connector = connector.chain(RustlsConnector::default());
        Agent::with_parts(config, connector.chain(arrival), resolver)
    }

    fn config(&self, left: Duration) -> ureq::config::Config {
        let limits = self.limits;
        let builder = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(USER_AGENT)
            .ip_family(self.road.family)
            .timeout_global(Some(left))
            .timeout_connect(Some(limits.connect.min(left)))
            .timeout_resolve(Some(limits.resolve.min(left)))
            .input_buffer_size(BUFFER)
            .output_buffer_size(BUFFER)
            .max_response_header_size(BUFFER)
            .max_idle_connections(0);
        let builder = if limits.proxies {
            builder
        } else {
            builder.proxy(None)
        };
        builder.build()
    }
}

/// Where a redirect leads, if it is one that is followed.
fn redirected(from: &str, response: &Response<Body>) -> Result<String, AnnounceError> {
    let location = response.headers().get("location");
    let location = location
        .and_then(|it| it.to_str().ok())
        .ok_or(AnnounceError::Redirect("leads nowhere"))?;
    let to = join(from, location).ok_or(AnnounceError::Redirect("leads nowhere"))?;
    match address::check(&to) {
        Err(AnnounceError::NoTls) => return Err(AnnounceError::NoTls),
        Err(_) => return Err(AnnounceError::Redirect("leads out of the web")),
        Ok(_) => {}
    }
    if is_https(from) && !is_https(&to) {
        return Err(AnnounceError::Redirect("leads from https to http"));
    }
    Ok(to)
}

/// The body, if it is no longer than `max` bytes.
fn body(
    response: &mut Response<Body>,
    max: u64,
    limits: &CallLimits,
) -> Result<Vec<u8>, AnnounceError> {
    let mut bytes = Vec::new();
    // What is counted here are decoded bytes: gzip is not compiled in.
    let mut reader = response.body_mut().as_reader().take(max + 1);
    reader
        .read_to_end(&mut bytes)
        .map_err(|error| translate(error.into(), limits))?;
    if bytes.len() as u64 > max {
        return Err(AnnounceError::TooLong(max));
    }
    Ok(bytes)
}

/// What an HTTP error means: many trackers put their reason into the body of one.
fn refused(response: &mut Response<Body>, limits: &CallLimits) -> AnnounceError {
    let status = status(response);
    let reason = body(response, ERROR_BODY_MAX, limits).map(|body| Answer::decode(&body));
    let Ok(Err(AnswerError::Refused { reason, retry })) = reason else {
        return status;
    };
    let said = match status {
        AnnounceError::Status { retry_after, .. } => retry_after,
        _ => None,
    };
    let said =
        said.map(|it| RetryIn::Minutes(it.as_secs().div_ceil(60).try_into().unwrap_or(u32::MAX)));
    AnnounceError::Answer(AnswerError::Refused {
        reason,
        retry: retry.or(said),
    })
}

fn status(response: &Response<Body>) -> AnnounceError {
    let code = response.status().as_u16();
    let header = response.headers().get("retry-after");
    let seconds = header.and_then(|it| it.to_str().ok()?.trim().parse().ok());
    AnnounceError::Status {
        code,
        retry_after: seconds.map(Duration::from_secs),
    }
}

/// ureq's errors in our words. Those that quote the address are not passed on.
fn translate(error: ureq::Error, limits: &CallLimits) -> AnnounceError {
    match error {
        ureq::Error::Timeout(_) => AnnounceError::TimedOut(limits.total),
        ureq::Error::BadUri(_) | ureq::Error::Http(_) => AnnounceError::Address("is malformed"),
        ureq::Error::HostNotFound => AnnounceError::Unreachable("the host was not found".into()),
        ureq::Error::LargeResponseHeader(..) => AnnounceError::TooLong(BUFFER as u64),
        ureq::Error::Io(error) if error.kind() == io::ErrorKind::TimedOut => {
            AnnounceError::TimedOut(limits.total)
        }
        ureq::Error::Io(error) => unreachable(&error.to_string()),
        ureq::Error::Other(error) => match error.downcast::<AnnounceError>() {
            Ok(ours) => *ours,
            Err(other) => unreachable(&other.to_string()),
        },
        other => unreachable(&other.to_string()),
    }
}

/// A scripted tracker for tests: what it answers is a function of the request's head.
#[cfg(test)]
pub(super) mod fake {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::protocol::peer::PeerId;
    use std::io::{BufRead, BufReader, Write};
    use std::net::{SocketAddr, TcpListener, TcpStream};

    /// Listens on a free port of this machine until the test ends.
    pub struct Tracker {
        pub address: SocketAddr,
    }

    impl Tracker {
        /// Answers each connection with `answer`, given the request line and the connection.
        pub fn start(answer: impl Fn(&str, TcpStream) + Send + Sync + 'static) -> Tracker {
            Tracker::start_at("127.0.0.1:0", answer)
        }

        /// The same at this address.
        pub fn start_at(
            address: &str,
            answer: impl Fn(&str, TcpStream) + Send + Sync + 'static,
        ) -> Tracker {
            let listener = TcpListener::bind(address).unwrap();
            let address = listener.local_addr().unwrap();
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    let Ok(stream) = stream else { return };
                    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                    let Some(Ok(first)) = lines.next() else {
                        continue;
                    };
                    while lines
                        .next()
                        .is_some_and(|it| it.is_ok_and(|it| !it.is_empty()))
                    {}
                    answer(&first, stream);
                }
            });
            Tracker { address }
        }

        /// An address on this tracker.
        pub fn url(&self, path: &str) -> String {
            format!("http://{}{path}", self.address)
        }
    }

    /// Sends a whole answer and closes.
    pub fn response(stream: &mut TcpStream, status: &str, body: &[u8]) {
        let length = body.len();
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n");
        // The client may have gone: that is what some tests are about.
        let _ = stream.write_all(&[head.as_bytes(), body].concat());
    }

    /// Nobody accepts here and the kernel's queue is full: a connection hangs as long as these live.
    pub fn deaf() -> ((socket2::Socket, TcpStream), String) {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let socket = socket.unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        socket.bind(&any.into()).unwrap();
        socket.listen(0).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        let in_queue = TcpStream::connect(address).unwrap();
        ((socket, in_queue), format!("http://{address}/announce"))
    }

    /// Limits that do not depend on the environment's proxies.
    pub fn direct(total: Duration) -> CallLimits {
        CallLimits {
            proxies: false,
            ..CallLimits::within(total)
        }
    }

    /// An announce to send.
    pub fn request() -> Request {
        Request {
            info_hash: InfoHash([1; 20]),
            peer_id: PeerId::new([2; 12]),
            port: 6881,
            uploaded: 0,
            downloaded: 0,
            left: 1,
            event: None,
            num_want: None,
            key: None,
            compact: true,
            no_peer_id: true,
            tracker_id: None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::road::split;
    use super::fake::{Tracker, deaf, direct, request, response};
    use super::*;
    use crate::protocol::tracker::http as wire;
    use crossbeam_channel::Receiver;
    use std::io::Write;
    use std::net::{SocketAddr, TcpListener};

    fn ask(tracker: &Tracker) -> Result<Answer, AnnounceError> {
        let limits = direct(Duration::from_secs(20));
        announce(&tracker.url("/announce"), &request(), &limits)
    }

    fn redirecting(to: impl Fn(&str) -> String + Send + Sync + 'static) -> Tracker {
        Tracker::start(move |line, mut stream| {
            let to = to(line);
            response(&mut stream, &format!("302 Found\r\nLocation: {to}"), b"");
        })
    }

    #[test]
    fn a_tracker_is_told_who_asks_and_its_answer_is_read() {
        let tracker = Tracker::start(|line, mut stream| {
            let query = line.split(['?', ' ']).nth(2).unwrap();
            let heard = wire::Request::from_query(query).unwrap();
            assert_eq!(heard, request());
            let peers = vec!["1.2.3.4:6881".parse().unwrap()];
            let interval = Some(1800);
            let answer = Answer {
                peers,
                interval,
                ..Answer::default()
            };
            response(&mut stream, "200 OK", &answer.encode(true));
        });
        let answer = ask(&tracker).unwrap();
        assert_eq!(answer.peers, ["1.2.3.4:6881".parse().unwrap()]);
        assert_eq!(answer.interval, Some(1800));
    }

    /// Answers one announce at this address and tells from where it was asked, and which event it was.
    fn at(address: &str) -> (SocketAddr, Receiver<(IpAddr, Option<wire::Occasion>)>) {
        // Bound: the announces of one test.
        let (tell, told) = crossbeam_channel::unbounded();
        let tracker = Tracker::start_at(address, move |line, mut stream| {
            let query = line.split(['?', ' ']).nth(2).unwrap();
            let event = wire::Request::from_query(query).unwrap().event;
            let from = stream.peer_addr().unwrap().ip();
            tell.send((from, event)).unwrap();
            let peers = vec![
                "192.0.2.1:6881".parse().unwrap(),
                stream.local_addr().unwrap(),
            ];
            let answer = Answer {
                peers,
                ..Answer::default()
            };
            response(&mut stream, "200 OK", &answer.encode(true));
        });
        (tracker.address, told)
    }

    /// A call to the host that has these addresses.
    fn call(event: Option<wire::Occasion>) -> Call<Answer> {
        let request = Request { event, ..request() };
        Call {
            url: request.to_url("http://t.example/announce"),
            limits: direct(Duration::from_secs(20)),
            reach: Arc::default(),
            decode: Answer::decode,
        }
    }

    #[test]
    fn a_host_with_both_families_is_told_everything_once_over_each() {
        let (v4, v6) = (at("127.0.0.1:0"), at("[::1]:0"));
        use wire::Occasion::{Completed, Started, Stopped};
        for event in [Some(Started), Some(Completed), None, Some(Stopped)] {
            let call = call(event);
            let answers = call.ask_over(split(&[v4.0, v6.0]), &|| false).unwrap();
            let answer = answers.into_iter().reduce(merged).unwrap();
            assert_eq!(answer.peers.len(), 3, "{answer:?}");
            assert!(call.reach.reached());
        }
        for tracker in [v4, v6] {
            let told: Vec<_> = tracker.1.try_iter().map(|it| it.1).collect();
            let expected = [Some(Started), Some(Completed), None, Some(Stopped)];
            assert_eq!(told, expected);
        }
    }

    #[test]
    fn a_family_that_leads_nowhere_is_no_failure_and_what_a_tracker_says_is_told_first() {
        let (v4, _told) = at("127.0.0.1:0");
        let closed = TcpListener::bind("[::1]:0").unwrap().local_addr().unwrap();
        let answers = call(None).ask_over(split(&[v4, closed]), &|| false);
        assert_eq!(answers.unwrap().len(), 1);
        // It accepts and says nothing.
        let silent = TcpListener::bind("[::1]:0").unwrap();
        let roads = split(&[v4, silent.local_addr().unwrap()]);
        assert_eq!(call(None).ask_over(roads, &|| false).unwrap().len(), 1);
        let refusing =
            Tracker::start(|_, mut stream| response(&mut stream, "200 OK", &wire::refusal("no")));
        let refusing = refusing.url("").replace("http://", "").parse().unwrap();
        let error = call(None).ask_over(split(&[refusing, closed]), &|| false);
        assert!(matches!(error, Err(AnnounceError::Answer(_))), "{error:?}");
    }

    #[test]
    fn from_a_bound_address_the_tracker_hears_of_that_one() {
        let (tracker, told) = at("127.0.0.1:0");
        let bind: IpAddr = "127.0.0.2".parse().unwrap();
        let limits = CallLimits {
            bind: Some(bind),
            ..direct(Duration::from_secs(20))
        };
        let url = format!("http://{tracker}/announce");
        assert_eq!(announce(&url, &request(), &limits).unwrap().peers.len(), 2);
        assert_eq!(told.try_recv().unwrap().0, bind);
        let other = announce("http://[::1]:1/announce", &request(), &limits);
        assert!(matches!(other, Err(AnnounceError::Address(why)) if why.contains("--bind")));
    }

    #[test]
    fn who_leaves_waits_for_a_tracker_only_if_it_may_have_heard_of_us() {
        let (_deaf, url) = deaf();
        let limits = direct(Duration::from_secs(60));
        let mut client = HttpAsker::default();
        let outcome = client.announce(&url, &request(), &limits, &|| true);
        assert_eq!(outcome, Err(AnnounceError::Interrupted));
        assert!(!client.has_told(&url));
        let (tracker, _told) = at("127.0.0.1:0");
        let url = format!("http://{tracker}/announce");
        client
            .announce(&url, &request(), &limits, &|| false)
            .unwrap();
        assert!(client.has_told(&url));
    }

    #[test]
    fn a_body_without_end_is_cut() {
        let tracker = Tracker::start(|_, mut stream| {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            let chunk = [&b"10000\r\n"[..], &[b'l'; 0x10000], b"\r\n"].concat();
            while stream.write_all(&chunk).is_ok() {}
        });
        assert_eq!(ask(&tracker), Err(AnnounceError::TooLong(ANSWER_MAX)));
        let tracker = Tracker::start(|_, mut stream| {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n");
            while stream.write_all(&[0; 0x10000]).is_ok() {}
        });
        assert_eq!(ask(&tracker), Err(AnnounceError::TooLong(ANSWER_MAX)));
    }

    #[test]
    fn a_compressed_body_is_never_unpacked() {
        let tracker = Tracker::start(|_, mut stream| {
            let body = b"\x1f\x8b\x08\0\0\0\0\0\0\x03";
            response(&mut stream, "200 OK\r\nContent-Encoding: gzip", body);
        });
        let outcome = ask(&tracker);
        let refused = matches!(outcome, Err(AnnounceError::Answer(AnswerError::Compressed)));
        assert!(refused, "{outcome:?}");
    }

    #[test]
    fn https_needs_tls_in_the_build() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{}/announce", free.local_addr().unwrap());
        drop(free);
        let outcome = announce(&url, &request(), &direct(Duration::from_secs(20)));
        if cfg!(feature = "tls") {
            assert!(matches!(outcome, Err(AnnounceError::Unreachable(_))));
        } else {
            assert_eq!(outcome, Err(AnnounceError::NoTls));
        }
    }

    #[test]
    fn silence_and_heads_without_end_have_an_end() {
        let limits = direct(Duration::from_millis(200));
        let timed_out = Err(AnnounceError::TimedOut(limits.total));
        // Bound: nothing is ever sent; it keeps the connection open until the test is over.
        let (done, wait) = crossbeam_channel::bounded::<()>(0);
        let wait_too = wait.clone();
        let silent = Tracker::start(move |_, _stream| {
            let _ = wait.recv();
        });
        let drip = Tracker::start(move |_, mut stream| {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nd");
            let _ = wait_too.recv();
        });
        assert_eq!(
            announce(&drip.url("/announce"), &request(), &limits),
            timed_out
        );
        assert_eq!(
            announce(&silent.url("/announce"), &request(), &limits),
            timed_out
        );
        let endless = Tracker::start(|_, mut stream| {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n");
            while stream.write_all(b"X-Again: and again\r\n").is_ok() {}
        });
        assert!(ask(&endless).is_err());
        let long_line = Tracker::start(|_, mut stream| {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nX: ");
            while stream.write_all(&[b'x'; 4096]).is_ok() {}
        });
        assert!(ask(&long_line).is_err());
        drop(done);
    }

    #[test]
    fn a_tracker_that_closes_or_is_not_there_is_unreachable() {
        let closing = Tracker::start(|_, stream| drop(stream));
        assert!(matches!(ask(&closing), Err(AnnounceError::Unreachable(_))));
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let url = format!("http://{address}/announce");
        let outcome = announce(&url, &request(), &direct(Duration::from_secs(20)));
        assert!(
            matches!(outcome, Err(AnnounceError::Unreachable(_))),
            "{outcome:?}"
        );
    }

    #[test]
    fn the_reason_in_an_http_error_is_read() {
        let tracker = Tracker::start(|_, mut stream| {
            let body = wire::refusal(&"\u{1b}no".repeat(3_000));
            response(&mut stream, "403 Forbidden\r\nRetry-After: 90", &body);
        });
        let error = ask(&tracker).unwrap_err();
        assert_eq!(error.again(), Again::In(Duration::from_secs(120)));
        let AnnounceError::Answer(AnswerError::Refused { reason, .. }) = error else {
            panic!("{error:?}");
        };
        assert_eq!(reason.chars().count(), 200);
    }

    #[test]
    fn retry_after_is_passed_on() {
        let tracker = Tracker::start(|_, mut stream| {
            response(&mut stream, "503 Busy\r\nRetry-After: 17", b"<html>");
        });
        let retry_after = Some(Duration::from_secs(17));
        let expected = AnnounceError::Status {
            code: 503,
            retry_after,
        };
        assert_eq!(expected.again(), Again::In(Duration::from_secs(17)));
        assert_eq!(ask(&tracker), Err(expected));
    }

    #[test]
    fn peers_of_the_old_form_are_read_and_bad_ones_dropped() {
        let tracker = Tracker::start(|_, mut stream| {
            let body = b"d5:peersld2:ip9:host.name4:porti1eed2:ip7:1.2.3.44:porti0ee\
                d2:ip7:1.2.3.44:porti9eeee";
            response(&mut stream, "200 OK", body);
        });
        assert_eq!(ask(&tracker).unwrap().peers, ["1.2.3.4:9".parse().unwrap()]);
    }

    #[test]
    fn redirects_are_followed_three_times_and_no_further() {
        let hops = |most: usize| {
            redirecting(move |line| {
                let path = line.split(' ').nth(1).unwrap();
                let hops = path.matches("/x").count();
                if hops < most {
                    format!("{path}/x")
                } else {
                    "file:///etc/passwd".into()
                }
            })
        };
        // What the fourth address says is seen only if it was asked.
        let too_many = Err(AnnounceError::Redirect("follows too many others"));
        let out = Err(AnnounceError::Redirect("leads out of the web"));
        assert_eq!(ask(&hops(100)), too_many);
        assert_eq!(ask(&hops(3)), out);
        assert_eq!(ask(&hops(0)), out);
        let nowhere = Tracker::start(|_, mut stream| response(&mut stream, "302 Found", b""));
        assert_eq!(ask(&nowhere), Err(AnnounceError::Redirect("leads nowhere")));
    }

    #[test]
    fn a_redirect_to_another_tracker_is_followed() {
        let second = Tracker::start(|_, mut stream| response(&mut stream, "200 OK", b"de"));
        let to = second.url("/announce");
        assert_eq!(
            ask(&redirecting(move |_| to.clone())),
            Ok(Answer::default())
        );
    }

    #[test]
    fn services_of_this_machine_that_are_no_trackers_are_not_asked() {
        let service = Tracker::start(|_, mut stream| response(&mut stream, "200 OK", b"de"));
        let limits = direct(Duration::from_secs(20));
        let outcome = announce(&service.url("/transmission/rpc"), &request(), &limits);
        let refused = AnnounceError::Address("is on this machine and not a tracker's");
        assert_eq!(outcome, Err(refused));
        assert!(announce(&service.url("/key/announce.php"), &request(), &limits).is_ok());
        let double = service.url("/announce?info_hash=x");
        let outcome = announce(&double, &request(), &limits);
        assert_eq!(
            outcome,
            Err(AnnounceError::Address("holds an announce already"))
        );
    }

    #[test]
    fn a_torrent_file_is_fetched_and_a_missing_one_is_an_error() {
        let server = Tracker::start(|line, mut stream| match line {
            "GET /a.torrent HTTP/1.1" => response(&mut stream, "200 OK", &[7; 2 << 20]),
            "GET /b.torrent HTTP/1.1" => {
                response(&mut stream, "301 Moved\r\nLocation: a.torrent", b"");
            }
            _ => response(&mut stream, "404 Not Found", b"no"),
        });
        let limits = direct(Duration::from_secs(20));
        let fetch = |path| fetch_torrent(&server.url(path), &limits);
        assert_eq!(fetch("/a.torrent").unwrap().len(), 2 << 20);
        assert_eq!(fetch("/b.torrent").unwrap().len(), 2 << 20);
        let missing = AnnounceError::Status {
            code: 404,
            retry_after: None,
        };
        assert_eq!(fetch("/c.torrent"), Err(missing));
    }

    #[test]
    fn addresses_that_are_not_the_webs_are_refused() {
        let limits = direct(Duration::from_secs(20));
        for url in [
            "udp://127.0.0.1:1/announce",
            "file:///etc/passwd",
            "announce",
            "",
            "http://",
            "http://a b/announce",
            "http:///announce",
            "http://127.0.0.1:99999/announce",
        ] {
            let outcome = announce(url, &request(), &limits);
            assert!(
                matches!(outcome, Err(AnnounceError::Address(_))),
                "{url}: {outcome:?}"
            );
        }
    }

    #[test]
    fn a_redirect_never_leaves_encryption() {
        let response = ureq::http::Response::builder()
            .header("location", "http://h/announce")
            .body(Body::builder().data(""))
            .unwrap();
        let refused = AnnounceError::Redirect("leads from https to http");
        assert_eq!(redirected("HTTPS://h/a", &response), Err(refused));
        assert!(redirected("http://h/a", &response).is_ok());
    }
}
