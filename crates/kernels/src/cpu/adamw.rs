//! AdamW's update of one parameter, and the sums of squares that clipping needs.

use super::parallel::{Shared, tasks};
use super::simd::{dot, fma, simd};
use super::weight::DynamicMap;
pub(crate) use super::zero_blocks::BLOCK;
use super::zero_blocks::all_zero;
use crate::options::UpdateFactors;
use half::bf16;
use std::ops::Range;

/// Elements of one piece of work; also the granularity of the norm's partial sums.
const PIECE: usize = 1 << 14;

/// A parameter's gradient and moments, each as long as the parameter.
pub(crate) struct Update<'a> {
    pub(crate) factors: UpdateFactors,
    pub(crate) gradient: &'a [f32],
    pub(crate) first: MomentMut,
    pub(crate) second: MomentMut,
    /// Place of the first value in the parameter.
    pub(crate) start: usize,
}

/// The memory of a moment.
#[derive(Clone, Copy)]
pub(crate) enum MomentMut {
    Single(Shared),
    Bf16(Shared<bf16>),
    EightBit { codes: Shared<u8>, scales: Shared },
}

impl Update<'_> {
    /// Updates the parameter `values` and its moments.
    ///
    /// # Safety
    ///
    /// Nobody else touches the moments meanwhile, whose slices are still borrowed.
    pub(crate) unsafe fn run(&self, values: &mut [f32]) {
        let len = values.len();
        let parameter = Shared::new(values);
        tasks(len.div_ceil(PIECE), 4 * len, |index| {
            let end = len.min((index + 1) * PIECE);
            for start in (index * PIECE..end).step_by(BLOCK) {
                let block = start..end.min(start + BLOCK);
                // SAFETY: this piece belongs to this task alone; the moments are the caller's promise.
                unsafe { self.block(block.clone(), parameter.slice(start, block.len())) };
            }
        });
    }

    /// One block of the parameter.
    ///
    /// # Safety
    ///
    /// As for [`Update::run`], for the block.
    unsafe fn block(&self, block: Range<usize>, parameter: &mut [f32]) {
        let gradient = &self.gradient[block.clone()];
        let (mut first_values, mut second_values) = ([0.0; BLOCK], [0.0; BLOCK]);
        // SAFETY: the caller's promise.
        let first = unsafe { self.first.open(block.clone(), DynamicMap::signed(), &mut first_values) };
        // SAFETY: as above.
        let second = unsafe { self.second.open(block.clone(), DynamicMap::unsigned(), &mut second_values) };
        if all_zero(second) && all_zero(first) && all_zero(gradient) {
            return decay(self.factors, parameter);
        }
        update(self.factors, gradient, parameter, first, second);
        // SAFETY: as above.
        unsafe {
            self.first.close(block.clone(), DynamicMap::signed(), &first_values, None);
            let random = Some((self.start + block.start, self.factors.step));
            self.second.close(block, DynamicMap::unsigned(), &second_values, random);
        }
    }
}

