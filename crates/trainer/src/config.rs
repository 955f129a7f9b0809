//! Configuration of a training run: read from one TOML or YAML file, or built in code; validated once, as a whole.
//!
//! Keys are those of transformers' `TrainingArguments`, PEFT and effective_llm_alignment, in one flat table. The doc
//! comments of [`TrainConfig`] are the text of `docs/configuration.md` and of the JSON schema.
//!
//! * `elements`: the keys by subject, one file each: their types, setters, ranges and derived values
//! * [`TrainConfigBuilder`]: a configuration in code; `read`: from a file, with line numbers
//! * [`ConfigErrors`]: everything that is wrong with a configuration, at once
//! * `foreign`: other trainers' files ([`smpo_imports`]); `flat`: this project's keys in flat YAML
//! * [`documentation`]: generates the reference page and the JSON schema

mod builder;
mod check;
mod differing;
pub mod documentation;
mod elements;
mod error;
mod file;
mod flat;
mod foreign;
mod interval;
mod keys;
mod loss_file;
mod one_or_many;
mod printed;
mod read;
mod spellings;

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use smpo_data::{Columns, HoldOut, OnBadRows, TrainOn, TruncationMode, Unfinished};
use smpo_devices::Choice;
use smpo_losses::LossConfig;

pub use builder::TrainConfigBuilder;
pub(crate) use differing::Changes;
pub use elements::adapter::{AdapterStart, InitLoraWeights};
pub use elements::alarms::AlarmConfig;
pub use elements::data::DataCheck;
pub use elements::memory::MemoryCheck;
pub use elements::model::{Init, Reference};
pub use elements::optimizer::Optim;
pub use elements::probe::{OnDrop, ProbeConfig};
pub(crate) use elements::prompt::MOST_NOISE;
pub use elements::prompt::{PromptConfig, PromptRole};
pub use elements::quantisation::QuantType;
pub use elements::reporting::Reporter;
pub use error::{ConfigErrors, ConfigProblem};
pub use foreign::ImportedConfig;
pub(crate) use interval::Due;
pub use interval::Interval;
pub use loss_file::read_objective;
pub use read::ReadConfig;

use crate::schedule::Schedule;
use interval::IntervalSchema;
use one_or_many::{OneOrMany, one_or_many};

