//! Disks that are full, files that vanish, limits of the system, calls that fail, signals. Whatever
//! happens: an exit status with a reason and never a death by signal, no claim that is not true, and
//! the next run ends with the right bytes.

use crate::disk::{Disk, occupied};
use crate::lane::Lane;
use crate::programs::{Program, Running, Tracker, ropewalk};
use crate::room::{Room, await_event};
use crate::torrents::{Maker, Plan};
use rustix::process::Signal;
use std::fs::{self, File};
use std::path::Path;

const MIB: u64 = 1 << 20;

/// The `reason` that the last event gives.
fn reason(run: &Running) -> String {
    let events = run.events();
    let mut given = events.iter().filter_map(|object| object["reason"].as_str());
    given
        .next_back()
        .unwrap_or_else(|| panic!("no reason was given:\n{}", run.said()))
        .to_owned()
}

/// Waits until so many bytes are verified.
fn await_have(run: &mut Running, bytes: u64) {
    run.until("some pieces are verified", 60, |run| {
        run.last_figure("progress", "have")
            .filter(|have| *have >= bytes)
    });
}

/// One sentence for a person: some text, and no trace of a panic.
fn assert_plain_words(run: &Running) {
    let words = run.complained();
    assert!(!words.trim().is_empty(), "nothing was said");
    assert!(!words.contains("panicked"), "{words}");
}

// ------------------------------------------------------------------------------------ full disks

fn refused_before_the_first_byte(disk: &Disk, lane: &Lane) {
    let mut run = lane.run(lane.get(&disk.folder));
    assert_eq!(run.exit_code(60), 2, "{}", run.said());
    assert_plain_words(&run);
    let words = run.complained();
    assert!(words.contains(char::is_numeric), "no figures: {words}");
    reason(&run);
    assert_eq!(
        lane.sent(),
        0,
        "payload was fetched for a disk that cannot hold it"
    );
    let debris = occupied(&disk.folder);
    assert!(debris <= 64 << 10, "{debris} bytes were left behind");
}

#[test]
#[ignore = "needs root, python3-libtorrent"]
fn f1_a_tmpfs_that_is_too_small_is_refused_before_the_first_byte() {
    let lane = Lane::new(24 << 20, 18);
    let disk = Disk::tmpfs(lane.folder("disk"), 8);
    refused_before_the_first_byte(&disk, &lane);
}

#[test]
#[ignore = "needs root, python3-libtorrent"]
fn f1_an_ext4_that_is_too_small_is_refused_and_left_clean() {
    let lane = Lane::new(48 << 20, 18);
    let disk = Disk::image("ext4", lane.folder("disk"), 40);
    refused_before_the_first_byte(&disk, &lane);
}

/// Someone else fills the disk while we download. Where space could be set aside, that need not
/// bother us; where it could not, it is an ordinary error, and there is no SIGBUS.
fn filled_by_another(disk: &Disk, lane: &Lane, may_succeed: bool) {
    lane.there.limit(40);
    let mut run = lane.run(lane.get(&disk.folder));
    await_have(&mut run, 2 * MIB);
    let theirs = disk.fill();
    lane.there.unlimited();
    let code = run.exit_code(120);
    assert!(
        code == 2 || may_succeed && code == 0,
        "ended with {code}:\n{}",
        run.said()
    );
    if code == 2 {
        assert_plain_words(&run);
        reason(&run);
    }
    fs::remove_file(theirs).unwrap();
    let sent = lane.sent();
    lane.finish(&disk.folder);
    let again = lane.sent() - sent;
    assert!(
        again < lane.work.size - MIB,
        "all {again} bytes were fetched again"
    );
}

#[test]
#[ignore = "needs root, python3-libtorrent"]
fn f2_an_ext2_that_fills_up_is_an_error_and_the_next_run_goes_on() {
    let lane = Lane::new(32 << 20, 18);
    let disk = Disk::image("ext2", lane.folder("disk"), 64);
    filled_by_another(&disk, &lane, true);
}

#[test]
#[ignore = "needs root, btrfs-progs, python3-libtorrent"]
fn f2_a_btrfs_that_fills_up_is_no_signal_and_the_next_run_goes_on() {
    let lane = Lane::new(32 << 20, 18);
    let disk = Disk::image("btrfs", lane.folder("disk"), 256);
    filled_by_another(&disk, &lane, true);
}

