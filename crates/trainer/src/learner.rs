//! One optimizer step: log-probs forward, the loss as a pure function of them, its weights backward, AdamW.

use candle_core::DType;
use smpo_data::{Row, TokenizedCompletion};
use smpo_kernels::{AdamW, Gradients, KernelError, Parameter, StepReport};
use smpo_losses::divergence::{Distance, RowWeights};
use smpo_losses::{
    Batch, BatchError, Completion, Evaluation, LossState, Member, Objective, Pair, PairEvaluation, PooledRow, Totals,
};
use smpo_model::{Decoder, ScoreOptions, Scored, WeightDtype};

use crate::distillation::{Distilled, Pupil, score_rows_of};
use crate::error::TrainError;
use crate::learner_options::LearnerOptions;
use crate::loss_scale::LossScale;
use crate::mismatched::{Mismatched, mismatched};
use crate::packing::{Unit, units};
use crate::pooling::Pooling;
use crate::scoring::{RowLogps, StepRow, pack, packed_tokens, row_entropy, row_logps_of, score_rows, split};

/// Outcome of a step.
#[derive(Debug, Clone, PartialEq)]
pub struct StepOutcome {
    /// The objective on the step's rows, before the update.
    pub evaluation: Evaluation,
    /// Global gradient norm before clipping; not finite where the loss scale was too large.
    pub grad_norm: f64,
    /// Factor of the loss, in float16.
    pub loss_scale: Option<f64>,
    /// Load-balancing loss of routed experts, the mean over packs by their tokens; `None` where it has no coefficient.
    pub balance: Option<f64>,
}

/// A model with its objective and optimizer.
pub struct Learner {
    decoder: Decoder,
    objective: Objective,
    optimizer: AdamW,
    gradients: Gradients,
    winsor: LossState,
    /// In float16.
    loss_scale: Option<LossScale>,
    options: LearnerOptions,
    /// For objectives that score completions the data does not pair with their prompt (KTO's KL baseline), and for a
    /// reference that follows the policy.
    reference: Option<Decoder>,
    /// Of objectives of whole sequences.
    pooling: Option<Pooling>,
}

impl Learner {
    /// A model under an objective, before its first step.
    ///
    /// # Errors
    /// When a range of the optimizer is wrong, or nothing is trainable.
    pub fn new(decoder: Decoder, objective: Objective, options: LearnerOptions) -> Result<Self, TrainError> {
        let embedding = decoder.embedding_var();
        let rows_only = decoder.embedding_var().filter(|_| !decoder.trained_tokens().is_empty());
        let parameters = decoder
            .trainable()
            .into_iter()
            .map(|(name, var)| {
                // Norms and biases are vectors; decay is for matrices (Loshchilov and Hutter, arXiv 1711.05101, in
                // the form transformers uses).
                // Decay would move the rows of an embedding that are not trained.
                let rows = rows_only.as_ref().is_some_and(|rows| rows.id() == var.id());
                let decay = var.dims().len() > 1 && !rows;
                let full_moments = embedding.as_ref().is_some_and(|embedding| embedding.id() == var.id());
                Parameter { name, var, decay, full_moments }
            })
            .collect();
        let loss_scale = (decoder.placement().dtype == WeightDtype::F16).then(LossScale::default);
        let optimizer = AdamW::new(parameters, options.adamw)?;
        let gradients = optimizer.gradients()?;
        let pad = decoder.config().pad_token();
        let pooling = objective.config().loss.pooled().map(|_| Pooling { tail: Vec::new(), pad });
        Ok(Learner {
            decoder,
            objective,
            optimizer,
            gradients,
            winsor: LossState::default(),
            loss_scale,
            options,
            reference: None,
            pooling,
        })
    }

    /// Sets the sequences that a head of labels reads.
    pub(crate) fn read_sequences(&mut self, pooling: Pooling) {
        self.pooling = self.pooling.is_some().then_some(pooling);
    }

