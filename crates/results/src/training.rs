//! One line of a training run's `metrics.jsonl`.

use serde::{Deserialize, Serialize};

/// What one optimizer step saw. Log-probs and rewards are in nats; a quantity that a loss does not have is absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StepMetrics {
    /// Optimizer step, from 1.
    pub step: u64,
    /// Epochs seen, fractional.
    pub epoch: f64,
    /// The whole objective.
    pub loss: f64,
    /// Mean of the pair loss.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub po_loss: Option<f64>,
    /// Cross-entropy part on chosen, as weighted in the objective.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sft_chosen_loss: Option<f64>,
    /// Cross-entropy part on rejected, as weighted in the objective.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sft_rejected_loss: Option<f64>,
    /// Mean reward of chosen.
    #[serde(rename = "rewards/chosen", default, skip_serializing_if = "Option::is_none")]
    pub rewards_chosen: Option<f64>,
    /// Mean reward of rejected.
    #[serde(rename = "rewards/rejected", default, skip_serializing_if = "Option::is_none")]
    pub rewards_rejected: Option<f64>,
    /// Share of pairs whose chosen reward is the larger.
    #[serde(rename = "rewards/accuracies", default, skip_serializing_if = "Option::is_none")]
    pub rewards_accuracies: Option<f64>,
    /// Mean difference of the rewards.
    #[serde(rename = "rewards/margins", default, skip_serializing_if = "Option::is_none")]
    pub rewards_margins: Option<f64>,
    /// Mean over chosen completions of the mean token log-prob.
    #[serde(rename = "logps/chosen", default, skip_serializing_if = "Option::is_none")]
    pub logps_chosen: Option<f64>,
    /// The same for rejected.
    #[serde(rename = "logps/rejected", default, skip_serializing_if = "Option::is_none")]
    pub logps_rejected: Option<f64>,
    /// Mean log-prob of the terminator of chosen completions.
    #[serde(rename = "eos_logp/chosen", default, skip_serializing_if = "Option::is_none")]
    pub eos_logp_chosen: Option<f64>,
    /// The same for rejected: the number this project exists to watch.
    #[serde(rename = "eos_logp/rejected", default, skip_serializing_if = "Option::is_none")]
    pub eos_logp_rejected: Option<f64>,
    /// The smallest log-prob of a terminator on rejected.
    #[serde(rename = "eos_logp/rejected_min", default, skip_serializing_if = "Option::is_none")]
    pub eos_logp_rejected_min: Option<f64>,
    /// Share of rejected tokens clipped by winsorizing or the floor.
    #[serde(rename = "clip/share_rejected", default, skip_serializing_if = "Option::is_none")]
    pub clip_share_rejected: Option<f64>,
    /// Share of chosen tokens clipped from above.
    #[serde(rename = "clip/share_chosen", default, skip_serializing_if = "Option::is_none")]
    pub clip_share_chosen: Option<f64>,
    /// The effective lower bound on rejected tokens.
    #[serde(rename = "clip/bound", default, skip_serializing_if = "Option::is_none")]
    pub clip_bound: Option<f64>,
    /// The margin at this step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_margin: Option<f64>,
    /// Learning rate of this step.
    pub lr: f64,
    /// Global gradient norm before clipping.
    pub grad_norm: f64,
    /// Prompt and completion tokens per second, prompt counted once per side.
    pub tokens_per_s: f64,
}
