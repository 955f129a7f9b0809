//! Forward and backward passes of a step, dealt to ranks.
//!
//! A rank runs its own packs alone. Rows that the objective evaluates together and that lie in several packs need all their
//! log-probs before any weight is known: ranks exchange them, and each evaluates the whole. The same numbers give the same
//! weights everywhere, so nothing else is talked about but gradients, which are added behind the last backward pass.

use std::ops::Range;

use smpo_data::Row;
use smpo_losses::divergence::RowWeights;
use smpo_losses::{Batch, Completion, Evaluation, LossState, Member, Pair, PairEvaluation, PooledRow, Totals};
use smpo_model::{PackedBatch, ScoreOptions, Scored};

use crate::dealing::{PackScores, Shared, sizes};
use crate::distillation::Pupil;
use crate::error::TrainError;
use crate::learner::{Learner, in_step};
use crate::mismatched::Mismatched;
use crate::packing::Unit;
use crate::scoring::{RowLogps, StepRow, pack, row_entropy, row_logps_of, split};

/// A step and its rows.
pub(crate) struct Context<'a> {
    pub rows: &'a [StepRow<'a>],
    pub step: u64,
    pub totals: Totals,
    /// Tokens of each row.
    pub tokens: &'a [usize],
}

impl<'a> Context<'a> {
    fn rows_of(&self, members: &[usize]) -> Vec<&'a Row> {
        members.iter().map(|&row| self.rows[row].row).collect()
    }

    /// Share of the step's tokens in some of its rows.
    fn share(&self, rows: &[usize]) -> f64 {
        let own: usize = rows.iter().map(|row| self.tokens[*row]).sum();
        own as f64 / self.tokens.iter().sum::<usize>().max(1) as f64
    }
}

/// A unit with the numbers of its packs in the step.
struct Numbered<'a> {
    unit: &'a Unit,
    packs: Range<usize>,
}

fn numbered(units: &[Unit]) -> Vec<Numbered<'_>> {
    let mut all = Vec::with_capacity(units.len());
    let mut first = 0;
    for unit in units {
        let packs = first..first + unit.packs.len();
        first = packs.end;
        all.push(Numbered { unit, packs });
    }
    all
}

impl Learner {
    /// Scores the packs of a step, evaluates its units, and adds the gradients of all packs, of the other ranks too. Also
    /// returns the step's load-balancing loss.
    pub(crate) fn evaluations(
        &mut self,
        context: &Context<'_>,
        units: &[Unit],
    ) -> Result<(Vec<Evaluation>, f64), TrainError> {
        let packs: Vec<Vec<usize>> = units.iter().flat_map(|unit| unit.packs.clone()).collect();
        let owners = self.ranks().deal(&sizes(&packs, context.tokens));
        let rank = self.ranks().rank();
        self.begin_sums(self.last_pack(units, &owners))?;
        let mut evaluations = vec![None; units.len()];
        let mut own = Shared::default();
        // The first error of this rank. The others must hear of it, so it waits for the next exchange.
        let mut failed = None;
        for (unit, evaluation) in numbered(units).iter().zip(&mut evaluations) {
            let outcome = if self.is_joint(unit.unit) {
                let mine: Vec<usize> = unit.packs.clone().filter(|&pack| owners[pack] == rank).collect();
                self.joint(context, unit.unit, &packs, &mine, failed.take()).map(|(found, balance)| {
                    *evaluation = Some(found);
                    own.balance += balance;
                })
            } else if failed.is_none() && owners[unit.packs.start] == rank {
                self.local(context, unit).map(|(scores, balance, found)| {
                    *evaluation = found.filter(|_| self.ranks().alone());
                    own.balance += balance;
                    own.packs.push((unit.packs.start, scores));
                })
            } else {
                continue;
            };
            failed = outcome.err();
        }
        self.start_sums();
        let shared = self.ranks().share(failed.map_or(Ok(own), Err), &packs);
        let summed = self.finish_sums();
        let shared = shared?;
        summed?;
        let mut scores = vec![PackScores::default(); packs.len()];
        shared.packs.into_iter().for_each(|(pack, found)| scores[pack] = found);
        let mut all = Vec::with_capacity(units.len());
        for (unit, evaluation) in numbered(units).iter().zip(evaluations) {
            all.push(match evaluation {
                Some(evaluation) => evaluation,
                None => {
                    // Such a unit changes no state of the objective.
                    let mut state = self.winsor().clone();
                    self.evaluate(context, unit.unit, &scores[unit.packs.clone()], &mut state)?
                }
            });
        }
        Ok((all, shared.balance))
    }

