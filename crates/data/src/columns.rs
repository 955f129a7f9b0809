//! Columns and speakers of a file under the names that the reader knows.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::shape::CARRIED;

/// Names of columns in files whose own names the reader does not know, or would read otherwise. Once a column of the
/// conversation is named, those that are not named belong to nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Columns {
    /// Entries of `dataset` and `eval_dataset` that have these columns; all when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<PathBuf>,
    /// The question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// Text below the question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// The one answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<String>,
    /// Earlier questions and answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<String>,
    /// The conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<String>,
    /// The system message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// Tools.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<String>,
    /// The better answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen: Option<String>,
    /// The worse answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected: Option<String>,
    /// The answers of a group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completions: Option<String>,
    /// The rewards of a group's answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rewards: Option<String>,
    /// Desirable or not (KTO).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The speaker of a message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// The text of a message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// Names of speakers, each with the role that it is: `user`, `assistant`, `system`, `tool`, `function_call`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub roles: BTreeMap<String, String>,
}

/// Columns that hold messages.
const OF_MESSAGES: [&str; 5] = ["messages", "chosen", "rejected", "prompt", "completion"];

impl Columns {
    /// True if the columns are those of an entry of `dataset`.
    pub(crate) fn are_of(&self, source: &Path) -> bool {
        self.files.is_empty() || self.files.iter().any(|file| file == source)
    }

    /// Each column that is named, and the reader's name for it.
    fn named(&self) -> impl Iterator<Item = (&str, &'static str)> {
        // beside a text below the question the reader expects an instruction
        let prompt = if self.query.is_some() { "instruction" } else { "prompt" };
        [
            (&self.prompt, prompt),
            (&self.query, "input"),
            (&self.response, "completion"),
            (&self.history, "history"),
            (&self.messages, "messages"),
            (&self.system, "system"),
            (&self.tools, "tools"),
            (&self.chosen, "chosen"),
            (&self.rejected, "rejected"),
            (&self.completions, "completions"),
            (&self.rewards, "rewards"),
            (&self.label, "label"),
        ]
        .into_iter()
        .filter_map(|(column, name)| Some((column.as_deref()?, name)))
    }

    /// The row under the reader's names.
    pub(crate) fn rename(&self, row: Map<String, Value>) -> Map<String, Value> {
        let named: Vec<(&str, &'static str)> = self.named().collect();
        let mut renamed = Map::with_capacity(row.len());
        for (column, value) in row {
            match named.iter().find(|(theirs, _)| *theirs == column) {
                Some((_, name)) => drop(renamed.insert((*name).to_owned(), value)),
                // listed with the keys that nothing reads
                None if !named.is_empty() && CARRIED.contains(&column.as_str()) => {
                    renamed.insert(format!("{column} (not in dataset_columns)"), value);
                }
                None => drop(renamed.insert(column, value)),
            }
        }
        if self.role.is_some() || self.content.is_some() || !self.roles.is_empty() {
            for column in OF_MESSAGES {
                match renamed.get_mut(column) {
                    Some(Value::Array(messages)) => {
                        messages.iter_mut().for_each(|message| self.rename_message(message))
                    }
                    Some(message) => self.rename_message(message),
                    None => {}
                }
            }
        }
        renamed
    }

    fn rename_message(&self, message: &mut Value) {
        let Some(fields) = message.as_object_mut() else { return };
        let names = [(&self.role, "role"), (&self.content, "content")];
        for (theirs, name) in names.into_iter().filter_map(|(theirs, name)| Some((theirs.as_deref()?, name))) {
            if theirs != name
                && let Some(value) = fields.remove(theirs)
            {
                fields.insert(name.to_owned(), value);
            }
        }
        for speaker in ["role", "from"] {
            let role = fields.get(speaker).and_then(Value::as_str).and_then(|name| self.roles.get(name));
            if let Some(role) = role {
                fields.insert(speaker.to_owned(), Value::from(role.as_str()));
            }
        }
    }

    /// Everything that decides the outcome, for the token cache; empty without columns.
    pub(crate) fn key(&self) -> String {
        let plain = Self { files: Vec::new(), ..self.clone() };
        if plain == Self::default() { String::new() } else { serde_json::to_string(&plain).unwrap_or_default() }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn renamed(columns: Value, row: Value) -> Value {
        let columns: Columns = serde_json::from_value(columns).unwrap();
        Value::Object(columns.rename(row.as_object().unwrap().clone()))
    }

    #[test]
    fn columns_are_renamed_and_others_of_the_conversation_set_aside() {
        let columns = json!({"prompt": "ask", "chosen": "good", "rejected": "bad"});
        let row = json!({"ask": "q", "good": "a", "bad": "b", "prompt": "another", "id": "1"});
        let expected = json!({
            "prompt": "q", "chosen": "a", "rejected": "b", "prompt (not in dataset_columns)": "another", "id": "1"
        });
        assert_eq!(renamed(columns, row), expected);
        assert_eq!(renamed(json!({}), json!({"prompt": "q"})), json!({"prompt": "q"}));
    }

    #[test]
    fn speakers_have_their_roles_in_messages_and_single_answers() {
        let columns = json!({
            "messages": "talk", "chosen": "chosen", "role": "who", "content": "says", "roles": {"customer": "user", "us": "assistant"}
        });
        let row = json!({"talk": [{"who": "customer", "says": "q"}], "chosen": {"who": "us", "says": "a"}});
        let expected = json!({
            "messages": [{"content": "q", "role": "user"}], "chosen": {"content": "a", "role": "assistant"}
        });
        assert_eq!(renamed(columns, row), expected);
    }
}
