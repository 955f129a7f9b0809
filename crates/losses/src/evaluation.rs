//! The output of an objective.

use crate::batch::{Completion, Side};
use crate::label_counts::LabelCounts;
use crate::sum::sum;

/// One objective on one batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// The whole objective: the sum of the parts below.
    pub value: f64,
    /// Mean of the pair loss over pairs (KTO: over completions; groups: by their normalization).
    pub po_loss: f64,
    /// Cross-entropy part on chosen, as weighted in the objective.
    pub sft_chosen_loss: f64,
    /// Cross-entropy part on rejected, as weighted in the objective.
    pub sft_rejected_loss: f64,
    /// The anchor of terminators, as weighted in the objective; `None` when that is off.
    pub eos_anchor_loss: Option<f64>,
    /// One entry per pair, in order.
    pub pairs: Vec<PairEvaluation>,
    /// Statistics to log.
    pub statistics: Statistics,
}

impl Evaluation {
    /// Adds the divergences of `tokens` tokens from a teacher, `weighted` being their part of the objective.
    pub fn add_divergence(&mut self, total: f64, agreements: u64, tokens: u64, weighted: f64) {
        self.statistics.divergence.add(total, tokens);
        self.statistics.agreement.add(agreements as f64, tokens);
        self.po_loss += weighted;
        self.value += weighted;
    }

    /// Adds the next part of the same step, if parts were evaluated with [`Totals`](crate::Totals).
    pub fn merge(&mut self, part: Evaluation) {
        self.value += part.value;
        self.po_loss += part.po_loss;
        self.sft_chosen_loss += part.sft_chosen_loss;
        self.sft_rejected_loss += part.sft_rejected_loss;
        self.eos_anchor_loss = self.eos_anchor_loss.into_iter().chain(part.eos_anchor_loss).reduce(|a, b| a + b);
        self.pairs.extend(part.pairs);
        self.statistics.merge(&part.statistics);
    }

    /// Everything to log, under the names of `metrics.jsonl`; metrics that the loss does not have are absent.
    pub fn metrics(&self) -> Vec<(&'static str, f64)> {
        let parts = [
            ("loss", self.value),
            ("po_loss", self.po_loss),
            ("sft_chosen_loss", self.sft_chosen_loss),
            ("sft_rejected_loss", self.sft_rejected_loss),
        ];
        let anchor = self.eos_anchor_loss.map(|value| ("eos_anchor_loss", value));
        parts.into_iter().chain(anchor).chain(self.statistics.named()).collect()
    }
}

/// One pair's share of an [`Evaluation`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PairEvaluation {
    /// The pair loss of this pair or group, before the mean (KTO: the mean over its sides).
    pub po_loss: f64,
    /// The implicit reward of chosen, on transformed ℓ; `None` if the loss has none or the side is absent.
    pub chosen_reward: Option<f64>,
    /// The same for rejected.
    pub rejected_reward: Option<f64>,
    /// ∂L/∂ℓ_t of the whole objective, one per chosen token; empty if the side is absent.
    pub chosen_weights: Vec<f64>,
    /// The same for rejected.
    pub rejected_weights: Vec<f64>,
    /// The completions of a group.
    pub group: Vec<MemberEvaluation>,
}

impl PairEvaluation {
    /// ∂L/∂ℓ_t of each completion: chosen, rejected, then those of the group.
    pub fn weights(&self) -> impl Iterator<Item = &[f64]> {
        let sides = [&self.chosen_weights, &self.rejected_weights].into_iter();
        sides.chain(self.group.iter().map(|member| &member.weights)).map(Vec::as_slice)
    }

    /// The implicit reward of a side; of a group the mean over its completions there.
    pub fn reward(&self, side: Side) -> Option<f64> {
        let own = match side {
            Side::Chosen => self.chosen_reward,
            Side::Rejected => self.rejected_reward,
        };
        let mut mean = Mean::default();
        self.group.iter().filter(|member| member.side() == side).for_each(|member| mean.push(member.reward));
        own.or(mean.value())
    }
}

/// One completion's share of a group's.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MemberEvaluation {
    /// A: below 0 the completion counts as rejected, else as chosen.
    pub advantage: f64,
    /// Its part of the group's loss.
    pub loss: f64,
    /// Its implicit reward: the mean of g over its tokens, on transformed ℓ.
    pub reward: f64,
    /// ∂L/∂ℓ_t of the whole objective, one per token.
    pub weights: Vec<f64>,
}

impl MemberEvaluation {
    /// The side that its advantage puts it on.
    pub fn side(&self) -> Side {
        Side::of_advantage(self.advantage)
    }
}

/// A mean with its count, so that means of parts add up to the mean of the whole.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Mean {
    /// Sum of the values.
    pub total: f64,
    /// Number of values.
    pub count: u64,
}

impl Mean {
    /// Adds one value.
    pub fn push(&mut self, value: f64) {
        self.add(value, 1);
    }

