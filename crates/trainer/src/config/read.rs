//! Reads a configuration from TOML: every key by itself, so that all errors of a file are reported at once.

use std::collections::BTreeMap;
use std::path::Path;

use serde::de::DeserializeOwned;
use smpo_suggest::expected_and_got;
use toml::{Table, Value};

use super::builder::REQUIRED;
use super::check::{Key, Problem, Problems};
use super::file::ConfigFile;
use super::foreign::{Chosen, ImportedConfig};
use super::keys::known_keys;
use super::{AlarmConfig, ProbeConfig, PromptConfig, TrainConfig, flat, foreign, spellings};
use crate::error::TrainError;

/// A configuration read from a file.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadConfig {
    /// The configuration.
    pub config: TrainConfig,
    /// Notes for the user: the trainer that the file is for with the defaults that were adopted, ignored settings, and
    /// settings with another meaning than where the file comes from.
    pub notes: Vec<String>,
    /// The translation of another trainer's file.
    pub import: Option<ImportedConfig>,
}

/// Other names of keys.
pub(super) const ALIASES: [(&str, &str); 7] = [
    ("lora_modules_to_save", "modules_to_save"),
    ("new_special_tokens", "added_special_tokens"),
    ("model", "model_name_or_path"),
    ("save_dir", "output_dir"),
    ("ref_model", "reference_model_name_or_path"),
    ("ref_model_name_or_path", "reference_model_name_or_path"),
    ("teacher_model_name_or_path", "reference_model_name_or_path"),
];

impl TrainConfig {
    /// Reads a file of this project or of another trainer, in TOML, or with the ending `.yaml`, `.yml` or `.json` in YAML or
    /// JSON; applies `key=value` overrides (dotted keys reach into tables) and checks the whole.
    ///
    /// # Errors
    /// When the file cannot be read or parsed; else all keys that are unknown, missing, of another type, out of range or
    /// exclude each other, with their lines.
    pub fn read(path: &Path, overrides: &[String]) -> Result<ReadConfig, TrainError> {
        Self::read_as(path, None, overrides)
    }

    /// [`TrainConfig::read`] of a file of the trainer that `profile` names (docs/imports.md); its keys tell it where it is
    /// absent.
    ///
    /// # Errors
    /// As [`TrainConfig::read`]; when there is no such profile.
    pub fn read_as(path: &Path, profile: Option<&str>, overrides: &[String]) -> Result<ReadConfig, TrainError> {
        let text = std::fs::read_to_string(path).map_err(crate::error::io(path, "read"))?;
        let mut file = ConfigFile::new(&text, path);
        let is_toml =
            !path.extension().is_some_and(|ending| ["yaml", "yml", "json"].iter().any(|known| ending == *known));
        let keys = if is_toml { json(file.toml()?) } else { foreign::keys(&text, path, &file)? };
        match Chosen::of(&keys, overrides, profile, &file)? {
            Some(chosen) => chosen.read(keys, &mut file, overrides),
            None if is_toml => {
                Ok(ReadConfig { config: Self::parse(&text, path, overrides)?, notes: Vec::new(), import: None })
            }
            None => flat::parse(keys, &file, overrides),
        }
    }

    /// Reads the words of TRL's command line, `dpo --model_name_or_path M …`, with the file that `--config` names.
    ///
    /// # Errors
    /// As [`TrainConfig::read`]; at a word that is no flag.
    pub fn read_trl_args(words: &[String], overrides: &[String]) -> Result<ReadConfig, TrainError> {
        let args = smpo_imports::trl_args(words).map_err(|message| foreign::args_error(&message))?;
        let path = args.config.as_deref().map_or(Path::new(foreign::TRL_ARGS), Path::new);
        let text = match &args.config {
            Some(_) => std::fs::read_to_string(path).map_err(crate::error::io(path, "read"))?,
            None => "{}".to_owned(),
        };
        let mut file = ConfigFile::new(&text, path);
        let mut keys = foreign::keys(&text, path, &file)?;
        keys.extend(args.keys);
        Chosen::trl(args.method)?.read(keys, &mut file, overrides)
    }

    /// Reads TOML text that came from `origin`.
    ///
    /// # Errors
    /// As [`TrainConfig::read`].
    pub fn parse(text: &str, origin: &Path, overrides: &[String]) -> Result<Self, TrainError> {
        let file = ConfigFile::new(text, origin);
        let mut table = file.toml()?;
        let mut problems = Problems::default();
        for assignment in overrides {
            set(&mut table, assignment, &mut problems);
        }
        Self::from_table(table, &file, problems)
    }

