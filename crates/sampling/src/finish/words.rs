//! The one table of finish words: for servers, answer files and training data.

use super::FinishReason;

/// Words in snake case with their meaning, by the programs that use them. With a stop string beside it,
/// [`super::Reported`] takes a word for an end as [`FinishReason::Stop`].
const WORDS: &[(FinishReason, &[&str])] = &[
    (
        FinishReason::Eos,
        &[
            // OpenAI, vLLM, SGLang, llama.cpp, Ollama, Gemini (STOP), Mistral, DeepSeek
            "stop",
            // smpo, Together, llama.cpp's stop_type
            "eos",
            // text-generation-inference, watsonx
            "eos_token",
            "eos_token_id",
            "eos_found",
            "stop_token",
            "end_id",
            // Anthropic, Bedrock
            "end_turn",
            "end_of_turn",
            "end",
            "end_of_text",
            "endoftext",
            // the Responses API, Cohere, Titan
            "completed",
            "complete",
            "finished",
            "finish",
        ],
    ),
    (
        FinishReason::Stop,
        &[
            // text-generation-inference, Anthropic, Cohere, watsonx
            "stop_sequence",
            "stop_string",
            "stop_string_found",
            "stop_str",
            "stop_word",
            "stop_words",
            // llama.cpp's stop_type
            "word",
        ],
    ),
    (
        FinishReason::Length,
        &[
            "length",
            // Anthropic, Gemini (MAX_TOKENS), Cohere, watsonx
            "max_tokens",
            "max_token",
            "max_new_tokens",
            "max_length",
            "max_predicted_tokens_reached",
            // the Responses API
            "max_output_tokens",
            // Mistral, inspect
            "model_length",
            // llama.cpp's stop_type
            "limit",
            "token_limit",
            "context_length",
            "context_length_reached",
            "context_length_exceeded",
            "context_window_exceeded",
            "model_context_window_exceeded",
        ],
    ),
    (
        FinishReason::Repetition,
        &[
            // vLLM's repetition detector; its stop_reason
            "repetition",
            "repetition_detected",
            "repeat",
            // ExLlama
            "loop_detected",
        ],
    ),
    (FinishReason::Error, &["error", "failed", "server_error", "timeout", "timed_out", "time_limit", "model_unloaded"]),
    (
        FinishReason::Unknown,
        &[
            "unknown",
            "other",
            "",
            "none",
            "null",
            "finish_reason_unspecified",
            "stop_unspecified",
            // safety
            "content_filter",
            "content_filtered",
            "guardrail_intervened",
            "safety",
            "refusal",
            "recitation",
            "blocklist",
            "prohibited_content",
            "spii",
            "language",
            "sensitive",
            "error_toxic",
            // tools
            "tool_calls",
            "tool_call",
            "tool_use",
            "function_call",
            "malformed_function_call",
            "unexpected_tool_call",
            // the server or the client let go of it
            "pause_turn",
            "incomplete",
            "in_progress",
            "queued",
            "not_finished",
            "abort",
            "aborted",
            "cancelled",
            "canceled",
            "user_cancel",
            "user_stopped",
            "insufficient_system_resource",
            "load",
            "unload",
        ],
    ),
];

/// The meaning of a word in any spelling; `None` for one that is not in the table.
pub(super) fn meaning(word: &str) -> Option<FinishReason> {
    let word = snake_case(word);
    // The textual form of an enumeration: `FinishReason.STOP`, `FINISH_REASON_STOP`.
    let bare = ["finish_reason.", "stop_reason.", "finish_reason_", "stop_reason_"]
        .iter()
        .find_map(|prefix| word.strip_prefix(prefix));
    [Some(word.as_str()), bare]
        .into_iter()
        .flatten()
        .find_map(|word| WORDS.iter().find(|(_, words)| words.contains(&word)).map(|(reason, _)| *reason))
}

/// `MAX_TOKENS`, `maxTokens`, `max-tokens` and `max tokens` as `max_tokens`.
fn snake_case(word: &str) -> String {
    let mut snake = String::with_capacity(word.len());
    let mut after_lower = false;
    for character in word.trim().chars() {
        if character.is_ascii_uppercase() && after_lower {
            snake.push('_');
        }
        after_lower = character.is_ascii_lowercase();
        snake.push(match character {
            '-' | ' ' => '_',
            other => other.to_ascii_lowercase(),
        });
    }
    snake
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_word_means_the_same_however_it_is_spelt() {
        for spelling in ["max_tokens", "MAX_TOKENS", "maxTokens", "MaxTokens", "max-tokens", " Max Tokens "] {
            assert_eq!(meaning(spelling), Some(FinishReason::Length), "{spelling}");
        }
        for spelling in ["STOP", "FinishReason.STOP", "FINISH_REASON_STOP", "eosFound", "EOS", "END_TURN"] {
            assert_eq!(meaning(spelling), Some(FinishReason::Eos), "{spelling}");
        }
        assert_eq!(meaning("FINISH_REASON_UNSPECIFIED"), Some(FinishReason::Unknown));
        assert_eq!(meaning("because"), None);
    }

    #[test]
    fn no_word_means_two_things() {
        let words: Vec<&str> = WORDS.iter().flat_map(|(_, words)| words.iter().copied()).collect();
        let different: HashSet<&str> = words.iter().copied().collect();
        assert_eq!(words.len(), different.len());
        assert!(words.iter().all(|word| snake_case(word) == *word));
    }
}
