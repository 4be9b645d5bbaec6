//! `create`: a .torrent of a file or a folder.

use super::arguments::CreateArguments;
use super::complaint::{Complaint, Reason};
use super::progress::{Progress, Style};
use super::show::Link;
use super::shown::{shown, shown_path};
use super::signals;
use super::status::ExitStatus;
use super::{events, figures, output};
use crate::create::saving::Target;
use crate::create::{self, CreateError, Creation, Identity, LeftOut, TorrentFile, TorrentSettings};
use crate::protocol::metainfo::Metainfo;
use crate::storage::check;
use crossbeam_channel::Receiver;
use serde::Serialize;
use std::fmt::Write as _;
use std::io::{ErrorKind, IsTerminal};
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

/// Where the .torrent goes.
pub(super) enum SaveTo {
    Output,
    File(Target),
}

/// Runs `create`.
pub fn run(options: &CreateArguments) -> Result<ExitStatus, Complaint> {
    let place = place(options)?;
    let work = start(options, &place)?;
    let stopper = work.stopper();
    let signal = signals::watch(move || stopper.stop());
    let left_out = work.left_out();
    warn_before(options, &work);
    let torrent = hash(work, options.quiet, &signal)?;
    for oddity in &torrent.metainfo.oddities {
        warn(options, &shown(oddity));
    }
    let path = match &place {
        SaveTo::Output => {
            output::bytes(&torrent.bytes)?;
            None
        }
        SaveTo::File(target) => {
            save(target, &torrent, options, &signal)?;
            Some(target.path())
        }
    };
    let text = if options.json {
        events::json(&Created::new(path, &torrent.metainfo, left_out))
    } else {
        page(path, &torrent.metainfo)
    };
    match path {
        _ if options.quiet && !options.json => {}
        Some(_) => output::line(&text)?,
        None => output::say(&text),
    }
    Ok(ExitStatus::Done)
}

/// Where the .torrent goes, if it can go there: known before hours of hashing.
pub(super) fn place(options: &CreateArguments) -> Result<SaveTo, Complaint> {
    let named = options.output.as_deref();
    if named.is_some_and(output::is_named) {
        if std::io::stdout().is_terminal() {
            return Err(Complaint::new(
                Reason::Output,
                "a .torrent is no text to show on a terminal",
                "redirect standard output, or name a file with --output",
            ));
        }
        if output::is_missing() {
            return Err(Complaint::new(
                Reason::Output,
                "standard output is closed, so the .torrent would go nowhere",
                "redirect standard output, or name a file with --output",
            ));
        }
        return Ok(SaveTo::Output);
    }
    let path = match named {
        Some(path) if !path.is_dir() => path.to_owned(),
        folder => {
            let name = match &options.name {
                Some(name) => name.clone(),
                None => {
                    create::name_of(&options.path).map_err(|error| Complaint::create(&error))?
                }
            };
            let file = format!("{name}.torrent");
            folder.map_or_else(|| PathBuf::from(&file), |folder| folder.join(&file))
        }
    };
    let target = Target::new(&path).map_err(|error| Complaint::writing(&path, &error))?;
    if target.is_occupied() && !options.overwrite {
        return Err(in_the_way(&path));
    }
    Ok(SaveTo::File(target))
}

fn in_the_way(path: &Path) -> Complaint {
    Complaint::new(
        Reason::InTheWay,
        format!("{} exists", shown_path(path)),
        "replace it with --overwrite, or choose another place with --output",
    )
}

pub(super) fn start(options: &CreateArguments, place: &SaveTo) -> Result<Creation, Complaint> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let seconds = now.ok().and_then(|now| i64::try_from(now.as_secs()).ok());
    let target = match place {
        SaveTo::File(target) => target.file(),
        SaveTo::Output => None,
    };
    // Where the shell sends what we write: the .torrent itself, the page, the progress.
    let streams = [
        Identity::behind(std::io::stdout()),
        Identity::behind(std::io::stderr()),
    ];
    let streams = streams.into_iter().flatten();
    let settings = TorrentSettings {
        name: options.name.clone(),
        piece_length: options.piece_length,
        trackers: options.trackers.clone(),
        webseeds: options.webseeds.clone(),
        private: options.private,
        comment: options.comment.clone(),
        source: options.source.clone(),
        created_by: options
            .creator
            .then(|| concat!("ropewalk ", env!("CARGO_PKG_VERSION")).to_owned()),
        creation_date: seconds.filter(|_| options.date),
        exclude: options.exclude.clone(),
        hidden: options.hidden,
        outputs: target.into_iter().chain(streams).collect(),
    };
    Creation::start(&options.path, settings, check::hashers())
        .map_err(|error| Complaint::create(&error))
}

