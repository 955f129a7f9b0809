//! Parsing of responses: completions in the shapes of the common servers, and their errors.

use serde::Deserialize;
use serde_json::Value;

use super::config::{HttpConfig, LogprobBase};
use crate::{Completion, FinishReason, Request};

#[derive(Deserialize)]
struct Answer {
    choices: Vec<Choice>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Choice {
    /// Of a chat completion.
    message: Option<Spoken>,
    /// Of a completion.
    text: Option<String>,
    finish_reason: Option<String>,
    logprobs: Option<Logprobs>,
    /// vLLM's, with `return_token_ids`.
    token_ids: Option<Vec<u32>>,
}

#[derive(Deserialize)]
struct Spoken {
    content: Option<String>,
}

#[derive(Deserialize)]
struct Logprobs {
    /// Of a chat completion; mistralrs-server gives it for both.
    content: Option<Vec<TokenLogprob>>,
    /// Of a completion.
    token_logprobs: Option<Vec<Option<f64>>>,
    tokens: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct TokenLogprob {
    logprob: Option<f64>,
    token: Option<String>,
    /// llama.cpp's.
    id: Option<u32>,
}

#[derive(Deserialize)]
struct Usage {
    completion_tokens: Option<u64>,
}

/// Parses a response body.
pub(super) fn completion(bytes: &[u8], config: &HttpConfig, request: &Request) -> Result<Completion, String> {
    let answer: Answer =
        serde_json::from_slice(bytes).map_err(|error| format!("expected a completion, got {error}"))?;
    let choice = answer.choices.into_iter().next().ok_or("expected one choice, got none")?;
    let text = match (choice.message, choice.text) {
        (Some(message), _) => message.content.unwrap_or_default(),
        (None, Some(text)) => text,
        (None, None) => return Err("expected a choice with `message` or `text`, got neither".into()),
    };
    let finish = match choice.finish_reason.as_deref() {
        Some("stop") => FinishReason::Eos,
        Some("length") => FinishReason::Length,
        _ => FinishReason::Unknown,
    };
    let Shown { logps, ids, pieces } = choice.logprobs.map(Logprobs::shown).unwrap_or_default();
    let scale = match config.logprob_base {
        LogprobBase::E => 1.0,
        LogprobBase::Ten => std::f64::consts::LN_10,
    };
    let logps: Option<Vec<f32>> = logps
        .map(|logps| logps.into_iter().map(|logp| (logp * scale) as f32).collect())
        // mistralrs-server 0.8.1 reports logits at temperature 0; no probability is above 1.
        .filter(|logps: &Vec<f32>| logps.iter().all(|logp| *logp <= 1e-3));
    let token_ids = choice.token_ids.or(ids);
    let pieces = pieces.filter(|_| token_ids.is_none());
    // Some servers report an impossible usage: more than the cap, or zero tokens for some text.
    let reported = answer.usage.and_then(|usage| usage.completion_tokens).and_then(|tokens| u32::try_from(tokens).ok());
    let tokens = token_ids
        .as_ref()
        .map(|ids| ids.len() as u32)
        .or(reported.filter(|&tokens| tokens <= request.max_tokens && (tokens > 0 || text.is_empty())));
    // Log-probs that do not align with the ids are kept as values; the ids are dropped.
    let token_ids = token_ids.filter(|ids| logps.as_ref().is_none_or(|logps| logps.len() == ids.len()));
    let cap = request.max_tokens;
    Ok(Completion { text, token_ids, logps, terminator_logps: None, pieces, tokens, cap, finish })
}

/// Per-token values of a response: complete for all tokens, or absent.
#[derive(Default)]
struct Shown {
    logps: Option<Vec<f64>>,
    ids: Option<Vec<u32>>,
    pieces: Option<Vec<String>>,
}

impl Logprobs {
    fn shown(self) -> Shown {
        match (self.content, self.token_logprobs) {
            (Some(tokens), _) => Shown {
                logps: tokens.iter().map(|token| token.logprob).collect(),
                ids: tokens.iter().map(|token| token.id.or_else(|| named_id(token.token.as_deref()?))).collect(),
                pieces: tokens.into_iter().map(|token| token.token).collect(),
            },
            (None, Some(logps)) => Shown {
                logps: logps.into_iter().collect(),
                ids: self.tokens.as_ref().and_then(|tokens| tokens.iter().map(|token| named_id(token)).collect()),
                pieces: self.tokens,
            },
            (None, None) => Shown::default(),
        }
    }
}

/// vLLM's `return_tokens_as_token_ids`: "token_id:17".
fn named_id(token: &str) -> Option<u32> {
    token.strip_prefix("token_id:")?.parse().ok()
}

/// The message of an error's body, in any of the shapes servers use, cut to a line.
pub(super) fn error_message(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let value: Value = serde_json::from_slice(bytes).unwrap_or(Value::Null);
    let message = [&value["error"]["message"], &value["message"], &value["detail"], &value["error"]]
        .into_iter()
        .find_map(Value::as_str)
        .unwrap_or(&text);
    let line = message.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(300) {
        Some((cut, _)) => format!("{}…", &line[..cut]),
        None => line,
    }
}

/// True if a 429 reports an exhausted quota, so that no retry can succeed.
pub(super) fn out_of_quota(bytes: &[u8]) -> bool {
    let value: Value = serde_json::from_slice(bytes).unwrap_or(Value::Null);
    value["error"]["code"] == "insufficient_quota" || value["error"]["type"] == "insufficient_quota"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Sampler;
    use serde_json::json;
    use smpo_chat::Message;

    fn read(value: &Value, base: LogprobBase) -> Result<Completion, String> {
        let request = Request {
            prompt_id: "p".into(),
            sample: 1,
            messages: vec![Message::user("hi")],
            sampler: Sampler::greedy(),
            max_tokens: 16,
            seed: 3,
        };
        let config = HttpConfig { model: "m".into(), logprob_base: base, ..HttpConfig::default() };
        completion(value.to_string().as_bytes(), &config, &request)
    }

    fn natural(value: Value) -> Result<Completion, String> {
        read(&value, LogprobBase::E)
    }

    #[test]
    fn chat_completions() {
        let full = natural(json!({
            "choices": [{"message": {"content": " hi\n"}, "finish_reason": "stop", "token_ids": [5, 6],
                         "logprobs": {"content": [{"token": " hi", "logprob": -0.5}, {"token": "", "logprob": -1.0}]}}],
            "usage": {"completion_tokens": 2},
        }))
        .expect("valid");
        assert_eq!((full.text.as_str(), full.finish, full.tokens), (" hi\n", FinishReason::Eos, Some(2)));
        assert_eq!((full.logps, full.token_ids), (Some(vec![-0.5, -1.0]), Some(vec![5, 6])));

        let bare = natural(json!({"choices": [{"message": {"content": null}, "finish_reason": null}]})).expect("valid");
        assert_eq!((bare.text.as_str(), bare.finish, bare.tokens, bare.logps), ("", FinishReason::Unknown, None, None));
    }

    #[test]
    fn completions() {
        let full = natural(json!({
            "choices": [{"text": " hi", "finish_reason": "length", "token_ids": [5],
                         "logprobs": {"tokens": [" hi"], "token_logprobs": [-0.5], "text_offset": [0]}}],
        }))
        .expect("valid");
        assert_eq!((full.text.as_str(), full.finish, full.tokens), (" hi", FinishReason::Length, Some(1)));
        assert_eq!((full.logps, full.token_ids), (Some(vec![-0.5]), Some(vec![5])));
    }

    #[test]
    fn ids_come_in_three_places() {
        let content =
            |entry: Value| json!({"choices": [{"message": {"content": "x"}, "logprobs": {"content": [entry]}}]});
        for (answer, expected) in [
            (content(json!({"token": "x", "id": 7, "logprob": -1.0})), Some(vec![7])),
            (content(json!({"token": "token_id:7", "logprob": -1.0})), Some(vec![7])),
            (content(json!({"token": "x", "logprob": -1.0})), None),
            (
                json!({"choices": [{"text": "x", "logprobs": {"tokens": ["token_id:7"], "token_logprobs": [-1.0]}}]}),
                Some(vec![7]),
            ),
        ] {
            assert_eq!(natural(answer.clone()).expect("valid").token_ids, expected, "{answer}");
        }
        // One token without a log-prob, and none can be aligned.
        let holes = natural(json!({"choices": [{"text": "xy", "logprobs": {"token_logprobs": [null, -1.0]}}]}));
        assert_eq!(holes.expect("valid").logps, None);
    }

    #[test]
    fn what_cannot_be_is_not_believed() {
        for lie in [json!(17), json!(0), json!(1u64 << 40)] {
            let choice = json!({"message": {"content": "text"}, "finish_reason": "length"});
            let lied = natural(json!({"choices": [choice], "usage": {"completion_tokens": lie}})).expect("valid");
            assert_eq!((lied.tokens, lied.finish), (None, FinishReason::Length), "{lie}");
        }
        for broken in [json!({}), json!({"choices": []}), json!({"choices": [{}]}), json!("no")] {
            assert!(natural(broken.clone()).is_err(), "{broken}");
        }
    }

    #[test]
    fn log_probs_above_zero_are_none() {
        let answer = json!({"choices": [{"text": "x", "logprobs": {"content": [{"token": "x", "logprob": 1.05}]}}]});
        let read = natural(answer).expect("valid");
        assert_eq!((read.logps, read.pieces), (None, Some(vec!["x".to_owned()])));
    }

    #[test]
    fn decimal_logarithms_become_nats() {
        let answer = json!({"choices": [{"message": {"content": "x"}, "finish_reason": "stop",
                                          "logprobs": {"content": [{"logprob": -1.0}]}}]});
        assert_eq!(read(&answer, LogprobBase::Ten).expect("valid").logps, Some(vec![0.1f32.ln()]));
    }

    #[test]
    fn error_bodies_are_found_and_cut() {
        for body in [r#"{"error":{"message":"a  b"}}"#, r#"{"message":"a b"}"#, r#"{"detail":"a b"}"#, "a\nb"] {
            assert_eq!(error_message(body.as_bytes()), "a b", "{body}");
        }
        assert_eq!(error_message("é".repeat(4000).as_bytes()).chars().count(), 301);
        assert!(out_of_quota(br#"{"error":{"code":"insufficient_quota"}}"#) && !out_of_quota(b"{}"));
    }
}
