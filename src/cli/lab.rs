//! `lab`: shows what happens in the lab: a table that is drawn again and again on a terminal, lines
//! elsewhere, and with them the ideas of BitTorrent that can be seen.

mod drawing;
mod figures;
mod json;
mod screen;
mod words;

use super::arguments::LabArguments;
use super::complaint::{Complaint, Reason};
use super::events::{self, JsonEvent};
use super::shown::{shown, shown_path};
use super::status::ExitStatus;
use super::{output, signals};
use crate::create::saving::Target;
use crate::lab::chronicle::Chronicle;
use crate::lab::{self, LabError, LabEvent, LabOutcome, LabVerdict, Plan, report};
use crossbeam_channel::bounded;
use json::Lines;
use screen::Screen;
use std::path::Path;
use std::time::{Duration, Instant};
use words::Words;

/// Without `--up`, a book is given so many seconds at the least: enough to watch.
const SECONDS: u64 = 6;
/// And the line is no slower than this, in bytes a second.
const RATE_LEAST: u64 = 32 * 1024;

/// Runs `lab`.
pub fn run(options: &LabArguments) -> Result<ExitStatus, Complaint> {
    let clock = Instant::now();
    let outcome = show(options);
    if let Err(complaint) = &outcome
        && options.json
        && !complaint.sentence.is_empty()
    {
        events::write(clock.elapsed(), None, &JsonEvent::from(complaint))?;
    }
    outcome
}

fn show(options: &LabArguments) -> Result<ExitStatus, Complaint> {
    let mut plan = options.plan.clone();
    if options.fitting_rate {
        plan.up = Some(fitting_rate(&plan));
    }
    // Looked at first: what cannot be written should be known before anybody waits for it.
    let report = options.report.as_deref();
    let report = report.map(|path| place(path, &plan)).transpose()?;
    // Bound: one, there is one end.
    let (stop, stopped) = bounded(1);
    let interrupt = stop.clone();
    let signal = signals::watch(move || {
        let _ = interrupt.try_send(());
    });
    let mut teller = match (options.json, options.quiet) {
        (true, _) => Audience::Json(Lines::default()),
        (false, true) => Audience::Silent,
        (false, false) => Audience::People(Box::new((Screen::new(), Words::default()))),
    };
    let mut broken = None;
    let outcome = lab::run(&plan, &stopped, &mut |chronicle, at, event| {
        if broken.is_none()
            && let Err(complaint) = teller.tell(chronicle, at, &event)
        {
            broken = Some(complaint);
            let _ = stop.try_send(());
        }
    });
    if let Some(complaint) = broken {
        return Err(complaint);
    }
    let outcome = outcome.map_err(|error| complaint(&error))?;
    teller.end(&outcome)?;
    // Half a story does not replace the whole one of another day.
    if let Some(target) = report
        && outcome.verdict != LabVerdict::Stopped
    {
        let path = target.path();
        let page = report::page(&outcome);
        target
            .save_unless(page.as_bytes(), true, &signal)
            .map_err(|signal| Complaint::unsaved(path, signal))?
            .map_err(|error| Complaint::writing(path, &error))?;
        if !options.json && !options.quiet {
            output::line(&format!("\nMore of it is in {}.", shown_path(path)))?;
        }
    }
    status(&outcome, signal.try_recv().ok())
}

/// What makes the book last.
fn fitting_rate(plan: &Plan) -> u64 {
    let bytes = match &plan.file {
        // What cannot be read is the lab's complaint.
        Some(path) => std::fs::metadata(path).map_or(0, |it| it.len()),
        None => u64::from(lab::book::PAGES) * lab::book::PAGE_LENGTH as u64,
    };
    bytes.div_ceil(SECONDS).max(RATE_LEAST)
}

/// Where the report goes, if it can go there.
fn place(path: &Path, plan: &Plan) -> Result<Target, Complaint> {
    let target = Target::new(path).map_err(|error| Complaint::writing(path, &error))?;
    if plan.file.as_deref().is_some_and(|book| target.holds(book)) {
        return Err(Complaint::new(
            Reason::File,
            format!(
                "the report cannot go to {}: it is the book",
                shown_path(path)
            ),
            "choose another place with --report",
        ));
    }
    Ok(target)
}

