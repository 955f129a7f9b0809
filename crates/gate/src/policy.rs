//! What a gate demands, read from TOML. Shipped policies live in `evals/gates/`.
//!
//! ```toml
//! name = "mine"
//! alpha = 0.05                          # one-sided, for every test
//!
//! [[metric]]
//! id = "eos_rate"
//! require = { non_inferior = 0.02 }     # or { superior = 0.0 }, { at_least = 0.95 }, { at_most = 0.01 }
//!
//! [[metric]]
//! id = "loop_rate"
//! slice = "ood_story"                   # one slice; `all` when absent
//! role = "secondary"                    # reported, does not decide
//! require = { non_inferior = 0.02 }
//! ```

use std::collections::BTreeSet;
use std::path::Path;

use serde::Deserialize;
use smpo_files::{FileError, line_at, sha256};

use crate::error::GateError;

/// The shipped policies: name and text.
pub const SHIPPED: &[(&str, &str)] = &[
    ("default", include_str!("../../../evals/gates/default.toml")),
    ("strict", include_str!("../../../evals/gates/strict.toml")),
    ("smoke", include_str!("../../../evals/gates/smoke.toml")),
    ("demo", include_str!("../../../evals/gates/demo.toml")),
];

/// A validated policy.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Its name in every report.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// One-sided significance level of every test; intervals are two-sided at 1 − 2·alpha.
    pub alpha: f64,
    /// Power that `n_needed` plans for.
    pub power: f64,
    /// Bootstrap and permutation resamples.
    pub resamples: u32,
    /// The rules, in the order of the file.
    pub rules: Vec<Rule>,
    /// SHA-256 of the text it was read from.
    pub sha256: String,
    /// File or name, for messages.
    pub origin: String,
}

/// One demand on one metric and slice.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Metric id.
    pub metric: String,
    /// Slice; `all` is every prompt that has the metric.
    pub slice: String,
    /// Primary rules decide, secondary ones are reported.
    pub role: Role,
    /// What is demanded.
    pub require: Require,
    /// Fewest prompts that allow a `pass`.
    pub min_n: usize,
    /// Largest share of prompts that may lack a partner in the other arm.
    pub max_unpaired: f64,
    /// What to do when neither arm measured the metric.
    pub if_missing: IfMissing,
}

/// Does a rule decide?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// All primary rules must pass; any that fails fails the gate.
    #[default]
    Primary,
    /// Exploratory: reported, with p values adjusted together (BH).
    Secondary,
}

/// A demand, in the unit of the metric.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Require {
    /// Not worse than the baseline by the margin.
    NonInferior(f64),
    /// Better than the baseline by more than the margin.
    Superior(f64),
    /// The candidate's own value is at least this.
    AtLeast(f64),
    /// The candidate's own value is at most this.
    AtMost(f64),
}

impl Require {
    /// The margin or bound.
    pub fn value(self) -> f64 {
        match self {
            Require::NonInferior(value)
            | Require::Superior(value)
            | Require::AtLeast(value)
            | Require::AtMost(value) => value,
        }
    }
}

/// A metric that neither arm has, as when completions that others generated do not say why they ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IfMissing {
    /// The rule is inconclusive.
    #[default]
    Inconclusive,
    /// The rule is left out, and the verdict says so.
    Skip,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    #[serde(default)]
    description: String,
    #[serde(default = "default_alpha")]
    alpha: f64,
    #[serde(default = "default_power")]
    power: f64,
    #[serde(default = "default_resamples")]
    resamples: u32,
    #[serde(default = "default_min_n")]
    min_n: usize,
    #[serde(default = "default_max_unpaired")]
    max_unpaired: f64,
    metric: Vec<FileRule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileRule {
    id: String,
    #[serde(default = "all")]
    slice: String,
    #[serde(default)]
    role: Role,
    require: Require,
    min_n: Option<usize>,
    max_unpaired: Option<f64>,
    #[serde(default)]
    if_missing: IfMissing,
}

fn default_alpha() -> f64 {
    0.05
}
fn default_power() -> f64 {
    0.8
}
fn default_resamples() -> u32 {
    10_000
}
fn default_min_n() -> usize {
    50
}
fn default_max_unpaired() -> f64 {
    0.05
}
fn all() -> String {
    "all".to_owned()
}

