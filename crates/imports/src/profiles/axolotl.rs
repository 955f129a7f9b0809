//! axolotl 0.21: SFT, and `rl: dpo | ipo | kto | orpo | simpo`.

use crate::convert::{adapters, axolotl, losses, run, sources, templates};
use crate::profile::Literal::{Real, Text, Whole};
use crate::profile::{
    Default, Group, Key, Keys, Method, Profile, Told, converted, default, nothing, part_of, refused, same, sets,
    tells_method,
};
use crate::translation::Translator;

/// The profile.
pub(crate) static AXOLOTL: Profile = Profile {
    name: "axolotl",
    title: "axolotl 0.21",
    methods: &[SFT, DPO, IPO, KTO, ORPO, SIMPO, REWARD, ONLINE, PRETRAINING],
    method,
    keys: &[Group::Keys(KEYS), Group::Keys(ADAPTERS), Group::Keys(REFUSED), Group::Nothing(NOTHING)],
    defaults: &[DEFAULTS],
    distinctive: &[
        "base_model",
        "micro_batch_size",
        "sequence_len",
        "num_epochs",
        "adapter",
        "lora_target_linear",
        "val_set_size",
        "rl",
        "dataset_prepared_path",
        "sample_packing",
    ],
    adapts: |keys| keys.get("adapter").is_some(),
    finish,
    differences: &[
        "Rows are rendered by the model's own chat template; `chat_template` and the first word of a data set's `type` are \
         compared with it, and a difference is a warning.",
        "SFT rows longer than `sequence_len` are left out there and cut here.",
        "Where neither `warmup_steps` nor `warmup_ratio` is given, 3 % of the steps are warm-up, without the limit of 100.",
    ],
};

const KEYS: &[Key] = &[
    tells_method("rl"),
    converted("base_model", "model_name_or_path", sources::model),
    same("output_dir"),
    sets("sequence_len", "max_length"),
    sets("micro_batch_size", "per_device_train_batch_size"),
    sets("eval_batch_size", "per_device_eval_batch_size"),
    same("gradient_accumulation_steps"),
    sets("num_epochs", "num_train_epochs"),
    converted("max_steps", "max_steps", run::max_steps),
    same("learning_rate"),
    converted("lr_scheduler", "lr_scheduler_type", axolotl::scheduler),
    same("lr_scheduler_kwargs"),
    sets("cosine_min_lr_ratio", "min_lr_ratio"),
    same("warmup_steps"),
    same("warmup_ratio"),
    same("weight_decay"),
    same("adam_beta1"),
    same("adam_beta2"),
    same("adam_epsilon"),
    sets("adam_eps", "adam_epsilon"),
    same("max_grad_norm"),
    converted("optimizer", "", run::optimizer),
    converted("gradient_checkpointing", "gradient_checkpointing", axolotl::checkpointing),
    converted("bf16", "bf16", run::precision),
    converted("bfloat16", "bf16", run::precision),
    converted("fp16", "fp16", run::precision),
    converted("float16", "fp16", run::precision),
    same("seed"),
    converted("datasets", "dataset, dataset_columns", axolotl::datasets),
    converted("test_datasets", "eval_dataset, dataset_columns", axolotl::test_datasets),
    converted("val_set_size", "test_size", run::held_out),
    sets("save_steps", "save_steps"),
    same("save_strategy"),
    converted("saves_per_epoch", "save_steps", axolotl::per_epoch),
    same("save_total_limit"),
    sets("eval_steps", "eval_steps"),
    converted("eval_strategy", "eval_strategy", run::evaluation),
    converted("evaluation_strategy", "eval_strategy", run::evaluation),
    converted("evals_per_epoch", "eval_steps", axolotl::per_epoch),
    same("early_stopping_patience"),
    same("load_best_model_at_end"),
    same("metric_for_best_model"),
    same("greater_is_better"),
    converted("special_tokens", "eos_token, bos_token, pad_token", axolotl::special_tokens),
    converted("tokens", "added_tokens", |t, key, value| t.set(key, "added_tokens", run::names(value))),
    sets("default_system_message", "system_prompt"),
    converted("chat_template", "", templates::compare),
    sets("chat_template_kwargs", "chat_template_kwargs"),
    converted("chat_template_jinja", "chat_template, force_chat_template", axolotl::jinja),
    converted("excess_length_strategy", "", axolotl::excess),
    part_of("revision_of_model", "base_model"),
    converted("tokenizer_config", "", axolotl::of_the_model),
    converted("base_model_config", "", axolotl::of_the_model),
    converted("use_tensorboard", "report_to", axolotl::tensorboard),
];

