//! How far it is, on standard error: a bar where a terminal is, a line every few seconds elsewhere,
//! nothing with `--quiet`.

use super::figures;
use super::output;
use super::terminal::Terminal;
use crate::client::Snapshot;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::time::Duration;

/// Between two lines about the same torrent where there is no bar.
const BETWEEN_LINES: Duration = Duration::from_secs(5);

/// The longest name in a bar, in characters: the figures matter more.
const NAME_LENGTH: usize = 24;

/// The cells of the bar.
const CELLS: usize = 12;

/// Drawings of the bar in a second, at most.
const DRAWINGS: u8 = 20;

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Not at all.
    Silent,
    /// A line now and then.
    Lines,
    /// One line that is drawn again and again.
    Bar,
}

impl Style {
    /// What fits the place where standard error goes. `busy`: something else writes there as well.
    pub fn fitting(quiet: bool, busy: bool) -> Style {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        if quiet {
            Style::Silent
        } else if std::io::stderr().is_terminal() && !dumb && !busy {
            Style::Bar
        } else {
            Style::Lines
        }
    }
}

/// What is known of one torrent.
#[derive(Debug, Clone, Default)]
struct TorrentRow {
    name: String,
    snapshot: Snapshot,
    checking: Option<(u32, u32)>,
    hashing: Option<Hashing>,
    last_line: Option<Duration>,
    ended: bool,
}

/// How far the making of a torrent is, in bytes and bytes a second.
#[derive(Debug, Clone, Copy)]
struct Hashing {
    done: u64,
    of: u64,
    rate: u64,
}

/// The display of all torrents of a run.
pub struct Progress {
    style: Style,
    bar: Option<ProgressBar>,
    rows: Vec<TorrentRow>,
}

impl Progress {
    /// A display of torrents with these names (safe to show).
    pub fn new(style: Style, names: &[String]) -> Progress {
        let rows = names
            .iter()
            .map(|name| TorrentRow {
                name: name.clone(),
                ..TorrentRow::default()
            })
            .collect();
        let bar = (style == Style::Bar).then(|| {
            let place = Box::new(Terminal::default());
            let target = ProgressDrawTarget::term_like_with_hz(place, DRAWINGS);
            let bar = ProgressBar::with_draw_target(None, target);
            // The whole line is a message that is cut at the terminal's width, however narrow it gets.
            if let Ok(style) = ProgressStyle::with_template("{wide_msg}") {
                bar.set_style(style);
            }
            bar
        });
        Progress { style, bar, rows }
    }

    /// So many pieces of what lies on disk have been looked at.
    pub fn checking(&mut self, now: Duration, task: usize, done: u32, of: u32) {
        if let Some(row) = self.rows.get_mut(task) {
            // Nothing else is known of it until it is at work.
            row.checking = Some((done, of));
        }
        self.show(now, task);
    }

    /// So many bytes of the one torrent that is made have been hashed, since the start of the run.
    pub fn hashing(&mut self, now: Duration, done: u64, of: u64) {
        if let Some(row) = self.rows.first_mut() {
            let rate = figures::mean_rate(done, now);
            row.hashing = Some(Hashing { done, of, rate });
        }
        self.show(now, 0);
    }

    /// How things stand with a torrent.
    pub fn update(&mut self, now: Duration, task: usize, snapshot: &Snapshot) {
        if let Some(row) = self.rows.get_mut(task) {
            row.snapshot = snapshot.clone();
            row.checking = None;
        }
        self.show(now, task);
    }

    /// Nothing more will be heard of a torrent.
    pub fn ended(&mut self, task: usize, snapshot: &Snapshot) {
        if let Some(row) = self.rows.get_mut(task) {
            row.snapshot = snapshot.clone();
            row.checking = None;
            row.ended = true;
        }
    }

    /// Says a line that stays, above the bar.
    pub fn say(&self, text: &str) {
        self.suspend(|| output::say(text));
    }

