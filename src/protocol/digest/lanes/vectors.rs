//! Vectors of 32-bit numbers, with what SHA-1 does to them.
//!
//! ```text
//! let sum = unsafe { Eight::of_row(a).add(Eight::of_row(b)) };   // SAFETY: the processor has AVX2
//! let numbers = sum.rotate::<5, 27>().to_row();
//! ```
//!
//! Only the makers are `unsafe`: whoever makes the first vector knows that the processor has the
//! instructions, and from then on a value of the type is the proof. Everything is inlined into the caller,
//! which must be compiled for these instructions: elsewhere it would be right, and slow.
//!
//! Each operation names its instruction. From plain arrays the compiler makes the same code, but only if it
//! may optimise for speed alone, and this program is compiled to be small.
#![allow(unsafe_code)]

use super::BLOCK;

/// `N` numbers.
pub(super) trait Vector<const N: usize>: Copy {
    /// From memory.
    ///
    /// # Safety
    ///
    /// The processor has the instructions of this type.
    unsafe fn of_row(row: [u32; N]) -> Self;

    /// The same quarter (16 bytes) of the blocks with the numbers `first`, `first + 4`, `first + 8` and so on,
    /// one behind the other.
    ///
    /// # Safety
    ///
    /// The processor has the instructions of this type.
    unsafe fn of_blocks(blocks: &[&[u8; BLOCK]; N], first: usize, quarter: usize) -> Self;

    /// Back to memory.
    fn to_row(self) -> [u32; N];
    /// The sums, of each pair modulo 2^32.
    fn add(self, other: Self) -> Self;
    /// Bits that are set in one of both.
    fn xor(self, other: Self) -> Self;
    /// Bits that are set in both.
    fn and(self, other: Self) -> Self;
    /// Bits that are set in any.
    fn or(self, other: Self) -> Self;
    /// Each number rotated to the left by `LEFT` bits; `RIGHT` is what is missing to 32.
    fn rotate<const LEFT: i32, const RIGHT: i32>(self) -> Self;
    /// Each number from big endian to little endian.
    fn swap_bytes(self) -> Self;
    /// In each four numbers: 0 of this, 0 of the other, 1 of this, 1 of the other.
    fn zip_low(self, other: Self) -> Self;
    /// In each four numbers: 2 of this, 2 of the other, 3 of this, 3 of the other.
    fn zip_high(self, other: Self) -> Self;
    /// In each four numbers: 0 and 1 of this, 0 and 1 of the other.
    fn zip_low_pairs(self, other: Self) -> Self;
    /// In each four numbers: 2 and 3 of this, 2 and 3 of the other.
    fn zip_high_pairs(self, other: Self) -> Self;

    /// `c` where this has a bit, else `d`.
    #[inline(always)]
    fn choose(self, c: Self, d: Self) -> Self {
        self.and(c.xor(d)).xor(d)
    }

    /// Bits that are set in one or three of the three.
    #[inline(always)]
    fn parity(self, c: Self, d: Self) -> Self {
        self.xor(c).xor(d)
    }

    /// Bits that are set in at least two of the three.
    #[inline(always)]
    fn majority(self, c: Self, d: Self) -> Self {
        self.and(c).or(d.and(self.or(c)))
    }
}

