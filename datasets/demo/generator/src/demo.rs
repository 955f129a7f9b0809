//! The demo's files: seeds, sizes, and one JSON object per line.

use serde_json::{Value, json};

use crate::{Family, Instruction, OodPrompt, Pair, ood, preference, sft};

const SFT_SEED: u64 = 101;
/// 600 steps of 48 examples, each seen once.
const SFT_EXAMPLES: usize = 600 * 48;
/// Seed of the pairs.
pub const PAIR_SEED: u64 = 202;
/// Pairs for training: three times what one training run draws.
pub const PAIRS: usize = 1_200;
/// Pairs held out of training.
pub const HELD_OUT: usize = 160;
/// Seed of the prompts.
pub const OOD_SEED: u64 = 303;
/// Prompts of the suite.
pub const OOD_PROMPTS: usize = 240;

/// Training data of the base model.
pub fn instructions() -> Vec<Instruction> {
    sft::instructions(SFT_SEED, SFT_EXAMPLES)
}

/// Preference pairs for training.
pub fn pairs() -> Vec<Pair> {
    let mut pairs = preference::pairs(PAIR_SEED, PAIRS + HELD_OUT);
    pairs.truncate(PAIRS);
    pairs
}

/// Preference pairs held out of training, distinct from those of [`pairs`].
pub fn held_out() -> Vec<Pair> {
    preference::pairs(PAIR_SEED, PAIRS + HELD_OUT).split_off(PAIRS)
}

/// The out-of-distribution suite.
pub fn prompts() -> Vec<OodPrompt> {
    ood::prompts(OOD_SEED, OOD_PROMPTS)
}

/// `sft.jsonl`: one conversation per line.
pub fn sft_jsonl(instructions: &[Instruction]) -> String {
    lines(instructions.iter().map(|i| json!({"messages": [user(&i.prompt), assistant(&i.answer)]})))
}

/// `preferences.jsonl` and `held_out.jsonl`: one pair per line, ids starting with `prefix`.
pub fn pairs_jsonl(prefix: &str, pairs: &[Pair]) -> String {
    lines(pairs.iter().enumerate().map(|(index, pair)| {
        let mut row = json!({
            "id": format!("{prefix}-{index:04}"),
            "prompt": [user(&pair.prompt)],
            "chosen": [assistant(&pair.chosen)],
            "rejected": [assistant(&pair.rejected)],
        });
        if !pair.finished {
            row["rejected_finish_reason"] = json!("length");
        }
        row
    }))
}

/// `ood.jsonl`: one prompt per line, with its slice and a gold answer.
pub fn ood_jsonl(prompts: &[OodPrompt]) -> String {
    lines(prompts.iter().enumerate().map(|(index, prompt)| {
        json!({
            "id": format!("ood-{index:03}"),
            "slice": prompt.family.name(),
            "prompt": prompt.prompt,
            "reference": prompt.gold,
            "closed": prompt.family == Family::Closed,
        })
    }))
}

fn lines(rows: impl Iterator<Item = Value>) -> String {
    rows.map(|row| row.to_string() + "\n").collect()
}

fn user(content: &str) -> Value {
    json!({"role": "user", "content": content})
}

fn assistant(content: &str) -> Value {
    json!({"role": "assistant", "content": content})
}
