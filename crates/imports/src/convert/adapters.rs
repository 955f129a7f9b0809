//! Conversions of adapter settings.

use serde_json::Value;

use super::sources::model_config;
use crate::profile::is;
use crate::translation::{Translator, short};

/// PEFT's targets of an architecture, where the file names none.
pub fn peft_targets(t: &mut Translator<'_>) {
    const FUSED: [&str; 1] = ["phi3"];
    if !t.adapts || t.is_set("lora_target_modules") || t.is_set("adapter_name_or_path") {
        return;
    }
    let config = t.value("model_name_or_path").and_then(Value::as_str).and_then(model_config);
    let family = config.as_ref().and_then(|config| config["model_type"].as_str());
    let targets = match family {
        Some(family) if FUSED.contains(&family) => vec!["qkv_proj"],
        _ => vec!["q_proj", "v_proj"],
    };
    t.adopt("lora_target_modules", targets);
}

/// `load_in_4bit`.
pub fn four_bit(t: &mut Translator<'_>, key: &'static str, value: &Value) {
    if is(value, "false") {
        return;
    }
    if is(value, "true") {
        return t.set(key, "load_in_4bit", true);
    }
    t.refuse(key, format!("`{key}`: expected true or false, got {}", short(value)));
}

/// LLaMA-Factory's `quantization_bit`, of which 4 with bitsandbytes exists here.
pub fn quantization_bit(t: &mut Translator<'_>, key: &'static str, value: &Value) {
    let method = t.keys().text("quantization_method").unwrap_or("bnb").to_owned();
    if is(value, "4") && ["bnb", "bitsandbytes"].contains(&method.as_str()) {
        t.set(key, "load_in_4bit", true);
        let kind = t.keys().text("quantization_type").unwrap_or("nf4").to_owned();
        t.set(key, "bnb_4bit_quant_type", kind);
        let double = t.keys().get("double_quantization").is_none_or(|double| is(double, "true"));
        return t.set(key, "bnb_4bit_use_double_quant", double);
    }
    t.refuse(
        key,
        format!(
            "`{key}: {}` is not supported: bases of so many bits ({method}) do not exist here; --set {key}=null trains \
             adapters on the base as it is",
            short(value)
        ),
    );
}

/// LLaMA-Factory's `pissa_init`.
pub fn pissa(t: &mut Translator<'_>, key: &'static str, value: &Value) {
    if is(value, "false") {
        return;
    }
    if is(value, "true") {
        return t.set(key, "init_lora_weights", "pissa");
    }
    t.refuse(key, format!("`{key}`: expected true or false, got {}", short(value)));
}

/// A detail of four bits, which means nothing without them.
pub fn four_bit_detail(t: &mut Translator<'_>, key: &'static str, value: &Value) {
    let ours = if key == "bnb_4bit_quant_type" { key } else { "bnb_4bit_use_double_quant" };
    if t.keys().is_true("load_in_4bit") {
        t.set(key, ours, value.clone());
    } else {
        t.ignore(key, "load_in_4bit is off");
    }
}
