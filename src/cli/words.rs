//! The words of a command line on their way to argh, which takes UTF-8 only, knows `--opt value` but
//! not `--opt=value` or `-abc`, and takes anything with a leading dash for an option. [`translate`]
//! splits what has to be split and disguises every value and name that argh could misread; [`Word`]
//! takes the disguise off, [`sentence`] turns argh's complaints into ours.

use super::shown::shown;
use std::ffi::{OsStr, OsString};
use std::fmt::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// The options that take a value, of all commands, by their long name and their letter.
const VALUED: &[(&str, Option<u8>)] = &[
    ("--output", Some(b'o')),
    ("--port", None),
    ("--seed-ratio", None),
    ("--seed-time", None),
    ("--timeout", None),
    ("--peer", None),
    ("--max-peers", None),
    ("--bind", None),
    ("--on-complete", None),
    ("--trace", None),
    ("--tracker", None),
    ("--webseed", None),
    ("--piece-length", None),
    ("--comment", None),
    ("--source", None),
    ("--name", None),
    ("--exclude", None),
    ("--http", None),
    ("--udp", None),
    ("--interval", None),
    ("--allow", None),
    ("--max-torrents", None),
    ("--max-per-ip", None),
    ("--up", None),
    ("--down", None),
    ("--only", None),
    ("--tracker-port", None),
    ("--peers", None),
    ("--seeds", None),
    ("--rng", None),
    ("--file", None),
    ("--free-riders", None),
    ("--liars", None),
    ("--leave", None),
    ("--no-seed-after", None),
    ("--report", None),
];

/// A value or a name as the user typed it, whatever bytes it has. Among argh's strings one that is
/// not plain stands as a NUL, which no argument can contain, and its bytes in hex.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word(pub OsString);

impl argh::FromArgValue for Word {
    fn from_arg_value(text: &str) -> Result<Word, String> {
        Ok(Word(match text.strip_prefix('\0') {
            Some(hex) => OsString::from_vec(bytes_of(hex)),
            None => OsString::from(text),
        }))
    }
}

impl Word {
    /// The word as text; bytes that are not UTF-8 become the replacement character.
    pub fn text(&self) -> std::borrow::Cow<'_, str> {
        self.0.to_string_lossy()
    }

    /// The word as one of argh's strings.
    fn disguise(word: &OsStr) -> String {
        match word.to_str() {
            Some(plain) if !plain.starts_with('-') => plain.to_owned(),
            _ => {
                let mut hex = String::from("\0");
                for byte in word.as_bytes() {
                    let _ = write!(hex, "{byte:02x}");
                }
                hex
            }
        }
    }
}

fn bytes_of(hex: &str) -> Vec<u8> {
    hex.as_bytes()
        .chunks(2)
        .filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

/// What the user typed as what argh understands; an error is a sentence.
pub fn translate(words: &[OsString]) -> Result<Vec<String>, String> {
    let mut out = Vec::with_capacity(words.len());
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let bytes = word.as_bytes();
        if bytes == b"--" {
            out.extend(words.by_ref().map(|name| Word::disguise(name)));
        } else if bytes.starts_with(b"--") {
            let cut = bytes.iter().position(|&byte| byte == b'=');
            let (name, value) = match cut {
                Some(at) => (&bytes[..at], Some(&bytes[at + 1..])),
                None => (bytes, None),
            };
            let name = String::from_utf8_lossy(name).into_owned();
            let takes_value = VALUED.iter().any(|(long, _)| *long == name);
            match (takes_value, value) {
                (true, Some(value)) => {
                    out.push(name);
                    out.push(Word::disguise(OsStr::from_bytes(value)));
                }
                (true, None) => {
                    out.push(name);
                    out.extend(words.next().map(|value| Word::disguise(value)));
                }
                // An unknown option with a value is unknown first of all: argh says so.
                (false, Some(_)) if is_switch(&name) => {
                    return Err(format!("the option {name} takes no value"));
                }
                (false, _) => out.push(name),
            }
        } else if bytes.len() > 1 && bytes[0] == b'-' {
            letters(&bytes[1..], &mut words, &mut out);
        } else {
            out.push(Word::disguise(word));
        }
    }
    Ok(out)
}

/// `-qo DIR` and `-qoDIR` as `-q -o DIR`.
fn letters<'a>(
    mut cluster: &[u8],
    words: &mut impl Iterator<Item = &'a OsString>,
    out: &mut Vec<String>,
) {
    while let Some((&letter, rest)) = cluster.split_first() {
        if VALUED.iter().any(|(_, short)| *short == Some(letter)) {
            out.push(format!("-{}", char::from(letter)));
            let value = rest.strip_prefix(b"=").unwrap_or(rest);
            if rest.is_empty() {
                out.extend(words.next().map(|value| Word::disguise(value)));
            } else {
                out.push(Word::disguise(OsStr::from_bytes(value)));
            }
            return;
        }
        if !letter.is_ascii_alphanumeric() {
            out.push(format!("-{}", String::from_utf8_lossy(cluster)));
            return;
        }
        out.push(format!("-{}", char::from(letter)));
        cluster = rest;
    }
}

