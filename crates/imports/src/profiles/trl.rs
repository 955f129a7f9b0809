//! TRL 1.16: the files of `trl sft`, `trl dpo`, `trl kto` and `trl reward`, and those of its CPO (SimPO, AlphaPO) and ORPO
//! trainers. Keys that earlier releases had are read too, and those of the alignment-handbook's recipes.

use serde_json::Value;

use super::{model_config, transformers};
use crate::convert::{adapters, lengths, losses, mixture, sources, templates};
use crate::profile::Literal::{Real, Text, Truth, Whole};
use crate::profile::{
    Default, Group, Key, Keys, Method, Profile, Told, converted, default, nothing, part_of, refused, same, sets,
    tells_method,
};
use crate::translation::Translator;

/// The profile.
pub(crate) static TRL: Profile = Profile {
    name: "trl",
    title: "TRL 1.16",
    methods: &[SFT, DPO, KTO, CPO, SIMPO, ALPHAPO, ORPO, TPO, REWARD, ONLINE],
    method,
    keys: &[
        Group::Keys(&[
            lengths::MAX_LENGTH,
            sets("max_seq_length", "max_length"),
            same("max_prompt_length"),
            same("truncation_mode"),
            same("pad_token"),
            same("eos_token"),
            converted("dataset_name", "dataset, eval_dataset", mixture::dataset_name),
            part_of("dataset_config", "dataset_name"),
            part_of("dataset_train_split", "dataset_name"),
            part_of("dataset_test_split", "dataset_name"),
            converted("datasets", "dataset, dataset_ratio", mixture::datasets),
            converted("dataset_mixer", "dataset, dataset_ratio, eval_dataset", mixture::mixer),
            part_of("dataset_splits", "dataset_mixer"),
            part_of("dataset_configs", "dataset_mixer"),
            refused("auto_insert_empty_system_msg", &["false"], "the chat template decides; remove it"),
            nothing("preprocessing_num_workers"),
            sets("test_split_size", "test_size"),
            converted("chat_template_path", "chat_template, force_chat_template", templates::path),
        ]),
        Group::All(model_config::KEYS),
        Group::Keys(EXPERTS),
        Group::Nothing(NOTHING),
        Group::All(transformers::KEYS),
    ],
    defaults: &[DEFAULTS, model_config::DEFAULTS, transformers::DEFAULTS],
    distinctive: &[
        "dataset_name",
        "dataset_mixer",
        "dataset_splits",
        "datasets",
        "dataset_config",
        "dataset_train_split",
        "dataset_test_split",
        "cpo_alpha",
        "test_split_size",
        "precompute_ref_log_probs",
        "loss_weights",
        "dataset_text_field",
        "assistant_only_loss",
        "completion_only_loss",
    ],
    adapts: |keys| keys.is_true("use_peft"),
    finish,
    differences: &[
        "Of conversations TRL also learns what the template writes after the terminator (a line feed), and CPO and ORPO one more \
         EOS; here a completion ends with its terminator. Rows of text are the same.",
        "`label_smoothing` is one of `robust`, `exo_pair`, `aot` and `aot_unpaired` alone: TRL's `sigmoid` has none.",
        "ORPO: TRL's cross-entropy is over prompt and answer, here it is over the answer, as in the paper.",
        "CPO, SimPO with `cpo_alpha` and `loss_type: sft`: the cross-entropy is the token mean of a micro-batch there, of the \
         optimizer step here; without accumulation they are equal.",
        "Warm-up begins at 1/(n + 1) of the peak here and at 0 there; the order of rows is another one, whatever `group_by_length` and `data_seed` \
         say; held-out rows are \
         drawn by another generator.",
        "Routed experts: without `router_aux_loss_coef` the coefficient of the model's config.json counts there; here only where \
         that has `output_router_logits` too.",
        "Reward models: a row that is longer than `max_length` is left out there and cut here.",
        "Answers that `max_length` cuts have no terminator on either side; a row whose prompt fills `max_length` is left out \
         there and an error here (`on_bad_rows = \"drop\"` leaves it out).",
    ],
};

/// Settings of models with routed experts.
pub(super) const EXPERTS: &[Key] = &[same("router_aux_loss_coef")];

/// Settings of all methods that change nothing here.
pub(super) const NOTHING: &[&str] = &[
    "activation_offloading",
    "dataset_batch_size",
    "dataset_num_proc",
    "dataset_streaming",
    "disable_dropout",
    "env",
    "generate_during_eval",
    "ignore_bias_buffers",
    "is_encoder_decoder",
    "label_pad_token_id",
    "max_completion_length",
    "max_target_length",
    "pad_to_multiple_of",
    "padding_free",
    "padding_value",
    "streaming",
];

