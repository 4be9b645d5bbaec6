//! `get` and `seed`: start a client, tell what it tells, and turn how it ended into an exit status.

use super::arguments::Transfer;
use super::complaint::{Complaint, Reason, plain};
use super::events::{self, Event, Subject};
use super::figures;
use super::hook;
use super::output::{self, WholeLines};
use super::progress::{Progress, Style};
use super::shown::{shown, shown_path};
use super::status::ExitStatus;
use super::{signals, torrent, values};
use crate::client::{Client, Control, Ending, Notice, Role, Settings, Sharing, Snapshot, Task};
use crate::net::trace::{self, TraceThread, Tracer};
use crate::protocol::selection::Selection;
use crossbeam_channel::{Receiver, Sender};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

/// Runs `get` or `seed` to its end.
pub fn run(role: Role, options: Transfer) -> ExitStatus {
    let mut teller = Teller {
        clock: Instant::now(),
        json: options.json,
        status: ExitStatus::Done,
    };
    if let Err(complaint) = work(role, &options, &mut teller) {
        teller.complain(&complaint);
    }
    teller.status
}

/// Says what went wrong and remembers the worst of it.
struct Teller {
    clock: Instant,
    json: bool,
    status: ExitStatus,
}

impl Teller {
    fn complain(&mut self, complaint: &Complaint) {
        self.status = self.status.worst(complaint.status);
        complaint.say();
        if self.json && complaint.reason != Reason::Output {
            let event = Event::from(complaint);
            if let Err(complaint) = events::write(self.clock.elapsed(), None, &event) {
                self.status = self.status.worst(complaint.status);
            }
        }
    }
}

fn work(role: Role, options: &Transfer, teller: &mut Teller) -> Result<(), Complaint> {
    if options.torrents.iter().filter(|word| *word == "-").count() > 1 {
        return Err(Complaint::usage(
            "standard input was named twice",
            "it can be read once",
        ));
    }
    let peers = values::resolve(&options.peers)?;
    prepare_folder(role, &options.folder)?;
    let mut tasks = Vec::new();
    for word in &options.torrents {
        match torrent::load(word) {
            Ok(metainfo) => tasks.push(task(role, options, &peers, metainfo)),
            // One torrent that cannot be read is no reason not to fetch the others.
            Err(complaint) => teller.complain(&complaint),
        }
    }
    choose(options, &mut tasks, teller)?;
    if tasks.is_empty() {
        return Ok(());
    }
    let (tracer, trace_thread) = trace(options)?.unzip();
    let settings = Settings {
        port: options.port,
        bind: options.bind,
        max_peers: options.max_peers,
        up: options.up,
        down: options.down,
        trace: tracer,
        seed: fastrand::u64(..),
    };
    let mut session = Session::new(options, &tasks, teller);
    let client = Client::start(settings, tasks).map_err(|error| Complaint::start(&error))?;
    session.follow(&client);
    drop(client);
    if let Some(thread) = trace_thread {
        tell_trace(options, thread.finish());
    }
    Ok(())
}

fn task(
    role: Role,
    options: &Transfer,
    peers: &[SocketAddr],
    metainfo: crate::protocol::metainfo::Metainfo,
) -> Task {
    Task {
        wanted: Selection::of(&metainfo, &options.only),
        sequential: options.sequential,
        metainfo,
        folder: options.folder.clone(),
        role,
        check: options.check,
        overwrite: options.overwrite,
        peers: peers.to_vec(),
        trackers: options.trackers,
        sharing: Sharing {
            ratio: options.ratio,
            time: options.time,
        },
        timeout: options.timeout,
    }
}

/// A pattern that fits no file of any torrent is a slip of the pen: nothing is begun. A torrent of which
/// nothing is wanted is no reason not to fetch the others.
fn choose(options: &Transfer, tasks: &mut Vec<Task>, teller: &mut Teller) -> Result<(), Complaint> {
    let idle = options.only.iter().find(|glob| {
        let globs = std::slice::from_ref(*glob);
        let nothing = |task: &Task| Selection::of(&task.metainfo, globs).is_nothing();
        tasks.iter().all(nothing)
    });
    if let Some(glob) = idle.filter(|_| !tasks.is_empty()) {
        let pattern = shown(glob.pattern());
        let sentence = format!("no file fits --only {pattern}");
        return Err(Complaint::unwanted(sentence));
    }
    tasks.retain(|task| {
        let nothing = task.wanted.is_nothing() && !options.only.is_empty();
        if nothing {
            let name = shown(&task.metainfo.name);
            let sentence = format!("no file of {name} fits any --only");
            teller.complain(&Complaint::unwanted(sentence));
        }
        !nothing
    });
    Ok(())
}

