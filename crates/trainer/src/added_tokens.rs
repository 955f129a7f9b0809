//! Tokens that a configuration adds to the vocabulary: their ids, their places in the tokenizer's files, and the rows of
//! embedding and head that they need.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use serde_json::{Map, Value, json};
use smpo_model::gguf::{companion, is_gguf};
use smpo_model::{Config, ModelError};

use crate::config::TrainConfig;
use crate::error::{TrainError, io};

const TOKENIZER: &str = "tokenizer.json";

/// Tokens to add to a model's vocabulary.
#[derive(Debug, Default)]
pub(crate) struct AddedTokens {
    /// Number of tokens before: the first new id.
    pub known: usize,
    new: Vec<AddedToken>,
}

#[derive(Debug)]
struct AddedToken {
    id: usize,
    text: String,
    special: bool,
}

impl AddedTokens {
    /// Those of a configuration that the model's tokenizer lacks.
    ///
    /// # Errors
    /// When `tokenizer.json` cannot be read.
    pub fn of(config: &TrainConfig) -> Result<Self, TrainError> {
        if !config.adds_tokens() {
            return Ok(Self::default());
        }
        let tokenizer = of_model(&config.model_name_or_path)?;
        let ids = known_ids(&tokenizer);
        let known = ids.values().max().map_or(0, |id| id + 1);
        let special = config.added_special_tokens.iter().map(|text| (text, true));
        let mut new: Vec<AddedToken> = Vec::new();
        for (text, special) in special.chain(config.added_tokens.iter().map(|text| (text, false))) {
            if !ids.contains_key(text) && new.iter().all(|token| token.text != *text) {
                new.push(AddedToken { id: known + new.len(), text: text.clone(), special });
            }
        }
        Ok(AddedTokens { known, new })
    }

    /// A model's configuration with rows for all tokens.
    pub fn enlarge(&self, model: Config) -> Config {
        let rows = model.spec().vocab_size;
        let needed = self.rows(rows).end;
        if needed <= rows { model } else { model.with_vocabulary(needed) }
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.new.is_empty()
    }

    /// Ids that a model with `rows` rows needs new ones for: of these tokens, and of tokens before them that it lacks.
    pub fn rows(&self, rows: usize) -> Range<usize> {
        self.known.min(rows)..self.known + self.new.len()
    }

    /// Adds them to the tokenizer's files in `dir`.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub fn write(&self, dir: &Path) -> Result<(), TrainError> {
        if self.new.is_empty() {
            return Ok(());
        }
        let describe = |token: &AddedToken| {
            let Value::Object(fields) = json!({
                "content": token.text, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
                "special": token.special
            }) else {
                return Map::new();
            };
            fields
        };
        let path = dir.join(TOKENIZER);
        let mut tokenizer = read(&path)?;
        let mut listed = tokenizer.get("added_tokens").and_then(Value::as_array).cloned().unwrap_or_default();
        for token in &self.new {
            let mut entry = Map::from_iter([("id".to_owned(), json!(token.id))]);
            entry.extend(describe(token));
            listed.push(Value::Object(entry));
        }
        tokenizer.insert("added_tokens".to_owned(), Value::Array(listed));
        let text = serde_json::to_vec(&Value::Object(tokenizer)).map_err(std::io::Error::from);
        smpo_files::write_whole(&path, &text.map_err(io(&path, "describe"))?)?;
        // transformers 4 reads its own list, where there is one.
        super::tokenizer_dir::edit(&dir.join("tokenizer_config.json"), |object| {
            if let Some(decoder) = object.get_mut("added_tokens_decoder").and_then(Value::as_object_mut) {
                decoder.extend(self.new.iter().map(|token| (token.id.to_string(), Value::Object(describe(token)))));
            }
        })
    }
}

/// The `tokenizer.json` of a model, also of one that a GGUF file describes.
fn of_model(model: &Path) -> Result<Map<String, Value>, TrainError> {
    if !is_gguf(model).map_err(ModelError::from)? {
        return read(&model.join(TOKENIZER));
    }
    let text = companion(model, TOKENIZER).map_err(ModelError::from)?;
    parse(model, &text.unwrap_or_default())
}

fn read(path: &Path) -> Result<Map<String, Value>, TrainError> {
    parse(path, &std::fs::read(path).map_err(io(path, "read"))?)
}

fn parse(path: &Path, text: &[u8]) -> Result<Map<String, Value>, TrainError> {
    serde_json::from_slice(text).map_err(|error| {
        TrainError::config(path, Some(error.line()), format!("expected a tokenizer as a JSON object: {error}"))
    })
}

/// Ids of all tokens of a `tokenizer.json`: of a table, of Unigram's list, and of the added ones.
fn known_ids(tokenizer: &Map<String, Value>) -> BTreeMap<String, usize> {
    let mut ids = BTreeMap::new();
    match tokenizer.get("model").and_then(|model| model.get("vocab")) {
        Some(Value::Object(vocabulary)) => {
            let id = |(text, id): (&String, &Value)| Some((text.clone(), id.as_u64()? as usize));
            ids.extend(vocabulary.iter().filter_map(id));
        }
        Some(Value::Array(pieces)) => {
            let text = |(id, piece): (usize, &Value)| Some((piece.get(0)?.as_str()?.to_owned(), id));
            ids.extend(pieces.iter().enumerate().filter_map(text));
        }
        _ => {}
    }
    for added in tokenizer.get("added_tokens").and_then(Value::as_array).into_iter().flatten() {
        let text = added.get("content").and_then(Value::as_str);
        if let (Some(text), Some(id)) = (text, added.get("id").and_then(Value::as_u64)) {
            ids.insert(text.to_owned(), id as usize);
        }
    }
    ids
}