    /// Adds `count` values that sum up to `total`.
    pub fn add(&mut self, total: f64, count: u64) {
        self.total += total;
        self.count += count;
    }

    /// The mean; `None` of nothing.
    pub fn value(&self) -> Option<f64> {
        (self.count > 0).then(|| self.total / self.count as f64)
    }

    fn merge(&mut self, other: &Mean) {
        self.add(other.total, other.count);
    }
}

/// Statistics of a step. All log-probs here are untransformed, in nats; rewards are the loss's own.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Statistics {
    /// Mean reward of chosen.
    pub chosen_reward: Mean,
    /// Mean reward of rejected.
    pub rejected_reward: Mean,
    /// Share of pairs whose chosen reward is the larger.
    pub accuracy: Mean,
    /// Mean difference of the rewards of a pair.
    pub margin: Mean,
    /// Mean reward of all sequences, of a reward model.
    pub mean_reward: Mean,
    /// KTO's baseline z; of groups k3, the divergence from the reference a token. In nats.
    pub kl: Mean,
    /// Share of pairs whose chosen side has the larger s, the mean token log-prob.
    pub logp_accuracy: Mean,
    /// The same with terminators left out of s: an accuracy that is lower here was bought with the terminator.
    pub logp_accuracy_without_eos: Mean,
    /// Mean over pairs of s of chosen minus s of rejected.
    pub logp_margin: Mean,
    /// Mean over chosen completions of s.
    pub chosen_logp: Mean,
    /// The same for rejected.
    pub rejected_logp: Mean,
    /// Mean ℓ of terminators on chosen.
    pub chosen_eos_logp: Mean,
    /// The same for rejected: it falls when a model unlearns to stop.
    pub rejected_eos_logp: Mean,
    /// Smallest ℓ of a terminator on chosen.
    pub chosen_eos_min: Option<f64>,
    /// The same for rejected.
    pub rejected_eos_min: Option<f64>,
    /// Share of the rejected tokens in the pair loss that winsorizing or the floor clipped; of nothing when both are off.
    pub clip_share_rejected: Mean,
    /// Share of the chosen tokens clipped from above; of nothing when that is off.
    pub clip_share_chosen: Mean,
    /// The effective lower bound on rejected ℓ, max(Q, floor), mean over micro-batches.
    pub clip_bound: Mean,
    /// The upper bound on chosen ℓ, mean over micro-batches.
    pub clip_bound_chosen: Mean,
    /// Mean over groups of their completions' mean reward, as the data has it.
    pub group_reward: Mean,
    /// Mean over groups of the standard deviation of these rewards.
    pub group_deviation: Mean,
    /// Mean divergence from the teacher a token.
    pub divergence: Mean,
    /// Share of tokens at which student and teacher find the same token the likeliest.
    pub agreement: Mean,
    /// Labels given and found, of a classifier.
    pub labels: LabelCounts,
    /// γ at this step, for losses with a margin.
    pub target_margin: Option<f64>,
}

impl Statistics {
    /// Adds the rewards of a pair.
    pub(crate) fn push_rewards(&mut self, chosen: f64, rejected: f64) {
        self.chosen_reward.push(chosen);
        self.rejected_reward.push(rejected);
        self.accuracy.push(if chosen > rejected { 1.0 } else { 0.0 });
        self.margin.push(chosen - rejected);
    }

