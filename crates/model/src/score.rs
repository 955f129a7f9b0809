//! Log-probabilities of completions, and the backward pass from their weights to gradients.

use std::sync::Arc;

use candle_core::{Tensor, Var};
use smpo_kernels::{
    Balance, Gradients, OtherGradients, RowEntropy, SelectedLogProbs, Tape, TerminatorScore, Weight, embedding,
    selected_log_probs, selected_log_probs_with_entropy, selected_log_probs_with_terminators,
};

use crate::attention::attend_packed;
use crate::batch::PackedBatch;
use crate::block::{Positional, Stream};
use crate::decoder::{Decoder, Pass};
use crate::error::{ModelError, Result};
use crate::linear::Product;
use crate::lora::Dropout;
use crate::placement::host_values;

/// Options of scoring.
#[derive(Debug, Clone, Copy, Default)]
pub struct ScoreOptions<'a> {
    /// Seed of the adapters' dropout; `None` disables it.
    pub dropout_seed: Option<u64>,
    /// Saves only each block's input and recomputes the block in the backward pass (arXiv 1604.06174): memory of one block's
    /// activations instead of all, for one more forward pass.
    pub checkpointing: bool,
    /// Terminators to score at each row; may be empty.
    pub terminators: &'a [u32],
    /// Entropy to compute at each row.
    pub entropy: Option<RowEntropy>,
    /// Computes the load-balancing loss of routed experts, over all tokens of the batch.
    pub balance: bool,
}

/// A scored batch; allows one backward pass.
#[must_use]
pub struct Scored<'a> {
    log_probs: Tensor,
    terminators: Vec<TerminatorScore>,
    entropies: Vec<f32>,
    balance: Option<Arc<Balance>>,
    way_back: WayBack<'a>,
}

/// The way from a function of the scored rows' hidden states to the parameters.
pub(crate) enum WayBack<'a> {
    /// All operations of the forward pass.
    Recorded(Tape),
    /// The input of each block except the first; final norm and head are recorded, they save little.
    Checkpoints { recomputation: Recomputation<'a>, inputs: Vec<Tensor>, head_input: Var, head: Tape },
}

impl Decoder {
    /// The log-probability of each completion token given everything before it, in nats, (`M`) in the batch's order.
    ///
    /// The head, and everything after the last block's attention, runs on the `M` rows only.
    /// The result is differentiable; a [`Decoder::frozen`] model records no graph.
    ///
    /// # Errors
    /// When a token id is not below `V`.
    pub fn log_probs(&self, batch: &PackedBatch) -> Result<Tensor> {
        let hidden = self.predicting(batch)?;
        Ok(self.select(&hidden, batch, &ScoreOptions::default())?.log_probs)
    }

