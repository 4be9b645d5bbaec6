//! `create`: a .torrent of a file or a folder.

use crate::desk::{Desk, end_of, is_calm, noise, wait_for_thread};
use ropewalk::protocol::metainfo::Metainfo;
use std::ffi::OsString;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Stdio;

fn album(desk: &Desk) {
    desk.write("album/one.bin", &noise(1, 40_000));
    desk.write("album/deep/two.bin", &noise(2, 20_000));
    desk.write("album/empty", b"");
    desk.write("album/日本語.txt", &noise(3, 50_000));
}

fn read(desk: &Desk, name: &str) -> Metainfo {
    Metainfo::from_bytes(&desk.read(name)).unwrap()
}

fn paths(metainfo: &Metainfo) -> Vec<&str> {
    let files = metainfo.files.iter();
    files.map(|file| file.path.as_str()).collect()
}

/// The names in the desk's own folder, sorted.
fn names(desk: &Desk) -> Vec<String> {
    let entries = fs::read_dir(desk.path("")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names = names.collect::<Vec<_>>();
    names.sort();
    names
}

/// `path` is a FIFO from now on.
fn fifo(desk: &Desk, path: &str) {
    let mode = rustix::fs::Mode::from_bits_truncate(0o600);
    let kind = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, desk.path(path), kind, mode, 0).unwrap();
}

#[test]
fn what_was_created_is_shown_verified_and_seeded() {
    let desk = Desk::new();
    album(&desk);
    let words = [
        "create",
        "--json",
        "--tracker=http://a.example/announce,udp://b.example:1",
        "--tracker=http://c.example/announce",
        "--webseed=http://d.example/album/",
        "--piece-length=16K",
        "--private",
        "--comment=for a test",
        "--source=here",
        "album",
    ];
    let created = desk.run(&words).expect(0).json();
    assert_eq!(created["path"], "album.torrent");
    let shown = desk.run(&["show", "--json", "album.torrent"]).expect(0);
    let shown = shown.json();
    for key in [
        "name",
        "info_hash",
        "total_size",
        "piece_length",
        "pieces",
        "magnet",
    ] {
        assert_eq!(created[key], shown[key], "{key}");
    }
    assert_eq!(shown["total_size"], 110_000);
    assert_eq!(shown["private"], true);
    assert_eq!(shown["comment"], "for a test");
    assert_eq!(shown["webseeds"][0], "http://d.example/album/");
    assert_eq!(shown["trackers"][0][1], "udp://b.example:1");
    assert_eq!(shown["trackers"][1][0], "http://c.example/announce");
    assert!(
        shown["created_by"]
            .as_str()
            .unwrap()
            .starts_with("ropewalk ")
    );
    assert!(shown["creation_date"].as_i64().unwrap() > 1_700_000_000);
    assert_eq!(read(&desk, "album.torrent").source.as_deref(), Some("here"));

    desk.run(&["verify", "album.torrent"]).expect(0);
    let mut seed = desk.start(&[
        "seed",
        "--json",
        "--port=0",
        "--no-tracker",
        "album.torrent",
    ]);
    assert_eq!(seed.wait_for("complete")["have"], 110_000);
}

#[test]
fn a_single_file_is_a_torrent_of_its_own() {
    let desk = Desk::new();
    desk.write("dir/s.bin", &noise(4, 100_000));
    let outcome = desk.run(&["create", "dir/s.bin"]).expect(0);
    let metainfo = read(&desk, "s.bin.torrent");
    assert!(metainfo.single_file);
    for text in [
        "s.bin.torrent".to_owned(),
        metainfo.info_hash.to_string(),
        metainfo.magnet(),
    ] {
        assert!(outcome.out.contains(&text), "{text}: {}", outcome.out);
    }
    desk.run(&["verify", "s.bin.torrent", "dir"]).expect(0);
}

#[test]
fn the_same_files_and_options_give_the_same_bytes() {
    let desks = [Desk::new(), Desk::new()];
    for (number, desk) in desks.iter().enumerate() {
        let mut files: Vec<_> = (0..50).map(|n| format!("many/{}/{n}", n % 7)).collect();
        if number == 1 {
            files.reverse();
        }
        for name in files {
            desk.write(&name, &noise(name.len() as u64, 10 + name.len() * 100));
        }
        desk.run(&["create", "--no-date", "many"]).expect(0);
    }
    let [a, b] = desks.map(|desk| desk.read("many.torrent"));
    assert!(a == b);
}

