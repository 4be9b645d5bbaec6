//! Starts a client: counts what the system allows, opens the port, starts the threads.

use super::announcing::{Announcer, Announcing};
use super::coordinator::{Coordinator, Inbox};
use super::hands::{Hands, SPARE_CALLERS};
use super::limiting::Limiting;
use super::noticeboard::Noticeboard;
use super::switchboard::Switchboard;
use super::torrent::Torrent;
use super::{Client, Control, Notice, Role, Settings, StartError, Task};
use crate::announce::tiers::Tiers;
use crate::announce::{Answered, secret};
use crate::net::Report;
use crate::net::listen::{self, CALLERS_MAX, Caller, Listener, Listening};
use crate::net::peer_thread::{Deadlines, Surroundings};
use crate::protocol::peer::PeerId;
use crate::storage::check::{self, CheckDone, Checker};
use crate::storage::keeper::{Done, Keeper};
use crate::storage::open_files::OpenFiles;
use crate::storage::slot::LandingBudget;
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use std::collections::BTreeSet;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

/// Descriptors in use beside peers and data files: standard streams, listeners, trackers, and callers that wait
/// or are let in above the limit. The checker's files and the records are counted apart. The pipes of threads
/// that are just writing (`net::bundle`) have no share: one that cannot be had is done without.
const DESCRIPTORS_BESIDE: u64 = 16 + (CALLERS_MAX + 2 * SPARE_CALLERS) as u64;

/// Descriptors of one connection: its socket and its wake-up.
const DESCRIPTORS_PER_PEER: u64 = 2;

/// Data files kept open where descriptors abound.
const FILES_MAX: u64 = 32;

/// Verified bytes that may wait for a sync before requests pause, on small machines too.
const UNSYNCED_MIN: u64 = 256 << 20;

/// How the file descriptors that the system allows are divided.
#[derive(Debug, PartialEq, Eq)]
struct Descriptors {
    files: usize,
    peers: usize,
}

impl Descriptors {
    fn divide(allowed: u64, tasks: usize, peers_wanted: usize) -> Result<Descriptors, StartError> {
        // Each task's record is open as long as it is locked.
        let beside = DESCRIPTORS_BESIDE + check::files_open(allowed) + tasks as u64;
        let needed = beside + 4 + 2 * DESCRIPTORS_PER_PEER;
        if allowed < needed {
            return Err(StartError::Descriptors { allowed, needed });
        }
        let left = allowed - beside;
        let files = (left / 4).clamp(4, FILES_MAX);
        let peers = usize::try_from((left - files) / DESCRIPTORS_PER_PEER).unwrap_or(usize::MAX);
        Ok(Descriptors {
            files: files as usize,
            peers: peers.min(peers_wanted),
        })
    }
}

/// While more pieces than these wait for the checker, nothing more is asked for. Where pieces are small, a fast line
/// brings them sooner than they are hashed, and each takes memory until it is. What is asked for already still comes:
/// some 4,096 blocks of a torrent, and as many pieces where each is of one.
const UNCHECKED_MAX: usize = 1024;

/// Bytes that may wait for a sync: 5 % of memory, and never less than the minimum.
fn unsynced_max() -> u64 {
    let info = rustix::system::sysinfo();
    let memory = info.totalram as u64 * u64::from(info.mem_unit.max(1));
    (memory / 20).max(UNSYNCED_MIN)
}

/// Opens the port. Without one that was asked for there is nothing to do; without any, we can still
/// call others, unless the address we would call from is not ours.
fn open_listener(
    settings: &Settings,
    noticeboard: &Noticeboard,
) -> Result<Option<Listener>, StartError> {
    let error = match Listener::open(settings.port, settings.bind) {
        Ok(listener) => return Ok(Some(listener)),
        Err(error) => error,
    };
    let cause = error.to_string();
    match (settings.bind, settings.port) {
        (Some(address), _) if error.kind() == std::io::ErrorKind::AddrNotAvailable => {
            Err(StartError::Bind { address, cause })
        }
        (_, Some(port)) if port != 0 => Err(StartError::Port { port, cause }),
        _ => {
            let text = format!(
                "nobody can call us, but we can call others: no port to listen on ({cause})"
            );
            noticeboard.post(Notice::Warning { task: None, text });
            Ok(None)
        }
    }
}

