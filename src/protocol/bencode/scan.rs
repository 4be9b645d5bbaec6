//! The two kinds of bencode that contain no others, strings and integers: where one ends, and what it
//! is worth. Strict: each value has one spelling.

use super::{DecodeError, Problem, fail};

/// Checks the string that begins at `start` and says where it ends. Nothing is allocated for it, so
/// a length of terabytes costs no more than its digits.
pub(super) fn string_end(input: &[u8], start: usize) -> Result<usize, DecodeError> {
    let rest = &input[start..];
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    match rest.get(digits) {
        Some(b':') => {}
        Some(_) => return fail(start, Problem::StringLength),
        None => return fail(input.len(), Problem::Ends),
    }
    // 19 digits always fit 64 bits.
    if digits > 19 || (digits > 1 && rest[0] == b'0') {
        return fail(start, Problem::StringLength);
    }
    let length = decimal(&rest[..digits]);
    let left = rest.len() - digits - 1;
    match usize::try_from(length) {
        Ok(length) if length <= left => Ok(start + digits + 1 + length),
        _ => fail(start, Problem::StringPastEnd(length)),
    }
}

/// The value of at most 19 digits.
fn decimal(digits: &[u8]) -> u64 {
    digits
        .iter()
        .fold(0, |value, digit| value * 10 + u64::from(digit - b'0'))
}

/// The integer that begins at `start`, and where it ends.
pub(super) fn integer(input: &[u8], start: usize) -> Result<(i64, usize), DecodeError> {
    let negative = input.get(start + 1) == Some(&b'-');
    let first = start + 1 + usize::from(negative);
    let rest = input.get(first..).unwrap_or_default();
    let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let digits = &rest[..count];
    match rest.get(count) {
        Some(b'e') => {}
        Some(_) => return fail(start, Problem::Integer),
        None => return fail(input.len(), Problem::Ends),
    }
    let canonical = match digits {
        [] => false,
        [b'0'] => !negative,
        [b'0', ..] => false,
        _ => true,
    };
    if !canonical {
        return fail(start, Problem::Integer);
    }
    // Counted downwards, because there is one more number below zero than above.
    let mut value = 0i64;
    for digit in digits {
        let step = |value: i64| {
            let shifted = value.checked_mul(10)?;
            shifted.checked_sub(i64::from(digit - b'0'))
        };
        value = match step(value) {
            Some(value) => value,
            None => return fail(start, Problem::IntegerTooLarge),
        };
    }
    if !negative {
        value = match value.checked_neg() {
            Some(value) => value,
            None => return fail(start, Problem::IntegerTooLarge),
        };
    }
    Ok((value, first + count + 1))
}
