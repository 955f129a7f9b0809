//! Every configuration file that effective_llm_alignment publishes loads and trains two steps on a tiny model of its family,
//! with rows in its format; docs/effective_llm_alignment.md says what each is here. The table has the files' keys and
//! values; templates, names of runs and paths are this project's own.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use smpo_fixtures::{demo, repository};
use smpo_losses::Loss;
use smpo_model::{Config, Decoder, Labels, SaveOptions};
use smpo_trainer::config::AdapterStart;
use smpo_trainer::{Finish, TrainConfig};
use support::train_recording;

use Family::{Gemma, Llama, Mistral, Phi, Qwen};

/// Architecture of the model that a file names.
#[derive(Debug, Clone, Copy)]
enum Family {
    Gemma,
    Llama,
    Mistral,
    Phi,
    Qwen,
}

/// A published file.
struct Published {
    /// Its name, without the ending.
    file: &'static str,
    family: Family,
    /// Keys that it has in common with others.
    shared: &'static str,
    /// Its other keys.
    keys: &'static str,
}

/// The classifier.
const CLASSES: &str = "attn_implementation: sdpa; bf16: true; dataloader_num_workers: 2; \
    dataset: Vikhrmodels/controllable_clf_dataset_no_tags; eos_token: '<|im_end|>'; eval_steps: 125; \
    evaluation_strategy: steps; force_chat_template: true; fp16: false; gradient_accumulation_steps: 16; \
    gradient_checkpointing: true; learning_rate: 0.00003; logging_first_step: true; logging_steps: 1; \
    lora_alpha: 128; lora_modules_to_save: ['score']; lora_r: 128; \
    lora_target_modules: ['k_proj', 'v_proj', 'q_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj']; \
    lora_task_type: SEQ_CLS; lr_scheduler_type: cosine; max_length: 16384; num_labels: 2; \
    num_train_epochs: 1; pad_token: '<|image_pad|>'; per_device_eval_batch_size: 6; \
    per_device_train_batch_size: 4; remove_unused_columns: true; report_to: wandb; save_only_model: true; \
    save_steps: 125; save_strategy: steps; save_total_limit: 10; seed: 42; torch_compile: false; \
    unfreeze_layers_patterns: ['score', '*.layers.*']; use_peft: false; use_rslora: true; \
    warmup_ratio: 0.05; weight_decay: 0.05";

/// Preference files of Llama 3.
const LLAMA_PAIRS: &str = "attn_implementation: sdpa; bf16: false; dataloader_num_workers: 2; dataset_num_proc: 10; \
    eos_token: '<|eot_id|>'; eval_steps: 50; evaluation_strategy: steps; force_chat_template: false; \
    fp16: true; gradient_accumulation_steps: 8; gradient_checkpointing: true; log_level: info; \
    logging_first_step: true; logging_steps: 1; lora_task_type: CAUSAL_LM; lr_scheduler_type: cosine; \
    max_length: 8192; max_prompt_length: 4096; pad_token: '<|reserved_special_token_0|>'; \
    per_device_eval_batch_size: 1; per_device_train_batch_size: 1; remove_unused_columns: true; \
    report_to: wandb; save_only_model: true; save_steps: 50; save_strategy: steps; save_total_limit: 20; \
    seed: 42; test_size: 0.05; use_peft: true; warmup_steps: 10";

/// The other preference files.
const PAIRS: &str = "attn_implementation: sdpa; bf16: false; dataloader_num_workers: 2; dataset_num_proc: 10; \
    eval_steps: 50; evaluation_strategy: steps; force_chat_template: false; fp16: true; \
    gradient_checkpointing: true; learning_rate: 0.00002; log_level: info; logging_first_step: true; \
    logging_steps: 1; \
    lora_target_modules: ['k_proj', 'v_proj', 'q_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj']; \
    lora_task_type: CAUSAL_LM; loss_type: smooth_lower_bound; lr_scheduler_type: cosine; margin_delta: 0.2; \
    max_length: 8192; max_prompt_length: 4096; per_device_eval_batch_size: 1; \
    per_device_train_batch_size: 1; remove_unused_columns: true; report_to: wandb; save_only_model: true; \
    save_steps: 50; save_strategy: steps; save_total_limit: 20; seed: 42; test_size: 0.05; use_peft: true; \
    warmup_steps: 20";

/// Preference files of phi-4.
const PHI_PAIRS: &str = "attn_implementation: sdpa; bf16: true; dataloader_num_workers: 2; dataset_num_proc: 20; \
    eos_token: '<|im_end|>'; evaluation_strategy: steps; force_chat_template: false; \
    generate_during_eval: false; generate_eval_examples: true; gradient_checkpointing: true; \
    learning_rate: 0.00002; log_level: info; logging_first_step: true; logging_steps: 1; lora_alpha: 256; \
    lora_r: 256; lora_task_type: CAUSAL_LM; lr_scheduler_type: cosine; margin_delta: 0.2; \
    max_length: 10240; max_prompt_length: 5120; pad_token: '<|dummy_0|>'; per_device_train_batch_size: 1; \
    remove_unused_columns: true; report_to: wandb; save_only_model: true; save_strategy: steps; seed: 42; \
    test_size: 0.05; use_peft: true; warmup_steps: 10";

