//! Conversions of axolotl's settings.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::axolotl_entry;
use super::run::names;
use super::sources::{dataset, shares, split};
use super::templates;
use crate::profile::is;
use crate::translation::{Translator, short};

/// `lr_scheduler`.
pub fn scheduler(t: &mut Translator<'_>, key: &'static str, value: &Value) {
    t.set(key, "lr_scheduler_type", value.clone());
}

/// `gradient_checkpointing`, which may say how.
pub fn checkpointing(t: &mut Translator<'_>, key: &'static str, value: &Value) {
    t.set(key, "gradient_checkpointing", !is(value, "false"));
}

/// `saves_per_epoch` and `evals_per_epoch`, as shares of the run.
pub fn per_epoch(t: &mut Translator<'_>, key: &'static str, value: &Value) {
    let ours = if key.starts_with("save") { "save_steps" } else { "eval_steps" };
    let number = |value: &Value| value.as_f64().or_else(|| value.as_str()?.parse().ok());
    let epochs = t.keys().get("num_epochs").map_or(Some(1.0), number);
    let (Some(times), Some(epochs)) = (number(value), epochs) else { return t.expected(key, "a number", value) };
    if times <= 0.0 {
        return t.decide(ours);
    }
    let share = 1.0 / (times * epochs);
    if times == 1.0 || share >= 1.0 {
        t.set(key, ours, "epoch");
    } else {
        t.set(key, ours, share);
    }
}

/// `special_tokens`.
pub fn special_tokens(t: &mut Translator<'_>, key: &'static str, value: &Value) {
    let Some(tokens) = value.as_object() else { return t.expected(key, "a table of tokens", value) };
    for (name, token) in tokens.iter().filter(|(_, token)| !token.is_null()) {
        match name.as_str() {
            "eos_token" | "bos_token" | "pad_token" => t.set(key, name, token.clone()),
            "unk_token" => t.ignore(&format!("{key}.{name}"), ""),
            "additional_special_tokens" => t.set(key, "added_special_tokens", names(token)),
            other => t.refuse(key, format!("`{key}`: unknown token `{other}`")),
        }
    }
}

/// `chat_template_jinja`.
pub fn jinja(t: &mut Translator<'_>, key: &'static str, value: &Value) {
    t.set(key, "chat_template", value.clone());
    t.set(key, "force_chat_template", true);
}

/// `excess_length_strategy`.
pub fn excess(t: &mut Translator<'_>, key: &'static str, value: &Value) {
    match value.as_str() {
        Some("truncate") => {}
        _ => t.ignore(key, "long rows are cut here"),
    }
}

/// `use_tensorboard`.
pub fn tensorboard(t: &mut Translator<'_>, key: &'static str, value: &Value) {
    if is(value, "true") {
        t.set(key, "report_to", "tensorboard");
    }
}

/// `adapter`.
pub fn adapter(t: &mut Translator<'_>, key: &'static str, value: &Value) {
    match value.as_str() {
        Some("lora" | "qlora") if t.keys().get("lora_model_dir").is_none() => t.set(key, "use_peft", true),
        Some("lora" | "qlora") => {}
        _ => t.expected(key, "\"lora\" or \"qlora\"", value),
    }
}

/// `lora_target_linear`.
pub fn target_linear(t: &mut Translator<'_>, key: &'static str, value: &Value) {
    if is(value, "true") {
        t.set(key, "lora_target_modules", "all-linear");
    }
}

/// `lora_target_modules`, beside which `lora_target_linear` means every linear layer.
pub fn target_modules(t: &mut Translator<'_>, key: &'static str, value: &Value) {
    if t.keys().is_true("lora_target_linear") {
        return t.ignore(key, "`lora_target_linear` is every linear layer");
    }
    t.set(key, "lora_target_modules", value.clone());
}

