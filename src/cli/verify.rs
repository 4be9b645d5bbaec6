//! `verify`: a line for each file, exit status 3 where something is missing or wrong.

use super::complaint::{Complaint, Reason, plain};
use super::progress::{Progress, Style};
use super::shown::{shown, shown_path};
use super::status::ExitStatus;
use super::{events, figures, output, torrent};
use crate::protocol::PieceIndex;
use crate::protocol::metainfo::Metainfo;
use crate::storage::check;
use crate::storage::survey::Flaw;
use crate::verify::{self, Elsewhere, FileReport, FileState, Verification, VerifyReport};
use serde::Serialize;
use std::ffi::OsStr;
use std::path::Path;
use std::time::Instant;

/// Runs `verify`.
pub fn run(
    json: bool,
    quiet: bool,
    torrent: &OsStr,
    folder: &Path,
) -> Result<ExitStatus, Complaint> {
    let metainfo = torrent::load(torrent, None, None)?;
    let report = hash(&metainfo, folder, quiet)?;
    let hint = report.is_empty().then(|| hint(&metainfo, folder)).flatten();
    if json {
        output::line(&events::json(&Verified::new(&metainfo, &report)))?;
        hint.iter().for_each(|hint| output::say(hint));
        return Ok(status(&report));
    }
    let told = report.files.iter();
    let told = told.filter(|file| !(quiet && file.state == FileState::Complete));
    output::lines(told.map(|file| {
        let (word, detail) = words(&file.state);
        let path = shown_path(&file.path);
        format!("{word:<10}  {path}{}", behind_colon(&detail))
    }))?;
    if !quiet {
        output::say(&summary(&report));
    }
    hint.iter().for_each(|hint| output::say(hint));
    Ok(status(&report))
}

/// Where nothing was found, and it is clear why.
fn hint(metainfo: &Metainfo, folder: &Path) -> Option<String> {
    if !folder.exists() {
        return Some(format!("  hint: there is no {}", shown_path(folder)));
    }
    Some(match verify::elsewhere(metainfo, folder)? {
        Elsewhere::Above(above) => format!(
            "  hint: {} is the torrent's own; name what it lies in: {}",
            shown_path(folder),
            shown_path(&above)
        ),
        Elsewhere::OtherName => format!(
            "  hint: its files are in {} itself; they are looked for in a folder there, {}",
            shown_path(folder),
            shown(&metainfo.name)
        ),
    })
}

fn hash(metainfo: &Metainfo, folder: &Path, quiet: bool) -> Result<VerifyReport, Complaint> {
    let mut work = Verification::start(metainfo, folder, check::hashers()).map_err(|error| {
        Complaint::new(
            Reason::Resources,
            format!("cannot start a thread: {}", plain(&error)),
            "the system allows no more threads (see `ulimit -u`)",
        )
    })?;
    let clock = Instant::now();
    let mut progress = Progress::new(Style::fitting(quiet, false), &[shown(&metainfo.name)]);
    let of = work.pieces();
    for (done, _) in (1..).zip(&mut work) {
        progress.checking(clock.elapsed(), 0, done, of);
    }
    progress.finish();
    Ok(work.report())
}

/// Wrong data is 3; where nothing is known to be wrong but something could not be read, it is 2. What is untold is
/// so because of another file, which decides.
fn status(report: &VerifyReport) -> ExitStatus {
    let mismatch = |file: &FileReport| match &file.state {
        FileState::Flawed(flaw) => !matches!(flaw, Flaw::Unreadable(_)),
        FileState::Wrong { .. } => true,
        FileState::Complete | FileState::Untold { .. } | FileState::Unreadable(_) => false,
    };
    if report.is_complete() {
        ExitStatus::Done
    } else if report.files.iter().any(mismatch) {
        ExitStatus::Mismatch
    } else {
        ExitStatus::Failed
    }
}

