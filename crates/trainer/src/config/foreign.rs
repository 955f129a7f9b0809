//! Configuration files of other trainers: [`smpo_imports`] translates them, overrides win over what they say.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Map, Value};
use smpo_imports::{Profile, Source, Translation};

use super::TrainConfig;
use super::check::{Key, Problems};
use super::file::{ConfigFile, Spelling};
use super::keys::known_keys;
use super::read::{ReadConfig, set};
use super::spellings;
use crate::error::TrainError;

/// A configuration that was read from another trainer's file.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportedConfig {
    /// The trainer's name for `--profile`.
    pub profile: &'static str,
    /// The method.
    pub method: &'static str,
    /// The file as one of this project, with a comment at each adopted default.
    pub text: String,
    /// Keys here that took the trainer's default.
    pub adopted: Vec<String>,
}

/// The profile to read a file by, with the method that the user names; `None` for a file of this project.
pub(super) struct Chosen {
    profile: &'static Profile,
    method: Option<String>,
}

impl Chosen {
    /// By `--profile`, or by the file's keys. A `loss` table makes it a file of this project, and so does a `kind`, unless keys
    /// beside it are those of a trainer that has this method.
    pub fn of(
        keys: &Map<String, Value>,
        overrides: &[String],
        forced: Option<&str>,
        file: &ConfigFile<'_>,
    ) -> Result<Option<Self>, TrainError> {
        let named = overrides.iter().rev().find_map(|given| given.strip_prefix("kind="));
        let method = named.or_else(|| keys.get("kind")?.as_str()).map(|name| name.trim().to_owned());
        if let Some(name) = forced {
            let profile = smpo_imports::profile_named(name)
                .map_err(|message| file.error(None, format!("--profile: {message}")))?;
            return Ok(Some(Self { profile, method }));
        }
        if keys.contains_key("loss") {
            return Ok(None);
        }
        let profile = match (smpo_imports::detect(keys), keys.contains_key("kind")) {
            (Ok(profile), false) => profile,
            (Err(problem), false) => return Err(file.error(None, problem.message)),
            (detected, true) => detected.ok().flatten().filter(|profile| {
                let trains = method.as_deref().is_some_and(|name| profile.method_named(name).is_some());
                trains && profile.distinctive.iter().any(|key| keys.contains_key(*key) && !is_of_flat_files(key))
            }),
        };
        Ok(profile.map(|profile| Self { profile, method }))
    }

    /// By TRL's subcommand.
    pub fn trl(method: Option<String>) -> Result<Self, TrainError> {
        let profile = smpo_imports::profile_named("trl").map_err(|message| args_error(&message))?;
        Ok(Self { profile, method })
    }

    /// The configuration of a file with its overrides.
    pub fn read(
        self,
        mut keys: Map<String, Value>,
        file: &mut ConfigFile<'_>,
        overrides: &[String],
    ) -> Result<ReadConfig, TrainError> {
        let mut problems = Problems::default();
        let overridden = self.apply(&mut keys, overrides, &mut problems);
        keys.shift_remove("kind");
        let name = file.path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let targets: BTreeSet<String> =
            overridden.iter().filter_map(|given| Some(given.split_once('=')?.0.trim().to_owned())).collect();
        let source =
            Source { keys: &keys, name: &name, method: self.method.as_deref(), overridden: &targets, own: &own_key };
        let translation = smpo_imports::translate(self.profile, &source).map_err(|problem| {
            let line = file.line_of_key(&Key::new(None, problem.key.as_str()));
            file.error(line, problem.message)
        })?;
        file.spellings = spelled(&translation);
        refuse(&translation, self.profile, &mut problems);
        let mut table = table_of(&translation, file)?;
        for given in &overridden {
            set(&mut table, given, &mut problems);
        }
        let text = super::printed::text(&translation, &table, file.path);
        let config = TrainConfig::from_table(table, file, problems)?;
        let mut notes = vec![translation.headline()];
        notes.extend(translation.notes.iter().cloned());
        let adopted = translation.adopted().map(|setting| setting.key.clone()).collect();
        let import = ImportedConfig { profile: self.profile.name, method: translation.method.name, text, adopted };
        Ok(ReadConfig { config, notes, import: Some(import) })
    }

