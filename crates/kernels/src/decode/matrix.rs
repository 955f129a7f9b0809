//! `x·Wᵀ` over a matrix packed once, each row of `x` by itself.

use std::cell::Cell;

use candle_core::DType;
use half::{bf16, f16};

use crate::checks::matrix;
use crate::cpu::parallel::{Shared, tasks};
use crate::cpu::simd::{Level, fma, level, simd};
use crate::cpu::weight::{Elements, PackedWeight, Table, Weight};
use crate::error::{KernelError, Result};

const OP: &str = "pack";

/// Outputs side by side in one panel: two registers of AVX-512, four of AVX2.
const WIDTH: usize = 32;

/// Multiply-adds that make one piece of work.
const PIECE: usize = 1 << 18;

/// A weight (O, I) in panels of 32 outputs, each panel input by input: one sweep over it serves several rows. A weight in
/// 16 bits stays so, packed blocks stay blocks; a product is the same in every bit.
#[derive(Debug, Clone)]
pub struct PackedMatrix {
    panels: Panels,
    outputs: usize,
    inputs: usize,
}

/// (⌈O / 32⌉, I, 32); outputs beyond O are zero.
#[derive(Debug, Clone)]
enum Panels {
    Single(Vec<f32>),
    Bf16(Vec<bf16>),
    F16(Vec<f16>),
    /// Blocks in their own layout, one weight below the other: a panel is dequantised when it is used.
    Blocks(Vec<PackedWeight>),
}

impl PackedMatrix {
    /// Packs weights (Oᵢ, I) one below the other, as one matrix (Σ Oᵢ, I). Weights of several dtypes become float32.
    ///
    /// # Errors
    ///
    /// [`KernelError::Rank`], [`KernelError::Shape`], [`KernelError::Type`], [`KernelError::Device`] for unfit
    /// tensors.
    pub fn stack(weights: &[Weight<'_>]) -> Result<Self> {
        let mut shapes = Vec::with_capacity(weights.len());
        for weight in weights {
            shapes.push(match weight {
                Weight::Tensor(tensor) => matrix(OP, "weight", "(O, I)", tensor)?,
                Weight::Packed(packed) => packed.shape(),
            });
        }
        let inputs = shapes.first().map_or(0, |shape| shape.1);
        if let Some(&(outputs, columns)) = shapes.iter().find(|shape| shape.1 != inputs) {
            let (expected, got) = (format!("[O, {inputs}]"), vec![outputs, columns]);
            return Err(KernelError::Shape { op: OP, argument: "weight", expected, got });
        }
        let outputs = shapes.iter().map(|shape| shape.0).sum();
        let tables = weights.iter().map(|weight| Table::new(OP, "weight", *weight)).collect::<Result<Vec<_>>>()?;
        let all = |dtype: DType| weights.iter().all(|weight| matches!(weight, Weight::Tensor(t) if t.dtype() == dtype));
        let packed: Vec<PackedWeight> = weights
            .iter()
            .filter_map(|weight| match weight {
                Weight::Packed(packed) => Some((*packed).clone()),
                Weight::Tensor(_) => None,
            })
            .collect();
        let panels = if !packed.is_empty() && packed.len() == weights.len() {
            Panels::Blocks(packed)
        } else if !weights.is_empty() && all(DType::BF16) {
            Panels::Bf16(interleaved(&tables, outputs, inputs, bf16::ZERO, bf16::from_f32))
        } else if !weights.is_empty() && all(DType::F16) {
            Panels::F16(interleaved(&tables, outputs, inputs, f16::ZERO, f16::from_f32))
        } else {
            Panels::Single(interleaved(&tables, outputs, inputs, 0.0, |value| value))
        };
        Ok(Self { panels, outputs, inputs })
    }

    /// Size in memory, in bytes.
    pub fn bytes(&self) -> usize {
        match &self.panels {
            Panels::Single(values) => size_of_val(&values[..]),
            Panels::Bf16(values) => size_of_val(&values[..]),
            Panels::F16(values) => size_of_val(&values[..]),
            Panels::Blocks(weights) => weights.iter().map(PackedWeight::bytes).sum(),
        }
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
            let mut scratch = PANEL.take();
            for panel in piece * together..((piece + 1) * together).min(panels) {
                let first = panel * WIDTH;
                let width = WIDTH.min(outputs - first);
                let store = |row: usize, values: &[f32; WIDTH]| {
                    // SAFETY: these outputs of this row belong to this panel's task alone.
                    let out = unsafe { target.slice(row * outputs + first, width) };
                    out.copy_from_slice(&values[..width]);
                };
                match &self.panels {
                    Panels::Bf16(values) => panel_rows(&blocks, panel_of(values, panel, inputs), rows, store),
                    Panels::Single(values) => panel_rows(&blocks, panel_of(values, panel, inputs), rows, store),
                    Panels::F16(values) => {
                        scratch.resize(inputs * WIDTH, 0.0);
                        let values = panel_of(values, panel, inputs).as_flattened();
                        Elements::F16(values).read(0, &mut scratch);
                        panel_rows(&blocks, panel_of(&scratch, 0, inputs), rows, store);
                    }
                    Panels::Blocks(weights) => {
                        dequantise_panel(weights, panel, inputs, &mut scratch);
                        panel_rows(&blocks, panel_of(&scratch, 0, inputs), rows, store);
                    }
                }
            }
            PANEL.set(scratch);
        });
        BLOCKS.set(blocks);
    }
}

