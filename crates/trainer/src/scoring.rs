//! Log-probs of rows: from a model to an objective's batch.

use smpo_losses::{Completion, Pair};
use smpo_model::{Decoder, PackedBatch};

use crate::error::TrainError;
use crate::learner::StepRow;
use crate::packing::packs;
use crate::row::Row;

/// Log-probs of a row's completions, in nats, one per token.
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
        let completions: Vec<&[u32]> = row.completions().collect();
        builder.push_shared(&row.prompt, &completions)?;
    }
    Ok(builder.build()?)
}

/// The log-probs (`M`) of a batch that [`pack`] made, row by row.
pub(crate) fn row_logps_of(rows: &[&Row], packed: &PackedBatch, logps: &[f32]) -> Vec<RowLogps> {
    let mut ranges = packed.completions().iter();
    let mut next =
        |side: &Option<Vec<u32>>| side.as_ref().and_then(|_| ranges.next()).map(|range| to_f64(&logps[range.clone()]));
    rows.iter()
        .map(|row| {
            let chosen = next(&row.chosen);
            let rejected = next(&row.rejected);
            RowLogps { chosen, rejected }
        })
        .collect()
}

/// Terminator flags of a row's completions, one per token.
pub(crate) struct TerminatorFlags {
    chosen: Vec<bool>,
    rejected: Vec<bool>,
}

impl TerminatorFlags {
    pub(crate) fn new(row: &Row, is_terminator: &(dyn Fn(u32) -> bool + Sync)) -> Self {
        let of = |side: &Option<Vec<u32>>| side.iter().flatten().map(|id| is_terminator(*id)).collect();
        TerminatorFlags { chosen: of(&row.chosen), rejected: of(&row.rejected) }
    }

    /// The row as an element of an objective's batch.
    pub(crate) fn pair<'a>(&'a self, logps: &'a RowLogps, reference: Option<&'a RowLogps>) -> Pair<'a> {
        fn side<'a>(
            logps: &'a Option<Vec<f64>>,
            is_terminator: &'a [bool],
            reference: Option<&'a Vec<f64>>,
        ) -> Option<Completion<'a>> {
            let logps = logps.as_ref()?;
            Some(Completion { logps, is_terminator, ref_logps: reference.map(Vec::as_slice) })
        }
        Pair {
            chosen: side(&logps.chosen, &self.chosen, reference.and_then(|reference| reference.chosen.as_ref())),
            rejected: side(
                &logps.rejected,
                &self.rejected,
                reference.and_then(|reference| reference.rejected.as_ref()),
            ),
        }
    }
}

/// A completion after another row's prompt, under policy and reference.
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

/// Scores each prompt with the completion of the next row.
pub(crate) fn mismatched(
    policy: &Decoder,
    reference: &Decoder,
    rows: &[&StepRow<'_>],
    is_terminator: &(dyn Fn(u32) -> bool + Sync),
    max_tokens: usize,
) -> Result<Vec<Mismatched>, TrainError> {
    let completions = rows.iter().map(|row| row.row.completions().next().unwrap_or_default());
    let shifted = completions.clone().cycle().skip(1);
    let crossed: Vec<Row> = rows
        .iter()
        .zip(shifted)
        .map(|(row, completion)| Row {
            id: row.row.id.clone(),
            prompt: row.row.prompt.clone(),
            chosen: Some(completion.to_vec()),
            rejected: None,
        })
        .collect();
    let policy = row_logps(policy, &crossed, max_tokens)?;
    let reference = row_logps(reference, &crossed, max_tokens)?;
    let found = crossed.iter().zip(policy).zip(reference).map(|((row, policy), reference)| Mismatched {
        logps: policy.chosen.unwrap_or_default(),
        ref_logps: reference.chosen.unwrap_or_default(),
        is_terminator: row.chosen.iter().flatten().map(|id| is_terminator(*id)).collect(),
    });
    Ok(found.collect())
}

fn to_f64(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}
