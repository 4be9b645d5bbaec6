//! The hands that ask trackers: [`http`] and [`udp`] ask one, [`tiers`] says which to ask and when;
//! [`survey`] asks them all, for `peers`.
//!
//! An announcer is a thread that takes [`Job`]s, waits for trackers so that nobody else has to, and
//! tells what came of it. A tracker that hangs delays only the jobs behind it, so the assembly starts
//! one announcer for each tier.
//!
//! ```text
//! coordinator --Job--> announcer --Answered--> coordinator's inbox
//! ```

mod address;
pub mod http;
mod lookup;
mod road;
pub mod survey;
pub mod tiers;
pub mod udp;

use crate::protocol::InfoHash;
use crate::protocol::tracker::http::{Answer, AnswerError, Occasion, Request};
use crate::protocol::tracker::scrape::Counts;
use crossbeam_channel::{Receiver, Sender};
use http::{AnnounceError, CallLimits};
use rustix::rand::{GetRandomFlags, getrandom};
use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

/// Once one family has answered, the other has so long.
const GRACE: Duration = Duration::from_secs(1);

/// Asks any tracker, whatever its kind. Remembers which were reached, and the connection ids of UDP trackers.
#[derive(Debug, Default)]
pub struct TrackerAsker {
    http: http::HttpAsker,
    udp: udp::UdpAsker,
}

impl TrackerAsker {
    /// Announces `request` to the tracker at `url`. UDP trackers, and HTTP trackers that were not reached yet,
    /// are waited for until `halted`. The tracker's texts come without the secrets of its address.
    pub fn announce(
        &mut self,
        url: &str,
        request: &Request,
        limits: &CallLimits,
        halted: &(dyn Fn() -> bool + Sync),
    ) -> Result<Answer, AnnounceError> {
        let outcome = if is_udp(url) {
            self.udp.announce(url, request, limits, halted)
        } else {
            self.http.announce(url, request, limits, halted)
        };
        let safe = |text: String| address::without_secrets(&text, url);
        match outcome {
            Ok(mut answer) => {
                answer.warning = answer.warning.map(safe);
                Ok(answer)
            }
            Err(AnnounceError::Answer(AnswerError::Refused { reason, retry })) => {
                let reason = safe(reason);
                Err(AnswerError::Refused { reason, retry }.into())
            }
            other => other,
        }
    }

    /// Whether the tracker at `url` may have heard of us.
    fn has_told(&self, url: &str) -> bool {
        self.udp.has_told(url) || self.http.has_told(url)
    }

    /// Asks how many share a torrent; `None` where the tracker does not know it, or says what cannot be. UDP
    /// trackers that do not know it say zeros.
    pub fn scrape(
        &mut self,
        url: &str,
        info_hash: InfoHash,
        limits: &CallLimits,
    ) -> Result<Option<Counts>, AnnounceError> {
        let asked = [info_hash];
        if is_udp(url) {
            let counts = self.udp.scrape(url, &asked, limits, &|| false)?;
            return Ok(counts.first().copied().filter(Counts::are_possible));
        }
        let scraped = self.http.scrape(url, &asked, limits)?;
        let counts = scraped.iter().filter_map(|it| it.of(info_hash));
        let counts = counts.filter(Counts::are_possible);
        Ok(counts.reduce(Counts::most))
    }
}

/// A number that no stranger can guess.
pub(crate) fn secret() -> io::Result<u32> {
    let mut bytes = [0; 4];
    if getrandom(&mut bytes, GetRandomFlags::empty())? < bytes.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(u32::from_ne_bytes(bytes))
}

/// What a tracker says over two families, of which each knows its own peers.
fn merged(one: Answer, other: Answer) -> Answer {
    let mut peers = [one.peers, other.peers].concat();
    let mut seen = BTreeSet::new();
    peers.retain(|peer| seen.insert(*peer));
    Answer {
        peers,
        interval: one.interval.max(other.interval),
        min_interval: one.min_interval.max(other.min_interval),
        complete: one.complete.max(other.complete),
        incomplete: one.incomplete.max(other.incomplete),
        downloaded: one.downloaded.max(other.downloaded),
        tracker_id: one.tracker_id.or(other.tracker_id),
        warning: one.warning.or(other.warning),
        external_ip: one.external_ip.or(other.external_ip),
    }
}

/// Whether the tracker at `url` is asked by datagrams.
pub fn is_udp(url: &str) -> bool {
    let scheme = url.split("://").next().unwrap_or_default();
    scheme.eq_ignore_ascii_case("udp")
}

