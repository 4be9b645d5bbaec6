//! The lab's report in a browser: it is read, drawn, and fetches nothing.

use std::path::Path;
use std::process::{Command, Output};

/// Debian's chromium without a screen, given a minute.
fn chromium(desk: &Path, words: &[&str]) -> Output {
    let profile = format!("--user-data-dir={}", desk.join("profile").display());
    let output = Command::new("timeout")
        .args([
            "60",
            "chromium",
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
        ])
        .args(["--hide-scrollbars", "--window-size=1000,2600", &profile])
        .args(words)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    output
}

fn lab(desk: &Path, report: &str) {
    let output = Command::new(env!("CARGO_BIN_EXE_ropewalk"))
        .args([
            "lab",
            "-q",
            "--up",
            "2M",
            "--free-riders",
            "1",
            "--liars",
            "1",
            "--report",
            report,
        ])
        .current_dir(desk)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
#[ignore = "needs chromium"]
fn a_browser_shows_the_report_whole_and_well_formed() {
    let desk = tempfile::tempdir().unwrap();
    lab(desk.path(), "lab.html");
    let address = format!("file://{}", desk.path().join("lab.html").display());
    let output = chromium(desk.path(), &["--dump-dom", &address]);
    let seen = String::from_utf8(output.stdout).unwrap();
    let written = std::fs::read_to_string(desk.path().join("lab.html")).unwrap();
    for part in [
        "<h2>How long it took",
        "<h2>The pages over time",
        "<h2>Who gave what",
        "<h2>Whom each served",
        "<h2>In the end",
    ] {
        assert!(seen.contains(part), "{part}");
    }
    // What the parser had to mend or throw away would be counted differently.
    for tag in ["<svg ", "<rect ", "<tr>", "<td", "<title>"] {
        assert_eq!(
            seen.matches(tag).count(),
            written.matches(tag).count(),
            "{tag}"
        );
    }
    // How long it took, six leechers' pages, and whom at least each leecher and the seed served.
    assert!(seen.matches("<svg ").count() >= 1 + 6 + 2);
}

#[test]
#[ignore = "needs chromium"]
fn the_report_has_colours_on_a_light_page() {
    let desk = tempfile::tempdir().unwrap();
    lab(desk.path(), "lab.html");
    let address = format!("file://{}", desk.path().join("lab.html").display());
    let picture = desk.path().join("lab.png");
    let shot = format!("--screenshot={}", picture.display());
    chromium(desk.path(), &[&shot, &address]);
    let bytes = std::fs::read(&picture).unwrap();
    assert!(bytes.starts_with(b"\x89PNG\r\n\x1a\n"));
    let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    assert_eq!((number(16), number(20)), (1_000, 2_600));
    // An empty page of this size is some 20 kB, one with text and drawings ten times as much.
    assert!(bytes.len() > 60_000, "{} bytes", bytes.len());
}
