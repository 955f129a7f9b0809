//! Routed experts: a token's feed-forward layer is the weighted sum of a few gated layers, which a router chooses (Shazeer
//! et al. 2017, arXiv 1701.06538).

use candle_core::Tensor;
use smpo_kernels::{Gradients, RouterOptions, combine, embedding, route};

use crate::decoder::Decoder;
use crate::error::{ModelError, Result};
use crate::feed_forward::{FeedForwardLayer, FeedForwardPass, Gated};
use crate::layout::{EXPERTS, expert_prefix};
use crate::linear::{Linear, Product};
use crate::parameter::Parameters;
use crate::placement::host_values;
use crate::spec::{DecoderSpec, ExpertsSpec, FeedForward};

/// A router and its experts.
#[derive(Debug, Clone)]
pub(crate) struct Experts {
    router: Linear,
    experts: Vec<Gated>,
    options: RouterOptions,
}

impl ExpertsSpec {
    /// The router's options.
    pub(crate) fn router(&self) -> RouterOptions {
        RouterOptions { per_token: self.per_token, normalise: self.normalise }
    }
}

impl Experts {
    pub fn take(parameters: &mut Parameters, spec: &ExpertsSpec, prefix: &str) -> Result<Self> {
        let router = Linear::take(parameters, &format!("{prefix}.{}", spec.layout.router()))?;
        let expert = |index| Gated::take(parameters, FeedForward::Expert, &expert_prefix(prefix, index));
        let experts = (0..spec.count).map(expert).collect::<Result<_>>()?;
        Ok(Self { router, experts, options: spec.router() })
    }

    /// Each expert on its own tokens, and the sums by token.
    pub fn forward(&self, spec: &DecoderSpec, x: &Tensor, pass: FeedForwardPass<'_>) -> Result<Tensor> {
        let logits = self.router.forward(x, pass.dropout, Product::Computed)?;
        let routed = route(&logits, self.options, pass.balance)?;
        let mut outputs = Vec::with_capacity(self.experts.len());
        for (index, expert) in self.experts.iter().enumerate() {
            let tokens = routed.routing.tokens_of(index);
            if !tokens.is_empty() {
                let rows = embedding(x, tokens)?;
                // The gradient of an expert's weight needs its output.
                outputs.push(expert.forward(spec.activation, &rows, pass.dropout, Product::Computed)?);
            }
        }
        Ok(combine(&outputs, &routed.weights, &routed.routing)?)
    }

    /// The router's layer.
    pub fn router(&self) -> &Linear {
        &self.router
    }

    /// The router's options.
    pub fn options(&self) -> RouterOptions {
        self.options
    }

    /// The experts in their order.
    pub fn each(&self) -> &[Gated] {
        &self.experts
    }

    /// The router, then each expert's layers.
    pub fn linears(&self) -> Vec<&Linear> {
        [&self.router].into_iter().chain(self.experts.iter().flat_map(Gated::linears)).collect()
    }

    pub fn linears_mut(&mut self) -> Vec<&mut Linear> {
        [&mut self.router].into_iter().chain(self.experts.iter_mut().flat_map(Gated::linears_mut)).collect()
    }
}

impl Decoder {
    /// Freezes the routers, and drops adapters of them that have not learned yet.
    ///
    /// # Errors
    /// When the model has no experts.
    pub fn freeze_routers(&mut self) -> Result<()> {
        if self.spec().experts.is_none() {
            let expected = "a model with routed experts";
            return Err(ModelError::input(
                "freeze_router",
                expected,
                format!("{} without", self.config().family().name()),
            ));
        }
        let placement = self.placement();
        for block in &mut self.blocks {
            let FeedForwardLayer::Routed(experts) = block.feed_forward_mut() else { continue };
            let router = &mut experts.router;
            for parameter in router.base_parameters_mut() {
                parameter.set_trainable(false, &placement)?;
            }
            if let Some(adapter) = &mut router.adapter {
                let fresh = host_values(&adapter.b.tensor)?.iter().all(|value| *value == 0.0);
                for parameter in adapter.parameters_mut() {
                    parameter.set_trainable(false, &placement)?;
                }
                if fresh {
                    router.adapter = None;
                }
            }
        }
        Ok(())
    }

    /// Gives experts that no token has reached a gradient of zero.
    pub fn fill_idle_experts(&self, gradients: &mut Gradients) {
        if self.spec().experts.is_some() {
            gradients.fill_missing(|name| name.contains(EXPERTS));
        }
    }
}