    /// Puts overrides of the trainer's own keys into the file; returns those of this project's keys. Every other spelling
    /// of an overridden setting leaves the file.
    fn apply(&self, keys: &mut Map<String, Value>, overrides: &[String], problems: &mut Problems) -> Vec<String> {
        let mut ours = Vec::new();
        for given in overrides {
            let name = given.split('=').next().unwrap_or_default().trim();
            if name == "kind" && self.method.is_some() {
                continue;
            }
            let theirs = self.profile.all_keys().any(|key| key == name);
            let mut targets = if theirs { smpo_imports::targets(self.profile, name) } else { vec![name.to_owned()] };
            targets.extend(targets.clone().iter().flat_map(|key| spellings::others_of(key)).map(str::to_owned));
            keys.retain(|key, _| {
                let set = smpo_imports::targets(self.profile, key);
                let overridden = |target: &String| targets.contains(target);
                // One that sets other keys here too stays for those; the override is put over it in the end.
                let leaves =
                    if theirs { set.iter().any(overridden) } else { !set.is_empty() && set.iter().all(overridden) };
                key == name || !leaves
            });
            if !theirs && own_key(name).is_none_or(|key| key == name) {
                ours.push(given.clone());
                continue;
            }
            // a key that the override takes out is null, which is absent here
            let mut table = toml::Table::new();
            set(&mut table, given, problems);
            let value = table.remove(name).and_then(|value| serde_json::to_value(value).ok());
            keys.insert(name.to_owned(), value.unwrap_or(Value::Null));
        }
        ours
    }
}

/// The words that stand for a file in messages about TRL's command line.
pub(super) const TRL_ARGS: &str = "--trl-args";

/// An error in the words of TRL's command line.
pub(super) fn args_error(message: &str) -> TrainError {
    TrainError::config(Path::new(TRL_ARGS), None, message.to_owned())
}

/// The key here of a key of this project in another trainer's file: the transforms of a loss stand at the top there.
fn own_key(name: &str) -> Option<String> {
    if known_keys::<smpo_losses::Transforms>().contains(&name) {
        return Some(format!("loss.{name}"));
    }
    let own = known_keys::<TrainConfig>().iter().chain(&spellings::KEYS);
    own.filter(|key| **key != "loss").find(|key| **key == name).map(|key| (*key).to_owned())
}

/// True for a key that a flat file of this project may have.
fn is_of_flat_files(key: &str) -> bool {
    own_key(key).is_some() || smpo_losses::import::published_keys().any(|known| known == key)
}

/// The file's names of keys here.
fn spelled(translation: &Translation) -> Vec<Spelling> {
    let given = translation.settings.iter().filter_map(|setting| match &setting.origin {
        smpo_imports::Origin::Given(theirs) => Some(Spelling { theirs: theirs.clone(), ours: setting.key.clone() }),
        smpo_imports::Origin::Default | smpo_imports::Origin::Method => None,
    });
    given.collect()
}

/// Adds the translation's errors; keys that a refused one would have set are not missed as well.
fn refuse(translation: &Translation, profile: &Profile, problems: &mut Problems) {
    for problem in &translation.problems {
        problems.push_unread(Key::new(None, problem.key.as_str()), problem.message.clone());
        for target in smpo_imports::targets(profile, &problem.key) {
            let key = match target.split_once('.') {
                Some(("loss", name)) => Key::new(Some("loss"), name),
                Some(("prompt", name)) => Key::new(Some("prompt"), name),
                _ => Key::new(None, target),
            };
            problems.unread.insert(key);
        }
    }
}

fn table_of(translation: &Translation, file: &ConfigFile<'_>) -> Result<toml::Table, TrainError> {
    let mut table = toml::Table::new();
    for setting in &translation.settings {
        let value = toml::Value::try_from(&setting.value).map_err(|error| file.error(None, error.to_string()))?;
        match setting.key.split_once('.') {
            Some((outer, inner)) => {
                let entry = table.entry(outer).or_insert_with(|| toml::Value::Table(toml::Table::new()));
                if let Some(entry) = entry.as_table_mut() {
                    entry.insert(inner.to_owned(), value);
                }
            }
            None => drop(table.insert(setting.key.clone(), value)),
        }
    }
    Ok(table)
}

/// Keys of a file by its format: YAML, JSON or TOML.
pub(super) fn keys(text: &str, path: &Path, file: &ConfigFile<'_>) -> Result<Map<String, Value>, TrainError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("json") => serde_json::from_str(text).map_err(|error| file.error(Some(error.line()), error.to_string())),
        _ => serde_saphyr::from_str(text).map_err(|error| {
            let line = error.location().map(|location| location.line() as usize);
            let whole = error.to_string();
            file.error(line, in_own_words(whole.lines().next().unwrap_or("not YAML")))
        }),
    }
}

/// The parser's message without its own place, and without advice to its callers.
fn in_own_words(message: &str) -> String {
    let message =
        message.strip_prefix("error: line ").and_then(|rest| rest.split_once(": ")).map_or(message, |(_, rest)| rest);
    if message.contains("budget breached") {
        return "the document is too deep or too large".to_owned();
    }
    if message.contains("from_multiple") || message.contains("from_str_multiple") {
        return "expected one document, got several, with `---` between them; keep the one that is meant".to_owned();
    }
    if message.contains("recursive references") {
        return "anchors that contain themselves are not read".to_owned();
    }
    message.split(", set DuplicateKeyPolicy").next().unwrap_or(message).to_owned()
}