#[test]
fn without_date_and_creator_nothing_tells_when_and_by_what() {
    let desk = Desk::new();
    desk.write("s.bin", b"x");
    desk.run(&["create", "--no-date", "--no-creator", "s.bin"])
        .expect(0);
    let metainfo = read(&desk, "s.bin.torrent");
    assert_eq!((metainfo.creation_date, metainfo.created_by), (None, None));
}

#[test]
fn the_info_hash_is_that_which_other_programs_give() {
    let desk = Desk::new();
    for (name, bytes) in [("a", b"abc"), ("h", b"hij"), ("x", b"xyz")] {
        desk.write(format!("foo/{name}"), bytes);
    }
    let created = desk.run(&["create", "--json", "foo"]).expect(0).json();
    assert_eq!(
        created["info_hash"],
        "d3432a4b9d18baa413095a70f1e417021ceaca5b"
    );
}

#[test]
fn hidden_names_are_left_out_and_counted_unless_they_are_wanted() {
    let desk = Desk::new();
    album(&desk);
    desk.write("album/.git/config", b"x");
    desk.write("album/deep/.DS_Store", b"x");
    let outcome = desk.run(&["create", "album"]).expect(0);
    assert!(outcome.err.contains("2 hidden names"), "{}", outcome.err);
    assert_eq!(
        paths(&read(&desk, "album.torrent")),
        ["deep/two.bin", "empty", "one.bin", "日本語.txt"]
    );
    let all = ["create", "--include-hidden", "--overwrite", "album"];
    let outcome = desk.run(&all).expect(0);
    assert!(!outcome.err.contains("hidden"));
    assert_eq!(
        paths(&read(&desk, "album.torrent"))[..2],
        [".git/config", "deep/.DS_Store"]
    );
    // What the user names is taken, whatever its name.
    desk.run(&["create", "album/.git"]).expect(0);
}

#[test]
fn what_a_glob_matches_is_left_out() {
    let desk = Desk::new();
    for name in [
        "a.txt",
        "a.part",
        "deep/b.part",
        "deep/b.txt",
        "cache/c.txt",
        "deep/cache/d",
    ] {
        desk.write(format!("root/{name}"), name.as_bytes());
    }
    let words = ["create", "--exclude=*.part", "--exclude", "/cache", "root"];
    let created = desk
        .run(&[&words[..], &["--json"]].concat())
        .expect(0)
        .json();
    assert_eq!(created["excluded"], 3);
    assert_eq!(
        paths(&read(&desk, "root.torrent")),
        ["a.txt", "deep/b.txt", "deep/cache/d"]
    );
    let words = [
        "create",
        "--overwrite",
        "--exclude=a.txt",
        "--exclude=./cache",
        "root",
    ];
    let outcome = desk.run(&words).expect(0);
    assert_eq!(outcome.err, "warning: nothing matches --exclude ./cache\n");
}

#[test]
fn without_a_standard_output_no_torrent_is_written_there() {
    let desk = Desk::new();
    desk.write("s.bin", b"x");
    let begun = |redirection: &str| {
        let text = format!("exec \"$@\" {redirection}");
        let mut command = std::process::Command::new("sh");
        command.args(["-c", &text, "sh", env!("CARGO_BIN_EXE_ropewalk")]);
        command.args(["create", "-o", "-", "s.bin"]);
        command.current_dir(desk.path("")).output().unwrap()
    };
    assert_eq!(begun(">&-").status.code(), Some(2));
    assert_eq!(begun(">/dev/null").status.code(), Some(0));
}

#[test]
fn links_are_followed_and_loops_are_told() {
    let desk = Desk::new();
    album(&desk);
    desk.write("elsewhere/three.bin", &noise(5, 1000));
    symlink(desk.path("elsewhere"), desk.path("album/linked")).unwrap();
    symlink("one.bin", desk.path("album/again.bin")).unwrap();
    desk.run(&["create", "album"]).expect(0);
    let metainfo = read(&desk, "album.torrent");
    assert!(paths(&metainfo).contains(&"linked/three.bin"));
    assert!(paths(&metainfo).contains(&"again.bin"));
    let mut seed = desk.start(&[
        "seed",
        "--json",
        "--port=0",
        "--no-tracker",
        "album.torrent",
    ]);
    assert_eq!(seed.wait_for("complete")["have"], metainfo.geometry.total());
    drop(seed);

    for target in ["..", ".", "nowhere"] {
        let link = desk.path("album/deep/link");
        symlink(target, &link).unwrap();
        let outcome = desk.run(&["create", "-o", "x.torrent", "album"]).expect(2);
        assert!(outcome.err.contains("deep/link"), "{}", outcome.err);
        fs::remove_file(link).unwrap();
    }
    assert!(!desk.path("x.torrent").exists());
}