/// Operations of two vectors that are an instruction each.
macro_rules! instructions {
    ($($operation:ident $instruction:ident,)*) => {$(
        #[inline(always)]
        fn $operation(self, other: Self) -> Self {
            // SAFETY: the values are the proof that the processor has the instruction.
            #[allow(unused_unsafe)] // where every processor of the target has it
            Self(unsafe { $instruction(self.0, other.0) })
        }
    )*};
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Eight, Four, Sixteen};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{BLOCK, Vector};
    use std::arch::x86_64::*;

    /// SSE2, which every processor of this kind has.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Four(__m128i);

    /// AVX2.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Eight(__m256i);

    /// AVX-512 with its parts F, BW and VL.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Sixteen(__m512i);

    /// 16 bytes of a block.
    #[inline(always)]
    fn quarter_of(block: &[u8; BLOCK], quarter: usize) -> __m128i {
        let bytes = block.as_chunks::<16>().0[quarter].as_ptr();
        // SAFETY: 16 bytes, wherever they lie, with an instruction that every processor has.
        unsafe { _mm_loadu_si128(bytes.cast()) }
    }

    impl Vector<4> for Four {
        #[inline(always)]
        unsafe fn of_row(row: [u32; 4]) -> Self {
            // SAFETY: 16 bytes, wherever they lie.
            Four(unsafe { _mm_loadu_si128(row.as_ptr().cast()) })
        }

        #[inline(always)]
        unsafe fn of_blocks(blocks: &[&[u8; BLOCK]; 4], first: usize, quarter: usize) -> Self {
            Four(quarter_of(blocks[first], quarter))
        }

        #[inline(always)]
        fn to_row(self) -> [u32; 4] {
            let mut row = [0; 4];
            // SAFETY: 16 bytes, wherever they lie.
            unsafe { _mm_storeu_si128(row.as_mut_ptr().cast(), self.0) };
            row
        }

        instructions! {
            add _mm_add_epi32, xor _mm_xor_si128, and _mm_and_si128, or _mm_or_si128,
            zip_low _mm_unpacklo_epi32, zip_high _mm_unpackhi_epi32,
            zip_low_pairs _mm_unpacklo_epi64, zip_high_pairs _mm_unpackhi_epi64,
        }

        #[inline(always)]
        fn rotate<const LEFT: i32, const RIGHT: i32>(self) -> Self {
            // SAFETY: every processor has SSE2.
            #[allow(unused_unsafe)]
            let (left, right) = unsafe {
                (
                    _mm_slli_epi32::<LEFT>(self.0),
                    _mm_srli_epi32::<RIGHT>(self.0),
                )
            };
            Four(left).or(Four(right))
        }

        #[inline(always)]
        fn swap_bytes(self) -> Self {
            // SAFETY: every processor has SSE2.
            #[allow(unused_unsafe)]
            let (left, right) =
                unsafe { (_mm_slli_epi16::<8>(self.0), _mm_srli_epi16::<8>(self.0)) };
            Four(left).or(Four(right)).rotate::<16, 16>()
        }
    }

    impl Vector<8> for Eight {
        #[inline(always)]
        unsafe fn of_row(row: [u32; 8]) -> Self {
            // SAFETY: 32 bytes, wherever they lie; the caller has AVX2.
            Eight(unsafe { _mm256_loadu_si256(row.as_ptr().cast()) })
        }

        #[inline(always)]
        unsafe fn of_blocks(blocks: &[&[u8; BLOCK]; 8], first: usize, quarter: usize) -> Self {
            let part = |number: usize| quarter_of(blocks[first + number], quarter);
            // SAFETY: the caller has AVX2.
            Eight(unsafe { _mm256_set_m128i(part(4), part(0)) })
        }

        #[inline(always)]
        fn to_row(self) -> [u32; 8] {
            let mut row = [0; 8];
            // SAFETY: 32 bytes, wherever they lie; the value is the proof of AVX2.
            unsafe { _mm256_storeu_si256(row.as_mut_ptr().cast(), self.0) };
            row
        }

        instructions! {
            add _mm256_add_epi32, xor _mm256_xor_si256, and _mm256_and_si256, or _mm256_or_si256,
            zip_low _mm256_unpacklo_epi32, zip_high _mm256_unpackhi_epi32,
            zip_low_pairs _mm256_unpacklo_epi64, zip_high_pairs _mm256_unpackhi_epi64,
        }

        #[inline(always)]
        fn rotate<const LEFT: i32, const RIGHT: i32>(self) -> Self {
            // SAFETY: the value is the proof of AVX2.
            let (left, right) = unsafe {
                (
                    _mm256_slli_epi32::<LEFT>(self.0),
                    _mm256_srli_epi32::<RIGHT>(self.0),
                )
            };
            Eight(left).or(Eight(right))
        }

        #[inline(always)]
        fn swap_bytes(self) -> Self {
            // SAFETY: the value is the proof of AVX2.
            Eight(unsafe { _mm256_shuffle_epi8(self.0, _mm256_broadcastsi128_si256(SWAPPED)) })
        }
    }

    /// In each four bytes the last first.
    const SWAPPED: __m128i = {
        let order: [u8; 16] = [3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12];
        // SAFETY: both are 16 bytes, and any are good.
        unsafe { std::mem::transmute(order) }
    };

    impl Vector<16> for Sixteen {
        #[inline(always)]
        unsafe fn of_row(row: [u32; 16]) -> Self {
            // SAFETY: 64 bytes, wherever they lie; the caller has AVX-512.
            Sixteen(unsafe { _mm512_loadu_si512(row.as_ptr().cast()) })
        }

        #[inline(always)]
        unsafe fn of_blocks(blocks: &[&[u8; BLOCK]; 16], first: usize, quarter: usize) -> Self {
            let [a, b, c, d] = [
                quarter_of(blocks[first], quarter),
                quarter_of(blocks[first + 4], quarter),
                quarter_of(blocks[first + 8], quarter),
                quarter_of(blocks[first + 12], quarter),
            ];
            // SAFETY: the caller has AVX-512.
            Sixteen(unsafe {
                let low = _mm512_castsi256_si512(_mm256_set_m128i(b, a));
                _mm512_inserti64x4::<1>(low, _mm256_set_m128i(d, c))
            })
        }

        #[inline(always)]
        fn to_row(self) -> [u32; 16] {
            let mut row = [0; 16];
            // SAFETY: 64 bytes, wherever they lie; the value is the proof of AVX-512.
            unsafe { _mm512_storeu_si512(row.as_mut_ptr().cast(), self.0) };
            row
        }

        instructions! {
            add _mm512_add_epi32, xor _mm512_xor_si512, and _mm512_and_si512, or _mm512_or_si512,
            zip_low _mm512_unpacklo_epi32, zip_high _mm512_unpackhi_epi32,
            zip_low_pairs _mm512_unpacklo_epi64, zip_high_pairs _mm512_unpackhi_epi64,
        }

        #[inline(always)]
        fn rotate<const LEFT: i32, const RIGHT: i32>(self) -> Self {
            // SAFETY: the value is the proof of AVX-512.
            Sixteen(unsafe { _mm512_rol_epi32::<LEFT>(self.0) })
        }

        #[inline(always)]
        fn swap_bytes(self) -> Self {
            // SAFETY: the value is the proof of AVX-512.
            Sixteen(unsafe { _mm512_shuffle_epi8(self.0, _mm512_broadcast_i32x4(SWAPPED)) })
        }
    }
}

