//! Cosine and sine of rotary angles.

use candle_core::{Device, Tensor};

use crate::block::{Angles, Positional};
use crate::error::Result;
use crate::placement::Placement;
use crate::rope::{Frequencies, RopeSpec};
use crate::spec::DecoderSpec;

/// Tensors that depend on the positions of `N` tokens. `lengths` are those of the tokens' sequences, (`N`).
pub(crate) fn positional(
    spec: &DecoderSpec,
    positions: &[u32],
    lengths: &[usize],
    placement: &Placement,
) -> Result<Positional> {
    let device = &placement.device;
    let angles = spec.ropes.iter().map(|rope| angles(rope, positions, lengths, device)).collect::<Result<_>>()?;
    let growth = spec.query_growth.filter(|growth| positions.iter().any(|position| growth.factor(*position) != 1.0));
    let query_factors = match growth {
        Some(growth) => {
            let factors: Vec<f32> = positions.iter().map(|position| growth.factor(*position)).collect();
            Some(placement.place(&Tensor::from_vec(factors, (positions.len(), 1, 1), &Device::Cpu)?)?)
        }
        None => None,
    };
    Ok(Positional { angles, query_factors })
}

/// The angles of `N` tokens, in float32 on `device`. `lengths` are those of the tokens' sequences, (`N`), for LongRoPE.
fn angles(rope: &RopeSpec, positions: &[u32], lengths: &[usize], device: &Device) -> Result<Angles> {
    let half = rope.rotary_dim / 2;
    let last = positions.iter().copied().max().unwrap_or(0) as usize;
    let mut cos = Vec::with_capacity(positions.len() * half);
    let mut sin = Vec::with_capacity(positions.len() * half);
    let mut push = |frequencies: &Frequencies, position: u32| {
        for (c, s) in turns(frequencies, position) {
            cos.push(c);
            sin.push(s);
        }
    };
    if rope.depends_on_length() {
        positions.iter().zip(lengths).for_each(|(position, length)| push(&rope.frequencies(*length), *position));
    } else if positions.len() <= last {
        // A step of decoding: a table up to the last position would be longer.
        let frequencies = rope.frequencies(last + 1);
        positions.iter().for_each(|position| push(&frequencies, *position));
    } else {
        // Packed sequences repeat positions: the angles of each are computed once and copied.
        let frequencies = rope.frequencies(last + 1);
        let (table_cos, table_sin): (Vec<f32>, Vec<f32>) =
            (0..=last as u32).flat_map(|position| turns(&frequencies, position)).unzip();
        for position in positions {
            let row = *position as usize * half..(*position as usize + 1) * half;
            cos.extend_from_slice(&table_cos[row.clone()]);
            sin.extend_from_slice(&table_sin[row]);
        }
    }
    let shape = (positions.len(), half);
    Ok(Angles {
        cos: Tensor::from_vec(cos, shape, device)?,
        sin: Tensor::from_vec(sin, shape, device)?,
        pairs: rope.pairs,
    })
}

/// Cosine and sine of one position's angles. The product is rounded to float32 before, as in transformers.
pub(crate) fn turns(frequencies: &Frequencies, position: u32) -> impl Iterator<Item = (f32, f32)> + '_ {
    frequencies.inverse.iter().map(move |inverse| {
        let (sin, cos) = f64::from(position as f32 * inverse).sin_cos();
        (cos as f32 * frequencies.scale, sin as f32 * frequencies.scale)
    })
}
