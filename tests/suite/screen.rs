//! Where the output goes: nowhere, into a full disk, to a reader that has left.

use crate::desk::{Desk, single};
use std::fs::File;
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
