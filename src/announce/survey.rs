//! Asks every tracker of a torrent who is there, without taking part.
//!
//! ```no_run
//! # use ropewalk::announce::survey::{Inquiry, survey};
//! # fn f(inquiry: Inquiry, trackers: &[Vec<String>]) -> std::io::Result<()> {
//! for finding in survey(trackers, inquiry)? {
//!     println!("{:?} seeds and {} addresses", finding.seeds, finding.peers.len());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Counts come from a scrape (BEP 48, 15), which leaves no trace. Addresses are given only to those who
//! announce themselves, so that is done, and taken back by `stopped` as soon as the answer is here: we are
//! listed for the blink of an eye, under a port on which nobody answers, and not under that of a client of
//! ours on this machine, which would be signed off with us. One tracker often has several addresses, HTTP and
//! UDP, and sometimes several names: nothing is announced to any before the counts of all are here, or one would
//! count us for what we told the other. Where counts come from announces alone, we are taken off the leechers.
//!
//! All trackers are asked at once, and all of it has one end: for the counts of a silent one the others wait
//! three seconds, less than it takes to ask it. Many a tracker knows announces and no scrapes: it refuses them, or
//! says nothing. So half of the time is for the scrape, and then it is announced all the same.

use super::TrackerAsker;
use super::http::{AnnounceError, CallLimits, STOP_LIMIT};
use crate::protocol::InfoHash;
use crate::protocol::peer::PeerId;
use crate::protocol::tracker::http::{Answer, Occasion, Request};
use crate::protocol::tracker::scrape::COUNT_MAX;
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::thread::Builder;
use std::time::{Duration, Instant};

/// The port under which we are listed for a moment: discard (RFC 863).
const NOBODYS_PORT: u16 = 9;

/// Addresses asked for: what most trackers give at most.
const NUM_WANT: u32 = 200;

/// Trackers asked at a time, each by a thread: all that a torrent has, but for the strangest.
const AT_ONCE: usize = 128;

/// How long an announce waits for the counts of other trackers.
const COUNTS_WITHIN: Duration = Duration::from_secs(3);

/// What to ask the trackers.
#[derive(Debug, Clone, Copy)]
pub struct Inquiry {
    /// The torrent.
    pub info_hash: InfoHash,
    /// Who we say we are.
    pub peer_id: PeerId,
    /// How much we say we lack, in bytes, not 0: trackers do not name seeds to seeds.
    pub left: u64,
    /// For each question; `total` is the time for all of it, of which the last [`STOP_LIMIT`], or a quarter
    /// if that is less, is for signing off.
    pub limits: CallLimits,
}

/// What one tracker said.
#[derive(Debug)]
pub struct Finding {
    /// The tier in which the torrent names it, from 0.
    pub tier: usize,
    /// Its address. It may hold a passkey: show it through [`super::http::shown`].
    pub url: String,
    /// How many have all of the torrent; this and the next two are `None` where it does not say, or does not
    /// know the torrent.
    pub seeds: Option<u64>,
    /// How many still lack something, without us.
    pub leechers: Option<u64>,
    /// How often it was completed.
    pub downloads: Option<u64>,
    /// Whether the counts come from a scrape.
    pub scraped: bool,
    /// Addresses of peers, each once.
    pub peers: Vec<SocketAddr>,
    /// Seconds between announces, where the number makes sense.
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
    fn counts(&self) -> impl Iterator<Item = u64> {
        let counts = [self.seeds, self.leechers, self.downloads];
        counts.into_iter().flatten()
    }

    /// Whether it said anything at all.
    pub fn answered(&self) -> bool {
        self.error.is_none() || self.counts().any(|_| true)
    }
}

/// A tracker to ask.
struct ToAsk {
    tier: usize,
    url: String,
    /// Held until its counts are here.
    uncounted: Sender<Infallible>,
}

/// Starts to ask `trackers`, all at once. Findings come as they are made, one for each tracker; of one
/// that is named twice, the first place counts. After the inquiry's time the last one has come, whatever
/// the trackers do.
pub fn survey(trackers: &[Vec<String>], inquiry: Inquiry) -> io::Result<Receiver<Finding>> {
    let until = Instant::now() + inquiry.limits.total;
    // Bound: the torrent's trackers.
    let (tasks, inbox) = unbounded();
    // Bound: nothing is ever sent, it closes when all counts are here.
    let (uncounted, counted) = bounded(0);
    let mut seen = BTreeSet::new();
    for (tier, urls) in trackers.iter().enumerate() {
        for url in urls.iter().filter(|url| seen.insert(*url)) {
            let task = ToAsk {
                tier,
                url: url.clone(),
                uncounted: uncounted.clone(),
            };
            // Its other end is `inbox`.
            let _ = tasks.send(task);
        }
    }
    drop((tasks, uncounted));
    // Bound: a finding a tracker.
    let (tell, findings) = unbounded();
    for number in 0..inbox.len().min(AT_ONCE) {
        let (inbox, counted, tell) = (inbox.clone(), counted.clone(), tell.clone());
        let begun = Builder::new()
            .name("survey".to_owned())
            .spawn(move || work(&inbox, &counted, &tell, inquiry, until));
        match begun {
            Err(error) if number == 0 => return Err(error),
            // The others do its work.
            Err(_) => break,
            Ok(_) => {}
        }
    }
    Ok(findings)
}

