//! Who comes and who goes: addresses to call, newcomers to greet, connections to close.

use super::Swarm;
use super::event::{Action, Farewell, Greeting, Moment, Origin, PeerKey, Way};
use super::host::host_of;
use super::peer::Peer;
use crate::protocol::peer::Message;
use crate::protocol::peer::extension::ExtensionHandshake;
use crate::protocol::peer::fast::allowed_fast_set;
use std::cmp::Reverse;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Pieces a newcomer may have before it is unchoked: what BEP 6 suggests.
pub(super) const ALLOWED_FAST: usize = 10;
/// Trackers are asked for more addresses at most this often; they have their own opinion, too.
const ANNOUNCE_PAUSE: Duration = Duration::from_secs(60);
/// How often a full table is looked through for a peer that can make room.
const REPLACE_PAUSE: Duration = Duration::from_secs(30);
/// A peer that never gave or took a block, and neither wants nor has any, may have to make room after so long,
const USELESS: Duration = Duration::from_secs(20);
/// and one that was of use or could be, after so long without a block.
const FRUITLESS: Duration = Duration::from_secs(120);
/// Connections that we may always make to one host; more, and any that it makes, are half of the places at most.
/// Several users may share an address, and no single host may fill the table by calling.
const SAME_HOST_DIALLED: usize = 4;

/// How often somebody is called once only the places kept for callers are left.
const CALL_PAUSE: Duration = Duration::from_secs(2);

impl Swarm {
    pub(super) fn found(&mut self, addresses: &[SocketAddr], origin: Origin, now: Moment) {
        for address in addresses {
            self.addresses.found(*address, origin, now);
        }
    }

    pub(super) fn unreached(&mut self, address: SocketAddr, why: &Farewell, now: Moment) {
        if *why == Farewell::Ourselves {
            self.addresses.is_us(address);
        }
        self.addresses.failed(address, why, now);
        self.keep_joined(address, now);
    }

    /// Calls whom there is room for.
    pub(super) fn dial(&mut self, now: Moment, actions: &mut Vec<Action>) {
        if self.room() == 0 {
            let waiting = self.addresses.wake_at().is_some_and(|at| at <= now);
            if waiting && now >= self.pace.replaced + REPLACE_PAUSE {
                self.pace.replaced = now;
                self.make_room(None, now, actions);
            }
            return;
        }
        for address in self.addresses.due(now, self.calls(now), &mut self.rng) {
            self.pace.dialled = now;
            actions.push(Action::Dial { address });
        }
        self.pace.announced.get_or_insert(now);
        if self.announce_at().is_some_and(|at| at <= now) {
            self.pace.announced = Some(now);
            actions.push(Action::Announce);
        }
    }

    /// When trackers may be asked for more addresses; `None` while there are enough, or none wanted.
    fn announce_at(&self) -> Option<Moment> {
        let short = self.peers.len() < self.facts.limits.peers.div_ceil(4);
        let missing = !self.picker.wants().is_empty();
        let wanted = missing && short && !self.addresses.any_hope();
        self.pace
            .announced
            .filter(|_| wanted)
            .map(|last| last + ANNOUNCE_PAUSE)
    }

    /// When somebody can be called, or trackers can be asked for somebody.
    pub(super) fn dial_at(&self) -> Option<Moment> {
        let Some(at) = self.addresses.wake_at() else {
            return self.announce_at();
        };
        if self.room() > self.kept_open() {
            return Some(at);
        }
        if self.room() > 0 {
            return Some(at.max(self.pace.dialled + CALL_PAUSE));
        }
        Some(at.max(self.pace.replaced + REPLACE_PAUSE))
    }

    /// How many may be called now: the places kept open are taken slowly, for as long as nobody comes.
    fn calls(&self, now: Moment) -> usize {
        let free = self.room().saturating_sub(self.kept_open());
        let waited = now >= self.pace.dialled + CALL_PAUSE;
        free.max(usize::from(waited))
    }

    /// Places for those who will call us. If early peers filled every place by dialling each other, later
    /// ones could reach only other latecomers, perhaps no seed at all. So 3/5 of the places are kept for
    /// incoming calls.
    fn kept_open(&self) -> usize {
        self.facts.limits.peers * 3 / 5
    }

    fn room(&self) -> usize {
        let taken = self.peers.len() + self.addresses.dialling();
        self.facts.limits.peers.saturating_sub(taken)
    }

    /// Whether the table is full and somebody would make room for a caller.
    pub fn would_replace(&self, now: Moment) -> bool {
        let here = self
            .peers
            .values()
            .filter(|peer| !peer.is_leaving())
            .count();
        here >= self.facts.limits.peers
            && now >= self.pace.replaced + CALL_PAUSE
            && self.least_useful(None, now).is_some()
    }

