//! Blocks of 256 values in sub-blocks, whose scales are quantised themselves. Each run of 32 bytes or values is a loop of its
//! own, which compilers turn into vector instructions.

use super::half;

/// Values of a block.
type Values = [f32; 256];

/// Scales and minima of 16 sub-blocks in 4 bits each, two-bit values, `d`, `dmin`.
pub(super) fn q2_k(bytes: &[u8; 84], out: &mut Values) {
    let (scales, qs) = (&bytes[..16], &bytes[16..80]);
    let (d, min) = (half(bytes, 80), half(bytes, 82));
    for (sub_block, out) in out.chunks_exact_mut(16).enumerate() {
        let scale = scales[sub_block];
        let (scale, min) = (d * f32::from(scale & 15), min * f32::from(scale >> 4));
        let (shift, qs) = two_bits(qs, sub_block);
        out.iter_mut().zip(qs).for_each(|(out, q)| *out = scale * f32::from(q >> shift & 3) - min);
    }
}

/// High bits of the values, their two low bits, signed six-bit scales of 16 sub-blocks, `d`.
pub(super) fn q3_k(bytes: &[u8; 110], out: &mut Values) {
    let (high, qs, packed) = (&bytes[..32], &bytes[32..96], &bytes[96..108]);
    let d = half(bytes, 108);
    let scale = |i: usize| {
        let low = if i < 8 { packed[i] & 15 } else { packed[i - 8] >> 4 };
        let high = packed[8 + i % 4] >> (2 * (i / 4)) & 3;
        (low | high << 4) as i8 - 32
    };
    for (sub_block, out) in out.chunks_exact_mut(16).enumerate() {
        let scale = d * f32::from(scale(sub_block));
        let (shift, qs) = two_bits(qs, sub_block);
        let bit = sub_block / 2;
        let high = &high[sub_block % 2 * 16..][..16];
        for ((out, q), high) in out.iter_mut().zip(qs).zip(high) {
            // Four is taken off where the high bit is not set.
            *out = scale * f32::from((q >> shift & 3 | (high >> bit & 1) << 2) as i8 - 4);
        }
    }
}

/// Bytes of 16 two-bit values, and their place in each: of 32 bytes after each other, first all lowest bits.
fn two_bits(qs: &[u8], sub_block: usize) -> (usize, &[u8]) {
    (2 * (sub_block / 2 % 4), &qs[sub_block / 8 * 32 + sub_block % 2 * 16..][..16])
}

/// `d`, `dmin`, six-bit scales and minima of 8 sub-blocks, four-bit values.
pub(super) fn q4_k(bytes: &[u8; 144], out: &mut Values) {
    let scales = Scales::read(bytes);
    for (sub_block, out) in out.chunks_exact_mut(32).enumerate() {
        let (scale, min) = (scales.scale[sub_block], scales.min[sub_block]);
        let (shift, qs) = four_bits(&bytes[16..144], sub_block);
        out.iter_mut().zip(qs).for_each(|(out, q)| *out = scale * f32::from(q >> shift & 15) - min);
    }
}

/// As [`q4_k`], with the fifth bits of the values between scales and values.
pub(super) fn q5_k(bytes: &[u8; 176], out: &mut Values) {
    let scales = Scales::read(bytes);
    let fifth = &bytes[16..48];
    for (sub_block, out) in out.chunks_exact_mut(32).enumerate() {
        let (scale, min) = (scales.scale[sub_block], scales.min[sub_block]);
        let (shift, qs) = four_bits(&bytes[48..176], sub_block);
        for ((out, q), fifth) in out.iter_mut().zip(qs).zip(fifth) {
            *out = scale * f32::from(q >> shift & 15 | (fifth >> sub_block & 1) << 4) - min;
        }
    }
}

/// Bytes of 32 four-bit values, and their place in each: of 32 bytes after each other, first all low halves.
fn four_bits(qs: &[u8], sub_block: usize) -> (usize, &[u8]) {
    (4 * (sub_block % 2), &qs[sub_block / 2 * 32..][..32])
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
}

/// Four low bits of the values, two high bits, signed scales of 16 sub-blocks, `d`.
pub(super) fn q6_k(bytes: &[u8; 210], out: &mut Values) {
    let (low, high, scales) = (&bytes[..128], &bytes[128..192], &bytes[192..208]);
    let d = half(bytes, 208);
    for (sub_block, out) in out.chunks_exact_mut(16).enumerate() {
        let scale = d * f32::from(scales[sub_block] as i8);
        // In each half of the block: 64 bytes of low bits twice, 32 bytes of high bits four times.
        let (half, at) = (sub_block / 8, sub_block % 8);
        let (low_shift, high_shift) = (4 * (at / 4), 2 * (at / 2));
        let low = &low[half * 64 + at % 4 * 16..][..16];
        let high = &high[half * 32 + at % 2 * 16..][..16];
        for ((out, low), high) in out.iter_mut().zip(low).zip(high) {
            *out = scale * f32::from((low >> low_shift & 15 | (high >> high_shift & 3) << 4) as i8 - 32);
        }
    }
}

/// `d` in float32, 256 signed bytes, and their sums.
pub(super) fn q8_k(bytes: &[u8; 292], out: &mut Values) {
    let d = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    out.iter_mut().zip(&bytes[4..260]).for_each(|(out, q)| *out = d * f32::from(*q as i8));
}