/// One announce to be made.
#[derive(Debug, Clone)]
pub struct Job {
    /// Which torrent of this run it is about; comes back in the answer.
    pub task: usize,
    /// The tier whose turn it is; comes back in the answer.
    pub tier: usize,
    /// The tracker's address.
    pub url: String,
    /// What to tell it.
    pub request: Request,
    /// Whether it is known to have heard of us. See [`tiers::Due::sure`].
    pub sure: bool,
    /// How long it may take in all. See [`http::ANNOUNCE_LIMIT`] and [`http::STOP_LIMIT`].
    pub limit: Duration,
}

/// What came of a job.
#[derive(Debug)]
pub struct Answered {
    /// The job's torrent.
    pub task: usize,
    /// The job's tier.
    pub tier: usize,
    /// The job's address. It may hold a passkey: show it through [`http::shown`].
    pub url: String,
    /// The occasion that the job named.
    pub event: Option<Occasion>,
    /// The answer, or why there is none.
    pub outcome: Result<Answer, AnnounceError>,
}

/// Starts a thread that announces until `jobs` is closed or nobody wants its answers any more.
///
/// `name` is the thread's; `bind` is the address of ours that trackers are asked from. A further job, which
/// can only be that we leave, ends the wait for a tracker that was not reached yet.
pub fn spawn_announcer(
    name: &str,
    bind: Option<IpAddr>,
    jobs: Receiver<Job>,
    answers: Sender<Answered>,
) -> io::Result<JoinHandle<()>> {
    let limits = move |total| CallLimits {
        bind,
        ..CallLimits::within(total)
    };
    let serve = move || serve(&jobs, &answers, limits);
    Builder::new().name(name.to_owned()).spawn(serve)
}

fn serve(
    jobs: &Receiver<Job>,
    answers: &Sender<Answered>,
    limits: impl Fn(Duration) -> CallLimits,
) {
    let mut asker = TrackerAsker::default();
    for job in jobs {
        let leaving = job.request.event == Some(Occasion::Stopped);
        let outcome = if leaving && !job.sure && !asker.has_told(&job.url) {
            // It never heard that we came.
            Err(AnnounceError::Interrupted)
        } else {
            let halted = || !leaving && !jobs.is_empty();
            asker.announce(&job.url, &job.request, &limits(job.limit), &halted)
        };
        let answered = Answered {
            task: job.task,
            tier: job.tier,
            url: job.url,
            event: job.request.event,
            outcome,
        };
        if answers.send(answered).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::http::fake::{Tracker, deaf, direct, request, response};
    use super::*;

    #[test]
    fn an_announcer_answers_each_job_and_ends_when_there_are_no_more() {
        let tracker = Tracker::start(|_, mut stream| response(&mut stream, "200 OK", b"de"));
        // Bound: the one job of this test.
        let (jobs, inbox) = crossbeam_channel::bounded(1);
        // Bound: its one answer.
        let (answers, outbox) = crossbeam_channel::bounded(1);
        let announcer = Builder::new().spawn(move || serve(&inbox, &answers, direct));
        let job = Job {
            task: 3,
            tier: 1,
            url: tracker.url("/announce"),
            request: request(),
            sure: false,
            limit: Duration::from_secs(20),
        };
        jobs.send(job).unwrap();
        drop(jobs);
        let answered = outbox.recv_timeout(Duration::from_secs(20)).unwrap();
        assert_eq!((answered.task, answered.tier), (3, 1));
        assert_eq!(answered.outcome, Ok(Answer::default()));
        announcer.unwrap().join().unwrap();
    }

    #[test]
    fn a_tracker_that_was_never_reached_keeps_nobody_from_leaving() {
        let (_deaf, url) = deaf();
        // Bound: the two jobs of this test.
        let (jobs, inbox) = crossbeam_channel::bounded(2);
        // Bound: their answers.
        let (answers, outbox) = crossbeam_channel::bounded(2);
        for event in [Occasion::Started, Occasion::Stopped] {
            let request = Request {
                event: Some(event),
                ..request()
            };
            let job = Job {
                task: 0,
                tier: 0,
                url: url.clone(),
                request,
                sure: false,
                limit: Duration::from_secs(60),
            };
            jobs.send(job).unwrap();
        }
        let announcer = Builder::new().spawn(move || serve(&inbox, &answers, direct));
        for event in [Occasion::Started, Occasion::Stopped] {
            let answered = outbox.recv_timeout(Duration::from_secs(40)).unwrap();
            assert_eq!(answered.event, Some(event));
            assert_eq!(answered.outcome, Err(AnnounceError::Interrupted));
        }
        drop(jobs);
        announcer.unwrap().join().unwrap();
    }
}
