//! The running sums of one step, pair by pair: scores, the pair loss, and the chain rule back to tokens.

use crate::batch::{Batch, Completion, Side, Totals};
use crate::error::BatchError;
use crate::evaluation::{Evaluation, PairEvaluation, Statistics};
use crate::function::{Pairing, PairwiseLoss, Score, UnpairedLoss};
use crate::loss::Loss;
use crate::reduction::Coefficients;
use crate::scored::ScoredCompletion;
use crate::sum::sum;
use crate::transform::{Bounds, Transforms};

/// The running sums of one step.
pub(crate) struct Accumulator<'a> {
    /// The loss at its position in its schedules.
    loss: &'a Loss,
    transforms: &'a Transforms,
    /// The optimizer step, from 0.
    step: u64,
    totals: Totals,
    /// Baseline of an unpaired loss, in nats; 0 for the others.
    baseline: f64,
    po_sum: f64,
    /// Σℓ of all chosen tokens.
    chosen_sum: f64,
    /// Σℓ of all rejected tokens.
    rejected_sum: f64,
    pairs: Vec<PairEvaluation>,
    statistics: Statistics,
}

/// ∂L/∂(policy score) of the two sides of a pair.
#[derive(Default)]
struct ScoreGrads {
    d_chosen: f64,
    d_rejected: f64,
}

impl<'a> Accumulator<'a> {
    pub(crate) fn new(loss: &'a Loss, transforms: &'a Transforms, batch: &Batch<'_>) -> Result<Self, BatchError> {
        let totals = batch.totals.unwrap_or_else(|| Totals::of(batch.pairs));
        let mut statistics = Statistics { target_margin: loss.target_margin(), ..Statistics::default() };
        let mut baseline = 0.0;
        if let Pairing::Unpaired(loss) = loss.pairing() {
            baseline = loss.baseline(batch)?;
            statistics.kl.push(baseline);
        }
        Ok(Self {
            loss,
            transforms,
            step: batch.step,
            totals,
            baseline,
            po_sum: 0.0,
            chosen_sum: 0.0,
            rejected_sum: 0.0,
            pairs: Vec::with_capacity(totals.pairs),
            statistics,
        })
    }

    pub(crate) fn add_pair(&mut self, chosen: Option<ScoredCompletion<'_>>, rejected: Option<ScoredCompletion<'_>>) {
        for completion in chosen.iter().chain(&rejected) {
            self.observe(completion);
        }
        let pairing = self.loss.pairing();
        let reduction = pairing.reduction();
        let counted = |side: &Option<ScoredCompletion<'_>>| side.as_ref().map_or(0, |completion| completion.counted);
        let chosen_c = reduction.coefficients(counted(&chosen), counted(&rejected), self.step);
        let rejected_c = reduction.coefficients(counted(&rejected), counted(&chosen), self.step);

        let mut pair = PairEvaluation::default();
        let sides = [(&chosen, &chosen_c), (&rejected, &rejected_c)];
        let grads = match pairing {
            Pairing::Pairwise(loss) => self.compare(loss, sides, &mut pair),
            Pairing::Unpaired(loss) => self.judge(loss, sides, &mut pair),
            Pairing::SftOnly => ScoreGrads::default(),
        };

        let sft = self.loss.sft_weights();
        if let Some(chosen) = chosen {
            let likelihood = per_token(sft.chosen, self.totals.chosen_tokens);
            pair.chosen_weights = chosen.weights(&chosen_c, grads.d_chosen, likelihood);
        }
        if let Some(rejected) = rejected {
            let likelihood = per_token(sft.rejected, self.totals.rejected_tokens);
            pair.rejected_weights = rejected.weights(&rejected_c, grads.d_rejected, likelihood);
        }
        self.observe_rewards(&pair);
        self.pairs.push(pair);
    }

