//! Optional fields of a request, and those among them that a server refuses.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::Sampler;

/// Sampler fields with their neutral values. Servers fill what is left out from a model's `generation_config.json` or
/// from defaults of their own, and a repetition penalty hides the very loops that are measured.
fn neutral() -> [(&'static str, Value); 8] {
    [
        ("top_p", json!(1.0)),
        // vLLM's and SGLang's; see `Refusals::top_k_is_unsigned`
        ("top_k", json!(-1)),
        ("min_p", json!(0.0)),
        ("presence_penalty", json!(0.0)),
        ("frequency_penalty", json!(0.0)),
        ("repetition_penalty", json!(1.0)),
        // llama.cpp's name
        ("repeat_penalty", json!(1.0)),
        // vLLM's detector, which ends a looping completion
        ("repetition_detection", json!({"max_pattern_size": 0})),
    ]
}

/// Fields that no server needs, and that shape the completions.
fn sampling() -> impl Iterator<Item = &'static str> {
    neutral().into_iter().map(|(name, _)| name).chain(["seed"])
}

/// Fields that no server needs, and that shape what it reports.
const REPORTING: [&str; 3] = ["logprobs", "return_token_ids", "add_special_tokens"];

/// Fields that are in OpenAI's own API.
const STANDARD: [&str; 5] = ["top_p", "presence_penalty", "frequency_penalty", "seed", "logprobs"];

/// The sampler as fields: the suite's values, neutral ones for the rest.
pub(super) fn sampler_fields(sampler: &Sampler, refusals: &Refusals) -> Map<String, Value> {
    let mut fields = Map::from_iter([("temperature".to_owned(), sampler.temperature.into())]);
    for (name, value) in neutral() {
        if !refusals.fields.contains(name) {
            let unsigned = name == "top_k" && refusals.top_k_is_unsigned;
            fields.insert(name.into(), if unsigned { json!(0) } else { value });
        }
    }
    let chosen: [(&str, Option<Value>); 3] = [
        ("top_p", sampler.top_p.map(Value::from)),
        ("top_k", sampler.top_k.map(Value::from)),
        ("min_p", sampler.min_p.map(Value::from)),
    ];
    fields.extend(chosen.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    fields
}

/// Parts of a request that a server refused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Refusals {
    /// Optional fields that are left out.
    fields: BTreeSet<&'static str>,
    /// `top_k` must not be negative: 0 is off.
    top_k_is_unsigned: bool,
    /// `max_tokens`; `max_completion_tokens` is sent instead.
    pub max_tokens: bool,
    /// A prompt of token ids; the text is sent instead.
    pub prompt_ids: bool,
}

impl Refusals {
    /// True if `field` is left out.
    pub fn drops(&self, field: &str) -> bool {
        self.fields.contains(field)
    }

    /// Leaves out log-probs.
    pub fn without_logprobs(mut self) -> Self {
        self.fields.insert("logprobs");
        self
    }

    /// These refusals with those that the body of a refusing response adds; `None` where it adds none. Fields of
    /// `wanted`, which the user asked for, are never left out.
    pub fn learn(&self, body: &str, sampler: &Sampler, wanted: &Map<String, Value>) -> Option<Self> {
        let chosen = |name: &str| {
            wanted.contains_key(name)
                || match name {
                    "top_p" => sampler.top_p.is_some(),
                    "top_k" => sampler.top_k.is_some(),
                    "min_p" => sampler.min_p.is_some(),
                    _ => false,
                }
        };
        let mut learned = self.clone();
        let droppable = || sampling().chain(REPORTING).filter(|name| !chosen(name) && !self.drops(name));
        for name in droppable().filter(|name| names(body, name)) {
            if name == "top_k" && !self.top_k_is_unsigned {
                learned.top_k_is_unsigned = true;
            } else {
                learned.fields.insert(name);
            }
        }
        let lower = body.to_lowercase();
        let any = |words: &[&str]| words.iter().any(|word| lower.contains(word));
        if lower.contains("penalty is not") {
            learned.fields.extend(droppable().filter(|name| name.ends_with("_penalty")));
        }
        learned.max_tokens |= body.contains("max_completion_tokens");
        // "prompt: invalid type: sequence, expected a string", "prompt must be a string", …
        learned.prompt_ids |= body.contains("prompt") && body.contains("string");
        // A field is refused, and not named: all that are not OpenAI's.
        let named = sampling().chain(REPORTING).any(|name| names(body, name));
        if learned == *self
            && !named
            && any(&[
                "unrecognized",
                "unrecognised",
                "unknown",
                "unsupported",
                "unexpected",
                "not supported",
                "extra",
                "not permitted",
            ])
            && any(&["field", "parameter", "argument", "propert", "input", "key"])
        {
            learned.fields.extend(droppable().filter(|name| !STANDARD.contains(name)));
        }
        (learned != *self).then_some(learned)
    }

