//! Teacher-forced scores of gold answers and held-out preference pairs.
//!
//! The forward pass comes from the caller, through [`TeacherForced`].

use std::collections::BTreeMap;
use std::path::Path;

use smpo_chat::Message;
use smpo_data::PreferencePair;
use smpo_inference::{Item, ScorerError, TeacherForced, TokenScores};
use smpo_metrics::MetricInfo;
use smpo_metrics::metric::{eos_gold, preference};
use smpo_results::{Measurement, SCHEMA_VERSION};

use crate::slices::HELD_OUT;
use crate::suite::Suite;

/// Completions handed to the scorer at once; it may split them further.
const BATCH: usize = 64;

/// Errors of scoring gold answers or pairs.
#[derive(Debug, thiserror::Error)]
pub enum TeacherForcedError {
    /// The scorer failed.
    #[error("{what} {first:?} and those after it could not be scored: {source}")]
    Scorer {
        /// `prompt` or `pair`.
        what: &'static str,
        /// The first id of the batch.
        first: String,
        /// The scorer's error.
        source: ScorerError,
    },
    /// The scorer broke its contract.
    #[error("{what} {first:?} and those after it: expected {expected} scored completions, got {got}")]
    Count {
        /// `prompt` or `pair`.
        what: &'static str,
        /// The first id of the batch.
        first: String,
        /// Items handed over.
        expected: usize,
        /// Scores that came back.
        got: usize,
    },
    /// A log-prob is not finite.
    #[error(
        "{what} {id:?}: expected finite log-probs of at least one token, got {got}; the weights or the arithmetic are broken"
    )]
    NotFinite {
        /// `prompt` or `pair`.
        what: &'static str,
        /// Id of the prompt or pair.
        id: String,
        /// The offending scores.
        got: String,
    },
    /// The pairs could not be read.
    #[error(transparent)]
    Pairs(#[from] smpo_data::ReadError),
}

/// `eos_logp_gold`, `eos_rank_gold` and `gold_nll` of every prompt of the suite that has a gold answer. `on_progress` is called with
/// the prompts done and in total.
///
/// # Errors
/// The scorer's.
pub fn measure_gold(
    suite: &Suite,
    scorer: &mut dyn TeacherForced,
    mut on_progress: impl FnMut(usize, usize),
) -> Result<Vec<Measurement>, TeacherForcedError> {
    let gold: Vec<_> = suite
        .prompts
        .iter()
        .filter_map(|prompt| Some((prompt, [Message::assistant(prompt.reference.as_deref()?)])))
        .collect();
    let mut measurements = Vec::with_capacity(gold.len());
    for batch in gold.chunks(BATCH) {
        let items: Vec<Item> =
            batch.iter().map(|(prompt, completion)| Item { prompt: &prompt.messages, completion }).collect();
        let ids: Vec<&str> = batch.iter().map(|(prompt, _)| prompt.id.as_str()).collect();
        for ((prompt, _), scores) in batch.iter().zip(score("prompt", &ids, &items, scorer)?) {
            let values = eos_gold::INFOS.iter().zip(eos_gold::measure(&scores));
            measurements.push(measurement(&prompt.id, &prompt.slice, values));
        }
        on_progress(measurements.len(), gold.len());
    }
    Ok(measurements)
}

/// Preference accuracy and margin of every held-out pair. `on_progress` is called with the pairs done and in total.
///
/// # Errors
/// The scorer's.
pub fn measure_pairs(
    pairs: &[PreferencePair],
    scorer: &mut dyn TeacherForced,
    mut on_progress: impl FnMut(usize, usize),
) -> Result<Vec<Measurement>, TeacherForcedError> {
    let mut measurements = Vec::with_capacity(pairs.len());
    for batch in pairs.chunks(BATCH / 2) {
        let items: Vec<Item> = batch
            .iter()
            .flat_map(|pair| [&pair.chosen, &pair.rejected].map(|side| Item { prompt: &pair.prompt, completion: side }))
            .collect();
        let ids: Vec<&str> = batch.iter().flat_map(|pair| [pair.id.as_str(); 2]).collect();
        let scores = score("pair", &ids, &items, scorer)?;
        for (pair, sides) in batch.iter().zip(scores.chunks_exact(2)) {
            let values = preference::INFOS.iter().zip(preference::measure(&sides[0], &sides[1]));
            measurements.push(measurement(&pair.id, HELD_OUT, values));
        }
        on_progress(measurements.len(), pairs.len());
    }
    Ok(measurements)
}

/// Held-out pairs of a suite; empty if it has none.
///
/// # Errors
/// At the first line that is no preference pair.
pub fn read_held_out(path: Option<&Path>) -> Result<Vec<PreferencePair>, TeacherForcedError> {
    Ok(path.map(smpo_data::read_pairs).transpose()?.unwrap_or_default())
}

fn measurement<'a>(id: &str, slice: &str, values: impl Iterator<Item = (&'a MetricInfo, f64)>) -> Measurement {
    let values: BTreeMap<_, _> = values.map(|(info, value)| (info.id.to_owned(), vec![value])).collect();
    Measurement { schema: SCHEMA_VERSION, prompt_id: id.to_owned(), slice: slice.to_owned(), values }
}

/// Scores a batch and checks what came back.
fn score(
    what: &'static str,
    ids: &[&str],
    items: &[Item<'_>],
    scorer: &mut dyn TeacherForced,
) -> Result<Vec<TokenScores>, TeacherForcedError> {
    let first = || ids.first().copied().unwrap_or_default().to_owned();
    let scores = scorer.score(items).map_err(|source| TeacherForcedError::Scorer { what, first: first(), source })?;
    if scores.len() != items.len() {
        return Err(TeacherForcedError::Count { what, first: first(), expected: items.len(), got: scores.len() });
    }
    for (id, scores) in ids.iter().zip(&scores) {
        let finite = !scores.logps.is_empty() && scores.logps.iter().all(|logp| logp.is_finite());
        if !(finite && scores.terminator_logp.is_finite()) {
            return Err(TeacherForcedError::NotFinite { what, id: (*id).to_owned(), got: format!("{scores:?}") });
        }
    }
    Ok(scores)
}
