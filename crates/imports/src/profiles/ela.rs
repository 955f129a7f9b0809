//! effective_llm_alignment (VikhrModels), with the spellings of its published files and of its HEAD.

use super::{model_config, transformers, trl};
use crate::convert::{adapters, hub_names, lengths, losses, run};
use crate::profile::Literal::{Real, Text, Truth, Whole};
use crate::profile::{Default, Group, Key, Keys, Method, Profile, Told, converted, default, refused, same, sets};
use crate::translation::Translator;

/// The profile.
pub(crate) static ELA: Profile = Profile {
    name: "ela",
    title: "effective_llm_alignment",
    methods: &[SMPO, DPO, SIMPO, CPO, ORPO, SFT, REWARD, CLASSIFICATION, PROMPTS, SFT_PROMPTS, GPO],
    method,
    keys: &[
        Group::Keys(KEYS),
        Group::All(model_config::KEYS),
        Group::Nothing(NOTHING),
        Group::Keys(trl::EXPERTS),
        Group::Nothing(trl::NOTHING),
        Group::All(transformers::KEYS),
    ],
    defaults: &[model_config::DEFAULTS, transformers::DEFAULTS],
    distinctive: &[
        "margin_min",
        "margin_delta",
        "evaluation_strategy",
        "lower_trim_percentile",
        "upper_trim_percentile",
        "gamma_beta_ratio",
        "train_only_on_completions",
        "num_gen_examples",
        "generate_during_eval",
        "model_support_system_role",
        "use_liger",
        "num_prompts",
    ],
    adapts: |keys| keys.is_true("use_peft"),
    finish,
    differences: &[
        "What each published file trains here: [effective_llm_alignment.md](effective_llm_alignment.md).",
        "`lower_clip_percentile`, `upper_clip_percentile` and `min_log_prob` change no number in the library's code: absent \
         ones are off here, and those that a file has act here, with a remark.",
        "`chosen` and `rejected` are rendered after their prompt, not alone; the logged losses are those of the answers.",
        "GPO never ran there (five faults); its loss is computed as it was meant. Advantages are not divided by the deviation + 1e-4 \
         but by the deviation, and groups without one are left out.",
        "`pad_token`, `bos_token` and `eos_token` that are absent leave the tokenizer as it is.",
        "Classifiers take their labels from the data there and here; `num_labels` must be their number.",
        "Learned prompts stand where the chat template puts the system message, behind BOS; rows that are longer than \
         `max_length` with them are left out, not cut. The forbidden-token term is left out: those tokens cannot be chosen. \
         The likeness of prompts is a mean over pairs of prompts alone, the noise is drawn once an optimizer step, and what is \
         kept are the prompts with the lowest held-out loss.",
    ],
};

const KEYS: &[Key] = &[
    lengths::MAX_LENGTH,
    sets("max_seq_length", "max_length"),
    same("max_prompt_length"),
    same("truncation_mode"),
    same("pad_token"),
    same("bos_token"),
    same("eos_token"),
    same("test_size"),
    same("dataset_ratio"),
    same("added_special_tokens"),
    same("chat_template"),
    same("force_chat_template"),
    converted("dataset", "dataset, eval_dataset", hub_names::ela),
    converted("unfreeze_layers_patterns", "unfreeze_layers_patterns", hub_names::unfreeze),
];

const NOTHING: &[&str] =
    &["generate_eval_examples", "num_gen_examples", "project_name", "use_liger", "group_by_length"];

const METHOD: Method =
    Method { name: "", title: "", kind: None, refusal: "", keys: &[], defaults: &[], without_dropout: true };
const RATE: Default = default("learning_rate", Real(5e-5));

