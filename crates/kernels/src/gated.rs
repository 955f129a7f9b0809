//! Gated activations: φ(gate) ∘ up (Shazeer, arXiv 2002.05202).

use crate::dense::{Dense, Remake, same_shape};
use crate::device::{self, engine};
use crate::error::Result;
use crate::graph::record;
use crate::outlet::Slopes;
use crate::parallel::{Shared, rows_per_piece, tasks};
use crate::simd::{fma, sigmoid, simd, tanh};
use crate::tape::offer_remake;
use candle_core::Tensor;
use std::sync::Arc;

/// √(2/π), of the tanh form of GELU.
const SQRT_2_OVER_PI: f32 = 0.797_884_6;
/// The cubic's factor in the tanh form of GELU.
const CUBIC: f32 = 0.044_715;

/// x·σ(x) of `gate` times `up`; any shape, both alike.
///
/// # Errors
///
/// [`crate::KernelError::Shape`], [`crate::KernelError::Type`], [`crate::KernelError::Device`] for
/// unfit tensors.
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    gated("swiglu", gate, up, swiglu_forward, swiglu_backward)
}

/// GELU of `gate`, in its tanh form, times `up`; any shape, both alike.
///
/// # Errors
///
/// As for [`swiglu`].
pub fn geglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    gated("geglu", gate, up, geglu_forward, geglu_backward)
}

type Forward = fn(gate: &[f32], up: &[f32], out: &mut [f32]);
type Backward = fn(gate: &[f32], up: &[f32], dy: &[f32], d_gate: &mut [f32], d_up: &mut [f32]);

fn gated(op: &'static str, gate: &Tensor, up: &Tensor, forward: Forward, backward: Backward) -> Result<Tensor> {
    same_shape(op, "up", gate.dims(), up)?;
    if let Some(engine) = engine(gate) {
        return device::gated(&engine, op, gate, up);
    }
    let inputs = Arc::new([Dense::new(op, "gate", gate)?, Dense::new(op, "up", up)?]);
    let run = move |[g, u]: &[Dense; 2]| {
        let (g, u) = (g.read(), u.read());
        let mut values = vec![0.0; g.len()];
        let out = Shared::new(&mut values);
        pieces(g.len(), |range| {
            // SAFETY: this range belongs to this task alone.
            let out = unsafe { out.slice(range.start, range.len()) };
            forward(&g[range.clone()], &u[range], out);
        });
        values
    };
    let values = run(&inputs);
    let kept = Arc::clone(&inputs);
    let result = record(op, &[gate, up], values, gate.dims(), move |dy, _, out| {
        let [g, u] = kept.each_ref().map(Dense::read);
        let mut buffers = [0, 1].map(|index| Slopes::new(out.open(index), g.len()));
        let [gate, up] = buffers.each_mut().map(|slopes| Shared::new(&mut slopes.fresh));
        pieces(g.len(), |range| {
            // SAFETY: this range belongs to this task alone.
            let (gate, up) = unsafe { (gate.slice(range.start, range.len()), up.slice(range.start, range.len())) };
            backward(&g[range.clone()], &u[range.clone()], &dy[range], gate, up);
        });
        for (index, slopes) in buffers.into_iter().enumerate() {
            slopes.close(index, out)?;
        }
        Ok(())
    })?;
    offer_remake(&result, || Remake::new(move || run(&inputs)));
    Ok(result)
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
            let slope = SQRT_2_OVER_PI * fma::<FMA>(3.0 * CUBIC * g, g, 1.0);
            d_up[i] = dy[i] * 0.5 * g * (1.0 + t);
            d_gate[i] = dy[i] * up[i] * 0.5 * fma::<FMA>(g * (1.0 - t * t), slope, 1.0 + t);
        }
    }
}