/// Prompts; a given first text is our own.
const PROMPTS: &str = "attn_implementation: sdpa; bf16: true; center_rewards_coefficient: 0.01; dataloader_num_workers: 2; \
    dataset: Vikhrmodels/rm_training_dataset_16_12_24; dataset_ratio: 0.03; dissim_coef: 0.0; \
    eos_token: '<|im_end|>'; eval_steps: 60; evaluation_strategy: epoch; force_chat_template: false; \
    fp16: false; fused_forward: true; gradient_accumulation_steps: 8; gradient_checkpointing: true; \
    gumbel_temp: 1.0; learning_rate: 0.001; logging_first_step: true; logging_steps: 1; \
    lr_scheduler_type: constant; max_length: 16384; num_prompts: 1; num_train_epochs: 5; \
    pad_token: '<|endoftext|>'; per_device_eval_batch_size: 16; per_device_train_batch_size: 8; \
    prompt_len: 96; remove_unused_columns: false; report_to: wandb; save_only_model: true; save_steps: 360; \
    save_strategy: epoch; save_total_limit: 10; seed: 42; test_size: 0.1; torch_compile: false; \
    warmup_ratio: 0.01; weight_decay: 0.01";

/// Reward models of Qwen 2.5 on one data set.
const NO_TAGS: &str = "attn_implementation: sdpa; bf16: true; center_rewards_coefficient: 0.01; dataloader_num_workers: 2; \
    dataset: Vikhrmodels/controllable_rm_dataset_no_tags; eos_token: '<|im_end|>'; eval_steps: 125; \
    evaluation_strategy: steps; force_chat_template: true; fp16: false; gradient_checkpointing: true; \
    logging_first_step: true; logging_steps: 1; lora_modules_to_save: ['score']; \
    lora_target_modules: ['k_proj', 'v_proj', 'q_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj']; \
    lora_task_type: SEQ_CLS; lr_scheduler_type: cosine; max_length: 16384; num_train_epochs: 1; \
    pad_token: '<|image_pad|>'; remove_unused_columns: true; save_steps: 125; save_strategy: steps; \
    save_total_limit: 10; seed: 42; torch_compile: false; warmup_ratio: 0.05";

/// The other reward models.
const RANKINGS: &str = "bf16: true; dataloader_num_workers: 2; evaluation_strategy: steps; force_chat_template: true; \
    gradient_checkpointing: true; logging_first_step: true; logging_steps: 1; \
    lora_modules_to_save: ['score']; lora_task_type: SEQ_CLS; remove_unused_columns: true; \
    report_to: wandb; save_strategy: steps; save_total_limit: 6; seed: 42; test_size: 0.05; use_peft: true; \
    warmup_steps: 20";

/// Instruction tuning.
const TALKS: &str = "conversation_field: conversation; evaluation_strategy: steps; force_chat_template: true; \
    gradient_checkpointing: true; report_to: wandb; save_strategy: steps; seed: 42";

