//! A configuration in code. The setters are in `elements`, beside the checks of their keys.

use std::path::PathBuf;

use smpo_losses::LossConfig;

use super::check::{Key, Problems};
use super::{ConfigErrors, ConfigProblem, TrainConfig};

/// Builds a [`TrainConfig`]; every key that is not set has the default of `docs/configuration.md`.
///
/// ```
/// use smpo_losses::Loss;
/// use smpo_trainer::TrainConfig;
///
/// let config = TrainConfig::builder(Loss::Smpo(Default::default()))
///     .model("Qwen2.5-1.5B-Instruct")
///     .train_files(["pairs.jsonl"])
///     .output_dir("runs/first")
///     .learning_rate(1e-6)
///     .max_steps(100)
///     .build()?;
/// assert_eq!(config.batch_size(), 1);
///
/// let errors = TrainConfig::builder(Loss::Smpo(Default::default())).learning_rate(-1.0).max_steps(0).build().unwrap_err();
/// assert_eq!(errors.problems.len(), 5); // two ranges and three keys that are missing
/// # Ok::<(), smpo_trainer::config::ConfigErrors>(())
/// ```
#[derive(Debug, Clone)]
pub struct TrainConfigBuilder {
    pub(super) config: TrainConfig,
    /// Required keys that are not set yet.
    pub(super) missing: Vec<&'static str>,
}

/// Keys without a default, except `loss`, in the order of the file.
pub(super) const REQUIRED: [&str; 4] = ["model_name_or_path", "output_dir", "dataset", "learning_rate"];

impl TrainConfig {
    /// Starts a configuration: of the keys without a default, the loss is given here, the others by
    /// [`model`](TrainConfigBuilder::model), [`output_dir`](TrainConfigBuilder::output_dir),
    /// [`train_files`](TrainConfigBuilder::train_files) and [`learning_rate`](TrainConfigBuilder::learning_rate).
    pub fn builder(loss: impl Into<LossConfig>) -> TrainConfigBuilder {
        TrainConfigBuilder { config: defaults(loss.into()), missing: REQUIRED.to_vec() }
    }
}

impl TrainConfigBuilder {
    /// Checks the whole.
    ///
    /// # Errors
    /// All errors at once: keys that are missing, out of range, or exclude each other.
    pub fn build(self) -> Result<TrainConfig, ConfigErrors> {
        let mut problems = Problems::default();
        for name in &self.missing {
            problems.push_unread(Key::new(None, *name), format!("missing key `{name}`"));
        }
        self.config.check(&mut problems);
        if problems.found.is_empty() {
            return Ok(self.config);
        }
        let unplaced = |message| ConfigProblem { line: None, message };
        let problems = problems.found.into_iter().map(|problem| unplaced(problem.message)).collect();
        Err(ConfigErrors { origin: None, problems })
    }

    /// Marks a required key as set.
    pub(super) fn given(&mut self, name: &str) {
        self.missing.retain(|missing| *missing != name);
    }
}

/// Setters of keys: `key: Type` sets a value, `key?: Type` a value that is absent by default, `key?: into Type` one that
/// is converted, `key[]: Type` a list.
macro_rules! setters {
    () => {};
    (@setter $key:ident, $value:ident: $argument:ty, $set:expr) => {
        #[doc = concat!("Sets [`TrainConfig::", stringify!($key), "`](crate::TrainConfig::", stringify!($key), ").")]
        #[must_use]
        pub fn $key(mut self, $value: $argument) -> Self {
            self.config.$key = $set;
            self
        }
    };
    ($key:ident : $type:ty, $($rest:tt)*) => {
        setters!(@setter $key, value: $type, value);
        setters!($($rest)*);
    };
    ($key:ident ? : into $type:ty, $($rest:tt)*) => {
        setters!(@setter $key, value: impl Into<$type>, Some(value.into()));
        setters!($($rest)*);
    };
    ($key:ident ? : $type:ty, $($rest:tt)*) => {
        setters!(@setter $key, value: $type, Some(value));
        setters!($($rest)*);
    };
    ($key:ident [] : $type:ty, $($rest:tt)*) => {
        setters!(@setter $key, values: impl IntoIterator<Item = impl Into<$type>>, values.into_iter().map(Into::into).collect());
        setters!($($rest)*);
    };
}
pub(super) use setters;