#[test]
#[ignore = "needs root, strace, python3-libtorrent"]
fn f2_a_disk_that_fills_up_and_cannot_set_space_aside_is_an_error() {
    let lane = Lane::new(32 << 20, 18);
    let disk = Disk::tmpfs(lane.folder("disk"), 48);
    lane.there.limit(40);
    let wrapper = strace(&["-e", "inject=fallocate:error=EOPNOTSUPP"]);
    let mut run = lane.run(lane.get_under(&wrapper, &disk.folder));
    await_have(&mut run, 2 * MIB);
    let theirs = disk.fill();
    assert!(disk.free() < MIB, "{} bytes are free still", disk.free());
    lane.there.unlimited();
    assert_eq!(run.exit_code(120), 2, "{}", run.said());
    assert_plain_words(&run);
    reason(&run);
    fs::remove_file(theirs).unwrap();
    lane.finish(&disk.folder);
}

// --------------------------------------------------------------------------- files others reach for

/// Does something to the file in the middle of a download.
fn disturbed(lane: &Lane, disturb: impl FnOnce(&Path)) {
    let target = lane.folder("target");
    lane.there.limit(40);
    let mut run = lane.run(lane.get(&target));
    await_have(&mut run, 4 * MIB);
    disturb(&target.join(&lane.work.name));
    lane.there.unlimited();
    match run.exit_code(120) {
        0 => lane.work.assert_arrived(&target, Program::Ropewalk),
        2 => {
            assert_plain_words(&run);
            reason(&run);
        }
        code => panic!("ended with {code}:\n{}", run.said()),
    }
    lane.finish(&target);
}

#[test]
#[ignore = "needs root, python3-libtorrent"]
fn f4_a_file_truncated_under_a_download_is_noticed() {
    disturbed(&Lane::new(32 << 20, 18), |file| {
        File::options()
            .write(true)
            .open(file)
            .unwrap()
            .set_len(0)
            .unwrap();
    });
}

#[test]
#[ignore = "needs root, python3-libtorrent"]
fn f4_a_file_deleted_under_a_download_is_noticed() {
    disturbed(&Lane::new(32 << 20, 18), |file| {
        fs::remove_file(file).unwrap()
    });
}

#[test]
#[ignore = "needs root, python3-libtorrent"]
fn f4_a_file_replaced_under_a_download_is_noticed() {
    disturbed(&Lane::new(32 << 20, 18), |file| {
        let other = file.with_extension("other");
        fs::write(&other, vec![7; 32 << 20]).unwrap();
        fs::rename(other, file).unwrap();
    });
}

#[test]
#[ignore = "needs root, python3-libtorrent"]
fn f4_a_file_cut_after_completion_is_not_shared_and_is_fetched_again() {
    let lane = Lane::new(16 << 20, 18);
    let target = lane.folder("target");
    lane.finish(&target);
    let file = File::options()
        .write(true)
        .open(target.join(&lane.work.name))
        .unwrap();
    file.set_len(5 * MIB).unwrap();
    lane.finish(&target);
}

// ------------------------------------------------------------------------------------------- limits

#[test]
#[ignore = "needs root, python3-libtorrent"]
fn f5_a_file_size_limit_is_a_message_and_no_signal() {
    let lane = Lane::new(16 << 20, 18);
    let target = lane.folder("target");
    let mut run = lane.run(lane.get_under(&["prlimit", "--fsize=4194304"], &target));
    assert_eq!(run.exit_code(60), 2, "{}", run.said());
    assert_plain_words(&run);
    reason(&run);
    lane.finish(&target);
}

#[test]
#[ignore = "needs root, python3-libtorrent"]
fn g2_sixty_four_open_files_are_enough() {
    let lane = Lane::new(16 << 20, 18);
    let target = lane.folder("target");
    let mut run = lane.run(lane.get_under(&["prlimit", "--nofile=64"], &target));
    assert_eq!(run.exit_code(60), 0, "{}", run.said());
    lane.work.assert_arrived(&target, Program::Ropewalk);
}

#[test]
#[ignore = "needs root, python3-libtorrent"]
fn g2_too_few_open_files_work_or_are_a_clear_error() {
    let lane = Lane::new(4 << 20, 18);
    for limit in [8, 16, 32] {
        let target = lane.folder(&format!("target-{limit}"));
        let wrapper = format!("--nofile={limit}");
        let mut run = lane.run(lane.get_under(&["prlimit", &wrapper], &target));
        match run.exit_code(60) {
            0 => lane.work.assert_arrived(&target, Program::Ropewalk),
            2 => assert_plain_words(&run),
            code => panic!("{limit} files: ended with {code}:\n{}", run.said()),
        }
    }
}