/// One panel, (I, 32).
fn panel_of<T>(panels: &[T], panel: usize, inputs: usize) -> &[[T; WIDTH]] {
    panels[panel * inputs * WIDTH..(panel + 1) * inputs * WIDTH].as_chunks().0
}

/// The rows of weights one below the other, in panels. `narrow` is exact.
fn interleaved<T: Copy>(tables: &[Table], outputs: usize, inputs: usize, zero: T, narrow: impl Fn(f32) -> T) -> Vec<T> {
    let mut panels = vec![zero; usize::div_ceil(outputs, WIDTH) * inputs * WIDTH];
    let mut row = vec![0.0; inputs];
    let mut output = 0;
    for table in tables {
        let guard = table.read();
        let elements = guard.elements();
        for index in 0..elements.len() / inputs.max(1) {
            elements.read(index * inputs, &mut row);
            let start = output / WIDTH * inputs * WIDTH + output % WIDTH;
            for (input, &value) in row.iter().enumerate() {
                panels[start + input * WIDTH] = narrow(value);
            }
            output += 1;
        }
    }
    panels
}

/// Panel `panel` of weights one below the other, in float32.
fn dequantise_panel(weights: &[PackedWeight], panel: usize, inputs: usize, out: &mut Vec<f32>) {
    out.clear();
    out.resize(inputs * WIDTH, 0.0);
    let mut rows = ROW.take();
    rows.resize(inputs * WIDTH, 0.0);
    let mut above = 0;
    let mut filled = 0;
    for weight in weights {
        let (count, _) = weight.shape();
        let wanted = panel * WIDTH..(panel + 1) * WIDTH;
        let here = wanted.start.max(above)..wanted.end.min(above + count);
        if !here.is_empty() {
            weight.read((here.start - above) * inputs, &mut rows[filled * inputs..(filled + here.len()) * inputs]);
            filled += here.len();
        }
        above += count;
    }
    for (input, lanes) in out.chunks_exact_mut(WIDTH).enumerate() {
        for (lane, row) in lanes.iter_mut().zip(rows[..filled * inputs].chunks_exact(inputs)) {
            *lane = row[input];
        }
    }
    ROW.set(rows);
}

/// Rows of `x` that go through a panel together.
const ROWS: usize = 8;

