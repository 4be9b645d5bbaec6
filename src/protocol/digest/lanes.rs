//! Several messages hashed at once, side by side in the lanes of vector registers.
//!
//! ```
//! use ropewalk::protocol::digest::{Digest, lanes::{Lanes, Width}};
//! let mut rest = [&b"four"[..], b"or more", b"messages", b""];
//! # let Some(width) = Width::widest() else { return };
//! let mut lanes = Lanes::new(width);
//! let digests = lanes.hash(rest.len(), |message, room| {
//!     let (now, later) = rest[message].split_at(rest[message].len().min(room.len()));
//!     room[..now.len()].copy_from_slice(now);
//!     rest[message] = later;
//!     now.len()
//! });
//! assert_eq!(digests[1], Digest::of(b"or more"));
//! ```
//!
//! Each of the 80 rounds of SHA-1 needs the result of the one before, so one message keeps a processor
//! that could do several things at a time waiting for itself. The rounds of different messages need
//! nothing of each other. Where scalar code adds two numbers, this adds two rows of 8 or 16 numbers, one
//! for each message, with one or two instructions. docs/lanes.md tells it at length and has the figures.
//!
//! The arithmetic is written once, over any `Vector`; what differs is only which instructions it may use,
//! so the same text is compiled once for each set of them, and the processor is asked at run time which it
//! has.
//!
//! Messages come in chunks, so that sixteen pieces of 16 MiB need sixteen chunks of memory and not
//! sixteen pieces, and all of it stays in a core's own cache.
#![allow(unsafe_code)]
// On other processors there is no `Width` to hash with, and so nothing that would be reached.
#![cfg_attr(
    not(any(target_arch = "x86_64", target_arch = "aarch64")),
    allow(
        dead_code,
        unused_macros,
        unused_mut,
        unused_variables,
        clippy::never_loop
    )
)]

mod vectors;

use super::Digest;
use std::ops::Range;
use vectors::Vector;

/// Bytes of one message that are taken at a time.
pub const CHUNK: usize = 32 * 1024;

/// The padding that ends a message takes up to two blocks more than its bytes. It also keeps the chunks
/// of different messages from lying at the same place of every 4 KiB, where they would push each other
/// out of the first cache.
const PADDED: usize = CHUNK + 2 * BLOCK;

/// What SHA-1 takes in at a time, in bytes. (Nothing to do with the blocks that peers ask for.)
const BLOCK: usize = 64;

/// The fewest messages that are hashed faster side by side than one after the other with
/// [`Hasher`](super::Hasher): lanes without a message cost as much as those with one.
pub const WORTHWHILE: usize = 4;

/// The widest vectors that are used, and so how many messages go side by side.
///
/// A value of this type is the proof that the processor has the instructions: there is no way to one but
/// by asking it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Width(Vectors);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Vectors {
    /// 128 bits: SSE2 and NEON, which every processor of these targets has.
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    Four,
    /// 256 bits: AVX2.
    #[cfg(target_arch = "x86_64")]
    Eight,
    /// 512 bits: AVX-512. It also rotates, and combines three numbers, in one instruction each.
    #[cfg(target_arch = "x86_64")]
    Sixteen,
}

impl Width {
    /// All that this processor has, narrowest first. None where single messages are best.
    pub fn all() -> impl DoubleEndedIterator<Item = Width> {
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        let four = Some(Vectors::Four);
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        let four = None;
        #[cfg(target_arch = "x86_64")]
        let (eight, sixteen) = {
            let avx2 = is_x86_feature_detected!("avx2");
            let avx512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl");
            (
                avx2.then_some(Vectors::Eight),
                avx512.then_some(Vectors::Sixteen),
            )
        };
        #[cfg(not(target_arch = "x86_64"))]
        let (eight, sixteen) = (None, None);
        [four, eight, sixteen].into_iter().flatten().map(Width)
    }

    /// The widest that this processor has.
    pub fn widest() -> Option<Width> {
        Width::all().next_back()
    }

    /// Numbers of 32 bits in a vector, and so messages that go side by side: 4, 8 or 16.
    pub fn lanes(self) -> usize {
        match self.0 {
            #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
            Vectors::Four => 4,
            #[cfg(target_arch = "x86_64")]
            Vectors::Eight => 8,
            #[cfg(target_arch = "x86_64")]
            Vectors::Sixteen => 16,
        }
    }
}

/// Hashes messages side by side, with a chunk of memory for each.
#[derive(Debug)]
pub struct Lanes {
    width: Width,
    chunks: Box<[[u8; PADDED]]>,
}

impl Lanes {
    /// Lanes of the given width. Takes 32 KiB of memory for each of [`Width::lanes`].
    pub fn new(width: Width) -> Lanes {
        Lanes {
            width,
            chunks: vec![[0; PADDED]; width.lanes()].into(),
        }
    }

