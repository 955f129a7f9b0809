//! Translation of a file that is given as JSON.

use std::collections::BTreeSet;

use serde_json::Value;
use smpo_imports::{Source, Translation, profile_named, translate};

/// A file in this project's keys.
pub fn read(profile: &str, file: &Value) -> Translation {
    let overridden = BTreeSet::new();
    let source = Source {
        keys: file.as_object().unwrap(),
        name: "run",
        method: None,
        overridden: &overridden,
        own: &|name| (name == "probe").then(|| name.to_owned()),
    };
    translate(profile_named(profile).unwrap(), &source).unwrap_or_else(|problem| panic!("{problem:?}"))
}

/// The messages of what is wrong in a file.
pub fn problems(profile: &str, file: &Value) -> Vec<String> {
    read(profile, file).problems.into_iter().map(|problem| problem.message).collect()
}

/// The value of a key here.
pub fn value(translation: &Translation, key: &str) -> Option<Value> {
    translation.settings.iter().find(|setting| setting.key == key).map(|setting| setting.value.clone())
}
