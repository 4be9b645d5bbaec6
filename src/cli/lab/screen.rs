//! Where the lab is watched: on a terminal the table is drawn again in its place, elsewhere it is
//! printed a few times on the way.

use super::super::complaint::Complaint;
use super::super::output;
use super::drawing::{Canvas, table};
use crate::lab::chronicle::Chronicle;
use rustix::termios::tcgetwinsize;
use std::collections::VecDeque;
use std::io::IsTerminal;
use std::time::Duration;

/// How often the table is drawn.
const BETWEEN: Duration = Duration::from_millis(100);
/// Who has given so lately is shown as a giver.
const LATELY: Duration = Duration::from_secs(1);
/// Elsewhere than on a terminal, the table is printed when so many percent are there.
const STOPS: [u64; 3] = [15, 50, 85];
/// The width of a place that does not tell its own.
const COLUMNS: usize = 80;

/// The place and what stands there.
pub struct Screen {
    canvas: Canvas,
    redraws: bool,
    /// Rows of the table that stand at the bottom.
    drawn: usize,
    drawn_at: Option<Duration>,
    /// What had been given at some moments of the last second.
    past: VecDeque<(Duration, Vec<Vec<u64>>)>,
    stops: usize,
}

impl Screen {
    /// Standard output as it is.
    pub fn new() -> Screen {
        let terminal = std::io::stdout().is_terminal();
        let dumb = word("TERM").is_none_or(|term| term == "dumb");
        let size = terminal
            .then(|| tcgetwinsize(std::io::stdout()).ok())
            .flatten();
        let columns = size.map_or(0, |size| usize::from(size.ws_col));
        let rows = size.map_or(0, |size| usize::from(size.ws_row));
        // The first of these that is set is the one that counts.
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(word);
        let locale = locale.unwrap_or_default().to_ascii_lowercase();
        Screen {
            canvas: Canvas {
                columns: if columns == 0 { COLUMNS } else { columns },
                rows: if rows == 0 {
                    usize::MAX
                } else {
                    rows.saturating_sub(4).max(2)
                },
                colour: terminal && !dumb && word("NO_COLOR").is_none(),
                utf8: locale.contains("utf-8") || locale.contains("utf8"),
            },
            redraws: terminal && !dumb,
            drawn: 0,
            drawn_at: None,
            past: VecDeque::new(),
            stops: 0,
        }
    }

    /// Prints a line, above the table if there is one.
    pub fn say(&mut self, at: Duration, text: &str) -> Result<(), Complaint> {
        let time = at.as_secs_f64();
        let indented = wrapped(text, self.canvas.columns.saturating_sub(9).clamp(30, 91));
        let erased = self.erased();
        self.drawn_at = None;
        output::line(&format!(
            "{erased}{time:5.1} s  {}",
            indented.join("\n         ")
        ))
    }

    /// Draws the table if it is time.
    pub fn draw(&mut self, chronicle: &Chronicle, at: Duration) -> Result<(), Complaint> {
        if !self.redraws {
            return self.stop_by(chronicle, at);
        }
        if self.drawn_at.is_some_and(|last| at < last + BETWEEN) {
            return Ok(());
        }
        while self.past.len() > 1 && self.past.get(1).is_some_and(|it| it.0 + LATELY <= at) {
            self.past.pop_front();
        }
        let rows = {
            let none = Vec::new();
            let before = self.past.front().map_or(&none, |it| &it.1);
            table(chronicle, before, self.canvas)
        };
        self.past.push_back((at, chronicle.given.clone()));
        let text = format!("{}\n{}", self.erased(), rows.join("\n"));
        self.drawn = rows.len() + 1;
        self.drawn_at = Some(at);
        output::line(&text)
    }

    /// The table as it is in the end.
    pub fn last(&mut self, chronicle: &Chronicle) -> Result<(), Complaint> {
        let before = chronicle.given.clone();
        let rows = table(chronicle, &before, self.canvas);
        let text = format!("{}\n{}", self.erased(), rows.join("\n"));
        output::line(&text)
    }

    /// Where nothing can be drawn again: a table at each stop.
    fn stop_by(&mut self, chronicle: &Chronicle, at: Duration) -> Result<(), Complaint> {
        let readers = chronicle.members.iter().filter(|it| it.part.role.wants());
        let (mut here, mut all) = (0, 0);
        for reader in readers {
            here += u64::from(reader.count) * 100;
            all += u64::from(chronicle.book.pieces);
        }
        let due = STOPS.get(self.stops).is_some_and(|stop| here >= stop * all);
        if !due {
            return Ok(());
        }
        self.stops += 1;
        let none = Vec::new();
        let before = self.past.back().map_or(&none, |it| &it.1);
        let rows = table(chronicle, before, self.canvas);
        self.past.push_back((at, chronicle.given.clone()));
        let time = at.as_secs_f64();
        output::line(&format!("{time:5.1} s\n{}", rows.join("\n")))
    }

    /// What takes the drawn table away.
    fn erased(&mut self) -> String {
        match std::mem::take(&mut self.drawn) {
            0 => String::new(),
            rows => format!("\u{1b}[{rows}A\u{1b}[J"),
        }
    }
}

/// A variable of the environment, if it says anything.
fn word(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

/// Lines of a text, broken between words.
fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut();
        let Some(line) = line else { break };
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= columns {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::wrapped;

    #[test]
    fn lines_are_broken_between_words_and_nothing_is_lost() {
        let text = "three ropes are one rope, and one rope is a rope";
        let lines = wrapped(text, 12);
        assert!(lines.iter().all(|line| line.len() <= 12), "{lines:?}");
        assert_eq!(lines.join(" "), text);
        assert_eq!(wrapped("a-very-long-word", 4), ["a-very-long-word"]);
    }
}