    /// The connection that has been of no use the longest, and for long enough; those of a host that has
    /// several go first. `host`: only its own.
    fn least_useful(&self, host: Option<IpAddr>, now: Moment) -> Option<PeerKey> {
        let useless = self.peers.iter().filter(|(_, peer)| {
            is_of_no_use(peer, now) && host.is_none_or(|host| host_at(peer) == host)
        });
        let least = useless.min_by_key(|(key, peer)| {
            let company = self.company(host_at(peer));
            (Reverse(company), peer.trade.useful(), **key)
        });
        least.map(|(key, _)| *key)
    }

    /// How many connections a host has. On the loopback each is a host of its own.
    fn company(&self, host: IpAddr) -> usize {
        let here = self.peers.values().filter(|peer| !peer.is_leaving());
        match host.is_loopback() {
            true => 1,
            false => here.filter(|peer| host_at(peer) == host).count(),
        }
    }

    /// Hangs up the least useful connection, of `host` or of all; says whether there was one.
    fn make_room(&mut self, host: Option<IpAddr>, now: Moment, actions: &mut Vec<Action>) -> bool {
        let useless = self.least_useful(host, now);
        if let Some(key) = useless {
            self.pace.replaced = now;
            self.hang_up(key, Farewell::Replaced, actions);
        }
        useless.is_some()
    }

    /// Handshakes were exchanged.
    pub(super) fn connected(
        &mut self,
        key: PeerKey,
        greeting: Greeting,
        now: Moment,
        actions: &mut Vec<Action>,
    ) {
        let address = greeting.address;
        let dialled = greeting.way == Way::Dialled;
        let twin = self.twin(&greeting);
        let refusal = self.refusal(&greeting, twin, now, actions);
        let mut peer = Peer::new(greeting, now);
        // Two connections to one peer know the same address, whichever stays.
        if let Some(twin) = twin.and_then(|twin| self.peers.get_mut(&twin)) {
            if dialled {
                twin.listens.get_or_insert(address);
            }
            peer.listens = twin.listens;
        }
        if dialled {
            peer.listens = Some(address);
            self.addresses.joined(address, now);
            if refusal == Some(Farewell::Ourselves) {
                self.addresses.is_us(address);
            }
        }
        self.suspects.knows(key, address);
        // Whoever is told all we have now needs no older news.
        self.tell_news(actions);
        self.peers.insert(key, peer);
        match refusal {
            Some(why) => self.hang_up(key, why, actions),
            None => self.greet(key, now, actions),
        }
    }

    /// The connection we have already to the peer that says this.
    fn twin(&self, greeting: &Greeting) -> Option<PeerKey> {
        let ip = greeting.address.ip().to_canonical();
        // An id is only a claim: from elsewhere, it says nothing about a peer that is here already.
        let mut twins = self.peers.iter().filter(|(_, peer)| {
            !peer.is_leaving()
                && peer.greeting.id == greeting.id
                && peer.greeting.address.ip().to_canonical() == ip
        });
        twins.next().map(|(key, _)| *key)
    }

    /// Why a newcomer cannot stay. Makes room for it where that is possible.
    fn refusal(
        &mut self,
        greeting: &Greeting,
        twin: Option<PeerKey>,
        now: Moment,
        actions: &mut Vec<Action>,
    ) -> Option<Farewell> {
        if greeting.id == self.facts.id {
            return Some(Farewell::Ourselves);
        }
        if self.addresses.is_banned(greeting.address) {
            return Some(Farewell::Lied);
        }
        if let Some((old, old_way)) =
            twin.and_then(|old| Some((old, self.peers.get(&old)?.greeting.way)))
        {
            // Both ends have to close the same one: the call made by the higher id stays.
            let stays = if self.facts.id > greeting.id {
                Way::Dialled
            } else {
                Way::Accepted
            };
            if old_way == greeting.way || old_way == stays {
                return Some(Farewell::Duplicate);
            }
            self.hang_up(old, Farewell::Duplicate, actions);
            return None;
        }
        let host = host_of(greeting.address.ip());
        let always = match greeting.way {
            Way::Dialled => SAME_HOST_DIALLED,
            Way::Accepted => 1,
        };
        let crowded = self.company(host) >= always.max(self.facts.limits.peers / 2);
        let here = self
            .peers
            .values()
            .filter(|peer| !peer.is_leaving())
            .count();
        let full = here >= self.facts.limits.peers;
        let replaces = now >= self.pace.replaced + CALL_PAUSE;
        let stays =
            !full && !crowded || replaces && self.make_room(crowded.then_some(host), now, actions);
        (!stays).then_some(Farewell::NoRoom)
    }

