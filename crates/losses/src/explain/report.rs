//! The JSON of `smpo explain`.

use serde::Serialize;

use super::row::{Row, RowMember};
use crate::evaluation::{Evaluation, MemberEvaluation};

/// One loss on one batch of stored log-probs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The whole objective.
    pub loss: f64,
    /// Mean of the pair loss.
    pub po_loss: f64,
    /// Cross-entropy part on chosen, as weighted in the objective.
    pub sft_chosen_loss: f64,
    /// The same on rejected.
    pub sft_rejected_loss: f64,
    /// Cross-entropy on terminators by `eos_anchor`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eos_anchor_loss: Option<f64>,
    /// Clipping.
    pub clip: Clip,
    /// One entry per row.
    pub pairs: Vec<PairReport>,
}

/// Clipping by winsorizing and the floor.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Clip {
    /// The effective lower bound on rejected ℓ, max(Q, floor), in nats; `None` when both are off.
    pub bound: Option<f64>,
    /// Share of rejected tokens in the pair loss below it.
    pub share_rejected: f64,
    /// Share of chosen tokens above the upper bound.
    pub share_chosen: f64,
}

/// One pair.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PairReport {
    /// The row's id.
    pub id: String,
    /// Its pair loss.
    pub po_loss: f64,
    /// Reward of chosen; `None` for a loss without rewards or an absent side.
    pub chosen_reward: Option<f64>,
    /// Reward of rejected.
    pub rejected_reward: Option<f64>,
    /// ∂L/∂ℓ_t of the whole objective, one per chosen token.
    pub chosen_weights: Vec<f64>,
    /// One per rejected token.
    pub rejected_weights: Vec<f64>,
    /// The completions of a group, in order; absent for a pair.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub group: Vec<MemberReport>,
}

/// One completion of a group.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MemberReport {
    /// Its reward in the file.
    pub given: f64,
    /// Its advantage: below 0 it counts as rejected, else as chosen.
    pub advantage: f64,
    /// Its part of the group's loss.
    pub po_loss: f64,
    /// Its implicit reward under the policy.
    pub reward: f64,
    /// ∂L/∂ℓ_t of the whole objective, one per token.
    pub weights: Vec<f64>,
}

impl Report {
    /// The report of `evaluation`, the result of [`explain`](super::explain) on `rows`.
    pub fn new(rows: &[Row<'_>], evaluation: &Evaluation) -> Self {
        let statistics = &evaluation.statistics;
        let pairs = rows.iter().zip(&evaluation.pairs).map(|(row, pair)| PairReport {
            id: row.id.to_owned(),
            po_loss: pair.po_loss,
            chosen_reward: pair.chosen_reward,
            rejected_reward: pair.rejected_reward,
            chosen_weights: pair.chosen_weights.clone(),
            rejected_weights: pair.rejected_weights.clone(),
            group: row.group.iter().zip(&pair.group).map(|(given, member)| MemberReport::new(given, member)).collect(),
        });
        Self {
            loss: evaluation.value,
            po_loss: evaluation.po_loss,
            sft_chosen_loss: evaluation.sft_chosen_loss,
            sft_rejected_loss: evaluation.sft_rejected_loss,
            eos_anchor_loss: evaluation.eos_anchor_loss,
            clip: Clip {
                bound: statistics.clip_bound.value(),
                share_rejected: statistics.clip_share_rejected.value().unwrap_or(0.0),
                share_chosen: statistics.clip_share_chosen.value().unwrap_or(0.0),
            },
            pairs: pairs.collect(),
        }
    }
}

impl MemberReport {
    fn new(given: &RowMember<'_>, member: &MemberEvaluation) -> Self {
        Self {
            given: given.reward,
            advantage: member.advantage,
            po_loss: member.loss,
            reward: member.reward,
            weights: member.weights.clone(),
        }
    }
}
