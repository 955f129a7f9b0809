//! What a training run is asked to do: one TOML or YAML file, checked as a whole before anything is touched.
//!
//! Field names are those of transformers' `TrainingArguments`, PEFT and effective_llm_alignment, so that people need
//! no dictionary. The doc comments here are the text of `docs/configuration.md` and of the JSON schema.
//!
//! * [`adapter`](self::adapter): the LoRA keys together
//! * [`probe`], [`alarms`]: the two tables beside `[loss]`
//! * [`published`]: effective_llm_alignment's YAML
//! * [`reference`]: the page and the schema

mod adapter;
pub mod alarms;
mod check;
mod keys;
pub mod probe;
mod published;
pub mod reference;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smpo_data::{HoldOut, OnBadRows, PromptKeep};
use smpo_devices::Choice;
use smpo_losses::LossConfig;

pub use adapter::AdapterStart;
pub use alarms::AlarmConfig;
pub use probe::{OnDrop, ProbeConfig};

use crate::error::TrainError;
use crate::schedule::{LearningRate, Schedule};
use keys::{known_keys, nearest};

/// Where the weights of a run start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Init {
    /// From the model directory's weights.
    #[default]
    Pretrained,
    /// At random from `seed`: only configuration and tokenizer are taken from the model directory.
    Random,
}

/// What becomes of errors that the data check finds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DataCheck {
    /// They end the run before it starts.
    #[default]
    Refuse,
    /// They are shown, and the run goes on.
    Report,
    /// Nothing is checked.
    Off,
}

/// What becomes of a run that is estimated to need more memory than is free.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MemoryCheck {
    /// It ends before it starts.
    #[default]
    Refuse,
    /// Nothing is estimated.
    Off,
}

/// Who else is told the figures of `metrics.jsonl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reporter {
    /// Event files in `tensorboard/`, which TensorBoard and `wandb sync` read.
    Tensorboard,
}

