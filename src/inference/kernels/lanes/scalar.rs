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
    unsafe fn store_f16(self, p: *mut u16) {
        let bits = self.0.map(|x| f16::from_f32(x).to_bits());
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
