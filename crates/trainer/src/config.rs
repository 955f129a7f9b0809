//! What a training run is asked to do: one TOML file, checked as a whole before anything is touched.
//!
//! Field names are those of transformers' `TrainingArguments` and of effective_llm_alignment, so that people need
//! no dictionary.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use smpo_data::{HoldOut, OnBadRows, PromptKeep};
use smpo_losses::LossConfig;

use crate::error::TrainError;
use crate::schedule::{LearningRate, Schedule};

/// Where the weights of a run start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Init {
    /// From the model directory's weights.
    #[default]
    Pretrained,
    /// At random from `seed`: only configuration and tokenizer are taken from the model directory.
    Random,
}

/// What becomes of errors that the data check finds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
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

/// A training run. Paths are relative to the working directory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    pub dataset: Vec<PathBuf>,
    /// Share of each file that is taken, one number per file: 0.5 draws half of its rows, 2 takes them twice. All rows when
    /// absent.
    #[serde(default, deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub dataset_ratio: Vec<f64>,
    /// Rows of each file that are held out to evaluate on: a share such as 0.05, or a number of rows. Drawn by a seed of
    /// their own, so that runs which differ in `seed` are evaluated on the same rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_size: Option<HoldOut>,
    /// What is done about rows that cannot be read or rendered: `fail` at the first, or `drop` and list them.
    #[serde(default)]
    pub on_bad_rows: OnBadRows,
    /// What `smpo data check` finds before the first step: `refuse` to train on errors, `report` them, or `off`.
    #[serde(default)]
    pub data_check: DataCheck,
    /// Folder for tokenised rows, under the hash of all that shaped them; `tokens` in the run directory when absent. Runs
    /// that share it tokenise once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_cache: Option<PathBuf>,
    /// Train on this many rows, drawn with the seed; all rows when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset_sample: Option<usize>,
    /// Longest prompt and completion together, in tokens.
    #[serde(default = "defaults::max_length")]
    pub max_length: usize,
    /// Longest prompt, in tokens; `max_length / 2` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_prompt_length: Option<usize>,
    /// Which end of a prompt that is too long is kept: `keep_end` or `keep_start`.
    #[serde(default)]
    pub truncation_mode: PromptKeep,
    /// Pairs (or examples) of a micro-batch: what is in memory at once.
    #[serde(default = "defaults::one")]
    pub per_device_train_batch_size: usize,
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
    /// Steps between checkpoints; none but the last when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub save_steps: Option<u64>,
    /// Checkpoints to keep.
    #[serde(default = "defaults::save_total_limit")]
    pub save_total_limit: usize,
    /// Seed of initial weights, sample and order.
    #[serde(default)]
    pub seed: u64,
    /// The objective.
    pub loss: LossConfig,
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
}

/// Every key of the top level, aliases included: what "did you mean" chooses from.
const KEYS: &[&str] = &[
    "model_name_or_path",
    "model",
    "init",
    "embedding_std",
    "output_dir",
    "save_dir",
    "dataset",
    "dataset_ratio",
    "dataset_sample",
    "test_size",
    "on_bad_rows",
    "data_check",
    "token_cache",
    "max_length",
    "max_prompt_length",
    "truncation_mode",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "num_train_epochs",
    "max_steps",
    "learning_rate",
    "lr_scheduler_type",
    "min_lr_ratio",
    "warmup_steps",
    "warmup_ratio",
    "weight_decay",
    "adam_beta1",
    "adam_beta2",
    "adam_epsilon",
    "max_grad_norm",
    "gradient_checkpointing",
    "save_steps",
    "save_total_limit",
    "seed",
    "loss",
];

fn one_or_many<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany<T> {
        One(T),
        Many(Vec<T>),
    }
    Ok(match OneOrMany::deserialize(deserializer)? {
        OneOrMany::One(one) => vec![one],
        OneOrMany::Many(many) => many,
    })
}

impl TrainConfig {
    /// Reads a TOML file, applies `key=value` overrides (dotted keys reach into tables) and checks the whole.
    ///
    /// # Errors
    /// When the file cannot be read, is not TOML, has an unknown key or a value out of range; with the place.
    pub fn read(path: &Path, overrides: &[String]) -> Result<Self, TrainError> {
        let text = std::fs::read_to_string(path).map_err(|source| TrainError::Io {
            path: path.to_owned(),
            action: "read",
            source,
        })?;
        Self::parse(&text, path, overrides)
    }

