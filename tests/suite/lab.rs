//! The lab as a learner runs it.

use crate::desk::{Desk, is_calm};

#[test]
fn the_lab_ends_with_two_equal_books_and_leaves_nothing_behind() {
    let desk = Desk::new();
    let outcome = desk.run(&["lab"]).expect(0);
    assert!(is_calm(&outcome.out), "{}", outcome.out);
    assert!(
        outcome.out.contains("equal, byte for byte"),
        "{}",
        outcome.out
    );
    assert_eq!(std::fs::read_dir(desk.path(".")).unwrap().count(), 0);
}

#[test]
fn the_lab_as_json_tells_both_sides_and_the_comparison() {
    let desk = Desk::new();
    let events = desk.run(&["lab", "--json"]).expect(0).events();
    let compared = events
        .iter()
        .find(|event| event["event"] == "compared")
        .unwrap();
    assert_eq!(compared["equal"], true);
    assert_eq!(compared["seed"], compared["leecher"]);
    for who in ["seed", "leecher"] {
        assert!(
            events
                .iter()
                .any(|event| event["who"] == who && event["event"] == "stopped"),
            "{who} never stopped"
        );
    }
}

#[test]
fn a_lab_without_a_folder_says_which() {
    let desk = Desk::new();
    let outcome = desk
        .command(&["lab"])
        .env("TMPDIR", "/nowhere/at/all")
        .output()
        .unwrap();
    assert_eq!(outcome.status.code(), Some(2));
    assert!(
        String::from_utf8(outcome.stderr)
            .unwrap()
            .contains("TMPDIR")
    );
}
