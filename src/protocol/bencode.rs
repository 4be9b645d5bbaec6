//! Bencode, the notation of .torrent files, tracker answers and peer extensions (BEP 3).
//!
//! Four kinds of item: `i42e` an integer, `4:spam` a byte string, `l…e` a list, `d…e` a dictionary
//! whose keys are byte strings in sorted order.
//!
//! ```
//! use ropewalk::protocol::bencode::{DecodeLimits, Value, decode};
//! let document = decode(b"d3:cow3:moo4:spaml1:ai-1eee", DecodeLimits::MESSAGE).unwrap();
//! let root = document.root().as_dict().unwrap();
//! assert_eq!(root.get(b"cow").unwrap().as_bytes(), Some(&b"moo"[..]));
//! assert_eq!(root.get(b"spam").unwrap().raw(), b"l1:ai-1ee");
//! assert_eq!(Value::dict([("b", 1.into()), ("a", "x".into())]).encode(), b"d1:a1:x1:bi1ee");
//! ```
//!
//! The decoder copies nothing. It walks the input once and notes where each item begins and ends: a
//! flat list of [`Item`]s in the order of their first bytes. That is enough to move about in the
//! document, and it keeps the exact bytes of every item, which matters because a torrent's name is a
//! hash over bytes as they were found: decoded and encoded again they may be others. There is no
//! recursion, so no nesting depth can exhaust a small stack.

mod scan;
mod value;

use scan::{integer, string_end};
pub use value::{Value, encode_int, encode_string};

/// What a decoder may be made to do by its input. Both are checked while decoding, before memory grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeLimits {
    /// Lists and dictionaries open at the same time.
    pub depth: usize,
    /// Items in all, keys counted. Each takes 12 bytes of memory.
    pub items: usize,
}

impl DecodeLimits {
    /// For .torrent files and info dictionaries. The file tree of a hybrid nests as deep as its folders
    /// and five levels more.
    pub const FILE: DecodeLimits = DecodeLimits {
        depth: 64,
        items: 2_000_000,
    };
    /// For tracker answers: 200 peers in the old dictionary form take some 1,500 items, full scrapes more.
    pub const TRACKER: DecodeLimits = DecodeLimits {
        depth: 8,
        items: 50_000,
    };
    /// For what peers send each other.
    pub const MESSAGE: DecodeLimits = DecodeLimits {
        depth: 8,
        items: 1_000,
    };
}

/// Why bytes are not bencode, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("byte {at}: {problem}")]
pub struct DecodeError {
    /// Where the offending item begins, or the byte itself, counted from 0.
    pub at: usize,
    /// What is wrong there.
    pub problem: Problem,
}

/// What can be wrong with bencode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The input stops inside an item, or is empty.
    #[error("the data ends too early")]
    Ends,
    /// No item begins with this byte.
    #[error("nothing can begin with {:?}", char::from(*.0))]
    Unexpected(u8),
    /// A dictionary key that is not a string.
    #[error("a dictionary key must be a string")]
    KeyNotString,
    /// A dictionary that ends after a key.
    #[error("the last key of a dictionary has no value")]
    NoValue,
    /// Not a decimal number, or `-0`, or with leading zeros.
    #[error("not a well-formed integer")]
    Integer,
    /// An integer that 64 bits cannot hold.
    #[error("an integer too large for 64 bits")]
    IntegerTooLarge,
    /// A string's length with leading zeros, without a colon, or absurd.
    #[error("not a well-formed string length")]
    StringLength,
    /// A string longer than what is left of the input.
    #[error("a string of {0} bytes runs past the end")]
    StringPastEnd(u64),
    /// Nested deeper than [`DecodeLimits::depth`].
    #[error("nested more than {0} levels deep")]
    TooDeep(usize),
    /// More items than [`DecodeLimits::items`].
    #[error("more than {0} items")]
    TooManyItems(usize),
    /// Something follows the root where nothing may.
    #[error("{0} bytes follow the end")]
    Trailing(usize),
    /// An input of 4 GiB or more.
    #[error("{0} bytes are too many to decode")]
    TooLong(usize),
}

/// Something a strict reader would refuse and real files contain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Oddity {
    /// A key that sorts before the one in front of it.
    #[error("byte {at}: dictionary keys are not sorted")]
    Unsorted {
        /// Where the key begins.
        at: usize,
    },
    /// The same key twice in a row; [`Dict::get`] finds the first.
    #[error("byte {at}: a dictionary key is repeated")]
    Repeated {
        /// Where the second one begins.
        at: usize,
    },
}

