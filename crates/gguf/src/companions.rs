//! The files of a Hugging Face directory beside configuration and weights, from the metadata of a GGUF file.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::error::{GgufError, Result};
use crate::tokenizer::{MODEL, Role, Tokenizer};
use crate::{GgufFile, Metadata};

/// Directory of further chat templates, as transformers 5 names it.
const FURTHER_TEMPLATES: &str = "additional_chat_templates";

/// A file by its name in the directory, with its text.
type Companion = (String, Vec<u8>);

/// Directory of a GGUF file's tokenizer: `None` if it is in the file, else the directory of the file, where the tokenizer
/// lies beside it.
///
/// # Errors
/// When it is in neither, or the file is damaged.
pub fn tokenizer_home(gguf: &Path) -> Result<Option<PathBuf>> {
    let file = GgufFile::open(gguf)?;
    // So llama.cpp calls a model without a vocabulary.
    const NOTHING: [&str; 2] = ["none", "no_vocab"];
    let kind = file.metadata().text(MODEL)?;
    if kind.is_some_and(|kind| !NOTHING.contains(&kind)) {
        return Ok(None);
    }
    let beside = gguf.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if beside.join("tokenizer.json").is_file() {
        return Ok(Some(beside.to_path_buf()));
    }
    Err(file.metadata().missing(
        MODEL,
        "a tokenizer in the file, or tokenizer.json and the chat template of the original model beside it, or their \
         directory given",
    ))
}

/// All files: tokenizer, its configuration, templates, and generation settings.
///
/// # Errors
/// When the tokenizer is of a kind that is not read, or the file is damaged.
pub fn companions(gguf: &Path) -> Result<Vec<Companion>> {
    let file = GgufFile::open(gguf)?;
    let metadata = file.metadata();
    let tokenizer = Tokenizer::read(metadata)?;
    let mut files = vec![
        ("tokenizer.json".to_string(), tokenizer.to_json(metadata)?),
        ("tokenizer_config.json".to_string(), pretty(&tokenizer_config(&file, &tokenizer)?)),
        ("special_tokens_map.json".to_string(), pretty(&Value::Object(special_tokens(metadata, &tokenizer)?))),
        ("generation_config.json".to_string(), pretty(&generation_config(metadata, &tokenizer)?)),
    ];
    files.extend(templates(metadata)?);
    Ok(files)
}

/// One of [`companions`]; `None` where there is none of that name.
///
/// # Errors
/// As [`companions`].
pub fn companion(gguf: &Path, name: &str) -> Result<Option<Vec<u8>>> {
    Ok(companions(gguf)?.into_iter().find(|(found, _)| found == name).map(|(_, text)| text))
}

/// Writes [`companions`] to a directory.
///
/// # Errors
/// As [`companions`], and when a file cannot be written.
pub fn write_companions(gguf: &Path, dir: &Path) -> Result<()> {
    for (name, text) in companions(gguf)? {
        let path = dir.join(name);
        let written = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&path, text));
        written.map_err(GgufError::io(&path, "write"))?;
    }
    Ok(())
}

fn tokenizer_config(file: &GgufFile, tokenizer: &Tokenizer) -> Result<Value> {
    let metadata = file.metadata();
    let (adds_bos, adds_eos) = tokenizer.added(metadata)?;
    let mut config = special_tokens(metadata, tokenizer)?;
    config.insert("add_bos_token".into(), json!(adds_bos));
    config.insert("add_eos_token".into(), json!(adds_eos));
    config.insert("clean_up_tokenization_spaces".into(), json!(false));
    if let Some(length) = metadata.whole(&format!("{}.context_length", file.architecture()?))? {
        config.insert("model_max_length".into(), json!(length));
    }
    config.insert("tokenizer_class".into(), json!("PreTrainedTokenizerFast"));
    Ok(Value::Object(config))
}

/// Special tokens by transformers' names.
fn special_tokens(metadata: &Metadata, tokenizer: &Tokenizer) -> Result<Map<String, Value>> {
    let mut named = Map::new();
    for role in [Role::Bos, Role::Eos, Role::Unknown, Role::Padding, Role::Separator, Role::Mask] {
        if let (Some(name), Some((token, _))) = (role.name(), tokenizer.vocabulary.special(metadata, role)?) {
            named.insert(name.into(), json!(token));
        }
    }
    Ok(named)
}

/// BOS, padding, and every token that ends a turn: an id beyond the vocabulary too, which is warned of as in a directory.
fn generation_config(metadata: &Metadata, tokenizer: &Tokenizer) -> Result<Value> {
    let id = |role| -> Result<Option<u32>> { Ok(tokenizer.vocabulary.special(metadata, role)?.map(|(_, id)| id)) };
    let mut ends: Vec<u32> = Vec::new();
    for role in [Role::Eos, Role::Eot, Role::Eom] {
        ends.extend(role.id(metadata)?.filter(|id| !ends.contains(id)));
    }
    let mut config = Map::new();
    for (name, role) in [("bos_token_id", Role::Bos), ("pad_token_id", Role::Padding)] {
        config.extend(id(role)?.map(|id| (name.to_string(), json!(id))));
    }
    match ends[..] {
        [] => {}
        [one] => drop(config.insert("eos_token_id".into(), json!(one))),
        _ => drop(config.insert("eos_token_id".into(), json!(ends))),
    }
    Ok(Value::Object(config))
}

/// The chat template, and those that have names.
fn templates(metadata: &Metadata) -> Result<Vec<Companion>> {
    const KEY: &str = "tokenizer.chat_template";
    let mut files = Vec::new();
    if let Some(template) = metadata.text(KEY)? {
        files.push(("chat_template.jinja".to_string(), template.as_bytes().to_vec()));
    }
    for key in metadata.keys() {
        let Some(name) = key.strip_prefix(KEY).and_then(|rest| rest.strip_prefix('.')) else { continue };
        // A name becomes a file's name.
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if name.is_empty() || name.len() > 64 || !name.chars().all(plain) {
            return Err(metadata.error(key, "a name of letters, digits, `_` and `-`", name));
        }
        if let Some(template) = metadata.text(key)? {
            files.push((format!("{FURTHER_TEMPLATES}/{name}.jinja"), template.as_bytes().to_vec()));
        }
    }
    Ok(files)
}

fn pretty(value: &Value) -> Vec<u8> {
    format!("{value:#}\n").into_bytes()
}