const SMPO: Method = Method {
    name: "smpo",
    title: "SMPO",
    kind: Some("smpo"),
    keys: &[Group::Keys(&[
        sets("beta", "loss.beta"),
        sets("target_margin", "loss.target_margin"),
        sets("margin_min", "loss.target_margin"),
        sets("margin_delta", "loss.margin_delta"),
        sets("chosen_sft_ratio", "loss.chosen_sft_ratio"),
        sets("use_margin_schedule", "loss.use_margin_schedule"),
        sets("loss_type", "loss.loss_type"),
        converted("lower_clip_percentile", "loss.lower_clip_percentile", losses::clip),
        converted("lower_trim_percentile", "loss.lower_clip_percentile", losses::clip),
        converted("upper_clip_percentile", "loss.upper_clip_percentile", losses::clip),
        converted("upper_trim_percentile", "loss.upper_clip_percentile", losses::clip),
        converted("min_log_prob", "loss.min_log_prob", losses::clip),
    ])],
    defaults: &[
        default("loss.loss_type", Text("smooth_lower_bound")),
        default("loss.beta", Real(1.2)),
        default("loss.target_margin", Real(0.35)),
        default("loss.chosen_sft_ratio", Real(0.8)),
        default("loss.use_margin_schedule", Truth(true)),
        RATE,
    ],
    ..METHOD
};

const SIMPO: Method = Method {
    name: "simpo",
    title: "SimPO",
    kind: Some("simpo"),
    keys: &[Group::Keys(&[
        sets("beta", "loss.beta"),
        converted("gamma_beta_ratio", "loss.gamma", losses::gamma_of_ratio),
        sets("simpo_gamma", "loss.gamma"),
        sets("sft_weight", "loss.sft_weight"),
        converted("loss_type", "", losses::simpo_loss_type),
        refused("label_smoothing", &["0"], "SimPO has no label smoothing here; remove it"),
    ])],
    defaults: &[
        default("loss.beta", Real(2.0)),
        default("loss.gamma", Real(0.5)),
        default("loss.sft_weight", Real(0.0)),
        default("learning_rate", Real(1e-6)),
    ],
    ..METHOD
};

const DPO: Method =
    Method { defaults: &[default("loss.beta", Real(0.1)), default("learning_rate", Real(1e-6)), LENGTH], ..trl::DPO };
const CPO: Method = trl::CPO;
const ORPO: Method = trl::ORPO;
const LENGTH: Default = default("max_length", Whole(1024));

const SFT: Method = Method {
    name: "sft",
    title: "SFT",
    kind: Some("sft"),
    keys: &[
        Group::Keys(&[
            converted("train_only_on_completions", "train_on", run::only_completions),
            same("system_prompt"),
            same("model_support_system_role"),
            refused("packing", &["false"], trl::PACKING),
        ]),
        Group::Nothing(&["assistant_message_template", "conversation_field"]),
    ],
    defaults: &[default("learning_rate", Real(2e-5)), LENGTH],
    without_dropout: false,
    ..METHOD
};

const REWARD: Method = Method { defaults: &[default("learning_rate", Real(1e-5)), LENGTH], ..trl::REWARD };
const CLASSIFICATION: Method = Method {
    name: "classification",
    title: "classification",
    kind: Some("classification"),
    keys: &[Group::Keys(&[sets("num_labels", "loss.num_labels")])],
    defaults: &[RATE, LENGTH],
    ..METHOD
};
/// Keys of learned prompts.
const PROMPT: &[Group] = &[
    Group::Keys(&[
        sets("num_prompts", "prompt.count"),
        sets("prompt_len", "prompt.length"),
        sets("dissim_coef", "prompt.dissimilarity"),
        sets("gumbel_temp", "prompt.temperature"),
        sets("gumbel_noise_scale", "prompt.noise"),
        sets("forbidden_token_ids", "prompt.forbidden_token_ids"),
        sets("inserted_chat_role", "prompt.role"),
        sets("init_prompt", "prompt.init"),
    ]),
    Group::Nothing(&["special_token_coef", "fused_forward"]),
];
const COUNT: Default = default("prompt.count", Whole(3));
const PLACES: Default = default("prompt.length", Whole(128));
const DISSIMILARITY: Default = default("prompt.dissimilarity", Real(0.3));
const TEMPERATURE: Default = default("prompt.temperature", Real(0.5));
const NOISE: Default = default("prompt.noise", Real(0.05));
const ROLE: Default = default("prompt.role", Text("system"));

