//! One line of stored log-probs, as `smpo logps` writes it:
//! `{"id", "chosen": {"ids", "logps", "is_terminator", "ref_logps"?}, "rejected": {…}, "kl"?: {…}}`.
//!
//! SFT and KTO rows may leave a side out. `kl` is a completion of another prompt, for KTO's baseline.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::batch::{Completion, ROUNDING_ABOVE_ZERO, Side};
use crate::config::quoted;
use crate::objective::Objective;

const ROW_KEYS: [&str; 4] = ["id", "chosen", "rejected", "kl"];
const SIDE_KEYS: [&str; 4] = ["ids", "logps", "is_terminator", "ref_logps"];

/// A row that is not one, or lacks what a loss needs.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{}:{line}: {}{expected}, got {got}", path.display(), if field.is_empty() { String::new() } else { format!("`{field}`: ") })]
pub struct RowError {
    /// The file.
    pub path: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// The key, as in `rejected.logps[3]`; empty for the line itself.
    pub field: String,
    /// What belongs there.
    pub expected: String,
    /// What is there.
    pub got: String,
}

/// A pair's log-probs.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Where it stands in its file, from 1.
    pub line: usize,
    /// The pair's id.
    pub id: String,
    /// y+.
    pub chosen: Option<RowTokens>,
    /// y−.
    pub rejected: Option<RowTokens>,
    /// A completion of another prompt.
    pub kl: Option<RowTokens>,
}

/// One completion's tokens, all of the same length `T` ≥ 1, with at least one terminator.
#[derive(Debug, Clone, PartialEq)]
pub struct RowTokens {
    /// Token ids.
    pub ids: Vec<u32>,
    /// ℓ_t, in nats.
    pub logps: Vec<f64>,
    /// Whether token t ends a turn.
    pub is_terminator: Vec<bool>,
    /// The reference model's ℓ_t, in nats.
    pub ref_logps: Option<Vec<f64>>,
}

impl RowTokens {
    pub(super) fn completion(&self) -> Completion<'_> {
        Completion { logps: &self.logps, is_terminator: &self.is_terminator, ref_logps: self.ref_logps.as_deref() }
    }
}

impl Row {
    /// The tokens of one side.
    pub fn side(&self, side: Side) -> Option<&RowTokens> {
        match side {
            Side::Chosen => self.chosen.as_ref(),
            Side::Rejected => self.rejected.as_ref(),
        }
    }

    /// Whether the row has what `objective` needs.
    pub(super) fn check(&self, path: &Path, objective: &Objective) -> Result<(), RowError> {
        let at = At { path, line: self.line };
        let loss = &objective.config().loss;
        let kind = loss.kind();
        let missing = |field: &str, because: String| Err(at.error(field, because, "nothing"));
        // Some rows must bring a `kl`, not each: the batch as a whole is asked for it.
        let sides = [
            ("chosen", &self.chosen, loss.is_paired() || kind == "sft"),
            ("rejected", &self.rejected, loss.is_paired()),
            ("kl", &self.kl, false),
        ];
        for (field, tokens, needed) in sides {
            match tokens {
                None if needed => return missing(field, format!("expected a completion, as loss `{kind}` needs one")),
                Some(tokens) if tokens.ref_logps.is_none() && loss.needs_reference() => {
                    let because =
                        format!("expected the reference model's log-probs, as loss `{kind}` compares with them");
                    return missing(&format!("{field}.ref_logps"), because);
                }
                _ => {}
            }
        }
        if self.chosen.is_none() && self.rejected.is_none() {
            return missing("chosen", format!("expected a completion on one side at least for loss `{kind}`"));
        }
        Ok(())
    }
}

/// Reads all lines of `text`; blank ones are skipped. `path` is named in errors.
///
/// # Errors
///
/// The first [`RowError`].
pub fn read_rows(path: &Path, text: &str) -> Result<Vec<Row>, RowError> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let rows: Vec<Row> = lines.map(|(index, line)| At { path, line: index + 1 }.row(line)).collect::<Result<_, _>>()?;
    if rows.is_empty() {
        return Err(At { path, line: 1 }.error("", "expected a pair on every line", "no line"));
    }
    Ok(rows)
}

/// A place in a file.
#[derive(Clone, Copy)]
struct At<'a> {
    path: &'a Path,
    line: usize,
}

