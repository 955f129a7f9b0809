//! Low-rank adapters: LoRA (arXiv 2106.09685), rsLoRA (2312.03732), DoRA (2402.09353), as PEFT computes and stores them.

mod adapter;
mod attach;
mod beside;
mod biases;
mod fingerprint;
mod fused_experts;
mod info;
mod patterns;
mod peft;
mod start;
mod stored;
mod targets;
mod top_eigenvectors;

pub(crate) use adapter::{Adapter, AdapterOptions, AdapterValues, Dropout};
pub use beside::TrainedBeside;
pub(crate) use fingerprint::Fingerprint;
pub use info::AdapterInfo;
pub use peft::AdapterSaveOptions;
pub(crate) use peft::{CONFIG as ADAPTER_CONFIG, WEIGHTS as ADAPTER_WEIGHTS};
pub(crate) use start::Start;
pub(crate) use targets::resolve as chosen_modules;

use crate::error::{ModelError, Result};

/// Configuration of adapters.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraConfig {
    /// Rank.
    pub r: usize,
    /// α: the update is scaled by `alpha / r`, or `alpha / √r` with `rslora`.
    pub alpha: f64,
    /// Share of an adapter's inputs that is zeroed in training, in [0, 1).
    pub dropout: f64,
    /// Scale by `alpha / √r`, so that high ranks learn as fast as low ones.
    pub rslora: bool,
    /// Learn each output's magnitude apart from its direction.
    pub dora: bool,
    /// Linear layers by name: `q_proj`, `model.layers.3.mlp.up_proj`, `model.layers.[0-7].self_attn.*`, `lm_head`;
    /// or `all-linear`: all except the head.
    pub targets: Vec<String>,
}

impl LoraConfig {
    /// Factor on the update.
    pub fn scale(&self) -> f64 {
        let rank = self.r as f64;
        self.alpha / if self.rslora { rank.sqrt() } else { rank }
    }

    /// The same with another rank and α.
    fn of_layer(&self, r: usize, alpha: f64) -> Self {
        Self { r, alpha, ..self.clone() }
    }

    fn check(&self) -> Result<()> {
        if self.r == 0 {
            return Err(ModelError::input("lora rank", "at least 1", "0"));
        }
        if !(self.alpha > 0.0 && self.alpha.is_finite()) {
            return Err(ModelError::input("lora alpha", "a number above zero", self.alpha.to_string()));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(ModelError::input("lora dropout", "a share from 0 to below 1", self.dropout.to_string()));
        }
        Ok(())
    }
}
