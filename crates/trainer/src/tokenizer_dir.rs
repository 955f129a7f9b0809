//! The tokenizer of a run: the model's, under the tokens and the template that the configuration asks for.
//!
//! It is a directory of its own, `tokenizer/` in the run directory, from which rows are encoded and every saved model gets
//! its files, so that a model is saved with the template and terminator it was trained with.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use smpo_chat::ChatTemplate;
use smpo_model::gguf::is_gguf;
use smpo_model::{ModelError, TOKENIZER_FILES, copy_tokenizer_files};
use smpo_tokenizer::ChatTokenizer;

use crate::added_tokens::AddedTokens;
use crate::config::TrainConfig;
use crate::error::{TrainError, io};
use crate::event::Event;

/// File in which transformers 4 may keep a template; serving engines do not read it and saved models do not have it.
const TEMPLATE_JSON: &str = "chat_template.json";
const TEMPLATE_JINJA: &str = "chat_template.jinja";
/// File in which older tokenizers name their special tokens, all or some.
const SPECIAL_TOKENS_MAP: &str = "special_tokens_map.json";

/// Files that the tokenizer depends on, beside a model's companions: the configuration names the terminators too.
const MORE_FILES: [&str; 2] = ["config.json", TEMPLATE_JSON];

/// Directory of the run's tokenizer: the model's own if nothing is changed, else `dir`, which is written.
///
/// # Errors
/// If a token is not in the vocabulary, or a file cannot be read or written.
pub(crate) fn prepare(config: &TrainConfig, dir: &Path) -> Result<PathBuf, TrainError> {
    let source = &config.model_name_or_path;
    let named = [("eos_token", &config.eos_token), ("bos_token", &config.bos_token), ("pad_token", &config.pad_token)];
    let apart =
        smpo_files::is_file(&source.join(TEMPLATE_JSON))? && !smpo_files::is_file(&source.join(TEMPLATE_JINJA))?;
    let added = AddedTokens::of(config)?;
    let changed = !added.is_empty() || config.chat_template.is_some() || named.iter().any(|(_, token)| token.is_some());
    // The files that a GGUF file describes are written once, for the run and its saved models.
    if !changed && !apart && !is_gguf(source).map_err(ModelError::from)? {
        return Ok(source.clone());
    }
    copy_files(source, dir)?;
    added.write(dir)?;
    let own = ChatTemplate::from_model_dir(dir).ok();
    let wanted = own.is_none() || config.force_chat_template;
    let given = if wanted { given_template(config)? } else { None };
    match (given, own) {
        (Some(given), _) => write_template(&given, dir)?,
        (None, Some(own)) if apart => write_template(own.source(), dir)?,
        _ => {}
    }
    let given = || named.into_iter().filter_map(|(key, token)| Some((key, token.as_ref()?)));
    let map = dir.join(SPECIAL_TOKENS_MAP);
    let mut named_there = Map::new();
    edit(&map, |object| named_there = object.clone())?;
    edit(&dir.join("tokenizer_config.json"), |object| {
        for (key, token) in named_there {
            if object.get(&key).is_none_or(Value::is_null) {
                object.insert(key, bare(token));
            }
        }
        for (key, token) in given() {
            object.insert(key.to_owned(), json!(token));
        }
    })?;
    // The tokens that are named in both places could contradict each other.
    remove_if_there(&map)?;
    let read = ChatTokenizer::from_model_dir(dir)?;
    let mut ids = Vec::new();
    for (key, token) in given() {
        let Some(id) = read.tokenizer().token_to_id(token) else {
            let message = format!("`{key}` is {token:?}, which is not in the vocabulary; expected a token that is");
            return Err(TrainError::config(&source.join("tokenizer.json"), None, message));
        };
        ids.push((format!("{key}_id"), id));
    }
    edit(&dir.join("generation_config.json"), |object| {
        for (key, id) in &ids {
            object.insert(key.clone(), json!(id));
        }
    })?;
    Ok(dir.to_owned())
}

/// A special token, or a list of them, by text alone: `tokenizer_config.json` has no other form of one.
fn bare(token: Value) -> Value {
    match token {
        Value::Object(mut fields) => fields.remove("content").unwrap_or_default(),
        Value::Array(tokens) => tokens.into_iter().map(bare).collect(),
        other => other,
    }
}

