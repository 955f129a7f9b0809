//! SFT: the negative log-likelihood of completions, a token mean over the optimizer step.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SftWeights;

/// SFT has no keys of its own. It trains on the chosen side and leaves a rejected one alone.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SftConfig {}

impl SftConfig {
    pub(crate) fn sft_weights(&self) -> SftWeights {
        SftWeights { chosen: 1.0, rejected: 0.0 }
    }
}
