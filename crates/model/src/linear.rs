//! A linear layer of the decoder, with or without an adapter.

use candle_core::Tensor;
use smpo_kernels::{AdaptedLayer, adapted_linears, linear, linear_for_backward};

use crate::error::Result;
use crate::lora::{Adapter, Dropout};
use crate::matrix::Matrix;
use crate::parameter::{Parameter, Parameters};
use crate::placement::Placement;

/// Use of a product's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Product {
    /// The values are computed.
    Computed,
    /// The values are unspecified: the product is recorded for the backward pass only.
    ForBackward,
}

/// `y = x·Wᵀ + b`, plus an adapter's update.
#[derive(Debug, Clone)]
pub(crate) struct Linear {
    /// Module name, such as `model.layers.0.mlp.up_proj`.
    pub module: String,
    /// (out, in).
    pub weight: Matrix,
    pub bias: Option<Parameter>,
    pub adapter: Option<Adapter>,
}

impl Linear {
    /// Takes `<module>.weight`, and `<module>.bias` if the layout has one.
    pub fn take(parameters: &mut Parameters, module: &str) -> Result<Self> {
        Ok(Self {
            module: module.to_string(),
            weight: parameters.take_matrix(&format!("{module}.weight"))?,
            bias: parameters.take_if_there(&format!("{module}.bias")),
            adapter: None,
        })
    }

    /// Layers of one input as one layer, whose outputs follow each other: a frozen copy. `None` where one has an adapter or a packed
    /// weight, or some have a bias and others none.
    pub fn stacked(layers: &[Self]) -> Result<Option<Self>> {
        let weights: Option<Vec<&Parameter>> = layers.iter().map(|layer| layer.weight.parameter()).collect();
        let biases: Vec<&Tensor> = layers.iter().filter_map(|layer| layer.bias.as_ref().map(|b| &b.tensor)).collect();
        let alike = layers.iter().all(|layer| layer.adapter.is_none()) && [0, layers.len()].contains(&biases.len());
        let (Some(weights), true) = (weights, alike) else { return Ok(None) };
        let module = layers.iter().map(|layer| layer.module.as_str()).collect::<Vec<_>>().join("+");
        let tensors: Vec<Tensor> = weights.iter().map(|weight| weight.tensor.detach()).collect();
        let named = |tail: &str, tensor| Parameter { name: format!("{module}.{tail}"), tensor };
        let bias = match biases.is_empty() {
            true => None,
            false => Some(named("bias", Tensor::cat(&biases, 0)?.detach())),
        };
        let weight = named("weight", Tensor::cat(&tensors, 0)?).into();
        Ok(Some(Self { module, weight, bias, adapter: None }))
    }

    /// `x` (`N`, in) to (`N`, out). `dropout` is the adapter's; `None` disables it.
    pub fn forward(&self, x: &Tensor, dropout: Option<Dropout>, product: Product) -> Result<Tensor> {
        let bias = self.bias.as_ref().map(|b| &b.tensor);
        match (&self.adapter, product) {
            (None, Product::Computed) => Ok(linear(x, self.weight.weight(), bias)?),
            (None, Product::ForBackward) => Ok(linear_for_backward(x, self.weight.weight(), bias)?),
            (Some(adapter), _) => adapter.forward(x, &self.weight, bias, dropout, product),
        }
    }

    /// Layers of one input `x` (`N`, in), to (`N`, out) each: as one operation where all have plain adapters, else layer by layer.
    pub fn forward_all(layers: &[&Self], x: &Tensor, dropout: Option<Dropout>) -> Result<Vec<Tensor>> {
        match layers.iter().map(|layer| layer.adapted(dropout)).collect::<Option<Vec<_>>>() {
            Some(adapted) if adapted.len() > 1 => Ok(adapted_linears(x, &adapted)?),
            _ => layers.iter().map(|layer| layer.forward(x, dropout, Product::Computed)).collect(),
        }
    }

    /// The layer and its adapter; `None` unless it has one that reads the input as it is and has no magnitudes.
    fn adapted(&self, dropout: Option<Dropout>) -> Option<AdaptedLayer<'_>> {
        let adapter = self.adapter.as_ref().filter(|adapter| adapter.is_plain(dropout))?;
        Some(AdaptedLayer {
            weight: self.weight.weight(),
            bias: self.bias.as_ref().map(|bias| &bias.tensor),
            a: &adapter.a.tensor,
            b: &adapter.b.tensor,
            scale: adapter.scale(),
        })
    }

    /// Weight and bias; no packed weight.
    pub fn base_parameters(&self) -> impl Iterator<Item = &Parameter> {
        self.weight.parameter().into_iter().chain(&self.bias)
    }

    /// Weight, bias and the adapter's parameters.
    pub fn parameters(&self) -> impl Iterator<Item = &Parameter> {
        self.base_parameters().chain(self.adapter.iter().flat_map(Adapter::parameters))
    }

    pub fn base_parameters_mut(&mut self) -> impl Iterator<Item = &mut Parameter> {
        self.weight.parameter_mut().into_iter().chain(&mut self.bias)
    }

    /// The weight with the adapter in it, as a tensor.
    pub fn merged(&self, placement: &Placement) -> Result<Tensor> {
        match &self.adapter {
            None => Ok(self.weight.dense(placement)?.detach()),
            Some(adapter) => adapter.merged(&self.weight),
        }
    }
}