const ADAPTERS: &[Key] = &[
    converted("adapter", "use_peft", axolotl::adapter),
    sets("lora_model_dir", "adapter_name_or_path").of_adapters(),
    same("lora_r").of_adapters(),
    same("lora_alpha").of_adapters(),
    same("lora_dropout").of_adapters(),
    converted("lora_target_linear", "lora_target_modules", axolotl::target_linear).of_adapters(),
    converted("lora_target_modules", "lora_target_modules", axolotl::target_modules).of_adapters(),
    sets("lora_modules_to_save", "modules_to_save").of_adapters(),
    sets("peft_use_dora", "use_dora").of_adapters(),
    sets("peft_use_rslora", "use_rslora").of_adapters(),
    sets("peft_trainable_token_indices", "trainable_token_indices").of_adapters(),
    refused("lora_target_parameters", &[], "adapters are on layers here: name them in `lora_target_modules`")
        .of_adapters(),
    super::transformers::RESUMED,
    refused("loraplus_lr_ratio", &[], "A and B have one learning rate here; remove it").of_adapters(),
    refused("peft_layers_to_transform", &[], "`lora_target_modules` takes patterns such as model.layers.3.*")
        .of_adapters(),
    sets("peft_init_lora_weights", "init_lora_weights").of_adapters(),
    sets("lora_rank_pattern", "rank_pattern").of_adapters(),
    sets("lora_alpha_pattern", "alpha_pattern").of_adapters(),
    refused("relora", &["false"], "adapters are merged once, at the end; remove it"),
    nothing("lora_fan_in_fan_out"),
];

const NO_QUANTISED: &str = "bases of 8 bits and GPTQ do not exist here; --set load_in_8bit=false --set load_in_4bit=true packs the \
                            base into 4 bits";
const REFUSED: &[Key] = &[
    refused("load_in_8bit", &["false"], NO_QUANTISED),
    converted("load_in_4bit", "load_in_4bit", adapters::four_bit),
    refused("gptq", &["false"], NO_QUANTISED),
    refused(
        "sample_packing",
        &["false"],
        "a batch is so many rows here, not so many full windows; --set sample_packing=false",
    ),
    refused("train_on_inputs", &["false"], "only answers are trained on here; --set train_on_inputs=false"),
    refused("neftune_noise_alpha", &["0"], "embeddings get no noise here; remove it"),
    refused(
        "unfrozen_parameters",
        &[],
        "`unfreeze_layers_patterns` names the modules to train in a file of this project",
    ),
    refused("cosine_constant_lr_ratio", &["0"], "the cosine falls to the end here; remove it"),
    refused("lr_quadratic_warmup", &["false"], "warm-up is linear here; remove it"),
    refused("optim_args", &[], "AdamW has `adam_beta1`, `adam_beta2` and `adam_epsilon`; remove it"),
    refused("optim_target_modules", &[], "remove it"),
    refused("embedding_lr", &[], "all weights have one learning rate here; remove it"),
    refused("embedding_lr_scale", &[], "all weights have one learning rate here; remove it"),
    refused("lr_groups", &[], "all weights have one learning rate here; remove it"),
    refused("added_tokens_overrides", &[], "`tokens` adds tokens; remove it"),
    refused("batch_size", &[], "`gradient_accumulation_steps` and `micro_batch_size` set the size of a step"),
    refused("processor_type", &[], "text models have no place for images and sound"),
    refused("model_quantization_config", &[], NO_QUANTISED),
    refused("eta_min", &[], "`cosine_min_lr_ratio` is the end of the schedule as a share of the peak"),
    refused("qat", &[], "weights are not quantised while they train here; remove it"),
    refused(
        "dataset_exact_deduplication",
        &["false"],
        "`smpo data check` lists duplicates; --set dataset_exact_deduplication=false",
    ),
    refused("trainer_cls", &[], "remove it"),
    refused("llama4_linearized_experts", &["false"], "mixtures of experts are not trained here"),
];

