//! The thread that owns the registry and serves everybody, by UDP and by HTTP.
//!
//! ```text
//! sockets --datagrams--> desk ------> registry
//! calls ---requests----> reception ----^
//! ```
//!
//! It waits in one `epoll`, on its sockets, its callers and its bell. What each of them gets at a time
//! is bounded, so that everybody has a turn. There is no hand-over, as there is nobody to hand over to:
//! an answer costs less than waking another thread that could find it.

use super::Page;
use super::bell::Bell;
use super::counters::Counters;
use super::http::Reception;
use super::registry::Registry;
use super::udp::{Desk, Post};
use crate::protocol::InfoHash;
use crossbeam_channel::{Receiver, Sender};
use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Events that one `epoll` brings.
const EVENTS: usize = 256;

/// What an event is of. In the event it is a number: the two highest bits say which of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Bell,
    /// A socket of UDP, by its place.
    Post(usize),
    /// A socket that takes calls, by its place.
    Listener(usize),
    /// A connection, by its number.
    Caller(u64),
}

/// How far the highest bits are from the lowest.
const KIND: u32 = 62;

impl From<Source> for EventData {
    fn from(source: Source) -> EventData {
        let (kind, number) = match source {
            Source::Bell => (0, 0),
            Source::Post(at) => (1, at as u64),
            Source::Listener(at) => (2, at as u64),
            Source::Caller(number) => (3, number),
        };
        EventData::new_u64(kind << KIND | number)
    }
}

impl From<EventData> for Source {
    fn from(data: EventData) -> Source {
        let data = data.u64();
        let number = data & ((1 << KIND) - 1);
        match data >> KIND {
            0 => Source::Bell,
            1 => Source::Post(number as usize),
            2 => Source::Listener(number as usize),
            _ => Source::Caller(number),
        }
    }
}

/// What the rest of the program has to say to the owner.
#[derive(Debug)]
pub(super) enum Order {
    /// Serve this torrent, too, and drop the sender when that is so.
    Admit(InfoHash, Sender<()>),
    /// Hand out this page at this path.
    Publish(String, Page),
    /// It is over.
    Stop,
}

/// See the module's head.
pub(super) struct Owner {
    pub(super) registry: Registry,
    pub(super) posts: Vec<Post>,
    pub(super) desk: Desk,
    pub(super) reception: Reception,
    pub(super) orders: Receiver<Order>,
    pub(super) bell: Bell,
    pub(super) counters: Arc<Counters>,
    pub(super) started: Instant,
    pub(super) epoll: Arc<OwnedFd>,
}

impl Owner {
    /// Works until it is told to stop.
    pub(super) fn run(mut self) {
        let mut events = Vec::with_capacity(EVENTS);
        // What was published before a request came is there for it: orders first.
        while self.obey(&events) {
            let now = self.started.elapsed();
            let due = self.registry.turn(now);
            for event in events.drain(..) {
                self.serve(event, now);
            }
            self.counters.note(self.registry.totals());
            let look = self.reception.look(Instant::now());
            let due = due.map(|due| due.saturating_sub(self.started.elapsed()));
            self.wait(&mut events, due.into_iter().chain(look).min());
        }
    }

    /// Does what was ordered; says whether to go on.
    fn obey(&mut self, events: &[epoll::Event]) -> bool {
        // Before what it announced is looked at, never after: an order that comes later rings again.
        if events
            .iter()
            .any(|it| Source::from(it.data) == Source::Bell)
        {
            self.bell.silence();
        }
        while let Ok(order) = self.orders.try_recv() {
            match order {
                Order::Admit(info_hash, _done) => self.registry.admit(info_hash),
                Order::Publish(path, page) => self.reception.publish(path, page),
                Order::Stop => return false,
            }
        }
        true
    }

    /// Waits for an event, or so long.
    fn wait(&self, events: &mut Vec<epoll::Event>, timeout: Option<Duration>) {
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        let room = rustix::buffer::spare_capacity(events);
        // An error is an interruption by a signal: the next turn waits again.
        let _ = epoll::wait(&self.epoll, room, timeout.as_ref());
    }

    fn serve(&mut self, event: epoll::Event, now: Duration) {
        match Source::from(event.data) {
            Source::Bell => {}
            Source::Post(at) => self.posts[at].serve(&mut self.desk, now, &mut self.registry),
            Source::Listener(at) => self.reception.take_calls(at, &mut self.registry),
            Source::Caller(number) => self.reception.go_on(number, &mut self.registry),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::{Setup, owner};
    use super::*;

    #[test]
    fn an_order_that_comes_after_the_others_were_obeyed_rings_again() {
        let (orders, obeyed) = crossbeam_channel::unbounded();
        let bell = Bell::new().unwrap();
        let mut owner = owner(
            Setup::default(),
            Vec::new(),
            Vec::new(),
            obeyed,
            bell.clone(),
            Arc::default(),
        )
        .unwrap();
        let admit = || Order::Admit(InfoHash([1; 20]), crossbeam_channel::bounded(1).0);
        let mut events = Vec::with_capacity(EVENTS);
        orders.send(admit()).unwrap();
        bell.ring();
        owner.wait(&mut events, None);
        assert!(owner.obey(&events));
        orders.send(Order::Stop).unwrap();
        bell.ring();
        for event in events.drain(..) {
            owner.serve(event, Duration::ZERO);
        }
        owner.wait(&mut events, Some(Duration::ZERO));
        assert_eq!(events.len(), 1, "the owner would sleep");
        assert!(!owner.obey(&events));
    }

    #[test]
    fn an_event_says_what_it_is_of() {
        let highest = (1 << KIND) - 1;
        for source in [
            Source::Bell,
            Source::Post(0),
            Source::Post(7),
            Source::Listener(0),
            Source::Listener(3),
            Source::Caller(0),
            Source::Caller(highest),
        ] {
            assert_eq!(Source::from(EventData::from(source)), source);
        }
    }
}
