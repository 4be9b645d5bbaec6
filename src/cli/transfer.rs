//! `get` and `seed`: start a client, tell what it tells, and turn how it ended into an exit status.

use super::arguments::Transfer;
use super::complaint::{Complaint, Reason, plain};
use super::output::{self, WholeLines};
use super::session::{Session, Teller};
use super::shown::{shown, shown_path};
use super::status::ExitStatus;
use super::{torrent, values};
use crate::client::{Client, Role, Settings, Sharing, Task};
use crate::net::trace::{self, TraceThread, Tracer};
use crate::protocol::selection::Selection;
use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;

/// Runs `get` or `seed` to its end.
pub fn run(role: Role, options: Transfer) -> ExitStatus {
    let mut teller = Teller::new(options.json);
    if let Err(complaint) = work(role, &options, &mut teller) {
        teller.complain(&complaint);
    }
    teller.status()
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
        match torrent::load(word, options.bind, options.timeout) {
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
        hashed: None,
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
            Ok(_) => Err(Complaint {
                hint: "name the folder that holds it: ropewalk seed TORRENT DIR".to_owned(),
                ..Complaint::reading(folder, &std::io::ErrorKind::NotADirectory.into())
            }),
            Err(error) => Err(Complaint::reading(folder, &error)),
        },
    }
}

/// Starts the trace, if one is wanted: into a file, or to the screen, which with `--json` is the stream
/// of events.
pub(super) fn trace(options: &Transfer) -> Result<Option<(Tracer, TraceThread)>, Complaint> {
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
        true => trace::TraceStyle::Json,
        false => trace::TraceStyle::Words,
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
pub(super) fn tell_trace(options: &Transfer, outcome: std::io::Result<()>) {
    if let (Some(path), Err(error)) = (&options.trace, outcome) {
        let (path, why) = (shown_path(path), plain(&error));
        output::say(&format!("warning: the trace in {path} is not whole: {why}"));
    }
}
