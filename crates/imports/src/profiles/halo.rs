//! Halo 1.1 (whitecircle): SMPO beside TRL's SFT, DPO and KTO.

use super::{model_config, transformers, trl};
use crate::convert::{adapters, hub_names, lengths, losses, templates};
use crate::profile::Literal::{Real, Truth, Whole};
use crate::profile::{
    Default, Group, Key, Keys, Method, Profile, Told, converted, default, refused, same, sets, sets_or_off,
};
use crate::translation::Translator;

/// The profile.
pub(crate) static HALO: Profile = Profile {
    name: "halo",
    title: "Halo 1.1",
    methods: &[SMPO, DPO, KTO, SFT, REWARD, CLASSIFICATION, ONLINE],
    method,
    keys: &[
        Group::Keys(KEYS),
        Group::All(model_config::KEYS),
        Group::Nothing(NOTHING),
        Group::Keys(trl::EXPERTS),
        Group::Nothing(trl::NOTHING),
        Group::All(transformers::KEYS),
    ],
    defaults: &[DEFAULTS, model_config::DEFAULTS, transformers::DEFAULTS],
    distinctive: &[
        "initial_margin",
        "generation_max_prompt_length",
        "num_eval_examples",
        "moe_balancing",
        "expert_parallel_size",
        "train_on_completions_only",
        "model_supports_system_role",
        "train_on_last_assistant_only",
        "freeze_layers_patterns",
        "tokenizer_backend",
        "completion_field",
        "label_field",
    ],
    adapts: |keys| keys.is_true("use_peft"),
    finish,
    differences: &[
        "Winsorizing, floor and ceiling of SMPO act there as here, over the micro-batch; an answer that is cut keeps its \
         terminator there and has none here.",
        "The margin rises from `initial_margin` to `target_margin`; warm-up, order of rows and held-out rows as under TRL.",
    ],
};

const KEYS: &[Key] = &[
    lengths::MAX_LENGTH,
    same("max_prompt_length"),
    same("truncation_mode"),
    same("pad_token"),
    same("bos_token"),
    same("eos_token"),
    same("test_size"),
    same("dataset_ratio"),
    same("added_special_tokens"),
    same("system_prompt"),
    same("force_chat_template"),
    converted("chat_template", "chat_template", templates::text_or_path),
    converted("dataset", "dataset", hub_names::halo),
    converted("unfreeze_layers_patterns", "unfreeze_layers_patterns", hub_names::unfreeze),
    sets("model_supports_system_role", "model_support_system_role"),
    refused("freeze_layers_patterns", &[], "`unfreeze_layers_patterns` names the modules to train"),
    refused("tools_field", &["tools"], "tools are read from the column `tools`: rename it"),
    refused("completion_field", &["completion"], "`dataset_columns` names the columns in a file of this project"),
    refused("label_field", &["label"], "`dataset_columns` names the columns in a file of this project"),
    refused("images_field", &[], "text models have no place for images"),
];

const NOTHING: &[&str] = &[
    "context_parallel_size",
    "data_parallel_size",
    "enable_efficiency_metrics",
    "enable_moe_metrics",
    "enable_torch_profiler",
    "expert_parallel_size",
    "generate_eval_examples",
    "log_decoded_samples",
    "moe_balancing",
    "num_eval_examples",
    "num_full_model_params",
    "profiler_active",
    "profiler_output_dir",
    "profiler_ranks",
    "profiler_record_memory_snapshot",
    "profiler_wait",
    "profiler_warmup",
    "project_name",
    "report_mfu_diagnostics",
    "reset_sinks",
    "router_balancing_rate",
    "save_completions",
    "tensor_parallel_size",
    "tokenizer_backend",
    "generation_max_prompt_length",
];

const DEFAULTS: &[Default] =
    &[default("max_length", Whole(1024)), transformers::BF16, default("gradient_checkpointing", Truth(true))];

