//! How it ended, in figures: who gave and took what, and how long it took beside what is possible.

use super::super::figures;
use crate::lab::cast::LabRole;
use crate::lab::chronicle::{Chronicle, FluidLimits, Member};
use crate::lab::{LabOutcome, LabVerdict};
use std::time::Duration;

/// What stands below everything.
pub const TO_READ_ON: &str = "
Try: ropewalk lab --peers 12, --free-riders 2, --liars 1, --leave 2, --report lab.html
The same with real torrents: ropewalk create, ropewalk tracker, ropewalk seed, ropewalk get.";

/// A table of all, then the times.
pub fn of(outcome: &LabOutcome) -> String {
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
        LabRole::Liar => "0".into(),
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

fn times(outcome: &LabOutcome) -> Vec<String> {
    let chronicle = &outcome.chronicle;
    let plan = &chronicle.plan;
    let mut lines = Vec::new();
    if outcome.verdict == LabVerdict::Everybody {
        let honest = plan.peers - plan.leave - plan.free_riders;
        let copies = match honest {
            1 => "One copy is".to_owned(),
            _ => format!("{honest} copies are"),
        };
        lines.push(format!(
            " {copies} read from disk again and compared with the book: equal, byte for byte."
        ));
    }
    lines.extend(chronicle.holes().map(|holes| format!(" {holes}")));
    let time = chronicle.time();
    if let Some(time) = time {
        lines.push(format!(" {:>8}  this swarm", seconds(time.as_secs_f64())));
    }
    let Some(limits) = chronicle.limits() else {
        lines.push(" Without a limit of rate there is nothing to compare with.".into());
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
        " {:>8}  plain HTTP: {} every copy, N*F/u_seed",
        seconds(limits.http),
        match plan.seeds {
            1 => "the seed's line alone carries",
            _ => "the seeds' lines alone carry",
        }
    ));
    if let Some(twice) = FluidLimits::of(plan, chronicle.book.bytes, 2) {
        lines.push(twice_the_readers(&limits, &twice));
    }
    lines
}

/// The idea of it all, in figures that bear it out.
fn twice_the_readers(once: &FluidLimits, twice: &FluidLimits) -> String {
    let [one, two] = [once, twice].map(|it| seconds(it.fluid));
    let fluid = match one == two {
        true => format!("stays at {one}"),
        false => format!("grows from {one} to {two} and never doubles"),
    };
    format!(
        " With twice the readers plain HTTP takes {}; the fluid limit {fluid}, for readers bring lines of \
         their own.",
        seconds(twice.http)
    )
}

/// With a tenth, as the figures are to be compared; where nobody waits for the end, in days and hours.
pub fn seconds(seconds: f64) -> String {
    match Duration::try_from_secs_f64(seconds) {
        Ok(time) if seconds >= 3600.0 => figures::duration(time),
        _ => format!("{seconds:.1} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::Plan;
    use crate::lab::chronicle::small;

    /// The last lines of a lab that was stopped.
    fn end_of(plan: Plan) -> String {
        let mut chronicle = small();
        chronicle.plan = plan;
        chronicle.book.bytes = 3 << 20;
        let verdict = LabVerdict::Stopped;
        times(&LabOutcome { chronicle, verdict }).join("\n")
    }

    #[test]
    fn the_closing_sentence_agrees_with_its_figures() {
        let few = end_of(Plan::default());
        assert!(few.contains("the seed's line alone carries"), "{few}");
        assert!(
            few.contains("takes 72.0 s; the fluid limit stays at 6.0 s"),
            "{few}"
        );
        let many = Plan {
            peers: 3,
            seeds: 5,
            ..Plan::default()
        };
        let many = end_of(many);
        assert!(many.contains("the seeds' lines alone carry"), "{many}");
        assert!(
            many.contains("grows from 2.2 s to 3.3 s and never doubles"),
            "{many}"
        );
        assert!(
            end_of(Plan {
                up: None,
                ..Plan::default()
            })
            .contains("nothing to compare with")
        );
    }

    #[test]
    fn what_was_missed_is_told_at_the_end_and_nothing_where_nothing_was() {
        let told = |untold, unheard| {
            let mut chronicle = small();
            (chronicle.untold, chronicle.unheard) = (untold, unheard);
            let verdict = LabVerdict::Stopped;
            times(&LabOutcome { chronicle, verdict }).join("\n")
        };
        assert!(!told(0, 0).contains("too fast"));
        let told = told(3, 40);
        assert!(told.contains("notices: 3, messages: 40"), "{told}");
    }

    #[test]
    fn a_time_that_nobody_waits_for_is_told_in_days() {
        assert_eq!(seconds(3_145_728.0), "36 d 9 h");
        assert_eq!(seconds(3_599.94), "3599.9 s");
        assert_eq!(seconds(f64::INFINITY), "inf s");
    }
}
