//! LLaMA-Factory 0.9: the files of `llamafactory-cli train`, with `dataset_info.json`.

use super::transformers;
use crate::convert::{adapters, dataset_info, factory, losses, run, sources, templates};
use crate::profile::Literal::{Real, Text, Truth, Whole};
use crate::profile::{
    Default, Group, Key, Keys, Method, Profile, Told, converted, default, is, nothing, part_of, refused, same, sets,
    tells_method,
};
use crate::translation::Translator;

/// The profile.
pub(crate) static LLAMA_FACTORY: Profile = Profile {
    name: "llamafactory",
    title: "LLaMA-Factory 0.9",
    methods: &[SFT, DPO, SIMPO, ORPO, KTO, REWARD, PRETRAINING, PPO, EXPORT, V1],
    method,
    keys: &[
        Group::Keys(KEYS),
        Group::Keys(ADAPTERS),
        Group::Keys(REFUSED),
        Group::Nothing(NOTHING),
        Group::All(transformers::KEYS),
    ],
    defaults: &[DEFAULTS, transformers::DEFAULTS],
    distinctive: &[
        "stage",
        "finetuning_type",
        "cutoff_len",
        "pref_loss",
        "pref_beta",
        "lora_rank",
        "lora_target",
        "dataset_dir",
        "template",
        "quantization_bit",
        "export_dir",
        "train_dataset",
        "peft_config",
        "dist_config",
        "infer_backend",
    ],
    adapts: |keys| keys.text("finetuning_type").is_none_or(|kind| kind == "lora"),
    finish,
    differences: &[
        "`pref_ftx` weighs the mean over rows of each row's mean −ℓ⁺ there, and the token mean of the step here: equal for one \
         row a step.",
        "The orpo loss there is a mean over rows too; here its cross-entropy is the token mean of the step.",
        "`template`: the model's own chat template is used here; a named one is compared with it, and a difference is a \
         warning.",
        "`moe_aux_loss_coef` acts in stage SFT alone: the losses of the others there are without it.",
        "Stage rm: the value head there has a bias and a file of its own; here it is the head that transformers' classes have.",
        "Rows longer than `cutoff_len` are cut in proportion to prompt and answer there; here the prompt is cut to half of it \
         and each answer to what is left.",
    ],
};

const KEYS: &[Key] = &[
    tells_method("stage"),
    tells_method("pref_loss"),
    converted("model_name_or_path", "model_name_or_path", sources::model),
    converted("dataset", "dataset, dataset_columns, dataset_ratio", dataset_info::train),
    converted("eval_dataset", "eval_dataset, dataset_columns", dataset_info::evaluation),
    part_of("dataset_dir", "dataset"),
    part_of("max_samples", "dataset"),
    sets("cutoff_len", "max_length"),
    converted("val_size", "test_size", run::held_out),
    converted("template", "", templates::compare),
    converted("mask_history", "train_on", factory::mask_history),
    sets("default_system", "system_prompt"),
    converted("enable_thinking", "chat_template_kwargs", factory::enable_thinking),
    converted("mix_strategy", "", factory::mix_strategy),
    converted("add_tokens", "added_tokens", |t, key, value| t.set(key, "added_tokens", run::names(value))),
    converted("add_special_tokens", "added_special_tokens", |t, key, value| {
        t.set(key, "added_special_tokens", run::names(value));
    }),
    converted("ref_model", "reference_model_name_or_path", sources::reference),
    sets("ref_model_adapters", "reference_model_name_or_path"),
    converted("disable_gradient_checkpointing", "gradient_checkpointing", |t, key, value| {
        run::opposite("gradient_checkpointing", t, key, value);
    }),
    converted("pure_bf16", "bf16", run::precision),
    sets("early_stopping_steps", "early_stopping_patience"),
    nothing("resize_vocab"),
];

