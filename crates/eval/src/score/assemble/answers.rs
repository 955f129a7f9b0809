//! Completions by model.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::CompletionFile;
use crate::input_error::InputError;
use crate::score::answer::Answer;
use crate::score::names;

/// A model with its completions in the order of the files.
pub(super) struct Answers {
    pub name: String,
    pub sources: Vec<PathBuf>,
    pub format: &'static str,
    pub answers: Vec<Answer>,
}

/// The completions of each model.
pub(super) fn by_model(
    files: Vec<CompletionFile>,
    name: Option<&str>,
    notes: &mut Vec<String>,
) -> Result<Vec<Answers>, InputError> {
    let all_named: Vec<String> = named(files.iter()).into_iter().map(str::to_owned).collect();
    if let (Some(name), [_, _, ..]) = (name, all_named.as_slice()) {
        let problem =
            format!("--name {name:?}: the files hold several models ({}); score them apart", all_named.join(", "));
        return Err(InputError::whole(&files[0].path, problem));
    }
    let mut models: Vec<Answers> = Vec::new();
    let mut index_of: HashMap<Arc<str>, usize> = HashMap::new();
    let paths: Vec<PathBuf> = files.iter().map(|file| file.path.clone()).collect();
    let of_nameless = |file: &CompletionFile| match name {
        Some(name) => Ok(Nameless::Model(name.into())),
        None => nameless(file, &all_named, &paths),
    };
    let all_nameless: Vec<Nameless> = files.iter().map(of_nameless).collect::<Result<_, _>>()?;
    let given: Option<Arc<str>> = name.map(Into::into);
    for (file, nameless) in files.into_iter().zip(all_nameless) {
        let mut left_out = 0;
        for answer in file.answers {
            let model = match (&answer.model, &given, &nameless) {
                (_, Some(name), _) => name.clone(),
                (Some(model), None, _) => model.clone(),
                (None, None, Nameless::Model(model)) => model.clone(),
                (None, None, Nameless::Failures) if !answer.failed => file_name(&file.path, &paths).into(),
                (None, None, Nameless::Failures) => {
                    left_out += 1;
                    continue;
                }
            };
            let index = *index_of.entry(model).or_insert_with_key(|model| {
                let format = file.format.id();
                models.push(Answers { name: model.to_string(), sources: Vec::new(), format, answers: Vec::new() });
                models.len() - 1
            });
            let model = &mut models[index];
            if !model.sources.contains(&file.path) {
                model.sources.push(file.path.clone());
            }
            model.answers.push(answer);
        }
        if left_out > 0 {
            notes.push(format!(
                "{}: {} without a model's name, and the file holds several models: left out; a prompt that another model \
                 answered counts as missing where it has no answer",
                file.path.display(),
                smpo_suggest::counted(left_out, "failed row")
            ));
        }
    }
    Ok(models)
}

/// The model of rows that name none.
enum Nameless {
    Model(Arc<str>),
    /// Of a file of several models: failures are nobody's.
    Failures,
}

fn nameless(file: &CompletionFile, all_named: &[String], paths: &[PathBuf]) -> Result<Nameless, InputError> {
    let all_failed = file.answers.iter().all(|answer| answer.failed);
    Ok(match (named(std::iter::once(file)).as_slice(), all_named) {
        ([only], _) => Nameless::Model((*only).into()),
        ([_, _, ..], _) => Nameless::Failures,
        // the file of errors beside the output of a batch
        ([], [only]) if all_failed => Nameless::Model(only.as_str().into()),
        ([], [_, _, ..]) if all_failed => {
            let problem = format!(
                "all requests in it failed, and none names its model; the other files hold several ({}): give it together \
                 with the answers of its own model alone",
                all_named.join(", ")
            );
            return Err(InputError::whole(&file.path, problem));
        }
        ([], _) => Nameless::Model(file_name(&file.path, paths).into()),
    })
}

/// The models that files name, in order.
fn named<'a>(files: impl Iterator<Item = &'a CompletionFile>) -> Vec<&'a str> {
    let mut named: Vec<&str> = Vec::new();
    for model in files.flat_map(|file| &file.answers).filter_map(|answer| answer.model.as_deref()) {
        if named.last() != Some(&model) && !named.contains(&model) {
            named.push(model);
        }
    }
    named
}

fn file_name(path: &Path, paths: &[PathBuf]) -> String {
    names::of_file(path, paths.iter().map(PathBuf::as_path))
}
