//! The table is set: is there room for so many, where is the tracker, which book is it.

use super::{Folder, LabError, Plan, book, trouble};
use crate::net::self_call::reaches_itself;
use crate::tracker;
use rustix::process::{Resource, getrlimit};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

/// How often peers announce.
const INTERVAL: Duration = Duration::from_secs(60);

/// The open files that a table takes: each end of a connection is a socket and a wake-up, both ends are in this
/// process, and of those who want the book each two are joined, as each is with every giver. Two that call each
/// other have two connections for a moment. 8,381 were counted at a table of 50 and 16 seeds.
pub(super) fn descriptors(plan: &Plan) -> u64 {
    let (takers, givers) = (plan.peers as u64, (plan.seeds + plan.liars) as u64);
    let pairs = takers * takers.saturating_sub(1) / 2 + takers * givers;
    // Its folder, sockets, channels to its threads: five were counted for each member.
    4 * pairs + pairs / 2 + 10 * (takers + givers) + 64
}

/// Refuses a table for which the system has too few.
pub(super) fn enough_descriptors(plan: &Plan) -> Result<(), LabError> {
    let needed = descriptors(plan);
    match getrlimit(Resource::Nofile).current {
        Some(allowed) if allowed < needed => Err(LabError::Descriptors { allowed, needed }),
        _ => Ok(()),
    }
}

/// A tracker by UDP on a port of its own.
pub(super) fn start_tracker() -> Result<tracker::Running, LabError> {
    let here = Ipv4Addr::LOCALHOST;
    reaches_itself(here.into()).map_err(|error| {
        let sentence = format!("nothing reaches {here} on this machine: {error}");
        LabError::Tracker(sentence)
    })?;
    tracker::start(tracker::Setup {
        udp: vec![(here, 0).into()],
        interval: INTERVAL,
        ..tracker::Setup::default()
    })
    .map_err(|error| LabError::Tracker(error.to_string()))
}

/// Where the book is, and its name.
pub(super) fn open_book(plan: &Plan, folder: &Folder) -> Result<(PathBuf, String), LabError> {
    let Some(path) = &plan.file else {
        let original = folder.path.join(book::NAME);
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
            let original = folder.path.join("original");
            std::fs::File::open(path).map_err(|error| refused(error.to_string()))?;
            std::fs::copy(path, &original).map_err(|error| trouble(&original, &error))?;
            Ok((original, name.into_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counted in runs of the lab, `ls /proc/PID/fd` ten times a second.
    #[test]
    fn a_table_is_thought_to_take_a_bit_more_than_was_counted() {
        let counted = [
            (1, 1, 0, 29),
            (6, 1, 0, 122),
            (12, 4, 0, 531),
            (4, 16, 0, 370),
            (20, 1, 4, 1_252),
            (30, 1, 0, 1_998),
            (50, 16, 0, 8_380),
        ];
        for (peers, seeds, liars, counted) in counted {
            let plan = Plan {
                peers,
                seeds,
                liars,
                ..Plan::default()
            };
            let needed = descriptors(&plan);
            assert!(
                needed >= counted && needed <= counted * 5 / 4 + 128,
                "{peers}: {needed}, {counted}"
            );
        }
    }
}
