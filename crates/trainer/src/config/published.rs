//! effective_llm_alignment's YAML files, run as they are.
//!
//! Their keys are those of transformers' `TrainingArguments`, TRL's `ModelConfig` and the library's own script
//! arguments, all in one flat mapping. What has a meaning here keeps its name; what cannot have one is listed once;
//! what nobody knows is refused.

use std::path::Path;

use serde_json::{Map, Value};

use super::TrainConfig;
use super::keys::known_keys;
use super::read::{ReadConfig, Source, quoted, set};
use crate::error::TrainError;

/// Keys that say how a trainer on a GPU goes about its work, and nothing about what comes out of it.
const WITHOUT_MEANING: &[&str] = &[
    "attn_implementation",
    "dataloader_num_workers",
    "dataloader_pin_memory",
    "dataset_num_proc",
    "ddp_find_unused_parameters",
    "ddp_timeout",
    "deepspeed",
    "disable_dropout",
    "disable_tqdm",
    "do_eval",
    "do_train",
    "generate_during_eval",
    "generate_eval_examples",
    "gradient_checkpointing_kwargs",
    "group_by_length",
    "hub_model_id",
    "is_encoder_decoder",
    "label_pad_token_id",
    "log_level",
    "logging_dir",
    "logging_first_step",
    "logging_steps",
    "logging_strategy",
    "lora_task_type",
    "model_init_kwargs",
    "num_gen_examples",
    "optim",
    "overwrite_output_dir",
    "padding_value",
    "project_name",
    "push_to_hub",
    "remove_unused_columns",
    "run_name",
    "save_only_model",
    "save_safetensors",
    "tf32",
    "torch_dtype",
    "trust_remote_code",
    "use_liger",
    "use_liger_kernel",
];

/// Keys under another name than here.
const RENAMED: &[(&str, &str)] = &[("max_seq_length", "max_length"), ("model_revision", "model_name_or_path")];

/// Keys that are read here and then gone.
const HANDLED: &[&str] = &[
    "kind",
    "save_strategy",
    "evaluation_strategy",
    "eval_strategy",
    "report_to",
    "train_only_on_completions",
    "assistant_message_template",
    "conversation_field",
    "model_support_system_role",
    "added_special_tokens",
    "max_completion_length",
    "max_target_length",
];

/// A YAML file: one with a `loss` mapping has this program's own keys, any other the published ones.
pub(super) fn parse(text: &str, origin: &Path, overrides: &[String]) -> Result<ReadConfig, TrainError> {
    let source = Source { text, origin };
    let keys: Map<String, Value> = serde_saphyr::from_str(text).map_err(|error| {
        let line = error.location().map(|location| location.line() as usize);
        let whole = error.to_string();
        source.error(line, whole.lines().next().unwrap_or("not YAML").to_owned())
    })?;
    let mut reading = Reading { source: &source, keys, notes: Vec::new() };
    let assignment = |assignment: &str, message: String| source.error(None, format!("--set {assignment}: {message}"));
    if reading.keys.contains_key("loss") {
        let mut table = reading.table()?;
        for given in overrides {
            set(&mut table, given).map_err(|message| assignment(given, message))?;
        }
        return Ok(ReadConfig { config: TrainConfig::from_table(table, &source)?, notes: reading.notes });
    }
    // An override without a dot is of the file's own kind of key.
    let (dotted, flat): (Vec<&String>, Vec<&String>) =
        overrides.iter().partition(|given| given.split('=').next().is_some_and(|key| key.contains('.')));
    for given in flat {
        let mut table = toml::Table::new();
        set(&mut table, given).map_err(|message| assignment(given, message))?;
        for (key, value) in table {
            let value = serde_json::to_value(value).map_err(|error| assignment(given, error.to_string()))?;
            reading.keys.insert(key, value);
        }
    }
    let loss = reading.take_loss()?;
    reading.translate()?;
    let mut table = reading.table()?;
    let loss = toml::Table::try_from(&loss).map_err(|error| source.error(None, error.to_string()))?;
    table.insert("loss".to_owned(), toml::Value::Table(loss));
    for given in dotted {
        set(&mut table, given).map_err(|message| assignment(given, message))?;
    }
    Ok(ReadConfig { config: TrainConfig::from_table(table, &source)?, notes: reading.notes })
}

struct Reading<'a> {
    source: &'a Source<'a>,
    keys: Map<String, Value>,
    notes: Vec<String>,
}