const NOTHING: &[&str] = &[
    "experimental_skip_move_to_device",
    "fused_attn_kernel",
    "gemma4_hybrid_attn_impl",
    "gptq_disable_exllama",
    "gptq_groupsize",
    "gptq_model_v1",
    "model_quantization_config_kwargs",
    "quantize_moe_experts",
    "use_scattermoe",
    "use_sonicmoe",
    "accelerator_config",
    "activation_offloading",
    "attn_implementation",
    "auto_resume_from_checkpoints",
    "base_model_ignore_patterns",
    "bnb_config_kwargs",
    "batch_flattening",
    "context_parallel_size",
    "cls_model_config",
    "cut_cross_entropy",
    "dataloader_num_workers",
    "dataloader_pin_memory",
    "dataloader_prefetch_factor",
    "dataset_keep_in_memory",
    "dataset_num_proc",
    "dataset_prepared_path",
    "dataset_processes",
    "ddp",
    "ddp_find_unused_parameters",
    "ddp_timeout",
    "debug",
    "deepspeed",
    "device_map",
    "do_bench_eval",
    "dp_replicate_size",
    "dp_shard_size",
    "eot_tokens",
    "eager_attention",
    "eval_max_new_tokens",
    "eval_sample_packing",
    "eval_table_size",
    "eval_causal_lm_metrics",
    "do_causal_lm_eval",
    "expert_parallel_size",
    "experts_implementation",
    "flash_attention",
    "flash_attn_cross_entropy",
    "flash_attn_fuse_mlp",
    "flash_attn_rms_norm",
    "flash_optimum",
    "flex_attention",
    "flex_attn_compile_kwargs",
    "fsdp",
    "fsdp_config",
    "fsdp_version",
    "gpu_memory_limit",
    "gradient_checkpointing_kwargs",
    "group_by_length",
    "hf_use_auth_token",
    "hub_model_id",
    "hub_strategy",
    "is_llama_derived_model",
    "lora_mlp_kernel",
    "lora_o_kernel",
    "lora_on_cpu",
    "lora_qkv_kernel",
    "liger_fused_linear_cross_entropy",
    "liger_glu_activation",
    "liger_layer_norm",
    "liger_rms_norm",
    "liger_rms_norm_gated",
    "liger_rope",
    "local_rank",
    "logging_steps",
    "loss_watchdog_patience",
    "loss_watchdog_threshold",
    "low_cpu_mem_usage",
    "lr_div_factor",
    "max_packed_sequence_len",
    "min_sample_len",
    "mlflow_experiment_name",
    "mlflow_tracking_uri",
    "model_config",
    "model_type",
    "otel_metrics_host",
    "otel_metrics_port",
    "pad_to_sequence_len",
    "pad_to_multiple_of",
    "plugins",
    "precompute_ref_log_probs",
    "process_reward_model",
    "push_dataset_to_hub",
    "qlora_sharded_model_loading",
    "ray_num_workers",
    "remove_unused_columns",
    "resize_token_embeddings_to_32x",
    "sample_packing_bin_size",
    "sample_packing_eff_est",
    "sample_packing_group_size",
    "sample_packing_seq_len_multiplier",
    "sample_packing_sequentially",
    "save_first_step",
    "save_only_model",
    "save_safetensors",
    "sdp_attention",
    "shuffle_before_merging_datasets",
    "shuffle_merged_datasets",
    "skip_prepare_dataset",
    "special_tokens_map",
    "strict",
    "swanlab_completion_log_interval",
    "swanlab_completion_max_buffer",
    "swanlab_description",
    "swanlab_experiment_name",
    "swanlab_log_completions",
    "swanlab_log_model",
    "swanlab_mode",
    "swanlab_project",
    "swanlab_workspace",
    "tensor_parallel_size",
    "tf32",
    "tiled_mlp",
    "tokenizer_legacy",
    "tokenizer_type",
    "tokenizer_use_fast",
    "tokenizer_use_mistral_common",
    "torch_compile",
    "torch_compile_backend",
    "torch_compile_mode",
    "torch_dtype",
    "trackio_project_name",
    "trackio_run_name",
    "trackio_space_id",
    "trust_remote_code",
    "use_kernels",
    "use_otel_metrics",
    "use_ray",
    "use_swanlab",
    "use_wandb",
    "wandb_entity",
    "wandb_log_model",
    "wandb_mode",
    "wandb_name",
    "wandb_project",
    "wandb_run_id",
    "wandb_watch",
    "xformers_attention",
    "dpo_use_liger_kernel",
    "dpo_padding_free",
    "hub_revision",
    "include_tokens_per_second",
    "torchdistx_path",
    "gpu_count",
    "gpu",
    "float32",
];