#[test]
fn what_cannot_be_read_is_named_and_nothing_is_left_behind() {
    let desk = Desk::new();
    album(&desk);
    fifo(&desk, "album/pipe");
    let outcome = desk.run(&["create", "album"]).expect(2);
    assert!(
        outcome.err.contains("album/pipe is a FIFO"),
        "{}",
        outcome.err
    );
    desk.run(&["create", "album/pipe"]).expect(2);
    desk.run(&["create", "--exclude=pipe", "-o", "ok.torrent", "album"])
        .expect(0);
    desk.run(&["create", "missing"]).expect(2);
    desk.run(&["create", "/dev/null"]).expect(2);

    let locked = desk.path("album/one.bin");
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o000)).unwrap();
    // Root may read it all the same.
    if fs::File::open(&locked).is_err() {
        let outcome = desk.run(&["create", "--exclude=pipe", "album"]).expect(2);
        assert!(outcome.err.contains("one.bin"), "{}", outcome.err);
    }
    assert_eq!(names(&desk), ["album", "ok.torrent"]);
}

#[test]
fn where_there_is_no_byte_there_is_no_torrent() {
    let desk = Desk::new();
    fs::create_dir(desk.path("void")).unwrap();
    desk.write("blank/empty", b"");
    desk.write("secret/.hidden", b"x");
    desk.write("zero", b"");
    for (name, hint) in [
        ("void", "at least one byte"),
        ("blank", "at least one byte"),
        ("zero", "at least one byte"),
        ("secret", "--include-hidden"),
    ] {
        let outcome = desk.run(&["create", name]).expect(2);
        assert!(outcome.err.contains("nothing in"), "{}", outcome.err);
        assert!(outcome.err.contains(hint), "{name}: {}", outcome.err);
    }
    let outcome = desk.run(&["create", "--exclude=*", "secret"]).expect(2);
    assert_eq!(outcome.out, "");
    assert_eq!(names(&desk), ["blank", "secret", "void", "zero"]);
}

#[test]
fn a_file_that_is_written_to_meanwhile_makes_no_torrent() {
    let desk = Desk::new();
    for number in 0..64 {
        desk.write(format!("busy/{number:02}"), &noise(number, 400_000));
    }
    let path = desk.path("busy/63");
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let writer = std::thread::spawn(move || {
        let mut file = fs::OpenOptions::new().append(true).open(path).unwrap();
        while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
            file.write_all(b"more").unwrap();
        }
    });
    let outcome = desk.run(&["create", "busy"]);
    drop(stop);
    writer.join().unwrap();
    let outcome = outcome.expect(2);
    assert!(
        outcome.err.contains("busy/63 changed while it was read"),
        "{}",
        outcome.err
    );
    assert_eq!(names(&desk), ["busy"]);
}

#[test]
fn an_existing_torrent_is_replaced_only_if_that_is_wanted() {
    let desk = Desk::new();
    album(&desk);
    desk.write("album.torrent", b"mine");
    let outcome = desk.run(&["create", "album"]).expect(2);
    assert!(outcome.err.contains("--overwrite"), "{}", outcome.err);
    assert_eq!(desk.read("album.torrent"), b"mine");
    desk.run(&["create", "--overwrite", "album"]).expect(0);
    read(&desk, "album.torrent");
}

#[test]
fn a_torrent_inside_its_own_folder_is_not_part_of_itself() {
    let desk = Desk::new();
    album(&desk);
    let words = [
        "create",
        "--no-date",
        "--overwrite",
        "-o",
        "album/it.torrent",
        "album",
    ];
    desk.run(&words).expect(0);
    let once = desk.read("album/it.torrent");
    desk.run(&words).expect(0);
    assert!(desk.read("album/it.torrent") == once);
    assert!(!paths(&read(&desk, "album/it.torrent")).contains(&"it.torrent"));

    let mut within = desk.command(&["create", "--name=x", "--overwrite", "--no-date", "."]);
    within.current_dir(desk.path("album"));
    within.assert().success();
    let once = desk.read("album/x.torrent");
    within.assert().success();
    assert!(desk.read("album/x.torrent") == once);
}