const ADAPTERS: &[Key] = &[
    converted("finetuning_type", "use_peft", factory::finetuning_type),
    converted("quantization_bit", "load_in_4bit", adapters::quantization_bit),
    converted("pissa_init", "init_lora_weights", adapters::pissa).of_adapters(),
    part_of("quantization_method", "quantization_bit"),
    part_of("quantization_type", "quantization_bit"),
    part_of("double_quantization", "quantization_bit"),
    converted("adapter_name_or_path", "adapter_name_or_path", factory::adapter),
    sets("lora_rank", "lora_r").of_adapters(),
    same("lora_alpha").of_adapters(),
    same("lora_dropout").of_adapters(),
    sets("lora_target", "lora_target_modules").of_adapters(),
    sets("additional_target", "modules_to_save").of_adapters(),
    same("use_rslora").of_adapters(),
    same("use_dora").of_adapters(),
];

const OPTIMIZER: &str = "AdamW is the only optimizer here; remove it";
const REFUSED: &[Key] = &[
    refused("train_on_prompt", &["false"], "only answers are trained on here; remove it"),
    refused("packing", &["false"], super::trl::PACKING),
    refused("neat_packing", &["false"], super::trl::PACKING),
    refused("interleave_probs", &[], "`dataset_ratio` sets how much of each file is taken"),
    refused("create_new_adapter", &["false"], "merge the first adapter with `smpo export`, then train a new one"),
    refused("loraplus_lr_ratio", &[], "A and B have one learning rate here; remove it"),
    refused("use_llama_pro", &["false"], "blocks are not expanded here; remove it"),
    refused("use_galore", &["false"], OPTIMIZER),
    refused("use_apollo", &["false"], OPTIMIZER),
    refused("use_badam", &["false"], OPTIMIZER),
    refused("use_adam_mini", &["false"], OPTIMIZER),
    refused("use_muon", &["false"], OPTIMIZER),
    refused("use_asft_loss", &["false"], "cross-entropy is not weighted by probability here; remove it"),
    refused("mixture_of_depths", &[], "remove it"),
    refused("shift_attn", &["false"], "attention is as in the model here; remove it"),
    refused("rope_scaling", &[], "positions are as in the model's config.json; set them there"),
    refused("train_from_scratch", &["false"], "set init = \"random\" in a file of this project"),
    refused("fp8", &["false"], "bf16 is the smallest type here; --set fp8=false"),
    refused("split_special_tokens", &["false"], "remove it"),
];

const NOTHING: &[&str] = &[
    "module_dropout",
    "oft_block_size",
    "oft_rank",
    "oft_target",
    "adapter_folder",
    "apollo_layerwise",
    "apollo_proj",
    "apollo_proj_type",
    "apollo_rank",
    "apollo_scale",
    "apollo_scale_front",
    "apollo_scale_type",
    "apollo_target",
    "apollo_update_interval",
    "asft_alpha",
    "audio_sampling_rate",
    "badam_mask_mode",
    "badam_mode",
    "badam_start_block",
    "badam_switch_interval",
    "badam_switch_mode",
    "badam_update_ratio",
    "badam_verbose",
    "buffer_size",
    "cache_dir",
    "compute_accuracy",
    "crop_to_patches",
    "data_shared_file_system",
    "disable_shuffling",
    "enable_liger_kernel",
    "eval_num_beams",
    "eval_on_each_dataset",
    "flash_attn",
    "fp8_backend",
    "fp8_enable_fsdp_float8_all_gather",
    "freeze_extra_modules",
    "freeze_language_model",
    "freeze_multi_modal_projector",
    "freeze_trainable_layers",
    "freeze_trainable_modules",
    "freeze_vision_tower",
    "galore_layerwise",
    "galore_proj_type",
    "galore_rank",
    "galore_scale",
    "galore_target",
    "galore_update_interval",
    "hf_hub_token",
    "ignore_pad_token_for_loss",
    "image_do_pan_and_scan",
    "image_max_pixels",
    "image_min_pixels",
    "include_effective_tokens_per_second",
    "infer_backend",
    "infer_dtype",
    "init_special_tokens",
    "loraplus_lr_embedding",
    "low_cpu_mem_usage",
    "media_dir",
    "moe_aux_loss_coef",
    "ms_hub_token",
    "new_special_tokens_config",
    "offload_folder",
    "om_hub_token",
    "overwrite_cache",
    "pissa_convert",
    "pissa_iter",
    "plot_loss",
    "preprocessing_batch_size",
    "preprocessing_num_workers",
    "preserve_thinking",
    "print_param_status",
    "quantization_device_map",
    "ray_init_kwargs",
    "ray_num_workers",
    "ref_model_quantization_bit",
    "sequence_parallel",
    "streaming",
    "swanlab_api_key",
    "swanlab_logdir",
    "swanlab_mode",
    "swanlab_project",
    "swanlab_run_name",
    "swanlab_workspace",
    "tokenized_path",
    "tool_format",
    "upcast_layernorm",
    "upcast_lmhead_output",
    "use_audio_in_video",
    "use_fast_tokenizer",
    "use_kv_cache",
    "use_mca",
    "use_reentrant_gc",
    "use_swanlab",
    "use_unsloth",
    "use_unsloth_gc",
    "use_v1_kernels",
    "video_fps",
    "video_max_pixels",
    "video_maxlen",
    "video_min_pixels",
    "predict_with_generate",
    "use_kt",
    "kt_config",
    "kt_cpu_activation",
    "kt_weight_path",
    "kt_non_expert_weight_path",
    "disable_dropout",
];

