//! Low-rank adapters: LoRA (arXiv 2106.09685), rsLoRA (2312.03732), DoRA (2402.09353), as PEFT computes and stores them.

mod adapter;
mod attach;
mod beside;
mod biases;
mod fingerprint;
mod fuse;
mod fused_experts;
mod info;
mod labels;
mod named;
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
pub(crate) use labels::LABELS_FILE;
pub use labels::labels_of_adapter;
pub use peft::AdapterSaveOptions;
pub(crate) use peft::{CONFIG as ADAPTER_CONFIG, PREFIX as PEFT_PREFIX, WEIGHTS as ADAPTER_WEIGHTS};
pub(crate) use start::Start;
pub(crate) use targets::resolve as chosen_modules;

use std::collections::BTreeMap;

use self::patterns::OwnPatterns;
use crate::error::{ModelError, Result};

/// Initial weights of new adapters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LoraInit {
    /// A uniform as PyTorch draws a linear layer, B zero: nothing changes at first.
    #[default]
    Uniform,
    /// A normal with standard deviation 1 / r, B zero.
    Gaussian,
    /// The first columns' QR decomposition, which is taken out of the base (arXiv 2406.01775).
    Olora,
    /// The largest singular values with their vectors, which are taken out of the base (arXiv 2404.02948).
    Pissa,
}

impl LoraInit {
    /// The part of the base that the adapter starts as.
    pub(crate) fn start(self) -> Option<Start> {
        match self {
            Self::Uniform | Self::Gaussian => None,
            Self::Olora => Some(Start::Olora),
            Self::Pissa => Some(Start::Pissa),
        }
    }
}

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
    /// Ranks of modules by regular expressions for the end of their names, in place of `r`.
    pub rank_pattern: BTreeMap<String, usize>,
    /// α in the same way.
    pub alpha_pattern: BTreeMap<String, f64>,
    /// Initial weights.
    pub init: LoraInit,
}

impl Default for LoraConfig {
    /// PEFT's, of no layer.
    fn default() -> Self {
        Self {
            r: 8,
            alpha: 8.0,
            dropout: 0.0,
            rslora: false,
            dora: false,
            targets: Vec::new(),
            rank_pattern: BTreeMap::new(),
            alpha_pattern: BTreeMap::new(),
            init: LoraInit::Uniform,
        }
    }
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

    /// α of an adapter with the factor `scale` on its update.
    fn alpha_of(&self, scale: f64, rank: usize) -> f64 {
        let rank = rank as f64;
        scale * if self.rslora { rank.sqrt() } else { rank }
    }

    /// The same factor on the update with another rank.
    fn with_rank(self, r: usize) -> Self {
        if r == self.r { self } else { Self { alpha: self.alpha_of(self.scale(), r), r, ..self } }
    }

    /// The configuration of each of some modules, by the patterns.
    ///
    /// # Errors
    /// When a pattern is no regular expression or names none of them, or two give one module different values.
    pub(crate) fn of_modules(&self, modules: &[String]) -> Result<Vec<Self>> {
        let ranks = OwnPatterns::new("rank_pattern", &self.rank_pattern)?.of_each(modules)?;
        let alphas = OwnPatterns::new("alpha_pattern", &self.alpha_pattern)?.of_each(modules)?;
        let layers = ranks.into_iter().zip(alphas);
        layers
            .map(|(r, alpha)| {
                let layer = self.of_layer(r.unwrap_or(self.r), alpha.unwrap_or(self.alpha));
                layer.check().map(|()| layer)
            })
            .collect()
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
        if self.dora && self.init.start().is_some() {
            let got = "`use_dora` beside `init_lora_weights` that change the base";
            return Err(ModelError::input("adapters", "one of the two", got));
        }
        Ok(())
    }
}
