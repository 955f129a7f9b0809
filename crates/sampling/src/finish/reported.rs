//! A reported end, weighed against what else is known of the completion.

use serde_json::{Map, Value};

use super::FinishReason;

/// Maximum characters of a reported word in a remark.
const SHOWN: usize = 40;

/// Texts of widespread terminators: SGLang stops at the template's turn end by text.
const TURN_ENDS: &[&str] = &[
    "</s>",
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end_of_text|>",
    "<|endoftext|>",
    "<|end|>",
    "<|return|>",
    "<|eot|>",
    "<end_of_turn>",
    "<eos>",
    "<｜end▁of▁sentence｜>",
];

/// An end as a program reports it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Reported {
    /// The word; `None` where none is given.
    word: Option<String>,
    /// The string or the token that it stopped at.
    matched: Option<Matched>,
}

#[derive(Debug, Clone, PartialEq)]
enum Matched {
    Text(String),
    Token(u32),
}

/// Independent knowledge of a completion, to weigh a reported end with.
#[derive(Debug, Clone, Copy, Default)]
pub struct Evidence<'a> {
    /// Generated tokens.
    pub tokens: Option<u32>,
    /// Cap on generated tokens.
    pub cap: Option<u32>,
    /// Generated token ids.
    pub token_ids: Option<&'a [u32]>,
    /// The model's terminators, id and text; empty where they are not known.
    pub terminators: &'a [(u32, String)],
}

/// A reported end, weighed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finish {
    /// Reason for which the completion ended.
    pub reason: FinishReason,
    /// For people, where the report is not simply believed: a word that tells nothing of the model's own end (known or
    /// not), or an end that the evidence speaks against. To be counted and shown with the results.
    pub remark: Option<String>,
}

impl Reported {
    /// A word alone.
    pub fn word(word: &str) -> Self {
        Reported { word: Some(word.to_owned()), matched: None }
    }

    /// From the fields of a completion, choice, message or response of any known API: `finish_reason` as a word or as
    /// an object (SGLang), with vLLM's `stop_reason` or SGLang's `matched_stop` beside it; `stop_reason` (Anthropic),
    /// `finishReason` (Gemini), `done_reason` (Ollama), `stop_type` (llama.cpp), `status` (the Responses API).
    pub fn of_fields(fields: &Map<String, Value>) -> Self {
        let given = |name: &str| fields.get(name).filter(|value| !value.is_null());
        const NAMES: [&str; 7] = [
            "finish_reason",
            "finishReason",
            "done_reason",
            "stop_type",
            "completionReason",
            "stop_reason",
            "stopReason",
        ];
        let mut reported = Reported::default();
        // `stop_reason` is the word where `finish_reason` does not exist, else the string that it stopped at.
        let name = NAMES.into_iter().find(|name| fields.contains_key(*name) && given(name).is_some());
        match name.and_then(given) {
            Some(Value::Object(object)) => {
                let word = ["type", "reason"].iter().find_map(|name| object.get(*name)?.as_str());
                reported.word = Some(word.map_or_else(|| Value::Object(object.clone()).to_string(), str::to_owned));
                reported.matched = object.get("matched").and_then(Matched::read);
            }
            Some(Value::String(word)) => reported.word = Some(word.clone()),
            Some(other) => reported.word = Some(other.to_string()),
            None => reported.word = response_status(fields),
        }
        for beside in ["matched_stop", "stop_sequence", "stopping_word", "stop_reason"] {
            if name != Some(beside) && reported.matched.is_none() {
                reported.matched = given(beside).and_then(Matched::read);
            }
        }
        reported.refine();
        reported
    }

    /// A finer word in the place of the stop string: `"finish_reason": "stop", "stop_reason": "max_tokens"`.
    fn refine(&mut self) {
        let Some(Matched::Text(text)) = &self.matched else { return };
        let is_word = text.contains('_') || matches!(text.as_str(), "eos" | "length");
        if is_word && FinishReason::of_word(text).is_some() {
            if self.reason() == Some(FinishReason::Eos) {
                self.word = Some(text.clone());
            }
            self.matched = None;
        }
    }

    fn reason(&self) -> Option<FinishReason> {
        self.word.as_deref().and_then(FinishReason::of_word)
    }

    /// The reason for the end, in the light of `evidence`.
    ///
    /// A stop string is no end of the model's own. An end at the cap is the cap's, and so is one whose ids reach the
    /// cap without a terminator; one whose ids just do not end in a terminator is unknown.
    pub fn weigh(&self, evidence: &Evidence<'_>) -> Finish {
        let Some(word) = self.word.as_deref() else { return Finish { reason: FinishReason::Unknown, remark: None } };
        match FinishReason::of_word(word) {
            Some(FinishReason::Eos) => self.weigh_end(word, evidence),
            Some(FinishReason::Unknown) | None => Finish {
                reason: FinishReason::Unknown,
                remark: Some(shown(word)).filter(|word| !matches!(word.as_str(), "" | "unknown")),
            },
            Some(reason) => Finish { reason, remark: None },
        }
    }

