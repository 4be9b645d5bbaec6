//! Text from strangers, made plain before it is shown.
//!
//! Names, comments, tracker messages and client names come from anyone. Written to a terminal as they
//! are, they can move the cursor, repaint lines, or show `gpj.exe` as `exe.jpg`. Everything remote
//! that is shown to people goes through [`escape`], and JSON through [`escape_json`], which leaves the
//! text what it was to whoever parses it. Both spell out the same characters: [`is_treacherous`].
//!
//! ```
//! use ropewalk::protocol::plain::escape;
//! assert_eq!(escape("two\nlines \u{1b}[2J").to_string(), r"two\nlines \u{1b}[2J");
//! assert_eq!(escape("Bücher, 本").to_string(), "Bücher, 本");
//! ```

use std::fmt::{self, Write};

/// Shows `text` with every character that is invisible, or acts on its surroundings, written as an
/// escape (`\n`, `\u{202e}`). Everything else is shown as it is.
pub fn escape(text: &str) -> impl fmt::Display + '_ {
    Escaped(text)
}

struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            if is_treacherous(character) {
                write!(f, "{}", character.escape_default())?;
            } else {
                f.write_char(character)?;
            }
        }
        Ok(())
    }
}

/// `json`, the text of a JSON value, with the same characters written as `\uXXXX`. In JSON they can only
/// stand inside strings, where that means the same.
pub fn escape_json(json: &str) -> String {
    let mut safe = String::with_capacity(json.len());
    for character in json.chars() {
        if is_treacherous(character) {
            for unit in character.encode_utf16(&mut [0; 2]) {
                // Writing to a string cannot fail.
                let _ = write!(safe, "\\u{unit:04x}");
            }
        } else {
            safe.push(character);
        }
    }
    safe
}

/// Whether a character acts on what is around it, or cannot be seen.
pub fn is_treacherous(character: char) -> bool {
    is_control(character) || is_invisible(character)
}

/// Whether a character acts on what is around it: control characters (C0, DEL, C1), line and paragraph
/// separators, and what turns the direction of its neighbours about.
pub(super) fn is_control(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Whether a character has no width of its own, so that two different texts can look the same.
/// Honest names use some of them (joiners in Persian and in emoji, direction marks in Hebrew).
fn is_invisible(character: char) -> bool {
    matches!(
        character,
        '\u{ad}'
            | '\u{61c}'
            | '\u{115f}'
            | '\u{1160}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_moves_the_cursor_or_hides_is_spelled_out() {
        for (text, shown) in [
            ("a\r\x1b[31mb\x7f", r"a\r\u{1b}[31mb\u{7f}"),
            ("\u{85}\u{9b}", r"\u{85}\u{9b}"),
            ("exe.\u{202e}gpj", r"exe.\u{202e}gpj"),
            ("a\u{200b}b\u{feff}", r"a\u{200b}b\u{feff}"),
            ("\u{2028}\u{2066}", r"\u{2028}\u{2066}"),
            ("naïve 日本語 🦀 \\ \"'", "naïve 日本語 🦀 \\ \"'"),
        ] {
            assert_eq!(escape(text).to_string(), shown);
        }
    }

    proptest! {
        #[test]
        fn nothing_shown_can_act_on_a_terminal(text in any::<String>()) {
            prop_assert!(!escape(&text).to_string().chars().any(is_treacherous));
        }

        #[test]
        fn json_means_the_same_when_it_is_escaped(text in any::<String>()) {
            let json = escape_json(&serde_json::to_string(&text).unwrap_or_default());
            prop_assert!(!json.chars().any(is_treacherous));
            prop_assert_eq!(serde_json::from_str::<String>(&json).ok(), Some(text));
        }
    }
}
