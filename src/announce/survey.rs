//! Asks every tracker of a torrent who is there, without taking part.
//!
//! ```no_run
//! # use ropewalk::announce::survey::{Inquiry, survey};
//! # fn f(inquiry: Inquiry, trackers: &[Vec<String>]) -> std::io::Result<()> {
//! for finding in survey(trackers, inquiry)? {
//!     println!("{:?} and {} addresses", finding.counts, finding.peers.len());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Counts come from a scrape (BEP 48, 15), which leaves no trace. Addresses are given only to those who
//! announce themselves, so that is done, and taken back by `stopped` as soon as the answer is here: we are
//! listed for the blink of an eye, under a port on which nobody answers, and not under that of a client of
//! ours on this machine, which would be signed off with us. One tracker often has several addresses, HTTP and
//! UDP: those with the same host are asked one after the other, counts first, or one would count us for what we
//! told the other. Where counts come from announces alone, we may be among the leechers all the same.

use super::http::{AnnounceError, Limits, STOP_LIMIT};
use super::{Asker, is_udp};
use crate::protocol::InfoHash;
use crate::protocol::peer::PeerId;
use crate::protocol::tracker::http::{Answer, Occasion, Request};
use crate::protocol::tracker::scrape::Counts;
use crossbeam_channel::{Receiver, Sender, unbounded};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::thread::Builder;
use std::time::{Duration, Instant};

/// The port under which we are listed for a moment: discard (RFC 863).
const NOBODYS_PORT: u16 = 9;

/// Addresses asked for: what most trackers give at most.
const NUM_WANT: u32 = 200;

/// Trackers asked at a time.
const AT_ONCE: usize = 64;

/// What to ask the trackers.
#[derive(Debug, Clone, Copy)]
pub struct Inquiry {
    /// The torrent.
    pub info_hash: InfoHash,
    /// Who we say we are.
    pub peer_id: PeerId,
    /// How much we say we lack, in bytes, not 0: trackers do not name seeds to seeds.
    pub left: u64,
    /// For each question.
    pub limits: Limits,
}

/// What one tracker said.
#[derive(Debug)]
pub struct Finding {
    /// The tier in which the torrent names it, from 0.
    pub tier: usize,
    /// Its address. It may hold a passkey: show it through [`super::http::shown`].
    pub url: String,
    /// How many share the torrent; `None` where it does not say or does not know the torrent.
    pub counts: Option<Counts>,
    /// Whether the counts come from a scrape, and so without us.
    pub scraped: bool,
    /// Addresses of peers, each once.
    pub peers: Vec<SocketAddr>,
    /// Seconds between announces, as given.
    pub interval: Option<i64>,
    /// Its remark, a stranger's text.
    pub warning: Option<String>,
    /// Our address as it sees it.
    pub external_ip: Option<IpAddr>,
    /// How long it took to say all this.
    pub time: Duration,
    /// Why there are no addresses.
    pub error: Option<AnnounceError>,
}

impl Finding {
    /// Whether it said anything at all.
    pub fn answered(&self) -> bool {
        self.error.is_none() || self.counts.is_some()
    }
}

/// Starts to ask `trackers`, many at a time. Findings come as they are made, one for each tracker; of one
/// that is named twice, the first place counts.
pub fn survey(trackers: &[Vec<String>], inquiry: Inquiry) -> io::Result<Receiver<Finding>> {
    // Bound: the torrent's trackers.
    let (tasks, inbox) = unbounded();
    let mut seen = BTreeSet::new();
    let mut hosts: BTreeMap<&str, Vec<(usize, String)>> = BTreeMap::new();
    for (tier, urls) in trackers.iter().enumerate() {
        for url in urls.iter().filter(|url| seen.insert(*url)) {
            hosts
                .entry(host(url))
                .or_default()
                .push((tier, url.clone()));
        }
    }
    for of_host in hosts.into_values() {
        // Its other end is `inbox`.
        let _ = tasks.send(of_host);
    }
    // Bound: a finding a tracker.
    let (tell, findings) = unbounded();
    for number in 0..tasks.len().min(AT_ONCE) {
        let (inbox, tell) = (inbox.clone(), tell.clone());
        let begun = Builder::new()
            .name("survey".to_owned())
            .spawn(move || work(&inbox, &tell, inquiry));
        match begun {
            Err(error) if number == 0 => return Err(error),
            // The others do its work.
            Err(_) => break,
            Ok(_) => {}
        }
    }
    Ok(findings)
}

