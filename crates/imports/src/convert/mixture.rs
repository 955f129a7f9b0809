//! TRL's data sets: one by name, or a mixture.

use std::path::Path;

use serde_json::{Map, Value};

use super::sources::{dataset, is_of_hub, shares, split};
use crate::profile::is;
use crate::translation::Translator;

/// `dataset_name` with its splits and its configuration.
pub fn dataset_name(t: &mut Translator<'_>, key: &'static str, value: &Value) {
    if t.keys().get("datasets").is_some() {
        return t.ignore(key, "`datasets` takes its place");
    }
    let Some(name) = value.as_str() else { return t.expected(key, "a name or a path", value) };
    let config = t.keys().text("dataset_config").map(str::to_owned);
    let named = |t: &mut Translator<'_>, key: &str, default: &str| match t.keys().get(key) {
        Some(value) => split(t, key, value),
        None => Some((default.to_owned(), None)),
    };
    let Some((train, share)) = named(t, "dataset_train_split", "train") else { return };
    t.set(key, "dataset", dataset(name, None, part(config.as_deref(), &train).as_deref()));
    shares(t, key, &[share]);
    if evaluates(t) && (is_of_hub(name) || Path::new(name).is_dir()) {
        let Some((test, _)) = named(t, "dataset_test_split", "test") else { return };
        let part = Some(config.map_or_else(|| test.clone(), |config| format!("{config}/{test}")));
        t.set(key, "eval_dataset", dataset(name, None, part.as_deref()));
    }
}

/// True if the file asks for evaluation on rows of their own.
fn evaluates(t: &Translator<'_>) -> bool {
    let keys = t.keys();
    let strategy = ["eval_strategy", "evaluation_strategy"].iter().find_map(|key| keys.get(key));
    strategy.is_some_and(|strategy| !is(strategy, "no") && !is(strategy, "false"))
        && !keys.has_any(&["test_split_size", "test_size"])
        && !t.is_set("eval_dataset")
}

/// The part of a repository that a configuration and a split are; the training split is what is read without one.
fn part(config: Option<&str>, split: &str) -> Option<String> {
    match (config, split) {
        (None, "train") => None,
        (None, split) => Some(split.to_owned()),
        (Some(config), "train") => Some(config.to_owned()),
        (Some(config), split) => Some(format!("{config}/{split}")),
    }
}

/// Keys of an entry of `datasets`.
const ENTRY: [&str; 7] = ["path", "name", "data_dir", "data_files", "split", "columns", "fraction"];
/// Names of loaders of local files, which the content of a file decides here.
const LOADERS: [&str; 2] = ["json", "parquet"];

/// `datasets`, a mixture.
pub fn datasets(t: &mut Translator<'_>, key: &'static str, value: &Value) {
    let Some(entries) = value.as_array() else { return t.expected(key, "a list of data sets", value) };
    let (mut files, mut fractions, mut slices) = (Vec::new(), Vec::new(), Vec::new());
    for (index, entry) in entries.iter().enumerate() {
        let Some(entry) = entry.as_object() else { return t.expected(key, "a table with `path`", entry) };
        if let Some(strange) = entry.keys().find(|name| !ENTRY.contains(&name.as_str())) {
            let hint = smpo_suggest::did_you_mean(strange, ENTRY);
            return t.refuse(key, format!("`{key}[{index}]`: unknown key `{strange}`{hint}"));
        }
        let Some((found, slice)) = sources_of(t, key, entry) else { return };
        let fraction = entry.get("fraction").filter(|value| !value.is_null());
        if fraction.is_some() && found.len() > 1 {
            return t
                .refuse(key, format!("`{key}[{index}].fraction`: expected one file beside it, got {}", found.len()));
        }
        fractions.push(fraction.and_then(Value::as_f64));
        slices.extend(found.iter().map(|_| slice));
        files.extend(found);
    }
    if fractions.iter().any(Option::is_some) {
        match (fractions.iter().copied().collect::<Option<Vec<f64>>>(), fractions.len() == files.len()) {
            (Some(fractions), true) => ratios(t, key, &files, &fractions),
            _ => {
                let given = fractions.iter().flatten().count();
                let message = format!(
                    "`{key}`: expected `fraction` in all of {} entries or in none, got it in {given}",
                    entries.len()
                );
                return t.refuse(key, message);
            }
        }
    }
    shares(t, key, &slices);
    t.set(key, "dataset", files);
}

