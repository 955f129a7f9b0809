//! The body of one request to `/chat/completions` or `/completions`.

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::config::HttpConfig;
use super::fields::{Refusals, sampler_fields};
use crate::Request;

/// The input of a request.
pub(super) enum Input<'a> {
    /// The conversation; the server renders it.
    Chat,
    /// The rendered conversation, as text and as token ids.
    Prompt { text: &'a str, ids: &'a [u32] },
}

/// The body of one request. Not every field is OpenAI's: what a server refuses is left out from then on ([`Refusals`]),
/// and the most pass over what they do not know. `return_token_ids` is vLLM's.
pub(super) fn body(
    config: &HttpConfig,
    request: &Request,
    input: &Input<'_>,
    refusals: &Refusals,
) -> Map<String, Value> {
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
    // Some gateways stream unless told otherwise.
    body.insert("stream".into(), false.into());
    body.extend(sampler_fields(&request.sampler, refusals));
    body.insert("seed".into(), seed(request).into());
    if config.logprobs {
        body.insert("logprobs".into(), logprobs);
    }
    body.insert("return_token_ids".into(), true.into());
    body.retain(|name, _| !refusals.drops(name));
    body.extend(config.extra_body.clone());
    body.extend(request.extra_body.clone());
    body
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
            extra_body: Map::new(),
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
        let mut expected = json!({
            "model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 16, "stream": false,
            "seed": seed(&request), "logprobs": true, "return_token_ids": true,
            "chat_template_kwargs": {"enable_thinking": false},
        });
        let expected = expected.as_object_mut().expect("an object");
        expected.extend(sampler_fields(&request.sampler, &Refusals::default()));
        assert_eq!(&body(&config, &request, &Input::Chat, &Refusals::default()), expected);
        assert_ne!(seed(&request), seed(&Request { sample: 2, ..request.clone() }));
    }

    #[test]
    fn a_requests_own_fields_are_sent_last() {
        let mut config = config();
        config.extra_body.insert("response_format".into(), json!({"type": "text"}));
        let mut request = request();
        request.extra_body.insert("response_format".into(), json!({"type": "json_object"}));
        let body = body(&config, &request, &Input::Chat, &Refusals::default());
        assert_eq!(body["response_format"]["type"], "json_object");
    }

    #[test]
    fn what_was_refused_is_not_sent_again_unless_the_user_insists() {
        let refusal = "unknown: logprobs, return_token_ids, seed, min_p; use max_completion_tokens";
        let refusals = Refusals::default().learn(refusal, &request().sampler, &Map::new()).expect("new");
        let mut config = config();
        let refused = body(&config, &request(), &Input::Chat, &refusals);
        for gone in ["logprobs", "max_tokens", "return_token_ids", "seed", "min_p"] {
            assert!(!refused.contains_key(gone), "{gone}");
        }
        assert_eq!(refused["max_completion_tokens"], 16);
        config.extra_body.insert("seed".into(), 5.into());
        assert_eq!(body(&config, &request(), &Input::Chat, &refusals)["seed"], 5);
    }

    #[test]
    fn a_rendered_prompt_goes_as_ids_or_where_they_are_refused_as_text() {
        let input = Input::Prompt { text: "<u>hi<a>", ids: &[1, 5, 2] };
        let ids = body(&config(), &request(), &input, &Refusals::default());
        assert_eq!((&ids["prompt"], &ids["logprobs"], ids.get("messages")), (&json!([1, 5, 2]), &json!(1), None));
        let refusal = "prompt: invalid type: sequence, expected a string at line 1 column 30";
        let refusals = Refusals::default().learn(refusal, &request().sampler, &Map::new()).expect("new");
        let text = body(&config(), &request(), &input, &refusals);
        assert_eq!((&text["prompt"], &text["add_special_tokens"]), (&json!("<u>hi<a>"), &json!(false)));
    }
}
