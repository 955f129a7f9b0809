//! `x·Wᵀ` over a matrix packed once, each row of `x` by itself.

use std::cell::Cell;

use candle_core::Tensor;

use crate::checks::matrix;
use crate::cpu::Dense;
use crate::cpu::parallel::{Shared, tasks};
use crate::cpu::simd::{Level, fma, level, simd};
use crate::error::{KernelError, Result};

const OP: &str = "pack";

/// Outputs side by side in one panel: two registers of AVX-512, four of AVX2.
const WIDTH: usize = 32;

/// Multiply-adds that make one piece of work.
const PIECE: usize = 1 << 18;

/// A weight (O, I) in panels of 32 outputs, each panel input by input: one sweep over it serves several rows.
#[derive(Debug, Clone)]
pub struct PackedMatrix {
    /// (⌈O / 32⌉, I, 32); outputs beyond O are zero.
    panels: Vec<f32>,
    outputs: usize,
    inputs: usize,
}

impl PackedMatrix {
    /// Packs weights (Oᵢ, I) one below the other, as one matrix (Σ Oᵢ, I).
    ///
    /// # Errors
    ///
    /// [`KernelError::Rank`], [`KernelError::Shape`], [`KernelError::Type`], [`KernelError::Device`] for unfit
    /// tensors.
    pub fn stack(weights: &[&Tensor]) -> Result<Self> {
        let mut shapes = Vec::with_capacity(weights.len());
        for weight in weights {
            shapes.push(matrix(OP, "weight", "(O, I)", weight)?);
        }
        let inputs = shapes.first().map_or(0, |shape| shape.1);
        let outputs = shapes.iter().map(|shape| shape.0).sum();
        let mut packed = Self { panels: vec![0.0; usize::div_ceil(outputs, WIDTH) * inputs * WIDTH], outputs, inputs };
        let mut output = 0;
        for (weight, (_, columns)) in weights.iter().zip(shapes) {
            if columns != inputs {
                let (expected, got) = (format!("[O, {inputs}]"), weight.dims().to_vec());
                return Err(KernelError::Shape { op: OP, argument: "weight", expected, got });
            }
            for row in Dense::new(OP, "weight", weight)?.read().chunks_exact(inputs.max(1)) {
                let start = output / WIDTH * inputs * WIDTH + output % WIDTH;
                for (input, &value) in row.iter().enumerate() {
                    packed.panels[start + input * WIDTH] = value;
                }
                output += 1;
            }
        }
        Ok(packed)
    }

    /// O.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// I.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// `y = x·Wᵀ`, `x` (N, I) to `y` (N, O). A row of `y` depends on its row of `x` and on no other.
    ///
    /// # Panics
    ///
    /// If `x` or `y` has another length.
    pub fn multiply(&self, x: &[f32], y: &mut [f32]) {
        let Self { outputs, inputs, .. } = *self;
        let rows = x.len() / inputs.max(1);
        assert_eq!((x.len(), y.len()), (rows * inputs, rows * outputs), "rows of x and y");
        let panels = usize::div_ceil(outputs, WIDTH);
        let together = (PIECE / (rows * inputs * WIDTH).max(1)).clamp(1, panels.max(1));
        let target = Shared::new(y);
        // Taken, not borrowed: while this thread waits for others it may be given another product.
        let mut blocks = BLOCKS.take();
        interleave(x, inputs, &mut blocks);
        // Fewer operations than these elements' work: each is one lane of a fused instruction.
        tasks(panels.div_ceil(together), rows * inputs * outputs / 16, |piece| {
            for panel in piece * together..((piece + 1) * together).min(panels) {
                let weights = &self.panels[panel * inputs * WIDTH..(panel + 1) * inputs * WIDTH];
                let first = panel * WIDTH;
                let width = WIDTH.min(outputs - first);
                panel_rows(&blocks, weights.as_chunks().0, rows, |row, values| {
                    // SAFETY: these outputs of this row belong to this panel's task alone.
                    let out = unsafe { target.slice(row * outputs + first, width) };
                    out.copy_from_slice(&values[..width]);
                });
            }
        });
        BLOCKS.set(blocks);
    }
}

/// Rows of `x` that go through a panel together.
const ROWS: usize = 8;

thread_local! {
    /// Scratch memory of [`interleave`].
    static BLOCKS: Cell<Vec<[f32; ROWS]>> = const { Cell::new(Vec::new()) };
}

/// `x` (N, I) as (⌈N / 8⌉, I, 8), in the order of one sweep over a panel. Rows beyond N are left as they are.
fn interleave(x: &[f32], inputs: usize, blocks: &mut Vec<[f32; ROWS]>) {
    let rows = x.len() / inputs.max(1);
    blocks.resize(rows.div_ceil(ROWS) * inputs, [0.0; ROWS]);
    for (row, x) in x.chunks_exact(inputs.max(1)).enumerate() {
        let block = &mut blocks[row / ROWS * inputs..][..inputs];
        for (entry, &value) in block.iter_mut().zip(x) {
            entry[row % ROWS] = value;
        }
    }
}