/// Every published file.
const PUBLISHED: &[Published] = &[
    Published {
        file: "classification/controllable-clf-qwen-1.5b-no-tags-full",
        family: Qwen,
        shared: CLASSES,
        keys: "",
    },
    Published {
        file: "preference/rpo-sigmoid-llama-3-lora-best-rs",
        family: Llama,
        shared: LLAMA_PAIRS,
        keys: "beta: 0.1; dataset: data/vikhr-llama-3.1-rm4-scored-answers-rs7-nw2-t0.8-pref.jsonl; \
               generate_eval_examples: false; learning_rate: 0.000005; lora_alpha: 64; lora_r: 64; \
               lora_target_modules: ['k_proj', 'v_proj', 'q_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj', 'lm_head']; \
               loss_type: sigmoid; num_train_epochs: 2; reference_free: true; rpo_alpha: 1.0",
    },
    Published {
        file: "preference/simpo-llama-3.1-lora-best-rs",
        family: Llama,
        shared: LLAMA_PAIRS,
        keys: "beta: 0.6; dataset: data/vikhr-llama-3.1-rm4-scored-answers-rs7-nw2-t0.8-pref.jsonl; \
               gamma_beta_ratio: 0.8; generate_eval_examples: true; learning_rate: 0.000008; lora_alpha: 64; \
               lora_r: 64; \
               lora_target_modules: ['k_proj', 'v_proj', 'q_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj', 'lm_head']; \
               loss_type: smooth_ipo; num_train_epochs: 3; sft_weight: 1.0",
    },
    Published {
        file: "preference/slic-llama-3-lora-best-rs",
        family: Llama,
        shared: LLAMA_PAIRS,
        keys: "beta: 0.1; dataset: data/vikhr-llama-3.1-rm4-scored-answers-rs7-nw2-t0.8-pref.jsonl; \
               generate_eval_examples: true; learning_rate: 0.000005; lora_alpha: 64; lora_r: 64; \
               lora_target_modules: ['k_proj', 'v_proj', 'q_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj', 'lm_head']; \
               loss_type: hinge; num_train_epochs: 2; reference_free: true",
    },
    Published {
        file: "preference/smpo-llama-3.1-lora-best-rs",
        family: Llama,
        shared: LLAMA_PAIRS,
        keys: "beta: 1.1; chosen_sft_ratio: 0.75; \
               dataset: data/vikhr-llama-3.1-rm4-scored-answers-rs7-nw2-t0.8-pref-fixed.jsonl; \
               generate_eval_examples: true; learning_rate: 0.00002; lora_alpha: 96; lora_r: 96; \
               lora_target_modules: ['k_proj', 'v_proj', 'q_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj']; \
               loss_type: smooth_lower_bound; margin_delta: 0.2; margin_min: 0.4; num_train_epochs: 2",
    },
    Published {
        file: "preference/smpo-mistral-nemo-lora-best-rs",
        family: Mistral,
        shared: PAIRS,
        keys: "beta: 1.2; chosen_sft_ratio: 0.75; \
               dataset: data/vikhr-nemo-rm4-scored-answers-rs7-nw2-t0.8-pref.jsonl; eos_token: '</s>'; \
               generate_eval_examples: true; gradient_accumulation_steps: 8; lora_alpha: 96; lora_r: 96; \
               margin_min: 0.4; num_train_epochs: 2; pad_token: '<pad>'",
    },
    Published {
        file: "preference/smpo-phi4-lora-best-rs-v1",
        family: Phi,
        shared: PHI_PAIRS,
        keys: "beta: 0.7; chosen_sft_ratio: 0.8; dataset: Vikhrmodels/phi4-sft-po-dataset; eval_steps: 60; \
               gradient_accumulation_steps: 8; \
               lora_target_modules: ['qkv_proj', 'o_proj', 'gate_up_proj', 'down_proj', 'lm_head']; \
               loss_type: hinge; margin_min: 0.6; num_train_epochs: 2; per_device_eval_batch_size: 1; \
               save_steps: 60; save_total_limit: 10",
    },
    Published {
        file: "preference/smpo-phi4-lora-best-rs-v12",
        family: Phi,
        shared: PHI_PAIRS,
        keys: "beta: 1.1; chosen_sft_ratio: 1.0; dataset: hivaze/phi4-sft-po-dataset; eval_steps: 50; \
               gradient_accumulation_steps: 16; \
               lora_target_modules: ['qkv_proj', 'o_proj', 'gate_up_proj', 'down_proj', 'lm_head']; \
               loss_type: smooth_lower_bound; lower_clip_percentile: 0.02; margin_min: 0.3; min_log_prob: -2.3; \
               num_train_epochs: 2; per_device_eval_batch_size: 2; save_steps: 50; save_total_limit: 12",
    },
    Published {
        file: "preference/smpo-phi4-lora-best-rs-v14",
        family: Phi,
        shared: PHI_PAIRS,
        keys: "beta: 1.1; chosen_sft_ratio: 1.0; dataset: hivaze/phi4-sft-po-dataset; eval_steps: 50; \
               gradient_accumulation_steps: 16; \
               lora_target_modules: ['qkv_proj', 'o_proj', 'gate_up_proj', 'down_proj']; \
               loss_type: smooth_lower_bound; lower_clip_percentile: 0.02; margin_min: 0.5; min_log_prob: -2.3; \
               num_train_epochs: 1; per_device_eval_batch_size: 1; save_steps: 50; save_total_limit: 12",
    },
    Published {
        file: "preference/smpo-phi4-lora-best-rs-v2",
        family: Phi,
        shared: PHI_PAIRS,
        keys: "beta: 1.25; chosen_sft_ratio: 0.8; dataset: Vikhrmodels/phi4-sft-po-dataset; eval_steps: 60; \
               gradient_accumulation_steps: 8; \
               lora_target_modules: ['qkv_proj', 'o_proj', 'gate_up_proj', 'down_proj', 'lm_head']; \
               loss_type: smooth_lower_bound; margin_min: 0.5; num_train_epochs: 2; per_device_eval_batch_size: 1; \
               save_steps: 60; save_total_limit: 10",
    },
    Published {
        file: "preference/smpo-phi4-lora-best-rs-v3",
        family: Phi,
        shared: PHI_PAIRS,
        keys: "beta: 1.2; chosen_sft_ratio: 0.85; dataset: hivaze/phi4-sft-po-dataset; eval_steps: 60; \
               gradient_accumulation_steps: 8; \
               lora_target_modules: ['qkv_proj', 'o_proj', 'gate_up_proj', 'down_proj', 'lm_head']; \
               loss_type: smooth_lower_bound; margin_min: 0.35; num_train_epochs: 2; \
               per_device_eval_batch_size: 1; save_steps: 60; save_total_limit: 10",
    },
    Published {
        file: "preference/smpo-phi4-lora-best-rs-v4",
        family: Phi,
        shared: PHI_PAIRS,
        keys: "beta: 1.3; chosen_sft_ratio: 0.8; dataset: hivaze/phi4-sft-po-dataset-v2; eval_steps: 50; \
               gradient_accumulation_steps: 8; \
               lora_target_modules: ['qkv_proj', 'o_proj', 'gate_up_proj', 'down_proj', 'lm_head']; \
               loss_type: smooth_lower_bound; margin_min: 0.4; max_grad_norm: 0.5; num_train_epochs: 2; \
               per_device_eval_batch_size: 1; save_steps: 50; save_total_limit: 10",
    },
    Published {
        file: "preference/smpo-phi4-lora-best-rs-v7",
        family: Phi,
        shared: PHI_PAIRS,
        keys: "beta: 1.0; chosen_sft_ratio: 0.75; dataset: hivaze/phi4-sft-po-dataset; eval_steps: 60; \
               gradient_accumulation_steps: 8; \
               lora_target_modules: ['qkv_proj', 'o_proj', 'gate_up_proj', 'down_proj']; \
               loss_type: smooth_lower_bound; margin_min: 0.4; num_train_epochs: 2; per_device_eval_batch_size: 1; \
               save_steps: 60; save_total_limit: 10",
    },
    Published {
        file: "preference/smpo-phi4-lora-best-rs-v9",
        family: Phi,
        shared: PHI_PAIRS,
        keys: "beta: 1.2; chosen_sft_ratio: 0.85; dataset: hivaze/phi4-sft-po-dataset; eval_steps: 50; \
               gradient_accumulation_steps: 8; \
               lora_target_modules: ['qkv_proj', 'o_proj', 'gate_up_proj', 'down_proj']; \
               loss_type: smooth_lower_bound; lower_trim_percentile: 0.025; margin_min: 0.45; num_train_epochs: 2; \
               per_device_eval_batch_size: 1; save_steps: 50; save_total_limit: 12",
    },
    Published {
        file: "preference/smpo-qvikhr2.5-1.5b-lora-best-rs",
        family: Qwen,
        shared: PAIRS,
        keys: "beta: 1.6; chosen_sft_ratio: 0.9; dataset: filtered_dataset.jsonl; eos_token: '<|im_end|>'; \
               generate_eval_examples: false; gradient_accumulation_steps: 4; lora_alpha: 128; lora_r: 128; \
               margin_min: 0.5; num_train_epochs: 1.2; pad_token: '<|endoftext|>'",
    },
    Published {
        file: "preference/sppo-llama-3-lora-best-rs",
        family: Llama,
        shared: LLAMA_PAIRS,
        keys: "beta: 0.1; dataset: data/vikhr-llama-3.1-rm4-scored-answers-rs7-nw2-t0.8-pref.jsonl; \
               generate_eval_examples: true; learning_rate: 0.000005; lora_alpha: 64; lora_r: 64; \
               lora_target_modules: ['k_proj', 'v_proj', 'q_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj', 'lm_head']; \
               loss_type: sppo_hard; num_train_epochs: 2; reference_free: true",
    },
    Published {
        file: "prompts-tuning/controllable-rm-qwen-1.5b-no-init",
        family: Qwen,
        shared: PROMPTS,
        keys: "gumbel_noise_scale: 0.1",
    },
    Published {
        file: "prompts-tuning/controllable-rm-qwen-1.5b",
        family: Qwen,
        shared: PROMPTS,
        keys: "gumbel_noise_scale: 0.05; init_prompt: 'Answer well.'",
    },
    Published {
        file: "reward/controllable-rm-qwen-1.5b-no-tags-full",
        family: Qwen,
        shared: NO_TAGS,
        keys: "gradient_accumulation_steps: 16; learning_rate: 0.00003; lora_alpha: 128; lora_r: 128; \
               per_device_eval_batch_size: 6; per_device_train_batch_size: 2; report_to: wandb; \
               save_only_model: true; unfreeze_layers_patterns: ['score', '*.layers.*']; use_peft: false; \
               use_rslora: true; weight_decay: 0.05",
    },
    Published {
        file: "reward/controllable-rm-qwen-1.5b-no-tags-lora",
        family: Qwen,
        shared: NO_TAGS,
        keys: "gradient_accumulation_steps: 16; learning_rate: 0.0002; lora_alpha: 32; lora_r: 32; \
               per_device_eval_batch_size: 6; per_device_train_batch_size: 2; report_to: clearml; use_peft: true; \
               use_rslora: false; weight_decay: 0.0",
    },
    Published {
        file: "reward/controllable-rm-qwen-3b-no-tags-full",
        family: Qwen,
        shared: NO_TAGS,
        keys: "gradient_accumulation_steps: 16; learning_rate: 0.00003; lora_alpha: 128; lora_r: 128; \
               optim: adamw_8bit; per_device_eval_batch_size: 6; per_device_train_batch_size: 2; report_to: wandb; \
               save_only_model: true; unfreeze_layers_patterns: ['score', '*.layers.*']; use_peft: false; \
               use_rslora: true; weight_decay: 0.05",
    },
    Published {
        file: "reward/controllable-rm-qwen-7b-no-tags-full",
        family: Qwen,
        shared: NO_TAGS,
        keys: "gradient_accumulation_steps: 32; learning_rate: 0.00003; lora_alpha: 128; lora_r: 128; \
               optim: adamw_8bit; per_device_eval_batch_size: 2; per_device_train_batch_size: 1; report_to: wandb; \
               save_only_model: true; unfreeze_layers_patterns: ['score', '*.layers.*']; use_peft: false; \
               use_rslora: true; weight_decay: 0.05",
    },
    Published {
        file: "reward/controllable-rm-qwen-7b-no-tags-lora",
        family: Qwen,
        shared: NO_TAGS,
        keys: "gradient_accumulation_steps: 16; learning_rate: 0.0001; lora_alpha: 256; lora_r: 256; \
               per_device_eval_batch_size: 3; per_device_train_batch_size: 2; report_to: clearml; use_peft: true; \
               use_rslora: true",
    },
    Published {
        file: "reward/rm-llama-3-fsfairx-lora-arena",
        family: Llama,
        shared: RANKINGS,
        keys: "center_rewards_coefficient: 0.01; dataset: Vikhrmodels/ru-arena-general-rankings; \
               eos_token: '<|eot_id|>'; eval_steps: 50; gradient_accumulation_steps: 4; learning_rate: 0.0004; \
               lora_alpha: 32; lora_r: 32; \
               lora_target_modules: ['k_proj', 'v_proj', 'q_proj', 'o_proj', 'up_proj', 'gate_proj', 'down_proj']; \
               max_length: 8192; num_train_epochs: 3; pad_token: '<|reserved_special_token_0|>'; \
               per_device_eval_batch_size: 4; per_device_train_batch_size: 4; save_steps: 100",
    },
    Published {
        file: "reward/rm-llama-3.1-8b-it-lora-arena",
        family: Llama,
        shared: RANKINGS,
        keys: "dataset: Vikhrmodels/ru-arena-general-rankings; eos_token: '<|eot_id|>'; eval_steps: 100; \
               gradient_accumulation_steps: 8; learning_rate: 0.0004; lora_alpha: 32; lora_r: 32; \
               lora_target_modules: ['k_proj', 'v_proj', 'q_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj']; \
               max_length: 8192; num_train_epochs: 2; pad_token: '<|reserved_special_token_0|>'; \
               per_device_eval_batch_size: 1; per_device_train_batch_size: 1; save_steps: 100",
    },
    Published {
        file: "reward/rm-llama-3.1-8b-lora-arena",
        family: Llama,
        shared: RANKINGS,
        keys: "dataset: Vikhrmodels/ru-arena-general-rankings; eos_token: '<|eot_id|>'; eval_steps: 100; \
               gradient_accumulation_steps: 8; learning_rate: 0.0004; lora_alpha: 32; lora_r: 32; \
               lora_target_modules: ['k_proj', 'v_proj', 'q_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj']; \
               max_length: 8192; num_train_epochs: 1; pad_token: '<|reserved_special_token_0|>'; \
               per_device_eval_batch_size: 1; per_device_train_batch_size: 1; save_steps: 100",
    },
    Published {
        file: "reward/rm-qwen-14b-v2",
        family: Qwen,
        shared: RANKINGS,
        keys: "attn_implementation: sdpa; center_rewards_coefficient: 0.01; \
               dataset: Vikhrmodels/rm_training_dataset_16_12_24; eos_token: '<|im_end|>'; eval_steps: 250; \
               gradient_accumulation_steps: 8; learning_rate: 0.0002; lora_alpha: 128; lora_r: 128; \
               lora_target_modules: ['k_proj', 'v_proj', 'q_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj']; \
               max_length: 16384; num_train_epochs: 1; pad_token: '<|image_pad|>'; per_device_eval_batch_size: 2; \
               per_device_train_batch_size: 2; save_steps: 250",
    },
    Published {
        file: "sft/sft-gemma-2-2b-it-lora-ficbook",
        family: Gemma,
        shared: TALKS,
        keys: "attn_implementation: eager; bf16: false; dataloader_num_workers: 4; \
               dataset: ['qklent/ficbook_no_url_default_sys_prompt', 'qklent/roleplay_ru_gusev_preprocessed', 'Vikhrmodels/GrandMaster-PRO-MAX']; \
               dataset_ratio: [1, 1, 0.1]; eos_token: '<|im_end|>'; eval_steps: 2000; fp16: true; \
               generate_eval_examples: true; gradient_accumulation_steps: 4; learning_rate: 0.000002; \
               logging_first_step: false; logging_steps: 10; lora_alpha: 64; lora_r: 16; \
               lora_target_modules: ['k_proj', 'v_proj', 'q_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj']; \
               lr_scheduler_type: cosine; max_seq_length: 2048; model_support_system_role: false; \
               num_gen_examples: 20; num_train_epochs: 1; pad_token: '<|reserved_special_token_0|>'; \
               per_device_eval_batch_size: 2; per_device_train_batch_size: 2; remove_unused_columns: true; \
               save_steps: 2000; save_total_limit: 3; test_size: 0.005; train_only_on_completions: false; \
               use_peft: true; warmup_ratio: 0.03",
    },
    Published {
        file: "sft/sft-llama-3.1-8b-it-full-Grandmaster",
        family: Llama,
        shared: TALKS,
        keys: "bf16: true; dataloader_num_workers: 2; dataset: Vikhrmodels/GrandMaster-PRO-MAX; \
               eos_token: '<|eot_id|>'; eval_steps: 300; generate_eval_examples: false; \
               gradient_accumulation_steps: 8; learning_rate: 0.00004; logging_first_step: true; logging_steps: 1; \
               num_train_epochs: 1; pad_token: '<|reserved_special_token_0|>'; per_device_eval_batch_size: 1; \
               per_device_train_batch_size: 1; remove_unused_columns: true; save_steps: 300; save_total_limit: 3; \
               train_only_on_completions: true; use_peft: false; warmup_steps: 20",
    },
    Published {
        file: "sft/sft-llama-3.1-8b-it-lora-GRAG",
        family: Llama,
        shared: TALKS,
        keys: "bf16: true; dataloader_num_workers: 2; dataset: Vikhrmodels/Grounded-RAG-RU-v2; \
               eos_token: '<|eot_id|>'; eval_steps: 300; generate_eval_examples: true; \
               gradient_accumulation_steps: 8; learning_rate: 0.00004; logging_first_step: true; logging_steps: 1; \
               lora_alpha: 32; lora_r: 32; lora_target_modules: ['k_proj', 'v_proj', 'q_proj', 'o_proj']; \
               num_train_epochs: 1; pad_token: '<|reserved_special_token_0|>'; per_device_eval_batch_size: 1; \
               per_device_train_batch_size: 1; remove_unused_columns: true; save_steps: 300; save_total_limit: 6; \
               train_only_on_completions: true; use_peft: true; warmup_steps: 20",
    },
    Published {
        file: "sft/sft-llama-3.1-8b-it-lora-GrandmasterRAG-v1",
        family: Llama,
        shared: TALKS,
        keys: "bf16: true; dataloader_num_workers: 2; \
               dataset: ['Vikhrmodels/GrandMaster-PRO-MAX', 'Vikhrmodels/Grounded-RAG-RU-v2']; \
               eos_token: '<|eot_id|>'; eval_steps: 400; generate_eval_examples: true; \
               gradient_accumulation_steps: 8; learning_rate: 0.00004; logging_first_step: true; logging_steps: 1; \
               lora_alpha: 256; lora_r: 256; \
               lora_target_modules: ['k_proj', 'v_proj', 'q_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj', 'lm_head']; \
               max_seq_length: 16000; num_train_epochs: 1; pad_token: '<|reserved_special_token_0|>'; \
               per_device_eval_batch_size: 1; per_device_train_batch_size: 1; remove_unused_columns: false; \
               save_only_model: true; save_steps: 400; save_total_limit: 6; train_only_on_completions: true; \
               use_liger: true; use_peft: true; warmup_steps: 20",
    },
    Published {
        file: "sft/sft-mistral-nemo-12b-lora-GrandmasterRAG-v1",
        family: Mistral,
        shared: TALKS,
        keys: "added_special_tokens: ['<|start_header_id|>', '<|end_header_id|>']; bf16: true; \
               dataloader_num_workers: 2; \
               dataset: ['Vikhrmodels/GrandMaster-PRO-MAX', 'Vikhrmodels/Grounded-RAG-RU-v2']; eos_token: '</s>'; \
               eval_steps: 400; generate_eval_examples: true; gradient_accumulation_steps: 8; \
               learning_rate: 0.00004; logging_first_step: true; logging_steps: 1; lora_alpha: 256; lora_r: 256; \
               lora_target_modules: ['k_proj', 'v_proj', 'q_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj', 'lm_head']; \
               max_seq_length: 16000; num_train_epochs: 1; pad_token: '<pad>'; per_device_eval_batch_size: 1; \
               per_device_train_batch_size: 1; remove_unused_columns: false; save_only_model: true; \
               save_steps: 400; save_total_limit: 6; train_only_on_completions: true; use_liger: true; \
               use_peft: true; warmup_steps: 20",
    },
    Published {
        file: "sft/sft-phi4-full-GrandmasterRAG-v2",
        family: Phi,
        shared: TALKS,
        keys: "attn_implementation: sdpa; bf16: true; dataloader_num_workers: 2; \
               dataset: ['Vikhrmodels/GrandMaster-PRO-MAX', 'Vikhrmodels/Grounded-RAG-RU-v2']; \
               eos_token: '<|im_end|>'; eval_steps: 400; generate_eval_examples: true; \
               gradient_accumulation_steps: 8; learning_rate: 0.00004; logging_first_step: true; logging_steps: 1; \
               max_seq_length: 16384; num_train_epochs: 1; pad_token: '<|dummy_0|>'; \
               per_device_eval_batch_size: 1; per_device_train_batch_size: 1; remove_unused_columns: false; \
               save_only_model: true; save_steps: 400; save_total_limit: 6; train_only_on_completions: true; \
               use_liger: true; use_peft: false; warmup_steps: 20",
    },
    Published {
        file: "sft/sft-phi4-lora-GrandmasterRAG-v4",
        family: Phi,
        shared: TALKS,
        keys: "attn_implementation: sdpa; bf16: true; dataloader_num_workers: 2; \
               dataset: ['Vikhrmodels/GrandMaster-PRO-MAX', 'Vikhrmodels/Grounded-RAG-RU-v2']; \
               eos_token: '<|im_end|>'; eval_steps: 400; generate_eval_examples: true; \
               gradient_accumulation_steps: 16; learning_rate: 0.00004; logging_first_step: true; \
               logging_steps: 1; lora_alpha: 384; lora_r: 384; \
               lora_target_modules: ['qkv_proj', 'o_proj', 'gate_up_proj', 'down_proj', 'lm_head']; \
               max_seq_length: 16384; num_train_epochs: 1; pad_token: '<|dummy_0|>'; \
               per_device_eval_batch_size: 1; per_device_train_batch_size: 1; remove_unused_columns: false; \
               save_only_model: true; save_steps: 400; save_total_limit: 6; train_only_on_completions: true; \
               use_liger: true; use_peft: true; warmup_steps: 20",
    },
    Published {
        file: "sft/sft-yandex-lora-GrandmasterRAG",
        family: Llama,
        shared: TALKS,
        keys: "attn_implementation: sdpa; bf16: true; dataloader_num_workers: 40; \
               dataset: ['Vikhrmodels/GrandMaster-PRO-MAX', 'Vikhrmodels/Grounded-RAG-RU-v2']; eos_token: '</s>'; \
               eval_steps: 500; generate_eval_examples: true; gradient_accumulation_steps: 16; \
               learning_rate: 0.000005; logging_first_step: true; logging_steps: 1; lora_alpha: 256; lora_r: 256; \
               lora_target_modules: ['qkv_proj', 'o_proj', 'gate_up_proj', 'down_proj', 'lm_head']; \
               max_seq_length: 16384; num_train_epochs: 1.5; pad_token: '[SPEC_TOKEN_1001]'; \
               per_device_eval_batch_size: 1; per_device_train_batch_size: 1; remove_unused_columns: false; \
               save_only_model: true; save_steps: 400; save_total_limit: 6; train_only_on_completions: true; \
               use_liger: true; use_peft: true; warmup_steps: 20",
    },
];

