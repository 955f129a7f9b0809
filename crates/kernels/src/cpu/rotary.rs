//! Rotary position embedding of rows of heads.

use super::parallel::{Shared, rows_per_piece, tasks};
use super::simd::{add_assign, fma, simd};
use super::{Dense, GradBuffer};
use crate::options::RotaryPairs;

/// Angles of N tokens and the extents of what they rotate: x (N, `heads`, `width`).
pub(crate) struct Rotation {
    /// (N, half).
    pub(crate) cos: Dense,
    /// (N, half).
    pub(crate) sin: Dense,
    pub(crate) half: usize,
    pub(crate) heads: usize,
    pub(crate) width: usize,
    pub(crate) pairs: RotaryPairs,
}

/// Extents of one piece of work and the direction of the rotation, 1 or −1.
#[derive(Clone, Copy)]
struct Turn {
    row: usize,
    width: usize,
    half: usize,
    sign: f32,
    pairs: RotaryPairs,
}

impl Rotation {
    /// The rotated `x`.
    pub(crate) fn forward(&self, x: &[f32]) -> Vec<f32> {
        let mut values = vec![0.0; x.len()];
        self.turn(x, 1.0, &mut values);
        values
    }

    /// The gradient of x from `dy`: a rotation's transpose rotates back.
    pub(crate) fn backward(&self, dy: &[f32], dx: &mut GradBuffer) {
        if dx.accumulate {
            let mut turned = vec![0.0; dy.len()];
            self.turn(dy, -1.0, &mut turned);
            add_assign(&mut dx.values, &turned);
        } else {
            self.turn(dy, -1.0, &mut dx.values);
        }
    }

    fn turn(&self, x: &[f32], sign: f32, out: &mut [f32]) {
        let (cos, sin, half) = (self.cos.read(), self.sin.read(), self.half);
        let row = self.heads * self.width;
        if row == 0 {
            return;
        }
        let turn = Turn { row, width: self.width, half, sign, pairs: self.pairs };
        let tokens = x.len() / row;
        let piece = rows_per_piece(row);
        let out = Shared::new(out);
        tasks(tokens.div_ceil(piece), x.len(), |index| {
            let first = index * piece;
            let n = piece.min(tokens - first);
            // SAFETY: tokens of this piece belong to this task alone.
            let out = unsafe { out.slice(first * row, n * row) };
            let angles = first * half..(first + n) * half;
            turn_tokens(&x[first * row..(first + n) * row], &cos[angles.clone()], &sin[angles], turn, out);
        });
    }
}

simd! {
    fn turn_tokens(x: &[f32], cos: &[f32], sin: &[f32], turn: Turn, out: &mut [f32]) {
        let Turn { row, width, half, sign, pairs } = turn;
        for (token, (x, out)) in x.chunks_exact(row).zip(out.chunks_exact_mut(row)).enumerate() {
            let cos = &cos[token * half..(token + 1) * half];
            let sin = &sin[token * half..(token + 1) * half];
            for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
                let (x, x_tail) = x.split_at(2 * half);
                let (out, tail) = out.split_at_mut(2 * half);
                tail.copy_from_slice(x_tail);
                match pairs {
                    RotaryPairs::Halves => {
                        let (x_low, x_high) = x.split_at(half);
                        let (low, high) = out.split_at_mut(half);
                        for i in 0..half {
                            let s = sign * sin[i];
                            low[i] = fma::<FMA>(x_low[i], cos[i], -(x_high[i] * s));
                            high[i] = fma::<FMA>(x_high[i], cos[i], x_low[i] * s);
                        }
                    }
                    RotaryPairs::Neighbours => {
                        for (i, (x, out)) in x.chunks_exact(2).zip(out.chunks_exact_mut(2)).enumerate() {
                            let s = sign * sin[i];
                            out[0] = fma::<FMA>(x[0], cos[i], -(x[1] * s));
                            out[1] = fma::<FMA>(x[1], cos[i], x[0] * s);
                        }
                    }
                }
            }
        }
    }

    /// Rotates one token's heads, each `width` wide, in place.
    pub(crate) fn turn_in_place(x: &mut [f32], cos: &[f32], sin: &[f32], width: usize, pairs: RotaryPairs) {
        let half = cos.len();
        for x in x.chunks_exact_mut(width) {
            match pairs {
                RotaryPairs::Halves => {
                    let (low, rest) = x.split_at_mut(half);
                    for i in 0..half {
                        let (a, b) = (low[i], rest[i]);
                        low[i] = fma::<FMA>(a, cos[i], -(b * sin[i]));
                        rest[i] = fma::<FMA>(b, cos[i], a * sin[i]);
                    }
                }
                RotaryPairs::Neighbours => {
                    for (i, pair) in x.chunks_exact_mut(2).take(half).enumerate() {
                        let (a, b) = (pair[0], pair[1]);
                        pair[0] = fma::<FMA>(a, cos[i], -(b * sin[i]));
                        pair[1] = fma::<FMA>(b, cos[i], a * sin[i]);
                    }
                }
            }
        }
    }
}
