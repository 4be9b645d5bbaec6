//! What happens at the table in sentences, each with the idea that can be seen in it.

use super::super::figures;
use super::super::shown::shown;
use super::figures::seconds;
use crate::client::Notice;
use crate::lab::LabEvent;
use crate::lab::cast::LabRole;
use crate::lab::chronicle::{Chronicle, FluidLimits, Member, PieceArrival};
use crate::swarm::event::Farewell;
use std::collections::BTreeSet;
use std::time::Duration;

/// Who has to wait longer, in seconds, is told so.
const WORTH_SAYING: f64 = 60.0;

/// What has been said already: ideas are told once.
#[derive(Debug, Default)]
pub struct Words {
    seed_told: bool,
    liar_told: bool,
    readers_told: bool,
    first_told: bool,
    copy_told: bool,
    choke_told: bool,
    wrong_told: bool,
    lied_to: BTreeSet<usize>,
    complete: usize,
    compared: usize,
}

impl Words {
    /// The lines about an event; often none.
    pub fn of(&mut self, chronicle: &Chronicle, event: &LabEvent) -> Vec<String> {
        let name = |who: usize| chronicle.members[who].part.name.as_str();
        match event {
            LabEvent::Opened { torrent, tracker } => opened(chronicle, *torrent, tracker),
            LabEvent::Entered { who } => self.entered(chronicle, *who),
            LabEvent::Came(arrival) => self.came(chronicle, arrival),
            LabEvent::Turned(turn) if !turn.open && turn.said && !self.choke_told => {
                self.choke_told = true;
                vec![format!(
                    "{} chokes {}: nobody can serve all at once, so each serves some for a while, and then \
                     others.",
                    name(turn.who),
                    name(turn.whom)
                )]
            }
            LabEvent::Left { who } => vec![left(chronicle, *who)],
            // With one reader left there is no table to copy around.
            LabEvent::Spread if readers_here(chronicle) < 2 => Vec::new(),
            LabEvent::Spread => vec![spread(chronicle)],
            LabEvent::Told { who, notice } => self.told(chronicle, *who, notice),
            LabEvent::Compared { who, equal } => {
                self.compared += 1;
                match equal {
                    false => vec![format!("The copy of {} DIFFERS from the book.", name(*who))],
                    true => Vec::new(),
                }
            }
            LabEvent::Turned(_) | LabEvent::Tick => Vec::new(),
        }
    }

    fn entered(&mut self, chronicle: &Chronicle, who: usize) -> Vec<String> {
        let part = &chronicle.members[who].part;
        match part.role {
            LabRole::Seed if !std::mem::replace(&mut self.seed_told, true) => vec![format!(
                "{} sits down with the book. It hashes its copy, all of it is right, and it wants nothing.",
                part.name
            )],
            LabRole::Seed => vec![format!("{} sits down with another copy.", part.name)],
            LabRole::Liar if !std::mem::replace(&mut self.liar_told, true) => vec![format!(
                "{} sits down and says it has the book. Every page of its copy is wrong.",
                part.name
            )],
            LabRole::Liar => vec![format!("{} sits down and says the same.", part.name)],
            _ if self.readers_told => Vec::new(),
            _ => {
                self.readers_told = true;
                readers_sit_down(chronicle)
            }
        }
    }

    fn came(&mut self, chronicle: &Chronicle, arrival: &PieceArrival) -> Vec<String> {
        let Some(from) = arrival.from else {
            return Vec::new();
        };
        let giver = &chronicle.members[from].part;
        let (who, piece) = (&chronicle.members[arrival.who].part.name, arrival.piece);
        if giver.role == LabRole::Seed && !self.first_told {
            self.first_told = true;
            let idea = match (readers(chronicle).len(), chronicle.plan.seeds) {
                (1, _) => "",
                (_, 1) => {
                    " Each asks for the rarest pages, so the seed hands different pages to different people."
                }
                _ => {
                    " Each asks for the rarest pages, so the seeds hand different pages to different people."
                }
            };
            return vec![format!(
                "{who} has page {piece} from {}, and its SHA-1 is right.{idea}",
                giver.name
            )];
        }
        if giver.role.wants() && !self.copy_told {
            self.copy_told = true;
            return vec![format!(
                "{who} copies page {piece} from {}: people around a table, copying pages of one book \
                 from each other.",
                giver.name
            )];
        }
        Vec::new()
    }

