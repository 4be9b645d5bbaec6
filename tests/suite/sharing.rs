//! When sharing ends: by ratio, by time, whichever is first; and what of it outlives a run.

use crate::desk::{Desk, Running, is_calm, noise, single};
use crate::fake_tracker::tracker_knowing;
use rustix::process::Signal;

const LENGTH: u64 = 200_000;

const LOOPBACK: [&str; 4] = ["--bind", "127.0.0.1", "--port", "0"];

fn put_down(desk: &Desk) {
    let bytes = noise(5, LENGTH as usize);
    desk.write("f.torrent", &single("f.bin", &bytes, 32768).compose());
    desk.write("data/f.bin", &bytes);
}

/// Starts `get` or `seed` and says where it listens.
fn start(desk: &Desk, words: &[&str]) -> (Running, String) {
    let mut all = words.to_vec();
    all.push("--json");
    all.extend(LOOPBACK);
    let mut run = desk.start(&all);
    let port = run.wait_for("listening")["port"].as_u64().unwrap();
    (run, format!("127.0.0.1:{port}"))
}

fn seed(desk: &Desk) -> (Running, String) {
    start(desk, &["seed", "f.torrent", "data"])
}

/// Somebody else fetches the whole torrent from `address`.
fn fetch(desk: &Desk, address: &str, to: &str) {
    let mut words = vec!["get", "-e", "-o", to, "--peer", address, "f.torrent"];
    words.extend(LOOPBACK);
    desk.run(&words).expect(0);
}

#[test]
fn get_leaves_when_as_much_was_given_as_was_asked_for() {
    let desk = Desk::new();
    put_down(&desk);
    let (mut seed, source) = seed(&desk);
    let words = [
        "get",
        "--seed-ratio",
        "1",
        "-o",
        "copy",
        "--peer",
        &source,
        "f.torrent",
    ];
    let (mut get, address) = start(&desk, &words);
    let complete = get.wait_for("complete");
    assert_eq!(complete["ratio"], 0.0);
    assert_eq!(complete["downloaded_ever"], LENGTH);
    // With the seed gone, only this one can give.
    seed.signal(Signal::INT);
    assert_eq!(seed.end().code(), Some(0));
    fetch(&desk, &address, "other");
    let stopped = get.wait_for("stopped");
    assert_eq!(stopped["reason"], "done");
    assert!(stopped["ratio"].as_f64().unwrap() >= 1.0, "{stopped}");
    assert!(stopped["uploaded"].as_u64().unwrap() >= LENGTH, "{stopped}");
    assert_eq!(get.end().code(), Some(0));
    // Sharing is over, and so is the record of it.
    assert!(!desk.path("copy/.f.bin.ropewalk").exists());
}

/// An album of three files in pieces of 16 KiB: the second one's bytes lie in the pieces 1 and 2 of four.
fn put_down_album(desk: &Desk) {
    for number in [1, 2, 3] {
        desk.write(format!("data/album/{number}"), &noise(number, 20_000));
    }
    desk.run(&["create", "--piece-length=16K", "data/album"])
        .expect(0);
}

/// A seed of the torrent, which somebody `changes` once it is complete, and who fetches it then.
fn change_while_seeding(desk: &Desk, torrent: &str, change: impl FnOnce()) -> (Running, Running) {
    let (mut seed, source) = start(desk, &["seed", "--no-tracker", torrent, "data"]);
    seed.wait_for("complete");
    change();
    let words = ["get", "-e", "-o", "copy", "--no-tracker", "--peer", &source];
    let (get, _) = start(desk, &[&words[..], &[torrent]].concat());
    (seed, get)
}

#[test]
fn what_somebody_wrote_to_after_it_was_checked_is_not_sent_to_anybody() {
    let desk = Desk::new();
    put_down(&desk);
    let overwrite = || write_into(&desk, "data/f.bin");
    let (mut seed, _get) = change_while_seeding(&desk, "f.torrent", overwrite);
    let warning = seed.wait_for("warning")["text"].to_string();
    assert!(warning.contains("it was written to meanwhile"), "{warning}");
    let stopped = seed.wait_for("stopped");
    let text = stopped["text"].as_str().unwrap();
    assert!(text.contains("it was written to meanwhile"), "{stopped}");
    assert_eq!(seed.end().code(), Some(2));
}