/// Decodes one item that is the whole input.
pub fn decode(input: &[u8], limits: DecodeLimits) -> Result<Document<'_>, DecodeError> {
    let document = decode_prefix(input, limits)?;
    match document.rest().len() {
        0 => Ok(document),
        count => fail(input.len() - count, Problem::Trailing(count)),
    }
}

/// Decodes one item at the start of the input; [`Document::rest`] is what follows it.
pub fn decode_prefix(input: &[u8], limits: DecodeLimits) -> Result<Document<'_>, DecodeError> {
    if u32::try_from(input.len()).is_err() {
        return fail(0, Problem::TooLong(input.len()));
    }
    let mut decoder = Decoder {
        input,
        limits,
        at: 0,
        spans: Vec::new(),
        open: Vec::new(),
        oddity: None,
    };
    decoder.run()?;
    Ok(Document {
        input,
        spans: decoder.spans,
        oddity: decoder.oddity,
    })
}

fn fail<T>(at: usize, problem: Problem) -> Result<T, DecodeError> {
    Err(DecodeError { at, problem })
}

/// Where an item lies. `next` is the number of the item after it and all it contains: its sibling,
/// or its parent's, or none. 32 bits each, because there are many.
#[derive(Debug, Clone, Copy)]
struct Span {
    start: u32,
    end: u32,
    next: u32,
}

/// A list or dictionary whose end has not been seen.
struct Open {
    number: usize,
    dictionary: bool,
    /// The latest key of a dictionary, and whether its value is still to come.
    key: Option<u32>,
    value_due: bool,
}

struct Decoder<'a> {
    input: &'a [u8],
    limits: DecodeLimits,
    at: usize,
    spans: Vec<Span>,
    open: Vec<Open>,
    oddity: Option<Oddity>,
}

impl Decoder<'_> {
    fn run(&mut self) -> Result<(), DecodeError> {
        loop {
            let start = self.at;
            let Some(&first) = self.input.get(start) else {
                return fail(start, Problem::Ends);
            };
            match (first, self.open.last_mut()) {
                (b'e', Some(_)) => self.close()?,
                (b'0'..=b'9', parent) => {
                    let is_key = parent.is_some_and(|it| it.dictionary && !it.value_due);
                    self.at = string_end(self.input, start)?;
                    let number = self.note(start)?;
                    if is_key {
                        self.key(number);
                    } else {
                        self.value();
                    }
                }
                (_, Some(it)) if it.dictionary && !it.value_due => {
                    return fail(start, Problem::KeyNotString);
                }
                (b'i', _) => {
                    self.at = integer(self.input, start)?.1;
                    self.note(start)?;
                    self.value();
                }
                (b'l' | b'd', _) => {
                    if self.open.len() >= self.limits.depth {
                        return fail(start, Problem::TooDeep(self.limits.depth));
                    }
                    self.at += 1;
                    let number = self.note(start)?;
                    self.open.push(Open {
                        number: number as usize,
                        dictionary: first == b'd',
                        key: None,
                        value_due: false,
                    });
                }
                (other, _) => return fail(start, Problem::Unexpected(other)),
            }
            if self.open.is_empty() {
                return Ok(());
            }
        }
    }

    /// Notes an item that begins at `start` and ends, as far as is known, at `self.at`.
    fn note(&mut self, start: usize) -> Result<u32, DecodeError> {
        let number = self.spans.len();
        if number >= self.limits.items {
            return fail(start, Problem::TooManyItems(self.limits.items));
        }
        // Every item takes at least one byte of an input below 4 GiB: the numbers fit.
        self.spans.push(Span {
            start: start as u32,
            end: self.at as u32,
            next: number as u32 + 1,
        });
        Ok(number as u32)
    }

    fn close(&mut self) -> Result<(), DecodeError> {
        let Some(closing) = self.open.pop() else {
            return Ok(());
        };
        if closing.value_due {
            return fail(self.at, Problem::NoValue);
        }
        self.at += 1;
        let next = self.spans.len() as u32;
        let span = &mut self.spans[closing.number];
        span.end = self.at as u32;
        span.next = next;
        self.value();
        Ok(())
    }

    /// The innermost open dictionary has had its value.
    fn value(&mut self) {
        if let Some(parent) = self.open.last_mut() {
            parent.value_due = false;
        }
    }

    /// The innermost open dictionary has had a key: item `number`.
    fn key(&mut self, number: u32) {
        let Some(parent) = self.open.last_mut() else {
            return;
        };
        parent.value_due = true;
        let Some(previous) = parent.key.replace(number) else {
            return;
        };
        if self.oddity.is_some() {
            return;
        }
        let at = self.spans[number as usize].start as usize;
        let text = |number: u32| string(self.input, self.spans[number as usize]);
        self.oddity = match text(previous).cmp(text(number)) {
            std::cmp::Ordering::Less => None,
            std::cmp::Ordering::Equal => Some(Oddity::Repeated { at }),
            std::cmp::Ordering::Greater => Some(Oddity::Unsorted { at }),
        };
    }
}