/// Hashes everything, or until a signal comes: one that came while the screen was waited for counts though all is
/// hashed, as nothing was saved yet.
pub(super) fn hash(
    work: Creation,
    quiet: bool,
    signal: &Receiver<u8>,
) -> Result<TorrentFile, Complaint> {
    let mut progress = Progress::new(Style::fitting(quiet, false), &[shown(work.name())]);
    let torrent = hash_with(work, &mut progress);
    progress.finish();
    match signal.try_recv() {
        Ok(number) => Err(Complaint {
            status: ExitStatus::Signal(number),
            ..Complaint::create(&CreateError::Stopped)
        }),
        Err(_) => torrent.map_err(|error| Complaint::create(&error)),
    }
}

fn hash_with(mut work: Creation, progress: &mut Progress) -> Result<TorrentFile, CreateError> {
    let clock = Instant::now();
    let total = work.geometry().total();
    let mut done = 0;
    for step in &mut work {
        done += step?.bytes;
        progress.hashing(clock.elapsed(), done, total);
    }
    work.finish()
}

pub(super) fn save(
    target: &Target,
    torrent: &TorrentFile,
    options: &CreateArguments,
    signal: &Receiver<u8>,
) -> Result<(), Complaint> {
    let saved = target.save_unless(&torrent.bytes, options.overwrite, signal);
    let saved = saved.map_err(|signal| Complaint::unsaved(target.path(), signal))?;
    saved.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => in_the_way(target.path()),
        _ => Complaint::writing(target.path(), &error),
    })
}

pub(super) fn warn(options: &CreateArguments, text: &str) {
    if !options.quiet {
        output::say(&format!("warning: {text}"));
    }
}

pub(super) fn warn_before(options: &CreateArguments, work: &Creation) {
    let hidden = work.left_out().hidden;
    if hidden > 0 {
        let them = figures::count(hidden as u64, "hidden name");
        warn(
            options,
            &format!("{them} left out; --include-hidden takes them in"),
        );
    }
    for glob in work.idle_globs() {
        warn(
            options,
            &format!("nothing matches --exclude {}", shown(glob.pattern())),
        );
    }
    let length = work.geometry().piece_length();
    if !length.is_power_of_two() {
        let text = "some programs accept no piece length but a power of two, this one is";
        warn(options, &format!("{text} {length} bytes"));
    }
    if options.private && options.trackers.is_empty() {
        warn(
            options,
            "it is private and names no tracker, so peers have no way to find each other",
        );
    }
}

/// The keys of `create --json`.
#[derive(Serialize)]
struct Created<'a> {
    path: Option<String>,
    name: &'a str,
    info_hash: String,
    total_size: u64,
    piece_length: u32,
    pieces: u32,
    files: usize,
    hidden: usize,
    excluded: usize,
    magnet: String,
}

impl<'a> Created<'a> {
    fn new(path: Option<&Path>, metainfo: &'a Metainfo, left_out: LeftOut) -> Created<'a> {
        Created {
            path: path.map(|path| path.to_string_lossy().into_owned()),
            name: &metainfo.name,
            info_hash: metainfo.info_hash.to_string(),
            total_size: metainfo.geometry.total(),
            piece_length: metainfo.geometry.piece_length(),
            pieces: metainfo.geometry.pieces(),
            files: metainfo.files.len(),
            hidden: left_out.hidden,
            excluded: left_out.excluded,
            magnet: Link::from(metainfo).magnet,
        }
    }
}

/// The page for people.
fn page(path: Option<&Path>, metainfo: &Metainfo) -> String {
    let mut page = String::new();
    let geometry = &metainfo.geometry;
    let mut row = |key: &str, value: &str| {
        let _ = writeln!(page, "{key:<14}{value}");
    };
    if let Some(path) = path {
        row("written", &shown_path(path));
    }
    row("info-hash", &metainfo.info_hash.to_string());
    row(
        "size",
        &format!(
            "{} ({} bytes) in {}",
            figures::size(geometry.total()),
            geometry.total(),
            figures::count(metainfo.files.len() as u64, "file")
        ),
    );
    let length = figures::size(geometry.piece_length().into());
    row("pieces", &format!("{} of {length}", geometry.pieces()));
    let Link { magnet, remark } = metainfo.into();
    row("magnet", &shown(&magnet));
    if let Some(remark) = remark {
        row("", remark);
    }
    page.truncate(page.trim_end().len());
    page
}
