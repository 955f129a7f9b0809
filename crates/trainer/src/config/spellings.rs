//! Values as transformers, PEFT and YAML write them, in the words of this program: `max_steps: -1` is no limit,
//! `warmup_steps: 0` is not given, `save_strategy: epoch` is an interval, `"1e-4"` is a number.

use toml::{Table, Value};

use super::check::{Key, Problems};
use super::read::ALIASES;

/// Keys of transformers that are part of another key here.
pub(super) const KEYS: [&str; 4] = ["save_strategy", "eval_strategy", "evaluation_strategy", "lr_scheduler_kwargs"];

/// Lists of names, which may be one text with commas between.
const NAME_LISTS: [&str; 6] = [
    "lora_target_modules",
    "unfreeze_layers_patterns",
    "report_to",
    "modules_to_save",
    "trainable_token_indices",
    "llm_int8_skip_modules",
];

/// Keys that say one thing in several ways: an override of one replaces the others.
const ONE_SETTING: [&[&str]; 4] = [
    &["save_steps", "save_strategy"],
    &["eval_steps", "eval_strategy", "evaluation_strategy"],
    &["warmup_steps", "warmup_ratio"],
    &["min_lr_ratio", "lr_scheduler_kwargs"],
];

/// The other spellings of the setting that a key is.
pub(super) fn others_of(key: &str) -> Vec<&'static str> {
    let name_of = |key: &str| ALIASES.iter().find(|(alias, _)| *alias == key).map(|(_, name)| *name);
    let name = name_of(key).unwrap_or(key);
    let aliases = ALIASES.iter().filter(|(_, of)| *of == name).flat_map(|(alias, of)| [*alias, *of]);
    let groups = ONE_SETTING.iter().filter(|group| group.contains(&key)).flat_map(|group| group.iter().copied());
    aliases.chain(groups).filter(|other| *other != key).collect()
}

/// Turns the keys of a file, its tables excepted.
pub(super) fn translate(table: &mut Table, problems: &mut Problems) {
    if table.get("max_steps").and_then(number).is_some_and(|steps| steps < 0.0) {
        table.remove("max_steps");
    }
    if let Some(limit) = table.get("save_total_limit").and_then(number).filter(|limit| *limit <= 0.0) {
        let message =
            format!("`save_total_limit` must be at least 1, got {limit}; a large number keeps all checkpoints");
        problems.push_unread(Key::new(None, "save_total_limit"), message);
        table.remove("save_total_limit");
    }
    warmup(table);
    for (strategy, steps) in
        [("save_strategy", "save_steps"), ("eval_strategy", "eval_steps"), ("evaluation_strategy", "eval_steps")]
    {
        if let Some(given) = table.remove(strategy) {
            interval(table, strategy, steps, &given, problems);
        }
    }
    if let Some(given) = table.remove("lr_scheduler_kwargs") {
        scheduler(table, given, problems);
    }
    for key in NAME_LISTS {
        let Some(given) = table.get_mut(key) else { continue };
        if let Some(names) = given.as_str().filter(|names| names.contains(',')) {
            *given = Value::Array(names.split(',').map(|name| Value::from(name.trim())).collect());
        }
    }
    reporters(table);
    // PEFT's word for its default.
    if table.get("init_lora_weights").and_then(Value::as_bool) == Some(true) {
        table.remove("init_lora_weights");
    }
    // LLaMA-Factory's word for PEFT's `all-linear`.
    if table.get("lora_target_modules").is_some_and(|targets| targets.as_str() == Some("all")) {
        table.insert("lora_target_modules".to_owned(), Value::from("all-linear"));
    }
}

