//! Loss settings as effective_llm_alignment and TRL spell them: flat, among all other training arguments.

use serde_json::{Map, Value};

use crate::catalog::{FlatKeys, LossEntry};
use crate::config::{LossConfig, quoted};
use crate::loss::LOSSES;

/// Published settings that do not make a loss.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ImportError {
    /// No key tells the loss.
    #[error(
        "cannot tell the loss from the keys: expected one such as `margin_min` or `rpo_alpha`, got none; name the loss"
    )]
    NoKind,
    /// An unknown `kind`.
    #[error("unknown loss `{given}`{suggestion}; expected one of {known}")]
    UnknownKind {
        /// The kind asked for.
        given: String,
        /// " (did you mean …?)", or empty.
        suggestion: String,
        /// All kinds.
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
    /// The other keys, unchanged.
    pub rest: Map<String, Value>,
    /// Remarks for the reader of the file, in sentences.
    pub notes: Vec<String>,
}

/// Every key of a loss that a flat file may have, some more than once.
pub fn published_keys() -> impl Iterator<Item = &'static str> {
    LOSSES.iter().flat_map(|entry| entry.flat_keys.spellings).map(|spelling| spelling.theirs)
}

/// The other keys of flat files that set what a key of them sets, whatever the loss.
pub fn other_spellings(key: &str) -> Vec<&'static str> {
    let of_losses = || LOSSES.iter().map(|entry| entry.flat_keys.spellings);
    let same = of_losses().flat_map(|spellings| {
        let ours = spellings.iter().find(|spelling| spelling.theirs == key).map(|spelling| spelling.ours);
        spellings.iter().filter(move |spelling| Some(spelling.ours) == ours).map(|spelling| spelling.theirs)
    });
    same.filter(|other| *other != key).collect()
}

/// The kind of loss that a flat file's keys tell; `None` if they tell none.
pub fn kind_of(keys: &Map<String, Value>) -> Option<&'static str> {
    let loss_type = keys.get("loss_type").and_then(Value::as_str);
    let has = |key: &&str| keys.contains_key(*key);
    let named = |entry: &&LossEntry| loss_type == Some(entry.kind) && entry.flat_keys.loss_types.contains(&entry.kind);
    let distinctive = |entry: &&LossEntry| entry.flat_keys.distinctive.iter().any(has);
    let suggestive = |entry: &&LossEntry| entry.flat_keys.suggestive.iter().any(has);
    let mut losses = LOSSES.iter();
    let found =
        losses.clone().find(named).or_else(|| losses.clone().find(distinctive)).or_else(|| losses.find(suggestive));
    found.map(|entry| entry.kind)
}

/// Takes the loss out of `keys`. `kind` names it, or the file's own keys do.
///
/// An absent key is the published default if the method has one, and off for the transforms: in the published code
/// they never changed a number.
///
/// # Errors
///
/// [`ImportError`] when the loss cannot be told, a setting is given twice, or a value does not fit.
pub fn published(kind: Option<&str>, mut keys: Map<String, Value>) -> Result<Imported, ImportError> {
    let kind = kind.or_else(|| kind_of(&keys)).ok_or(ImportError::NoKind)?;
    let entry = LOSSES.iter().find(|entry| entry.kind == kind).ok_or_else(|| unknown_kind(kind))?;
    take_loss_type(entry, &mut keys)?;
    let (mut table, mut spelled, mut notes) = (Map::new(), Map::new(), Vec::new());
    for spelling in entry.flat_keys.spellings {
        let (theirs, ours) = (spelling.theirs, spelling.ours);
        let Some(mut value) = keys.shift_remove(theirs) else { continue };
        if let Some(convert) = spelling.convert {
            value = convert(&value, &table)
                .ok_or_else(|| ImportError::Value(format!("`{theirs}`: expected a number, got {value}")))?;
        }
        if let Some(Value::String(first)) = spelled.insert(ours.to_owned(), Value::from(theirs)) {
            return Err(ImportError::Twice { first, second: theirs.to_owned() });
        }
        if (theirs.ends_with("_percentile") || theirs == "min_log_prob") && !value.is_null() {
            notes.push(format!("`{theirs}` acts here; in the published code it never changed a number"));
        }
        table.insert(ours.to_owned(), value);
    }
    table.insert("kind".to_owned(), Value::from(entry.kind));
    let config = serde_json::from_value(Value::Object(table)).map_err(|error| ImportError::Value(error.to_string()))?;
    Ok(Imported { config, rest: keys, notes })
}

fn unknown_kind(given: &str) -> ImportError {
    let known: Vec<&str> = LOSSES.iter().map(|entry| entry.kind).collect();
    ImportError::UnknownKind {
        given: given.to_owned(),
        suggestion: smpo_suggest::did_you_mean(given, known.iter().copied()),
        known: quoted(&known),
    }
}

/// Takes out a `loss_type` that names the loss itself; refuses one that the loss does not have.
fn take_loss_type(entry: &LossEntry, keys: &mut Map<String, Value>) -> Result<(), ImportError> {
    let FlatKeys { spellings, loss_types, .. } = entry.flat_keys;
    let Some(given) = keys.get("loss_type") else { return Ok(()) };
    if given.as_str().is_some_and(|given| loss_types.contains(&given)) {
        keys.shift_remove("loss_type");
        return Ok(());
    }
    if spellings.iter().any(|spelling| spelling.theirs == "loss_type") {
        return Ok(());
    }
    let known = quoted(loss_types);
    let expected = if known.is_empty() { "none".to_owned() } else { format!("none or one of {known}") };
    Err(ImportError::Value(format!("loss `{}`: `loss_type`: expected {expected}, got {given}", entry.kind)))
}
