//! Dequantisation: the values of blocks in float32, operation by operation as ggml computes them.

mod k_quants;
mod plain;

use half::{bf16, f16};

use crate::GgmlType;

/// Appends the values of whole blocks. `None` for a type that is not dequantised.
pub fn dequantise(kind: GgmlType, blocks: &[u8], values: &mut Vec<f32>) -> Option<()> {
    match kind {
        GgmlType::F32 => values.extend(blocks.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))),
        GgmlType::F16 => values.extend(blocks.chunks_exact(2).map(|b| half(b, 0))),
        GgmlType::BF16 => values.extend(blocks.chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32())),
        _ => by_block(kind, blocks, values, block_function(kind)?),
    }
    Some(())
}

/// Values of a block from its bytes.
type Block = fn(&[u8], &mut [f32]);

fn block_function(kind: GgmlType) -> Option<Block> {
    Some(match kind {
        GgmlType::Q4_0 => plain::q4_0,
        GgmlType::Q4_1 => plain::q4_1,
        GgmlType::Q5_0 => plain::q5_0,
        GgmlType::Q5_1 => plain::q5_1,
        GgmlType::Q8_0 => plain::q8_0,
        GgmlType::Q8_1 => plain::q8_1,
        GgmlType::Q2_K => k_quants::q2_k,
        GgmlType::Q3_K => k_quants::q3_k,
        GgmlType::Q4_K => k_quants::q4_k,
        GgmlType::Q5_K => k_quants::q5_k,
        GgmlType::Q6_K => k_quants::q6_k,
        GgmlType::Q8_K => k_quants::q8_k,
        _ => return None,
    })
}

fn by_block(kind: GgmlType, blocks: &[u8], values: &mut Vec<f32>, block: Block) {
    let begin = values.len();
    values.resize(begin + blocks.len() / kind.block_bytes() * kind.block_values(), 0.0);
    let blocks = blocks.chunks_exact(kind.block_bytes());
    blocks.zip(values[begin..].chunks_exact_mut(kind.block_values())).for_each(|(bytes, out)| block(bytes, out));
}

/// The half-precision number at byte `at`.
fn half(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}
