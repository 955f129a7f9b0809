//! From files of completions to the samples of each model, over one set of prompts.

mod answers;
mod copies;
mod files;
mod identity;
mod prompts;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use smpo_results::{Sample, SuiteInfo};

use super::CompletionFile;
use crate::input_error::InputError;
use crate::prompts::Prompt;
use crate::slices::reserved;
use crate::suite::Suite;
use copies::numbered;
use prompts::{all_prompts, groups_sharing_prompts, scored_on};

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

/// The models of some files.
#[derive(Debug, Clone, PartialEq)]
pub struct Assembled {
    /// In the order of their first completions.
    pub models: Vec<ModelCompletions>,
    /// Remarks for people: files and rows that were left out, and why.
    pub notes: Vec<String>,
}

/// Sorts completions by model.
///
/// Rows that name no model are of the file's only one, else of `name`, else of a model called after the file. A row
/// without an id has its prompt's hash for one, or its line where there is no prompt; rows of one id without sample
/// numbers are its samples in the order of the files. `suite` gives the prompts that files lack, and the prompts that
/// every model should have; without it, models that share prompts are scored on all prompts that any of them has. So
/// models scored together can be compared, and missing completions count as failures.
///
/// # Errors
/// Two different completions as one sample; a completion of a prompt that the suite does not have; a slice of a reserved name;
/// no completion at all; rows that nothing tells the model of.
pub fn assemble(
    files: Vec<CompletionFile>,
    suite: Option<&Suite>,
    name: Option<&str>,
) -> Result<Assembled, InputError> {
    let mut notes = Vec::new();
    let files = files::wanted(files, name, &mut notes)?;
    let mut answers = answers::by_model(files, name, &mut notes)?;
    match suite {
        Some(suite) => identity::of_suite(&mut answers, suite),
        None => identity::tell_apart(&mut answers, &mut notes),
    }
    let mut models = Vec::with_capacity(answers.len());
    for answers in answers {
        let model = numbered(answers, &mut notes)?;
        check_slices(&model)?;
        models.push(model);
    }
    let mut assembled: Vec<Option<ModelCompletions>> = models.iter().map(|_| None).collect();
    match suite {
        Some(suite) => {
            for (place, model) in assembled.iter_mut().zip(models) {
                check_known(&model, &suite.prompts)?;
                *place = Some(scored_on(model, &suite.prompts, suite.name.clone()));
            }
        }
        None => {
            let groups = groups_sharing_prompts(&models);
            let mut models: Vec<Option<Model>> = models.into_iter().map(Some).collect();
            for peers in groups {
                let prompts = all_prompts(peers.iter().filter_map(|&index| models[index].as_ref()));
                for index in peers {
                    assembled[index] = models[index].take().map(|model| {
                        let name = model.format.to_owned();
                        scored_on(model, &prompts, name)
                    });
                }
            }
        }
    }
    Ok(Assembled { models: assembled.into_iter().flatten().collect(), notes })
}

/// A numbered completion and its place in a file.
struct Placed {
    path: Arc<Path>,
    line: usize,
    /// The file named its slice.
    has_slice: bool,
    sample: Sample,
}

/// A model with its numbered completions.
struct Model {
    name: String,
    sources: Vec<PathBuf>,
    format: &'static str,
    completions: Vec<Placed>,
}

fn check_slices(model: &Model) -> Result<(), InputError> {
    let placed = model.completions.iter().find_map(|placed| Some((placed, reserved(&placed.sample.slice)?)));
    placed.map_or(Ok(()), |(placed, problem)| Err(InputError::line(&placed.path, placed.line, problem)))
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

/// An example with the number of further ones: `… and 3 more`.
fn and_more(example: &str, count: usize) -> String {
    match count {
        0 | 1 => example.to_owned(),
        _ => format!("{example}; and {} more", count - 1),
    }
}
