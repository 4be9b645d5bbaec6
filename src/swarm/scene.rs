//! For tests: a swarm on a table, with peers played by hand.

#![allow(clippy::unwrap_used)]

use super::event::{Action, Event, Farewell, Greeting, Moment, PeerKey, Way};
use super::{Limits, Swarm, SwarmSetup};
use crate::protocol::bitfield::Bitfield;
use crate::protocol::peer::{Message, PeerId, WireBlock};
use crate::protocol::{Block, Geometry, InfoHash, PieceIndex};
use std::time::Duration;

/// A swarm and the time on its wall.
pub struct Scene {
    pub swarm: Swarm,
    pub geometry: Geometry,
    pub now: Moment,
}

/// Our id in every scene: in the middle of all ids.
pub const OUR_ID: PeerId = PeerId([0x80; 20]);

impl Scene {
    /// Ten pieces of two blocks, of which we have these.
    pub fn having(pieces: &[u32]) -> Scene {
        Scene::of(10, pieces, |_| {})
    }

    /// `count` pieces of two blocks; `change` alters the setup.
    pub fn of(count: u32, pieces: &[u32], change: impl FnOnce(&mut SwarmSetup)) -> Scene {
        let geometry = Geometry::new(u64::from(count) * 32_768, 32_768).unwrap();
        let mut have = Bitfield::new(&geometry);
        for piece in pieces {
            have.set(geometry.piece(*piece).unwrap());
        }
        let mut setup = SwarmSetup {
            geometry,
            info_hash: InfoHash([0xaa; 20]),
            have,
            wanted: Bitfield::full(&geometry),
            sequential: false,
            laid: Vec::new(),
            private: false,
            id: OUR_ID,
            downloads: true,
            listen_port: Some(6881),
            limits: Limits::default(),
            seed: 1,
        };
        change(&mut setup);
        Scene {
            swarm: Swarm::new(setup, Duration::ZERO),
            geometry,
            now: Duration::ZERO,
        }
    }

    /// A scene in which we have everything.
    pub fn complete() -> Scene {
        Scene::having(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    }

    /// Something happens; the brain's invariants hold afterwards.
    pub fn event(&mut self, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        self.swarm.handle(event, self.now, &mut actions);
        self.swarm.check_invariants();
        actions
    }

    /// Time goes by, with every alarm heard on the way.
    pub fn wait(&mut self, time: Duration) -> Vec<Action> {
        let end = self.now + time;
        let mut actions = Vec::new();
        while let Some(at) = self.swarm.wake_at().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            let before = self.swarm.wake_at();
            actions.extend(self.event(Event::Woken));
            assert!(self.swarm.wake_at() != before, "an alarm that never ends");
        }
        self.now = end;
        actions
    }

    /// Peer `key` calls us: with the fast extension, without BEP 10.
    pub fn connect(&mut self, key: u64) -> Vec<Action> {
        let greeting = greeting(key);
        let peer = PeerKey(key);
        self.event(Event::Connected { peer, greeting })
    }

    /// Peer `key` calls us without the fast extension.
    pub fn connect_plain(&mut self, key: u64) -> Vec<Action> {
        let greeting = Greeting {
            fast: false,
            ..greeting(key)
        };
        let peer = PeerKey(key);
        self.event(Event::Connected { peer, greeting })
    }

    /// Peer `key` comes with everything and unchokes us.
    pub fn connect_seed(&mut self, key: u64) -> Vec<Action> {
        self.connect(key);
        self.say(key, Message::HaveAll);
        self.say(key, Message::Unchoke)
    }

    /// The same without the fast extension.
    pub fn connect_plain_seed(&mut self, key: u64) -> Vec<Action> {
        self.connect_plain(key);
        let all = Bitfield::full(&self.geometry);
        self.say(key, Message::Bitfield(all.as_bytes().into()));
        self.say(key, Message::Unchoke)
    }

    pub fn say(&mut self, key: u64, message: Message) -> Vec<Action> {
        let peer = PeerKey(key);
        self.event(Event::Said { peer, message })
    }

    pub fn receive(&mut self, key: u64, block: Block) -> Vec<Action> {
        let peer = PeerKey(key);
        self.event(Event::Received { peer, block })
    }

    pub fn give_back(&mut self, key: u64, block: Block) -> Vec<Action> {
        let peer = PeerKey(key);
        self.event(Event::Returned { peer, block })
    }

    pub fn lose(&mut self, key: u64, why: Farewell) -> Vec<Action> {
        let peer = PeerKey(key);
        self.event(Event::Gone { peer, why })
    }

    pub fn piece(&self, index: u32) -> PieceIndex {
        self.geometry.piece(index).unwrap()
    }

    pub fn block(&self, index: u32, number: usize) -> Block {
        self.geometry.block(self.piece(index), number).unwrap()
    }
}

/// A caller from a host of its own.
pub fn greeting(key: u64) -> Greeting {
    Greeting {
        address: ([10, 0, (key >> 8) as u8, key as u8], 40_000).into(),
        way: Way::Accepted,
        id: PeerId([key as u8; 20]),
        fast: true,
        extended: false,
    }
}

pub fn say(key: u64, message: Message) -> Action {
    Action::Say {
        peer: PeerKey(key),
        message,
    }
}

pub fn wire(piece: u32, begin: u32, length: u32) -> WireBlock {
    WireBlock {
        piece,
        begin,
        length,
    }
}

/// The blocks asked of `key`, in order.
pub fn requests(actions: &[Action], key: u64) -> Vec<Block> {
    let requests = actions.iter().filter_map(|action| match action {
        Action::Request { peer, block } if *peer == PeerKey(key) => Some(*block),
        _ => None,
    });
    requests.collect()
}

/// Why `key` was hung up, if it was.
pub fn farewell(actions: &[Action], key: u64) -> Option<Farewell> {
    actions.iter().find_map(|action| match action {
        Action::HangUp { peer, why } if *peer == PeerKey(key) => Some(why.clone()),
        _ => None,
    })
}

/// Whether `key` was hung up for saying what makes no sense.
pub fn senseless(actions: &[Action], key: u64) -> bool {
    matches!(farewell(actions, key), Some(Farewell::Senseless(_)))
}
