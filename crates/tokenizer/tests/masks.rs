//! The scored tokens of conversations against the assistant masks of `transformers`: the templates of
//! `golden/masks.json`, and on request every training template of the PyPI package `trl`, from where it is installed:
//!
//! ```text
//! SMPO_PEER_PYTHON=/path/to/python cargo test --release -p smpo-tokenizer --test masks -- --ignored --nocapture
//! ```

use std::collections::BTreeMap;
use std::process::Command;

use serde::Deserialize;
use smpo_chat::{ChatTemplate, Message};
use smpo_tokenizer::ChatTokenizer;

#[derive(Deserialize)]
struct Reference {
    templates: BTreeMap<String, String>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    template: String,
    model: String,
    messages: Vec<Message>,
    ids: Vec<u32>,
    mask: Vec<u8>,
}

/// The mask up to the last terminator, without what the blocks write after one.
fn expected(case: &Case, tokenizer: &ChatTokenizer) -> (Vec<u32>, Vec<bool>) {
    let mut ended = false;
    let mut mask = Vec::with_capacity(case.mask.len());
    for (&id, &marked) in case.ids.iter().zip(&case.mask) {
        ended &= marked == 1;
        mask.push(marked == 1 && !ended);
        ended = marked == 1 && (ended || tokenizer.is_terminator(id));
    }
    let length = mask.iter().rposition(|marked| *marked).map_or(0, |last| last + 1);
    mask.truncate(length);
    (case.ids[..length].to_vec(), mask)
}

/// Ids and scored tokens of a conversation whose every answer is learned.
fn scored(case: &Case, tokenizer: &ChatTokenizer) -> Result<(Vec<u32>, Vec<bool>), String> {
    let first = case.messages.iter().position(|message| message.role == "assistant").unwrap();
    let (prompt, completion) = case.messages.split_at(first);
    let encoded = tokenizer.encode_completion(prompt, completion).map_err(|error| error.to_string())?;
    let start = encoded.prompt_ids.len();
    let ids = [encoded.prompt_ids, encoded.completion_ids].concat();
    let mut mask = vec![false; ids.len()];
    encoded.turns.iter().for_each(|turn| mask[start + turn.tokens.start..start + turn.tokens.end].fill(true));
    Ok((ids, mask))
}

fn compare(case: &Case, tokenizer: &ChatTokenizer) -> Option<String> {
    let shown = |(ids, mask): &(Vec<u32>, Vec<bool>)| {
        let kept: Vec<u32> = ids.iter().zip(mask).filter(|(_, marked)| **marked).map(|(id, _)| *id).collect();
        tokenizer.tokenizer().decode(&kept, false).unwrap()
    };
    let expected = expected(case, tokenizer);
    match scored(case, tokenizer) {
        Ok(got) if got == expected => None,
        Ok(got) => Some(format!("expected {:?}\n  got      {:?}", shown(&expected), shown(&got))),
        Err(error) => Some(error),
    }
}

#[test]
fn scored_tokens_are_those_that_transformers_marks() {
    let folder = smpo_fixtures::golden("tokenizer", "");
    let text = std::fs::read_to_string(folder.join("masks.json")).unwrap();
    let reference: Reference = serde_json::from_str(&text).unwrap();
    assert!(reference.cases.len() > 15);
    let mut wrong = Vec::new();
    for case in &reference.cases {
        let dir = folder.join(&case.model);
        let template = ChatTemplate::replacing(&dir, &*reference.templates[&case.template], &case.template).unwrap();
        let tokenizer = ChatTokenizer::with_template(&dir, template).unwrap();
        wrong.extend(compare(case, &tokenizer).map(|found| format!("{}: {found}", case.template)));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Templates that are refused: gpt-oss ends earlier turns with another token than the last, the others want content in parts.
const REFUSED: [&str; 3] = ["gptoss_training.jinja", "idefics3_training.jinja", "smolvlm_training.jinja"];

#[test]
#[ignore = "needs a Python with transformers and trl, named by SMPO_PEER_PYTHON"]
fn scored_tokens_are_those_that_the_templates_of_trl_mark() {
    let python = std::env::var("SMPO_PEER_PYTHON").expect("SMPO_PEER_PYTHON names a Python with transformers and trl");
    let dir = tempfile::tempdir().unwrap();
    let script = smpo_fixtures::golden("tokenizer", "masks.py");
    let output = Command::new(python).arg(script).arg("--trl").arg(dir.path()).output().unwrap();
    println!("{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success());
    let reference: Reference = serde_json::from_slice(&output.stdout).unwrap();
    let mut wrong = Vec::new();
    for case in &reference.cases {
        if !REFUSED.contains(&case.template.as_str()) {
            let tokenizer = ChatTokenizer::from_model_dir(&case.model).unwrap();
            wrong.extend(compare(case, &tokenizer).map(|found| format!("{}: {found}", case.template)));
        }
    }
    println!("{} conversations compared, {} disagree", reference.cases.len(), wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
