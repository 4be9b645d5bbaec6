//! `tracker`: starts the server, says where it is, and waits for its end.

use super::arguments::TrackerArguments;
use super::complaint::{Complaint, Reason};
use super::events;
use super::shown::{shown, shown_path};
use super::status::ExitStatus;
use super::{figures, output, signals};
use crate::protocol::digest::{InfoHash, from_hex};
use crate::tracker::counters::{Counted, Counters};
use crate::tracker::{Running, Setup, start};
use crossbeam_channel::select;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// How often figures are told, with `--verbose` and `--json`.
const FIGURES_EVERY: Duration = Duration::from_secs(60);

/// A list of torrents is not longer: a million of them, with remarks.
const LIST_MAX: u64 = 64 << 20;

/// What is told in JSON.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum TrackerNews {
    Listening { http: Vec<String>, udp: Vec<String> },
    Stats(BTreeMap<&'static str, u64>),
    Stopped(BTreeMap<&'static str, u64>),
}

#[derive(Serialize)]
struct TimedNews {
    time: f64,
    #[serde(flatten)]
    line: TrackerNews,
}

/// Runs `tracker`.
pub fn run(options: &TrackerArguments) -> Result<ExitStatus, Complaint> {
    let outcome = serve(options);
    if let Err(complaint) = &outcome
        && options.json
    {
        events::write(Duration::ZERO, None, &events::JsonEvent::from(complaint))?;
    }
    outcome
}

fn serve(options: &TrackerArguments) -> Result<ExitStatus, Complaint> {
    let allowed = options.allow.as_deref().map(read_list).transpose()?;
    if let (Some(list), Some([])) = (&options.allow, allowed.as_deref()) {
        let list = shown_path(list);
        output::say(&format!(
            "warning: {list} names no torrent: nobody can announce"
        ));
    }
    let clock = Instant::now();
    let stopped = signals::watch(|| {});
    let running = start(Setup {
        http: options.http.clone(),
        udp: options.udp.clone(),
        interval: options.interval,
        limits: options.limits,
        allowed,
        loopback_as: None,
    })
    .map_err(|error| Complaint::tracker(&error))?;
    let told = tell_where(options, clock, &running);
    let told = told.and_then(|()| {
        loop {
            select! {
                recv(stopped) -> _ => return tell_end(options, clock, running.counters()),
                recv(running.ended()) -> _ => return Err(Complaint::tracker_has_ended()),
                default(FIGURES_EVERY) => tell_figures(options, clock, running.counters())?,
            }
        }
    });
    running.stop();
    told.map(|()| ExitStatus::Done)
}

fn tell_where(
    options: &TrackerArguments,
    clock: Instant,
    running: &Running,
) -> Result<(), Complaint> {
    let texts = |addresses: &[std::net::SocketAddr]| -> Vec<String> {
        addresses.iter().map(ToString::to_string).collect()
    };
    let (http, udp) = (texts(running.http()), texts(running.udp()));
    if options.json {
        return tell(clock, TrackerNews::Listening { http, udp });
    }
    if options.quiet {
        return Ok(());
    }
    for address in http {
        output::line(&format!("serving http://{address}/announce"))?;
    }
    for address in udp {
        output::line(&format!("serving udp://{address}"))?;
    }
    Ok(())
}

fn tell_figures(
    options: &TrackerArguments,
    clock: Instant,
    counters: &Counters,
) -> Result<(), Complaint> {
    if options.json {
        return tell(clock, TrackerNews::Stats(figures(clock, counters)));
    }
    if options.verbose {
        output::line(&sentence(counters))?;
    }
    Ok(())
}

fn tell_end(
    options: &TrackerArguments,
    clock: Instant,
    counters: &Counters,
) -> Result<(), Complaint> {
    if options.json {
        return tell(clock, TrackerNews::Stopped(figures(clock, counters)));
    }
    if options.quiet {
        return Ok(());
    }
    output::line(&format!("stopped; {}", sentence(counters)))
}

fn tell(clock: Instant, line: TrackerNews) -> Result<(), Complaint> {
    let time = events::seconds(clock.elapsed());
    output::line(&events::json(&TimedNews { time, line }))
}

fn figures(clock: Instant, counters: &Counters) -> BTreeMap<&'static str, u64> {
    let mut figures = BTreeMap::new();
    figures.extend(counters.figures(clock.elapsed()));
    figures
}