    /// The digests of `messages` messages, in their order. They may differ in length, and there may be
    /// more or fewer than lanes.
    ///
    /// `fill` is called with the number of a message and room for its next bytes, and says how many it
    /// wrote: all that fit, unless the message ends. Less than the room means that it has ended.
    pub fn hash(
        &mut self,
        messages: usize,
        mut fill: impl FnMut(usize, &mut [u8]) -> usize,
    ) -> Vec<Digest> {
        let mut digests = Vec::with_capacity(messages);
        for first in (0..messages).step_by(self.width.lanes()) {
            let mut lanes: Vec<Lane> = self.chunks.iter_mut().map(Lane::new).collect();
            lanes.truncate(messages - first);
            run(self.width, &mut lanes, |lane, room| {
                fill(first + lane, room)
            });
            digests.extend(lanes.iter().map(Lane::digest));
        }
        digests
    }
}

/// One message on its way.
struct Lane<'a> {
    /// The digest of what was hashed so far.
    state: [u32; 5],
    chunk: &'a mut [u8; PADDED],
    /// The blocks of the chunk that wait: from the first number to before the second.
    waiting: Range<usize>,
    /// Bytes of the message that were given so far.
    length: u64,
    ended: bool,
}

impl<'a> Lane<'a> {
    fn new(chunk: &'a mut [u8; PADDED]) -> Lane<'a> {
        Lane {
            state: [
                0x6745_2301,
                0xefcd_ab89,
                0x98ba_dcfe,
                0x1032_5476,
                0xc3d2_e1f0,
            ],
            chunk,
            waiting: 0..0,
            length: 0,
            ended: false,
        }
    }

    /// Takes the next bytes of the message; after the last come a one bit, zeros, and the length in
    /// bits, up to the end of a block.
    fn refill(&mut self, fill: impl FnOnce(&mut [u8]) -> usize) {
        let count = fill(&mut self.chunk[..CHUNK]).min(CHUNK);
        self.length += count as u64;
        let mut end = count;
        if count < CHUNK {
            self.ended = true;
            end = (count + 1 + 8).next_multiple_of(BLOCK);
            let (zeros, bits) = self.chunk[count..end].split_at_mut(end - 8 - count);
            zeros.fill(0);
            zeros[0] = 0x80;
            bits.copy_from_slice(&self.length.wrapping_mul(8).to_be_bytes());
        }
        self.waiting = 0..end / BLOCK;
    }

    fn digest(&self) -> Digest {
        let mut bytes = [0; 20];
        for (to, word) in bytes.chunks_exact_mut(4).zip(self.state) {
            to.copy_from_slice(&word.to_be_bytes());
        }
        Digest(bytes)
    }
}

/// Hashes the messages of all `lanes` to their ends. A lane whose message has ended drops out, and the
/// others close up.
fn run(width: Width, lanes: &mut [Lane], mut fill: impl FnMut(usize, &mut [u8]) -> usize) {
    loop {
        for (number, lane) in lanes.iter_mut().enumerate() {
            if lane.waiting.is_empty() && !lane.ended {
                lane.refill(|room| fill(number, room));
            }
        }
        let mut busy: Vec<&mut Lane> = lanes
            .iter_mut()
            .filter(|lane| !lane.waiting.is_empty())
            .collect();
        let Some(blocks) = busy.iter().map(|lane| lane.waiting.len()).min() else {
            return;
        };
        match width.0 {
            #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
            Vectors::Four => advance(&mut busy, blocks, compress_by_fours),
            // SAFETY: the only way to a `Width` is `Width::all`, and it has found AVX2.
            #[cfg(target_arch = "x86_64")]
            Vectors::Eight => advance(&mut busy, blocks, |state, messages| unsafe {
                compress_avx2(state, messages);
            }),
            // SAFETY: likewise, and it has found the three parts of AVX-512.
            #[cfg(target_arch = "x86_64")]
            Vectors::Sixteen => advance(&mut busy, blocks, |state, messages| unsafe {
                compress_avx512(state, messages);
            }),
        }
    }
}

/// Hashes the next `blocks` of each of the up to `N` lanes. Those missing to `N` do what the first does,
/// and nobody looks at what comes of it.
fn advance<const N: usize>(
    lanes: &mut [&mut Lane],
    blocks: usize,
    compress: impl FnOnce(&mut Sha1State<N>, [&[[u8; BLOCK]]; N]),
) {
    let of = |row: usize| if row < lanes.len() { row } else { 0 };
    let mut state =
        std::array::from_fn(|word| std::array::from_fn(|row| lanes[of(row)].state[word]));
    let messages = std::array::from_fn(|row| {
        let lane = &lanes[of(row)];
        &lane.chunk.as_chunks().0[lane.waiting.start..][..blocks]
    });
    compress(&mut state, messages);
    for (row, lane) in lanes.iter_mut().enumerate() {
        lane.state = std::array::from_fn(|word| state[word][row]);
        lane.waiting.start += blocks;
    }
}

/// A number for each message.
type Row<const N: usize> = [u32; N];

/// The five words of each message's state.
type Sha1State<const N: usize> = [Row<N>; 5];

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[inline(never)]
fn compress_by_fours(state: &mut Sha1State<4>, messages: [&[[u8; BLOCK]]; 4]) {
    // SAFETY: every processor of these targets has vectors of 128 bits.
    unsafe { compress::<4, vectors::Four>(state, messages) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn compress_avx2(state: &mut Sha1State<8>, messages: [&[[u8; BLOCK]]; 8]) {
    // SAFETY: this function has AVX2.
    unsafe { compress::<8, vectors::Eight>(state, messages) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn compress_avx512(state: &mut Sha1State<16>, messages: [&[[u8; BLOCK]]; 16]) {
    // SAFETY: this function has the three parts of AVX-512.
    unsafe { compress::<16, vectors::Sixteen>(state, messages) }
}

/// SHA-1 over blocks of `N` messages (as many of each as there are of the first), to the letter of the
/// standard (FIPS 180-4, 6.1.3: with a schedule of sixteen words) but for each number being a row.
/// Inlined into each of its callers, so that it is compiled with their instructions.
///
/// The rounds are written out, and the variables change their names instead of their values: so every
/// word of the schedule has its fixed place, and rows stay in registers where there are enough. A loop
/// over the rounds is half as fast.
///
/// # Safety
///
/// The processor has the instructions of `V`.
#[inline(always)]
unsafe fn compress<const N: usize, V: Vector<N>>(
    state: &mut Sha1State<N>,
    messages: [&[[u8; BLOCK]]; N],
) {
    // SAFETY: the caller's promise.
    let row = |row: Row<N>| unsafe { V::of_row(row) };
    let constants = [0x5a82_7999, 0x6ed9_eba1, 0x8f1b_bcdc, 0xca62_c1d6].map(|it| row([it; N]));
    let mut sums = state.map(row);
    for block in 0..messages[0].len() {
        let blocks = messages.map(|message| &message[block]);
        // SAFETY: the caller's promise.
        let mut words = unsafe {
            let (s, t) = (
                four_words::<N, V>(&blocks, 0),
                four_words::<N, V>(&blocks, 1),
            );
            let (u, v) = (
                four_words::<N, V>(&blocks, 2),
                four_words::<N, V>(&blocks, 3),
            );
            [
                s[0], s[1], s[2], s[3], t[0], t[1], t[2], t[3], //
                u[0], u[1], u[2], u[3], v[0], v[1], v[2], v[3],
            ]
        };
        let [mut a, mut b, mut c, mut d, mut e] = sums;
        // Round `$number`: the new `a` takes the place of `$e`, which nobody needs any more.
        macro_rules! round {
            ($a:ident $b:ident $c:ident $d:ident $e:ident, $number:expr, $mix:ident) => {
                let at = const {
                    [
                        $number % 16,
                        ($number + 13) % 16,
                        ($number + 8) % 16,
                        ($number + 2) % 16,
                    ]
                };
                if $number >= 16 {
                    let mixed = words[at[0]]
                        .xor(words[at[1]])
                        .xor(words[at[2]])
                        .xor(words[at[3]]);
                    words[at[0]] = mixed.rotate::<1, 31>();
                }
                let known = words[at[0]].add(constants[$number / 20]).add($e);
                $e = known.add($b.$mix($c, $d)).add($a.rotate::<5, 27>());
                $b = $b.rotate::<30, 2>();
            };
        }
        macro_rules! five_rounds {
            ($from:expr, $mix:ident) => {
                round!(a b c d e, $from, $mix);
                round!(e a b c d, $from + 1, $mix);
                round!(d e a b c, $from + 2, $mix);
                round!(c d e a b, $from + 3, $mix);
                round!(b c d e a, $from + 4, $mix);
            };
        }
        macro_rules! twenty_rounds {
            ($from:expr, $mix:ident) => {
                five_rounds!($from, $mix);
                five_rounds!($from + 5, $mix);
                five_rounds!($from + 10, $mix);
                five_rounds!($from + 15, $mix);
            };
        }
        twenty_rounds!(0, choose);
        twenty_rounds!(20, parity);
        twenty_rounds!(40, majority);
        twenty_rounds!(60, parity);
        sums = [
            sums[0].add(a),
            sums[1].add(b),
            sums[2].add(c),
            sums[3].add(d),
            sums[4].add(e),
        ];
    }
    *state = sums.map(V::to_row);
}

/// Words `4 * quarter` and the next three of a block of each message. Four words of each of four messages
/// are a square of numbers, which is turned over its diagonal by pairs and pairs of pairs; a vector holds
/// one, two or four squares.
///
/// # Safety
///
/// The processor has the instructions of `V`.
#[inline(always)]
unsafe fn four_words<const N: usize, V: Vector<N>>(
    blocks: &[&[u8; BLOCK]; N],
    quarter: usize,
) -> [V; 4] {
    // SAFETY: the caller's promise.
    let [a, b, c, d] = unsafe {
        [
            V::of_blocks(blocks, 0, quarter),
            V::of_blocks(blocks, 1, quarter),
            V::of_blocks(blocks, 2, quarter),
            V::of_blocks(blocks, 3, quarter),
        ]
    };
    let (low, low_too) = (a.zip_low(b), c.zip_low(d));
    let (high, high_too) = (a.zip_high(b), c.zip_high(d));
    [
        low.zip_low_pairs(low_too).swap_bytes(),
        low.zip_high_pairs(low_too).swap_bytes(),
        high.zip_low_pairs(high_too).swap_bytes(),
        high.zip_high_pairs(high_too).swap_bytes(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hash(width: Width, messages: &[Vec<u8>]) -> Vec<Digest> {
        let mut rest: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
        Lanes::new(width).hash(messages.len(), |message, room| {
            let (now, later) = rest[message].split_at(rest[message].len().min(room.len()));
            room[..now.len()].copy_from_slice(now);
            rest[message] = later;
            now.len()
        })
    }

    fn one_by_one(messages: &[Vec<u8>]) -> Vec<Digest> {
        messages.iter().map(|message| Digest::of(message)).collect()
    }

    fn noise(length: usize, seed: u64) -> Vec<u8> {
        let mut rng = fastrand::Rng::with_seed(seed);
        (0..length).map(|_| rng.u8(..)).collect()
    }

    /// Lengths where something ends: a padding block, a block, a chunk.
    fn length() -> impl Strategy<Value = usize> {
        prop_oneof![
            0..300usize,
            (1..6usize, 0..20usize).prop_map(|(blocks, more)| blocks * 64 + more - 10),
            (1..3usize, 0..160usize).prop_map(|(chunks, more)| chunks * CHUNK + more - 80),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn every_width_says_what_one_by_one_says(lengths in proptest::collection::vec(length(), 0..40), seed: u64) {
            let messages: Vec<_> = lengths.iter().map(|length| noise(*length, seed ^ *length as u64)).collect();
            for width in Width::all() {
                prop_assert_eq!(hash(width, &messages), one_by_one(&messages), "{:?}", width);
            }
        }
    }

    #[test]
    fn every_length_up_to_five_blocks_is_right_in_every_lane() {
        let messages: Vec<_> = (0..=320).map(|length| noise(length, 7)).collect();
        let expected = one_by_one(&messages);
        for width in Width::all() {
            for skipped in (0..width.lanes()).step_by(5) {
                assert_eq!(
                    hash(width, &messages[skipped..]),
                    expected[skipped..],
                    "{width:?}"
                );
            }
        }
    }

    #[test]
    fn one_long_message_goes_on_when_all_others_have_ended() {
        for width in Width::all() {
            for long in 0..width.lanes() {
                let mut messages = vec![noise(100, 1); width.lanes()];
                messages[long] = noise(5 * CHUNK + 1, 2);
                assert_eq!(hash(width, &messages), one_by_one(&messages), "{width:?}");
            }
        }
    }

    #[test]
    fn the_padding_holds_the_length_in_bits_of_messages_over_512_mib() {
        let mut chunk = [0xff; PADDED];
        let mut lane = Lane::new(&mut chunk);
        lane.length = 5 << 30;
        lane.refill(|_| 3);
        assert_eq!((lane.ended, lane.waiting.clone()), (true, 0..1));
        assert_eq!(lane.chunk[2..56], [&[0xff, 0x80][..], &[0; 52]].concat());
        assert_eq!(lane.chunk[56..64], ((5 << 33) + 24_u64).to_be_bytes());
    }

    #[test]
    fn wider_vectors_have_room_for_more_messages() {
        let widths: Vec<_> = Width::all().collect();
        assert!(widths.is_sorted_by_key(|width| width.lanes()));
        assert_eq!(widths.last().copied(), Width::widest());
        assert!(widths.iter().all(|it| WORTHWHILE <= it.lanes()));
    }
}
