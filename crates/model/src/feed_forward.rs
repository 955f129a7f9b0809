//! The feed-forward layer of a block: one gated layer, or routed experts.

use std::sync::Arc;

use candle_core::Tensor;
use smpo_kernels::{Balance, Clamp, Gate, clamped_swiglu, gated_halves, geglu, swiglu};

use crate::error::Result;
use crate::experts::Experts;
use crate::linear::{Linear, Product};
use crate::lora::Dropout;
use crate::parameter::Parameters;
use crate::spec::{Activation, DecoderSpec, FeedForward};

/// The feed-forward layer of a block.
#[derive(Debug, Clone)]
pub(crate) enum FeedForwardLayer {
    Gated(Gated),
    Routed(Experts),
}

/// `down(act(gate(x)) · up(x))`.
#[derive(Debug, Clone)]
pub(crate) struct Gated {
    gate_up: GateUp,
    pub down: Linear,
}

#[derive(Debug, Clone)]
enum GateUp {
    Separate(Box<[Linear; 2]>),
    Fused(Linear),
}

/// A pass through a feed-forward layer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FeedForwardPass<'a> {
    pub dropout: Option<Dropout>,
    /// Use of the last product.
    pub last: Product,
    /// Counts the load of experts.
    pub balance: Option<&'a Arc<Balance>>,
}

impl FeedForwardLayer {
    pub fn take(parameters: &mut Parameters, spec: &DecoderSpec, routed: bool, prefix: &str) -> Result<Self> {
        match &spec.experts {
            Some(experts) if routed => Ok(Self::Routed(Experts::take(parameters, experts, prefix)?)),
            _ => Ok(Self::Gated(Gated::take(parameters, spec.projections.feed_forward, prefix)?)),
        }
    }

    /// `x` (`N`, `H`) to (`N`, `H`).
    pub fn forward(&self, spec: &DecoderSpec, x: &Tensor, pass: FeedForwardPass<'_>) -> Result<Tensor> {
        match self {
            Self::Gated(layer) => layer.forward(spec.activation, x, pass.dropout, pass.last),
            Self::Routed(experts) => experts.forward(spec, x, pass),
        }
    }

    /// Stacks gate and up of a gated layer.
    pub fn stack_projections(&mut self) -> Result<()> {
        match self {
            Self::Gated(layer) => layer.stack_projections(),
            Self::Routed(_) => Ok(()),
        }
    }

    /// The linear layers, in the layout's order.
    pub fn linears(&self) -> Vec<&Linear> {
        match self {
            Self::Gated(layer) => layer.linears(),
            Self::Routed(experts) => experts.linears(),
        }
    }

    pub fn linears_mut(&mut self) -> Vec<&mut Linear> {
        match self {
            Self::Gated(layer) => layer.linears_mut(),
            Self::Routed(experts) => experts.linears_mut(),
        }
    }
}

impl Activation {
    /// The activation as the kernels name it.
    pub(crate) fn gate(self) -> Gate {
        match self {
            Self::Silu => Gate::Silu,
            Self::GeluTanh => Gate::GeluTanh,
            Self::ClampedSilu { alpha, limit } => Gate::Clamped(Clamp { alpha: alpha as f32, limit: limit as f32 }),
        }
    }
}

impl Gated {
    /// Takes the layers of a block or of an expert, by their names after `prefix`.
    pub fn take(parameters: &mut Parameters, names: FeedForward, prefix: &str) -> Result<Self> {
        let mut linear = |tail: &str| Linear::take(parameters, &format!("{prefix}.{tail}"));
        let gate_up = match names.gate_up() {
            [gate, up] => GateUp::Separate(Box::new([linear(gate)?, linear(up)?])),
            both => GateUp::Fused(linear(both[0])?),
        };
        Ok(Self { gate_up, down: linear(names.down())? })
    }

    /// With [`Product::ForBackward`] as `last` the values are unspecified.
    pub fn forward(
        &self,
        activation: Activation,
        x: &Tensor,
        dropout: Option<Dropout>,
        last: Product,
    ) -> Result<Tensor> {
        let gated = match &self.gate_up {
            GateUp::Separate(two) => {
                let both = Linear::forward_all(&two.each_ref(), x, dropout)?;
                let (gate, up) = (&both[0], &both[1]);
                match activation.gate() {
                    Gate::Silu => swiglu(gate, up)?,
                    Gate::GeluTanh => geglu(gate, up)?,
                    Gate::Clamped(clamp) => clamped_swiglu(gate, up, clamp)?,
                }
            }
            GateUp::Fused(both) => gated_halves(&both.forward(x, dropout, Product::Computed)?, activation.gate())?,
        };
        self.down.forward(&gated, dropout, last)
    }

    /// Stacks gate and up, see [`Linear::stacked`].
    fn stack_projections(&mut self) -> Result<()> {
        if let GateUp::Separate(two) = &self.gate_up
            && let Some(one) = Linear::stacked(two.as_slice())?
        {
            self.gate_up = GateUp::Fused(one);
        }
        Ok(())
    }

    /// Gate and up, or both in one.
    pub fn gate_up(&self) -> Vec<&Linear> {
        match &self.gate_up {
            GateUp::Separate(two) => two.iter().collect(),
            GateUp::Fused(one) => vec![one],
        }
    }

    pub fn linears(&self) -> Vec<&Linear> {
        let mut all = self.gate_up();
        all.push(&self.down);
        all
    }

    pub fn linears_mut(&mut self) -> Vec<&mut Linear> {
        let mut all: Vec<&mut Linear> = match &mut self.gate_up {
            GateUp::Separate(two) => two.iter_mut().collect(),
            GateUp::Fused(one) => vec![one],
        };
        all.push(&mut self.down);
        all
    }
}