#[cfg(target_arch = "aarch64")]
pub(super) use arm::Four;

#[cfg(target_arch = "aarch64")]
mod arm {
    use super::{BLOCK, Vector};
    use std::arch::aarch64::*;

    /// NEON, which every processor of this kind has.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Four(uint32x4_t);

    #[inline(always)]
    fn low_pairs(a: uint32x4_t, b: uint32x4_t) -> uint32x4_t {
        // SAFETY: every processor has NEON.
        #[allow(unused_unsafe)]
        unsafe {
            vreinterpretq_u32_u64(vzip1q_u64(
                vreinterpretq_u64_u32(a),
                vreinterpretq_u64_u32(b),
            ))
        }
    }

    #[inline(always)]
    fn high_pairs(a: uint32x4_t, b: uint32x4_t) -> uint32x4_t {
        // SAFETY: every processor has NEON.
        #[allow(unused_unsafe)]
        unsafe {
            vreinterpretq_u32_u64(vzip2q_u64(
                vreinterpretq_u64_u32(a),
                vreinterpretq_u64_u32(b),
            ))
        }
    }

    impl Vector<4> for Four {
        #[inline(always)]
        unsafe fn of_row(row: [u32; 4]) -> Self {
            // SAFETY: 16 bytes, wherever they lie.
            Four(unsafe { vld1q_u32(row.as_ptr()) })
        }

        #[inline(always)]
        unsafe fn of_blocks(blocks: &[&[u8; BLOCK]; 4], first: usize, quarter: usize) -> Self {
            let bytes = blocks[first].as_chunks::<16>().0[quarter].as_ptr();
            // SAFETY: 16 bytes, wherever they lie.
            Four(unsafe { vreinterpretq_u32_u8(vld1q_u8(bytes)) })
        }

        #[inline(always)]
        fn to_row(self) -> [u32; 4] {
            let mut row = [0; 4];
            // SAFETY: 16 bytes, wherever they lie.
            unsafe { vst1q_u32(row.as_mut_ptr(), self.0) };
            row
        }

        instructions! {
            add vaddq_u32, xor veorq_u32, and vandq_u32, or vorrq_u32,
            zip_low vzip1q_u32, zip_high vzip2q_u32,
            zip_low_pairs low_pairs, zip_high_pairs high_pairs,
        }

        #[inline(always)]
        fn rotate<const LEFT: i32, const RIGHT: i32>(self) -> Self {
            // SAFETY: every processor has NEON.
            #[allow(unused_unsafe)]
            let (left, right) =
                unsafe { (vshlq_n_u32::<LEFT>(self.0), vshrq_n_u32::<RIGHT>(self.0)) };
            Four(left).or(Four(right))
        }

        #[inline(always)]
        fn swap_bytes(self) -> Self {
            // SAFETY: every processor has NEON.
            #[allow(unused_unsafe)]
            Four(unsafe { vreinterpretq_u32_u8(vrev32q_u8(vreinterpretq_u8_u32(self.0))) })
        }
    }
}
