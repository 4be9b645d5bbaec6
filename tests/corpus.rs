//! Real torrents, and known answers, held against what is read from them.
//!
//! They are other people's, so they are not in the repository. `ROPEWALK_CORPUS` names a folder with
//! `MANIFEST.tsv` (file, sha256, source, expected) and `vectors/*.tsv`; then
//! `cargo test --test corpus -- --ignored --nocapture` checks every row and lists those that do not
//! hold. One function a table: more can stand beside them.

#![allow(clippy::unwrap_used)]

use ropewalk::create::{Creation, TorrentFile, TorrentSettings};
use ropewalk::protocol::bencode::{self, DecodeLimits, Problem};
use ropewalk::protocol::filenames::NAME_BYTES_MAX;
use ropewalk::protocol::magnet::Magnet;
use ropewalk::protocol::metainfo::{Metainfo, MetainfoError};
use ropewalk::protocol::peer::{Decoded, Decoder, PeerId, WireRules};
use ropewalk::protocol::tracker::http::{Answer, AnswerError};
use ropewalk::protocol::tracker::scrape::Scraped;
use ropewalk::protocol::tracker::udp::{Reply, peers};
use std::collections::BTreeSet;
use std::fs;
use std::num::NonZeroUsize;
use std::path::{Component, Path, PathBuf};

/// What became of the rows of one table.
#[derive(Default)]
struct Tally {
    checked: usize,
    failed: Vec<String>,
    unsupported: Vec<String>,
}

impl Tally {
    fn check(&mut self, row: &str, outcome: Result<(), String>) {
        self.checked += 1;
        if let Err(why) = outcome {
            self.failed.push(format!("{row}: {why}"));
        }
    }

    /// Lists what does not hold. `least` guards against a table that was not found, or read wrongly.
    fn report(self, least: usize) {
        println!("{} rows checked", self.checked);
        for row in &self.unsupported {
            println!("not supported yet: {row}");
        }
        let failed = self.failed.join("\n");
        assert!(self.failed.is_empty(), "these do not hold:\n{failed}");
        assert!(self.checked >= least, "only {} rows", self.checked);
    }
}

fn corpus() -> PathBuf {
    let folder = std::env::var_os("ROPEWALK_CORPUS");
    folder
        .expect("ROPEWALK_CORPUS names the folder of real torrents")
        .into()
}

/// The rows of a table without its heading, cut at tabs.
fn rows(table: &str) -> Vec<Vec<String>> {
    let text = fs::read_to_string(corpus().join(table)).unwrap();
    let cut = |line: &str| line.split('\t').map(str::to_string).collect();
    text.lines().skip(1).map(cut).collect()
}

#[test]
#[ignore = "needs ROPEWALK_CORPUS, the folder of real torrents"]
fn every_torrent_behaves_as_the_manifest_says() {
    let mut tally = Tally::default();
    for row in rows("MANIFEST.tsv") {
        let (file, expected) = (&row[0], &row[3]);
        if !file.starts_with("torrents/") {
            continue;
        }
        let bytes = fs::read(corpus().join(file)).unwrap();
        match Metainfo::from_bytes(&bytes) {
            Ok(metainfo) => {
                println!("{file}: read. {}", metainfo.oddities.join("; "));
                tally.check(file, taken(expected, &bytes, &metainfo));
            }
            Err(error) => {
                println!("{file}: refused. {error}");
                refused(file, expected, error, &mut tally);
            }
        }
    }
    tally.report(60);
}

const MUST_LOAD: &str = "must load;";
const MUST_BE_REFUSED: &str = "must be refused with an error;";

fn taken(expected: &str, bytes: &[u8], metainfo: &Metainfo) -> Result<(), String> {
    if expected.starts_with(MUST_BE_REFUSED) {
        return Err("it was taken".to_string());
    }
    facts(expected, bytes, metainfo)?;
    remarks(expected, metainfo)?;
    harmless(metainfo)
}

