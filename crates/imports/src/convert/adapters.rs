//! Conversions of adapter settings.

use std::path::Path;

use serde_json::Value;

use crate::translation::Translator;

/// PEFT's targets of an architecture, where the file names none.
pub fn peft_targets(t: &mut Translator<'_>) {
    const FUSED: [&str; 1] = ["phi3"];
    if !t.adapts || t.is_set("lora_target_modules") || t.is_set("adapter_name_or_path") {
        return;
    }
    let family = t.value("model_name_or_path").and_then(Value::as_str).and_then(family);
    let targets = match family.as_deref() {
        Some(family) if FUSED.contains(&family) => vec!["qkv_proj"],
        _ => vec!["q_proj", "v_proj"],
    };
    t.adopt("lora_target_modules", targets);
}

/// `model_type` of a model directory.
fn family(dir: &str) -> Option<String> {
    let text = std::fs::read_to_string(Path::new(dir).join("config.json")).ok()?;
    let config: Value = serde_json::from_str(&text).ok()?;
    config["model_type"].as_str().map(str::to_owned)
}
