//! A keyed hash of short messages: SipHash-2-4 (Aumasson and Bernstein, 2012). Who does not know the
//! key can neither forge a value nor find messages that collide.
//!
//! ```
//! use ropewalk::protocol::siphash::Key;
//! let key = Key::from_bytes(std::array::from_fn(|at| at as u8));
//! assert_eq!(key.hash(b""), 0x726f_db47_dd0e_0e31);
//! ```
//!
//! The standard library has the same function, but without a promise that it stays the same one.

/// A key of 128 bits. Whoever makes one takes it from the system's own dice.
#[derive(Clone, Copy)]
pub struct Key(u64, u64);

impl Key {
    /// The key that these bytes stand for.
    pub fn from_bytes(bytes: [u8; 16]) -> Key {
        let whole = u128::from_le_bytes(bytes);
        Key(whole as u64, (whole >> 64) as u64)
    }

    /// The hash of `message`.
    #[inline]
    pub fn hash(&self, message: &[u8]) -> u64 {
        let mut state = State([
            self.0 ^ 0x736f_6d65_7073_6575,
            self.1 ^ 0x646f_7261_6e64_6f6d,
            self.0 ^ 0x6c79_6765_6e65_7261,
            self.1 ^ 0x7465_6462_7974_6573,
        ]);
        let (words, rest) = message.as_chunks::<8>();
        for word in words {
            state.absorb(u64::from_le_bytes(*word));
        }
        // The last word is what is left and, in its highest byte, the message's length.
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        last[7] = message.len() as u8;
        state.absorb(u64::from_le_bytes(last));
        state.0[2] ^= 0xff;
        (0..4).for_each(|_| state.round());
        state.0.iter().fold(0, |sum, part| sum ^ part)
    }
}

/// A key is a secret: it is not written down.
impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

struct State([u64; 4]);

impl State {
    #[inline]
    fn absorb(&mut self, word: u64) {
        self.0[3] ^= word;
        self.round();
        self.round();
        self.0[0] ^= word;
    }

    #[inline]
    fn round(&mut self) {
        let [mut a, mut b, mut c, mut d] = self.0;
        a = a.wrapping_add(b);
        b = b.rotate_left(13) ^ a;
        a = a.rotate_left(32);
        c = c.wrapping_add(d);
        d = d.rotate_left(16) ^ c;
        a = a.wrapping_add(d);
        d = d.rotate_left(21) ^ a;
        c = c.wrapping_add(b);
        b = b.rotate_left(17) ^ c;
        c = c.rotate_left(32);
        self.0 = [a, b, c, d];
    }
}

#[cfg(test)]
mod tests {
    #![allow(deprecated)]
    use super::*;
    use proptest::prelude::*;
    use std::hash::{Hasher, SipHasher};

    #[test]
    fn the_example_of_the_paper_comes_out() {
        let key = Key::from_bytes(std::array::from_fn(|at| at as u8));
        let message: [u8; 15] = std::array::from_fn(|at| at as u8);
        assert_eq!(key.hash(&message), 0xa129_ca61_49be_45e5);
    }

    proptest! {
        #[test]
        fn it_is_the_function_that_the_standard_library_calls_siphasher(
            key: [u8; 16], message in proptest::collection::vec(any::<u8>(), 0..80)
        ) {
            let key = Key::from_bytes(key);
            let mut theirs = SipHasher::new_with_keys(key.0, key.1);
            theirs.write(&message);
            prop_assert_eq!(key.hash(&message), theirs.finish());
        }
    }
}
