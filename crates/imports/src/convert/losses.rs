//! Conversions of loss settings.

use serde_json::Value;

use super::run::names;
use crate::profile::is;
use crate::translation::{Translator, short};

/// TRL's `loss_type` of DPO, one or a list; its `ipo` is normalised by length.
pub fn dpo_loss_type(t: &mut Translator<'_>, key: &'static str, value: &Value) {
    let one = |value: &Value| if value == "ipo" { Value::from("ipo_norm") } else { value.clone() };
    let ours = match value {
        // one entry without weights is the entry itself
        Value::Array(entries) if entries.len() == 1 && t.keys().get("loss_weights").is_none() => one(&entries[0]),
        Value::Array(entries) => entries.iter().map(one).collect(),
        value => one(value),
    };
    t.set(key, "loss.loss_type", ours);
}

/// TRL's `label_smoothing` of DPO, which its `sigmoid` does not have; that of the release which effective_llm_alignment pins
/// has it.
pub fn dpo_label_smoothing(t: &mut Translator<'_>, key: &'static str, value: &Value) {
    const SMOOTHED: [&str; 4] = ["robust", "exo_pair", "aot", "aot_unpaired"];
    let types = ["loss_type", "dpo_loss_type"].iter().find_map(|key| t.keys().get(key).map(names)).unwrap_or_default();
    let smoothed = types.iter().any(|name| SMOOTHED.contains(&name.as_str()));
    if t.profile.name == "ela" || is(value, "0") {
        t.set(key, "loss.label_smoothing", value.clone());
    } else if !smoothed {
        t.ignore(key, "only robust, exo_pair, aot and aot_unpaired have it there");
    } else if types.iter().any(|name| name == "sigmoid") {
        let message =
            format!("`{key}: {value}` is not supported beside \"sigmoid\", which has none there: remove one of them");
        t.refuse(key, message);
    } else {
        t.set(key, "loss.label_smoothing", value.clone());
    }
}

/// TRL's `loss_type` of SFT.
pub fn sft_loss_type(t: &mut Translator<'_>, key: &'static str, value: &Value) {
    match value.as_str() {
        Some("nll" | "chunked_nll") => {}
        Some("dft") => t.set(key, "loss.loss_type", "dft"),
        _ => t.refuse(key, format!("`{key}: {}` is not supported: expected \"nll\" or \"dft\"", short(value))),
    }
}

/// A bound on token log-probs, which effective_llm_alignment's code computes without effect.
pub fn clip(t: &mut Translator<'_>, key: &'static str, value: &Value) {
    let ours = match key {
        "min_log_prob" => "loss.min_log_prob",
        key if key.starts_with("lower") => "loss.lower_clip_percentile",
        _ => "loss.upper_clip_percentile",
    };
    t.note(format!("`{key}` acts here; in the published code it never changed a number"));
    t.set(key, ours, value.clone());
}

/// γ of the published ratio γ/β.
pub fn gamma_of_ratio(t: &mut Translator<'_>, key: &'static str, value: &Value) {
    const DEFAULT_BETA: f64 = 2.0;
    let number = |value: &Value| value.as_f64().or_else(|| value.as_str()?.trim().parse().ok());
    let beta = t.keys().get("beta").map_or(Some(DEFAULT_BETA), number);
    match (number(value), beta) {
        (Some(ratio), Some(beta)) => t.set(key, "loss.gamma", ratio * beta),
        _ => t.expected(key, "a number", value),
    }
}

/// The `loss_type` of effective_llm_alignment's SimPO.
pub fn simpo_loss_type(t: &mut Translator<'_>, key: &'static str, value: &Value) {
    match value.as_str() {
        Some("sigmoid" | "simpo") => {}
        Some("smooth_ipo") => {
            let message = format!(
                "`{key}: smooth_ipo` is not supported: no published code of effective_llm_alignment defines it; \
                 --set {key}=sigmoid trains SimPO"
            );
            t.refuse(key, message);
        }
        _ => {
            let message = format!("`{key}: {}` is not supported: expected \"sigmoid\"", short(value));
            t.refuse(key, message);
        }
    }
}

/// Flags of a weighted cross-entropy.
pub fn weighted(t: &mut Translator<'_>, key: &'static str, value: &Value) {
    if !is(value, "true") {
        return;
    }
    if key == "use_dft_loss" {
        return t.set(key, "loss.loss_type", "dft");
    }
    t.set(key, "loss.loss_type", "eaft");
    if let Some(alpha) = t.keys().get("eaft_alpha").cloned() {
        t.set("eaft_alpha", "loss.eaft_alpha", alpha);
    }
}
