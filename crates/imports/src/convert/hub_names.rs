//! Data sets as Halo and effective_llm_alignment name them, and settings of their scripts.

use serde_json::Value;

use super::run::names;
use super::sources::{dataset, is_of_hub};
use crate::profile::is;
use crate::translation::Translator;

/// Halo's `org/name[:config][@split]`, or a file.
pub fn halo(t: &mut Translator<'_>, key: &'static str, value: &Value) {
    let sources: Vec<String> = all(value).iter().map(|name| halo_source(name)).collect();
    set(t, key, value, sources);
}

fn halo_source(name: &str) -> String {
    if std::path::Path::new(name).exists() {
        return name.to_owned();
    }
    let (rest, split) = name.split_once('@').map_or((name, None), |(rest, split)| (rest, Some(split)));
    let (repository, config) = rest.split_once(':').map_or((rest, None), |(name, config)| (name, Some(config)));
    if !is_of_hub(repository) {
        return name.to_owned();
    }
    let part: Vec<&str> = [config, split.filter(|split| *split != "train")].into_iter().flatten().collect();
    dataset(repository, None, (!part.is_empty()).then(|| part.join("/")).as_deref())
}

/// effective_llm_alignment's name or path that ends in `jsonl`; a data set of the Hub has its own test split.
pub fn ela(t: &mut Translator<'_>, key: &'static str, value: &Value) {
    let given = all(value);
    let sources: Vec<String> = given.iter().map(|name| dataset(name, None, None)).collect();
    if t.keys().get("test_size").is_none() && given.iter().all(|name| is_of_hub(name)) {
        let tests: Vec<String> = given.iter().map(|name| dataset(name, None, Some("test"))).collect();
        t.set(key, "eval_dataset", tests);
    }
    set(t, key, value, sources);
}

/// Names may hold commas in paths: only a list is several.
fn all(value: &Value) -> Vec<String> {
    match value {
        Value::String(name) => vec![name.clone()],
        other => names(other),
    }
}

fn set(t: &mut Translator<'_>, key: &'static str, value: &Value, sources: Vec<String>) {
    if sources.is_empty() {
        return t.expected(key, "a data set or a list of them", value);
    }
    t.set(key, "dataset", sources);
}

/// `unfreeze_layers_patterns`, which adapters take the place of.
pub fn unfreeze(t: &mut Translator<'_>, key: &'static str, value: &Value) {
    if t.adapts {
        return t.ignore(key, "use_peft is on");
    }
    t.set(key, "unfreeze_layers_patterns", value.clone());
}

/// `train_on_last_assistant_only`.
pub fn last_only(t: &mut Translator<'_>, key: &'static str, value: &Value) {
    t.set(key, "train_on", if is(value, "true") { "last" } else { "all" });
}
