//! A brain among peers that answer at once: what the benchmarks of the brain have in common.
//!
//! ```text
//! let mut crowd = Crowd::gather(Plan { pieces: 1_000, peers: 50, ..Plan::default() });
//! let blocks = crowd.run(8_000);      // received, checked and asked for anew, until nothing is left
//! ```
//!
//! There is no line here, no disk and no thread: what it costs is the brain's own time, and some tens
//! of nanoseconds a block for keeping the requests in a queue.

use ropewalk::protocol::bitfield::Bitfield;
use ropewalk::protocol::peer::{Message, PeerId};
use ropewalk::protocol::{Block, Geometry, InfoHash, PieceIndex};
use ropewalk::swarm::event::{Action, Event, Greeting, Moment, PeerKey, Verdict, Way};
use ropewalk::swarm::{Limits, Swarm, SwarmSetup};
use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

/// Who is there, and what is missing.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Pieces of the torrent.
    pub pieces: u32,
    /// Blocks of 16 KiB in each of them.
    pub blocks: u32,
    /// Connected peers.
    pub peers: u64,
    /// Each peer has one piece in so many, at random; 1: all.
    pub share: u32,
    /// So many pieces, at random, are missing; the others are had.
    pub missing: u32,
    /// The time between two blocks, from whomever.
    pub step: Duration,
}

impl Default for Plan {
    fn default() -> Plan {
        Plan {
            pieces: 1_000,
            blocks: 64,
            peers: 50,
            share: 2,
            missing: u32::MAX,
            // 800 MiB a second.
            step: Duration::from_micros(20),
        }
    }
}

#[derive(Debug, PartialEq, Eq, Hash, Clone, Copy)]
enum Due {
    Slot(PeerKey, Block),
    Spare(PeerKey, Block),
}

/// One brain and its peers.
pub struct Crowd {
    /// The brain.
    pub swarm: Swarm,
    /// The torrent's cut.
    pub geometry: Geometry,
    /// What time the brain thinks it is.
    pub now: Moment,
    /// Messages the brain wanted said: haves, most of them.
    pub said: u64,
    /// How long the brain took over all arrivals and bitfields.
    pub gathering: Duration,
    peers: u64,
    step: Duration,
    actions: Vec<Action>,
    due: VecDeque<Due>,
    taken_back: HashSet<Due>,
}

impl Crowd {
    /// Everybody is connected and has said what it has; all but the first choke us still.
    pub fn gather(plan: Plan) -> Crowd {
        let length = plan.blocks * 16 * 1024;
        let size = u64::from(plan.pieces) * u64::from(length);
        let geometry = Geometry::new(size, length).expect("the plan is a torrent");
        let mut dice = fastrand::Rng::with_seed(3);
        let mut have = Bitfield::new(&geometry);
        let mut all: Vec<PieceIndex> = geometry.all_pieces().collect();
        dice.shuffle(&mut all);
        for piece in all.iter().skip(plan.missing as usize) {
            have.set(*piece);
        }
        let setup = SwarmSetup {
            geometry,
            info_hash: InfoHash([7; 20]),
            have,
            wanted: Bitfield::full(&geometry),
            sequential: false,
            laid: Vec::new(),
            private: false,
            id: PeerId([1; 20]),
            downloads: true,
            listen_port: None,
            limits: Limits {
                peers: 2_000,
                ..Limits::default()
            },
            seed: 1,
        };
        let mut crowd = Crowd {
            swarm: Swarm::new(setup, Moment::ZERO),
            geometry,
            now: Moment::ZERO,
            said: 0,
            gathering: Duration::ZERO,
            peers: plan.peers,
            step: plan.step,
            actions: Vec::new(),
            due: VecDeque::new(),
            taken_back: HashSet::new(),
        };
        for key in 0..plan.peers {
            crowd.join(PeerKey(key), plan.share, &mut dice);
        }
        crowd.say(PeerKey(0), Message::Unchoke);
        crowd
    }

    fn join(&mut self, peer: PeerKey, share: u32, dice: &mut fastrand::Rng) {
        let greeting = Greeting {
            address: ([10, 0, (peer.0 >> 8) as u8, peer.0 as u8], 40_000).into(),
            way: Way::Accepted,
            id: PeerId([2; 20]),
            fast: true,
            extended: false,
        };
        let mut field = Bitfield::new(&self.geometry);
        for piece in self.geometry.all_pieces() {
            if dice.u32(0..share) == 0 {
                field.set(piece);
            }
        }
        let message = Message::Bitfield(field.as_bytes().into());
        let began = Instant::now();
        self.tell(Event::Connected { peer, greeting });
        self.say(peer, message);
        self.gathering += began.elapsed();
    }

    /// All peers let us ask.
    pub fn unchoke(&mut self) {
        for key in 1..self.peers {
            self.say(PeerKey(key), Message::Unchoke);
        }
    }

    /// A peer says something to the brain.
    pub fn say(&mut self, peer: PeerKey, message: Message) {
        self.tell(Event::Said { peer, message });
    }

    fn tell(&mut self, event: Event) {
        self.swarm.handle(event, self.now, &mut self.actions);
        let mut at = 0;
        // Good verdicts bring further actions, at the list's end.
        while at < self.actions.len() {
            match self.actions[at] {
                Action::Request { peer, block } => self.due.push_back(Due::Slot(peer, block)),
                Action::RequestSpare { peer, block } => {
                    self.due.push_back(Due::Spare(peer, block));
                }
                Action::Settle { peer, block } => self.due.push_front(Due::Slot(peer, block)),
                Action::Revoke { peer, block } => {
                    self.taken_back.insert(Due::Slot(peer, block));
                }
                Action::Discard { peer, block } => {
                    self.taken_back.insert(Due::Spare(peer, block));
                }
                Action::Check { piece, .. } => {
                    let checked = Event::Checked {
                        piece,
                        verdict: Verdict::Good,
                        blocks: Vec::new(),
                    };
                    self.swarm.handle(checked, self.now, &mut self.actions);
                }
                Action::Say { .. } => self.said += 1,
                _ => {}
            }
            at += 1;
        }
        self.actions.clear();
    }

    /// Delivers up to so many blocks, in the order they were asked for; says how many it were.
    pub fn run(&mut self, most: u32) -> u32 {
        let mut blocks = 0;
        while blocks < most {
            let Some(due) = self.due.pop_front() else {
                break;
            };
            self.now += self.step;
            let dropped = !self.taken_back.is_empty() && self.taken_back.remove(&due);
            match due {
                Due::Slot(peer, block) if dropped => self.tell(Event::Returned { peer, block }),
                Due::Slot(peer, block) => {
                    blocks += 1;
                    self.tell(Event::Received { peer, block });
                }
                Due::Spare(peer, block) if !dropped => self.tell(Event::Held { peer, block }),
                Due::Spare(..) => {}
            }
        }
        blocks
    }
}