    fn weigh_end(&self, word: &str, evidence: &Evidence<'_>) -> Finish {
        let Evidence { tokens, cap, token_ids, terminators } = *evidence;
        let known = !terminators.is_empty();
        let is_terminator = |id: u32| terminators.iter().any(|(terminator, _)| *terminator == id);
        let believed = |reason| Finish { reason, remark: None };
        match &self.matched {
            Some(Matched::Text(text)) => {
                let ends =
                    terminators.iter().any(|(_, token)| token == text) || !known && TURN_ENDS.contains(&text.trim());
                if !ends {
                    return believed(FinishReason::Stop);
                }
            }
            Some(Matched::Token(id)) if known && !is_terminator(*id) => return believed(FinishReason::Stop),
            Some(Matched::Token(_)) | None => {}
        }
        let last = token_ids.and_then(|ids| ids.last()).filter(|_| known);
        if last.is_some_and(|&id| is_terminator(id)) {
            return believed(FinishReason::Eos);
        }
        let count = tokens.or(token_ids.map(|ids| ids.len() as u32));
        let word = shown(word);
        if cap.zip(count).is_some_and(|(cap, count)| count >= cap) {
            let remark = Some(format!("{word:?} at the cap, counted as cut"));
            return Finish { reason: FinishReason::Length, remark };
        }
        // More tokens than ids: the terminator is counted and left out of them.
        let left_out = token_ids.zip(tokens).is_some_and(|(ids, tokens)| tokens as usize > ids.len());
        if last.is_some() && !left_out {
            let remark = Some(format!("{word:?} after ids that end in no terminator"));
            return Finish { reason: FinishReason::Unknown, remark };
        }
        believed(FinishReason::Eos)
    }
}

impl Matched {
    fn read(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) if !text.is_empty() => Some(Matched::Text(text.clone())),
            Value::Number(id) => id.as_u64().and_then(|id| u32::try_from(id).ok()).map(Matched::Token),
            Value::Array(items) => items.first().and_then(Self::read),
            _ => None,
        }
    }
}

/// The Responses API: `status`, and `incomplete_details.reason` where it says more.
fn response_status(fields: &Map<String, Value>) -> Option<String> {
    let is_response = fields.get("object").and_then(Value::as_str) == Some("response")
        || fields.contains_key("incomplete_details")
        || fields.contains_key("output");
    let details = fields.get("incomplete_details").and_then(|details| details.get("reason"));
    let word = details.and_then(Value::as_str).or_else(|| fields.get("status").and_then(Value::as_str));
    word.filter(|_| is_response).map(str::to_owned)
}

