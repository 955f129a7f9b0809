//! A linear layer of the decoder.

use candle_core::Tensor;
use smpo_kernels::linear;

use crate::error::Result;
use crate::parameter::{Parameter, Parameters};

/// `y = x·Wᵀ + b`.
#[derive(Debug, Clone)]
pub(crate) struct Linear {
    pub weight: Parameter,
    pub bias: Option<Parameter>,
}

impl Linear {
    /// Takes `<module>.weight`, and `<module>.bias` if the layout has one.
    pub fn take(parameters: &mut Parameters, module: &str) -> Result<Self> {
        Ok(Self {
            weight: parameters.take(&format!("{module}.weight"))?,
            bias: parameters.take_if_there(&format!("{module}.bias")),
        })
    }

    /// `x` (`N`, in) to (`N`, out).
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let bias = self.bias.as_ref().map(|b| &b.tensor);
        Ok(linear(x, &self.weight.tensor, bias)?)
    }

    pub fn parameters(&self) -> impl Iterator<Item = &Parameter> {
        std::iter::once(&self.weight).chain(&self.bias)
    }

    pub fn parameters_mut(&mut self) -> impl Iterator<Item = &mut Parameter> {
        std::iter::once(&mut self.weight).chain(&mut self.bias)
    }
}