/// A training run. Paths are relative to the working directory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Model directory in Hugging Face format.
    #[serde(alias = "model")]
    pub model_name_or_path: PathBuf,
    /// Where the weights start.
    #[serde(default)]
    pub init: Init,
    /// Standard deviation of random embeddings; the model's `initializer_range` when absent. Only with `init = "random"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedding_std: Option<f64>,
    /// The run directory.
    #[serde(alias = "save_dir")]
    pub output_dir: PathBuf,
    /// Files to train on: preference pairs, or instructions for `sft`.
    #[serde(deserialize_with = "one_or_many")]
    #[schemars(with = "OneOrMany<PathBuf>")]
    pub dataset: Vec<PathBuf>,
    /// Share of each file that is taken, one number per file: 0.5 draws half of its rows, 2 takes them twice. All rows when
    /// absent.
    #[serde(default, deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "OneOrMany<f64>")]
    pub dataset_ratio: Vec<f64>,
    /// What is done about rows that cannot be read or rendered.
    #[serde(default)]
    pub on_bad_rows: OnBadRows,
    /// Folder for tokenised rows, under the hash of all that shaped them; `tokens` in the run directory when absent. Runs
    /// that share it tokenise once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_cache: Option<PathBuf>,
    /// Train on this many rows, drawn with the seed; all rows when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset_sample: Option<usize>,
    /// What becomes of errors that `smpo data check` finds before the first step.
    #[serde(default)]
    pub data_check: DataCheck,
    /// Jinja text in place of the model's chat template, or a path that ends in `.jinja`. Used where the model has no
    /// template, or with `force_chat_template`. The trained model carries it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat_template: Option<String>,
    /// Use `chat_template` although the model has one.
    #[serde(default)]
    pub force_chat_template: bool,
    /// The token that ends a turn, in place of the tokenizer's; it must be in the vocabulary. The trained model carries
    /// it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eos_token: Option<String>,
    /// The token that begins a text, in place of the tokenizer's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bos_token: Option<String>,
    /// The token that the trained model's users pad with. Nothing is padded here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pad_token: Option<String>,
    /// Longest prompt and completion together, in tokens.
    #[serde(default = "defaults::max_length")]
    pub max_length: usize,
    /// Longest prompt, in tokens; `max_length / 2` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_prompt_length: Option<usize>,
    /// Which end of a prompt that is too long is kept.
    #[serde(default)]
    pub truncation_mode: PromptKeep,
    /// Pairs (or examples) of a micro-batch. It shapes the optimizer step and the winsor scope `microbatch`; what is in
    /// memory at once is `max_tokens_per_pack`'s business.
    #[serde(default = "defaults::one")]
    pub per_device_train_batch_size: usize,
    /// Tokens that go through the model at once, packed without padding, shared prompts counted once. When absent, as
    /// many as take no more memory than weights, gradients and moments together, from 1,024 to 8,192.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens_per_pack: Option<usize>,
    /// Micro-batches of an optimizer step.
    #[serde(default = "defaults::one")]
    pub gradient_accumulation_steps: usize,
    /// Passes over the data; fractions are allowed.
    #[serde(default = "defaults::epochs")]
    pub num_train_epochs: f64,
    /// Optimizer steps, instead of `num_train_epochs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_steps: Option<u64>,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Its schedule.
    #[serde(default)]
    pub lr_scheduler_type: Schedule,
    /// Share of all steps in which `warmup_stable_decay` falls, at the end of the run.
    #[serde(default = "defaults::lr_decay_ratio")]
    pub lr_decay_ratio: f64,
    /// Share of the peak that a falling schedule ends at.
    #[serde(default)]
    pub min_lr_ratio: f64,
    /// Steps of linear warm-up; excludes `warmup_ratio`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warmup_steps: Option<u64>,
    /// Share of all steps used to warm up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warmup_ratio: Option<f64>,
    /// Decoupled weight decay, on matrices only.
    #[serde(default)]
    pub weight_decay: f64,
    /// AdamW's β1.
    #[serde(default = "defaults::beta1")]
    pub adam_beta1: f64,
    /// AdamW's β2.
    #[serde(default = "defaults::beta2")]
    pub adam_beta2: f64,
    /// AdamW's ε.
    #[serde(default = "defaults::epsilon")]
    pub adam_epsilon: f64,
    /// Global gradient norm to clip at; 0 is off.
    #[serde(default = "defaults::max_grad_norm")]
    pub max_grad_norm: f64,
    /// Keep each layer's input only and compute the layer again on the way back: less memory, one more forward pass.
    #[serde(default)]
    pub gradient_checkpointing: bool,
    /// Where to train: `auto` (a GPU where the build and the machine have one), `cpu`, `cuda` or `cuda:N`; `emulated` runs
    /// the GPU's kernels on the processor, for checks. A run may go on on another device.
    #[serde(default)]
    #[schemars(with = "String")]
    pub device: Choice,
    /// Compute in bfloat16 on a GPU, with float32 master weights and moments. The processor trains in float32. Excludes
    /// `fp16`.
    #[serde(default)]
    pub bf16: bool,
    /// Compute in float16 on a GPU, with float32 master weights and moments, and with loss scaling. The processor trains in
    /// float32. Excludes `bf16`.
    #[serde(default)]
    pub fp16: bool,
    /// Steps between checkpoints; none but the last when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub save_steps: Option<u64>,
    /// Checkpoints to keep; the best one and the last good one stay beside them.
    #[serde(default = "defaults::save_total_limit")]
    pub save_total_limit: usize,
    /// Files to evaluate on; excludes `test_size`.
    #[serde(default, deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "OneOrMany<PathBuf>")]
    pub eval_dataset: Vec<PathBuf>,
    /// Rows of each file that are held out to evaluate on: a share such as 0.05, or a number of rows. Drawn by a seed of
    /// their own, so that runs which differ in `seed` are evaluated on the same rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<f64>")]
    pub test_size: Option<HoldOut>,
    /// Steps between evaluations on held-out rows; an epoch when absent. Step 0 and the last are always evaluated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eval_steps: Option<u64>,
    /// What becomes of a run that is estimated to need more memory than is free.
    #[serde(default)]
    pub memory_check: MemoryCheck,
    /// Rows of a micro-batch in evaluation, for the winsor scope `microbatch`; `per_device_train_batch_size` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_device_eval_batch_size: Option<usize>,
    /// The figure of `metrics.jsonl` that tells which checkpoint is best: one of `eval_…` or `probe/…`; `eval_loss` when
    /// absent. `eval_` may be left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric_for_best_model: Option<String>,
    /// Whether more of that figure is better; told by its name when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub greater_is_better: Option<bool>,
    /// Whether `model/` is the best checkpoint instead of the last one. Every evaluation that is the best so far is
    /// then followed by a checkpoint.
    #[serde(default)]
    pub load_best_model_at_end: bool,
    /// Stop after this many evaluations in a row that were not better than the best.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub early_stopping_patience: Option<u64>,
    /// By how much an evaluation must beat the best to count as better.
    #[serde(default)]
    pub early_stopping_threshold: f64,
    /// Steps whose loss or gradient is not finite are skipped; one more than this many in the run stops it.
    #[serde(default = "defaults::max_skipped_steps")]
    pub max_skipped_steps: u64,
    /// Train LoRA adapters instead of the weights; `model/` is then a PEFT adapter.
    #[serde(default)]
    pub use_peft: bool,
    /// A PEFT adapter of the model to go on from. A reference (DPO, KTO) is the model without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter_name_or_path: Option<PathBuf>,
    /// Rank of the adapters; 16 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lora_r: Option<usize>,
    /// The update is scaled by `lora_alpha / lora_r`; 32 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lora_alpha: Option<f64>,
    /// Share of an adapter's inputs that is dropped in training; 0.05 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lora_dropout: Option<f64>,
    /// Layers to adapt: names such as `q_proj`, patterns with `*`, or `all-linear`, which is the default and leaves the
    /// head out.
    #[serde(default, deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "OneOrMany<String>")]
    pub lora_target_modules: Vec<String>,
    /// Scale by `lora_alpha / √lora_r` (rsLoRA).
    #[serde(default)]
    pub use_rslora: bool,
    /// Learn magnitudes apart from directions (DoRA).
    #[serde(default)]
    pub use_dora: bool,
    /// Train only the modules that these names or patterns with `*` match (`*.mlp.up_proj`, `model.layers.3`), the rest
    /// stays frozen; all is trained when empty. Excludes `use_peft`.
    #[serde(default, deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "OneOrMany<String>")]
    pub unfreeze_layers_patterns: Vec<String>,
    /// Who is told the figures of `metrics.jsonl` too.
    #[serde(default, deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "OneOrMany<Reporter>")]
    pub report_to: Vec<Reporter>,
    /// Seed of initial weights, sample and order.
    #[serde(default)]
    pub seed: u64,
    /// The objective.
    pub loss: LossConfig,
    /// When to warn. Each alarm speaks once, with the figure and what to do about it; none of them stops a run.
    #[serde(default)]
    pub alarms: AlarmConfig,
    /// Completions of prompts unlike the training data, watched while training goes on; off when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<ProbeConfig>,
}

