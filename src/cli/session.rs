//! A run of a client as it is told to the user, in words or as JSON lines: what `get`, `seed` and `share`
//! have in common.
//!
//! ```text
//! let mut session = Session::new(&options, &tasks, &mut teller);
//! let client = Client::start(settings, tasks)?;
//! session.follow(&client);          // or `hear` for each notice, then `finish`
//! ```

use super::arguments::Transfer;
use super::complaint::{Complaint, Reason};
use super::events::{self, JsonEvent, Subject};
use super::figures;
use super::hook;
use super::output;
use super::progress::{Progress, Style};
use super::shown::shown;
use super::signals;
use super::status::ExitStatus;
use crate::client::{Client, Control, Ending, Notice, Role, Snapshot, Task};
use crossbeam_channel::{Receiver, Sender};
use std::collections::BTreeSet;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Says what went wrong and remembers the worst of it.
pub(super) struct Teller {
    clock: Instant,
    json: bool,
    status: ExitStatus,
}

impl Teller {
    pub(super) fn new(json: bool) -> Teller {
        Teller {
            clock: Instant::now(),
            json,
            status: ExitStatus::Done,
        }
    }

    /// The worst of it.
    pub(super) fn status(&self) -> ExitStatus {
        self.status
    }

    pub(super) fn complain(&mut self, complaint: &Complaint) {
        self.status = self.status.worst(complaint.status);
        complaint.say();
        if self.json && complaint.reason != Reason::Output {
            let event = JsonEvent::from(complaint);
            if let Err(complaint) = events::write(self.clock.elapsed(), None, &event) {
                self.status = self.status.worst(complaint.status);
            }
        }
    }
}

/// A run of a client as it is told to the user.
pub(super) struct Session<'a> {
    options: &'a Transfer,
    /// What is done with all of them: a command does one thing.
    role: Role,
    teller: &'a mut Teller,
    subjects: Vec<Subject>,
    /// The names again, safe to show.
    names: Vec<String>,
    progress: Progress,
    hooks: Vec<JoinHandle<Result<(), Complaint>>>,
    /// What lacks something and is served all the same; not told yet.
    lacking: BTreeSet<usize>,
    /// Standard output takes no more: nothing is told from here on.
    mute: bool,
    /// The number of the signal that asked for the end, if one did.
    signal: Option<u8>,
    /// Torrents that have not ended.
    at_work: usize,
}

