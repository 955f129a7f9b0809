//! The prompts that models are scored on, and the samples over them.

use std::collections::HashMap;

use smpo_results::{FinishReason, Message, Sample, SuiteInfo};

use super::copies::sample;
use super::{Model, ModelCompletions, Placed};
use crate::prompts::{Prompt, Turn};
use crate::score::record::Record;
use crate::slices;
use crate::suite::hash_prompts;

/// Indices of models, those that share a prompt together.
pub(super) fn groups_sharing_prompts(models: &[Model]) -> Vec<Vec<usize>> {
    let mut group: Vec<usize> = (0..models.len()).collect();
    let mut first_with: HashMap<&str, usize> = HashMap::new();
    for (index, model) in models.iter().enumerate() {
        for placed in &model.completions {
            let other = *first_with.entry(&placed.sample.prompt_id).or_insert(index);
            let (from, to) = (group[index], group[other]);
            if from != to {
                group.iter_mut().filter(|group| **group == from).for_each(|group| *group = to);
            }
        }
    }
    let mut groups: Vec<Vec<usize>> = vec![Vec::new(); models.len()];
    for (index, group) in group.into_iter().enumerate() {
        groups[group].push(index);
    }
    groups.retain(|group| !group.is_empty());
    groups
}

/// Every prompt that any of the models has, in the order of first appearance; fields that one file lacks are taken from
/// another.
pub(super) fn all_prompts<'a>(models: impl Iterator<Item = &'a Model>) -> Vec<Prompt> {
    let mut prompts: Vec<(Prompt, bool)> = Vec::new();
    let mut index_of: HashMap<&str, usize> = HashMap::new();
    for Placed { has_slice, sample, .. } in models.flat_map(|model| &model.completions) {
        let index = *index_of.entry(&sample.prompt_id).or_insert_with(|| {
            let prompt = Prompt {
                id: sample.prompt_id.clone(),
                slice: slices::PLAIN.into(),
                messages: Vec::new(),
                reference: None,
                language: None,
                closed: false,
                extra_body: Default::default(),
                cap: None,
                turn: None,
            };
            prompts.push((prompt, false));
            prompts.len() - 1
        });
        let (prompt, sliced) = &mut prompts[index];
        if *has_slice && !*sliced {
            prompt.slice.clone_from(&sample.slice);
            *sliced = true;
        }
        if prompt.messages.is_empty() {
            prompt.messages.clone_from(&sample.messages);
        }
        prompt.reference = prompt.reference.take().or_else(|| sample.reference.clone());
        prompt.language = prompt.language.take().or_else(|| sample.language.clone());
        prompt.closed |= sample.closed;
    }
    prompts.into_iter().map(|(prompt, _)| prompt).collect()
}

/// The model's samples in the order of the prompts, with the fields of the prompts; a failed sample where one is missing.
pub(super) fn scored_on(model: Model, prompts: &[Prompt], suite: String) -> ModelCompletions {
    let answer_to = answers_to_turns(&model, prompts);
    let mut by_prompt: HashMap<String, Vec<Sample>> = HashMap::new();
    for Placed { sample, .. } in model.completions {
        match by_prompt.get_mut(&sample.prompt_id) {
            Some(of_prompt) => of_prompt.push(sample),
            None => drop(by_prompt.insert(sample.prompt_id.clone(), vec![sample])),
        }
    }
    let mut samples = Vec::new();
    for prompt in prompts {
        let mut of_prompt = by_prompt.remove(prompt.id.as_str()).unwrap_or_default();
        of_prompt.sort_by_key(|sample| sample.sample);
        let missing = of_prompt.is_empty().then(|| {
            let missing = Record::failed("no completion of this prompt in the file");
            sample(missing, prompt.id.clone(), 0)
        });
        for sample in of_prompt.into_iter().chain(missing) {
            let sample = within_cap(sample, prompt.cap);
            samples.push(Sample {
                slice: prompt.slice.clone(),
                messages: conversation(prompt, sample.sample, &answer_to),
                reference: prompt.reference.clone(),
                language: prompt.language.clone(),
                closed: prompt.closed,
                ..sample
            });
        }
    }
    samples.shrink_to_fit();
    let mut sorted: Vec<&Prompt> = prompts.iter().collect();
    sorted.sort_by(|a, b| a.id.cmp(&b.id));
    let info = SuiteInfo { name: suite, sha256: hash_prompts(sorted), prompts: prompts.len(), pairs_sha256: None };
    ModelCompletions { name: model.name, sources: model.sources, suite: info, samples }
}

/// The sample under the cap of its request, where its own file has none: an end at the cap is the cap's.
fn within_cap(sample: Sample, requested: Option<u32>) -> Sample {
    let (None, Some(cap)) = (sample.cap, requested) else { return sample };
    let sample = Sample { cap: requested, ..sample };
    if sample.finish_reason == FinishReason::Eos && sample.tokens.is_some_and(|tokens| tokens >= cap) {
        let finish_remark = Some("an end at the cap of the request, counted as cut".to_owned());
        return Sample { finish_reason: FinishReason::Length, finish_remark, ..sample };
    }
    sample
}

/// Completions by prompt and sample.
type AnswersToTurns = HashMap<(String, u32), String>;

/// The model's answers to questions of several turns.
fn answers_to_turns(model: &Model, prompts: &[Prompt]) -> AnswersToTurns {
    if prompts.iter().all(|prompt| prompt.turn.is_none()) {
        return HashMap::new();
    }
    let answers = model.completions.iter().map(|placed| &placed.sample);
    answers.map(|sample| ((sample.prompt_id.clone(), sample.sample), sample.completion.clone())).collect()
}

/// The messages before a completion; of a later turn, with the model's own answers to the earlier ones.
fn conversation(prompt: &Prompt, sample: u32, answer_to: &AnswersToTurns) -> Vec<Message> {
    let Some(turn) = &prompt.turn else { return prompt.messages.clone() };
    let mut messages = Vec::new();
    for (index, asked) in prompt.messages.iter().enumerate() {
        messages.push(asked.clone());
        if index + 1 < turn.number {
            let earlier = Turn::prompt_id(&turn.question, index + 1);
            let answer = answer_to.get(&(earlier, sample)).map_or("", String::as_str);
            messages.push(Message::assistant(answer));
        }
    }
    messages
}
