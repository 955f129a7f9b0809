//! A causal convolution of a few taps, channel by channel, then SiLU: y_t = φ(Σ_j w_j ∘ x_{t−W+1+j}), φ(x) = x·σ(x).

use super::parallel::{Shared, rows_per_piece, tasks};
use super::simd::{fma, sigmoid, simd};
use crate::error::Result;
use crate::options::Segments;

/// Channels of one piece of the backward pass.
const CHANNELS: usize = 64;

/// No token: before the start of a sequence.
const NONE: u32 = u32::MAX;

/// A convolution over packed sequences.
pub(crate) struct ShortConvolution {
    /// w by taps, the oldest token's first, (W, C).
    taps: Vec<f32>,
    channels: usize,
    /// Tokens that each token's taps read, (N, W).
    sources: Vec<u32>,
}

/// w (C, W) as (W, C).
pub(crate) fn by_taps(weight: &[f32], channels: usize) -> Vec<f32> {
    let width = weight.len() / channels.max(1);
    (0..width).flat_map(|tap| weight.iter().skip(tap).step_by(width.max(1))).copied().collect()
}

impl ShortConvolution {
    /// A convolution with `weight` (C, W), in which a span with a prefix goes on from the prefix's last tokens.
    pub(crate) fn new(weight: &[f32], channels: usize, segments: &Segments) -> Result<Self> {
        let width = weight.len() / channels.max(1);
        Ok(Self { taps: by_taps(weight, channels), channels, sources: sources(segments, width)? })
    }

    /// W.
    fn width(&self) -> usize {
        self.taps.len() / self.channels.max(1)
    }

    /// Pairs of a tap's weights and the token that it reads.
    fn reads(&self, token: usize) -> impl Iterator<Item = (usize, usize)> + '_ {
        let sources = &self.sources[token * self.width()..][..self.width()];
        sources.iter().enumerate().filter(|(_, source)| **source != NONE).map(|(tap, source)| (tap, *source as usize))
    }

    /// `x` (N, C) to (N, C).
    pub(crate) fn forward(&self, x: &[f32]) -> Vec<f32> {
        let channels = self.channels;
        let tokens = x.len() / channels.max(1);
        let mut values = vec![0.0; x.len()];
        let out = Shared::new(&mut values);
        let piece = rows_per_piece(channels * (self.width() + 4));
        tasks(tokens.div_ceil(piece), x.len() * (self.width() + 4), |index| {
            for token in index * piece..((index + 1) * piece).min(tokens) {
                // SAFETY: this row belongs to this task alone.
                let out = unsafe { out.slice(token * channels, channels) };
                for (tap, source) in self.reads(token) {
                    multiply_add(out, &self.taps[tap * channels..][..channels], &x[source * channels..][..channels]);
                }
                silu(out);
            }
        });
        values
    }

    /// Gradients of `x` (N, C), overwritten, and of the weight (C, W), returned, from that of the result.
    pub(crate) fn backward(&self, x: &[f32], dy: &[f32], dx: &mut [f32]) -> Vec<f32> {
        let (channels, width) = (self.channels, self.width());
        let tokens = x.len() / channels.max(1);
        dx.fill(0.0);
        let mut dw = vec![0.0; channels * width];
        let (dx, d_weight) = (Shared::new(dx), Shared::new(&mut dw));
        tasks(channels.div_ceil(CHANNELS), 3 * x.len() * (width + 4), |index| {
            let first = index * CHANNELS;
            let count = CHANNELS.min(channels - first);
            let mut sums = vec![0.0; width * count];
            let mut inner = vec![0.0; count];
            for token in 0..tokens {
                let at = |token: usize| token * channels + first..token * channels + first + count;
                inner.fill(0.0);
                for (tap, source) in self.reads(token) {
                    multiply_add(&mut inner, &self.taps[tap * channels + first..][..count], &x[at(source)]);
                }
                silu_backward(&mut inner, &dy[at(token)]);
                for (tap, source) in self.reads(token) {
                    // SAFETY: these channels belong to this task alone.
                    let dx = unsafe { dx.slice(source * channels + first, count) };
                    multiply_add(dx, &self.taps[tap * channels + first..][..count], &inner);
                    multiply_add(&mut sums[tap * count..][..count], &inner, &x[at(source)]);
                }
            }
            // SAFETY: as above.
            let d_weight = unsafe { d_weight.slice(first * width, count * width) };
            for (channel, taps) in d_weight.chunks_exact_mut(width).enumerate() {
                taps.iter_mut().enumerate().for_each(|(tap, d)| *d = sums[tap * count + channel]);
            }
        });
        dw
    }
}

/// The tokens that each token's `width` taps read, the oldest first, (N, W).
fn sources(segments: &Segments, width: usize) -> Result<Vec<u32>> {
    let continued = segments.continued()?;
    let mut before = vec![NONE; segments.tokens()];
    for (span, parent) in segments.spans().iter().zip(continued) {
        before[span.start] = parent.map_or(NONE, |parent| segments.spans()[parent].end as u32 - 1);
        (span.start + 1..span.end).for_each(|token| before[token] = token as u32 - 1);
    }
    let mut sources = vec![NONE; segments.tokens() * width];
    for (token, row) in sources.chunks_exact_mut(width.max(1)).enumerate() {
        let mut source = token as u32;
        for tap in row.iter_mut().rev() {
            *tap = source;
            source = before.get(source as usize).copied().unwrap_or(NONE);
        }
    }
    Ok(sources)
}

simd! {
    /// `sum += a ∘ b`.
    pub(crate) fn multiply_add(sum: &mut [f32], a: &[f32], b: &[f32]) {
        for ((sum, &a), &b) in sum.iter_mut().zip(a).zip(b) {
            *sum = fma::<FMA>(a, b, *sum);
        }
    }

    /// x·σ(x), in place.
    pub(crate) fn silu(values: &mut [f32]) {
        for value in values {
            *value *= sigmoid::<FMA>(*value);
        }
    }

    /// From x to the gradient of x, in place, given that of x·σ(x).
    fn silu_backward(values: &mut [f32], dy: &[f32]) {
        for (value, &dy) in values.iter_mut().zip(dy) {
            let s = sigmoid::<FMA>(*value);
            *value = dy * s * fma::<FMA>(*value, 1.0 - s, 1.0);
        }
    }
}