thread_local! {
    /// Scratch memory of [`interleave`].
    static BLOCKS: Cell<Vec<[f32; ROWS]>> = const { Cell::new(Vec::new()) };

    /// A panel in float32.
    static PANEL: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };

    /// Rows of blocks in float32.
    static ROW: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
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
fn panel_rows<T: Lane>(
    blocks: &[[f32; ROWS]],
    panel: &[[T; WIDTH]],
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
fn products<T: Lane>(
    level: Level,
    x: &[[f32; ROWS]],
    at: usize,
    left: usize,
    panel: &[[T; WIDTH]],
    out: &mut [[f32; WIDTH]; ROWS],
) -> usize {
    #[cfg(target_arch = "x86_64")]
    match (level, left) {
        // SAFETY: `level` is the CPU's, here and below.
        (Level::Avx512, 8..) => return unsafe { wide::avx512::<T, 8>(x, at, panel, out) },
        (Level::Avx512, 4..) => return unsafe { wide::avx512::<T, 4>(x, at, panel, out) },
        (Level::Avx512, 2..) => return unsafe { wide::avx512::<T, 2>(x, at, panel, out) },
        (Level::Avx512, _) => return unsafe { wide::avx512::<T, 1>(x, at, panel, out) },
        (Level::Avx2, 2..) => return unsafe { wide::avx2::<T, 2>(x, at, panel, out) },
        (Level::Avx2, _) => return unsafe { wide::avx2::<T, 1>(x, at, panel, out) },
        (Level::Plain, _) => {}
    }
    let _ = (level, left);
    T::one(x, at, panel, &mut out[0]);
    1
}

/// An element of a panel.
trait Lane: Copy {
    fn widen(self) -> f32;

    /// One row against a panel.
    fn one(x: &[[f32; ROWS]], at: usize, panel: &[[Self; WIDTH]], out: &mut [f32; WIDTH]);

    /// The 16 elements from `from` on.
    ///
    /// # Safety
    ///
    /// AVX-512 F is there, and so are the elements.
    #[cfg(target_arch = "x86_64")]
    unsafe fn load_16(from: *const Self) -> std::arch::x86_64::__m512;

    /// The 8 elements from `from` on.
    ///
    /// # Safety
    ///
    /// AVX2 is there, and so are the elements.
    #[cfg(target_arch = "x86_64")]
    unsafe fn load_8(from: *const Self) -> std::arch::x86_64::__m256;
}

/// One row against a panel, whose sums are `FMA` steps.
#[inline(always)]
fn row_sums<T: Lane, const FMA: bool>(x: &[[f32; ROWS]], at: usize, panel: &[[T; WIDTH]]) -> [f32; WIDTH] {
    let mut sums = [0f32; WIDTH];
    for (x, weights) in x.iter().zip(panel) {
        let value = x[at % ROWS];
        for lane in 0..WIDTH {
            sums[lane] = fma::<FMA>(value, weights[lane].widen(), sums[lane]);
        }
    }
    sums
}

simd! {
    fn one_single(x: &[[f32; ROWS]], at: usize, panel: &[[f32; WIDTH]], out: &mut [f32; WIDTH]) {
        *out = row_sums::<f32, FMA>(x, at, panel);
    }

    fn one_bf16(x: &[[f32; ROWS]], at: usize, panel: &[[bf16; WIDTH]], out: &mut [f32; WIDTH]) {
        *out = row_sums::<bf16, FMA>(x, at, panel);
    }
}

impl Lane for f32 {
    fn widen(self) -> f32 {
        self
    }

    fn one(x: &[[f32; ROWS]], at: usize, panel: &[[Self; WIDTH]], out: &mut [f32; WIDTH]) {
        one_single(x, at, panel, out);
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load_16(from: *const Self) -> std::arch::x86_64::__m512 {
        // SAFETY: the caller's promise.
        unsafe { std::arch::x86_64::_mm512_loadu_ps(from) }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn load_8(from: *const Self) -> std::arch::x86_64::__m256 {
        // SAFETY: the caller's promise.
        unsafe { std::arch::x86_64::_mm256_loadu_ps(from) }
    }
}

impl Lane for bf16 {
    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    fn one(x: &[[f32; ROWS]], at: usize, panel: &[[Self; WIDTH]], out: &mut [f32; WIDTH]) {
        one_bf16(x, at, panel, out);
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load_16(from: *const Self) -> std::arch::x86_64::__m512 {
        use std::arch::x86_64::*;
        // SAFETY: the caller's promise.
        let values = unsafe { _mm256_loadu_si256(from.cast()) };
        _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(values), 16))
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn load_8(from: *const Self) -> std::arch::x86_64::__m256 {
        use std::arch::x86_64::*;
        // SAFETY: the caller's promise.
        let values = unsafe { _mm_loadu_si128(from.cast()) };
        _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(values), 16))
    }
}

/// The same in intrinsics: the compiler's own vectorisation runs across the rows and is twelve times slower.
#[cfg(target_arch = "x86_64")]
mod wide {
    use std::arch::x86_64::*;

    use super::{Lane, ROWS, WIDTH};

    #[target_feature(enable = "avx512f")]
    pub(super) fn avx512<T: Lane, const COUNT: usize>(
        x: &[[f32; ROWS]],
        at: usize,
        panel: &[[T; WIDTH]],
        out: &mut [[f32; WIDTH]; ROWS],
    ) -> usize {
        let mut sums = [[_mm512_setzero_ps(); 2]; COUNT];
        for (x, weights) in x.iter().zip(panel) {
            // SAFETY: 16 elements from the start of 32, and from their middle.
            let weights = unsafe { [T::load_16(weights.as_ptr()), T::load_16(weights.as_ptr().add(16))] };
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
    pub(super) fn avx2<T: Lane, const COUNT: usize>(
        x: &[[f32; ROWS]],
        at: usize,
        panel: &[[T; WIDTH]],
        out: &mut [[f32; WIDTH]; ROWS],
    ) -> usize {
        let mut sums = [[_mm256_setzero_ps(); 4]; COUNT];
        for (x, weights) in x.iter().zip(panel) {
            let (weights, _) = weights.as_chunks::<8>();
            for (row, sums) in sums.iter_mut().enumerate() {
                let value = _mm256_set1_ps(x[(at + row) % ROWS]);
                for (sum, weights) in sums.iter_mut().zip(weights) {
                    // SAFETY: 8 elements of 8.
                    *sum = _mm256_fmadd_ps(value, unsafe { T::load_8(weights.as_ptr()) }, *sum);
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
    use candle_core::{Device, Tensor};
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
            let packed = PackedMatrix::stack(&parts.iter().map(Weight::Tensor).collect::<Vec<_>>()).unwrap();
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
        let packed =
            PackedMatrix::stack(&[Weight::Tensor(&tensor(&random(&mut rng, inputs * outputs), inputs))]).unwrap();
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
        let packed =
            PackedMatrix::stack(&[Weight::Tensor(&tensor(&random(&mut rng, inputs * outputs), inputs))]).unwrap();
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
        let error = PackedMatrix::stack(&[Weight::Tensor(&narrow), Weight::Tensor(&wide)]).unwrap_err().to_string();
        assert!(error.contains("[O, 2]"), "{error}");
    }
}
