//! Typed reading of a JSON configuration, with errors that name the file and the field.

use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{ModelError, Result};

/// One JSON object of a configuration file, and where it came from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields<'a> {
    pub path: &'a Path,
    object: &'a Map<String, Value>,
    prefix: &'a str,
}

impl<'a> Fields<'a> {
    pub fn new(path: &'a Path, object: &'a Map<String, Value>) -> Self {
        Self { path, object, prefix: "" }
    }

    /// An object that is the value of a field.
    pub fn nested(path: &'a Path, object: &'a Map<String, Value>, field: &'a str) -> Self {
        Self { path, object, prefix: field }
    }

    /// The field's value; `None` when it is absent or null.
    pub fn get(&self, name: &str) -> Option<&'a Value> {
        self.object.get(name).filter(|v| !v.is_null())
    }

    /// True if the field is written, even as null: transformers reads null as "off" and absence as the default.
    pub fn is_written(&self, name: &str) -> bool {
        self.object.contains_key(name)
    }

    /// A nested object; `None` when absent or null.
    pub fn object(&self, name: &'a str) -> Result<Option<Fields<'a>>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Object(object)) => Ok(Some(Fields { path: self.path, object, prefix: name })),
            Some(other) => Err(self.wrong(name, "an object", other)),
        }
    }

    pub fn str(&self, name: &str) -> Result<Option<&'a str>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(s)) => Ok(Some(s)),
            Some(other) => Err(self.wrong(name, "a string", other)),
        }
    }

    pub fn bool(&self, name: &str) -> Result<Option<bool>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Bool(b)) => Ok(Some(*b)),
            Some(other) => Err(self.wrong(name, "true or false", other)),
        }
    }

    /// A finite number.
    pub fn number(&self, name: &str) -> Result<Option<f64>> {
        match self.get(name) {
            None => Ok(None),
            Some(v) => match v.as_f64().filter(|x| x.is_finite()) {
                Some(x) => Ok(Some(x)),
                None => Err(self.wrong(name, "a number", v)),
            },
        }
    }

    /// A number above zero.
    pub fn positive(&self, name: &str) -> Result<Option<f64>> {
        match self.number(name)? {
            Some(x) if x <= 0.0 => Err(self.wrong(name, "a number above zero", &self.object[name])),
            other => Ok(other),
        }
    }

    /// A whole number above zero.
    pub fn size(&self, name: &str) -> Result<Option<usize>> {
        // Sizes beyond this are no model's; refusing them keeps later products from overflowing.
        const LARGEST: u64 = 1 << 24;
        match self.get(name) {
            None => Ok(None),
            Some(v) => match v.as_u64().filter(|n| (1..=LARGEST).contains(n)) {
                Some(n) => Ok(Some(n as usize)),
                None => Err(self.wrong(name, "a whole number from 1 to 2^24", v)),
            },
        }
    }

    pub fn required_size(&self, name: &str) -> Result<usize> {
        self.size(name)?.ok_or_else(|| self.missing(name, "a whole number above zero"))
    }

    pub fn numbers(&self, name: &str) -> Result<Option<Vec<f64>>> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        value
            .as_array()
            .and_then(|items| items.iter().map(Value::as_f64).collect())
            .map(Some)
            .ok_or_else(|| self.wrong(name, "a list of numbers", value))
    }

    pub fn indices(&self, name: &str) -> Result<Option<Vec<usize>>> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let index = |item: &Value| item.as_u64().and_then(|index| usize::try_from(index).ok());
        value
            .as_array()
            .and_then(|items| items.iter().map(index).collect())
            .map(Some)
            .ok_or_else(|| self.wrong(name, "a list of whole numbers", value))
    }

    pub fn strings(&self, name: &str) -> Result<Option<Vec<&'a str>>> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        value
            .as_array()
            .and_then(|items| items.iter().map(Value::as_str).collect())
            .map(Some)
            .ok_or_else(|| self.wrong(name, "a list of strings", value))
    }

    pub fn missing(&self, name: &str, expected: &str) -> ModelError {
        self.error(name, expected, "nothing".into())
    }

    pub fn wrong(&self, name: &str, expected: &str, got: &Value) -> ModelError {
        let mut got = got.to_string();
        if got.chars().count() > 60 {
            got = got.chars().take(57).chain("...".chars()).collect();
        }
        self.error(name, expected, got)
    }

    pub fn error(&self, name: &str, expected: &str, got: String) -> ModelError {
        let field = if self.prefix.is_empty() { name.to_string() } else { format!("{}.{name}", self.prefix) };
        ModelError::Field { path: self.path.to_path_buf(), field, expected: expected.to_string(), got }
    }

    /// A feature that would have to be approximated, and so is refused.
    pub fn unsupported(&self, feature: impl Into<String>) -> ModelError {
        ModelError::Unsupported { path: self.path.to_path_buf(), feature: feature.into() }
    }
}