const DEFAULTS: &[Default] = &[
    default("output_dir", Text("./model-out")),
    default("max_length", Whole(512)),
    default("num_train_epochs", Whole(1)).unless(&["max_steps"]),
    default("lr_scheduler_type", Text("cosine")),
    default("warmup_ratio", Real(0.03)).unless(&["warmup_steps"]),
    default("seed", Whole(42)),
    default("save_steps", Text("epoch")).unless(&["save_strategy"]),
    default("save_total_limit", Whole(4)),
    default("lora_r", Whole(8)).of_adapters().unless(&["adapter_name_or_path"]),
    default("lora_alpha", Whole(8)).of_adapters().unless(&["adapter_name_or_path"]),
    default("lora_dropout", Real(0.0)).of_adapters().unless(&["adapter_name_or_path"]),
];

const METHOD: Method =
    Method { name: "", title: "", kind: None, refusal: "", keys: &[], defaults: &[], without_dropout: true };

/// Rows of preferences have no shortest length there.
const SHORTEST: Key = refused(
    "min_sample_len",
    &["0", "1", "2"],
    "no row is too short here: take short ones out of the file, and remove it",
);

const SFT: Method = Method {
    name: "sft",
    title: "SFT",
    kind: Some("sft"),
    keys: &[Group::Keys(&[
        converted("use_eaft", "loss.loss_type, loss.eaft_alpha", losses::weighted),
        part_of("eaft_alpha", "use_eaft"),
        refused("eaft_k", &["20"], "EAFT takes the entropy of the 20 likeliest tokens here; remove it"),
        SHORTEST,
    ])],
    without_dropout: false,
    ..METHOD
};

const BETA: Key = converted("rl_beta", "loss.beta", axolotl::beta);
const TRL: Key = converted("trl", "loss.beta", axolotl::trl);

const DPO: Method = Method {
    name: "dpo",
    title: "DPO",
    kind: Some("dpo"),
    keys: &[Group::Keys(&[
        TRL,
        BETA,
        converted("dpo_loss_type", "loss.loss_type", losses::dpo_loss_type),
        sets("dpo_loss_weights", "loss.loss_weights"),
        converted("dpo_label_smoothing", "loss.label_smoothing", losses::dpo_label_smoothing),
        sets("dpo_use_weighting", "loss.use_weighting"),
    ])],
    defaults: &[default("loss.beta", Real(0.1))],
    ..METHOD
};

