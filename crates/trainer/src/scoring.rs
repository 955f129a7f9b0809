//! Log-probs of rows: from a model to an objective's batch.

use smpo_data::{Row, TokenizedCompletion};
use smpo_losses::{Completion, Pair};
use smpo_model::{Decoder, PackedBatch};

use crate::error::TrainError;
use crate::packing::packs;

/// A row with its log-probs under the reference model, where the objective needs them.
#[derive(Debug, Clone, Copy)]
pub struct StepRow<'a> {
    /// Token ids.
    pub row: &'a Row,
    /// Log-probs under the reference model.
    pub reference: Option<&'a RowLogps>,
    /// A row with another prompt, for KTO's baseline where all rows of a step share theirs.
    pub other: Option<&'a Row>,
}

impl StepRow<'_> {
    /// The row as the objective reads it, given its log-probs under the policy.
    pub(crate) fn pair<'a>(&'a self, logps: &'a RowLogps) -> Pair<'a> {
        fn side<'a>(
            completion: &'a Option<TokenizedCompletion>,
            logps: &'a Option<Vec<f64>>,
            reference: Option<&'a Vec<f64>>,
        ) -> Option<Completion<'a>> {
            let (completion, logps) = (completion.as_ref()?, logps.as_ref()?);
            let ref_logps = reference.map(Vec::as_slice);
            Some(Completion { logps, is_terminator: completion.is_terminator(), ref_logps })
        }
        let reference = self.reference;
        Pair {
            chosen: side(&self.row.chosen, &logps.chosen, reference.and_then(|logps| logps.chosen.as_ref())),
            rejected: side(&self.row.rejected, &logps.rejected, reference.and_then(|logps| logps.rejected.as_ref())),
        }
    }
}

/// Log-probs of the scored tokens of a row's completions, in nats, `[T]` each.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RowLogps {
    /// Log-probs of the chosen side.
    pub chosen: Option<Vec<f64>>,
    /// Log-probs of the rejected side.
    pub rejected: Option<Vec<f64>>,
}

/// Log-probs of rows under a model, without a graph: for the reference of DPO and KTO, and for held-out evaluation. A
/// forward pass has at most `max_tokens` tokens, or those of the longest row.
///
/// # Errors
/// If the model refuses a row.
pub fn row_logps(decoder: &Decoder, rows: &[Row], max_tokens: usize) -> Result<Vec<RowLogps>, TrainError> {
    let decoder = decoder.frozen();
    let tokens: Vec<usize> = rows.iter().map(Row::packed_tokens).collect();
    let mut all = vec![RowLogps::default(); rows.len()];
    for members in packs(&tokens, max_tokens) {
        let chosen: Vec<&Row> = members.iter().map(|&row| &rows[row]).collect();
        let packed = pack(&chosen)?;
        let logps = decoder.log_probs(&packed)?.to_vec1()?;
        for (row, logps) in members.into_iter().zip(row_logps_of(&chosen, &packed, &logps)) {
            all[row] = logps;
        }
    }
    Ok(all)
}

/// Lays rows side by side, each prompt once.
pub(crate) fn pack(rows: &[&Row]) -> Result<PackedBatch, TrainError> {
    let mut builder = PackedBatch::builder();
    for row in rows {
        let completions: Vec<_> = row.completions().map(|side| (side.ids(), side.scored())).collect();
        builder.push_scored(&row.prompt, &completions)?;
    }
    Ok(builder.build()?)
}

/// The log-probs (`M`) of a batch that [`pack`] made, row by row.
pub(crate) fn row_logps_of(rows: &[&Row], packed: &PackedBatch, logps: &[f32]) -> Vec<RowLogps> {
    let mut ranges = packed.completions().iter();
    let mut next = |side: &Option<TokenizedCompletion>| {
        side.as_ref().and_then(|_| ranges.next()).map(|range| to_f64(&logps[range.clone()]))
    };
    rows.iter()
        .map(|row| {
            let chosen = next(&row.chosen);
            let rejected = next(&row.rejected);
            RowLogps { chosen, rejected }
        })
        .collect()
}

fn to_f64(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}
