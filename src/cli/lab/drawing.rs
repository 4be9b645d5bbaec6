//! The table in letters: a row for each at it, with its pages, and who gives to it.

use crate::lab::cast::LabRole;
use crate::lab::chronicle::{Chronicle, Member};

/// What the place that is drawn on can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Canvas {
    /// Letters in a row.
    pub columns: usize,
    /// Rows of the table at most.
    pub rows: usize,
    /// Whether letters may have colours.
    pub colour: bool,
    /// Whether there are letters beyond ASCII.
    pub utf8: bool,
}

/// Beside the pages: margin, name, letter, percent, and what stands between them.
const BESIDE: usize = 1 + 7 + 1 + 1 + 1 + 1 + 4 + 1;
/// Pages have no less room than this.
const CELLS_MIN: usize = 16;

const RESET: &str = "\u{1b}[0m";

/// The rows of the table, headed by a line. `before`: what had been given some time ago, so that those
/// who have given since can be shown.
pub fn table(chronicle: &Chronicle, before: &[Vec<u64>], canvas: Canvas) -> Vec<String> {
    let members = &chronicle.members;
    // With many at the table the pages are more important than who gives.
    let room = canvas.columns.saturating_sub(BESIDE + 1);
    let with_givers = room.saturating_sub(members.len() + 1) >= CELLS_MIN;
    let room = room.saturating_sub(if with_givers { members.len() + 1 } else { 0 });
    let pieces = chronicle.book.pieces as usize;
    let cells = pieces.min(room.max(CELLS_MIN));
    let givers = if with_givers { "takes from" } else { "" };
    let meaning = if canvas.colour {
        "colours: from whom"
    } else {
        "letters: from whom"
    };
    let head = format!("{pieces} pages ({meaning})");
    let mut rows = vec![
        format!(" {:<9} {head:<cells$}      {givers}", "")
            .trim_end()
            .to_owned(),
    ];
    let sources = sources(chronicle);
    let shown = if members.len() > canvas.rows {
        canvas.rows.saturating_sub(1)
    } else {
        members.len()
    };
    for (who, member) in members.iter().enumerate().take(shown) {
        let letter = paint(member.part.letter, chronicle, who, canvas);
        let mut row = format!(" {:<7} {letter} ", member.part.name);
        for cell in 0..cells {
            // Where pages are more than cells, a cell stands for several.
            let span = cell * pieces / cells..(cell + 1) * pieces / cells;
            row.push_str(&mark(chronicle, member, &sources[who][span], canvas));
        }
        row.push_str(&format!(" {:>4}", percent(chronicle, member)));
        if with_givers {
            row.push(' ');
            row.push_str(&takes_from(chronicle, before, who, canvas));
        }
        rows.push(row.trim_end().to_owned());
    }
    if shown < members.len() {
        rows.push(format!("         ... and {} more", members.len() - shown));
    }
    rows
}

/// From whom each member has each piece: `None` where it has not, itself where it always had.
fn sources(chronicle: &Chronicle) -> Vec<Vec<Option<usize>>> {
    let members = chronicle.members.iter().enumerate();
    let mut sources: Vec<Vec<Option<usize>>> = members
        .map(|(who, member)| member.has.iter().map(|has| has.then_some(who)).collect())
        .collect();
    for arrival in &chronicle.arrivals {
        if let Some(from) = arrival.from {
            sources[arrival.who][arrival.piece as usize] = Some(from);
        }
    }
    sources
}

/// One cell.
fn mark(
    chronicle: &Chronicle,
    member: &Member,
    sources: &[Option<usize>],
    canvas: Canvas,
) -> String {
    let here = sources.iter().flatten().count();
    let from = sources.iter().flatten().next();
    let lies = member.part.role == LabRole::Liar;
    let (all, some, none) = match canvas.utf8 {
        true => ('█', '▒', '·'),
        false => ('#', '+', '.'),
    };
    let Some(from) = from else {
        return none.to_string();
    };
    let giver = chronicle.members[*from].part.letter;
    let sign = match (here == sources.len(), canvas.colour) {
        _ if lies => '?',
        (false, _) => some,
        (true, true) => all,
        (true, false) => giver,
    };
    paint(sign, chronicle, *from, canvas)
}

fn paint(sign: char, chronicle: &Chronicle, who: usize, canvas: Canvas) -> String {
    if !canvas.colour {
        return sign.to_string();
    }
    const COLOURS: [u8; 10] = [36, 33, 35, 32, 34, 96, 93, 95, 92, 94];
    let code = match chronicle.members[who].part.role {
        LabRole::Seed => 37,
        LabRole::Liar => 31,
        _ => COLOURS[who % COLOURS.len()],
    };
    format!("\u{1b}[{code}m{sign}{RESET}")
}

fn percent(chronicle: &Chronicle, member: &Member) -> String {
    let pieces = u64::from(chronicle.book.pieces);
    match member.part.role {
        LabRole::Liar => "lies".into(),
        _ if member.left.is_some() => "gone".into(),
        _ => format!(
            "{}%",
            super::super::figures::percent(member.count.into(), pieces)
        ),
    }
}

/// A letter for each who has given to it since.
fn takes_from(chronicle: &Chronicle, before: &[Vec<u64>], who: usize, canvas: Canvas) -> String {
    let mut text = String::new();
    for (giver, row) in chronicle.given.iter().enumerate() {
        let then = before.get(giver).and_then(|row| row.get(who));
        if row[who] > then.copied().unwrap_or_default() {
            let letter = chronicle.members[giver].part.letter;
            text.push_str(&paint(letter, chronicle, giver, canvas));
        } else {
            text.push(' ');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::lab::chronicle::small;

    const PLAIN: Canvas = Canvas {
        columns: 80,
        rows: 30,
        colour: false,
        utf8: false,
    };

    #[test]
    fn letters_say_from_whom_a_page_is_and_nothing_but_ascii_is_needed() {
        let rows = table(&small(), &[], PLAIN);
        assert!(
            rows.iter()
                .all(|row| row.is_ascii() && !row.contains('\u{1b}'))
        );
        assert_eq!(rows[1], " Seed    * *** 100%");
        assert_eq!(rows[2], " Ada     A ...   0%");
        assert_eq!(rows.len(), 4);
    }

    #[test]
    fn colours_come_with_a_reset_each() {
        let canvas = Canvas {
            colour: true,
            utf8: true,
            ..PLAIN
        };
        let all = table(&small(), &[], canvas).concat();
        assert!(all.contains("█"));
        assert_eq!(
            all.matches("\u{1b}[").count(),
            2 * all.matches(RESET).count()
        );
    }

    #[test]
    fn a_small_place_is_not_overdrawn() {
        let canvas = Canvas {
            columns: 20,
            rows: 2,
            ..PLAIN
        };
        let rows = table(&small(), &[], canvas);
        assert_eq!(rows.len(), 3);
        assert!(rows[2].contains("and 2 more"));
    }
}