impl At<'_> {
    fn error(&self, field: &str, expected: impl Into<String>, got: impl Into<String>) -> RowError {
        let (path, line) = (self.path.to_owned(), self.line);
        RowError { path, line, field: field.to_owned(), expected: expected.into(), got: got.into() }
    }

    fn row(&self, line: &str) -> Result<Row, RowError> {
        let parsed = serde_json::from_str(line).or_else(|error| {
            // Python writes NaN and Infinity, which JSON does not have. Quoted, they can be found and named.
            serde_json::from_str::<Value>(&quote_bare_names(line)).map_err(|_| error)
        });
        let value: Value = parsed.map_err(|error| self.error("", "expected a JSON object", not_json(&error)))?;
        let Value::Object(row) = value else {
            return Err(self.error("", "expected a JSON object", shown(&value)));
        };
        self.check_keys(&row, "", &ROW_KEYS)?;
        let id = match row.get("id") {
            Some(Value::String(id)) => id.clone(),
            other => return Err(self.error("id", "expected a string", other.map_or("nothing".into(), shown))),
        };
        let side = |name| row.get(name).map(|value| self.tokens(name, value)).transpose();
        Ok(Row { line: self.line, id, chosen: side("chosen")?, rejected: side("rejected")?, kl: side("kl")? })
    }

    fn check_keys(&self, object: &Map<String, Value>, parent: &str, known: &[&str]) -> Result<(), RowError> {
        match object.keys().find(|key| !known.contains(&key.as_str())) {
            None => Ok(()),
            Some(key) => {
                let got = format!("an unknown key{}", smpo_suggest::did_you_mean(key, known.iter().copied()));
                Err(self.error(&format!("{parent}{key}"), format!("expected one of {}", quoted(known)), got))
            }
        }
    }

    fn tokens(&self, side: &str, value: &Value) -> Result<RowTokens, RowError> {
        let Value::Object(object) = value else {
            return Err(self.error(side, "expected an object", shown(value)));
        };
        self.check_keys(object, &format!("{side}."), &SIDE_KEYS)?;
        let field = |name: &str| format!("{side}.{name}");
        let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
        let ids = self.list(object, &field("ids"), "a token id", id)?;
        let logps = self.list(object, &field("logps"), &logp_in_words(), logp)?;
        let is_terminator = self.list(object, &field("is_terminator"), "true or false", Value::as_bool)?;
        let ref_logps = match object.get("ref_logps") {
            None | Some(Value::Null) => None,
            Some(_) => Some(self.list(object, &field("ref_logps"), &logp_in_words(), logp)?),
        };
        if logps.is_empty() {
            return Err(self.error(side, "expected at least one completion token", "an empty side"));
        }
        let lengths = [
            ("ids", ids.len()),
            ("is_terminator", is_terminator.len()),
            ("ref_logps", ref_logps.as_ref().map_or(logps.len(), Vec::len)),
        ];
        if let Some((name, length)) = lengths.into_iter().find(|(_, length)| *length != logps.len()) {
            let expected = format!("expected {} entries, one per log-prob", logps.len());
            return Err(self.error(&field(name), expected, length.to_string()));
        }
        if !is_terminator.contains(&true) {
            let expected = "expected a terminator, which ends every whole completion";
            return Err(self.error(&field("is_terminator"), expected, "none (was the completion truncated?)"));
        }
        Ok(RowTokens { ids, logps, is_terminator, ref_logps })
    }

    fn list<T>(
        &self,
        object: &Map<String, Value>,
        field: &str,
        item: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Vec<T>, RowError> {
        let name = field.rsplit('.').next().unwrap_or(field);
        match object.get(name) {
            Some(Value::Array(values)) => values
                .iter()
                .enumerate()
                .map(|(index, value)| {
                    let wrong = || self.error(&format!("{field}[{index}]"), format!("expected {item}"), shown(value));
                    read(value).ok_or_else(wrong)
                })
                .collect(),
            other => Err(self.error(field, "expected a list", other.map_or("nothing".into(), shown))),
        }
    }
}

fn logp(value: &Value) -> Option<f64> {
    value.as_f64().filter(|logp| logp.is_finite() && *logp <= ROUNDING_ABOVE_ZERO)
}

fn logp_in_words() -> String {
    format!("a finite log-prob of at most 0 (rounding up to {ROUNDING_ABOVE_ZERO} is accepted)")
}

/// The parser's complaint. It counts lines within the line it was given, so only its column means something.
fn not_json(error: &serde_json::Error) -> String {
    let complaint = error.to_string();
    let what = complaint.split(" at line ").next().unwrap_or_default();
    format!("text that is not JSON (column {}: {what})", error.column())
}

/// A value, short enough for an error message.
fn shown(value: &Value) -> String {
    match value {
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "an object".into(),
        Value::String(text) if text.chars().count() > 40 => "a string".into(),
        other => other.to_string(),
    }
}

/// Puts quotes around NaN, Infinity and −Infinity outside strings.
fn quote_bare_names(line: &str) -> String {
    let mut quoted = String::with_capacity(line.len() + 16);
    let (mut in_string, mut escaped) = (false, false);
    let mut rest = line;
    while let Some(next) = rest.chars().next() {
        let name = ["NaN", "Infinity", "-Infinity"].into_iter().find(|name| !in_string && rest.starts_with(name));
        if let Some(name) = name {
            quoted.extend(["\"", name, "\""]);
            rest = &rest[name.len()..];
            continue;
        }
        in_string ^= next == '"' && !escaped;
        escaped = in_string && next == '\\' && !escaped;
        quoted.push(next);
        rest = &rest[next.len_utf8()..];
    }
    quoted
}