#[test]
#[ignore = "needs root, python3-libtorrent"]
fn f12_an_address_space_of_64_mib_is_enough() {
    let lane = Lane::new(32 << 20, 18);
    let target = lane.folder("target");
    let mut run = lane.run(lane.get_under(&["prlimit", "--as=67108864"], &target));
    assert_eq!(run.exit_code(60), 0, "{}", run.said());
    lane.work.assert_arrived(&target, Program::Ropewalk);
}

// --------------------------------------------------------------------------------- calls that fail

/// The words before a command that make strace inject failures; the program stays our child, so
/// that its signals and exit status are its own.
fn strace<'a>(inject: &[&'a str]) -> Vec<&'a str> {
    let mut words = vec!["strace", "-D", "-f", "-qq", "-o", "/dev/null"];
    words.extend(inject);
    words
}

#[test]
#[ignore = "needs root, strace, python3-libtorrent"]
fn f6_a_sync_that_fails_once_is_not_believed_and_its_pieces_are_read_back() {
    let lane = Lane::new(16 << 20, 18);
    let target = lane.folder("target");
    let file = target.join(&lane.work.name);
    let inject = "inject=fdatasync,fsync,syncfs:error=EIO:when=1";
    let wrapper = strace(&["-P", file.to_str().unwrap(), "-e", inject]);
    let mut run = lane.run(lane.get_under(&wrapper, &target));
    assert_eq!(run.exit_code(120), 0, "{}", run.said());
    assert!(run.said().contains("are read back"), "{}", run.said());
    lane.work.assert_arrived(&target, Program::Ropewalk);
}

#[test]
#[ignore = "needs root, strace, python3-libtorrent"]
fn f6_a_medium_that_takes_no_sync_is_an_error_and_nothing_is_claimed() {
    let lane = Lane::new(16 << 20, 18);
    let target = lane.folder("target");
    let file = target.join(&lane.work.name);
    let inject = "inject=fdatasync,fsync,msync,sync_file_range,syncfs:error=EIO";
    let wrapper = strace(&["-P", file.to_str().unwrap(), "-e", inject]);
    let mut run = lane.run(lane.get_under(&wrapper, &target));
    assert_eq!(run.exit_code(120), 2, "{}", run.said());
    assert!(
        run.last_figure("complete", "have").is_none(),
        "it said complete:\n{}",
        run.said()
    );
    assert_plain_words(&run);
    reason(&run);
    let mut next = lane.run_on(lane.get(&target));
    next.until("it is complete", 60, |run| {
        run.last_figure("complete", "have")
    });
    let read = next.bytes_read();
    next.signal(Signal::INT);
    assert_eq!(next.exit_code(30), 0, "{}", next.said());
    assert!(
        read >= lane.work.size,
        "only {read} bytes were read: unsynced pieces were believed"
    );
    lane.work.assert_arrived(&target, Program::Ropewalk);
}

#[test]
#[ignore = "needs root, strace, python3-libtorrent"]
fn f12_a_file_system_without_shared_maps_is_written_by_position() {
    let lane = Lane::new(16 << 20, 18);
    for error in ["ENODEV", "EAGAIN", "ENOMEM", "EINVAL"] {
        let target = lane.folder(&format!("target-{error}"));
        let file = target.join(&lane.work.name);
        let inject = format!("inject=mmap:error={error}");
        let wrapper = strace(&["-P", file.to_str().unwrap(), "-e", &inject]);
        let mut run = lane.run(lane.get_under(&wrapper, &target));
        assert_eq!(run.exit_code(120), 0, "{error}: {}", run.said());
        lane.work.assert_arrived(&target, Program::Ropewalk);
    }
}

#[test]
#[ignore = "needs root, strace, python3-libtorrent"]
fn f3_populate_that_fails_is_no_obstacle() {
    let lane = Lane::new(16 << 20, 18);
    for error in ["EINVAL", "ENOMEM", "EFAULT"] {
        let target = lane.folder(&format!("target-{error}"));
        let inject = format!("inject=madvise:error={error}");
        let wrapper = strace(&["-e", &inject]);
        let mut run = lane.run(lane.get_under(&wrapper, &target));
        assert_eq!(run.exit_code(120), 0, "{error}: {}", run.said());
        lane.work.assert_arrived(&target, Program::Ropewalk);
    }
}

// ------------------------------------------------------------------------------------------ signals

