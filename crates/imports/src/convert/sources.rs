//! Names of models and data sets: what is on the disk is taken from there, anything else from the Hugging Face Hub.

use std::path::Path;

use serde_json::Value;

use crate::translation::Translator;

/// A model directory, or a name of the Hub.
pub fn model(t: &mut Translator<'_>, key: &'static str, value: &Value) {
    let Some(name) = value.as_str() else { return t.expected(key, "a model", value) };
    let revision = ["model_revision", "revision_of_model"].iter().find_map(|key| t.keys().text(key).map(str::to_owned));
    t.set(key, "model_name_or_path", model_source(name, revision.as_deref()));
}

/// A reference model.
pub fn reference(t: &mut Translator<'_>, key: &'static str, value: &Value) {
    let Some(name) = value.as_str() else { return t.expected(key, "a model", value) };
    t.set(key, "reference_model_name_or_path", model_source(name, None));
}

/// Arguments of the function that loads a model: those that change no weight have no effect.
pub fn loading(t: &mut Translator<'_>, key: &'static str, value: &Value) {
    const HARMLESS: [&str; 12] = [
        "attn_implementation",
        "cache_dir",
        "device_map",
        "dtype",
        "force_download",
        "local_files_only",
        "low_cpu_mem_usage",
        "token",
        "torch_dtype",
        "trust_remote_code",
        "use_cache",
        "use_safetensors",
    ];
    match value {
        Value::Object(arguments) => match arguments.keys().find(|name| !HARMLESS.contains(&name.as_str())) {
            None => t.ignore(key, "how a model is read changes nothing here"),
            Some(name) => t.refuse(
                key,
                format!(
                    "`{key}`: `{name}` is not supported: it may load other weights; remove it (a revision of the Hub is \
                     `model_revision`)"
                ),
            ),
        },
        other => t.expected(key, "arguments by name", other),
    }
}

/// The config.json of a model directory.
pub fn model_config(dir: &str) -> Option<Value> {
    let text = std::fs::read_to_string(Path::new(dir).join("config.json")).ok()?;
    serde_json::from_str(&text).ok()
}

fn model_source(name: &str, revision: Option<&str>) -> String {
    if !is_of_hub(name) {
        return name.to_owned();
    }
    match revision.filter(|revision| *revision != "main") {
        Some(revision) => format!("hf://{name}@{revision}"),
        None => format!("hf://{name}"),
    }
}

/// A data set: a file or directory, or a name of the Hub with a part of it.
pub fn dataset(name: &str, revision: Option<&str>, part: Option<&str>) -> String {
    if !is_of_hub(name) {
        return name.to_owned();
    }
    let revision = revision.map(|revision| format!("@{revision}")).unwrap_or_default();
    let part = part.map(|part| format!("/{part}")).unwrap_or_default();
    format!("hf://datasets/{name}{revision}{part}")
}

/// True for `ORG/NAME` that is no path on the disk.
pub fn is_of_hub(name: &str) -> bool {
    let plain = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    let files = [".jsonl", ".json", ".parquet", ".gz", ".zst", ".jinja"];
    let is_name = name.split_once('/').is_some_and(|(owner, name)| plain(owner) && plain(name));
    is_name && !files.iter().any(|ending| name.ends_with(ending)) && !Path::new(name).exists()
}

/// A split, with the share of its rows that a slice such as `train[:10%]` takes; other slices are refused.
pub fn split(t: &mut Translator<'_>, key: &str, value: &Value) -> Option<(String, Option<f64>)> {
    let text = value.as_str().unwrap_or_default();
    let (name, slice) = text.split_once('[').map_or((text, None), |(name, slice)| (name, Some(slice)));
    let share = slice.map(|slice| {
        let percent = slice.strip_prefix(':')?.strip_suffix("%]")?;
        percent.trim().parse::<f64>().ok().filter(|percent| (0.0..=100.0).contains(percent))
    });
    match share {
        None if !name.is_empty() && !name.contains('+') => Some((name.to_owned(), None)),
        Some(Some(percent)) if !name.is_empty() => Some((name.to_owned(), Some(percent / 100.0))),
        _ => {
            let message = format!(
                "`{key}`: expected the name of a split or a share of it such as train[:10%], got {value}: `dataset_sample` \
                 draws a number of rows"
            );
            t.refuse(key, message);
            None
        }
    }
}

/// Shares of data sets as `dataset_ratio`, where any has one.
pub fn shares(t: &mut Translator<'_>, key: &str, shares: &[Option<f64>]) {
    if shares.iter().any(Option::is_some) {
        t.set(key, "dataset_ratio", shares.iter().map(|share| share.unwrap_or(1.0)).collect::<Vec<f64>>());
        t.note("a slice of a split is a draw of `dataset_ratio` here; the trainer takes the first rows");
    }
}
