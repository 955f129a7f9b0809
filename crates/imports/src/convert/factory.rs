//! Conversions of LLaMA-Factory's settings.

use serde_json::{Value, json};

use super::run;
use crate::profile::is;
use crate::translation::Translator;

/// `finetuning_type`.
pub fn finetuning_type(t: &mut Translator<'_>, key: &'static str, value: &Value) {
    match value.as_str() {
        Some("lora") if t.keys().get("adapter_name_or_path").is_none() => t.set(key, "use_peft", true),
        Some("lora") => {}
        Some("full") => t.set(key, "use_peft", false),
        Some("freeze") => t.refuse(
            key,
            "`finetuning_type: freeze` is not supported: `unfreeze_layers_patterns` names the modules to train in a file of \
             this project",
        ),
        _ => t.expected(key, "\"lora\" or \"full\"", value),
    }
}

/// `adapter_name_or_path`, of which training goes on with one.
pub fn adapter(t: &mut Translator<'_>, key: &'static str, value: &Value) {
    match &run::names(value)[..] {
        [one] => t.set(key, "adapter_name_or_path", one.as_str()),
        several => {
            let message = format!("`{key}`: expected one adapter, got {}: merge them with `smpo merge`", several.len());
            t.refuse(key, message);
        }
    }
}

/// `moe_aux_loss_coef`, of which zero leaves the model's configuration as it is.
pub fn moe_aux_loss_coef(t: &mut Translator<'_>, key: &'static str, value: &Value) {
    if value.as_f64() != Some(0.0) {
        t.set(key, "router_aux_loss_coef", value.clone());
    }
}

/// `mask_history`: the last answer alone is trained on.
pub fn mask_history(t: &mut Translator<'_>, key: &'static str, value: &Value) {
    t.set(key, "train_on", if is(value, "true") { "last" } else { "all" });
}

/// `enable_thinking`, a variable of the template.
pub fn enable_thinking(t: &mut Translator<'_>, key: &'static str, value: &Value) {
    if let Some(thinks) = value.as_bool() {
        t.set(key, "chat_template_kwargs", json!({ "enable_thinking": thinks }));
    }
}

/// `mix_strategy`.
pub fn mix_strategy(t: &mut Translator<'_>, key: &'static str, value: &Value) {
    if value.as_str() != Some("concat") {
        let message = format!("`{key}: {value}` is not supported: `dataset_ratio` sets how much of each file is taken");
        t.refuse(key, message);
    }
}

/// The pair loss of `pref_loss`; its `ipo` is normalised by length.
pub fn loss_type(t: &mut Translator<'_>) {
    if t.method.name != "dpo" {
        return;
    }
    match t.keys().text("pref_loss") {
        Some("ipo") => t.set("pref_loss", "loss.loss_type", "ipo_norm"),
        Some(loss) => t.set("pref_loss", "loss.loss_type", loss),
        None => t.adopt("loss.loss_type", "sigmoid"),
    }
}

/// `lora_alpha` is twice the rank where it is absent.
pub fn alpha(t: &mut Translator<'_>) {
    if t.adapts
        && !t.is_set("adapter_name_or_path")
        && let Some(rank) = t.value("lora_r").and_then(Value::as_f64)
    {
        t.adopt("lora_alpha", 2.0 * rank);
    }
}

/// Means over rows there, over tokens here.
pub fn row_means(t: &mut Translator<'_>) {
    let weight = |key: &str| t.value(key).and_then(Value::as_f64).is_some_and(|weight| weight > 0.0);
    if weight("loss.rpo_alpha") || weight("loss.sft_weight") || t.method.name == "orpo" {
        t.note(
            "the cross-entropy is a mean over the step's tokens here, and over the rows' means there: equal for one row a \
             step",
        );
    }
}
