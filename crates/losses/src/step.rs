//! The running sums of one step, pair by pair: scores, the pair loss, and back from scores to token weights.

use crate::batch::{Completion, Side, Totals};
use crate::evaluation::{Evaluation, PairEvaluation, Statistics};
use crate::loss::kto::KtoConfig;
use crate::loss::{PairLoss, Score};
use crate::objective::Objective;
use crate::reading::Reading;
use crate::reduction::{Coefficients, Reduction};
use crate::sum::sum;
use crate::transform::Bounds;

/// What scores are compared with.
#[derive(Clone, Copy)]
pub(crate) enum Rule<'a> {
    /// A pair loss: the sides with each other.
    Compare { loss: &'a dyn PairLoss },
    /// KTO: each side with the baseline.
    Judge { loss: &'a KtoConfig, baseline: f64 },
    /// SFT: nothing.
    Nothing,
}

impl Rule<'_> {
    fn reduction(&self) -> Reduction {
        match self {
            Self::Compare { loss, .. } => loss.reduction(),
            Self::Judge { .. } => Reduction::Sum,
            Self::Nothing => Reduction::Mean,
        }
    }
}

/// The running sums of one step.
pub(crate) struct Step<'a> {
    objective: &'a Objective,
    index: u64,
    totals: Totals,
    rule: Rule<'a>,
    po_sum: f64,
    /// Σℓ of all chosen tokens.
    chosen_sum: f64,
    /// Σℓ of all rejected tokens.
    rejected_sum: f64,
    pairs: Vec<PairEvaluation>,
    statistics: Statistics,
}

impl<'a> Step<'a> {
    pub(crate) fn new(
        objective: &'a Objective,
        index: u64,
        totals: Totals,
        rule: Rule<'a>,
        margin: Option<f64>,
    ) -> Self {
        let mut statistics = Statistics { target_margin: margin, ..Statistics::default() };
        if let Rule::Judge { baseline, .. } = rule {
            statistics.kl.push(baseline);
        }
        Self {
            objective,
            index,
            totals,
            rule,
            po_sum: 0.0,
            chosen_sum: 0.0,
            rejected_sum: 0.0,
            pairs: Vec::with_capacity(totals.pairs),
            statistics,
        }
    }

    pub(crate) fn add_pair(&mut self, chosen: Option<Reading<'_>>, rejected: Option<Reading<'_>>) {
        for reading in chosen.iter().chain(&rejected) {
            self.observe(reading);
        }
        let reduction = self.rule.reduction();
        let counted = |reading: &Option<Reading<'_>>| reading.as_ref().map_or(0, |reading| reading.counted);
        let chosen_c = reduction.coefficients(counted(&chosen), counted(&rejected), self.index);
        let rejected_c = reduction.coefficients(counted(&rejected), counted(&chosen), self.index);

        let mut pair = PairEvaluation::default();
        let (mut by_chosen, mut by_rejected) = (0.0, 0.0);
        match self.rule {
            Rule::Compare { loss } => {
                if let (Some(chosen), Some(rejected)) = (&chosen, &rejected) {
                    let scores = (self.score(chosen, &chosen_c), self.score(rejected, &rejected_c));
                    let terms = loss.pair(scores.0, scores.1);
                    pair.po_loss = terms.value;
                    pair.chosen_reward = Some(terms.chosen_reward);
                    pair.rejected_reward = Some(terms.rejected_reward);
                    let share = 1.0 / self.totals.pairs as f64;
                    (by_chosen, by_rejected) = (share * terms.by_chosen, share * terms.by_rejected);
                    self.po_sum += terms.value;
                }
            }
            Rule::Judge { loss, baseline } => {
                let share = 1.0 / (self.totals.chosen + self.totals.rejected) as f64;
                let mut judge = |reading: &Option<Reading<'_>>, coefficients: &Coefficients| {
                    let reading = reading.as_ref()?;
                    let terms = loss.completion(reading.side, self.score(reading, coefficients), baseline);
                    Some((terms.value, share * terms.by_score, terms.reward))
                };
                let (chosen, rejected) = (judge(&chosen, &chosen_c), judge(&rejected, &rejected_c));
                let values = [chosen, rejected].into_iter().flatten().map(|(value, ..)| value);
                let (sum, sides) = values.fold((0.0, 0.0), |(sum, sides), value| (sum + value, sides + 1.0));
                pair.po_loss = sum / sides;
                self.po_sum += sum;
                by_chosen = chosen.map_or(0.0, |(_, by_score, _)| by_score);
                by_rejected = rejected.map_or(0.0, |(_, by_score, _)| by_score);
                pair.chosen_reward = chosen.map(|(.., reward)| reward);
                pair.rejected_reward = rejected.map(|(.., reward)| reward);
            }
            Rule::Nothing => {}
        }

