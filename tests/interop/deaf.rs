//! A machine that does not hear itself: the loopback interface is down.

use std::process::{Command, Output};

/// Runs ropewalk in a network namespace of its own, where nobody has raised the loopback interface.
fn deaf(words: &[&str]) -> Output {
    let mut command = Command::new("timeout");
    command.args(["60", "unshare", "--net", env!("CARGO_BIN_EXE_ropewalk")]);
    command.args(words).output().unwrap()
}

#[test]
#[ignore = "needs root"]
fn lab_and_share_say_at_once_that_nothing_reaches_this_machine() {
    let book = file!();
    for words in [&["lab", "-q"][..], &["share", book]] {
        let output = deaf(words);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("nothing reaches 127.0.0.1"), "{said}");
        assert!(said.contains("is the loopback interface up?"), "{said}");
    }
}
