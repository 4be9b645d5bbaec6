//! HTTP (BEP 3, 48): calls are taken, read and answered by the thread that owns the registry.
//!
//! ```text
//! listener --> head, 8 KiB at most --> Question --> registry --> answer and end, in one packet
//! ```
//!
//! A call that brings its question at once, as nearly all do, is accepted, read, answered and closed,
//! and nothing is kept of it. One that does not, or does not take its answer, is kept under a number and
//! watched by the owner's `epoll`: a thousand silent callers cost memory and nobody's time. The head
//! has to be here within five seconds of the call, and the answer has to be taken without a pause of
//! five. Who calls while as many are kept as may be pushes out the oldest.

mod answers;
mod connection;
mod question;

use super::Page;
use super::counters::{Counted, Counters};
use super::owner::Source;
use super::registry::{Announce, CompactPeers, Registry};
use crate::protocol::tracker::http::{Occasion, refusal};
use connection::{Heard, HttpConnection};
use question::{Bad, Question};
use rustix::event::epoll::{self, EventFlags};
use rustix::io::Errno;
use rustix::net::SocketFlags;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often it is looked for who has run out of time, while anybody is kept.
const LOOK: Duration = Duration::from_millis(500);

/// Calls that are taken before something else has its turn.
const CALLS_A_TURN: usize = 64;

/// What a reception is made with.
pub(super) struct ReceptionSetup {
    pub(super) listeners: Vec<TcpListener>,
    /// The owner's.
    pub(super) epoll: Arc<OwnedFd>,
    /// Connections that are kept at a time.
    pub(super) connections: usize,
    pub(super) interval: Duration,
    pub(super) counters: Arc<Counters>,
    pub(super) started: Instant,
    /// What is told as the asker's address instead of the loopback.
    pub(super) loopback_as: Option<IpAddr>,
}

/// See the module's head.
pub(super) struct Reception {
    setup: ReceptionSetup,
    /// Who is kept, the oldest first: a number is never used again.
    connections: BTreeMap<u64, HttpConnection>,
    calls: u64,
    pages: HashMap<String, Arc<Page>>,
    found: CompactPeers,
    scratch: Vec<u8>,
    looked: Instant,
    /// The system has no descriptors left: nobody is called in until the next look.
    deaf: bool,
}

impl Reception {
    pub(super) fn new(setup: ReceptionSetup) -> io::Result<Reception> {
        let reception = Reception {
            connections: BTreeMap::new(),
            calls: 0,
            pages: HashMap::new(),
            found: CompactPeers::default(),
            scratch: vec![0; question::HEAD_MAX],
            looked: setup.started,
            deaf: false,
            setup,
        };
        reception.open()?;
        Ok(reception)
    }

    fn open(&self) -> io::Result<()> {
        for (at, listener) in self.setup.listeners.iter().enumerate() {
            let data = Source::Listener(at).into();
            epoll::add(&self.setup.epoll, listener, data, EventFlags::IN)?;
        }
        Ok(())
    }

    /// Hands out `page` at `path` from now on.
    pub(super) fn publish(&mut self, path: String, page: Page) {
        self.pages.insert(path, Arc::new(page));
    }

    /// Takes the calls that wait at a listener, a turn's worth at most.
    pub(super) fn take_calls(&mut self, listener: usize, registry: &mut Registry) {
        let mut calls = Vec::with_capacity(CALLS_A_TURN);
        let now = Instant::now();
        for _ in 0..CALLS_A_TURN {
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            match rustix::net::acceptfrom_with(&self.setup.listeners[listener], flags) {
                Ok((stream, from)) => {
                    let from = from.and_then(|from| SocketAddr::try_from(from).ok());
                    calls.extend(from.map(|from| HttpConnection::new(stream, from, now)));
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                    // Those that were just taken will give back theirs.
                    if calls.is_empty() {
                        self.make_room();
                    }
                    break;
                }
                // The caller has given up already.
                Err(_) => {}
            }
        }
        // Only now: by the time the last was taken, the question of the first is here.
        for connection in calls {
            self.calls += 1;
            self.advance(self.calls, connection, registry);
        }
    }

    /// Closes the connection that called first; says whether there was one.
    fn drop_oldest(&mut self) -> bool {
        let oldest = self.connections.pop_first().is_some();
        if oldest {
            self.setup.counters.count(Counted::HttpSlow);
        }
        oldest
    }

    /// The system is at its limit: the oldest connection goes. Where there is none, the listeners are
    /// left alone until the next look, or this would be a loop without work.
    fn make_room(&mut self) {
        if !self.drop_oldest() {
            self.deaf = true;
            for listener in &self.setup.listeners {
                let _ = epoll::delete(&self.setup.epoll, listener);
            }
        }
    }

    /// A connection that was kept can be read or written.
    pub(super) fn go_on(&mut self, number: u64, registry: &mut Registry) {
        // It may have been closed earlier in this turn.
        if let Some(connection) = self.connections.remove(&number) {
            self.advance(number, connection, registry);
        }
    }

