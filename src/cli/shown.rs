//! Text from strangers, made safe to show: a name in a torrent may carry terminal commands, a
//! newline, or marks that turn the reading direction.

use crate::protocol::plain::escape;
use std::fmt::Write;
use std::path::Path;

/// `text` on one line, with everything that could move a cursor or hide a letter written as an
/// escape: `\n`, `\u{1b}`.
pub fn shown(text: &str) -> String {
    escape(text).to_string()
}

/// A path, safe to show; bytes that are not UTF-8 appear as `\xff`.
pub fn shown_path(path: &Path) -> String {
    let mut safe = String::new();
    for chunk in path.as_os_str().as_encoded_bytes().utf8_chunks() {
        safe.push_str(&shown(chunk.valid()));
        for byte in chunk.invalid() {
            let _ = write!(safe, "\\x{byte:02x}");
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::plain::is_treacherous;

    #[test]
    fn nothing_that_moves_a_cursor_is_left() {
        let text = shown("a\u{1b}[2J\r\n\u{9b}b\u{202e}c\u{7f}d\u{2028}");
        assert!(!text.chars().any(is_treacherous), "{text}");
        assert!(text.starts_with("a\\u{1b}[2J\\r\\n"));
    }

    #[test]
    fn ordinary_names_of_all_languages_stay() {
        for name in ["ubuntu.iso", "Grüße", "日本語", "наука", "a b", "naïve"] {
            assert_eq!(shown(name), name);
        }
    }

    #[cfg(unix)]
    #[test]
    fn bytes_that_are_no_text_are_shown_as_numbers() {
        use std::os::unix::ffi::OsStrExt;
        let path = Path::new(std::ffi::OsStr::from_bytes(b"a\xffb"));
        assert_eq!(shown_path(path), "a\\xffb");
    }
}