fn work(
    tasks: &Receiver<ToAsk>,
    counted: &Receiver<Infallible>,
    tell: &Sender<Finding>,
    inquiry: Inquiry,
    until: Instant,
) {
    let total = inquiry.limits.total;
    let said_by = until - STOP_LIMIT.min(total / 4);
    for task in tasks.try_iter() {
        let mut talk = Talk {
            asker: TrackerAsker::default(),
            inquiry,
            said_by,
        };
        let mut finding = talk.scrape(task.tier, task.url);
        drop(task.uncounted);
        let soon = Instant::now() + COUNTS_WITHIN.min(total / 4);
        let _ = counted.recv_deadline(soon.min(said_by));
        talk.announce(&mut finding);
        if let Some(AnnounceError::TimedOut(_)) = finding.error {
            // Of its parts nobody wants to know.
            let seconds = finding.time.as_secs_f64().round().max(1.0);
            finding.error = Some(AnnounceError::TimedOut(Duration::from_secs_f64(seconds)));
        }
        let listed = finding.error.is_none().then(|| finding.url.clone());
        if tell.send(finding).is_err() {
            return;
        }
        if let Some(url) = listed {
            talk.said_by = until;
            talk.sign_off(&url);
        }
    }
}

/// What is said to one tracker.
struct Talk {
    asker: TrackerAsker,
    inquiry: Inquiry,
    said_by: Instant,
}

impl Talk {
    /// For the next question.
    fn limits(&self) -> CallLimits {
        CallLimits {
            total: self.said_by.saturating_duration_since(Instant::now()),
            ..self.inquiry.limits
        }
    }

    /// The counts, as far as a scrape tells them. Why it does not, nobody wants to know.
    fn scrape(&mut self, tier: usize, url: String) -> Finding {
        let begun = Instant::now();
        let limits = self.limits();
        let limits = CallLimits {
            total: limits.total / 2,
            ..limits
        };
        let scrape = self.asker.scrape(&url, self.inquiry.info_hash, &limits);
        let counts = scrape.ok().flatten();
        Finding {
            tier,
            url,
            seeds: counts.map(|it| it.complete),
            leechers: counts.map(|it| it.incomplete),
            downloads: counts.and_then(|it| it.downloaded),
            scraped: counts.is_some(),
            peers: Vec::new(),
            interval: None,
            warning: None,
            external_ip: None,
            time: begun.elapsed(),
            error: None,
        }
    }

    fn announce(&mut self, finding: &mut Finding) {
        let begun = Instant::now();
        let (limits, request) = (self.limits(), self.inquiry.request(Occasion::Started));
        let asker = &mut self.asker;
        match asker.announce(&finding.url, &request, &limits, &|| false) {
            Ok(answer) => finding.take(answer),
            Err(error) => finding.error = Some(error),
        }
        finding.time += begun.elapsed();
    }

    /// As if we had never been there.
    fn sign_off(&mut self, url: &str) {
        let (limits, request) = (self.limits(), self.inquiry.request(Occasion::Stopped));
        let _ = self.asker.announce(url, &request, &limits, &|| false);
    }
}

impl Inquiry {
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
        // It has just heard of us.
        let leechers = answer.incomplete.map(|it| it.saturating_sub(1));
        let counts = [answer.complete, leechers, answer.downloaded];
        let possible = counts.iter().flatten().all(|it| *it <= COUNT_MAX);
        // By zeros UDP trackers say that they do not know the torrent, and some that they do not tell.
        let told = self.counts().any(|it| it > 0);
        let tells = counts.iter().flatten().any(|it| *it > 0);
        if possible && !told && (tells || !self.scraped) {
            self.scraped = false;
            [self.seeds, self.leechers, self.downloads] = counts;
        }
        let mut seen = BTreeSet::new();
        self.peers = answer.peers;
        self.peers
            .retain(|it| it.port() != NOBODYS_PORT && seen.insert(*it));
        let possible = 1..=COUNT_MAX as i64;
        self.interval = answer.interval.filter(|it| possible.contains(it));
        self.warning = answer.warning;
        self.external_ip = answer.external_ip;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::http::fake::direct;
    use super::*;
    use crate::protocol::tracker::scrape::Counts;
    use crate::protocol::tracker::udp::{Question, Reply};
    use std::net::UdpSocket;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn inquiry() -> Inquiry {
        Inquiry {
            info_hash: InfoHash([1; 20]),
            peer_id: PeerId::new([2; 12]),
            left: 1,
            limits: direct(PATIENCE),
        }
    }

