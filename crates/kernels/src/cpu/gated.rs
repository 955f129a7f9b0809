//! Gated activations φ(gate) ∘ up: φ is x·σ(x) or GELU in its tanh form.

use super::parallel::{Shared, rows_per_piece, tasks};
use super::simd::{fma, sigmoid, simd, tanh};

/// √(2/π), of the tanh form of GELU.
const SQRT_2_OVER_PI: f32 = 0.797_884_6;
/// The cubic's factor in the tanh form of GELU.
const CUBIC: f32 = 0.044_715;

type Forward = fn(gate: &[f32], up: &[f32], out: &mut [f32]);
type Backward = fn(gate: &[f32], up: &[f32], dy: &[f32], d_gate: &mut [f32], d_up: &mut [f32]);

/// The loops of one activation; all slices have one length.
#[derive(Clone, Copy)]
pub(crate) struct Gated {
    forward: Forward,
    backward: Backward,
}

impl Gated {
    pub(crate) const SWIGLU: Self = Self { forward: swiglu_forward, backward: swiglu_backward };
    pub(crate) const GEGLU: Self = Self { forward: geglu_forward, backward: geglu_backward };

    pub(crate) fn forward(self, gate: &[f32], up: &[f32]) -> Vec<f32> {
        let mut values = vec![0.0; gate.len()];
        let out = Shared::new(&mut values);
        pieces(gate.len(), |range| {
            // SAFETY: this range belongs to this task alone.
            let out = unsafe { out.slice(range.start, range.len()) };
            (self.forward)(&gate[range.clone()], &up[range], out);
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
            (self.backward)(&gate[range.clone()], &up[range.clone()], &dy[range], d_gate, d_up);
        });
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
    pub(crate) fn swiglu_forward(gate: &[f32], up: &[f32], out: &mut [f32]) {
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

    pub(crate) fn geglu_forward(gate: &[f32], up: &[f32], out: &mut [f32]) {
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
}
