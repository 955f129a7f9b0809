//! The file that a configuration comes from: keys to line numbers, problems to errors.

use std::path::Path;

use super::check::{Key, Problem, Problems};
use super::read::ALIASES;
use super::{ConfigErrors, ConfigProblem};
use crate::error::TrainError;

/// Text of a configuration, and the path to name in errors.
pub(super) struct ConfigFile<'a> {
    pub text: &'a str,
    pub path: &'a Path,
    /// Names of keys in another trainer's file.
    pub spellings: Vec<Spelling>,
}

/// A key of another trainer's file, and the one of this project that it set.
pub(super) struct Spelling {
    pub theirs: String,
    /// With its table: `loss.beta`.
    pub ours: String,
}

impl<'a> ConfigFile<'a> {
    pub(super) fn new(text: &'a str, path: &'a Path) -> Self {
        Self { text, path, spellings: Vec::new() }
    }

    /// The text as TOML.
    pub(super) fn toml(&self) -> Result<toml::Table, TrainError> {
        self.text.parse().map_err(|error: toml::de::Error| {
            let line = error.span().map(|span| self.line_of_byte(span.start));
            self.error(line, error.message().to_owned())
        })
    }

    /// The file's own name of a key, where it is another one.
    fn spelling(&self, key: &Key) -> Option<&str> {
        let name = key.table.map_or_else(|| key.name.clone(), |table| format!("{table}.{}", key.name));
        let found = self.spellings.iter().find(|spelling| spelling.ours == name)?;
        Some(found.theirs.as_str()).filter(|theirs| *theirs != key.name)
    }

    /// One error that ends reading: the text is neither TOML nor YAML.
    pub(super) fn error(&self, line: Option<usize>, message: String) -> TrainError {
        TrainError::config(self.path, line, message)
    }

    /// All errors in the order of their lines, those without a line last.
    pub(super) fn errors(&self, problems: Problems) -> TrainError {
        let place = |Problem { key, message }: &Problem| {
            let theirs = key.as_ref().and_then(|key| self.spelling(key));
            let message = match theirs {
                Some(theirs) => format!("{message} (`{theirs}` in this file)"),
                None => message.clone(),
            };
            let theirs = theirs.map(|theirs| Key::new(None, theirs));
            let names = [key.as_ref(), theirs.as_ref()];
            match names.iter().flatten().find_map(|key| problems.overriding(key)) {
                Some(given) => ConfigProblem { line: None, message: format!("--set {given}: {message}") },
                None => {
                    let line = names.iter().rev().flatten().find_map(|key| self.line_of_key(key));
                    ConfigProblem { line, message }
                }
            }
        };
        let mut problems: Vec<ConfigProblem> = problems.found.iter().map(place).collect();
        problems.sort_by_key(|problem| problem.line.unwrap_or(usize::MAX));
        TrainError::Config(ConfigErrors { origin: Some(self.path.to_owned()), problems })
    }

    /// 1-based line that holds a byte.
    pub(super) fn line_of_byte(&self, offset: usize) -> usize {
        smpo_files::line_at(self.text, offset)
    }

    /// 1-based line that assigns a key: inside its table, else anywhere (a published file has the loss's keys at the
    /// top), else the line that opens its table.
    pub(super) fn line_of_key(&self, key: &Key) -> Option<usize> {
        let mut table = None;
        let mut anywhere = None;
        for (number, line) in (1..).zip(self.text.lines()) {
            let opened = opened_table(line);
            if opened.is_some() {
                table = opened;
            } else if closes_mapping(line) {
                table = None;
            }
            if assigns(line, &key.name) {
                if table == key.table {
                    return Some(number);
                }
                anywhere = anywhere.or(Some(number));
            }
        }
        let opens =
            |name: &str| self.text.lines().position(|line| opened_table(line) == Some(name) || assigns(line, name));
        anywhere.or_else(|| opens(key.table?).map(|index| index + 1))
    }
}

/// True for `key = …` (TOML), `key: …` (YAML) and `"key": …` (JSON), also under the key's other name.
fn assigns(line: &str, key: &str) -> bool {
    let line = line.trim_start();
    let assigns = |key: &str| {
        let quoted = format!("\"{key}\"");
        line.strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with(['=', ':']))
            || line.split(&quoted).skip(1).any(|rest| rest.trim_start().starts_with(':'))
    };
    assigns(key) || ALIASES.iter().any(|(alias, name)| *name == key && assigns(alias))
}

/// Name of the table that a line opens: `[probe]` in TOML, `probe:` alone on an unindented line in YAML.
fn opened_table(line: &str) -> Option<&str> {
    let line = line.split(" #").next().unwrap_or_default().trim_end();
    let name = match line.strip_prefix('[') {
        Some(header) => header.strip_suffix(']')?,
        None => line.strip_suffix(':')?,
    };
    name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_').then_some(name)
}

/// True for an unindented YAML key, which ends the mapping before it.
fn closes_mapping(line: &str) -> bool {
    let indented = line.starts_with([' ', '\t', '#', '-']) || line.is_empty();
    !indented && line.contains(':') && !line.contains('=')
}
