//! Backward through candle's own graph from a given gradient.

use crate::error::Result;
use candle_core::backend::{BackendDevice, BackendStorage};
use candle_core::{CpuStorage, CudaStorage, CustomOp1, Layout, Shape, Tensor, TensorId};

/// A float scalar of value 0 whose gradient with respect to its argument is `gradient`.
struct Seed {
    gradient: Tensor,
}

impl CustomOp1 for Seed {
    fn name(&self) -> &'static str {
        "seed"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, _: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let shape = Shape::from(());
        Ok((storage.device().zeros_impl(&shape, storage.dtype())?, shape))
    }

    fn cuda_fwd(&self, storage: &CudaStorage, _: &Layout) -> candle_core::Result<(CudaStorage, Shape)> {
        let shape = Shape::from(());
        Ok((storage.device().zeros_impl(&shape, storage.dtype())?, shape))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, _: &Tensor) -> candle_core::Result<Option<Tensor>> {
        Ok(Some(self.gradient.clone()))
    }
}

/// The gradients of the leaves of candle's graph behind `tensor`, given its `gradient` (same shape and dtype).
///
/// Their order varies from run to run; each leaf comes once.
pub(super) fn through_candle(tensor: &Tensor, gradient: Tensor) -> Result<Vec<(TensorId, Tensor)>> {
    let store = tensor.apply_op1(Seed { gradient })?.backward()?;
    Ok(store.get_ids().filter_map(|&id| Some((id, store.get_id(id)?.clone()))).collect())
}
