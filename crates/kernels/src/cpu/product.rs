//! Products with a weight (O, I) in any storage: x·Wᵀ and its backward pass dy·W.
//!
//! A float32 weight goes to `gemm` whole. Any other is widened strip by strip of the result's columns into scratch memory
//! that stays in a cache, where `gemm` packs it anyway. Strips change no bit: `gemm` adds up an element in an order that
//! depends on the inner extent alone, as long as all strips take its path for wide matrices.

use super::matmul::{Target, View, multiply, threads};
use super::parallel::{Shared, tasks};
use super::weight::Elements;
use std::cell::Cell;
use std::ops::Range;

/// Columns of a strip: enough for `gemm`'s full speed and above its bounds of small matrices, in whole vectors.
const STRIP: usize = 512;

/// Elements widened in one piece of work.
const PIECE: usize = 1 << 15;

thread_local! {
    /// Memory for widened elements.
    static SCRATCH: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// Extents of one product and its factor.
#[derive(Clone, Copy)]
pub(crate) struct Extents {
    /// N.
    pub(crate) count: usize,
    /// I.
    pub(crate) inner: usize,
    /// O.
    pub(crate) outer: usize,
    pub(crate) scale: f32,
}

impl Extents {
    /// `out` (N, O) = scale · `x` (N, I) · `weight`ᵀ, or += with `accumulate`.
    pub(crate) fn forward(self, out: &mut [f32], x: &[f32], weight: Elements<'_>, accumulate: bool) {
        let Self { count, inner, outer, scale } = self;
        let x = View::new(x, count, inner);
        let whole = |out: &mut [f32], weight: &[f32]| {
            let target = Target::new(out, count, outer).accumulate(accumulate);
            multiply(target, x, View::new(weight, outer, inner).t(), scale, threads());
        };
        let Some(strips) = strips(outer) else { return with_whole(weight, outer * inner, |weight| whole(out, weight)) };
        if let Elements::Single(weight) = weight {
            return whole(out, weight);
        }
        let out = Shared::new(out);
        in_strips(&strips, self.work(), |strip, scratch| {
            scratch.resize((strip.len() * inner).max(scratch.len()), 0.0);
            let values = &mut scratch[..strip.len() * inner];
            weight.read(strip.start * inner, values);
            // SAFETY: the columns of a strip belong to its task alone.
            let target = unsafe { Target::strided(out, strip.start, count, strip.len(), outer) };
            multiply(target.accumulate(accumulate), x, View::new(values, strip.len(), inner).t(), scale, 1);
        });
    }

    /// `out` (N, I) = scale · `dy` (N, O) · `weight`, or += with `accumulate`.
    pub(crate) fn backward(self, out: &mut [f32], dy: &[f32], weight: Elements<'_>, accumulate: bool) {
        let Self { count, inner, outer, scale } = self;
        let dy = View::new(dy, count, outer);
        let whole = |out: &mut [f32], weight: &[f32]| {
            let target = Target::new(out, count, inner).accumulate(accumulate);
            multiply(target, dy, View::new(weight, outer, inner), scale, threads());
        };
        let Some(strips) = strips(inner) else { return with_whole(weight, outer * inner, |weight| whole(out, weight)) };
        if let Elements::Single(weight) = weight {
            return whole(out, weight);
        }
        let out = Shared::new(out);
        in_strips(&strips, self.work(), |strip, scratch| {
            scratch.resize((strip.len() * outer).max(scratch.len()), 0.0);
            let values = &mut scratch[..strip.len() * outer];
            for (row, values) in values.chunks_exact_mut(strip.len()).enumerate() {
                weight.read(row * inner + strip.start, values);
            }
            // SAFETY: the columns of a strip belong to its task alone.
            let target = unsafe { Target::strided(out, strip.start, count, strip.len(), inner) };
            multiply(target.accumulate(accumulate), dy, View::new(values, outer, strip.len()), scale, 1);
        });
    }

    fn work(self) -> usize {
        self.count * self.inner * self.outer
    }
}

/// The strips of a result with `columns`; `None` where there would be too few of them for the threads.
fn strips(columns: usize) -> Option<Vec<Range<usize>>> {
    let count = columns / STRIP;
    // The last one takes what is left.
    let end = |index: usize| if index + 1 == count { columns } else { (index + 1) * STRIP };
    (count >= 2 * threads()).then(|| (0..count).map(|index| index * STRIP..end(index)).collect())
}

fn in_strips(strips: &[Range<usize>], work: usize, run: impl Fn(&Range<usize>, &mut Vec<f32>) + Send + Sync) {
    tasks(strips.len(), work, |index| {
        // Taken, not borrowed: while this thread waits for others it may be given another product.
        let mut scratch = SCRATCH.take();
        run(&strips[index], &mut scratch);
        SCRATCH.set(scratch);
    });
}

/// Calls `run` with all elements in float32.
fn with_whole(weight: Elements<'_>, count: usize, run: impl FnOnce(&[f32])) {
    if let Elements::Single(values) = weight {
        return run(values);
    }
    let mut scratch = SCRATCH.take();
    scratch.resize(count.max(scratch.len()), 0.0);
    let values = Shared::new(&mut scratch[..count]);
    tasks(count.div_ceil(PIECE), count, |piece| {
        let first = piece * PIECE;
        // SAFETY: the elements of a piece belong to its task alone.
        weight.read(first, unsafe { values.slice(first, PIECE.min(count - first)) });
    });
    run(&scratch[..count]);
    SCRATCH.set(scratch);
}
