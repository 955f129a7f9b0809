//! Parsing of responses: completions in the shapes of the common servers.
//!
//! A completion needs its text alone. Whatever else a server reports is read where it can be, and left out where it cannot:
//! an odd log-prob or usage costs that value, never the completion.

use serde_json::{Map, Value};
use smpo_sampling::{Evidence, Finish, Reported};

use super::config::{HttpConfig, LogprobBase};
use super::json;
use super::refusal::{Refusal, line};
use super::spoken::Spoken;
use crate::{Completion, FinishReason, Request};

/// OpenAI's word for a token that is too unlikely to have a log-prob, and vLLM's in place of −∞: no value.
const UNLIKELY: f64 = -9999.0;

/// A response of status 200 that is no completion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unusable {
    /// The server's own error.
    Refused(Refusal),
    /// A completion that broke off, or that lacks what it needs: the next may be whole.
    Broken(String),
    /// Another kind of document: the next will be one too.
    NoJson(String),
}

/// A completion, with the name of the model that the server says it is from.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    pub completion: Completion,
    pub model: Option<String>,
    /// Name of the server's build or configuration, where it gives one.
    pub fingerprint: Option<String>,
}

/// Parses a response body of `content_type`. `terminators` are the model's, empty where they are not known.
pub(super) fn answer(
    bytes: &[u8],
    content_type: &str,
    config: &HttpConfig,
    request: &Request,
    terminators: &[(u32, String)],
) -> Result<Answer, Unusable> {
    let body = document(bytes, content_type)?;
    let choice = body.get("choices").and_then(|choices| choices.get(0)).and_then(Value::as_object);
    if let Some(refusal) = Refusal::in_success(&body, choice) {
        return Err(Unusable::Refused(refusal));
    }
    let Some(choice) = choice else {
        let start = line(&String::from_utf8_lossy(bytes));
        return Err(Unusable::Broken(format!("expected `choices` as OpenAI's API has them, got {start}")));
    };
    let spoken = match (choice.get("message").and_then(Value::as_object), choice.get("text")) {
        (Some(message), _) => Spoken::read(message),
        (None, Some(Value::String(text))) => Spoken { text: text.clone(), reasoning: None },
        _ => return Err(Unusable::Broken("expected a choice with `message` or `text`, got neither".into())),
    };
    let Shown { logps, ids, pieces } = choice.get("logprobs").and_then(Value::as_object).map(shown).unwrap_or_default();
    let scale = match config.logprob_base {
        LogprobBase::E => 1.0,
        LogprobBase::Ten => std::f64::consts::LN_10,
    };
    let logps: Option<Vec<f32>> = logps
        .filter(|logps| logps.iter().all(|logp| *logp > UNLIKELY))
        .map(|logps| logps.into_iter().map(|logp| (logp * scale) as f32).collect())
        // mistralrs-server 0.8.1 reports logits at temperature 0; no probability is above 1.
        .filter(|logps: &Vec<f32>| logps.iter().all(|logp| *logp <= 1e-3));
    let token_ids = choice.get("token_ids").and_then(ids_of).or(ids);
    let pieces = pieces.filter(|_| token_ids.is_none());
    let reported = body.get("usage").and_then(|usage| count(usage.get("completion_tokens")?));
    let silent = spoken.text.is_empty() && spoken.reasoning.is_none();
    // Some servers report an impossible usage: more than the cap, or zero tokens for some text.
    let tokens = token_ids
        .as_ref()
        .map(|ids| ids.len() as u32)
        .or(reported.filter(|&tokens| tokens <= request.max_tokens && (tokens > 0 || silent)));
    let evidence = Evidence {
        tokens: reported.filter(|&tokens| tokens > 0).or(tokens),
        cap: Some(request.max_tokens),
        token_ids: token_ids.as_deref(),
        terminators,
    };
    let Finish { reason, remark } = Reported::of_fields(choice).weigh(&evidence);
    if reason == FinishReason::Error {
        let message = "the server reports an error in place of an end, and no message".to_owned();
        return Err(Unusable::Refused(Refusal { message, status: None }));
    }
    // Log-probs that do not align with the ids are kept as values; the ids are dropped.
    let token_ids = token_ids.filter(|ids| logps.as_ref().is_none_or(|logps| logps.len() == ids.len()));
    let completion = Completion {
        reasoning: spoken.reasoning,
        token_ids,
        logps,
        pieces,
        tokens,
        cap: request.max_tokens,
        finish: reason,
        finish_remark: remark,
        ..Completion::new(spoken.text)
    };
    let named = |field: &str| body.get(field).and_then(Value::as_str).map(str::to_owned);
    Ok(Answer { completion, model: named("model"), fingerprint: named("system_fingerprint") })
}

