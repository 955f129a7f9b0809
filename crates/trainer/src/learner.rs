//! One optimizer step: log-probs forward, the loss as a pure function of them, its weights backward, AdamW.

use candle_core::DType;
use smpo_data::{Row, TokenizedCompletion};
use smpo_kernels::{AdamW, Gradients, KernelError, Parameter, Part, StepReport};
use smpo_losses::{BatchError, Evaluation, LossState, Objective, Totals};
use smpo_model::{Decoder, WeightDtype};

use crate::dealing::PackScores;
use crate::distillation::{Pupil, score_rows_of};
use crate::error::TrainError;
use crate::gradient_sums::GradientSums;
use crate::learner_options::LearnerOptions;
use crate::loss_scale::LossScale;
use crate::mismatched::{Mismatched, mismatched};
use crate::moments::AllMoments;
use crate::packing::{Unit, units};
use crate::passes::{Context, in_order};
use crate::pooling::Pooling;
use crate::ranks::Ranks;
use crate::scoring::{RowLogps, Scorer, StepRow, packed_tokens};
use crate::zero::Owners;

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
    ranks: Ranks,
    /// Of the moments, where each rank keeps a part of them.
    owners: Option<Owners>,
    /// Of those whose weights are whole on every rank: what their owner has updated goes to all.
    spread: Option<Owners>,
    /// Of gradients over ranks; `None` for one process alone.
    sums: Option<GradientSums>,
}

impl Learner {
    /// A model under an objective, before its first step.
    ///
    /// # Errors
    /// When a range of the optimizer is wrong, or nothing is trainable.
    pub fn new(decoder: Decoder, objective: Objective, options: LearnerOptions) -> Result<Self, TrainError> {
        Self::on_ranks(decoder, objective, options, Ranks::default())
    }

