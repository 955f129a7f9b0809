//! effective_llm_alignment's YAML files, run as they are.
//!
//! Their keys are those of transformers' `TrainingArguments`, TRL's `ModelConfig` and the library's own script
//! arguments, all in one flat mapping. Keys with a meaning here keep their names, keys without one are listed in a note,
//! unknown keys are refused.

use std::path::Path;

use serde_json::{Map, Value};

use super::TrainConfig;
use super::check::{Key, Problems};
use super::file::ConfigFile;
use super::keys::known_keys;
use super::read::{ReadConfig, of_key, set};
use super::spellings;
use crate::error::TrainError;

/// Keys that have no effect on the trained model here.
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

/// Keys that the translation consumes.
const HANDLED: &[&str] = &[
    "kind",
    "report_to",
    "train_only_on_completions",
    "assistant_message_template",
    "conversation_field",
    "max_completion_length",
    "max_target_length",
];

/// Reads a YAML file: one with a `loss` mapping has this program's own keys, any other the published ones.
pub(super) fn parse(text: &str, origin: &Path, overrides: &[String]) -> Result<ReadConfig, TrainError> {
    let file = ConfigFile { text, path: origin };
    let keys: Map<String, Value> = serde_saphyr::from_str(text).map_err(|error| {
        let line = error.location().map(|location| location.line() as usize);
        let whole = error.to_string();
        file.error(line, in_own_words(whole.lines().next().unwrap_or("not YAML")))
    })?;
    let mut import = Import { keys, notes: Vec::new(), problems: Problems::default() };
    // In a published file, an override without a dot is one of its own keys.
    let own = import.keys.contains_key("loss");
    let (dotted, flat): (Vec<&String>, Vec<&String>) =
        overrides.iter().partition(|given| own || given.split('=').next().is_some_and(|key| key.contains('.')));
    for given in flat {
        import.set(given);
    }
    let mut table = if own { import.table(&file)? } else { import.translated(&file)? };
    for given in dotted {
        set(&mut table, given, &mut import.problems);
    }
    let config = TrainConfig::from_table(table, &file, import.problems)?;
    Ok(ReadConfig { config, notes: import.notes })
}

/// The parser's message without its own place, and without advice to its callers.
fn in_own_words(message: &str) -> String {
    let message =
        message.strip_prefix("error: line ").and_then(|rest| rest.split_once(": ")).map_or(message, |(_, rest)| rest);
    message.split(", set DuplicateKeyPolicy").next().unwrap_or(message).to_owned()
}

/// A YAML file that is being translated.
struct Import {
    keys: Map<String, Value>,
    notes: Vec<String>,
    problems: Problems,
}

impl Import {
    /// Applies an override of a published key.
    fn set(&mut self, assignment: &str) {
        let mut table = toml::Table::new();
        set(&mut table, assignment, &mut self.problems);
        for (key, value) in table {
            // TOML's numbers that JSON lacks (nan, inf) become null, which is absent here.
            self.keys.insert(key, serde_json::to_value(value).unwrap_or(Value::Null));
        }
    }

    /// The file in this program's keys.
    fn translated(&mut self, file: &ConfigFile<'_>) -> Result<toml::Table, TrainError> {
        let loss = self.take_loss();
        self.translate();
        let mut table = self.table(file)?;
        if let Some(loss) = loss {
            let loss = toml::Table::try_from(&loss).map_err(|error| file.error(None, error.to_string()))?;
            table.insert("loss".to_owned(), toml::Value::Table(loss));
        }
        Ok(table)
    }

    /// Takes the loss's own keys out.
    fn take_loss(&mut self) -> Option<smpo_losses::LossConfig> {
        let kind = self.take("kind");
        let kind = kind.as_ref().and_then(Value::as_str);
        let mut keys = std::mem::take(&mut self.keys);
        for key in smpo_losses::import::published_keys() {
            let number = keys.get(key).and_then(Value::as_str).and_then(|text| text.trim().parse::<f64>().ok());
            if let Some(number) = number {
                keys.insert(key.to_owned(), Value::from(number));
            }
        }
        let kind = kind.or_else(|| smpo_losses::import::kind_of(&keys)).or_else(|| {
            // The library's SFT files have no key of a loss at all, and these of its SFT script.
            let of_sft = ["conversation_field", "train_only_on_completions", "max_seq_length"];
            of_sft.iter().any(|key| keys.contains_key(*key)).then_some("sft")
        });
        match smpo_losses::import::published(kind, keys.clone()) {
            Ok(imported) => {
                self.notes.extend(imported.notes);
                self.keys = imported.rest;
                Some(imported.config)
            }
            Err(error) => {
                let message = match error {
                    smpo_losses::import::ImportError::NoKind => {
                        "cannot tell the loss from the keys: name it with `kind: dpo` or --set kind=dpo".to_owned()
                    }
                    other => of_key(&other.to_string()),
                };
                // The message quotes the key.
                let key = message.split('`').skip(1).step_by(2).find(|quoted| keys.contains_key(*quoted));
                let key = key.unwrap_or("kind").to_owned();
                self.problems.push(Key::new(None, key), message);
                self.problems.unread.insert(Key::new(None, "loss"));
                self.keys = keys;
                let of_losses: Vec<&str> = smpo_losses::import::published_keys().collect();
                let known = known_keys::<TrainConfig>();
                self.keys.retain(|key, _| known.contains(&key.as_str()) || !of_losses.contains(&key.as_str()));
                None
            }
        }
    }