/// Every key at its default; those without one are empty.
#[allow(clippy::too_many_lines)] // one line a key
fn defaults(loss: LossConfig) -> TrainConfig {
    use super::defaults;
    TrainConfig {
        model_name_or_path: PathBuf::new(),
        reference_model_name_or_path: None,
        sync_ref_model: false,
        ref_model_mixup_alpha: defaults::ref_model_mixup_alpha(),
        ref_model_sync_steps: defaults::ref_model_sync_steps(),
        init: Default::default(),
        embedding_std: None,
        output_dir: PathBuf::new(),
        dataset: Vec::new(),
        dataset_ratio: Vec::new(),
        dataset_columns: Vec::new(),
        on_bad_rows: Default::default(),
        token_cache: None,
        dataset_sample: None,
        data_check: Default::default(),
        chat_template: None,
        force_chat_template: false,
        eos_token: None,
        bos_token: None,
        pad_token: None,
        added_special_tokens: Vec::new(),
        added_tokens: Vec::new(),
        max_length: defaults::max_length(),
        max_prompt_length: None,
        truncation_mode: Default::default(),
        train_on: Default::default(),
        system_prompt: None,
        model_support_system_role: true,
        chat_template_kwargs: Default::default(),
        unfinished: Default::default(),
        per_device_train_batch_size: defaults::one(),
        max_tokens_per_pack: None,
        gradient_accumulation_steps: defaults::one(),
        num_train_epochs: defaults::epochs(),
        max_steps: None,
        learning_rate: 0.0,
        lr_scheduler_type: Default::default(),
        lr_decay_ratio: defaults::lr_decay_ratio(),
        min_lr_ratio: 0.0,
        warmup_steps: None,
        warmup_ratio: None,
        weight_decay: 0.0,
        optim: Default::default(),
        zero_stage: 0,
        adam_beta1: defaults::beta1(),
        adam_beta2: defaults::beta2(),
        adam_epsilon: defaults::epsilon(),
        max_grad_norm: defaults::max_grad_norm(),
        gradient_checkpointing: false,
        device: Default::default(),
        bf16: false,
        fp16: false,
        save_steps: None,
        save_total_limit: defaults::save_total_limit(),
        eval_dataset: Vec::new(),
        test_size: None,
        eval_steps: None,
        memory_check: Default::default(),
        per_device_eval_batch_size: None,
        metric_for_best_model: None,
        greater_is_better: None,
        load_best_model_at_end: false,
        early_stopping_patience: None,
        early_stopping_threshold: 0.0,
        max_skipped_steps: defaults::max_skipped_steps(),
        use_peft: false,
        adapter_name_or_path: None,
        lora_r: None,
        lora_alpha: None,
        lora_dropout: None,
        lora_target_modules: Vec::new(),
        modules_to_save: Vec::new(),
        trainable_token_indices: Vec::new(),
        use_rslora: false,
        use_dora: false,
        unfreeze_layers_patterns: Vec::new(),
        freeze_router: false,
        router_aux_loss_coef: None,
        init_lora_weights: None,
        rank_pattern: Default::default(),
        alpha_pattern: Default::default(),
        load_in_4bit: false,
        dequantize: false,
        bnb_4bit_quant_type: None,
        bnb_4bit_use_double_quant: false,
        llm_int8_skip_modules: Vec::new(),
        report_to: Vec::new(),
        seed: 0,
        loss,
        alarms: Default::default(),
        probe: None,
        prompt: None,
    }
}