#[test]
fn standard_output_gets_the_torrent_and_standard_error_the_facts() {
    let desk = Desk::new();
    album(&desk);
    let words = ["create", "--no-date", "-o", "-", "album"];
    let output = desk.command(&words).output().unwrap();
    assert!(output.status.success());
    desk.run(&["create", "--no-date", "album"]).expect(0);
    assert!(output.stdout == desk.read("album.torrent"));
    let magnet = read(&desk, "album.torrent").magnet();
    assert!(String::from_utf8(output.stderr).unwrap().contains(&magnet));
}

#[test]
fn standard_output_by_another_name_gets_the_torrent_and_nothing_else() {
    let desk = Desk::new();
    album(&desk);
    desk.run(&["create", "--no-date", "album"]).expect(0);
    let alone = desk.read("album.torrent");
    for name in ["/dev/stdout", "/dev/fd/1"] {
        let words = ["create", "--no-date", "-o", name, "album"];
        let output = desk.command(&words).output().unwrap();
        assert!(output.status.success() && output.stdout == alone, "{name}");
        // A shell has opened the file, and nothing takes its place.
        let into = fs::File::create(desk.path("into")).unwrap();
        let mut command = desk.signalled();
        let made = command.args(words).stdout(into).stderr(Stdio::null());
        assert!(made.status().unwrap().success());
        assert!(desk.read("into") == alone, "{name}");
    }
}

#[test]
fn what_was_opened_for_it_or_is_no_file_is_written_to_where_it_is() {
    let desk = Desk::new();
    album(&desk);
    desk.run(&["create", "--no-date", "album"]).expect(0);
    let alone = desk.read("album.torrent");
    let shell = |line: &str| {
        let mut shell = std::process::Command::new("sh");
        let shell = shell.args(["-c", line, env!("CARGO_BIN_EXE_ropewalk")]);
        shell.current_dir(desk.path("")).output().unwrap()
    };
    let made = shell("\"$0\" create -q --no-date -o /dev/fd/9 album 9>nine");
    assert!(made.status.success(), "{made:?}");
    assert!(desk.read("nine") == alone);
    let made = shell("\"$0\" create -q --no-date -o /dev/fd/9 album 9>&1 | cat");
    assert!(made.stdout == alone);
    desk.run(&["create", "-q", "-o", "/dev/null", "album"])
        .expect(0);
    assert_eq!(names(&desk), ["album", "album.torrent", "nine"]);
}

#[test]
fn a_fifo_that_nobody_reads_is_no_reason_to_ignore_a_signal() {
    let desk = Desk::new();
    album(&desk);
    fifo(&desk, "fifo");
    desk.write("book", b"one page");
    for words in [
        &["create", "-o", "fifo", "album"][..],
        &[
            "share",
            "--port=0",
            "--tracker-port=0",
            "-o",
            "fifo",
            "book",
        ],
        &["lab", "-q", "--file=book", "--up=1M", "--report=fifo"],
    ] {
        let mut command = desk.signalled();
        command.args(words).stderr(Stdio::piped());
        let mut run = command.stdout(Stdio::null()).spawn().unwrap();
        wait_for_thread(&run, "save");
        let pid = rustix::process::Pid::from_child(&run);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        let mut err = run.stderr.take().unwrap();
        assert_eq!(end_of(run), Some(130), "{words:?}");
        let mut said = String::new();
        err.read_to_string(&mut said).unwrap();
        assert!(said.contains("stopped before fifo was written"), "{said}");
    }
}

#[test]
fn a_file_that_standard_output_goes_to_is_not_part_of_the_torrent() {
    let desk = Desk::new();
    album(&desk);
    let words = ["create", "--no-date", "--name=album", "-o", "-", "."];
    let create = |appending: bool| {
        let mut options = fs::OpenOptions::new();
        options.create(true).append(appending).write(true);
        let out = options.open(desk.path("album/in.torrent")).unwrap();
        let mut command = desk.signalled();
        let command = command.args(words).current_dir(desk.path("album"));
        let made = command.stdout(out).stderr(Stdio::null()).status();
        assert!(made.unwrap().success());
    };
    create(false);
    desk.run(&["create", "--no-date", "--exclude=in.torrent", "album"])
        .expect(0);
    let alone = desk.read("album.torrent");
    assert!(desk.read("album/in.torrent") == alone);
    // Whatever it holds already.
    create(true);
    assert!(desk.read("album/in.torrent") == [&alone[..], &alone].concat());
    fs::remove_file(desk.path("album/in.torrent")).unwrap();

    // A page and a log are none of the author's files either.
    let log = || fs::File::create(desk.path("album/log")).unwrap();
    for (out, err) in [
        (Stdio::from(log()), Stdio::null()),
        (Stdio::null(), Stdio::from(log())),
    ] {
        let mut command = desk.signalled();
        let command = command.args(["create", "--no-date", "--overwrite", "album"]);
        let made = command.stdout(out).stderr(err).status();
        assert!(made.unwrap().success());
        assert!(desk.read("album.torrent") == alone);
    }
}

