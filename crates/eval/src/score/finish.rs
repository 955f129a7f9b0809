//! Finish reasons in the vocabularies of other programs.

use serde_json::Value;
use smpo_results::FinishReason;

use crate::json_rows::Row;

/// Reads `finish_reason` (and vLLM's `stop_reason`).
///
/// An OpenAI-compatible server reports `stop` for a terminator and for a stop string alike; vLLM distinguishes them in
/// `stop_reason`, which is the stop string. Without one, `stop` counts as a terminator: a run that measures whether a
/// model ends its turns sends no stop strings.
pub(super) fn read(row: &Row) -> Result<FinishReason, String> {
    let reason = match row.get("finish_reason") {
        None | Some(Value::Null) => return Ok(FinishReason::Unknown),
        Some(Value::String(reason)) => reason.to_ascii_lowercase(),
        Some(other) => return Err(format!("`finish_reason`: expected a string, got {other}")),
    };
    Ok(match reason.as_str() {
        "stop" if matches!(row.get("stop_reason"), Some(Value::String(_))) => FinishReason::Stop,
        // OpenAI, vLLM; smpo, Ollama; text-generation-inference; Anthropic
        "stop" | "eos" | "eos_token" | "end_turn" => FinishReason::Eos,
        "stop_sequence" => FinishReason::Stop,
        "length" | "max_tokens" => FinishReason::Length,
        "error" => FinishReason::Error,
        "unknown" | "" | "content_filter" | "tool_calls" | "function_call" | "abort" | "cancelled" => {
            FinishReason::Unknown
        }
        other => {
            return Err(format!(
                "`finish_reason`: expected stop, eos, eos_token, end_turn, stop_sequence, length, max_tokens, error or \
                 unknown, got {other:?}"
            ));
        }
    })
}
