//! SFT: the negative log-likelihood of completions, a token mean over the optimizer step.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::catalog::{FlatKeys, PublishedRate, PublishedRates, UsualRange};
use crate::error::ConfigError;
use crate::function::{Direction, LossFunction, Pairing, SftWeights};

/// SFT has no keys of its own. It trains on the chosen side and leaves a rejected one alone.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SftConfig {}

impl LossFunction for SftConfig {
    const KIND: &'static str = "sft";
    const FLAT_KEYS: FlatKeys = FlatKeys { spellings: &[], distinctive: &[], suggestive: &[], loss_types: &[] };
    const USUAL: &'static [UsualRange] = &[];
    const LEARNING_RATES: PublishedRates = PublishedRates {
        full: Some(PublishedRate { highest: 2e-5, source: "Alpaca, Vicuna" }),
        lora: Some(PublishedRate { highest: 2e-4, source: "QLoRA, arXiv 2305.14314, its smaller models" }),
    };

    fn variants() -> Vec<Self> {
        vec![Self::default()]
    }

    fn validate(&self) -> Result<(), ConfigError> {
        Ok(())
    }

    fn pairing(&self) -> Pairing<'_> {
        Pairing::SftOnly
    }

    fn needs_reference(&self) -> bool {
        false
    }

    fn sft_weights(&self) -> SftWeights {
        SftWeights { chosen: 1.0, rejected: 0.0 }
    }

    fn direction(&self) -> Direction {
        Direction::DownOrZero
    }
}
