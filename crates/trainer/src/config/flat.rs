//! This project's keys in flat YAML or JSON: `kind` names the loss, whose keys stand among the others.

use serde_json::{Map, Value};

use super::TrainConfig;
use super::check::{Key, Problems};
use super::file::ConfigFile;
use super::keys::known_keys;
use super::read::{ReadConfig, of_key, set};
use super::spellings;
use crate::error::TrainError;

/// Reads the keys of a file that no other trainer has.
pub(super) fn parse(
    keys: Map<String, Value>,
    file: &ConfigFile<'_>,
    overrides: &[String],
) -> Result<ReadConfig, TrainError> {
    let mut flat = Flat { keys, notes: Vec::new(), problems: Problems::default() };
    // Beside a `loss` table an override without a dot is a key of the file; in a flat file it may be one of the loss.
    let own = flat.keys.contains_key("loss");
    let (dotted, plain): (Vec<&String>, Vec<&String>) =
        overrides.iter().partition(|given| own || given.split('=').next().is_some_and(|key| key.contains('.')));
    for given in plain {
        flat.set(given);
    }
    let loss = if own { None } else { flat.take_loss() };
    flat.ignore();
    let mut table = flat.table(file)?;
    if let Some(loss) = loss {
        let loss = toml::Table::try_from(&loss).map_err(|error| file.error(None, error.to_string()))?;
        table.insert("loss".to_owned(), toml::Value::Table(loss));
    }
    for given in dotted {
        set(&mut table, given, &mut flat.problems);
    }
    let config = TrainConfig::from_table(table, file, flat.problems)?;
    Ok(ReadConfig { config, notes: flat.notes, import: None })
}

struct Flat {
    keys: Map<String, Value>,
    notes: Vec<String>,
    problems: Problems,
}

impl Flat {
    fn set(&mut self, assignment: &str) {
        let name = assignment.split('=').next().unwrap_or_default().trim();
        self.keys.shift_remove(name);
        // Other spellings of the setting make way, unless they were given by overrides too.
        let earlier: Vec<&str> =
            self.problems.overrides.iter().filter_map(|given| Some(given.split_once('=')?.0.trim())).collect();
        let others = spellings::others_of(name).into_iter().chain(smpo_losses::import::other_spellings(name));
        for other in others.filter(|other| !earlier.contains(other)) {
            self.keys.shift_remove(other);
        }
        let mut table = toml::Table::new();
        set(&mut table, assignment, &mut self.problems);
        for (key, value) in table {
            // TOML's numbers that JSON lacks (nan, inf) become null, which is absent here.
            self.keys.insert(key, serde_json::to_value(value).unwrap_or(Value::Null));
        }
    }

    /// Takes the loss's own keys out.
    fn take_loss(&mut self) -> Option<smpo_losses::LossConfig> {
        let kind = self.keys.shift_remove("kind");
        let kind = kind.as_ref().and_then(Value::as_str);
        let mut keys = std::mem::take(&mut self.keys);
        for key in smpo_losses::import::published_keys() {
            let number = keys.get(key).and_then(Value::as_str).and_then(|text| text.trim().parse::<f64>().ok());
            if let Some(number) = number {
                keys.insert(key.to_owned(), Value::from(number));
            }
        }
        match smpo_losses::import::published(kind, keys.clone()) {
            Ok(imported) => {
                self.notes.extend(imported.notes);
                self.keys = imported.rest;
                Some(imported.config)
            }
            Err(error) => {
                let message = match error {
                    smpo_losses::import::ImportError::NoKind if !strange_tables(&keys).is_empty() => of_tables(&keys),
                    smpo_losses::import::ImportError::NoKind => {
                        "cannot tell the loss from the keys: name it with `kind: dpo` or --set kind=dpo, or the trainer that the \
                         file is for with --profile"
                            .to_owned()
                    }
                    other => of_key(&other.to_string()),
                };
                // The message quotes the key.
                let key = message.split('`').skip(1).step_by(2).find(|quoted| keys.contains_key(*quoted));
                let key = key.unwrap_or("kind").to_owned();
                self.problems.push(Key::new(None, key), message);
                self.problems.unread.insert(Key::new(None, "loss"));
                self.keys = keys;
                let of_losses: Vec<&str> = smpo_losses::import::published_keys().collect();
                let known = known_keys::<TrainConfig>();
                self.keys.retain(|key, _| known.contains(&key.as_str()) || !of_losses.contains(&key.as_str()));
                None
            }
        }
    }

    /// Takes out what changes nothing for any trainer.
    fn ignore(&mut self) {
        let known = known_keys::<TrainConfig>();
        let ignored: Vec<String> = self
            .keys
            .keys()
            .filter(|key| !known.contains(&key.as_str()) && smpo_imports::is_without_effect(key))
            .cloned()
            .collect();
        self.keys.retain(|key, _| !ignored.contains(key));
        if !ignored.is_empty() {
            let quoted: Vec<String> = ignored.iter().map(|key| format!("`{key}`")).collect();
            self.notes.push(format!("ignored settings: {}", quoted.join(", ")));
        }
    }

    fn table(&mut self, file: &ConfigFile<'_>) -> Result<toml::Table, TrainError> {
        let mut keys = std::mem::take(&mut self.keys);
        keys.retain(|_, value| !value.is_null());
        for (key, value) in keys.iter_mut() {
            if let Some(place) = take_nulls(value) {
                let message = format!("`{key}{place}`: expected a value, got null; leave the key out");
                self.problems.push(Key::new(None, key.clone()), message);
            }
        }
        toml::Table::try_from(&keys).map_err(|error| file.error(None, error.to_string()))
    }
}

/// Takes out the nulls within a value, which TOML has no place for; the first one's place, as `.a.b`.
fn take_nulls(value: &mut Value) -> Option<String> {
    let found = match value {
        Value::Object(fields) => {
            let null = fields.iter().find(|(_, value)| value.is_null()).map(|(key, _)| format!(".{key}"));
            fields.retain(|_, value| !value.is_null());
            null.or_else(|| fields.iter_mut().find_map(|(key, value)| Some(format!(".{key}{}", take_nulls(value)?))))
        }
        Value::Array(items) => {
            let null = items.iter().position(Value::is_null).map(|at| format!("[{at}]"));
            items.retain(|value| !value.is_null());
            null.or_else(|| {
                items.iter_mut().enumerate().find_map(|(at, value)| Some(format!("[{at}]{}", take_nulls(value)?)))
            })
        }
        _ => None,
    };
    if found.is_some() {
        while take_nulls(value).is_some() {}
    }
    found
}

/// Tables that no key here has, such as those in which other programs group their settings.
fn strange_tables(keys: &Map<String, Value>) -> Vec<&String> {
    let known = known_keys::<TrainConfig>();
    keys.iter().filter(|(key, value)| value.is_object() && !known.contains(&key.as_str())).map(|(key, _)| key).collect()
}

/// The message for a file of tables.
fn of_tables(keys: &Map<String, Value>) -> String {
    let tables: Vec<String> = strange_tables(keys).into_iter().map(|key| format!("`{key}`")).collect();
    let trainers: Vec<&str> = smpo_imports::PROFILES.iter().map(|profile| profile.title).collect();
    format!(
        "cannot tell the loss from the keys, and the file has tables of settings ({}), as none that is read here has ({}): write \
         them with the keys of this program (docs/configuration.md)",
        tables.join(", "),
        trainers.join(", ")
    )
}