const DEFAULTS: &[Default] = &[
    default("max_length", Whole(1024)),
    transformers::BF16,
    CHECKPOINTING,
    default("output_dir", Text("trainer_output")),
];
const CHECKPOINTING: Default = default("gradient_checkpointing", Truth(true));
/// Older releases' names, and settings of the reference model.
const REFERENCE: Group = Group::Nothing(&[
    "force_use_ref_model",
    "model_adapter_name",
    "precompute_ref_batch_size",
    "precompute_ref_log_probs",
    "ref_adapter_name",
    "use_logits_to_keep",
]);
const SYNC: &[Key] = &[
    same("sync_ref_model"),
    same("ref_model_mixup_alpha"),
    same("ref_model_sync_steps"),
    converted("ref_model_init_kwargs", "", sources::loading),
];
const BETA: Key = sets("beta", "loss.beta");

const METHOD: Method =
    Method { name: "", title: "", kind: None, refusal: "", keys: &[], defaults: &[], without_dropout: true };

pub(super) const DPO: Method = Method {
    name: "dpo",
    title: "DPO",
    kind: Some("dpo"),
    keys: &[
        Group::Keys(&[
            BETA,
            converted("loss_type", "loss.loss_type", losses::dpo_loss_type),
            sets("loss_weights", "loss.loss_weights"),
            converted("label_smoothing", "loss.label_smoothing", losses::dpo_label_smoothing),
            sets("f_divergence_type", "loss.f_divergence_type"),
            sets("f_alpha_divergence_coef", "loss.f_alpha_divergence_coef"),
            sets("discopop_tau", "loss.discopop_tau"),
            sets("ld_alpha", "loss.ld_alpha"),
            sets("rpo_alpha", "loss.rpo_alpha"),
            sets("reference_free", "loss.reference_free"),
            sets("use_weighting", "loss.use_weighting"),
        ]),
        Group::Keys(SYNC),
        REFERENCE,
    ],
    defaults: &[default("loss.beta", Real(0.1)), LEARNING_RATE],
    ..METHOD
};
const LEARNING_RATE: Default = default("learning_rate", Real(1e-6));

pub(super) const KTO: Method = Method {
    name: "kto",
    title: "KTO",
    kind: Some("kto"),
    keys: &[
        Group::Keys(&[
            BETA,
            sets("loss_type", "loss.loss_type"),
            sets("desirable_weight", "loss.desirable_weight"),
            sets("undesirable_weight", "loss.undesirable_weight"),
        ]),
        Group::Keys(SYNC),
        REFERENCE,
    ],
    defaults: &[default("loss.beta", Real(0.1)), LEARNING_RATE],
    ..METHOD
};

pub(super) const CPO: Method = Method {
    name: "cpo",
    title: "CPO",
    kind: Some("cpo"),
    keys: &[Group::Keys(&[
        BETA,
        sets("loss_type", "loss.loss_type"),
        sets("cpo_alpha", "loss.cpo_alpha"),
        sets("label_smoothing", "loss.label_smoothing"),
        sets("alpha", "loss.alpha"),
        nothing("simpo_gamma"),
    ])],
    defaults: &[default("loss.beta", Real(0.1)), default("loss.cpo_alpha", Real(1.0)), LEARNING_RATE],
    ..METHOD
};

const NO_SMOOTHING: Key = refused("label_smoothing", &["0"], "SimPO has no label smoothing here; remove it");

pub(super) const SIMPO: Method = Method {
    name: "simpo",
    title: "CPO (SimPO)",
    kind: Some("simpo"),
    keys: &[Group::Keys(&[
        BETA,
        tells_method("loss_type"),
        sets("simpo_gamma", "loss.gamma"),
        sets("cpo_alpha", "loss.sft_weight"),
        sets("alpha", "loss.alpha"),
        NO_SMOOTHING,
    ])],
    defaults: &[
        default("loss.beta", Real(0.1)),
        default("loss.gamma", Real(0.5)),
        default("loss.sft_weight", Real(1.0)),
        LEARNING_RATE,
    ],
    ..METHOD
};

const ALPHAPO: Method = Method {
    name: "alphapo",
    title: "CPO (AlphaPO)",
    kind: Some("simpo"),
    keys: &[Group::Keys(&[
        BETA,
        tells_method("loss_type"),
        sets("simpo_gamma", "loss.gamma"),
        nothing("cpo_alpha"),
        sets("alpha", "loss.alpha"),
        NO_SMOOTHING,
    ])],
    defaults: &[
        default("loss.beta", Real(0.1)),
        default("loss.gamma", Real(0.5)),
        default("loss.sft_weight", Real(0.0)),
        LEARNING_RATE,
    ],
    ..METHOD
};

pub(super) const ORPO: Method = Method {
    name: "orpo",
    title: "ORPO",
    kind: Some("orpo"),
    keys: &[Group::Keys(&[sets("beta", "loss.lambda")])],
    defaults: &[default("loss.lambda", Real(0.1)), LEARNING_RATE],
    ..METHOD
};