impl Client {
    /// Starts the threads and the work on every task.
    pub fn start(settings: Settings, tasks: Vec<Task>) -> Result<Client, StartError> {
        Client::launch(None, settings, tasks)
    }

    /// The same on a port that is open already: who called it meanwhile is still waiting there. Of `settings` the
    /// port does not count.
    pub fn start_on(
        listener: Listener,
        settings: Settings,
        tasks: Vec<Task>,
    ) -> Result<Client, StartError> {
        Client::launch(Some(listener), settings, tasks)
    }

    fn launch(
        listener: Option<Listener>,
        settings: Settings,
        tasks: Vec<Task>,
    ) -> Result<Client, StartError> {
        refuse_conflicts(&tasks)?;
        let allowed = rustix::process::getrlimit(rustix::process::Resource::Nofile)
            .current
            .unwrap_or(u64::MAX);
        let descriptors = Descriptors::divide(allowed, tasks.len(), settings.max_peers)?;
        let (noticeboard, notices) = Noticeboard::new();
        let (tellers, inbox, control) = channels();
        let Tellers { kept, checked, .. } = tellers;
        let keeper =
            Keeper::start(move |done| kept.send(done).is_ok()).map_err(unstarted("keeper"))?;
        let checker =
            Checker::start(move |done| checked.send(done).is_ok()).map_err(unstarted("checker"))?;
        let listener = match listener {
            Some(open) => Some(open),
            None => open_listener(&settings, &noticeboard)?,
        };
        let port = listener.as_ref().map(Listener::port);
        let listening = listener.map(|listener| listener.start(tellers.callers));
        let listening = listening.transpose().map_err(unstarted("listener"))?;
        noticeboard.post(Notice::Listening { port });
        let mut rng = fastrand::Rng::with_seed(settings.seed);
        let limiting = Limiting::new(settings.up, settings.down);
        let mut hands = Hands {
            switchboard: Switchboard::default(),
            files: OpenFiles::new(descriptors.files),
            keeper,
            checker,
            answers: tellers.answers,
            noticeboard,
            surroundings: Surroundings {
                inbox: tellers.reports,
                trace: settings.trace,
                budget: LandingBudget::default(),
                deadlines: Deadlines::default(),
                metered: limiting.metered(),
            },
            bind: settings.bind,
            peers_max: descriptors.peers,
            port,
            unsynced_max: unsynced_max(),
            unchecked_max: UNCHECKED_MAX,
            lookers: 0,
            seed: settings.seed,
            caller: None,
            lacked_threads: false,
            actions: Vec::new(),
        };
        let clock = Instant::now();
        let torrents = tasks
            .into_iter()
            .enumerate()
            .map(|(number, task)| begin(number, task, &mut hands, &mut rng))
            .collect();
        let coordinator = Coordinator {
            inbox,
            hands,
            torrents,
            needs: Vec::new(),
            limiting,
            rates: (settings.up, settings.down),
            clock,
        };
        let (thread, ended) = spawn(coordinator, listening).map_err(unstarted("coordinator"))?;
        Ok(Client {
            notices,
            control,
            thread: Some(thread),
            ended,
        })
    }
}

/// Starts the coordinator's thread, and with it ends the listener's. The channel closes when it has ended.
fn spawn(
    coordinator: Coordinator,
    listening: Option<Listening>,
) -> std::io::Result<(JoinHandle<()>, Receiver<()>)> {
    // Bound: none is sent; it closes with the thread.
    let (at_work, ended) = bounded(1);
    let thread = Builder::new()
        .name("coordinator".to_owned())
        .spawn(move || {
            let _until_the_end = (listening, at_work);
            coordinator.run();
        })?;
    Ok((thread, ended))
}

/// The ends of those who tell the coordinator something.
struct Tellers {
    reports: Sender<Report>,
    checked: Sender<CheckDone>,
    kept: Sender<Done>,
    answers: Sender<Answered>,
    callers: Sender<Caller>,
}