    fn told(&mut self, chronicle: &Chronicle, who: usize, notice: &Notice) -> Vec<String> {
        let member = &chronicle.members[who];
        let name = &member.part.name;
        match notice {
            Notice::Piece {
                piece, good: false, ..
            } if !std::mem::replace(&mut self.wrong_told, true) => vec![format!(
                "{name}: page {} does not match its SHA-1, is thrown away and fetched again.",
                piece.get()
            )],
            Notice::PeerLeft {
                why: Farewell::Lied,
                ..
            } if self.lied_to.insert(who) => match self.lied_to.len() {
                1 => vec![format!(
                    "{name} knows who sent it wrong bytes, and hangs up for good."
                )],
                2 => vec![format!(
                    "{name} has found out as well. Nobody takes another's word for it: each checks for itself."
                )],
                _ => Vec::new(),
            },
            Notice::Complete { .. } if member.part.role.wants() => {
                self.complete += 1;
                let after = member.complete.unwrap_or_default();
                let after = seconds(after.saturating_sub(chronicle.opened).as_secs_f64());
                vec![match self.complete {
                    1 => format!(
                        "{name} has the whole book after {after}, checked and on disk. It stays and gives on: \
                         a seed itself."
                    ),
                    _ => format!("{name} has the whole book after {after}."),
                }]
            }
            Notice::Warning { text, .. } => vec![format!("{name}: warning: {}", shown(text))],
            _ => Vec::new(),
        }
    }
}

fn opened(chronicle: &Chronicle, torrent: u64, tracker: &std::net::SocketAddr) -> Vec<String> {
    let book = &chronicle.book;
    vec![
        format!(
            "A book, {} ({}), is cut into {} pages (pieces) of {}. Their SHA-1 hashes make a .torrent of {}: \
             who has that can check every page, whoever it comes from.",
            shown(&book.name),
            figures::size(book.bytes),
            book.pieces,
            figures::size(book.piece_length.into()),
            figures::size(torrent),
        ),
        format!(
            "The book's name everywhere is the hash of that list, the info-hash: {}",
            book.info_hash
        ),
        format!("A tracker opens at udp://{tracker}: it knows who is at the table, and no page."),
    ]
}

/// Those who came for the book.
fn readers(chronicle: &Chronicle) -> Vec<&str> {
    let members = chronicle.members.iter().map(|member| &member.part);
    let readers = members.filter(|part| part.role.wants());
    readers.map(|part| part.name.as_str()).collect()
}

/// How many of them have not left.
fn readers_here(chronicle: &Chronicle) -> usize {
    let here = |it: &&Member| it.part.role.wants() && it.left.is_none();
    chronicle.members.iter().filter(here).count()
}

fn readers_sit_down(chronicle: &Chronicle) -> Vec<String> {
    let with_role = |role: LabRole| -> Vec<&str> {
        let members = chronicle.members.iter().map(|member| &member.part);
        let fits = members.filter(|part| part.role == role);
        fits.map(|part| part.name.as_str()).collect()
    };
    let all = readers(chronicle);
    let (sit, each) = match all.len() {
        1 => ("A reader sits down".to_owned(), "It"),
        count => (format!("{count} readers sit down"), "Each"),
    };
    let mut lines = vec![format!(
        "{sit} with the .torrent and no page: {}. {each} asks the tracker who is here and calls them; from \
         then on they talk to each other.",
        all.join(", ")
    )];
    let riders = with_role(LabRole::FreeRider);
    if !riders.is_empty() {
        lines.push(format!(
            "Riding free, giving {} at most: {}.",
            figures::rate(chronicle.plan.riders_rate()),
            riders.join(", ")
        ));
    }
    let leavers = with_role(LabRole::Leaver);
    if !leavers.is_empty() {
        lines.push(format!(
            "To vanish with half a book: {}.",
            leavers.join(", ")
        ));
    }
    if let Some(up) = chronicle.plan.up {
        lines.push(format!(
            "Everybody's line carries {} and no more, {} as well.",
            figures::rate(up),
            match chronicle.plan.seeds {
                1 => "the seed's",
                _ => "the seeds'",
            }
        ));
    }
    let limits = FluidLimits::of(&chronicle.plan, chronicle.book.bytes, 1);
    if let Some(limits) = limits.filter(|it| it.fluid > WORTH_SAYING) {
        let time = Duration::try_from_secs_f64(limits.fluid).unwrap_or(Duration::MAX);
        let time = figures::duration(time);
        lines.push(format!("So it takes {time} at the least; Ctrl-C ends it."));
    }
    lines
}