fn sentence(counters: &Counters) -> String {
    let totals = counters.totals();
    let sum = |all: &[Counted]| all.iter().map(|one| counters.get(*one)).sum::<u64>();
    let mut sentence = format!(
        "{}, {} ({}); announces so far: {} by HTTP, {} by UDP",
        figures::count(totals.torrents as u64, "torrent"),
        figures::count(totals.peers as u64, "peer"),
        figures::count(totals.seeds as u64, "seed"),
        counters.get(Counted::HttpAnnounces),
        counters.get(Counted::UdpAnnounces),
    );
    let dropped = [
        (sum(&[Counted::HttpRefused, Counted::UdpRefused]), "refused"),
        (sum(&[Counted::UdpBadIds]), "with a bad connection id"),
        (
            sum(&[Counted::HttpMalformed, Counted::UdpMalformed]),
            "not understood",
        ),
        (sum(&[Counted::HttpSlow]), "too slow"),
    ];
    for (number, what) in dropped.iter().filter(|(number, _)| *number > 0) {
        sentence.push_str(&format!(", {number} {what}"));
    }
    sentence
}

/// So much of a line that is none is shown, in characters: a list that is no list may have one line.
const SHOWN_MAX: usize = 60;

/// Reads a list of info-hashes: forty hex digits a line; empty lines and what follows a `#` do not
/// count.
fn read_list(path: &Path) -> Result<Vec<InfoHash>, Complaint> {
    let reading = |error: std::io::Error| Complaint::reading(path, &error);
    let metadata = fs::metadata(path).map_err(reading)?;
    if !metadata.is_file() || metadata.len() > LIST_MAX {
        return Err(Complaint::new(
            Reason::File,
            format!("cannot read {}: it is no list", shown_path(path)),
            "--allow takes a text file with an info-hash of 40 hex digits on each line",
        ));
    }
    let bytes = fs::read(path).map_err(reading)?;
    let mut list = Vec::new();
    for (number, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let line = String::from_utf8_lossy(line);
        // Some editors begin a file with a mark of the order of its bytes.
        let line = line.strip_prefix('\u{feff}').unwrap_or(&line);
        let hash = line.split('#').next().unwrap_or_default().trim();
        if hash.is_empty() {
            continue;
        }
        list.push(from_hex(hash).map(InfoHash).ok_or_else(|| {
            Complaint::new(
                Reason::File,
                format!(
                    "cannot read {}: line {}: {} is no info-hash",
                    shown_path(path),
                    number + 1,
                    shown(&excerpt(hash))
                ),
                "an info-hash has 40 hex digits; `ropewalk show` prints that of a torrent",
            )
        })?);
    }
    Ok(list)
}

fn excerpt(line: &str) -> String {
    match line.char_indices().nth(SHOWN_MAX) {
        Some((cut, _)) => format!("{}…", &line[..cut]),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_list_has_a_hash_a_line_and_remarks() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list");
        let hash = "00112233445566778899aabbCCDDEEFF01234567";
        fs::write(
            &path,
            format!("\u{feff}{hash}\n# mine\n\n {hash} # a book\r\n{hash}\n"),
        )
        .unwrap();
        let list = read_list(&path).unwrap();
        assert_eq!(list.len(), 3);
        assert_eq!(list[0].to_string(), hash.to_lowercase());
    }

    #[test]
    fn a_line_that_is_no_hash_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list");
        for bad in [
            "x",
            "0011",
            &"0".repeat(41),
            &"é".repeat(20),
            &"+1".repeat(20),
            &"é".repeat(9_000),
        ] {
            fs::write(&path, format!("#\n{bad}\n")).unwrap();
            let complaint = read_list(&path).unwrap_err();
            assert!(complaint.sentence.contains("line 2"), "{complaint:?}");
            assert!(complaint.sentence.len() < 400, "{complaint:?}");
        }
        assert!(read_list(folder.path()).is_err());
        assert!(read_list(&folder.path().join("none")).is_err());
    }
}
