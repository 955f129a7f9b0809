//! Rewards of the samples of a run.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;

use smpo_chat::Message;
use smpo_inference::{Item, RewardModel, ScorerError};
use smpo_metrics::metric::reward;
use smpo_results::{FinishReason, Measurement, SCHEMA_VERSION, Sample};

use crate::suite::Suite;

/// Samples handed to the model at once; it may split them further.
const BATCH: usize = 64;

/// The reward model failed.
#[derive(Debug, thiserror::Error)]
#[error("the reward model on the samples of prompt {prompt:?} and those after it: {source}")]
pub struct RewardError {
    prompt: String,
    source: ScorerError,
}

/// `reward` of every sample that did not fail, a row a prompt; a sample that is longer than the model's context has none.
/// `None` when `on_progress`, called with the samples done and in total, breaks.
///
/// # Errors
/// The model's.
pub fn measure_rewards(
    suite: &Suite,
    samples: &[Sample],
    model: &mut dyn RewardModel,
    on_progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<Option<Vec<Measurement>>, RewardError> {
    let prompts: HashMap<&str, &[Message]> =
        suite.prompts.iter().map(|prompt| (prompt.id.as_str(), prompt.messages.as_slice())).collect();
    let told: Vec<(&Sample, &[Message], [Message; 1])> = samples
        .iter()
        .filter(|sample| sample.finish_reason != FinishReason::Error)
        .filter_map(|sample| Some((sample, *prompts.get(sample.prompt_id.as_str())?, [answer(sample)])))
        .collect();
    let mut rewards: Vec<Option<f64>> = Vec::with_capacity(told.len());
    for batch in told.chunks(BATCH) {
        let items: Vec<Item<'_>> = batch.iter().map(|(_, prompt, completion)| Item { prompt, completion }).collect();
        let failed = |source| RewardError { prompt: batch[0].0.prompt_id.clone(), source };
        rewards.extend(model.rewards(&items).map_err(failed)?);
        if on_progress(rewards.len(), told.len()).is_break() {
            return Ok(None);
        }
    }
    let rewarded: Vec<(&Sample, Option<f64>)> = told.iter().map(|(sample, ..)| *sample).zip(rewards).collect();
    let of_prompt = |rows: &[(&Sample, Option<f64>)]| {
        let values: Vec<f64> = rows.iter().filter_map(|(_, reward)| *reward).collect();
        let sample = rows[0].0;
        (!values.is_empty()).then(|| Measurement {
            schema: SCHEMA_VERSION,
            prompt_id: sample.prompt_id.clone(),
            slice: sample.slice.clone(),
            values: BTreeMap::from([(reward::INFO.id.to_owned(), values)]),
        })
    };
    Ok(Some(rewarded.chunk_by(|a, b| a.0.prompt_id == b.0.prompt_id).filter_map(of_prompt).collect()))
}

/// A sample as a message; its reasoning is a field of its own, and one that was cut says so.
pub fn answer(sample: &Sample) -> Message {
    let mut message = Message::assistant(sample.completion.clone());
    message.finished = sample.finish_reason.ended() != Some(false);
    match &sample.reasoning {
        Some(reasoning) => message.with_field("reasoning_content", reasoning.clone()),
        None => message,
    }
}