const DEFAULTS: &[Default] = &[
    default("max_length", Whole(2048)),
    default("truncation_mode", Text("keep_start")),
    default("learning_rate", Real(5e-5)),
    default("gradient_checkpointing", Truth(true)),
    default("use_peft", Truth(true)).of_adapters().unless(&["adapter_name_or_path"]),
    default("lora_r", Whole(8)).of_adapters().unless(&["adapter_name_or_path"]),
    default("lora_dropout", Real(0.0)).of_adapters().unless(&["adapter_name_or_path"]),
    default("lora_target_modules", Text("all-linear")).of_adapters().unless(&["adapter_name_or_path"]),
];

const METHOD: Method =
    Method { name: "", title: "", kind: None, refusal: "", keys: &[], defaults: &[], without_dropout: true };

const NO_FTX: &str = "its cross-entropy has the weight 1 here; remove it";
const POLICY_ONLY: &str =
    "it is on the policy alone there, and on policy and reference here; name `ld_alpha` in a file of this project";

const SFT: Method = Method {
    name: "sft",
    title: "SFT",
    kind: Some("sft"),
    keys: &[Group::Keys(&[
        converted("use_dft_loss", "loss.loss_type", losses::weighted),
        converted("use_eaft_loss", "loss.loss_type, loss.eaft_alpha", losses::weighted),
        part_of("eaft_alpha", "use_eaft_loss"),
        converted("moe_aux_loss_coef", "router_aux_loss_coef", factory::moe_aux_loss_coef),
    ])],
    without_dropout: false,
    ..METHOD
};

const DPO: Method = Method {
    name: "dpo",
    title: "DPO",
    kind: Some("dpo"),
    keys: &[Group::Keys(&[
        sets("pref_beta", "loss.beta"),
        sets("pref_ftx", "loss.rpo_alpha"),
        sets("dpo_label_smoothing", "loss.label_smoothing"),
        nothing("simpo_gamma"),
        refused(
            "pref_bco_weight",
            &["0"],
            "its baseline is a running mean there; `loss_type = [\"sigmoid\", \"bco_pair\"]` is without one",
        ),
        refused("ld_alpha", &[], POLICY_ONLY),
    ])],
    defaults: &[default("loss.beta", Real(0.1))],
    ..METHOD
};

const SIMPO: Method = Method {
    name: "simpo",
    title: "DPO (SimPO)",
    kind: Some("simpo"),
    keys: &[Group::Keys(&[
        sets("pref_beta", "loss.beta"),
        sets("simpo_gamma", "loss.gamma"),
        sets("pref_ftx", "loss.sft_weight"),
        nothing("dpo_label_smoothing"),
        nothing("pref_bco_weight"),
        refused("ld_alpha", &[], POLICY_ONLY),
    ])],
    defaults: &[
        default("loss.beta", Real(0.1)),
        default("loss.gamma", Real(0.5)),
        default("loss.sft_weight", Real(0.0)),
    ],
    ..METHOD
};

