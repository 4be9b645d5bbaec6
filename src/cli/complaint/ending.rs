//! How work on a torrent ended, as a sentence.

use super::super::figures;
use super::super::status::ExitStatus;
use super::{Complaint, Reason};
use crate::client::{Ending, Role, Snapshot};

impl Complaint {
    /// How work on the torrent `name` (safe to show) ended, if that was not well. `signal` is the
    /// number of the signal that asked for the end, if one did.
    pub fn ending(
        name: &str,
        ending: &Ending,
        snapshot: &Snapshot,
        role: Role,
        signal: Option<u8>,
    ) -> Option<Complaint> {
        let again = "run the same command again to go on from here";
        let complaint = match ending {
            Ending::Done | Ending::StoppedSharing => return None,
            Ending::Interrupted => Complaint {
                status: signal.map_or(ExitStatus::Failed, ExitStatus::Signal),
                ..Complaint::new(
                    Reason::Interrupted,
                    format!("{name}: stopped before it was complete{}", there(snapshot)),
                    again,
                )
            },
            Ending::TimedOut => Complaint::new(
                Reason::Timeout,
                format!(
                    "{name}: gave up, nothing arrived for too long{}{}",
                    there(snapshot),
                    liars(snapshot)
                ),
                "run the same command again later, name a peer with --peer, or allow more with --timeout",
            ),
            Ending::NobodyToAsk => Complaint::new(
                Reason::NoPeers,
                format!(
                    "{name}: there is nobody to ask: no tracker and no {}{}{}",
                    match snapshot.liars {
                        0 => "peer",
                        _ => "other peer",
                    },
                    there(snapshot),
                    liars(snapshot)
                ),
                "name a peer with --peer HOST:PORT; peers are not found without a tracker yet",
            ),
            Ending::Storage(error) => {
                let complaint = Complaint::storage(error, role);
                Complaint {
                    sentence: format!("{name}: {}", complaint.sentence),
                    ..complaint
                }
            }
            Ending::NothingToSeed => Complaint {
                status: ExitStatus::Mismatch,
                ..Complaint::new(
                    Reason::Data,
                    format!("{name}: none of its data is here"),
                    "name the folder that holds it: ropewalk seed TORRENT DIR",
                )
            },
            Ending::BadPieces(pieces) => Complaint {
                status: ExitStatus::Mismatch,
                ..Complaint::new(
                    Reason::Data,
                    format!(
                        "{name}: no peer sends these pieces as the torrent describes them: {}",
                        figures::list(pieces.iter().map(|piece| piece.get()))
                    ),
                    "wait for other peers and run the same command again, or look for another torrent",
                )
            },
        };
        Some(complaint)
    }
}

fn there(snapshot: &Snapshot) -> String {
    if !snapshot.looked {
        return " (what is here was still being checked)".to_owned();
    }
    let (here, all) = (
        figures::size(snapshot.wanted_have),
        figures::size(snapshot.wanted),
    );
    match snapshot.wanted.saturating_sub(snapshot.wanted_have) {
        left @ 1.. if here == all => {
            format!(" (all but {} of {all} are here)", figures::size(left))
        }
        _ => format!(" ({here} of {all} are here)"),
    }
}

/// Who is to blame for it, perhaps alone.
fn liars(snapshot: &Snapshot) -> String {
    match snapshot.liars {
        0 => String::new(),
        1 => "; 1 peer sent wrong data and is not asked any more".to_owned(),
        many => format!("; {many} peers sent wrong data and are not asked any more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_before_the_end_has_the_signals_status() {
        let status = |ending, signal| {
            let complaint =
                Complaint::ending("x", &ending, &Snapshot::default(), Role::Get, signal);
            complaint.map(|c| c.status.code())
        };
        assert_eq!(status(Ending::Interrupted, Some(15)), Some(143));
        assert_eq!(status(Ending::StoppedSharing, Some(15)), None);
        assert_eq!(status(Ending::NothingToSeed, None), Some(3));
        assert_eq!(status(Ending::TimedOut, None), Some(2));
    }

    #[test]
    fn a_little_that_is_missing_is_not_rounded_away() {
        let there = |missing: u64| {
            there(&Snapshot {
                looked: true,
                wanted: 10_000_000,
                wanted_have: 10_000_000 - missing,
                ..Snapshot::default()
            })
        };
        assert_eq!(there(16_384), " (all but 16.0 KiB of 9.5 MiB are here)");
        assert_eq!(there(1_000_000), " (8.6 MiB of 9.5 MiB are here)");
        assert_eq!(there(0), " (9.5 MiB of 9.5 MiB are here)");
    }

    #[test]
    fn a_stop_while_checking_does_not_say_that_nothing_is_there() {
        let sentence = |looked| {
            let snapshot = Snapshot {
                looked,
                wanted: 4096,
                ..Snapshot::default()
            };
            Complaint::ending("x", &Ending::Interrupted, &snapshot, Role::Get, Some(2))
                .map(|c| c.sentence)
        };
        let unknown = "x: stopped before it was complete (what is here was still being checked)";
        assert_eq!(sentence(false).as_deref(), Some(unknown));
        assert!(sentence(true).is_some_and(|it| it.ends_with("(0 B of 4.0 KiB are here)")));
    }

    #[test]
    fn where_those_who_were_asked_lied_the_end_says_so() {
        let sentence = |ending, liars| {
            let snapshot = Snapshot {
                looked: true,
                liars,
                ..Snapshot::default()
            };
            Complaint::ending("x", &ending, &snapshot, Role::Get, None).map(|c| c.sentence)
        };
        let two = "x: gave up, nothing arrived for too long (0 B of 0 B are here); \
                   2 peers sent wrong data and are not asked any more";
        assert_eq!(sentence(Ending::TimedOut, 2).as_deref(), Some(two));
        let one = "x: there is nobody to ask: no tracker and no other peer (0 B of 0 B are here); \
                   1 peer sent wrong data and is not asked any more";
        assert_eq!(sentence(Ending::NobodyToAsk, 1).as_deref(), Some(one));
        for ending in [Ending::TimedOut, Ending::NobodyToAsk] {
            assert!(sentence(ending, 0).is_some_and(|it| it.ends_with("are here)")));
        }
    }
}
