//! The lanes as one 512-bit register, with VNNI for the dot products, and bfloat16 ones where the machine has them.

use std::arch::x86_64::*;

use super::Lanes;

#[derive(Clone, Copy)]
pub struct Avx512<const BF16: bool>(__m512);

// SAFETY of all methods: AVX-512 F, BW, VL, DQ and VNNI are available (`Isa::is_available`), BF16 too where the
// constant says so, and pointers are valid for the elements named by the trait; all loads and stores are unaligned.
impl<const BF16: bool> Lanes for Avx512<BF16> {
    type Ints = __m512i;
    type Bytes = __m512i;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Self(unsafe { _mm512_set1_ps(x) })
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        Self(unsafe { _mm512_loadu_ps(p) })
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        unsafe { _mm512_storeu_ps(p, self.0) }
    }
    #[inline(always)]
    unsafe fn load_f16(p: *const u16) -> Self {
        Self(unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(p.cast())) })
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const u16) -> Self {
        Self(unsafe {
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast()))))
        })
    }
    #[inline(always)]
    unsafe fn store_bf16(self, p: *mut u16) {
        unsafe {
            if BF16 {
                let half: __m256i = std::mem::transmute(_mm512_cvtneps_pbh(self.0));
                _mm256_storeu_si256(p.cast(), half);
            } else {
                // Rounded by adding half a unit, less one where the kept part is even.
                let bits = _mm512_castps_si512(self.0);
                let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
                let up = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFF)));
                let normal = _mm512_test_epi32_mask(bits, _mm512_set1_epi32(0x7F80_0000));
                _mm256_storeu_si256(p.cast(), _mm512_cvtepi32_epi16(_mm512_maskz_srli_epi32::<16>(normal, up)));
            }
        }
    }
    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        Self(unsafe { _mm512_add_ps(self.0, b.0) })
    }
    #[inline(always)]
    unsafe fn sub(self, b: Self) -> Self {
        Self(unsafe { _mm512_sub_ps(self.0, b.0) })
    }
    #[inline(always)]
    unsafe fn mul(self, b: Self) -> Self {
        Self(unsafe { _mm512_mul_ps(self.0, b.0) })
    }
    #[inline(always)]
    unsafe fn div(self, b: Self) -> Self {
        Self(unsafe { _mm512_div_ps(self.0, b.0) })
    }
    #[inline(always)]
    unsafe fn mul_add(self, b: Self, c: Self) -> Self {
        Self(unsafe { _mm512_fmadd_ps(self.0, b.0, c.0) })
    }
    #[inline(always)]
    unsafe fn max(self, b: Self) -> Self {
        Self(unsafe { _mm512_max_ps(self.0, b.0) })
    }
    #[inline(always)]
    unsafe fn min(self, b: Self) -> Self {
        Self(unsafe { _mm512_min_ps(self.0, b.0) })
    }
    #[inline(always)]
    unsafe fn keep_first(self, keep: usize, other: Self) -> Self {
        let mask = if keep >= 16 { 0xFFFF } else { (1u16 << keep) - 1 };
        Self(unsafe { _mm512_mask_blend_ps(mask, other.0, self.0) })
    }
    #[inline(always)]
    unsafe fn scale_exponent(self, by: Self) -> Self {
        Self(unsafe {
            let shifted = _mm512_slli_epi32::<23>(_mm512_castps_si512(by.0));
            _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(self.0), shifted))
        })
    }
    #[inline(always)]
    unsafe fn abs(self) -> Self {
        Self(unsafe { _mm512_abs_ps(self.0) })
    }
    #[inline(always)]
    unsafe fn round_to_ints(self) -> Self::Ints {
        unsafe { _mm512_cvtps_epi32(self.0) }
    }
    #[inline(always)]
    unsafe fn ints_splat(x: i32) -> Self::Ints {
        unsafe { _mm512_set1_epi32(x) }
    }
    #[inline(always)]
    unsafe fn ints_to_f32(x: Self::Ints) -> Self {
        Self(unsafe { _mm512_cvtepi32_ps(x) })
    }
    #[inline(always)]
    unsafe fn ints_sum(x: Self::Ints) -> i32 {
        unsafe { _mm512_reduce_add_epi32(x) }
    }
    #[inline(always)]
    unsafe fn ints_store_i8(x: Self::Ints, p: *mut i8) {
        unsafe { _mm_storeu_si128(p.cast(), _mm512_cvtepi32_epi8(x)) }
    }
    #[inline(always)]
    unsafe fn ints_load_u8(p: *const u8) -> Self::Ints {
        unsafe { _mm512_cvtepu8_epi32(_mm_loadu_si128(p.cast())) }
    }
    #[inline(always)]
    unsafe fn ints_load_i8(p: *const i8) -> Self::Ints {
        unsafe { _mm512_cvtepi8_epi32(_mm_loadu_si128(p.cast())) }
    }
    #[inline(always)]
    unsafe fn load_bytes(p: *const u8) -> Self::Bytes {
        unsafe { _mm512_loadu_si512(p.cast()) }
    }
    #[inline(always)]
    unsafe fn store_bytes(x: Self::Bytes, p: *mut u8) {
        unsafe { _mm512_storeu_si512(p.cast(), x) }
    }
    #[inline(always)]
    unsafe fn prefetch(p: *const u8) {
        unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
    }
    #[inline(always)]
    unsafe fn low_nibbles(x: Self::Bytes) -> Self::Bytes {
        unsafe { _mm512_and_si512(x, _mm512_set1_epi8(0x0F)) }
    }
    #[inline(always)]
    unsafe fn high_nibbles(x: Self::Bytes) -> Self::Bytes {
        unsafe { _mm512_and_si512(_mm512_srli_epi16::<4>(x), _mm512_set1_epi8(0x0F)) }
    }
    #[inline(always)]
    unsafe fn six_bits<const LEFT: i32>(low: Self::Bytes, high: Self::Bytes) -> Self::Bytes {
        unsafe {
            let high = match LEFT {
                4 => _mm512_slli_epi16::<4>(high),
                2 => _mm512_slli_epi16::<2>(high),
                0 => high,
                _ => _mm512_srli_epi16::<2>(high),
            };
            let high = _mm512_and_si512(high, _mm512_set1_epi8(0x30));
            // (low & 0x0F) | high in one.
            _mm512_ternarylogic_epi32::<0xF8>(high, low, _mm512_set1_epi8(0x0F))
        }
    }
    #[inline(always)]
    unsafe fn load_i8_as_bf16(p: *const i8) -> Self::Bytes {
        unsafe {
            let wide =
                |p: *const i8| _mm512_castps_si512(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(p.cast()))));
            // The low halves of small integers are zero: cut, nothing is rounded.
            let (a, b) = (_mm512_srli_epi32::<16>(wide(p)), _mm512_srli_epi32::<16>(wide(p.add(16))));
            _mm512_inserti64x4::<1>(_mm512_castsi256_si512(_mm512_cvtepi32_epi16(a)), _mm512_cvtepi32_epi16(b))
        }
    }
    #[inline(always)]
    unsafe fn dot_bf16(self, pairs: Self::Bytes, q: u32) -> Self {
        unsafe {
            let q = _mm512_set1_epi32(q as i32);
            if BF16 {
                Self(_mm512_dpbf16_ps(
                    self.0,
                    std::mem::transmute::<__m512i, __m512bh>(pairs),
                    std::mem::transmute::<__m512i, __m512bh>(q),
                ))
            } else {
                let high = |x| _mm512_castsi512_ps(_mm512_and_si512(x, _mm512_set1_epi32(0xFFFF_0000_u32 as i32)));
                let low = |x| _mm512_castsi512_ps(_mm512_slli_epi32::<16>(x));
                Self(_mm512_fmadd_ps(low(pairs), low(q), _mm512_fmadd_ps(high(pairs), high(q), self.0)))
            }
        }
    }
    #[inline(always)]
    unsafe fn dot(acc: Self::Ints, w: Self::Bytes, a: i32) -> Self::Ints {
        unsafe { _mm512_dpbusd_epi32(acc, w, _mm512_set1_epi32(a)) }
    }
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        unsafe {
            // Halves, quarters, eighths, as the trait adds them.
            let x = _mm256_add_ps(_mm512_castps512_ps256(self.0), _mm512_extractf32x8_ps::<1>(self.0));
            sum_of_eight(x)
        }
    }
    #[inline(always)]
    unsafe fn largest(self) -> f32 {
        unsafe { _mm512_reduce_max_ps(self.0) }
    }
}

/// # Safety
/// AVX2 is available.
#[inline(always)]
pub(super) unsafe fn sum_of_eight(x: __m256) -> f32 {
    // SAFETY: register operations only.
    unsafe {
        let x = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
        let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
        _mm_cvtss_f32(_mm_add_ss(x, _mm_shuffle_ps::<1>(x, x)))
    }
}