impl Family {
    /// A tiny model's `config.json`.
    fn config(self) -> Value {
        let mut config = json!({
            "vocab_size": 1024, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_act": "silu", "max_position_embeddings": 16384,
            "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "tie_word_embeddings": false, "initializer_range": 0.02,
            "bos_token_id": null, "eos_token_id": 2, "pad_token_id": 0,
        });
        let own = match self {
            Self::Gemma => json!({
                "model_type": "gemma2", "head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 4096,
                "hidden_activation": "gelu_pytorch_tanh", "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0,
                "tie_word_embeddings": true,
            }),
            Self::Llama => json!({"model_type": "llama"}),
            Self::Mistral => json!({"model_type": "mistral", "sliding_window": null}),
            Self::Phi => {
                json!({"model_type": "phi3", "original_max_position_embeddings": 16384, "sliding_window": null})
            }
            Self::Qwen => json!({"model_type": "qwen2", "use_sliding_window": false}),
        };
        for (key, value) in own.as_object().unwrap() {
            config[key] = value.clone();
        }
        config
    }
}

impl Published {
    fn has(&self, key: &str) -> bool {
        self.value(key).is_some()
    }

    fn value(&self, key: &str) -> Option<&'static str> {
        let entries = self.shared.split("; ").chain(self.keys.split("; "));
        entries.filter_map(|entry| entry.split_once(": ")).find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    /// True if it names layers of another family than its model's, which PEFT passes over: adapters on a part of what was meant.
    fn names_other_layers(&self) -> bool {
        !matches!(self.family, Phi) && self.value("lora_target_modules").is_some_and(|names| names.contains("qkv_proj"))
    }

