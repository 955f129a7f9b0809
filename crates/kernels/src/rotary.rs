//! Rotary position embedding (Su and others, arXiv 2104.09864), half-split as Llama and Qwen store it.

use crate::dense::{Dense, same_shape};
use crate::device::{self, engine};
use crate::error::{KernelError, Result};
use crate::graph::record;
use crate::parallel::{Shared, rows_per_piece, tasks};
use crate::simd::{add_assign, fma, simd};
use candle_core::Tensor;

const OP: &str = "rotary";

/// Turns the first R of D dimensions of every head: `x` (N, heads, D), `cos` and `sin` (N, R/2),
/// to (N, heads, D). Dimension i pairs with i + R/2; the other D − R pass through.
///
/// # Errors
///
/// [`KernelError::Rank`], [`KernelError::Shape`], [`KernelError::Type`], [`KernelError::Device`]
/// for unfit tensors; [`KernelError::NotConstant`] if `cos` or `sin` require a gradient.
pub fn rotary(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let &[tokens, heads, width] = x.dims() else {
        let got = x.dims().to_vec();
        return Err(KernelError::Rank { op: OP, argument: "x", expected: "(N, heads, D)", got });
    };
    let &[angle_rows, half] = cos.dims() else {
        let got = cos.dims().to_vec();
        return Err(KernelError::Rank { op: OP, argument: "cos", expected: "(N, R/2)", got });
    };
    if angle_rows != tokens || 2 * half > width {
        return Err(KernelError::Shape {
            op: OP,
            argument: "cos",
            expected: format!("[{tokens}, at most {}]", width / 2),
            got: cos.dims().to_vec(),
        });
    }
    same_shape(OP, "sin", cos.dims(), sin)?;
    for (argument, tensor) in [("cos", cos), ("sin", sin)] {
        if tensor.track_op() {
            return Err(KernelError::NotConstant { op: OP, argument });
        }
    }
    if let Some(engine) = engine(x) {
        return device::rotary(&engine, x, cos, sin);
    }
    let input = Dense::new(OP, "x", x)?;
    let angles = Angles { cos: Dense::new(OP, "cos", cos)?, sin: Dense::new(OP, "sin", sin)?, half };
    let mut values = vec![0.0; x.elem_count()];
    angles.turn(&input.read(), heads, width, 1.0, &mut values);
    record(OP, &[x], values, x.dims(), move |gradient, _, out| {
        out.deliver(0, |buffer| {
            // A rotation's transpose turns back.
            if buffer.accumulate {
                let mut turned = vec![0.0; gradient.len()];
                angles.turn(gradient, heads, width, -1.0, &mut turned);
                add_assign(&mut buffer.values, &turned);
            } else {
                angles.turn(gradient, heads, width, -1.0, &mut buffer.values);
            }
        })
    })
}

struct Angles {
    cos: Dense,
    sin: Dense,
    half: usize,
}

impl Angles {
    fn turn(&self, x: &[f32], heads: usize, width: usize, sign: f32, out: &mut [f32]) {
        let (cos, sin, half) = (self.cos.read(), self.sin.read(), self.half);
        let row = heads * width;
        if row == 0 {
            return;
        }
        let tokens = x.len() / row;
        let piece = rows_per_piece(row);
        let out = Shared::new(out);
        tasks(tokens.div_ceil(piece), x.len(), |index| {
            let first = index * piece;
            let n = piece.min(tokens - first);
            // SAFETY: tokens of this piece belong to this task alone.
            let out = unsafe { out.slice(first * row, n * row) };
            let angles = first * half..(first + n) * half;
            turn_tokens(
                &x[first * row..(first + n) * row],
                &cos[angles.clone()],
                &sin[angles],
                out,
                row,
                width,
                half,
                sign,
            );
        });
    }
}

simd! {
    fn turn_tokens(
        x: &[f32],
        cos: &[f32],
        sin: &[f32],
        out: &mut [f32],
        row: usize,
        width: usize,
        half: usize,
        sign: f32,
    ) {
        for (token, (x, out)) in x.chunks_exact(row).zip(out.chunks_exact_mut(row)).enumerate() {
            let cos = &cos[token * half..(token + 1) * half];
            let sin = &sin[token * half..(token + 1) * half];
            for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
                let (x_low, x_rest) = x.split_at(half);
                let (x_high, x_tail) = x_rest.split_at(half);
                let (low, rest) = out.split_at_mut(half);
                let (high, tail) = rest.split_at_mut(half);
                for i in 0..half {
                    let s = sign * sin[i];
                    low[i] = fma::<FMA>(x_low[i], cos[i], -(x_high[i] * s));
                    high[i] = fma::<FMA>(x_high[i], cos[i], x_low[i] * s);
                }
                tail.copy_from_slice(x_tail);
            }
        }
    }

    /// One token's heads, turned where they are.
    pub(crate) fn turn_in_place(x: &mut [f32], cos: &[f32], sin: &[f32], width: usize) {
        let half = cos.len();
        for x in x.chunks_exact_mut(width) {
            let (low, rest) = x.split_at_mut(half);
            for i in 0..half {
                let (a, b) = (low[i], rest[i]);
                low[i] = fma::<FMA>(a, cos[i], -(b * sin[i]));
                rest[i] = fma::<FMA>(b, cos[i], a * sin[i]);
            }
        }
    }
}
