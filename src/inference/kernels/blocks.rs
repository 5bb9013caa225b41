//! The block formats of GGUF files: bytes -> quants with scales. Knows one row at a time, no file.
//!
//! Formats after ggml's `ggml-quants.c`. Every one is brought to the same form, blocks of 32 weights
//! `w = scale * q + min` with unsigned 8-bit `q`, the scale and min given for each half of the block.

use half::{bf16, f16};

/// How the weights of a tensor are stored in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    F32,
    F16,
    Bf16,
    Q8_0,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q4K,
    Q5K,
    Q6K,
}

impl Format {
    /// The name that GGUF tools use.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::Q8_0 => "Q8_0",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q4K => "Q4_K",
            Self::Q5K => "Q5_K",
            Self::Q6K => "Q6_K",
        }
    }

    /// Weights per block.
    pub fn block_len(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => 1,
            Self::Q8_0 | Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 => 32,
            Self::Q4K | Self::Q5K | Self::Q6K => 256,
        }
    }

    /// Bytes per block.
    pub fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Q8_0 => 34,
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
        }
    }

    /// Bytes of a row of `cols` weights, if `cols` is a whole number of blocks.
    pub fn row_bytes(self, cols: usize) -> Option<usize> {
        cols.is_multiple_of(self.block_len())
            .then(|| cols / self.block_len())
            .and_then(|n| n.checked_mul(self.block_bytes()))
    }

    /// Whether the weights are floats, which stay floats in memory.
    pub fn is_float(self) -> bool {
        self.block_len() == 1
    }

    /// How a row is packed: bits, weights per scale, and whether there is a min.
    pub(super) fn packing(self) -> Packing {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => unreachable!("floats are not packed"),
            Self::Q8_0 | Self::Q5_0 => Packing::Signed8,
            Self::Q6K => Packing::SixK,
            Self::Q5_1 | Self::Q5K => Packing::Unsigned8,
            Self::Q4_0 | Self::Q4_1 => Packing::Unsigned4,
            Self::Q4K => Packing::FourK,
        }
    }
}

/// The layouts that the kernels know; bits per weight behind each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// `scale * (q - 128)`, a scale per 32 (8.5).
    Signed8,
    /// `d * step * (q - 32)`, a signed step per 16, `d` per 256 (6.56).
    SixK,
    /// `scale * q + min`, per 32, a byte each (9).
    Unsigned8,
    /// `scale * q + min`, per 32, half a byte each (5).
    Unsigned4,
    /// `d * step * q - dmin * min step`, steps per 32, `d` and `dmin` per 256, half a byte each (4.625).
    FourK,
}

impl Packing {
    /// What is taken from a stored quant before it is scaled.
    pub fn offset(self) -> u8 {
        match self {
            Self::Signed8 => 128,
            Self::SixK => 32,
            Self::Unsigned8 | Self::Unsigned4 | Self::FourK => 0,
        }
    }
}

/// Thirty-two weights of one row, before they are packed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Block32 {
    pub q: [u8; 32],
    pub scale: [f32; 2], // of each half
    pub min: [f32; 2],   // 0 for the packings with an offset
    pub parts: Parts,
}

/// What a K-block's scales are products of; zeros elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    pub units: [u16; 2], // f16: `d`, and `dmin` where there is one
    pub steps: [u8; 2],  // of the scale and the min; of the two halves, signed, in Q6_K
}

impl Block32 {
    const ZERO: Self =
        Self { q: [0; 32], scale: [0.0; 2], min: [0.0; 2], parts: Parts { units: [0; 2], steps: [0; 2] } };

    fn simple(q: [u8; 32], scale: f32, min: f32) -> Self {
        Self { q, scale: [scale; 2], min: [min; 2], parts: Parts::default() }
    }
}

