//! One caller: what it has said so far, and what it is being told.
//!
//! ```text
//! match connection.listen(&mut scratch) {
//!     Heard::Part => ...,                        // wait until it can be read
//!     Heard::Whole(outcome) => connection.reply(response, page),
//!     Heard::End => ...
//! }
//! connection.say()                               // what to wait for; nothing: it is over
//! ```

use super::question::{Bad, HEAD_MAX, Question};
use crate::tracker::Page;
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{SendFlags, Shutdown};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// From the call to the end of the head.
const HEAD_TIME: Duration = Duration::from_secs(5);

/// The longest pause while an answer is taken.
const PAUSE: Duration = Duration::from_secs(5);

/// The longest an answer may take in all: 16 MiB, at 64 KiB a second.
const ANSWER_TIME: Duration = Duration::from_secs(256);

/// What is being sent: `response`, then the bytes of `page`. `done` counts both.
#[derive(Debug)]
struct Unsent {
    response: Vec<u8>,
    page: Option<Arc<Page>>,
    done: usize,
    until: Instant,
}

/// What a caller has said.
#[derive(Debug)]
pub(super) enum Heard {
    /// Its head is not whole yet.
    Part,
    /// A question, or what is none.
    Whole(Result<Question, Bad>),
    /// It has hung up.
    End,
}

/// See the module's head.
#[derive(Debug)]
pub(super) struct HttpConnection {
    stream: OwnedFd,
    pub(super) from: SocketAddr,
    /// What has come so far of a head that did not come at once.
    head: Vec<u8>,
    /// It asks with HEAD: what it is told has no body.
    bodiless: bool,
    answer: Option<Unsent>,
    pub(super) deadline: Instant,
    /// Whether `epoll` knows it.
    pub(super) watched: bool,
}

impl HttpConnection {
    pub(super) fn new(stream: OwnedFd, from: SocketAddr, now: Instant) -> HttpConnection {
        HttpConnection {
            stream,
            from,
            head: Vec::new(),
            bodiless: false,
            answer: None,
            deadline: now + HEAD_TIME,
            watched: false,
        }
    }

    pub(super) fn is_being_answered(&self) -> bool {
        self.answer.is_some()
    }

    /// Reads once. `scratch` has room for the longest head.
    pub(super) fn listen(&mut self, scratch: &mut [u8]) -> Heard {
        let room = HEAD_MAX - self.head.len();
        let read = match rustix::io::read(&self.stream, &mut scratch[..room]) {
            Ok(0) => return Heard::End,
            Ok(length) => &scratch[..length],
            Err(Errno::AGAIN | Errno::INTR) => return Heard::Part,
            Err(_) => return Heard::End,
        };
        // Most heads come at once, and are read where they are.
        let so_far = if self.head.is_empty() {
            read
        } else {
            self.head.extend(read);
            &self.head
        };
        self.bodiless = so_far.starts_with(b"HEAD ");
        let outcome = Question::read(so_far, self.from);
        match outcome.transpose() {
            Some(whole) => Heard::Whole(whole),
            None => {
                if self.head.is_empty() {
                    self.head.extend(read);
                }
                Heard::Part
            }
        }
    }

    /// This is to be said, and then the end. Of `response` the head alone where no body is wanted.
    pub(super) fn reply(&mut self, mut response: Vec<u8>, page: Option<Arc<Page>>) {
        if self.bodiless {
            let head = response.windows(4).position(|it| it == b"\r\n\r\n");
            response.truncate(head.map_or(0, |at| at + 4));
        }
        let page = page.filter(|_| !self.bodiless);
        let now = Instant::now();
        self.deadline = now + PAUSE;
        self.answer = Some(Unsent {
            response,
            page,
            done: 0,
            until: now + ANSWER_TIME,
        });
    }

    /// Says as much as the caller takes. Gives what to wait for, unless it is over.
    pub(super) fn say(&mut self) -> Option<EventFlags> {
        let Some(answer) = &mut self.answer else {
            return Some(EventFlags::IN);
        };
        let body = answer.page.as_ref().map_or(&[][..], |page| &page.bytes);
        loop {
            let rest = match answer.response.get(answer.done..) {
                Some(rest) if !rest.is_empty() => rest,
                _ => &body[answer.done - answer.response.len()..],
            };
            if rest.is_empty() {
                // An error is a caller that has hung up.
                let _ = rustix::net::shutdown(&self.stream, Shutdown::Write);
                return None;
            }
            // More follows in any case: the end. So one packet carries the answer and the end, and not two.
            let flags = SendFlags::NOSIGNAL | SendFlags::MORE;
            match rustix::net::send(&self.stream, rest, flags) {
                Ok(sent) => {
                    answer.done += sent;
                    self.deadline = (Instant::now() + PAUSE).min(answer.until);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Some(EventFlags::OUT),
                Err(_) => return None,
            }
        }
    }
}

impl AsFd for HttpConnection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
