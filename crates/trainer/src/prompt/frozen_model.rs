//! A model whose weights stay, under an objective: its value at rows, and its gradient with respect to a prompt.

use candle_core::{DType, Device, Tensor, Var};
use smpo_data::{Row, TokenizedCompletion};
use smpo_losses::{Batch, Evaluation, LossState, Member, Objective, Pair, PairEvaluation, PooledRow, Totals};
use smpo_model::Decoder;

use super::Slotted;
use crate::error::TrainError;
use crate::packing::packs;
use crate::pooling::Pooling;
use crate::ranks::Ranks;
use crate::scoring::{RowLogps, Scorer, StepRow, pack, packed_tokens, split};

/// A model whose weights stay, under an objective.
pub struct FrozenModel {
    decoder: Decoder,
    /// Embeddings of all tokens, (`V`, `H`), in float32.
    table: Tensor,
    objective: Objective,
    /// Of objectives of whole sequences.
    pooling: Option<Pooling>,
    max_tokens: usize,
}

impl FrozenModel {
    /// A model under an objective that needs no reference. A forward pass has at most `max_tokens` tokens, or those of one row.
    ///
    /// # Errors
    /// When memory for the embedding is exhausted.
    pub fn new(
        decoder: Decoder,
        objective: Objective,
        pooling: Option<Pooling>,
        max_tokens: usize,
    ) -> Result<Self, TrainError> {
        let table = decoder.embedding_table()?.to_dtype(DType::F32)?.detach();
        Ok(FrozenModel { decoder, table, objective, pooling, max_tokens })
    }

    /// Embeddings of all tokens, (`V`, `H`).
    pub fn table(&self) -> &Tensor {
        &self.table
    }

    /// The objective at rows.
    ///
    /// # Errors
    /// When the model or the loss refuses a row.
    pub fn measure(&self, rows: &[Row], step: u64) -> Result<Evaluation, TrainError> {
        let rows: Vec<&Row> = rows.iter().collect();
        let scorer = Scorer { pooling: self.pooling.as_ref(), ..Scorer::new(self.max_tokens, &Ranks::default()) };
        let logps = scorer.score(&self.decoder, &rows)?;
        self.evaluate(&rows, &logps, totals(&rows), step)
    }

    /// The objective at rows after a prompt, and its gradient with respect to the embeddings of the prompt's tokens,
    /// (tokens, `H`), summed over the rows.
    ///
    /// # Errors
    /// When the model or the loss refuses a row.
    pub fn gradient(&self, rows: &[&Slotted], prompt: &[u32], step: u64) -> Result<(Evaluation, Tensor), TrainError> {
        let whole: Vec<Row> = rows.iter().map(|row| row.with(prompt)).collect();
        let of_step = totals(&whole.iter().collect::<Vec<_>>());
        let tokens: Vec<usize> = whole.iter().map(|row| packed_tokens(row, self.pooling.as_ref())).collect();
        let mut sum = Tensor::zeros((prompt.len(), self.table.dim(1)?), DType::F32, &Device::Cpu)?;
        let mut evaluation: Option<Evaluation> = None;
        for members in packs(&tokens, self.max_tokens) {
            let of_pack: Vec<&Row> = members.iter().map(|&row| &whole[row]).collect();
            let packed = pack(&of_pack, self.pooling.as_ref(), self.decoder.spec())?;
            let ids = Tensor::new(packed.input_ids(), &Device::Cpu)?;
            let embedded = Var::from_tensor(&self.table.index_select(&ids, 0)?)?;
            let scored = self.decoder.score_embedded(&packed, &embedded)?;
            let values: Vec<f64> = scored.values()?.into_iter().map(f64::from).collect();
            let part = self.evaluate(&of_pack, &split(&of_pack, &packed, &values, &[]), of_step, step)?;
            let weights = part.pairs.iter().flat_map(PairEvaluation::weights).flatten();
            let of_embedded = scored.backward(&weights.map(|weight| *weight as f32).collect::<Vec<_>>())?;
            // a row begins where its positions do
            let begins = (0..).zip(packed.positions()).filter(|(_, position)| **position == 0);
            for (row, (begin, _)) in members.iter().zip(begins) {
                sum = (sum + of_embedded.narrow(0, begin + rows[*row].before(), prompt.len())?)?;
            }
            match &mut evaluation {
                Some(evaluation) => evaluation.merge(part),
                None => evaluation = Some(part),
            }
        }
        let evaluation = evaluation.ok_or(TrainError::Batch { step, source: smpo_losses::BatchError::Empty })?;
        Ok((evaluation, sum))
    }

    fn evaluate(&self, rows: &[&Row], logps: &[RowLogps], totals: Totals, step: u64) -> Result<Evaluation, TrainError> {
        let rows: Vec<StepRow<'_>> = rows.iter().map(|row| StepRow { row, reference: None, other: None }).collect();
        let pooled: Vec<PooledRow<'_>> = match self.pooling {
            Some(_) => rows.iter().zip(logps).map(|(row, values)| row.pooled(values)).collect(),
            None => Vec::new(),
        };
        let none: &[Member<'_>] = &[];
        let pairs: Vec<Pair<'_>> = match self.pooling {
            Some(_) => Vec::new(),
            None => rows.iter().zip(logps).map(|(row, logps)| row.pair(logps, none)).collect(),
        };
        let batch = Batch { pairs: &pairs, pooled: &pooled, totals: Some(totals), ..Batch::default() };
        let evaluation = self.objective.evaluate(&batch, &mut LossState::default());
        evaluation.map_err(|source| TrainError::Batch { step, source })
    }
}

fn totals(rows: &[&Row]) -> Totals {
    let length = |side: &Option<TokenizedCompletion>| side.as_ref().map(TokenizedCompletion::len);
    Totals::of_lengths(rows.iter().map(|row| (length(&row.chosen), length(&row.rejected))))
}