    /// The sequences that a head of labels reads; `None` for an objective of log-probs.
    pub(crate) fn pooling(&self) -> Option<&Pooling> {
        self.pooling.as_ref()
    }

    /// The model.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// The objective.
    pub fn objective(&self) -> &Objective {
        &self.objective
    }

    /// The optimizer, for checkpoints.
    pub fn optimizer(&self) -> &AdamW {
        &self.optimizer
    }

    /// The optimizer, to restore a checkpoint.
    pub(crate) fn optimizer_mut(&mut self) -> &mut AdamW {
        &mut self.optimizer
    }

    /// State of the objective between steps, for checkpoints.
    pub fn winsor(&self) -> &LossState {
        &self.winsor
    }

    pub(crate) fn set_winsor(&mut self, winsor: LossState) {
        self.winsor = winsor;
    }

    /// The loss scale of a float16 run, for checkpoints.
    pub fn loss_scale(&self) -> Option<LossScale> {
        self.loss_scale
    }

    pub(crate) fn set_loss_scale(&mut self, loss_scale: Option<LossScale>) {
        self.loss_scale = loss_scale;
    }

    pub(crate) fn keep_reference(&mut self, reference: Decoder) {
        self.reference = Some(reference.frozen());
    }

    /// The reference that follows the policy, for checkpoints; `None` for one that stays.
    pub(crate) fn following_reference(&self) -> Option<&Decoder> {
        self.reference.as_ref().filter(|_| self.options.reference_sync.is_some())
    }

    /// Log-probs of rows under a reference that follows the policy; empty for one that stays, whose log-probs are cached.
    pub(crate) fn live_references(&self, rows: &[&Row]) -> Result<Vec<RowLogps>, TrainError> {
        match self.following_reference() {
            Some(reference) => score_rows(reference, rows, self.options.max_tokens, None, None),
            None => Ok(Vec::new()),
        }
    }

    /// Moves a reference that follows the policy, where that is due after `step` steps.
    pub(crate) fn sync_reference(&mut self, step: u64) -> Result<(), TrainError> {
        if let (Some(sync), Some(reference)) = (self.options.reference_sync, &mut self.reference)
            && step.is_multiple_of(sync.steps)
        {
            reference.mix(&self.decoder, sync.share)?;
        }
        Ok(())
    }

    /// Refuses a model that has a trained weight which is not finite: such a model must not replace one that is.
    pub(crate) fn check_finite(&self, step: u64) -> Result<(), TrainError> {
        for (_, var) in self.decoder.trainable() {
            // NaN and infinity both make the sum of absolute values not finite; so does an overflow, which is as bad.
            let sum = var.to_dtype(DType::F32)?.abs()?.sum_all()?.to_scalar::<f32>()?;
            if !sum.is_finite() {
                return Err(TrainError::NotFinite { step, what: "a weight", value: f64::from(sum) });
            }
        }
        Ok(())
    }

