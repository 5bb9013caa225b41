//! Sixteen f32 lanes and the few operations the kernels are written in.
//!
//! Each implementation does each operation with the same rounding, so a kernel gives the same bits on all of them.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod scalar;

#[cfg(target_arch = "x86_64")]
pub use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub use avx512::Avx512;
pub use scalar::Scalar;

pub const LANES: usize = 16;

/// Sixteen f32 values, sixteen i32 accumulators, and 64 bytes of weights.
///
/// # Safety
/// All methods: the instruction set of the implementation must be available. Pointers need no alignment and must
/// be valid for the sixteen elements (or 64 bytes) that the method names.
pub trait Lanes: Copy {
    type Ints: Copy; // 16 x i32
    type Bytes: Copy; // 64 x u8

    unsafe fn splat(x: f32) -> Self;
    unsafe fn load(p: *const f32) -> Self;
    unsafe fn store(self, p: *mut f32);
    /// Widens sixteen IEEE half-precision values, exactly.
    unsafe fn load_f16(p: *const u16) -> Self;
    /// Widens sixteen bfloat16 values, exactly.
    unsafe fn load_bf16(p: *const u16) -> Self;
    /// Rounds to bfloat16, ties to even; what is too small for a normal number becomes zero.
    unsafe fn store_bf16(self, p: *mut u16);

    unsafe fn add(self, b: Self) -> Self;
    unsafe fn sub(self, b: Self) -> Self;
    unsafe fn mul(self, b: Self) -> Self;
    unsafe fn div(self, b: Self) -> Self;
    /// `self * b + c`, rounded once.
    unsafe fn mul_add(self, b: Self, c: Self) -> Self;
    /// The larger of each pair; arguments are never NaN where it is used.
    unsafe fn max(self, b: Self) -> Self;
    unsafe fn min(self, b: Self) -> Self;
    /// Zeroes the lanes from `keep` on.
    unsafe fn keep_first(self, keep: usize, other: Self) -> Self;
    /// Adds `bits << 23` of `by` to the exponents of `self`: the last step of `exp`.
    unsafe fn scale_exponent(self, by: Self) -> Self;

    /// The magnitude of each lane.
    unsafe fn abs(self) -> Self;
    /// Rounds to the nearest integers, ties to even; arguments are within 32 bits.
    unsafe fn round_to_ints(self) -> Self::Ints;

    unsafe fn ints_splat(x: i32) -> Self::Ints;
    unsafe fn ints_to_f32(x: Self::Ints) -> Self;
    /// The exact sum of the lanes.
    unsafe fn ints_sum(x: Self::Ints) -> i32;
    /// Stores the low byte of each lane; values are within a signed byte.
    unsafe fn ints_store_i8(x: Self::Ints, p: *mut i8);
    /// Widens sixteen unsigned or signed bytes.
    unsafe fn ints_load_u8(p: *const u8) -> Self::Ints;
    unsafe fn ints_load_i8(p: *const i8) -> Self::Ints;
    unsafe fn load_bytes(p: *const u8) -> Self::Bytes;
    unsafe fn store_bytes(x: Self::Bytes, p: *mut u8);
    /// Asks for the cache line at `p`, which need not be valid, into the second cache; without effect on results.
    unsafe fn prefetch(p: *const u8);
    /// The low four bits of each byte.
    unsafe fn low_nibbles(x: Self::Bytes) -> Self::Bytes;
    /// The high four bits of each byte.
    unsafe fn high_nibbles(x: Self::Bytes) -> Self::Bytes;
    /// `(low & 0x0F) | (high << LEFT & 0x30)` of each byte, or with `high >> -LEFT`: a quant of six bits.
    unsafe fn six_bits<const LEFT: i32>(low: Self::Bytes, high: Self::Bytes) -> Self::Bytes;
    /// Widens 32 signed bytes to bfloat16, exactly.
    unsafe fn load_i8_as_bf16(p: *const i8) -> Self::Bytes;
    /// Adds to lane `i` the products of the bfloat16 pair `i` of `pairs` with the pair in `q`, the high half first,
    /// each rounded once. That is what the hardware's instruction does (measured: 1.6 million sums on Zen 4, all
    /// equal), so that sets without it give the same bits for normal numbers.
    unsafe fn dot_bf16(self, pairs: Self::Bytes, q: u32) -> Self;
    /// Adds to lane `i` the dot product of the unsigned bytes `4i..4i+4` of `w` with the four signed bytes of `a`,
    /// exactly, in 32 bits.
    unsafe fn dot(acc: Self::Ints, w: Self::Bytes, a: i32) -> Self::Ints;

    /// The sum of the lanes, added as a tree: halves, quarters, eighths.
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        let mut x = [0.0f32; LANES];
        // SAFETY: `x` holds sixteen values.
        unsafe { self.store(x.as_mut_ptr()) };
        let mut width = LANES / 2;
        while width > 0 {
            for i in 0..width {
                x[i] += x[i + width];
            }
            width /= 2;
        }
        x[0]
    }

    /// The largest lane.
    #[inline(always)]
    unsafe fn largest(self) -> f32 {
        let mut x = [0.0f32; LANES];
        // SAFETY: `x` holds sixteen values.
        unsafe { self.store(x.as_mut_ptr()) };
        x.into_iter().fold(f32::NEG_INFINITY, f32::max)
    }

    /// e to the power of each lane; arguments are clamped to [-87, 88], so that no result is 0 or infinite.
    ///
    /// Cephes' `expf`: reduce by multiples of ln 2 in two parts, a polynomial of degree 6; relative error below 2e-7.
    #[inline(always)]
    unsafe fn exp(self) -> Self {
        const MAGIC: f32 = 12_582_912.0; // 1.5 * 2^23: adding it leaves the rounded integer in the low mantissa bits
        // SAFETY: register operations only.
        unsafe {
            let x = self.max(Self::splat(-87.0)).min(Self::splat(88.0));
            let t = x.mul_add(Self::splat(std::f32::consts::LOG2_E), Self::splat(MAGIC));
            let n = t.sub(Self::splat(MAGIC));
            let r = n.mul_add(Self::splat(-0.693_359_4), x);
            let r = n.mul_add(Self::splat(2.121_944_4e-4), r);
            let mut p = Self::splat(1.987_569_2e-4);
            for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
                p = p.mul_add(r, Self::splat(c));
            }
            let p = p.mul_add(r.mul(r), r).add(Self::splat(1.0));
            p.scale_exponent(t)
        }
    }
}
