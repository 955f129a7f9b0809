//! The file that a configuration comes from: keys to line numbers, problems to errors.

use std::cell::OnceCell;
use std::collections::HashMap;
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
    lines: OnceCell<KeyLines<'a>>,
}

/// A key of another trainer's file, and the one of this project that it set.
pub(super) struct Spelling {
    pub theirs: String,
    /// With its table: `loss.beta`.
    pub ours: String,
}

impl<'a> ConfigFile<'a> {
    pub(super) fn new(text: &'a str, path: &'a Path) -> Self {
        Self { text, path, spellings: Vec::new(), lines: OnceCell::new() }
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
        self.lines.get_or_init(|| KeyLines::of(self.text)).line_of(key)
    }
}

/// The lines that assign keys and open tables, found once: a file may have thousands of keys that are not known.
struct KeyLines<'a> {
    /// Key as it is written → lines that assign it, ascending, each with its table.
    assigned: HashMap<&'a str, Vec<(usize, Option<&'a str>)>>,
    /// Table → the first line that opens it.
    opened: HashMap<&'a str, usize>,
}

impl<'a> KeyLines<'a> {
    fn of(text: &'a str) -> Self {
        let (mut assigned, mut opened) = (HashMap::<_, Vec<_>>::new(), HashMap::new());
        let mut table = None;
        for (number, line) in (1..).zip(text.lines()) {
            if let Some(name) = opened_table(line) {
                table = Some(name);
                opened.entry(name).or_insert(number);
            } else if closes_mapping(line) {
                table = None;
            }
            for key in assigned_keys(line) {
                let lines = assigned.entry(key).or_default();
                if lines.last() != Some(&(number, table)) {
                    lines.push((number, table));
                }
            }
        }
        Self { assigned, opened }
    }

    /// Lines that assign a key, also under its other names.
    fn assigning(&self, key: &str) -> impl Iterator<Item = &(usize, Option<&'a str>)> {
        let aliases = ALIASES.iter().filter(move |(_, name)| *name == key).map(|(alias, _)| *alias);
        std::iter::once(key.to_owned())
            .chain(aliases.map(str::to_owned))
            .filter_map(move |name| self.assigned.get(name.as_str()))
            .flatten()
    }

    fn line_of(&self, key: &Key) -> Option<usize> {
        let within = self.assigning(&key.name).filter(|(_, table)| *table == key.table).map(|(line, _)| *line).min();
        let anywhere = || self.assigning(&key.name).map(|(line, _)| *line).min();
        let opens = |table: &str| {
            let assigned = self.assigning(table).map(|(line, _)| *line);
            assigned.chain(self.opened.get(table).copied()).min()
        };
        within.or_else(anywhere).or_else(|| opens(key.table?))
    }
}

/// Keys that a line may assign: `key = …` (TOML), `key: …` (YAML) and `"key": …` (JSON).
fn assigned_keys(line: &str) -> impl Iterator<Item = &str> {
    let start = line.trim_start();
    let plain = start.find(['=', ':']).map(|end| start[..end].trim_end());
    let quoted = line.match_indices(':').filter_map(move |(colon, _)| {
        let before = line[..colon].trim_end().strip_suffix('"')?;
        Some(&before[before.rfind('"')? + 1..])
    });
    plain.into_iter().chain(quoted)
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