    /// One optimizer step, number `step` from 0, over all its rows.
    ///
    /// # Errors
    /// When the model or the loss refuses a row, or loss or gradient is not finite; nothing is updated then. A gradient
    /// that is not finite because the loss scale was too large is no error: the step is skipped and the scale halved.
    pub fn step(&mut self, rows: &[StepRow<'_>], step: u64, learning_rate: f64) -> Result<StepOutcome, TrainError> {
        self.gradients.clear();
        let length = |side: &Option<TokenizedCompletion>| side.as_ref().map(TokenizedCompletion::len);
        let grouped = rows.iter().flat_map(|row| &row.row.group).map(|scored| scored.completion.len());
        let totals = Totals::of_lengths(rows.iter().map(|row| (length(&row.row.chosen), length(&row.row.rejected))))
            .with_groups(grouped);
        let tokens: Vec<usize> = rows.iter().map(|row| packed_tokens(row.row, self.pooling())).collect();
        let context = Context { rows, step, totals, tokens: &tokens };
        let mut balance = 0.0;
        let mut whole: Option<Evaluation> = None;
        let mut order: Vec<usize> = Vec::with_capacity(rows.len());
        let mut packs_before = 0;
        for unit in units(&self.objective, &tokens, self.options.micro_batch, self.options.max_tokens) {
            let evaluation = match self.objective.distance(step, self.options.steps) {
                Some((distance, weight)) => {
                    self.distil(&context, &unit, packs_before, distance, weight, &mut balance)?
                }
                None => self.unit(&context, &unit, packs_before, &mut balance)?,
            };
            packs_before += unit.packs.len() as u64;
            order.extend(unit.rows());
            match &mut whole {
                Some(whole) => whole.merge(evaluation),
                None => whole = Some(evaluation),
            }
        }
        let Some(mut evaluation) = whole else {
            return Err(TrainError::Batch { step: step + 1, source: BatchError::Empty });
        };
        evaluation.pairs = in_order(evaluation.pairs, &order);
        if !evaluation.value.is_finite() {
            return Err(TrainError::NotFinite { step: step + 1, what: "the loss", value: evaluation.value });
        }
        if let Some(embedding) = self.decoder.embedding_var().filter(|_| !self.decoder.trained_tokens().is_empty()) {
            self.gradients.keep_rows(&embedding, self.decoder.trained_tokens())?;
        }
        self.decoder.fill_idle_experts(&mut self.gradients);
        let loss_scale = self.loss_scale.map(|scale| scale.factor());
        let factor = loss_scale.unwrap_or(1.0);
        let grad_norm = match self.optimizer.step_scaled(&self.gradients, learning_rate, factor) {
            Ok(StepReport { grad_norm, .. }) => {
                if let Some(scale) = &mut self.loss_scale {
                    scale.count_finite_step();
                }
                grad_norm
            }
            Err(KernelError::NonFiniteGradient { norm, .. }) => {
                if !self.loss_scale.as_mut().is_some_and(LossScale::back_off) {
                    return Err(TrainError::NotFinite { step: step + 1, what: "the gradient norm", value: norm });
                }
                norm
            }
            Err(other) => return Err(other.into()),
        };
        let balance = self.balances().then_some(balance);
        Ok(StepOutcome { evaluation, grad_norm, loss_scale, balance })
    }

    /// Forward pass, weights, backward pass of rows that are evaluated together. One pack at a time is in memory: where
    /// there are several, all log-probs come first, and each pack is scored again for its backward pass. Load-balancing
    /// losses are added to `balance`.
    fn unit(
        &mut self,
        context: &Context<'_>,
        unit: &Unit,
        packs_before: u64,
        balance: &mut f64,
    ) -> Result<Evaluation, TrainError> {
        let of = |pack: &[usize]| -> Vec<&Row> { pack.iter().map(|&row| context.rows[row].row).collect() };
        let rows = unit.rows();
        // A second handle on the same memory: the tape borrows it while the rest of the learner evaluates.
        let decoder = self.decoder.clone();
        if let [only] = &unit.packs[..] {
            let packed = pack(&of(only), self.pooling())?;
            let entropy = row_entropy(self.objective.needs_entropy());
            let options = ScoreOptions { entropy, ..self.score_options(context.step, packs_before) };
            let scored = decoder.score(&packed, &options)?;
            let logps = row_logps_of(&of(only), &packed, &scored)?;
            let evaluation = self.evaluate(context, unit, &rows, &logps)?;
            *balance += self.weigh_balance(&scored, context.share(only));
            scored.backward(&self.weights(&evaluation.pairs), &mut self.gradients)?;
            return Ok(evaluation);
        }
        let frozen = decoder.frozen();
        let mut logps = Vec::with_capacity(rows.len());
        for (number, members) in (packs_before..).zip(&unit.packs) {
            let packed = pack(&of(members), self.pooling())?;
            // No backward pass follows, so no inputs of blocks are kept for one.
            let entropy = row_entropy(self.objective.needs_entropy());
            let options = ScoreOptions {
                checkpointing: false,
                balance: false,
                entropy,
                ..self.score_options(context.step, number)
            };
            let scored = frozen.score(&packed, &options)?;
            logps.extend(row_logps_of(&of(members), &packed, &scored)?);
        }
        let logps = in_order(logps, &unit.packs.concat());
        let evaluation = self.evaluate(context, unit, &rows, &logps)?;
        for (number, members) in (packs_before..).zip(&unit.packs) {
            let packed = pack(&of(members), self.pooling())?;
            let scored = decoder.score(&packed, &self.score_options(context.step, number))?;
            *balance += self.weigh_balance(&scored, context.share(members));
            let place = |row: &usize| rows.binary_search(row).ok().and_then(|place| evaluation.pairs.get(place));
            scored.backward(&self.weights(members.iter().filter_map(place)), &mut self.gradients)?;
        }
        Ok(evaluation)
    }

    /// Forward and backward pass of the packs of a unit under student and teacher.
    fn distil(
        &mut self,
        context: &Context<'_>,
        unit: &Unit,
        packs_before: u64,
        distance: Distance,
        weight: f64,
        balance: &mut f64,
    ) -> Result<Evaluation, TrainError> {
        let Some(teacher) = self.reference.clone() else { return Err(TrainError::NoTeacher) };
        let student = self.decoder.clone();
        let pupil = Pupil { student: &student, teacher: &teacher, distance };
        let share = 1.0 / context.totals.chosen_tokens as f64;
        let scale = self.loss_scale.map_or(1.0, |scale| scale.factor());
        let weights = RowWeights { divergence: weight * share * scale, nll: (1.0 - weight) * share * scale };
        let (mut logps, mut sums) = (Vec::new(), Distilled::default());
        for (number, members) in (packs_before..).zip(&unit.packs) {
            let rows: Vec<&Row> = members.iter().map(|&row| context.rows[row].row).collect();
            let packed = pack(&rows, None)?;
            let options = self.score_options(context.step, number);
            let share = context.share(members);
            let of_pack = pupil.learn(&packed, &options, weights, self.balance_factor(share), &mut self.gradients)?;
            *balance += share * of_pack.balance;
            logps.extend(split(&rows, &packed, &of_pack.logps, &[]));
            sums.merge(of_pack);
        }
        let logps = in_order(logps, &unit.packs.concat());
        let mut evaluation = self.evaluate(context, unit, &unit.rows(), &logps)?;
        sums.add_to(&mut evaluation, weight * share);
        Ok(evaluation)
    }

    /// Scores rows under student and teacher, where the objective compares them; `None` where it does not.
    pub(crate) fn distilled(&self, rows: &[&Row]) -> Result<Option<(Vec<RowLogps>, Distilled, f64)>, TrainError> {
        let Some((distance, weight)) = self.objective.distance(0, None) else { return Ok(None) };
        let Some(teacher) = &self.reference else { return Err(TrainError::NoTeacher) };
        let (logps, sums) =
            score_rows_of(&Pupil { student: &self.decoder, teacher, distance }, rows, self.max_tokens())?;
        Ok(Some((logps, sums, weight)))
    }

    /// The objective on some of a step's rows, with their log-probs.
    fn evaluate(
        &mut self,
        context: &Context<'_>,
        unit: &Unit,
        rows: &[usize],
        logps: &[RowLogps],
    ) -> Result<Evaluation, TrainError> {
        let Context { step, totals, .. } = *context;
        let rows: Vec<&StepRow<'_>> = rows.iter().map(|&row| &context.rows[row]).collect();
        if self.pooling.is_some() {
            let pooled: Vec<PooledRow<'_>> = rows.iter().zip(logps).map(|(row, values)| row.pooled(values)).collect();
            let batch =
                Batch { pooled: &pooled, step, steps: self.options.steps, totals: Some(totals), ..Batch::default() };
            return self.objective.evaluate(&batch, &mut self.winsor).map_err(in_step(step + 1));
        }
        let mismatched = self.mismatched(&rows)?;
        let mismatched: Vec<Completion<'_>> = mismatched.iter().map(Mismatched::completion).collect();
        let groups: Vec<Vec<Member<'_>>> = rows.iter().zip(logps).map(|(row, logps)| row.members(logps)).collect();
        let pairs = rows.iter().zip(logps).zip(&groups);
        let pairs: Vec<Pair<'_>> = pairs.map(|((row, logps), group)| row.pair(logps, group)).collect();
        let batch = Batch {
            pairs: &pairs,
            microbatches: &unit.microbatches,
            step,
            steps: self.options.steps,
            mismatched: &mismatched,
            totals: Some(totals),
            ..Batch::default()
        };
        self.objective.evaluate(&batch, &mut self.winsor).map_err(in_step(step + 1))
    }

    /// The dropout of a pack depends on seed, step and its place in the step alone, so that a resumed run draws the same
    /// and both passes over one pack drop the same.
    fn score_options(&self, step: u64, pack: u64) -> ScoreOptions<'static> {
        let seed = self.options.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add((step << 20) + pack);
        ScoreOptions {
            checkpointing: self.options.checkpointing,
            dropout_seed: Some(seed),
            balance: self.balances(),
            ..ScoreOptions::default()
        }
    }

