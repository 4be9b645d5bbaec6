//! `get` and `seed` against each other, over loopback.

use crate::desk::{Desk, Running, folder, noise, single};
use rustix::process::Signal;

const LOOPBACK: [&str; 4] = ["--bind", "127.0.0.1", "--port", "0"];

/// A seed of `torrent`'s data under `data`, and its address.
fn seed(desk: &Desk, torrent: &str) -> (Running, String) {
    let mut words = vec!["seed", "--json", torrent, "data"];
    words.extend(LOOPBACK);
    let mut seed = desk.start(&words);
    let port = seed.wait_for("listening")["port"].as_u64().unwrap();
    (seed, format!("127.0.0.1:{port}"))
}

fn get<'a>(extra: &[&'a str], torrent: &'a str) -> Vec<&'a str> {
    let mut words = vec!["get", "--output", "copy", torrent];
    words.extend(LOOPBACK);
    words.extend(extra);
    words
}

fn one_file(desk: &Desk, length: usize) -> Vec<u8> {
    let bytes = noise(5, length);
    desk.write("f.torrent", &single("f.bin", &bytes, 32768).compose());
    desk.write("data/f.bin", &bytes);
    bytes
}

#[test]
fn a_file_arrives_byte_for_byte_and_get_leaves_with_0() {
    let desk = Desk::new();
    let bytes = one_file(&desk, 1_000_001);
    let (mut seed, address) = seed(&desk, "f.torrent");
    let outcome = desk
        .run(&get(&["-e", "--json", "--peer", &address], "f.torrent"))
        .expect(0);
    assert!(desk.read("copy/f.bin") == bytes);

    let events = outcome.events();
    let names = events
        .iter()
        .map(|event| event["event"].as_str().unwrap())
        .collect::<Vec<_>>();
    for event in [
        "listening",
        "started",
        "peer",
        "piece",
        "complete",
        "stopped",
    ] {
        assert!(names.contains(&event), "{event} is missing in {names:?}");
    }
    let stopped = events
        .iter()
        .find(|event| event["event"] == "stopped")
        .unwrap();
    assert_eq!(stopped["reason"], "done");
    assert_eq!(stopped["status"], 0);
    assert_eq!(stopped["have"], 1_000_001);
    assert!(events.iter().all(|event| event["time"].is_number()));

    seed.signal(Signal::INT);
    assert_eq!(seed.end().code(), Some(0), "a stop while sharing is 0");
}

#[test]
fn a_folder_with_files_of_all_sizes_arrives() {
    let desk = Desk::new();
    let files = [
        ("a.bin", noise(6, 100_000)),
        ("sub/tiny", b"x".to_vec()),
        ("sub/empty", Vec::new()),
        ("ünï/日本.bin", noise(7, 33_333)),
    ];
    desk.write("d.torrent", &folder("album", &files, 16384).compose());
    for (name, bytes) in &files {
        desk.write(format!("data/album/{name}"), bytes);
    }
    let (_seed, address) = seed(&desk, "d.torrent");
    desk.run(&get(&["-e", "--peer", &address], "d.torrent"))
        .expect(0);
    for (name, bytes) in &files {
        assert!(desk.read(&format!("copy/album/{name}")) == *bytes, "{name}");
    }
}

#[test]
fn a_second_get_finds_everything_there() {
    let desk = Desk::new();
    one_file(&desk, 200_000);
    let (_seed, address) = seed(&desk, "f.torrent");
    let words = get(&["-e", "--json", "--peer", &address], "f.torrent");
    desk.run(&words).expect(0);
    let events = desk.run(&words).expect(0).events();
    let complete = events
        .iter()
        .find(|event| event["event"] == "complete")
        .unwrap();
    assert_eq!(complete["already"], true);
    assert_eq!(complete["downloaded"], 0);
}

#[test]
fn get_with_nobody_to_ask_is_status_2_with_a_reason() {
    let desk = Desk::new();
    one_file(&desk, 50_000);
    let outcome = desk.run(&get(&["-e", "--json"], "f.torrent")).expect(2);
    let events = outcome.events();
    let stopped = events
        .iter()
        .find(|event| event["event"] == "stopped")
        .unwrap();
    assert_eq!(stopped["reason"], "no-peers");
    assert!(outcome.err.contains("hint: "), "{}", outcome.err);
}

