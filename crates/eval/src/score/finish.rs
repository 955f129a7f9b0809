//! Finish reasons in the words of others.

use serde_json::Value;
use smpo_results::FinishReason;

use crate::json_rows::Row;

/// Reads `finish_reason` (and vLLM's `stop_reason`).
///
/// An OpenAI-compatible server says `stop` for the model's own end and for a stop string alike; vLLM tells them
/// apart in `stop_reason`, whose string is the stop string. Without one, `stop` is the model's own end: whoever asks
/// whether a model ends its turns does not send stop strings.
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
