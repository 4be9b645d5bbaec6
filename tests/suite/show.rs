//! `show`, and all the ways in which a .torrent can be none.

use crate::desk::{Desk, folder, is_calm, single};
use ropewalk::protocol::metainfo::FileEntry;

#[test]
fn json_has_exactly_the_keys_of_the_contract() {
    let desk = Desk::new();
    let mut draft = folder(
        "album",
        &[
            ("a/one.txt", b"one".to_vec()),
            ("two.txt", b"two!".to_vec()),
        ],
        16384,
    );
    draft.files.push(FileEntry::padding(0));
    draft.trackers = vec![
        vec!["http://127.0.0.1:1/announce".into()],
        vec!["http://127.0.0.1:2/announce".into()],
    ];
    draft.webseeds = vec!["http://127.0.0.1/files/".into()];
    draft.comment = Some("hello".into());
    draft.created_by = Some("suite".into());
    draft.creation_date = Some(1_700_000_000);
    draft.private = true;
    desk.write("a.torrent", &draft.compose());
    let value = desk.run(&["show", "--json", "a.torrent"]).expect(0).json();

    let keys = value
        .as_object()
        .unwrap()
        .keys()
        .cloned()
        .collect::<Vec<_>>();
    let mut wanted = vec![
        "name",
        "info_hash",
        "info_hash_v2",
        "total_size",
        "piece_length",
        "pieces",
        "private",
        "files",
        "trackers",
        "webseeds",
        "comment",
        "created_by",
        "creation_date",
        "magnet",
    ];
    wanted.sort_unstable();
    let mut sorted = keys;
    sorted.sort_unstable();
    assert_eq!(sorted, wanted);
    assert_eq!(value["name"], "album");
    assert_eq!(value["info_hash"].as_str().unwrap().len(), 40);
    assert_eq!(value["info_hash_v2"], serde_json::Value::Null);
    assert_eq!(value["total_size"], 7);
    assert_eq!(value["pieces"], 1);
    assert_eq!(value["private"], true);
    assert_eq!(
        value["files"][0],
        serde_json::json!({"path": "a/one.txt", "length": 3, "padding": false})
    );
    assert_eq!(value["files"][2]["padding"], true);
    assert_eq!(
        value["trackers"],
        serde_json::json!([
            ["http://127.0.0.1:1/announce"],
            ["http://127.0.0.1:2/announce"]
        ])
    );
    assert_eq!(value["creation_date"], 1_700_000_000);
    let magnet = value["magnet"].as_str().unwrap();
    assert!(magnet.contains(value["info_hash"].as_str().unwrap()));
}

#[test]
fn the_page_names_what_matters() {
    let desk = Desk::new();
    let mut draft = single("book.txt", &[7; 40_000], 16384);
    draft.creation_date = Some(1_709_251_199);
    desk.write("b.torrent", &draft.compose());
    let page = desk.run(&["show", "b.torrent"]).expect(0).out;
    for part in [
        "book.txt",
        "40000 bytes",
        "3 of 16.0 KiB",
        "2024-02-29",
        "magnet:?xt=",
    ] {
        assert!(page.contains(part), "{part} is missing in\n{page}");
    }
}

#[test]
fn a_passkey_is_not_on_the_page_nor_in_a_private_torrents_link() {
    const KEY: &str = "5ecre7be571e1ef7";
    let desk = Desk::new();
    let secret = format!("http://t.example/{KEY}/announce");
    let open = "http://t.example/announce";
    for private in [true, false] {
        let mut draft = single("book", b"x", 16384);
        draft.trackers = vec![vec![secret.clone(), open.into()]];
        draft.private = private;
        desk.write("a.torrent", &draft.compose());
        let page = desk.run(&["show", "a.torrent"]).expect(0).out;
        assert!(page.contains("http://t.example/…/announce"), "{page}");
        assert_eq!(page.contains(KEY), !private, "{page}");
        assert_eq!(page.contains("yours alone"), private, "{page}");
        let told = desk.run(&["show", "--json", "a.torrent"]).expect(0).json();
        let magnet = told["magnet"].as_str().unwrap();
        assert_eq!(magnet.contains(KEY), !private, "{magnet}");
        assert!(magnet.contains("t.example%2Fannounce"), "{magnet}");
        // What is in the file is for programs to read.
        assert_eq!(told["trackers"][0][0], *secret);
        let mut words = vec!["create", "--overwrite", "--tracker", &secret];
        words.extend(private.then_some("--private"));
        words.push("a.torrent");
        let made = desk.run(&words).expect(0);
        assert_eq!(made.out.contains(KEY), !private, "{made:?}");
        words.push("--json");
        let made = desk.run(&words).expect(0);
        assert_eq!(made.out.contains(KEY), !private, "{made:?}");
    }
}

