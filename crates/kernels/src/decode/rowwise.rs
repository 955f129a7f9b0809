//! A block's operations on each row between its products.

use candle_core::Tensor;

use crate::cpu::gated::Gated;
use crate::cpu::rotary::turn_in_place;
use crate::cpu::simd::{add_assign, sigmoid, simd, tanh};
use crate::cpu::{experts, norm};
use crate::error::Result;
use crate::options::{Gate, NormOptions, RotaryPairs, RouterOptions, Routing};

/// The factors of a norm, (H): its weight, or one more than it.
///
/// # Errors
///
/// [`crate::KernelError::Type`], [`crate::KernelError::Device`] for unfit tensors.
pub fn gain(weight: &Tensor, options: NormOptions) -> Result<Vec<f32>> {
    norm::scale("rms_norm", weight, options)
}

/// Root-mean-square norm of each row: `x` (N, H) with `gain` (H) to `out` (N, H).
pub fn normalise(x: &[f32], gain: &[f32], eps: f64, out: &mut [f32]) {
    for (x, out) in x.chunks_exact(gain.len().max(1)).zip(out.chunks_exact_mut(gain.len().max(1))) {
        norm::normalise(x, gain, out, &mut [0.0], eps as f32);
    }
}

/// Subtracts each row's mean from it, in place: `x` (N, `width`).
pub fn centre(x: &mut [f32], width: usize) {
    for row in x.chunks_exact_mut(width.max(1)) {
        let mean = row.iter().map(|x| f64::from(*x)).sum::<f64>() / row.len() as f64;
        row.iter_mut().for_each(|x| *x -= mean as f32);
    }
}

/// Rotates the first `2·cos.len()` dimensions of each head of one row, in place: `x` (heads, D), `cos` and `sin`
/// (R/2).
pub fn turn(x: &mut [f32], head_dim: usize, cos: &[f32], sin: &[f32], pairs: RotaryPairs) {
    turn_in_place(x, cos, sin, head_dim, pairs);
}

/// φ(gate) ∘ up, where `gate_up` (2·W) holds one after the other, to `out` (W).
pub fn gate(kind: Gate, gate_up: &[f32], out: &mut [f32]) {
    let (gate, up) = gate_up.split_at(gate_up.len() / 2);
    let gated = match kind {
        Gate::Silu => Gated::Swiglu,
        Gate::GeluTanh => Gated::Geglu,
        Gate::Clamped(clamp) => Gated::Clamped(clamp),
    };
    gated.forward_piece(gate, up, out);
}

/// The experts of each token by `logits` (N, `count`), and their weights (N, k); 1 ≤ k ≤ `count`.
pub fn route(logits: &[f32], count: usize, options: RouterOptions) -> (Routing, Vec<f32>) {
    let routed = experts::route(logits, count, options);
    (routed.routing, routed.weights)
}

/// `a += b`, row by row where `b` is shorter: (N, H) and (N, H) or (H).
pub fn add(a: &mut [f32], b: &[f32]) {
    for a in a.chunks_exact_mut(b.len().max(1)) {
        add_assign(a, b);
    }
}

simd! {
    /// `x ∘ σ(gate)`, in place.
    pub fn sigmoid_gate(gate: &[f32], x: &mut [f32]) {
        for (x, &gate) in x.iter_mut().zip(gate) {
            *x *= sigmoid::<FMA>(gate);
        }
    }

    /// `c · tanh(x / c)`, in place.
    pub fn soft_cap(values: &mut [f32], cap: f32) {
        for value in values {
            *value = tanh::<FMA>(*value / cap) * cap;
        }
    }
}
