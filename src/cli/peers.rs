//! `peers`: asks every tracker of a torrent who is there, as a table or as one JSON object.

use super::complaint::{Complaint, Reason, plain};
use super::shown::shown;
use super::status::ExitStatus;
use super::torrent::Named;
use super::{events, figures, output, torrent};
use crate::announce::http::{CallLimits, shown as without_secrets};
use crate::announce::survey::{Finding, Inquiry, survey};
use crate::protocol::InfoHash;
use crate::protocol::metainfo::Unusable;
use crate::protocol::peer::PeerId;
use crossbeam_channel::Receiver;
use serde::Serialize;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt::Write;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::time::Duration;

/// How long all of it may take: ten seconds for a scrape, ten for an announce, where a lost datagram is sent
/// again, and five for signing off.
const PATIENCE: Duration = Duration::from_secs(25);

/// What we say is missing where nobody knows the size: one block.
const SOMETHING: u64 = 16 << 10;

/// What is asked about.
struct AskedAbout {
    name: String,
    info_hash: InfoHash,
    left: u64,
    trackers: Vec<Vec<String>>,
    unusable: Vec<Unusable>,
}

/// Runs `peers`.
pub fn run(json: bool, torrent: &OsStr) -> Result<ExitStatus, Complaint> {
    let subject = AskedAbout::of(torrent::load_or_link(torrent)?)?;
    if subject.trackers.is_empty() && subject.unusable.is_empty() {
        let sentence = format!("{} names no tracker", shown(&subject.name));
        let hint = "peers can only be asked for where there is somebody to ask";
        return Err(Complaint::new(Reason::NoPeers, sentence, hint));
    }
    let begun = begin(&subject)?;
    if std::io::stderr().is_terminal() {
        let trackers = subject.trackers.iter().map(Vec::len).sum::<usize>() as u64;
        let trackers = figures::count(trackers, "tracker");
        let most = PATIENCE.as_secs();
        output::say(&format!("asking {trackers}, for {most} s at most"));
    }
    let mut findings: Vec<Finding> = begun.iter().collect();
    findings.sort_by_key(|it| it.tier);
    let text = if json {
        events::json(&PeersKeys::new(&subject, &findings))
    } else {
        page(&subject, &findings)
    };
    output::line(&text)?;
    if findings.iter().any(Finding::answered) {
        return Ok(ExitStatus::Done);
    }
    let sentence = format!("no tracker of {} answered", shown(&subject.name));
    let hint = match subject.trackers.is_empty() {
        true => "none of its addresses is one of a tracker",
        false => "each of them is listed with its reason; is the network up?",
    };
    Err(Complaint::new(Reason::NoPeers, sentence, hint))
}

impl AskedAbout {
    fn of(named: Named) -> Result<AskedAbout, Complaint> {
        let magnet = match named {
            Named::Torrent(metainfo) => {
                return Ok(AskedAbout {
                    left: metainfo.geometry.total().max(1),
                    info_hash: metainfo.info_hash,
                    trackers: metainfo.trackers,
                    unusable: metainfo.unusable_trackers,
                    name: metainfo.name,
                });
            }
            Named::Link(magnet) => *magnet,
        };
        let Some(info_hash) = magnet.info_hash else {
            return Err(Complaint::unsupported(
                "the magnet link has a version 2 info-hash alone, which is not supported yet",
                "look for a link with xt=urn:btih:",
            ));
        };
        Ok(AskedAbout {
            name: magnet.name.unwrap_or_else(|| info_hash.to_string()),
            info_hash,
            left: magnet.length.unwrap_or(SOMETHING).max(1),
            trackers: magnet.trackers.into_iter().map(|it| vec![it]).collect(),
            unusable: magnet.unusable_trackers,
        })
    }
}

fn begin(subject: &AskedAbout) -> Result<Receiver<Finding>, Complaint> {
    let mut rng = fastrand::Rng::new();
    let inquiry = Inquiry {
        info_hash: subject.info_hash,
        peer_id: PeerId::new(std::array::from_fn(|_| rng.alphanumeric() as u8)),
        left: subject.left,
        limits: CallLimits::within(PATIENCE),
    };
    survey(&subject.trackers, inquiry).map_err(|error| {
        Complaint::new(
            Reason::Resources,
            format!("cannot start a thread: {}", plain(&error)),
            "the system allows no more threads (see `ulimit -u`)",
        )
    })
}