    /// The same as a file of the library, with a template of its tokens.
    fn write(&self, dir: &Path) -> PathBuf {
        let keys: String = [self.shared, self.keys].map(|keys| keys.replace("; ", "\n") + "\n").concat();
        let end = self.value("eos_token").unwrap().trim_matches('\'');
        let turn = format!("<|im_start|>{{{{ message.role }}}}\\n{{{{ message.content | trim }}}}{end}\\n");
        let opened = "{% if add_generation_prompt %}<|im_start|>assistant\\n{% endif %}";
        let template = format!("{{% for message in messages %}}{turn}{{% endfor %}}{opened}");
        let own = format!(
            "model_name_or_path: ORG/MODEL\noutput_dir: {:?}\nchat_template: \"{template}\"\n",
            dir.join("run")
        );
        let path = dir.join("theirs.yaml");
        fs::write(&path, own + &keys).unwrap();
        path
    }

    /// A model of the family, with the file's tokens in the demo's tokenizer; of a reward model where the file starts from one.
    fn model(&self, dir: &Path) -> PathBuf {
        let model = dir.join("model");
        fs::create_dir_all(dir.join("config")).unwrap();
        fs::write(dir.join("config/config.json"), self.family.config().to_string()).unwrap();
        let mut decoder = Decoder::init(&Config::from_dir(dir.join("config")).unwrap(), 1).unwrap();
        if self.has("num_prompts") || self.file.contains("fsfairx") {
            decoder.label_sequences(&Labels::reward(), 1).unwrap();
        }
        decoder.save(&model, &SaveOptions { source: Some(demo("base")), ..SaveOptions::default() }).unwrap();
        let tokens = [("<|endoftext|>", "pad_token"), ("<|im_end|>", "eos_token")];
        for file in ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"] {
            let Ok(mut text) = fs::read_to_string(model.join(file)) else { continue };
            for (known, key) in tokens {
                text = text.replace(known, self.value(key).unwrap().trim_matches('\''));
            }
            fs::write(model.join(file), text).unwrap();
        }
        model
    }

    /// The demo's pairs in the library's format for the file.
    fn rows(&self, dir: &Path) -> PathBuf {
        let path = dir.join("rows.jsonl");
        let preferences = fs::read_to_string(demo("preferences.jsonl")).unwrap();
        let row = |(number, line): (usize, &str)| {
            let pair: Value = serde_json::from_str(line).unwrap();
            let whole =
                [pair["prompt"].as_array().unwrap().clone(), pair["chosen"].as_array().unwrap().clone()].concat();
            let row = match () {
                () if self.has("num_labels") => json!({"prompt": whole, "label": number % 2}),
                () if self.has("conversation_field") => json!({"conversation": whole}),
                () => json!({"prompt": pair["prompt"], "chosen": pair["chosen"], "rejected": pair["rejected"]}),
            };
            row.to_string() + "\n"
        };
        fs::write(&path, preferences.lines().take(40).enumerate().map(row).collect::<String>()).unwrap();
        path
    }
}