/// `rl_beta`, β of every method; `trl.beta` wins over it.
pub fn beta(t: &mut Translator<'_>, key: &'static str, value: &Value) {
    let ours = if t.method.name == "orpo" { "loss.lambda" } else { "loss.beta" };
    if t.value(ours).is_none() {
        t.set(key, ours, value.clone());
    }
}

/// `tokenizer_config` and `base_model_config`, which are the model's own here.
pub fn of_the_model(t: &mut Translator<'_>, key: &'static str, value: &Value) {
    let plain = |name: &str| name.trim_end_matches('/').to_owned();
    let model = t.keys().text("base_model").map(plain);
    if value.as_str().map(plain) != model {
        let message = format!(
            "`{key}: {}` is not supported: tokenizer and configuration are the model's own here: put their files into its \
             directory, or remove it",
            short(value)
        );
        t.refuse(key, message);
    }
}

/// `trl: {beta: …}`.
pub fn trl(t: &mut Translator<'_>, key: &'static str, value: &Value) {
    let Some(table) = value.as_object() else { return t.expected(key, "a table", value) };
    for (name, value) in table {
        match name.as_str() {
            "beta" => beta(t, key, value),
            other => t.ignore(&format!("{key}.{other}"), ""),
        }
    }
}

/// `datasets`.
pub fn datasets(t: &mut Translator<'_>, key: &'static str, value: &Value) {
    if let Some((files, slices)) = resolve(t, key, value) {
        shares(t, key, &slices);
        t.set(key, "dataset", files);
    }
}

/// `test_datasets`.
pub fn test_datasets(t: &mut Translator<'_>, key: &'static str, value: &Value) {
    match resolve(t, key, value) {
        Some((_, slices)) if slices.iter().any(Option::is_some) => {
            let message =
                format!("`{key}`: every row is evaluated on here: expected the name of a split, got a share of one");
            t.refuse(key, message);
        }
        Some((files, _)) => t.set(key, "eval_dataset", files),
        None => {}
    }
}

/// Columns of an entry, and keys of `dataset_columns`.
pub const FIELDS: [(&str, &str); 11] = [
    ("field_messages", "messages"),
    ("field_chosen", "chosen"),
    ("field_rejected", "rejected"),
    ("field_prompt", "prompt"),
    ("field_instruction", "prompt"),
    ("field_input", "query"),
    ("field_output", "response"),
    ("field_completion", "response"),
    ("field_label", "label"),
    ("field_system", "system"),
    ("field_tools", "tools"),
];

/// The files of all entries, each with the share of it that is taken.
fn resolve(t: &mut Translator<'_>, key: &str, value: &Value) -> Option<(Vec<String>, Vec<Option<f64>>)> {
    let Some(entries) = value.as_array().filter(|entries| !entries.is_empty()) else {
        t.expected(key, "a list of data sets", value);
        return None;
    };
    let (mut files, mut slices) = (Vec::new(), Vec::new());
    for (index, entry) in entries.iter().enumerate() {
        let Some(entry) = entry.as_object() else {
            t.expected(key, "a table with `path` and `type`", entry);
            return None;
        };
        let place = format!("{key}[{index}]");
        axolotl_entry::check(t, key, &place, entry)?;
        let (found, slice) = sources(t, key, &place, entry)?;
        columns(t, key, &place, entry, &found)?;
        slices.extend(found.iter().map(|_| slice));
        files.extend(found);
    }
    Some((files, slices))
}