    fn socket() -> (UdpSocket, String) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let url = format!("udp://{}", socket.local_addr().unwrap());
        (socket, url)
    }

    /// Answers everything, and tells what was asked.
    fn honest(socket: UdpSocket) -> Receiver<&'static str> {
        scraped(socket, |transaction| {
            let counts = vec![Counts::default()];
            Some(Reply::Scraped {
                transaction,
                counts,
            })
        })
    }

    /// Answers announces, and scrapes as it is told: with nothing, perhaps.
    fn scraped(
        socket: UdpSocket,
        scrape: fn(u32) -> Option<Reply<'static>>,
    ) -> Receiver<&'static str> {
        // Bound: the questions of one test.
        let (tell, asked) = unbounded();
        std::thread::spawn(move || {
            let mut buffer = [0; 2048];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let (name, reply) = match Question::decode(&buffer[..length]).unwrap() {
                    Question::Connect { transaction } => {
                        let connection = 7;
                        let reply = Reply::Connected {
                            transaction,
                            connection,
                        };
                        ("connect", Some(reply))
                    }
                    Question::Announce { transaction, .. } => {
                        let reply = Reply::Announced {
                            transaction,
                            interval: 60,
                            leechers: 3,
                            seeders: 2,
                            peers: &[],
                        };
                        ("announce", Some(reply))
                    }
                    Question::Scrape { transaction, .. } => ("scrape", scrape(transaction)),
                };
                if tell.send(name).is_err() {
                    return;
                }
                if let Some(reply) = reply {
                    socket.send_to(&reply.encode(), from).unwrap();
                }
            }
        });
        asked
    }

    #[test]
    fn a_live_tracker_does_not_wait_behind_a_silent_one_of_its_host() {
        let ((_silent, silent_url), (live, live_url)) = (socket(), socket());
        let _asked = honest(live);
        let findings = survey(&[vec![silent_url], vec![live_url.clone()]], inquiry()).unwrap();
        let first = findings.recv_timeout(PATIENCE).unwrap();
        assert_eq!((first.url, first.error), (live_url, None));
    }

    #[test]
    fn a_tracker_that_refuses_scrapes_or_is_silent_about_them_is_announced_to() {
        let refused = |transaction| {
            let reason = b"no scrapes here";
            Some(Reply::Refused {
                transaction,
                reason,
            })
        };
        for scrape in [refused, |_| None] {
            let (socket, url) = socket();
            let _asked = scraped(socket, scrape);
            let short = Inquiry {
                limits: direct(Duration::from_secs(6)),
                ..inquiry()
            };
            let findings = survey(&[vec![url]], short).unwrap();
            let finding = findings.recv_timeout(PATIENCE).unwrap();
            assert_eq!((finding.error, finding.scraped), (None, false));
            let counts = (finding.seeds, finding.leechers, finding.downloads);
            assert_eq!(counts, (Some(2), Some(2), None));
        }
    }

    #[test]
    fn nothing_is_announced_to_one_name_of_a_tracker_before_the_other_has_said_how_many_are_there()
    {
        // As if the second name had the first one's address, which nobody but the tracker knows.
        let (one, url) = socket();
        let asked = honest(one);
        let other = url.replace("127.0.0.1", "localhost");
        let urls = [format!("{url}/a"), format!("{other}/b")];
        let findings = survey(&[urls.to_vec()], inquiry()).unwrap();
        assert_eq!(findings.iter().count(), 2);
        let asked: Vec<_> = asked.try_iter().filter(|it| *it != "connect").collect();
        assert_eq!(asked[..2], ["scrape", "scrape"]);
        assert_eq!(asked[2..], ["announce"; 4]);
    }

    #[test]
    fn all_of_it_has_one_end_and_who_was_not_asked_by_then_is_named() {
        let silent: Vec<_> = (0..AT_ONCE + 3).map(|_| socket()).collect();
        let urls: Vec<_> = silent.iter().map(|it| vec![it.1.clone()]).collect();
        let limits = direct(Duration::from_millis(300));
        let short = Inquiry {
            limits,
            ..inquiry()
        };
        let findings: Vec<_> = survey(&urls, short).unwrap().iter().collect();
        assert_eq!(findings.len(), urls.len());
        let late = |it: &Finding| matches!(it.error, Some(AnnounceError::TimedOut(_)));
        assert!(findings.iter().all(late));
    }
}