    /// As [`Learner::new`], on one of several ranks that share each step, which have the same model, objective and options.
    ///
    /// # Errors
    /// As for [`Learner::new`].
    pub fn on_ranks(
        decoder: Decoder,
        objective: Objective,
        options: LearnerOptions,
        ranks: Ranks,
    ) -> Result<Self, TrainError> {
        let embedding = decoder.embedding_var();
        let rows_only = decoder.embedding_var().filter(|_| !decoder.trained_tokens().is_empty());
        let parameters: Vec<Parameter> = decoder
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
        let in_parts: Vec<_> = parameters.iter().map(|parameter| decoder.trained_part(&parameter.var)).collect();
        let whole = parameters.iter().zip(&in_parts);
        let sizes: Vec<usize> =
            whole.map(|(parameter, part)| if part.is_some() { 0 } else { parameter.var.elem_count() }).collect();
        let spread = (options.shards_moments && !ranks.alone()).then(|| Owners::deal(&sizes, &ranks));
        let sums = || GradientSums::new(&sizes, &decoder.gradient_marks(), spread.as_ref(), &ranks);
        let sums = (!ranks.alone()).then(sums);
        let ranges = in_parts.iter().map(|part| part.as_ref().map_or(&[][..], |(ranges, _)| &ranges[..]));
        let owners = spread.as_ref().map(|spread| spread.with(ranges));
        let optimizer = match &owners {
            Some(owners) => {
                let apart = |part: &Part| in_parts[part.parameter].as_ref().map(|(_, values)| values.clone());
                let own = owners.of(ranks.rank()).iter().map(|part| (part.clone(), apart(part)));
                AdamW::of_parts(parameters, options.adamw, own.collect())?
            }
            None => AdamW::new(parameters, options.adamw)?,
        };
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
            ranks,
            owners,
            spread,
            sums,
        })
    }

    /// The ranks that share each step.
    pub(crate) fn ranks(&self) -> &Ranks {
        &self.ranks
    }

    /// Constants of the run.
    pub(crate) fn options(&self) -> &LearnerOptions {
        &self.options
    }

    pub(crate) fn gradients_mut(&mut self) -> &mut Gradients {
        &mut self.gradients
    }

    /// The model that a student learns from.
    pub(crate) fn teacher(&self) -> Option<Decoder> {
        self.reference.clone()
    }

    /// Forward passes over rows.
    pub(crate) fn scorer(&self) -> Scorer<'_> {
        Scorer::new(self.options.max_tokens, &self.ranks)
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
            Some(reference) => self.scorer().score(reference, rows),
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
        for (name, var) in self.decoder.trainable() {
            self.decoder.fetch_of(&name)?;
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
        // Also those that a step has left which failed.
        self.decoder.take_gradients(&mut self.gradients);
        self.gradients.clear();
        let length = |side: &Option<TokenizedCompletion>| side.as_ref().map(TokenizedCompletion::len);
        let grouped = rows.iter().flat_map(|row| &row.row.group).map(|scored| scored.completion.len());
        let totals = Totals::of_lengths(rows.iter().map(|row| (length(&row.row.chosen), length(&row.row.rejected))))
            .with_groups(grouped);
        let tokens: Vec<usize> = rows.iter().map(|row| packed_tokens(row.row, self.pooling())).collect();
        let context = Context { rows, step, totals, tokens: &tokens };
        // Packs choose the masks of dropout, so they are then the same for any number of ranks.
        let most = self.options.max_tokens;
        let drops = self.decoder.lora().is_some_and(|lora| lora.dropout > 0.0);
        let most = if drops { most } else { self.ranks.pack_bound(&tokens, most) };
        let units = units(&self.objective, &tokens, self.options.micro_batch, most);
        let (evaluations, balance) = self.evaluations(&context, &units)?;
        let order: Vec<usize> = units.iter().flat_map(Unit::rows).collect();
        let Some(mut evaluation) = evaluations.into_iter().reduce(|mut whole, unit| {
            whole.merge(unit);
            whole
        }) else {
            return Err(TrainError::Batch { step: step + 1, source: BatchError::Empty });
        };
        evaluation.pairs = in_order(evaluation.pairs, &order);
        if !evaluation.value.is_finite() {
            return Err(TrainError::NotFinite { step: step + 1, what: "the loss", value: evaluation.value });
        }
        if let Some(embedding) = self.decoder.embedding_var().filter(|_| !self.decoder.trained_tokens().is_empty()) {
            self.gradients.keep_rows(&embedding, self.decoder.trained_tokens())?;
        }
        self.decoder.take_gradients(&mut self.gradients);
        self.decoder.fill_idle_experts(&mut self.gradients);
        let loss_scale = self.loss_scale.map(|scale| scale.factor());
        let factor = loss_scale.unwrap_or(1.0);
        let grad_norm = match self.update(learning_rate, factor) {
            Ok(StepReport { grad_norm, .. }) => {
                if let Some(scale) = &mut self.loss_scale {
                    scale.count_finite_step();
                }
                grad_norm
            }
            Err(TrainError::Kernel(KernelError::NonFiniteGradient { norm, .. })) => {
                if !self.loss_scale.as_mut().is_some_and(LossScale::back_off) {
                    return Err(TrainError::NotFinite { step: step + 1, what: "the gradient norm", value: norm });
                }
                norm
            }
            Err(other) => return Err(other),
        };
        let balance = self.balances().then_some(balance);
        Ok(StepOutcome { evaluation, grad_norm, loss_scale, balance })
    }

    /// AdamW's update, of own parts where each rank has some: the weights of the others come from those.
    fn update(&mut self, learning_rate: f64, factor: f64) -> Result<StepReport, TrainError> {
        let Self { decoder, optimizer, gradients, ranks, spread, .. } = self;
        let Some(spread) = spread else { return Ok(optimizer.step_scaled(gradients, learning_rate, factor)?) };
        let squares = ranks.total(optimizer.squares(gradients).map_err(TrainError::from))?;
        let updated = optimizer.step_of_parts(gradients, learning_rate, factor, &squares);
        let report = ranks.agree(updated.map_err(TrainError::from))?;
        spread.spread(optimizer, ranks)?;
        decoder.forget_block()?;
        Ok(report)
    }

    /// The moments of all ranks.
    pub(crate) fn moments(&self) -> AllMoments<'_> {
        AllMoments { optimizer: &self.optimizer, owners: self.owners.as_ref(), ranks: &self.ranks }
    }

    /// Begins the sums of a step's gradients over ranks; the backward pass of pack `last` is this rank's last.
    pub(crate) fn begin_sums(&mut self, last: Option<usize>) -> Result<(), TrainError> {
        self.sums.as_ref().map_or(Ok(()), |sums| sums.begin(last))
    }

    /// Has the backward pass of pack `number`, if it is the last, start the sums of the gradients that it finishes.
    pub(crate) fn sum_behind(&mut self, number: usize) {
        if let Some(sums) = &self.sums {
            sums.watch(number, &mut self.gradients);
        }
    }

    /// Starts the sums that no backward pass has started.
    pub(crate) fn start_sums(&mut self) {
        if let Some(sums) = &self.sums {
            sums.start_rest(&mut self.gradients);
        }
    }

    /// Waits until the gradients are those of all ranks.
    pub(crate) fn finish_sums(&mut self) -> Result<(), TrainError> {
        match &self.sums {
            Some(sums) => sums.finish(&mut self.gradients),
            None => Ok(()),
        }
    }

    /// Scores rows under student and teacher, where the objective compares them; `None` where it does not.
    pub(crate) fn distilled(&self, rows: &[&Row]) -> Result<Option<(Vec<RowLogps>, PackScores, f64)>, TrainError> {
        let Some((distance, weight)) = self.objective.distance(0, None) else { return Ok(None) };
        let Some(teacher) = &self.reference else { return Err(TrainError::NoTeacher) };
        let (logps, sums) = score_rows_of(&Pupil { student: &self.decoder, teacher, distance }, rows, &self.scorer())?;
        Ok(Some((logps, sums, weight)))
    }

    /// True if the load-balancing loss is a part of the objective.
    pub(crate) fn balances(&self) -> bool {
        self.options.balance != 0.0 && self.decoder.spec().experts.is_some()
    }

    /// Scores each prompt with the completion of another, where the objective needs KTO's estimate of the KL divergence.
    pub(crate) fn mismatched(&self, rows: &[&StepRow<'_>]) -> Result<Vec<Mismatched>, TrainError> {
        match &self.reference {
            Some(reference) if self.objective.needs_mismatched() => {
                mismatched(&self.decoder, reference, rows, &self.scorer())
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
pub(crate) fn in_step(step: u64) -> impl Fn(BatchError) -> TrainError {
    move |source| TrainError::Batch { step, source }
}
