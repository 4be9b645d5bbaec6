//! The connections of one thread, each under a token that is never used for another one.

use crate::protocol::InfoHash;
use crate::tracker::Page;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

/// The name of a connection: its place, and how many stood there before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token(pub(super) u64);

impl Token {
    fn new(place: usize, before: u32) -> Token {
        // The highest bit is for what is no connection.
        Token(u64::from(before & 0x7fff_ffff) << 32 | place as u64)
    }

    fn place(self) -> usize {
        (self.0 & 0xffff_ffff) as usize
    }
}

/// Why the owner of the registry was asked.
#[derive(Debug)]
pub(super) enum Purpose {
    /// To list somebody and to hand out addresses.
    Announce { compact: bool, stopped: bool },
    /// The sizes of these.
    Scrape(Vec<InfoHash>),
}

/// How far a connection has come.
#[derive(Debug)]
pub(super) enum Doing {
    /// Its question is not whole yet.
    Head,
    /// Its question is with the owner.
    Waiting(Purpose),
    /// Its answer is being sent: `response`, then the bytes of `page`. `done` counts both.
    Answering {
        response: Vec<u8>,
        page: Option<Arc<Page>>,
        done: usize,
    },
}

/// One caller.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: OwnedFd,
    pub(super) from: SocketAddr,
    /// What has come so far of a head that did not come at once.
    pub(super) head: Vec<u8>,
    pub(super) doing: Doing,
    /// Whether `epoll` knows it.
    pub(super) watched: bool,
    /// When it began with what it does.
    pub(super) begun: Instant,
    pub(super) deadline: Instant,
}

/// See the module's head.
pub(super) struct Connections {
    places: Vec<(u32, Option<Connection>)>,
    free: Vec<usize>,
    most: usize,
}

impl Connections {
    pub(super) fn new(most: usize) -> Connections {
        Connections {
            places: Vec::new(),
            free: Vec::new(),
            most: most.max(1),
        }
    }

    fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn is_full(&self) -> bool {
        self.len() >= self.most
    }

    pub(super) fn insert(&mut self, connection: Connection) -> Token {
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push((0, None));
            self.places.len() - 1
        });
        let (before, here) = &mut self.places[place];
        *here = Some(connection);
        Token::new(place, *before)
    }

    pub(super) fn get(&mut self, token: Token) -> Option<&mut Connection> {
        let place = token.place();
        let (before, here) = self.places.get_mut(place)?;
        here.as_mut()
            .filter(|_| Token::new(place, *before) == token)
    }

    /// Closes a connection.
    pub(super) fn remove(&mut self, token: Token) {
        if self.get(token).is_some() {
            self.close(token.place());
        }
    }

    fn close(&mut self, place: usize) {
        let (before, here) = &mut self.places[place];
        *here = None;
        *before = before.wrapping_add(1);
        self.free.push(place);
    }

    /// Closes the connection that has been at what it does for longest; not one that waits for us.
    pub(super) fn drop_oldest(&mut self) -> bool {
        let ours = |it: &Connection| matches!(it.doing, Doing::Waiting(_));
        let candidates = self.places.iter().enumerate();
        let candidates = candidates.filter_map(|(place, (_, here))| Some((place, here.as_ref()?)));
        let oldest = candidates
            .filter(|(_, it)| !ours(it))
            .min_by_key(|(_, it)| it.begun);
        let oldest = oldest.map(|(place, _)| place);
        if let Some(place) = oldest {
            self.close(place);
        }
        oldest.is_some()
    }

    /// Closes those that have run out of time; says how many.
    pub(super) fn drop_late(&mut self, now: Instant) -> usize {
        let is_late = |it: &Connection| it.deadline < now && !matches!(it.doing, Doing::Waiting(_));
        let mut late = 0;
        for place in 0..self.places.len() {
            if self.places[place].1.as_ref().is_some_and(is_late) {
                self.close(place);
                late += 1;
            }
        }
        late
    }
}