/// The host of an address, whatever the port.
fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |it| it.1);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let named = authority.rsplit('@').next().unwrap_or_default();
    match named.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => host,
        _ => named,
    }
}

fn work(tasks: &Receiver<Vec<(usize, String)>>, tell: &Sender<Finding>, inquiry: Inquiry) {
    for of_host in tasks.try_iter() {
        let mut asker = Asker::default();
        let begun = of_host
            .into_iter()
            .map(|(tier, url)| inquiry.scrape(&mut asker, tier, url));
        let begun: Vec<_> = begun.collect();
        for mut finding in begun {
            if finding.error.is_none() {
                inquiry.announce(&mut asker, &mut finding);
            }
            let listed = finding.error.is_none().then(|| finding.url.clone());
            if tell.send(finding).is_err() {
                return;
            }
            if let Some(url) = listed {
                inquiry.sign_off(&mut asker, &url);
            }
        }
    }
}

impl Inquiry {
    /// The counts. An error only where an announce would fail as well: silence stays silence, but an HTTP
    /// tracker may know announces and no scrapes.
    fn scrape(&self, asker: &mut Asker, tier: usize, url: String) -> Finding {
        let begun = Instant::now();
        let scrape = asker.scrape(&url, self.info_hash, &self.limits);
        let (counts, error) = match scrape {
            Ok(counts) => (counts, None),
            Err(error) => {
                let fatal = is_udp(&url) || matches!(error, AnnounceError::TimedOut(_));
                (None, Some(error).filter(|_| fatal))
            }
        };
        Finding {
            tier,
            url,
            counts,
            scraped: counts.is_some(),
            peers: Vec::new(),
            interval: None,
            warning: None,
            external_ip: None,
            time: begun.elapsed(),
            error,
        }
    }

    fn announce(&self, asker: &mut Asker, finding: &mut Finding) {
        let begun = Instant::now();
        let request = self.request(Occasion::Started);
        match asker.announce(&finding.url, &request, &self.limits, &|| false) {
            Ok(answer) => finding.take(answer),
            Err(error) => finding.error = Some(error),
        }
        finding.time += begun.elapsed();
    }

    /// As if we had never been there.
    fn sign_off(&self, asker: &mut Asker, url: &str) {
        let total = self.limits.total.min(STOP_LIMIT);
        let limits = Limits {
            total,
            ..self.limits
        };
        let _ = asker.announce(url, &self.request(Occasion::Stopped), &limits, &|| false);
    }

    fn request(&self, event: Occasion) -> Request {
        Request {
            info_hash: self.info_hash,
            peer_id: self.peer_id,
            port: NOBODYS_PORT,
            uploaded: 0,
            downloaded: 0,
            left: self.left,
            event: Some(event),
            num_want: Some(if event == Occasion::Stopped {
                0
            } else {
                NUM_WANT
            }),
            key: None,
            compact: true,
            no_peer_id: true,
            tracker_id: None,
        }
    }
}

impl Finding {
    fn take(&mut self, answer: Answer) {
        if self.counts.is_none() && (answer.complete.is_some() || answer.incomplete.is_some()) {
            self.counts = Some(Counts {
                complete: answer.complete.unwrap_or(0),
                incomplete: answer.incomplete.unwrap_or(0),
                downloaded: answer.downloaded.unwrap_or(0),
            });
        }
        let mut seen = BTreeSet::new();
        self.peers = answer.peers;
        // It has just heard of us and may say so.
        self.peers
            .retain(|it| it.port() != NOBODYS_PORT && seen.insert(*it));
        self.interval = answer.interval;
        self.warning = answer.warning;
        self.external_ip = answer.external_ip;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_what_stands_between_slashes_and_port() {
        for (url, name) in [
            ("http://t.example:80/announce", "t.example"),
            ("udp://t.example:6969", "t.example"),
            ("https://u:p@t.example?x=1:2", "t.example"),
            ("udp://[2001:db8::1]:80/a", "[2001:db8::1]"),
            ("udp://[2001:db8::1]", "[2001:db8::1]"),
        ] {
            assert_eq!(host(url), name, "{url}");
        }
    }
}
