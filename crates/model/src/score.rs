//! Log-probabilities of completions, and the way back from their weights to gradients.

use candle_core::{Device, Tensor, Var};
use smpo_kernels::{
    Gradients, SelectedLogProbs, TerminatorStanding, selected_log_probs, selected_log_probs_with_terminators,
    weighted_sum,
};

use crate::batch::PackedBatch;
use crate::block::Stream;
use crate::decoder::{Decoder, Pass, attend_packed};
use crate::error::{ModelError, Result};

/// How to score a batch.
#[derive(Debug, Clone, Copy, Default)]
pub struct ScoreOptions<'a> {
    /// Seeds the dropout of adapters; without one nothing is dropped.
    pub dropout_seed: Option<u64>,
    /// Keep only each block's input, and compute the block again on the way back (arXiv 1604.06174): memory for one
    /// block's activations instead of all, for one more forward pass.
    pub checkpointing: bool,
    /// Tokens whose standing is reported for each row; may be empty.
    pub terminators: &'a [u32],
}

/// A scored batch, from which the way back can be taken once.
#[must_use]
pub struct Scored<'a> {
    log_probs: Tensor,
    terminators: Vec<TerminatorStanding>,
    tape: Tape<'a>,
}

enum Tape<'a> {
    /// candle holds the whole graph.
    Graph,
    /// The input of each block, then that of the last norm.
    Checkpoints { decoder: &'a Decoder, batch: &'a PackedBatch, inputs: Vec<Tensor>, dropout_seed: Option<u64> },
}

impl Decoder {
    /// The log-probability of each completion token given everything before it, in nats, (`M`) in the batch's order.
    ///
    /// The head runs on the `M` rows only, and what follows the last block's attention too: nothing else reaches them.
    /// The result is differentiable; on a [`Decoder::frozen`] model no graph is kept.
    ///
    /// # Errors
    /// When a token id is not below `V`.
    pub fn log_probs(&self, batch: &PackedBatch) -> Result<Tensor> {
        let hidden = self.hidden_rows(batch, Some(batch.rows()), None)?;
        Ok(self.select(&hidden, batch, &ScoreOptions::default())?.log_probs)
    }

    /// As [`Decoder::log_probs`], with dropout, activation checkpointing and the standing of terminators.
    ///
    /// # Errors
    /// When a token id or a terminator is not below `V`.
    pub fn score<'a>(&'a self, batch: &'a PackedBatch, options: &ScoreOptions<'_>) -> Result<Scored<'a>> {
        if !options.checkpointing {
            let hidden = self.hidden_rows(batch, Some(batch.rows()), options.dropout_seed)?;
            let SelectedLogProbs { log_probs, terminators } = self.select(&hidden, batch, options)?;
            return Ok(Scored { log_probs, terminators, tape: Tape::Graph });
        }
        let model = self.frozen();
        let pass = pass(batch, options.dropout_seed);
        let angles = model.angles(&pass)?;
        let mut inputs = vec![model.embed(batch.input_ids())?];
        for index in 0..model.depth() {
            let stream = Stream::new(inputs[index].clone());
            let mut attend = |layer: &_, heads| attend_packed(model.spec(), layer, &heads, batch.segments());
            inputs.push(model.run_block(index, stream, &angles, &pass, &mut attend)?.sum()?);
        }
        let hidden = model.finish(Stream::new(inputs[model.depth()].clone()))?;
        let SelectedLogProbs { log_probs, terminators } = model.select(&hidden, batch, options)?;
        let tape = Tape::Checkpoints { decoder: self, batch, inputs, dropout_seed: options.dropout_seed };
        Ok(Scored { log_probs, terminators, tape })
    }

    fn select(&self, hidden: &Tensor, batch: &PackedBatch, options: &ScoreOptions<'_>) -> Result<SelectedLogProbs> {
        let head = self.head();
        let adapted = match &head.adapter {
            Some(adapter) => Some(adapter.head_inputs(hidden, &head.weight.tensor, options.dropout_seed)?),
            None => None,
        };
        let (hidden, weight) = match &adapted {
            Some(inputs) => (&inputs.hidden, &inputs.weight),
            None => (hidden, &head.weight.tensor),
        };
        let head_options = self.head_options();
        if options.terminators.is_empty() {
            let log_probs = selected_log_probs(hidden, weight, batch.targets(), head_options)?;
            return Ok(SelectedLogProbs { log_probs, terminators: Vec::new() });
        }
        let (targets, terminators) = (batch.targets(), options.terminators);
        Ok(selected_log_probs_with_terminators(hidden, weight, targets, terminators, head_options)?)
    }
}

