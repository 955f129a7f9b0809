//! The running sums of one step, pair by pair: scores, the pair loss, and the chain rule back to tokens.

use crate::batch::{Batch, Completion, Side, Totals};
use crate::config::LossConfig;
use crate::error::BatchError;
use crate::evaluation::{Evaluation, PairEvaluation, Statistics};
use crate::factors::policy_weight;
use crate::function::{CompletionTerms, GroupLoss, PairTerms, Pairing, Score, k3};
use crate::groups::MemberTerms;
use crate::likelihood::Likelihood;
use crate::loss::Loss;
use crate::reduction::Coefficients;
use crate::scored::ScoredCompletion;
use crate::state::LossState;
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
    scored: Vec<ScoredPair<'a>>,
    /// Of a loss of groups: what each row, a completion on its side, is in its group.
    members: Vec<MemberTerms>,
    /// Σℓ of all chosen tokens.
    chosen_sum: f64,
    /// Σℓ of all rejected tokens.
    rejected_sum: f64,
    statistics: Statistics,
}

/// A pair of which the scores are known.
struct ScoredPair<'a> {
    chosen: Option<ScoredSide<'a>>,
    rejected: Option<ScoredSide<'a>>,
}

struct ScoredSide<'a> {
    completion: ScoredCompletion<'a>,
    coefficients: Coefficients,
    score: Score,
}

/// The pair loss of one pair, each side's part with the derivative by its score.
#[derive(Default)]
struct Terms {
    /// Value before the mean.
    value: f64,
    /// Derivative by the score and implicit reward of chosen.
    chosen: Option<(f64, f64)>,
    /// The same for rejected.
    rejected: Option<(f64, f64)>,
}

