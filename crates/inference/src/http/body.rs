//! The body of one request to `/chat/completions` or `/completions`.

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::config::HttpConfig;
use crate::Request;

/// Request fields that a server refused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Refusals {
    pub logprobs: bool,
    /// `max_tokens`; `max_completion_tokens` is sent instead.
    pub max_tokens: bool,
    /// `return_token_ids`.
    pub token_ids: bool,
    /// A prompt of token ids; the text is sent instead.
    pub prompt_ids: bool,
}

impl Refusals {
    /// These refusals with those that the `message` of a 400 or 422 adds; `None` where it adds none.
    pub fn learn(self, message: &str) -> Option<Self> {
        let token_ids = message.contains("return_token_ids");
        let learned = Refusals {
            token_ids: self.token_ids || token_ids,
            logprobs: self.logprobs || message.contains("logprobs"),
            max_tokens: self.max_tokens || message.contains("max_completion_tokens"),
            // "prompt: invalid type: sequence, expected a string", "prompt must be a string", …
            prompt_ids: self.prompt_ids || message.contains("prompt") && message.contains("string"),
        };
        (learned != self).then_some(learned)
    }

    /// The union of both.
    pub fn and(self, other: Self) -> Self {
        Refusals {
            logprobs: self.logprobs | other.logprobs,
            max_tokens: self.max_tokens | other.max_tokens,
            token_ids: self.token_ids | other.token_ids,
            prompt_ids: self.prompt_ids | other.prompt_ids,
        }
    }
}

/// The input of a request.
pub(super) enum Input<'a> {
    /// The conversation; the server renders it.
    Chat,
    /// The rendered conversation, as text and as token ids.
    Prompt { text: &'a str, ids: &'a [u32] },
}

/// The body of one request. `top_k` and `min_p` are not OpenAI's, but vLLM, SGLang, llama.cpp and mistral.rs take them;
/// `return_token_ids` is vLLM's, and others pass over it or refuse it once.
pub(super) fn body(config: &HttpConfig, request: &Request, input: &Input<'_>, refusals: Refusals) -> Value {
    let mut body = Map::new();
    body.insert("model".into(), config.model.as_str().into());
    let logprobs = match input {
        Input::Chat => {
            body.insert("messages".into(), json!(request.messages));
            json!(true)
        }
        Input::Prompt { ids, .. } if !refusals.prompt_ids => {
            body.insert("prompt".into(), json!(ids));
            json!(1)
        }
        Input::Prompt { text, .. } => {
            body.insert("prompt".into(), json!(text));
            // The template has written them already (vLLM's and SGLang's name).
            body.insert("add_special_tokens".into(), false.into());
            json!(1)
        }
    };
    let chat = matches!(input, Input::Chat);
    let cap = if refusals.max_tokens && chat { "max_completion_tokens" } else { "max_tokens" };
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
        body.insert("logprobs".into(), logprobs);
    }
    if !refusals.token_ids {
        body.insert("return_token_ids".into(), true.into());
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
            body(&config, &request, &Input::Chat, Refusals::default()),
            json!({
                "model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 16, "temperature": 0.7,
                "seed": seed(&request), "top_p": 0.9, "top_k": 5, "logprobs": true, "return_token_ids": true,
                "chat_template_kwargs": {"enable_thinking": false},
            })
        );
        let all = Refusals { logprobs: true, max_tokens: true, token_ids: true, prompt_ids: true };
        let refused = body(&config, &request, &Input::Chat, all);
        for gone in ["logprobs", "max_tokens", "return_token_ids"] {
            assert_eq!(refused[gone], Value::Null, "{gone}");
        }
        assert_eq!(refused["max_completion_tokens"], 16);
        assert_ne!(seed(&request), seed(&Request { sample: 2, ..request.clone() }));
    }

    #[test]
    fn a_rendered_prompt_goes_as_ids_or_where_they_are_refused_as_text() {
        let input = Input::Prompt { text: "<u>hi<a>", ids: &[1, 5, 2] };
        let ids = body(&config(), &request(), &input, Refusals::default());
        assert_eq!((&ids["prompt"], &ids["logprobs"], &ids["messages"]), (&json!([1, 5, 2]), &json!(1), &Value::Null));
        let refusal = "prompt: invalid type: sequence, expected a string at line 1 column 30";
        let text = body(&config(), &request(), &input, Refusals::default().learn(refusal).expect("new"));
        assert_eq!((&text["prompt"], &text["add_special_tokens"]), (&json!("<u>hi<a>"), &json!(false)));
    }

    #[test]
    fn refusals_are_learned_once() {
        let first = Refusals::default().learn("this model does not support logprobs").expect("new");
        assert_eq!(first, Refusals { logprobs: true, ..Refusals::default() });
        assert_eq!(first.learn("logprobs again"), None);
        assert_eq!(Refusals::default().learn("no such model"), None);
        let second = Refusals::default().learn("Unrecognized request argument: return_token_ids").expect("new");
        assert_eq!(second, Refusals { token_ids: true, ..Refusals::default() });
        assert_eq!(first.and(second), Refusals { logprobs: true, token_ids: true, ..Refusals::default() });
    }
}