/// A reported word, fit for a line: cut, without control characters.
fn shown(word: &str) -> String {
    let line: String = word.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(SHOWN + 1).collect();
    match line.char_indices().nth(SHOWN) {
        Some((cut, _)) => format!("{}…", &line[..cut]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::FinishReason::{Eos, Error, Length, Repetition, Stop, Unknown};
    use super::*;

    fn weigh(fields: Value, evidence: &Evidence<'_>) -> Finish {
        let Value::Object(fields) = fields else { panic!("{fields} is no object") };
        Reported::of_fields(&fields).weigh(evidence)
    }

    fn reason(fields: Value) -> FinishReason {
        weigh(fields, &Evidence::default()).reason
    }

    #[test]
    fn every_program_is_understood() {
        for (program, fields, expected) in [
            ("OpenAI", json!({"finish_reason": "stop"}), Eos),
            ("OpenAI", json!({"finish_reason": "content_filter"}), Unknown),
            ("Responses", json!({"object": "response", "status": "completed", "incomplete_details": null}), Eos),
            (
                "Responses",
                json!({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}, "output": []}),
                Length,
            ),
            ("Responses", json!({"object": "response", "status": "failed"}), Error),
            ("another status", json!({"status": "completed"}), Unknown),
            ("vLLM", json!({"finish_reason": "stop", "stop_reason": null}), Eos),
            ("vLLM", json!({"finish_reason": "stop", "stop_reason": 128_009}), Eos),
            ("vLLM", json!({"finish_reason": "stop", "stop_reason": "\nUser:"}), Stop),
            ("vLLM", json!({"finish_reason": "repetition", "stop_reason": "repetition_detected"}), Repetition),
            ("SGLang", json!({"finish_reason": "stop", "matched_stop": 2}), Eos),
            ("SGLang", json!({"finish_reason": "stop", "matched_stop": "\n\nUser:"}), Stop),
            ("SGLang", json!({"finish_reason": "stop", "matched_stop": "<|im_end|>"}), Eos),
            ("SGLang", json!({"finish_reason": {"type": "length", "length": 64}}), Length),
            ("SGLang", json!({"finish_reason": {"type": "stop", "matched": 2}}), Eos),
            ("SGLang", json!({"finish_reason": {"type": "stop", "matched": "User:"}}), Stop),
            ("SGLang", json!({"finish_reason": {"type": "abort", "message": "gone"}}), Unknown),
            ("text-generation-inference", json!({"finish_reason": "eos_token"}), Eos),
            ("text-generation-inference", json!({"finish_reason": "stop_sequence"}), Stop),
            ("llama.cpp", json!({"stop_type": "eos", "stopping_word": ""}), Eos),
            ("llama.cpp", json!({"stop_type": "word", "stopping_word": "User:"}), Stop),
            ("llama.cpp", json!({"stop_type": "limit"}), Length),
            ("Ollama", json!({"done": true, "done_reason": "length"}), Length),
            ("Anthropic", json!({"stop_reason": "end_turn", "stop_sequence": null}), Eos),
            ("Anthropic", json!({"stop_reason": "max_tokens"}), Length),
            ("Anthropic", json!({"stop_reason": "stop_sequence", "stop_sequence": "User:"}), Stop),
            ("Anthropic", json!({"stop_reason": "refusal"}), Unknown),
            ("Gemini", json!({"finishReason": "MAX_TOKENS"}), Length),
            ("Gemini", json!({"finishReason": "SAFETY"}), Unknown),
            ("Mistral", json!({"finish_reason": "model_length"}), Length),
            ("DeepSeek", json!({"finish_reason": "insufficient_system_resource"}), Unknown),
            ("a gateway", json!({"finish_reason": "stop", "stop_reason": "end_turn"}), Eos),
            ("a gateway", json!({"finish_reason": "stop", "stop_reason": "max_tokens"}), Length),
            ("a gateway", json!({"finish_reason": null, "stop_reason": "end_turn"}), Eos),
            ("a gateway", json!({"finish_reason": "error"}), Error),
            ("nobody", json!({"finish_reason": 3}), Unknown),
            ("nobody", json!({"finish_reason": ["stop"]}), Unknown),
            ("nobody", json!({}), Unknown),
        ] {
            assert_eq!(reason(fields.clone()), expected, "{program}: {fields}");
        }
    }

    #[test]
    fn what_tells_nothing_is_named() {
        let remark = |fields| weigh(fields, &Evidence::default()).remark;
        assert_eq!(remark(json!({"finish_reason": "wandered\noff"})).as_deref(), Some("wandered off"));
        assert_eq!(remark(json!({"finish_reason": "SAFETY"})).as_deref(), Some("SAFETY"));
        assert_eq!(remark(json!({"finish_reason": "é".repeat(90)})).map(|remark| remark.chars().count()), Some(41));
        for silent in [json!({}), json!({"finish_reason": null}), json!({"finish_reason": ""})] {
            assert_eq!(remark(silent.clone()), None, "{silent}");
        }
    }

    #[test]
    fn an_end_is_weighed_against_ids_and_cap() {
        let terminators = [(2, "</s>".to_owned())];
        let stop = |tokens, token_ids, known: bool| {
            let evidence =
                Evidence { tokens, cap: Some(4), token_ids, terminators: if known { &terminators } else { &[] } };
            weigh(json!({"finish_reason": "stop"}), &evidence)
        };
        let cap = Some("\"stop\" at the cap, counted as cut");
        let ids = Some("\"stop\" after ids that end in no terminator");
        for (tokens, token_ids, known, expected, remark) in [
            (None, None, false, Eos, None),
            (Some(3), None, true, Eos, None),
            (Some(4), None, false, Length, cap),
            (Some(4), Some(&[5, 6, 7, 2][..]), true, Eos, None),
            (Some(4), Some(&[5, 6, 7, 8][..]), true, Length, cap),
            (None, Some(&[5, 6, 7, 8][..]), true, Length, cap),
            (Some(2), Some(&[5, 6][..]), true, Unknown, ids),
            (Some(2), Some(&[5, 6][..]), false, Eos, None),
            // the terminator counted, and left out of the ids
            (Some(3), Some(&[5, 6][..]), true, Eos, None),
        ] {
            let finish = stop(tokens, token_ids, known);
            assert_eq!((finish.reason, finish.remark.as_deref()), (expected, remark), "{tokens:?} {token_ids:?}");
        }
        let at = |matched: Value| {
            let evidence = Evidence { terminators: &terminators, ..Evidence::default() };
            weigh(json!({"finish_reason": "stop", "matched_stop": matched}), &evidence).reason
        };
        assert_eq!([at(json!(2)), at(json!(5)), at(json!("</s>")), at(json!("<|im_end|>"))], [Eos, Stop, Eos, Stop]);
    }
}