fn left(chronicle: &Chronicle, who: usize) -> String {
    let member = &chronicle.members[who];
    let name = &member.part.name;
    let lost = chronicle.lost().len();
    let seeds = chronicle
        .members
        .iter()
        .filter(|it| it.part.role == LabRole::Seed);
    match (member.part.role, lost) {
        (LabRole::Seed, _) if seeds.clone().any(|seed| seed.left.is_none()) => {
            format!("{name} leaves.")
        }
        (LabRole::Seed, 0) => {
            format!("{name} leaves. All pages are still at the table: the readers need no seed.")
        }
        (LabRole::Seed, lost) => {
            let pages = figures::count(lost as u64, "page");
            format!("{name} leaves, and {pages} with it that nobody else has whole.")
        }
        _ => format!(
            "{name} vanishes with {} of {} pages; what it gave to others stays with them.",
            member.count, chronicle.book.pieces
        ),
    }
}

fn spread(chronicle: &Chronicle) -> String {
    let seeds = chronicle.members.iter().enumerate();
    let seeds = seeds.filter(|(_, member)| member.part.role == LabRole::Seed);
    let given: u64 = seeds.flat_map(|(who, _)| &chronicle.given[who]).sum();
    let givers = if chronicle.plan.seeds == 1 {
        "The seed"
    } else {
        "The seeds"
    };
    let stays = |it: &&Member| it.part.role == LabRole::Seed && it.left.is_none();
    let could = match chronicle.members.iter().find(stays) {
        Some(_) => ", and could leave",
        None => "",
    };
    format!(
        "Every page is with some reader now. {givers} gave {} for that, {:.2} books{could}: the rest is \
         copied around the table.",
        figures::size(given),
        given as f64 / chronicle.book.bytes.max(1) as f64
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::Plan;
    use crate::lab::chronicle::small_of;

    /// Two seeds, 0 and 1, who have everything, and two readers.
    fn two_seeds() -> Chronicle {
        small_of(Plan {
            peers: 2,
            seeds: 2,
            ..Plan::default()
        })
    }

    fn said(chronicle: &Chronicle, event: &LabEvent) -> String {
        Words::default().of(chronicle, event).join("\n")
    }

    #[test]
    fn only_the_last_seed_that_leaves_takes_pages_with_it() {
        let mut chronicle = two_seeds();
        chronicle.members[0].left = Some(Duration::ZERO);
        let first = said(&chronicle, &LabEvent::Left { who: 0 });
        assert_eq!(first, "Seed leaves.");
        chronicle.members[1].left = Some(Duration::ZERO);
        let last = said(&chronicle, &LabEvent::Left { who: 1 });
        assert!(last.contains("and 3 pages with it"), "{last}");
    }

    #[test]
    fn nobody_copies_around_a_table_with_one_reader_left() {
        let mut chronicle = two_seeds();
        let several = said(&chronicle, &LabEvent::Spread);
        assert!(several.contains("The seeds gave 0 B for that, 0.00 books, and could leave"));
        chronicle.members[3].left = Some(Duration::ZERO);
        assert_eq!(said(&chronicle, &LabEvent::Spread), "");
    }
}
