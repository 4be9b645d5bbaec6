//! Torrents of every kind that strangers make, as small as they can be.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::protocol::bencode::{Value, decode};
use proptest::prelude::*;
use std::path::{Component, Path};

const PIECE: u32 = 16_384;

fn digests(count: usize) -> Vec<Digest> {
    (0..count).map(|n| Digest::of(&[n as u8])).collect()
}

/// A folder `album` of two files and a padding between them: four pieces, the last a short one.
fn folder() -> Draft {
    Draft {
        name: "album".into(),
        piece_length: PIECE,
        files: vec![
            FileEntry::plain("cd1/one.flac", 20_000),
            FileEntry::padding(12_768),
            FileEntry::plain("two.flac", 30_000),
        ],
        piece_digests: digests(4),
        ..Draft::default()
    }
}

fn single() -> Draft {
    Draft {
        name: "spam.iso".into(),
        piece_length: PIECE,
        single_file: true,
        files: vec![FileEntry::plain("spam.iso", 40_000)],
        piece_digests: digests(3),
        trackers: vec![vec!["http://tracker.example/announce".into()]],
        ..Draft::default()
    }
}

fn read(draft: &Draft) -> Metainfo {
    Metainfo::from_bytes(&draft.compose()).unwrap()
}

/// The torrent with its info dictionary changed.
fn with_info(draft: &Draft, change: impl FnOnce(&mut Entries)) -> Vec<u8> {
    with_root(draft, |root| match root.get_mut(&b"info"[..]) {
        Some(Value::Dict(info)) => change(info),
        _ => unreachable!(),
    })
}

type Entries = std::collections::BTreeMap<Vec<u8>, Value>;

fn with_root(draft: &Draft, change: impl FnOnce(&mut Entries)) -> Vec<u8> {
    let bytes = draft.compose();
    let document = decode(&bytes, DecodeLimits::FILE).unwrap();
    let Value::Dict(mut root) = value(document.root()) else {
        unreachable!()
    };
    change(&mut root);
    Value::Dict(root).encode()
}

fn value(item: Item) -> Value {
    if let Some(number) = item.as_int() {
        Value::Int(number)
    } else if let Some(bytes) = item.as_bytes() {
        bytes.into()
    } else if let Some(items) = item.as_list() {
        Value::list(items.map(value))
    } else {
        Value::dict(item.as_dict().unwrap().iter().map(|(k, v)| (k, value(v))))
    }
}

fn set(entries: &mut Entries, key: &str, value: impl Into<Value>) {
    entries.insert(key.into(), value.into());
}

fn refused(bytes: &[u8]) -> MetainfoError {
    Metainfo::from_bytes(bytes).unwrap_err()
}

fn file(path: &[&str], length: i64) -> Entries {
    let mut file = Entries::new();
    set(&mut file, "length", length);
    set(&mut file, "path", Value::list(path.iter().copied()));
    file
}

/// A folder of these files with as many digests as they need.
fn folder_of(files: Vec<Entries>, pieces: usize) -> Vec<u8> {
    with_info(&folder(), |info| {
        set(
            info,
            "files",
            Value::list(files.into_iter().map(Value::Dict)),
        );
        set(info, "pieces", vec![7; 20 * pieces]);
    })
}

fn paths(metainfo: &Metainfo) -> Vec<&str> {
    metainfo
        .files
        .iter()
        .map(|file| file.path.as_str())
        .collect()
}

