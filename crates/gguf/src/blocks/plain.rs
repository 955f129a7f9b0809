//! Blocks of 32 values with one scale, and some with one minimum.

use super::half;

/// Values of a block.
type Values = [f32; 32];

/// `d`, then 16 bytes of two values each: the first half of the block in the low bits.
pub(super) fn q4_0(bytes: &[u8; 18], out: &mut Values) {
    let d = half(bytes, 0);
    let (low, high) = out.split_at_mut(16);
    for (i, packed) in bytes[2..].iter().enumerate() {
        low[i] = d * f32::from((packed & 15) as i8 - 8);
        high[i] = d * f32::from((packed >> 4) as i8 - 8);
    }
}

/// `d` and `m`, then as [`q4_0`].
pub(super) fn q4_1(bytes: &[u8; 20], out: &mut Values) {
    let (d, m) = (half(bytes, 0), half(bytes, 2));
    let (low, high) = out.split_at_mut(16);
    for (i, packed) in bytes[4..].iter().enumerate() {
        low[i] = d * f32::from(packed & 15) + m;
        high[i] = d * f32::from(packed >> 4) + m;
    }
}

/// `d`, 32 fifth bits, then as [`q4_0`].
pub(super) fn q5_0(bytes: &[u8; 22], out: &mut Values) {
    let d = half(bytes, 0);
    let five = five_bits(&bytes[2..6], &bytes[6..]);
    out.iter_mut().zip(five).for_each(|(out, q)| *out = d * f32::from(q as i8 - 16));
}

/// `d` and `m`, then as [`q5_0`].
pub(super) fn q5_1(bytes: &[u8; 24], out: &mut Values) {
    let (d, m) = (half(bytes, 0), half(bytes, 2));
    let five = five_bits(&bytes[4..8], &bytes[8..]);
    out.iter_mut().zip(five).for_each(|(out, q)| *out = d * f32::from(q) + m);
}

fn five_bits(fifth: &[u8], packed: &[u8]) -> [u8; 32] {
    let fifth = u32::from_le_bytes([fifth[0], fifth[1], fifth[2], fifth[3]]);
    let bit = |i: usize| ((fifth >> i & 1) as u8) << 4;
    std::array::from_fn(|i| if i < 16 { packed[i] & 15 | bit(i) } else { packed[i - 16] >> 4 | bit(i) })
}

/// `d`, then 32 signed bytes.
pub(super) fn q8_0(bytes: &[u8; 34], out: &mut Values) {
    let d = half(bytes, 0);
    out.iter_mut().zip(&bytes[2..]).for_each(|(out, q)| *out = f32::from(*q as i8) * d);
}

/// `d`, the scaled sum of the values, then 32 signed bytes.
pub(super) fn q8_1(bytes: &[u8; 36], out: &mut Values) {
    let d = half(bytes, 0);
    out.iter_mut().zip(&bytes[4..]).for_each(|(out, q)| *out = f32::from(*q as i8) * d);
}

/// Twice the number of each code of MXFP4.
const MXFP4: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// An exponent e, whose half is the scale 2^(e − 128), then as [`q4_0`].
pub(super) fn mxfp4(bytes: &[u8; 17], out: &mut Values) {
    let exponent = u32::from(bytes[0]);
    let d = f32::from_bits(if exponent < 2 { 0x0020_0000 << exponent } else { (exponent - 1) << 23 });
    let (low, high) = out.split_at_mut(16);
    for (i, packed) in bytes[1..].iter().enumerate() {
        low[i] = d * f32::from(MXFP4[usize::from(packed & 15)]);
        high[i] = d * f32::from(MXFP4[usize::from(packed >> 4)]);
    }
}