    /// Adds those of `other`.
    pub fn join(&mut self, other: Self) {
        self.fields.extend(other.fields);
        self.top_k_is_unsigned |= other.top_k_is_unsigned;
        self.max_tokens |= other.max_tokens;
        self.prompt_ids |= other.prompt_ids;
    }

    /// Fields for which the server's own defaults apply.
    pub fn own_defaults(&self) -> BTreeSet<String> {
        sampling().filter(|name| self.drops(name)).map(str::to_owned).collect()
    }
}

/// True if `text` holds `name` as a word, in snake or camel case.
fn names(text: &str, name: &str) -> bool {
    let mut camel = String::with_capacity(name.len());
    for part in name.split('_') {
        let mut characters = part.chars();
        match characters.next() {
            Some(first) if !camel.is_empty() => camel.extend(first.to_uppercase().chain(characters)),
            _ => camel.push_str(part),
        }
    }
    let whole = |at: usize, name: &str| {
        let inside = |c: char| c.is_alphanumeric() || c == '_';
        !text[..at].ends_with(inside) && !text[at + name.len()..].starts_with(inside)
    };
    [name, camel.as_str()].iter().any(|name| text.match_indices(name).any(|(at, _)| whole(at, name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Sampler = Sampler::temperature(0.8);

    fn learn(refusals: &Refusals, body: &str) -> Option<Refusals> {
        refusals.learn(body, &PLAIN, &Map::new())
    }

    fn dropped(body: &str) -> Vec<&'static str> {
        learn(&Refusals::default(), body).map(|learned| learned.fields.into_iter().collect()).unwrap_or_default()
    }

    #[test]
    fn the_suite_s_values_are_sent_and_neutral_ones_for_the_rest() {
        let sampler = Sampler { top_k: Some(5), ..PLAIN };
        let fields = sampler_fields(&sampler, &Refusals::default());
        let expected = json!({
            "temperature": 0.8, "top_p": 1.0, "top_k": 5, "min_p": 0.0, "presence_penalty": 0.0,
            "frequency_penalty": 0.0, "repetition_penalty": 1.0, "repeat_penalty": 1.0,
            "repetition_detection": {"max_pattern_size": 0},
        });
        assert_eq!(Value::Object(fields), expected);
        assert_eq!(sampler_fields(&PLAIN, &Refusals::default())["top_k"], -1);
    }

    #[test]
    fn a_server_s_refusal_names_the_field() {
        for (body, fields) in [
            ("this model does not support logprobs", vec!["logprobs"]),
            ("Unrecognized request arguments supplied: top_k, min_p", vec!["min_p"]),
            (
                r#"{"detail":[{"type":"extra_forbidden","loc":["body","repetition_penalty"]}]}"#,
                vec!["repetition_penalty"],
            ),
            (r#"Unknown name \"seed\": Cannot find field."#, vec!["seed"]),
            ("presencePenalty must be absent", vec!["presence_penalty"]),
            (
                "Penalty is not enabled for this model",
                vec!["frequency_penalty", "presence_penalty", "repeat_penalty", "repetition_penalty"],
            ),
            ("no such model", vec![]),
            ("stop_p, reseed and my_top_p_x are fine", vec![]),
            (
                "Extra inputs are not permitted",
                vec![
                    "add_special_tokens",
                    "min_p",
                    "repeat_penalty",
                    "repetition_detection",
                    "repetition_penalty",
                    "return_token_ids",
                    "top_k",
                ],
            ),
        ] {
            assert_eq!(dropped(body), fields, "{body}");
        }
    }

    #[test]
    fn refusals_are_learned_once_and_top_k_in_two_steps() {
        let refusal = "top_k: invalid value: integer `-1`, expected usize";
        let zero = learn(&Refusals::default(), refusal).expect("new");
        assert_eq!(sampler_fields(&PLAIN, &zero)["top_k"], 0);
        let none = learn(&zero, "top_k must be at least 1").expect("new");
        assert!(!sampler_fields(&PLAIN, &none).contains_key("top_k") && none.own_defaults().contains("top_k"));
        assert_eq!(learn(&none, refusal), None);
        let tokens = learn(&Refusals::default(), "use max_completion_tokens").expect("new");
        assert!(tokens.max_tokens && tokens.own_defaults().is_empty());
    }

    #[test]
    fn what_the_user_chose_is_never_left_out() {
        let sampler = Sampler { top_k: Some(5), ..PLAIN };
        assert_eq!(Refusals::default().learn("top_k is not supported", &sampler, &Map::new()), None);
        let wanted = Map::from_iter([("seed".to_owned(), json!(1))]);
        assert_eq!(Refusals::default().learn("no field \"seed\"", &PLAIN, &wanted), None);
    }
}