impl MomentMut {
    /// The values of a block in float32: the moment's own memory, or a copy in `values`.
    ///
    /// # Safety
    ///
    /// Nobody else touches the block.
    unsafe fn open<'a>(self, block: Range<usize>, map: &DynamicMap, values: &'a mut [f32; BLOCK]) -> &'a mut [f32] {
        let values = match self {
            // SAFETY: the caller's promise, here and below.
            Self::Single(all) => return unsafe { all.slice(block.start, block.len()) },
            Self::Bf16(_) | Self::EightBit { .. } => &mut values[..block.len()],
        };
        match self {
            Self::Single(_) => {}
            Self::Bf16(all) => {
                let stored = unsafe { all.slice(block.start, block.len()) };
                values.iter_mut().zip(stored).for_each(|(value, stored)| *value = stored.to_f32());
            }
            Self::EightBit { codes, scales } => {
                let (codes, scale) =
                    unsafe { (codes.slice(block.start, block.len()), scales.slice(block.start / BLOCK, 1)[0]) };
                let numbers = map.values();
                values.iter_mut().zip(codes).for_each(|(value, code)| *value = numbers[*code as usize] * scale);
            }
        }
        values
    }

    /// Stores a copy that [`MomentMut::open`] made; bfloat16 is rounded at random by the place in the parameter and the step,
    /// where these are given.
    ///
    /// # Safety
    ///
    /// As for [`MomentMut::open`].
    unsafe fn close(self, block: Range<usize>, map: &DynamicMap, values: &[f32; BLOCK], random: Option<(usize, u32)>) {
        let values = &values[..block.len()];
        match self {
            Self::Single(_) => {}
            Self::Bf16(all) => {
                // SAFETY: the caller's promise, here and below.
                let stored = unsafe { all.slice(block.start, block.len()) };
                for (index, (stored, value)) in stored.iter_mut().zip(values).enumerate() {
                    *stored = match random {
                        None => bf16::from_f32(*value),
                        Some((start, step)) => rounded_at_random(*value, (start + index) as u32, step),
                    };
                }
            }
            Self::EightBit { codes, scales } => {
                let (codes, scale) =
                    unsafe { (codes.slice(block.start, block.len()), scales.slice(block.start / BLOCK, 1)) };
                let greatest = values.iter().fold(0f32, |greatest, value| greatest.max(value.abs()));
                scale[0] = greatest;
                let inverse = if greatest > 0.0 { 1.0 / greatest } else { 0.0 };
                codes.iter_mut().zip(values).for_each(|(code, value)| *code = map.nearest(value * inverse));
            }
        }
    }
}

/// `value` as one of its two neighbours in bfloat16, the nearer the likelier: the bits below are compared with random ones.
fn rounded_at_random(value: f32, index: u32, step: u32) -> bf16 {
    let mut random = index ^ step.wrapping_mul(0x9e37_79b9);
    for (shift, factor) in [(16, 0x7feb_352d_u32), (15, 0x846c_a68b)] {
        random = (random ^ random >> shift).wrapping_mul(factor);
    }
    let bits = value.to_bits().wrapping_add(random >> 16);
    bf16::from_bits((bits >> 16) as u16)
}

/// Σ x² in float64 over fixed pieces, so that it does not depend on the threads.
pub(crate) fn sum_of_squares(values: &[f32]) -> f64 {
    let pieces = values.len().div_ceil(PIECE);
    let mut partial = vec![0f32; pieces];
    let shared = Shared::new(&mut partial);
    tasks(pieces, values.len(), |index| {
        let piece = &values[index * PIECE..((index + 1) * PIECE).min(values.len())];
        // SAFETY: this element belongs to this task alone.
        let out = unsafe { shared.slice(index, 1) };
        out[0] = dot(piece, piece);
    });
    partial.into_iter().map(f64::from).sum()
}

/// [`update`] where gradient and moments are zero. It does not write them, see [`super::zero_blocks`].
fn decay(factors: UpdateFactors, parameter: &mut [f32]) {
    if factors.keep != 1.0 {
        parameter.iter_mut().for_each(|value| *value *= factors.keep);
    }
}

simd! {
    fn update(
        factors: UpdateFactors,
        gradient: &[f32],
        parameter: &mut [f32],
        first: &mut [f32],
        second: &mut [f32],
    ) {
        let len = gradient.len();
        let (parameter, first, second) = (&mut parameter[..len], &mut first[..len], &mut second[..len]);
        for i in 0..len {
            let g = gradient[i] * factors.clip;
            let m = fma::<FMA>(first[i], factors.beta1, factors.one_minus_beta1 * g);
            let v = fma::<FMA>(second[i], factors.beta2, factors.one_minus_beta2 * g * g);
            first[i] = m;
            second[i] = v;
            let denominator = fma::<FMA>(v.sqrt(), factors.second_correction, factors.eps);
            parameter[i] = fma::<FMA>(parameter[i], factors.keep, -(factors.rate * m / denominator));
        }
    }
}
