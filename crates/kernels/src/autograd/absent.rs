//! Tensors that are not in memory all the time: shape, type and identity stay, the values come and go.

use crate::error::Result;
use candle_core::backend::BackendStorage;
use candle_core::op::BackpropOp;
use candle_core::{CpuStorage, CudaStorage, InplaceOp2, Layout, Tensor};

/// A tensor of a shape without values, of the type and on the device of `like`; a variable if it is `trained`. Nothing may
/// read it before [`replace_values`] gives it some.
///
/// # Errors
///
/// [`crate::KernelError::Candle`] when a device has no memory left.
pub fn absent(shape: &[usize], like: &Tensor, trained: bool) -> Result<Tensor> {
    let one = nothing(like)?;
    let (storage, layout) = one.storage_and_layout();
    Ok(Tensor::from_storage(storage.try_clone(layout)?, shape, BackpropOp::none(), trained))
}

/// Gives a tensor, and all that share its memory, a copy of `values`: as many, in one piece, of its type and on its device.
///
/// # Errors
///
/// [`crate::KernelError::Candle`] when a device has no memory left.
pub fn replace_values(tensor: &Tensor, values: &Tensor) -> Result<()> {
    Ok(tensor.inplace_op2(values, &Replace)?)
}

/// Takes the values of a tensor, and of all that share its memory, out of memory.
///
/// # Errors
///
/// [`crate::KernelError::Candle`] when a device has no memory left.
pub fn drop_values(tensor: &Tensor) -> Result<()> {
    replace_values(tensor, &nothing(tensor)?)
}

/// One value, since a device has no memory of none.
fn nothing(like: &Tensor) -> Result<Tensor> {
    Ok(Tensor::zeros(1, like.dtype(), like.device())?)
}

struct Replace;

impl InplaceOp2 for Replace {
    fn name(&self) -> &'static str {
        "replace"
    }

    fn cpu_fwd(
        &self,
        storage: &mut CpuStorage,
        _: &Layout,
        values: &CpuStorage,
        layout: &Layout,
    ) -> candle_core::Result<()> {
        *storage = values.try_clone(layout)?;
        Ok(())
    }

    fn cuda_fwd(
        &self,
        storage: &mut CudaStorage,
        _: &Layout,
        values: &CudaStorage,
        layout: &Layout,
    ) -> candle_core::Result<()> {
        *storage = values.try_clone(layout)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn values_come_and_go_in_all_that_share_them() {
        let like = Tensor::zeros(1, candle_core::DType::F32, &Device::Cpu).unwrap();
        let tensor = absent(&[2, 2], &like, true).unwrap();
        let (variable, frozen) = (Var::from_tensor(&tensor).unwrap(), tensor.detach());
        assert_eq!((variable.id(), tensor.dims()), (tensor.id(), &[2, 2][..]));
        let values = Tensor::new(&[1f32, 2.0, 3.0, 4.0], &Device::Cpu).unwrap();
        replace_values(&tensor, &values).unwrap();
        assert_eq!(frozen.to_vec2::<f32>().unwrap(), [[1.0, 2.0], [3.0, 4.0]]);
        drop_values(&frozen).unwrap();
        assert_eq!(tensor.storage_and_layout().0.dtype(), candle_core::DType::F32);
        replace_values(&frozen, &values).unwrap();
        assert_eq!(variable.to_vec2::<f32>().unwrap(), [[1.0, 2.0], [3.0, 4.0]]);
    }
}
