//! One line of `logps.jsonl`: the token log-probs of a pair, as `smpo logps` writes and `smpo explain` reads them.
//!
//! `{"id", "chosen": {"ids", "logps", "is_terminator", "ref_logps"?, "collision_entropy"?,
//! "top_entropy"?}, "rejected": {…}, "kl"?: {…}}`. SFT and KTO rows may
//! leave a side out. A group has `completions`, a list of sides, and `rewards`, a number for each, in place of the two. `kl` is a completion of another prompt, for KTO's baseline.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Map, Value};

const ROW_KEYS: [&str; 6] = ["id", "chosen", "rejected", "completions", "rewards", "kl"];
const SIDE_KEYS: [&str; 6] = ["ids", "logps", "is_terminator", "ref_logps", "collision_entropy", "top_entropy"];

/// A line that does not fit the schema.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{}:{line}: {}expected {expected}, got {got}", path.display(), if field.is_empty() { String::new() } else { format!("`{field}`: ") })]
pub struct LogpsError {
    /// The file.
    pub path: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// The key, as in `rejected.logps[3]`; empty for the line itself.
    pub field: String,
    /// Description of the expected value.
    pub expected: String,
    /// The value given, abridged.
    pub got: String,
}

/// The token log-probs of a pair.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct LogpsRow {
    /// Its line in the file that it was read from, from 1.
    #[serde(skip)]
    pub line: usize,
    /// The pair's id.
    pub id: String,
    /// y+.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chosen: Option<TokenLogps>,
    /// y−.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rejected: Option<TokenLogps>,
    /// The completions of a group; empty for a pair.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub completions: Vec<TokenLogps>,
    /// The reward of each of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rewards: Vec<f64>,
    /// A completion of another prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kl: Option<TokenLogps>,
}

/// One completion's scored tokens, all of the same length `T` ≥ 1; one that did not end has no terminator.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct TokenLogps {
    /// Token ids.
    pub ids: Vec<u32>,
    /// ℓ_t, in nats.
    pub logps: Vec<f64>,
    /// True where token t ends a turn.
    pub is_terminator: Vec<bool>,
    /// The reference model's ℓ_t, in nats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ref_logps: Option<Vec<f64>>,
    /// −log Σ p² of the model's distribution at each token, in nats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub collision_entropy: Option<Vec<f64>>,
    /// Entropy of the 20 likeliest tokens among themselves at each token, in nats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_entropy: Option<Vec<f64>>,
}

/// A number of the distribution; rounding may have put it a little below 0.
fn entropy_of(value: &Value) -> Option<f64> {
    value.as_f64().filter(|entropy| entropy.is_finite() && *entropy >= -1e-4)
}

/// Parses all lines of `text`; blank ones are skipped. A log-prob may be at most `max_logp`: 0 and rounding. `path` is
/// named in errors.
///
/// # Errors
///
/// The first [`LogpsError`].
pub fn parse_logps(path: &Path, text: &str, max_logp: f64) -> Result<Vec<LogpsRow>, LogpsError> {
    let at = |line| At { path, line, max_logp };
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let rows: Vec<LogpsRow> = lines.map(|(index, line)| at(index + 1).row(line)).collect::<Result<_, _>>()?;
    if rows.is_empty() {
        return Err(at(1).error("", "a pair on every line", "no line"));
    }
    Ok(rows)
}

/// A place in a file.
#[derive(Clone, Copy)]
struct At<'a> {
    path: &'a Path,
    line: usize,
    max_logp: f64,
}

