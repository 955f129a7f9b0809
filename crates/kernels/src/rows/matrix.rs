//! `x·Wᵀ` over a matrix packed once, each row of `x` by itself.

use candle_core::Tensor;

use crate::dense::{Dense, matrix};
use crate::error::{KernelError, Result};
use crate::parallel::{Shared, tasks};
use crate::simd::{Level, fma, level, simd};

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
    /// When `x` or `y` is not that long.
    pub fn multiply(&self, x: &[f32], y: &mut [f32]) {
        let Self { outputs, inputs, .. } = *self;
        let rows = x.len() / inputs.max(1);
        assert_eq!((x.len(), y.len()), (rows * inputs, rows * outputs), "rows of x and y");
        let panels = usize::div_ceil(outputs, WIDTH);
        let together = (PIECE / (rows * inputs * WIDTH).max(1)).clamp(1, panels.max(1));
        let target = Shared::new(y);
        // Fewer operations than these elements' work: each is one lane of a fused instruction.
        tasks(panels.div_ceil(together), rows * inputs * outputs / 16, |piece| {
            for panel in piece * together..((piece + 1) * together).min(panels) {
                let weights = &self.panels[panel * inputs * WIDTH..(panel + 1) * inputs * WIDTH];
                let first = panel * WIDTH;
                let width = WIDTH.min(outputs - first);
                panel_rows(x, weights.as_chunks().0, inputs, |row, values| {
                    // SAFETY: these outputs of this row belong to this panel's task alone.
                    let out = unsafe { target.slice(row * outputs + first, width) };
                    out.copy_from_slice(&values[..width]);
                });
            }
        });
    }
}

/// All rows against one panel (I, 32), as many at once as the registers hold.
fn panel_rows(x: &[f32], panel: &[[f32; WIDTH]], inputs: usize, mut store: impl FnMut(usize, &[f32; WIDTH])) {
    let rows = x.len() / inputs.max(1);
    let most = if level() == Level::Avx512 { 8 } else { 2 };
    let mut out = [[0.0; WIDTH]; 8];
    let mut row = 0;
    while row < rows {
        let x = &x[row * inputs..];
        let count = match (rows - row).min(most) {
            8 => {
                eight(x, panel, &mut out);
                8
            }
            4..8 => {
                four(x, panel, &mut out);
                4
            }
            2 | 3 => {
                two(x, panel, &mut out);
                2
            }
            _ => {
                one(x, panel, &mut out);
                1
            }
        };
        for (index, values) in out[..count].iter().enumerate() {
            store(row + index, values);
        }
        row += count;
    }
}

simd! {
    fn eight(x: &[f32], panel: &[[f32; WIDTH]], out: &mut [[f32; WIDTH]; 8]) {
        products::<FMA, 8>(x, panel, out);
    }

    fn four(x: &[f32], panel: &[[f32; WIDTH]], out: &mut [[f32; WIDTH]; 8]) {
        products::<FMA, 4>(x, panel, out);
    }

    fn two(x: &[f32], panel: &[[f32; WIDTH]], out: &mut [[f32; WIDTH]; 8]) {
        products::<FMA, 2>(x, panel, out);
    }

    fn one(x: &[f32], panel: &[[f32; WIDTH]], out: &mut [[f32; WIDTH]; 8]) {
        products::<FMA, 1>(x, panel, out);
    }
}

/// `ROWS` rows of `x` (…, I) against the panel: one chain of additions an output, input after input.
#[inline(always)]
fn products<const FMA: bool, const ROWS: usize>(x: &[f32], panel: &[[f32; WIDTH]], out: &mut [[f32; WIDTH]; 8]) {
    let inputs = panel.len();
    let x: [&[f32]; ROWS] = std::array::from_fn(|row| &x[row * inputs..(row + 1) * inputs]);
    let mut sums = [[0f32; WIDTH]; ROWS];
    for (input, weights) in panel.iter().enumerate() {
        for row in 0..ROWS {
            let value = x[row][input];
            for lane in 0..WIDTH {
                sums[row][lane] = fma::<FMA>(value, weights[lane], sums[row][lane]);
            }
        }
    }
    out[..ROWS].copy_from_slice(&sums);
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
    fn widths_that_differ_are_refused() {
        let (narrow, wide) = (tensor(&[0.0; 6], 2), tensor(&[0.0; 6], 3));
        let error = PackedMatrix::stack(&[&narrow, &wide]).unwrap_err().to_string();
        assert!(error.contains("[O, 2]"), "{error}");
    }
}