const IPO: Method = Method {
    name: "ipo",
    title: "IPO",
    kind: Some("dpo"),
    keys: &[Group::Keys(&[TRL, BETA, sets("dpo_use_weighting", "loss.use_weighting")])],
    defaults: &[default("loss.loss_type", Text("ipo_norm")), default("loss.beta", Real(0.1))],
    ..METHOD
};

const KTO: Method = Method {
    name: "kto",
    title: "KTO",
    kind: Some("kto"),
    keys: &[Group::Keys(&[
        TRL,
        BETA,
        sets("kto_desirable_weight", "loss.desirable_weight"),
        sets("kto_undesirable_weight", "loss.undesirable_weight"),
    ])],
    defaults: &[default("loss.beta", Real(0.1))],
    ..METHOD
};

const ORPO: Method = Method {
    name: "orpo",
    title: "ORPO",
    kind: Some("orpo"),
    keys: &[Group::Keys(&[TRL, BETA, sets("orpo_alpha", "loss.lambda")])],
    defaults: &[default("loss.lambda", Real(0.1))],
    ..METHOD
};

const SIMPO: Method = Method {
    name: "simpo",
    title: "SimPO",
    kind: Some("simpo"),
    keys: &[Group::Keys(&[TRL, BETA, sets("simpo_gamma", "loss.gamma"), sets("cpo_alpha", "loss.sft_weight")])],
    defaults: &[
        default("loss.beta", Real(0.1)),
        default("loss.gamma", Real(0.5)),
        default("loss.sft_weight", Real(1.0)),
    ],
    ..METHOD
};

const REWARD: Method = Method {
    name: "reward",
    title: "reward",
    kind: Some("reward"),
    keys: &[Group::Keys(&[
        tells_method("reward_model"),
        refused("process_reward_model", &["false"], "rewards of single steps are not trained here; remove it"),
        nothing("num_labels"),
        sets("center_rewards_coefficient", "loss.center_rewards_coefficient"),
        SHORTEST,
    ])],
    ..METHOD
};

const ONLINE: Method = Method {
    name: "online",
    title: "online RL",
    refusal: "online RL (GRPO, GDPO, EBFT) is not trained here; smpo trains on rows that exist",
    keys: &[Group::Nothing(&["ebft", "vllm"])],
    ..METHOD
};

const PRETRAINING: Method = Method {
    name: "pretraining",
    title: "pre-training",
    refusal: "plain text is not trained on here: rows are conversations",
    keys: &[Group::Nothing(&[
        "pretraining_dataset",
        "diffusion",
        "streaming",
        "pretrain_multipack_attn",
        "streaming_multipack_buffer_size",
    ])],
    ..METHOD
};

fn method(keys: &Keys<'_>) -> Told {
    let kinds = ["dpo", "ipo", "kto", "orpo", "simpo"];
    if keys.is_true("reward_model") || keys.is_true("process_reward_model") {
        return Told::Method("reward");
    }
    if keys.get("pretraining_dataset").is_some() {
        return Told::Method("pretraining");
    }
    let Some(rl) = keys.get("rl") else { return Told::Method("sft") };
    match rl.as_str() {
        Some("grpo" | "gdpo" | "ebft") => Told::Method("online"),
        Some(kind) if kinds.contains(&kind) => {
            Told::Method(kinds.iter().find(|known| **known == kind).unwrap_or(&"dpo"))
        }
        _ => Told::Unknown { key: "rl", expected: kinds.join(", "), got: rl.clone() },
    }
}

fn finish(t: &mut Translator<'_>) {
    if t.method.name != "sft" {
        super::trl::cut_from_the_start(t);
    }
    if t.method.name == "orpo" {
        super::trl::remarks(t);
    }
}
