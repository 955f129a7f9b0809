//! A linear layer of the decoder, with or without an adapter.

use candle_core::Tensor;
use smpo_kernels::linear;

use crate::error::Result;
use crate::lora::Adapter;
use crate::parameter::{Parameter, Parameters};

/// `y = x·Wᵀ + b`, and what an adapter adds.
#[derive(Debug, Clone)]
pub(crate) struct Linear {
    /// The layer's own name, such as `model.layers.0.mlp.up_proj`.
    pub module: String,
    /// (out, in).
    pub weight: Parameter,
    pub bias: Option<Parameter>,
    pub adapter: Option<Adapter>,
}

impl Linear {
    /// Takes `<module>.weight`, and `<module>.bias` if the layout has one.
    pub fn take(parameters: &mut Parameters, module: &str) -> Result<Self> {
        Ok(Self {
            module: module.to_string(),
            weight: parameters.take(&format!("{module}.weight"))?,
            bias: parameters.take_if_there(&format!("{module}.bias")),
            adapter: None,
        })
    }

    /// `x` (`N`, in) to (`N`, out). `dropout_seed` is that of the adapters' masks; without one nothing is dropped.
    pub fn forward(&self, x: &Tensor, dropout_seed: Option<u64>) -> Result<Tensor> {
        let bias = self.bias.as_ref().map(|b| &b.tensor);
        match &self.adapter {
            None => Ok(linear(x, &self.weight.tensor, bias)?),
            Some(adapter) => adapter.forward(x, &self.weight.tensor, bias, dropout_seed),
        }
    }

    /// Weight and bias.
    pub fn base_parameters(&self) -> impl Iterator<Item = &Parameter> {
        std::iter::once(&self.weight).chain(&self.bias)
    }

    pub fn base_parameters_mut(&mut self) -> impl Iterator<Item = &mut Parameter> {
        std::iter::once(&mut self.weight).chain(&mut self.bias)
    }
}
