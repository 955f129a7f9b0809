//! Device and dtype of a model's tensors.

use candle_core::{DType, Device, Tensor, Var};

use crate::error::{ModelError, Result};
use crate::spec::DecoderSpec;
use crate::weights::WeightDtype;

/// A device, and the dtype of weights and activations on it. Log-probs are always float32.
#[derive(Debug, Clone)]
pub struct Placement {
    /// Device.
    pub device: Device,
    /// dtype.
    pub dtype: WeightDtype,
}

impl Default for Placement {
    /// float32 in host memory.
    fn default() -> Self {
        Self { device: Device::Cpu, dtype: WeightDtype::F32 }
    }
}

impl Placement {
    /// Placement of a tensor.
    pub(crate) fn of(tensor: &Tensor) -> Self {
        let dtype = match tensor.dtype() {
            DType::BF16 => WeightDtype::Bf16,
            DType::F16 => WeightDtype::F16,
            _ => WeightDtype::F32,
        };
        Self { device: tensor.device().clone(), dtype }
    }

    /// True for float32 in host memory.
    pub(crate) fn is_host(&self) -> bool {
        self.dtype == WeightDtype::F32 && matches!(self.device, Device::Cpu)
    }

    /// True if operations run as kernels of a GPU, or of the emulated one.
    pub fn runs_kernels_of_a_device(&self) -> bool {
        !matches!(self.device, Device::Cpu) || smpo_kernels::is_emulating()
    }

    /// A variable from float32 values, rounded to the dtype.
    pub(crate) fn variable(&self, values: Vec<f32>, shape: &[usize]) -> Result<Var> {
        if self.is_host() {
            // Moves the values without a copy.
            return Ok(Var::from_vec(values, shape, &Device::Cpu)?);
        }
        Ok(Var::from_tensor(&self.place(&Tensor::from_vec(values, shape, &Device::Cpu)?)?)?)
    }

    /// The tensor's values there, outside any graph; converted on the side where fewer bytes are transferred.
    pub(crate) fn place(&self, tensor: &Tensor) -> Result<Tensor> {
        Ok(tensor.detach().to_dtype(self.dtype.candle())?.to_device(&self.device)?)
    }
}

/// The values in float32 in host memory, row-major.
pub(crate) fn host_values(tensor: &Tensor) -> candle_core::Result<Vec<f32>> {
    tensor.detach().flatten_all()?.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.to_vec1()
}

impl DecoderSpec {
    /// The parts of the model that have no kernels for a GPU, if it has such.
    pub fn lacks_kernels(&self) -> Option<&'static str> {
        match (&self.experts, &self.delta, self.sinks) {
            (Some(_), _, _) => Some("routed experts"),
            (None, Some(_), _) => Some("gated delta nets"),
            (None, None, true) => Some("attention sinks"),
            (None, None, false) => None,
        }
    }
}

/// Refuses on a GPU what has no kernels for one.
pub(crate) fn refuse_device(spec: &DecoderSpec, placement: &Placement) -> Result<()> {
    let Some(lacking) = spec.lacks_kernels() else { return Ok(()) };
    if placement.is_host() && !smpo_kernels::is_emulating() {
        return Ok(());
    }
    let expected = format!("`cpu` for a model with {lacking}, which have no kernels for a GPU");
    Err(ModelError::input("device", expected, "a GPU"))
}
