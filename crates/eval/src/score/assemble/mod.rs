//! From files of completions to the samples of each model, over one set of prompts.

mod answers;
mod copies;
mod files;
mod identity;
mod prompts;

use std::collections::HashSet;
use std::sync::Arc;

use smpo_results::Sample;

use super::completions::ModelCompletions;
use super::file::CompletionFile;
use super::store::Store;
use crate::input_error::InputError;
use crate::slices::reserved;
use crate::suite::Suite;
use answers::Answers;
use copies::numbered;
pub(super) use prompts::Prompts;
use prompts::groups_sharing_prompts;

/// The models of some files.
#[derive(Debug, Clone)]
pub struct Assembled {
    /// In the order of their first completions.
    pub models: Vec<ModelCompletions>,
    /// Remarks for people: files and rows that were left out, and why.
    pub notes: Vec<String>,
}

/// Sorts completions by model. All files were read into the store.
///
/// Rows that name no model are of the file's only one, else of `name`, else of a model called after the file. A row
/// without an id has its prompt's hash for one, or its line where there is no prompt; rows of one id without sample
/// numbers are its samples in the order of the files. `suite` gives the prompts that files lack, and the prompts that
/// every model should have; without it, models that share prompts are scored on all prompts that any of them has. So
/// models scored together can be compared, and missing completions count as failures.
///
/// # Errors
/// Two different completions as one sample; a completion of a prompt that the suite does not have; a slice of a reserved name;
/// no completion at all; rows that nothing tells the model of; a store that cannot be read or written.
pub fn assemble(
    files: Vec<CompletionFile>,
    suite: Option<&Suite>,
    name: Option<&str>,
    mut store: Store,
) -> Result<Assembled, InputError> {
    let mut notes = Vec::new();
    let files = files::wanted(files, name, &mut notes)?;
    let mut models = answers::by_model(files, name, &mut notes)?;
    match suite {
        Some(suite) => {
            identity::of_suite(&mut models, suite);
            notes.extend(identity::other_prompts(&models, suite, &store)?);
        }
        None => identity::tell_apart(&mut models, &store, &mut notes)?,
    }
    for model in &mut models {
        numbered(model, &store, &mut notes)?;
        check_slices(model, &store)?;
    }
    let prompts = prompts_of(&models, suite, &mut store)?;
    let store = Arc::new(store);
    let models = models.into_iter().zip(prompts).map(|(model, prompts)| {
        let Answers { name, sources, format, answers } = model;
        let suite = suite.map_or_else(|| format.to_owned(), |suite| suite.name.clone());
        ModelCompletions::new((name, sources), &answers, prompts, suite, store.clone())
    });
    Ok(Assembled { models: models.collect(), notes })
}

/// The prompts that each model is scored on.
fn prompts_of(models: &[Answers], suite: Option<&Suite>, store: &mut Store) -> Result<Vec<Arc<Prompts>>, InputError> {
    if let Some(suite) = suite {
        check_known(models, suite)?;
        let prompts = Arc::new(Prompts::given(&suite.prompts, store)?);
        return Ok(vec![prompts; models.len()]);
    }
    let mut prompts_of = vec![None; models.len()];
    for peers in groups_sharing_prompts(models) {
        let prompts = Arc::new(Prompts::found(peers.iter().map(|&index| &models[index]), store)?);
        peers.iter().for_each(|&index| prompts_of[index] = Some(prompts.clone()));
    }
    Ok(prompts_of.into_iter().flatten().collect())
}

fn check_slices(model: &Answers, store: &Store) -> Result<(), InputError> {
    let Some(answer) = model.answers.iter().find(|answer| answer.reserved) else { return Ok(()) };
    let sample: Sample = store.get(answer.stored)?;
    let problem = reserved(&sample.slice);
    problem.map_or(Ok(()), |problem| Err(InputError::line(&answer.path, answer.line, problem)))
}

fn check_known(models: &[Answers], suite: &Suite) -> Result<(), InputError> {
    let known: HashSet<&str> = suite.prompts.iter().map(|prompt| prompt.id.as_str()).collect();
    for answer in models.iter().flat_map(|model| &model.answers) {
        if !known.contains(&*answer.id) {
            let hint = smpo_suggest::did_you_mean(&answer.id, known.iter().copied());
            let problem =
                format!("the prompt {:?} is not among the {} prompts given{hint}", answer.id, suite.prompts.len());
            return Err(InputError::line(&answer.path, answer.line, problem));
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
