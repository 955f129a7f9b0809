//! An adapter beside its weight: for weights in few bits, which a merged copy would give up.

use smpo_kernels::Weight;
use smpo_kernels::decode::PackedMatrix;

use crate::error::Result;
use crate::lora::Adapter;
use crate::matrix::Matrix;

/// The update of one linear layer, `ratio·(y + s·B·A·x)` with DoRA, `y + s·B·A·x` without.
#[derive(Debug, Clone)]
pub(super) struct LowRank {
    /// The layer's first output among those of the projection.
    first: usize,
    a: PackedMatrix,
    /// `s·B`.
    b: PackedMatrix,
    ratio: Option<Vec<f32>>,
}

impl LowRank {
    pub fn new(first: usize, adapter: &Adapter, weight: &Matrix) -> Result<Self> {
        let ratio = adapter.magnitude_ratio(weight)?.map(|ratio| ratio.detach().to_vec1()).transpose()?;
        Ok(Self {
            first,
            a: PackedMatrix::stack(&[Weight::Tensor(&adapter.a.tensor.detach())])?,
            b: PackedMatrix::stack(&[Weight::Tensor(&adapter.scaled_b()?)])?,
            ratio,
        })
    }

    pub fn bytes(&self) -> usize {
        self.a.bytes() + self.b.bytes()
    }

    /// Adds the update of `x` (N, I) to the layer's outputs in `y` (N, `outputs`).
    pub fn add(&self, x: &[f32], y: &mut [f32], outputs: usize) {
        let rows = y.len() / outputs.max(1);
        let mut low = vec![0.0; rows * self.a.outputs()];
        self.a.multiply(x, &mut low);
        let mut update = vec![0.0; rows * self.b.outputs()];
        self.b.multiply(&low, &mut update);
        for (y, update) in y.chunks_exact_mut(outputs).zip(update.chunks_exact(self.b.outputs())) {
            let y = &mut y[self.first..self.first + update.len()];
            y.iter_mut().zip(update).for_each(|(y, update)| *y += update);
            if let Some(ratio) = &self.ratio {
                y.iter_mut().zip(ratio).for_each(|(y, ratio)| *y *= ratio);
            }
        }
    }
}