    /// Takes the bar away while `write` writes to the terminal.
    pub fn suspend(&self, write: impl FnOnce()) {
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    /// Takes the bar away.
    pub fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn show(&mut self, now: Duration, task: usize) {
        match (self.style, &self.bar) {
            (Style::Bar, Some(bar)) => {
                bar.set_message(bar_text(&self.rows));
                bar.tick();
            }
            (Style::Lines, _) => {
                let Some(row) = self.rows.get_mut(task) else {
                    return;
                };
                let last = *row.last_line.get_or_insert(now);
                if now.saturating_sub(last) >= BETWEEN_LINES {
                    row.last_line = Some(now);
                    output::say(&line_text(row));
                }
            }
            _ => {}
        }
    }
}

/// One torrent as a line of a log.
fn line_text(row: &TorrentRow) -> String {
    let snapshot = &row.snapshot;
    if let Some((done, of)) = row.checking {
        let percent = figures::percent(done.into(), of.into());
        return format!("{}: checking what is here: {percent}%", row.name);
    }
    if let Some(hashing) = row.hashing {
        return format!("{}: {}", row.name, hashing.text());
    }
    if snapshot.sharing.is_some() {
        return format!(
            "{}: sharing, {} given at {}, ratio {:.2}, {}",
            row.name,
            figures::size(snapshot.uploaded),
            figures::rate(snapshot.up_rate),
            snapshot.ratio(),
            figures::count(snapshot.peers as u64, "peer"),
        );
    }
    format!(
        "{}: {}%, {} of {} at {}, {}{}",
        row.name,
        figures::percent(snapshot.wanted_have, snapshot.wanted),
        figures::size(snapshot.wanted_have),
        figures::size(snapshot.wanted),
        figures::rate(snapshot.down_rate),
        figures::count(snapshot.peers as u64, "peer"),
        left(
            snapshot.wanted.saturating_sub(snapshot.wanted_have),
            snapshot.down_rate
        ),
    )
}

/// All torrents together, on one line; what matters most stands first, as the end may be cut off.
fn bar_text(rows: &[TorrentRow]) -> String {
    let mut at_work = rows.iter().filter(|row| !row.ended);
    let name = match (at_work.next(), at_work.count()) {
        (Some(row), 0) => short(&row.name),
        (Some(_), more) => format!("{} torrents", more + 1),
        (None, _) => String::new(),
    };
    if let Some((done, of)) = rows.iter().find_map(|row| row.checking) {
        let percent = figures::percent(done.into(), of.into());
        return format!("{percent:>3}% {} checking  {name}", cells(percent));
    }
    if let Some(hashing) = rows.iter().find_map(|row| row.hashing) {
        let percent = figures::percent(hashing.done, hashing.of);
        return format!(
            "{percent:>3}% {} {}  {name}",
            cells(percent),
            hashing.text()
        );
    }
    let sum = |figure: fn(&Snapshot) -> u64| {
        rows.iter()
            .map(|row| figure(&row.snapshot))
            .fold(0, u64::saturating_add)
    };
    let (have, size) = (sum(|s| s.wanted_have), sum(|s| s.wanted));
    let (down, up) = (sum(|s| s.down_rate), sum(|s| s.up_rate));
    let peers = sum(|s| s.peers as u64);
    let percent = figures::percent(have, size);
    if have >= size {
        return format!(
            "sharing {} given  {}  ratio {:.2}  {}  {name}",
            figures::size(sum(|s| s.uploaded)),
            figures::rate(up),
            rows.first().map_or(0.0, |row| row.snapshot.ratio()),
            figures::count(peers, "peer"),
        );
    }
    format!(
        "{percent:>3}% {} {} of {}  {}  {}{}  {name}",
        cells(percent),
        figures::size(have),
        figures::size(size),
        figures::rate(down),
        figures::count(peers, "peer"),
        left(size - have, down),
    )
}

impl Hashing {
    fn text(&self) -> String {
        format!(
            "hashed {} of {} at {}{}",
            figures::size(self.done),
            figures::size(self.of),
            figures::rate(self.rate),
            left(self.of.saturating_sub(self.done), self.rate),
        )
    }
}

fn left(bytes: u64, rate: u64) -> String {
    figures::time_left(bytes, rate)
        .map(|time| format!(", {} left", figures::duration(time)))
        .unwrap_or_default()
}

fn cells(percent: u64) -> String {
    let full = (percent as usize * CELLS / 100).min(CELLS);
    format!("[{}{}]", "=".repeat(full), " ".repeat(CELLS - full))
}

fn short(name: &str) -> String {
    if name.chars().count() <= NAME_LENGTH {
        return name.to_owned();
    }
    let head = name.chars().take(NAME_LENGTH - 3).collect::<String>();
    format!("{head}...")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(snapshot: Snapshot) -> TorrentRow {
        TorrentRow {
            name: "a".repeat(60),
            snapshot,
            ..TorrentRow::default()
        }
    }

    #[test]
    fn figures_of_any_size_make_a_line() {
        let extremes = [
            Snapshot::default(),
            Snapshot {
                wanted: u64::MAX,
                wanted_have: 1 << 63,
                down_rate: 1,
                ..Snapshot::default()
            },
            Snapshot {
                wanted: 10,
                wanted_have: 20,
                sharing: Some(Duration::MAX),
                uploaded_ever: u64::MAX,
                ..Snapshot::default()
            },
        ];
        for snapshot in extremes {
            let row = row(snapshot);
            for text in [line_text(&row), bar_text(&[row.clone(), row])] {
                assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
                assert!(!text.contains('\n'));
            }
        }
        assert_eq!(bar_text(&[]).matches("NaN").count(), 0);
    }

    #[test]
    fn the_last_checked_piece_does_not_call_an_unknown_torrent_complete() {
        let mut progress = Progress::new(Style::Silent, &["x".to_owned()]);
        progress.checking(Duration::ZERO, 0, 4, 4);
        assert_eq!(
            line_text(&progress.rows[0]),
            "x: checking what is here: 100%"
        );
        assert!(bar_text(&progress.rows).contains("checking"));
    }

    #[test]
    fn the_bar_says_how_long_it_will_take() {
        let text = bar_text(&[row(Snapshot {
            wanted: 4 << 20,
            wanted_have: 1 << 20,
            down_rate: 1 << 20,
            peers: 1,
            ..Snapshot::default()
        })]);
        assert!(
            text.starts_with(
                " 25% [===         ] 1.0 MiB of 4.0 MiB  1.0 MiB/s  1 peer, 3.0 s left"
            ),
            "{text}"
        );
    }
}