#[test]
fn get_gives_up_when_nothing_arrives() {
    let desk = Desk::new();
    one_file(&desk, 50_000);
    // A listener that accepts nobody: the kernel takes the connection, nothing is ever said.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let words = get(
        &["-e", "--json", "--timeout", "1", "--peer", &address],
        "f.torrent",
    );
    let events = desk.run(&words).expect(2).events();
    let stopped = events
        .iter()
        .find(|event| event["event"] == "stopped")
        .unwrap();
    assert_eq!(stopped["reason"], "timeout");
}

#[test]
fn a_torrent_that_does_not_arrive_is_given_up_as_soon_as_its_data_would_be() {
    let desk = Desk::new();
    // The kernel takes the connection, and nothing is ever said; or the answer stops half-way.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let halting = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addresses = [&silent, &halting].map(|it| it.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let (mut stream, _) = halting.accept().unwrap();
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nd4:info";
        std::io::Write::write_all(&mut stream, head).unwrap();
        stream
    });
    for address in addresses {
        let torrent = format!("http://{address}/x.torrent");
        let words = get(&["-e", "--json", "--timeout", "1"], &torrent);
        let outcome = desk.run(&words).expect(2);
        assert_eq!(outcome.events()[0]["reason"], "timeout", "{outcome:?}");
        assert!(outcome.err.contains("gave up"), "{}", outcome.err);
        assert!(outcome.err.contains("--timeout"), "{}", outcome.err);
    }
    drop(server.join());
}

#[test]
fn a_stop_before_the_end_has_the_signals_status() {
    for (signal, code) in [(Signal::HUP, 129), (Signal::INT, 130), (Signal::TERM, 143)] {
        let desk = Desk::new();
        one_file(&desk, 50_000);
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = silent.local_addr().unwrap().to_string();
        let mut run = desk.start(&get(&["-e", "--json", "--peer", &address], "f.torrent"));
        run.wait_for("started");
        run.signal(signal);
        assert_eq!(run.end().code(), Some(code));
    }
}

#[test]
fn seeding_what_is_not_there_is_status_3() {
    let desk = Desk::new();
    one_file(&desk, 50_000);
    desk.write("data/f.bin", &noise(99, 50_000));
    let mut words = vec!["seed", "f.torrent", "data"];
    words.extend(LOOPBACK);
    desk.run(&words).expect(3);
}

#[test]
fn the_same_torrent_twice_is_wrong_usage() {
    let desk = Desk::new();
    one_file(&desk, 50_000);
    std::fs::copy(desk.path("f.torrent"), desk.path("g.torrent")).unwrap();
    let mut words = get(&["-e"], "f.torrent");
    words.push("g.torrent");
    desk.run(&words).expect(1);
}

#[test]
fn of_several_torrents_the_worst_status_counts_and_the_others_are_fetched() {
    let desk = Desk::new();
    let bytes = one_file(&desk, 50_000);
    desk.write("broken.torrent", b"none");
    let (_seed, address) = seed(&desk, "f.torrent");
    let mut words = get(&["-e", "--peer", &address], "f.torrent");
    words.push("broken.torrent");
    desk.run(&words).expect(2);
    assert!(desk.read("copy/f.bin") == bytes);
}

#[test]
fn the_hook_knows_the_facts_and_its_failure_is_status_2() {
    let desk = Desk::new();
    one_file(&desk, 50_000);
    let (_seed, address) = seed(&desk, "f.torrent");
    let hook = "printf '%s %s %s' \"$ROPEWALK_NAME\" \"$ROPEWALK_PATH\" \"$ROPEWALK_SIZE\" > facts; exit 7";
    let words = get(
        &["-e", "--peer", &address, "--on-complete", hook],
        "f.torrent",
    );
    let outcome = desk.run(&words).expect(2);
    let path = desk.path("copy/f.bin").canonicalize().unwrap();
    let facts = format!("f.bin {} 50000", path.display());
    assert_eq!(String::from_utf8(desk.read("facts")).unwrap(), facts);
    assert!(outcome.err.contains("--on-complete"), "{}", outcome.err);
}