pub(super) const SFT: Method = Method {
    name: "sft",
    title: "SFT",
    kind: Some("sft"),
    keys: &[
        Group::Keys(&[
            refused("packing", &["false"], PACKING),
            refused("eval_packing", &["false"], PACKING),
            refused("completion_only_loss", &["true"], "only answers are trained on here; remove it"),
            converted("loss_type", "", losses::sft_loss_type),
            refused("dataset_kwargs", &[], "remove it"),
        ]),
        Group::Nothing(&["assistant_only_loss", "dataset_text_field", "packing_strategy", "shuffle_dataset"]),
    ],
    defaults: &[default("learning_rate", Real(2e-5))],
    without_dropout: false,
    ..METHOD
};
pub(super) const PACKING: &str = "a batch is so many rows here, not so many full windows; --set packing=false (rows are \
                                  packed without padding all the same, and `gradient_accumulation_steps` sets the size of a step)";

const TPO: Method = Method {
    name: "tpo",
    title: "TPO",
    refusal: "TPO's rows have three answers, which no loss here compares",
    keys: &[Group::Nothing(&["tpo_alpha", "tpo_l_gamma"])],
    ..METHOD
};

pub(super) const REWARD: Method = Method {
    name: "reward",
    title: "reward",
    kind: Some("reward"),
    keys: &[Group::Keys(&[sets("center_rewards_coefficient", "loss.center_rewards_coefficient")])],
    defaults: &[default("learning_rate", Real(1e-4))],
    ..METHOD
};

const ONLINE: Method = Method {
    name: "grpo",
    title: "online RL",
    refusal: "online RL (GRPO, RLOO, online DPO) is not trained here; smpo trains on rows that exist",
    keys: &[Group::Nothing(&[
        "num_generations",
        "reward_funcs",
        "use_vllm",
        "reward_model_path",
        "vllm_mode",
        "teacher_model_name_or_path",
    ])],
    ..METHOD
};

/// Values of `loss_type` that only DPO has; `sigmoid`, `hinge` and `ipo` are CPO's too, beside a key of its own.
fn method(keys: &Keys<'_>) -> Told {
    let loss_type = keys.get("loss_type");
    let named = |names: &[&str]| loss_type.and_then(Value::as_str).is_some_and(|name| names.contains(&name));
    if keys.has_any(&["num_generations", "reward_funcs", "use_vllm", "reward_model_path", "teacher_model_name_or_path"])
    {
        return Told::Method("grpo");
    }
    if keys.has_any(&["tpo_alpha", "tpo_l_gamma"]) {
        return Told::Method("tpo");
    }
    if keys.get("center_rewards_coefficient").is_some() {
        return Told::Method("reward");
    }
    if named(&["alphapo"]) {
        return Told::Method("alphapo");
    }
    if named(&["simpo"]) {
        return Told::Method("simpo");
    }
    if keys.has_any(&["cpo_alpha", "simpo_gamma"]) {
        return Told::Method("cpo");
    }
    if named(&["kto", "apo_zero_unpaired"]) || keys.has_any(&["desirable_weight", "undesirable_weight"]) {
        return Told::Method("kto");
    }
    if named(&["nll", "chunked_nll", "dft"])
        || keys.has_any(&[
            "packing",
            "assistant_only_loss",
            "completion_only_loss",
            "dataset_text_field",
            "max_seq_length",
            "eval_packing",
        ])
    {
        return Told::Method("sft");
    }
    let of_dpo = [
        "label_smoothing",
        "ld_alpha",
        "f_divergence_type",
        "use_weighting",
        "discopop_tau",
        "sync_ref_model",
        "precompute_ref_log_probs",
        "rpo_alpha",
        "reference_free",
        "loss_weights",
    ];
    if loss_type.is_some() || keys.has_any(&of_dpo) {
        return Told::Method("dpo");
    }
    Told::Ambiguous
}

fn finish(t: &mut Translator<'_>) {
    cut_from_the_start(t);
    adapters::peft_targets(t);
    remarks(t);
}

/// TRL cuts a row at `max_length`, and no prompt before it.
pub(super) fn cut_from_the_start(t: &mut Translator<'_>) {
    t.adopt("truncation_mode", "keep_start");
    let length = t.value("max_length").and_then(Value::as_u64);
    if t.value("truncation_mode").and_then(Value::as_str) == Some("keep_start")
        && let Some(length) = length.filter(|length| *length > 1)
    {
        t.adopt("max_prompt_length", length - 1);
    }
}

/// Remarks on what no file of TRL can say.
pub(super) fn remarks(t: &mut Translator<'_>) {
    match t.method.name {
        "sft" if !t.keys().is_true("assistant_only_loss") => t.note(
            "rows that are conversations: their answers alone are trained on here, as with assistant_only_loss = true; TRL \
             would train on the questions too. Rows of prompt and completion are trained on alike",
        ),
        "orpo" => t.note("TRL's ORPO trains on the prompt's tokens too (its cross-entropy is over prompt and answer); here \
             it is over the answer, as in the paper"),
        _ => {}
    }
}