/// Holds what some rows say in words about addresses.
fn remarks(expected: &str, metainfo: &Metainfo) -> Result<(), String> {
    let webseeds = &metainfo.webseeds;
    for remark in expected.split("; ") {
        let holds = if let Some((_, tracker)) = remark.split_once("first tracker is ") {
            metainfo.tracker_addresses().next() == Some(tracker)
        } else if let Some(nodes) = remark.strip_prefix("nodes ") {
            let found = metainfo.nodes.iter();
            let found: Vec<String> = found.map(|it| format!("{}:{}", it.0, it.1)).collect();
            found.join(", ") == nodes
        } else if let Some(webseed) = remark.strip_prefix("one web seed ") {
            webseeds == &[webseed]
        } else if remark.starts_with("url-list holds ") || remark.ends_with(": no web seed") {
            webseeds.is_empty()
        } else if let Some((count, _)) = remark.split_once(" web seeds ") {
            count == webseeds.len().to_string()
        } else {
            true
        };
        if !holds {
            return Err(format!("it is not so: {remark}"));
        }
    }
    Ok(())
}

/// Version 2 alone is refused by name. Where it would have to be read, or to be refused for its own
/// faults, that says nothing: such rows are listed and not counted.
fn refused(file: &str, expected: &str, error: MetainfoError, tally: &mut Tally) {
    let must_load = expected.starts_with(MUST_LOAD);
    let has_version_one = expected.contains(" v1=");
    if error == MetainfoError::VersionTwoOnly && !has_version_one {
        tally.unsupported.push(format!("{file}: {expected}"));
    } else if must_load {
        tally.check(file, Err(format!("refused: {error}")));
    } else {
        tally.check(file, Ok(()));
    }
}

/// Holds the `key=value` words of an expectation.
fn facts(expected: &str, bytes: &[u8], metainfo: &Metainfo) -> Result<(), String> {
    let hex = |hash: [u8; 32]| -> String { hash.iter().map(|it| format!("{it:02x}")).collect() };
    let words = expected.split([' ', ';']);
    for (key, value) in words.filter_map(|word| word.split_once('=')) {
        let found = match key {
            "v1" => metainfo.info_hash.to_string(),
            "v2" => metainfo.info_hash_v2.map(hex).unwrap_or_default(),
            "files" => (metainfo.files.len() + symbolic_links(bytes)).to_string(),
            "size" => metainfo.geometry.total().to_string(),
            "piece" => metainfo.geometry.piece_length().to_string(),
            "private" => u8::from(metainfo.private).to_string(),
            _ => continue,
        };
        if found != value {
            return Err(format!("{key} is {found:?} and should be {value:?}"));
        }
    }
    Ok(())
}

/// How many symbolic links a torrent lists; the table counts them as files, and they are left out.
fn symbolic_links(bytes: &[u8]) -> usize {
    let document = bencode::decode_prefix(bytes, DecodeLimits::FILE).unwrap();
    let info = document.root().as_dict().unwrap().get(b"info");
    let files = info.and_then(|item| item.as_dict()?.get(b"files")?.as_list());
    let is_link = |file: &bencode::Item| {
        let attributes = file.as_dict().and_then(|it| it.get(b"attr")?.as_bytes());
        attributes.is_some_and(|letters| letters.contains(&b'l'))
    };
    files.into_iter().flatten().filter(is_link).count()
}

/// Nothing outside the folder, no two files in one, no file that is a folder too.
fn harmless(metainfo: &Metainfo) -> Result<(), String> {
    let mut files = BTreeSet::new();
    let mut folders = BTreeSet::new();
    for file in metainfo.files.iter().filter(|file| !file.padding) {
        let path = metainfo.disk_path(file);
        let is_plain = |element: Component| match element {
            Component::Normal(name) => name.len() <= NAME_BYTES_MAX,
            _ => false,
        };
        if !path.components().all(is_plain) {
            return Err(format!("{path:?} is not harmless"));
        }
        folders.extend(path.ancestors().skip(1).map(Path::to_path_buf));
        if !files.insert(path) {
            return Err(format!("{} is there twice", file.path));
        }
    }
    match files.intersection(&folders).next() {
        Some(both) => Err(format!("{both:?} is a file and a folder")),
        None => Ok(()),
    }
}