/// Default values, in one place.
mod defaults {
    pub fn max_length() -> usize {
        2048
    }
    pub fn one() -> usize {
        1
    }
    pub fn epochs() -> f64 {
        1.0
    }
    pub fn beta1() -> f64 {
        0.9
    }
    pub fn beta2() -> f64 {
        0.999
    }
    pub fn epsilon() -> f64 {
        1e-8
    }
    pub fn max_grad_norm() -> f64 {
        1.0
    }
    pub fn save_total_limit() -> usize {
        2
    }
    pub fn lr_decay_ratio() -> f64 {
        0.2
    }
    pub fn max_skipped_steps() -> u64 {
        10
    }
}

/// What a key of several values may be given as: only its schema is of use, [`one_or_many`] reads it.
#[derive(JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
#[expect(dead_code)]
enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

fn one_or_many<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: serde::de::DeserializeOwned,
{
    // Through a value, so that the error of one element is told and not that no variant matched.
    let value = serde_json::Value::deserialize(deserializer)?;
    let values = if let serde_json::Value::Array(values) = value { values } else { vec![value] };
    values.into_iter().map(|value| serde_json::from_value(value).map_err(serde::de::Error::custom)).collect()
}

/// A configuration, and what its reader should know about how it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadConfig {
    /// The configuration.
    pub config: TrainConfig,
    /// Sentences: settings that mean nothing here, or something else than where the file comes from.
    pub notes: Vec<String>,
}

