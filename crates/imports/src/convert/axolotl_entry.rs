//! Keys of an entry of axolotl's `datasets`: which are read, which change nothing, and which are refused.

use serde_json::{Map, Value};

use super::axolotl::FIELDS;
use super::run::names;
use crate::profile::is;
use crate::translation::{Translator, short};

/// Keys that are read, beside [`FIELDS`].
const READ: [&str; 12] = [
    "path",
    "name",
    "split",
    "revision",
    "data_files",
    "type",
    "chat_template",
    "roles",
    "roles_to_train",
    "message_property_mappings",
    "message_field_role",
    "message_field_content",
];
/// Keys that change nothing here.
const NOTHING: [&str; 10] = [
    "trust_remote_code",
    "shards_idx",
    "preprocess_shards",
    "conversation",
    "ds_type",
    // of plain text, of ShareGPT's older reader and of distillation, which `type` names
    "field",
    "field_human",
    "field_model",
    "logprobs_field",
    "temperature",
];
/// Keys of a table in the place of `type`, beside [`FIELDS`].
const OF_TYPE: [&str; 8] = [
    "system_prompt",
    "system_format",
    "format",
    "no_input_format",
    "prompt_format",
    "chosen_format",
    "rejected_format",
    "completion_format",
];
/// Keys of a message that hold thoughts here.
const THOUGHTS: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// A key that would change what is trained.
struct Refused {
    name: &'static str,
    /// Values that are what is done here, as JSON.
    unless: &'static [&'static str],
    /// Methods that read it there; all of them if empty.
    of: &'static [&'static str],
    instead: &'static str,
}

const SFT: &[&str] = &["sft"];
/// Methods whose rows go through the reader of SFT there.
const TOKENISED: &[&str] = &["sft", "reward"];
const ENDS: &str = "the end of every answer that is trained on is trained on too here, and no other; remove it";
const STEPS: &str = "rewards of single steps are not trained here; remove it";
const REFUSED: [Refused; 14] = [
    Refused { name: "train_on_eos", unless: &["turn"], of: SFT, instead: ENDS },
    Refused { name: "train_on_eot", unless: &["turn"], of: SFT, instead: ENDS },
    Refused {
        name: "message_field_training",
        unless: &["train", "training", "trainable", "loss", "weight"],
        of: SFT,
        instead: "`train` is the key of a message that says so here: rename it in the rows",
    },
    Refused {
        name: "message_field_training_detail",
        unless: &[],
        of: SFT,
        instead: "a message is trained on whole or not at all here; remove it",
    },
    Refused {
        name: "field_thinking",
        unless: &THOUGHTS,
        of: SFT,
        instead: "`reasoning_content` is the key of a message's thoughts here: rename it in the rows",
    },
    Refused {
        name: "template_thinking_key",
        unless: &["reasoning_content", "thinking"],
        of: SFT,
        instead: "templates get a message's thoughts as `reasoning_content` and `thinking` here; remove it",
    },
    Refused {
        name: "split_thinking",
        unless: &["false"],
        of: SFT,
        instead: "thoughts are not taken out of `content` here: give them as `reasoning_content` of the message",
    },
    Refused {
        name: "chat_template_jinja",
        unless: &[],
        of: &[],
        instead: "one template renders all data sets here: give it at the top of the file",
    },
    Refused {
        name: "shards",
        unless: &["1"],
        of: TOKENISED,
        instead: "`split` takes a share of the rows here, such as train[:10%]",
    },
    Refused {
        name: "drop_system_message",
        unless: &["false"],
        of: TOKENISED,
        instead: "rows keep their system messages here: take them out of the rows",
    },
    Refused { name: "input_transform", unless: &["chat"], of: SFT, instead: "remove it" },
    Refused { name: "max_completion_length", unless: &[], of: &[], instead: STEPS },
    Refused { name: "step_separator", unless: &[], of: &[], instead: STEPS },
    Refused { name: "train_on_last_step_only", unless: &["false"], of: &[], instead: STEPS },
];

/// Checks the keys of an entry; `None` where one is refused.
pub fn check(t: &mut Translator<'_>, key: &str, place: &str, entry: &Map<String, Value>) -> Option<()> {
    let known = || {
        let fields = FIELDS.iter().map(|(theirs, _)| *theirs);
        READ.into_iter().chain(NOTHING).chain(REFUSED.iter().map(|refused| refused.name)).chain(fields)
    };
    let mut problems = Vec::new();
    for (name, value) in entry {
        let at = format!("{place}.{name}");
        if known().all(|known| known != name) {
            let hint = smpo_suggest::did_you_mean(name, known());
            problems.push(format!("`{place}`: unknown key `{name}`{hint}"));
        }
        if let Some(refused) = REFUSED.iter().find(|refused| refused.name == name && !value.is_null()) {
            problems.extend(refused.problem(t, &at, value));
        }
        if NOTHING.contains(&name.as_str()) && !value.is_null() {
            t.ignore(&at, "");
        }
    }
    problems.extend(columns(place, entry));
    if let Some(own) = entry.get("type").and_then(Value::as_object) {
        problems.extend(own_type(&format!("{place}.type"), own));
    }
    if t.method.name == "sft" {
        problems.extend(roles_to_train(place, entry));
        problems.extend(mappings(place, entry));
    } else if entry.get("roles_to_train").is_some_and(|roles| !roles.is_null()) {
        t.ignore(&format!("{place}.roles_to_train"), &of_another(t));
    }
    let is_right = problems.is_empty();
    for problem in problems {
        t.refuse(key, problem);
    }
    is_right.then_some(())
}

