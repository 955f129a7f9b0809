//! Rows of training data.

use std::path::Path;

use serde::Serialize;
use smpo_chat::Message;
use smpo_data::PreferencePair;
use smpo_results::files;

use crate::{Answered, Candidate, PairsError, Selected};

/// Layout of the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// `smpo`'s own: `id`, `prompt`, `chosen`, `rejected`, their scores; `completions` and `rewards` for groups.
    #[default]
    Canonical,
    /// `_rs.jsonl` of effective_llm_alignment, pairs only.
    Ela,
}

/// One prompt and its rows.
pub struct Rows<'a> {
    /// Id of the prompt.
    pub id: &'a str,
    /// The conversation.
    pub prompt: &'a [Message],
    /// The right answer, where only one is.
    pub correct_answer: Option<&'a str>,
    /// All samples of the prompt.
    pub candidates: &'a [Candidate<'a>],
    /// Those that became rows.
    pub selected: Selected,
}

/// A pair in the canonical layout.
#[derive(Serialize)]
struct Pair<'a> {
    #[serde(flatten)]
    pair: PreferencePair,
    score_chosen: Option<f64>,
    score_rejected: Option<f64>,
    /// Numbers of the samples, chosen first.
    samples: [u32; 2],
    model: &'a str,
}

/// A group in the canonical layout.
#[derive(Serialize)]
struct Group<'a> {
    id: &'a str,
    prompt: &'a [Message],
    completions: Vec<Vec<Message>>,
    rewards: Vec<Option<f64>>,
    finished: Vec<Option<bool>>,
    model: &'a str,
}

/// A pair as effective_llm_alignment's rejection sampling writes it.
#[derive(Serialize)]
struct ElaPair<'a> {
    id: &'a str,
    prompt: &'a [Message],
    chosen: Vec<Message>,
    chosen_score: Option<f64>,
    rejected: Vec<Message>,
    rejected_score: Option<f64>,
    all_generations: Vec<Vec<Message>>,
    all_scores: Vec<Option<f64>>,
    gen_model: &'a str,
    /// The scorers.
    rm_model: &'a str,
    target_answer: Option<&'a str>,
}

/// Writes the rows of all prompts, whole or not at all; `model` and `scorer` are told in them. Returns their number.
///
/// # Errors
/// The file cannot be written.
pub fn write_rows(
    path: &Path,
    rows: &[Rows<'_>],
    format: Format,
    model: &str,
    scorer: &str,
) -> Result<usize, PairsError> {
    let mut lines = Vec::new();
    for of_prompt in rows {
        match &of_prompt.selected {
            Selected::Group(members) => lines.push(json(&group(of_prompt, members, model))),
            Selected::Pairs(pairs) => {
                for &(chosen, rejected) in pairs {
                    lines.push(match format {
                        Format::Canonical => json(&pair(of_prompt, chosen, rejected, pairs.len() > 1, model)),
                        Format::Ela => json(&ela(of_prompt, chosen, rejected, model, scorer)),
                    });
                }
            }
        }
    }
    files::write_jsonl(path, "row", &lines)?;
    Ok(lines.len())
}

/// Rows hold texts and finite numbers alone, which always serialise.
fn json(row: &impl Serialize) -> serde_json::Value {
    serde_json::to_value(row).unwrap_or_default()
}

fn pair<'a>(rows: &Rows<'a>, chosen: usize, rejected: usize, several: bool, model: &'a str) -> Pair<'a> {
    let (chosen, rejected) = (&rows.candidates[chosen], &rows.candidates[rejected]);
    let samples = [chosen.answered.first.sample, rejected.answered.first.sample];
    let id = if several { format!("{}/{}-{}", rows.id, samples[0], samples[1]) } else { rows.id.to_owned() };
    let pair = PreferencePair {
        id,
        prompt: rows.prompt.to_vec(),
        inputs: Default::default(),
        chosen: chosen.answered.messages(),
        rejected: rejected.answered.messages(),
        margin: None,
    };
    Pair { pair, score_chosen: chosen.score, score_rejected: rejected.score, samples, model }
}

fn group<'a>(rows: &Rows<'a>, members: &[usize], model: &'a str) -> Group<'a> {
    let members = || members.iter().map(|&index| &rows.candidates[index]);
    let finished = |answered: &Answered<'_>| match answered.cut() {
        true => Some(false),
        false => answered
            .answers()
            .map(|answer| answer.finish_reason.ended())
            .try_fold(true, |all, ended| Some(all && ended?)),
    };
    Group {
        id: rows.id,
        prompt: rows.prompt,
        completions: members().map(|one| one.answered.messages()).collect(),
        rewards: members().map(|one| one.score).collect(),
        finished: members().map(|one| finished(&one.answered)).collect(),
        model,
    }
}

fn ela<'a>(rows: &Rows<'a>, chosen: usize, rejected: usize, model: &'a str, scorer: &'a str) -> ElaPair<'a> {
    let alive = || rows.candidates.iter().filter(|one| !one.answered.failed());
    let side = |index: usize| (rows.candidates[index].answered.messages(), rows.candidates[index].score);
    let ((chosen, chosen_score), (rejected, rejected_score)) = (side(chosen), side(rejected));
    ElaPair {
        id: rows.id,
        prompt: rows.prompt,
        chosen,
        chosen_score,
        rejected,
        rejected_score,
        all_generations: alive().map(|one| one.answered.messages()).collect(),
        all_scores: alive().map(|one| one.score).collect(),
        gen_model: model,
        rm_model: scorer,
        target_answer: rows.correct_answer,
    }
}