    /// As [`Decoder::log_probs`], with dropout, activation checkpointing and terminator scores.
    ///
    /// # Errors
    /// When a token id or a terminator is not below `V`.
    pub fn score<'a>(&'a self, batch: &'a PackedBatch, options: &ScoreOptions<'_>) -> Result<Scored<'a>> {
        let (selected, way_back, balance) =
            self.run_recorded(batch, options, |model, hidden| model.select(&hidden, batch, options))?;
        let SelectedLogProbs { log_probs, terminators, entropies } = selected;
        Ok(Scored { log_probs, terminators, entropies, balance, way_back })
    }

    /// Runs the model up to a function of the scored rows' hidden states, and records the way back; the load-balancing loss
    /// where the options ask for it.
    pub(crate) fn run_recorded<'a, T>(
        &'a self,
        batch: &'a PackedBatch,
        options: &ScoreOptions<'_>,
        head: impl FnOnce(&Self, Tensor) -> Result<T>,
    ) -> Result<(T, WayBack<'a>, Option<Arc<Balance>>)> {
        let experts = self.spec().experts.as_ref().filter(|_| options.balance);
        let balance = experts.map(|experts| Arc::new(Balance::new(experts.count)));
        // The load is that of all tokens, in the last block too.
        let keep = balance.is_none().then(|| batch.rows());
        let pass = Pass { keep, dropout_seed: options.dropout_seed, balance: None, ..Pass::of(batch) };
        let counted = Pass { balance: balance.as_ref(), ..pass };
        let kept = |hidden: Tensor| match keep {
            Some(_) => Ok(hidden),
            None => embedding(&hidden, batch.rows()),
        };
        if !options.checkpointing {
            if self.first_trained_block() < self.depth() {
                // A backward pass would read the weights of blocks that are gone by then.
                self.expect_whole("model to train without recomputing blocks")?;
            }
            let (tape, result) = Tape::record(|| head(self, kept(self.hidden_of(batch, &counted)?)?));
            let result = result?;
            seal(balance.as_ref());
            return Ok((result, WayBack::Recorded(tape), balance));
        }
        let model = self.frozen();
        let positional = model.positional(&pass)?;
        let mut inputs = Vec::with_capacity(model.depth());
        let mut stream = model.embed(batch.input_ids())?;
        for index in 0..model.depth() {
            let mut attend = |layer: &_, heads| attend_packed(model.spec(), layer, &heads, batch.segments());
            let output =
                model.run_block(index, Stream::new(stream.clone()), &positional, &counted, &mut attend)?.sum()?;
            let input = std::mem::replace(&mut stream, output);
            // The first block's is an embedding lookup.
            if index > 0 {
                inputs.push(input);
            }
        }
        let head_input = Var::from_tensor(&stream)?;
        let (tape, result) = Tape::record(|| {
            let hidden = self.finish(Stream::new(kept(head_input.as_tensor().clone())?))?;
            head(self, hidden)
        });
        let result = result?;
        seal(balance.as_ref());
        let recomputation = Recomputation { decoder: self, batch, pass, balance: balance.clone(), positional };
        Ok((result, WayBack::Checkpoints { recomputation, inputs, head_input, head: tape }, balance))
    }

    pub(crate) fn select(
        &self,
        hidden: &Tensor,
        batch: &PackedBatch,
        options: &ScoreOptions<'_>,
    ) -> Result<SelectedLogProbs> {
        let head = &self.head;
        if self.spec().labels.is_some() {
            let scores = head.forward(hidden, None, Product::Computed)?;
            return Ok(SelectedLogProbs { log_probs: scores, terminators: Vec::new(), entropies: Vec::new() });
        }
        let hidden = &self.head_input(hidden)?;
        let dropout = options.dropout_seed.map(|seed| Dropout { seed, first_row: 0 });
        let adapted = match &head.adapter {
            Some(adapter) => Some(adapter.head_inputs(hidden, &head.weight, dropout)?),
            None => None,
        };
        let (hidden, weight) = match &adapted {
            Some(inputs) => (&inputs.hidden, Weight::Tensor(&inputs.weight)),
            None => (hidden, head.weight.weight()),
        };
        let head_options = self.head_options();
        let (targets, terminators) = (batch.targets(), options.terminators);
        if let Some(entropy) = options.entropy {
            return Ok(selected_log_probs_with_entropy(hidden, weight, targets, entropy, terminators, head_options)?);
        }
        if terminators.is_empty() {
            let log_probs = selected_log_probs(hidden, weight, targets, head_options)?;
            return Ok(SelectedLogProbs { log_probs, terminators: Vec::new(), entropies: Vec::new() });
        }
        Ok(selected_log_probs_with_terminators(hidden, weight, targets, terminators, head_options)?)
    }
}

/// Ends the count of experts' loads.
fn seal(balance: Option<&Arc<Balance>>) {
    if let Some(balance) = balance {
        balance.seal();
    }
}

impl Scored<'_> {
    /// The log-probability of each completion token, in nats, (`M`).
    pub fn log_probs(&self) -> &Tensor {
        &self.log_probs
    }

    /// Terminator score of each row, (`M`); empty without terminators.
    pub fn terminators(&self) -> &[TerminatorScore] {
        &self.terminators
    }

    /// Entropy of each row, (M), in nats; empty unless asked for.
    pub fn entropies(&self) -> &[f32] {
        &self.entropies
    }

    /// The load-balancing loss; `None` unless asked for, and of a model without experts.
    pub fn balance(&self) -> Option<f64> {
        self.balance.as_ref().map(|balance| balance.loss())
    }

    /// Sets the factor with which the load-balancing loss is part of the backward pass; 0 until then.
    pub fn weigh_balance(&self, factor: f64) {
        if let Some(balance) = &self.balance {
            balance.weigh(factor);
        }
    }

    /// The log-probability of each completion token, in nats, (`M`); of a model with a head of labels its scores, those of
    /// a row side by side, (`M`·labels).
    ///
    /// # Errors
    /// When they cannot be read from the device.
    pub fn values(&self) -> Result<Vec<f32>> {
        Ok(host_values(&self.log_probs)?)
    }

    /// Adds the gradient of `Σ weights·values`, the weights constant, to `gradients`.
    ///
    /// # Errors
    /// When there is not one weight per value.
    pub fn backward(self, weights: &[f32], gradients: &mut Gradients) -> Result<()> {
        let shape = self.log_probs.shape();
        if weights.len() != shape.elem_count() {
            let expected = format!("{}, one for each value", shape.elem_count());
            return Err(ModelError::input("weights of a backward pass", expected, weights.len().to_string()));
        }
        let weights =
            Tensor::from_slice(weights, shape.clone(), self.log_probs.device())?.to_dtype(self.log_probs.dtype())?;
        self.way_back.back(&self.log_probs, &weights, gradients)
    }
}