#[test]
fn a_file_that_was_only_touched_is_hashed_again_and_shared() {
    let desk = Desk::new();
    put_down(&desk);
    put_down_album(&desk);
    for (torrent, file) in [("f.torrent", "f.bin"), ("album.torrent", "album/2")] {
        let touch = || {
            let bytes = desk.read(&format!("data/{file}"));
            desk.write(format!("data/{file}"), &bytes);
        };
        let (mut seed, mut get) = change_while_seeding(&desk, torrent, touch);
        assert_eq!(get.end().code(), Some(0), "{torrent}");
        assert!(desk.read(&format!("copy/{file}")) == desk.read(&format!("data/{file}")));
        let warnings = [seed.wait_for("warning"), seed.wait_for("warning")];
        let text = warnings[1]["text"].as_str().unwrap();
        assert!(
            text.ends_with("it is still what the torrent says"),
            "{text}"
        );
        seed.signal(Signal::INT);
        assert_eq!(seed.end().code(), Some(0));
    }
}

#[test]
fn of_a_file_that_was_overwritten_or_deleted_nothing_wrong_is_sent_and_the_rest_is() {
    for delete in [false, true] {
        let desk = Desk::new();
        put_down_album(&desk);
        let change = || match delete {
            true => std::fs::remove_file(desk.path("data/album/2")).unwrap(),
            false => {
                let time = |path| std::fs::metadata(path).unwrap().modified().unwrap();
                let before = time(desk.path("data/album/2"));
                write_into(&desk, "data/album/2");
                // Some programs put a file's time back.
                let file = std::fs::File::options()
                    .write(true)
                    .open(desk.path("data/album/2"));
                file.unwrap().set_modified(before).unwrap();
            }
        };
        let (mut seed, mut get) = change_while_seeding(&desk, "album.torrent", change);
        seed.wait_for("warning");
        let text = seed.wait_for("warning")["text"].to_string();
        assert!(text.contains("2 of 2 pieces are no longer what"), "{text}");
        // It is hung up when it asks for what is lost, and finds out what is left when it calls again.
        let left = 60_000 - 2 * 16_384;
        while get.wait_for("progress")["have"].as_u64() < Some(left) {}
        get.signal(Signal::INT);
        assert_eq!(get.end().code(), Some(130));
        let got = desk.read("copy/album/2");
        assert!(got.iter().all(|byte| *byte == 0), "nothing of it came");
        assert!(desk.read("copy/album/1")[..16_384] == desk.read("data/album/1")[..16_384]);
        seed.signal(Signal::INT);
        assert_eq!(seed.end().code(), Some(0));
    }
}

/// Another program writes to the file, so much later that its time is another one by any clock.
fn write_into(desk: &Desk, file: &str) {
    let length = desk.read(file).len();
    desk.write(file, &noise(99, length));
    let written = std::fs::File::options().write(true).open(desk.path(file));
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(5);
    written.unwrap().set_modified(later).unwrap();
}

#[test]
fn what_get_fetched_and_somebody_wrote_to_is_not_sent_to_anybody_either() {
    let desk = Desk::new();
    put_down(&desk);
    let (_seed, source) = seed(&desk);
    // One that fetches it, and one that finds it there.
    for _ in 0..2 {
        let words = ["get", "-o", "mine", "--no-tracker", "--peer", &source];
        let (mut get, address) = start(&desk, &[&words[..], &["f.torrent"]].concat());
        get.wait_for("complete");
        let good = desk.read("mine/f.bin");
        write_into(&desk, "mine/f.bin");
        let words = ["get", "-o", "theirs", "--no-tracker", "--peer", &address];
        let _other = start(&desk, &[&words[..], &["f.torrent"]].concat());
        let stopped = get.wait_for("stopped");
        let text = stopped["text"].as_str().unwrap();
        assert!(text.contains("it was written to meanwhile"), "{stopped}");
        assert_eq!(get.end().code(), Some(2));
        desk.write("mine/f.bin", &good);
    }
}