    /// True if ranks exchange log-probs before a backward pass of the unit.
    fn is_joint(&self, unit: &Unit) -> bool {
        unit.packs.len() > 1 || self.objective().needs_whole_step()
    }

    /// The pack whose backward pass is this rank's last; `None` where an exchange comes after it: all ranks start their sums
    /// behind the last exchange.
    fn last_pack(&self, units: &[Unit], owners: &[usize]) -> Option<usize> {
        let numbered = numbered(units);
        let exchange = numbered.iter().rfind(|unit| self.is_joint(unit.unit)).map_or(0, |unit| unit.packs.start);
        (exchange..owners.len()).rfind(|&pack| owners[pack] == self.ranks().rank())
    }

    /// Both passes of a unit of one own pack, with its part of the load-balancing loss. Where the objective refuses the rows
    /// there is no backward pass and no evaluation: all ranks evaluate the unit at the end of the step, and refuse it.
    fn local(
        &mut self,
        context: &Context<'_>,
        unit: &Numbered<'_>,
    ) -> Result<(PackScores, f64, Option<Evaluation>), TrainError> {
        let Numbered { unit, packs } = unit;
        let members = &unit.packs[0];
        let options = self.score_options(context.step, packs.start);
        let packed = pack(&context.rows_of(members), self.pooling(), self.decoder().spec())?;
        let mut state = self.winsor().clone();
        if self.objective().distance(context.step, self.options().steps).is_some() {
            self.sum_behind(packs.start);
            let (scores, balance) = self.distil(context, members, &packed, &options)?;
            let evaluation = self.evaluate(context, unit, std::slice::from_ref(&scores), &mut state).ok();
            return Ok((scores, balance, evaluation));
        }
        // A second handle on the same memory: the tape borrows it while the rest of the learner evaluates.
        let decoder = self.decoder().clone();
        let options = ScoreOptions { entropy: row_entropy(self.objective().needs_entropy()), ..options };
        let scored = decoder.score(&packed, &options)?;
        let rows = row_logps_of(&context.rows_of(members), &packed, &scored)?;
        let scores = PackScores { rows, ..PackScores::default() };
        let evaluation = self.evaluate(context, unit, std::slice::from_ref(&scores), &mut state).ok();
        let balance = self.weigh_balance(&scored, context.share(members));
        if let Some(evaluation) = &evaluation {
            self.sum_behind(packs.start);
            scored.backward(&self.weights(&evaluation.pairs), self.gradients_mut())?;
        }
        Ok((scores, balance, evaluation))
    }