/// The state as a word and what more there is to say, safe to show.
fn words(state: &FileState) -> (&'static str, String) {
    match state {
        FileState::Complete => ("ok", String::new()),
        FileState::Flawed(flaw) => match flaw {
            Flaw::Missing => ("missing", String::new()),
            Flaw::Short(bytes) => ("short", format!("it has only {bytes} bytes")),
            Flaw::Long(bytes) => ("long", format!("it has {bytes} bytes, too many")),
            Flaw::NotAFile(what) => ("not-a-file", (*what).to_owned()),
            Flaw::Unreadable(error) => ("unreadable", shown(&error.cause)),
        },
        FileState::Wrong { bad } => (
            "wrong",
            format!(
                "{} wrong: {}",
                figures::count(bad.len() as u64, "piece"),
                figures::list(bad.iter().map(|piece| piece.get()))
            ),
        ),
        FileState::Untold { pieces } => (
            "untold",
            format!(
                "it shares {} with files that are not right, so nobody can tell",
                figures::count(pieces.len() as u64, "piece")
            ),
        ),
        FileState::Unreadable(error) => ("unreadable", shown(&error.cause)),
    }
}

fn behind_colon(detail: &str) -> String {
    if detail.is_empty() {
        String::new()
    } else {
        format!(": {detail}")
    }
}

fn summary(report: &VerifyReport) -> String {
    let complete = report
        .files
        .iter()
        .filter(|file| file.state == FileState::Complete)
        .count();
    format!(
        "{complete} of {} complete, {} of {} right",
        figures::count(report.files.len() as u64, "file"),
        report.good.count(),
        figures::count(report.geometry.pieces().into(), "piece"),
    )
}

/// The keys of `verify --json`.
#[derive(Serialize)]
struct Verified<'a> {
    name: &'a str,
    info_hash: String,
    ok: bool,
    pieces: u32,
    pieces_good: u32,
    files: Vec<VerifiedFile<'a>>,
}

#[derive(Serialize)]
struct VerifiedFile<'a> {
    path: &'a str,
    length: u64,
    ok: bool,
    state: &'static str,
    text: Option<String>,
    bad_pieces: Vec<u32>,
}

impl<'a> Verified<'a> {
    fn new(metainfo: &'a Metainfo, report: &VerifyReport) -> Verified<'a> {
        let on_disk = metainfo.files.iter().filter(|file| !file.padding);
        let files = on_disk.zip(&report.files).map(|(file, found)| {
            let (state, detail) = words(&found.state);
            VerifiedFile {
                path: &file.path,
                length: file.length,
                ok: found.state == FileState::Complete,
                state,
                text: (!detail.is_empty()).then_some(detail),
                bad_pieces: bad(&found.state).iter().map(|piece| piece.get()).collect(),
            }
        });
        Verified {
            name: &metainfo.name,
            info_hash: metainfo.info_hash.to_string(),
            ok: report.is_complete(),
            pieces: report.geometry.pieces(),
            pieces_good: report.good.count(),
            files: files.collect(),
        }
    }
}

fn bad(state: &FileState) -> &[PieceIndex] {
    match state {
        FileState::Wrong { bad } => bad,
        FileState::Untold { pieces } => pieces,
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::protocol::Geometry;
    use crate::protocol::bitfield::Bitfield;
    use crate::storage::slot::StorageError;

    #[test]
    fn the_status_says_wrong_only_where_something_is_known_to_be_wrong() {
        let geometry = Geometry::new(1, 1).unwrap();
        let status_of = |states: &[FileState]| {
            let files = states.iter().map(|state| FileReport {
                path: "a".into(),
                length: 1,
                state: state.clone(),
            });
            status(&VerifyReport {
                files: files.collect(),
                good: Bitfield::new(&geometry),
                geometry,
            })
        };
        let denied = std::io::ErrorKind::PermissionDenied.into();
        let error = StorageError::from_io("open", Path::new("a"), &denied);
        let unreadable = FileState::Unreadable(error.clone());
        let hidden = FileState::Flawed(Flaw::Unreadable(error));
        let untold = FileState::Untold { pieces: Vec::new() };
        let missing = FileState::Flawed(Flaw::Missing);
        let wrong = FileState::Wrong { bad: Vec::new() };
        let ok = FileState::Complete;
        assert_eq!(status_of(&[]), ExitStatus::Done);
        assert_eq!(status_of(std::slice::from_ref(&ok)), ExitStatus::Done);
        for read_in_vain in [unreadable, hidden] {
            let files = [ok.clone(), untold.clone(), read_in_vain.clone()];
            assert_eq!(status_of(&files), ExitStatus::Failed);
            for bad in [&wrong, &missing] {
                let files = [read_in_vain.clone(), bad.clone()];
                assert_eq!(status_of(&files), ExitStatus::Mismatch);
            }
        }
        assert_eq!(status_of(&[missing, untold]), ExitStatus::Mismatch);
    }
}
