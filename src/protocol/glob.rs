//! Patterns for names of files, as shells have them.
//!
//! ```
//! use ropewalk::protocol::glob::Glob;
//! assert!(Glob::new("*.part").unwrap().matches("disc/one.part"));
//! assert!(Glob::new("disc/**").unwrap().matches("disc/deep/one.part"));
//! ```
//!
//! `*` is any run of characters of one name, `?` one character, `[a-z]` one of a set and `[!a-z]` one
//! outside it, `\` takes the next character as it is; `**` between slashes is any number of folders. A
//! pattern without a slash fits a name anywhere, one with a slash the whole path below the root.

/// A pattern that was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    /// As it was written.
    pattern: String,
    /// What fits each element of a path.
    elements: Vec<Element>,
    /// A pattern for a name, wherever it stands.
    anywhere: bool,
}

/// Why a pattern means nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GlobError {
    /// There is nothing in it.
    #[error("it is empty")]
    Empty,
    /// A `[` without its `]`.
    #[error("it has a [ without a ]")]
    OpenSet,
    /// A `\` with nothing behind it.
    #[error("it ends with a \\")]
    OpenEscape,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Element {
    /// `**`
    AnyFolders,
    Name(Vec<Token>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// `*`
    AnyRun,
    /// `?`
    AnyOne,
    This(char),
    Set {
        ranges: Vec<(char, char)>,
        inside: bool,
    },
}

impl Glob {
    /// Understands a pattern. A slash at its begin ties it to the root, one at its end means nothing.
    pub fn new(pattern: &str) -> Result<Glob, GlobError> {
        let written = pattern.to_owned();
        let pattern = pattern.strip_suffix('/').unwrap_or(pattern);
        let (pattern, tied) = match pattern.strip_prefix('/') {
            Some(rest) => (rest, true),
            None => (pattern, false),
        };
        if pattern.is_empty() {
            return Err(GlobError::Empty);
        }
        let elements = pattern.split('/').map(Element::new);
        let elements = elements.collect::<Result<Vec<_>, _>>()?;
        Ok(Glob {
            anywhere: elements.len() == 1 && !tied,
            elements,
            pattern: written,
        })
    }

    /// The pattern as it was written.
    pub fn pattern(&self) -> &str {
        &self.pattern
    }

    /// Whether it fits a path with `/` between its elements, or, without a slash of its own, the last one.
    pub fn matches(&self, path: &str) -> bool {
        let mut names = path.split('/').collect::<Vec<_>>();
        if self.anywhere {
            names.drain(..names.len() - 1);
        }
        fits(
            &self.elements,
            &names,
            |element| *element == Element::AnyFolders,
            |element, name| match element {
                Element::AnyFolders => true,
                Element::Name(parts) => Element::fits_name(parts, name),
            },
        )
    }
}

impl Element {
    fn new(text: &str) -> Result<Element, GlobError> {
        if text == "**" {
            return Ok(Element::AnyFolders);
        }
        let mut parts = Vec::new();
        let mut letters = text.chars();
        while let Some(letter) = letters.next() {
            parts.push(match letter {
                '*' => Token::AnyRun,
                '?' => Token::AnyOne,
                '[' => {
                    let (set, rest) = set(letters.as_str())?;
                    letters = rest.chars();
                    set
                }
                '\\' => Token::This(letters.next().ok_or(GlobError::OpenEscape)?),
                plain => Token::This(plain),
            });
        }
        Ok(Element::Name(parts))
    }

    fn fits_name(parts: &[Token], name: &str) -> bool {
        let letters = name.chars().collect::<Vec<_>>();
        fits(
            parts,
            &letters,
            |part| *part == Token::AnyRun,
            |part, letter| match part {
                Token::AnyRun | Token::AnyOne => true,
                Token::This(this) => this == letter,
                Token::Set { ranges, inside } => {
                    let mut ranges = ranges.iter();
                    ranges.any(|(from, to)| (from..=to).contains(&letter)) == *inside
                }
            },
        )
    }
}

/// Reads a set up to and with its `]`, which may also be its first letter; and what is behind it.
fn set(text: &str) -> Result<(Token, &str), GlobError> {
    let outside = text.strip_prefix(['!', '^']);
    let mut rest = outside.unwrap_or(text);
    let mut ranges = Vec::new();
    loop {
        let mut letters = rest.chars();
        let from = match letters.next().ok_or(GlobError::OpenSet)? {
            ']' if !ranges.is_empty() => break,
            '\\' => letters.next().ok_or(GlobError::OpenSet)?,
            letter => letter,
        };
        rest = letters.as_str();
        let mut to = from;
        if let Some(behind) = rest.strip_prefix('-')
            && !behind.starts_with(']')
        {
            let mut letters = behind.chars();
            to = letters.next().ok_or(GlobError::OpenSet)?;
            rest = letters.as_str();
        }
        ranges.push((from, to));
    }
    let inside = outside.is_none();
    Ok((Token::Set { ranges, inside }, &rest[1..]))
}

/// Whether `pattern` fits all of `text`. Where it fails, the last star takes one more: earlier stars
/// need no second try, so the time is at most the product of both lengths.
fn fits<P, T>(
    pattern: &[P],
    text: &[T],
    is_star: impl Fn(&P) -> bool,
    fits_one: impl Fn(&P, &T) -> bool,
) -> bool {
    let (mut at, mut of) = (0, 0);
    // Behind the last star, and where its run ends.
    let mut last_star = None;
    while at < text.len() {
        match pattern.get(of) {
            Some(part) if is_star(part) => {
                of += 1;
                last_star = Some((of, at));
            }
            Some(part) if fits_one(part, &text[at]) => {
                at += 1;
                of += 1;
            }
            _ => {
                let Some((behind, end)) = last_star else {
                    return false;
                };
                last_star = Some((behind, end + 1));
                (of, at) = (behind, end + 1);
            }
        }
    }
    pattern[of..].iter().all(is_star)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn patterns_fit_what_shells_say() {
        let table = [
            ("*.txt", "a.txt", true),
            ("*.txt", "deep/er/a.txt", true),
            ("*.txt", "a.txt.gz", false),
            ("a?c", "aüc", true),
            ("a?c", "ac", false),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[^a-c]x", "dx", true),
            ("[]]", "]", true),
            ("[a-]", "-", true),
            ("\\*", "*", true),
            ("\\*", "x", false),
            ("disc/*.txt", "disc/a.txt", true),
            ("disc/*.txt", "disc/b/a.txt", false),
            ("disc/*.txt", "x/disc/a.txt", false),
            ("/a", "a", true),
            ("/a", "b/a", false),
            ("disc/", "disc", true),
            ("**/x", "x", true),
            ("**/x", "a/b/x", true),
            ("a/**/x", "a/b/c/x", true),
            ("a/**/x", "a/x", true),
            ("a/**/x", "b/x", false),
            ("a/**", "a/b/c", true),
            ("*a*b*c", "xaxbxc", true),
            ("*a*b*c", "xaxcxb", false),
            ("Thumbs.db", "thumbs.db", false),
        ];
        for (pattern, path, fits) in table {
            let glob = Glob::new(pattern).unwrap();
            assert_eq!(glob.matches(path), fits, "{pattern} on {path}");
        }
    }

    #[test]
    fn patterns_without_meaning_are_refused() {
        let table = [
            ("", GlobError::Empty),
            ("/", GlobError::Empty),
            ("[", GlobError::OpenSet),
            ("[]", GlobError::OpenSet),
            ("a[b-", GlobError::OpenSet),
            ("a\\", GlobError::OpenEscape),
        ];
        for (pattern, error) in table {
            assert_eq!(Glob::new(pattern), Err(error), "{pattern}");
        }
    }

    #[test]
    fn many_stars_do_not_take_for_ever() {
        let stars = "*a".repeat(120);
        let name = "a".repeat(8_000);
        assert!(Glob::new(&stars).unwrap().matches(&name));
        assert!(!Glob::new(&format!("{stars}b")).unwrap().matches(&name));
        let folders = "a/".repeat(2_000);
        let deep = Glob::new(&format!("{}b", "**/a/".repeat(120))).unwrap();
        assert!(!deep.matches(&format!("{folders}c")));
        assert!(deep.matches(&format!("{folders}b")));
    }
}
