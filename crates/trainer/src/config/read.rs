//! From a file's text to a checked configuration; what is wrong is told with its line.

use std::path::Path;

use super::keys::known_keys;
use super::{AlarmConfig, ProbeConfig, TrainConfig, published};
use crate::error::TrainError;

/// A configuration, and what its reader should know about how it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadConfig {
    /// The configuration.
    pub config: TrainConfig,
    /// Sentences: settings that mean nothing here, or something else than where the file comes from.
    pub notes: Vec<String>,
}

impl TrainConfig {
    /// Reads a TOML file, or with the ending `.yaml` or `.yml` a YAML file, in which effective_llm_alignment's flat keys
    /// are understood too; applies `key=value` overrides (dotted keys reach into tables) and checks the whole.
    ///
    /// # Errors
    /// When the file cannot be read, is not TOML or YAML, has an unknown key or a value out of range; with the place.
    pub fn read(path: &Path, overrides: &[String]) -> Result<ReadConfig, TrainError> {
        let text = std::fs::read_to_string(path).map_err(|source| TrainError::Io {
            path: path.to_owned(),
            action: "read",
            source,
        })?;
        if path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml") {
            return published::parse(&text, path, overrides);
        }
        Ok(ReadConfig { config: Self::parse(&text, path, overrides)?, notes: Vec::new() })
    }

    /// The same for TOML text that came from `origin`.
    ///
    /// # Errors
    /// As [`TrainConfig::read`].
    pub fn parse(text: &str, origin: &Path, overrides: &[String]) -> Result<Self, TrainError> {
        let source = Source { text, origin };
        let mut table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            let line = error.span().map(|span| smpo_files::line_at(text, span.start));
            source.error(line, error.message().to_owned())
        })?;
        for assignment in overrides {
            set(&mut table, assignment)
                .map_err(|message| source.error(None, format!("--set {assignment}: {message}")))?;
        }
        Self::from_table(table, &source)
    }

    pub(super) fn from_table(table: toml::Table, source: &Source<'_>) -> Result<Self, TrainError> {
        let refuse = |key: &str, known: &[&'static str], place: &str| {
            let hint = smpo_suggest::did_you_mean(key, known.iter().copied());
            source.error(source.line_of_key(key), format!("unknown key `{key}`{place}{hint}"))
        };
        // The loss table reports for itself: it knows its kinds and their keys.
        let tables = [("probe", known_keys::<ProbeConfig>()), ("alarms", known_keys::<AlarmConfig>())];
        let known = known_keys::<TrainConfig>();
        if let Some(key) = table.keys().find(|key| !known.contains(&key.as_str())) {
            return Err(refuse(key, known, ""));
        }
        for (name, known) in tables {
            let inner = table.get(name).and_then(toml::Value::as_table);
            if let Some(key) = inner.and_then(|table| table.keys().find(|key| !known.contains(&key.as_str()))) {
                return Err(refuse(key, known, &format!(" in [{name}]")));
            }
        }
        let at = |message: String| source.error(quoted(&message).and_then(|key| source.line_of_key(key)), message);
        let config: TrainConfig =
            toml::Value::Table(table).try_into().map_err(|error: toml::de::Error| at(error.message().to_owned()))?;
        config.check().map_err(at)?;
        Ok(config)
    }
}

/// `a.b=value`: the value as TOML where it parses, as a string otherwise.
pub(super) fn set(table: &mut toml::Table, assignment: &str) -> Result<(), String> {
    let (key, value) = assignment.split_once('=').ok_or("expected key=value")?;
    let value = value.trim();
    let parsed = format!("value = {value}").parse::<toml::Table>().ok().and_then(|mut parsed| parsed.remove("value"));
    let value = parsed.unwrap_or_else(|| toml::Value::String(value.to_owned()));
    let mut path: Vec<&str> = key.trim().split('.').collect();
    let last = path.pop().filter(|last| !last.is_empty()).ok_or("expected a key before `=`")?;
    let mut table = table;
    for part in path {
        let entry = table.entry(part.to_owned()).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        table = entry.as_table_mut().ok_or_else(|| format!("`{part}` is not a table"))?;
    }
    table.insert(last.to_owned(), value);
    Ok(())
}

/// Where a configuration came from, for errors.
pub(super) struct Source<'a> {
    pub text: &'a str,
    pub origin: &'a Path,
}

impl Source<'_> {
    pub(super) fn error(&self, line: Option<usize>, message: String) -> TrainError {
        TrainError::Config { origin: self.origin.to_owned(), line, message }
    }

    /// The first line that assigns `key`, in TOML or in YAML.
    pub(super) fn line_of_key(&self, key: &str) -> Option<usize> {
        let assigns = |line: &str| {
            line.trim_start().strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with(['=', ':']))
        };
        self.text.lines().position(assigns).map(|index| index + 1)
    }
}

/// What a message quotes first.
pub(super) fn quoted(message: &str) -> Option<&str> {
    message.split('`').nth(1)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    const MINIMAL: &str = r#"
model_name_or_path = "base"
output_dir = "out"
dataset = "pairs.jsonl"
learning_rate = 1e-4

[loss]
kind = "smpo"
"#;

    fn parse(text: &str, overrides: &[&str]) -> Result<TrainConfig, String> {
        let overrides: Vec<String> = overrides.iter().map(|s| (*s).to_owned()).collect();
        TrainConfig::parse(text, Path::new("run.toml"), &overrides).map_err(|error| error.to_string())
    }

    #[test]
    fn a_minimal_file_is_enough() {
        let config = parse(MINIMAL, &[]).unwrap();
        assert_eq!(config.dataset, [PathBuf::from("pairs.jsonl")]);
        assert_eq!(config.batch_size(), 1);
        assert_eq!(config.total_steps(10), 10);
    }

    #[test]
    fn a_resolved_configuration_reads_back_the_same() {
        let config = parse(MINIMAL, &["warmup_ratio=0.1", "loss.beta=1.5"]).unwrap();
        let text = toml::to_string(&config).unwrap();
        assert_eq!(parse(&text, &[]).unwrap(), config);
    }

    #[test]
    fn unknown_keys_are_refused_with_the_line_and_the_nearest() {
        let text = format!("learning_rat = 1\n{MINIMAL}");
        let error = parse(&text, &[]).unwrap_err();
        assert_eq!(error, "run.toml:1: unknown key `learning_rat` (did you mean `learning_rate`?)");
    }

    #[test]
    fn overrides_reach_into_tables_and_are_checked() {
        let config = parse(MINIMAL, &["seed=7", "output_dir=else where", "max_steps=3"]).unwrap();
        assert_eq!((config.seed, config.max_steps), (7, Some(3)));
        assert_eq!(config.output_dir, PathBuf::from("else where"));
        assert!(parse(MINIMAL, &["seed.x=7"]).is_err());
        assert!(parse(MINIMAL, &["nonsense"]).unwrap_err().contains("expected key=value"));
    }

    #[test]
    fn ranges_name_field_range_and_value() {
        let error = parse(MINIMAL, &["learning_rate=-1"]).unwrap_err();
        assert_eq!(error, "run.toml:5: `learning_rate` must be a positive number, got -1");
        let error = parse(MINIMAL, &["warmup_ratio=0.1", "warmup_steps=3"]).unwrap_err();
        assert!(error.contains("exclude each other"), "{error}");
    }
}