    /// True if the load-balancing loss is a part of the objective.
    fn balances(&self) -> bool {
        self.options.balance != 0.0 && self.decoder.spec().experts.is_some()
    }

    /// Makes the load-balancing loss of a pack, a `share` of the step, a part of its backward pass; returns its share of the
    /// step's.
    fn weigh_balance(&self, scored: &Scored<'_>, share: f64) -> f64 {
        scored.weigh_balance(self.balance_factor(share));
        share * scored.balance().unwrap_or(0.0)
    }

    /// Factor of the load-balancing loss of a pack, a `share` of the step, in its backward pass.
    fn balance_factor(&self, share: f64) -> f64 {
        share * self.options.balance * self.loss_scale.map_or(1.0, |scale| scale.factor())
    }

    /// ∂L/∂ℓ of completions in the order of a packed batch, times the loss scale.
    fn weights<'a>(&self, pairs: impl IntoIterator<Item = &'a PairEvaluation>) -> Vec<f32> {
        let factor = self.loss_scale.map_or(1.0, |scale| scale.factor());
        let all = pairs.into_iter().flat_map(PairEvaluation::weights).flatten();
        all.map(|weight| (*weight * factor) as f32).collect()
    }

    /// Scores each prompt with the completion of another, where the objective needs KTO's estimate of the KL divergence.
    pub(crate) fn mismatched(&self, rows: &[&StepRow<'_>]) -> Result<Vec<Mismatched>, TrainError> {
        match &self.reference {
            Some(reference) if self.objective.needs_mismatched() => {
                mismatched(&self.decoder, reference, rows, self.options.max_tokens)
            }
            _ => Ok(Vec::new()),
        }
    }

    /// Maximum tokens of a pack.
    pub(crate) fn max_tokens(&self) -> usize {
        self.options.max_tokens
    }
}

/// The error of a batch in a step, by its number from 1.
fn in_step(step: u64) -> impl Fn(BatchError) -> TrainError {
    move |source| TrainError::Batch { step, source }
}

/// The step that several units are parts of.
struct Context<'a> {
    rows: &'a [StepRow<'a>],
    step: u64,
    totals: Totals,
    /// Tokens of each row.
    tokens: &'a [usize],
}

impl Context<'_> {
    /// Share of the step's tokens in some of its rows.
    fn share(&self, rows: &[usize]) -> f64 {
        let own: usize = rows.iter().map(|row| self.tokens[*row]).sum();
        own as f64 / self.tokens.iter().sum::<usize>().max(1) as f64
    }
}

/// Sorts `values` by the place that each has in `order`.
fn in_order<T>(values: Vec<T>, order: &[usize]) -> Vec<T> {
    let mut placed: Vec<(usize, T)> = order.iter().copied().zip(values).collect();
    placed.sort_by_key(|(place, _)| *place);
    placed.into_iter().map(|(_, value)| value).collect()
}
