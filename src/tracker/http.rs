//! HTTP (BEP 3, 48): a fixed pool of threads, each with an `epoll` of its own over all its
//! connections, so that a thousand silent callers starve nobody.
//!
//! ```text
//! listener --> head, 2 KiB at most --> Question --batch--> owner of the registry
//!              answer, then the end <-- bytes <---batch---
//! ```
//!
//! A connection is good for one question. Its head has to be here within five seconds of the call, and
//! its answer has to be taken without a pause of five. Who asks while a thread has as many connections
//! as it may have pushes out the oldest.

mod answers;
mod connection;
mod question;

use super::Page;
use super::bell::Bell;
use super::counters::{Counted, Counters};
use super::owner::{Answered, Asked, Batch};
use super::registry::Refusal;
use connection::{Connection, Connections, Doing, Purpose, Token};
use crossbeam_channel::{Receiver, Sender};
use question::{Bad, Question};
use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::net::{SendFlags, SocketFlags};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// From the call to the end of the head.
const HEAD_TIME: Duration = Duration::from_secs(5);

/// The longest pause while an answer is taken.
const PAUSE: Duration = Duration::from_secs(5);

/// The longest an answer may take in all: 16 MiB, at 64 KiB a second.
const ANSWER_TIME: Duration = Duration::from_secs(256);

/// How often it is looked for who has run out of time, while anybody is connected.
const LOOK: Duration = Duration::from_millis(500);

/// Calls that are taken before something else has its turn.
const CALLS_A_TURN: usize = 64;

/// Events that one `epoll` brings.
const EVENTS: usize = 256;

/// What an event of a listener or the bell says; those of connections are tokens.
const BELL: u64 = u64::MAX;
const LISTENER: u64 = 1 << 63;

/// What a worker is made with.
pub(super) struct Setup {
    pub(super) listeners: Arc<Vec<TcpListener>>,
    /// Connections at a time.
    pub(super) connections: usize,
    pub(super) interval: Duration,
    pub(super) counters: Arc<Counters>,
    pub(super) bell: Bell,
    pub(super) owner: Bell,
    pub(super) asks: Sender<Batch>,
    pub(super) answers: Receiver<Vec<(u64, Answered)>>,
    pub(super) pages: Receiver<(String, Arc<Page>)>,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) started: Instant,
    /// Which worker this is; the owner answers to it.
    pub(super) number: usize,
    /// What is told as the asker's address instead of the loopback.
    pub(super) loopback_as: Option<IpAddr>,
}

/// One thread of the pool.
pub(super) struct Worker {
    setup: Setup,
    epoll: OwnedFd,
    connections: Connections,
    pages: HashMap<String, Arc<Page>>,
    /// Questions for the owner. They leave when the answers to the last ones are here.
    gathered: Vec<(u64, Asked)>,
    asking: bool,
    /// Who has called in this turn.
    fresh: Vec<Token>,
    scratch: Vec<u8>,
    looked: Instant,
    /// The system has no descriptors left: nobody is called in until the next look.
    deaf: bool,
}