impl TrainConfig {
    /// Reads a TOML file, or with the ending `.yaml` or `.yml` a YAML file, in which effective_llm_alignment's flat keys
    /// are understood too; applies `key=value` overrides (dotted keys reach into tables) and checks the whole.
    ///
    /// # Errors
    /// When the file cannot be read, is not TOML or YAML, has an unknown key or a value out of range; with the place.
    pub fn read(path: &Path, overrides: &[String]) -> Result<ReadConfig, TrainError> {
        let text = std::fs::read_to_string(path).map_err(|source| TrainError::Io {
            path: path.to_owned(),
            action: "read",
            source,
        })?;
        if path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml") {
            return published::parse(&text, path, overrides);
        }
        Ok(ReadConfig { config: Self::parse(&text, path, overrides)?, notes: Vec::new() })
    }

    /// The same for TOML text that came from `origin`.
    ///
    /// # Errors
    /// As [`TrainConfig::read`].
    pub fn parse(text: &str, origin: &Path, overrides: &[String]) -> Result<Self, TrainError> {
        let source = Source { text, origin };
        let mut table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            let line = error.span().map(|span| line_of(text, span.start));
            source.error(line, error.message().to_owned())
        })?;
        for assignment in overrides {
            set(&mut table, assignment)
                .map_err(|message| source.error(None, format!("--set {assignment}: {message}")))?;
        }
        Self::from_table(table, &source)
    }

    fn from_table(table: toml::Table, source: &Source<'_>) -> Result<Self, TrainError> {
        let refuse = |key: &str, known: &[&'static str], place: &str| {
            let hint = nearest(key, known.iter().copied()).map(|near| format!("; did you mean `{near}`?"));
            source.error(source.line_of_key(key), format!("unknown key `{key}`{place}{}", hint.unwrap_or_default()))
        };
        // The loss table reports for itself: it knows its kinds and their keys.
        let tables = [("probe", known_keys::<ProbeConfig>()), ("alarms", known_keys::<AlarmConfig>())];
        let known = known_keys::<TrainConfig>();
        if let Some(key) = table.keys().find(|key| !known.contains(&key.as_str())) {
            return Err(refuse(key, known, ""));
        }
        for (name, known) in tables {
            let inner = table.get(name).and_then(toml::Value::as_table);
            if let Some(key) = inner.and_then(|table| table.keys().find(|key| !known.contains(&key.as_str()))) {
                return Err(refuse(key, known, &format!(" in [{name}]")));
            }
        }
        let at = |message: String| source.error(quoted(&message).and_then(|key| source.line_of_key(key)), message);
        let config: TrainConfig =
            toml::Value::Table(table).try_into().map_err(|error: toml::de::Error| at(error.message().to_owned()))?;
        config.check().map_err(at)?;
        Ok(config)
    }

    /// Pairs of an optimizer step.
    pub fn batch_size(&self) -> usize {
        self.per_device_train_batch_size * self.gradient_accumulation_steps
    }

    /// Optimizer steps of an epoch over `rows` rows; the last one may be smaller.
    pub fn steps_per_epoch(&self, rows: usize) -> u64 {
        rows.div_ceil(self.batch_size()) as u64
    }

    /// Optimizer steps of the run over `rows` rows.
    pub fn total_steps(&self, rows: usize) -> u64 {
        self.max_steps.unwrap_or_else(|| {
            let steps = self.steps_per_epoch(rows) as f64 * self.num_train_epochs;
            (steps.ceil() as u64).max(1)
        })
    }

    /// The learning rate of a run of `total_steps`.
    pub fn learning_rate(&self, total_steps: u64) -> LearningRate {
        let warmup_steps =
            self.warmup_steps.unwrap_or_else(|| (self.warmup_ratio.unwrap_or(0.0) * total_steps as f64).ceil() as u64);
        LearningRate {
            peak: self.learning_rate,
            schedule: self.lr_scheduler_type,
            decay_ratio: self.lr_decay_ratio,
            warmup_steps,
            total_steps,
            min_ratio: self.min_lr_ratio,
        }
    }

    /// Rows of a micro-batch in evaluation.
    pub fn eval_batch_size(&self) -> usize {
        self.per_device_eval_batch_size.unwrap_or(self.per_device_train_batch_size)
    }

    /// The figure that tells which checkpoint is best, as `metrics.jsonl` spells it.
    pub fn best_metric(&self) -> String {
        match self.metric_for_best_model.as_deref() {
            None => "eval_loss".to_owned(),
            Some(name) if name.starts_with("eval_") || name.starts_with("probe/") => name.to_owned(),
            Some(name) => format!("eval_{name}"),
        }
    }

    /// Whether more of [`TrainConfig::best_metric`] is better.
    pub fn best_is_greatest(&self) -> bool {
        let name = self.best_metric();
        let falls = ["loss", "rewards/rejected", "logps/rejected", "loop_rate", "length"];
        self.greater_is_better.unwrap_or_else(|| !falls.iter().any(|end| name.ends_with(end)))
    }

    /// Whether rows are held out.
    pub fn evaluates(&self) -> bool {
        self.test_size.is_some() || !self.eval_dataset.is_empty()
    }

    /// The keys in which two configurations differ, but for the device: a run may go on on another machine.
    pub(crate) fn differing_keys(&self, other: &Self) -> Vec<String> {
        let table = |config: &Self| toml::Table::try_from(config).unwrap_or_default();
        let (mine, theirs) = (table(self), table(other));
        let keys: BTreeSet<&String> = mine.keys().chain(theirs.keys()).collect();
        let differ = |key: &&String| key.as_str() != "device" && mine.get(*key) != theirs.get(*key);
        keys.into_iter().filter(differ).cloned().collect()
    }
}

