//! The rows of a run, as its configuration describes them.

use smpo_data::{Dataset, Row, RowKind, Truncation};
use smpo_losses::{Loss, Pairing};

use crate::config::TrainConfig;
use crate::error::TrainError;

/// The data set of a configuration. `bos` is the tokenizer's BOS id, which truncation keeps.
pub fn dataset(config: &TrainConfig, bos: Option<u32>) -> Dataset {
    Dataset {
        kind: kind(&config.loss.loss),
        files: config.dataset.clone(),
        ratios: config.dataset_ratio.clone(),
        test_size: config.test_size,
        eval_files: config.eval_dataset.clone(),
        sample: config.dataset_sample,
        seed: config.seed,
        on_bad_rows: config.on_bad_rows,
        truncation: Truncation {
            max_length: Some(config.max_length),
            max_prompt_length: Some(config.max_prompt_length.unwrap_or(config.max_length / 2)),
            keep: config.truncation_mode,
            bos,
        },
    }
}

/// Kind of rows that a loss is computed on.
fn kind(loss: &Loss) -> RowKind {
    match loss.pairing() {
        Pairing::SftOnly => RowKind::Examples,
        Pairing::Unpaired(_) => RowKind::Labelled,
        Pairing::Pairwise(_) => RowKind::Pairs,
    }
}

/// Refuses token ids without an embedding: those of a tokenizer that is not the model's.
///
/// # Errors
/// [`TrainError::Vocabulary`] names the first row.
pub(crate) fn check_vocabulary<'a>(rows: impl Iterator<Item = &'a Row>, vocabulary: usize) -> Result<(), TrainError> {
    for row in rows {
        let completions = row.completions().flat_map(|completion| completion.ids());
        if let Some(&token) = row.prompt.iter().chain(completions).find(|id| **id as usize >= vocabulary) {
            return Err(TrainError::Vocabulary { row: row.id.clone(), token, vocabulary });
        }
    }
    Ok(())
}