#[test]
fn standard_input_is_a_torrent_too() {
    let desk = Desk::new();
    let bytes = single("piped", b"x", 16384).compose();
    let outcome = desk.run_with_input(&["show", "-"], &bytes).expect(0);
    assert!(outcome.out.contains("piped"));
}

#[test]
fn more_than_16_mib_are_refused_while_reading() {
    let desk = Desk::new();
    let outcome = desk
        .run_with_input(&["show", "-"], &vec![b'l'; (16 << 20) + 1])
        .expect(2);
    assert!(
        outcome.err.contains("more than 16.0 MiB"),
        "{}",
        outcome.err
    );
}

#[test]
fn what_is_no_torrent_is_status_2_with_its_cause() {
    let desk = Desk::new();
    desk.write("empty", b"");
    desk.write("text", b"hello");
    desk.write("deep", &[b'l'; 20_000]);
    desk.write("short", b"d4:info400:abce");
    desk.write("noinfo", b"d3:fooi1ee");
    for name in ["empty", "text", "deep", "short", "noinfo"] {
        let outcome = desk.run(&["show", name]).expect(2);
        assert!(
            outcome
                .err
                .starts_with(&format!("ropewalk: cannot read {name}: ")),
            "{}",
            outcome.err
        );
    }
    let cut = desk.run(&["show", "short"]).err;
    assert!(cut.contains("byte "), "{cut}");
}

