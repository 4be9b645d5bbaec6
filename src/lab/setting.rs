//! The table is set: is there room for so many, where is the tracker, which book is it.

use super::{Folder, LabError, Plan, book, trouble};
use crate::tracker;
use rustix::process::{Resource, getrlimit};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

/// How often peers announce.
const INTERVAL: Duration = Duration::from_secs(60);

/// Every two at the table are joined by a connection with two ends, all in this process.
pub(super) fn enough_descriptors(plan: &Plan) -> Result<(), LabError> {
    let members = (plan.peers + plan.seeds + plan.liars) as u64;
    let needed = 3 * members * members + 16 * members + 64;
    match getrlimit(Resource::Nofile).current {
        Some(allowed) if allowed < needed => Err(LabError::Descriptors { allowed, needed }),
        _ => Ok(()),
    }
}

/// A tracker by UDP on a port of its own.
pub(super) fn start_tracker() -> Result<tracker::Running, LabError> {
    tracker::start(tracker::Setup {
        udp: vec![(Ipv4Addr::LOCALHOST, 0).into()],
        interval: INTERVAL,
        ..tracker::Setup::default()
    })
    .map_err(|error| LabError::Tracker(error.to_string()))
}

/// Where the book is, and its name.
pub(super) fn open_book(plan: &Plan, folder: &Folder) -> Result<(PathBuf, String), LabError> {
    let Some(path) = &plan.file else {
        let original = folder.0.join(book::NAME);
        let text = book::write(plan.rng);
        std::fs::write(&original, text).map_err(|error| trouble(&original, &error))?;
        return Ok((original, book::NAME.to_owned()));
    };
    let refused = |cause: String| LabError::Book {
        path: path.clone(),
        cause,
    };
    let metadata = std::fs::metadata(path).map_err(|error| refused(error.to_string()))?;
    let name = path.file_name().map(|name| name.to_string_lossy());
    match name {
        _ if !metadata.is_file() => Err(refused("it is no file".into())),
        _ if metadata.len() == 0 => Err(refused("it is empty".into())),
        _ if metadata.len() > book::FILE_MAX => Err(refused(format!(
            "it has more than {} MiB, and everybody at the table writes a copy",
            book::FILE_MAX >> 20
        ))),
        None => Err(refused("it has no name".into())),
        Some(name) => {
            // A copy, because nobody else changes that while it is read.
            let original = folder.0.join("original");
            std::fs::File::open(path).map_err(|error| refused(error.to_string()))?;
            std::fs::copy(path, &original).map_err(|error| trouble(&original, &error))?;
            Ok((original, name.into_owned()))
        }
    }
}
