//! A file in this project's keys.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::Source;
use crate::profile::{self, Default, Fate, Key, Keys, Method, Profile};

/// A foreign configuration in this project's keys.
pub struct Translation {
    /// The trainer.
    pub profile: &'static Profile,
    /// The method.
    pub method: &'static Method,
    /// The origin of the method, if no key tells it: ` (by …)`; empty otherwise.
    pub method_source: String,
    /// Keys with their values, those of the loss as `loss.key`.
    pub settings: Vec<Setting>,
    /// Remarks for the user, in sentences.
    pub notes: Vec<String>,
    /// Everything that is wrong.
    pub problems: Vec<Problem>,
}

/// One key of this project with its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// The key, with its table where it has one: `loss.beta`.
    pub key: String,
    /// The value.
    pub value: Value,
    /// Origin of the value.
    pub origin: Origin,
}

/// Origin of a value.
#[derive(Debug, Clone, PartialEq)]
pub enum Origin {
    /// A key of the file.
    Given(String),
    /// The trainer's default.
    Default,
    /// The method.
    Method,
}

/// One error of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// The key in the file.
    pub key: String,
    /// Message that names the key, what was expected and what was given.
    pub message: String,
}

impl Translation {
    /// The file's trainer and method with the adopted defaults, in one line.
    pub fn headline(&self) -> String {
        let Self { profile, method, method_source, .. } = self;
        let adopted: Vec<String> =
            self.adopted().map(|Setting { key, value, .. }| format!("{key} = {value}")).collect();
        let adopted = if adopted.is_empty() { "none".to_owned() } else { adopted.join(", ") };
        format!("{} {} configuration{method_source}; defaults adopted: {adopted}", profile.title, method.title)
    }

    /// The settings that are the trainer's defaults.
    pub fn adopted(&self) -> impl Iterator<Item = &Setting> {
        self.settings.iter().filter(|setting| setting.origin == Origin::Default)
    }
}

/// A file that is being translated.
pub struct Translator<'a> {
    pub(crate) profile: &'static Profile,
    pub(crate) method: &'static Method,
    /// All keys of the file.
    given: &'a Map<String, Value>,
    /// The key of this project that a name is.
    own: &'a dyn Fn(&str) -> Option<String>,
    /// True if adapters are trained.
    pub(crate) adapts: bool,
    settings: Vec<Setting>,
    /// Keys here that are decided without a value: off, or set by an override.
    decided: BTreeSet<String>,
    ignored: Vec<String>,
    notes: Vec<String>,
    problems: Vec<Problem>,
}

impl<'a> Translator<'a> {
    pub(crate) fn new(profile: &'static Profile, method: &'static Method, source: &Source<'a>) -> Self {
        let given = source.keys;
        Self {
            profile,
            method,
            given,
            own: source.own,
            adapts: (profile.adapts)(&Keys(given)),
            settings: Vec::new(),
            decided: source.overridden.clone(),
            ignored: Vec::new(),
            notes: Vec::new(),
            problems: Vec::new(),
        }
    }

