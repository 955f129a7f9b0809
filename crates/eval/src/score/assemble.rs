//! From files of completions to the samples of each model, over one set of prompts.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use smpo_results::{SCHEMA_VERSION, Sample, SuiteInfo};

use super::{CompletionFile, Record};
use crate::input_error::InputError;
use crate::prompts::{Prompt, prompt_hash};
use crate::slices;
use crate::suite::{Suite, hash_prompts};

/// One model's completions.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelCompletions {
    /// Model name in its files, or the file's name.
    pub name: String,
    /// Its files.
    pub sources: Vec<PathBuf>,
    /// Prompts that it was scored on.
    pub suite: SuiteInfo,
    /// Grouped by prompt; a prompt without a completion has a failed sample.
    pub samples: Vec<Sample>,
}

/// Sorts completions by model.
///
/// A row without an id has its prompt's hash for one, or its line where there is no prompt; rows of one id without
/// sample numbers are its samples in the order of the file. `suite` gives the prompts that files lack, and the prompts
/// that every model should have; without it, models that share prompts are scored on all prompts that any of them
/// has. So models scored together can be compared, and missing completions count as failures.
///
/// # Errors
/// A sample twice; a completion of a prompt that the suite does not have.
pub fn assemble(files: &[CompletionFile], suite: Option<&Suite>) -> Result<Vec<ModelCompletions>, InputError> {
    let models = by_model(files)?;
    let mut assembled: Vec<Option<ModelCompletions>> = models.iter().map(|_| None).collect();
    match suite {
        Some(suite) => {
            for (place, model) in assembled.iter_mut().zip(&models) {
                check_known(model, &suite.prompts)?;
                *place = Some(scored_on(model, &suite.prompts, suite.name.clone()));
            }
        }
        None => {
            for peers in groups_sharing_prompts(&models) {
                let prompts = all_prompts(peers.iter().map(|&index| &models[index]));
                for index in peers {
                    let name = models[index].format.to_owned();
                    assembled[index] = Some(scored_on(&models[index], &prompts, name));
                }
            }
        }
    }
    Ok(assembled.into_iter().flatten().collect())
}

/// A completion and its place in a file.
struct Placed {
    path: PathBuf,
    line: usize,
    /// The file named its slice.
    has_slice: bool,
    sample: Sample,
}

struct Model {
    name: String,
    sources: Vec<PathBuf>,
    format: &'static str,
    completions: Vec<Placed>,
}

fn by_model(files: &[CompletionFile]) -> Result<Vec<Model>, InputError> {
    let mut models: Vec<Model> = Vec::new();
    let mut index_of: HashMap<String, usize> = HashMap::new();
    let mut first_line: HashMap<(usize, String, u32), (PathBuf, usize)> = HashMap::new();
    let mut next_sample: HashMap<(usize, String), u32> = HashMap::new();
    for file in files {
        for (line, record) in &file.records {
            let name = record.model.clone().unwrap_or_else(|| file_name(&file.path));
            let index = *index_of.entry(name.clone()).or_insert_with(|| {
                models.push(Model { name, sources: Vec::new(), format: file.format.id(), completions: Vec::new() });
                models.len() - 1
            });
            let id = match &record.id {
                Some(id) => id.clone(),
                None if record.messages.is_empty() => format!("line_{line}"),
                None => prompt_hash(&record.messages),
            };
            let next = next_sample.entry((index, id.clone())).or_default();
            let number = record.sample.unwrap_or(*next);
            *next = (*next).max(number.saturating_add(1));
            let here = (file.path.clone(), *line);
            if let Some((path, earlier)) = first_line.insert((index, id.clone(), number), here) {
                let problem = format!(
                    "sample {number} of prompt {id:?} by {:?} is already at {}:{earlier}; each may be given once",
                    models[index].name,
                    path.display()
                );
                return Err(InputError::line(&file.path, *line, problem));
            }
            let model = &mut models[index];
            if !model.sources.contains(&file.path) {
                model.sources.push(file.path.clone());
            }
            let has_slice = record.slice.is_some();
            model.completions.push(Placed {
                path: file.path.clone(),
                line: *line,
                has_slice,
                sample: sample(record, id, number),
            });
        }
    }
    Ok(models)
}

/// `samples.jsonl` is called after its directory, any other file after itself.
fn file_name(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default();
    let dir = path.parent().and_then(Path::file_name).filter(|_| stem == "samples");
    dir.unwrap_or(stem).to_string_lossy().into_owned()
}

fn sample(record: &Record, prompt_id: String, sample: u32) -> Sample {
    Sample {
        schema: SCHEMA_VERSION,
        prompt_id,
        slice: record.slice.clone().unwrap_or_else(|| slices::PLAIN.into()),
        sample,
        messages: record.messages.clone(),
        reference: record.reference.clone(),
        closed: record.closed,
        language: record.language.clone(),
        reasoning: None,
        completion: record.completion.clone(),
        token_ids: record.token_ids.clone(),
        logps: record.logps.clone(),
        terminator_logps: record.terminator_logps.clone(),
        unknown_ids: None,
        finish_reason: record.finish_reason,
        finish_remark: None,
        tokens: record.tokens,
        cap: record.cap,
        error: record.error.clone(),
    }
}

fn check_known(model: &Model, prompts: &[Prompt]) -> Result<(), InputError> {
    let known: HashSet<&str> = prompts.iter().map(|prompt| prompt.id.as_str()).collect();
    for placed in &model.completions {
        let id = placed.sample.prompt_id.as_str();
        if !known.contains(id) {
            let hint = smpo_suggest::did_you_mean(id, known.iter().copied());
            let problem = format!("the prompt {id:?} is not among the {} prompts given{hint}", prompts.len());
            return Err(InputError::line(&placed.path, placed.line, problem));
        }
    }
    Ok(())
}

/// Indices of models, those that share a prompt together.
fn groups_sharing_prompts(models: &[Model]) -> Vec<Vec<usize>> {
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
fn all_prompts<'a>(models: impl Iterator<Item = &'a Model>) -> Vec<Prompt> {
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
fn scored_on(model: &Model, prompts: &[Prompt], suite: String) -> ModelCompletions {
    let mut by_prompt: HashMap<&str, Vec<&Sample>> = HashMap::new();
    for placed in &model.completions {
        by_prompt.entry(&placed.sample.prompt_id).or_default().push(&placed.sample);
    }
    let mut samples = Vec::new();
    for prompt in prompts {
        let mut of_prompt = by_prompt.remove(prompt.id.as_str()).unwrap_or_default();
        of_prompt.sort_by_key(|sample| sample.sample);
        let missing = of_prompt.is_empty().then(|| {
            let missing = Record::failed("no completion of this prompt in the file");
            sample(&missing, prompt.id.clone(), 0)
        });
        for sample in of_prompt.into_iter().cloned().chain(missing) {
            samples.push(Sample {
                slice: prompt.slice.clone(),
                messages: prompt.messages.clone(),
                reference: prompt.reference.clone(),
                language: prompt.language.clone(),
                closed: prompt.closed,
                ..sample
            });
        }
    }
    let mut sorted = prompts.to_vec();
    sorted.sort_by(|a, b| a.id.cmp(&b.id));
    let info = SuiteInfo { name: suite, sha256: hash_prompts(&sorted), prompts: prompts.len(), pairs_sha256: None };
    ModelCompletions { name: model.name.clone(), sources: model.sources.clone(), suite: info, samples }
}
