//! From completions to rows of `samples.jsonl`.

use smpo_inference::{Completion, InferenceError, Request};
use smpo_results::{FinishReason, SCHEMA_VERSION, Sample};

use crate::prompts::Prompt;

/// A completion of `prompt`, or the error in its place, as a row of `samples.jsonl`; `worker` is one of several.
pub(super) fn sample(
    prompt: &Prompt,
    request: &Request,
    worker: Option<&str>,
    result: &Result<Completion, InferenceError>,
) -> Sample {
    let completion = result.as_ref().ok();
    Sample {
        schema: SCHEMA_VERSION,
        prompt_id: prompt.id.clone(),
        slice: prompt.slice.clone(),
        sample: request.sample,
        messages: prompt.messages.clone(),
        reference: prompt.reference.clone(),
        closed: prompt.closed,
        language: prompt.language.clone(),
        reasoning: completion.and_then(|completion| completion.reasoning.clone()),
        completion: completion.map(|completion| completion.text.clone()).unwrap_or_default(),
        token_ids: completion.and_then(|completion| completion.token_ids.clone()),
        logps: completion.and_then(|completion| completion.logps.clone()),
        terminator_logps: completion.and_then(|completion| completion.terminator_logps.clone()),
        unknown_ids: completion.and_then(|completion| completion.unknown_ids),
        finish_reason: completion.map_or(FinishReason::Error, |completion| completion.finish),
        finish_remark: completion.and_then(|completion| completion.finish_remark.clone()),
        tokens: completion.and_then(|completion| completion.tokens),
        cap: Some(completion.map_or(request.max_tokens, |completion| completion.cap)),
        worker: worker.map(str::to_owned),
        error: result.as_ref().err().map(ToString::to_string),
    }
}