/// A run in words: what it trains, and of which weights.
fn described(config: &TrainConfig) -> (String, String) {
    let loss = serde_json::to_value(&config.loss).unwrap();
    let kind = match (loss["loss_type"].as_str(), &config.prompt) {
        (_, Some(_)) => format!("prompts under `{}`", config.loss.loss.kind()),
        (Some(loss_type), None) => format!("`{}`, `{loss_type}`", config.loss.loss.kind()),
        (None, None) => format!("`{}`", config.loss.loss.kind()),
    };
    let listed = |names: &[String]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let weights = match (config.adapter(), &config.unfreeze_layers_patterns[..], &config.prompt) {
        (_, _, Some(prompt)) => format!("none: {} of {} tokens", prompt.count, prompt.length),
        (Some(AdapterStart::Fresh(lora)), ..) => format!("LoRA of rank {} on {}", lora.r, listed(&lora.targets)),
        (Some(AdapterStart::From(_)), ..) => "an adapter".to_owned(),
        (None, [], None) => "all".to_owned(),
        (None, patterns, None) => listed(patterns),
    };
    (kind, weights)
}

/// Settings that make a file run here, as a user gives them.
fn settings(published: &Published, read: &TrainConfig, dir: &Path) -> Vec<String> {
    let rows = published.rows(dir);
    let mut sets = Vec::new();
    if !read.eval_dataset.is_empty() {
        sets.push(format!("eval_dataset={:?}", [&rows]));
    }
    sets.extend([
        format!("model_name_or_path={:?}", published.model(dir)),
        format!("dataset={:?}", vec![&rows; read.dataset.len()]),
        "max_steps=2".to_owned(),
    ]);
    if published.names_other_layers() {
        sets.push("lora_target_modules=[\"all-linear\", \"lm_head\"]".to_owned());
    }
    sets
}