impl Reading<'_> {
    /// Takes the loss's own keys out.
    fn take_loss(&mut self) -> Result<smpo_losses::LossConfig, TrainError> {
        let kind = self.take("kind");
        let kind = kind.as_ref().and_then(Value::as_str);
        let keys = std::mem::take(&mut self.keys);
        let told = kind.or_else(|| smpo_losses::import::kind_of(&keys)).or_else(|| {
            // The library's SFT files have no key of a loss at all, and these of its SFT script.
            let of_sft = ["conversation_field", "train_only_on_completions", "max_seq_length"];
            of_sft.iter().any(|key| keys.contains_key(*key)).then_some("sft")
        });
        let imported = smpo_losses::import::published(told, keys).map_err(|error| {
            let message = match error {
                smpo_losses::import::ImportError::NoKind => {
                    "cannot tell the loss from the keys: name it with `kind: dpo` or --set kind=dpo".to_owned()
                }
                other => other.to_string(),
            };
            let line = quoted(&message).and_then(|key| self.source.line_of_key(key));
            self.source.error(line, message)
        })?;
        self.notes.extend(imported.notes);
        self.keys = imported.rest;
        Ok(imported.config)
    }

    /// Turns the other keys into this program's.
    fn translate(&mut self) -> Result<(), TrainError> {
        let known = known_keys::<TrainConfig>();
        let everything = || {
            let renamed = RENAMED.iter().map(|(theirs, _)| *theirs);
            known.iter().chain(WITHOUT_MEANING).chain(HANDLED).copied().chain(renamed)
        };
        if let Some(key) = self.keys.keys().find(|key| !everything().any(|known| known == *key)) {
            let hint = smpo_suggest::did_you_mean(key, everything().chain(smpo_losses::import::published_keys()));
            return Err(self.error_at(key, format!("unknown key `{key}`{hint}")));
        }
        self.keys.retain(|_, value| !value.is_null());
        let mut idle: Vec<String> =
            WITHOUT_MEANING.iter().filter(|key| self.take(key).is_some()).map(|key| format!("`{key}`")).collect();
        for (theirs, ours) in RENAMED {
            if let Some(value) = self.take(theirs) {
                if *theirs == "model_revision" {
                    idle.push(format!("`{theirs}`"));
                } else if self.keys.contains_key(*ours) {
                    return Err(self.error_at(theirs, format!("`{theirs}` and `{ours}` are one setting: give one")));
                } else {
                    self.keys.insert((*ours).to_owned(), value);
                }
            }
        }
        self.strategies()?;
        self.rows(&mut idle)?;
        self.reporters(&mut idle);
        if self.keys.get("use_peft") != Some(&Value::Bool(true)) {
            for key in ["lora_r", "lora_alpha", "lora_dropout", "lora_target_modules", "use_rslora", "use_dora"] {
                if self.take(key).is_some() {
                    idle.push(format!("`{key}` (use_peft is off)"));
                }
            }
        } else if self.take("unfreeze_layers_patterns").is_some() {
            idle.push("`unfreeze_layers_patterns` (use_peft is on)".to_owned());
        }
        if !idle.is_empty() {
            self.notes.push(format!("these mean nothing here: {}", idle.join(", ")));
        }
        Ok(())
    }

    /// When to save and to evaluate.
    fn strategies(&mut self) -> Result<(), TrainError> {
        for (strategies, steps) in
            [(&["save_strategy"][..], "save_steps"), (&["evaluation_strategy", "eval_strategy"][..], "eval_steps")]
        {
            for key in strategies {
                match self.take(key).as_ref().map(|value| value.as_str().unwrap_or_default()) {
                    None | Some("steps") => {}
                    Some("no") => {
                        self.take(steps);
                        if steps == "eval_steps" {
                            self.take("test_size");
                            self.take("eval_dataset");
                        }
                    }
                    // An epoch is what evaluation does without a number of steps.
                    Some("epoch") if steps == "eval_steps" => {
                        self.take(steps);
                    }
                    Some(other) => {
                        let message = format!("`{key}`: expected \"steps\" or \"no\", got \"{other}\"; set {steps}");
                        return Err(self.error_at(key, message));
                    }
                }
            }
        }
        Ok(())
    }

    /// What a row is, where the library's scripts ask and the reader here sees for itself.
    fn rows(&mut self, idle: &mut Vec<String>) -> Result<(), TrainError> {
        if self.take("train_only_on_completions") == Some(Value::Bool(false)) {
            let key = "train_only_on_completions";
            let message = format!("`{key}`: expected true, got false: only completions are trained on here");
            return Err(self.error_at(key, message));
        }
        if self.take("added_special_tokens").is_some_and(|tokens| tokens != Value::Array(Vec::new())) {
            let key = "added_special_tokens";
            let message = format!("`{key}`: tokens cannot be added to a vocabulary here: add them to the model first");
            return Err(self.error_at(key, message));
        }
        for key in [
            "assistant_message_template",
            "conversation_field",
            "model_support_system_role",
            "max_completion_length",
            "max_target_length",
        ] {
            if self.take(key).is_some() {
                idle.push(format!("`{key}`"));
            }
        }
        Ok(())
    }

    /// Reporters that are none of ours are told where the figures are.
    fn reporters(&mut self, idle: &mut Vec<String>) {
        const OURS: [&str; 2] = ["tensorboard", "openmetrics"];
        let given = match self.take("report_to") {
            None => return,
            Some(Value::Array(given)) => given,
            Some(one) => vec![one],
        };
        let (ours, others): (Vec<Value>, Vec<Value>) =
            given.into_iter().partition(|name| OURS.iter().any(|ours| name == ours));
        if !ours.is_empty() {
            self.keys.insert("report_to".to_owned(), Value::Array(ours));
        }
        let others: Vec<&str> = others.iter().filter_map(Value::as_str).filter(|name| *name != "none").collect();
        if !others.is_empty() {
            idle.push(format!(
                "`report_to: {}` (metrics.jsonl has the figures, `report_to = \"tensorboard\"` writes event files)",
                others.join(", ")
            ));
        }
    }

    fn take(&mut self, key: &str) -> Option<Value> {
        self.keys.shift_remove(key)
    }

    fn error_at(&self, key: &str, message: String) -> TrainError {
        self.source.error(self.source.line_of_key(key), message)
    }

    fn table(&mut self) -> Result<toml::Table, TrainError> {
        let mut keys = std::mem::take(&mut self.keys);
        keys.retain(|_, value| !value.is_null());
        toml::Table::try_from(&keys).map_err(|error| self.source.error(None, error.to_string()))
    }
}