    /// Turns the other keys into this program's.
    fn translate(&mut self) {
        self.refuse_unknown();
        self.keys.retain(|_, value| !value.is_null());
        let mut ignored: Vec<String> =
            WITHOUT_MEANING.iter().filter(|key| self.take(key).is_some()).map(|key| format!("`{key}`")).collect();
        for (theirs, ours) in RENAMED {
            if let Some(value) = self.take(theirs) {
                if *theirs == "model_revision" {
                    ignored.push(format!("`{theirs}`"));
                } else if self.keys.contains_key(*ours) {
                    self.refuse(theirs, format!("`{theirs}` and `{ours}` are one setting: give one"));
                } else {
                    self.keys.insert((*ours).to_owned(), value);
                }
            }
        }
        self.rows(&mut ignored);
        self.reporters(&mut ignored);
        if self.keys.get("use_peft") != Some(&Value::Bool(true)) {
            for key in [
                "lora_r",
                "lora_alpha",
                "lora_dropout",
                "lora_target_modules",
                "lora_modules_to_save",
                "modules_to_save",
                "use_rslora",
                "use_dora",
            ] {
                if self.take(key).is_some() {
                    ignored.push(format!("`{key}` (use_peft is off)"));
                }
            }
        } else if self.take("unfreeze_layers_patterns").is_some() {
            ignored.push("`unfreeze_layers_patterns` (use_peft is on)".to_owned());
        }
        if !ignored.is_empty() {
            self.notes.push(format!("ignored settings: {}", ignored.join(", ")));
        }
    }

    /// Takes unknown keys out.
    fn refuse_unknown(&mut self) {
        let known: Vec<&str> = known_keys::<TrainConfig>()
            .iter()
            .chain(WITHOUT_MEANING)
            .chain(HANDLED)
            .chain(&spellings::KEYS)
            .copied()
            .chain(RENAMED.iter().map(|(theirs, _)| *theirs))
            .collect();
        let unknown: Vec<String> = self.keys.keys().filter(|key| !known.contains(&key.as_str())).cloned().collect();
        for key in unknown {
            let all = known.iter().copied().chain(smpo_losses::import::published_keys());
            let hint = smpo_suggest::did_you_mean(&key, all);
            self.refuse(&key, format!("unknown key `{key}`{hint}"));
            self.take(&key);
        }
    }

    /// Settings of the library's scripts about the shape of a row, which is detected here.
    fn rows(&mut self, ignored: &mut Vec<String>) {
        if self.take("train_only_on_completions") == Some(Value::Bool(false)) {
            let key = "train_only_on_completions";
            let message = format!("`{key}`: expected true, got false: only completions are trained on here");
            self.refuse(key, message);
        }
        for key in ["assistant_message_template", "conversation_field", "max_completion_length", "max_target_length"] {
            if self.take(key).is_some() {
                ignored.push(format!("`{key}`"));
            }
        }
    }

    /// Reporters that do not exist here, with the files that hold the same metrics.
    fn reporters(&mut self, ignored: &mut Vec<String>) {
        const OURS: [&str; 2] = ["tensorboard", "openmetrics"];
        let given = match self.take("report_to") {
            None => return,
            Some(Value::Array(given)) => given,
            Some(Value::String(names)) => names.split(',').map(|name| Value::from(name.trim())).collect(),
            Some(one) => vec![one],
        };
        let (ours, others): (Vec<Value>, Vec<Value>) =
            given.into_iter().partition(|name| OURS.iter().any(|ours| name == ours));
        if !ours.is_empty() {
            self.keys.insert("report_to".to_owned(), Value::Array(ours));
        }
        let others: Vec<&str> = others.iter().filter_map(Value::as_str).filter(|name| *name != "none").collect();
        if !others.is_empty() {
            ignored.push(format!(
                "`report_to: {}` (metrics.jsonl has the metrics, `report_to = \"tensorboard\"` writes event files)",
                others.join(", ")
            ));
        }
    }

    fn take(&mut self, key: &str) -> Option<Value> {
        self.keys.shift_remove(key)
    }

    fn refuse(&mut self, key: &str, message: String) {
        self.problems.push_unread(Key::new(None, key), message);
    }

    fn table(&mut self, file: &ConfigFile<'_>) -> Result<toml::Table, TrainError> {
        let mut keys = std::mem::take(&mut self.keys);
        keys.retain(|_, value| !value.is_null());
        toml::Table::try_from(&keys).map_err(|error| file.error(None, error.to_string()))
    }
}
