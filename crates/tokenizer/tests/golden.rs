//! Token ids against `transformers`, for the five model directories of `golden/` (made by `golden/generate.py`).

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use smpo_chat::Message;
use smpo_tokenizer::ChatTokenizer;

#[derive(Deserialize)]
struct Golden {
    terminators: BTreeMap<String, Vec<u32>>,
    pairs: Vec<Pair>,
}

#[derive(Deserialize)]
struct Pair {
    model: String,
    messages: Vec<Message>,
    chosen_text: String,
    rejected_text: String,
    opened: Vec<u32>,
    prompt: Vec<u32>,
    chosen: Vec<u32>,
    rejected: Vec<u32>,
}

fn folder() -> PathBuf {
    smpo_fixtures::golden("tokenizer", "")
}

fn golden() -> Golden {
    serde_json::from_str(&std::fs::read_to_string(folder().join("golden.json")).unwrap()).unwrap()
}

#[test]
fn the_terminators_are_the_union_of_all_that_name_one() {
    for (model, expected) in golden().terminators {
        let tokenizer = ChatTokenizer::from_model_dir(folder().join(&model)).unwrap();
        assert_eq!(tokenizer.terminators().ids(), expected, "{model}");
        for &id in &expected {
            assert!(tokenizer.is_terminator(id), "{model}");
        }
    }
}

#[test]
fn pairs_have_the_ids_that_transformers_gives() {
    let golden = golden();
    assert_eq!(golden.pairs.len(), 30);
    let mut wrong = Vec::new();
    for (at, case) in golden.pairs.iter().enumerate() {
        let tokenizer = ChatTokenizer::from_model_dir(folder().join(&case.model)).unwrap();
        let sides = [&case.chosen_text, &case.rejected_text].map(|text| [Message::assistant(text)]);
        assert_eq!(tokenizer.encode_prompt(&case.messages).unwrap(), case.opened, "{} {at}", case.model);
        let ids = tokenizer.encode_completions(&case.messages, &[&sides[0], &sides[1]]).unwrap();
        for (what, expected, got) in [
            ("prompt", &case.prompt, &ids.prompt_ids),
            ("chosen", &case.chosen, &ids.completion_ids[0]),
            ("rejected", &case.rejected, &ids.completion_ids[1]),
        ] {
            if expected != got {
                wrong.push(format!("{} {at} {what}: expected {expected:?}, got {got:?}", case.model));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
