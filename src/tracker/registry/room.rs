//! Who makes room when everything is full. Sizes and shares are told by lot: to keep them sorted would
//! cost every announce something, and this costs those who come when there is no room.

use super::Registry;
use super::torrent::Address;
use std::cmp::Reverse;

/// How many torrents are drawn to find a large one that can spare a peer. Each costs a cache miss or
/// three; the largest known is kept, so the draws of many evictions add up.
const DRAWN: usize = 8;

/// How many torrents are drawn to find somebody who has made too many. Who has a quarter of them is
/// met twice in 94 % of all cases, who has a hundredth in 1 %.
const TORRENTS_DRAWN: usize = 16;

impl Registry {
    /// Takes a peer from a torrent that weighs much now, so that another can be let in at `own`.
    pub(super) fn make_room(&mut self, own: usize) {
        let count = self.torrents.len();
        let drawn: [usize; DRAWN] = std::array::from_fn(|_| self.dice.usize(..count));
        let (mut largest, mut heaviest) = ((0, own), (0, own));
        for at in drawn.into_iter().chain([self.largest, own]) {
            let Some(torrent) = self.torrents.get(at) else {
                continue;
            };
            largest = largest.max((torrent.len(), at));
            heaviest = heaviest.max((torrent.weight(&self.rules, &mut self.dice), at));
        }
        self.largest = largest.1;
        let (weight, mut from) = heaviest;
        if weight == 0 {
            let inhabited = self.torrents.iter().position(|torrent| torrent.len() > 0);
            from = inhabited.unwrap_or(from);
        }
        let (tick, mut dice) = (self.tick(), self.dice.fork());
        self.change(from, |torrent, rules| match &mut torrent.v6 {
            Some(v6) if v6.len() > torrent.v4.len() => v6.give_up_one(rules, &mut dice, tick),
            _ => torrent.v4.give_up_one(rules, &mut dice, tick),
        });
    }

    /// Lets a torrent go, so that another can be let in for `asker`: one of a host that is met in several of
    /// those that are drawn, when one peer in each is asked who it is. In a swarm of many hosts one of them
    /// is seldom met, so it is small swarms that go. Says whether there was one. Refuses if no host was drawn
    /// more than twice as often as the asker's own; otherwise two equals would keep evicting each other.
    pub(super) fn give_up_a_torrent(&mut self, asker: Address) -> bool {
        let count = self.torrents.len();
        let draw = || self.dice.usize(..count.max(1));
        let mut drawn: Vec<usize> = std::iter::repeat_with(draw).take(TORRENTS_DRAWN).collect();
        drawn.sort_unstable();
        drawn.dedup();
        let host = |&at: &usize| self.torrents.get(at)?.a_host(&self.rules, &mut self.dice);
        let hosts: Vec<Option<&[u8]>> = drawn.iter().map(host).collect();
        // Who is counted nowhere is never met.
        let met = |host: Option<&[u8]>| {
            let same = |it: &&Option<&[u8]>| host.is_some() && **it == host;
            hosts.iter().filter(same).count()
        };
        let own = met(self.rules.host(asker.bytes()));
        let chosen = drawn
            .iter()
            .zip(&hosts)
            .filter(|(_, host)| met(**host) > (2 * own).max(1))
            .max_by_key(|(at, host)| (met(**host), Reverse(self.torrents[**at].len())))
            .map(|(at, _)| *at);
        if let Some(at) = chosen {
            self.remove(at);
        }
        chosen.is_some()
    }
}
