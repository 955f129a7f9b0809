//! What a training run is asked to do: one TOML or YAML file, checked as a whole before anything is touched.
//!
//! Field names are those of transformers' `TrainingArguments`, PEFT and effective_llm_alignment, so that people need
//! no dictionary. The doc comments here are the text of `docs/configuration.md` and of the JSON schema.
//!
//! * [`adapter`](self::adapter): the LoRA keys together
//! * [`probe`], [`alarms`]: the two tables beside `[loss]`
//! * [`read`]: from a file to a checked configuration; [`check`]: its ranges; [`derived`]: what follows from it
//! * [`published`]: effective_llm_alignment's YAML
//! * [`reference`]: the page and the schema

mod adapter;
pub mod alarms;
mod check;
mod derived;
mod keys;
mod one_or_many;
pub mod probe;
mod published;
mod read;
pub mod reference;

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smpo_data::{HoldOut, OnBadRows, TruncationMode};
use smpo_devices::Choice;
use smpo_losses::LossConfig;

pub use adapter::AdapterStart;
pub use alarms::AlarmConfig;
pub use probe::{OnDrop, ProbeConfig};
pub use read::ReadConfig;

use crate::schedule::Schedule;
use one_or_many::{OneOrMany, one_or_many};

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
    /// `metrics.prom`, the last step's figures as OpenMetrics text: for Prometheus, through node_exporter's textfile
    /// collector or any web server.
    Openmetrics,
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
    pub truncation_mode: TruncationMode,
    /// Pairs (or examples) of a micro-batch. It shapes the optimizer step and the winsor scope `microbatch`; what is in
    /// memory at once is `max_tokens_per_pack`'s business.
    #[serde(default = "defaults::one")]
    pub per_device_train_batch_size: usize,
    /// Tokens that go through the model at once, packed without padding, shared prompts counted once. When absent, as
    /// many as take no more memory than weights, gradients and moments together, from 1,024 to 2,048 (8,192 on a GPU).
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
    /// Steps of linear warm-up, from 1/(n + 1) of the peak in the first step; excludes `warmup_ratio`.
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