    /// Our first messages to a newcomer.
    fn greet(&mut self, key: PeerKey, now: Moment, actions: &mut Vec<Action>) {
        // Who has nothing and wants nothing is of no use to anybody: libtorrent hangs up on it.
        let hides = self.spread.as_mut().is_some_and(|it| it.arrive(key));
        let upload_only = !hides && (!self.facts.downloads || self.is_complete());
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let ip = peer.greeting.address.ip();
        let mut say = |message| actions.push(Action::Say { peer: key, message });
        if peer.greeting.extended {
            let ours = ExtensionHandshake::ours(self.facts.listen_port, upload_only, ip);
            say(ours.message());
        }
        if hides {
            if peer.greeting.fast {
                say(Message::HaveNone);
            }
            return self.show_to_all(now, actions);
        }
        if peer.greeting.fast && self.have.is_full() {
            say(Message::HaveAll);
        } else if peer.greeting.fast && self.have.is_empty() {
            say(Message::HaveNone);
        } else if !self.have.is_empty() {
            say(Message::Bitfield(self.have.as_bytes().into()));
        }
        if peer.greeting.fast && !self.have.is_empty() {
            let geometry = &self.facts.geometry;
            let ip = gift_address(peer.greeting.address);
            let set = allowed_fast_set(ip, self.facts.info_hash, geometry.pieces(), ALLOWED_FAST);
            let pieces = set.into_iter().filter_map(|index| geometry.piece(index));
            peer.gifts.to_it = pieces.filter(|piece| self.have.has(*piece)).collect();
            for piece in &peer.gifts.to_it {
                say(Message::AllowedFast { piece: piece.get() });
            }
        }
    }

    /// Closes a connection. Its slots are still awaited; nothing else is asked or heard of it.
    pub(super) fn hang_up(&mut self, key: PeerKey, why: Farewell, actions: &mut Vec<Action>) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        if peer.is_leaving() {
            return;
        }
        peer.hung_up = Some(why.clone());
        peer.pipeline.forget_spares();
        self.pace.pump_due |= peer.uploads.moved().is_some();
        peer.uploads.clear(|_| false);
        self.picker.release(key, &mut peer.current);
        self.hungry.remove(&key);
        self.endgame.spares.forget(key);
        self.pace.choker_due = true;
        actions.push(Action::HangUp { peer: key, why });
    }

    /// Hangs up a peer that says what makes no sense.
    pub(super) fn senseless(&mut self, key: PeerKey, what: &str, actions: &mut Vec<Action>) {
        self.hang_up(key, Farewell::Senseless(what.to_owned()), actions);
    }

    /// We have all we want and not all there is: no have-all will tell the peers (BEP 21).
    pub(super) fn tell_upload_only(&self, actions: &mut Vec<Action>) {
        let port = self.facts.listen_port;
        for (key, peer) in self.peers.iter().filter(|(_, peer)| !peer.is_leaving()) {
            if peer.greeting.extended && !peer.holds.is_full() {
                let ours = ExtensionHandshake::ours(port, true, peer.greeting.address.ip());
                let (peer, message) = (*key, ours.message());
                actions.push(Action::Say { peer, message });
            }
        }
    }

    /// Who wants nothing and who has everything have nothing to say to each other.
    pub(super) fn part_with_the_complete(&mut self, actions: &mut Vec<Action>) {
        if self.facts.downloads && !self.is_complete() {
            return;
        }
        let full = self.peers.iter().filter(|(_, peer)| peer.holds.is_full());
        for key in full.map(|(key, _)| *key).collect::<Vec<_>>() {
            self.hang_up(key, Farewell::BothComplete, actions);
        }
    }

    /// A connection is no more.
    pub(super) fn gone(
        &mut self,
        key: PeerKey,
        why: &Farewell,
        now: Moment,
        actions: &mut Vec<Action>,
    ) {
        let Some(mut peer) = self.peers.remove(&key) else {
            return;
        };
        self.hungry.remove(&key);
        self.choker.forget(key);
        self.turns.forget(key);
        self.pace.pump_due |= peer.uploads.moved().is_some();
        self.pace.choker_due = true;
        self.endgame.spares.forget(key);
        self.picker.release(key, &mut peer.current);
        // Its thread sent all slots home before. If not, the blocks are free all the same.
        for block in peer.pipeline.drain() {
            if self.picker.free(block, key) {
                self.settle_spare(block, now, actions);
            }
        }
        if self.facts.downloads {
            self.picker.available().leave(&peer.holds);
        }
        if let Some(spread) = &mut self.spread {
            spread.leave(key, &peer.holds);
            self.show_to_all(now, actions);
        }
        if let Some(address) = peer.listens {
            // It was quicker to hang up than we.
            let over = peer.holds.is_full() && (!self.facts.downloads || self.is_complete());
            let why = match peer.hung_up.as_ref() {
                _ if over => &Farewell::BothComplete,
                ours => ours.unwrap_or(why),
            };
            match peer.greeting.way {
                Way::Dialled => self.addresses.left(address, why, now),
                Way::Accepted => self.addresses.claimant_left(address, why, now),
            }
            self.keep_joined(address, now);
        }
        self.feed_the_hungry(now, actions);
    }

    /// An address whose peer is connected otherwise is not called, whatever became of one call.
    fn keep_joined(&mut self, address: SocketAddr, now: Moment) {
        let mut here = self.peers.values().filter(|peer| !peer.is_leaving());
        if here.any(|peer| peer.listens == Some(address)) {
            self.addresses.joined(address, now);
        }
    }
}