#[test]
fn quiet_is_quiet_and_elsewhere_than_a_terminal_there_are_no_escapes() {
    let desk = Desk::new();
    one_file(&desk, 300_000);
    let (_seed, address) = seed(&desk, "f.torrent");
    let loud = desk
        .run(&get(&["-e", "--peer", &address], "f.torrent"))
        .expect(0);
    assert!(crate::desk::is_calm(&loud.err), "{}", loud.err);
    assert!(
        loud.err.contains("ratio"),
        "the final line is missing: {}",
        loud.err
    );
    assert_eq!(loud.out, "");

    std::fs::remove_dir_all(desk.path("copy")).unwrap();
    let quiet = desk
        .run(&get(&["-e", "-q", "--peer", &address], "f.torrent"))
        .expect(0);
    assert_eq!((quiet.out.as_str(), quiet.err.as_str()), ("", ""));
}

#[test]
fn a_closed_standard_output_ends_get_with_2_and_a_good_file_later() {
    let desk = Desk::new();
    let bytes = one_file(&desk, 200_000);
    let (_seed, address) = seed(&desk, "f.torrent");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let words = get(&["-e", "--json", "--peer", &address], "f.torrent");
    let status = std::process::Command::new(env!("CARGO_BIN_EXE_ropewalk"))
        .args(&words)
        .current_dir(desk.path("."))
        .stdout(writer)
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(2));
    desk.run(&words).expect(0);
    assert!(desk.read("copy/f.bin") == bytes);
}

#[test]
fn the_trace_tells_both_directions() {
    let desk = Desk::new();
    one_file(&desk, 50_000);
    let (_seed, address) = seed(&desk, "f.torrent");
    let words = get(
        &["-e", "--peer", &address, "--trace", "wire.txt"],
        "f.torrent",
    );
    desk.run(&words).expect(0);
    let trace = String::from_utf8(desk.read("wire.txt")).unwrap();
    for word in ["handshake", "interested", "request", "piece"] {
        assert!(trace.contains(word), "{word} is missing in\n{trace}");
    }
}

#[test]
fn an_output_folder_that_cannot_be_is_told_before_anybody_is_asked() {
    let desk = Desk::new();
    one_file(&desk, 50_000);
    desk.write("file", b"x");
    let outcome = desk
        .run(&["get", "-e", "--output", "file/below", "f.torrent"])
        .expect(2);
    assert!(outcome.err.contains("file/below"), "{}", outcome.err);
}

#[test]
fn who_names_a_file_to_seed_from_is_told_to_name_its_folder() {
    let desk = Desk::new();
    desk.write("t.torrent", &single("one", b"x", 16384).compose());
    desk.write("one", b"x");
    let said = desk.run(&["seed", "t.torrent", "one"]).expect(2).err;
    assert!(said.contains("hint: name the folder"), "{said}");
}

#[test]
fn an_output_folder_that_is_a_file_is_told_apart() {
    let desk = Desk::new();
    one_file(&desk, 50_000);
    desk.write("x.iso", b"x");
    let outcome = desk
        .run(&["get", "-e", "-o", "x.iso", "f.torrent"])
        .expect(2);
    assert!(outcome.err.contains("takes a folder"), "{}", outcome.err);
}

#[test]
fn an_address_of_another_machine_cannot_be_bound_to() {
    let desk = Desk::new();
    one_file(&desk, 50_000);
    for port in ["0", "6881"] {
        // 192.0.2.0/24 is for documentation (RFC 5737): no machine has it.
        let words = ["get", "--port", port, "--bind", "192.0.2.1", "f.torrent"];
        let outcome = desk.run(&words).expect(2);
        assert!(outcome.err.contains("192.0.2.1"), "{}", outcome.err);
        assert!(outcome.err.contains("--bind takes"), "{}", outcome.err);
    }
}

#[test]
fn a_trace_that_could_not_be_written_is_told_and_changes_no_status() {
    let desk = Desk::new();
    let bytes = one_file(&desk, 50_000);
    let (_seed, address) = seed(&desk, "f.torrent");
    let words = get(
        &["-e", "-q", "--peer", &address, "--trace", "/dev/full"],
        "f.torrent",
    );
    let outcome = desk.run(&words).expect(0);
    assert!(outcome.err.contains("not whole"), "{}", outcome.err);
    assert!(desk.read("copy/f.bin") == bytes);
}

