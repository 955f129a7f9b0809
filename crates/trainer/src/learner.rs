//! One optimizer step: log-probs forward, the loss as a pure function of them, its weights backward, AdamW.

use candle_core::DType;
use smpo_kernels::{AdamW, AdamWOptions, Gradients, KernelError, Parameter, StepReport};
use smpo_losses::{Batch, Completion, Evaluation, Objective, Pair, PairEvaluation, Totals, WinsorState};
use smpo_model::{Decoder, ScoreOptions, WeightDtype};

use crate::config::TrainConfig;
use crate::error::TrainError;
use crate::loss_scale::LossScale;
use crate::memory;
use crate::packing::{Unit, units};
use crate::row::Row;
use crate::scoring::{Mismatched, RowLogps, TerminatorFlags, mismatched, pack, row_logps_of};

/// A row with what the reference model says about it, where the objective asks.
#[derive(Debug, Clone, Copy)]
pub struct StepRow<'a> {
    /// Tokens.
    pub row: &'a Row,
    /// Under the reference.
    pub reference: Option<&'a RowLogps>,
}

/// What a step did.
#[derive(Debug, Clone, PartialEq)]
pub struct StepOutcome {
    /// The objective on the step's rows, before the update.
    pub evaluation: Evaluation,
    /// Global gradient norm before clipping; not finite where the loss scale was too large.
    pub grad_norm: f64,
    /// What the loss was multiplied by, in float16.
    pub loss_scale: Option<f64>,
}

/// A model with its objective and optimizer.
pub struct Learner {
    decoder: Decoder,
    objective: Objective,
    optimizer: AdamW,
    gradients: Gradients,
    winsor: WinsorState,
    /// In float16.
    loss_scale: Option<LossScale>,
    /// Rows of a micro-batch of the configuration, over which an objective may take quantiles.
    micro_batch: usize,
    max_tokens: usize,
    checkpointing: bool,
    /// Seeds the adapters' dropout, together with the step.
    seed: u64,
    /// Kept only for objectives that score completions the data does not pair with their prompt (KTO's KL baseline).
    reference: Option<Decoder>,
}