/// The body as an object.
fn document(bytes: &[u8], content_type: &str) -> Result<Map<String, Value>, Unusable> {
    let text = String::from_utf8_lossy(bytes);
    let start = line(text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default());
    match json::parse(bytes) {
        Ok(Value::Object(body)) => Ok(body),
        Ok(Value::Array(list)) => Err(match Refusal::in_list(&list) {
            Some(refusal) => Unusable::Refused(refusal),
            None => Unusable::Broken(format!("expected a completion, got the list {start}")),
        }),
        Ok(_) => Err(Unusable::Broken(format!("expected a completion, got {start}"))),
        Err(error) if start.is_empty() || start.starts_with(['{', '[']) => {
            Err(Unusable::Broken(format!("expected a completion, got {error} in {start}")))
        }
        Err(_) => {
            let kind = if content_type.is_empty() { "another document" } else { content_type };
            Err(Unusable::NoJson(format!("expected a completion as JSON, got {kind} that starts with {start}")))
        }
    }
}

/// A whole number, also as a float or a string; `None` for any other value.
fn count(value: &Value) -> Option<u32> {
    let number = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok())?;
    (number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&number)).then_some(number as u32)
}

fn ids_of(value: &Value) -> Option<Vec<u32>> {
    value.as_array()?.iter().map(count).collect()
}

/// Per-token values of a response: complete for all tokens, or absent.
#[derive(Default)]
struct Shown {
    logps: Option<Vec<f64>>,
    ids: Option<Vec<u32>>,
    pieces: Option<Vec<String>>,
}

/// `logprobs` of a chat completion (`content`; mistralrs-server gives it for both) or of a completion
/// (`token_logprobs`).
fn shown(logprobs: &Map<String, Value>) -> Shown {
    let list = |name: &str| logprobs.get(name).and_then(Value::as_array);
    let text = |token: &Value| token.as_str().map(str::to_owned);
    match (list("content"), list("token_logprobs")) {
        (Some(tokens), _) => Shown {
            logps: tokens.iter().map(|token| token.get("logprob")?.as_f64()).collect(),
            // llama.cpp's `id`
            ids: tokens
                .iter()
                .map(|token| token.get("id").and_then(count).or_else(|| named_id(token.get("token")?)))
                .collect(),
            pieces: tokens.iter().map(|token| token.get("token").and_then(text)).collect(),
        },
        (None, Some(logps)) => Shown {
            logps: logps.iter().map(Value::as_f64).collect(),
            ids: list("tokens").and_then(|tokens| tokens.iter().map(named_id).collect()),
            pieces: list("tokens").and_then(|tokens| tokens.iter().map(text).collect()),
        },
        (None, None) => Shown::default(),
    }
}

