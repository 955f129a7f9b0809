//! A gated delta net in the place of attention (Yang, Kautz and Hatamizadeh 2024, arXiv 2412.06464), as Qwen3.5 has it: a
//! short convolution over queries, keys and values, the gated delta rule, and a norm with a gate.

use candle_core::Tensor;
use smpo_kernels::{
    DeltaHeads, NormOptions, Segments, gated_delta_rule, log_decay, rms_norm, short_convolution, sigmoid_gate, swiglu,
};

use crate::error::Result;
use crate::layout::{DELTA_BIAS, DELTA_CONVOLUTION, DELTA_INPUTS, DELTA_NORM, DELTA_RATE};
use crate::linear::{Linear, Product};
use crate::lora::Dropout;
use crate::parameter::{Parameter, Parameters};
use crate::spec::DeltaSpec;

/// Everything of a gated delta net before its output projection.
#[derive(Debug, Clone)]
pub(crate) struct DeltaNet {
    /// To queries, keys and values; to the norm's gate; to the strength of the update; to its step.
    inputs: [Linear; 4],
    convolution: Parameter,
    /// Logarithm of the decay's rate, of each value head.
    rate: Parameter,
    /// Added to the step, of each value head.
    bias: Parameter,
    norm: Parameter,
    heads: DeltaHeads,
}

impl DeltaNet {
    pub fn take(parameters: &mut Parameters, spec: &DeltaSpec, prefix: &str) -> Result<Self> {
        let [qkv, gate, strength, step] =
            DELTA_INPUTS.map(|tail| Linear::take(parameters, &format!("{prefix}.{tail}")));
        let mut vector = |tail: &str| parameters.take(&format!("{prefix}.{tail}"));
        Ok(Self {
            inputs: [qkv?, gate?, strength?, step?],
            convolution: vector(DELTA_CONVOLUTION)?,
            rate: vector(DELTA_RATE)?,
            bias: vector(DELTA_BIAS)?,
            norm: vector(DELTA_NORM)?,
            heads: spec.heads,
        })
    }

    /// `x` (`N`, `H`) to (`N`, all values' width).
    pub fn forward(&self, x: &Tensor, eps: f64, dropout: Option<Dropout>, segments: &Segments) -> Result<Tensor> {
        let project = |linear: &Linear| linear.forward(x, dropout, Product::Computed);
        let [qkv, gate, strength, step] = &self.inputs;
        let qkv = short_convolution(&project(qkv)?, &self.convolution.tensor, segments)?;
        let decay = log_decay(&project(step)?, &self.rate.tensor, &self.bias.tensor)?;
        let strength = project(strength)?;
        let strength = sigmoid_gate(&strength, &strength.ones_like()?)?;
        let read = gated_delta_rule(&qkv, &decay, &strength, self.heads, segments)?;
        let normed = rms_norm(&read, &self.norm.tensor, norm_options(eps))?;
        Ok(swiglu(&project(gate)?, &normed.reshape(((), self.heads.value_width()))?)?)
    }

    /// The heads.
    pub fn heads(&self) -> DeltaHeads {
        self.heads
    }

    /// The projections of the input.
    pub fn inputs(&self) -> &[Linear; 4] {
        &self.inputs
    }

    pub fn inputs_mut(&mut self) -> &mut [Linear; 4] {
        &mut self.inputs
    }

    /// The convolution's taps, the decay's rates and biases, and the norm's gain, in the layout's order.
    pub fn vectors(&self) -> [&Parameter; 4] {
        [&self.convolution, &self.rate, &self.bias, &self.norm]
    }

    pub fn vectors_mut(&mut self) -> [&mut Parameter; 4] {
        [&mut self.convolution, &mut self.rate, &mut self.bias, &mut self.norm]
    }
}

/// Options of the norm after the rule, whose gain is stored as it is.
pub(crate) fn norm_options(eps: f64) -> NormOptions {
    NormOptions { eps, unit_offset: false }
}