impl At<'_> {
    fn error(&self, field: &str, expected: impl Into<String>, got: impl Into<String>) -> LogpsError {
        let (path, line) = (self.path.to_owned(), self.line);
        LogpsError { path, line, field: field.to_owned(), expected: expected.into(), got: got.into() }
    }

    fn row(&self, line: &str) -> Result<LogpsRow, LogpsError> {
        let parsed = serde_json::from_str(line).or_else(|error| {
            // Python writes NaN and Infinity, which JSON does not have. Quoted, they can be found and named.
            serde_json::from_str::<Value>(&quote_bare_names(line)).map_err(|_| error)
        });
        let value: Value = parsed.map_err(|error| self.error("", "a JSON object", not_json(&error)))?;
        let Value::Object(row) = value else {
            return Err(self.error("", "a JSON object", shown(&value)));
        };
        self.check_keys(&row, "", &ROW_KEYS)?;
        let id = match row.get("id") {
            Some(Value::String(id)) => id.clone(),
            other => return Err(self.error("id", "a string", other.map_or("nothing".into(), shown))),
        };
        let side = |name| row.get(name).map(|value| self.tokens(name, value)).transpose();
        let (completions, rewards) = self.group(&row)?;
        let (chosen, rejected, kl) = (side("chosen")?, side("rejected")?, side("kl")?);
        Ok(LogpsRow { line: self.line, id, chosen, rejected, completions, rewards, kl })
    }

    /// The completions of a group and their rewards; none for a pair.
    fn group(&self, row: &Map<String, Value>) -> Result<(Vec<TokenLogps>, Vec<f64>), LogpsError> {
        let given = ["completions", "rewards"].map(|key| row.get(key).is_some_and(|value| !value.is_null()));
        if given == [false, false] {
            return Ok((Vec::new(), Vec::new()));
        }
        let items = match row.get("completions") {
            Some(Value::Array(items)) if !items.is_empty() => items,
            other => {
                let got = other.map_or("nothing".into(), shown);
                return Err(self.error("completions", "a list of completions beside `rewards`, not empty", got));
            }
        };
        let finite = |value: &Value| value.as_f64().filter(|reward| reward.is_finite());
        let rewards = self.list(row, "rewards", "a finite number", finite)?;
        if rewards.len() != items.len() {
            let expected = format!("{} entries, one per completion", items.len());
            return Err(self.error("rewards", expected, rewards.len().to_string()));
        }
        let completions = items.iter().enumerate().map(|(at, item)| self.tokens(&format!("completions[{at}]"), item));
        Ok((completions.collect::<Result<_, _>>()?, rewards))
    }

    fn check_keys(&self, object: &Map<String, Value>, parent: &str, known: &[&str]) -> Result<(), LogpsError> {
        match object.keys().find(|key| !known.contains(&key.as_str())) {
            None => Ok(()),
            Some(key) => {
                let got = format!("an unknown key{}", smpo_suggest::did_you_mean(key, known.iter().copied()));
                Err(self.error(&format!("{parent}{key}"), format!("one of {}", quoted(known)), got))
            }
        }
    }

    fn tokens(&self, side: &str, value: &Value) -> Result<TokenLogps, LogpsError> {
        let Value::Object(object) = value else {
            return Err(self.error(side, "an object", shown(value)));
        };
        self.check_keys(object, &format!("{side}."), &SIDE_KEYS)?;
        let field = |name: &str| format!("{side}.{name}");
        let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
        let ids = self.list(object, &field("ids"), "a token id", id)?;
        let logps = self.list(object, &field("logps"), &self.logp_in_words(), |value| self.logp(value))?;
        let is_terminator = self.list(object, &field("is_terminator"), "true or false", Value::as_bool)?;
        let absent = |name: &str| matches!(object.get(name), None | Some(Value::Null));
        let ref_logps = match absent("ref_logps") {
            true => None,
            false => Some(self.list(object, &field("ref_logps"), &self.logp_in_words(), |value| self.logp(value))?),
        };
        let entropy = |name: &str| match absent(name) {
            true => Ok(None),
            false => self.list(object, &field(name), "a finite entropy of at least 0", entropy_of).map(Some),
        };
        let (collision_entropy, top_entropy) = (entropy("collision_entropy")?, entropy("top_entropy")?);
        if logps.is_empty() {
            return Err(self.error(side, "at least one completion token", "an empty side"));
        }
        let lengths = [
            ("ids", ids.len()),
            ("is_terminator", is_terminator.len()),
            ("ref_logps", ref_logps.as_ref().map_or(logps.len(), Vec::len)),
            ("collision_entropy", collision_entropy.as_ref().map_or(logps.len(), Vec::len)),
            ("top_entropy", top_entropy.as_ref().map_or(logps.len(), Vec::len)),
        ];
        if let Some((name, length)) = lengths.into_iter().find(|(_, length)| *length != logps.len()) {
            let expected = format!("{} entries, one per log-prob", logps.len());
            return Err(self.error(&field(name), expected, length.to_string()));
        }
        Ok(TokenLogps { ids, logps, is_terminator, ref_logps, collision_entropy, top_entropy })
    }

    fn logp(&self, value: &Value) -> Option<f64> {
        value.as_f64().filter(|logp| logp.is_finite() && *logp <= self.max_logp)
    }

    fn logp_in_words(&self) -> String {
        format!("a finite log-prob of at most 0 (rounding up to {} is accepted)", self.max_logp)
    }

    fn list<T>(
        &self,
        object: &Map<String, Value>,
        field: &str,
        item: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Vec<T>, LogpsError> {
        let name = field.rsplit('.').next().unwrap_or(field);
        match object.get(name) {
            Some(Value::Array(values)) => values
                .iter()
                .enumerate()
                .map(|(index, value)| {
                    let wrong = || self.error(&format!("{field}[{index}]"), item, shown(value));
                    read(value).ok_or_else(wrong)
                })
                .collect(),
            other => Err(self.error(field, "a list", other.map_or("nothing".into(), shown))),
        }
    }
}

/// The parser's message. Its line number counts within the one line, so only the column is kept.
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

/// Names in backquotes, with commas.
fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