/// The contents of a string item.
fn string(input: &[u8], span: Span) -> &[u8] {
    let whole = &input[span.start as usize..span.end as usize];
    let colon = whole.iter().position(|&byte| byte == b':');
    colon.map_or(&[], |colon| &whole[colon + 1..])
}

/// Decoded input. Borrows it; see [`decode`].
#[derive(Debug, Clone)]
pub struct Document<'a> {
    input: &'a [u8],
    /// Never empty: the first is the root.
    spans: Vec<Span>,
    oddity: Option<Oddity>,
}

impl<'a> Document<'a> {
    /// The outermost item.
    pub fn root(&self) -> Item<'_> {
        Item {
            document: self,
            number: 0,
        }
    }

    /// The input after the root's last byte.
    pub fn rest(&self) -> &'a [u8] {
        &self.input[self.spans[0].end as usize..]
    }

    /// The first departure from the canonical form that was tolerated.
    pub fn oddity(&self) -> Option<Oddity> {
        self.oddity
    }
}

/// One item of a [`Document`]. The `as_…` functions answer `None` where it is of another kind.
#[derive(Debug, Clone, Copy)]
pub struct Item<'d> {
    document: &'d Document<'d>,
    number: u32,
}

impl<'d> Item<'d> {
    fn span(self) -> Span {
        self.document.spans[self.number as usize]
    }

    /// Where it begins, in bytes from the start of the input.
    pub fn position(self) -> usize {
        self.span().start as usize
    }

    /// Its bytes, exactly as found.
    pub fn raw(self) -> &'d [u8] {
        let span = self.span();
        &self.document.input[span.start as usize..span.end as usize]
    }

    /// The contents of a string.
    pub fn as_bytes(self) -> Option<&'d [u8]> {
        let is_string = self.raw().first().is_some_and(u8::is_ascii_digit);
        is_string.then(|| string(self.document.input, self.span()))
    }

    /// The contents of a string that is UTF-8.
    pub fn as_str(self) -> Option<&'d str> {
        std::str::from_utf8(self.as_bytes()?).ok()
    }

    /// The value of an integer.
    pub fn as_int(self) -> Option<i64> {
        let is_integer = self.raw().first() == Some(&b'i');
        let value = is_integer.then(|| integer(self.document.input, self.position()).ok());
        value.flatten().map(|(value, _)| value)
    }

    /// The items of a list, in order.
    pub fn as_list(self) -> Option<Items<'d>> {
        (self.raw().first() == Some(&b'l')).then(|| self.children())
    }

    /// A dictionary.
    pub fn as_dict(self) -> Option<Dict<'d>> {
        (self.raw().first() == Some(&b'd')).then_some(Dict { item: self })
    }

    fn children(self) -> Items<'d> {
        Items {
            document: self.document,
            next: self.number + 1,
            end: self.span().next,
        }
    }
}

/// The items of a list.
#[derive(Debug, Clone)]
pub struct Items<'d> {
    document: &'d Document<'d>,
    next: u32,
    end: u32,
}

impl<'d> Iterator for Items<'d> {
    type Item = Item<'d>;

    fn next(&mut self) -> Option<Item<'d>> {
        if self.next >= self.end {
            return None;
        }
        let item = Item {
            document: self.document,
            number: self.next,
        };
        self.next = item.span().next;
        Some(item)
    }
}

/// A dictionary of a [`Document`].
#[derive(Debug, Clone, Copy)]
pub struct Dict<'d> {
    item: Item<'d>,
}