    /// The two sides with each other; the loss is a mean over pairs.
    fn compare(
        &mut self,
        loss: &dyn PairwiseLoss,
        [chosen, rejected]: [(&Option<ScoredCompletion<'_>>, &Coefficients); 2],
        pair: &mut PairEvaluation,
    ) -> ScoreGrads {
        let ((Some(chosen), chosen_c), (Some(rejected), rejected_c)) = (chosen, rejected) else {
            return ScoreGrads::default();
        };
        let scores = (self.score(chosen, chosen_c), self.score(rejected, rejected_c));
        let terms = loss.pair(scores.0, scores.1);
        pair.po_loss = terms.value;
        pair.chosen_reward = Some(terms.chosen_reward);
        pair.rejected_reward = Some(terms.rejected_reward);
        self.po_sum += terms.value;
        let share = 1.0 / self.totals.pairs as f64;
        ScoreGrads { d_chosen: share * terms.d_chosen, d_rejected: share * terms.d_rejected }
    }

    /// Each side with the baseline; the loss is a mean over completions.
    fn judge(
        &mut self,
        loss: &dyn UnpairedLoss,
        [chosen, rejected]: [(&Option<ScoredCompletion<'_>>, &Coefficients); 2],
        pair: &mut PairEvaluation,
    ) -> ScoreGrads {
        let mut terms = |(completion, coefficients): (&Option<ScoredCompletion<'_>>, &Coefficients)| {
            let completion = completion.as_ref()?;
            Some(loss.completion(completion.side, self.score(completion, coefficients), self.baseline))
        };
        let (chosen, rejected) = (terms(chosen), terms(rejected));
        let values = [chosen, rejected].into_iter().flatten().map(|terms| terms.value);
        let (sum, sides) = values.fold((0.0, 0.0), |(sum, sides), value| (sum + value, sides + 1.0));
        pair.po_loss = sum / sides;
        pair.chosen_reward = chosen.map(|terms| terms.reward);
        pair.rejected_reward = rejected.map(|terms| terms.reward);
        self.po_sum += sum;
        let share = 1.0 / (self.totals.chosen + self.totals.rejected) as f64;
        ScoreGrads {
            d_chosen: chosen.map_or(0.0, |terms| share * terms.d_score),
            d_rejected: rejected.map_or(0.0, |terms| share * terms.d_score),
        }
    }

    /// The score under policy and reference; counts clipped tokens.
    fn score(&mut self, completion: &ScoredCompletion<'_>, coefficients: &Coefficients) -> Score {
        let (policy, clipped) = completion.score(completion.completion.logps, coefficients);
        let transforms = self.transforms;
        let (share, on) = match completion.side {
            Side::Chosen => (&mut self.statistics.clip_share_chosen, transforms.upper_clip_percentile.is_some()),
            Side::Rejected => (
                &mut self.statistics.clip_share_rejected,
                transforms.lower_clip_percentile.is_some() || transforms.min_log_prob.is_some(),
            ),
        };
        if on {
            share.add(clipped as f64, completion.counted as u64);
        }
        let reference = match completion.completion.ref_logps {
            Some(logps) if self.loss.needs_reference() => completion.score(logps, coefficients).0,
            _ => 0.0,
        };
        Score { policy, reference }
    }

    /// Records the untransformed log-probs of one completion.
    fn observe(&mut self, completion: &ScoredCompletion<'_>) {
        let Completion { logps, .. } = completion.completion;
        let sum = sum(logps);
        let statistics = &mut self.statistics;
        let (total, logp, eos, eos_min) = match completion.side {
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
        for at_terminator in completion.terminators.iter().map(|t| logps[*t]) {
            eos.push(at_terminator);
            *eos_min = Some(eos_min.map_or(at_terminator, |min| min.min(at_terminator)));
        }
    }

    pub(crate) fn observe_bounds(&mut self, bounds: &Bounds) {
        let lower = self.transforms.lower_bound(bounds);
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
        let sft = self.loss.sft_weights();
        let terms = match self.loss.pairing() {
            Pairing::Unpaired(_) => self.totals.chosen + self.totals.rejected,
            Pairing::Pairwise(_) | Pairing::SftOnly => self.totals.pairs,
        };
        let po_loss = self.po_sum / terms as f64;
        // A part that is off is 0 and not −0
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