/// vLLM's `return_tokens_as_token_ids`: "token_id:17".
fn named_id(token: &Value) -> Option<u32> {
    token.as_str()?.strip_prefix("token_id:")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Sampler;
    use serde_json::json;
    use smpo_chat::Message;

    fn read_text(text: &str, base: LogprobBase) -> Result<Completion, Unusable> {
        let request = Request {
            prompt_id: "p".into(),
            sample: 1,
            messages: vec![Message::user("hi")],
            sampler: Sampler::greedy(),
            max_tokens: 16,
            seed: 3,
            extra_body: Default::default(),
        };
        let config = HttpConfig { model: "m".into(), logprob_base: base, ..HttpConfig::default() };
        answer(text.as_bytes(), "application/json", &config, &request, &[]).map(|answer| answer.completion)
    }

    fn read(value: &Value, base: LogprobBase) -> Result<Completion, Unusable> {
        read_text(&value.to_string(), base)
    }

    fn natural(value: Value) -> Result<Completion, Unusable> {
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
        for broken in [json!({}), json!({"choices": []}), json!({"choices": [{}]}), json!("no"), json!([1])] {
            assert!(matches!(natural(broken.clone()), Err(Unusable::Broken(_))), "{broken}");
        }
    }

    #[test]
    fn log_probs_above_zero_are_none() {
        let answer = json!({"choices": [{"text": "x", "logprobs": {"content": [{"token": "x", "logprob": 1.05}]}}]});
        let read = natural(answer).expect("valid");
        assert_eq!((read.logps, read.pieces), (None, Some(vec!["x".to_owned()])));
    }

    /// −9999 stands for a value that is missing, in either layout.
    #[test]
    fn a_log_prob_that_stands_for_none_is_none() {
        let token = |logp: f64| json!({"token": "x", "logprob": logp});
        let chat = |logp| json!({"choices": [{"text": "xx", "logprobs": {"content": [token(-0.5), token(logp)]}}]});
        assert_eq!(natural(chat(-9999.0)).expect("valid").logps, None);
        assert_eq!(natural(chat(-9998.0)).expect("valid").logps, Some(vec![-0.5, -9998.0]));
        let text = json!({"choices": [{"text": "xx", "logprobs": {"token_logprobs": [-9999.0, -0.5]}}]});
        assert_eq!(natural(text).expect("valid").logps, None);
    }

    #[test]
    fn decimal_logarithms_become_nats() {
        let answer = json!({"choices": [{"message": {"content": "x"}, "finish_reason": "stop",
                                          "logprobs": {"content": [{"logprob": -1.0}]}}]});
        assert_eq!(read(&answer, LogprobBase::Ten).expect("valid").logps, Some(vec![0.1f32.ln()]));
    }

    #[test]
    fn an_optional_value_costs_itself_alone() {
        let choice = r#""message": {"content": "x"}, "finish_reason": "stop""#;
        for (odd, tokens) in [
            (
                format!(
                    r#"{{"choices": [{{{choice}, "logprobs": {{"content": [{{"token": "x", "logprob": NaN}}]}}}}]}}"#
                ),
                None,
            ),
            (
                format!(
                    r#"{{"choices": [{{{choice}, "logprobs": {{"content": [{{"token": "x", "logprob": -Infinity}}]}}}}]}}"#
                ),
                None,
            ),
            (format!(r#"{{"choices": [{{{choice}, "logprobs": [-0.5]}}]}}"#), None),
            (format!(r#"{{"choices": [{{{choice}, "logprobs": "off", "token_ids": [5, -1]}}]}}"#), None),
            (format!(r#"{{"choices": [{{{choice}}}], "usage": {{"completion_tokens": 2.0}}}}"#), Some(2)),
            (format!(r#"{{"choices": [{{{choice}}}], "usage": {{"completion_tokens": "2"}}}}"#), Some(2)),
            (format!(r#"{{"choices": [{{{choice}}}], "usage": [2]}}"#), None),
        ] {
            let read = read_text(&odd, LogprobBase::E).expect("the text is there");
            assert_eq!(
                (read.text.as_str(), read.logps, read.token_ids, read.tokens),
                ("x", None, None, tokens),
                "{odd}"
            );
        }
    }

    #[test]
    fn an_end_is_weighed() {
        let stop = |tokens: u32| json!({"choices": [{"text": "x", "finish_reason": "stop"}], "usage": {"completion_tokens": tokens}});
        let finish = |value| natural(value).map(|read| (read.finish, read.finish_remark.is_some())).expect("valid");
        assert_eq!(finish(stop(5)), (FinishReason::Eos, false));
        assert_eq!(finish(stop(16)), (FinishReason::Length, true));
        let failed = json!({"choices": [{"text": "", "finish_reason": "error"}]});
        assert!(matches!(natural(failed), Err(Unusable::Refused(_))));
    }

    #[test]
    fn what_is_no_json_is_told_from_what_broke_off() {
        let html = "\n<!doctype html>\n<html>";
        let Err(Unusable::NoJson(message)) = read_text(html, LogprobBase::E) else { panic!("a page") };
        assert!(message.ends_with("starts with <!doctype html>"), "{message}");
        assert!(matches!(read_text("data: {\"choices\"", LogprobBase::E), Err(Unusable::NoJson(_))));
        for broken in ["", "{\"choi"] {
            assert!(matches!(read_text(broken, LogprobBase::E), Err(Unusable::Broken(_))), "{broken}");
        }
    }
}
