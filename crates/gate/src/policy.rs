//! Gate policies, read from TOML. Shipped policies are in `evals/gates/`.
//!
//! ```toml
//! name = "mine"
//! alpha = 0.05                          # one-sided, for every test
//!
//! [[metric]]
//! id = "eos_rate"
//! require = { non_inferior = 0.02 }     # or "2 points"; { superior = 0.0 }, { equivalent = 0.02 },
//!                                       # { at_least = 0.95 }, { at_most = 0.01 }
//!
//! [[metric]]
//! id = "loop_rate"
//! slice = "ood_story"                   # one slice; `all` when absent
//! role = "secondary"                    # reported, does not decide
//! require = { non_inferior = 0.02 }
//!
//! [[metric]]
//! id = "eos_rate"
//! pass_k = 4                            # all of 4 samples of a prompt end
//! require = { at_least = 0.9 }
//! ```

use std::path::Path;

use serde::Deserialize;
use smpo_files::{FileError, line_at, sha256};
use smpo_results::Unit;

use crate::error::GateError;
pub use crate::require::Require;
use crate::require::Written;

/// Embeds `evals/gates/<name>.toml` under each name.
macro_rules! shipped {
    ($($name:literal),*) => {
        &[$(($name, include_str!(concat!("../../../evals/gates/", $name, ".toml")))),*]
    };
}

/// The shipped policies: name and text, in the order of every list.
pub const SHIPPED: &[(&str, &str)] = shipped!["default", "strict", "smoke", "demo"];

/// The names of the shipped policies.
pub fn shipped_names() -> Vec<&'static str> {
    SHIPPED.iter().map(|(name, _)| *name).collect()
}

/// A validated policy.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Its name in every report.
    pub name: String,
    /// Purpose in one sentence.
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

/// One requirement on one metric and slice.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Metric id; `eos_rate^4` for pass^4 of `eos_rate`.
    pub metric: String,
    /// Samples of a prompt that must all be good, for pass^k.
    pub pass_k: Option<usize>,
    /// Slice; `all` is every prompt that has the metric.
    pub slice: String,
    /// Primary rules decide, secondary ones are reported.
    pub role: Role,
    /// The requirement.
    pub require: Require,
    /// Fewest prompts that allow a `pass`.
    pub min_n: usize,
    /// Largest share of prompts that may lack a partner in the other arm.
    pub max_unpaired: f64,
    /// Treatment of a metric that neither arm measured.
    pub if_missing: IfMissing,
}

/// Role of a rule in the decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// All primary rules must pass; any that fails fails the gate.
    #[default]
    Primary,
    /// Exploratory: reported, with p values adjusted together (BH).
    Secondary,
}