impl Worker {
    pub(super) fn new(setup: Setup) -> io::Result<Worker> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(
            &epoll,
            &setup.bell,
            EventData::new_u64(BELL),
            EventFlags::IN,
        )?;
        let worker = Worker {
            connections: Connections::new(setup.connections),
            setup,
            epoll,
            pages: HashMap::new(),
            gathered: Vec::new(),
            asking: false,
            fresh: Vec::new(),
            scratch: vec![0; question::HEAD_MAX],
            looked: Instant::now(),
            deaf: false,
        };
        worker.listen()?;
        Ok(worker)
    }

    fn listen(&self) -> io::Result<()> {
        for (number, listener) in self.setup.listeners.iter().enumerate() {
            let data = EventData::new_u64(LISTENER | number as u64);
            // Of all workers that wait one is woken.
            let flags = EventFlags::IN | EventFlags::EXCLUSIVE;
            epoll::add(&self.epoll, listener, data, flags)?;
        }
        Ok(())
    }

    /// Works until it is told to stop.
    pub(super) fn run(mut self) {
        let mut events = Vec::with_capacity(EVENTS);
        while !self.setup.stop.load(Ordering::Relaxed) {
            self.wait(&mut events);
            // First of all: what was published before a request came is there for it.
            while let Ok((path, page)) = self.setup.pages.try_recv() {
                self.pages.insert(path, page);
            }
            for event in events.drain(..) {
                match event.data.u64() {
                    BELL => {}
                    listener if listener & LISTENER != 0 => {
                        self.take_calls((listener & !LISTENER) as usize);
                    }
                    token => self.go_on(Token(token)),
                }
            }
            // Many have sent their question right behind the call: by now it may be here.
            for token in std::mem::take(&mut self.fresh) {
                self.read(token);
            }
            while let Ok(answers) = self.setup.answers.try_recv() {
                self.asking = false;
                for (token, answered) in answers {
                    self.answered(Token(token), answered);
                }
            }
            self.ask();
            self.look();
        }
    }

    fn wait(&self, events: &mut Vec<epoll::Event>) {
        let idle = || {
            self.setup.answers.is_empty()
                && self.setup.pages.is_empty()
                && !self.setup.stop.load(Ordering::Relaxed)
        };
        let sleeps = self.setup.bell.may_sleep(idle);
        let timeout = match (sleeps, self.connections.is_empty() && !self.deaf) {
            (false, _) => Some(Duration::ZERO),
            (true, true) => None,
            (true, false) => Some(LOOK),
        };
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        // An error is an interruption by a signal: the next turn waits again.
        let _ = epoll::wait(
            &self.epoll,
            rustix::buffer::spare_capacity(events),
            timeout.as_ref(),
        );
        if sleeps {
            self.setup.bell.woken();
        }
    }

    fn take_calls(&mut self, listener: usize) {
        let listeners = self.setup.listeners.clone();
        let Some(listener) = listeners.get(listener) else {
            return;
        };
        for _ in 0..CALLS_A_TURN {
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            match rustix::net::acceptfrom_with(listener, flags) {
                Ok((stream, Some(from))) => {
                    if let Ok(from) = SocketAddr::try_from(from) {
                        self.welcome(stream, from);
                    }
                }
                Ok((_, None)) => {}
                Err(rustix::io::Errno::AGAIN) => return,
                Err(
                    rustix::io::Errno::MFILE
                    | rustix::io::Errno::NFILE
                    | rustix::io::Errno::NOBUFS
                    | rustix::io::Errno::NOMEM,
                ) => return self.make_room(),
                // The caller has given up already.
                Err(_) => {}
            }
        }
    }

    /// The system is at its limit: the oldest connection goes. Where there is none, the listeners are
    /// left alone until the next look, or this would be a loop without work.
    fn make_room(&mut self) {
        if self.connections.drop_oldest() {
            return self.setup.counters.count(Counted::HttpSlow);
        }
        self.deaf = true;
        for listener in self.setup.listeners.iter() {
            let _ = epoll::delete(&self.epoll, listener);
        }
    }

    fn welcome(&mut self, stream: OwnedFd, from: SocketAddr) {
        if self.connections.is_full() && self.connections.drop_oldest() {
            self.setup.counters.count(Counted::HttpSlow);
        }
        let now = Instant::now();
        let connection = Connection {
            stream,
            from,
            head: Vec::new(),
            doing: Doing::Head,
            watched: false,
            begun: now,
            deadline: now + HEAD_TIME,
        };
        let token = self.connections.insert(connection);
        self.fresh.push(token);
    }

    /// Something can be read or written.
    fn go_on(&mut self, token: Token) {
        match self.connections.get(token).map(|it| &it.doing) {
            Some(Doing::Head) => self.read(token),
            Some(Doing::Answering { .. }) => self.write(token),
            Some(Doing::Waiting(_)) | None => {}
        }
    }

    fn read(&mut self, token: Token) {
        let Some(connection) = self.connections.get(token) else {
            return;
        };
        let room = question::HEAD_MAX - connection.head.len();
        let question = match rustix::io::read(&connection.stream, &mut self.scratch[..room]) {
            Ok(0) => return self.connections.remove(token),
            Ok(length) if connection.head.is_empty() => {
                let read = Question::read(&self.scratch[..length], connection.from);
                if read == Ok(None) {
                    connection.head.extend(&self.scratch[..length]);
                }
                read
            }
            Ok(length) => {
                connection.head.extend(&self.scratch[..length]);
                Question::read(&connection.head, connection.from)
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(None),
            Err(_) => return self.connections.remove(token),
        };
        match question {
            Ok(None) => self.watch(token, EventFlags::IN),
            Ok(Some(question)) => self.asked(token, question),
            Err(bad) => self.refuse(token, &bad),
        }
    }

    /// A whole question is here.
    fn asked(&mut self, token: Token, question: Question) {
        let (asked, purpose) = match question {
            Question::Announce { announce, compact } => {
                let stopped =
                    announce.event == Some(crate::protocol::tracker::http::Occasion::Stopped);
                let purpose = Purpose::Announce { compact, stopped };
                (Asked::Announce(announce), purpose)
            }
            Question::Scrape(asked) => (Asked::Scrape(asked.clone()), Purpose::Scrape(asked)),
            Question::Stats { json } => return self.stats(token, json),
            Question::Page(path) => return self.page(token, &path),
        };
        if let Some(connection) = self.connections.get(token) {
            connection.doing = Doing::Waiting(purpose);
            self.gathered.push((token.0, asked));
        }
    }

    fn stats(&mut self, token: Token, json: bool) {
        let (counters, up) = (&self.setup.counters, self.setup.started.elapsed());
        counters.count(Counted::HttpOther);
        let response = answers::stats(json, counters, up);
        self.respond(token, response, None);
    }

    fn page(&mut self, token: Token, path: &str) {
        let page = self.pages.get(path).cloned();
        let response = match &page {
            Some(page) => {
                self.setup.counters.count(Counted::HttpOther);
                answers::head("200 OK", &page.content_type, page.bytes.len())
            }
            None if path == "/" => {
                self.setup.counters.count(Counted::HttpOther);
                let text =
                    "This is a BitTorrent tracker: /announce, /scrape, /stats, /stats.json\n";
                answers::response("200 OK", "text/plain", text.as_bytes())
            }
            None => {
                self.setup.counters.count(Counted::HttpMalformed);
                answers::response("404 Not Found", "text/plain", b"There is nothing here.\n")
            }
        };
        self.respond(token, response, page);
    }

    fn refuse(&mut self, token: Token, bad: &Bad) {
        self.setup.counters.count(match bad {
            Bad::Refused(_) => Counted::HttpRefused,
            _ => Counted::HttpMalformed,
        });
        let plain = |status: &str, text: &[u8]| answers::response(status, "text/plain", text);
        let response = match bad {
            Bad::NotHttp => plain("400 Bad Request", b"This is no request by HTTP.\n"),
            Bad::TooLong => plain(
                "431 Request Header Fields Too Large",
                b"The request is too long.\n",
            ),
            Bad::Method => plain("405 Method Not Allowed", b"There is only GET here.\n"),
            Bad::Refused(reason) => {
                answers::bencoded(&crate::protocol::tracker::http::refusal(reason))
            }
        };
        self.respond(token, response, None);
    }

    /// The owner has answered.
    fn answered(&mut self, token: Token, answered: Answered) {
        let Some(connection) = self.connections.get(token) else {
            return;
        };
        let Doing::Waiting(purpose) = &connection.doing else {
            return;
        };
        let interval = self.setup.interval;
        let (counted, response) = match (answered, purpose) {
            (Answered::Heard(heard, found), Purpose::Announce { compact, stopped }) => {
                let ip = connection.from.ip().to_canonical();
                let ip = self
                    .setup
                    .loopback_as
                    .filter(|_| ip.is_loopback())
                    .unwrap_or(ip);
                let response = answers::announced(&heard, *stopped, &found, *compact, interval, ip);
                (Counted::HttpAnnounces, response)
            }
            (Answered::Swarms(swarms), Purpose::Scrape(asked)) => {
                (Counted::HttpScrapes, answers::scraped(asked, &swarms))
            }
            (Answered::Refused(refusal), _) => {
                (Counted::HttpRefused, answers::refused(refusal, interval))
            }
            // The owner answers what it was asked.
            _ => (
                Counted::HttpRefused,
                answers::refused(Refusal::Full, interval),
            ),
        };
        self.setup.counters.count(counted);
        self.respond(token, response, None);
    }

    fn respond(&mut self, token: Token, response: Vec<u8>, page: Option<Arc<Page>>) {
        if let Some(connection) = self.connections.get(token) {
            let now = Instant::now();
            connection.begun = now;
            connection.deadline = now + PAUSE;
            connection.doing = Doing::Answering {
                response,
                page,
                done: 0,
            };
            self.write(token);
        }
    }

    fn write(&mut self, token: Token) {
        let Some(connection) = self.connections.get(token) else {
            return;
        };
        let Doing::Answering {
            response,
            page,
            done,
        } = &mut connection.doing
        else {
            return;
        };
        let body = page.as_ref().map_or(&[][..], |page| &page.bytes);
        loop {
            let rest = match response.get(*done..) {
                Some(rest) if !rest.is_empty() => rest,
                _ => &body[*done - response.len()..],
            };
            if rest.is_empty() {
                return self.connections.remove(token);
            }
            match rustix::net::send(&connection.stream, rest, SendFlags::NOSIGNAL) {
                Ok(sent) => {
                    *done += sent;
                    let now = Instant::now();
                    connection.deadline = (now + PAUSE).min(connection.begun + ANSWER_TIME);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return self.watch(token, EventFlags::OUT),
                Err(_) => return self.connections.remove(token),
            }
        }
    }

    /// Waits for a connection, once: while its question is with the owner nothing is to be told of it.
    fn watch(&mut self, token: Token, flags: EventFlags) {
        let Some(connection) = self.connections.get(token) else {
            return;
        };
        let (data, flags) = (EventData::new_u64(token.0), flags | EventFlags::ONESHOT);
        let stream = connection.stream.as_fd();
        let outcome = if connection.watched {
            epoll::modify(&self.epoll, stream, data, flags)
        } else {
            epoll::add(&self.epoll, stream, data, flags)
        };
        connection.watched = true;
        if outcome.is_err() {
            self.connections.remove(token);
        }
    }

    fn ask(&mut self) {
        if self.asking || self.gathered.is_empty() {
            return;
        }
        let batch = Batch {
            worker: self.setup.number,
            asked: std::mem::take(&mut self.gathered),
        };
        self.asking = self.setup.asks.send(batch).is_ok();
        self.setup.owner.ring();
    }

    /// Looks for who has run out of time.
    fn look(&mut self) {
        let now = Instant::now();
        if now.duration_since(self.looked) < LOOK {
            return;
        }
        self.looked = now;
        for _ in 0..self.connections.drop_late(now) {
            self.setup.counters.count(Counted::HttpSlow);
        }
        if self.deaf {
            self.deaf = self.listen().is_err();
        }
    }
}
