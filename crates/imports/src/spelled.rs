//! Suggestions for unknown keys, over the spellings of every profile.

use crate::profile::Profile;
use crate::profiles::PROFILES;

/// Unknown keys that are compared with all known ones: a file of other content may have thousands.
pub(crate) const HINTS: usize = 200;

/// The message for a key that a profile does not have; `compared` with all known keys, or not.
pub(crate) fn unknown(name: &str, profile: &Profile, compared: bool) -> String {
    if let Some(other) = PROFILES.iter().find(|other| other.name != profile.name && other.has(name)) {
        return format!(
            "unknown key `{name}`: a key of {}, and this is read as a file of {} (--profile {} reads it as that)",
            other.title, profile.title, other.name
        );
    }
    if !compared {
        return format!("unknown key `{name}`");
    }
    let own = smpo_suggest::did_you_mean(name, profile.all_keys());
    let hint = if own.is_empty() { smpo_suggest::did_you_mean(name, every()) } else { own };
    format!("unknown key `{name}`{hint}")
}

/// Every key of every profile.
pub fn every() -> impl Iterator<Item = &'static str> {
    PROFILES.iter().flat_map(|profile| profile.all_keys())
}