/// A folder that cannot be used is found out before anybody is asked for data.
fn prepare_folder(role: Role, folder: &Path) -> Result<(), Complaint> {
    match role {
        Role::Get => std::fs::create_dir_all(folder)
            .map_err(|error| Complaint::output_folder(folder, &error)),
        Role::Seed => match std::fs::metadata(folder) {
            Ok(found) if found.is_dir() => Ok(()),
            Ok(_) => Err(Complaint::reading(
                folder,
                &std::io::ErrorKind::NotADirectory.into(),
            )),
            Err(error) => Err(Complaint::reading(folder, &error)),
        },
    }
}

/// Starts the trace, if one is wanted: into a file, or to the screen, which with `--json` is the stream
/// of events.
fn trace(options: &Transfer) -> Result<Option<(Tracer, TraceThread)>, Complaint> {
    let Some(path) = &options.trace else {
        return Ok(None);
    };
    let out: Box<dyn Write + Send> = match (path.as_os_str() == "-", options.json) {
        (false, _) => {
            Box::new(File::create(path).map_err(|error| Complaint::writing(path, &error))?)
        }
        (true, false) => Box::new(WholeLines::new(std::io::stderr())),
        (true, true) => Box::new(WholeLines::new(std::io::stdout())),
    };
    let style = match options.json {
        true => trace::Style::Json,
        false => trace::Style::Words,
    };
    trace::start(out, style).map(Some).map_err(|error| {
        Complaint::new(
            Reason::Resources,
            format!("cannot start the trace's thread: {}", plain(&error)),
            "the system allows no more threads (see `ulimit -u`)",
        )
    })
}

/// A trace with a hole at its end must not look whole. What was fetched is right all the same: no status.
fn tell_trace(options: &Transfer, outcome: std::io::Result<()>) {
    if let (Some(path), Err(error)) = (&options.trace, outcome) {
        let (path, why) = (shown_path(path), plain(&error));
        output::say(&format!("warning: the trace in {path} is not whole: {why}"));
    }
}

/// A run of a client as it is told to the user.
struct Session<'a> {
    options: &'a Transfer,
    /// Nothing is fetched: whoever serves wants to tell others where.
    serves: bool,
    teller: &'a mut Teller,
    subjects: Vec<Subject>,
    /// The names again, safe to show.
    names: Vec<String>,
    progress: Progress,
    hooks: Vec<Receiver<Result<(), Complaint>>>,
    /// What lacks something and is served all the same; not told yet.
    lacking: BTreeSet<usize>,
    /// Standard output takes no more: nothing is told from here on.
    mute: bool,
}

impl<'a> Session<'a> {
    fn new(options: &'a Transfer, tasks: &[Task], teller: &'a mut Teller) -> Session<'a> {
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
            serves: tasks.iter().all(|task| task.role == Role::Seed),
            teller,
            subjects: subjects.collect(),
            progress: Progress::new(Style::fitting(options.quiet, traced), &names),
            names,
            hooks: Vec::new(),
            lacking: BTreeSet::new(),
            mute: false,
        }
    }

    /// Tells what the client tells until it has ended and all hooks have.
    fn follow(&mut self, client: &Client) {
        let control = client.control();
        let stop = control.clone();
        let signal = signals::watch(move || {
            let _ = stop.send(Control::Stop);
        });
        let mut first = None;
        let mut at_work = self.names.len();
        for notice in client.notices() {
            first = first.or_else(|| signal.try_recv().ok());
            at_work -= usize::from(matches!(notice, Notice::Stopped { .. })).min(at_work);
            self.tell(&notice, first, &control);
        }
        self.progress.finish();
        if at_work > 0 {
            // Only a fault of ours ends a client before its torrents; never call that a success.
            self.teller.complain(&Complaint::new(
                Reason::Resources,
                "the client ended before its work did",
                "this is a fault in ropewalk: please report it; what was recorded is kept",
            ));
        }
        for hook in std::mem::take(&mut self.hooks) {
            if let Ok(Err(complaint)) = hook.recv() {
                self.teller.complain(&complaint);
            }
        }
    }

    fn tell(&mut self, notice: &Notice, signal: Option<u8>, control: &Sender<Control>) {
        let complaint = match notice {
            Notice::Stopped {
                task,
                snapshot,
                ending,
            } => Complaint::ending(self.name(*task), ending, snapshot, signal),
            _ => None,
        };
        if self.options.json && !self.mute {
            let (task, event) = Event::of(notice, complaint.as_ref());
            let subject = task.and_then(|task| self.subjects.get(task));
            if let Err(broken) = events::write(self.teller.clock.elapsed(), subject, &event) {
                self.mute = true;
                self.teller.complain(&broken);
                let _ = control.send(Control::Stop);
            }
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

    /// Says a line unless `--quiet` forbids it.
    fn say(&self, text: &str) {
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
                if self.serves {
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
                    figures::count(*peers as u64, "address").replace("addresss", "addresses")
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
            let facts = hook::Facts {
                name: subject.name.clone(),
                // The command may change its folder.
                path: std::path::absolute(&path).unwrap_or(path),
                info_hash: subject.info_hash.clone(),
                size: snapshot.size,
            };
            let name = name.to_owned();
            self.hooks.push(hook::start(command, facts, name));
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
