//! What a second run finds: after `kill -9`, after completion, and in a file that is mostly holes.

use crate::lane::Lane;
use crate::programs::{PORT, Program, Running, Tracker, libtorrent, ropewalk};
use crate::room::Room;
use crate::torrents::{Maker, Plan};
use rustix::process::Signal;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::time::Duration;

const MIB: u64 = 1 << 20;

#[test]
#[ignore = "needs root, python3-libtorrent"]
fn twenty_kills_at_random_moments_lose_no_recorded_piece() {
    let seed = std::env::var("INTEROP_SEED")
        .ok()
        .and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("INTEROP_SEED={seed} repeats this run's moments");
    let mut dice = fastrand::Rng::with_seed(seed);
    let lane = Lane::new(64 << 20, 18);
    let target = lane.folder("target");
    // 2 MB a second: twenty runs of three quarters of a second on average leave something to do.
    lane.there.limit(16);
    let mut had = 0;
    for kill in 1..=20 {
        let mut run = lane.run(lane.get(&target));
        // Every fourth dies before or while it connects, the others once data comes.
        if kill % 4 != 0 {
            run.until("data comes", 60, |run| {
                run.last_figure("progress", "downloaded")
                    .filter(|bytes| *bytes > 0)
            });
        }
        let patience = Duration::from_millis(dice.u64(0..1_500));
        let status = run.killed_after(patience);
        assert!(
            status.is_none(),
            "kill {kill}: it ended before, with {status:?}:\n{}",
            run.said()
        );
        // What was verified was written, and what was written outlives a kill: recorded or looked
        // through again, it is not fetched twice. Figures come a few times a second: a MiB may be on
        // its way between two of them.
        if let Some(found) = run.found_on_disk() {
            assert!(
                found + MIB >= had,
                "kill {kill}: {had} bytes were verified before and {found} now"
            );
            had = run
                .last_figure("progress", "have")
                .unwrap_or(found)
                .max(found);
        }
    }
    lane.there.unlimited();
    let sent_before = lane.sent();
    let mut last = lane.run(lane.get(&target));
    assert_eq!(last.exit_code(120), 0, "{}", last.said());
    lane.work.assert_arrived(&target, Program::Ropewalk);
    let found = last.found_on_disk().expect("progress events");
    assert!(
        found + MIB >= had && found > 0,
        "{found} bytes were found and {had} had been verified"
    );
    let missing = lane.work.size - found;
    let fetched = last
        .last_figure("stopped", "downloaded")
        .expect("a stopped event");
    assert!(
        fetched <= missing,
        "{fetched} bytes were fetched and {missing} were missing"
    );
    // The other side's view. What was under way to a killed process counts as sent.
    let sent = lane.sent() - sent_before;
    assert!(
        sent <= missing + MIB,
        "the seed sent {sent} bytes and {missing} were missing"
    );
}

#[test]
#[ignore = "needs root, opentracker, python3-libtorrent"]
fn a_second_start_of_a_complete_share_reads_nothing_again() {
    let desk = tempfile::tempdir().unwrap();
    let room = Room::new();
    let (at_tracker, here) = (room.host(), room.host());
    let plan = Plan {
        name: "shared.bin",
        files: vec![(String::new(), 48 << 20)],
        piece_bits: 18,
        maker: Maker::Libtorrent("v1"),
    };
    let work = plan.carry_out(&Tracker::announce_on(&at_tracker), desk.path());
    let mut read = Vec::new();
    for round in ["first", "second"] {
        let hashes = std::slice::from_ref(&work.info_hash);
        let tracker = Tracker::start(
            &at_tracker,
            hashes,
            &desk.path().join(format!("tracker-{round}")),
        );
        let own = desk.path().join(round);
        let mut seed = Program::Ropewalk.seed(&here, &work.torrent, work.folder(false), &own);
        tracker.await_seed(&work.info_hash, &mut seed);
        read.push(seed.bytes_read());
        seed.signal(Signal::INT);
        assert_eq!(seed.exit_code(30), 0, "{}", seed.said());
    }
    assert!(
        read[0] >= work.size,
        "the first start read {} bytes only: the measure is blind",
        read[0]
    );
    assert!(read[1] < 4 * MIB, "the second start read {} bytes", read[1]);
}