#[test]
#[ignore = "needs ROPEWALK_CORPUS, the folder of real torrents"]
fn every_bencode_row_holds() {
    let mut tally = Tally::default();
    for row in rows("vectors/bencode.tsv") {
        let (id, kind, verdict, input) = (&row[0], &row[1], row[2].as_str(), bytes(&row[3]));
        let decoded = bencode::decode(&input, DecodeLimits::FILE).map_err(|error| error.problem);
        let outcome = match (verdict, &decoded) {
            ("must-accept", Err(problem)) => Err(problem.to_string()),
            ("must-reject", Ok(_)) => Err("it was taken".to_string()),
            // What the table leaves open is decided here, and decided the same way every time.
            ("disputed", decoded) => disputed(kind, decoded.as_ref().err()),
            _ => Ok(()),
        };
        tally.check(id, outcome);
    }
    tally.report(60);
}

fn disputed(kind: &str, problem: Option<&Problem>) -> Result<(), String> {
    let as_decided = match kind {
        "int-huge" => problem == Some(&Problem::IntegerTooLarge),
        "str-lead-zero" => problem == Some(&Problem::StringLength),
        "dict-unsorted" | "dict-dup" | "items" => problem.is_none(),
        "trailing" => problem == Some(&Problem::Trailing(1)),
        "depth" => matches!(problem, Some(Problem::TooDeep(_))),
        _ => true,
    };
    if as_decided {
        Ok(())
    } else {
        Err(format!("{kind} ends with {problem:?}"))
    }
}

#[test]
#[ignore = "needs ROPEWALK_CORPUS, the folder of real torrents"]
fn no_fuzz_row_of_a_file_does_harm() {
    let mut tally = Tally::default();
    for row in rows("vectors/fuzz.tsv") {
        let input = bytes(&row[2]);
        // That they return at all is what is asked for.
        match row[1].as_str() {
            "bencode" | "krpc" => drop(bencode::decode(&input, DecodeLimits::MESSAGE)),
            "torrent" => drop(Metainfo::from_bytes(&input)),
            _ => continue,
        }
        tally.check(&row[0], Ok(()));
    }
    tally.report(10);
}

#[test]
#[ignore = "needs ROPEWALK_CORPUS, the folder of real torrents"]
fn no_fuzz_row_of_a_peer_does_harm() {
    let mut tally = Tally::default();
    for row in rows("vectors/fuzz.tsv") {
        let input = bytes(&row[2]);
        match row[1].as_str() {
            "peer-stream" => tally.check(&row[0], stream_is_bounded(&input)),
            "peer-id" => {
                let name = PeerId(input.try_into().unwrap()).client_name();
                let plain = name.chars().all(|it| it == ' ' || it.is_ascii_graphic());
                tally.check(&row[0], plain.then_some(()).ok_or(name));
            }
            _ => {}
        }
    }
    tally.report(5);
}

