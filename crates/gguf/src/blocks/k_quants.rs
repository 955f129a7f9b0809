//! Blocks of 256 values in sub-blocks, whose scales are quantised themselves.

use super::half;

/// Scales and minima of 16 sub-blocks in 4 bits each, two-bit values, `d`, `dmin`.
pub(super) fn q2_k(bytes: &[u8], out: &mut [f32]) {
    let (scales, qs) = (&bytes[..16], &bytes[16..80]);
    let (d, min) = (half(bytes, 80), half(bytes, 82));
    for (i, out) in out.iter_mut().enumerate() {
        let scale = scales[i / 16];
        *out = d * f32::from(scale & 15) * f32::from(two_bits(qs, i)) - min * f32::from(scale >> 4);
    }
}

/// High bits of the values, their two low bits, signed six-bit scales of 16 sub-blocks, `d`.
pub(super) fn q3_k(bytes: &[u8], out: &mut [f32]) {
    let (high, qs, packed) = (&bytes[..32], &bytes[32..96], &bytes[96..108]);
    let d = half(bytes, 108);
    let scale = |i: usize| {
        let low = if i < 8 { packed[i] & 15 } else { packed[i - 8] >> 4 };
        let high = packed[8 + i % 4] >> (2 * (i / 4)) & 3;
        (low | high << 4) as i8 - 32
    };
    let scales: [f32; 16] = std::array::from_fn(|i| d * f32::from(scale(i)));
    for (i, out) in out.iter_mut().enumerate() {
        // Four is taken off where the high bit is not set.
        let bit = high[i % 32] >> (i / 32) & 1;
        *out = scales[i / 16] * f32::from(two_bits(qs, i) as i8 - 4 * (1 - bit as i8));
    }
}

/// Value `i` of 256 two-bit ones: of 32 bytes after each other, first all lowest bits.
fn two_bits(qs: &[u8], i: usize) -> u8 {
    qs[i / 128 * 32 + i % 32] >> (2 * (i / 32 % 4)) & 3
}

/// `d`, `dmin`, six-bit scales and minima of 8 sub-blocks, four-bit values.
pub(super) fn q4_k(bytes: &[u8], out: &mut [f32]) {
    let scales = Scales::read(bytes);
    let qs = &bytes[16..144];
    for (i, out) in out.iter_mut().enumerate() {
        *out = scales.value(i / 32, four_bits(qs, i));
    }
}

/// As [`q4_k`], with the fifth bits of the values between scales and values.
pub(super) fn q5_k(bytes: &[u8], out: &mut [f32]) {
    let scales = Scales::read(bytes);
    let (fifth, qs) = (&bytes[16..48], &bytes[48..176]);
    for (i, out) in out.iter_mut().enumerate() {
        let bit = fifth[i % 32] >> (i / 32) & 1;
        *out = scales.value(i / 32, four_bits(qs, i) | bit << 4);
    }
}

/// Value `i` of 256 four-bit ones: of 32 bytes after each other, first all low halves.
fn four_bits(qs: &[u8], i: usize) -> u8 {
    qs[i / 64 * 32 + i % 32] >> (4 * (i / 32 % 2)) & 15
}

/// Scales and minima of the 8 sub-blocks of Q4_K and Q5_K.
struct Scales {
    scale: [f32; 8],
    min: [f32; 8],
}

impl Scales {
    fn read(bytes: &[u8]) -> Self {
        let (d, min) = (half(bytes, 0), half(bytes, 2));
        let packed = &bytes[4..16];
        let of_scale = |j: usize| match j {
            0..4 => packed[j] & 63,
            _ => packed[j + 4] & 15 | packed[j - 4] >> 6 << 4,
        };
        let of_min = |j: usize| match j {
            0..4 => packed[j + 4] & 63,
            _ => packed[j + 4] >> 4 | packed[j] >> 6 << 4,
        };
        Self {
            scale: std::array::from_fn(|j| d * f32::from(of_scale(j))),
            min: std::array::from_fn(|j| min * f32::from(of_min(j))),
        }
    }

    fn value(&self, sub_block: usize, q: u8) -> f32 {
        self.scale[sub_block] * f32::from(q) - self.min[sub_block]
    }
}

/// Four low bits of the values, two high bits, signed scales of 16 sub-blocks, `d`.
pub(super) fn q6_k(bytes: &[u8], out: &mut [f32]) {
    let (low, high, scales) = (&bytes[..128], &bytes[128..192], &bytes[192..208]);
    let d = half(bytes, 208);
    for (i, out) in out.iter_mut().enumerate() {
        let low = low[i / 128 * 64 + i % 64] >> (4 * (i / 64 % 2)) & 15;
        let high = high[i / 128 * 32 + i % 32] >> (2 * (i / 32 % 4)) & 3;
        *out = d * f32::from(scales[i / 16] as i8) * f32::from((low | high << 4) as i8 - 32);
    }
}

/// `d` in float32, 256 signed bytes, and their sums.
pub(super) fn q8_k(bytes: &[u8], out: &mut [f32]) {
    let d = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    out.iter_mut().zip(&bytes[4..260]).for_each(|(out, q)| *out = d * f32::from(*q as i8));
}
