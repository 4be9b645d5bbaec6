//! How it ended, in figures: who gave and took what, and how long it took beside what is possible.

use super::super::figures;
use crate::lab::cast::Role;
use crate::lab::chronicle::{Chronicle, Limits, Member};
use crate::lab::{Outcome, Verdict};
use std::time::Duration;

/// What stands below everything.
pub const TO_READ_ON: &str = "
Try: ropewalk lab --peers 12, --free-riders 2, --liars 1, --leave 2, --report lab.html
The same with real torrents: ropewalk create, ropewalk tracker, ropewalk seed, ropewalk get.";

/// A table of all, then the times.
pub fn of(outcome: &Outcome) -> String {
    let chronicle = &outcome.chronicle;
    let mut lines = vec![
        String::new(),
        format!(
            " {:<8} {:<11} {:>7} {:>12} {:>11} {:>11} {:>7}",
            "who", "part", "pages", "complete", "gave", "took", "ratio"
        ),
    ];
    lines.extend(chronicle.members.iter().map(|it| row(chronicle, it)));
    lines.push(String::new());
    lines.extend(times(outcome));
    lines.join("\n")
}

fn row(chronicle: &Chronicle, member: &Member) -> String {
    let since = |at: Duration| seconds(at.saturating_sub(chronicle.opened).as_secs_f64());
    let complete = match (member.complete, member.left) {
        (_, Some(left)) => format!("left {}", since(left)),
        (Some(_), None) if !member.part.role.wants() => "-".into(),
        (Some(at), None) => since(at),
        (None, None) => "no".into(),
    };
    let pages = match member.part.role {
        Role::Liar => "0".into(),
        _ => member.count.to_string(),
    };
    // As clients count it: what was given, in books.
    let ratio = member.given as f64 / chronicle.book.bytes.max(1) as f64;
    format!(
        " {:<8} {:<11} {pages:>7} {complete:>12} {:>11} {:>11} {ratio:>7.2}",
        member.part.name,
        member.part.role.name(),
        figures::size(member.given),
        figures::size(member.taken)
    )
}

fn times(outcome: &Outcome) -> Vec<String> {
    let chronicle = &outcome.chronicle;
    let plan = &chronicle.plan;
    let mut lines = Vec::new();
    if outcome.verdict == Verdict::Everybody {
        let honest = plan.peers - plan.leave - plan.free_riders;
        let copies = match honest {
            1 => "One copy is".to_owned(),
            _ => format!("{honest} copies are"),
        };
        lines.push(format!(
            " {copies} read from disk again and compared with the book: equal, byte for byte."
        ));
    }
    let time = chronicle.time();
    if let Some(time) = time {
        lines.push(format!(" {:>8}  this swarm", seconds(time.as_secs_f64())));
    }
    let Some(limits) = chronicle.limits() else {
        lines.push(" Without --up there is no limit of rate to compare with.".into());
        return lines;
    };
    lines.push(format!(
        " {:>8}  the fluid limit: max(F/u_seed, N*F/(u_seed + N*u_peer)){}",
        seconds(limits.fluid),
        time.map_or(String::new(), |time| format!(
            "; we took {:.2} times that",
            time.as_secs_f64() / limits.fluid
        ))
    ));
    lines.push(format!(
        " {:>8}  plain HTTP: the seed's line alone carries every copy, N*F/u_seed",
        seconds(limits.http)
    ));
    if let Some(Limits { fluid, http }) = Limits::of(plan, chronicle.book.bytes, 2) {
        lines.push(format!(
            " With twice the readers: fluid limit {}, plain HTTP {}. The more take part the better, where HTTP \
             gets worse.",
            seconds(fluid),
            seconds(http)
        ));
    }
    lines
}

/// With a tenth at any length: the figures are to be compared.
pub fn seconds(seconds: f64) -> String {
    format!("{seconds:.1} s")
}
