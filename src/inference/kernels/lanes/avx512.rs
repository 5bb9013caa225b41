//! The lanes as one 512-bit register, with VNNI for the dot products.

use std::arch::x86_64::*;

use super::Lanes;

#[derive(Clone, Copy)]
pub struct Avx512(__m512);

// SAFETY of all methods: AVX-512 F, BW, VL, DQ and VNNI are available (`Isa::is_available`), and pointers are valid
// for the elements named by the trait; all loads and stores are unaligned ones.
impl Lanes for Avx512 {
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
    unsafe fn store_f16(self, p: *mut u16) {
        unsafe { _mm256_storeu_si256(p.cast(), _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.0)) }
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
    unsafe fn ints_splat(x: i32) -> Self::Ints {
        unsafe { _mm512_set1_epi32(x) }
    }
    #[inline(always)]
    unsafe fn ints_to_f32(x: Self::Ints) -> Self {
        Self(unsafe { _mm512_cvtepi32_ps(x) })
    }
    #[inline(always)]
    unsafe fn load_bytes(p: *const u8) -> Self::Bytes {
        unsafe { _mm512_loadu_si512(p.cast()) }
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
    unsafe fn dot(acc: Self::Ints, w: Self::Bytes, a: i32) -> Self::Ints {
        unsafe { _mm512_dpbusd_epi32(acc, w, _mm512_set1_epi32(a)) }
    }
}
