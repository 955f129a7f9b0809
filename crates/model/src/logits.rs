//! Logits of scored rows, a few rows at a time, and the backward pass from gradients by them.
//!
//! A function of a whole distribution, such as a divergence from a teacher's, needs all logits of a row and has a gradient by
//! each: it is no weighted log-prob. The head runs over some rows, the caller puts the gradient in the place of the logits, and
//! the gradient of the rows' hidden states goes on; logits of all rows never exist.

use std::ops::Range;
use std::sync::Arc;

use candle_core::{DType, Tensor, Var};
use smpo_kernels::{Balance, Gradients, Tape};

use crate::batch::PackedBatch;
use crate::decoder::Decoder;
use crate::error::Result;
use crate::linear::Product;
use crate::lora::Dropout;
use crate::score::{ScoreOptions, WayBack, gradient_of};

/// Bytes of the logits of a part.
const PART: usize = 1 << 25;

/// Receiver of the rows of a part and their logits; it puts the gradient in the place of the logits.
pub type Visit<'v, E> = dyn FnMut(Range<usize>, &mut [f32]) -> std::result::Result<(), E> + 'v;

/// Hidden states of the rows that predict a scored token, with the way to their logits.
pub struct HeadStates<'a> {
    decoder: &'a Decoder,
    /// (M, H), no part of a graph.
    hidden: Tensor,
    dropout_seed: Option<u64>,
}

/// As [`HeadStates`], for one backward pass.
#[must_use]
pub struct TrainedStates<'a> {
    states: HeadStates<'a>,
    /// The result of the recorded pass.
    root: Tensor,
    way_back: WayBack<'a>,
    balance: Option<Arc<Balance>>,
}

impl HeadStates<'_> {
    /// `M`.
    pub fn rows(&self) -> usize {
        self.hidden.dim(0).unwrap_or_default()
    }

    /// Logits of some rows, (rows, `V`) in float32, row by row.
    ///
    /// # Errors
    /// When the rows do not exist.
    pub fn logits(&self, rows: Range<usize>) -> Result<Vec<f32>> {
        let part = self.hidden.narrow(0, rows.start, rows.len())?;
        self.values(&self.of(&part, rows.start)?)
    }

    /// Rows whose logits are in memory together.
    pub fn parts(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let most = (PART / size_of::<f32>() / self.decoder.spec().vocab_size.max(1)).max(1);
        let rows = self.rows();
        (0..rows).step_by(most).map(move |first| first..rows.min(first + most))
    }

    fn of(&self, hidden: &Tensor, first_row: usize) -> Result<Tensor> {
        let dropout = self.dropout_seed.map(|seed| Dropout { seed, first_row });
        let input = self.decoder.head_input(hidden)?;
        let logits = self.decoder.head.forward(&input, dropout, Product::Computed)?;
        match self.decoder.spec().logit_soft_cap {
            Some(cap) => Ok(((logits / cap)?.tanh()? * cap)?),
            None => Ok(logits),
        }
    }

    fn values(&self, logits: &Tensor) -> Result<Vec<f32>> {
        Ok(logits.detach().to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
    }
}

impl Decoder {
    /// Hidden states of the scored rows of a batch, for a model that is not trained.
    ///
    /// # Errors
    /// When a token id is not below `V`.
    pub fn head_states(&self, batch: &PackedBatch) -> Result<HeadStates<'_>> {
        let hidden = self.predicting(batch)?.detach();
        Ok(HeadStates { decoder: self, hidden, dropout_seed: None })
    }

    /// The same for a model that is trained.
    ///
    /// # Errors
    /// When a token id is not below `V`.
    pub fn trained_states<'a>(
        &'a self,
        batch: &'a PackedBatch,
        options: &ScoreOptions<'_>,
    ) -> Result<TrainedStates<'a>> {
        let (root, way_back, balance) = self.run_recorded(batch, options, |_, hidden| Ok(hidden))?;
        let states = HeadStates { decoder: self, hidden: root.detach(), dropout_seed: options.dropout_seed };
        Ok(TrainedStates { states, root, way_back, balance })
    }
}

impl TrainedStates<'_> {
    /// Sets the factor with which the load-balancing loss is part of the backward pass; returns that loss, 0 unless asked for.
    pub fn weigh_balance(&self, factor: f64) -> f64 {
        self.balance.as_ref().map_or(0.0, |balance| {
            balance.weigh(factor);
            balance.loss()
        })
    }

    /// Calls `visit` with the rows of a part and their logits, in whose place it puts the gradient by them; adds the gradients of
    /// the parameters to `gradients`.
    ///
    /// # Errors
    /// Those of `visit`.
    pub fn backward<E: From<crate::ModelError>>(
        self,
        gradients: &mut Gradients,
        visit: &mut Visit<'_, E>,
    ) -> std::result::Result<(), E> {
        let Self { states, root, way_back, .. } = self;
        let mut parts = Vec::new();
        for rows in states.parts() {
            parts.push(states.part(rows, gradients, visit)?);
        }
        let gradient = Tensor::cat(&parts, 0).map_err(crate::ModelError::from)?;
        drop(parts);
        Ok(way_back.back(&root, &gradient, gradients)?)
    }
}

impl HeadStates<'_> {
    /// The gradient of the hidden states of some rows.
    fn part<E: From<crate::ModelError>>(
        &self,
        rows: Range<usize>,
        gradients: &mut Gradients,
        visit: &mut Visit<'_, E>,
    ) -> std::result::Result<Tensor, E> {
        let narrow = || -> Result<Var> { Ok(Var::from_tensor(&self.hidden.narrow(0, rows.start, rows.len())?)?) };
        let part = narrow()?;
        let (tape, logits) = Tape::record(|| self.of(&part, rows.start));
        let logits = logits?;
        let mut values = self.values(&logits)?;
        visit(rows, &mut values)?;
        let back = || -> Result<Tensor> {
            let gradient =
                Tensor::from_vec(values, logits.shape(), &candle_core::Device::Cpu)?.to_device(logits.device())?;
            let mut others = tape.backward(&logits, &gradient, gradients)?;
            gradient_of(&part, &mut others)
        };
        Ok(back()?)
    }
}