const PROMPTS: Method = Method {
    name: "prompts",
    title: "prompt optimisation",
    keys: &[Group::All(PROMPT), Group::All(trl::REWARD.keys)],
    defaults: &[COUNT, PLACES, DISSIMILARITY, TEMPERATURE, NOISE, ROLE, default("learning_rate", Real(1e-5)), LENGTH],
    ..REWARD
};
const SFT_PROMPTS: Method = Method {
    name: "sft-prompts",
    title: "prompt optimisation (SFT)",
    keys: &[Group::All(PROMPT), Group::All(SFT.keys)],
    defaults: &[COUNT, PLACES, DISSIMILARITY, TEMPERATURE, NOISE, ROLE, default("learning_rate", Real(2e-5)), LENGTH],
    ..SFT
};
const GPO: Method = Method {
    name: "gpo",
    title: "GPO",
    kind: Some("gpo"),
    keys: &[Group::Keys(&[
        sets("kl_beta", "loss.kl_beta"),
        converted("max_completion_length", "max_length", run::completion_length),
        converted("lower_clip_percentile", "loss.lower_clip_percentile", losses::clip),
        converted("upper_clip_percentile", "loss.upper_clip_percentile", losses::clip),
        converted("min_log_prob", "loss.min_log_prob", losses::clip),
    ])],
    defaults: &[
        default("loss.loss_type", Text("prob_weighted")),
        default("loss.advantage", Text("z_norm")),
        default("loss.normalization", Text("group")),
        default("loss.kl_beta", Real(0.0)),
        default("max_prompt_length", Whole(512)),
        default("max_length", Whole(1536)),
        RATE,
    ],
    ..METHOD
};

fn method(keys: &Keys<'_>) -> Told {
    let of_sft = ["conversation_field", "train_only_on_completions", "max_seq_length", "model_support_system_role"];
    if keys.has_any(&["num_prompts", "gumbel_temp", "prompt_len"]) {
        return Told::Method(if keys.has_any(&of_sft) { "sft-prompts" } else { "prompts" });
    }
    if keys.get("num_labels").is_some() {
        return Told::Method("classification");
    }
    if keys.get("center_rewards_coefficient").is_some() || keys.text("lora_task_type") == Some("SEQ_CLS") {
        return Told::Method("reward");
    }
    if keys.get("kl_beta").is_some() {
        return Told::Method("gpo");
    }
    if keys.has_any(&["chosen_sft_ratio", "target_margin", "margin_min", "margin_delta", "use_margin_schedule"]) {
        return Told::Method("smpo");
    }
    if keys.has_any(&["gamma_beta_ratio", "simpo_gamma"]) || keys.text("loss_type") == Some("simpo") {
        return Told::Method("simpo");
    }
    if keys.get("cpo_alpha").is_some() {
        return Told::Method("cpo");
    }
    if keys.has_any(&of_sft) {
        return Told::Method("sft");
    }
    if keys.has_any(&["loss_type", "rpo_alpha", "reference_free", "label_smoothing", "f_divergence_type"]) {
        return Told::Method("dpo");
    }
    // reward models are the one thing that is trained on scores alone: no key of a loss, and the head unfrozen
    let head = |key: &str| keys.get(key).is_some_and(|value| value.to_string().contains("score"));
    if head("unfreeze_layers_patterns") || head("lora_modules_to_save") {
        return Told::Method("reward");
    }
    Told::Ambiguous
}

fn finish(t: &mut Translator<'_>) {
    // sequences of a head of labels are cut at their end, wherever the prompt ends
    if t.method.name == "reward" {
        trl::cut_from_the_start(t);
    }
    adapters::peft_targets(t);
}
