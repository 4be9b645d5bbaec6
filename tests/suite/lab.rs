//! The lab as a learner runs it, with books short enough for a test.

use crate::desk::{Desk, is_calm, noise};
use serde_json::Value;

/// Two dozen pages of one block.
fn desk() -> Desk {
    let desk = Desk::new();
    desk.write("little book.bin", &noise(5, 24 * 16_384 - 7));
    desk
}

/// Runs the lab with a little book and a quick line.
fn lab(desk: &Desk, more: &[&str], code: i32) -> Vec<Value> {
    let words = ["lab", "--json", "--file", "little book.bin", "--up", "1M"];
    let words: Vec<&str> = words.iter().chain(more).copied().collect();
    desk.run(&words).expect(code).events()
}

fn result(events: &[Value]) -> &Value {
    let result = events.iter().find(|event| event["event"] == "result");
    result.unwrap_or_else(|| panic!("no result: {events:#?}"))
}

/// Those of the result with this part.
fn with_role<'a>(result: &'a Value, role: &str) -> Vec<&'a Value> {
    let members = result["members"].as_array().unwrap().iter();
    members.filter(|member| member["role"] == role).collect()
}

/// What lies on the desk.
fn names(desk: &Desk) -> Vec<String> {
    let entries = std::fs::read_dir(desk.path(".")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

#[test]
fn a_table_of_six_ends_with_six_equal_books_and_leaves_nothing_behind() {
    let desk = desk();
    let events = lab(&desk, &[], 0);
    let result = result(&events);
    assert_eq!(result["verdict"], "everybody");
    assert_eq!(with_role(result, "seed").len(), 1);
    let leechers = with_role(result, "leecher");
    assert_eq!(leechers.len(), 6);
    assert!(
        leechers
            .iter()
            .all(|it| it["pieces_have"] == 24 && it["complete"].is_f64())
    );
    let compared = events.iter().filter(|event| event["event"] == "compared");
    assert_eq!(compared.filter(|event| event["equal"] == true).count(), 6);
    assert_eq!(std::fs::read_dir(desk.path(".")).unwrap().count(), 1);
}

#[test]
fn what_a_lab_that_was_killed_leaves_goes_with_the_next_one() {
    let desk = desk();
    let words = ["lab", "--json", "--file", "little book.bin", "--up", "1K"];
    let mut killed = desk.start(&words);
    killed.wait_for("written");
    drop(killed);
    assert_eq!(names(&desk).len(), 2);
    lab(&desk, &[], 0);
    assert_eq!(names(&desk), ["little book.bin"]);
}

#[test]
fn pages_are_copied_from_each_other_and_the_figures_agree() {
    let events = lab(&desk(), &[], 0);
    let came = |from: &dyn Fn(&Value) -> bool| {
        let came = events.iter().filter(|event| event["event"] == "came");
        came.filter(|event| from(&event["from"])).count()
    };
    assert_eq!(came(&|_| true), 6 * 24);
    assert!(came(&|from| from.is_string() && from != "Seed") > 0);
    let result = result(&events);
    let given: u64 = result["given"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|row| row.as_array().unwrap())
        .map(|bytes| bytes.as_u64().unwrap())
        .sum();
    assert!(given >= 6 * (24 * 16_384 - 7));
}

#[test]
fn the_same_number_has_the_same_cast_and_the_same_book() {
    let desk = Desk::new();
    let story = |number: &str| {
        let words = [
            "lab",
            "--json",
            "--up",
            "0",
            "--peers",
            "3",
            "--free-riders",
            "1",
        ];
        let words: Vec<&str> = words.into_iter().chain(["--rng", number]).collect();
        let events = desk.run(&words).expect(0).events();
        let told = |name| events.iter().find(|event| event["event"] == name).unwrap();
        let members = result(&events)["members"].as_array().unwrap().iter();
        let cast: Vec<_> = members
            .map(|it| (it["who"].clone(), it["role"].clone()))
            .collect();
        (told("described")["info_hash"].clone(), cast)
    };
    let (one, again, other) = (story("3"), story("3"), story("4"));
    assert_eq!(one, again);
    assert!(one.0 != other.0);
}

#[test]
fn liars_are_found_out_and_everybody_has_the_book_all_the_same() {
    // Slow enough for the liars to be asked before the book is there.
    let words = ["lab", "--json", "--file", "little book.bin", "--up", "128K"];
    let words: Vec<&str> = words
        .into_iter()
        .chain(["--liars", "2", "--peers", "3"])
        .collect();
    let events = desk().run(&words).expect(0).events();
    let result = result(&events);
    assert_eq!(result["verdict"], "everybody");
    let liars = with_role(result, "liar");
    assert_eq!(liars.len(), 2);
    let lied: u64 = liars
        .iter()
        .map(|it| it["uploaded"].as_u64().unwrap())
        .sum();
    let wrong = events
        .iter()
        .filter(|event| event["event"] == "piece" && event["good"] == false);
    let wrong = wrong.count() as u64;
    let told: u64 = with_role(result, "leecher")
        .iter()
        .map(|it| it["wrong_pieces"].as_u64().unwrap())
        .sum();
    assert_eq!(wrong, told);
    assert!(lied > 0 && wrong > 0, "{result}");
}

#[test]
fn who_vanishes_says_nothing_to_the_tracker() {
    let events = lab(&desk(), &["--peers", "8", "--leave", "4"], 0);
    // Whoever has all at once never has half, and stays.
    let with_role = with_role(result(&events), "leaver");
    let left = with_role.iter().filter(|it| it["left"].is_f64());
    let leavers: Vec<&Value> = left.map(|it| &it["who"]).collect();
    assert!(!leavers.is_empty(), "nobody left");
    for who in leavers {
        let of_it = || events.iter().filter(|it| it["who"] == *who);
        let mut after = of_it().skip_while(|it| it["event"] != "left");
        assert!(after.next().is_some(), "{who} left");
        assert!(after.all(|it| it["event"] != "tracker"), "{who}");
        assert_eq!(of_it().filter(|it| it["event"] == "stopped").count(), 1);
    }
}

#[test]
fn riders_and_leavers_are_named_and_the_others_have_the_book() {
    let events = lab(
        &desk(),
        &["--peers", "5", "--free-riders", "2", "--leave", "1"],
        0,
    );
    let result = result(&events);
    assert_eq!(with_role(result, "leecher").len(), 2);
    assert!(
        with_role(result, "leecher")
            .iter()
            .all(|it| it["complete"].is_f64())
    );
    assert_eq!(with_role(result, "free rider").len(), 2);
    let leaver = with_role(result, "leaver");
    // Whoever has half of it only when all others are done stays to the end.
    assert!(leaver[0]["left"].is_null() || leaver[0]["pieces_have"].as_u64() >= Some(12));
}

#[test]
fn a_seed_that_leaves_too_soon_takes_the_book_with_it() {
    let desk = desk();
    let words = [
        "lab",
        "--file",
        "little book.bin",
        "--up",
        "16K",
        "--peers",
        "2",
        "--no-seed-after",
        "0.5",
    ];
    let outcome = desk.run(&words).expect(2);
    assert!(outcome.err.contains("the book is lost"), "{outcome:?}");
    assert!(outcome.err.contains("--no-seed-after"), "{outcome:?}");
}

#[test]
fn people_read_the_ideas_and_the_figures_in_plain_ascii_without_colours() {
    let desk = desk();
    let mut command = desk.command(&["lab", "--file", "little book.bin", "--up", "1M"]);
    let output = command.env("LC_ALL", "C").output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let out = String::from_utf8(output.stdout).unwrap();
    assert!(is_calm(&out) && !out.contains('\u{1b}'), "{out}");
    for idea in [
        "A tracker opens",
        "has page",
        "the fluid limit",
        "plain HTTP",
        "equal, byte for byte",
    ] {
        assert!(out.contains(idea), "{idea}: {out}");
    }
    assert!(!out.contains('·') && !out.contains('█'), "{out}");
}

#[test]
fn the_report_is_one_page_and_names_are_text_in_it() {
    let desk = Desk::new();
    let name = "<b>&\"book\"";
    desk.write(name, &noise(6, 50_000));
    desk.write("lab.html", b"of yesterday");
    let words = [
        "lab", "-q", "--file", name, "--up", "1M", "--peers", "2", "--report", "lab.html",
    ];
    let outcome = desk.run(&words).expect(0);
    assert!(outcome.out.starts_with(" who "), "{outcome:?}");
    let page = String::from_utf8(desk.read("lab.html")).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>") && page.trim_end().ends_with("</html>"));
    assert!(page.contains("&lt;b&gt;&amp;&quot;book&quot;") && !page.contains("<b>&"));
    for way in ["<script", "http:", "https:", "src=", "href="] {
        assert!(!page.contains(way), "{way}");
    }
    assert_eq!(names(&desk), [name, "lab.html"]);
}

#[test]
fn a_report_goes_down_a_pipe_as_well() {
    let desk = desk();
    let words = ["lab", "-q", "--file", "little book.bin", "--up", "1M"];
    let words = [&words[..], &["--report", "/dev/stdout"]].concat();
    let outcome = desk.run(&words).expect(0);
    assert!(outcome.out.contains("</html>"), "{outcome:?}");
}

#[test]
fn a_report_that_cannot_be_written_is_refused_before_the_lab() {
    let words = [
        "lab",
        "--file",
        "little book.bin",
        "--report",
        "/proc/lab.html",
    ];
    let outcome = desk().run(&words).expect(2);
    assert!(outcome.err.contains("/proc/lab.html"), "{outcome:?}");
    assert!(outcome.out.is_empty(), "{outcome:?}");
}

#[test]
fn the_report_never_takes_the_place_of_the_book() {
    let desk = desk();
    let book = desk.read("little book.bin");
    std::os::unix::fs::symlink("little book.bin", desk.path("link")).unwrap();
    std::fs::hard_link(desk.path("little book.bin"), desk.path("twin")).unwrap();
    for report in ["little book.bin", "./little book.bin", "link", "twin"] {
        let words = ["lab", "--file", "little book.bin", "--report", report];
        let outcome = desk.run(&words).expect(2);
        assert!(
            outcome.err.contains("it is the book"),
            "{report}: {outcome:?}"
        );
        assert!(outcome.out.is_empty(), "{report}: {outcome:?}");
        assert_eq!(desk.read("little book.bin"), book, "{report}");
    }
}

#[test]
fn a_lab_that_never_begins_leaves_the_report_of_another_day() {
    let desk = Desk::new();
    desk.write("empty", b"");
    desk.write("lab.html", b"of yesterday");
    for file in ["none", "empty", "."] {
        for report in ["lab.html", "new.html"] {
            let words = ["lab", "--file", file, "--report", report];
            desk.run(&words).expect(2);
            assert_eq!(desk.read("lab.html"), b"of yesterday", "{file}");
            assert_eq!(names(&desk), ["empty", "lab.html"], "{file} {report}");
        }
    }
}

#[test]
fn a_full_disc_is_not_taken_for_a_missing_folder() {
    let desk = desk();
    let words = ["lab", "-q", "--file", "little book.bin", "--up", "1M"];
    let words = [&words[..], &["--report", "/dev/full"]].concat();
    let outcome = desk.run(&words).expect(2);
    assert!(outcome.err.contains("No space left"), "{outcome:?}");
    assert!(outcome.err.contains("make room"), "{outcome:?}");
    assert!(!outcome.err.contains("folder exists"), "{outcome:?}");
}

#[test]
fn an_interrupted_lab_says_so_and_cleans_up() {
    let desk = desk();
    std::fs::create_dir(desk.path("tmp")).unwrap();
    desk.write("lab.html", b"of yesterday");
    let mut lab = desk
        .signalled()
        .args(["lab", "--json", "--file", "little book.bin", "--up", "1K"])
        .args(["--report", "lab.html"])
        .env("TMPDIR", desk.path("tmp"))
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(lab.stdout.take().unwrap()));
    assert!(lines.any(|line| line.unwrap().contains("\"leecher\"")));
    let pid = rustix::process::Pid::from_child(&lab);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let last = lines.map_while(Result::ok).last().unwrap();
    assert!(last.contains("\"interrupted\""), "{last}");
    assert_eq!(lab.wait().unwrap().code(), Some(130));
    assert_eq!(std::fs::read_dir(desk.path("tmp")).unwrap().count(), 0);
    assert_eq!(desk.read("lab.html"), b"of yesterday");
    assert_eq!(names(&desk), ["lab.html", "little book.bin", "tmp"]);
}

#[test]
fn several_seeds_and_one_reader_are_spoken_of_as_such() {
    let desk = desk();
    let small = ["--file", "little book.bin", "--up", "1M"];
    let said = |more: &[&str]| {
        let words = [&["lab"], &small[..], more].concat();
        let out = desk.run(&words).expect(0).out;
        // Lines are broken where they are full.
        out.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let seeds = said(&["--seeds", "2", "--peers", "2", "--free-riders", "1"]);
    for sentence in [
        "Seed sits down with the book.",
        "Seed 2 sits down with another copy.",
        "the seeds' as well",
        "giving 32.0 KiB/s at most",
        "the seeds' lines alone carry",
    ] {
        assert!(seeds.contains(sentence), "{sentence}: {seeds}");
    }
    assert!(!seeds.contains("the seed's"), "{seeds}");
    let one = said(&["--peers", "1"]);
    assert!(one.contains("It asks the tracker who is here"), "{one}");
    assert!(
        !one.contains("Each asks") && !one.contains("some reader"),
        "{one}"
    );
}

#[test]
fn plans_that_make_no_sense_are_told_before_anybody_sits_down() {
    let desk = desk();
    desk.write("empty", b"");
    let table: [(&[&str], i32, &str); 12] = [
        (&["--peers", "0"], 1, "--peers takes a number from 1 to 50"),
        (&["--peers", "51"], 1, "--peers"),
        (&["--seeds", "0"], 1, "--seeds takes a number from 1"),
        (&["--up", "fast"], 1, "--up takes bytes a second"),
        (&["--rng", "-1"], 1, "--rng takes a whole number"),
        (
            &["--peers", "3", "--free-riders", "2", "--leave", "1"],
            1,
            "nobody stays",
        ),
        (&["--no-seed-after", "0"], 1, "above 0"),
        (&["--report", ""], 1, "--report takes a file"),
        (
            &["--report", "no/such/folder.html"],
            2,
            "no/such/folder.html",
        ),
        (&["--file", "none"], 2, "none"),
        (&["--file", "empty"], 2, "it is empty"),
        (&["--file", "."], 2, "it is no file"),
    ];
    for (words, code, sentence) in table {
        let words: Vec<&str> = std::iter::once("lab")
            .chain(words.iter().copied())
            .collect();
        let outcome = desk.run(&words).expect(code);
        assert!(outcome.err.contains(sentence), "{words:?}: {outcome:?}");
        assert!(outcome.out.is_empty(), "{words:?}: {outcome:?}");
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