/// Whoever is told.
enum Audience {
    Json(Lines),
    People(Box<(Screen, Words)>),
    /// Until the outcome.
    Silent,
}

impl Audience {
    fn tell(
        &mut self,
        chronicle: &Chronicle,
        at: Duration,
        event: &LabEvent,
    ) -> Result<(), Complaint> {
        match self {
            Audience::Json(lines) => lines.tell(chronicle, at, event),
            Audience::People(people) => {
                let (screen, words) = &mut **people;
                for line in words.of(chronicle, event) {
                    screen.say(at, &line)?;
                }
                match event {
                    LabEvent::Tick => screen.draw(chronicle, at),
                    _ => Ok(()),
                }
            }
            Audience::Silent => Ok(()),
        }
    }

    fn end(&mut self, outcome: &LabOutcome) -> Result<(), Complaint> {
        match self {
            Audience::Json(lines) => lines.end(outcome),
            Audience::People(people) => {
                people.0.last(&outcome.chronicle)?;
                output::line(&figures::of(outcome))?;
                output::line(figures::TO_READ_ON)
            }
            Audience::Silent => output::line(figures::of(outcome).trim_start_matches('\n')),
        }
    }
}

fn status(outcome: &LabOutcome, signal: Option<u8>) -> Result<ExitStatus, Complaint> {
    let chronicle = &outcome.chronicle;
    let names = |whose: &mut dyn Iterator<Item = usize>| {
        let names = whose.map(|who| chronicle.members[who].part.name.clone());
        names.collect::<Vec<_>>().join(", ")
    };
    match &outcome.verdict {
        LabVerdict::Everybody => Ok(ExitStatus::Done),
        LabVerdict::Lost(pieces) => Err(Complaint::new(
            Reason::NoPeers,
            format!(
                "the book is lost: {} of its {} pages left with the last who had them",
                pieces.len(),
                chronicle.book.pieces
            ),
            "let the seed stay until each page was given once: a larger --no-seed-after",
        )),
        LabVerdict::Stuck => Err(Complaint::new(
            Reason::Timeout,
            format!(
                "nothing moved any more; without the book stayed {}",
                names(&mut chronicle.waiting())
            ),
            "a very small --up needs patience; otherwise this is a fault in ropewalk: please report it",
        )),
        LabVerdict::Stopped => Err(Complaint {
            status: signal.map_or(ExitStatus::Failed, ExitStatus::Signal),
            ..Complaint::new(Reason::Interrupted, "the lab was stopped", "")
        }),
        LabVerdict::Different(whose) => Err(Complaint {
            status: ExitStatus::Mismatch,
            ..Complaint::new(
                Reason::Data,
                format!("the copies of {} differ", names(&mut whose.iter().copied())),
                "this is a fault in ropewalk: please report it",
            )
        }),
    }
}

fn complaint(error: &LabError) -> Complaint {
    let sentence = shown(&format!("the lab failed: {error}"));
    match error {
        LabError::Start(error) => Complaint::start(error),
        LabError::Book { .. } => Complaint::new(
            Reason::File,
            shown(&error.to_string()),
            "--file takes one file of 1 byte to 256 MiB",
        ),
        LabError::Folder { .. } => Complaint::new(
            Reason::Storage,
            sentence,
            "set TMPDIR to a folder with some room that you may write to",
        ),
        LabError::Descriptors { .. } => Complaint::new(
            Reason::Resources,
            sentence,
            "fewer --peers, or more open files: ulimit -n",
        ),
        LabError::Tracker(_) => {
            Complaint::new(Reason::Port, sentence, "is the loopback interface up?")
        }
        LabError::Metainfo(_) | LabError::Ended { .. } => Complaint::new(
            Reason::Data,
            sentence,
            "this is a fault in ropewalk: please report it",
        ),
    }
}