impl<'a> Accumulator<'a> {
    pub(crate) fn new(config: &'a LossConfig, batch: &Batch<'a>) -> Result<Self, BatchError> {
        let LossConfig { loss, transforms, .. } = config;
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
            scored: Vec::with_capacity(batch.pairs.len()),
            members: Vec::new(),
            chosen_sum: 0.0,
            rejected_sum: 0.0,
            statistics,
        })
    }

    /// Rows that are completions of groups, on their sides.
    pub(crate) fn with_members(self, members: Vec<MemberTerms>) -> Self {
        Self { members, ..self }
    }

    /// Scores a pair.
    pub(crate) fn add_pair(&mut self, chosen: Option<ScoredCompletion<'a>>, rejected: Option<ScoredCompletion<'a>>) {
        for completion in chosen.iter().chain(&rejected) {
            self.observe(completion);
        }
        if let (Some(chosen), Some(rejected)) = (&chosen, &rejected) {
            self.statistics.observe_preference(&chosen.completion, &rejected.completion);
        }
        let counted = |side: &Option<ScoredCompletion<'_>>| side.as_ref().map_or(0, |side| side.counted().len());
        let (chosen_tokens, rejected_tokens) = (counted(&chosen), counted(&rejected));
        let chosen = chosen.map(|completion| self.scored(completion, rejected_tokens));
        let rejected = rejected.map(|completion| self.scored(completion, chosen_tokens));
        self.scored.push(ScoredPair { chosen, rejected });
    }

    fn scored(&mut self, completion: ScoredCompletion<'a>, other: usize) -> ScoredSide<'a> {
        let coefficients = self.loss.pairing().reduction().coefficients(&completion.counted(), other, self.step);
        let score = match self.loss.pairing() {
            // without a loss of scores no score is used
            Pairing::SftOnly | Pairing::Groupwise(_) | Pairing::Pooled(_) => {
                Score { policy: 0.0, reference: 0.0, tokens: 0 }
            }
            Pairing::Pairwise(_) | Pairing::Unpaired(_) => self.score(&completion, &coefficients),
        };
        ScoredSide { completion, coefficients, score }
    }

    /// The pair loss of every pair.
    fn terms(&self, state: &mut LossState) -> Vec<Terms> {
        match self.loss.pairing() {
            Pairing::Pairwise(loss) => {
                let both = |pair: &ScoredPair<'_>| Some((pair.chosen.as_ref()?.score, pair.rejected.as_ref()?.score));
                let scores: Vec<(Score, Score)> = self.scored.iter().filter_map(both).collect();
                let share = 1.0 / self.totals.pairs as f64;
                let of_step = loss.step(&scores, state).into_iter().zip(&self.scored);
                of_step.map(|(terms, pair)| self.with_factors(Terms::of_pair(terms, share), pair)).collect()
            }
            Pairing::Unpaired(loss) => {
                let share = 1.0 / (self.totals.chosen + self.totals.rejected) as f64;
                let of = |side: &Option<ScoredSide<'_>>| {
                    let side = side.as_ref()?;
                    Some(loss.completion(side.completion.side, side.score, self.baseline))
                };
                self.scored.iter().map(|pair| Terms::of_sides(of(&pair.chosen), of(&pair.rejected), share)).collect()
            }
            Pairing::SftOnly | Pairing::Groupwise(_) | Pairing::Pooled(_) => {
                self.scored.iter().map(|_| Terms::default()).collect()
            }
        }
    }

    /// The pair loss of a pair times the factors that have no gradient.
    fn with_factors(&self, mut terms: Terms, pair: &ScoredPair<'_>) -> Terms {
        let (Some(chosen), Some(rejected)) = (&pair.chosen, &pair.rejected) else { return terms };
        let factors = self.loss.factors();
        if factors.policy_weighting {
            let weight = policy_weight(&chosen.completion.completion) * policy_weight(&rejected.completion.completion);
            terms.value *= weight;
            terms.chosen.iter_mut().chain(&mut terms.rejected).for_each(|(d_score, _)| *d_score *= weight);
        }
        if let (Some(gate), Some((d_score, _))) = (factors.gate, &mut terms.rejected) {
            *d_score *= gate.at(rejected.completion.completion.logps);
        }
        terms
    }

    /// The chain rule from the scores of a pair to its tokens. `share` is the weight of a pair in the mean.
    fn weigh(&self, pair: &ScoredPair<'_>, terms: &Terms, share: f64) -> PairEvaluation {
        let sft = self.loss.sft_weights();
        let weights = |side: &Option<ScoredSide<'_>>, terms: Option<(f64, f64)>, weight: f64, tokens: usize| {
            let Some(side) = side else { return Vec::new() };
            let d_score = terms.map_or(0.0, |(d_score, _)| d_score);
            side.completion.weights(&side.coefficients, d_score, per_token(weight, tokens))
        };
        let chosen_weights = match (self.loss.likelihood(), &pair.chosen) {
            (Likelihood::Nll, chosen) => weights(chosen, terms.chosen, sft.chosen, self.totals.chosen_tokens),
            (likelihood, Some(chosen)) => {
                likelihood.weights(&chosen.completion.completion, -per_token(sft.chosen, self.totals.chosen_tokens))
            }
            (_, None) => Vec::new(),
        };
        let mut evaluation = PairEvaluation {
            po_loss: terms.value,
            chosen_reward: terms.chosen.map(|(_, reward)| reward),
            rejected_reward: terms.rejected.map(|(_, reward)| reward),
            chosen_weights,
            rejected_weights: weights(&pair.rejected, terms.rejected, sft.rejected, self.totals.rejected_tokens),
            group: Vec::new(),
        };
        let anchor = self.anchor();
        if anchor != 0.0 {
            let sides =
                [(&pair.chosen, &mut evaluation.chosen_weights), (&pair.rejected, &mut evaluation.rejected_weights)];
            for (side, weights) in sides {
                let terminators = side.iter().flat_map(|side| &side.completion.terminators);
                terminators.for_each(|t| weights[*t] += anchor);
            }
        }
        if let Some(loss) = self.loss.token_loss() {
            let (side, weights) = match loss.side {
                Side::Chosen => (&pair.chosen, &mut evaluation.chosen_weights),
                Side::Rejected => (&pair.rejected, &mut evaluation.rejected_weights),
            };
            if let Some(side) = side {
                let value = side.completion.token_loss(loss.function, share * loss.weight, weights);
                evaluation.po_loss += loss.weight * value;
            }
        }
        evaluation
    }

    /// The score under policy and reference; counts clipped tokens.
    fn score(&mut self, completion: &ScoredCompletion<'_>, coefficients: &Coefficients) -> Score {
        let (policy, clipped) = completion.score(completion.completion.logps, coefficients);
        self.observe_clipped(completion.side, clipped, completion.counted().len());
        let reference = match completion.completion.ref_logps {
            Some(logps) if self.loss.needs_reference() => completion.score(logps, coefficients).0,
            _ => 0.0,
        };
        Score { policy, reference, tokens: completion.counted().len() }
    }

    /// Records how many of a completion's tokens a bound moved.
    fn observe_clipped(&mut self, side: Side, clipped: u64, tokens: usize) {
        let transforms = self.transforms;
        let (share, on) = match side {
            Side::Chosen => (&mut self.statistics.clip_share_chosen, transforms.upper_clip_percentile.is_some()),
            Side::Rejected => (
                &mut self.statistics.clip_share_rejected,
                transforms.lower_clip_percentile.is_some() || transforms.min_log_prob.is_some(),
            ),
        };
        if on {
            share.add(clipped as f64, tokens as u64);
        }
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

    /// ∂L/∂ℓ of every terminator by the anchor.
    fn anchor(&self) -> f64 {
        -self.transforms.eos_anchor / self.totals.completions() as f64
    }

    fn eos_anchor_loss(&self) -> Option<f64> {
        let Statistics { chosen_eos_logp, rejected_eos_logp, .. } = &self.statistics;
        (self.transforms.eos_anchor > 0.0).then(|| self.anchor() * (chosen_eos_logp.total + rejected_eos_logp.total))
    }

    /// The cross-entropy part on chosen, given the weights of its tokens.
    fn chosen_likelihood(&self, pairs: &[PairEvaluation]) -> f64 {
        let likelihood = self.loss.likelihood();
        if likelihood == Likelihood::Nll {
            // A part that is off is 0 and not −0
            return per_token(self.loss.sft_weights().chosen, self.totals.chosen_tokens) * self.chosen_sum + 0.0;
        }
        let of = |(scored, pair): (&ScoredPair<'_>, &PairEvaluation)| {
            let chosen = scored.chosen.as_ref()?;
            Some(likelihood.value(&chosen.completion.completion, &pair.chosen_weights))
        };
        self.scored.iter().zip(pairs).filter_map(of).sum()
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
        match (pair.chosen_reward, pair.rejected_reward) {
            (Some(chosen), Some(rejected)) => statistics.push_rewards(chosen, rejected),
            (chosen, rejected) => {
                chosen.into_iter().for_each(|reward| statistics.chosen_reward.push(reward));
                rejected.into_iter().for_each(|reward| statistics.rejected_reward.push(reward));
            }
        }
    }

    pub(crate) fn finish(mut self, state: &mut LossState) -> Evaluation {
        if let Pairing::Groupwise(loss) = self.loss.pairing() {
            return self.finish_groups(loss);
        }
        let sft = self.loss.sft_weights();
        let count = match self.loss.pairing() {
            Pairing::Unpaired(_) => self.totals.chosen + self.totals.rejected,
            Pairing::Pairwise(_) | Pairing::Groupwise(_) | Pairing::Pooled(_) | Pairing::SftOnly => self.totals.pairs,
        };
        let mut pairs = Vec::with_capacity(self.scored.len());
        let mut po_sum = 0.0;
        for (pair, terms) in self.scored.iter().zip(self.terms(state)) {
            let evaluation = self.weigh(pair, &terms, 1.0 / count as f64);
            po_sum += evaluation.po_loss * terms.sides(&self.loss.pairing());
            pairs.push(evaluation);
        }
        pairs.iter().for_each(|pair| self.observe_rewards(pair));
        let po_loss = po_sum / count as f64;
        let sft_chosen_loss = self.chosen_likelihood(&pairs);
        let sft_rejected_loss = per_token(sft.rejected, self.totals.rejected_tokens) * self.rejected_sum + 0.0;
        let eos_anchor_loss = self.eos_anchor_loss();
        Evaluation {
            value: po_loss + sft_chosen_loss + sft_rejected_loss + eos_anchor_loss.unwrap_or(0.0),
            po_loss,
            sft_chosen_loss,
            sft_rejected_loss,
            eos_anchor_loss,
            pairs,
            statistics: self.statistics,
        }
    }

    /// The loss of groups, a row being one completion; the rows' rewards are left to the groups.
    fn finish_groups(mut self, loss: &dyn GroupLoss) -> Evaluation {
        let mut pairs = Vec::with_capacity(self.scored.len());
        let mut po_loss = 0.0;
        for (pair, member) in std::mem::take(&mut self.scored).iter().zip(std::mem::take(&mut self.members)) {
            let Some(ScoredSide { completion, .. }) = pair.chosen.as_ref().or(pair.rejected.as_ref()) else { continue };
            let (tokens, Completion { logps, ref_logps, .. }) = (completion.counted().len(), completion.completion);
            let mut weights = vec![0.0; logps.len()];
            let factor = -member.advantage * loss.share(&self.totals, member.size, tokens);
            let (sum, clipped) = completion.signed_sum(|logp| loss.token(logp), factor, &mut weights);
            self.observe_clipped(completion.side, clipped, tokens);
            let mut value = factor * sum;
            if let Some(reference) = ref_logps.filter(|_| loss.kl_weight() > 0.0) {
                let share = loss.kl_weight() * loss.share(&self.totals, member.size, logps.len());
                let mut divergence = 0.0;
                for ((logp, reference), weight) in logps.iter().zip(reference).zip(&mut weights) {
                    let (k3, slope) = k3(*logp, *reference);
                    divergence += k3;
                    *weight += share * slope;
                }
                self.statistics.kl.add(divergence, logps.len() as u64);
                value += share * divergence;
            }
            completion.terminators.iter().for_each(|t| weights[*t] += self.anchor());
            po_loss += value;
            let mut row = PairEvaluation { po_loss: value * self.totals.pairs as f64, ..PairEvaluation::default() };
            let reward = Some(sum / tokens as f64);
            match completion.side {
                Side::Chosen => (row.chosen_reward, row.chosen_weights) = (reward, weights),
                Side::Rejected => (row.rejected_reward, row.rejected_weights) = (reward, weights),
            }
            pairs.push(row);
        }
        let eos_anchor_loss = self.eos_anchor_loss();
        Evaluation {
            value: po_loss + eos_anchor_loss.unwrap_or(0.0),
            po_loss,
            sft_chosen_loss: 0.0,
            sft_rejected_loss: 0.0,
            eos_anchor_loss,
            pairs,
            statistics: self.statistics,
        }
    }
}

