//! Random inputs, strided on demand, and comparison of two functions in value and gradient.

use candle_core::{Device, Result, Tensor, Var};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use smpo_kernels::{Gradients, Tape};

/// Memory layout of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    Contiguous,
    /// The first two dimensions are swapped in memory.
    Transposed,
    /// A slice out of the middle of something wider.
    Narrowed,
}

pub const LAYOUTS: [Layout; 3] = [Layout::Contiguous, Layout::Transposed, Layout::Narrowed];

/// A source of reproducible tensors.
pub struct Source(ChaCha8Rng);

impl Source {
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    pub fn values(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.0.random_range(-1.5f32..1.5)).collect()
    }

    pub fn ids(&mut self, len: usize, below: usize) -> Vec<u32> {
        (0..len).map(|_| self.0.random_range(0..below as u32)).collect()
    }

    pub fn tensor(&mut self, shape: &[usize]) -> Tensor {
        Tensor::from_vec(self.values(shape.iter().product()), shape, &Device::Cpu).unwrap()
    }

    pub fn var(&mut self, shape: &[usize]) -> Var {
        Var::from_tensor(&self.tensor(shape)).unwrap()
    }

    /// A variable and a view of it that has `shape` and `layout`.
    pub fn input(&mut self, shape: &[usize], layout: Layout) -> Input {
        let mut stored = shape.to_vec();
        match layout {
            Layout::Contiguous => {}
            Layout::Transposed if shape.len() > 1 => stored.swap(0, 1),
            _ => *stored.last_mut().unwrap() += 3,
        }
        Input { var: self.var(&stored), shape: shape.to_vec(), layout }
    }
}

pub struct Input {
    pub var: Var,
    shape: Vec<usize>,
    layout: Layout,
}

impl Input {
    pub fn view(&self) -> Tensor {
        let tensor = self.var.as_tensor();
        match self.layout {
            Layout::Contiguous => tensor.clone(),
            Layout::Transposed if self.shape.len() > 1 => tensor.transpose(0, 1).unwrap(),
            _ => {
                let last = self.shape.len() - 1;
                tensor.narrow(last, 2, self.shape[last]).unwrap()
            }
        }
    }
}

pub fn flat(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// Fails unless both are within `tolerance` of each other, relative to the largest element.
#[track_caller]
pub fn assert_close(what: &str, got: &[f32], want: &[f32], tolerance: f32) {
    assert_eq!(got.len(), want.len(), "{what}: lengths differ");
    let size = want.iter().fold(1f32, |size, value| size.max(value.abs()));
    for (index, (got, want)) in got.iter().zip(want).enumerate() {
        assert!((got - want).abs() <= tolerance * size, "{what}[{index}]: got {got}, expected {want}, largest {size}");
    }
}

/// Compares `fused` with `naive` over views of `inputs`: results, and gradients of a random
/// weighting of the results with respect to every input.
#[track_caller]
pub fn assert_same(
    source: &mut Source,
    inputs: &[Input],
    tolerance: f32,
    fused: impl Fn(&[Tensor]) -> smpo_kernels::Result<Vec<Tensor>>,
    naive: impl Fn(&[Tensor]) -> Result<Vec<Tensor>>,
) {
    let views: Vec<Tensor> = inputs.iter().map(Input::view).collect();
    let got = fused(&views).unwrap();
    let want = naive(&views).unwrap();
    assert_eq!(got.len(), want.len());
    let mut weights = vec![];
    for (index, (got, want)) in got.iter().zip(&want).enumerate() {
        assert_eq!(got.dims(), want.dims());
        assert_close(&format!("result {index}"), &flat(got), &flat(want), tolerance);
        weights.push(source.tensor(got.dims()));
    }
    let root = |results: &[Tensor]| {
        let parts = results.iter().zip(&weights).map(|(y, w)| (y * w).unwrap().sum_all().unwrap());
        parts.reduce(|a, b| (a + b).unwrap()).unwrap()
    };
    let want = root(&want).backward().unwrap();
    // Once through candle's graph, once on a tape.
    let plain = root(&got).backward().unwrap();
    let (tape, taped) = Tape::record(|| root(&fused(&views).unwrap()));
    let one = Tensor::new(1f32, &Device::Cpu).unwrap();
    let mut taped = tape.backward(&taped, &one, &mut Gradients::default()).unwrap();
    for (index, input) in inputs.iter().enumerate() {
        let want = want.get(&input.var).expect("the naive twin has a gradient");
        let got = plain.get(&input.var).unwrap_or_else(|| panic!("input {index}: no gradient"));
        assert_close(&format!("gradient {index}"), &flat(got), &flat(want), tolerance);
        let got = taped.remove(&input.var).unwrap();
        let got = got.unwrap_or_else(|| panic!("input {index}: no gradient on a tape"));
        assert_close(&format!("gradient {index} on a tape"), &flat(&got), &flat(want), tolerance);
    }
}
