//! Where the output goes: nowhere, into a full disk, to a reader that has left or has stopped reading.

use crate::desk::{
    Desk, end_of, full_pipe, noise, single, stopped_terminal, wait_for_handlers, wait_until_read,
};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::io::Read;
use std::process::{Command, Stdio};

fn show(desk: &Desk, out: Stdio, err: Stdio) -> std::process::ExitStatus {
    Command::new(env!("CARGO_BIN_EXE_ropewalk"))
        .args(["show", "x.torrent"])
        .current_dir(desk.path("."))
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .status()
        .unwrap()
}

fn desk() -> Desk {
    let desk = Desk::new();
    desk.write("x.torrent", &single("x", b"x", 16384).compose());
    desk
}

#[test]
fn a_full_standard_output_is_status_2() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    assert_eq!(show(&desk(), full.into(), Stdio::null()).code(), Some(2));
}

#[test]
fn a_reader_that_has_left_is_no_reason_to_shout() {
    let desk = desk();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let (mut heard, err) = std::io::pipe().unwrap();
    assert_eq!(show(&desk, writer.into(), err.into()).code(), Some(2));
    let mut text = String::new();
    std::io::Read::read_to_string(&mut heard, &mut text).unwrap();
    assert_eq!(text, "");
}

#[test]
fn a_full_standard_error_changes_nothing() {
    let desk = Desk::new();
    let mut odd = single("x", b"x", 16384).compose();
    odd.push(b'!');
    desk.write("x.torrent", &odd);
    let full = || File::options().write(true).open("/dev/full").unwrap();
    assert_eq!(show(&desk, Stdio::null(), full().into()).code(), Some(0));
    desk.write("x.torrent", b"none");
    assert_eq!(show(&desk, Stdio::null(), full().into()).code(), Some(2));
}

#[test]
fn an_environment_without_anything_will_do() {
    let desk = desk();
    desk.command(&["show", "x.torrent"])
        .env_clear()
        .assert()
        .code(0);
}

#[test]
fn a_reader_that_has_stopped_reading_does_not_keep_get_from_leaving_in_order() {
    let desk = Desk::new();
    let bytes = noise(1, 1 << 20);
    desk.write("f.torrent", &single("f.bin", &bytes, 32_768).compose());
    desk.write("data/f.bin", &bytes);
    let mut seed = desk.start(&[
        "seed",
        "--json",
        "--no-tracker",
        "--bind=127.0.0.1",
        "--port=0",
        "--up=100K",
        "f.torrent",
        "data",
    ]);
    let port = seed.wait_for("listening")["port"].as_u64().unwrap();
    let (_reader, out) = full_pipe();
    let mut get = desk
        .signalled()
        .args(["get", "--json", "--no-tracker", "--bind=127.0.0.1"])
        .args(["--port=0", "-o", "copy", "f.torrent", "--peer"])
        .arg(format!("127.0.0.1:{port}"))
        .stdout(out)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while seed.wait_for("progress")["uploaded"].as_u64().unwrap() < 200_000 {}
    wait_for_handlers(&get);
    kill_process(Pid::from_child(&get), Signal::INT).unwrap();
    // It parts with the seed and writes down what it has.
    while seed.wait_for("peer")["joined"] == true {}
    let mut said = String::new();
    let mut err = get.stderr.take().unwrap();
    assert_eq!(end_of(get), Some(130));
    err.read_to_string(&mut said).unwrap();
    assert!(said.contains("nobody reads standard output"), "{said}");
    assert!(desk.path("copy/.f.bin.ropewalk").exists());
}

#[test]
fn a_reader_that_has_stopped_reading_keeps_no_command_from_ending() {
    let loopback = ["--bind=127.0.0.1", "--port=0"];
    let commands: [&[&str]; 7] = [
        &["seed", "--json", "f.torrent", "data"],
        // Nothing is written to standard output but with --json.
        &["seed", "f.torrent", "data"],
        &["share", "--json", "--tracker-port=0", "data/f.bin"],
        &["create", "-o", "-", "data/f.bin"],
        &["create", "-o", "other.torrent", "data/f.bin"],
        &["tracker", "--http=127.0.0.1:0", "--udp=127.0.0.1:0"],
        &["lab", "--json", "--up=1K"],
    ];
    std::thread::scope(|scope| {
        for words in commands {
            scope.spawn(move || {
                let desk = Desk::new();
                let bytes = noise(1, 100_000);
                desk.write("f.torrent", &single("f.bin", &bytes, 32_768).compose());
                desk.write("data/f.bin", &bytes);
                let (_reader, out) = full_pipe();
                let mut command = desk.signalled();
                command.args(words);
                if ["seed", "share"].contains(&words[0]) {
                    command.args(loopback);
                }
                let err = out.try_clone().unwrap();
                let run = command.stdout(out).stderr(err).spawn().unwrap();
                wait_for_handlers(&run);
                kill_process(Pid::from_child(&run), Signal::TERM).unwrap();
                let code = end_of(run);
                // Nothing of a result is lost with what this one says, and it may have been at work already.
                let talk = words == ["seed", "f.torrent", "data"];
                assert!(code == Some(143) || talk && code == Some(0), "{words:?}");
            });
        }
    });
}

#[test]
fn a_terminal_that_was_stopped_keeps_no_bar_from_leaving_in_order() {
    let commands: [&[&str]; 2] = [
        &[
            "get",
            "--no-tracker",
            "--bind=127.0.0.1",
            "--port=0",
            "f.torrent",
        ],
        &["create", "-o", "other.torrent", "data/f.bin"],
    ];
    std::thread::scope(|scope| {
        for words in commands {
            scope.spawn(move || {
                let desk = Desk::new();
                let bytes = noise(1, 1 << 20);
                desk.write("f.torrent", &single("f.bin", &bytes, 16_384).compose());
                desk.write("data/f.bin", &bytes);
                let (_viewer, terminal) = stopped_terminal();
                let mut command = desk.signalled();
                command.args(words).env("TERM", "xterm");
                command.stdout(Stdio::null()).stderr(terminal);
                let run = command.spawn().unwrap();
                wait_for_handlers(&run);
                // All hashed, it has only the torrent to save.
                if words[0] == "create" {
                    wait_until_read(&run, bytes.len() as u64);
                }
                kill_process(Pid::from_child(&run), Signal::INT).unwrap();
                assert_eq!(end_of(run), Some(130), "{words:?}");
                assert!(!desk.path("other.torrent").exists());
            });
        }
    });
}

#[test]
fn a_reader_that_comes_late_gets_every_line() {
    let desk = desk();
    desk.write("data/x", b"x");
    let (mut reader, out) = full_pipe();
    let tracker = desk
        .signalled()
        .args(["tracker", "--http=127.0.0.1:0", "--udp=127.0.0.1:0"])
        .stdout(out)
        .spawn()
        .unwrap();
    wait_for_handlers(&tracker);
    kill_process(Pid::from_child(&tracker), Signal::TERM).unwrap();
    let mut text = Vec::new();
    reader.read_to_end(&mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    for part in ["serving http://", "serving udp://", "stopped; "] {
        assert!(text.contains(part), "{part}: {text:?}");
    }
    assert_eq!(end_of(tracker), Some(0));
}
