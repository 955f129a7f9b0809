//! Conversions of what transformers' `TrainingArguments` have: steps, optimizer, evaluation, reporters, precision.

use serde_json::Value;

use crate::profile::is;
use crate::translation::{Translator, short};

/// Optimizers that are AdamW with float32 moments.
const ADAMW: [&str; 9] = [
    "paged_adamw_32bit",
    "paged_adamw",
    "adamw_torch",
    "adamw_torch_fused",
    "adamw_hf",
    "adamw_apex_fused",
    "adamw_anyprecision",
    "adamw_torch_xla",
    "adamw_torch_npu_fused",
];
/// AdamW with 8-bit moments.
const ADAMW_8BIT: [&str; 4] = ["adamw_8bit", "adamw_bnb_8bit", "paged_adamw_8bit", "adamw_torch_8bit"];

/// `max_steps`, of which a number of 0 or less is no limit.
pub fn max_steps(t: &mut Translator<'_>, key: &'static str, value: &Value) {
    if value.as_f64().is_none_or(|steps| steps > 0.0) {
        t.set(key, "max_steps", value.clone());
    }
}

/// The size of the held-out part, of which 0 is none.
pub fn held_out(t: &mut Translator<'_>, key: &'static str, value: &Value) {
    if !is(value, "0") {
        t.set(key, "test_size", value.clone());
    }
}

/// The longest completion of effective_llm_alignment's GPO, beside its longest prompt.
pub fn completion_length(t: &mut Translator<'_>, key: &'static str, value: &Value) {
    const DEFAULT_PROMPT: u64 = 512;
    let prompt = t.keys().get("max_prompt_length").map_or(Some(DEFAULT_PROMPT), Value::as_u64);
    match (value.as_u64(), prompt) {
        (Some(completion), Some(prompt)) => t.set(key, "max_length", completion.saturating_add(prompt)),
        _ => t.expected(key, "a number of tokens", value),
    }
}

/// `optim`.
pub fn optimizer(t: &mut Translator<'_>, key: &'static str, value: &Value) {
    let name = value.as_str().unwrap_or_default().to_owned();
    if ADAMW.contains(&name.as_str()) {
        return t.ignore(key, "AdamW, as here");
    }
    if ADAMW_8BIT.contains(&name.as_str()) {
        return t.set(key, "optim", "adamw_8bit");
    }
    let problem = "AdamW is the only optimizer here";
    t.refuse(
        key,
        format!("`{key}: {}` is not supported: {problem}; --set {key}=adamw_torch trains with it", short(value)),
    );
}

/// `eval_strategy`: `no` leaves held-out rows held out, and files of their own alone.
pub fn evaluation(t: &mut Translator<'_>, key: &'static str, value: &Value) {
    if is(value, "no") || is(value, "false") {
        t.decide("eval_dataset");
        return t.ignore(key, "held-out rows stay held out and are evaluated every epoch");
    }
    t.set(key, "eval_strategy", value.clone());
}

/// `report_to`, of which only some exist here.
pub fn reporters(t: &mut Translator<'_>, key: &'static str, value: &Value) {
    const OURS: [&str; 2] = ["tensorboard", "openmetrics"];
    let names: Vec<String> = match value {
        Value::Array(names) => names.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Value::String(names) => names.split(',').map(|name| name.trim().to_owned()).collect(),
        other => return t.expected(key, "names of reporters", other),
    };
    let (ours, others): (Vec<String>, Vec<String>) =
        names.into_iter().filter(|name| name != "none").partition(|name| OURS.contains(&name.as_str()));
    if !ours.is_empty() {
        t.set(key, "report_to", ours);
    }
    if !others.is_empty() {
        let remark = "metrics.jsonl has the metrics: `python -m smpo.wandb` and `--set report_to=mlflow` send them to a server, \"tensorboard\" \
                      writes event files";
        t.ignore(&format!("{key}: {}", others.join(", ")), remark);
    }
}

/// A precision that may be `auto` or `full`.
pub fn precision(t: &mut Translator<'_>, key: &'static str, value: &Value) {
    let ours = if key.starts_with("bf") || key == "pure_bf16" { "bf16" } else { "fp16" };
    let on = is(value, "true") || ["auto", "full"].iter().any(|word| value.as_str() == Some(word));
    if on || is(value, "false") {
        return t.set(key, ours, on);
    }
    t.expected(key, "true, false or auto", value);
}

/// `train_only_on_completions`.
pub fn only_completions(t: &mut Translator<'_>, key: &'static str, value: &Value) {
    if is(value, "false") {
        t.set(key, "train_on", "everything");
    } else if !is(value, "true") {
        t.expected(key, "true or false", value);
    }
}

/// `use_cpu`, `no_cuda`.
pub fn cpu(t: &mut Translator<'_>, key: &'static str, value: &Value) {
    if is(value, "true") {
        t.set(key, "device", "cpu");
    }
}

/// A flag that is the opposite of one here.
pub fn opposite(ours: &'static str, t: &mut Translator<'_>, key: &'static str, value: &Value) {
    match (is(value, "true"), is(value, "false")) {
        (true, _) => t.set(key, ours, false),
        (_, true) => t.set(key, ours, true),
        _ => t.expected(key, "true or false", value),
    }
}

/// Names as a list or as one text with commas between.
pub fn names(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) => items.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Value::String(text) => {
            text.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
        }
        _ => Vec::new(),
    }
}