    /// Reads the keys of a table and checks the whole; `problems` holds what was wrong before.
    pub(super) fn from_table(
        mut table: Table,
        file: &ConfigFile<'_>,
        mut problems: Problems,
    ) -> Result<Self, TrainError> {
        for (alias, name) in ALIASES {
            let Some(value) = table.remove(alias) else { continue };
            if table.contains_key(name) {
                let message = format!("`{alias}` and `{name}` are one setting: give one");
                problems.push(Key::new(None, alias), message);
            } else {
                table.insert(name.to_owned(), value);
            }
        }
        spellings::translate(&mut table, &mut problems);
        read_loss(&mut table, &mut problems);
        read_table::<AlarmConfig>(&mut table, "alarms", &Table::new(), &mut problems);
        let prompts = Table::from_iter([("prompts".to_owned(), Value::from(""))]);
        read_table::<ProbeConfig>(&mut table, "probe", &prompts, &mut problems);
        read_table::<PromptConfig>(&mut table, "prompt", &Table::new(), &mut problems);
        let table = readable::<TrainConfig>(table, None, &placeholders(), &mut problems);
        let config: Result<TrainConfig, _> = Value::Table(table).try_into();
        match config {
            Ok(config) => {
                config.check(&mut problems);
                if problems.found.is_empty() { Ok(config) } else { Err(file.errors(problems)) }
            }
            Err(error) if problems.found.is_empty() => Err(file.error(None, error.message().to_owned())),
            Err(_) => Err(file.errors(problems)),
        }
    }
}

/// A table as JSON; numbers that JSON lacks (nan, inf) are null there.
fn json(table: Table) -> serde_json::Map<String, serde_json::Value> {
    match serde_json::to_value(table) {
        Ok(serde_json::Value::Object(keys)) => keys,
        _ => serde_json::Map::new(),
    }
}

/// Values for the keys without a default, which stand in for those that are missing or cannot be read.
fn placeholders() -> Table {
    let mut table = Table::from_iter(REQUIRED.map(|name| (name.to_owned(), Value::from(""))));
    table.insert("learning_rate".to_owned(), Value::from(1.0));
    table.insert("loss".to_owned(), Value::Table(Table::from_iter([("kind".to_owned(), Value::from("smpo"))])));
    table
}

/// Unknown keys that are compared with all known ones: a file of other content may have thousands.
const HINTS: usize = 200;

/// Reads each key of a table by itself beside `placeholders`; returns the table without the keys that could not be read,
/// and with placeholders for the required ones among them.
fn readable<T: DeserializeOwned>(
    table: Table,
    name: Option<&'static str>,
    placeholders: &Table,
    problems: &mut Problems,
) -> Table {
    let known = known_keys::<T>();
    let mut read = Table::new();
    for (key, value) in table {
        if !known.contains(&key.as_str()) {
            let likely = || smpo_suggest::did_you_mean(&key, known.iter().copied());
            let hint = if problems.found.len() < HINTS { likely() } else { String::new() };
            let place = name.map_or(String::new(), |name| format!(" in [{name}]"));
            let message = format!("unknown key `{key}`{place}{hint}");
            problems.push_unread(Key::new(name, key), message);
            continue;
        }
        let alone = |value: &Value| {
            let mut alone = placeholders.clone();
            alone.insert(key.clone(), value.clone());
            Value::Table(alone).try_into::<T>()
        };
        match reading(value, alone) {
            Ok(value) => {
                read.insert(key, value);
            }
            Err(error) => {
                let key = Key::new(name, key);
                let message = format!("{key}: {}", expected_and_got(error.message()));
                problems.push_unread(key, message);
            }
        }
    }
    // Alphabetically: a table keeps the order of its keys only with a feature that other crates turn on.
    for (key, value) in placeholders.iter().collect::<BTreeMap<_, _>>() {
        let place = Key::new(name, key);
        if !read.contains_key(key) {
            if !problems.unread.contains(&place) {
                let hint =
                    if key == "loss" { "; a table `[loss]` has it as `kind`, such as \"smpo\" or \"dpo\"" } else { "" };
                let message = format!("missing key {place}{hint}");
                problems.push_unread(place, message);
            }
            read.insert(key.clone(), value.clone());
        }
    }
    read
}

/// The value as it is, or the first of its other readings that is of its key's type.
fn reading<T>(value: Value, read: impl Fn(&Value) -> Result<T, toml::de::Error>) -> Result<Value, toml::de::Error> {
    let Err(error) = read(&value) else { return Ok(value) };
    spellings::other_readings(&value).into_iter().find(|other| read(other).is_ok()).ok_or(error)
}