    /// The same for text that came from `origin`.
    ///
    /// # Errors
    /// As [`TrainConfig::read`].
    pub fn parse(text: &str, origin: &Path, overrides: &[String]) -> Result<Self, TrainError> {
        let fail =
            |line: Option<usize>, message: String| TrainError::Config { origin: origin.to_owned(), line, message };
        let mut table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            fail(error.span().map(|span| line_of(text, span.start)), error.message().to_owned())
        })?;
        for assignment in overrides {
            set(&mut table, assignment).map_err(|message| fail(None, format!("--set {assignment}: {message}")))?;
        }
        for key in table.keys() {
            if !KEYS.contains(&key.as_str()) {
                let hint = nearest(key, KEYS.iter().copied()).map(|near| format!("; did you mean `{near}`?"));
                let message = format!("unknown key `{key}`{}", hint.unwrap_or_default());
                return Err(fail(line_of_key(text, key), message));
            }
        }
        // The loss table reports for itself: it knows its kinds and their keys.
        let config: TrainConfig = toml::Value::Table(table).try_into().map_err(|error: toml::de::Error| {
            let message = error.message().to_owned();
            fail(quoted(&message).and_then(|key| line_of_key(text, key)), message)
        })?;
        config.check().map_err(|message| fail(quoted(&message).and_then(|key| line_of_key(text, key)), message))?;
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
            warmup_steps,
            total_steps,
            min_ratio: self.min_lr_ratio,
        }
    }

    /// Ranges, and fields that exclude each other. Messages quote the field.
    fn check(&self) -> Result<(), String> {
        fn range(field: &str, holds: bool, range: &str, given: impl std::fmt::Display) -> Result<(), String> {
            if holds { Ok(()) } else { Err(format!("`{field}` must be {range}, got {given}")) }
        }
        let unit = |x: f64| (0.0..1.0).contains(&x);
        let positive = |x: f64| x > 0.0 && x.is_finite();
        range("learning_rate", positive(self.learning_rate), "a positive number", self.learning_rate)?;
        range("num_train_epochs", positive(self.num_train_epochs), "a positive number", self.num_train_epochs)?;
        range("max_steps", self.max_steps != Some(0), "at least 1", 0)?;
        range("per_device_train_batch_size", self.per_device_train_batch_size > 0, "at least 1", 0)?;
        range("gradient_accumulation_steps", self.gradient_accumulation_steps > 0, "at least 1", 0)?;
        range("max_length", self.max_length >= 2, "at least 2", self.max_length)?;
        range("save_steps", self.save_steps != Some(0), "at least 1", 0)?;
        range("save_total_limit", self.save_total_limit > 0, "at least 1", 0)?;
        range("dataset", !self.dataset.is_empty(), "at least one file", "none")?;
        if !self.dataset_ratio.is_empty() {
            let (ratios, files) = (self.dataset_ratio.len(), self.dataset.len());
            range("dataset_ratio", ratios == files, &format!("one number per file ({files})"), ratios)?;
            for ratio in &self.dataset_ratio {
                range("dataset_ratio", *ratio >= 0.0 && ratio.is_finite(), "0 or more", ratio)?;
            }
        }
        if let Some(HoldOut::Share(share)) = self.test_size {
            range("test_size", unit(share), "a share from 0 up to but not 1, or a number of rows", share)?;
        }
        range("dataset_sample", self.dataset_sample != Some(0), "at least 1", 0)?;
        range("min_lr_ratio", (0.0..=1.0).contains(&self.min_lr_ratio), "from 0 to 1", self.min_lr_ratio)?;
        range(
            "weight_decay",
            self.weight_decay >= 0.0 && self.weight_decay.is_finite(),
            "0 or more",
            self.weight_decay,
        )?;
        range("adam_beta1", unit(self.adam_beta1), "from 0 up to but not 1", self.adam_beta1)?;
        range("adam_beta2", unit(self.adam_beta2), "from 0 up to but not 1", self.adam_beta2)?;
        range("adam_epsilon", positive(self.adam_epsilon), "a positive number", self.adam_epsilon)?;
        range(
            "max_grad_norm",
            self.max_grad_norm >= 0.0 && self.max_grad_norm.is_finite(),
            "0 (off) or more",
            self.max_grad_norm,
        )?;
        if let Some(ratio) = self.warmup_ratio {
            range("warmup_ratio", (0.0..=1.0).contains(&ratio), "from 0 to 1", ratio)?;
            if self.warmup_steps.is_some() {
                return Err("`warmup_ratio` and `warmup_steps` exclude each other: give one".to_owned());
            }
        }
        if let Some(prompt) = self.max_prompt_length {
            let holds = prompt >= 1 && prompt < self.max_length;
            range("max_prompt_length", holds, &format!("from 1 to max_length - 1 = {}", self.max_length - 1), prompt)?;
        }
        if let Some(std) = self.embedding_std {
            range("embedding_std", positive(std), "a positive number", std)?;
            if self.init != Init::Random {
                return Err("`embedding_std` needs init = \"random\"".to_owned());
            }
        }
        Ok(())
    }

    /// The keys in which two configurations differ.
    pub(crate) fn differing_keys(&self, other: &Self) -> Vec<String> {
        let table = |config: &Self| toml::Table::try_from(config).unwrap_or_default();
        let (mine, theirs) = (table(self), table(other));
        let keys: BTreeSet<&String> = mine.keys().chain(theirs.keys()).collect();
        keys.into_iter().filter(|key| mine.get(*key) != theirs.get(*key)).cloned().collect()
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

/// The first line that assigns `key`.
fn line_of_key(text: &str, key: &str) -> Option<usize> {
    let assigns =
        |line: &str| line.trim_start().strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with('='));
    text.lines().position(assigns).map(|index| index + 1)
}

/// What a message quotes first.
fn quoted(message: &str) -> Option<&str> {
    message.split('`').nth(1)
}

fn nearest<'a>(given: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|name| (strsim::damerau_levenshtein(given, name), name))
        .min()
        .filter(|(distance, name)| *distance <= name.len().max(given.len()) / 3)
        .map(|(_, name)| name)
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
