//! The table of one trainer's configuration files: every key with what becomes of it here, and the defaults that the
//! trainer's files rely on.

use serde_json::Value;

use crate::translation::Translator;

/// A trainer whose configuration files are read.
pub struct Profile {
    /// Value of `--profile`.
    pub name: &'static str,
    /// The trainer and the version whose keys and defaults these are.
    pub title: &'static str,
    /// Things that it trains, each with keys and defaults of its own.
    pub methods: &'static [Method],
    /// Finds the method that a file's keys tell.
    pub(crate) method: fn(&Keys<'_>) -> Told,
    /// Keys of every method. The first group that has a key decides.
    pub keys: &'static [Group],
    /// Defaults of every method. The first one of a key counts.
    pub defaults: &'static [&'static [Default]],
    /// Keys that files of no other profile have.
    pub distinctive: &'static [&'static str],
    /// True if the run trains adapters.
    pub(crate) adapts: fn(&Keys<'_>) -> bool,
    /// Settings that several keys decide together, after the defaults.
    pub(crate) finish: fn(&mut Translator<'_>),
    /// Differences in the computation that no key tells, for the reference page.
    pub differences: &'static [&'static str],
}

/// One thing that a trainer trains.
pub struct Method {
    /// Name for `--set kind=…`.
    pub name: &'static str,
    /// Name in messages.
    pub title: &'static str,
    /// Value of `loss.kind`; `None` for a method that does not exist here.
    pub kind: Option<&'static str>,
    /// The reason and the remedy of a method without `kind`.
    pub refusal: &'static str,
    /// Keys of this method alone.
    pub keys: &'static [Group],
    /// Defaults of this method, before those of the profile.
    pub defaults: &'static [Default],
    /// True if the trainer turns dropout off, that of adapters included, unless `disable_dropout` is false.
    pub without_dropout: bool,
}

