//! The lanes as two 256-bit registers.

use std::arch::x86_64::*;

use super::{LANES, Lanes};

#[derive(Clone, Copy)]
pub struct Avx2(__m256, __m256);

// SAFETY of all methods: AVX2, FMA and F16C are available (`Isa::is_available`), and pointers are valid for the
// elements named by the trait; all loads and stores are unaligned ones.
impl Lanes for Avx2 {
    type Ints = (__m256i, __m256i);
    type Bytes = (__m256i, __m256i);

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        unsafe { Self(_mm256_set1_ps(x), _mm256_set1_ps(x)) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        unsafe { Self(_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(8))) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        unsafe {
            _mm256_storeu_ps(p, self.0);
            _mm256_storeu_ps(p.add(8), self.1);
        }
    }
    #[inline(always)]
    unsafe fn load_f16(p: *const u16) -> Self {
        unsafe { Self(_mm256_cvtph_ps(_mm_loadu_si128(p.cast())), _mm256_cvtph_ps(_mm_loadu_si128(p.add(8).cast()))) }
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const u16) -> Self {
        unsafe {
            let widen = |p: *const u16| {
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast()))))
            };
            Self(widen(p), widen(p.add(8)))
        }
    }
    #[inline(always)]
    unsafe fn store_bf16(self, p: *mut u16) {
        unsafe {
            // Rounded by adding half a unit, less one where the kept part is even.
            let round = |x: __m256| {
                let bits = _mm256_castps_si256(x);
                let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
                let up = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF)));
                let exponent = _mm256_and_si256(bits, _mm256_set1_epi32(0x7F80_0000));
                let tiny = _mm256_cmpeq_epi32(exponent, _mm256_setzero_si256());
                _mm256_andnot_si256(tiny, _mm256_srli_epi32::<16>(up))
            };
            let both = _mm256_packus_epi32(round(self.0), round(self.1));
            _mm256_storeu_si256(p.cast(), _mm256_permute4x64_epi64::<0b1101_1000>(both));
        }
    }
    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        unsafe { Self(_mm256_add_ps(self.0, b.0), _mm256_add_ps(self.1, b.1)) }
    }
    #[inline(always)]
    unsafe fn sub(self, b: Self) -> Self {
        unsafe { Self(_mm256_sub_ps(self.0, b.0), _mm256_sub_ps(self.1, b.1)) }
    }
    #[inline(always)]
    unsafe fn mul(self, b: Self) -> Self {
        unsafe { Self(_mm256_mul_ps(self.0, b.0), _mm256_mul_ps(self.1, b.1)) }
    }
    #[inline(always)]
    unsafe fn div(self, b: Self) -> Self {
        unsafe { Self(_mm256_div_ps(self.0, b.0), _mm256_div_ps(self.1, b.1)) }
    }
    #[inline(always)]
    unsafe fn mul_add(self, b: Self, c: Self) -> Self {
        unsafe { Self(_mm256_fmadd_ps(self.0, b.0, c.0), _mm256_fmadd_ps(self.1, b.1, c.1)) }
    }
    #[inline(always)]
    unsafe fn max(self, b: Self) -> Self {
        unsafe { Self(_mm256_max_ps(self.0, b.0), _mm256_max_ps(self.1, b.1)) }
    }
    #[inline(always)]
    unsafe fn min(self, b: Self) -> Self {
        unsafe { Self(_mm256_min_ps(self.0, b.0), _mm256_min_ps(self.1, b.1)) }
    }
    #[inline(always)]
    unsafe fn keep_first(self, keep: usize, other: Self) -> Self {
        let (mut a, mut b) = ([0.0f32; LANES], [0.0f32; LANES]);
        unsafe {
            self.store(a.as_mut_ptr());
            other.store(b.as_mut_ptr());
            a[keep.min(LANES)..].copy_from_slice(&b[keep.min(LANES)..]);
            Self::load(a.as_ptr())
        }
    }
    #[inline(always)]
    unsafe fn scale_exponent(self, by: Self) -> Self {
        unsafe {
            let scale = |x: __m256, by: __m256| {
                let shifted = _mm256_slli_epi32::<23>(_mm256_castps_si256(by));
                _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(x), shifted))
            };
            Self(scale(self.0, by.0), scale(self.1, by.1))
        }
    }
    #[inline(always)]
    unsafe fn abs(self) -> Self {
        unsafe {
            let sign = _mm256_set1_ps(-0.0);
            Self(_mm256_andnot_ps(sign, self.0), _mm256_andnot_ps(sign, self.1))
        }
    }
    #[inline(always)]
    unsafe fn round_to_ints(self) -> Self::Ints {
        unsafe { (_mm256_cvtps_epi32(self.0), _mm256_cvtps_epi32(self.1)) }
    }
    #[inline(always)]
    unsafe fn ints_sum(x: Self::Ints) -> i32 {
        let mut all = [0i32; 8];
        unsafe { _mm256_storeu_si256(all.as_mut_ptr().cast(), _mm256_add_epi32(x.0, x.1)) };
        all.iter().fold(0, |sum, x| sum.wrapping_add(*x))
    }
    #[inline(always)]
    unsafe fn ints_store_i8(x: Self::Ints, p: *mut i8) {
        unsafe {
            let words = _mm256_permute4x64_epi64::<0b1101_1000>(_mm256_packs_epi32(x.0, x.1));
            let bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
            _mm_storeu_si128(p.cast(), bytes);
        }
    }
    #[inline(always)]
    unsafe fn ints_load_u8(p: *const u8) -> Self::Ints {
        unsafe {
            (_mm256_cvtepu8_epi32(_mm_loadl_epi64(p.cast())), _mm256_cvtepu8_epi32(_mm_loadl_epi64(p.add(8).cast())))
        }
    }
    #[inline(always)]
    unsafe fn ints_load_i8(p: *const i8) -> Self::Ints {
        unsafe {
            (_mm256_cvtepi8_epi32(_mm_loadl_epi64(p.cast())), _mm256_cvtepi8_epi32(_mm_loadl_epi64(p.add(8).cast())))
        }
    }
    #[inline(always)]
    unsafe fn six_bits<const LEFT: i32>(low: Self::Bytes, high: Self::Bytes) -> Self::Bytes {
        unsafe {
            let one = |low, high| {
                let high = match LEFT {
                    4 => _mm256_slli_epi16::<4>(high),
                    2 => _mm256_slli_epi16::<2>(high),
                    0 => high,
                    _ => _mm256_srli_epi16::<2>(high),
                };
                let low = _mm256_and_si256(low, _mm256_set1_epi8(0x0F));
                _mm256_or_si256(low, _mm256_and_si256(high, _mm256_set1_epi8(0x30)))
            };
            (one(low.0, high.0), one(low.1, high.1))
        }
    }
    #[inline(always)]
    unsafe fn load_i8_as_bf16(p: *const i8) -> Self::Bytes {
        unsafe {
            let sixteen = |p: *const i8| {
                let wide = |p: *const i8| {
                    let ints = _mm256_cvtepi8_epi32(_mm_loadl_epi64(p.cast()));
                    _mm256_srli_epi32::<16>(_mm256_castps_si256(_mm256_cvtepi32_ps(ints)))
                };
                _mm256_permute4x64_epi64::<0b1101_1000>(_mm256_packus_epi32(wide(p), wide(p.add(8))))
            };
            (sixteen(p), sixteen(p.add(16)))
        }
    }
    #[inline(always)]
    unsafe fn dot_bf16(self, pairs: Self::Bytes, q: u32) -> Self {
        unsafe {
            let q = _mm256_set1_epi32(q as i32);
            let high = |x| _mm256_castsi256_ps(_mm256_and_si256(x, _mm256_set1_epi32(0xFFFF_0000_u32 as i32)));
            let low = |x| _mm256_castsi256_ps(_mm256_slli_epi32::<16>(x));
            let add = |acc, pairs| _mm256_fmadd_ps(low(pairs), low(q), _mm256_fmadd_ps(high(pairs), high(q), acc));
            Self(add(self.0, pairs.0), add(self.1, pairs.1))
        }
    }
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        unsafe { super::avx512::sum_of_eight(_mm256_add_ps(self.0, self.1)) }
    }
    #[inline(always)]
    unsafe fn ints_splat(x: i32) -> Self::Ints {
        unsafe { (_mm256_set1_epi32(x), _mm256_set1_epi32(x)) }
    }
    #[inline(always)]
    unsafe fn ints_to_f32(x: Self::Ints) -> Self {
        unsafe { Self(_mm256_cvtepi32_ps(x.0), _mm256_cvtepi32_ps(x.1)) }
    }
    #[inline(always)]
    unsafe fn load_bytes(p: *const u8) -> Self::Bytes {
        unsafe { (_mm256_loadu_si256(p.cast()), _mm256_loadu_si256(p.add(32).cast())) }
    }
    #[inline(always)]
    unsafe fn store_bytes(x: Self::Bytes, p: *mut u8) {
        unsafe {
            _mm256_storeu_si256(p.cast(), x.0);
            _mm256_storeu_si256(p.add(32).cast(), x.1);
        }
    }
    #[inline(always)]
    unsafe fn prefetch(p: *const u8) {
        unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
    }
    #[inline(always)]
    unsafe fn low_nibbles(x: Self::Bytes) -> Self::Bytes {
        unsafe {
            let mask = _mm256_set1_epi8(0x0F);
            (_mm256_and_si256(x.0, mask), _mm256_and_si256(x.1, mask))
        }
    }
    #[inline(always)]
    unsafe fn high_nibbles(x: Self::Bytes) -> Self::Bytes {
        unsafe {
            let mask = _mm256_set1_epi8(0x0F);
            let high = |x| _mm256_and_si256(_mm256_srli_epi16::<4>(x), mask);
            (high(x.0), high(x.1))
        }
    }
    #[inline(always)]
    unsafe fn dot(acc: Self::Ints, w: Self::Bytes, a: i32) -> Self::Ints {
        // `maddubs` saturates at 16 bits (255 * 127 * 2 does not fit): widen even and odd bytes and use `madd`.
        unsafe {
            let a = _mm256_set1_epi32(a);
            let a_even = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(a));
            let a_odd = _mm256_srai_epi16::<8>(a);
            let low = _mm256_set1_epi16(0x00FF);
            let add = |acc, w| {
                let even = _mm256_madd_epi16(_mm256_and_si256(w, low), a_even);
                let odd = _mm256_madd_epi16(_mm256_srli_epi16::<8>(w), a_odd);
                _mm256_add_epi32(acc, _mm256_add_epi32(even, odd))
            };
            (add(acc.0, w.0), add(acc.1, w.1))
        }
    }
}
