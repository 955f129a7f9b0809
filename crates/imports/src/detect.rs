//! The trainer and the method that a file is for.

use serde_json::{Map, Value};

use crate::profile::{Keys, Method, Profile, Told};
use crate::profiles::PROFILES;
use crate::translation::Problem;
use crate::{Source, spelled};

/// The profile whose own keys a file has; `None` for a file that has none of them.
///
/// # Errors
/// When two profiles are as likely.
pub fn detect(keys: &Map<String, Value>) -> Result<Option<&'static Profile>, Problem> {
    // its own keys first; among equals, the keys that it knows
    let score = |profile: &Profile| {
        let own = profile.distinctive.iter().filter(|key| keys.contains_key(**key)).count();
        (own, keys.keys().filter(|key| profile.has(key)).count())
    };
    let scores: Vec<(usize, usize)> = PROFILES.iter().map(|profile| score(profile)).collect();
    let best = scores.iter().copied().max().unwrap_or_default();
    let tied: Vec<&'static Profile> =
        PROFILES.iter().zip(&scores).filter(|(_, score)| **score == best).map(|(profile, _)| *profile).collect();
    match tied[..] {
        _ if best.0 == 0 => Ok(of_methods(keys)),
        [one] => Ok(Some(one)),
        _ => {
            let names: Vec<String> =
                tied.iter().map(|profile| format!("{} (--profile {})", profile.title, profile.name)).collect();
            let message = format!("the file may be one of {}: name it", names.join(" or "));
            Err(Problem { key: String::new(), message })
        }
    }
}

/// The profile of a file that has keys of a loss alone: `dataset` is what Halo and effective_llm_alignment have, and the
/// latter has the older name of `eval_strategy`.
fn of_methods(keys: &Map<String, Value>) -> Option<&'static Profile> {
    let likely = match (keys.contains_key("dataset"), keys.contains_key("eval_strategy")) {
        (false, _) => "trl",
        (true, true) => "halo",
        (true, false) => "ela",
    };
    let profile = PROFILES.iter().find(|profile| profile.name == likely).copied()?;
    matches!((profile.method)(&Keys(keys)), Told::Method(_)).then_some(profile)
}

/// A profile by its name.
///
/// # Errors
/// When there is none.
pub fn profile_named(name: &str) -> Result<&'static Profile, String> {
    let names = || PROFILES.iter().map(|profile| profile.name);
    PROFILES.iter().find(|profile| profile.name == name).copied().ok_or_else(|| {
        let known: Vec<&str> = names().collect();
        format!("expected one of {}, got {name}{}", known.join(", "), smpo_suggest::did_you_mean(name, names()))
    })
}

/// The method, and in words where it comes from if no key tells it.
pub(crate) fn method(profile: &'static Profile, source: &Source<'_>) -> Result<(&'static Method, String), Problem> {
    let told = (profile.method)(&Keys(source.keys));
    // CPO's `loss_type` may be SimPO's or AlphaPO's
    let refined = matches!(told, Told::Method("simpo" | "alphapo")) && source.method == Some("cpo");
    if let Some(name) = source.method.filter(|_| !refined) {
        let found = profile.method_named(name).map(|method| (method, String::new()));
        return found.ok_or_else(|| {
            let known = || profile.methods.iter().map(|method| method.name);
            let hint = smpo_suggest::did_you_mean(name, known());
            let known: Vec<&str> = known().collect();
            let message = format!(
                "`kind`: expected one of {} for a file of {}, got {name}{hint}",
                known.join(", "),
                profile.title
            );
            Problem { key: "kind".into(), message }
        });
    }
    match told {
        Told::Method(name) => match profile.method_named(name) {
            Some(method) => Ok((method, String::new())),
            None => Err(Problem { key: "kind".into(), message: format!("{} has no method {name}", profile.title) }),
        },
        Told::Unknown { key, expected, got } => {
            let names: Vec<&str> = expected.split(", ").collect();
            let hint = got.as_str().map(|got| smpo_suggest::did_you_mean(got, names)).unwrap_or_default();
            Err(Problem { key: key.into(), message: format!("`{key}`: expected one of {expected}, got {got}{hint}") })
        }
        Told::Ambiguous => of_name(profile, source).ok_or_else(|| ambiguous(profile, source)),
    }
}

/// The method that is a word of the file's name.
fn of_name(profile: &'static Profile, source: &Source<'_>) -> Option<(&'static Method, String)> {
    let name = source.name.to_lowercase();
    let words: Vec<&str> = name.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    let method = profile.methods.iter().find(|method| words.contains(&method.name))?;
    Some((method, " (by the file's name)".to_owned()))
}

fn ambiguous(profile: &Profile, source: &Source<'_>) -> Problem {
    let known: Vec<&str> =
        profile.methods.iter().filter(|method| method.kind.is_some()).map(|method| method.name).collect();
    let likely = source.keys.keys().take(spelled::HINTS).find_map(|key| {
        let near = smpo_suggest::nearest(key, spelled::every())?;
        (near != key && !spelled::every().any(|known| known == key)).then(|| format!("; `{key}` may be `{near}`"))
    });
    let message = format!(
        "cannot tell from the keys what is trained: name it with --set kind={}, or with a line of \
         the file such as `kind: dpo`{}",
        known.join("|"),
        likely.unwrap_or_default()
    );
    Problem { key: String::new(), message }
}