impl<'a> Session<'a> {
    pub(super) fn new(
        options: &'a Transfer,
        tasks: &[Task],
        teller: &'a mut Teller,
    ) -> Session<'a> {
        let subjects = tasks.iter().enumerate().map(|(task, it)| Subject {
            task,
            name: it.metainfo.name.clone(),
            info_hash: it.metainfo.info_hash.to_string(),
        });
        let names = tasks
            .iter()
            .map(|task| shown(&task.metainfo.name))
            .collect::<Vec<_>>();
        let traced = options.trace.as_deref() == Some(Path::new("-")) && !options.json;
        Session {
            options,
            role: tasks.first().map_or(Role::Get, |task| task.role),
            teller,
            subjects: subjects.collect(),
            progress: Progress::new(Style::fitting(options.quiet, traced), &names),
            names,
            hooks: Vec::new(),
            lacking: BTreeSet::new(),
            mute: false,
            signal: None,
            at_work: tasks.len(),
        }
    }

    /// Tells what the client tells until it has ended and all hooks have.
    pub(super) fn follow(&mut self, client: &Client) {
        output::work_ends_with(client.ended().clone());
        let control = client.control();
        let stop = control.clone();
        let signal = signals::watch(move || {
            let _ = stop.send(Control::Stop);
        });
        for notice in client.notices() {
            self.hear(&notice, &signal, &control);
        }
        self.finish();
    }

    /// Tells what belongs to one notice.
    pub(super) fn hear(&mut self, notice: &Notice, signal: &Receiver<u8>, to: &Sender<Control>) {
        self.signal = self.signal.or_else(|| signal.try_recv().ok());
        let ended = usize::from(matches!(notice, Notice::Stopped { .. }));
        self.at_work = self.at_work.saturating_sub(ended);
        self.tell(notice, to);
    }

    /// The client has ended; waits for the hooks.
    pub(super) fn finish(&mut self) {
        self.progress.finish();
        if self.at_work > 0 {
            // Only a fault of ours ends a client before its torrents; never call that a success.
            self.teller.complain(&Complaint::new(
                Reason::Resources,
                "the client ended before its work did",
                "this is a fault in ropewalk: please report it; what was recorded is kept",
            ));
        }
        for hook in std::mem::take(&mut self.hooks) {
            if let Ok(Err(complaint)) = hook.join() {
                self.teller.complain(&complaint);
            }
        }
    }

    /// Writes a part of the result, unless nobody reads any more; an end of the readers is our end.
    pub(super) fn result(
        &mut self,
        control: &Sender<Control>,
        write: impl FnOnce(&Self) -> Result<(), Complaint>,
    ) {
        if !self.mute
            && let Err(broken) = write(self)
        {
            self.mute = true;
            self.complain(&broken);
            let _ = control.send(Control::Stop);
        }
    }

    pub(super) fn complain(&mut self, complaint: &Complaint) {
        self.teller.complain(complaint);
    }

    /// Since the program began.
    pub(super) fn elapsed(&self) -> Duration {
        self.teller.clock.elapsed()
    }

    /// What an event of this task is about.
    pub(super) fn subject(&self, task: usize) -> Option<&Subject> {
        self.subjects.get(task)
    }

    fn tell(&mut self, notice: &Notice, control: &Sender<Control>) {
        let complaint = match notice {
            Notice::Stopped {
                task,
                snapshot,
                ending,
            } => Complaint::ending(self.name(*task), ending, snapshot, self.role, self.signal),
            _ => None,
        };
        if self.options.json {
            let (task, event) = JsonEvent::of(notice, complaint.as_ref());
            self.result(control, |session| {
                let subject = task.and_then(|task| session.subject(task));
                events::write(session.elapsed(), subject, &event)
            });
        }
        self.show(notice);
        if let Some(complaint) = complaint {
            self.teller.status = self.teller.status.worst(complaint.status);
            if !self.mute {
                self.progress.suspend(|| complaint.say());
            }
        }
    }

    fn name(&self, task: usize) -> &str {
        self.names.get(task).map_or("", String::as_str)
    }

    /// Writes a line to standard output, with no bar in its way.
    pub(super) fn print(&self, text: &str) -> Result<(), Complaint> {
        let mut written = Ok(());
        self.progress.suspend(|| written = output::line(text));
        written
    }

    /// Says a line unless `--quiet` forbids it.
    pub(super) fn say(&self, text: &str) {
        if !self.options.quiet && !self.mute {
            self.progress.say(text);
        }
    }

    /// Says a line that only `--verbose` asks for.
    fn detail(&self, text: impl FnOnce() -> String) {
        if self.options.verbose && !self.mute {
            self.progress.say(&text());
        }
    }

    fn show(&mut self, notice: &Notice) {
        let now = self.teller.clock.elapsed();
        match notice {
            Notice::Listening { port: Some(port) } => {
                let text = format!("listening on port {port}");
                // Whoever serves wants to tell others where.
                if self.role == Role::Seed {
                    self.say(&text);
                } else {
                    self.detail(|| text);
                }
            }
            // A warning has said why.
            Notice::Listening { port: None } => {}
            Notice::Started {
                task, size, wanted, ..
            } => {
                let name = self.name(*task);
                let all = figures::size(*size);
                match wanted == size {
                    true => self.say(&format!("{name}: {all}")),
                    false => self.say(&format!("{name}: {} of {all}", figures::size(*wanted))),
                }
            }
            Notice::Checking { task, done, of } => self.progress.checking(now, *task, *done, *of),
            Notice::Progress { task, snapshot } => {
                self.progress.update(now, *task, snapshot);
                if self.lacking.remove(task) {
                    let until = until(self.options.ratio, self.options.time);
                    let name = self.name(*task);
                    self.say(&format!("{name}: sharing the rest{until}, Ctrl-C leaves"));
                }
            }
            Notice::Missing { task, path, bytes } => {
                self.lacking.insert(*task);
                self.say(&format!(
                    "{}: missing or wrong: {} of {}",
                    self.name(*task),
                    figures::size(*bytes),
                    shown(path)
                ));
            }
            Notice::Dropped { notices } => {
                self.detail(|| format!("… {notices} events are not shown: the output is too slow"))
            }
            Notice::Warning { task, text } => {
                let text = shown(text);
                match task {
                    Some(task) => self.say(&format!("warning: {}: {text}", self.name(*task))),
                    None => self.say(&format!("warning: {text}")),
                }
            }
            Notice::Complete {
                task,
                snapshot,
                already,
            } => self.complete(now, *task, snapshot, *already),
            Notice::Stopped {
                task,
                snapshot,
                ending,
            } => {
                self.progress.ended(*task, snapshot);
                if matches!(ending, Ending::Done | Ending::StoppedSharing) {
                    self.say(&summary(self.name(*task), snapshot));
                }
            }
            Notice::PeerJoined { .. }
            | Notice::PeerLeft { .. }
            | Notice::Tracker { .. }
            | Notice::Piece { .. } => self.comings_and_goings(notice),
        }
    }

    fn comings_and_goings(&self, notice: &Notice) {
        match notice {
            Notice::PeerJoined {
                address, client, ..
            } => self.detail(|| match client.as_str() {
                "" => format!("peer {address} joined"),
                client => format!("peer {address} joined: {}", shown(client)),
            }),
            Notice::PeerLeft { address, why, .. } => {
                self.detail(|| format!("peer {address} {}", shown(&why.to_string())));
            }
            Notice::Tracker {
                tracker, outcome, ..
            } => self.detail(|| match outcome {
                Ok(peers) => format!(
                    "tracker {}: {}",
                    shown(tracker),
                    figures::count(*peers as u64, "address")
                ),
                Err(cause) => format!("tracker {}: {}", shown(tracker), shown(cause)),
            }),
            Notice::Piece {
                task,
                piece,
                good: false,
            } => self.detail(|| {
                format!(
                    "{}: piece {piece} arrived wrong, it is fetched again",
                    self.name(*task)
                )
            }),
            _ => {}
        }
    }

    fn complete(&mut self, now: Duration, task: usize, snapshot: &Snapshot, already: bool) {
        self.progress.update(now, task, snapshot);
        let stays = self.options.time != Some(Duration::ZERO);
        let name = self.name(task);
        let what = if already {
            match snapshot.wanted == snapshot.size {
                true => format!("{name}: everything is here"),
                false => format!("{name}: everything wanted is here"),
            }
        } else {
            format!("{name}: complete, {}", fetched(snapshot))
        };
        if stays {
            let until = until(self.options.ratio, self.options.time);
            self.say(&format!("{what}; sharing{until}, Ctrl-C leaves"));
        } else if already {
            self.say(&what);
        }
        if let (Some(command), Some(subject)) = (&self.options.on_complete, self.subjects.get(task))
        {
            let path = self.options.folder.join(&subject.name);
            let facts = hook::HookFacts {
                name: subject.name.clone(),
                // The command may change its folder.
                path: std::path::absolute(&path).unwrap_or(path),
                info_hash: subject.info_hash.clone(),
                size: snapshot.size,
            };
            let name = name.to_owned();
            match hook::start(command, facts, name.clone()) {
                Ok(hook) => self.hooks.push(hook),
                Err(error) => {
                    if let Err(complaint) = hook::judge(&name, Err(error)) {
                        self.complain(&complaint);
                    }
                }
            }
        }
    }
}

/// What was fetched and how fast: the time spent sharing does not count.
fn fetched(snapshot: &Snapshot) -> String {
    let time = snapshot
        .elapsed
        .saturating_sub(snapshot.sharing.unwrap_or_default());
    format!(
        "{} fetched in {} ({})",
        figures::size(snapshot.downloaded),
        figures::duration(time),
        figures::rate(figures::mean_rate(snapshot.downloaded, time))
    )
}

/// The last line about a torrent.
fn summary(name: &str, snapshot: &Snapshot) -> String {
    format!(
        "{name}: {}, {} given, ratio {:.2}",
        fetched(snapshot),
        figures::size(snapshot.uploaded),
        snapshot.ratio()
    )
}

fn until(ratio: Option<f64>, time: Option<Duration>) -> String {
    match (ratio, time) {
        (None, None) => String::new(),
        (Some(ratio), None) => format!(" until the ratio is {ratio}"),
        (None, Some(time)) => format!(" for {}", figures::duration(time)),
        (Some(ratio), Some(time)) => {
            format!(
                " until the ratio is {ratio} or for {}",
                figures::duration(time)
            )
        }
    }
}