impl Learner {
    /// Puts a model under an objective. `is_terminator` tells which ids end a turn.
    ///
    /// # Errors
    /// When a range of the loss or the optimizer is wrong, or nothing is trainable.
    pub fn new(decoder: Decoder, objective: Objective, config: &TrainConfig) -> Result<Self, TrainError> {
        let parameters = decoder
            .trainable()
            .into_iter()
            .map(|(name, var)| {
                // Norms and biases are vectors; decay is for matrices (Loshchilov and Hutter, arXiv 1711.05101, in
                // the form transformers uses).
                let decay = var.dims().len() > 1;
                Parameter { name, var, decay }
            })
            .collect();
        let options = AdamWOptions {
            beta1: config.adam_beta1,
            beta2: config.adam_beta2,
            eps: config.adam_epsilon,
            weight_decay: config.weight_decay,
            max_grad_norm: (config.max_grad_norm > 0.0).then_some(config.max_grad_norm),
        };
        let loss_scale = (decoder.placement().dtype == WeightDtype::F16).then(LossScale::default);
        let max_tokens = memory::max_tokens(config, decoder.spec())?;
        let optimizer = AdamW::new(parameters, options)?;
        let gradients = optimizer.gradients()?;
        Ok(Learner {
            decoder,
            objective,
            optimizer,
            gradients,
            winsor: WinsorState::default(),
            loss_scale,
            micro_batch: config.per_device_train_batch_size,
            max_tokens,
            checkpointing: config.gradient_checkpointing,
            seed: config.seed,
            reference: None,
        })
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

    /// The optimizer, to put a checkpoint back.
    pub(crate) fn optimizer_mut(&mut self) -> &mut AdamW {
        &mut self.optimizer
    }

    /// The memory of a windowed winsor scope, for checkpoints.
    pub fn winsor(&self) -> &WinsorState {
        &self.winsor
    }

    pub(crate) fn set_winsor(&mut self, winsor: WinsorState) {
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

    /// One optimizer step, number `step` from 0 of `steps`, over all its rows; the objective's schedules are evaluated
    /// there, or at their end when `steps` is absent.
    ///
    /// # Errors
    /// When the model or the loss refuses a row, or loss or gradient is not finite; nothing is updated then. A gradient
    /// that is not finite because the loss scale was too large is no error: the step is skipped and the scale halved.
    pub fn step(
        &mut self,
        rows: &[StepRow<'_>],
        is_terminator: &(dyn Fn(u32) -> bool + Sync),
        step: u64,
        steps: Option<u64>,
        learning_rate: f64,
    ) -> Result<StepOutcome, TrainError> {
        self.gradients.clear();
        let tokens = |side: &Option<Vec<u32>>| side.as_ref().map(Vec::len);
        let totals = Totals::of_lengths(rows.iter().map(|row| (tokens(&row.row.chosen), tokens(&row.row.rejected))));
        let context = Context { rows, is_terminator, step, steps, totals };
        let tokens: Vec<usize> = rows.iter().map(|row| row.row.packed_tokens()).collect();
        let mut whole: Option<Evaluation> = None;
        let mut order: Vec<usize> = Vec::with_capacity(rows.len());
        let mut packs_before = 0;
        for unit in units(&self.objective, &tokens, self.micro_batch, self.max_tokens) {
            let evaluation = self.unit(&context, &unit, packs_before)?;
            packs_before += unit.packs.len() as u64;
            order.extend(unit.rows());
            match &mut whole {
                Some(whole) => whole.merge(evaluation),
                None => whole = Some(evaluation),
            }
        }
        let Some(mut evaluation) = whole else {
            return Err(TrainError::Batch { step: step + 1, source: smpo_losses::BatchError::Empty });
        };
        evaluation.pairs = in_order(evaluation.pairs, &order);
        if !evaluation.value.is_finite() {
            return Err(TrainError::NotFinite { step: step + 1, what: "the loss", value: evaluation.value });
        }
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
        Ok(StepOutcome { evaluation, grad_norm, loss_scale })
    }

    /// Forward, weights, backward for rows that are evaluated together. One pack at a time is in memory: where there
    /// are several, all log-probs come first, and each pack goes forward again for its way back.
    fn unit(&mut self, context: &Context<'_>, unit: &Unit, packs_before: u64) -> Result<Evaluation, TrainError> {
        let of = |pack: &[usize]| -> Vec<&Row> { pack.iter().map(|&row| context.rows[row].row).collect() };
        let rows = unit.rows();
        // A second handle on the same memory: the tape borrows it while the rest of the learner evaluates.
        let decoder = self.decoder.clone();
        if let [only] = &unit.packs[..] {
            let packed = pack(&of(only))?;
            let scored = decoder.score(&packed, &self.score_options(context.step, packs_before))?;
            let logps = row_logps_of(&of(only), &packed, &scored.log_probs().to_vec1()?);
            let evaluation = self.evaluate(context, unit, &rows, &logps)?;
            scored.backward(&self.weights(&evaluation.pairs), &mut self.gradients)?;
            return Ok(evaluation);
        }
        let frozen = decoder.frozen();
        let mut logps = Vec::with_capacity(rows.len());
        for (number, members) in (packs_before..).zip(&unit.packs) {
            let packed = pack(&of(members))?;
            // No way back is taken from here, so no inputs of blocks are kept for one.
            let options = ScoreOptions { checkpointing: false, ..self.score_options(context.step, number) };
            let scored = frozen.score(&packed, &options)?;
            logps.extend(row_logps_of(&of(members), &packed, &scored.log_probs().to_vec1()?));
        }
        let logps = in_order(logps, &unit.packs.concat());
        let evaluation = self.evaluate(context, unit, &rows, &logps)?;
        for (number, members) in (packs_before..).zip(&unit.packs) {
            let packed = pack(&of(members))?;
            let scored = decoder.score(&packed, &self.score_options(context.step, number))?;
            let place = |row: &usize| rows.binary_search(row).ok().and_then(|place| evaluation.pairs.get(place));
            scored.backward(&self.weights(members.iter().filter_map(place)), &mut self.gradients)?;
        }
        Ok(evaluation)
    }

    /// The objective on some of a step's rows, with their log-probs.
    fn evaluate(
        &mut self,
        context: &Context<'_>,
        unit: &Unit,
        rows: &[usize],
        logps: &[RowLogps],
    ) -> Result<Evaluation, TrainError> {
        let Context { is_terminator, step, steps, totals, .. } = *context;
        let rows: Vec<&StepRow<'_>> = rows.iter().map(|&row| &context.rows[row]).collect();
        let mismatched = self.mismatched(&rows, is_terminator)?;
        let mismatched: Vec<Completion<'_>> = mismatched.iter().map(Mismatched::completion).collect();
        let flags: Vec<TerminatorFlags> = rows.iter().map(|row| TerminatorFlags::new(row.row, is_terminator)).collect();
        let pairs: Vec<Pair<'_>> =
            rows.iter().zip(logps).zip(&flags).map(|((row, logps), flags)| flags.pair(logps, row.reference)).collect();
        let batch = Batch {
            pairs: &pairs,
            microbatches: &unit.microbatches,
            step,
            steps,
            mismatched: &mismatched,
            totals: Some(totals),
        };
        self.objective.evaluate(&batch, &mut self.winsor).map_err(|source| TrainError::Batch { step: step + 1, source })
    }

    /// The dropout of a pack depends on seed, step and its place in the step alone, so that a resumed run draws the same
    /// and both passes over one pack drop the same.
    fn score_options(&self, step: u64, pack: u64) -> ScoreOptions<'static> {
        let seed = self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add((step << 20) + pack);
        ScoreOptions { checkpointing: self.checkpointing, dropout_seed: Some(seed), ..ScoreOptions::default() }
    }

    /// ∂L/∂ℓ of completions in the order of a packed batch, times the loss scale.
    fn weights<'a>(&self, pairs: impl IntoIterator<Item = &'a PairEvaluation>) -> Vec<f32> {
        let factor = self.loss_scale.map_or(1.0, |scale| scale.factor());
        let both = pairs.into_iter().flat_map(|pair| pair.chosen_weights.iter().chain(&pair.rejected_weights));
        both.map(|weight| (*weight * factor) as f32).collect()
    }

    /// Each prompt with the completion of the next row, where the objective asks: KTO's estimate of the KL divergence.
    pub(crate) fn mismatched(
        &self,
        rows: &[&StepRow<'_>],
        is_terminator: &(dyn Fn(u32) -> bool + Sync),
    ) -> Result<Vec<Mismatched>, TrainError> {
        match &self.reference {
            Some(reference) if self.objective.needs_mismatched() => {
                mismatched(&self.decoder, reference, rows, is_terminator, self.max_tokens)
            }
            _ => Ok(Vec::new()),
        }
    }

    /// Tokens of a pack at most.
    pub(crate) fn max_tokens(&self) -> usize {
        self.max_tokens
    }
}

/// What the evaluation of a step's parts has in common.
struct Context<'a> {
    rows: &'a [StepRow<'a>],
    is_terminator: &'a (dyn Fn(u32) -> bool + Sync),
    step: u64,
    steps: Option<u64>,
    totals: Totals,
}

/// Sorts `values` by the place that each has in `order`.
fn in_order<T>(values: Vec<T>, order: &[usize]) -> Vec<T> {
    let mut placed: Vec<(usize, T)> = order.iter().copied().zip(values).collect();
    placed.sort_by_key(|(place, _)| *place);
    placed.into_iter().map(|(_, value)| value).collect()
}