/// Decodes as far as it goes, for connections that agreed on everything and on nothing.
fn stream_is_bounded(input: &[u8]) -> Result<(), String> {
    for agreed in [false, true] {
        let decoder = Decoder::new(WireRules {
            fast: agreed,
            extended: agreed,
            pieces: 1000,
        });
        let mut rest = input;
        while let Ok(step) = decoder.step(rest) {
            let used = match step {
                Decoded::Need(bytes) if bytes > decoder.head_max() => {
                    return Err(format!("{bytes} bytes are asked for"));
                }
                Decoded::Need(_) => break,
                Decoded::Message { used, .. } => used,
                Decoded::Payload { block, used } => used + block.length as usize,
                Decoded::Skip { used, skip } => used + skip as usize,
            };
            rest = rest.get(used..).unwrap_or_default();
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs ROPEWALK_CORPUS, the folder of real torrents"]
fn every_tracker_answer_row_holds() {
    let mut tally = Tally::default();
    for row in rows("vectors/tracker.tsv") {
        let (name, kind, verdict, expected) = (&row[0], row[1].as_str(), &row[2], &row[5]);
        let outcome = match kind {
            "http-scrape" => scrape_holds(name, &bytes(&row[3])),
            "udp-answer" | "udp-answer-bad" => udp_answer_holds(name, &bytes(&row[3])),
            _ => http_answer_holds(verdict, &bytes(&row[3]), expected),
        };
        tally.check(name, outcome);
    }
    tally.report(18);
}

fn http_answer_holds(verdict: &str, body: &[u8], expected: &str) -> Result<(), String> {
    let answer = Answer::decode(body);
    match verdict {
        "must-accept" => answer_holds(&answer, expected),
        // What is left of a bad answer may be an answer, but never a wrong peer.
        _ if answer.as_ref().is_ok_and(|it| !it.peers.is_empty()) => Err(format!("{answer:?}")),
        _ => Ok(()),
    }
}

/// What these rows expect is said in words, so the numbers stand here: complete, downloaded, incomplete.
fn scrape_holds(row: &str, body: &[u8]) -> Result<(), String> {
    let expected: &[(&[u8; 20], [u64; 3])] = match row {
        "trk-027" => &[(&[b'x'; 20], [11, 13772, 19]), (&[b'y'; 20], [21, 206, 20])],
        "trk-029" => &[(b"aaa\0aaaaaaaaaaaaaaaa", [4, 6, 5])],
        "trk-031" => &[(&[b'a'; 20], [1, 3, 2]), (&[b'c'; 20], [7, 9, 8])],
        other => return Err(format!("{other} is new here")),
    };
    let scraped = Scraped::decode(body).map_err(|error| error.to_string())?;
    let found = scraped.files.iter();
    let found: Vec<_> = found
        .map(|(hash, it)| {
            (
                &hash.0,
                [it.complete, it.downloaded.unwrap(), it.incomplete],
            )
        })
        .collect();
    (found == expected)
        .then_some(())
        .ok_or(format!("{found:?}"))
}

fn udp_answer_holds(row: &str, datagram: &[u8]) -> Result<(), String> {
    let reply = Reply::decode(datagram);
    let transaction = 0x0a0b_0c0d;
    let holds = match (row, &reply) {
        ("trk-033", Ok(reply)) => {
            *reply
                == Reply::Connected {
                    transaction,
                    connection: 0x0102_0304_0506_0708,
                }
        }
        ("trk-035", Ok(Reply::Scraped { counts, .. })) => {
            let numbers = counts.iter();
            let numbers: Vec<_> = numbers
                .map(|it| [it.complete, it.downloaded.unwrap(), it.incomplete])
                .collect();
            numbers == [[1, 3, 2]]
        }
        ("trk-037", Ok(Reply::Refused { reason, .. })) => reason == b"Unable to Connect",
        // Not what was asked for: that it does not become a connection id is enough.
        ("trk-039", reply) => !matches!(reply, Ok(Reply::Connected { .. })),
        ("trk-041", reply) => reply.is_err(),
        ("trk-042", Ok(Reply::Announced { peers: bytes, .. })) => peers(bytes, false).is_empty(),
        _ => false,
    };
    holds.then_some(()).ok_or(format!("{reply:?}"))
}

#[test]
#[ignore = "needs ROPEWALK_CORPUS, the folder of real torrents"]
fn every_magnet_row_holds() {
    let mut tally = Tally::default();
    for row in rows("vectors/magnet.tsv") {
        let (name, kind, verdict, link, expected) = (&row[0], &row[1], &row[2], &row[3], &row[4]);
        let read = link.parse::<Magnet>();
        let outcome = match (verdict.as_str(), &read) {
            ("must-accept", Ok(magnet)) => link_holds(magnet, link, expected),
            ("must-accept", Err(error)) => Err(error.to_string()),
            ("must-reject", Ok(magnet)) => Err(format!("it was taken: {magnet}")),
            // What the table leaves open is decided here: other spellings are no links, and of what
            // hangs on a link the bad parts are left out.
            ("disputed", Ok(_)) if kind == "form" => Err("it was taken".to_string()),
            ("disputed", Err(error)) if kind != "form" => Err(error.to_string()),
            _ => Ok(()),
        };
        tally.check(name, outcome);
    }
    tally.report(40);
}

/// Holds the `key=value` words of an expectation, and the counts that are the same in the link.
fn link_holds(magnet: &Magnet, link: &str, expected: &str) -> Result<(), String> {
    let hex = |hash: [u8; 32]| -> String { hash.iter().map(|it| format!("{it:02x}")).collect() };
    for (key, value) in expected
        .split([' ', ';'])
        .filter_map(|it| it.split_once('='))
    {
        let found = match (key, value) {
            (_, "none") => continue,
            ("v1", _) => magnet.info_hash.map(|it| it.to_string()),
            ("v2", _) => magnet.info_hash_v2.map(hex),
            ("name", _) => magnet.name.clone(),
            ("xl", _) => magnet.length.map(|it| it.to_string()),
            ("trackers", _) => Some(magnet.trackers.join(",")),
            _ => continue,
        };
        if found.as_deref() != Some(value) {
            return Err(format!("{key} is {found:?} and should be {value:?}"));
        }
    }
    let distinct = |key: &str| {
        let named = link.split(['?', '&']).filter(|it| it.starts_with(key));
        named.collect::<BTreeSet<_>>().len()
    };
    let counts = [
        magnet.trackers.len(),
        magnet.webseeds.len(),
        magnet.peers.len(),
    ];
    let wanted = ["tr=", "ws=", "x.pe="].map(distinct);
    if counts != wanted {
        return Err(format!("{counts:?} and should be {wanted:?}"));
    }
    let files: Vec<u32> = magnet.only.iter().cloned().flatten().collect();
    if let Some(list) = expected.strip_prefix("files ") {
        let distinct: BTreeSet<u32> = files.into_iter().collect();
        let distinct: Vec<String> = distinct.iter().map(u32::to_string).collect();
        return (distinct.join(",") == list)
            .then_some(())
            .ok_or(list.to_string());
    }
    Ok(())
}

/// Holds what a row says of an answer: numbers by their names, and exactly the addresses it lists.
fn answer_holds(answer: &Result<Answer, AnswerError>, expected: &str) -> Result<(), String> {
    if let Some(quoted) = expected.strip_prefix("failure \"") {
        let (wanted, _) = quoted.split_once('"').unwrap();
        let matches =
            matches!(answer, Err(AnswerError::Refused { reason, .. }) if reason == wanted);
        return matches.then_some(()).ok_or(format!("{answer:?}"));
    }
    let answer = answer.as_ref().map_err(|error| error.to_string())?;
    let mut peers = Vec::new();
    for fact in expected.split([',', ';']).map(str::trim) {
        let fact = fact.split(" (").next().unwrap_or_default();
        if let Ok(peer) = fact.parse() {
            peers.push(peer);
            continue;
        }
        let (name, value) = fact.rsplit_once(' ').unwrap_or((fact, ""));
        let number = |found: Option<i64>| found.map(|it| it.to_string());
        let count = |found: Option<u64>| found.map(|it| it.to_string());
        let found = match name {
            "interval" => number(answer.interval),
            "min interval" => number(answer.min_interval),
            "seeders" => count(answer.complete),
            "leechers" => count(answer.incomplete),
            "downloads" => count(answer.downloaded),
            "external ip" => answer.external_ip.map(|ip| ip.to_string()),
            "no" | "dict keys not" => continue,
            _ => return Err(format!("the row says something unknown: {fact}")),
        };
        if found.as_deref() != Some(value) {
            return Err(format!("{fact}, but found {found:?}"));
        }
    }
    let found = &answer.peers;
    (*found == peers).then_some(()).ok_or(format!("{found:?}"))
}

/// The rows that say which info-hash a version 1 torrent of given data has. Those of versions that
/// `create` does not make are listed.
#[test]
#[ignore = "needs ROPEWALK_CORPUS, the folder of real torrents"]
fn every_creator_row_holds() {
    let mut tally = Tally::default();
    for row in rows("vectors/creator.tsv") {
        let (name, input, options, expected) = (&row[0], &row[1], &row[2], &row[3]);
        if !options.starts_with("v1,") {
            tally.unsupported.push(format!("{name}: {options}"));
            continue;
        }
        let desk = tempfile::tempdir().unwrap();
        let path = creator_input(input, desk.path());
        let torrent = created(&path, options);
        let mut info_hash = torrent.metainfo.info_hash;
        if options.contains("private=0 written") {
            info_hash = with_private_zero(&torrent).info_hash;
        }
        let found = info_hash.to_string();
        let outcome = (found == *expected).then_some(()).ok_or(found);
        tally.check(name, outcome);
    }
    tally.report(4);
}

/// What a row of creator.tsv is about: data of the corpus, or a few files that the row describes.
fn creator_input(input: &str, desk: &Path) -> PathBuf {
    let Some((folder, files)) = input.split_once("/ with ") else {
        return corpus().join("content").join(input.trim_end_matches('/'));
    };
    let folder = desk.join(folder);
    fs::create_dir(&folder).unwrap();
    for file in files.split(", ") {
        let (name, text) = file.split_once('=').unwrap();
        fs::write(folder.join(name), text.trim_matches('"')).unwrap();
    }
    folder
}

/// The torrent that `create` makes of it.
fn created(path: &Path, options: &str) -> TorrentFile {
    let mut words = options.split(", ");
    let length = words.find_map(|word| word.strip_prefix("piece length "));
    let settings = TorrentSettings {
        piece_length: Some(length.unwrap().parse().unwrap()),
        ..TorrentSettings::default()
    };
    let creation = Creation::start(path, settings, NonZeroUsize::MIN).unwrap();
    creation.finish().unwrap()
}

/// The same torrent with `private` written out although it is not. `create` leaves it away, as most do.
fn with_private_zero(torrent: &TorrentFile) -> Metainfo {
    let info = &torrent.bytes[torrent.metainfo.info.clone()];
    let info = info.strip_suffix(b"e").unwrap();
    let bytes = [b"d4:info", info, b"7:privatei0eee"].concat();
    Metainfo::from_bytes(&bytes).unwrap()
}

/// A row's input: hex, or a recipe for what is too long to write out.
fn bytes(text: &str) -> Vec<u8> {
    match text {
        "@l*1024+e*1024" => ["l".repeat(1024), "e".repeat(1024)].concat().into(),
        "@(d1:a)*100000+de+e*100000" => {
            let (open, close) = ("d1:a".repeat(100_000), "e".repeat(100_000));
            format!("{open}de{close}").into()
        }
        "@l+i0e..i999e+e" => {
            let numbers: String = (0..1000).map(|n| format!("i{n}e")).collect();
            format!("l{numbers}e").into()
        }
        "@d+(4:0999i999e)..(4:0000i0e)+e" => {
            let entries = (0..1000).rev().map(|n| format!("4:{n:04}i{n}e"));
            format!("d{}e", entries.collect::<String>()).into()
        }
        hex => {
            let digits: Option<Vec<u32>> = hex.chars().map(|it| it.to_digit(16)).collect();
            let digits = digits.unwrap_or_else(|| panic!("an unknown recipe: {hex}"));
            let pairs = digits.chunks(2);
            pairs.map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
        }
    }
}