/// All rows against one panel (I, 32), as many at once as fit the registers.
fn panel_rows(
    blocks: &[[f32; ROWS]],
    panel: &[[f32; WIDTH]],
    rows: usize,
    mut store: impl FnMut(usize, &[f32; WIDTH]),
) {
    let level = level();
    let mut out = [[0.0; WIDTH]; ROWS];
    for (index, x) in blocks.chunks_exact(panel.len().max(1)).enumerate() {
        let here = ROWS.min(rows - index * ROWS);
        let mut at = 0;
        while at < here {
            let count = products(level, x, at, here - at, panel, &mut out);
            for (row, values) in out[..count].iter().enumerate() {
                store(index * ROWS + at + row, values);
            }
            at += count;
        }
    }
}

/// Some rows of a block, from row `at` on, against the panel: one chain of additions an output, input after input.
/// Returns the number of rows.
fn products(
    level: Level,
    x: &[[f32; ROWS]],
    at: usize,
    left: usize,
    panel: &[[f32; WIDTH]],
    out: &mut [[f32; WIDTH]; ROWS],
) -> usize {
    #[cfg(target_arch = "x86_64")]
    match (level, left) {
        // SAFETY: `level` is the CPU's, here and below.
        (Level::Avx512, 8..) => return unsafe { wide::avx512::<8>(x, at, panel, out) },
        (Level::Avx512, 4..) => return unsafe { wide::avx512::<4>(x, at, panel, out) },
        (Level::Avx512, 2..) => return unsafe { wide::avx512::<2>(x, at, panel, out) },
        (Level::Avx512, _) => return unsafe { wide::avx512::<1>(x, at, panel, out) },
        (Level::Avx2, 2..) => return unsafe { wide::avx2::<2>(x, at, panel, out) },
        (Level::Avx2, _) => return unsafe { wide::avx2::<1>(x, at, panel, out) },
        (Level::Plain, _) => {}
    }
    let _ = (level, left);
    one(x, at, panel, &mut out[0]);
    1
}

simd! {
    fn one(x: &[[f32; ROWS]], at: usize, panel: &[[f32; WIDTH]], out: &mut [f32; WIDTH]) {
        let mut sums = [0f32; WIDTH];
        for (x, weights) in x.iter().zip(panel) {
            let value = x[at % ROWS];
            for lane in 0..WIDTH {
                sums[lane] = fma::<FMA>(value, weights[lane], sums[lane]);
            }
        }
        *out = sums;
    }
}

/// The same in intrinsics: the compiler's own vectorisation runs across the rows and is twelve times slower.
#[cfg(target_arch = "x86_64")]
mod wide {
    use std::arch::x86_64::*;

    use super::{ROWS, WIDTH};

