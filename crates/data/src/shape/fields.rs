//! The ledger of an object: a reader takes keys out of it, and what is left was read by nothing.

use serde_json::{Map, Value};

use super::Remarks;

/// The keys of an object, each taken at most once.
#[derive(Debug)]
pub(super) struct Fields {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    name: String,
    /// `None` once it is taken.
    value: Option<Value>,
    /// True if it came as null.
    is_null: bool,
    /// The object that the key came from, where that is not the row itself.
    parent: Option<&'static str>,
}

impl Entry {
    fn new(name: String, value: Value, parent: Option<&'static str>) -> Self {
        Self { name, is_null: value.is_null(), value: Some(value), parent }
    }
}

impl Fields {
    pub fn new(map: Map<String, Value>) -> Self {
        Self { entries: map.into_iter().map(|(name, value)| Entry::new(name, value, None)).collect() }
    }

    /// Adds the keys of an object that is the value of `parent`.
    pub fn unfold(&mut self, parent: &'static str, map: Map<String, Value>) {
        self.entries.extend(map.into_iter().map(|(name, value)| Entry::new(name, value, Some(parent))));
    }

    /// True for a key that is there, taken or not, and null.
    pub fn is_null(&self, name: &str) -> bool {
        self.entries.iter().any(|entry| entry.name == name && entry.is_null)
    }

    /// Takes a key; `None` where it is absent or null, and then it counts as read.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        self.take_if(name, |_| true)
    }

    /// Takes a key if its value passes; null passes always.
    pub fn take_if(&mut self, name: &str, pass: impl Fn(&Value) -> bool) -> Option<Value> {
        let entry = self.entries.iter_mut().find(|entry| entry.value.is_some() && entry.name == name)?;
        let value = entry.value.take_if(|value| value.is_null() || pass(value))?;
        Some(value).filter(|value| !value.is_null())
    }

    /// Takes the first of several keys that is there and not null.
    pub fn take_first(&mut self, names: &[&'static str]) -> Option<(&'static str, Value)> {
        names.iter().find_map(|&name| Some((name, self.take(name)?)))
    }

    /// A key that is still there.
    pub fn get(&self, name: &str) -> Option<&Value> {
        let entry = self.entries.iter().find(|entry| entry.name == name && entry.value.is_some())?;
        entry.value.as_ref().filter(|value| !value.is_null())
    }

    /// True if every key has been taken.
    pub fn is_spent(&self) -> bool {
        self.entries.iter().all(|entry| entry.value.is_none())
    }

    /// Names of all keys, in order, taken or not.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| entry.name.as_str())
    }

    /// Keys that nothing has taken and that say something.
    pub fn left(&self) -> impl Iterator<Item = (&str, &Value)> {
        let value = |entry: &Entry| entry.value.as_ref().is_some_and(|value| !is_silent(value));
        self.entries.iter().filter(move |entry| value(entry)).filter_map(|entry| {
            let value = entry.value.as_ref()?;
            Some((entry.name.as_str(), value))
        })
    }

    /// Notes what is left as unread, under `place`.
    pub fn note_unread(&self, place: &str, remarks: &mut Remarks) {
        for entry in &self.entries {
            if entry.value.as_ref().is_some_and(|value| !is_silent(value)) {
                let parent = entry.parent.map_or_else(String::new, |parent| format!("{parent}."));
                remarks.add_unread(format!("{place}{parent}{}", entry.name));
            }
        }
    }
}

/// True for a value that holds nothing: null, an empty text, list or object.
pub(super) fn is_silent(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.iter().all(Value::is_null),
        Value::Object(map) => map.values().all(Value::is_null),
        Value::Bool(_) | Value::Number(_) => false,
    }
}