/// All channels to the coordinator, the last for whoever has the client.
fn channels() -> (Tellers, Inbox, Sender<Control>) {
    // Bound: 256 turns of peer threads; full, it makes them wait, and TCP slows their senders.
    let (reports, reports_inbox) = bounded(256);
    // Bound: one answer a check, and the coordinator sends a piece to be checked once.
    let (checked, checked_inbox) = unbounded();
    // Bound: one outcome a job, and the coordinator has few jobs out.
    let (kept, kept_inbox) = unbounded();
    // Bound: one announce a tier is under way.
    let (answers, answers_inbox) = unbounded();
    let (callers, callers_inbox) = listen::callers();
    // Bound: one entry a signal or call; the coordinator empties it every turn.
    let (control, control_inbox) = unbounded();
    let tellers = Tellers {
        reports,
        checked,
        kept,
        answers,
        callers,
    };
    let inbox = Inbox {
        reports: reports_inbox,
        checked: checked_inbox,
        kept: kept_inbox,
        answers: answers_inbox,
        callers: callers_inbox,
        control: control_inbox,
    };
    (tellers, inbox, control)
}

/// The error of a thread that could not be started.
fn unstarted(thread: &'static str) -> impl Fn(std::io::Error) -> StartError {
    move |error| StartError::Thread {
        thread,
        cause: error.to_string(),
    }
}

/// Two tasks must not share a torrent, nor a place on disk.
fn refuse_conflicts(tasks: &[Task]) -> Result<(), StartError> {
    let (mut torrents, mut places) = (BTreeSet::new(), BTreeSet::new());
    for Task {
        metainfo, folder, ..
    } in tasks
    {
        if !torrents.insert(metainfo.info_hash) {
            return Err(StartError::Twice(metainfo.info_hash));
        }
        let place = folder.join(&metainfo.name);
        if !places.insert(place.clone()) {
            return Err(StartError::SamePlace(place));
        }
    }
    Ok(())
}

/// Begins the work on one task.
fn begin(number: usize, task: Task, hands: &mut Hands, rng: &mut fastrand::Rng) -> Torrent {
    let id = PeerId::new(std::array::from_fn(|_| rng.alphanumeric() as u8));
    let trackers: &[Vec<String>] = if task.trackers {
        &task.metainfo.trackers
    } else {
        &[]
    };
    let schedule = match task.metainfo.private {
        true => Tiers::one_by_one,
        false => Tiers::new,
    };
    let tiers = schedule(trackers, rng.fork());
    for text in tiers.skipped() {
        hands.noticeboard.post(Notice::Warning {
            task: Some(number),
            text: text.clone(),
        });
    }
    let who = Announcer {
        task: number,
        info_hash: task.metainfo.info_hash,
        id,
        // Trackers refuse port 0; nobody who is told 1 will try it twice.
        port: hands.port.unwrap_or(1),
        // Who knows it can speak for us to trackers; what is drawn from the dice could be guessed.
        key: format!("{:08x}", secret().unwrap_or_else(|_| rng.u32(..))),
        bind: hands.bind,
    };
    let mut announcing = Announcing::new(who, tiers, hands.answers.clone());
    if task.role == Role::Seed {
        announcing.wants_nobody();
    }
    Torrent::start(number, task, id, announcing, hands, Duration::ZERO)
}

impl Drop for Client {
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn sixteen_descriptors_are_too_few_and_sixty_four_are_enough() {
        assert!(matches!(
            Descriptors::divide(16, 1, 50),
            Err(StartError::Descriptors { allowed: 16, .. })
        ));
        let few = Descriptors::divide(64, 1, 50).unwrap();
        assert!(few.peers >= 8 && few.files >= 4);
        for allowed in [64, 100, 256, 1024] {
            let divided = Descriptors::divide(allowed, 1, 1 << 20).unwrap();
            let peers = divided.peers as u64 * DESCRIPTORS_PER_PEER;
            let checker = check::files_open(allowed);
            assert!(divided.files as u64 + peers + checker + DESCRIPTORS_BESIDE < allowed);
        }
        assert_eq!(
            Descriptors::divide(1 << 20, 1, 50).unwrap(),
            Descriptors {
                files: 32,
                peers: 50
            }
        );
    }
}
