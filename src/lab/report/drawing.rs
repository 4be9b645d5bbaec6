//! The pictures of the report, as SVG.

use super::super::chronicle::Chronicle;
use super::{colour, escaped};
use std::fmt::Write;
use std::time::Duration;

/// Of every picture: the place for names, and for what is drawn beside them.
const LEFT: f64 = 90.0;
const WIDTH: f64 = 800.0;
/// The height of a page's bar, and of a turn's.
const PAGE: f64 = 2.0;
const TURN: f64 = 8.0;

/// Horizontal bars with names and seconds.
pub(super) fn bars(page: &mut String, bars: &[(&str, f64, &str)]) {
    let most = bars.iter().map(|bar| bar.1).fold(0.1, f64::max);
    open(page, 26.0 * bars.len() as f64, "how long it took");
    for (row, (name, seconds, colour)) in bars.iter().enumerate() {
        let y = 26.0 * row as f64;
        let width = (seconds / most * (WIDTH - 70.0)).max(1.0);
        let (text, end) = (y + 15.0, LEFT + width + 6.0);
        let _ = writeln!(
            page,
            "<text x=\"0\" y=\"{text}\">{name}</text><rect x=\"{LEFT}\" y=\"{y}\" width=\"{width:.1}\" height=\"20\" \
             fill=\"{colour}\"/><text x=\"{end:.1}\" y=\"{text}\">{seconds:.1} s</text>"
        );
    }
    page.push_str("</svg>\n");
}

/// The pages of one member: a bar from the moment each came.
pub(super) fn arrivals(page: &mut String, chronicle: &Chronicle, who: usize) {
    let axis = Axis::of(chronicle);
    let height = f64::from(chronicle.book.pieces) * PAGE;
    let member = &chronicle.members[who];
    let name = escaped(&member.part.name);
    open(page, height + 16.0, &format!("the pages of {name}"));
    axis.grid(page, height);
    let _ = writeln!(
        page,
        "<text x=\"0\" y=\"12\">{name}</text><text x=\"0\" y=\"26\">{}</text>",
        member.part.role.name()
    );
    let end = member.left.map_or(axis.end(), |left| axis.at(left));
    for arrival in chronicle.arrivals.iter().filter(|it| it.who == who) {
        let (x, y) = (axis.at(arrival.at), f64::from(arrival.piece) * PAGE);
        let (fill, from) = match arrival.from {
            Some(from) => (
                colour(chronicle, from),
                escaped(&chronicle.members[from].part.name),
            ),
            None => ("#bbb".into(), "somebody".into()),
        };
        let _ = writeln!(
            page,
            "<rect x=\"{x:.1}\" y=\"{y}\" width=\"{:.1}\" height=\"{PAGE}\" fill=\"{fill}\"><title>page {} from {from}\
             </title></rect>",
            (end - x).max(0.5),
            arrival.piece
        );
    }
    if let Some(at) = member.complete {
        let x = axis.at(at);
        let _ = writeln!(
            page,
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"0\" y2=\"{height}\" stroke=\"#000\" stroke-dasharray=\"3 2\"/>"
        );
    }
    page.push_str("</svg>\n");
}

/// Whom one member served, and when.
pub(super) fn turns(page: &mut String, chronicle: &Chronicle, who: usize) {
    let axis = Axis::of(chronicle);
    let spans = spans(chronicle, who);
    let mut served: Vec<usize> = spans.iter().map(|span| span.0).collect();
    served.sort_unstable();
    served.dedup();
    if served.is_empty() {
        return;
    }
    let height = (served.len() as f64 * TURN).max(16.0);
    let name = escaped(&chronicle.members[who].part.name);
    open(page, height + 16.0, &format!("whom {name} served"));
    axis.grid(page, height);
    let _ = writeln!(page, "<text x=\"0\" y=\"12\">{name}</text>");
    for (whom, from, to) in spans {
        let row = served.binary_search(&whom).unwrap_or_default();
        let (x, y) = (axis.at(from), row as f64 * TURN);
        let _ = writeln!(
            page,
            "<rect class=\"turn\" x=\"{x:.1}\" y=\"{y}\" width=\"{:.1}\" height=\"{}\" fill=\"{}\"><title>{}</title></rect>",
            (axis.at(to) - x).max(0.5),
            TURN - 2.0,
            colour(chronicle, whom),
            escaped(&chronicle.members[whom].part.name)
        );
    }
    page.push_str("</svg>\n");
}

/// Each time somebody was served: who, from when, until when.
fn spans(chronicle: &Chronicle, who: usize) -> Vec<(usize, Duration, Duration)> {
    let mut since = vec![None; chronicle.members.len()];
    let mut spans = Vec::new();
    for turn in chronicle.turns.iter().filter(|turn| turn.who == who) {
        if turn.open {
            since[turn.whom].get_or_insert(turn.at);
        } else if let Some(from) = since[turn.whom].take() {
            spans.push((turn.whom, from, turn.at));
        }
    }
    let still = since.into_iter().enumerate();
    let end = chronicle.ended;
    spans.extend(still.filter_map(|(whom, from)| Some((whom, from?, end))));
    spans
}

fn open(page: &mut String, height: f64, label: &str) {
    let _ = writeln!(
        page,
        "<svg viewBox=\"0 0 {} {height}\" role=\"img\" aria-label=\"{label}\">",
        LEFT + WIDTH + 10.0
    );
}

/// Time from left to right: from when the leechers sat down to the end.
struct Axis {
    from: Duration,
    seconds: f64,
}

impl Axis {
    fn of(chronicle: &Chronicle) -> Axis {
        let from = chronicle.opened;
        let last = chronicle.arrivals.last().map_or(from, |it| it.at);
        let until = chronicle.ended.max(last);
        Axis {
            from,
            seconds: until.saturating_sub(from).as_secs_f64().max(0.1),
        }
    }

    fn at(&self, time: Duration) -> f64 {
        let share = time.saturating_sub(self.from).as_secs_f64() / self.seconds;
        LEFT + share.min(1.0) * WIDTH
    }

    fn end(&self) -> f64 {
        LEFT + WIDTH
    }

    /// Thin lines at round times, with their numbers below.
    fn grid(&self, page: &mut String, height: f64) {
        let steps = [
            0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0,
        ];
        let step = steps.into_iter().find(|step| self.seconds / step <= 12.0);
        let step = step.unwrap_or(self.seconds / 4.0);
        let mut time = 0.0;
        while time <= self.seconds {
            let x = LEFT + time / self.seconds * WIDTH;
            let below = height + 12.0;
            let digits = usize::from(step < 1.0);
            let _ = writeln!(
                page,
                "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"0\" y2=\"{height}\" stroke=\"#e8e8e8\"/><text x=\"{x:.1}\" \
                 y=\"{below}\" text-anchor=\"middle\">{time:.digits$}</text>"
            );
            time += step;
        }
    }
}