/// The file read and run; its line of the page.
fn line(published: &Published) -> String {
    let name = published.file;
    let dir = tempfile::tempdir().unwrap();
    let path = published.write(dir.path());
    let read = match TrainConfig::read_as(&path, None, &[]) {
        Ok(read) => read.config,
        Err(error) => {
            let error = error.to_string();
            assert!(error.contains("smooth_ipo"), "{name}: {error}");
            return format!(
                "| {name} | refused: no published code defines `smooth_ipo`; `--set loss_type=sigmoid` trains SimPO | |\n"
            );
        }
    };
    let sets = settings(published, &read, dir.path());
    if published.names_other_layers() {
        let (_, without) = sets.split_last().unwrap();
        let config = TrainConfig::read_as(&path, None, without).unwrap().config;
        let error = train_recording(&config).0.unwrap_err().to_string();
        assert!(error.contains("got `qkv_proj` (did you mean `q_proj`?)"), "{name}: {error}");
    }
    let config = TrainConfig::read_as(&path, None, &sets).unwrap_or_else(|error| panic!("{name}: {error}")).config;
    let (finish, records) = train_recording(&config);
    let finish = finish.unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(matches!(finish, Finish::Done { already: false, .. }), "{name}");
    let losses: Vec<f64> = records.iter().filter_map(|record| record.metric("loss")).collect();
    assert!(losses.len() == 2 && losses.iter().all(|loss| loss.is_finite()), "{name}: {losses:?}");
    let (kind, mut weights) = described(&config);
    if published.names_other_layers() {
        weights.push_str(" by `--set`: the file names layers that the model lacks");
    }
    format!("| {name} | {kind} | {weights} |\n")
}