impl Refused {
    fn problem(&self, t: &mut Translator<'_>, at: &str, value: &Value) -> Option<String> {
        if self.unless.iter().any(|spelled| is(value, spelled)) {
            return None;
        }
        if !self.of.is_empty() && !self.of.contains(&t.method.name) {
            t.ignore(at, &of_another(t));
            return None;
        }
        Some(format!("`{at}: {}` is not supported: {}", short(value), self.instead))
    }
}

fn of_another(t: &Translator<'_>) -> String {
    format!("a setting of SFT, and this is {}", t.method.title)
}

/// Columns that are no names, and tables that are none.
fn columns(place: &str, entry: &Map<String, Value>) -> Vec<String> {
    let given = |name: &'static str| entry.get(name).filter(|value| !value.is_null()).map(|value| (name, value));
    let names = FIELDS.iter().map(|(theirs, _)| *theirs).chain(["message_field_role", "message_field_content"]);
    let columns = names.filter_map(given).filter(|(_, column)| !column.is_string());
    let columns = columns.map(|(name, got)| format!("`{place}.{name}`: expected the name of a column, got {got}"));
    let tables = ["roles", "message_property_mappings"].into_iter().filter_map(given);
    let tables = tables.filter(|(_, table)| !table.is_object());
    columns.chain(tables.map(|(name, got)| format!("`{place}.{name}`: expected a table, got {got}"))).collect()
}

/// Problems of a `type` that is a table.
fn own_type(place: &str, own: &Map<String, Value>) -> Vec<String> {
    let known = || OF_TYPE.into_iter().chain(FIELDS.iter().map(|(theirs, _)| *theirs));
    let strange = own.keys().filter(|name| known().all(|known| known != name.as_str()));
    let mut problems: Vec<String> = strange
        .map(|name| format!("`{place}`: unknown key `{name}`{}", smpo_suggest::did_you_mean(name, known())))
        .collect();
    if let Some(prompt) = own.get("system_prompt").and_then(Value::as_str).filter(|prompt| !prompt.is_empty()) {
        let prompt = short(&Value::from(prompt));
        problems.push(format!(
            "`{place}.system_prompt: {prompt}` is not supported: `default_system_message` is that of rows without one"
        ));
    }
    problems
}

/// The problem of speakers that are trained on and are not the assistant.
fn roles_to_train(place: &str, entry: &Map<String, Value>) -> Option<String> {
    let roles = entry.get("roles_to_train").filter(|roles| !roles.is_null())?;
    let mapped = entry.get("roles").and_then(Value::as_object).filter(|mapped| !mapped.is_empty());
    let mut assistant = match mapped {
        Some(mapped) => mapped.get("assistant").map(names).unwrap_or_default(),
        None => vec!["gpt".to_owned()],
    };
    assistant.push("assistant".to_owned());
    let wanted = names(roles);
    let is_same = !wanted.is_empty() && wanted.iter().all(|role| assistant.contains(role));
    (!is_same).then(|| {
        format!(
            "`{place}.roles_to_train: {}` is not supported: the assistant's messages are trained on here; remove it, or \
             map speakers to the assistant with `roles`",
            short(roles)
        )
    })
}

/// The problem of a message's key that has another name than the template's; `role` and `content` are read.
fn mappings(place: &str, entry: &Map<String, Value>) -> Option<String> {
    let mapped = entry.get("message_property_mappings").and_then(Value::as_object)?;
    let thoughts = |name: &str| THOUGHTS.contains(&name);
    let (ours, theirs) = mapped.iter().find_map(|(ours, theirs)| {
        let theirs = theirs.as_str().filter(|_| !["role", "content"].contains(&ours.as_str()))?;
        (ours != theirs && !(thoughts(ours) && thoughts(theirs))).then_some((ours, theirs))
    })?;
    Some(format!(
        "`{place}.message_property_mappings.{ours}: {theirs}` is not supported: `role` and `content` alone may have other \
         names here: rename `{theirs}` to `{ours}` in the rows"
    ))
}
