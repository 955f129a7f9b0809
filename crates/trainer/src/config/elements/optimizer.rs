//! AdamW and the gradients it is given.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smpo_devices::Kind;
use smpo_kernels::MomentFormat;
use smpo_model::DecoderSpec;

use crate::config::builder::setters;
use crate::config::check::{Problems, is_non_negative, is_positive};
use crate::config::{TrainConfig, TrainConfigBuilder};

/// AdamW by the storage of its moments.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Optim {
    /// float32.
    #[default]
    #[serde(
        rename = "adamw_torch",
        alias = "adamw",
        alias = "adamw_hf",
        alias = "adamw_torch_fused",
        alias = "paged_adamw",
        alias = "paged_adamw_32bit"
    )]
    AdamW,
    /// 8 bits, in blocks of 256 of bitsandbytes' dynamic type: 2 bytes a trained parameter instead of 8.
    #[serde(rename = "adamw_8bit", alias = "adamw_bnb_8bit", alias = "paged_adamw_8bit")]
    AdamW8bit,
    /// bfloat16: 4 bytes a trained parameter.
    #[serde(rename = "adamw_bf16")]
    AdamWBf16,
}

impl Optim {
    /// Storage of the moments.
    pub fn moments(self) -> MomentFormat {
        match self {
            Self::AdamW => MomentFormat::Single,
            Self::AdamW8bit => MomentFormat::EightBit,
            Self::AdamWBf16 => MomentFormat::Bf16,
        }
    }
}

impl TrainConfigBuilder {
    /// Sets the peak of the learning rate, [`TrainConfig::learning_rate`](field@TrainConfig::learning_rate).
    #[must_use]
    pub fn learning_rate(mut self, peak: f64) -> Self {
        self.config.learning_rate = peak;
        self.given("learning_rate");
        self
    }

    setters! {
        weight_decay: f64,
        optim: Optim,
        zero_stage: u8,
        adam_beta1: f64,
        adam_beta2: f64,
        adam_epsilon: f64,
        max_grad_norm: f64,
        max_skipped_steps: u64,
    }
}

impl TrainConfig {
    /// The lack of a device of this kind; `None` if it has all that the run and the model need.
    pub(crate) fn refused_on(&self, kind: Kind, spec: &DecoderSpec) -> Option<&'static str> {
        if kind == Kind::Cpu {
            return None;
        }
        if self.loss.loss.distance().is_some() {
            return Some("`loss.kind`: \"distill\" is for the CPU; set device = \"cpu\"");
        }
        if self.optim != Optim::AdamW {
            return Some(
                "`optim`: moments in 8 bits or bfloat16 are for the CPU; set optim = \"adamw_torch\", or device = \"cpu\"",
            );
        }
        spec.experts.as_ref().map(|_| "`device`: routed experts have no kernels for a GPU; set device = \"cpu\"")
    }

    pub(in crate::config) fn check_optimizer(&self, problems: &mut Problems) {
        problems.range("learning_rate", is_positive(self.learning_rate), "a positive number", self.learning_rate);
        problems.range("weight_decay", is_non_negative(self.weight_decay), "0 or more", self.weight_decay);
        for (name, beta) in [("adam_beta1", self.adam_beta1), ("adam_beta2", self.adam_beta2)] {
            problems.range(name, (0.0..1.0).contains(&beta), "from 0 up to but not 1", beta);
        }
        problems.range("zero_stage", [0, 1, 3].contains(&self.zero_stage), "0, 1 or 3", self.zero_stage);
        problems.range("adam_epsilon", is_positive(self.adam_epsilon), "a positive number", self.adam_epsilon);
        problems.range("max_grad_norm", is_non_negative(self.max_grad_norm), "0 (off) or more", self.max_grad_norm);
    }
}
