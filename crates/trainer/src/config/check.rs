//! Collects the errors of a configuration: values out of range and keys that exclude or need each other.

use std::collections::BTreeSet;
use std::fmt::Display;

use smpo_losses::LossConfig;

use super::{ConfigErrors, ConfigProblem, TrainConfig};

/// A key, with its table where it has one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub table: Option<&'static str>,
    pub name: String,
}

impl Key {
    pub(super) fn new(table: Option<&'static str>, name: impl Into<String>) -> Self {
        Self { table, name: name.into() }
    }
}

/// `` `key` ``, or `` `table.key` ``, which is how `--set` spells it.
impl Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.table {
            Some(table) => write!(f, "`{table}.{}`", self.name),
            None => write!(f, "`{}`", self.name),
        }
    }
}

/// An error whose line is not looked up yet.
#[derive(Debug)]
pub(super) struct Problem {
    /// The key to look for; `None` where the error is of no key.
    pub key: Option<Key>,
    pub message: String,
}

/// Collected errors.
#[derive(Debug, Default)]
pub(super) struct Problems {
    pub found: Vec<Problem>,
    /// Keys whose given value could not be read. Their placeholders are not judged.
    pub unread: BTreeSet<Key>,
    /// `--set key=value` that were applied.
    pub overrides: Vec<String>,
    /// Table of the keys that are being checked.
    table: Option<&'static str>,
}

impl Problems {
    /// The `--set key=value` that gave a key its value.
    pub(super) fn overriding(&self, key: &Key) -> Option<&String> {
        let path = key.table.map(|table| format!("{table}.{}", key.name));
        // A published file has the loss's keys at the top.
        let names = |given: &str| given == key.name || path.as_deref() == Some(given);
        self.overrides.iter().rev().find(|given| given.split_once('=').is_some_and(|(key, _)| names(key.trim())))
    }

    /// Adds an error of a key.
    pub(super) fn push(&mut self, key: Key, message: String) {
        self.found.push(Problem { key: Some(key), message });
    }

    /// Adds an error of a key whose value is thereby unknown.
    pub(super) fn push_unread(&mut self, key: Key, message: String) {
        self.unread.insert(key.clone());
        self.push(key, message);
    }

    /// Adds an error unless `holds`.
    pub(super) fn range(&mut self, name: &str, holds: bool, expected: &str, given: impl Display) {
        let key = Key::new(self.table, name);
        if !holds {
            self.refuse(&[name], format!("{key} must be {expected}, got {given}"));
        }
    }

    /// Adds an error of the first of some keys, unless one of them was not read.
    pub(super) fn refuse(&mut self, names: &[&str], message: String) {
        let keys: Vec<Key> = names.iter().map(|name| Key::new(self.table, *name)).collect();
        if keys.iter().all(|key| !self.unread.contains(key)) {
            self.found.push(Problem { key: keys.into_iter().next(), message });
        }
    }

    /// Adds an error where two keys are both given that exclude each other.
    pub(super) fn exclusive(&mut self, first: (&str, bool), second: (&str, bool)) {
        if first.1 && second.1 {
            let message = format!("`{}` and `{}` exclude each other: give one", first.0, second.0);
            self.refuse(&[first.0, second.0], message);
        }
    }

    /// Checks the keys of a table.
    pub(super) fn within(&mut self, table: &'static str, check: impl FnOnce(&mut Self)) {
        self.table = Some(table);
        check(self);
        self.table = None;
    }
}

impl TrainConfig {
    /// Checks every range and all keys that exclude or need each other. [`TrainConfig::read`] and
    /// [`build`](super::TrainConfigBuilder::build) call it; call it yourself after fields were changed by hand.
    ///
    /// # Errors
    /// All errors at once.
    pub fn validate(&self) -> Result<(), ConfigErrors> {
        let mut problems = Problems::default();
        self.check(&mut problems);
        if problems.found.is_empty() {
            return Ok(());
        }
        let unplaced = |problem: Problem| ConfigProblem { line: None, message: problem.message };
        Err(ConfigErrors { origin: None, problems: problems.found.into_iter().map(unplaced).collect() })
    }

    pub(super) fn check(&self, problems: &mut Problems) {
        self.check_model(problems);
        self.check_tokenizer(problems);
        self.check_data(problems);
        self.check_lengths(problems);
        self.check_memory(problems);
        self.check_schedule(problems);
        self.check_optimizer(problems);
        self.check_device(problems);
        self.check_checkpoints(problems);
        self.check_evaluation(problems);
        self.check_adapter(problems);
        self.check_experts(problems);
        self.check_quantisation(problems);
        self.check_sharding(problems);
        problems.within("loss", |problems| check_loss(&self.loss, problems));
        problems.within("alarms", |problems| self.alarms.check(problems));
        if let Some(probe) = &self.probe {
            problems.within("probe", |problems| probe.check(problems));
        }
        self.check_prompt(problems);
    }
}

/// Every range of the loss. Its own check returns the first error: the key at fault is reset to its default and the
/// check repeated, until nothing is wrong or nothing changes.
fn check_loss(loss: &LossConfig, problems: &mut Problems) {
    let mut table = toml::Table::try_from(loss).unwrap_or_default();
    let mut loss = loss.clone();
    while let Err(error) = loss.validate() {
        // The message quotes the loss's kind, then the key.
        let message = error.to_string();
        let Some(field) = message.split('`').nth(3) else { return problems.refuse(&["kind"], message) };
        problems.refuse(&[field], message.clone());
        let reset = table.remove(field).and_then(|_| toml::Value::Table(table.clone()).try_into().ok());
        match reset {
            Some(reset) => loss = reset,
            None => return,
        }
    }
}

/// True for a positive, finite number.
pub(super) fn is_positive(value: f64) -> bool {
    value > 0.0 && value.is_finite()
}

/// True for a finite number of 0 or more.
pub(super) fn is_non_negative(value: f64) -> bool {
    value >= 0.0 && value.is_finite()
}