/// Configuration of a training run, with valid values: [`TrainConfig::read`] and [`TrainConfig::builder`] check them.
/// Paths are relative to the working directory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Model directory in Hugging Face format, GGUF file, or `hf://ORG/MODEL[@REVISION]`.
    #[serde(alias = "model")]
    pub model_name_or_path: PathBuf,
    /// Reference model of DPO, KTO and GPO: a model directory, or a PEFT adapter. When absent, the model that the run starts from,
    /// with the adapter that it starts from. The teacher of `distill`, which must be given.
    #[serde(
        default,
        alias = "ref_model",
        alias = "ref_model_name_or_path",
        alias = "teacher_model_name_or_path",
        skip_serializing_if = "Option::is_none"
    )]
    pub reference_model_name_or_path: Option<PathBuf>,
    /// Lets the reference follow the policy: after every `ref_model_sync_steps` steps it becomes α·policy +
    /// (1 − α)·reference, α = `ref_model_mixup_alpha` (TR-DPO, Gorbatovski et al. 2024, arXiv 2404.09656). Its log-probs are
    /// computed anew at each step then. As in TRL not with adapters, whose reference is the model without them.
    #[serde(default)]
    pub sync_ref_model: bool,
    /// α in (0, 1] of `sync_ref_model`: the policy's share; 1 replaces the reference.
    #[serde(default = "defaults::ref_model_mixup_alpha")]
    pub ref_model_mixup_alpha: f64,
    /// Steps between updates of the reference under `sync_ref_model`.
    #[serde(default = "defaults::ref_model_sync_steps")]
    pub ref_model_sync_steps: u64,
    /// Initial weights.
    #[serde(default)]
    pub init: Init,
    /// Standard deviation of random embeddings; the model's `initializer_range` when absent. Only with `init = "random"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedding_std: Option<f64>,
    /// The run directory.
    #[serde(alias = "save_dir")]
    pub output_dir: PathBuf,
    /// Files, directories, patterns or `hf://datasets/ORG/NAME[@REVISION][/PATH]` to train on (docs/data.md): preference
    /// pairs, groups for `gpo`, or instructions for `sft`.
    #[serde(deserialize_with = "one_or_many")]
    #[schemars(with = "OneOrMany<PathBuf>")]
    pub dataset: Vec<PathBuf>,
    /// Share of each file's rows to train on, one number per file: 0.5 draws half of its rows, 2 takes them twice. All rows
    /// when absent.
    #[serde(default, deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "OneOrMany<f64>")]
    pub dataset_ratio: Vec<f64>,
    /// Names of columns and speakers in files of another layout (docs/data.md), one table for some or all of the files.
    #[serde(default, deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "OneOrMany<Columns>")]
    pub dataset_columns: Vec<Columns>,
    /// Treatment of rows that cannot be read or rendered.
    #[serde(default)]
    pub on_bad_rows: OnBadRows,
    /// Directory of tokenised rows, under the hash of everything they depend on; `tokens` in the run directory when absent.
    /// Runs that share it tokenise once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_cache: Option<PathBuf>,
    /// Number of rows to train on, drawn with the seed; all rows when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset_sample: Option<usize>,
    /// Consequence of errors that the data check finds before the first step.
    #[serde(default)]
    pub data_check: DataCheck,
    /// Jinja text in place of the model's chat template, or a path that ends in `.jinja`. Used if the model has no
    /// template, or with `force_chat_template`. Saved with the trained model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat_template: Option<String>,
    /// Use `chat_template` although the model has one.
    #[serde(default)]
    pub force_chat_template: bool,
    /// Token that ends a turn, in place of the tokenizer's; it must be in the vocabulary. Saved with the trained model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eos_token: Option<String>,
    /// Token that begins a text, in place of the tokenizer's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bos_token: Option<String>,
    /// Padding token to save with the trained model. Nothing is padded here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pad_token: Option<String>,
    /// Special tokens to add to the vocabulary. Their rows of embedding and head begin as the mean of all others, and the model
    /// is saved with them; beside adapters, embedding and head are then trained and saved whole.
    #[serde(
        default,
        alias = "new_special_tokens",
        deserialize_with = "one_or_many",
        skip_serializing_if = "Vec::is_empty"
    )]
    #[schemars(with = "OneOrMany<String>")]
    pub added_special_tokens: Vec<String>,
    /// Tokens to add to the vocabulary in the same way that are plain text to a reader.
    #[serde(default, deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "OneOrMany<String>")]
    pub added_tokens: Vec<String>,
    /// Maximum length of prompt and completion together, in tokens. Each completion is cut by its own length to what the
    /// prompt leaves; the prompt is cut to `max_prompt_length` and to nothing else.
    #[serde(default = "defaults::max_length")]
    pub max_length: usize,
    /// Maximum length of a prompt, in tokens; `max_length / 2` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_prompt_length: Option<usize>,
    /// End of a too long prompt that is kept.
    #[serde(default)]
    pub truncation_mode: TruncationMode,
    /// Answers that instruction examples in the form of conversations teach; the others are context. A completion beside a
    /// prompt of its own, a labelled one and the sides of a pair are learned as they are.
    #[serde(default)]
    pub train_on: TrainOn,
    /// System message of conversations that have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_prompt: Option<String>,
    /// False for a chat template without a system turn: a system message is put before the first question.
    #[serde(default = "defaults::yes")]
    pub model_support_system_role: bool,
    /// Variables of the chat template, such as `enable_thinking`; a row's own replace them.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub chat_template_kwargs: Map<String, Value>,
    /// Treatment of completions that did not end: those that say so (`finish_reason`, `finished`) and those that
    /// `max_length` cuts.
    #[serde(default)]
    pub unfinished: Unfinished,
    /// Pairs (groups, examples) of a micro-batch. It sets the size of the optimizer step and of the winsor scope `microbatch`;
    /// memory is bounded by `max_tokens_per_pack`.
    #[serde(default = "defaults::one")]
    pub per_device_train_batch_size: usize,
    /// Maximum number of tokens in one forward pass, packed without padding, shared prompts counted once. When absent, as
    /// many as take no more memory than weights, gradients and moments together, from 1,024 to 2,048; on a GPU as many as
    /// its free memory has room for, a power of two from 1,024 to 32,768.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens_per_pack: Option<usize>,
    /// Micro-batches per optimizer step.
    #[serde(default = "defaults::one")]
    pub gradient_accumulation_steps: usize,
    /// Epochs; fractions are allowed.
    #[serde(default = "defaults::epochs")]
    pub num_train_epochs: f64,
    /// Optimizer steps, instead of `num_train_epochs`; a negative number is none, as in transformers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_steps: Option<u64>,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Learning-rate schedule.
    #[serde(default)]
    pub lr_scheduler_type: Schedule,
    /// Share of all steps in which `warmup_stable_decay` decays, at the end of the run.
    #[serde(default = "defaults::lr_decay_ratio")]
    pub lr_decay_ratio: f64,
    /// Learning rate at the end of a decay, as a share of the peak.
    #[serde(default)]
    pub min_lr_ratio: f64,
    /// Steps of linear warm-up, from 1/(n + 1) of the peak in the first step; excludes `warmup_ratio`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warmup_steps: Option<u64>,
    /// Share of all steps that is warm-up; excludes `warmup_steps`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warmup_ratio: Option<f64>,
    /// Decoupled weight decay, on matrices only.
    #[serde(default)]
    pub weight_decay: f64,
    /// The optimizer, by transformers' names: AdamW with moments in float32, 8 bits or bfloat16 (the last two on the CPU). Those of
    /// an embedding are float32 always.
    #[serde(default)]
    pub optim: Optim,
    /// DeepSpeed's stage of ZeRO for a run of several processes (docs/distributed.md): 1 lets each keep the moments, and the
    /// float32 copies of 16-bit weights, of a part of the parameters; 3 also the weights and gradients of the model's blocks,
    /// each of which is gathered while it is used; 0 lets each keep all.
    #[serde(default)]
    pub zero_stage: u8,
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
    /// Store only each layer's input and recompute the layer in the backward pass: less memory, one more forward pass.
    #[serde(default)]
    pub gradient_checkpointing: bool,
    /// Device: `auto` (a GPU if the build and the machine have one), `cpu`, `cuda` or `cuda:N`; `emulated` runs the GPU
    /// kernels on the CPU, for checks. A run may be resumed on another device.
    #[serde(default)]
    #[schemars(with = "String")]
    pub device: Choice,
    /// Compute in bfloat16 on a GPU, with float32 master weights and moments. The CPU trains in float32. Excludes `fp16`.
    #[serde(default)]
    pub bf16: bool,
    /// Compute in float16 on a GPU, with float32 master weights and moments, and with loss scaling. The CPU trains in
    /// float32. Excludes `bf16`.
    #[serde(default)]
    pub fp16: bool,
    /// Steps between checkpoints: a number, a share of all steps such as 0.25, or `"epoch"`; only the last step's when
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<IntervalSchema>")]
    pub save_steps: Option<Interval>,
    /// Number of checkpoints to keep, beside the best one and the probe's last good one.
    #[serde(default = "defaults::save_total_limit")]
    pub save_total_limit: usize,
    /// Files to evaluate on, as for `dataset`; excludes `test_size`.
    #[serde(default, deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "OneOrMany<PathBuf>")]
    pub eval_dataset: Vec<PathBuf>,
    /// Held-out rows of each file, to evaluate on: a share such as 0.05, or a number of rows. Drawn with a fixed seed, so
    /// that runs which differ in `seed` are evaluated on the same rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<f64>")]
    pub test_size: Option<HoldOut>,
    /// Steps between evaluations on held-out rows: a number, a share of all steps such as 0.25, or `"epoch"`, which is the
    /// default. Step 0 and the last are always evaluated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<IntervalSchema>")]
    pub eval_steps: Option<Interval>,
    /// Consequence of an estimate that exceeds the free memory.
    #[serde(default)]
    pub memory_check: MemoryCheck,
    /// Rows of a micro-batch in evaluation, for the winsor scope `microbatch`; `per_device_train_batch_size` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_device_eval_batch_size: Option<usize>,
    /// Metric of `metrics.jsonl` that checkpoints are compared by: one of `eval_…` or `probe/…`; `eval_loss` when absent.
    /// `eval_` may be left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric_for_best_model: Option<String>,
    /// True if more of that metric is better; derived from its name when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub greater_is_better: Option<bool>,
    /// Make the best checkpoint `model/` instead of the last one. Every evaluation that is the best so far is then followed
    /// by a checkpoint.
    #[serde(default)]
    pub load_best_model_at_end: bool,
    /// Stop after this many evaluations in a row that were not better than the best.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub early_stopping_patience: Option<u64>,
    /// Minimum improvement over the best evaluation that counts as better.
    #[serde(default)]
    pub early_stopping_threshold: f64,
    /// Maximum number of skipped steps, those whose loss or gradient is not finite; one more ends the run.
    #[serde(default = "defaults::max_skipped_steps")]
    pub max_skipped_steps: u64,
    /// Train LoRA adapters instead of the weights; `model/` is then a PEFT adapter.
    #[serde(default)]
    pub use_peft: bool,
    /// PEFT adapter of the model to continue training. It is part of the reference model (DPO, KTO), unless
    /// `reference_model_name_or_path` names another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter_name_or_path: Option<PathBuf>,
    /// Rank of the adapters; 16 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lora_r: Option<usize>,
    /// The update is scaled by `lora_alpha / lora_r`; 32 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lora_alpha: Option<f64>,
    /// Dropout on the adapters' inputs. When absent 0.05, and in an adapter that is continued its own, or 0 where a reference
    /// model is compared with (DPO, KTO): the two are then equal at first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lora_dropout: Option<f64>,
    /// Layers to adapt: names such as `q_proj`, patterns with `*`, or `all-linear`, which is the default and leaves the
    /// head out.
    #[serde(default, deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "OneOrMany<String>")]
    pub lora_target_modules: Vec<String>,
    /// Modules trained whole beside the adapters and saved with them, by names such as `embed_tokens`, `lm_head` or
    /// `model.norm`. The head is the embedding where the model ties them.
    #[serde(
        default,
        alias = "lora_modules_to_save",
        deserialize_with = "one_or_many",
        skip_serializing_if = "Vec::is_empty"
    )]
    #[schemars(with = "OneOrMany<String>")]
    pub modules_to_save: Vec<String>,
    /// Rows of the embedding trained beside the adapters and saved with them, by token id, without weight decay. Excludes
    /// `embed_tokens` in `modules_to_save`.
    #[serde(default, deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "OneOrMany<u32>")]
    pub trainable_token_indices: Vec<u32>,
    /// Scale by `lora_alpha / √lora_r` (rsLoRA).
    #[serde(default)]
    pub use_rslora: bool,
    /// Learn magnitudes apart from directions (DoRA).
    #[serde(default)]
    pub use_dora: bool,
    /// Initial weights of new adapters; A at random and B zero when absent. `pissa` and `olora` take a part out of the base,
    /// which is kept without it in memory alone: the adapter's file names the start, and readers take it out again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_lora_weights: Option<InitLoraWeights>,
    /// Ranks of layers by regular expressions for the end of their names, in place of `lora_r`: `{ down_proj = 32 }`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rank_pattern: BTreeMap<String, usize>,
    /// α of layers in the same way, in place of `lora_alpha`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub alpha_pattern: BTreeMap<String, f64>,
    /// Modules to train, by names or patterns with `*` (`*.mlp.up_proj`, `model.layers.3`); the rest is frozen. All modules
    /// when empty. Excludes `use_peft`.
    #[serde(default, deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "OneOrMany<String>")]
    pub unfreeze_layers_patterns: Vec<String>,
    /// Keep the routers of a model with experts as they are: they are not trained and get no adapters.
    #[serde(default)]
    pub freeze_router: bool,
    /// Coefficient of the load-balancing loss of a model with experts, 0 for none. When absent it is the model's own where its
    /// config.json has `output_router_logits`, as in transformers, and 0 elsewhere. The loss is that of each pack over all its
    /// tokens, prompts included; a step adds the mean over its packs by their tokens. `metrics.jsonl` has it as
    /// `router_aux_loss`; it is no part of `loss`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub router_aux_loss_coef: Option<f64>,
    /// Keep the weights under adapters in four bits, quantised in blocks of 64 as bitsandbytes does it (QLoRA). A model that is
    /// stored in four bits stays so without this key.
    #[serde(default)]
    pub load_in_4bit: bool,
    /// The sixteen numbers of four bits; `nf4` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bnb_4bit_quant_type: Option<QuantType>,
    /// Quantise the blocks' scales too, to 8 bits: 4.13 bits a weight instead of 4.5.
    #[serde(default, alias = "use_bnb_nested_quant")]
    pub bnb_4bit_use_double_quant: bool,
    /// Linear layers that are not quantised, by names or patterns with `*`; `lm_head` when empty.
    #[serde(default, deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "OneOrMany<String>")]
    pub llm_int8_skip_modules: Vec<String>,
    /// Dequantise frozen weights to float32 when they are loaded: the blocks of a GGUF file, and what is stored in four bits.
    /// They stay packed otherwise, with the same results to the last bit.
    #[serde(default)]
    pub dequantize: bool,
    /// Formats to write metrics in, beside `metrics.jsonl`.
    #[serde(default, deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "OneOrMany<Reporter>")]
    pub report_to: Vec<Reporter>,
    /// Seed of initial weights, sample and order.
    #[serde(default)]
    pub seed: u64,
    /// The objective.
    pub loss: LossConfig,
    /// Warnings about a run that goes wrong. Each alarm is raised once, with the measured value and a remedy; none of them
    /// stops a run.
    #[serde(default)]
    pub alarms: AlarmConfig,
    /// Completions of out-of-distribution prompts, measured during training; off when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<ProbeConfig>,
    /// Learns prompts of real tokens and leaves the weights as they are (docs/prompts.md); off when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<PromptConfig>,
}

/// Default values.
mod defaults {
    pub fn yes() -> bool {
        true
    }
    pub fn max_length() -> usize {
        2048
    }
    pub fn ref_model_mixup_alpha() -> f64 {
        0.6
    }
    pub fn ref_model_sync_steps() -> u64 {
        512
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