impl<'d> Dict<'d> {
    /// The dictionary as an item.
    pub fn item(self) -> Item<'d> {
        self.item
    }

    /// The value of `key`; of its first one where it is repeated. Takes time in proportion to the number of keys.
    pub fn get(self, key: &[u8]) -> Option<Item<'d>> {
        self.iter().find(|&(name, _)| name == key).map(|it| it.1)
    }

    /// Keys and values in the order they were found.
    pub fn iter(self) -> impl Iterator<Item = (&'d [u8], Item<'d>)> {
        let mut children = self.item.children();
        std::iter::from_fn(move || {
            let key = children.next()?.as_bytes()?;
            Some((key, children.next()?))
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn problem(input: &[u8]) -> (usize, Problem) {
        let error = decode(input, DecodeLimits::FILE).unwrap_err();
        (error.at, error.problem)
    }

    /// Builds the value a document describes; only for tests, where nothing is deep.
    fn value(item: Item) -> Value {
        if let Some(number) = item.as_int() {
            Value::Int(number)
        } else if let Some(bytes) = item.as_bytes() {
            bytes.into()
        } else if let Some(items) = item.as_list() {
            Value::list(items.map(value))
        } else {
            Value::dict(item.as_dict().unwrap().iter().map(|(k, v)| (k, value(v))))
        }
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<i64>().prop_map(Value::Int),
            prop::collection::vec(any::<u8>(), 0..20).prop_map(Value::Bytes),
        ];
        leaf.prop_recursive(5, 60, 6, |inner| {
            let key = prop::collection::vec(any::<u8>(), 0..4);
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::List),
                prop::collection::btree_map(key, inner, 0..6).prop_map(Value::Dict),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_was_encoded_decodes_to_the_same(original in any_value()) {
            let bytes = original.encode();
            let document = decode(&bytes, DecodeLimits::FILE).unwrap();
            prop_assert_eq!(value(document.root()), original);
            prop_assert_eq!(document.root().raw(), &bytes[..]);
            prop_assert_eq!(document.oddity(), None);
        }

        #[test]
        fn any_bytes_give_a_value_or_an_error(bytes in prop::collection::vec(
            prop_oneof![Just(b'd'), Just(b'l'), Just(b'i'), Just(b'e'), Just(b':'), Just(b'1'), any::<u8>()], 0..60)) {
            if let Ok(document) = decode_prefix(&bytes, DecodeLimits::FILE) {
                // Strict syntax: only the order of keys may differ from the canonical form.
                prop_assert_eq!(document.root().raw().len() + document.rest().len(), bytes.len());
                if document.oddity().is_none() {
                    prop_assert_eq!(value(document.root()).encode(), document.root().raw());
                }
            }
        }

        #[test]
        fn every_truncation_is_refused(original in any_value()) {
            let bytes = original.encode();
            for length in 0..bytes.len() {
                prop_assert!(decode(&bytes[..length], DecodeLimits::FILE).is_err());
            }
        }
    }

    #[test]
    fn a_string_past_the_end_is_refused() {
        assert_eq!(
            decode(b"d4:infod4:name400:abc", DecodeLimits::FILE)
                .unwrap_err()
                .to_string(),
            "byte 14: a string of 400 bytes runs past the end"
        );
        assert_eq!(
            problem(b"9999999999:"),
            (0, Problem::StringPastEnd(9_999_999_999))
        );
        assert_eq!(
            problem(b"18446744073709551616:"),
            (0, Problem::StringLength)
        );
        assert_eq!(problem(b"03:abc"), (0, Problem::StringLength));
        assert_eq!(problem(b"3-abc"), (0, Problem::StringLength));
        assert_eq!(problem(b"55"), (2, Problem::Ends));
    }

    #[test]
    fn integers_have_one_spelling_each() {
        let int = |input: &[u8]| decode(input, DecodeLimits::FILE).unwrap().root().as_int();
        assert_eq!(int(b"i0e"), Some(0));
        assert_eq!(int(b"i-3e"), Some(-3));
        assert_eq!(int(b"i9223372036854775807e"), Some(i64::MAX));
        assert_eq!(int(b"i-9223372036854775808e"), Some(i64::MIN));
        for wrong in [
            "i-0e", "i03e", "ie", "i-e", "i 3e", "i+3e", "i3.0e", "i--1e",
        ] {
            assert_eq!(problem(wrong.as_bytes()), (0, Problem::Integer), "{wrong}");
        }
        let long = format!("i{}e", "9".repeat(1_000_000));
        for large in ["i9223372036854775808e", "i-9223372036854775809e", &long] {
            assert_eq!(problem(large.as_bytes()), (0, Problem::IntegerTooLarge));
        }
        assert_eq!(problem(b"i12"), (3, Problem::Ends));
    }

    #[test]
    fn dictionaries_need_string_keys_and_values() {
        assert_eq!(problem(b"di2ei0ee"), (1, Problem::KeyNotString));
        assert_eq!(problem(b"dle1:ae"), (1, Problem::KeyNotString));
        assert_eq!(problem(b"d1:ae"), (4, Problem::NoValue));
        assert_eq!(problem(b"d1:a"), (4, Problem::Ends));
        assert_eq!(problem(b"e"), (0, Problem::Unexpected(b'e')));
        assert_eq!(problem(b"lx"), (1, Problem::Unexpected(b'x')));
        assert_eq!(problem(b""), (0, Problem::Ends));
    }

    #[test]
    fn unsorted_and_repeated_keys_are_taken_and_reported() {
        let unsorted = decode(b"d1:bi1e1:ai2ee", DecodeLimits::FILE).unwrap();
        assert_eq!(unsorted.oddity(), Some(Oddity::Unsorted { at: 7 }));
        let repeated = decode(b"ld1:ai1e1:ai2eee", DecodeLimits::FILE).unwrap();
        assert_eq!(repeated.oddity(), Some(Oddity::Repeated { at: 8 }));
        let list = repeated.root().as_list().unwrap().next().unwrap();
        let first = list.as_dict().unwrap().get(b"a").unwrap();
        assert_eq!(first.as_int(), Some(1));
        // Keys of different dictionaries are not compared.
        let nested = decode(b"d1:bd1:ai1ee1:cle1:di0ee", DecodeLimits::FILE).unwrap();
        assert_eq!(nested.oddity(), None);
    }

    #[test]
    fn trailing_bytes_are_refused_or_handed_back() {
        assert_eq!(problem(b"de\n"), (2, Problem::Trailing(1)));
        let document = decode_prefix(b"d8:msg_typei1eeRAW", DecodeLimits::MESSAGE).unwrap();
        assert_eq!(document.rest(), b"RAW");
    }

    #[test]
    fn nesting_is_limited_and_needs_no_stack() {
        let on_a_small_stack = || {
            let millions = vec![b'l'; 5_000_000];
            let limits = DecodeLimits::FILE;
            assert_eq!(problem(&millions), (64, Problem::TooDeep(64)));
            assert_eq!(
                problem(&b"d1:a".repeat(1_000_000)),
                (256, Problem::TooDeep(64))
            );
            let boundless = DecodeLimits {
                depth: usize::MAX,
                items: 2_000_000,
            };
            let error = decode(&millions, boundless).unwrap_err();
            assert_eq!(error.problem, Problem::TooManyItems(2_000_000));
            let deep = [vec![b'l'; 1_000_000], vec![b'e'; 1_000_000]].concat();
            assert_eq!(decode(&deep, boundless).unwrap().spans.len(), 1_000_000);
            let brim = [vec![b'l'; limits.depth], vec![b'e'; limits.depth]].concat();
            assert!(decode(&brim, limits).is_ok());
        };
        std::thread::Builder::new()
            .stack_size(64 * 1024)
            .spawn(on_a_small_stack)
            .unwrap()
            .join()
            .unwrap();
    }

    #[test]
    fn items_are_limited() {
        let limits = DecodeLimits { depth: 8, items: 3 };
        assert!(decode(b"lleli1ee", DecodeLimits::FILE).is_err());
        assert!(decode(b"li1ei2ee", limits).is_ok());
        let error = decode(b"li1ei2ei3ee", limits).unwrap_err();
        assert_eq!((error.at, error.problem), (7, Problem::TooManyItems(3)));
    }

    #[test]
    fn values_of_one_kind_are_not_taken_for_another() {
        let document = decode(b"li1e1:xlede2:\xff\xfee", DecodeLimits::FILE).unwrap();
        let items: Vec<Item> = document.root().as_list().unwrap().collect();
        let kinds = |item: &Item| {
            (
                item.as_int().is_some(),
                item.as_bytes().is_some(),
                item.as_list().is_some(),
                item.as_dict().is_some(),
            )
        };
        let kinds: Vec<_> = items.iter().map(kinds).collect();
        assert_eq!(
            kinds,
            [
                (true, false, false, false),
                (false, true, false, false),
                (false, false, true, false),
                (false, false, false, true),
                (false, true, false, false),
            ]
        );
        assert_eq!(items[4].as_str(), None);
        assert_eq!(items[1].as_str(), Some("x"));
    }
}