    /// The names of `metrics.jsonl` with their values; metrics that the step does not have are absent.
    pub fn named(&self) -> Vec<(&'static str, f64)> {
        [
            ("rewards/chosen", self.chosen_reward.value()),
            ("rewards/rejected", self.rejected_reward.value()),
            ("rewards/accuracies", self.accuracy.value()),
            ("rewards/margins", self.margin()),
            ("rewards/mean", self.mean_reward.value()),
            ("accuracy", self.labels.accuracy.value()),
            ("f1/macro", self.labels.macro_f1()),
            ("f1/micro", self.labels.micro_f1().filter(|_| self.labels.multiple)),
            ("kl", self.kl.value()),
            ("logps/chosen", self.chosen_logp.value()),
            ("logps/rejected", self.rejected_logp.value()),
            ("logps/accuracies", self.logp_accuracy.value()),
            ("logps/accuracies_without_eos", self.logp_accuracy_without_eos.value()),
            ("logps/margins", self.logp_margin.value()),
            ("eos_logp/chosen", self.chosen_eos_logp.value()),
            ("eos_logp/chosen_min", self.chosen_eos_min),
            ("eos_logp/rejected", self.rejected_eos_logp.value()),
            ("eos_logp/rejected_min", self.rejected_eos_min),
            ("clip/share_rejected", self.clip_share_rejected.value()),
            ("clip/share_chosen", self.clip_share_chosen.value()),
            ("clip/bound", self.clip_bound.value()),
            ("clip/bound_chosen", self.clip_bound_chosen.value()),
            ("group/reward", self.group_reward.value()),
            ("group/reward_std", self.group_deviation.value()),
            ("distill/divergence", self.divergence.value()),
            ("distill/agreement", self.agreement.value()),
            ("target_margin", self.target_margin),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
    }

    /// Compares the untransformed log-probs of a pair.
    pub(crate) fn observe_preference(&mut self, chosen: &Completion<'_>, rejected: &Completion<'_>) {
        let share = |larger| if larger { 1.0 } else { 0.0 };
        let [with, other_with] = [chosen, rejected].map(|side| sum(side.logps) / side.logps.len() as f64);
        self.logp_accuracy.push(share(with > other_with));
        self.logp_margin.push(with - other_with);
        self.logp_accuracy_without_eos.push(share(mean_without_eos(chosen) > mean_without_eos(rejected)));
    }

    /// The mean difference of a pair's rewards; of unpaired completions the difference of the mean rewards.
    fn margin(&self) -> Option<f64> {
        self.margin.value().or_else(|| Some(self.chosen_reward.value()? - self.rejected_reward.value()?))
    }

    /// Adds the statistics of another part of the same step.
    pub fn merge(&mut self, part: &Statistics) {
        for (mine, theirs) in [
            (&mut self.chosen_reward, &part.chosen_reward),
            (&mut self.rejected_reward, &part.rejected_reward),
            (&mut self.accuracy, &part.accuracy),
            (&mut self.margin, &part.margin),
            (&mut self.mean_reward, &part.mean_reward),
            (&mut self.kl, &part.kl),
            (&mut self.logp_accuracy, &part.logp_accuracy),
            (&mut self.logp_accuracy_without_eos, &part.logp_accuracy_without_eos),
            (&mut self.logp_margin, &part.logp_margin),
            (&mut self.chosen_logp, &part.chosen_logp),
            (&mut self.rejected_logp, &part.rejected_logp),
            (&mut self.chosen_eos_logp, &part.chosen_eos_logp),
            (&mut self.rejected_eos_logp, &part.rejected_eos_logp),
            (&mut self.clip_share_rejected, &part.clip_share_rejected),
            (&mut self.clip_share_chosen, &part.clip_share_chosen),
            (&mut self.clip_bound, &part.clip_bound),
            (&mut self.clip_bound_chosen, &part.clip_bound_chosen),
            (&mut self.group_reward, &part.group_reward),
            (&mut self.divergence, &part.divergence),
            (&mut self.agreement, &part.agreement),
            (&mut self.group_deviation, &part.group_deviation),
        ] {
            mine.merge(theirs);
        }
        self.labels.merge(&part.labels);
        self.chosen_eos_min = smaller(self.chosen_eos_min, part.chosen_eos_min);
        self.rejected_eos_min = smaller(self.rejected_eos_min, part.rejected_eos_min);
        self.target_margin = self.target_margin.or(part.target_margin);
    }
}

/// The mean log-prob of the tokens that are no terminator; 0 of none.
fn mean_without_eos(completion: &Completion<'_>) -> f64 {
    let mut mean = Mean::default();
    let tokens = completion.logps.iter().zip(completion.is_terminator);
    tokens.filter(|(_, terminator)| !**terminator).for_each(|(logp, _)| mean.push(*logp));
    mean.value().unwrap_or(0.0)
}

fn smaller(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    a.into_iter().chain(b).reduce(f64::min)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_divergence_is_part_of_the_objective_and_a_mean_over_tokens() {
        let mut evaluation = Evaluation {
            value: 3.0,
            po_loss: 0.5,
            sft_chosen_loss: 2.5,
            sft_rejected_loss: 0.0,
            eos_anchor_loss: None,
            pairs: Vec::new(),
            statistics: Statistics::default(),
        };
        evaluation.add_divergence(8.0, 3, 4, 0.25);
        assert_eq!((evaluation.value, evaluation.po_loss, evaluation.sft_chosen_loss), (3.25, 0.75, 2.5));
        assert_eq!(evaluation.statistics.named(), [("distill/divergence", 2.0), ("distill/agreement", 0.75)]);
    }

    #[test]
    fn the_reward_of_a_side_is_its_own_or_the_mean_of_its_members() {
        let member = |advantage, reward| MemberEvaluation { advantage, reward, ..MemberEvaluation::default() };
        let group = vec![member(1.0, 5.0), member(0.0, 8.0), member(-1.0, 3.0)];
        let of_group = PairEvaluation { group, ..PairEvaluation::default() };
        assert_eq!([Side::Chosen, Side::Rejected].map(|side| of_group.reward(side)), [Some(6.5), Some(3.0)]);
        let pair = PairEvaluation { chosen_reward: Some(-0.5), ..PairEvaluation::default() };
        assert_eq!([Side::Chosen, Side::Rejected].map(|side| pair.reward(side)), [Some(-0.5), None]);
    }
}