const HEAD: &str = "# effective_llm_alignment, file by file

The configuration files of VikhrModels' library, each loaded as it is and run for two steps on a tiny model of its family, with rows in its
format, by `cargo test --release --workspace --test ela_files`, which writes this page. `smpo train FILE.yaml --set …` gives what a file cannot know: the
model, the data and the steps. Adopted defaults and keys without effect: [imports.md](imports.md).

| file | trains | weights |
|---|---|---|
";

#[test]
fn every_published_file_trains() {
    assert_eq!(PUBLISHED.len(), 35);
    let page: String = std::iter::once(HEAD.to_owned()).chain(PUBLISHED.iter().map(line)).collect();
    let path = repository().join("docs/effective_llm_alignment.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &page).unwrap();
    }
    assert!(
        fs::read_to_string(path).unwrap_or_default() == page,
        "UPDATE_DOCS=1 writes docs/effective_llm_alignment.md"
    );
}

/// The numbers of the files that use the bounds, as they act.
#[test]
fn bounds_and_margins_are_those_of_the_files() {
    let read = |name: &str| {
        let dir = tempfile::tempdir().unwrap();
        let published = PUBLISHED.iter().find(|published| published.file.ends_with(name)).unwrap();
        TrainConfig::read_as(&published.write(dir.path()), None, &[]).unwrap().config
    };
    for (name, beta, margin, sft, clip, floor) in [
        ("best-rs-v12", 1.1, 0.3, 1.0, Some(0.02), Some(-2.3)),
        ("best-rs-v9", 1.2, 0.45, 0.85, Some(0.025), None),
        ("best-rs-v1", 0.7, 0.6, 0.8, None, None),
    ] {
        let config = read(name);
        let Loss::Smpo(loss) = &config.loss.loss else { panic!("{name}") };
        assert_eq!((loss.beta, loss.target_margin, loss.chosen_sft_ratio), (beta, margin, sft), "{name}");
        let transforms = &config.loss.transforms;
        assert_eq!((transforms.lower_clip_percentile, transforms.min_log_prob), (clip, floor), "{name}");
    }
    let ficbook = read("ficbook");
    assert_eq!((ficbook.dataset.len(), &ficbook.dataset_ratio[..]), (3, &[1.0, 1.0, 0.1][..]));
    assert_eq!((ficbook.train_on, ficbook.model_support_system_role), (smpo_data::TrainOn::Everything, false));
    assert_eq!(read("clf-qwen-1.5b-no-tags-full").unfreeze_layers_patterns, ["score", "*.layers.*"]);
}
