//! Sums of two slices.

use super::parallel::{Shared, rows_per_piece, tasks};
use super::simd::simd;

/// `left` + `right`, of one length.
pub(crate) fn add(left: &[f32], right: &[f32]) -> Vec<f32> {
    let mut values = vec![0.0; left.len()];
    let out = Shared::new(&mut values);
    let piece = rows_per_piece(1);
    tasks(left.len().div_ceil(piece), left.len(), |index| {
        let range = index * piece..((index + 1) * piece).min(left.len());
        // SAFETY: this range belongs to this task alone.
        let out = unsafe { out.slice(range.start, range.len()) };
        sum(&left[range.clone()], &right[range], out);
    });
    values
}

simd! {
    pub(crate) fn sum(a: &[f32], b: &[f32], out: &mut [f32]) {
        for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
            *out = a + b;
        }
    }
}
