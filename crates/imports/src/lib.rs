//! Configuration files of other trainers in the keys of this project.
//!
//! A [`Profile`] is one trainer's table: each key with what becomes of it here, and the defaults that its files rely on.
//! [`translate`] finds the profile and the method by the keys of a file and applies the table; docs/imports.md is the
//! tables as text ([`documentation::page`]).
//!
//! * `profiles`: the tables, one file each; `profile`: what a table is made of
//! * `translation`: the application of a table; `convert`: conversions of values, by subject
//! * [`trl_args()`](fn@trl_args): the flags of TRL's command line as keys

mod convert;
mod detect;
pub mod documentation;
mod profile;
mod profiles;
mod spelled;
mod translation;
mod trl_args;

use std::collections::BTreeSet;

use serde_json::{Map, Value};

pub use detect::{detect, profile_named};
pub use profile::{Default, Fate, Group, Key, Literal, Method, Profile};
pub use profiles::PROFILES;
pub use spelled::every as all_keys;
pub use translation::{Origin, Problem, Setting, Translation, Translator};
pub use trl_args::{TrlArgs, trl_args};

/// A file to translate.
pub struct Source<'a> {
    /// Its keys.
    pub keys: &'a Map<String, Value>,
    /// Its name without the ending, which may tell the method where no key does.
    pub name: &'a str,
    /// The method, where the user names it.
    pub method: Option<&'a str>,
    /// Keys of this project that the user sets beside the file: no default is adopted for them.
    pub overridden: &'a BTreeSet<String>,
    /// The key that a key of this project has here, for those that a foreign file may have too.
    pub own: &'a dyn Fn(&str) -> Option<String>,
}

/// A file in this project's keys.
///
/// # Errors
/// When the method cannot be told, or does not exist here. Everything else that is wrong is in the translation.
pub fn translate(profile: &'static Profile, source: &Source<'_>) -> Result<Translation, Problem> {
    let (method, by) = detect::method(profile, source)?;
    if method.kind.is_none() {
        let message = format!("{} {} files are not run here: {}", profile.title, method.title, method.refusal);
        return Err(Problem { key: String::new(), message });
    }
    let mut translator = Translator::new(profile, method, source);
    translator.translate();
    Ok(translator.finished(by))
}

/// The keys here that a key of a profile sets; the key itself where the profile does not have it.
pub fn targets(profile: &Profile, theirs: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let groups = profile.keys.iter().chain(profile.methods.iter().flat_map(|method| method.keys));
    for key in groups.flat_map(Group::keys).filter(|key| key.theirs == theirs) {
        let to = match key.fate {
            Fate::Sets(ours)
            | Fate::SetsOrOff(ours)
            | Fate::SetsOrNull { ours, .. }
            | Fate::Converted { to: ours, .. } => ours,
            Fate::PartOf(_) | Fate::TellsMethod | Fate::Nothing | Fate::Refused { .. } => "",
        };
        found.extend(to.split(", ").filter(|ours| !ours.is_empty()).map(str::to_owned));
    }
    found
}

/// True if a key is known and changes the trained model for no trainer that has it.
pub fn is_without_effect(key: &str) -> bool {
    let groups =
        PROFILES.iter().flat_map(|profile| profile.keys.iter().chain(profile.methods.iter().flat_map(|m| m.keys)));
    let mut fates = groups.flat_map(Group::keys).filter(|known| known.theirs == key).map(|known| known.fate).peekable();
    fates.peek().is_some() && fates.all(|fate| matches!(fate, Fate::Nothing))
}