impl Policy {
    /// Reads a file, or takes a shipped policy by name. A file of that name goes first.
    pub fn load(name_or_path: &str) -> Result<Policy, GateError> {
        let path = Path::new(name_or_path);
        if let Some((name, text)) = SHIPPED.iter().find(|(name, _)| *name == name_or_path)
            && !path.is_file()
        {
            return Policy::parse(name, text);
        }
        match std::fs::read_to_string(path) {
            Ok(text) => Policy::parse(name_or_path, &text),
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => {
                let known: Vec<&'static str> = SHIPPED.iter().map(|(name, _)| *name).collect();
                let suggestion = smpo_suggest::did_you_mean(name_or_path, known.iter().copied());
                Err(GateError::UnknownPolicy { name: name_or_path.to_owned(), known, suggestion })
            }
            Err(source) => Err(smpo_results::Error::from(FileError::at(path, "read")(source)).into()),
        }
    }

    /// Reads a policy from text; `origin` names it in messages.
    pub fn parse(origin: &str, text: &str) -> Result<Policy, GateError> {
        let file: File = toml::from_str(text).map_err(|error| syntax(origin, text, &error))?;
        let value = |what: String, expected: &str, got: String| GateError::PolicyValue {
            origin: origin.to_owned(),
            what,
            expected: expected.to_owned(),
            got,
        };
        if !(file.alpha > 0.0 && file.alpha < 0.5) {
            return Err(value("alpha".into(), "above 0 and below 0.5", file.alpha.to_string()));
        }
        if !(file.power > 0.5 && file.power < 1.0) {
            return Err(value("power".into(), "above 0.5 and below 1", file.power.to_string()));
        }
        if !(1_000..=1_000_000).contains(&file.resamples) {
            return Err(value("resamples".into(), "1000 to 1000000", file.resamples.to_string()));
        }
        let mut rules = Vec::with_capacity(file.metric.len());
        let mut seen = BTreeSet::new();
        for rule in file.metric {
            let (min_n, max_unpaired) =
                (rule.min_n.unwrap_or(file.min_n), rule.max_unpaired.unwrap_or(file.max_unpaired));
            let of = |what: &str| format!("{what} of `{}` on slice `{}`", rule.id, rule.slice);
            if min_n < 2 {
                return Err(value(of("min_n"), "at least 2", min_n.to_string()));
            }
            if !(0.0..=1.0).contains(&max_unpaired) {
                return Err(value(of("max_unpaired"), "a share from 0 to 1", max_unpaired.to_string()));
            }
            let number = rule.require.value();
            let margin = matches!(rule.require, Require::NonInferior(_) | Require::Superior(_));
            if !number.is_finite() || (margin && number < 0.0) {
                let expected = if margin { "a margin of at least 0" } else { "a finite number" };
                return Err(value(of("require"), expected, number.to_string()));
            }
            let kind = std::mem::discriminant(&rule.require);
            if !seen.insert((rule.id.clone(), rule.slice.clone(), format!("{kind:?}"))) {
                return Err(value(of("rule"), "one of a kind", "two".into()));
            }
            rules.push(Rule {
                metric: rule.id,
                slice: rule.slice,
                role: rule.role,
                require: rule.require,
                min_n,
                max_unpaired,
                if_missing: rule.if_missing,
            });
        }
        if !rules.iter().any(|rule| rule.role == Role::Primary) {
            return Err(value("metric".into(), "at least one rule with role = \"primary\"", "none".into()));
        }
        Ok(Policy {
            name: file.name,
            description: file.description,
            alpha: file.alpha,
            power: file.power,
            resamples: file.resamples,
            rules,
            sha256: sha256(text.as_bytes()),
            origin: origin.to_owned(),
        })
    }
}

/// The parser's words, with the line and the nearest valid name.
fn syntax(origin: &str, text: &str, error: &toml::de::Error) -> GateError {
    let line = error.span().map_or(1, |span| line_at(text, span.start));
    let mut message = error.message().to_owned();
    // serde lists the valid names in backticks after the offending one
    let mut quoted = message.split('`').skip(1).step_by(2);
    if message.starts_with("unknown ")
        && let Some(name) = quoted.next()
    {
        message.push_str(&smpo_suggest::did_you_mean(name, quoted));
    }
    GateError::PolicySyntax { origin: origin.to_owned(), line, message }
}