/// `dataset_mixer` of the alignment-handbook: the share of each data set's training rows, of the splits in `dataset_splits`.
pub fn mixer(t: &mut Translator<'_>, key: &'static str, value: &Value) {
    let Some(mixer) = value.as_object() else { return t.expected(key, "data sets with the share of each", value) };
    let list = |key: &str| t.keys().get(key).map(super::run::names);
    let splits = list("dataset_splits").unwrap_or_else(|| vec!["train".to_owned(), "test".to_owned()]);
    let configs = list("dataset_configs").unwrap_or_default();
    let of = |kind: &str| splits.iter().filter(|split| split.contains(kind)).cloned().collect::<Vec<_>>();
    let (train, test) = (of("train"), of("test"));
    let (mut sources, mut taken, mut tests) = (Vec::new(), Vec::new(), Vec::new());
    for (index, (name, share)) in mixer.iter().enumerate() {
        let Some(share) = share.as_f64().filter(|share| (0.0..=1.0).contains(share)) else {
            return t.expected(key, "shares from 0 to 1", value);
        };
        let config = configs.get(index).map(String::as_str);
        // a file has no splits
        let found = if is_of_hub(name) { &train[..] } else { &train[..1.min(train.len())] };
        for split in found {
            sources.push(dataset(name, None, part(config, split).as_deref()));
            taken.push((share < 1.0).then_some(share));
        }
        if is_of_hub(name) {
            tests.extend(test.iter().map(|split| dataset(name, None, part(config, split).as_deref())));
        }
    }
    if sources.is_empty() {
        return t.expected(key, "a data set, and a split of training in `dataset_splits`", value);
    }
    shares(t, key, &taken);
    t.set(key, "dataset", sources);
    if evaluates(t) && !tests.is_empty() {
        t.set(key, "eval_dataset", tests);
    }
}

/// The files of an entry, and the share of them that a slice of its split is.
fn sources_of(t: &mut Translator<'_>, key: &str, entry: &Map<String, Value>) -> Option<(Vec<String>, Option<f64>)> {
    let text = |name: &str| entry.get(name).and_then(Value::as_str);
    let Some(path) = text("path") else {
        t.refuse(key, format!("`{key}`: expected a `path` in each entry, got {}", Value::Object(entry.clone())));
        return None;
    };
    let (train, slice) = match entry.get("split").filter(|value| !value.is_null()) {
        Some(value) => split(t, key, value)?,
        None => ("train".to_owned(), None),
    };
    let files = match entry.get("data_files").filter(|value| !value.is_null()) {
        None => Vec::new(),
        Some(Value::Object(by_split)) => super::run::names(by_split.get(&train).unwrap_or(&Value::Null)),
        Some(Value::String(file)) => vec![file.clone()],
        Some(files) => super::run::names(files),
    };
    if LOADERS.contains(&path) {
        if files.is_empty() {
            t.refuse(key, format!("`{key}`: the loader `{path}` needs `data_files` for the split `{train}`"));
            return None;
        }
        return Some((files, slice));
    }
    if ["csv", "text", "arrow"].contains(&path) {
        t.refuse(key, format!("`{key}`: files of `{path}` are not read: save them as JSON lines or Parquet"));
        return None;
    }
    let in_it = |file: &str| if is_of_hub(path) { dataset(path, None, Some(file)) } else { format!("{path}/{file}") };
    if !files.is_empty() {
        return Some((files.iter().map(|file| in_it(file)).collect(), slice));
    }
    let source = match text("data_dir") {
        Some(dir) => in_it(dir),
        None => dataset(path, None, part(text("name"), &train).as_deref()),
    };
    Some((vec![source], slice))
}

/// Shares of a mixture as shares of each file: the largest mixture that takes no row twice.
fn ratios(t: &mut Translator<'_>, key: &str, files: &[String], fractions: &[f64]) {
    let total: f64 = fractions.iter().sum();
    if fractions.iter().any(|share| !share.is_finite() || *share < 0.0) || total <= 0.0 {
        return t.refuse(key, format!("`{key}`: expected fractions of 0 or more, got {fractions:?}"));
    }
    let mut rows = Vec::new();
    for file in files {
        match rows_of(file) {
            Some(count) => rows.push(count),
            None => {
                let message = format!(
                    "`{key}`: `fraction` needs the number of rows of {file}, which is not on this disk; give \
                     `dataset_ratio`, the share of each file's rows, in its place"
                );
                return t.refuse(key, message);
            }
        }
    }
    let largest = rows.iter().zip(fractions).filter(|(_, share)| **share > 0.0);
    let mixture = largest.map(|(rows, share)| rows * total / share).fold(f64::INFINITY, f64::min);
    let taken = rows.iter().zip(fractions);
    let taken = taken.map(|(rows, part)| share((part / total * mixture).round().min(*rows), *rows));
    t.set(key, "dataset_ratio", taken.collect::<Vec<f64>>());
    t.note("`fraction` is a draw of `dataset_ratio` here; TRL takes the first rows of each data set");
}

/// The `dataset_ratio` that takes so many rows: their number is rounded down there.
pub fn share(taken: f64, rows: f64) -> f64 {
    let share = taken / rows;
    if (share * rows).floor() < taken { (taken + 0.5) / rows } else { share }
}

/// Number of rows of a file on the disk.
pub fn rows_of(file: &str) -> Option<f64> {
    Path::new(file).exists().then_some(())?;
    let rows = smpo_data::count_rows(file).ok().filter(|rows| *rows > 0)?;
    Some(rows as f64)
}