#[test]
fn a_single_file_is_read_as_it_was_written() {
    let draft = Draft {
        private: true,
        comment: Some("a \u{1b}[1mremark".into()),
        created_by: Some("hand".into()),
        creation_date: Some(1_700_000_000),
        source: Some("here".into()),
        webseeds: vec!["https://seed.example/spam.iso".into()],
        nodes: vec![("10.0.0.1".into(), 6881), ("::1".into(), 1)],
        ..single()
    };
    let bytes = draft.compose();
    let metainfo = Metainfo::from_bytes(&bytes).unwrap();
    let start = bytes.windows(6).position(|it| it == b"4:info").unwrap() + 6;
    assert_eq!(metainfo.info.start, start);
    assert_eq!(
        metainfo.info_hash.0,
        Digest::of(&bytes[metainfo.info.clone()]).0
    );
    assert_eq!(metainfo.info_hash_v2, None);
    assert_eq!(metainfo.geometry, Geometry::new(40_000, PIECE).unwrap());
    assert_eq!(metainfo.piece_digests[..], digests(3));
    assert_eq!(metainfo.files, draft.files);
    assert_eq!(metainfo.trackers, draft.trackers);
    assert_eq!(metainfo.webseeds, draft.webseeds);
    assert_eq!(metainfo.nodes, draft.nodes);
    assert_eq!(metainfo.comment, draft.comment);
    assert_eq!(metainfo.created_by, draft.created_by);
    assert_eq!(metainfo.creation_date, draft.creation_date);
    assert_eq!(metainfo.source, draft.source);
    assert!(metainfo.private && metainfo.single_file);
    assert_eq!(metainfo.oddities, Vec::<String>::new());
    let path = metainfo.disk_path(&metainfo.files[0]);
    assert_eq!(path, Path::new("spam.iso"));
}

#[test]
fn a_folder_keeps_its_files_in_order() {
    let metainfo = read(&folder());
    assert_eq!(paths(&metainfo), ["cd1/one.flac", ".pad/12768", "two.flac"]);
    let starts: Vec<u64> = metainfo.files_with_starts().map(|it| it.0).collect();
    assert_eq!(starts, [0, 20_000, 32_768]);
    assert!(metainfo.files[1].padding && !metainfo.single_file);
    let path = metainfo.disk_path(&metainfo.files[0]);
    assert_eq!(path, Path::new("album/cd1/one.flac"));
    let piece = metainfo.geometry.piece(3).unwrap();
    assert_eq!(metainfo.piece_digest(piece), Digest::of(&[3]));
}

#[test]
fn what_is_composed_has_the_hash_that_other_creators_give_it() {
    let hash = |draft: Draft| read(&draft).info_hash.to_string();
    let letters: [(&str, &[u8]); 3] = [("a", b"abc"), ("h", b"hij"), ("x", b"xyz")];
    assert_eq!(
        hash(Draft::folder("foo", PIECE, &letters)),
        "d3432a4b9d18baa413095a70f1e417021ceaca5b"
    );
    let numbers: [(&str, &[u8]); 3] = [("1.txt", b"1"), ("2.txt", b"22"), ("3.txt", b"333")];
    assert_eq!(
        hash(Draft::folder("numbers", PIECE, &numbers)),
        "89d97c2261a21b040cf11caa661a3ba7233bb7e6"
    );
    let metainfo = read(&Draft::single("x", 4, b"123456789"));
    assert_eq!(metainfo.piece_digests[2], Digest::of(b"9"));
    assert!(metainfo.single_file);
}

#[test]
fn nesting_is_refused_on_the_smallest_stack() {
    let refuse = || {
        let lists = [&b"d4:info"[..], &vec![b'l'; 5_000_000]].concat();
        let trees = [&b"d4:infod9:file tree"[..], &b"d1:a".repeat(1_000_000)].concat();
        for bytes in [lists, trees] {
            assert!(refused(&bytes).to_string().ends_with("levels deep"));
        }
    };
    let thread = std::thread::Builder::new().stack_size(64 * 1024);
    thread.spawn(refuse).unwrap().join().unwrap();
}

#[test]
fn the_info_hash_is_over_the_bytes_as_found() {
    let pieces = "x".repeat(20);
    let info = format!(
        "d6:pieces20:{pieces}4:name1:a7:unknown2:\x01\x0212:piece lengthi16384e6:lengthi9ee"
    );
    let bytes = format!("d4:info{info}e\n");
    let metainfo = Metainfo::from_bytes(bytes.as_bytes()).unwrap();
    assert_eq!(metainfo.info_hash.0, Digest::of(info.as_bytes()).0);
    assert_eq!(
        metainfo.oddities,
        [
            "byte 39: dictionary keys are not sorted",
            "trailing bytes are ignored: 1"
        ]
    );
}