#[test]
#[ignore = "needs root, opentracker, python3-libtorrent"]
fn g4_a_signal_leaves_a_good_record_and_tells_the_tracker() {
    let desk = tempfile::tempdir().unwrap();
    let room = Room::new();
    let (at_tracker, there, here) = (room.host(), room.host(), room.host());
    let plan = Plan {
        name: "stopped.bin",
        files: vec![(String::new(), 32 << 20)],
        piece_bits: 18,
        maker: Maker::Libtorrent("v1"),
    };
    let work = plan.carry_out(&Tracker::announce_on(&at_tracker), desk.path());
    let hashes = std::slice::from_ref(&work.info_hash);
    let tracker = Tracker::start(&at_tracker, hashes, &desk.path().join("tracker"));
    let own = desk.path().join("seed");
    let mut seed = Program::Libtorrent.seed(&there, &work.torrent, work.folder(false), &own);
    tracker.await_seed(&work.info_hash, &mut seed);
    let target = desk.path().join("target");
    fs::create_dir_all(&target).unwrap();
    there.limit(24);
    let mut had = 0;
    for (signal, code) in [(Signal::HUP, 129), (Signal::INT, 130), (Signal::TERM, 143)] {
        let mut command = ropewalk(&here, "get");
        command
            .args(["--json", "-e", "-o"])
            .arg(&target)
            .arg(&work.torrent);
        let mut run = Running::start("ropewalk get", command, &desk.path().join(code.to_string()));
        await_have(&mut run, had + MIB);
        run.signal(signal);
        assert_eq!(run.exit_code(10), code, "{}", run.said());
        let found = run.found_on_disk().expect("progress events");
        assert!(
            found + MIB >= had,
            "{had} bytes were verified before the signal and {found} are now"
        );
        had = run.last_figure("stopped", "have").expect("a stopped event");
        await_event("the tracker knows no leecher", 10, || {
            (tracker.knows(&work.info_hash).1 == 0).then_some(())
        });
    }
    there.unlimited();
    Program::Ropewalk.leech(&here, &work.torrent, &target, &desk.path().join("last"));
    work.assert_arrived(&target, Program::Ropewalk);
}

#[test]
#[ignore = "needs root, python3-libtorrent"]
fn g4_a_second_signal_leaves_at_once_though_the_tracker_hangs() {
    let lane = Lane::new(16 << 20, 18);
    // Takes every connection and never says a word.
    let silence = "import socket,time; s=socket.create_server(('',6969)); k=[]\nwhile 1: k.append(s.accept())";
    let room = Room::new();
    let (at_tracker, here) = (room.host(), room.host());
    let mut command = at_tracker.command(crate::programs::PYTHON);
    command.args(["-c", silence]);
    let _tracker = Running::start("a silent tracker", command, &lane.folder("silent"));
    let address = Tracker::address_on(&at_tracker);
    let plan = Plan {
        name: "waiting.bin",
        files: vec![(String::new(), 1 << 20)],
        piece_bits: 15,
        maker: Maker::Libtorrent("v1"),
    };
    let desk = lane.folder("waiting");
    let work = plan.carry_out(&format!("http://{address}/announce"), &desk);
    for (second, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let mut command = ropewalk(&here, "get");
        command.args(["--json", "-o"]).arg(&desk).arg(&work.torrent);
        let mut run = Running::start("ropewalk get", command, &lane.folder("get"));
        run.until("it has started", 30, |run| {
            run.events()
                .iter()
                .any(|object| object["event"] == "started")
                .then_some(())
        });
        run.signal(second);
        // Two of a kind that both wait to be delivered are one.
        run.until("the first signal is delivered", 5, |run| {
            run.waiting_signals().eq(&0).then_some(())
        });
        run.signal(second);
        assert_eq!(run.exit_code(4), code, "{}", run.said());
    }
}

#[test]
#[ignore = "needs root, python3-libtorrent"]
fn g4_a_stop_while_sharing_is_a_success() {
    let lane = Lane::new(4 << 20, 18);
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let target = lane.folder(&format!("target-{}", signal.as_raw()));
        let mut run = lane.run_on(lane.get(&target));
        run.until("it is complete", 60, |run| {
            run.last_figure("complete", "have")
        });
        run.signal(signal);
        assert_eq!(run.exit_code(10), 0, "{}", run.said());
    }
}

#[test]
#[ignore = "needs root, python3-libtorrent"]
fn g5_a_seed_that_stands_still_ends_a_run_with_a_timeout() {
    let lane = Lane::new(32 << 20, 18);
    let target = lane.folder("target");
    lane.there.limit(24);
    let mut command = lane.get(&target);
    command.args(["--timeout", "3"]);
    let mut run = lane.run(command);
    await_have(&mut run, MIB);
    lane.freeze();
    assert_eq!(run.exit_code(60), 2, "{}", run.said());
    reason(&run);
    lane.thaw();
    lane.there.unlimited();
    lane.finish(&target);
}