    /// Goes on with a connection as far as it can now, and keeps it if it is not over.
    fn advance(&mut self, number: u64, mut connection: HttpConnection, registry: &mut Registry) {
        if !connection.is_being_answered() {
            match connection.listen(&mut self.scratch) {
                Heard::Part => {}
                Heard::Whole(Ok(question)) => self.answer(&mut connection, question, registry),
                Heard::Whole(Err(bad)) => self.refuse(&mut connection, &bad),
                Heard::End => return,
            }
        }
        let Some(wanted) = connection.say() else {
            return;
        };
        // Once: what is told of a connection is told again if it is still so.
        let (data, flags) = (Source::Caller(number).into(), wanted | EventFlags::ONESHOT);
        let outcome = if connection.watched {
            epoll::modify(&self.setup.epoll, &connection, data, flags)
        } else {
            epoll::add(&self.setup.epoll, &connection, data, flags)
        };
        connection.watched = true;
        if outcome.is_ok() {
            if self.connections.len() >= self.setup.connections {
                self.drop_oldest();
            }
            self.connections.insert(number, connection);
        }
    }

    fn answer(&mut self, caller: &mut HttpConnection, question: Question, registry: &mut Registry) {
        let (counted, response) = match question {
            Question::Announce { announce, compact } => {
                self.announce(caller.from, &announce, compact, registry)
            }
            Question::Scrape(asked) => {
                let swarms: Vec<_> = asked.iter().map(|it| registry.scrape(it)).collect();
                (Counted::HttpScrapes, answers::scraped(&asked, &swarms))
            }
            Question::Stats { json } => {
                self.setup.counters.note(registry.totals());
                let up = self.setup.started.elapsed();
                // It is one of those that it tells of.
                self.setup.counters.count(Counted::HttpOther);
                let response = answers::stats(json, &self.setup.counters, up);
                return caller.reply(response, None);
            }
            Question::Page(path) => return self.page(caller, &path),
        };
        self.setup.counters.count(counted);
        caller.reply(response, None);
    }

    fn announce(
        &mut self,
        from: SocketAddr,
        announce: &Announce,
        compact: bool,
        registry: &mut Registry,
    ) -> (Counted, Vec<u8>) {
        let interval = self.setup.interval;
        self.found.v4.clear();
        self.found.v6.clear();
        match registry.announce(announce, &mut self.found) {
            Ok(receipt) => {
                let stopped = announce.event == Some(Occasion::Stopped);
                let ip = from.ip().to_canonical();
                let told = self.setup.loopback_as.filter(|_| ip.is_loopback());
                let ip = told.unwrap_or(ip);
                let found = &self.found;
                let response = answers::announced(&receipt, stopped, found, compact, interval, ip);
                (Counted::HttpAnnounces, response)
            }
            Err(refusal) => (Counted::HttpRefused, answers::refused(refusal, interval)),
        }
    }

    fn page(&mut self, caller: &mut HttpConnection, path: &str) {
        let page = self.pages.get(path).cloned();
        let (counted, response) = match &page {
            Some(page) => {
                let response = answers::head("200 OK", &page.content_type, page.bytes.len());
                (Counted::HttpOther, response)
            }
            None if path == "/" => {
                let text =
                    "This is a BitTorrent tracker: /announce, /scrape, /stats, /stats.json\n";
                (Counted::HttpOther, answers::plain("200 OK", text))
            }
            None => {
                let response = answers::plain("404 Not Found", "There is nothing here.\n");
                (Counted::HttpMalformed, response)
            }
        };
        self.setup.counters.count(counted);
        caller.reply(response, page);
    }

    fn refuse(&mut self, caller: &mut HttpConnection, bad: &Bad) {
        let plain = |status, text| (Counted::HttpMalformed, answers::plain(status, text));
        let (counted, response) = match bad {
            Bad::NotHttp => plain("400 Bad Request", "This is no request by HTTP.\n"),
            Bad::TooLong => plain(
                "431 Request Header Fields Too Large",
                "The request is too long.\n",
            ),
            Bad::Method => plain(
                "405 Method Not Allowed",
                "There are only GET and HEAD here, and no HEAD of an announce.\n",
            ),
            Bad::Refused(reason) => {
                let response = answers::bencoded(&refusal(reason));
                (Counted::HttpRefused, response)
            }
        };
        self.setup.counters.count(counted);
        caller.reply(response, None);
    }

    /// Looks for who has run out of time. Says when it wants to look again, though nothing else happens.
    pub(super) fn look(&mut self, now: Instant) -> Option<Duration> {
        if now.duration_since(self.looked) >= LOOK {
            self.looked = now;
            let before = self.connections.len();
            self.connections.retain(|_, it| it.deadline >= now);
            for _ in self.connections.len()..before {
                self.setup.counters.count(Counted::HttpSlow);
            }
            if self.deaf {
                self.deaf = self.open().is_err();
            }
        }
        let wanted = self.deaf || !self.connections.is_empty();
        wanted.then(|| LOOK.saturating_sub(now.duration_since(self.looked)))
    }
}