/// Runs the binary as somebody who is not root: root reads everything.
fn as_nobody(desk: &Desk, words: &[&str]) -> std::process::Output {
    use std::os::unix::process::CommandExt;
    let binary = desk.path("ropewalk");
    std::fs::copy(env!("CARGO_BIN_EXE_ropewalk"), &binary).unwrap();
    allow(desk, ".", 0o755);
    let mut command = std::process::Command::new(binary);
    command.args(words).current_dir(desk.path("."));
    if rustix::process::geteuid().is_root() {
        command.uid(65_534).gid(65_534);
    }
    command.output().unwrap()
}

fn allow(desk: &Desk, name: &str, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(desk.path(name), mode).unwrap();
}

#[test]
fn data_that_may_not_be_read_is_neither_missing_nor_in_the_way() {
    let desk = Desk::new();
    one_file(&desk, 50_000);
    allow(&desk, "data/f.bin", 0o000);
    let mut serve = vec!["seed", "f.torrent", "data"];
    serve.extend(LOOPBACK);
    let mut fetch = vec!["get", "-e", "-o", "data", "f.torrent"];
    fetch.extend(LOOPBACK);
    for words in [serve, fetch] {
        let outcome = as_nobody(&desk, &words);
        let told = String::from_utf8(outcome.stderr).unwrap();
        assert_eq!(outcome.status.code(), Some(2), "{told}");
        assert!(told.contains("Permission denied"), "{told}");
        assert!(!told.contains("none of its"), "{told}");
    }
}

#[test]
fn data_that_is_whole_and_may_not_be_written_to_is_complete() {
    let desk = Desk::new();
    one_file(&desk, 50_000);
    allow(&desk, "data/f.bin", 0o444);
    let mut fetch = vec!["get", "-e", "-o", "data", "f.torrent"];
    fetch.extend(LOOPBACK);
    let outcome = as_nobody(&desk, &fetch);
    let told = String::from_utf8(outcome.stderr).unwrap();
    assert_eq!(outcome.status.code(), Some(0), "{told}");
    assert!(told.contains("everything is here"), "{told}");
}

#[test]
fn a_folder_that_may_be_written_to_and_not_read_takes_one_file_and_many() {
    for count in [1, 70] {
        let desk = Desk::new();
        let names: Vec<String> = (0..count).map(|number: u32| number.to_string()).collect();
        let files = names.iter().map(|name| (&name[..], noise(5, 1000)));
        let files: Vec<_> = files.collect();
        for (name, bytes) in &files {
            desk.write(format!("data/many/{name}"), bytes);
        }
        desk.write("many.torrent", &folder("many", &files, 32768).compose());
        let (_seed, address) = seed(&desk, "many.torrent");
        std::fs::create_dir_all(desk.path("copy")).unwrap();
        allow(&desk, "copy", 0o333);
        let outcome = as_nobody(&desk, &get(&["-e", "--peer", &address], "many.torrent"));
        let told = String::from_utf8(outcome.stderr).unwrap();
        assert_eq!(outcome.status.code(), Some(0), "{told}");
        assert!(!told.contains("ermission denied"), "{told}");
        allow(&desk, "copy", 0o755);
        assert!(desk.read("copy/many/0") == desk.read("data/many/0"));
    }
}

#[test]
fn the_limits_of_sharing_hold_for_a_seed_with_holes() {
    let desk = Desk::new();
    let mut bytes = one_file(&desk, 50_000);
    bytes[0] ^= 1;
    desk.write("data/f.bin", &bytes);
    let mut words = vec!["seed", "--seed-time", "0.01", "f.torrent", "data"];
    words.extend(LOOPBACK);
    let outcome = desk.run(&words).expect(0);
    assert!(outcome.err.contains("missing or wrong"), "{}", outcome.err);
    let told = "sharing the rest for 0.6 s, Ctrl-C leaves";
    assert!(outcome.err.contains(told), "{}", outcome.err);
}