#[test]
fn what_is_no_torrent_is_refused_with_a_place() {
    for (bytes, sentence) in [
        (&b"de"[..], r#"byte 0: a dictionary without the key "info""#),
        (b"le", "byte 0: a torrent is not a dictionary"),
        (b"d4:info3:abce", "byte 7: info is not a dictionary"),
        (b"d4:infode4:infodee", "byte 15: a second info dictionary"),
        (b"d1:a", "byte 4: the data ends too early"),
        (b"", "byte 0: the data ends too early"),
    ] {
        assert_eq!(refused(bytes).to_string(), sentence);
    }
}

#[test]
fn piece_lengths_are_held_to_what_can_be_cut() {
    let cut = |length: i64, pieces: usize| {
        Metainfo::from_bytes(&with_info(&single(), |info| {
            set(info, "piece length", length);
            set(info, "pieces", vec![1; 20 * pieces]);
        }))
    };
    for wrong in [
        0,
        -1,
        i64::from(PIECE_LENGTH_MAX) + 1,
        1 << 31,
        (1 << 32) + 16_384,
        i64::MAX,
    ] {
        let error = cut(wrong, 1).unwrap_err();
        assert!(matches!(error, MetainfoError::PieceLength { length, .. } if length == wrong));
    }
    assert!(cut(i64::from(PIECE) + 1, 3).unwrap().oddities.is_empty());
    assert_eq!(cut(1, 40_000).unwrap().geometry.pieces(), 40_000);
    assert_eq!(cut(1, 40_000).unwrap().oddities.len(), 1);
    assert!(cut(i64::from(PIECE_LENGTH_MAX), 1).is_ok());
}

#[test]
fn pieces_must_be_as_many_as_the_files_make() {
    let error = |bytes: usize| {
        refused(&with_info(&single(), |info| {
            set(info, "pieces", vec![1; bytes])
        }))
    };
    for wrong in [0, 20, 40, 80] {
        assert!(matches!(
            error(wrong),
            MetainfoError::WrongPieces { pieces: 3, .. }
        ));
    }
    for wrong in [1, 59, 61] {
        assert!(matches!(error(wrong), MetainfoError::BrokenPieces { .. }));
    }
    let bytes = with_info(&single(), |info| set(info, "pieces", 5));
    assert!(matches!(
        refused(&bytes),
        MetainfoError::WrongKind { what: "pieces", .. }
    ));
    let bytes = with_info(&single(), |info| drop(info.remove(&b"pieces"[..])));
    assert!(matches!(
        refused(&bytes),
        MetainfoError::Missing { key: "pieces", .. }
    ));
}

#[test]
fn lengths_that_cannot_be_are_refused() {
    let alone = |length: i64| refused(&with_info(&single(), |info| set(info, "length", length)));
    assert!(matches!(
        alone(-1),
        MetainfoError::Length { length: -1, .. }
    ));
    assert!(matches!(alone(1 << 62), MetainfoError::Geometry(_)));
    let sum = folder_of(vec![file(&["a"], i64::MAX); 3], 1);
    assert!(matches!(refused(&sum), MetainfoError::Length { .. }));
    let both = with_info(&single(), |info| set(info, "files", Value::List(vec![])));
    assert!(matches!(
        refused(&both),
        MetainfoError::FileAndFolder { .. }
    ));
    let neither = with_info(&single(), |info| drop(info.remove(&b"length"[..])));
    assert!(matches!(
        refused(&neither),
        MetainfoError::Missing { key: "length", .. }
    ));
    assert!(matches!(
        refused(&folder_of(vec![], 0)),
        MetainfoError::NoFiles { .. }
    ));
}

#[test]
fn torrents_without_bytes_and_files_without_bytes_are_fine() {
    let empty = |name: &str| FileEntry::plain(name, 0);
    let draft = Draft {
        files: vec![empty("a"), empty("b"), empty("c")],
        piece_digests: vec![],
        ..folder()
    };
    assert_eq!(read(&draft).geometry.pieces(), 0);
    let files = vec![
        file(&["first"], 0),
        file(&["x"], 5),
        file(&["mid"], 0),
        file(&["y"], 5),
        file(&["z"], 0),
    ];
    let metainfo = Metainfo::from_bytes(&folder_of(files, 1)).unwrap();
    let starts: Vec<u64> = metainfo.files_with_starts().map(|it| it.0).collect();
    assert_eq!(starts, [0, 0, 5, 5, 10]);
    let draft = Draft {
        files: (0..100_000).map(|n| empty(&format!("{n}"))).collect(),
        piece_digests: vec![],
        ..folder()
    };
    assert_eq!(read(&draft).files.len(), 100_000);
}

#[test]
fn more_files_than_the_limit_are_refused() {
    let files = vec![file(&[], 0); FILES_MAX + 1];
    let padded = files.into_iter().map(|mut file| {
        file.remove(&b"path"[..]);
        set(&mut file, "attr", "p");
        file
    });
    let padded: Vec<Entries> = padded.collect();
    let error = refused(&folder_of(padded, 0));
    assert!(
        matches!(error, MetainfoError::TooManyFiles { .. }),
        "{error}"
    );
}

#[test]
fn paths_stay_inside_and_apart() {
    let hostile: &[&[&str]] = &[
        &["..", "..", "etc", "passwd"],
        &["/etc/passwd"],
        &["a", "b"],
        &["a"],
        &["a", "b"],
        &["", ""],
        &["c\\d"],
        &["e\u{202e}f\n"],
    ];
    let files = hostile.iter().map(|path| file(path, 1)).collect();
    let metainfo = Metainfo::from_bytes(&folder_of(files, 1)).unwrap();
    assert_eq!(
        paths(&metainfo),
        [
            "_/_/etc/passwd",
            "_etc_passwd",
            "a/b",
            "a.1",
            "a/b.1",
            "_/_.1",
            "c_d",
            "e_f_"
        ]
    );
    assert_eq!(metainfo.oddities.len(), 7);
    // What an author can have, where that is not the same.
    let raw: Vec<_> = (metainfo.files.iter())
        .filter_map(|file| String::from_utf8(metainfo.raw_disk_path(file)?).ok())
        .collect();
    assert_eq!(
        raw,
        ["album/a", "album/a/b", "album/c\\d", "album/e\u{202e}f\n"]
    );
    for file in &metainfo.files {
        let path = metainfo.disk_path(file);
        assert!(
            path.components()
                .all(|it| matches!(it, Component::Normal(_)))
        );
    }
    let empty = folder_of(vec![file(&[], 1)], 1);
    let why = PathError::Empty;
    assert!(matches!(refused(&empty), MetainfoError::Path { why: it, .. } if it == why));
    let deep = folder_of(vec![file(&["d"; 65], 1)], 1);
    let why = PathError::TooDeep(65);
    assert!(matches!(refused(&deep), MetainfoError::Path { why: it, .. } if it == why));
}

#[test]
fn a_path_must_be_a_list_of_strings() {
    let mut wrong = file(&["a"], 1);
    set(&mut wrong, "path", Value::list([1, 2]));
    assert!(matches!(
        refused(&folder_of(vec![wrong], 1)),
        MetainfoError::WrongKind { what: "path", .. }
    ));
    let mut missing = file(&["a"], 1);
    missing.remove(&b"path"[..]);
    assert!(matches!(
        refused(&folder_of(vec![missing], 1)),
        MetainfoError::Missing { key: "path", .. }
    ));
}

#[test]
fn many_oddities_are_counted_and_not_listed() {
    let files = vec![file(&["same"], 0); 1_000];
    let metainfo = Metainfo::from_bytes(&folder_of(files, 0)).unwrap();
    assert_eq!(metainfo.oddities.len(), Oddities::MAX + 1);
    assert_eq!(
        metainfo.oddities.last().unwrap(),
        "and 969 more things like these"
    );
}

#[test]
fn names_that_are_written_otherwise_are_counted_and_the_first_is_told() {
    let files = vec![file(&["same"], 0); 1_000];
    let renamed = Metainfo::from_bytes(&folder_of(files, 0)).unwrap().renamed;
    let first = "\"same\" is written as \"same.1\"".to_owned();
    assert_eq!(renamed, Some(Renamed { first, count: 999 }));

    let bytes = with_info(&single(), |info| set(info, "name", "../up"));
    let renamed = Metainfo::from_bytes(&bytes).unwrap().renamed.unwrap();
    assert_eq!(renamed.first, "the name \"../up\" is written as \".._up\"");
    assert_eq!(renamed.count, 1);

    let mut odd = single().compose();
    odd.extend(b"trailing");
    let metainfo = Metainfo::from_bytes(&odd).unwrap();
    assert_eq!((metainfo.oddities.len(), metainfo.renamed), (1, None));
}

#[test]
fn the_name_is_one_safe_element() {
    let named = |name: &[u8]| {
        Metainfo::from_bytes(&with_info(&single(), |info| set(info, "name", name))).unwrap()
    };
    assert_eq!(named(b"../up").name, ".._up");
    assert_eq!(named(b".spam.iso.ropewalk").name, "_.spam.iso.ropewalk");
    let nameless = named(b"");
    assert_eq!(nameless.name, nameless.info_hash.to_string());
    assert_eq!(nameless.files[0].path, nameless.name);
    let wrong = with_info(&single(), |info| set(info, "name", 1));
    assert!(matches!(
        refused(&wrong),
        MetainfoError::WrongKind { what: "name", .. }
    ));
    let missing = with_info(&single(), |info| drop(info.remove(&b"name"[..])));
    assert!(matches!(
        refused(&missing),
        MetainfoError::Missing { key: "name", .. }
    ));
}

#[test]
fn utf_8_names_win_where_they_are_utf_8() {
    let mut one = file(&["old"], 1);
    set(&mut one, "path.utf-8", Value::list(["本.txt"]));
    let mut two = file(&["kept"], 1);
    set(&mut two, "path.utf-8", Value::list([&b"\xff"[..]]));
    let bytes = with_info(&folder(), |info| {
        set(info, "files", Value::list([one, two].map(Value::Dict)));
        set(info, "pieces", vec![1; 20]);
        set(info, "name.utf-8", "専輯");
    });
    let metainfo = Metainfo::from_bytes(&bytes).unwrap();
    assert_eq!(metainfo.name, "専輯");
    assert_eq!(paths(&metainfo), ["本.txt", "kept"]);
}

#[test]
fn a_raw_name_is_kept_beside_the_safe_one() {
    for (name, raw, paths) in [
        ("a\\b", Some("a\\b"), [Some("a\\b/x"), Some("a\\b/y\n")]),
        (
            ".z.ropewalk",
            Some(".z.ropewalk"),
            [Some(".z.ropewalk/x"), Some(".z.ropewalk/y\n")],
        ),
        ("..", None, [None, Some("_/y\n")]),
        ("plain", None, [None, Some("plain/y\n")]),
    ] {
        let metainfo = read(&Draft {
            name: name.into(),
            files: vec![FileEntry::plain("x", 1), FileEntry::plain("y\n", 1)],
            piece_digests: digests(1),
            ..folder()
        });
        assert_eq!(metainfo.raw_name.as_deref(), raw.map(str::as_bytes));
        let found = metainfo
            .files
            .iter()
            .map(|file| metainfo.raw_disk_path(file));
        let paths = paths.map(|path| path.map(|path| path.as_bytes().to_vec()));
        assert_eq!(found.collect::<Vec<_>>(), paths);
    }
    let metainfo = read(&Draft {
        name: "a\\b".into(),
        ..single()
    });
    let path = metainfo.raw_disk_path(&metainfo.files[0]);
    assert_eq!(path.as_deref(), Some(&b"a\\b"[..]));
}

#[test]
fn attributes_say_what_a_file_is() {
    let with = |mut file: Entries, attributes: &str| {
        set(&mut file, "attr", attributes);
        file
    };
    let mut pathless = with(file(&[], 3), "p");
    pathless.remove(&b"path"[..]);
    let mut link = with(file(&["link"], 1 << 40), "l");
    link.remove(&b"length"[..]);
    set(&mut link, "symlink path", Value::list(["..", "etc"]));
    let files = vec![
        with(file(&["run"], 1), "x"),
        with(file(&["hidden"], 1), "h"),
        pathless,
        with(file(&["..", "pad"], 3), "p"),
        with(file(&["link"], 1 << 40), "l"),
        link,
    ];
    let metainfo = Metainfo::from_bytes(&folder_of(files, 1)).unwrap();
    assert_eq!(paths(&metainfo), ["run", "hidden", ".pad/3", "_/pad"]);
    let padding: Vec<bool> = metainfo.files.iter().map(|file| file.padding).collect();
    assert_eq!(padding, [false, false, true, true]);
    assert!(metainfo.files[0].executable && !metainfo.files[1].executable);
    assert_eq!(metainfo.geometry.total(), 8);
    assert_eq!(metainfo.oddities.len(), 2);
    assert_eq!(
        metainfo.oddities[0],
        "the symbolic link \"link\" is left out"
    );
}

#[test]
fn private_is_believed_when_in_doubt() {
    let private = |value: Value| {
        Metainfo::from_bytes(&with_info(&single(), |info| set(info, "private", value))).unwrap()
    };
    assert!(!read(&single()).private);
    assert!(!private(Value::Int(0)).private);
    assert!(private(Value::Int(1)).private);
    let doubtful = private("1".into());
    assert!(doubtful.private && doubtful.oddities.len() == 1);
}

#[test]
fn odd_extras_are_left_out_and_said() {
    let bytes = with_root(&single(), |root| {
        set(root, "comment", 5);
        set(root, "creation date", "today");
        set(root, "created by", "");
        set(
            root,
            "nodes",
            Value::list([Value::list([1, 2]), Value::Int(3)]),
        );
        set(root, "url-list", 7);
    });
    let metainfo = Metainfo::from_bytes(&bytes).unwrap();
    assert_eq!(
        (
            metainfo.comment,
            metainfo.created_by,
            metainfo.creation_date
        ),
        (None, None, None)
    );
    assert_eq!((metainfo.nodes, metainfo.webseeds), (vec![], vec![]));
    assert_eq!(metainfo.oddities.len(), 4);
}

fn trackers(change: impl FnOnce(&mut Entries)) -> Metainfo {
    Metainfo::from_bytes(&with_root(&single(), change)).unwrap()
}

#[test]
fn the_announce_list_wins_where_it_holds_anything() {
    let tiers =
        |tiers: &[&[&str]]| Value::list(tiers.iter().map(|tier| Value::list(tier.iter().copied())));
    let metainfo = trackers(|root| {
        set(root, "announce", "http://ignored.example/");
        set(
            root,
            "announce-list",
            tiers(&[
                &["  udp://a.example:1/announce\n", "HTTP://B.example"],
                &[],
                &["https://[::1]:8/x", "HTTP://B.example"],
            ]),
        );
    });
    assert_eq!(
        metainfo.trackers,
        [
            vec!["udp://a.example:1/announce", "http://B.example"],
            vec!["https://[::1]:8/x"]
        ]
    );
    for useless in [tiers(&[]), tiers(&[&[], &["", "ftp://x/"]]), Value::Int(1)] {
        let metainfo = trackers(|root| set(root, "announce-list", useless));
        assert_eq!(metainfo.trackers, [["http://tracker.example/announce"]]);
    }
    let none = trackers(|root| drop(root.remove(&b"announce"[..])));
    assert_eq!(none.trackers, Vec::<Vec<String>>::new());
}

#[test]
fn addresses_that_lead_nowhere_are_left_out_without_their_secrets() {
    for wrong in [
        "file:///etc/passwd",
        "udp://[",
        "udp://[::1",
        "udp://[::1]x",
        "http://",
        "http:///path",
        "http://:80/",
        "http://host:0/",
        "http://host:99999/",
        "http://b\u{fc}cher.example/",
        "http://a b/",
        "http://a/\r\nHost: b",
        "wss://x/",
        "host:80",
        "http://user:word@",
    ] {
        let metainfo = trackers(|root| set(root, "announce", wrong));
        assert_eq!(metainfo.trackers, Vec::<Vec<String>>::new(), "{wrong}");
        assert_eq!(metainfo.oddities.len(), 1, "{wrong}");
        assert!(
            !metainfo.oddities[0].contains("word"),
            "{}",
            metainfo.oddities[0]
        );
    }
    let metainfo = trackers(|root| {
        set(
            root,
            "announce",
            "http://user:word@host:0/secret?key=secret",
        )
    });
    assert_eq!(
        metainfo.oddities,
        ["the tracker \"http://host:0\" is left out: its port is not one"]
    );
    let metainfo = trackers(|root| {
        set(
            root,
            "url-list",
            Value::list(["http://h/a b/ü", "", "http://h/a b/ü"]),
        )
    });
    assert_eq!(metainfo.webseeds, ["http://h/a%20b/%C3%BC"]);
}

#[test]
fn a_hundred_thousand_trackers_are_cut_short() {
    let many = (0..100_000).map(|n| Value::list([format!("http://t{n}.example/").as_str()]));
    let metainfo = trackers(|root| set(root, "announce-list", Value::list(many)));
    assert_eq!(metainfo.trackers.len(), 256);
    assert_eq!(metainfo.oddities, ["only the first 256 trackers are used"]);
}

#[test]
fn a_magnet_link_escapes_what_it_carries() {
    let draft = Draft {
        name: "a&b ü.iso".into(),
        trackers: vec![
            vec!["http://t.example/announce?key=1&x".into()],
            vec!["udp://u.example:1".into()],
        ],
        ..single()
    };
    let metainfo = read(&draft);
    let expected = format!(
        "magnet:?xt=urn:btih:{}&dn=a%26b%20%C3%BC.iso&tr=http%3A%2F%2Ft.example%2Fannounce%3Fkey%3D1%26x&tr=udp%3A%2F%2Fu.example%3A1",
        metainfo.info_hash
    );
    assert_eq!(metainfo.magnet(), expected);
}

fn leaf(length: i64) -> Value {
    Value::dict([(
        "",
        Value::dict([
            ("length", length.into()),
            ("pieces root", vec![7; 32].into()),
        ]),
    )])
}

/// The torrent of `folder()` with a version 2 half.
fn hybrid(tree: Value) -> Vec<u8> {
    with_info(&folder(), |info| {
        set(info, "meta version", 2);
        set(info, "file tree", tree);
    })
}

fn true_tree() -> Value {
    Value::dict([
        ("cd1", Value::dict([("one.flac", leaf(20_000))])),
        ("two.flac", leaf(30_000)),
    ])
}

#[test]
fn a_hybrid_has_both_names() {
    let bytes = hybrid(true_tree());
    let metainfo = Metainfo::from_bytes(&bytes).unwrap();
    let info = &bytes[metainfo.info.clone()];
    assert_eq!(metainfo.info_hash_v2, Some(digest::sha256(info)));
    assert!(metainfo.magnet().contains("&xt=urn:btmh:1220"));
    assert_eq!(metainfo.oddities, Vec::<String>::new());
    let one = with_info(&single(), |info| {
        set(info, "meta version", 2);
        set(info, "file tree", Value::dict([("spam.iso", leaf(40_000))]));
    });
    assert!(Metainfo::from_bytes(&one).unwrap().info_hash_v2.is_some());
}

#[test]
fn a_hybrid_whose_halves_differ_is_version_one() {
    let other = |one: i64, name: &str| {
        Value::dict([
            ("cd1", Value::dict([("one.flac", leaf(one))])),
            (name, leaf(30_000)),
        ])
    };
    let fewer = Value::dict([("cd1", Value::dict([("one.flac", leaf(20_000))]))]);
    let more = Value::dict([
        ("cd1", Value::dict([("one.flac", leaf(20_000))])),
        ("two.flac", leaf(30_000)),
        ("x", leaf(1)),
    ]);
    for tree in [
        other(20_001, "two.flac"),
        other(20_000, "three.flac"),
        fewer,
        more,
    ] {
        let metainfo = Metainfo::from_bytes(&hybrid(tree)).unwrap();
        assert_eq!(metainfo.info_hash_v2, None);
        assert_eq!(metainfo.oddities.len(), 1);
    }
    let shifted = Draft {
        files: vec![FileEntry::plain("a", 100), FileEntry::plain("b", 100)],
        piece_digests: digests(1),
        ..folder()
    };
    let shifted = with_info(&shifted, |info| {
        set(info, "meta version", 2);
        set(
            info,
            "file tree",
            Value::dict([("a", leaf(100)), ("b", leaf(100))]),
        );
    });
    assert_eq!(Metainfo::from_bytes(&shifted).unwrap().info_hash_v2, None);
    let third = with_info(&folder(), |info| set(info, "meta version", 3));
    assert_eq!(Metainfo::from_bytes(&third).unwrap().info_hash_v2, None);
}

#[test]
fn a_hybrid_with_a_broken_tree_is_refused() {
    let rootless = Value::dict([("", Value::dict([("length", 1.into())]))]);
    let zero = Value::dict([(
        "",
        Value::dict([("length", 1.into()), ("pieces root", vec![0; 32].into())]),
    )]);
    let both = Value::dict([
        ("", Value::dict([("length", Value::Int(0))])),
        ("x", leaf(1)),
    ]);
    for broken in [
        rootless,
        zero,
        both,
        Value::Int(1),
        Value::dict([("length", Value::Int(1))]),
    ] {
        let error = refused(&hybrid(Value::dict([("a", broken)])));
        assert!(
            matches!(
                error,
                MetainfoError::FileTree { .. } | MetainfoError::WrongKind { .. }
            ),
            "{error}"
        );
    }
}

#[test]
fn version_two_alone_is_refused_by_name() {
    let bytes = with_info(&single(), |info| {
        info.retain(|key, _| key != b"pieces" && key != b"length");
        set(info, "meta version", 2);
        set(info, "file tree", Value::dict([("spam.iso", leaf(40_000))]));
    });
    assert_eq!(refused(&bytes), MetainfoError::VersionTwoOnly);
}

/// One torrent of each kind.
fn fixtures() -> Vec<Vec<u8>> {
    let rich = Draft {
        trackers: vec![
            vec!["udp://a.example:1".into()],
            vec!["http://b.example/".into()],
        ],
        webseeds: vec!["http://c.example/".into()],
        nodes: vec![("d.example".into(), 5)],
        private: true,
        comment: Some("e".into()),
        ..folder()
    };
    vec![single().compose(), rich.compose(), hybrid(true_tree())]
}

#[test]
fn every_truncation_is_refused() {
    for fixture in fixtures() {
        for length in 0..fixture.len() {
            assert!(Metainfo::from_bytes(&fixture[..length]).is_err());
        }
    }
}

#[test]
fn ten_thousand_files_of_one_name_are_told_apart() {
    let files = vec![file(&["same.txt"], 1); 10_000];
    let metainfo = Metainfo::from_bytes(&folder_of(files, 1)).unwrap();
    let distinct: std::collections::BTreeSet<&str> = paths(&metainfo).into_iter().collect();
    assert_eq!(distinct.len(), 10_000);
    assert!(distinct.contains("same.9999.txt"));
}

proptest! {
    #[test]
    fn a_changed_byte_never_panics(which in 0usize..3, at: prop::sample::Index, byte: u8) {
        let mut bytes = fixtures().swap_remove(which);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(metainfo) = Metainfo::from_bytes(&bytes) {
            prop_assert_eq!(metainfo.piece_digests.len(), metainfo.geometry.pieces() as usize);
        }
    }

    #[test]
    fn what_was_composed_is_read_again(
        lengths in prop::collection::vec((0u64..100_000, any::<bool>()), 1..20),
        piece_length in 16_384u32..50_000,
        private: bool,
        comment in prop::option::of("[a-z]{1,9}"),
    ) {
        let total: u64 = lengths.iter().map(|it| it.0).sum();
        let named = |(number, (length, padding)): (usize, (u64, bool))| if padding {
            FileEntry::padding(length)
        } else {
            FileEntry { executable: length % 2 == 0, ..FileEntry::plain(&format!("d{}/f{number}", number % 3), length) }
        };
        let draft = Draft {
            piece_length,
            files: lengths.into_iter().enumerate().map(named).collect(),
            piece_digests: digests(total.div_ceil(u64::from(piece_length)) as usize),
            private,
            comment,
            ..folder()
        };
        let metainfo = read(&draft);
        let again = Draft {
            name: metainfo.name.clone(),
            piece_length: metainfo.geometry.piece_length(),
            files: metainfo.files.clone(),
            piece_digests: metainfo.piece_digests.to_vec(),
            private: metainfo.private,
            comment: metainfo.comment.clone(),
            ..Draft::default()
        };
        prop_assert_eq!(again, draft);
        prop_assert_eq!(metainfo.geometry.total(), total);
    }
}