    pub(crate) fn keys(&self) -> Keys<'a> {
        Keys(self.given)
    }

    /// Sets a key from one of the file.
    pub(crate) fn set(&mut self, theirs: &str, ours: &str, value: impl Into<Value>) {
        let (origin, value) = (Origin::Given(theirs.to_owned()), value.into());
        if let Some(before) = self.settings.iter().find(|setting| setting.key == ours) {
            if let Origin::Given(first) = before.origin.clone()
                && before.value != value
            {
                self.refuse(theirs, format!("`{first}` and `{theirs}` are one setting: give one"));
            }
            return;
        }
        self.settings.push(Setting { key: ours.to_owned(), value, origin });
    }

    /// Adds a value to a list.
    pub(crate) fn add_to_list(&mut self, theirs: &str, ours: &str, value: Value) {
        match self.settings.iter_mut().find(|setting| setting.key == ours) {
            Some(Setting { value: Value::Array(list), .. }) => list.push(value),
            _ => self.set(theirs, ours, vec![value]),
        }
    }

    /// Sets a key to a default that depends on other keys, unless it is set.
    pub(crate) fn adopt(&mut self, ours: &str, value: impl Into<Value>) {
        if !self.is_set(ours) {
            self.settings.push(Setting { key: ours.to_owned(), value: value.into(), origin: Origin::Default });
        }
    }

    /// Removes a key that was set; returns its value.
    pub(crate) fn unset(&mut self, ours: &str) -> Option<Value> {
        let at = self.settings.iter().position(|setting| setting.key == ours)?;
        Some(self.settings.remove(at).value)
    }

    /// The value of a key here.
    pub(crate) fn value(&self, ours: &str) -> Option<&Value> {
        self.settings.iter().find(|setting| setting.key == ours).map(|setting| &setting.value)
    }

    /// True if a key here has a value, or must have none.
    pub(crate) fn is_set(&self, ours: &str) -> bool {
        self.decided.contains(ours) || self.value(ours).is_some()
    }

    /// Keeps the default of a key from being adopted.
    pub(crate) fn decide(&mut self, ours: &str) {
        self.decided.insert(ours.to_owned());
    }

    pub(crate) fn refuse(&mut self, key: &str, message: impl Into<String>) {
        self.problems.push(Problem { key: key.to_owned(), message: message.into() });
    }

    /// Refuses a value: `` `key`: expected …, got … ``.
    pub(crate) fn expected(&mut self, key: &str, expected: &str, got: &Value) {
        self.refuse(key, format!("`{key}`: expected {expected}, got {got}"));
    }

    /// Lists a key as one without effect, with a remark in parentheses unless it is empty.
    pub(crate) fn ignore(&mut self, key: &str, remark: &str) {
        let remark = if remark.is_empty() { String::new() } else { format!(" ({remark})") };
        self.ignored.push(format!("`{key}`{remark}"));
    }

    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Translates the keys of the table, and those of this project that the file has beside its own.
    pub(crate) fn translate(&mut self) {
        let table = self.profile.keys_of(self.method);
        if let Some(kind) = self.method.kind {
            self.settings.push(Setting { key: "loss.kind".into(), value: kind.into(), origin: Origin::Method });
        }
        for key in &table {
            if let Some(value) = self.given.get(key.theirs) {
                self.key(key, value);
            }
        }
        let strange = self.given.iter().filter(|(name, _)| table.iter().all(|key| key.theirs != name.as_str()));
        for (name, value) in strange {
            match (self.own)(name) {
                Some(ours) if !value.is_null() => self.set(name, &ours, value.clone()),
                Some(_) => {}
                None => self.unknown(name),
            }
        }
        self.dropout();
        for default in self.method.defaults.iter().chain(self.profile.defaults.iter().copied().flatten()) {
            self.default(default);
        }
        (self.profile.finish)(self);
    }

    fn key(&mut self, key: &Key, value: &Value) {
        let Key { theirs, fate, of_adapters } = *key;
        if of_adapters && !self.adapts && !value.is_null() {
            return self.ignore(theirs, "no adapters are trained");
        }
        match fate {
            Fate::SetsOrOff(ours) if value.is_null() => self.decide(ours),
            Fate::SetsOrNull { null, .. } if value.is_null() => null(self, theirs),
            _ if value.is_null() => {}
            Fate::Sets(ours) | Fate::SetsOrOff(ours) | Fate::SetsOrNull { ours, .. } => {
                self.set(theirs, ours, value.clone())
            }
            Fate::Converted { convert, .. } => convert(self, theirs, value),
            Fate::PartOf(_) | Fate::TellsMethod => {}
            Fate::Nothing => self.ignore(theirs, ""),
            Fate::Refused { unless, .. } if unless.iter().any(|spelled| profile::is(value, spelled)) => {}
            Fate::Refused { instead, .. } => {
                self.refuse(theirs, format!("`{theirs}: {}` is not supported: {instead}", short(value)));
            }
        }
    }

    /// A key that the method does not have: one of another method has no effect, any other is refused.
    fn unknown(&mut self, name: &str) {
        let of = self
            .profile
            .methods
            .iter()
            .find(|method| method.keys.iter().flat_map(crate::profile::Group::keys).any(|key| key.theirs == name));
        if let Some(other) = of {
            return self.ignore(name, &format!("a setting of {}, and this is {}", other.title, self.method.title));
        }
        let message = crate::spelled::unknown(name, self.profile, self.problems.len() < crate::spelled::HINTS);
        self.refuse(name, message);
    }

    /// TRL's preference trainers turn all dropout off, that of adapters too.
    fn dropout(&mut self) {
        if self.method.without_dropout && self.adapts && !self.keys().get("disable_dropout").is_some_and(is_false) {
            match self.unset("lora_dropout") {
                Some(given) if given.as_f64() != Some(0.0) => {
                    self.note(format!(
                        "lora_dropout is 0: `disable_dropout`, on unless it is false, turns that of adapters ({given}) off"
                    ));
                    self.adopt("lora_dropout", 0.0);
                }
                Some(zero) => self.adopt("lora_dropout", zero),
                None => self.adopt("lora_dropout", 0.0),
            }
        }
    }

    fn default(&mut self, default: &Default) {
        let replaced = default.unless.iter().any(|key| self.is_set(key));
        if !replaced && (self.adapts || !default.of_adapters) {
            self.adopt(default.ours, default.value.value());
        }
    }

    pub(crate) fn finished(mut self, method_source: String) -> Translation {
        if !self.ignored.is_empty() {
            self.notes.push(format!("ignored settings: {}", self.ignored.join(", ")));
        }
        Translation {
            profile: self.profile,
            method: self.method,
            method_source,
            settings: self.settings,
            notes: self.notes,
            problems: self.problems,
        }
    }
}

fn is_false(value: &Value) -> bool {
    profile::is(value, "false")
}

/// A value for a message: long ones are cut.
pub(crate) fn short(value: &Value) -> String {
    const LONGEST: usize = 60;
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    if text.chars().count() <= LONGEST {
        return text;
    }
    text.chars().take(LONGEST).chain(['…']).collect()
}