impl WayBack<'_> {
    /// From the gradient of the recorded result to those of all trained parameters.
    pub(crate) fn back(self, root: &Tensor, gradient: &Tensor, gradients: &mut Gradients) -> Result<()> {
        match self {
            WayBack::Recorded(tape) => {
                tape.backward(root, gradient, gradients)?;
                Ok(())
            }
            WayBack::Checkpoints { recomputation, inputs, head_input, head } => {
                let mut others = head.backward(root, gradient, gradients)?;
                let gradient = gradient_of(&head_input, &mut others)?;
                gradients.reach(recomputation.decoder.depth());
                recomputation.back(inputs, gradient, gradients)
            }
        }
    }
}

/// Backward pass block by block: each is recomputed from its input and gives the gradient of that input.
pub(crate) struct Recomputation<'a> {
    decoder: &'a Decoder,
    batch: &'a PackedBatch,
    pass: Pass<'a>,
    balance: Option<Arc<Balance>>,
    positional: Positional,
}

impl Recomputation<'_> {
    /// From the gradient of the last block's output to those of all trained parameters. Tensors are freed after their last
    /// use: each tensor of the stream is as large as a block's saved input.
    fn back(&self, mut inputs: Vec<Tensor>, mut gradient: Tensor, gradients: &mut Gradients) -> Result<()> {
        let embedding = self.decoder.embedding_is_trained();
        let first = self.decoder.first_trained_block();
        for index in (first..self.decoder.depth()).rev() {
            // The first block has none.
            let input = match inputs.pop() {
                Some(input) => input,
                // Frozen: a device refuses to record outside of a tape.
                None => self.decoder.frozen().embed(self.batch.input_ids())?,
            };
            if index == first && !embedding {
                // Nothing below is trained: the gradient of this input is not needed.
                self.block(index, &input, gradient, gradients)?;
                self.decoder.reduce(index, gradients)?;
                gradients.reach(index);
                return Ok(());
            }
            let variable = Var::from_tensor(&input)?;
            drop(input);
            let mut others = self.block(index, &variable, gradient, gradients)?;
            gradient = gradient_of(&variable, &mut others)?;
            self.decoder.reduce(index, gradients)?;
            gradients.reach(index);
        }
        if embedding {
            let (tape, embedded) = Tape::record(|| self.decoder.embed(self.batch.input_ids()));
            tape.backward(&embedded?, &gradient, gradients)?;
        }
        Ok(())
    }

    /// One block; the result includes the gradient of `input`, if that is a variable.
    fn block(
        &self,
        index: usize,
        input: &Tensor,
        gradient: Tensor,
        gradients: &mut Gradients,
    ) -> Result<OtherGradients> {
        let (decoder, segments) = (self.decoder, self.batch.segments());
        decoder.fetch(index)?;
        let (tape, attended) =
            Tape::record(|| decoder.run_attention(index, input, &self.positional, &self.pass, segments));
        let attended = attended?;
        let gradient = self.feed_forward(index, &attended.detach(), gradient, gradients)?;
        Ok(tape.backward(&attended, &gradient, gradients)?)
    }

    /// The feed-forward layer, part by part: forward and backward pass of one part of the rows, then of the next.
    fn feed_forward(
        &self,
        index: usize,
        attended: &Tensor,
        gradient: Tensor,
        gradients: &mut Gradients,
    ) -> Result<Tensor> {
        let rows = attended.dim(0)?;
        let most = self.decoder.feed_forward_rows(index);
        let pass = Pass { balance: self.balance.as_ref(), ..self.pass };
        let mut parts = Vec::new();
        for first in (0..rows).step_by(most) {
            let count = most.min(rows - first);
            let part = Var::from_tensor(&attended.narrow(0, first, count)?)?;
            let (tape, output) = Tape::record(|| self.decoder.feed_forward_for_backward(index, &part, first, &pass));
            let mut others = tape.backward(&output?, &gradient.narrow(0, first, count)?, gradients)?;
            parts.push(gradient_of(&part, &mut others)?);
        }
        drop(gradient);
        Ok(Tensor::cat(&parts, 0)?)
    }
}

/// The gradient of a recomputed part's input: zero if nothing reached it.
pub(crate) fn gradient_of(input: &Var, others: &mut OtherGradients) -> Result<Tensor> {
    match others.remove(input)? {
        Some(gradient) => Ok(gradient),
        None => Ok(input.zeros_like()?),
    }
}