        let sft = self.objective.config().loss.sft_weights();
        if let Some(chosen) = chosen {
            let likelihood = per_token(sft.chosen, self.totals.chosen_tokens);
            pair.chosen_weights = chosen.weights(&chosen_c, by_chosen, likelihood);
        }
        if let Some(rejected) = rejected {
            let likelihood = per_token(sft.rejected, self.totals.rejected_tokens);
            pair.rejected_weights = rejected.weights(&rejected_c, by_rejected, likelihood);
        }
        self.observe_rewards(&pair);
        self.pairs.push(pair);
    }

    /// The score under policy and reference; notes how many tokens were clipped.
    fn score(&mut self, reading: &Reading<'_>, coefficients: &Coefficients) -> Score {
        let (policy, clipped) = reading.score(reading.completion.logps, coefficients);
        let transforms = &self.objective.config().transforms;
        let (share, on) = match reading.side {
            Side::Chosen => (&mut self.statistics.clip_share_chosen, transforms.upper_clip_percentile.is_some()),
            Side::Rejected => (
                &mut self.statistics.clip_share_rejected,
                transforms.lower_clip_percentile.is_some() || transforms.min_log_prob.is_some(),
            ),
        };
        if on {
            share.add(clipped as f64, reading.counted as u64);
        }
        let reference = match reading.completion.ref_logps {
            Some(logps) if self.objective.needs_reference() => reading.score(logps, coefficients).0,
            _ => 0.0,
        };
        Score { policy, reference }
    }

    /// Notes the untransformed log-probs of one completion.
    fn observe(&mut self, reading: &Reading<'_>) {
        let Completion { logps, .. } = reading.completion;
        let sum = sum(logps);
        let statistics = &mut self.statistics;
        let (total, logp, eos, eos_min) = match reading.side {
            Side::Chosen => (
                &mut self.chosen_sum,
                &mut statistics.chosen_logp,
                &mut statistics.chosen_eos_logp,
                &mut statistics.chosen_eos_min,
            ),
            Side::Rejected => (
                &mut self.rejected_sum,
                &mut statistics.rejected_logp,
                &mut statistics.rejected_eos_logp,
                &mut statistics.rejected_eos_min,
            ),
        };
        *total += sum;
        logp.push(sum / logps.len() as f64);
        for at_terminator in reading.terminators.iter().map(|t| logps[*t]) {
            eos.push(at_terminator);
            *eos_min = Some(eos_min.map_or(at_terminator, |min| min.min(at_terminator)));
        }
    }

    pub(crate) fn observe_bounds(&mut self, bounds: &Bounds) {
        let transforms = &self.objective.config().transforms;
        let lower = transforms.lower_bound(bounds);
        if lower.is_finite() {
            self.statistics.clip_bound.push(lower);
        }
        if bounds.chosen.is_finite() {
            self.statistics.clip_bound_chosen.push(bounds.chosen);
        }
    }

    fn observe_rewards(&mut self, pair: &PairEvaluation) {
        let statistics = &mut self.statistics;
        pair.chosen_reward.into_iter().for_each(|reward| statistics.chosen_reward.push(reward));
        pair.rejected_reward.into_iter().for_each(|reward| statistics.rejected_reward.push(reward));
        if let (Some(chosen), Some(rejected)) = (pair.chosen_reward, pair.rejected_reward) {
            statistics.accuracy.push(if chosen > rejected { 1.0 } else { 0.0 });
            statistics.margin.push(chosen - rejected);
        }
    }

    pub(crate) fn finish(self) -> Evaluation {
        let sft = self.objective.config().loss.sft_weights();
        let completions = match self.rule {
            Rule::Judge { .. } => self.totals.chosen + self.totals.rejected,
            Rule::Compare { .. } | Rule::Nothing => self.totals.pairs,
        };
        let po_loss = self.po_sum / completions as f64;
        // a part that is off is 0 and not −0
        let sft_chosen_loss = per_token(sft.chosen, self.totals.chosen_tokens) * self.chosen_sum + 0.0;
        let sft_rejected_loss = per_token(sft.rejected, self.totals.rejected_tokens) * self.rejected_sum + 0.0;
        Evaluation {
            value: po_loss + sft_chosen_loss + sft_rejected_loss,
            po_loss,
            sft_chosen_loss,
            sft_rejected_loss,
            pairs: self.pairs,
            statistics: self.statistics,
        }
    }
}

/// ∂(weight·CE)/∂ℓ_t: −weight / tokens, and exactly 0 for a part that is off.
fn per_token(weight: f64, tokens: usize) -> f64 {
    if weight == 0.0 { 0.0 } else { -weight / tokens as f64 }
}
