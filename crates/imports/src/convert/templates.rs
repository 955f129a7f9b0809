//! Chat templates: of a file, and by a name that is compared with the model's own.

use serde_json::Value;
use smpo_chat::{ChatTemplate, Message};

use crate::translation::Translator;

/// A template in a file.
pub fn path(t: &mut Translator<'_>, key: &'static str, value: &Value) {
    match value.as_str() {
        Some(path) if [".jinja", ".jinja2", ".j2"].iter().any(|ending| path.ends_with(ending)) => {
            t.set(key, "chat_template", path);
            t.set(key, "force_chat_template", true);
        }
        _ => t.expected(key, "a file that ends in .jinja (a template of another model: copy it into one)", value),
    }
}

/// A template in a file, or as text.
pub fn text_or_path(t: &mut Translator<'_>, key: &'static str, value: &Value) {
    match value.as_str() {
        Some(text) => t.set(key, "chat_template", text),
        None => t.expected(key, "a template or a path", value),
    }
}

/// The text of one question in a conversation; it stands for `{}` in the table.
const QUESTION: &str = "q5c1f";

/// Names of LLaMA-Factory and axolotl, and one question with the header of its answer as each writes it.
const TEMPLATES: &[(&[&str], &[&str])] = &[
    (
        &[
            "chatml",
            "qwen",
            "qwen2",
            "qwen_25",
            "qwen2_5",
            "qwen3",
            "qwen3_nothink",
            "chatml_de",
            "yi",
            "smollm",
            "smollm2",
            "hermes2",
        ],
        &["<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"],
    ),
    (
        &["llama3", "llama3_2", "llama32"],
        &["<|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"],
    ),
    (&["gemma", "gemma2", "gemma3"], &["<start_of_turn>user\n{}<end_of_turn>\n<start_of_turn>model\n"]),
    (
        &[
            "mistral",
            "llama2",
            "mistral_v1",
            "mistral_v2v3",
            "mistral_v3_tekken",
            "mistral_v7_tekken",
            "mistral_small",
            "ministral",
        ],
        &["[INST] {} [/INST]", "[INST]{}[/INST]", "[INST] {}[/INST]"],
    ),
    (&["phi", "phi_3", "phi_35", "phi_small"], &["<|user|>\n{}<|end|>\n<|assistant|>\n"]),
    (&["phi_4", "phi4"], &["<|im_start|>user<|im_sep|>{}<|im_end|><|im_start|>assistant<|im_sep|>"]),
    (&["phi4_mini"], &["<|user|>{}<|end|><|assistant|>"]),
    (&["zephyr"], &["<|user|>\n{}</s>\n<|assistant|>\n"]),
    (&["deepseek3", "deepseekr1", "deepseek_v2", "deepseek_v3"], &["<｜User｜>{}<｜Assistant｜>"]),
    (&["glm4", "glm4_5", "glm4_moe"], &["<|user|>\n{}<|assistant|>"]),
    (
        &["cohere"],
        &["<|START_OF_TURN_TOKEN|><|USER_TOKEN|>{}<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>"],
    ),
    (
        &["granite3", "granite4", "granite"],
        &["<|start_of_role|>user<|end_of_role|>{}<|end_of_text|>\n<|start_of_role|>assistant<|end_of_role|>"],
    ),
    (&["alpaca"], &["### Instruction:\n{}\n\n### Response:\n"]),
    (&["vicuna"], &["USER: {} ASSISTANT:"]),
];
/// Texts of system messages that templates of these names write where a conversation has none.
const DEFAULT_SYSTEM: &[(&[&str], &str)] = &[
    (&["qwen", "qwen_25", "qwen2_5"], "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."),
    (
        &["alpaca"],
        "Below is an instruction that describes a task. Write a response that appropriately completes the request.",
    ),
    (
        &["vicuna"],
        "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, and \
         polite answers to the user's questions.",
    ),
    (&["chatml_de"], "Du bist ein freundlicher und hilfsbereiter KI-Assistent."),
];
/// Names that mean the model's own template.
const OWN: [&str; 6] = ["tokenizer_default", "chat_template", "default", "empty", "jinja", "user_defined"];

/// A template by its name, compared with the model's own, which is what is used.
pub fn compare(t: &mut Translator<'_>, key: &'static str, value: &Value) {
    match value.as_str() {
        Some(name) => compare_named(t, key, plain(name)),
        None => t.expected(key, "the name of a template", value),
    }
}

/// The name without axolotl's prefix for a template that is used if the tokenizer has none.
pub fn plain(name: &str) -> &str {
    name.strip_prefix("tokenizer_default_fallback_").unwrap_or(name)
}

/// [`compare`] of a name that stands at `place`.
pub fn compare_named(t: &mut Translator<'_>, place: &str, name: &str) {
    if OWN.contains(&name) {
        return;
    }
    let Some((_, turns)) = TEMPLATES.iter().find(|(names, _)| names.contains(&name)) else {
        return t.ignore(&format!("{place}: {name}"), "not known here; the model's own template is used");
    };
    let model = t.value("model_name_or_path").and_then(Value::as_str).unwrap_or_default().to_owned();
    let Ok(template) = ChatTemplate::from_model_dir(&model) else {
        return t.ignore(&format!("{place}: {name}"), "the model's own template is used; it is not on this disk");
    };
    let rendered = template.render(&[Message::user(QUESTION)][..], true).unwrap_or_default();
    let bos = template.variables().get("bos_token").and_then(Value::as_str).unwrap_or_default();
    let rendered = rendered.strip_prefix(bos).unwrap_or(&rendered);
    let system = DEFAULT_SYSTEM.iter().find(|(names, _)| names.contains(&name)).map(|(_, system)| *system);
    let turns: Vec<String> = turns.iter().map(|turn| turn.replace("{}", QUESTION)).collect();
    let around = turns.iter().find_map(|turn| rendered.split_once(turn));
    let same = match (around, system) {
        (Some((before, after)), None) => before.trim().is_empty() && after.is_empty(),
        (Some((before, after)), Some(system)) => before.contains(system) && after.is_empty(),
        (None, _) => false,
    };
    if same {
        return t.ignore(&format!("{place}: {name}"), "the model's own template writes the same");
    }
    let show = |text: &str| text.replace(QUESTION, "…");
    let system = system.map(|system| format!("the system message {system:?} and ")).unwrap_or_default();
    t.note(format!(
        "`{place}: {name}` writes {system}{:?} and the model's own template {:?}: the model's own is used, `chat_template` sets \
         another",
        show(&turns[0]),
        show(rendered)
    ));
}