fn pass(batch: &PackedBatch, dropout_seed: Option<u64>) -> Pass<'_> {
    Pass { positions: batch.positions(), lengths: batch.lengths(), keep: Some(batch.rows()), dropout_seed }
}

impl Scored<'_> {
    /// The log-probability of each completion token, in nats, (`M`).
    pub fn log_probs(&self) -> &Tensor {
        &self.log_probs
    }

    /// How each row rates the terminators; empty when none were asked for.
    pub fn terminators(&self) -> &[TerminatorStanding] {
        &self.terminators
    }

    /// Adds the gradient of `Σ weights·log_probs`, the weights constant, to `gradients`.
    ///
    /// # Errors
    /// When there is not one weight a row.
    pub fn backward(self, weights: &[f32], gradients: &mut Gradients) -> Result<()> {
        let weights = Tensor::from_slice(weights, weights.len(), &Device::Cpu)?;
        match self.tape {
            Tape::Graph => {
                gradients.backward(&weighted_sum(&self.log_probs, &weights)?)?;
                Ok(())
            }
            Tape::Checkpoints { decoder, batch, inputs, dropout_seed } => {
                recompute(decoder, batch, inputs, dropout_seed, &weights, gradients)
            }
        }
    }
}

/// Goes back block by block: each is computed again from its input, and hands the gradient of that input on.
fn recompute(
    decoder: &Decoder,
    batch: &PackedBatch,
    mut inputs: Vec<Tensor>,
    dropout_seed: Option<u64>,
    weights: &Tensor,
    gradients: &mut Gradients,
) -> Result<()> {
    let pass = pass(batch, dropout_seed);
    let angles = decoder.angles(&pass)?;
    let mut next_input = || -> Result<Var> {
        let input =
            inputs.pop().ok_or_else(|| ModelError::input("checkpointed blocks", "one input a block", "fewer"))?;
        Ok(Var::from_tensor(&input)?)
    };

    let input = next_input()?;
    let hidden = decoder.finish(Stream::new(input.as_tensor().clone()))?;
    let options = ScoreOptions { dropout_seed, ..ScoreOptions::default() };
    let log_probs = decoder.select(&hidden, batch, &options)?.log_probs;
    let mut gradient = back(&weighted_sum(&log_probs, weights)?, &input, gradients)?;
    for index in (0..decoder.depth()).rev() {
        let input = next_input()?;
        let stream = Stream::new(input.as_tensor().clone());
        let mut attend = |layer: &_, heads| attend_packed(decoder.spec(), layer, &heads, batch.segments());
        let output = decoder.run_block(index, stream, &angles, &pass, &mut attend)?.sum()?;
        gradient = back(&weighted_sum(&output, &gradient)?, &input, gradients)?;
    }
    let embedded = decoder.embed(batch.input_ids())?;
    gradients.backward(&weighted_sum(&embedded, &gradient)?)?;
    Ok(())
}

/// Runs a backward pass and returns the gradient of `input`.
fn back(root: &Tensor, input: &Var, gradients: &mut Gradients) -> Result<Tensor> {
    match gradients.backward(root)?.remove(input) {
        Some(gradient) => Ok(gradient),
        // Every block adds its input to its output, so a path always exists.
        None => Ok(input.zeros_like()?),
    }
}
