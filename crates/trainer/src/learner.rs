//! One optimizer step: log-probs forward, the loss as a pure function of them, its weights backward, AdamW.

use candle_core::DType;
use smpo_kernels::{AdamW, AdamWOptions, Gradients, KernelError, Parameter, StepReport};
use smpo_losses::{Batch, Completion, Evaluation, Objective, Pair, PairEvaluation, Totals, WinsorState};
use smpo_model::{Decoder, Element, PackedBatch, ScoreOptions};

use crate::config::TrainConfig;
use crate::error::TrainError;
use crate::loss_scale::LossScale;
use crate::row::Row;

/// Log-probs of a row's completions, in nats, one per token.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RowLogps {
    /// Of the chosen side.
    pub chosen: Option<Vec<f64>>,
    /// Of the rejected side.
    pub rejected: Option<Vec<f64>>,
}

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
    micro_batch: usize,
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
        let loss_scale = (decoder.placement().element == Element::F16).then(LossScale::default);
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

    /// One optimizer step, number `step` from 0, over all its rows; `margin` is γ of this step.
    ///
    /// # Errors
    /// When the model or the loss refuses a row, or loss or gradient is not finite; nothing is updated then. A gradient
    /// that is not finite because the loss scale was too large is no error: the step is skipped and the scale halved.
    pub fn step(
        &mut self,
        rows: &[StepRow<'_>],
        is_terminator: &(dyn Fn(u32) -> bool + Sync),
        step: u64,
        margin: Option<f64>,
        learning_rate: f64,
    ) -> Result<StepOutcome, TrainError> {
        self.gradients.clear();
        let batches: Vec<&[StepRow<'_>]> = rows.chunks(self.micro_batch).collect();
        let evaluation = if batches.len() > 1 && self.objective.needs_whole_step() {
            self.forward_twice(&batches, is_terminator, step, margin)?
        } else {
            self.forward_once(&batches, is_terminator, step, margin)?
        };
        if !evaluation.value.is_finite() {
            return Err(TrainError::NotFinite { step: step + 1, what: "the loss", value: evaluation.value });
        }
        let loss_scale = self.loss_scale.map(|scale| scale.factor());
        let factor = loss_scale.unwrap_or(1.0);
        let grad_norm = match self.optimizer.step_scaled(&self.gradients, learning_rate, factor) {
            Ok(StepReport { grad_norm, .. }) => {
                self.loss_scale.iter_mut().for_each(LossScale::good);
                grad_norm
            }
            Err(KernelError::NonFiniteGradient { norm, .. }) => {
                if !self.loss_scale.as_mut().is_some_and(LossScale::overflowed) {
                    return Err(TrainError::NotFinite { step: step + 1, what: "the gradient norm", value: norm });
                }
                norm
            }
            Err(other) => return Err(other.into()),
        };
        Ok(StepOutcome { evaluation, grad_norm, loss_scale })
    }

    /// Each micro-batch forward and backward at once: one is in memory at a time.
    fn forward_once(
        &mut self,
        batches: &[&[StepRow<'_>]],
        is_terminator: &(dyn Fn(u32) -> bool + Sync),
        step: u64,
        margin: Option<f64>,
    ) -> Result<Evaluation, TrainError> {
        let totals = totals(batches.iter().copied().flatten());
        let mut whole: Option<Evaluation> = None;
        for (index, rows) in batches.iter().enumerate() {
            let packed = pack(rows)?;
            // A second handle on the same memory: the tape borrows it while the rest of the learner evaluates.
            let decoder = self.decoder.clone();
            let scored = decoder.score(&packed, &self.score_options(step, index))?;
            let read = Readings::new(rows, &packed, &scored.log_probs().to_vec1::<f32>()?, is_terminator);
            let evaluation = self.evaluate(&[rows], &read, is_terminator, step, margin, Some(totals))?;
            scored.backward(&self.weights(&evaluation.pairs), &mut self.gradients)?;
            match &mut whole {
                Some(whole) => whole.merge(evaluation),
                None => whole = Some(evaluation),
            }
        }
        whole.ok_or(TrainError::Batch { step: step + 1, source: smpo_losses::BatchError::Empty })
    }

    /// All log-probs first, then the weights, then each micro-batch again with its graph: for objectives in which
    /// every token's weight depends on all rows of the step.
    fn forward_twice(
        &mut self,
        batches: &[&[StepRow<'_>]],
        is_terminator: &(dyn Fn(u32) -> bool + Sync),
        step: u64,
        margin: Option<f64>,
    ) -> Result<Evaluation, TrainError> {
        let mut read = Readings::default();
        let frozen = self.decoder.frozen();
        for (index, rows) in batches.iter().enumerate() {
            let packed = pack(rows)?;
            // No way back is taken from here, so no inputs of blocks are kept for one.
            let options = ScoreOptions { checkpointing: false, ..self.score_options(step, index) };
            let scored = frozen.score(&packed, &options)?;
            let logps = scored.log_probs().to_vec1::<f32>()?;
            read.extend(Readings::new(rows, &packed, &logps, is_terminator));
        }
        let evaluation = self.evaluate(batches, &read, is_terminator, step, margin, None)?;
        let mut pairs = evaluation.pairs.as_slice();
        for (index, rows) in batches.iter().enumerate() {
            let (mine, rest) = pairs.split_at(rows.len());
            pairs = rest;
            let packed = pack(rows)?;
            let scored = self.decoder.score(&packed, &self.score_options(step, index))?;
            scored.backward(&self.weights(mine), &mut self.gradients)?;
        }
        Ok(evaluation)
    }

    fn evaluate(
        &mut self,
        batches: &[&[StepRow<'_>]],
        read: &Readings,
        is_terminator: &(dyn Fn(u32) -> bool + Sync),
        step: u64,
        margin: Option<f64>,
        totals: Option<Totals>,
    ) -> Result<Evaluation, TrainError> {
        let rows: Vec<&StepRow<'_>> = batches.iter().copied().flatten().collect();
        let mismatched = self.mismatched(&rows, is_terminator)?;
        let mismatched: Vec<Completion<'_>> = mismatched.iter().map(Mismatched::completion).collect();
        let pairs: Vec<Pair<'_>> = rows.iter().zip(&read.rows).map(|(row, reading)| reading.pair(row)).collect();
        let sizes: Vec<usize> = batches.iter().map(|rows| rows.len()).collect();
        let batch =
            Batch { pairs: &pairs, microbatches: &sizes, target_margin: margin, step, mismatched: &mismatched, totals };
        self.objective.evaluate(&batch, &mut self.winsor).map_err(|source| TrainError::Batch { step: step + 1, source })
    }

    /// The dropout of a micro-batch depends on seed, step and its place in the step alone, so that a resumed run draws
    /// the same and both passes over one micro-batch drop the same.
    fn score_options(&self, step: u64, index: usize) -> ScoreOptions<'static> {
        let seed = self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add((step << 20) + index as u64);
        ScoreOptions { checkpointing: self.checkpointing, dropout_seed: Some(seed), ..ScoreOptions::default() }
    }

    /// ∂L/∂ℓ of every row's completions, in the order of the packed batch, times the loss scale.
    fn weights(&self, pairs: &[PairEvaluation]) -> Vec<f32> {
        let factor = self.loss_scale.map_or(1.0, |scale| scale.factor());
        let both = pairs.iter().flat_map(|pair| pair.chosen_weights.iter().chain(&pair.rejected_weights));
        both.map(|weight| (*weight * factor) as f32).collect()
    }

    /// Each prompt with the completion of the next row: KTO's estimate of the KL divergence.
    pub(crate) fn mismatched(
        &self,
        rows: &[&StepRow<'_>],
        is_terminator: &(dyn Fn(u32) -> bool + Sync),
    ) -> Result<Vec<Mismatched>, TrainError> {
        if !self.objective.needs_mismatched() {
            return Ok(Vec::new());
        }
        let Some(reference) = &self.reference else { return Ok(Vec::new()) };
        let completions = rows.iter().map(|row| row.row.completions().next().unwrap_or_default());
        let shifted = completions.clone().cycle().skip(1);
        let sequences: Vec<(&[u32], &[u32])> = rows.iter().map(|row| row.row.prompt.as_slice()).zip(shifted).collect();
        let policy_model = self.decoder.frozen();
        let mut found = Vec::with_capacity(sequences.len());
        for chunk in sequences.chunks(self.micro_batch) {
            let packed = PackedBatch::from_sequences(chunk.iter().copied())?;
            let policy = to_f64(&policy_model.log_probs(&packed)?.to_vec1::<f32>()?);
            let reference = to_f64(&reference.log_probs(&packed)?.to_vec1::<f32>()?);
            for (range, (_, completion)) in packed.completions().iter().zip(chunk) {
                found.push(Mismatched {
                    logps: policy[range.clone()].to_vec(),
                    ref_logps: reference[range.clone()].to_vec(),
                    is_terminator: completion.iter().map(|id| is_terminator(*id)).collect(),
                });
            }
        }
        Ok(found)
    }
}

/// Log-probs of rows under a model, without keeping a graph: the reference of DPO and KTO, held-out evaluation.
///
/// # Errors
/// When the model refuses a row.
pub fn row_logps(decoder: &Decoder, rows: &[Row], micro_batch: usize) -> Result<Vec<RowLogps>, TrainError> {
    let decoder = decoder.frozen();
    let mut all = Vec::with_capacity(rows.len());
    for chunk in rows.chunks(micro_batch) {
        let step_rows: Vec<StepRow<'_>> = chunk.iter().map(|row| StepRow { row, reference: None }).collect();
        let packed = pack(&step_rows)?;
        let logps = to_f64(&decoder.log_probs(&packed)?.to_vec1::<f32>()?);
        let mut ranges = packed.completions().iter();
        let mut next = |side: &Option<Vec<u32>>| {
            side.as_ref().and_then(|_| ranges.next()).map(|range| logps[range.clone()].to_vec())
        };
        for row in chunk {
            let chosen = next(&row.chosen);
            let rejected = next(&row.rejected);
            all.push(RowLogps { chosen, rejected });
        }
    }
    Ok(all)
}

pub(crate) struct Mismatched {
    logps: Vec<f64>,
    ref_logps: Vec<f64>,
    is_terminator: Vec<bool>,
}

impl Mismatched {
    pub(crate) fn completion(&self) -> Completion<'_> {
        Completion::new(&self.logps, &self.is_terminator).with_reference(&self.ref_logps)
    }
}

/// What the model said about the rows of a step.
#[derive(Default)]
struct Readings {
    rows: Vec<Reading>,
}

struct Reading {
    chosen: Option<(Vec<f64>, Vec<bool>)>,
    rejected: Option<(Vec<f64>, Vec<bool>)>,
}

impl Readings {
    fn new(
        rows: &[StepRow<'_>],
        packed: &PackedBatch,
        logps: &[f32],
        is_terminator: &(dyn Fn(u32) -> bool + Sync),
    ) -> Self {
        let mut ranges = packed.completions().iter();
        let mut next = |side: &Option<Vec<u32>>| {
            let (ids, range) = (side.as_ref()?, ranges.next()?);
            Some((to_f64(&logps[range.clone()]), ids.iter().map(|id| is_terminator(*id)).collect()))
        };
        let rows = rows
            .iter()
            .map(|row| {
                let chosen = next(&row.row.chosen);
                let rejected = next(&row.row.rejected);
                Reading { chosen, rejected }
            })
            .collect();
        Readings { rows }
    }

    fn extend(&mut self, other: Readings) {
        self.rows.extend(other.rows);
    }
}

impl Reading {
    fn pair<'a>(&'a self, row: &StepRow<'a>) -> Pair<'a> {
        fn side<'a>(
            reading: &'a Option<(Vec<f64>, Vec<bool>)>,
            reference: Option<&'a Vec<f64>>,
        ) -> Option<Completion<'a>> {
            let (logps, is_terminator) = reading.as_ref()?;
            Some(Completion { logps, is_terminator, ref_logps: reference.map(Vec::as_slice) })
        }
        Pair {
            chosen: side(&self.chosen, row.reference.and_then(|reference| reference.chosen.as_ref())),
            rejected: side(&self.rejected, row.reference.and_then(|reference| reference.rejected.as_ref())),
        }
    }
}

fn pack(rows: &[StepRow<'_>]) -> Result<PackedBatch, TrainError> {
    let mut builder = PackedBatch::builder();
    for row in rows {
        let completions: Vec<&[u32]> = row.row.completions().collect();
        builder.push_shared(&row.row.prompt, &completions)?;
    }
    Ok(builder.build()?)
}

fn totals<'a>(rows: impl Iterator<Item = &'a StepRow<'a>>) -> Totals {
    let mut totals = Totals::default();
    for StepRow { row, .. } in rows {
        totals.pairs += 1;
        if let Some(chosen) = &row.chosen {
            totals.chosen += 1;
            totals.chosen_tokens += chosen.len();
        }
        if let Some(rejected) = &row.rejected {
            totals.rejected += 1;
            totals.rejected_tokens += rejected.len();
        }
    }
    totals
}

fn to_f64(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}
