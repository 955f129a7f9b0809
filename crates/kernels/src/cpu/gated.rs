//! Gated activations φ(gate) ∘ up: φ is x·σ(x), GELU in its tanh form, or σ; and the clamped form of gpt-oss.

use super::parallel::{Shared, rows_per_piece, tasks};
use super::simd::{fma, sigmoid, simd, tanh};
use crate::options::Clamp;

/// √(2/π), of the tanh form of GELU.
const SQRT_2_OVER_PI: f32 = 0.797_884_6;
/// The cubic's factor in the tanh form of GELU.
const CUBIC: f32 = 0.044_715;

/// One activation; all slices have one length.
#[derive(Clone, Copy)]
pub(crate) enum Gated {
    Swiglu,
    Geglu,
    Sigmoid,
    Clamped(Clamp),
}

impl Gated {
    pub(crate) fn forward(self, gate: &[f32], up: &[f32]) -> Vec<f32> {
        let mut values = vec![0.0; gate.len()];
        let out = Shared::new(&mut values);
        pieces(gate.len(), |range| {
            // SAFETY: this range belongs to this task alone.
            let out = unsafe { out.slice(range.start, range.len()) };
            let (gate, up) = (&gate[range.clone()], &up[range]);
            self.forward_piece(gate, up, out);
        });
        values
    }

    /// Overwrites the gradients of both arguments, given the result's.
    pub(crate) fn backward(self, [gate, up]: [&[f32]; 2], dy: &[f32], [d_gate, d_up]: [&mut [f32]; 2]) {
        let (d_gate, d_up) = (Shared::new(d_gate), Shared::new(d_up));
        pieces(gate.len(), |range| {
            // SAFETY: this range belongs to this task alone.
            let (d_gate, d_up) =
                unsafe { (d_gate.slice(range.start, range.len()), d_up.slice(range.start, range.len())) };
            let (gate, up, dy) = (&gate[range.clone()], &up[range.clone()], &dy[range]);
            match self {
                Self::Swiglu => swiglu_backward(gate, up, dy, d_gate, d_up),
                Self::Geglu => geglu_backward(gate, up, dy, d_gate, d_up),
                Self::Sigmoid => sigmoid_backward(gate, up, dy, d_gate, d_up),
                Self::Clamped(clamp) => clamped_backward(clamp, gate, up, dy, d_gate, d_up),
            }
        });
    }

    /// φ(gate) ∘ up on this thread.
    pub(crate) fn forward_piece(self, gate: &[f32], up: &[f32], out: &mut [f32]) {
        match self {
            Self::Swiglu => swiglu_forward(gate, up, out),
            Self::Geglu => geglu_forward(gate, up, out),
            Self::Sigmoid => sigmoid_forward(gate, up, out),
            Self::Clamped(clamp) => clamped_forward(clamp, gate, up, out),
        }
    }
}

fn pieces(len: usize, task: impl Fn(std::ops::Range<usize>) + Send + Sync) {
    // An exponential costs about four plain operations.
    let piece = rows_per_piece(4);
    tasks(len.div_ceil(piece), 4 * len, |index| {
        task(index * piece..((index + 1) * piece).min(len));
    });
}

simd! {
    fn swiglu_forward(gate: &[f32], up: &[f32], out: &mut [f32]) {
        for ((out, &g), &u) in out.iter_mut().zip(gate).zip(up) {
            *out = g * sigmoid::<FMA>(g) * u;
        }
    }

    fn swiglu_backward(gate: &[f32], up: &[f32], dy: &[f32], d_gate: &mut [f32], d_up: &mut [f32]) {
        let len = gate.len();
        let (up, dy, d_gate, d_up) = (&up[..len], &dy[..len], &mut d_gate[..len], &mut d_up[..len]);
        for i in 0..len {
            let g = gate[i];
            let s = sigmoid::<FMA>(g);
            d_up[i] = dy[i] * g * s;
            d_gate[i] = dy[i] * up[i] * s * fma::<FMA>(g, 1.0 - s, 1.0);
        }
    }

    fn sigmoid_forward(gate: &[f32], up: &[f32], out: &mut [f32]) {
        for ((out, &g), &u) in out.iter_mut().zip(gate).zip(up) {
            *out = sigmoid::<FMA>(g) * u;
        }
    }

    fn sigmoid_backward(gate: &[f32], up: &[f32], dy: &[f32], d_gate: &mut [f32], d_up: &mut [f32]) {
        let len = gate.len();
        let (up, dy, d_gate, d_up) = (&up[..len], &dy[..len], &mut d_gate[..len], &mut d_up[..len]);
        for i in 0..len {
            let s = sigmoid::<FMA>(gate[i]);
            d_up[i] = dy[i] * s;
            d_gate[i] = dy[i] * up[i] * s * (1.0 - s);
        }
    }

    fn geglu_forward(gate: &[f32], up: &[f32], out: &mut [f32]) {
        for ((out, &g), &u) in out.iter_mut().zip(gate).zip(up) {
            let t = tanh::<FMA>(SQRT_2_OVER_PI * g * fma::<FMA>(CUBIC * g, g, 1.0));
            *out = 0.5 * g * (1.0 + t) * u;
        }
    }

    fn geglu_backward(gate: &[f32], up: &[f32], dy: &[f32], d_gate: &mut [f32], d_up: &mut [f32]) {
        let len = gate.len();
        let (up, dy, d_gate, d_up) = (&up[..len], &dy[..len], &mut d_gate[..len], &mut d_up[..len]);
        for i in 0..len {
            let g = gate[i];
            let t = tanh::<FMA>(SQRT_2_OVER_PI * g * fma::<FMA>(CUBIC * g, g, 1.0));
            // The derivative of tanh's argument.
            let inner = SQRT_2_OVER_PI * fma::<FMA>(3.0 * CUBIC * g, g, 1.0);
            d_up[i] = dy[i] * 0.5 * g * (1.0 + t);
            d_gate[i] = dy[i] * up[i] * 0.5 * fma::<FMA>(g * (1.0 - t * t), inner, 1.0 + t);
        }
    }

    fn clamped_forward(clamp: Clamp, gate: &[f32], up: &[f32], out: &mut [f32]) {
        let Clamp { alpha, limit } = clamp;
        for ((out, &g), &u) in out.iter_mut().zip(gate).zip(up) {
            let g = g.min(limit);
            let u = u.max(-limit).min(limit);
            *out = (u + 1.0) * g * sigmoid::<FMA>(alpha * g);
        }
    }

    fn clamped_backward(clamp: Clamp, gate: &[f32], up: &[f32], dy: &[f32], d_gate: &mut [f32], d_up: &mut [f32]) {
        let Clamp { alpha, limit } = clamp;
        let len = gate.len();
        let (up, dy, d_gate, d_up) = (&up[..len], &dy[..len], &mut d_gate[..len], &mut d_up[..len]);
        for i in 0..len {
            let g = gate[i].min(limit);
            let u = up[i].max(-limit).min(limit);
            let s = sigmoid::<FMA>(alpha * g);
            // Beyond a limit nothing depends on the argument; at it, as in PyTorch, everything does.
            let gate_counts = if gate[i] <= limit { 1.0 } else { 0.0 };
            let up_counts = if up[i].abs() <= limit { 1.0 } else { 0.0 };
            d_up[i] = dy[i] * up_counts * g * s;
            d_gate[i] = dy[i] * gate_counts * (u + 1.0) * s * fma::<FMA>(alpha * g, 1.0 - s, 1.0);
        }
    }
}