/// Other readings of a value that is not of its key's type: numbers and booleans as text, whole numbers as 64.0.
pub(super) fn other_readings(value: &Value) -> Vec<Value> {
    match value {
        Value::String(text) => {
            let text = text.trim();
            let whole = text.parse::<i64>().ok().map(Value::Integer);
            let real = text.parse::<f64>().ok().filter(|value| value.is_finite()).map(Value::Float);
            let boolean = match text.to_ascii_lowercase().as_str() {
                "true" => Some(Value::Boolean(true)),
                "false" => Some(Value::Boolean(false)),
                _ => None,
            };
            [whole, real, boolean].into_iter().flatten().collect()
        }
        Value::Float(value) if value.fract() == 0.0 && value.abs() < i64::MAX as f64 => {
            vec![Value::Integer(*value as i64)]
        }
        Value::Array(items) => {
            let read = |item: &Value| other_readings(item).into_iter().next().unwrap_or_else(|| item.clone());
            vec![Value::Array(items.iter().map(read).collect())]
        }
        _ => Vec::new(),
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Integer(value) => Some(*value as f64),
        Value::Float(value) => Some(*value),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// `warmup_steps` below 1 is a share (transformers 5), and of steps and share the one that is 0 is not given.
fn warmup(table: &mut Table) {
    let given = |table: &Table, key: &str| table.get(key).and_then(number);
    if given(table, "warmup_steps").is_some_and(|steps| steps > 0.0 && steps < 1.0)
        && given(table, "warmup_ratio").is_none_or(|ratio| ratio == 0.0)
        && let Some(share) = table.remove("warmup_steps")
    {
        table.insert("warmup_ratio".to_owned(), share);
    }
    for (key, other) in [("warmup_steps", "warmup_ratio"), ("warmup_ratio", "warmup_steps")] {
        if given(table, key) == Some(0.0) && table.contains_key(other) {
            table.remove(key);
        }
    }
}

/// A strategy of saving or evaluating, as the interval that it means.
fn interval(table: &mut Table, strategy: &str, steps: &str, given: &Value, problems: &mut Problems) {
    match given {
        Value::String(word) if word == "steps" => {}
        Value::String(word) if word == "epoch" => {
            table.insert(steps.to_owned(), Value::from("epoch"));
        }
        // YAML reads an unquoted `no` as false.
        Value::String(_) | Value::Boolean(false) if matches!(given.as_str(), None | Some("no")) => {
            table.remove(steps);
            if steps == "eval_steps" {
                table.remove("test_size");
                table.remove("eval_dataset");
            }
        }
        Value::String(word) if word == "best" => {
            let message = format!(
                "`{strategy}`: expected \"steps\", \"epoch\" or \"no\", got \"best\"; set load_best_model_at_end = true, \
                 which saves after every evaluation that is the best so far"
            );
            problems.push_unread(Key::new(None, strategy), message);
        }
        other => {
            let message = format!("`{strategy}`: expected \"steps\", \"epoch\" or \"no\", got {other}");
            problems.push_unread(Key::new(None, strategy), message);
        }
    }
}

/// `lr_scheduler_kwargs` of `cosine_with_min_lr`.
fn scheduler(table: &mut Table, given: Value, problems: &mut Problems) {
    const KEY: &str = "lr_scheduler_kwargs";
    let refuse = |problems: &mut Problems, message: String| problems.push_unread(Key::new(None, KEY), message);
    let given = match given {
        Value::Table(given) => given,
        other => return refuse(problems, format!("`{KEY}`: expected a table, got {other}")),
    };
    for (key, value) in given {
        let ratio = match (key.as_str(), number(&value)) {
            ("min_lr_rate", Some(rate)) => Some(rate),
            ("min_lr", Some(rate)) => table.get("learning_rate").and_then(number).map(|peak| rate / peak),
            _ => None,
        };
        match ratio {
            Some(ratio) if !table.contains_key("min_lr_ratio") => {
                table.insert("min_lr_ratio".to_owned(), Value::Float(ratio));
            }
            Some(_) => refuse(problems, format!("`{KEY}` and `min_lr_ratio` are one setting: give one")),
            None => {
                refuse(
                    problems,
                    format!("`{KEY}`: expected `min_lr_rate` or `min_lr` with a number, got `{key}` = {value}"),
                );
            }
        }
    }
}

/// Takes "none" out of the reporters.
fn reporters(table: &mut Table) {
    match table.get_mut("report_to") {
        Some(Value::Array(names)) => names.retain(|name| name.as_str() != Some("none")),
        Some(Value::String(name)) if name == "none" => {
            table.remove("report_to");
        }
        _ => {}
    }
}
