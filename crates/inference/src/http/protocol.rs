//! `/v1/chat/completions`: the body that is sent, and what is read from the answer.

use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::config::{HttpConfig, LogprobBase};
use crate::{Completion, FinishReason, Request};

/// What a server turned out not to take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Refusals {
    pub logprobs: bool,
    /// It wants `max_completion_tokens` instead.
    pub max_tokens: bool,
}

impl Refusals {
    /// What a 400 or 422 that says `message` adds to them; `None` where it adds nothing.
    pub fn learn(self, message: &str) -> Option<Self> {
        let learned = Refusals {
            logprobs: self.logprobs || message.contains("logprobs"),
            max_tokens: self.max_tokens || message.contains("max_completion_tokens"),
        };
        (learned != self).then_some(learned)
    }
}

/// The body of one request. `top_k` and `min_p` are not OpenAI's, but vLLM, SGLang, llama.cpp and mistral.rs take them.
pub(super) fn body(config: &HttpConfig, request: &Request, refusals: Refusals) -> Value {
    let mut body = Map::new();
    body.insert("model".into(), config.model.as_str().into());
    body.insert("messages".into(), json!(request.messages));
    let cap = if refusals.max_tokens { "max_completion_tokens" } else { "max_tokens" };
    body.insert(cap.into(), request.max_tokens.into());
    body.insert("temperature".into(), request.sampler.temperature.into());
    body.insert("seed".into(), seed(request).into());
    if let Some(top_p) = request.sampler.top_p {
        body.insert("top_p".into(), top_p.into());
    }
    if let Some(top_k) = request.sampler.top_k {
        body.insert("top_k".into(), top_k.into());
    }
    if let Some(min_p) = request.sampler.min_p {
        body.insert("min_p".into(), min_p.into());
    }
    if config.logprobs && !refusals.logprobs {
        body.insert("logprobs".into(), true.into());
    }
    body.extend(config.extra_body.clone());
    Value::Object(body)
}

/// A seed for servers that take one: 31 bits of a hash of (run seed, prompt, sample).
pub(super) fn seed(request: &Request) -> u32 {
    let mut hash = Sha256::new();
    hash.update(request.seed.to_le_bytes());
    hash.update(request.sample.to_le_bytes());
    hash.update(request.prompt_id.as_bytes());
    let digest = hash.finalize();
    u32::from_le_bytes([digest[0], digest[1], digest[2], digest[3]]) >> 1
}