/// The options without a value, of all commands.
fn is_switch(name: &str) -> bool {
    const SWITCHES: &[&str] = &[
        "--exit",
        "--no-tracker",
        "--check",
        "--overwrite",
        "--json",
        "--quiet",
        "--verbose",
        "--help",
        "--private",
        "--no-date",
        "--no-creator",
        "--include-hidden",
        "--sequential",
    ];
    SWITCHES.contains(&name)
}

/// argh's paragraph as one sentence of ours, without disguised words.
pub fn sentence(paragraph: &str) -> String {
    let mut text = String::new();
    let mut rest = paragraph;
    while let Some(at) = rest.find('\0') {
        text.push_str(&rest[..at]);
        let hex = &rest[at + 1..];
        let end = hex
            .find(|letter: char| !letter.is_ascii_hexdigit())
            .unwrap_or(hex.len());
        text.push_str(&String::from_utf8_lossy(&bytes_of(&hex[..end])));
        rest = &hex[end..];
    }
    text.push_str(rest);
    let text = text.trim();
    let sentence = if let Some(what) = text.strip_prefix("Unrecognized argument: ") {
        let (what, suggestion) = what.split_once(". Did you mean ").unwrap_or((what, ""));
        let what = what.trim_matches('"');
        match (what.starts_with('-'), suggestion.trim_matches(['"', '?'])) {
            (false, _) => format!("one name too many: {what}"),
            (true, "") => format!("there is no option {what}"),
            (true, near) => format!("there is no option {what} (did you mean {near}?)"),
        }
    } else if let Some(names) = text.strip_prefix("Required positional arguments not provided:") {
        format!("{} is missing", names.trim())
    } else if let Some(option) = text.strip_prefix("No value provided for option ") {
        format!(
            "the option {} needs a value",
            option.trim_matches(['\'', '.'])
        )
    } else if text.contains("duplicate values") {
        let option = text.split('\'').nth(1).unwrap_or("an option");
        format!("the option {option} was given twice")
    } else {
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    shown(&sentence)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use argh::FromArgValue;

    fn words(texts: &[&str]) -> Vec<OsString> {
        texts.iter().map(OsString::from).collect()
    }

    fn undone(text: &str) -> OsString {
        Word::from_arg_value(text).unwrap().0
    }

    #[test]
    fn values_behind_an_equals_sign_are_split_off() {
        let out = translate(&words(&["--port=1", "-o=x", "-qe", "-odir", "a=b"])).unwrap();
        assert_eq!(
            out,
            ["--port", "1", "-o", "x", "-q", "-e", "-o", "dir", "a=b"]
        );
    }

    #[test]
    fn every_option_that_takes_a_value_takes_it_behind_an_equals_sign() {
        let commands = ["get", "seed", "share", "create", "tracker", "lab"];
        for command in commands.into_iter().chain(["show", "verify", "peers"]) {
            let help = words(&[command, "--help"]);
            let Ok(super::super::arguments::Invocation::Print(help)) =
                super::super::arguments::parse(&help)
            else {
                panic!("no help for {command}");
            };
            let lines = help.lines().map(str::trim_start);
            let options = lines.filter(|line| line.starts_with('-'));
            for line in options {
                let option = line.split_whitespace().find(|word| word.starts_with("--"));
                let option = option.unwrap().trim_end_matches(',');
                let valued = VALUED.iter().any(|(long, _)| *long == option);
                assert_ne!(valued, is_switch(option), "{command} {option}: {line}");
            }
        }
    }

    #[test]
    fn a_value_with_a_leading_dash_is_a_value() {
        let out = translate(&words(&["--port", "-1", "-", "--", "-x", "--json"])).unwrap();
        assert_eq!(out[0], "--port");
        let values = [1, 2, 3, 4].map(|at| undone(&out[at]));
        assert_eq!(values, ["-1", "-", "-x", "--json"].map(OsString::from));
    }

    #[test]
    fn bytes_that_are_no_text_survive() {
        let name = OsString::from_vec(b"caf\xe9.torrent".to_vec());
        let out = translate(std::slice::from_ref(&name)).unwrap();
        assert_eq!(undone(&out[0]), name);
    }

    #[test]
    fn a_switch_takes_no_value() {
        assert!(translate(&words(&["--check=no"])).is_err());
    }

    #[test]
    fn a_disguised_word_is_shown_as_it_was_typed() {
        let text = format!(
            "Unrecognized argument: {}\n",
            Word::disguise(OsStr::new("-1"))
        );
        assert_eq!(sentence(&text), "there is no option -1");
    }
}