const ORPO: Method = Method {
    name: "orpo",
    title: "DPO (ORPO)",
    kind: Some("orpo"),
    keys: &[Group::Keys(&[
        sets("pref_beta", "loss.lambda"),
        refused("pref_ftx", &["0"], NO_FTX),
        nothing("simpo_gamma"),
        nothing("dpo_label_smoothing"),
        nothing("pref_bco_weight"),
        refused("ld_alpha", &[], POLICY_ONLY),
    ])],
    defaults: &[default("loss.lambda", Real(0.1))],
    ..METHOD
};

const KTO: Method = Method {
    name: "kto",
    title: "KTO",
    kind: Some("kto"),
    keys: &[Group::Keys(&[
        sets("pref_beta", "loss.beta"),
        sets("kto_chosen_weight", "loss.desirable_weight"),
        sets("kto_rejected_weight", "loss.undesirable_weight"),
        refused("pref_ftx", &["0"], "KTO has no cross-entropy beside it here; remove it"),
    ])],
    defaults: &[default("loss.beta", Real(0.1))],
    ..METHOD
};

const REWARD: Method = Method { name: "rm", title: "reward (stage rm)", kind: Some("reward"), ..METHOD };

const PRETRAINING: Method = Method {
    name: "pt",
    title: "pre-training (stage pt)",
    refusal: "plain text is not trained on here: rows are conversations",
    ..METHOD
};

const PPO: Method = Method {
    name: "ppo",
    title: "PPO",
    refusal: "online RL is not trained here; smpo trains on rows that exist",
    keys: &[Group::Nothing(&[
        "reward_model",
        "reward_model_type",
        "reward_model_adapters",
        "ppo_buffer_size",
        "ppo_epochs",
    ])],
    ..METHOD
};

const EXPORT: Method = Method {
    name: "export",
    title: "export or inference",
    refusal: "the file trains nothing: `smpo export` merges an adapter into its base, `smpo eval` samples from a model",
    keys: &[Group::Nothing(&[
        "export_dir",
        "export_size",
        "export_device",
        "export_legacy_format",
        "export_quantization_bit",
    ])],
    ..METHOD
};

const V1: Method = Method {
    name: "v1",
    title: "v1",
    refusal: "the format of LLaMA-Factory's unreleased v1 is not read; write the keys of 0.9 (`model_name_or_path`, `stage`, …)",
    keys: &[Group::Nothing(&[
        "model",
        "model_class",
        "train_dataset",
        "dist_config",
        "kernel_config",
        "peft_config",
        "quant_config",
        "sample_backend",
        "init_config",
        "micro_batch_size",
    ])],
    ..METHOD
};

/// `stage`, and for dpo `pref_loss`.
fn method(keys: &Keys<'_>) -> Told {
    if keys.has_any(&["train_dataset", "dist_config", "kernel_config", "peft_config", "model_class"]) {
        return Told::Method("v1");
    }
    let infers = keys.has_any(&["export_dir", "infer_backend"]) && keys.get("stage").is_none();
    let predicts = keys.is_true("do_predict") && !keys.is_true("do_train");
    if infers || predicts {
        return Told::Method("export");
    }
    let stages = ["sft", "dpo", "kto", "rm", "ppo", "pt"];
    let stage = match keys.get("stage") {
        None => return Told::Method("sft"),
        Some(stage) => stages.iter().find(|name| is(stage, name)).ok_or(stage),
    };
    match (stage, keys.get("pref_loss")) {
        (Err(got), _) => Told::Unknown { key: "stage", expected: stages.join(", "), got: got.clone() },
        (Ok(&"dpo"), Some(loss)) => match loss.as_str() {
            Some("simpo") => Told::Method("simpo"),
            Some("orpo") => Told::Method("orpo"),
            Some("sigmoid" | "hinge" | "ipo") => Told::Method("dpo"),
            _ => Told::Unknown {
                key: "pref_loss",
                expected: "sigmoid, hinge, ipo, orpo, simpo".into(),
                got: loss.clone(),
            },
        },
        (Ok(&stage), _) => Told::Method(stage),
    }
}

fn finish(t: &mut Translator<'_>) {
    factory::loss_type(t);
    factory::alpha(t);
    factory::row_means(t);
}