impl Terms {
    /// Two sides compared with each other; `share` is the weight of a pair in the mean.
    fn of_pair(terms: PairTerms, share: f64) -> Self {
        Self {
            value: terms.value,
            chosen: Some((share * terms.d_chosen, terms.chosen_reward)),
            rejected: Some((share * terms.d_rejected, terms.rejected_reward)),
        }
    }

    /// Sides compared with a baseline; `share` is the weight of a completion in the mean.
    fn of_sides(chosen: Option<CompletionTerms>, rejected: Option<CompletionTerms>, share: f64) -> Self {
        let values = [chosen, rejected].into_iter().flatten().map(|terms| terms.value);
        let (sum, sides) = values.fold((0.0, 0.0), |(sum, sides), value| (sum + value, sides + 1.0));
        let side = |terms: CompletionTerms| (share * terms.d_score, terms.reward);
        Self { value: sum / sides, chosen: chosen.map(side), rejected: rejected.map(side) }
    }

    /// Number of terms of the mean that the value stands for.
    fn sides(&self, pairing: &Pairing<'_>) -> f64 {
        match pairing {
            Pairing::Unpaired(_) => f64::from(u8::from(self.chosen.is_some()) + u8::from(self.rejected.is_some())),
            Pairing::Pairwise(_) | Pairing::Groupwise(_) | Pairing::Pooled(_) | Pairing::SftOnly => 1.0,
        }
    }
}

/// ∂(weight·CE)/∂ℓ_t: −weight / tokens, and exactly 0 for a part that is off.
fn per_token(weight: f64, tokens: usize) -> f64 {
    if weight == 0.0 { 0.0 } else { -weight / tokens as f64 }
}