/// Treatment of a metric that neither arm has: completions of other generators may lack finish reasons, for example.
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
    pass_k: Option<usize>,
    #[serde(default = "all")]
    slice: String,
    #[serde(default)]
    role: Role,
    require: Written,
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
    ///
    /// # Errors
    /// If there is no such policy, or it is invalid.
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
                let known = shipped_names();
                let suggestion = smpo_suggest::did_you_mean(name_or_path, known.iter().copied());
                Err(GateError::UnknownPolicy { name: name_or_path.to_owned(), known, suggestion })
            }
            Err(source) => Err(smpo_results::Error::from(FileError::at(path, "read")(source)).into()),
        }
    }

    /// Reads a policy from text; `origin` names it in messages.
    ///
    /// # Errors
    /// If the text is no policy or a value is out of range.
    pub fn parse(origin: &str, text: &str) -> Result<Policy, GateError> {
        let file: File = toml::from_str(text).map_err(|error| syntax(origin, text, &error))?;
        let invalid = |Invalid { what, expected, got }: Invalid| GateError::PolicyValue {
            origin: line_of(text, &what).map_or_else(|| origin.to_owned(), |line| format!("{origin}:{line}")),
            what,
            expected: expected.to_owned(),
            got,
        };
        file.check().map_err(invalid)?;
        let mut rules: Vec<Rule> = Vec::with_capacity(file.metric.len());
        for rule in file.metric {
            let rule = rule.check(file.min_n, file.max_unpaired).map_err(invalid)?;
            if rules.iter().any(|other| other.same_kind(&rule)) {
                return Err(invalid(Invalid::of(&rule.metric, &rule.slice, "rule", "one of a kind", "two")));
            }
            if let Some(other) = rules.iter().find(|other| other.excludes(&rule)) {
                let got = format!("{} and {}", other.require.value(), rule.require.value());
                let expected = "bounds that some value meets";
                return Err(invalid(Invalid::of(&rule.metric, &rule.slice, "at_least and at_most", expected, got)));
            }
            rules.push(rule);
        }
        if !rules.iter().any(|rule| rule.role == Role::Primary) {
            return Err(invalid(Invalid::new("metric", "at least one rule with role = \"primary\"", "none")));
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

impl Rule {
    /// Id of the metric that runs measure.
    pub fn source(&self) -> &str {
        match self.pass_k {
            Some(_) => self.metric.rsplit_once('^').map_or(self.metric.as_str(), |(metric, _)| metric),
            None => &self.metric,
        }
    }

    /// True for rules of one metric, slice and kind of requirement.
    fn same_kind(&self, other: &Rule) -> bool {
        let kind = |rule: &Rule| std::mem::discriminant(&rule.require);
        self.metric == other.metric && self.slice == other.slice && kind(self) == kind(other)
    }

    /// True for two bounds on one metric and slice that no value meets.
    fn excludes(&self, other: &Rule) -> bool {
        self.metric == other.metric && self.slice == other.slice && self.require.excludes(other.require)
    }
}

/// A value out of range.
struct Invalid {
    /// The field, with the metric and slice of its rule.
    what: String,
    expected: &'static str,
    got: String,
}

impl Invalid {
    fn new(what: impl Into<String>, expected: &'static str, got: impl ToString) -> Invalid {
        Invalid { what: what.into(), expected, got: got.to_string() }
    }

    fn of(metric: &str, slice: &str, field: &str, expected: &'static str, got: impl ToString) -> Invalid {
        Invalid::new(format!("{field} of `{metric}` on slice `{slice}`"), expected, got)
    }
}

impl File {
    fn check(&self) -> Result<(), Invalid> {
        if !(self.alpha > 0.0 && self.alpha < 0.5) {
            return Err(Invalid::new("alpha", "above 0 and below 0.5", self.alpha));
        }
        if !(self.power > 0.5 && self.power < 1.0) {
            return Err(Invalid::new("power", "above 0.5 and below 1", self.power));
        }
        if !(1_000..=1_000_000).contains(&self.resamples) {
            return Err(Invalid::new("resamples", "1000 to 1000000", self.resamples));
        }
        Ok(())
    }
}

impl FileRule {
    /// The rule, with the policy's defaults for `min_n` and `max_unpaired`.
    fn check(self, min_n: usize, max_unpaired: f64) -> Result<Rule, Invalid> {
        let (min_n, max_unpaired) = (self.min_n.unwrap_or(min_n), self.max_unpaired.unwrap_or(max_unpaired));
        let invalid = |field, expected, got: String| Invalid::of(&self.id, &self.slice, field, expected, got);
        if min_n < 2 {
            return Err(invalid("min_n", "at least 2", min_n.to_string()));
        }
        if !(0.0..=1.0).contains(&max_unpaired) {
            return Err(invalid("max_unpaired", "a share from 0 to 1", max_unpaired.to_string()));
        }
        let require = self.require.require();
        let unit = smpo_metrics::find(&self.id).map(|info| info.unit);
        if self.require.hundredths() && unit != Some(Unit::Share) {
            let expected = "a number in the metric's unit; per cent and points are for shares of the catalogue";
            return Err(invalid("require", expected, format!("{} %", 100.0 * require.value())));
        }
        // The unit of a metric that only the runs know is checked with them; a ratio has any value.
        if let Some(expected) = require.refusal(unit.unwrap_or(Unit::Ratio)) {
            return Err(invalid("require", expected, require.value().to_string()));
        }
        if let Some(k) = self.pass_k {
            if k < 2 {
                return Err(invalid("pass_k", "at least 2 samples that must all be good", k.to_string()));
            }
            if !smpo_metrics::find(&self.id).is_some_and(smpo_metrics::pass_k::applies) {
                let expected = "a metric of the catalogue whose samples are good or bad, as `eos_rate`";
                return Err(invalid("pass_k", expected, self.id.clone()));
            }
        }
        Ok(Rule {
            metric: self.pass_k.map_or_else(|| self.id.clone(), |k| smpo_metrics::pass_k::id(&self.id, k)),
            pass_k: self.pass_k,
            slice: self.slice,
            role: self.role,
            require,
            min_n,
            max_unpaired,
            if_missing: self.if_missing,
        })
    }
}

/// The line of a key outside of all tables, from 1.
fn line_of(text: &str, key: &str) -> Option<usize> {
    let mut lines = text.lines().take_while(|line| !line.trim_start().starts_with('['));
    let is_its =
        |line: &str| line.trim_start().strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with('='));
    lines.position(is_its).map(|index| index + 1)
}

/// The parser's message, with the line and the nearest valid name.
fn syntax(origin: &str, text: &str, error: &toml::de::Error) -> GateError {
    let line = error.span().map_or(1, |span| line_at(text, span.start));
    GateError::PolicySyntax { origin: origin.to_owned(), line, message: smpo_suggest::in_words(error.message()) }
}