#[test]
fn what_somebody_wrote_to_while_the_rest_was_fetched_is_neither_complete_nor_believed() {
    let desk = Desk::new();
    for (name, length) in [("1", 40_000), ("2", 400_000)] {
        desk.write(format!("data/album/{name}"), &noise(7, length));
    }
    desk.run(&["create", "--piece-length=16K", "data/album"])
        .expect(0);
    let (_seed, source) = start(&desk, &["seed", "--no-tracker", "album.torrent", "data"]);
    for stopped in [true, false] {
        let to = if stopped { "stopped" } else { "finished" };
        let words = ["get", "-e", "-o", to, "--no-tracker", "--peer", &source];
        let slow = ["--sequential", "--down", "150K", "album.torrent"];
        let (mut get, _) = start(&desk, &[&words[..], &slow].concat());
        while get.wait_for("progress")["have"].as_u64() < Some(65_536) {}
        write_into(&desk, &format!("{to}/album/1"));
        if stopped {
            get.signal(Signal::INT);
            assert_eq!(get.end().code(), Some(130));
        } else {
            let warning = get.wait_for("warning")["text"].to_string();
            assert!(warning.contains("it was written to meanwhile"), "{warning}");
            let ended = get.wait_for("stopped");
            let text = ended["text"].as_str().unwrap();
            assert!(text.contains("it was written to meanwhile"), "{ended}");
            assert_eq!(get.end().code(), Some(2));
        }
        let again = [&words[..], &LOOPBACK, &["album.torrent"]].concat();
        desk.run(&again).expect(0);
        for name in ["1", "2"] {
            let got = desk.read(&format!("{to}/album/{name}"));
            assert!(
                got == desk.read(&format!("data/album/{name}")),
                "{to} {name}"
            );
        }
    }
}

#[test]
fn who_made_a_torrent_seeds_it_though_get_writes_its_names_otherwise() {
    let desk = Desk::new();
    // The folder, a folder in it and files, and two that differ by nothing but what is replaced; as `get` has them.
    let files = [
        ("a\\b/dev\\x2ddisk", "a_b/dev_x2ddisk"),
        ("a\\b/line\nfeed", "a_b/line_feed"),
        ("a\\b/deep\ttab/\u{202e}rtl", "a_b/deep_tab/_rtl"),
        ("a\\b/deep\ttab/plain", "a_b/deep_tab/plain"),
        ("a\\b/twin\u{1b}.txt", "a_b/twin_.txt"),
        ("a\\b/twin_.txt", "a_b/twin_.1.txt"),
    ];
    let bytes = |number: usize| noise(number as u64, 20_000 + number);
    for (number, (here, _)) in files.iter().enumerate() {
        desk.write(format!("data/{here}"), &bytes(number));
    }
    let words = ["create", "--piece-length=16K", "-o", "t.torrent"];
    desk.run(&[&words[..], &["data/a\\b"]].concat()).expect(0);
    let verified = desk.run(&["verify", "t.torrent", "data"]).expect(0);
    // A line is of the file that is there.
    assert!(verified.out.contains("twin\\u{1b}.txt"), "{verified:?}");
    assert!(is_calm(&verified.out));
    let above = desk.run(&["verify", "t.torrent", "data/a\\b"]).expect(3);
    assert!(above.err.ends_with(": data\n"), "{}", above.err);

    // What `get` finds under such a name is none of its business.
    for (raw, _) in files {
        desk.write(format!("copy/{raw}"), b"mine");
    }
    let (mut seed, source) = start(&desk, &["seed", "--no-tracker", "t.torrent", "data"]);
    seed.wait_for("complete");
    let mut words = vec!["get", "-e", "--no-tracker", "-o", "copy", "--peer", &source];
    words.extend(LOOPBACK);
    words.push("t.torrent");
    desk.run(&words).expect(0);
    for (number, (raw, safe)) in files.iter().enumerate() {
        let copy = std::fs::read(desk.path(format!("copy/{safe}")));
        assert!(copy.unwrap() == bytes(number), "{safe}");
        assert_eq!(desk.read(&format!("copy/{raw}")), b"mine");
    }
    desk.run(&["verify", "t.torrent", "copy"]).expect(0);
}

#[test]
fn get_leaves_when_its_time_is_up_though_nobody_took_anything() {
    let desk = Desk::new();
    put_down(&desk);
    let (_seed, source) = seed(&desk);
    let mut words = vec![
        "get",
        "--seed-ratio",
        "5",
        "--seed-time",
        "0.01",
        "-o",
        "copy",
    ];
    words.extend(["--peer", &source, "f.torrent"]);
    words.extend(LOOPBACK);
    let outcome = desk.run(&words).expect(0);
    assert!(
        outcome.err.contains("sharing until the ratio is 5 or for "),
        "{}",
        outcome.err
    );
    assert!(outcome.err.contains("Ctrl-C leaves"), "{}", outcome.err);
    assert!(outcome.err.contains("ratio 0.00"), "{}", outcome.err);
}