    /// Both passes of the own packs of a unit that is evaluated as a whole, with their part of the load-balancing loss. One
    /// tape at a time is in memory: where there are several own packs, each is scored again for its backward pass. An error
    /// that `failed` before is told to the others here.
    fn joint(
        &mut self,
        context: &Context<'_>,
        unit: &Unit,
        packs: &[Vec<usize>],
        own: &[usize],
        failed: Option<TrainError>,
    ) -> Result<(Evaluation, f64), TrainError> {
        let decoder = self.decoder().clone();
        let frozen = decoder.frozen();
        let packed: Result<Vec<PackedBatch>, TrainError> =
            own.iter().map(|&number| pack(&context.rows_of(&packs[number]), self.pooling(), decoder.spec())).collect();
        let (packed, failed) = match (packed, failed) {
            (Ok(packed), None) => (packed, None),
            (Err(error), None) | (_, Some(error)) => (Vec::new(), Some(error)),
        };
        let mut kept: Option<Scored<'_>> = None;
        let mut forward = || {
            let mut found = Vec::with_capacity(own.len());
            for (&number, packed) in own.iter().zip(&packed) {
                let entropy = row_entropy(self.objective().needs_entropy());
                let options = ScoreOptions { entropy, ..self.score_options(context.step, number) };
                let rows = context.rows_of(&packs[number]);
                let rows = if own.len() == 1 {
                    row_logps_of(&rows, packed, kept.insert(decoder.score(packed, &options)?))?
                } else {
                    // No backward pass follows, so no inputs of blocks are kept for one.
                    let options = ScoreOptions { checkpointing: false, balance: false, ..options };
                    row_logps_of(&rows, packed, &frozen.score(packed, &options)?)?
                };
                found.push((number, PackScores { rows, ..PackScores::default() }));
            }
            Ok(Shared { balance: 0.0, packs: found })
        };
        let shared = match failed {
            None => forward(),
            Some(error) => Err(error),
        };
        let mut shared = self.ranks().share(shared, packs)?;
        shared.packs.sort_by_key(|(number, _)| *number);
        let scores: Vec<PackScores> = shared.packs.into_iter().map(|(_, scores)| scores).collect();
        let mut state = self.winsor().clone();
        let evaluation = self.evaluate(context, unit, &scores, &mut state)?;
        self.set_winsor(state);
        let rows = unit.rows();
        let mut balance = 0.0;
        for (&number, packed) in own.iter().zip(&packed) {
            let scored = match kept.take() {
                Some(scored) => scored,
                None => decoder.score(packed, &self.score_options(context.step, number))?,
            };
            balance += self.weigh_balance(&scored, context.share(&packs[number]));
            self.sum_behind(number);
            let place = |row: &usize| rows.binary_search(row).ok().and_then(|place| evaluation.pairs.get(place));
            scored.backward(&self.weights(packs[number].iter().filter_map(place)), self.gradients_mut())?;
        }
        Ok((evaluation, balance))
    }

    /// Both passes of a pack under student and teacher.
    fn distil(
        &mut self,
        context: &Context<'_>,
        members: &[usize],
        packed: &PackedBatch,
        options: &ScoreOptions<'_>,
    ) -> Result<(PackScores, f64), TrainError> {
        let Some((distance, weight)) = self.objective().distance(context.step, self.options().steps) else {
            return Err(TrainError::NoTeacher);
        };
        let Some(teacher) = self.teacher() else { return Err(TrainError::NoTeacher) };
        let student = self.decoder().clone();
        let pupil = Pupil { student: &student, teacher: &teacher, distance };
        let each = self.scale() / context.totals.chosen_tokens as f64;
        let weights = RowWeights { divergence: weight * each, nll: (1.0 - weight) * each };
        let share = context.share(members);
        let factor = self.balance_factor(share);
        let found = pupil.learn(packed, options, weights, factor, self.gradients_mut())?;
        let rows = split(&context.rows_of(members), packed, &found.logps, &[]);
        let scores = PackScores { rows, divergence: found.divergence, agreements: found.agreements };
        Ok((scores, share * found.balance))
    }