fn bits_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn half_at(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

/// Reads one row of a quantized format into blocks of 32.
///
/// `row` must hold exactly `Format::row_bytes` for `out.len() * 32` weights.
pub fn unpack_row(format: Format, row: &[u8], out: &mut [Block32]) {
    assert_eq!(Some(row.len()), format.row_bytes(out.len() * 32), "a row of {} in {} blocks", format.name(), out.len());
    let per_block = format.block_len() / 32;
    for (bytes, out) in row.chunks_exact(format.block_bytes()).zip(out.chunks_exact_mut(per_block)) {
        match format {
            Format::Q8_0 => out[0] = q8_0(bytes),
            Format::Q4_0 => out[0] = nibbles(bytes, 2, None, half_at(bytes, 0), -8.0 * half_at(bytes, 0)),
            Format::Q4_1 => out[0] = nibbles(bytes, 4, None, half_at(bytes, 0), half_at(bytes, 2)),
            Format::Q5_0 => out[0] = q5_0(bytes),
            Format::Q5_1 => out[0] = nibbles(bytes, 8, Some(4), half_at(bytes, 0), half_at(bytes, 2)),
            Format::Q4K => q4_k(bytes, out),
            Format::Q5K => q5_k(bytes, out),
            Format::Q6K => q6_k(bytes, out),
            Format::F32 | Format::F16 | Format::Bf16 => unreachable!("floats have no blocks"),
        }
    }
}

fn q8_0(bytes: &[u8]) -> Block32 {
    Block32::simple(std::array::from_fn(|i| bytes[2 + i] ^ 0x80), half_at(bytes, 0), 0.0)
}

/// Four bits per weight from `at` on (low nibbles first), with a fifth from the 32 bits at `high_at`.
fn nibbles(bytes: &[u8], at: usize, high_at: Option<usize>, d: f32, m: f32) -> Block32 {
    let high = high_at.map_or(0, |h| u32::from_le_bytes([bytes[h], bytes[h + 1], bytes[h + 2], bytes[h + 3]]));
    let q = std::array::from_fn(|i| {
        let byte = bytes[at + i % 16];
        let low = if i < 16 { byte & 0x0F } else { byte >> 4 };
        low | (((high >> i) & 1) as u8) << 4
    });
    Block32::simple(q, d, m)
}

fn q5_0(bytes: &[u8]) -> Block32 {
    let unsigned = nibbles(bytes, 6, Some(2), half_at(bytes, 0), 0.0);
    Block32 { q: unsigned.q.map(|q| q + (128 - 16)), ..unsigned }
}

/// The 6-bit scale and min of sub-block `j` of a K-block.
fn k_scale_min(scales: &[u8], j: usize) -> [u8; 2] {
    if j < 4 {
        [scales[j] & 63, scales[j + 4] & 63]
    } else {
        [(scales[j + 4] & 0x0F) | (scales[j - 4] >> 6) << 4, (scales[j + 4] >> 4) | (scales[j] >> 6) << 4]
    }
}

/// A sub-block of a K-block that has mins.
fn with_min(q: [u8; 32], bytes: &[u8], steps: [u8; 2]) -> Block32 {
    let (scale, min) = (half_at(bytes, 0) * f32::from(steps[0]), -(half_at(bytes, 2) * f32::from(steps[1])));
    Block32 { parts: Parts { units: [bits_at(bytes, 0), bits_at(bytes, 2)], steps }, ..Block32::simple(q, scale, min) }
}

fn q4_k(bytes: &[u8], out: &mut [Block32]) {
    let (scales, quants) = (&bytes[4..16], &bytes[16..144]);
    for (j, out) in out.iter_mut().enumerate() {
        let part = &quants[j / 2 * 32..][..32];
        let q = std::array::from_fn(|i| if j % 2 == 0 { part[i] & 0x0F } else { part[i] >> 4 });
        *out = with_min(q, bytes, k_scale_min(scales, j));
    }
}

fn q5_k(bytes: &[u8], out: &mut [Block32]) {
    let (scales, high, quants) = (&bytes[4..16], &bytes[16..48], &bytes[48..176]);
    for (j, out) in out.iter_mut().enumerate() {
        let part = &quants[j / 2 * 32..][..32];
        let q = std::array::from_fn(|i| {
            let low = if j % 2 == 0 { part[i] & 0x0F } else { part[i] >> 4 };
            low | ((high[i] >> j) & 1) << 4
        });
        *out = with_min(q, bytes, k_scale_min(scales, j));
    }
}

fn q6_k(bytes: &[u8], out: &mut [Block32]) {
    let (low, high, scales) = (&bytes[..128], &bytes[128..192], &bytes[192..208]);
    let d = half_at(bytes, 208);
    for (j, out) in out.iter_mut().enumerate() {
        // Each half of 128 weights has 64 low bytes and 32 high ones; its four runs of 32 take turns in them.
        let (half, run) = (j / 4, j % 4);
        // Arrays, whose length the compiler knows: a fifth of the time.
        let (low, high) = (&low.as_chunks::<32>().0[half * 2 + run % 2], &high.as_chunks::<32>().0[half]);
        let (low_shift, high_shift) = (run / 2 * 4, run * 2);
        let q = std::array::from_fn(|i| (low[i] >> low_shift) & 0x0F | ((high[i] >> high_shift) & 3) << 4);
        let steps: [u8; 2] = std::array::from_fn(|s| scales[half * 8 + run * 2 + s]);
        let parts = Parts { units: [bits_at(bytes, 208), 0], steps };
        *out = Block32 { q, scale: steps.map(|s| d * f32::from(s as i8)), min: [0.0; 2], parts };
    }
}

/// Widens one row of any format to f32; `out.len()` weights.
pub fn dequantize_row(format: Format, row: &[u8], out: &mut [f32]) {
    assert_eq!(Some(row.len()), format.row_bytes(out.len()), "a row of {} with {} weights", format.name(), out.len());
    match format {
        Format::F32 => out.iter_mut().zip(row.as_chunks::<4>().0).for_each(|(o, b)| *o = f32::from_le_bytes(*b)),
        Format::F16 => {
            out.iter_mut().zip(row.as_chunks::<2>().0).for_each(|(o, b)| *o = f16::from_le_bytes(*b).to_f32())
        }
        Format::Bf16 => {
            out.iter_mut().zip(row.as_chunks::<2>().0).for_each(|(o, b)| *o = bf16::from_le_bytes(*b).to_f32())
        }
        _ => {
            let mut blocks = vec![Block32::ZERO; out.len() / 32];
            unpack_row(format, row, &mut blocks);
            let offset = f32::from(format.packing().offset());
            for (block, out) in blocks.iter().zip(out.chunks_exact_mut(32)) {
                for (i, out) in out.iter_mut().enumerate() {
                    *out = block.scale[i / 16] * (f32::from(block.q[i]) - offset) + block.min[i / 16];
                }
            }
        }
    }
}

/// Returns an empty block buffer for rows of `cols` weights.
pub(super) fn block_buffer(cols: usize) -> Vec<Block32> {
    vec![Block32::ZERO; cols / 32]
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::quantized::{GgmlDType, QTensor};
    use candle_core::{Device, Tensor};

    /// candle's own dequantization is the oracle for every format.
    #[test]
    fn rows_dequantize_as_candle_does() {
        let formats = [
            (Format::Q8_0, GgmlDType::Q8_0),
            (Format::Q4_0, GgmlDType::Q4_0),
            (Format::Q4_1, GgmlDType::Q4_1),
            (Format::Q5_0, GgmlDType::Q5_0),
            (Format::Q5_1, GgmlDType::Q5_1),
            (Format::Q4K, GgmlDType::Q4K),
            (Format::Q5K, GgmlDType::Q5K),
            (Format::Q6K, GgmlDType::Q6K),
        ];
        let weights: Vec<f32> =
            (0..512).map(|i| ((i * 7919 % 1009) as f32 / 504.5 - 1.0) * (1.0 + i as f32 / 300.0)).collect();
        let tensor = Tensor::from_vec(weights, (1, 512), &Device::Cpu).unwrap();
        for (format, dtype) in formats {
            let quantized = QTensor::quantize(&tensor, dtype).unwrap();
            let expected: Vec<f32> =
                quantized.dequantize(&Device::Cpu).unwrap().flatten_all().unwrap().to_vec1().unwrap();
            let mut got = vec![0.0; 512];
            dequantize_row(format, &quantized.data().unwrap(), &mut got);
            for (g, e) in got.iter().zip(&expected) {
                assert!((g - e).abs() <= 1e-6 * e.abs().max(1e-3), "{}: {g} is not {e}", format.name());
            }
        }
    }
}
