//! SimPER (Xiao et al. 2025, arXiv 2502.00883): inverse perplexities, no reference and no numbers to set.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::catalog::{FlatKeys, PublishedRate, PublishedRates, UsualRange};
use crate::error::ConfigError;
use crate::function::{Direction, LossFunction, PairTerms, Pairing, PairwiseLoss, Score, SftWeights};
use crate::logistic::bounded_exp;
use crate::reduction::Reduction;

/// SimPER. The objective is −e^s(y+) + e^s(y−), s the mean token log-prob: bounded on both sides.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SimperConfig {}

impl LossFunction for SimperConfig {
    const KIND: &'static str = "simper";
    const FLAT_KEYS: FlatKeys = FlatKeys { spellings: &[], distinctive: &[], suggestive: &[], loss_types: &["simper"] };
    const USUAL: &'static [UsualRange] = &[];
    const LEARNING_RATES: PublishedRates = PublishedRates {
        full: Some(PublishedRate { highest: 1e-6, source: "arXiv 2502.00883, from 3e-7" }),
        lora: None,
    };

    fn variants() -> Vec<Self> {
        vec![Self::default()]
    }

    fn validate(&self) -> Result<(), ConfigError> {
        Ok(())
    }

    fn pairing(&self) -> Pairing<'_> {
        Pairing::Pairwise(self)
    }

    fn needs_reference(&self) -> bool {
        false
    }

    fn sft_weights(&self) -> SftWeights {
        SftWeights::default()
    }

    fn direction(&self) -> Direction {
        Direction::AlwaysDown
    }
}

impl PairwiseLoss for SimperConfig {
    fn reduction(&self) -> Reduction {
        Reduction::Mean
    }

    fn pair(&self, chosen: Score, rejected: Score) -> PairTerms {
        // an inverted EOS term can take the mean of rejected past 0
        let ((chosen, d_chosen), (rejected, d_rejected)) = (bounded_exp(chosen.policy), bounded_exp(rejected.policy));
        PairTerms {
            value: rejected - chosen,
            d_chosen: -d_chosen,
            d_rejected,
            chosen_reward: chosen,
            rejected_reward: rejected,
        }
    }
}
