//! The tokens that carry the gradient.

use std::collections::BTreeMap;

use super::row::{Row, RowTokens};
use crate::batch::{Completion, Side};
use crate::evaluation::{Evaluation, PairEvaluation};

/// All occurrences of one token on one side.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenSummary {
    /// The side.
    pub side: Side,
    /// The token.
    pub id: u32,
    /// True if it ends a turn there.
    pub is_terminator: bool,
    /// Number of occurrences.
    pub count: usize,
    /// Mean ℓ, in nats.
    pub mean_logp: f64,
    /// Σ ∂L/∂ℓ. Positive: a training step lowers it.
    pub weight: f64,
    /// Share of Σ|∂L/∂ℓ| over the batch.
    pub weight_share: f64,
    /// Share of Σ|∂L/∂z| over the batch, z the token's own logit: ∂L/∂z = w·(1 − e^ℓ). A mean gives every token of a
    /// completion the same w, yet the gradient at the logit of a token that is already certain vanishes.
    pub pull_share: f64,
    /// Mean of ℓ − ref over the occurrences that have a reference, in nats.
    pub mean_change: Option<f64>,
}

#[derive(Default)]
struct Sums {
    count: usize,
    logp: f64,
    weight: f64,
    size: f64,
    pull: f64,
    change: f64,
    referenced: usize,
}

/// The completions of a row with the weights of their tokens; those of a group on the side of their advantage.
pub fn sides<'a>(
    row: &'a Row<'a>,
    evaluation: &'a PairEvaluation,
) -> impl Iterator<Item = (Side, &'a RowTokens<'a>, &'a [f64])> {
    let of_pair = [(Side::Chosen, &evaluation.chosen_weights), (Side::Rejected, &evaluation.rejected_weights)];
    let of_pair = of_pair.into_iter().filter_map(|(side, weights)| Some((side, row.side(side)?, &weights[..])));
    let of_group = row.group.iter().zip(&evaluation.group);
    of_pair.chain(of_group.map(|(given, member)| (member.side(), &given.tokens, &member.weights[..])))
}

/// Every token of the batch by side and kind, the largest pull first.
pub fn summarize(rows: &[Row<'_>], evaluation: &Evaluation) -> Vec<TokenSummary> {
    let mut sums: BTreeMap<(u32, bool, bool), Sums> = BTreeMap::new();
    for (row, pair) in rows.iter().zip(&evaluation.pairs) {
        for (side, tokens, weights) in sides(row, pair) {
            let Completion { logps, is_terminator, ref_logps, .. } = tokens.completion;
            for (t, (weight, logp)) in weights.iter().zip(logps).enumerate() {
                let key = (tokens.ids[t], side == Side::Rejected, is_terminator[t]);
                let sums = sums.entry(key).or_default();
                sums.count += 1;
                sums.logp += logp;
                sums.weight += weight;
                sums.size += weight.abs();
                sums.pull += weight.abs() * -logp.min(0.0).exp_m1();
                if let Some(reference) = ref_logps {
                    sums.change += logp - reference[t];
                    sums.referenced += 1;
                }
            }
        }
    }
    let total = |part: fn(&Sums) -> f64| sums.values().map(part).sum::<f64>();
    let (size, pull) = (total(|sums| sums.size), total(|sums| sums.pull));
    let share = |part: f64, of: f64| if of > 0.0 { part / of } else { 0.0 };
    let mut summaries: Vec<_> = sums
        .iter()
        .map(|(&(id, rejected, is_terminator), sums)| TokenSummary {
            side: if rejected { Side::Rejected } else { Side::Chosen },
            id,
            is_terminator,
            count: sums.count,
            mean_logp: sums.logp / sums.count as f64,
            weight: sums.weight,
            weight_share: share(sums.size, size),
            pull_share: share(sums.pull, pull),
            mean_change: (sums.referenced > 0).then(|| sums.change / sums.referenced as f64),
        })
        .collect();
    summaries.sort_by(|a, b| b.pull_share.total_cmp(&a.pull_share));
    summaries
}