#[test]
#[ignore = "needs root, python3-libtorrent"]
fn a_sparse_file_of_twenty_gibibytes_keeps_its_holes() {
    const PIECE: u64 = 16 * MIB;
    const SIZE: u64 = 20 * 1024 * MIB - 5_000;
    let desk = tempfile::tempdir().unwrap();
    let room = Room::new();
    let (there, here) = (room.host(), room.host());
    let [source, target] = ["source", "target"].map(|name| desk.path().join(name));
    let torrent = desk.path().join("sparse.torrent");
    let tail = make_sparse(&source, &torrent, SIZE, PIECE);
    fs::create_dir_all(&target).unwrap();
    File::create(target.join("sparse.bin"))
        .unwrap()
        .set_len(SIZE)
        .unwrap();

    let own = desk.path().join("seed");
    let mut command = libtorrent(&there, &own);
    command.args(["seed", &there.address.to_string(), &PORT.to_string()]);
    command
        .args([&torrent, &source])
        .arg(own.join("figures.json"))
        .arg("unchecked");
    let mut seed = Running::start("libtorrent, seeding", command, &own);
    seed.until("it is seeding", 60, |_| {
        own.join("figures.json").exists().then_some(())
    });

    let mut command = ropewalk(&here, "get");
    command.args([
        "--json",
        "--no-tracker",
        "--peer",
        &format!("{}:{PORT}", there.address),
    ]);
    command
        .args(["--seed-ratio", "1000", "--seed-time", "0", "-o"])
        .arg(&target)
        .arg(&torrent);
    let mut run = Running::start("ropewalk get", command, &desk.path().join("get"));
    run.until("it is complete", 120, |run| {
        run.last_figure("complete", "have")
    });
    let read = run.bytes_read();
    run.signal(Signal::INT);
    assert_eq!(run.exit_code(30), 0, "{}", run.said());

    let file = File::open(target.join("sparse.bin")).unwrap();
    let on_disk = file.metadata().unwrap().blocks() * 512;
    assert!(
        on_disk < 4 * PIECE,
        "{on_disk} bytes lie on the disk: holes were filled"
    );
    assert!(read < 8 * PIECE, "{read} bytes were read: holes were read");
    let mut came = vec![0; tail.len()];
    file.read_exact_at(&mut came, SIZE - tail.len() as u64)
        .unwrap();
    assert!(came == tail, "the last pieces are wrong");
    assert_eq!(file.metadata().unwrap().len(), SIZE);
}

/// A sparse file whose last two pieces are data, and its torrent, written by hand: nobody hashes
/// twenty gibibytes of zeros for us. Returns the data.
fn make_sparse(folder: &Path, torrent: &Path, size: u64, piece: u64) -> Vec<u8> {
    let pieces = size.div_ceil(piece);
    let tail_at = (pieces - 2) * piece;
    let mut tail = vec![0; (size - tail_at) as usize];
    fastrand::Rng::with_seed(20).fill(&mut tail);
    fs::create_dir_all(folder).unwrap();
    let file = File::create(folder.join("sparse.bin")).unwrap();
    file.set_len(size).unwrap();
    file.write_all_at(&tail, tail_at).unwrap();
    let hash = |bytes: &[u8]| sha1_smol::Sha1::from(bytes).digest().bytes();
    let zeros = hash(&vec![0; piece as usize]);
    let (first, last) = tail.split_at(piece as usize);
    let mut hashes = zeros.repeat((pieces - 2) as usize);
    hashes.extend([hash(first), hash(last)].concat());
    let mut text = format!(
        "d4:infod6:lengthi{size}e4:name10:sparse.bin12:piece lengthi{piece}e6:pieces{}:",
        hashes.len()
    )
    .into_bytes();
    text.extend(hashes);
    text.extend(b"ee");
    fs::write(torrent, text).unwrap();
    tail
}