#[derive(Deserialize)]
struct Answer {
    choices: Vec<Choice>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Choice {
    message: Spoken,
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
    content: Option<Vec<TokenLogprob>>,
}

#[derive(Deserialize)]
struct TokenLogprob {
    logprob: f64,
}

#[derive(Deserialize)]
struct Usage {
    completion_tokens: Option<u64>,
}

/// Reads an answer.
pub(super) fn completion(bytes: &[u8], config: &HttpConfig, request: &Request) -> Result<Completion, String> {
    let answer: Answer =
        serde_json::from_slice(bytes).map_err(|error| format!("expected a chat completion, got {error}"))?;
    let choice = answer.choices.into_iter().next().ok_or("expected one choice, got none")?;
    let scale = match config.logprob_base {
        LogprobBase::E => 1.0,
        LogprobBase::Ten => std::f64::consts::LN_10,
    };
    let logps: Option<Vec<f32>> = choice
        .logprobs
        .and_then(|logprobs| logprobs.content)
        .map(|tokens| tokens.iter().map(|token| (token.logprob * scale) as f32).collect());
    let text = choice.message.content.unwrap_or_default();
    let finish = match choice.finish_reason.as_deref() {
        Some("stop") => FinishReason::Eos,
        Some("length") => FinishReason::Length,
        _ => FinishReason::Unknown,
    };
    let token_ids = choice.token_ids;
    // Some servers report a usage that cannot be: more than the cap, or nothing for some text.
    let reported = answer.usage.and_then(|usage| usage.completion_tokens).and_then(|tokens| u32::try_from(tokens).ok());
    let tokens = token_ids
        .as_ref()
        .map(|ids| ids.len() as u32)
        .or(reported.filter(|&tokens| tokens <= request.max_tokens && (tokens > 0 || text.is_empty())));
    // Without ids of the same length log-probs say nothing about which token is which, but still how likely each was.
    let token_ids = token_ids.filter(|ids| logps.as_ref().is_none_or(|logps| logps.len() == ids.len()));
    Ok(Completion { text, token_ids, logps, terminator_logps: None, tokens, cap: request.max_tokens, finish })
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

/// Whether a 429 means that no waiting helps.
pub(super) fn out_of_quota(bytes: &[u8]) -> bool {
    let value: Value = serde_json::from_slice(bytes).unwrap_or(Value::Null);
    value["error"]["code"] == "insufficient_quota" || value["error"]["type"] == "insufficient_quota"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Sampler;
    use smpo_chat::Message;

    fn request() -> Request {
        Request {
            prompt_id: "p".into(),
            sample: 1,
            messages: vec![Message::user("hi")],
            sampler: Sampler { top_k: Some(5), top_p: Some(0.9), min_p: None, temperature: 0.7 },
            max_tokens: 16,
            seed: 3,
        }
    }

    fn config() -> HttpConfig {
        HttpConfig { model: "m".into(), ..HttpConfig::default() }
    }

    #[test]
    fn the_body_says_what_was_asked_and_nothing_of_stopping() {
        let request = request();
        let mut config = config();
        config.extra_body.insert("chat_template_kwargs".into(), json!({"enable_thinking": false}));
        assert_eq!(
            body(&config, &request, Refusals::default()),
            json!({
                "model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 16, "temperature": 0.7,
                "seed": seed(&request), "top_p": 0.9, "top_k": 5, "logprobs": true,
                "chat_template_kwargs": {"enable_thinking": false},
            })
        );
        let refused = body(&config, &request, Refusals { logprobs: true, max_tokens: true });
        assert_eq!((&refused["logprobs"], &refused["max_tokens"]), (&Value::Null, &Value::Null));
        assert_eq!(refused["max_completion_tokens"], 16);
        assert_ne!(seed(&request), seed(&Request { sample: 2, ..request.clone() }));
    }

    #[test]
    fn answers_are_read_in_the_shapes_servers_give_them() {
        let read = |value: Value| completion(value.to_string().as_bytes(), &config(), &request());
        let full = read(json!({
            "choices": [{"message": {"content": " hi\n"}, "finish_reason": "stop", "token_ids": [5, 6],
                         "logprobs": {"content": [{"token": " hi", "logprob": -0.5}, {"token": "", "logprob": -1.0}]}}],
            "usage": {"completion_tokens": 2},
        }))
        .expect("valid");
        assert_eq!((full.text.as_str(), full.finish, full.tokens), (" hi\n", FinishReason::Eos, Some(2)));
        assert_eq!((full.logps, full.token_ids), (Some(vec![-0.5, -1.0]), Some(vec![5, 6])));

        let bare = read(json!({"choices": [{"message": {"content": null}, "finish_reason": null}]})).expect("valid");
        assert_eq!((bare.text.as_str(), bare.finish, bare.tokens, bare.logps), ("", FinishReason::Unknown, None, None));
        for lie in [json!(17), json!(0), json!(1u64 << 40)] {
            let choice = json!({"message": {"content": "text"}, "finish_reason": "length"});
            let lied = read(json!({"choices": [choice], "usage": {"completion_tokens": lie}})).expect("valid");
            assert_eq!((lied.tokens, lied.finish), (None, FinishReason::Length), "{lie}");
        }
        for broken in [json!({}), json!({"choices": []}), json!({"choices": [{}]}), json!("no")] {
            assert!(read(broken.clone()).is_err(), "{broken}");
        }
    }

    #[test]
    fn decimal_logarithms_become_nats() {
        let config = HttpConfig { logprob_base: LogprobBase::Ten, ..config() };
        let answer = json!({"choices": [{"message": {"content": "x"}, "finish_reason": "stop",
                                          "logprobs": {"content": [{"logprob": -1.0}]}}]});
        let read = completion(answer.to_string().as_bytes(), &config, &request()).expect("valid");
        assert_eq!(read.logps, Some(vec![0.1f32.ln()]));
    }

    #[test]
    fn error_bodies_are_found_and_cut() {
        for body in [r#"{"error":{"message":"a  b"}}"#, r#"{"message":"a b"}"#, r#"{"detail":"a b"}"#, "a\nb"] {
            assert_eq!(error_message(body.as_bytes()), "a b", "{body}");
        }
        assert_eq!(error_message("é".repeat(4000).as_bytes()).chars().count(), 301);
        assert!(out_of_quota(br#"{"error":{"code":"insufficient_quota"}}"#) && !out_of_quota(b"{}"));
    }

    #[test]
    fn refusals_are_learned_once() {
        let first = Refusals::default().learn("this model does not support logprobs").expect("new");
        assert_eq!(first, Refusals { logprobs: true, max_tokens: false });
        assert_eq!(first.learn("logprobs again"), None);
        assert_eq!(Refusals::default().learn("no such model"), None);
    }
}