/// Copies the files of a model that its tokenizer depends on; those of a start with other settings that failed are removed.
fn copy_files(source: &Path, dir: &Path) -> Result<(), TrainError> {
    fs::create_dir_all(dir).map_err(io(dir, "create"))?;
    for name in TOKENIZER_FILES.into_iter().chain(MORE_FILES) {
        remove_if_there(&dir.join(name))?;
    }
    copy_tokenizer_files(source, dir)?;
    for name in MORE_FILES {
        let from = source.join(name);
        if smpo_files::is_file(&from)? {
            smpo_files::copy(&from, &dir.join(name))?;
        }
    }
    Ok(())
}

/// The tokenizer of a directory that [`prepare`] made, under the configuration's template variables; `watch` is told of a template
/// that is given and not used.
///
/// # Errors
/// If a file is missing or malformed, or the template fails under the variables.
pub(crate) fn load(
    config: &TrainConfig,
    dir: &Path,
    watch: &mut dyn FnMut(Event<'_>),
) -> Result<ChatTokenizer, TrainError> {
    let tokenizer = ChatTokenizer::from_model_dir(dir)?.with_variables(&config.chat_template_kwargs)?;
    let remarks = config.template_remarks(&tokenizer).into_iter().chain(config.idle_remarks());
    remarks.for_each(|remark| watch(Event::Note(&remark)));
    Ok(tokenizer)
}

impl TrainConfig {
    /// The file of the template that the configuration gives; `None` for a template that is a text itself.
    pub(crate) fn template_file(&self) -> Option<PathBuf> {
        self.chat_template.as_deref().filter(|given| given.trim_end().ends_with(".jinja")).map(PathBuf::from)
    }
}

/// The template that a configuration gives: the text itself, or that of a file.
fn given_template(config: &TrainConfig) -> Result<Option<String>, TrainError> {
    match config.template_file() {
        Some(path) => fs::read_to_string(&path).map_err(io(&path, "read")).map(Some),
        None => Ok(config.chat_template.clone()),
    }
}

/// Makes it the one template of the directory: places that differ would be read by one program and not by another.
fn write_template(text: &str, dir: &Path) -> Result<(), TrainError> {
    remove_if_there(&dir.join(TEMPLATE_JSON))?;
    let path = dir.join(TEMPLATE_JINJA);
    smpo_files::write_whole(&path, text.as_bytes())?;
    edit(&dir.join("tokenizer_config.json"), |object| {
        object.remove("chat_template");
    })
}

/// Changes the JSON object in a file; an absent file is an empty object, and stays absent where nothing changes.
pub(crate) fn edit(path: &Path, change: impl FnOnce(&mut Map<String, Value>)) -> Result<(), TrainError> {
    let before: Map<String, Value> = match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
            TrainError::config(path, Some(error.line()), format!("expected a JSON object: {error}"))
        })?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Map::new(),
        Err(source) => return Err(TrainError::Io { path: path.to_owned(), action: "read", source }),
    };
    let mut object = before.clone();
    change(&mut object);
    if object == before {
        return Ok(());
    }
    let text = serde_json::to_vec_pretty(&Value::Object(object)).map_err(std::io::Error::from);
    Ok(smpo_files::write_whole(path, &text.map_err(io(path, "describe"))?)?)
}

fn remove_if_there(path: &Path) -> Result<(), TrainError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io(path, "remove")(error)),
        _ => Ok(()),
    }
}

/// Refuses a teacher with another tokenizer: each token must have the same id.
///
/// # Errors
/// [`TrainError::OtherTokenizer`] with the first difference; when the teacher has no tokenizer that can be read.
pub(crate) fn check_same(student: &ChatTokenizer, config: &TrainConfig, teacher: &Path) -> Result<(), TrainError> {
    let model = config.open_reference(teacher)?;
    let other = ChatTokenizer::of_model(model.tokenizer(), model.adapter())?;
    let (own, theirs) = (student.tokenizer().get_vocab(true), other.tokenizer().get_vocab(true));
    let mut differing: Vec<&String> =
        own.iter().filter(|(token, id)| theirs.get(*token) != Some(*id)).map(|(token, _)| token).collect();
    differing.sort_unstable();
    let Some(token) = differing.first() else { return Ok(()) };
    let difference = match theirs.get(*token) {
        Some(id) => format!("{token:?} is {} here and {id} there", own[*token]),
        None => format!("{token:?} is not in it"),
    };
    Err(TrainError::OtherTokenizer { teacher: teacher.to_owned(), difference })
}
