//! docs/imports.md, from the tables.

use crate::profile::{Default, Fate, Group, Key, Method, Profile};
use crate::profiles::PROFILES;

const HEAD: &str = "\
# Configuration files of other trainers

Generated from the tables of `crates/imports/src/profiles` by `UPDATE_DOCS=1 cargo test --release -p smpo-imports --test page`;
a test keeps it current.

`smpo train THEIRS.yaml` runs a file of another trainer as it is, with that trainer's defaults; `smpo import THEIRS.yaml >
ours.toml` prints it as a file of this project, with a comment at each adopted default. Both train the same model, to the byte.
YAML, JSON and TOML are read.

- **Profile and method** are told by a file's keys and named in the first line of output with the defaults that were adopted.
  `--profile NAME` names the profile, `--set kind=METHOD` or a line `kind: METHOD` of the file the method where no key tells it
  (or a word of the file's name does).
- **`--set KEY=VALUE`** takes their key or this project's (`loss.beta`, `max_length`), and wins over every other spelling of the
  same setting in the file.
- A file may have keys of this project beside its own: `probe`, `eos_term`, `max_tokens_per_pack`, `device`, ….
- Settings without an effect on the trained model are listed in one line. What would change it and does not exist here is
  refused by name, with what to do; an unknown key is an error with its line. Both hold for the entries of data sets too.
- Names of models and data sets are paths where there is one on this disk, and names of the Hugging Face Hub otherwise.
- `smpo import --trl-args dpo --model_name_or_path M …` reads TRL's command line.
";

/// The page.
pub fn page() -> String {
    let mut text = HEAD.to_owned();
    for profile in PROFILES {
        text += &section(profile);
    }
    text
}

fn section(profile: &Profile) -> String {
    let mut text = format!("\n## {} (`--profile {}`)\n\n", profile.title, profile.name);
    let distinctive: Vec<String> = profile.distinctive.iter().map(|key| format!("`{key}`")).collect();
    text += &format!("Told by {}.\n\n", distinctive.join(", "));
    text += "| method | here | defaults that are adopted |\n|---|---|---|\n";
    for method in profile.methods {
        text += &method_row(profile, method);
    }
    let shared: Vec<&Default> = profile.defaults.iter().copied().flatten().collect();
    text += &format!("\nDefaults of every method: {}.\n", listed(&shared));
    let keys: Vec<Key> = profile.keys.iter().flat_map(Group::keys).collect();
    text += "\n| key | here |\n|---|---|\n";
    for method in profile.methods.iter().filter(|method| method.kind.is_some()) {
        for key in method.keys.iter().flat_map(Group::keys) {
            text += &row(&key, &format!(", {}", method.title));
        }
    }
    let mut seen = Vec::new();
    for key in keys.iter().filter(|key| !is_nothing(key)) {
        if !seen.contains(&key.theirs) {
            seen.push(key.theirs);
            text += &row(key, "");
        }
    }
    let nothing: Vec<String> =
        keys.iter().filter(|key| is_nothing(key)).map(|key| format!("`{}`", key.theirs)).collect();
    text += &format!("\nWithout effect on the trained model here: {}.\n", nothing.join(", "));
    if !profile.differences.is_empty() {
        text += "\nDifferences that no key tells:\n\n";
        for difference in profile.differences {
            text += &format!("- {difference}\n");
        }
    }
    text
}

fn method_row(profile: &Profile, method: &Method) -> String {
    let Some(kind) = method.kind else {
        return format!("| {} | refused: {} | |\n", method.title, method.refusal);
    };
    let own: Vec<&Default> = method.defaults.iter().collect();
    let dropout = if method.without_dropout { "; `lora_dropout = 0` unless `disable_dropout` is false" } else { "" };
    let name = if profile.methods.iter().any(|other| other.name == method.name) { method.name } else { kind };
    format!("| {} (`kind={name}`) | `{kind}` | {}{dropout} |\n", method.title, listed(&own))
}

fn listed(defaults: &[&Default]) -> String {
    let one = |default: &&Default| {
        let adapters = if default.of_adapters { " (adapters)" } else { "" };
        format!("`{} = {}`{adapters}", default.ours, default.value.value())
    };
    let all: Vec<String> = defaults.iter().map(one).collect();
    if all.is_empty() { "–".to_owned() } else { all.join(", ") }
}

fn is_nothing(key: &Key) -> bool {
    matches!(key.fate, Fate::Nothing)
}

fn row(key: &Key, of: &str) -> String {
    let here = match key.fate {
        Fate::Sets(ours) if ours == key.theirs => "the same".to_owned(),
        Fate::Sets(ours) => format!("`{ours}`"),
        Fate::SetsOrOff(ours) => format!("`{ours}`; null is off"),
        Fate::SetsOrNull { ours, meaning, .. } if ours == key.theirs => format!("the same; null is {meaning}"),
        Fate::SetsOrNull { ours, meaning, .. } => format!("`{ours}`; null is {meaning}"),
        Fate::Converted { to: "", .. } => "read, and no key here".to_owned(),
        Fate::Converted { to, .. } => {
            let keys: Vec<String> = to.split(", ").map(|ours| format!("`{ours}`")).collect();
            format!("{}, converted", keys.join(", "))
        }
        Fate::PartOf(other) => format!("read with `{other}`"),
        Fate::TellsMethod => "tells the method".to_owned(),
        Fate::Nothing => "no effect".to_owned(),
        Fate::Refused { unless: [], instead } => format!("refused: {instead}"),
        Fate::Refused { unless, instead } => format!("refused unless {}: {instead}", unless.join(" or ")),
    };
    format!("| `{}`{of} | {} |\n", key.theirs, here.replace('|', "\\|"))
}
