//! The command line as scripts meet it.

use crate::desk::{Desk, single};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

#[test]
fn help_goes_to_standard_output_and_ends_with_0() {
    let desk = Desk::new();
    for command in ["get", "seed", "create", "show", "verify", "tracker", "lab"] {
        for words in [
            vec![command, "--help"],
            vec!["help", command],
            vec![command, "-h"],
        ] {
            let outcome = desk.run(&words).expect(0);
            assert!(outcome.out.contains("Usage: ropewalk"), "{outcome:?}");
            assert_eq!(outcome.err, "");
        }
    }
    for words in [vec!["--help"], vec!["-h"], vec!["help"]] {
        assert!(desk.run(&words).expect(0).out.contains("Commands:"));
    }
}

#[test]
fn the_version_is_that_of_the_package() {
    let outcome = Desk::new().run(&["--version"]).expect(0);
    assert_eq!(
        outcome.out,
        concat!("ropewalk ", env!("CARGO_PKG_VERSION"), "\n")
    );
}

#[test]
fn wrong_usage_is_one_sentence_a_hint_and_status_1() {
    let desk = Desk::new();
    desk.write("x.torrent", &single("x", b"x", 16384).compose());
    let table: [&[&str]; 52] = [
        &[],
        &["frobnicate"],
        &["--json", "show"],
        &["get"],
        &["seed"],
        &["show"],
        &["verify"],
        &["show", "a", "b"],
        &["seed", "a", "b", "c"],
        &["get", "--prot", "1", "x.torrent"],
        &["get", "--port", "70000", "x.torrent"],
        &["get", "--port=-1", "x.torrent"],
        &["get", "x.torrent", "--port"],
        &["get", "--port", "1", "--port", "2", "x.torrent"],
        &["get", "--check=yes", "x.torrent"],
        &["get", "-qv", "x.torrent"],
        &["get", "-e", "--seed-ratio", "1", "x.torrent"],
        &["get", "-e", "--seed-time", "1", "x.torrent"],
        &["get", "--seed-ratio", "nan", "x.torrent"],
        &["get", "--seed-ratio=-1", "x.torrent"],
        &["get", "--seed-time=1e300", "x.torrent"],
        &["get", "--timeout", "0", "x.torrent"],
        &["get", "--max-peers", "0", "x.torrent"],
        &["get", "--peer", "localhost", "x.torrent"],
        &["get", "--bind", "nowhere", "x.torrent"],
        &["get", "-", "-"],
        &["create"],
        &["create", ""],
        &["create", "x", "y"],
        &["create", "--output", "", "x.torrent"],
        &["create", "--piece-length", "0", "x.torrent"],
        &["create", "--piece-length", "17K", "x.torrent"],
        &["create", "--piece-length", "8K", "x.torrent"],
        &["create", "--piece-length", "32M", "x.torrent"],
        &["create", "--piece-length", "+16K", "x.torrent"],
        &["create", "--tracker", "tracker.example", "x.torrent"],
        &["create", "--tracker", "udp://a,udp://a", "x.torrent"],
        &["create", "--webseed", "udp://a", "x.torrent"],
        &["create", "--name", "a/b", "x.torrent"],
        &["create", "--name", "..", "x.torrent"],
        &["create", "--comment", "", "x.torrent"],
        &["create", "--exclude", "[a", "x.torrent"],
        &["create", "--private=1", "x.torrent"],
        &["create", "-o", "x.torrent", "--overwrite", "x.torrent"],
        &["tracker", "x"],
        &["tracker", "--http", "localhost:1"],
        &["tracker", "--udp", "127.0.0.1:70000"],
        &["tracker", "--interval", "0"],
        &["tracker", "--interval", "1000000"],
        &["tracker", "--max-peers", "0"],
        &["tracker", "--max-per-ip", "-1"],
        &["tracker", "-q", "-v"],
    ];
    for words in table {
        let outcome = desk.run(words).expect(1);
        assert_eq!(outcome.out, "", "{words:?}");
        let lines = outcome.err.lines().collect::<Vec<_>>();
        assert_eq!(lines.len(), 2, "{words:?}: {}", outcome.err);
        assert!(lines[0].starts_with("ropewalk: "), "{words:?}");
        assert!(lines[1].starts_with("  hint: "), "{words:?}");
    }
}

#[test]
fn what_will_come_later_is_status_2_and_says_so() {
    let desk = Desk::new();
    let table: [&[&str]; 5] = [
        &[
            "get",
            "magnet:?xt=urn:btih:0123456789012345678901234567890123456789",
        ],
        &[
            "verify",
            "magnet:?xt=urn:btih:0123456789012345678901234567890123456789",
        ],
        &["get", "--no-dht", "x.torrent"],
        &["get", "--no-pex", "x.torrent"],
        &["get", "--bind", "lo", "x.torrent"],
    ];
    for words in table {
        let outcome = desk.run(words).expect(2);
        assert!(outcome.err.contains("not supported yet"), "{}", outcome.err);
    }
}

#[test]
fn a_file_called_help_is_a_file() {
    let desk = Desk::new();
    desk.write("help", &single("found", b"x", 16384).compose());
    let outcome = desk.run(&["show", "help"]).expect(0);
    assert!(outcome.out.contains("found"), "{}", outcome.out);
}

#[test]
fn names_with_a_leading_dash_stand_behind_two_dashes() {
    let desk = Desk::new();
    desk.write("--json", &single("dashed", b"x", 16384).compose());
    assert!(
        desk.run(&["show", "--", "--json"])
            .expect(0)
            .out
            .contains("dashed")
    );
    desk.run(&["show", "--json"]).expect(1);
}

#[test]
fn names_need_not_be_text() {
    let desk = Desk::new();
    let name = OsString::from_vec(b"caf\xe9\x1b[2J.torrent".to_vec());
    desk.write(&name, &single("latin", b"x", 16384).compose());
    let shown = desk.run(&[OsString::from("show"), name.clone()]).expect(0);
    assert!(shown.out.contains("latin"));

    std::fs::remove_file(desk.path(&name)).unwrap();
    let missing = desk.run(&[OsString::from("show"), name]).expect(2);
    assert!(
        missing.err.contains("caf\\xe9\\u{1b}[2J"),
        "{}",
        missing.err
    );
}
