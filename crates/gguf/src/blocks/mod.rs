//! Dequantisation: the values of blocks in float32, operation by operation as ggml computes them.

mod k_quants;
mod plain;

use half::{bf16, f16};

use crate::GgmlType;

/// Appends the values of whole blocks. `None` for a type that is not dequantised.
pub fn dequantise(kind: GgmlType, blocks: &[u8], values: &mut Vec<f32>) -> Option<()> {
    let begin = values.len();
    values.resize(begin + blocks.len() / kind.block_bytes() * kind.block_values(), 0.0);
    let written = dequantise_into(kind, blocks, &mut values[begin..]);
    if written.is_none() {
        values.truncate(begin);
    }
    written
}

/// Writes the values of whole blocks: of as many as `out` has room for. `None` for a type that is not dequantised.
pub fn dequantise_into(kind: GgmlType, blocks: &[u8], out: &mut [f32]) -> Option<()> {
    match kind {
        GgmlType::F32 => each(blocks, out, |b: &[u8; 4], out: &mut [f32; 1]| out[0] = f32::from_le_bytes(*b)),
        GgmlType::F16 => each(blocks, out, |b: &[u8; 2], out: &mut [f32; 1]| out[0] = half(b, 0)),
        GgmlType::BF16 => {
            each(blocks, out, |b: &[u8; 2], out: &mut [f32; 1]| out[0] = bf16::from_le_bytes(*b).to_f32())
        }
        GgmlType::Q4_0 => each(blocks, out, plain::q4_0),
        GgmlType::Q4_1 => each(blocks, out, plain::q4_1),
        GgmlType::Q5_0 => each(blocks, out, plain::q5_0),
        GgmlType::Q5_1 => each(blocks, out, plain::q5_1),
        GgmlType::Q8_0 => each(blocks, out, plain::q8_0),
        GgmlType::Q8_1 => each(blocks, out, plain::q8_1),
        GgmlType::MXFP4 => each(blocks, out, plain::mxfp4),
        GgmlType::Q2_K => each(blocks, out, k_quants::q2_k),
        GgmlType::Q3_K => each(blocks, out, k_quants::q3_k),
        GgmlType::Q4_K => each(blocks, out, k_quants::q4_k),
        GgmlType::Q5_K => each(blocks, out, k_quants::q5_k),
        GgmlType::Q6_K => each(blocks, out, k_quants::q6_k),
        GgmlType::Q8_K => each(blocks, out, k_quants::q8_k),
        _ => return None,
    }
    Some(())
}

/// Block by block, with both sizes known to the compiler.
fn each<const BYTES: usize, const VALUES: usize>(
    blocks: &[u8],
    out: &mut [f32],
    block: impl Fn(&[u8; BYTES], &mut [f32; VALUES]),
) {
    let (blocks, _) = blocks.as_chunks::<BYTES>();
    let (out, _) = out.as_chunks_mut::<VALUES>();
    blocks.iter().zip(out).for_each(|(bytes, out)| block(bytes, out));
}

/// The half-precision number at byte `at`.
fn half(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}