/// Reads `[name]`, if it is there, and leaves what could be read in its place.
fn read_table<T: DeserializeOwned>(
    table: &mut Table,
    name: &'static str,
    placeholders: &Table,
    problems: &mut Problems,
) {
    let Some(given) = table.remove(name) else { return };
    match given {
        Value::Table(given) => {
            table.insert(name.to_owned(), Value::Table(readable::<T>(given, Some(name), placeholders, problems)));
        }
        other => {
            let message = format!("`{name}`: expected a table, got {} `{other}`", other.type_str());
            problems.push_unread(Key::new(None, name), message);
        }
    }
}

/// Reads `[loss]`, which reports its own errors: its kinds have different keys.
fn read_loss(table: &mut Table, problems: &mut Problems) {
    let Some(given) = table.remove("loss") else { return };
    let unread = |problems: &mut Problems, name: &str, message: String| {
        problems.push(Key::new(Some("loss"), name), message);
        problems.unread.insert(Key::new(None, "loss"));
    };
    let Value::Table(mut given) = given else {
        let message = format!("`loss`: expected a table with `kind`, got {} `{given}`", given.type_str());
        problems.push_unread(Key::new(None, "loss"), message);
        return;
    };
    let kind = given.remove("kind").map(|kind| ("kind".to_owned(), kind));
    let alone = |key: Option<(String, Value)>| {
        let table = Table::from_iter(kind.clone().into_iter().chain(key));
        Value::Table(table).try_into::<smpo_losses::LossConfig>()
    };
    if let Err(error) = alone(None) {
        unread(problems, "kind", error.message().to_owned());
        return;
    }
    let mut read = Table::from_iter(kind.clone());
    for (key, value) in given {
        match reading(value, |value| alone(Some((key.clone(), value.clone())))) {
            Ok(value) => {
                read.insert(key, value);
            }
            Err(error) => problems.push_unread(Key::new(Some("loss"), key), of_key(error.message())),
        }
    }
    table.insert("loss".to_owned(), Value::Table(read));
}

/// [`expected_and_got`] of an error that quotes its key: `` `key`: invalid type: … ``.
pub(super) fn of_key(message: &str) -> String {
    match message.split_once("`: ") {
        Some((key, wrong)) => format!("{key}`: {}", expected_and_got(wrong)),
        None => message.to_owned(),
    }
}

/// Applies `a.b=value`: the value as TOML where it parses, as a string otherwise.
pub(super) fn set(table: &mut Table, assignment: &str, problems: &mut Problems) {
    let given: Vec<&str> =
        problems.overrides.iter().filter_map(|given| Some(given.split_once('=')?.0.trim())).collect();
    match assign(table, assignment, &given) {
        Ok(()) => problems.overrides.push(assignment.to_owned()),
        Err(message) => {
            problems.found.push(Problem { key: None, message: format!("--set {assignment}: {message}") });
        }
    }
}