/// The host at the other end.
fn host_at(peer: &Peer) -> IpAddr {
    host_of(peer.greeting.address.ip())
}

/// Whether a peer may have to make room for another.
fn is_of_no_use(peer: &Peer, now: Moment) -> bool {
    let wants_us = peer.wants_us && !peer.is_mute(now);
    // Who waits in our line does so because of us.
    let waits = wants_us && (peer.choked || !peer.uploads.is_idle());
    // Who was of use will be again: a seed that hides its pieces lets peers wait that say they want nothing.
    let was_of_use = peer.trade.given() > 0 || peer.trade.taken() > 0;
    let patience = match peer.wanted || wants_us || was_of_use {
        true => FRUITLESS,
        false => USELESS,
    };
    !peer.is_leaving() && !waits && now >= peer.trade.useful() + patience
}

/// The address that a peer's allowed-fast set is made of. On the loopback each port is a host, as it is
/// for bans: with one set for all of them, all would fetch the same pages first, each from the seed.
fn gift_address(address: SocketAddr) -> IpAddr {
    if !address.ip().is_loopback() {
        return address.ip();
    }
    let [high, low] = address.port().to_be_bytes();
    Ipv4Addr::new(127, high, low, 0).into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::Limits;
    use super::super::event::Event;
    use super::super::scene::*;
    use super::*;
    use crate::protocol::peer::PeerId;

    fn dials(actions: &[Action]) -> usize {
        let dials = actions.iter();
        dials.filter(|it| matches!(it, Action::Dial { .. })).count()
    }

    #[test]
    fn who_is_hung_up_for_good_is_not_called_again_though_it_was_quicker_to_close() {
        let mut scene = Scene::having(&[]);
        let address: SocketAddr = ([10, 0, 0, 1], 5_000).into();
        let (addresses, origin) = (vec![address], Origin::Tracker);
        scene.event(Event::Found { addresses, origin });
        let greeting = Greeting {
            way: Way::Dialled,
            address,
            ..greeting(1)
        };
        scene.event(Event::Connected {
            peer: PeerKey(1),
            greeting,
        });
        let said = scene.say(1, Message::Have { piece: 10_000 });
        assert!(senseless(&said, 1));
        scene.lose(1, Farewell::Closed);
        assert!(
            !scene
                .wait(Duration::from_secs(600))
                .contains(&Action::Dial { address })
        );
    }

    #[test]
    fn we_begin_with_what_we_have() {
        let first = |mut scene: Scene| scene.connect(1).into_iter().next();
        assert_eq!(first(Scene::complete()), Some(say(1, Message::HaveAll)));
        assert_eq!(first(Scene::having(&[])), Some(say(1, Message::HaveNone)));
        let field = Message::Bitfield([0x40, 0x40].into());
        assert_eq!(first(Scene::having(&[1, 9])), Some(say(1, field.clone())));
        assert_eq!(Scene::having(&[1, 9]).connect_plain(1), [say(1, field)]);
        assert_eq!(Scene::having(&[]).connect_plain(1), []);
    }

    #[test]
    fn a_smaller_share_of_connections_is_kept_to() {
        let mut scene = Scene::having(&[]);
        scene.swarm.set_limits(Limits {
            peers: 2,
            ..Limits::default()
        });
        let addresses = (1..=5).map(|key| greeting(key).address).collect();
        let origin = Origin::Tracker;
        let mut actions = scene.event(Event::Found { addresses, origin });
        actions.extend(scene.wait(Duration::from_secs(60)));
        assert_eq!(dials(&actions), 2);
    }

    #[test]
    fn who_speaks_bep_10_is_told_our_port_first() {
        let mut scene = Scene::having(&[]);
        let greeting = Greeting {
            extended: true,
            ..greeting(1)
        };
        let peer = PeerKey(1);
        let actions = scene.event(Event::Connected { peer, greeting });
        let Action::Say {
            message: Message::Extended { id: 0, payload },
            ..
        } = &actions[0]
        else {
            panic!("{actions:?}");
        };
        let ours = ExtensionHandshake::decode(payload).unwrap();
        assert_eq!((ours.listen_port, ours.reqq), (Some(6881), Some(2000)));
    }

    #[test]
    fn our_own_voice_is_hung_up_and_its_address_never_called_again() {
        let mut scene = Scene::having(&[]);
        let address = greeting(1).address;
        let addresses = vec![address];
        let origin = Origin::User;
        assert_eq!(dials(&scene.event(Event::Found { addresses, origin })), 1);
        let greeting = Greeting {
            id: OUR_ID,
            way: Way::Dialled,
            ..greeting(1)
        };
        let peer = PeerKey(1);
        let actions = scene.event(Event::Connected { peer, greeting });
        assert_eq!(farewell(&actions, 1), Some(Farewell::Ourselves));
        scene.lose(1, Farewell::Ourselves);
        assert!(scene.swarm.hopeless());
        assert_eq!(dials(&scene.wait(Duration::from_secs(600))), 0);
    }

    #[test]
    fn who_has_everything_as_we_have_is_not_called_again_whoever_hung_up_first() {
        let mut scene = Scene::complete();
        let address = greeting(1).address;
        let (addresses, origin) = (vec![address], Origin::Tracker);
        assert_eq!(dials(&scene.event(Event::Found { addresses, origin })), 1);
        let greeting = Greeting {
            way: Way::Dialled,
            ..greeting(1)
        };
        let peer = PeerKey(1);
        scene.event(Event::Connected { peer, greeting });
        scene.say(1, Message::HaveAll);
        scene.lose(1, Farewell::Closed);
        assert_eq!(dials(&scene.wait(Duration::from_secs(600))), 0);
    }

    /// A caller from this host says that it listens where somebody else does, and is hung up for what it says next.
    fn defame(scene: &mut Scene, key: u64, listens: SocketAddr) {
        let greeting = Greeting {
            address: SocketAddr::new(listens.ip(), 50_000 + key as u16),
            extended: true,
            ..greeting(key)
        };
        let peer = PeerKey(key);
        scene.event(Event::Connected { peer, greeting });
        let claim = ExtensionHandshake::ours(Some(listens.port()), false, listens.ip());
        scene.say(key, claim.message());
        let actions = scene.say(key, Message::Have { piece: 99 });
        assert!(senseless(&actions, key));
        scene.lose(key, farewell(&actions, key).unwrap());
    }

    #[test]
    fn a_caller_that_says_it_listens_where_another_does_costs_the_other_no_more_than_some_minutes()
    {
        for origin in [Origin::User, Origin::Tracker] {
            for early in [true, false] {
                let mut scene = Scene::having(&[]);
                let address = SocketAddr::from(([10, 9, 9, 9], 6881));
                let told = |scene: &mut Scene| {
                    let addresses = vec![address];
                    dials(&scene.event(Event::Found { addresses, origin }))
                };
                if early {
                    defame(&mut scene, 1, address);
                    assert_eq!(told(&mut scene), 1);
                } else {
                    assert_eq!(told(&mut scene), 1);
                    let why = Farewell::Unreachable("not started yet".to_owned());
                    scene.event(Event::Unreached { address, why });
                    (1..20).for_each(|key| defame(&mut scene, key, address));
                    let actions = scene.wait(Duration::from_secs(301));
                    assert!(dials(&actions) > 0, "{origin:?}");
                }
            }
        }
    }

    #[test]
    fn who_was_called_and_makes_no_sense_is_not_called_again() {
        let mut scene = Scene::having(&[]);
        let address = greeting(1).address;
        let (addresses, origin) = (vec![address], Origin::User);
        scene.event(Event::Found { addresses, origin });
        let greeting = Greeting {
            way: Way::Dialled,
            ..greeting(1)
        };
        let peer = PeerKey(1);
        scene.event(Event::Connected { peer, greeting });
        scene.say(1, Message::Have { piece: 99 });
        scene.lose(1, Farewell::Senseless("it was".to_owned()));
        assert_eq!(dials(&scene.wait(Duration::from_secs(600))), 0);
    }

    #[test]
    fn of_two_connections_between_two_peers_both_sides_close_the_same() {
        // Ours is 0x80…: against a lower id our call stays, against a higher one theirs.
        for (their_id, stays) in [(1u8, Way::Dialled), (0xff, Way::Accepted)] {
            for order in [[Way::Dialled, Way::Accepted], [Way::Accepted, Way::Dialled]] {
                let mut scene = Scene::having(&[]);
                let mut closed = Vec::new();
                for (key, way) in [(1, order[0]), (2, order[1])] {
                    let greeting = Greeting {
                        id: PeerId([their_id; 20]),
                        way,
                        ..greeting(9)
                    };
                    let peer = PeerKey(key);
                    let actions = scene.event(Event::Connected { peer, greeting });
                    closed.extend((1..3).filter(|key| farewell(&actions, *key).is_some()));
                }
                let closed_way = order[closed[0] as usize - 1];
                assert_eq!(closed.len(), 1);
                assert_ne!(closed_way, stays);
            }
        }
    }

    #[test]
    fn the_address_of_a_peer_that_stays_is_not_called_again() {
        let mut scene = Scene::having(&[]);
        // A higher id than ours: its call stays, ours is closed.
        for (key, way) in [(1, Way::Dialled), (2, Way::Accepted)] {
            let greeting = Greeting {
                id: PeerId([0xff; 20]),
                way,
                ..greeting(9)
            };
            let peer = PeerKey(key);
            scene.event(Event::Connected { peer, greeting });
        }
        scene.lose(1, Farewell::Closed);
        assert_eq!(dials(&scene.wait(Duration::from_secs(3600))), 0);
        scene.lose(2, Farewell::Closed);
        assert!(dials(&scene.wait(Duration::from_secs(60))) > 0);
    }

    #[test]
    fn an_id_stolen_by_somebody_elsewhere_costs_its_owner_nothing() {
        let mut scene = Scene::having(&[]);
        scene.connect(0xff);
        let thief = Greeting {
            id: PeerId([0xff; 20]),
            ..greeting(1)
        };
        let peer = PeerKey(1);
        let actions = scene.event(Event::Connected {
            peer,
            greeting: thief,
        });
        assert_eq!(farewell(&actions, 0xff), None);
    }

    #[test]
    fn a_full_table_takes_nobody_unless_somebody_is_of_no_use() {
        let few = |setup: &mut super::super::SwarmSetup| setup.limits.peers = 2;
        let mut scene = Scene::of(10, &[], few);
        scene.connect_seed(1);
        scene.connect(2);
        assert_eq!(farewell(&scene.connect(3), 3), Some(Farewell::NoRoom));
        scene.lose(3, Farewell::NoRoom);
        scene.now += USELESS;
        let actions = scene.connect(4);
        assert_eq!(farewell(&actions, 2), Some(Farewell::Replaced));
        assert_eq!(farewell(&actions, 4), None);
    }

    #[test]
    fn who_gives_nothing_for_two_minutes_makes_room_and_who_waits_in_our_line_stays() {
        let few = |setup: &mut super::super::SwarmSetup| setup.limits.peers = 2;
        let mut scene = Scene::of(10, &[0], few);
        // One that chokes us for ever, and one that wants something of ours.
        scene.connect(1);
        scene.say(1, Message::HaveAll);
        scene.connect(2);
        scene.say(2, Message::Interested);
        scene.say(2, Message::Request(wire(0, 0, 16_384)));
        scene.now += FRUITLESS - Duration::from_secs(1);
        assert_eq!(farewell(&scene.connect(3), 3), Some(Farewell::NoRoom));
        scene.lose(3, Farewell::NoRoom);
        scene.now += Duration::from_secs(1);
        let actions = scene.connect(4);
        assert_eq!(farewell(&actions, 1), Some(Farewell::Replaced));
        scene.lose(1, Farewell::Replaced);
        scene.now += FRUITLESS;
        let actions = scene.connect(5);
        assert_eq!(farewell(&actions, 4), Some(Farewell::Replaced));
    }

    #[test]
    fn who_says_it_wants_something_and_lets_its_turn_pass_makes_room_like_the_silent() {
        let few = |setup: &mut super::super::SwarmSetup| setup.limits.peers = 3;
        let mut scene = Scene::of(10, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9], few);
        for key in 1..=3 {
            scene.connect(key);
            scene.say(key, Message::Interested);
        }
        // One asks for something that we have.
        scene.wait(Duration::from_secs(1));
        scene.say(2, Message::Request(wire(0, 0, 16_384)));
        scene.wait(USELESS - Duration::from_secs(2));
        assert_eq!(farewell(&scene.connect(4), 4), Some(Farewell::NoRoom));
        scene.lose(4, Farewell::NoRoom);
        scene.wait(Duration::from_secs(1));
        for (newcomer, silent) in [(5, 1), (6, 3)] {
            let actions = scene.connect(newcomer);
            assert_eq!(farewell(&actions, silent), Some(Farewell::Replaced));
            assert_eq!(farewell(&actions, newcomer), None);
            scene.lose(silent, Farewell::Replaced);
            scene.wait(CALL_PAUSE);
        }
        assert_eq!(farewell(&scene.connect(7), 7), Some(Farewell::NoRoom));
    }

    #[test]
    fn who_has_had_a_block_and_wants_nothing_now_outlasts_a_flood_of_callers() {
        let few = |setup: &mut super::super::SwarmSetup| setup.limits.peers = 2;
        let mut scene = Scene::of(10, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9], few);
        scene.connect(1);
        scene.connect(2);
        let (peer, block) = (PeerKey(2), scene.block(0, 0));
        scene.say(2, Message::Interested);
        scene.say(2, Message::Request(block.into()));
        scene.event(Event::Served { peer, block });
        scene.say(2, Message::NotInterested);
        let mut silent = 1;
        for key in 3..53 {
            scene.wait(CALL_PAUSE);
            let actions = scene.connect(key);
            assert_eq!(farewell(&actions, 2), None);
            let leaves = if farewell(&actions, key).is_some() {
                key
            } else {
                std::mem::replace(&mut silent, key)
            };
            scene.lose(leaves, Farewell::Replaced);
        }
        assert!(silent > 40, "{silent}");
    }

    #[test]
    fn the_silent_of_a_host_that_has_several_connections_go_first() {
        let few = |setup: &mut super::super::SwarmSetup| setup.limits.peers = 4;
        let mut scene = Scene::of(10, &[], few);
        scene.connect(1);
        for port in [2, 3] {
            let greeting = Greeting {
                address: ([10, 0, 9, 9], port).into(),
                ..greeting(u64::from(port))
            };
            let peer = PeerKey(u64::from(port));
            scene.event(Event::Connected { peer, greeting });
        }
        scene.connect(4);
        scene.now += USELESS;
        let left = [(5, 2), (6, 1)].map(|(newcomer, leaves)| {
            let actions = scene.connect(newcomer);
            scene.lose(leaves, Farewell::Replaced);
            scene.wait(CALL_PAUSE);
            farewell(&actions, leaves)
        });
        assert_eq!(left, [Some(Farewell::Replaced), Some(Farewell::Replaced)]);
    }

    #[test]
    fn a_host_that_has_its_share_of_connections_gets_another_for_a_silent_one_of_its_own() {
        let mut scene = Scene::complete();
        let from_one_host = |scene: &mut Scene, key: u64| {
            let greeting = Greeting {
                address: ([10, 0, 9, 9], key as u16).into(),
                ..greeting(key)
            };
            let peer = PeerKey(key);
            scene.event(Event::Connected { peer, greeting })
        };
        scene.connect(99);
        for key in 1..=25 {
            assert_eq!(farewell(&from_one_host(&mut scene, key), key), None);
        }
        let refused = farewell(&from_one_host(&mut scene, 26), 26);
        assert_eq!(refused, Some(Farewell::NoRoom));
        scene.lose(26, Farewell::NoRoom);
        scene.now += USELESS;
        let actions = from_one_host(&mut scene, 27);
        assert_eq!(farewell(&actions, 1), Some(Farewell::Replaced));
        assert_eq!(
            (farewell(&actions, 99), farewell(&actions, 27)),
            (None, None)
        );
    }

    #[test]
    fn one_hosts_calls_do_not_fill_a_small_table_and_our_calls_to_it_may() {
        let few = |setup: &mut super::super::SwarmSetup| setup.limits.peers = 4;
        let ipv4 = |key| ([10, 0, 9, 9], key).into();
        let ipv6 = |key| ([0x2001, 0xdb8, 0, 0, 0, 0, 0, key], 6881).into();
        let addresses: [&dyn Fn(u16) -> SocketAddr; 2] = [&ipv4, &ipv6];
        let ways = [(Way::Accepted, 2), (Way::Dialled, 4)];
        for (address, (way, stay)) in addresses
            .into_iter()
            .flat_map(|it| ways.map(|way| (it, way)))
        {
            let mut scene = Scene::of(10, &[], few);
            let mut stayed = 0;
            for key in 1..=6 {
                let greeting = Greeting {
                    address: address(key as u16),
                    way,
                    ..greeting(key)
                };
                let peer = PeerKey(key);
                let actions = scene.event(Event::Connected { peer, greeting });
                match farewell(&actions, key) {
                    Some(why) => drop(scene.lose(key, why)),
                    None => stayed += 1,
                }
            }
            assert_eq!(stayed, stay);
            let elsewhere = scene.connect(7);
            assert_eq!(farewell(&elsewhere, 7).is_none(), stay < 4);
        }
    }

    #[test]
    fn a_crowd_of_callers_turns_a_full_table_over_one_every_two_seconds() {
        let few = |setup: &mut super::super::SwarmSetup| setup.limits.peers = 10;
        let mut scene = Scene::of(10, &[], few);
        (1..=10).for_each(|key| drop(scene.connect(key)));
        let mut replaced = 0;
        for key in 11..211 {
            let actions = scene.connect(key);
            let mut left = (1..=key).filter(|old| farewell(&actions, *old).is_some());
            let left = left.next().unwrap();
            replaced += usize::from(left != key);
            scene.lose(left, Farewell::Replaced);
            scene.wait(Duration::from_millis(200));
        }
        // The first ten, one every two seconds from the twentieth on; then those who came after them.
        assert!((8..=11).contains(&replaced), "{replaced}");
    }

    #[test]
    fn of_five_places_three_are_for_callers_and_filled_slowly_where_nobody_calls() {
        let some = |setup: &mut super::super::SwarmSetup| setup.limits.peers = 5;
        let mut scene = Scene::of(10, &[], some);
        let addresses = (10..90).map(|key| greeting(key).address).collect();
        let origin = Origin::Tracker;
        assert_eq!(dials(&scene.event(Event::Found { addresses, origin })), 2);
        let waits = [
            CALL_PAUSE / 2,
            CALL_PAUSE,
            CALL_PAUSE,
            CALL_PAUSE,
            CALL_PAUSE,
        ];
        let dialled = waits.map(|wait| dials(&scene.wait(wait)));
        assert_eq!(dialled, [0, 1, 1, 1, 0]);
    }

    #[test]
    fn calls_and_connections_together_stay_within_the_limit() {
        let few = |setup: &mut super::super::SwarmSetup| setup.limits.peers = 5;
        let mut scene = Scene::of(10, &[], few);
        scene.connect_seed(1);
        let addresses = (10..30).map(|key| greeting(key).address).collect();
        let origin = Origin::Tracker;
        let mut actions = scene.event(Event::Found { addresses, origin });
        actions.extend(scene.wait(Duration::from_secs(60)));
        assert_eq!(dials(&actions), 4);
        let why = Farewell::Unreachable("refused".into());
        let address = greeting(99).address;
        assert_eq!(dials(&scene.event(Event::Unreached { address, why })), 0);
    }

    #[test]
    fn a_torrent_that_is_only_served_asks_for_nothing() {
        let serve = |setup: &mut super::super::SwarmSetup| setup.downloads = false;
        let mut scene = Scene::of(10, &[0, 1], serve);
        scene.connect(1);
        assert_eq!(scene.say(1, Message::Have { piece: 5 }), []);
        assert_eq!(scene.say(1, Message::Unchoke), []);
        assert_eq!(scene.say(1, Message::AllowedFast { piece: 5 }), []);
    }

    #[test]
    fn an_idle_swarm_sets_no_alarm() {
        let mut scene = Scene::complete();
        scene.wait(Duration::ZERO);
        for key in 1..20 {
            scene.connect(key);
            scene.say(key, Message::Have { piece: 1 });
            scene.say(key, Message::Unchoke);
            assert_eq!(scene.swarm.wake_at(), None);
        }
        scene.say(1, Message::Interested);
        assert_eq!(scene.swarm.wake_at(), None);
    }

    #[test]
    fn trackers_are_asked_again_when_nobody_is_left_and_not_too_often() {
        let mut scene = Scene::having(&[]);
        let asked = |scene: &mut Scene, seconds| {
            let actions = scene.wait(Duration::from_secs(seconds));
            let asks = actions.iter().filter(|it| **it == Action::Announce);
            asks.count()
        };
        // The first announce is not the brain's affair.
        assert_eq!(asked(&mut scene, 59), 0);
        assert_eq!(asked(&mut scene, 1), 1);
        assert_eq!(asked(&mut scene, 600), 10);
        scene.event(Event::Found {
            addresses: vec![greeting(9).address],
            origin: Origin::User,
        });
        assert_eq!(asked(&mut scene, 600), 0);
    }

    #[test]
    fn a_lost_peers_blocks_are_asked_of_another() {
        let mut scene = Scene::of(2, &[], |_| {});
        let asked = scene.connect_seed(1);
        assert_eq!(requests(&asked, 1).len(), 4);
        assert_eq!(requests(&scene.connect_seed(2), 2), []);
        let mut again = Vec::new();
        for block in requests(&asked, 1) {
            again.extend(requests(&scene.give_back(1, block), 2));
        }
        again.extend(requests(&scene.lose(1, Farewell::Closed), 2));
        again.sort_unstable();
        let mut asked = requests(&asked, 1);
        asked.sort_unstable();
        assert_eq!(again, asked);
    }

    #[test]
    fn on_the_loopback_each_port_has_allowed_fast_pieces_of_its_own() {
        let fast = |ip: [u8; 4], port: u16| {
            let mut scene = Scene::of(100, &(0..100).collect::<Vec<_>>(), |_| {});
            let greeting = Greeting {
                address: (ip, port).into(),
                ..greeting(1)
            };
            let peer = PeerKey(1);
            let actions = scene.event(Event::Connected { peer, greeting });
            let pieces = actions.into_iter().filter_map(|action| match action {
                Action::Say {
                    message: Message::AllowedFast { piece },
                    ..
                } => Some(piece),
                _ => None,
            });
            pieces.collect::<Vec<_>>()
        };
        assert_eq!(fast([127, 0, 0, 1], 40_000).len(), ALLOWED_FAST);
        assert!(fast([127, 0, 0, 1], 40_000) != fast([127, 0, 0, 1], 40_001));
        assert_eq!(fast([10, 0, 0, 1], 40_000), fast([10, 0, 0, 1], 40_001));
    }
}
