//! Loss settings as effective_llm_alignment and TRL spell them: flat, among all other training arguments.

use serde_json::{Map, Value};

use crate::config::LossConfig;

/// The published keys of each loss, with ours where they differ.
const SPELLINGS: [(&str, &[(&str, &str)]); 7] = [
    ("sft", &[]),
    (
        "smpo",
        &[
            ("beta", "beta"),
            ("loss_type", "loss_type"),
            ("target_margin", "target_margin"),
            ("margin_min", "target_margin"),
            ("margin_delta", "margin_delta"),
            ("chosen_sft_ratio", "chosen_sft_ratio"),
            ("use_margin_schedule", "use_margin_schedule"),
            ("lower_clip_percentile", "lower_clip_percentile"),
            ("lower_trim_percentile", "lower_clip_percentile"),
            ("upper_clip_percentile", "upper_clip_percentile"),
            ("upper_trim_percentile", "upper_clip_percentile"),
            ("min_log_prob", "min_log_prob"),
        ],
    ),
    (
        "dpo",
        &[
            ("beta", "beta"),
            ("loss_type", "loss_type"),
            ("label_smoothing", "label_smoothing"),
            ("reference_free", "reference_free"),
            ("rpo_alpha", "rpo_alpha"),
            ("ld_alpha", "ld_alpha"),
        ],
    ),
    (
        "simpo",
        &[
            ("beta", "beta"),
            ("simpo_gamma", "gamma"),
            ("gamma_beta_ratio", "gamma"),
            ("cpo_alpha", "sft_weight"),
            ("sft_weight", "sft_weight"),
        ],
    ),
    ("cpo", &[("beta", "beta"), ("cpo_alpha", "cpo_alpha")]),
    ("orpo", &[("beta", "lambda")]),
    (
        "kto",
        &[("beta", "beta"), ("desirable_weight", "desirable_weight"), ("undesirable_weight", "undesirable_weight")],
    ),
];

/// Keys that only one loss's files have.
const TELLING: [(&str, &str); 10] = [
    ("margin_min", "smpo"),
    ("target_margin", "smpo"),
    ("chosen_sft_ratio", "smpo"),
    ("simpo_gamma", "simpo"),
    ("gamma_beta_ratio", "simpo"),
    ("cpo_alpha", "cpo"),
    ("desirable_weight", "kto"),
    ("undesirable_weight", "kto"),
    ("rpo_alpha", "dpo"),
    ("reference_free", "dpo"),
];

/// Published settings that no loss here can be made of.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ImportError {
    /// Nothing says which loss the file is for.
    #[error(
        "cannot tell the loss from the keys: expected one such as `margin_min` or `rpo_alpha`, got none; name the loss"
    )]
    NoKind,
    /// A loss that is not one.
    #[error("unknown loss `{given}`{suggestion}; expected one of {known}")]
    UnknownKind {
        /// What was asked for.
        given: String,
        /// The end of a question, or nothing.
        suggestion: String,
        /// All there are.
        known: String,
    },
    /// Two spellings of one setting.
    #[error("`{first}` and `{second}` are one setting: expected one of them, got both")]
    Twice {
        /// The one spelling.
        first: String,
        /// The other.
        second: String,
    },
    /// A value that does not fit.
    #[error("{0}")]
    Value(String),
}

/// A loss taken out of a flat file.
#[derive(Debug, Clone, PartialEq)]
pub struct Imported {
    /// The loss; ranges are checked by [`Objective::new`](crate::Objective::new).
    pub config: LossConfig,
    /// The other keys, untouched.
    pub rest: Map<String, Value>,
    /// What a reader of the file should know, in sentences.
    pub notes: Vec<String>,
}

/// Every key of a loss that a flat file may have, some more than once.
pub fn published_keys() -> impl Iterator<Item = &'static str> {
    SPELLINGS.into_iter().flat_map(|(_, spellings)| spellings).map(|(theirs, _)| *theirs)
}

/// Which loss a flat file is for, told from its keys; `None` where they do not tell.
pub fn kind_of(keys: &Map<String, Value>) -> Option<&'static str> {
    // CPO-SimPO is spelled as TRL's CPO with this loss type.
    if keys.get("loss_type").and_then(Value::as_str) == Some("simpo") {
        return Some("simpo");
    }
    TELLING.into_iter().find(|(key, _)| keys.contains_key(*key)).map(|(_, kind)| kind)
}

/// Takes the loss out of `keys`. `kind` names it where the file's own keys do not.
///
/// An absent key is the published default where the method has one, and off for the transforms: in the published code
/// they never changed a number.
///
/// # Errors
///
/// [`ImportError`] when the loss cannot be told, a setting is given twice, or a value does not fit.
pub fn published(kind: Option<&str>, mut keys: Map<String, Value>) -> Result<Imported, ImportError> {
    let kind = kind.or_else(|| kind_of(&keys)).ok_or(ImportError::NoKind)?;
    let Some((kind, spellings)) = SPELLINGS.into_iter().find(|(name, _)| *name == kind) else {
        let known = SPELLINGS.map(|(name, _)| name);
        return Err(ImportError::UnknownKind {
            given: kind.to_owned(),
            suggestion: smpo_suggest::did_you_mean(kind, known),
            known: crate::config::quoted(&known),
        });
    };
    let mut table = Map::new();
    let mut notes = Vec::new();
    let mut spelled: Map<String, Value> = Map::new();
    let named_by_loss_type: &[&str] = match kind {
        "simpo" => &["simpo", "sigmoid"],
        "cpo" => &["sigmoid"],
        "kto" => &["kto"],
        _ => &[],
    };
    if keys.get("loss_type").and_then(Value::as_str).is_some_and(|given| named_by_loss_type.contains(&given)) {
        keys.shift_remove("loss_type");
    }
    for (theirs, ours) in spellings {
        let Some(mut value) = keys.shift_remove(*theirs) else { continue };
        if *theirs == "gamma_beta_ratio" {
            let beta = table.get("beta").and_then(Value::as_f64).unwrap_or(crate::config::SimpoConfig::default().beta);
            let ratio = value
                .as_f64()
                .ok_or_else(|| ImportError::Value(format!("`{theirs}`: expected a number, got {value}")))?;
            value = Value::from(ratio * beta);
        }
        if let Some(Value::String(first)) = spelled.insert((*ours).to_owned(), Value::from(*theirs)) {
            return Err(ImportError::Twice { first, second: (*theirs).to_owned() });
        }
        if (theirs.ends_with("_percentile") || *theirs == "min_log_prob") && !value.is_null() {
            notes.push(format!("`{theirs}` acts here; in the published code it never changed a number"));
        }
        table.insert((*ours).to_owned(), value);
    }
    if let Some(given) = keys.get("loss_type").filter(|_| kind != "sft") {
        let known = crate::config::quoted(named_by_loss_type);
        let expected = if known.is_empty() { "none".to_owned() } else { format!("none or one of {known}") };
        return Err(ImportError::Value(format!("loss `{kind}`: `loss_type`: expected {expected}, got {given}")));
    }
    table.insert("kind".to_owned(), Value::from(kind));
    let config = serde_json::from_value(Value::Object(table)).map_err(|error| ImportError::Value(error.to_string()))?;
    Ok(Imported { config, rest: keys, notes })
}
