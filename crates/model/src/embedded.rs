//! A forward pass that reads given vectors in place of token embeddings, and its gradient with respect to them.

use candle_core::{Tensor, Var};
use smpo_kernels::{Gradients, Tape};

use crate::attention::attend_packed;
use crate::batch::PackedBatch;
use crate::decoder::{Decoder, Pass};
use crate::error::{ModelError, Result};
use crate::placement::host_values;
use crate::score::{ScoreOptions, gradient_of};

/// A batch scored from given vectors; allows one backward pass.
#[must_use]
pub struct ScoredEmbeddings {
    values: Tensor,
    embedded: Var,
    tape: Tape,
}

impl Decoder {
    /// The vectors of all tokens, (`V`, `H`), as they are before a family scales them.
    ///
    /// # Errors
    /// When memory for a packed embedding's values is exhausted.
    pub fn embedding_table(&self) -> Result<Tensor> {
        Ok(self.embedding.dense(&self.placement())?.into_owned())
    }

    /// As [`Decoder::score`], where row by row `embedded` (`N`, `H`) is read in place of the batch's ids: rows of
    /// [`Decoder::embedding_table`], or any other vectors.
    ///
    /// # Errors
    /// When `embedded` is of another shape, or a target is not below `V`.
    pub fn score_embedded(&self, batch: &PackedBatch, embedded: &Var) -> Result<ScoredEmbeddings> {
        let expected = [batch.input_ids().len(), self.spec().hidden_size];
        if embedded.dims() != expected {
            let (expected, got) = (format!("{expected:?}"), format!("{:?}", embedded.dims()));
            return Err(ModelError::input("shape of embedded tokens", expected, got));
        }
        let pass = Pass { keep: Some(batch.rows()), ..Pass::of(batch) };
        let (tape, values) = Tape::record(|| {
            let first = self.scale_embedded(embedded.as_tensor().clone())?;
            let mut attend = |layer: &_, heads| attend_packed(self.spec(), layer, &heads, batch.segments());
            let hidden = self.run_embedded(first, &pass, &mut attend)?;
            Ok::<_, ModelError>(self.select(&hidden, batch, &ScoreOptions::default())?.log_probs)
        });
        Ok(ScoredEmbeddings { values: values?, embedded: embedded.clone(), tape })
    }
}

impl ScoredEmbeddings {
    /// As [`Scored::values`](crate::Scored::values).
    ///
    /// # Errors
    /// When they cannot be read from the device.
    pub fn values(&self) -> Result<Vec<f32>> {
        Ok(host_values(&self.values)?)
    }

    /// The gradient of `Σ weights·values` with respect to the vectors, (`N`, `H`). Those of parameters are dropped.
    ///
    /// # Errors
    /// When there is not one weight per value.
    pub fn backward(self, weights: &[f32]) -> Result<Tensor> {
        let shape = self.values.shape();
        if weights.len() != shape.elem_count() {
            let expected = format!("{}, one for each value", shape.elem_count());
            return Err(ModelError::input("weights of a backward pass", expected, weights.len().to_string()));
        }
        let weights = Tensor::from_slice(weights, shape.clone(), self.values.device())?;
        let mut others = self.tape.backward(&self.values, &weights, &mut Gradients::default())?;
        gradient_of(&self.embedded, &mut others)
    }
}
