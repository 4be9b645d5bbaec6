//! The hands that ask trackers: [`http`] asks one, [`tiers`] says which to ask and when.
//!
//! An announcer is a thread that takes [`Job`]s, waits for trackers so that nobody else has to, and
//! tells what came of it. A tracker that hangs delays only the jobs behind it, so the assembly starts
//! one announcer for each tier.
//!
//! ```text
//! coordinator --Job--> announcer --Answered--> coordinator's inbox
//! ```

pub mod http;
pub mod tiers;

use crate::protocol::tracker::http::{Answer, Request};
use crossbeam_channel::{Receiver, Sender};
use http::{AnnounceError, Limits};
use std::io;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

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
    /// The answer, or why there is none.
    pub outcome: Result<Answer, AnnounceError>,
}

/// Starts a thread that announces until `jobs` is closed or nobody wants its answers any more.
///
/// `name` is the thread's. It keeps the system's usual stack size: TLS needs it.
pub fn spawn_announcer(
    name: &str,
    jobs: Receiver<Job>,
    answers: Sender<Answered>,
) -> io::Result<JoinHandle<()>> {
    let serve = move || serve(&jobs, &answers, Limits::within);
    Builder::new().name(name.to_owned()).spawn(serve)
}

fn serve(jobs: &Receiver<Job>, answers: &Sender<Answered>, limits: fn(Duration) -> Limits) {
    for job in jobs {
        let outcome = http::announce(&job.url, &job.request, &limits(job.limit));
        let answered = Answered {
            task: job.task,
            tier: job.tier,
            url: job.url,
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
    use super::http::fake::{Tracker, direct, request, response};
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
            limit: Duration::from_secs(20),
        };
        jobs.send(job).unwrap();
        drop(jobs);
        let answered = outbox.recv_timeout(Duration::from_secs(20)).unwrap();
        assert_eq!((answered.task, answered.tier), (3, 1));
        assert_eq!(answered.outcome, Ok(Answer::default()));
        announcer.unwrap().join().unwrap();
    }
}