#[test]
fn folders_devices_and_pipes_are_refused_at_once() {
    let desk = Desk::new();
    std::fs::create_dir(desk.path("dir")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        desk.path("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from(0o600),
        0,
    )
    .unwrap();
    for name in ["dir", "fifo", "/dev/zero", "missing", ""] {
        desk.run(&["show", name]).expect(2);
    }
}

#[test]
fn files_are_never_read_by_address() {
    let desk = Desk::new();
    let path = desk.write("x.torrent", &single("x", b"x", 16384).compose());
    let outcome = desk
        .run(&["show", &format!("file://{}", path.display())])
        .expect(2);
    assert!(outcome.err.contains("file:"), "{}", outcome.err);
}

#[test]
fn a_version_2_torrent_is_not_supported_yet() {
    let desk = Desk::new();
    let text = b"d4:infod9:file treed1:xd0:d6:lengthi1e11:pieces root32:0123456789abcdef0123456789abcdefeee12:meta versioni2e4:name1:x12:piece lengthi16384eee";
    desk.write("two.torrent", text);
    let outcome = desk.run(&["show", "two.torrent"]).expect(2);
    assert!(outcome.err.contains("not supported yet"), "{}", outcome.err);
}

#[test]
fn names_from_strangers_cannot_reach_the_terminal() {
    let desk = Desk::new();
    let evil = "\u{1b}[2J\u{1b}]0;pwned\u{7}\r\n\u{9b}31m\u{202e}gpj";
    let mut draft = folder(evil, &[(evil, b"x".to_vec())], 16384);
    draft.comment = Some(evil.into());
    draft.created_by = Some(evil.into());
    draft.source = Some(evil.into());
    draft.trackers = vec![vec![format!("http://127.0.0.1/{evil}")]];
    draft.webseeds = vec![format!("http://127.0.0.1/{evil}")];
    desk.write("evil.torrent", &draft.compose());

    let page = desk.run(&["show", "evil.torrent"]).expect(0);
    assert!(is_calm(&page.out) && is_calm(&page.err), "{page:?}");

    let json = desk.run(&["show", "--json", "evil.torrent"]).expect(0);
    assert!(is_calm(&json.out) && is_calm(&json.err), "{json:?}");
    assert_eq!(json.json()["comment"], evil);
}

#[test]
fn what_is_odd_is_warned_of_and_shown_all_the_same() {
    let desk = Desk::new();
    let mut bytes = single("odd", b"x", 16384).compose();
    bytes.extend_from_slice(b"trailing");
    desk.write("odd.torrent", &bytes);
    let outcome = desk.run(&["show", "odd.torrent"]).expect(0);
    assert!(outcome.err.contains("warning: "), "{}", outcome.err);
}

#[test]
fn one_byte_is_one_byte() {
    let desk = Desk::new();
    desk.write("x.torrent", &single("x", b"x", 16384).compose());
    let page = desk.run(&["show", "x.torrent"]).expect(0).out;
    assert!(page.contains("1 B (1 byte) in 1 file"), "{page}");
}

#[test]
fn padding_is_told_apart_from_what_there_is_to_have() {
    let desk = Desk::new();
    let mut draft = folder("padded", &[("a", vec![1; 6_144])], 16384);
    draft.files.push(FileEntry::padding(10_240));
    desk.write("p.torrent", &draft.compose());
    let page = desk.run(&["show", "p.torrent"]).expect(0).out;
    let size = "6.0 KiB (6144 bytes) in 1 file, and 10.0 KiB of padding";
    assert!(page.contains(size), "{page}");
}

#[test]
fn who_made_a_torrent_with_a_path_too_deep_is_to_blame_and_nobody_on_the_way() {
    let desk = Desk::new();
    let deep = "d/".repeat(65) + "x";
    let draft = folder("deep", &[(&deep, b"x".to_vec())], 16384);
    desk.write("d.torrent", &draft.compose());
    let said = desk.run(&["show", "d.torrent"]).expect(2).err;
    assert!(said.contains("hint: whoever made it"), "{said}");
}

#[test]
fn a_magnet_link_shows_what_it_says() {
    let desk = Desk::new();
    let link = "magnet:?dn=a%1b+b&tr=udp://t.example:1&xt=urn:btih:MFRGCYTBMJQWEYLCMFRGCYTBMJQWEYLC&xl=70000&x.pe=192.0.2.1:5&xs=http://s.example/t";
    let value = desk.run(&["show", "--json", link]).expect(0).json();
    assert_eq!(value["name"], "a\u{1b} b");
    assert_eq!(
        value["info_hash"],
        "6162616261626162616261626162616261626162"
    );
    assert_eq!(
        value["trackers"],
        serde_json::json!([["udp://t.example:1"]])
    );
    assert_eq!(value["total_size"], 70_000);
    assert_eq!(value["files"], serde_json::Value::Null);
    let again = value["magnet"].as_str().unwrap();
    assert_eq!(desk.run(&["show", "--json", again]).expect(0).json(), value);
    let page = desk.run(&["show", link]).expect(0).out;
    assert!(is_calm(&page), "{page}");
    for part in [
        "a\\u{1b} b",
        "6162616261",
        "udp://t.example:1",
        "192.0.2.1:5",
        "http://s.example/t",
    ] {
        assert!(page.contains(part), "{part} is missing in\n{page}");
    }
    let outcome = desk.run(&["show", "magnet:?xt=urn:btih:12"]).expect(2);
    assert!(outcome.err.contains("hint: quote it"), "{}", outcome.err);
}

#[test]
fn what_is_no_tracker_in_a_magnet_link_is_warned_of() {
    let desk = Desk::new();
    let link =
        "magnet:?xt=urn:btih:MFRGCYTBMJQWEYLCMFRGCYTBMJQWEYLC&tr=wss://t.example/key&tr=udp://u:1";
    let outcome = desk.run(&["show", "--json", link]).expect(0);
    assert_eq!(
        outcome.err,
        "warning: the tracker \"wss://t.example\" is left out: its scheme is not supported\n"
    );
    assert_eq!(outcome.json()["trackers"][0][0], "udp://u:1");
}
