//! The JSON files of a model directory, read once; absent files are empty.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::ChatError;

/// An entry of the tokenizer's added-token table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AddedToken {
    pub id: u32,
    pub content: String,
    pub special: bool,
}

/// Parsed files of a model directory.
#[derive(Debug, Clone, Default)]
pub(crate) struct ModelFiles {
    pub dir: PathBuf,
    pub tokenizer_config: Map<String, Value>,
    pub special_tokens_map: Map<String, Value>,
    pub generation_config: Map<String, Value>,
    pub config: Map<String, Value>,
    pub added_tokens: Vec<AddedToken>,
}

impl ModelFiles {
    pub fn read(dir: &Path) -> Result<Self, ChatError> {
        let refused = |source| Err(ChatError::Read { path: dir.to_path_buf(), source });
        let none = || std::io::Error::new(ErrorKind::NotFound, "expected a model directory");
        match std::fs::metadata(dir) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return refused(none()),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return refused(none());
            }
            Err(error) => return refused(error),
        }
        let tokenizer_config = object(&dir.join("tokenizer_config.json"))?;
        Ok(Self {
            added_tokens: added_tokens(dir, &tokenizer_config)?,
            tokenizer_config,
            special_tokens_map: object(&dir.join("special_tokens_map.json"))?,
            generation_config: object(&dir.join("generation_config.json"))?,
            config: object(&dir.join("config.json"))?,
            dir: dir.to_path_buf(),
        })
    }

    /// The text of a named special token such as `eos_token`; tokenizer_config.json wins.
    pub fn special_token(&self, name: &str) -> Option<String> {
        [&self.tokenizer_config, &self.special_tokens_map]
            .into_iter()
            .find_map(|file| file.get(name).and_then(token_text))
    }
}

/// The text of a named special token of a model directory, such as `bos_token`.
///
/// # Errors
/// If a file is unreadable or malformed.
pub fn special_token(dir: impl AsRef<Path>, name: &str) -> Result<Option<String>, ChatError> {
    Ok(ModelFiles::read(dir.as_ref())?.special_token(name))
}

/// A file's text, or `None` if there is no such file.
pub(crate) fn text(path: &Path) -> Result<Option<String>, ChatError> {
    // opening a pipe would wait for its writer, and a device has no end
    if std::fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir()) {
        return Err(malformed(path, "a regular file", "a pipe or a device".to_string()));
    }
    match std::fs::read(path) {
        Ok(bytes) if bytes.starts_with(b"version https://git-lfs.github.com/spec/") => Err(ChatError::Malformed {
            path: path.to_path_buf(),
            expected: "the file itself (git lfs pull, or hf download)",
            got: "a Git LFS pointer".to_string(),
        }),
        Ok(bytes) => match String::from_utf8(bytes) {
            // A byte order mark, which some editors write, says nothing.
            Ok(text) => Ok(Some(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))),
            Err(error) => Err(ChatError::Malformed {
                path: path.to_path_buf(),
                expected: "UTF-8 text",
                got: format!("a byte that is not UTF-8 at offset {}", error.utf8_error().valid_up_to()),
            }),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ChatError::Read { path: path.to_path_buf(), source }),
    }
}

/// The JSON object in a file; empty if there is no such file.
pub(crate) fn object(path: &Path) -> Result<Map<String, Value>, ChatError> {
    let Some(text) = text(path)? else { return Ok(Map::new()) };
    match serde_json::from_str(&text) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(other) => Err(malformed(path, "a JSON object", json_kind(&other).to_string())),
        Err(error) => Err(malformed(path, "a JSON object", error.to_string())),
    }
}

/// A special token is a string, or an added-token object with its text under `content`.
fn token_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Object(map) => map.get("content").and_then(Value::as_str).map(str::to_string),
        _ => None,
    }
}

fn added_tokens(dir: &Path, tokenizer_config: &Map<String, Value>) -> Result<Vec<AddedToken>, ChatError> {
    /// Only the added tokens; the vocabulary is skipped while it is scanned.
    #[derive(Deserialize)]
    struct TokenizerJson {
        #[serde(default)]
        added_tokens: Vec<Row>,
    }
    #[derive(Deserialize)]
    struct Row {
        id: u32,
        content: String,
        #[serde(default)]
        special: bool,
    }

    let mut by_id = BTreeMap::new();
    if let Some(table) = tokenizer_config.get("added_tokens_decoder").and_then(Value::as_object) {
        for (id, entry) in table {
            if let (Ok(id), Some(content)) = (id.parse::<u32>(), token_text(entry)) {
                let special = entry.get("special").and_then(Value::as_bool).unwrap_or(false);
                by_id.insert(id, AddedToken { id, content, special });
            }
        }
    }
    let path = dir.join("tokenizer.json");
    if let Some(text) = text(&path)? {
        let parsed: TokenizerJson = serde_json::from_str(&text)
            .map_err(|error| malformed(&path, "a Hugging Face tokenizer", error.to_string()))?;
        for row in parsed.added_tokens {
            by_id.insert(row.id, AddedToken { id: row.id, content: row.content, special: row.special });
        }
    }
    Ok(by_id.into_values().collect())
}

pub(crate) fn malformed(path: &Path, expected: &'static str, got: String) -> ChatError {
    ChatError::Malformed { path: path.to_path_buf(), expected, got }
}

/// The type of a JSON value as a noun phrase, for errors.
pub fn json_kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