/// `a.b=value`: the value as TOML where it parses, as a string otherwise.
fn set(table: &mut toml::Table, assignment: &str) -> Result<(), String> {
    let (key, value) = assignment.split_once('=').ok_or("expected key=value")?;
    let value = value.trim();
    let parsed = format!("value = {value}").parse::<toml::Table>().ok().and_then(|mut parsed| parsed.remove("value"));
    let value = parsed.unwrap_or_else(|| toml::Value::String(value.to_owned()));
    let mut path: Vec<&str> = key.trim().split('.').collect();
    let last = path.pop().filter(|last| !last.is_empty()).ok_or("expected a key before `=`")?;
    let mut table = table;
    for part in path {
        let entry = table.entry(part.to_owned()).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        table = entry.as_table_mut().ok_or_else(|| format!("`{part}` is not a table"))?;
    }
    table.insert(last.to_owned(), value);
    Ok(())
}

fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() + 1
}

/// Where a configuration came from, for errors.
struct Source<'a> {
    text: &'a str,
    origin: &'a Path,
}

impl Source<'_> {
    fn error(&self, line: Option<usize>, message: String) -> TrainError {
        TrainError::Config { origin: self.origin.to_owned(), line, message }
    }

    /// The first line that assigns `key`, in TOML or in YAML.
    fn line_of_key(&self, key: &str) -> Option<usize> {
        let assigns = |line: &str| {
            line.trim_start().strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with(['=', ':']))
        };
        self.text.lines().position(assigns).map(|index| index + 1)
    }
}

/// What a message quotes first.
fn quoted(message: &str) -> Option<&str> {
    message.split('`').nth(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = r#"
model_name_or_path = "base"
output_dir = "out"
dataset = "pairs.jsonl"
learning_rate = 1e-4

[loss]
kind = "smpo"
"#;

    fn parse(text: &str, overrides: &[&str]) -> Result<TrainConfig, String> {
        let overrides: Vec<String> = overrides.iter().map(|s| (*s).to_owned()).collect();
        TrainConfig::parse(text, Path::new("run.toml"), &overrides).map_err(|error| error.to_string())
    }

    #[test]
    fn a_minimal_file_is_enough() {
        let config = parse(MINIMAL, &[]).unwrap();
        assert_eq!(config.dataset, [PathBuf::from("pairs.jsonl")]);
        assert_eq!(config.batch_size(), 1);
        assert_eq!(config.total_steps(10), 10);
    }

    #[test]
    fn a_resolved_configuration_reads_back_the_same() {
        let config = parse(MINIMAL, &["warmup_ratio=0.1", "loss.beta=1.5"]).unwrap();
        let text = toml::to_string(&config).unwrap();
        assert_eq!(parse(&text, &[]).unwrap(), config);
    }

    #[test]
    fn unknown_keys_are_refused_with_the_line_and_the_nearest() {
        let text = format!("learning_rat = 1\n{MINIMAL}");
        let error = parse(&text, &[]).unwrap_err();
        assert_eq!(error, "run.toml:1: unknown key `learning_rat`; did you mean `learning_rate`?");
    }

    #[test]
    fn overrides_reach_into_tables_and_are_checked() {
        let config = parse(MINIMAL, &["seed=7", "output_dir=else where", "max_steps=3"]).unwrap();
        assert_eq!((config.seed, config.max_steps), (7, Some(3)));
        assert_eq!(config.output_dir, PathBuf::from("else where"));
        assert!(parse(MINIMAL, &["seed.x=7"]).is_err());
        assert!(parse(MINIMAL, &["nonsense"]).unwrap_err().contains("expected key=value"));
    }

    #[test]
    fn ranges_name_field_range_and_value() {
        let error = parse(MINIMAL, &["learning_rate=-1"]).unwrap_err();
        assert_eq!(error, "run.toml:5: `learning_rate` must be a positive number, got -1");
        let error = parse(MINIMAL, &["warmup_ratio=0.1", "warmup_steps=3"]).unwrap_err();
        assert!(error.contains("exclude each other"), "{error}");
    }

    #[test]
    fn steps_count_a_partial_last_batch() {
        let config = parse(MINIMAL, &["per_device_train_batch_size=4", "gradient_accumulation_steps=2"]).unwrap();
        assert_eq!(config.total_steps(17), 3);
        let config = TrainConfig { num_train_epochs: 1.2, ..config };
        assert_eq!(config.total_steps(17), 4);
    }
}