#[test]
fn an_output_folder_gets_the_torrent_under_its_name() {
    let desk = Desk::new();
    album(&desk);
    fs::create_dir(desk.path("out")).unwrap();
    desk.run(&["create", "-q", "-o", "out", "album/"]).expect(0);
    assert_eq!(read(&desk, "out/album.torrent").name, "album");
    let outcome = desk
        .run(&["create", "-o", "missing/x.torrent", "album"])
        .expect(2);
    assert!(outcome.err.contains("missing/x.torrent"), "{}", outcome.err);
}

#[test]
fn with_quiet_nothing_is_said() {
    let desk = Desk::new();
    album(&desk);
    desk.write("album/.hidden", b"x");
    let outcome = desk.run(&["create", "-q", "--private", "album"]).expect(0);
    assert_eq!((outcome.out.as_str(), outcome.err.as_str()), ("", ""));
}

#[test]
fn a_folder_is_named_by_what_it_is_or_by_the_user() {
    let desk = Desk::new();
    album(&desk);
    let mut within = desk.command(&["create", "-o", "../it.torrent", "."]);
    within.current_dir(desk.path("album"));
    within.assert().success();
    assert_eq!(read(&desk, "it.torrent").name, "album");
    desk.run(&["create", "--name", "Größe", "album"]).expect(0);
    assert_eq!(read(&desk, "Größe.torrent").name, "Größe");
    let outcome = desk.run(&["create", "/"]).expect(2);
    assert!(outcome.err.contains("--name"), "{}", outcome.err);
}

#[test]
fn names_that_are_no_text_are_refused_and_others_warned_about() {
    let desk = Desk::new();
    album(&desk);
    let latin = OsString::from_vec(b"album/caf\xe9\x1b[2J".to_vec());
    desk.write(&latin, b"x");
    let outcome = desk.run(&["create", "album"]).expect(2);
    assert!(outcome.err.contains("caf\\xe9"), "{}", outcome.err);
    assert!(is_calm(&outcome.err));
    fs::remove_file(desk.path(&latin)).unwrap();

    desk.write("album/a\\b", b"x");
    let outcome = desk.run(&["create", "album"]).expect(0);
    assert!(outcome.err.contains("warning: "), "{}", outcome.err);
    assert!(outcome.err.contains("a_b"), "{}", outcome.err);
    assert_eq!(names(&desk), ["album", "album.torrent"]);
}

#[test]
fn a_piece_length_that_is_no_power_of_two_is_taken_with_a_warning() {
    let desk = Desk::new();
    album(&desk);
    let outcome = desk
        .run(&["create", "--piece-length", "48K", "album"])
        .expect(0);
    assert!(outcome.err.contains("power of two"), "{}", outcome.err);
    assert_eq!(read(&desk, "album.torrent").geometry.piece_length(), 49_152);
    desk.run(&["verify", "album.torrent"]).expect(0);
}

#[test]
fn what_nobody_could_read_is_told_before_the_hashing() {
    let desk = Desk::new();
    // All holes: its bytes cannot be hashed in a test's time, so the answer came before.
    let file = fs::File::create(desk.path("huge")).unwrap();
    file.set_len(1 << 43).unwrap();
    for (length, problem) in [("16K", "nobody could read"), ("4M", "bytes")] {
        let outcome = desk
            .run(&["create", "--piece-length", length, "huge"])
            .expect(2);
        assert!(outcome.err.contains(problem), "{}", outcome.err);
        assert!(outcome.err.contains("--piece-length"), "{}", outcome.err);
    }
    assert_eq!(names(&desk), ["huge"]);
}

#[test]
fn a_stop_before_the_end_leaves_nothing_and_has_the_signals_status() {
    let desk = Desk::new();
    // All holes: more than can be hashed before the signal comes.
    let file = fs::File::create(desk.path("huge")).unwrap();
    file.set_len(1 << 35).unwrap();
    let mut child = desk
        .signalled()
        .args(["create", "--piece-length=64K", "huge"])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // The first line of progress says that the work has begun.
    let mut err = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut err, &mut line).unwrap();
    assert!(line.contains("hashed"), "{line}");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    std::io::copy(&mut err, &mut std::io::sink()).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert_eq!(names(&desk), ["huge"]);
}
