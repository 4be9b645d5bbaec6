//! `verify`: data on disk against a torrent.

use crate::desk::{Desk, folder, noise, single};

fn album(desk: &Desk) {
    let files = [
        ("one.bin", noise(1, 40_000)),
        ("deep/two.bin", noise(2, 20_000)),
        ("empty", Vec::new()),
        ("three.bin", noise(3, 50_000)),
    ];
    desk.write("a.torrent", &folder("album", &files, 16384).compose());
    for (name, bytes) in &files {
        desk.write(format!("data/album/{name}"), bytes);
    }
}

#[test]
fn right_data_is_status_0_and_a_line_for_each_file() {
    let desk = Desk::new();
    album(&desk);
    let outcome = desk.run(&["verify", "a.torrent", "data"]).expect(0);
    for name in ["one.bin", "deep/two.bin", "empty", "three.bin"] {
        assert!(
            outcome.out.lines().any(|line| line.contains(name)),
            "{name}"
        );
    }
}

#[test]
fn one_wrong_byte_is_status_3_and_names_the_file() {
    let desk = Desk::new();
    album(&desk);
    let mut bytes = desk.read("data/album/three.bin");
    bytes[49_999] ^= 1;
    desk.write("data/album/three.bin", &bytes);
    let value = desk
        .run(&["verify", "--json", "a.torrent", "data"])
        .expect(3)
        .json();
    let bad = value["files"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|file| file["ok"] == false)
        .map(|file| file["path"].as_str().unwrap().to_owned())
        .collect::<Vec<_>>();
    assert_eq!(bad, ["three.bin"]);
}

#[test]
fn missing_files_are_status_3() {
    let desk = Desk::new();
    album(&desk);
    std::fs::remove_file(desk.path("data/album/empty")).unwrap();
    let outcome = desk.run(&["verify", "a.torrent", "data"]).expect(3);
    assert!(outcome.out.contains("empty"), "{}", outcome.out);

    std::fs::remove_dir_all(desk.path("data")).unwrap();
    desk.run(&["verify", "a.torrent", "data"]).expect(3);
}

#[test]
fn nothing_is_written_while_verifying() {
    let desk = Desk::new();
    desk.write(
        "s.torrent",
        &single("s.bin", &noise(4, 30_000), 16384).compose(),
    );
    desk.run(&["verify", "s.torrent"]).expect(3);
    assert!(!desk.path("s.bin").exists());
}

#[test]
fn with_quiet_only_what_is_wrong_is_named() {
    let desk = Desk::new();
    album(&desk);
    assert_eq!(
        desk.run(&["verify", "-q", "a.torrent", "data"])
            .expect(0)
            .out,
        ""
    );
    std::fs::remove_file(desk.path("data/album/one.bin")).unwrap();
    let outcome = desk.run(&["verify", "-q", "a.torrent", "data"]).expect(3);
    assert!(outcome.out.contains("one.bin"));
    assert!(!outcome.out.contains("three.bin"));
}

#[test]
fn who_names_the_torrents_own_folder_is_told_which_to_name() {
    let desk = Desk::new();
    album(&desk);
    desk.write(
        "s.torrent",
        &single("s.bin", &noise(4, 30_000), 16384).compose(),
    );
    desk.write("data/s.bin", &noise(4, 30_000));
    for words in [
        ["verify", "a.torrent", "data/album"],
        ["verify", "s.torrent", "data/s.bin"],
    ] {
        let outcome = desk.run(&words).expect(3);
        assert!(outcome.err.ends_with(": data\n"), "{}", outcome.err);
    }
    let json = ["verify", "-q", "--json", "a.torrent", "data/album"];
    let outcome = desk.run(&json).expect(3);
    assert!(outcome.err.contains("hint: "), "{}", outcome.err);
    let nothing = desk.run(&["verify", "a.torrent", "."]).expect(3);
    assert!(!nothing.err.contains("hint: "), "{}", nothing.err);
}

#[test]
fn files_that_are_links_are_those_they_lead_to() {
    let desk = Desk::new();
    album(&desk);
    for name in ["one.bin", "deep/two.bin"] {
        let (here, there) = (desk.path(format!("data/album/{name}")), desk.path("store"));
        std::fs::create_dir_all(&there).unwrap();
        let there = there.join(here.file_name().unwrap());
        std::fs::rename(&here, &there).unwrap();
        std::os::unix::fs::symlink(&there, &here).unwrap();
    }
    let outcome = desk.run(&["verify", "a.torrent", "data"]).expect(0);
    assert!(
        outcome.out.contains("data/album/one.bin"),
        "{}",
        outcome.out
    );

    desk.write("store/one.bin", &noise(9, 40_000));
    std::fs::remove_file(desk.path("store/two.bin")).unwrap();
    let outcome = desk.run(&["verify", "a.torrent", "data"]).expect(3);
    for line in [
        "wrong       data/album/one.bin",
        "not-a-file  data/album/deep/two.bin",
    ] {
        assert!(outcome.out.contains(line), "{}", outcome.out);
    }
}

#[test]
fn with_few_descriptors_good_data_are_good() {
    let desk = Desk::new();
    let files = (0..60).map(|n| (format!("{n:02}"), noise(n, 200_000 + n as usize)));
    let files: Vec<_> = files.collect();
    let named: Vec<_> = files
        .iter()
        .map(|(name, bytes)| (&**name, bytes.clone()))
        .collect();
    desk.write("a.torrent", &folder("album", &named, 16384).compose());
    for (name, bytes) in &files {
        desk.write(format!("album/{name}"), bytes);
    }
    for limit in [12, 16, 26] {
        let limited = std::process::Command::new("sh")
            .arg("-c")
            .arg(format!("ulimit -n {limit}; exec \"$@\""))
            .args([
                "sh",
                env!("CARGO_BIN_EXE_ropewalk"),
                "verify",
                "-q",
                "a.torrent",
            ])
            .current_dir(desk.path(""))
            .output()
            .unwrap();
        assert!(limited.status.success(), "{limit}: {limited:?}");
    }
}