/// Other spellings of the setting make way, unless they were `given` by overrides too.
fn assign(table: &mut Table, assignment: &str, given: &[&str]) -> Result<(), String> {
    let (key, value) = assignment.split_once('=').ok_or("expected key=value")?;
    let value = value.trim();
    if value.is_empty() {
        return Err("expected a value after `=`; null takes the key out".to_owned());
    }
    if value.bytes().all(|byte| byte.is_ascii_digit()) && value.parse::<i64>().is_err() {
        return Err(format!("expected a whole number of at most {}", i64::MAX));
    }
    let parsed = format!("value = {value}").parse::<Table>().ok().and_then(|mut parsed| parsed.remove("value"));
    let value = parsed.unwrap_or_else(|| Value::String(value.to_owned()));
    let mut path: Vec<&str> = key.trim().split('.').collect();
    let last = path.pop().filter(|last| !last.is_empty()).ok_or("expected a key before `=`")?;
    let mut table = table;
    if path.is_empty() {
        for other in spellings::others_of(last).into_iter().filter(|other| !given.contains(other)) {
            table.remove(other);
        }
    }
    for part in path {
        let entry = table.entry(part.to_owned()).or_insert_with(|| Value::Table(Table::new()));
        table = entry.as_table_mut().ok_or_else(|| format!("`{part}` is not a table"))?;
    }
    match value.as_str() {
        // TOML has no null: the key is then as if it was not in the file
        Some("null") => table.remove(last),
        _ => table.insert(last.to_owned(), value),
    };
    Ok(())
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
    fn null_takes_a_key_out() {
        let text = format!("dataset_sample = 400\n{MINIMAL}beta = 2.0\n");
        let config = parse(&text, &["dataset_sample=null", "loss.beta=\"null\"", "seed=null"]).unwrap();
        assert_eq!(config.dataset_sample, None);
        assert_eq!(config.loss, parse(MINIMAL, &[]).unwrap().loss);
        assert!(parse(&text, &["dataset=null"]).unwrap_err().contains("`dataset`"));
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
        assert_eq!(error, "run.toml: --set learning_rate=-1: `learning_rate` must be a positive number, got -1");
        let error = parse(MINIMAL, &["warmup_ratio=0.1", "warmup_steps=3"]).unwrap_err();
        assert!(error.contains("exclude each other"), "{error}");
    }

    /// A line is looked for once for all keys, not once for each.
    #[test]
    fn a_file_of_unknown_keys_is_refused_in_seconds_and_in_a_page() {
        let text: String = (1..=30_000).map(|number| format!("key_{number} = 1\n")).collect();
        let begun = std::time::Instant::now();
        let error = parse(&text, &[]).unwrap_err();
        assert!(begun.elapsed().as_secs() < 30, "{:?}", begun.elapsed());
        assert!(error.starts_with("run.toml: 300"), "{}", &error[..80]);
        assert!(error.contains("\n  run.toml:2: ") && !error.contains("\n  run.toml:60: "), "{error}");
        assert!(error.lines().count() == 52 && error.lines().last().unwrap().contains("more"), "{error}");
    }

    #[test]
    fn all_errors_of_a_file_come_at_once_in_the_order_of_its_lines() {
        let text = r#"
output_dir = 7
dataset = "pairs.jsonl"
learning_rat = 1e-4
max_steps = 0
lr_scheduler_type = "cosin"
warmup_ratio = 0.1
warmup_steps = 3
early_stopping_patience = 2

[loss]
kind = "smpo"
beta = -1
eos_trem = "invert"
min_log_prob = "low"

[alarms]
window = 0

[probe]
steps = 0
max_eos_drop = true
"#;
        let expected = [
            "run.toml: 15 errors",
            "  run.toml:2: `output_dir`: expected a path, got integer `7`",
            "  run.toml:4: unknown key `learning_rat` (did you mean `learning_rate`?)",
            "  run.toml:5: `max_steps` must be at least 1, got 0",
            "  run.toml:6: `lr_scheduler_type`: unknown variant `cosin`, expected one of `constant`, \
             `constant_with_warmup`, `linear`, `cosine`, `cosine_with_min_lr`, `warmup_stable_decay`, `wsd` (did you mean \
             `cosine`?)",
            "  run.toml:7: `warmup_ratio` and `warmup_steps` exclude each other: give one",
            "  run.toml:9: `early_stopping_patience` compares by eval_loss, which needs `test_size` or `eval_dataset`",
            "  run.toml:13: loss `smpo`: `beta` must be",
            "  run.toml:14: loss `smpo`: unknown key `eos_trem` (did you mean `eos_term`?)",
            "  run.toml:15: `min_log_prob`: ",
            "  run.toml:18: `alarms.window` must be at least 1, got 0",
            "  run.toml:20: missing key `probe.prompts`",
            "  run.toml:21: `probe.steps` must be at least 1, got 0",
            "  run.toml:22: `probe.max_eos_drop`: expected a number, got boolean `true`",
            "  run.toml: missing key `learning_rate`",
            "  run.toml: missing key `model_name_or_path`",
        ];
        let error = parse(text, &[]).unwrap_err();
        assert_eq!(error.lines().count(), expected.len(), "{error}");
        for (found, expected) in error.lines().zip(expected) {
            assert!(found.starts_with(expected), "{expected}\n{found}");
        }
    }

    #[test]
    fn overrides_that_cannot_be_read_come_with_the_other_errors() {
        let error = parse(MINIMAL, &["seed.x=7", "nonsense", "max_length=1"]).unwrap_err();
        assert_eq!(error.lines().count(), 4, "{error}");
        assert!(
            error.contains("--set nonsense: expected key=value") && error.contains("`max_length` must be"),
            "{error}"
        );
    }

    #[test]
    fn a_configuration_built_in_code_is_the_one_read_from_a_file() {
        let builder = TrainConfig::builder(smpo_losses::Loss::Smpo(Default::default())).model("base").output_dir("out");
        let built = builder.train_files(["pairs.jsonl"]).learning_rate(1e-4).build().unwrap();
        assert_eq!(built, parse(MINIMAL, &[]).unwrap());
    }

    #[test]
    fn every_alias_is_a_key() {
        for (alias, name) in ALIASES {
            let known = known_keys::<TrainConfig>();
            assert!(known.contains(&alias) && known.contains(&name), "{alias} {name}");
        }
    }
}
