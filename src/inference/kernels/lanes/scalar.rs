//! The lanes in plain Rust: the truth that the other sets are tested against.

use half::{bf16, f16};

use super::{LANES, Lanes};

#[derive(Clone, Copy)]
pub struct Scalar([f32; LANES]);

#[inline(always)]
fn zip(a: Scalar, b: Scalar, f: impl Fn(f32, f32) -> f32) -> Scalar {
    Scalar(std::array::from_fn(|i| f(a.0[i], b.0[i])))
}

// SAFETY of all methods: pointers are valid for the elements named by the trait; nothing else is unsafe.
impl Lanes for Scalar {
    type Ints = [i32; LANES];
    type Bytes = [u8; 64];

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Self([x; LANES])
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        Self(unsafe { p.cast::<[f32; LANES]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        unsafe { p.cast::<[f32; LANES]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn load_f16(p: *const u16) -> Self {
        let bits = unsafe { p.cast::<[u16; LANES]>().read_unaligned() };
        Self(bits.map(|b| f16::from_bits(b).to_f32()))
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const u16) -> Self {
        let bits = unsafe { p.cast::<[u16; LANES]>().read_unaligned() };
        Self(bits.map(|b| bf16::from_bits(b).to_f32()))
    }
    #[inline(always)]
    unsafe fn store_bf16(self, p: *mut u16) {
        let bits = self.0.map(|x| if x.is_subnormal() { 0 } else { bf16::from_f32(x).to_bits() });
        unsafe { p.cast::<[u16; LANES]>().write_unaligned(bits) }
    }
    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        zip(self, b, |x, y| x + y)
    }
    #[inline(always)]
    unsafe fn sub(self, b: Self) -> Self {
        zip(self, b, |x, y| x - y)
    }
    #[inline(always)]
    unsafe fn mul(self, b: Self) -> Self {
        zip(self, b, |x, y| x * y)
    }
    #[inline(always)]
    unsafe fn div(self, b: Self) -> Self {
        zip(self, b, |x, y| x / y)
    }
    #[inline(always)]
    unsafe fn mul_add(self, b: Self, c: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i].mul_add(b.0[i], c.0[i])))
    }
    #[inline(always)]
    unsafe fn max(self, b: Self) -> Self {
        zip(self, b, |x, y| if x > y { x } else { y })
    }
    #[inline(always)]
    unsafe fn min(self, b: Self) -> Self {
        zip(self, b, |x, y| if x < y { x } else { y })
    }
    #[inline(always)]
    unsafe fn keep_first(self, keep: usize, other: Self) -> Self {
        Self(std::array::from_fn(|i| if i < keep { self.0[i] } else { other.0[i] }))
    }
    #[inline(always)]
    unsafe fn scale_exponent(self, by: Self) -> Self {
        Self(std::array::from_fn(|i| f32::from_bits(self.0[i].to_bits().wrapping_add(by.0[i].to_bits() << 23))))
    }
    #[inline(always)]
    unsafe fn abs(self) -> Self {
        Self(self.0.map(f32::abs))
    }
    #[inline(always)]
    unsafe fn round_to_ints(self) -> Self::Ints {
        self.0.map(|x| x.round_ties_even() as i32)
    }
    #[inline(always)]
    unsafe fn ints_sum(x: Self::Ints) -> i32 {
        x.iter().fold(0, |sum, x| sum.wrapping_add(*x))
    }
    #[inline(always)]
    unsafe fn ints_store_i8(x: Self::Ints, p: *mut i8) {
        unsafe { p.cast::<[i8; LANES]>().write_unaligned(x.map(|x| x as i8)) }
    }
    #[inline(always)]
    unsafe fn ints_load_u8(p: *const u8) -> Self::Ints {
        unsafe { p.cast::<[u8; LANES]>().read_unaligned() }.map(i32::from)
    }
    #[inline(always)]
    unsafe fn ints_load_i8(p: *const i8) -> Self::Ints {
        unsafe { p.cast::<[i8; LANES]>().read_unaligned() }.map(i32::from)
    }
    #[inline(always)]
    unsafe fn six_bits<const LEFT: i32>(low: Self::Bytes, high: Self::Bytes) -> Self::Bytes {
        std::array::from_fn(|i| {
            let high = if LEFT >= 0 { high[i] << LEFT } else { high[i] >> -LEFT };
            (low[i] & 0x0F) | (high & 0x30)
        })
    }
    #[inline(always)]
    unsafe fn load_i8_as_bf16(p: *const i8) -> Self::Bytes {
        let values = unsafe { p.cast::<[i8; 32]>().read_unaligned() };
        std::array::from_fn(|i| bf16::from_f32(f32::from(values[i / 2])).to_le_bytes()[i % 2])
    }
    #[inline(always)]
    unsafe fn dot_bf16(self, pairs: Self::Bytes, q: u32) -> Self {
        let (low, high) = (|x: u32| f32::from_bits(x << 16), |x: u32| f32::from_bits(x & 0xFFFF_0000));
        Self(std::array::from_fn(|i| {
            let pair = u32::from_le_bytes([pairs[4 * i], pairs[4 * i + 1], pairs[4 * i + 2], pairs[4 * i + 3]]);
            low(pair).mul_add(low(q), high(pair).mul_add(high(q), self.0[i]))
        }))
    }
    #[inline(always)]
    unsafe fn ints_splat(x: i32) -> Self::Ints {
        [x; LANES]
    }
    #[inline(always)]
    unsafe fn ints_to_f32(x: Self::Ints) -> Self {
        Self(x.map(|v| v as f32))
    }
    #[inline(always)]
    unsafe fn load_bytes(p: *const u8) -> Self::Bytes {
        unsafe { p.cast::<[u8; 64]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store_bytes(x: Self::Bytes, p: *mut u8) {
        unsafe { p.cast::<[u8; 64]>().write_unaligned(x) }
    }
    #[inline(always)]
    unsafe fn prefetch(p: *const u8) {
        let _ = p;
    }
    #[inline(always)]
    unsafe fn low_nibbles(x: Self::Bytes) -> Self::Bytes {
        x.map(|b| b & 0x0F)
    }
    #[inline(always)]
    unsafe fn high_nibbles(x: Self::Bytes) -> Self::Bytes {
        x.map(|b| b >> 4)
    }
    #[inline(always)]
    unsafe fn dot(acc: Self::Ints, w: Self::Bytes, a: i32) -> Self::Ints {
        let a = a.to_le_bytes().map(|b| i32::from(b as i8));
        std::array::from_fn(|i| {
            let mut sum = acc[i];
            for (j, a) in a.iter().enumerate() {
                sum = sum.wrapping_add(i32::from(w[4 * i + j]).wrapping_mul(*a));
            }
            sum
        })
    }
}
