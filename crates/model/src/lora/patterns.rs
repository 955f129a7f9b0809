//! Values by patterns of module names, as PEFT's `rank_pattern` and `alpha_pattern` hold them.

use std::collections::BTreeMap;

use regex_automata::meta::Regex;
use serde_json::Value;

use crate::error::{ModelError, Result};
use crate::fields::Fields;

/// Values by regular expressions for the end of a module's name; the first that fits counts.
#[derive(Debug)]
pub(super) struct NamePatterns<T>(Vec<(Regex, T)>);

impl<T: Copy> NamePatterns<T> {
    /// Reads a field that may be absent; `value` gives a value or, of one that does not fit, nothing.
    pub fn read(fields: &Fields, field: &str, expected: &str, value: impl Fn(&Value) -> Option<T>) -> Result<Self> {
        let object = match fields.get(field) {
            None | Some(Value::Null) => return Ok(Self(Vec::new())),
            Some(Value::Object(object)) => object,
            Some(other) => return Err(fields.wrong(field, "an object", other)),
        };
        let pattern = |(key, given): (&String, &Value)| -> Result<(Regex, T)> {
            let regex =
                regex(key).map_err(|_| fields.unsupported(format!("the regular expression `{key}` in `{field}`")))?;
            Ok((regex, value(given).ok_or_else(|| fields.wrong(field, expected, given))?))
        };
        Ok(Self(object.iter().map(pattern).collect::<Result<_>>()?))
    }

    /// The value of a module.
    pub fn of(&self, module: &str) -> Option<T> {
        self.0.iter().find(|(regex, _)| regex.is_match(module)).map(|(_, value)| *value)
    }
}

/// The values of a training configuration, of which every one has to count.
pub(super) struct OwnPatterns<'a, T> {
    field: &'static str,
    patterns: Vec<(&'a str, Regex, T)>,
}

impl<'a, T: Copy + PartialEq> OwnPatterns<'a, T> {
    pub fn new(field: &'static str, values: &'a BTreeMap<String, T>) -> Result<Self> {
        let pattern = |(key, value): (&'a String, &T)| {
            let regex = regex(key).map_err(|error| {
                ModelError::input(field, "regular expressions of module names", format!("`{key}`: {error}"))
            })?;
            Ok((key.as_str(), regex, *value))
        };
        Ok(Self { field, patterns: values.iter().map(pattern).collect::<Result<_>>()? })
    }

    /// The value of each of some modules.
    pub fn of_each(&self, modules: &[String]) -> Result<Vec<Option<T>>> {
        for (key, regex, _) in &self.patterns {
            if !modules.iter().any(|module| regex.is_match(module.as_str())) {
                let ends = modules.iter().filter_map(|module| module.rsplit('.').next());
                let hint = smpo_suggest::did_you_mean(key, ends);
                return Err(ModelError::input(self.field, "names of layers with an adapter", format!("`{key}`{hint}")));
            }
        }
        modules.iter().map(|module| self.of(module)).collect()
    }

    fn of(&self, module: &str) -> Result<Option<T>> {
        let mut found: Option<(&str, T)> = None;
        for (key, _, value) in self.patterns.iter().filter(|(_, regex, _)| regex.is_match(module)) {
            match found {
                Some((other, earlier)) if earlier != *value => {
                    let got = format!("`{other}` and `{key}`, which both name `{module}`");
                    return Err(ModelError::input(self.field, "one value for each layer", got));
                }
                _ => found = Some((key, *value)),
            }
        }
        Ok(found.map(|(_, value)| value))
    }
}

/// A regular expression for the end of a module's name, as PEFT takes it.
fn regex(key: &str) -> std::result::Result<Regex, Box<regex_automata::meta::BuildError>> {
    Regex::new(&format!(r"^(?:.*\.)?(?:{key})$")).map_err(Box::new)
}