fn sources(
    t: &mut Translator<'_>,
    key: &str,
    place: &str,
    entry: &Map<String, Value>,
) -> Option<(Vec<String>, Option<f64>)> {
    let text = |name: &str| entry.get(name).and_then(Value::as_str);
    let Some(path) = text("path") else {
        t.refuse(key, format!("`{place}`: expected a `path`"));
        return None;
    };
    let (part, slice) = match entry.get("split").filter(|value| !value.is_null()) {
        Some(value) => split(t, key, value)?,
        None => ("train".to_owned(), None),
    };
    let data_files = entry.get("data_files").map(names).unwrap_or_default();
    if ["json", "parquet"].contains(&path) && !data_files.is_empty() {
        return Some((data_files, slice));
    }
    if !data_files.is_empty() {
        let local = Path::new(path).exists();
        let in_it =
            |file: &String| if local { format!("{path}/{file}") } else { dataset(path, text("revision"), Some(file)) };
        return Some((data_files.iter().map(in_it).collect(), slice));
    }
    let part = Some(part).filter(|part| part != "train");
    let part: Vec<String> = [text("name").map(str::to_owned), part].into_iter().flatten().collect();
    let part = (!part.is_empty()).then(|| part.join("/"));
    Some((vec![dataset(path, text("revision"), part.as_deref())], slice))
}

/// The columns and speakers of an entry; its `type` names a template and a layout that the reader finds by itself.
fn columns(t: &mut Translator<'_>, key: &str, place: &str, entry: &Map<String, Value>, files: &[String]) -> Option<()> {
    let none = Map::new();
    let mut fields = entry.clone();
    if let Some(template) = entry.get("chat_template").filter(|template| !template.is_null()) {
        let name = template.as_str().unwrap_or_default();
        templates::compare_named(t, &format!("{place}.chat_template"), templates::plain(name));
    }
    match entry.get("type") {
        None | Some(Value::Null) => {}
        Some(Value::String(kind)) => {
            let template = kind.split('.').next().unwrap_or_default();
            if kind == "completion" || kind == "pretrain" || kind == "input_output" {
                t.refuse(key, format!("`{place}.type: {kind}` is not supported: rows are conversations here"));
                return None;
            }
            templates::compare_named(t, &format!("{place}.type"), template);
        }
        Some(Value::Object(own)) => {
            if let Some((format, template)) = own.iter().find(|(name, value)| is_format(own, name, value)) {
                let message = format!(
                    "`{place}.type.{format}: {}` is not supported: rows are rendered by the model's chat template",
                    short(template)
                );
                t.refuse(key, message);
                return None;
            }
            fields.extend(own.clone());
        }
        Some(other) => {
            t.refuse(key, format!("`{place}.type`: expected a name, got {other}"));
            return None;
        }
    }
    let mut ours = Map::new();
    for (theirs, name) in FIELDS {
        if let Some(column) = fields.get(theirs).filter(|column| column.is_string()) {
            ours.insert(name.to_owned(), column.clone());
        }
    }
    let mapped = fields.get("message_property_mappings").and_then(Value::as_object).unwrap_or(&none);
    for (theirs, name) in [("role", "role"), ("content", "content")] {
        let legacy = fields.get(&format!("message_field_{theirs}"));
        if let Some(column) = mapped.get(theirs).or(legacy).filter(|column| column.is_string()) {
            ours.insert(name.to_owned(), column.clone());
        }
    }
    let mut roles = Map::new();
    for (ours, theirs) in fields.get("roles").and_then(Value::as_object).unwrap_or(&none) {
        roles.extend(names(theirs).into_iter().map(|theirs| (theirs, Value::from(ours.as_str()))));
    }
    if !roles.is_empty() {
        ours.insert("roles".to_owned(), Value::Object(roles));
    }
    if !ours.is_empty() {
        ours.insert("files".to_owned(), json!(files));
        t.add_to_list(key, "dataset_columns", Value::Object(ours));
    }
    Some(())
}

/// True for a format that adds text of its own to a field.
fn is_format(own: &Map<String, Value>, name: &str, value: &Value) -> bool {
    let plain = match name {
        "no_input_format" => Some("{instruction}".to_owned()),
        "format" if own.contains_key("field_input") => Some(String::new()),
        "format" => Some("{instruction}".to_owned()),
        _ => name.strip_suffix("_format").map(|field| format!("{{{field}}}")),
    };
    plain.is_some_and(|plain| value.as_str().is_some_and(|format| !format.is_empty() && format != plain))
}