    /// The objective on the rows of a unit, given the scores of its packs.
    fn evaluate(
        &self,
        context: &Context<'_>,
        unit: &Unit,
        scores: &[PackScores],
        state: &mut LossState,
    ) -> Result<Evaluation, TrainError> {
        let Context { step, totals, .. } = *context;
        let steps = self.options().steps;
        let logps: Vec<&RowLogps> = scores.iter().flat_map(|scores| &scores.rows).collect();
        let logps = in_order(logps, &unit.packs.concat());
        let rows: Vec<&StepRow<'_>> = unit.rows().into_iter().map(|row| &context.rows[row]).collect();
        let both = || rows.iter().zip(&logps);
        if self.pooling().is_some() {
            let pooled: Vec<PooledRow<'_>> = both().map(|(row, values)| row.pooled(values)).collect();
            let batch = Batch { pooled: &pooled, step, steps, totals: Some(totals), ..Batch::default() };
            return self.objective().evaluate(&batch, state).map_err(in_step(step + 1));
        }
        let mismatched = self.mismatched(&rows)?;
        let mismatched: Vec<Completion<'_>> = mismatched.iter().map(Mismatched::completion).collect();
        let groups: Vec<Vec<Member<'_>>> = both().map(|(row, logps)| row.members(logps)).collect();
        let pairs: Vec<Pair<'_>> = both().zip(&groups).map(|((row, logps), group)| row.pair(logps, group)).collect();
        let batch = Batch {
            pairs: &pairs,
            microbatches: &unit.microbatches,
            step,
            steps,
            mismatched: &mismatched,
            totals: Some(totals),
            ..Batch::default()
        };
        let mut evaluation = self.objective().evaluate(&batch, state).map_err(in_step(step + 1))?;
        if let Some((_, weight)) = self.objective().distance(step, steps) {
            let divergence: f64 = scores.iter().map(|scores| scores.divergence).sum();
            let agreements = scores.iter().map(|scores| scores.agreements).sum();
            let tokens = logps.iter().flat_map(|row| &row.chosen).map(Vec::len).sum::<usize>();
            let share = weight / totals.chosen_tokens as f64;
            evaluation.add_divergence(divergence, agreements, tokens as u64, share * divergence);
        }
        Ok(evaluation)
    }

    /// The dropout of a pack depends on seed, step and its place in the step alone, so that a resumed run draws the same,
    /// whatever the number of ranks, and both passes over one pack drop the same.
    fn score_options(&self, step: u64, pack: usize) -> ScoreOptions<'static> {
        let seed = self.options().seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add((step << 20) + pack as u64);
        ScoreOptions {
            checkpointing: self.options().checkpointing,
            dropout_seed: Some(seed),
            balance: self.balances(),
            ..ScoreOptions::default()
        }
    }

    /// Makes the load-balancing loss of a pack, a `share` of the step, a part of its backward pass; returns its share of the
    /// step's.
    fn weigh_balance(&self, scored: &Scored<'_>, share: f64) -> f64 {
        scored.weigh_balance(self.balance_factor(share));
        share * scored.balance().unwrap_or(0.0)
    }

    /// Factor of the load-balancing loss of a pack, a `share` of the step, in its backward pass.
    fn balance_factor(&self, share: f64) -> f64 {
        share * self.options().balance * self.scale()
    }

    /// ∂L/∂ℓ of completions in the order of a packed batch, times the loss scale.
    fn weights<'a>(&self, pairs: impl IntoIterator<Item = &'a PairEvaluation>) -> Vec<f32> {
        let factor = self.scale();
        let all = pairs.into_iter().flat_map(PairEvaluation::weights).flatten();
        all.map(|weight| (*weight * factor) as f32).collect()
    }

    /// Factor of the loss, in float16.
    fn scale(&self) -> f64 {
        self.loss_scale().map_or(1.0, |scale| scale.factor())
    }
}

/// Sorts `values` by the place that each has in `order`.
pub(crate) fn in_order<T>(values: Vec<T>, order: &[usize]) -> Vec<T> {
    let mut placed: Vec<(usize, T)> = order.iter().copied().zip(values).collect();
    placed.sort_by_key(|(place, _)| *place);
    placed.into_iter().map(|(_, value)| value).collect()
}