/// Every address that any tracker gave, once.
fn all(findings: &[Finding]) -> BTreeSet<SocketAddr> {
    findings.iter().flat_map(|it| it.peers.clone()).collect()
}

/// Most trackers answer within a blink.
fn time(time: Duration) -> String {
    match time.as_millis() {
        under @ ..1000 => format!("{under} ms"),
        _ => figures::duration(time),
    }
}

/// The table, and below it the addresses.
fn page(subject: &AskedAbout, findings: &[Finding]) -> String {
    let mut page = format!("{}  {}\n", shown(&subject.name), subject.info_hash);
    let mut row = |cells: [&str; 6]| {
        let [seeds, leechers, downloads, peers, time, tracker] = cells;
        // Writing to a string cannot fail.
        let _ = writeln!(
            page,
            "{seeds:>7} {leechers:>9} {downloads:>10} {peers:>10} {time:>8}  {tracker}"
        );
    };
    row([
        "seeds",
        "leechers",
        "downloads",
        "addresses",
        "time",
        "tracker",
    ]);
    for finding in findings {
        let count = |number: Option<u64>| number.map_or("-".to_owned(), |it| it.to_string());
        let mut tracker = shown(&without_secrets(&finding.url));
        if let Some(error) = &finding.error {
            let _ = write!(tracker, ": {}", shown(&error.to_string()));
        }
        if let Some(warning) = &finding.warning {
            let _ = write!(tracker, " (warns: {})", shown(warning));
        }
        let peers = match finding.error {
            Some(_) => "-".to_owned(),
            None => finding.peers.len().to_string(),
        };
        row([
            &count(finding.seeds),
            &count(finding.leechers),
            &count(finding.downloads),
            &peers,
            &time(finding.time),
            &tracker,
        ]);
    }
    for address in &subject.unusable {
        let tracker = format!("{}: {}", shown(&address.shown), address.why);
        row(["-", "-", "-", "-", "-", &tracker]);
    }
    let addresses = all(findings);
    let number = addresses.len() as u64;
    let es = if number == 1 { "" } else { "es" };
    let _ = write!(page, "{number} address{es}");
    for address in addresses {
        let _ = write!(page, "\n  {address}");
    }
    page
}

/// The keys of `peers --json`.
#[derive(Serialize)]
struct PeersKeys<'a> {
    name: &'a str,
    info_hash: String,
    trackers: Vec<TrackerKeys<'a>>,
    addresses: BTreeSet<SocketAddr>,
}

/// One tracker in it.
#[derive(Serialize, Default)]
struct TrackerKeys<'a> {
    tracker: String,
    tier: Option<usize>,
    seeds: Option<u64>,
    leechers: Option<u64>,
    downloads: Option<u64>,
    scraped: bool,
    addresses: &'a [SocketAddr],
    interval: Option<i64>,
    warning: Option<&'a str>,
    external_ip: Option<String>,
    seconds: f64,
    error: Option<String>,
}

impl<'a> PeersKeys<'a> {
    fn new(subject: &'a AskedAbout, findings: &'a [Finding]) -> PeersKeys<'a> {
        let asked = |it: &'a Finding| TrackerKeys {
            tracker: without_secrets(&it.url),
            tier: Some(it.tier),
            seeds: it.seeds,
            leechers: it.leechers,
            downloads: it.downloads,
            scraped: it.scraped,
            addresses: &it.peers,
            interval: it.interval,
            warning: it.warning.as_deref(),
            external_ip: it.external_ip.map(|ip| ip.to_string()),
            seconds: events::seconds(it.time),
            error: it.error.as_ref().map(ToString::to_string),
        };
        let unusable = subject.unusable.iter().map(|it| TrackerKeys {
            tracker: it.shown.trim_matches('"').to_owned(),
            error: Some(it.why.to_owned()),
            ..TrackerKeys::default()
        });
        PeersKeys {
            name: &subject.name,
            info_hash: subject.info_hash.to_string(),
            trackers: findings.iter().map(asked).chain(unusable).collect(),
            addresses: all(findings),
        }
    }
}