    #[target_feature(enable = "avx512f")]
    pub(super) fn avx512<const COUNT: usize>(
        x: &[[f32; ROWS]],
        at: usize,
        panel: &[[f32; WIDTH]],
        out: &mut [[f32; WIDTH]; ROWS],
    ) -> usize {
        let mut sums = [[_mm512_setzero_ps(); 2]; COUNT];
        for (x, weights) in x.iter().zip(panel) {
            // SAFETY: 16 floats from the start of 32, and from their middle.
            let weights = unsafe { [_mm512_loadu_ps(weights.as_ptr()), _mm512_loadu_ps(weights.as_ptr().add(16))] };
            for (row, sums) in sums.iter_mut().enumerate() {
                let value = _mm512_set1_ps(x[(at + row) % ROWS]);
                for (sum, weights) in sums.iter_mut().zip(weights) {
                    *sum = _mm512_fmadd_ps(value, weights, *sum);
                }
            }
        }
        for (out, sums) in out.iter_mut().zip(sums) {
            // SAFETY: as above.
            unsafe {
                _mm512_storeu_ps(out.as_mut_ptr(), sums[0]);
                _mm512_storeu_ps(out.as_mut_ptr().add(16), sums[1]);
            }
        }
        COUNT
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn avx2<const COUNT: usize>(
        x: &[[f32; ROWS]],
        at: usize,
        panel: &[[f32; WIDTH]],
        out: &mut [[f32; WIDTH]; ROWS],
    ) -> usize {
        let mut sums = [[_mm256_setzero_ps(); 4]; COUNT];
        for (x, weights) in x.iter().zip(panel) {
            let (weights, _) = weights.as_chunks::<8>();
            for (row, sums) in sums.iter_mut().enumerate() {
                let value = _mm256_set1_ps(x[(at + row) % ROWS]);
                for (sum, weights) in sums.iter_mut().zip(weights) {
                    // SAFETY: 8 floats of 8.
                    *sum = _mm256_fmadd_ps(value, unsafe { _mm256_loadu_ps(weights.as_ptr()) }, *sum);
                }
            }
        }
        for (out, sums) in out.iter_mut().zip(sums) {
            for (out, sum) in out.as_chunks_mut::<8>().0.iter_mut().zip(sums) {
                // SAFETY: as above.
                unsafe { _mm256_storeu_ps(out.as_mut_ptr(), sum) };
            }
        }
        COUNT
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use proptest::prelude::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    fn random(rng: &mut ChaCha8Rng, count: usize) -> Vec<f32> {
        (0..count).map(|_| rng.random_range(-1.0..1.0)).collect()
    }

    fn tensor(values: &[f32], inputs: usize) -> Tensor {
        Tensor::from_slice(values, (values.len() / inputs, inputs), &Device::Cpu).unwrap()
    }

    proptest! {
        #[test]
        fn every_row_is_the_naive_product_and_the_same_alone(
            seed: u64, rows in 1usize..20, inputs in 1usize..70, first in 1usize..70, second in 0usize..40,
        ) {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let (upper, lower) = (random(&mut rng, first * inputs), random(&mut rng, second * inputs));
            let x = random(&mut rng, rows * inputs);
            let mut parts = vec![tensor(&upper, inputs)];
            if second > 0 {
                parts.push(tensor(&lower, inputs));
            }
            let packed = PackedMatrix::stack(&parts.iter().collect::<Vec<_>>()).unwrap();
            let outputs = first + second;
            prop_assert_eq!((packed.outputs(), packed.inputs()), (outputs, inputs));
            let mut together = vec![f32::NAN; rows * outputs];
            packed.multiply(&x, &mut together);
            let weight: Vec<f32> = upper.iter().chain(&lower).copied().collect();
            for (row, y) in together.chunks_exact(outputs).enumerate() {
                let x = &x[row * inputs..(row + 1) * inputs];
                let mut alone = vec![f32::NAN; outputs];
                packed.multiply(x, &mut alone);
                prop_assert_eq!(&alone, y);
                for (y, w) in y.iter().zip(weight.chunks_exact(inputs)) {
                    let exact: f64 = x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
                    prop_assert!((f64::from(*y) - exact).abs() < 1e-5, "{} vs {}", y, exact);
                }
            }
        }
    }

    #[test]
    fn threads_change_no_bit() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let (inputs, outputs, rows) = (300, 700, 37);
        let packed = PackedMatrix::stack(&[&tensor(&random(&mut rng, inputs * outputs), inputs)]).unwrap();
        let x = random(&mut rng, rows * inputs);
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut y = vec![0.0; rows * outputs];
            pool.install(|| packed.multiply(&x, &mut y));
            y
        };
        assert_eq!(run(1), run(3));
    }

    #[test]
    fn products_side_by_side_in_one_pool_do_not_meet() {
        use rayon::prelude::*;
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        let (inputs, outputs, rows) = (128, 640, 30);
        let packed = PackedMatrix::stack(&[&tensor(&random(&mut rng, inputs * outputs), inputs)]).unwrap();
        let xs: Vec<Vec<f32>> = (0..64).map(|_| random(&mut rng, rows * inputs)).collect();
        let one = |x: &Vec<f32>| {
            let mut y = vec![0.0; rows * outputs];
            packed.multiply(x, &mut y);
            y
        };
        let expected: Vec<_> = xs.iter().map(one).collect();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(4).build().unwrap();
        for _ in 0..10 {
            assert_eq!(pool.install(|| xs.par_iter().map(one).collect::<Vec<_>>()), expected);
        }
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn instruction_sets_with_a_fused_multiply_add_agree_to_the_last_bit() {
        if level() == Level::Plain {
            return;
        }
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let inputs = 77;
        let x: Vec<[f32; ROWS]> = (0..inputs).map(|_| std::array::from_fn(|_| rng.random_range(-1.0..1.0))).collect();
        let panel: Vec<[f32; WIDTH]> =
            (0..inputs).map(|_| std::array::from_fn(|_| rng.random_range(-1.0..1.0))).collect();
        let run = |level: Level, at: usize, left: usize| {
            let mut out = [[f32::NAN; WIDTH]; ROWS];
            let count = products(level, &x, at, left, &panel, &mut out);
            (count, out)
        };
        for at in 0..ROWS {
            // `one` picks its own instruction set, and stays with one row.
            let (_, alone) = run(Level::Plain, at, 1);
            for (level, left) in
                [(Level::Avx2, 1), (Level::Avx2, 2), (level(), 1), (level(), 3), (level(), 5), (level(), 8)]
            {
                if left > ROWS - at {
                    continue;
                }
                let (count, out) = run(level, at, left);
                assert!((1..=left).contains(&count));
                assert_eq!(out[0], alone[0], "row {at} of {left}");
            }
        }
    }

    #[test]
    fn widths_that_differ_are_refused() {
        let (narrow, wide) = (tensor(&[0.0; 6], 2), tensor(&[0.0; 6], 3));
        let error = PackedMatrix::stack(&[&narrow, &wide]).unwrap_err().to_string();
        assert!(error.contains("[O, 2]"), "{error}");
    }
}