#[test]
fn without_options_get_shares_until_ratio_1_or_for_an_hour() {
    let desk = Desk::new();
    put_down(&desk);
    let (_seed, source) = seed(&desk);
    let words = ["get", "-o", "copy", "--peer", &source, "f.torrent"];
    let (mut get, address) = start(&desk, &words);
    get.wait_for("complete");
    fetch(&desk, &address, "other");
    let stopped = get.wait_for("stopped");
    assert_eq!(
        (&stopped["reason"], &stopped["status"]),
        (&"done".into(), &0.into())
    );
    assert_eq!(get.end().code(), Some(0));
}

#[test]
fn zero_means_no_limit() {
    let desk = Desk::new();
    put_down(&desk);
    let (_seed, source) = seed(&desk);
    let words = [
        "get",
        "--seed-ratio",
        "0",
        "--seed-time",
        "0",
        "-o",
        "copy",
        "--peer",
        &source,
        "f.torrent",
    ];
    let (mut get, address) = start(&desk, &words);
    get.wait_for("complete");
    for other in ["one", "two", "three"] {
        fetch(&desk, &address, other);
    }
    get.signal(Signal::INT);
    let stopped = get.wait_for("stopped");
    assert_eq!(stopped["reason"], "stopped-sharing");
    assert_eq!(get.end().code(), Some(0));
}

#[test]
fn what_was_given_and_taken_is_remembered_by_the_next_run_of_get() {
    let desk = Desk::new();
    put_down(&desk);
    let (mut seed, source) = seed(&desk);
    let words = [
        "get",
        "--seed-ratio",
        "2",
        "-o",
        "copy",
        "--peer",
        &source,
        "f.torrent",
    ];
    let (mut get, address) = start(&desk, &words);
    get.wait_for("complete");
    seed.signal(Signal::INT);
    seed.end();
    fetch(&desk, &address, "one");
    get.signal(Signal::INT);
    let first = get.wait_for("stopped");
    assert_eq!(first["reason"], "stopped-sharing");
    assert_eq!(first["ratio"], 1.0);
    assert_eq!(get.end().code(), Some(0));

    let (mut get, address) = start(
        &desk,
        &["get", "--seed-ratio", "2", "-o", "copy", "f.torrent"],
    );
    let complete = get.wait_for("complete");
    assert_eq!(
        (&complete["uploaded"], &complete["downloaded"]),
        (&0.into(), &0.into())
    );
    assert_eq!(complete["uploaded_ever"], LENGTH);
    assert_eq!(complete["downloaded_ever"], LENGTH);
    assert_eq!(complete["ratio"], 1.0);
    fetch(&desk, &address, "two");
    let stopped = get.wait_for("stopped");
    assert_eq!(stopped["reason"], "done");
    assert_eq!(stopped["ratio"], 2.0);
    assert_eq!(get.end().code(), Some(0));
}

#[test]
fn a_seed_remembers_too_and_leaves_at_its_ratio() {
    let desk = Desk::new();
    put_down(&desk);
    let words = ["seed", "--seed-ratio", "2", "f.torrent", "data"];
    for (run, reason) in ["stopped-sharing", "done"].into_iter().enumerate() {
        let (mut seed, address) = start(&desk, &words);
        let complete = seed.wait_for("complete");
        assert_eq!(complete["ratio"].as_f64(), Some(run as f64));
        fetch(&desk, &address, &format!("copy {run}"));
        if run == 0 {
            seed.signal(Signal::INT);
        }
        let stopped = seed.wait_for("stopped");
        assert_eq!(stopped["reason"], reason);
        assert_eq!(stopped["ratio"].as_f64(), Some(run as f64 + 1.0));
        assert_eq!(seed.end().code(), Some(0));
    }
}

#[test]
fn a_complete_seed_without_peers_leaves_its_tracker_alone() {
    let desk = Desk::new();
    let tracker = tracker_knowing(&[]);
    let bytes = noise(5, LENGTH as usize);
    let mut draft = single("f.bin", &bytes, 32768);
    draft.trackers = vec![vec![tracker.url]];
    desk.write("f.torrent", &draft.compose());
    desk.write("data/f.bin", &bytes);
    // Longer than the five seconds after which somebody who wants something would ask again.
    let mut words = vec!["seed", "--seed-time", "0.12", "f.torrent", "data"];
    words.extend(LOOPBACK);
    desk.run(&words).expect(0);
    let announces: Vec<String> = tracker.asked.try_iter().collect();
    assert_eq!(announces.len(), 2, "{announces:?}");
    assert!(announces[0].contains("event=started"), "{announces:?}");
    assert!(announces[1].contains("event=stopped"), "{announces:?}");
}