const SMPO: Method = Method {
    name: "smpo",
    title: "SMPO",
    kind: Some("smpo"),
    refusal: "",
    keys: &[Group::Keys(&[
        sets("beta", "loss.beta"),
        sets("target_margin", "loss.target_margin"),
        sets("initial_margin", "loss.initial_margin"),
        sets("use_margin_schedule", "loss.use_margin_schedule"),
        sets("chosen_sft_ratio", "loss.chosen_sft_ratio"),
        sets("loss_type", "loss.loss_type"),
        sets_or_off("lower_clip_percentile", "loss.lower_clip_percentile"),
        sets_or_off("upper_clip_percentile", "loss.upper_clip_percentile"),
        sets_or_off("min_log_prob", "loss.min_log_prob"),
    ])],
    defaults: &[
        default("loss.loss_type", crate::profile::Literal::Text("smooth_lower_bound")),
        default("loss.beta", Real(1.2)),
        default("loss.target_margin", Real(0.35)),
        default("loss.initial_margin", Real(0.01)),
        default("loss.use_margin_schedule", Truth(true)),
        default("loss.chosen_sft_ratio", Real(0.8)),
        default("loss.lower_clip_percentile", Real(0.02)),
        default("loss.min_log_prob", Real(-2.3)),
        default("learning_rate", Real(1e-6)),
    ],
    without_dropout: true,
};

const DPO: Method = trl::DPO;
const KTO: Method = trl::KTO;

const SFT: Method = Method {
    keys: &[
        Group::Keys(&[
            refused("train_on_completions_only", &["true"], "only answers are trained on here; remove it"),
            converted("train_on_last_assistant_only", "train_on", hub_names::last_only),
            refused("interleaved_thinking", &["false"], "`chat_template_kwargs` sets the template's variables"),
            refused("packing", &["false"], trl::PACKING),
            converted("loss_type", "", losses::sft_loss_type),
        ]),
        Group::Nothing(&["assistant_message_template", "conversation_field", "eval_packing", "packing_strategy"]),
    ],
    ..trl::SFT
};

const REWARD: Method = trl::REWARD;
const CLASSIFICATION: Method = Method {
    name: "classification",
    title: "classification",
    kind: None,
    refusal: "classifiers are not trained here",
    keys: &[Group::Nothing(&["num_labels", "id2label"])],
    defaults: &[],
    without_dropout: false,
};
const ONLINE: Method = Method {
    name: "other",
    title: "GRPO, distillation or embedding",
    kind: None,
    refusal: "smpo trains on answers that exist, with the losses of docs/losses.md",
    keys: &[Group::Nothing(OTHERS)],
    defaults: &[],
    without_dropout: false,
};
const OTHERS: &[&str] = &[
    "num_generations",
    "reward_funcs",
    "use_vllm",
    "teacher_model_name_or_path",
    "teacher_model",
    "distill_loss",
    "kl_beta",
    "advantage_normalization",
    "environment",
    "environment_class",
    "rollout",
    "pooling_mode",
    "anchor_field",
    "positive_field",
    "max_completion_tokens",
    "divergence",
    "self_distillation_loss",
    "privileged_hint_template",
    "drop_degenerate_groups",
    "num_iterations",
];

fn method(keys: &Keys<'_>) -> Told {
    if keys.has_any(OTHERS) {
        return Told::Method("other");
    }
    if keys.get("num_labels").is_some() {
        return Told::Method("classification");
    }
    if keys.get("center_rewards_coefficient").is_some() || keys.text("lora_task_type") == Some("SEQ_CLS") {
        return Told::Method("reward");
    }
    if keys.has_any(&["chosen_sft_ratio", "target_margin", "initial_margin", "use_margin_schedule"]) {
        return Told::Method("smpo");
    }
    let of_sft = ["assistant_message_template", "conversation_field", "train_on_completions_only", "packing"];
    match (keys.has_any(&of_sft), keys.text("loss_type")) {
        (true, _) => Told::Method("sft"),
        (_, Some("kto" | "apo_zero_unpaired")) => Told::Method("kto"),
        _ if keys.has_any(&["desirable_weight", "undesirable_weight"]) => Told::Method("kto"),
        (_, Some(_)) => Told::Method("dpo"),
        _ => Told::Ambiguous,
    }
}

fn finish(t: &mut Translator<'_>) {
    if t.method.name != "smpo" {
        trl::cut_from_the_start(t);
    }
    adapters::peft_targets(t);
}
