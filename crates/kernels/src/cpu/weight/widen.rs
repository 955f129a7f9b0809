//! 16 bits to float32, exactly.

use crate::cpu::simd::simd;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

simd! {
    /// A bfloat16 is the upper half of a float32.
    pub(super) fn widen_bf16(values: &[bf16], out: &mut [f32]) {
        for (value, out) in values.iter().zip(out) {
            *out = f32::from_bits(u32::from(value.to_bits()) << 16);
        }
    }
}

pub(super) fn widen_f16(values: &[f16], out: &mut [f32]) {
    values.convert_to_f32_slice(out);
}