/// The method that the keys of a file tell.
pub(crate) enum Told {
    /// This one, by name.
    Method(&'static str),
    /// None of the keys tells; the methods that it may be.
    Ambiguous,
    /// A value that names no method: key, expected, got.
    Unknown { key: &'static str, expected: String, got: Value },
}

/// Keys with the same fate, or of different ones.
pub enum Group {
    /// Keys that exist here under the same name.
    Same(&'static [&'static str]),
    /// Keys that change nothing in the trained model here.
    Nothing(&'static [&'static str]),
    /// Keys with an entry each.
    Keys(&'static [Key]),
    /// The groups of another table.
    All(&'static [Group]),
}

/// One key of a file.
#[derive(Clone, Copy)]
pub struct Key {
    /// Its name in the file.
    pub theirs: &'static str,
    /// Its fate here.
    pub fate: Fate,
    /// True for a setting of adapters, which means nothing where none are trained.
    pub of_adapters: bool,
}

/// The fate of a key.
#[derive(Clone, Copy)]
pub enum Fate {
    /// It sets a key of this project; null is absent.
    Sets(&'static str),
    /// It sets a key of this project; null turns it off and is no default.
    SetsOrOff(&'static str),
    /// It sets a key of this project; null has a meaning of its own.
    SetsOrNull {
        /// The key.
        ours: &'static str,
        /// The meaning of null, for the reference page.
        meaning: &'static str,
        /// The conversion of null.
        null: fn(&mut Translator<'_>, &'static str),
    },
    /// It sets keys of this project through a conversion.
    Converted {
        /// The keys that it may set.
        to: &'static str,
        /// The conversion.
        convert: Convert,
    },
    /// It is read together with another key.
    PartOf(&'static str),
    /// It changes nothing in the trained model here.
    Nothing,
    /// It told the method, and nothing else.
    TellsMethod,
    /// It would change the result and does not exist here, unless its value is one of these (as JSON) or null.
    Refused {
        /// Values that mean that it is not used.
        unless: &'static [&'static str],
        /// The remedy.
        instead: &'static str,
    },
}

/// Conversion of a value: sets keys, notes or refuses.
pub type Convert = fn(&mut Translator<'_>, &'static str, &Value);

/// A value that a trainer's files rely on.
pub struct Default {
    /// The key here.
    pub ours: &'static str,
    /// The trainer's default.
    pub value: Literal,
    /// True for a setting of adapters.
    pub of_adapters: bool,
    /// Keys here that take its place.
    pub unless: &'static [&'static str],
}

/// A value in a table.
#[derive(Clone, Copy)]
pub enum Literal {
    /// A whole number.
    Whole(i64),
    /// A number.
    Real(f64),
    /// True or false.
    Truth(bool),
    /// A text.
    Text(&'static str),
}

impl Literal {
    pub(crate) fn value(self) -> Value {
        match self {
            Self::Whole(number) => Value::from(number),
            Self::Real(number) => Value::from(number),
            Self::Truth(truth) => Value::from(truth),
            Self::Text(text) => Value::from(text),
        }
    }
}

/// The keys of a file, for looking them up.
pub(crate) struct Keys<'a>(pub &'a serde_json::Map<String, Value>);

impl Keys<'_> {
    /// A key that is there and not null.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    pub fn text(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Value::as_str)
    }

    /// True for `true`, also as text.
    pub fn is_true(&self, key: &str) -> bool {
        self.get(key).is_some_and(|value| is(value, "true"))
    }

    pub fn has_any(&self, keys: &[&str]) -> bool {
        keys.iter().any(|key| self.get(key).is_some())
    }
}

/// True if a value is the one that a JSON text spells, also where the file quotes it or writes 0 as 0.0.
pub(crate) fn is(value: &Value, spelled: &str) -> bool {
    let text = value.as_str().map_or_else(|| value.to_string(), |text| text.trim().to_owned());
    let number = |text: &str| text.parse::<f64>().ok();
    text.eq_ignore_ascii_case(spelled) || number(&text).is_some_and(|value| number(spelled) == Some(value))
}

pub(crate) const fn same(key: &'static str) -> Key {
    sets(key, key)
}

pub(crate) const fn sets(theirs: &'static str, ours: &'static str) -> Key {
    Key { theirs, fate: Fate::Sets(ours), of_adapters: false }
}

pub(crate) const fn sets_or_off(theirs: &'static str, ours: &'static str) -> Key {
    Key { theirs, fate: Fate::SetsOrOff(ours), of_adapters: false }
}

pub(crate) const fn converted(theirs: &'static str, to: &'static str, convert: Convert) -> Key {
    Key { theirs, fate: Fate::Converted { to, convert }, of_adapters: false }
}

pub(crate) const fn part_of(theirs: &'static str, of: &'static str) -> Key {
    Key { theirs, fate: Fate::PartOf(of), of_adapters: false }
}

pub(crate) const fn nothing(theirs: &'static str) -> Key {
    Key { theirs, fate: Fate::Nothing, of_adapters: false }
}

pub(crate) const fn refused(theirs: &'static str, unless: &'static [&'static str], instead: &'static str) -> Key {
    Key { theirs, fate: Fate::Refused { unless, instead }, of_adapters: false }
}

pub(crate) const fn tells_method(theirs: &'static str) -> Key {
    Key { theirs, fate: Fate::TellsMethod, of_adapters: false }
}

impl Key {
    /// The same, for a setting of adapters.
    pub(crate) const fn of_adapters(mut self) -> Self {
        self.of_adapters = true;
        self
    }
}

pub(crate) const fn default(ours: &'static str, value: Literal) -> Default {
    Default { ours, value, of_adapters: false, unless: &[] }
}

impl Default {
    pub(crate) const fn of_adapters(mut self) -> Self {
        self.of_adapters = true;
        self
    }

    pub(crate) const fn unless(mut self, keys: &'static [&'static str]) -> Self {
        self.unless = keys;
        self
    }
}

impl Group {
    /// The entry of each key.
    pub fn keys(&self) -> Vec<Key> {
        match self {
            Self::Same(names) => names.iter().map(|name| same(name)).collect(),
            Self::Nothing(names) => names.iter().map(|name| nothing(name)).collect(),
            Self::Keys(keys) => keys.to_vec(),
            Self::All(groups) => groups.iter().flat_map(Group::keys).collect(),
        }
    }
}

impl Profile {
    /// The keys of a method and of every method, each once.
    pub fn keys_of(&self, method: &Method) -> Vec<Key> {
        let mut found: Vec<Key> = Vec::new();
        for key in method.keys.iter().chain(self.keys).flat_map(Group::keys) {
            if found.iter().all(|known| known.theirs != key.theirs) {
                found.push(key);
            }
        }
        found
    }

    /// Every key of any method.
    pub fn all_keys(&self) -> impl Iterator<Item = &'static str> {
        let groups = self.keys.iter().chain(self.methods.iter().flat_map(|method| method.keys));
        groups.flat_map(Group::keys).map(|key| key.theirs)
    }

    /// A method by its name.
    pub fn method_named(&self, name: &str) -> Option<&'static Method> {
        self.methods.iter().find(|method| method.name == name)
    }
}

impl Profile {
    pub(crate) fn has(&self, name: &str) -> bool {
        self.all_keys().any(|key| key == name)
    }
}
