//! Columns and speakers of a file under the names that the reader knows.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::read_error::{Location, Problem, ReadError};
use crate::reader::Files;
use crate::shape::{JUDGED, is_carried};
use crate::sources::{Purpose, source_files};

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
    /// The first of two answers that `winner` judges.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_a: Option<String>,
    /// The second of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_b: Option<String>,
    /// The name of the better one: `model_a`, `model_b` or `tie`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub winner: Option<String>,
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

/// Columns that hold no messages, though they may hold objects with a `role` or `content` of their own.
const OF_TOOLS: [&str; 2] = ["tools", "functions"];

impl Columns {
    /// The columns of an entry of `dataset`: of the table that names it, or else of the one for all.
    ///
    /// # Errors
    /// When a file cannot be opened, and for a named column that no row has.
    pub(crate) fn of(tables: &[Self], source: &Path, purpose: Purpose) -> Result<Self, ReadError> {
        let named = tables.iter().find(|columns| columns.files.iter().any(|file| file == source));
        let Some(columns) = named.or_else(|| tables.iter().find(|columns| columns.files.is_empty())) else {
            return Ok(Self::default());
        };
        columns.are_in(source, purpose)?;
        Ok(columns.clone())
    }

    /// Checks that each named column is in a row; the first row has them all, as a rule.
    fn are_in(&self, source: &Path, purpose: Purpose) -> Result<(), ReadError> {
        let mut missing: Vec<&str> = self.named().map(|(column, _)| column).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let files = source_files(source, purpose)?;
        // a pipe cannot be read twice
        if files.iter().any(|file| file.metadata().is_ok_and(|metadata| !metadata.is_file())) {
            return Ok(());
        }
        let mut files = Files::open(files)?;
        let mut found = BTreeSet::new();
        while let Some(row) = files.next_row(|rows| rows.next_columns()) {
            // an error is told by the reading that follows
            let Ok(row) = row else { return Ok(()) };
            if let Some(column) = self.judges(&row) {
                let (field, got) = (column.to_owned(), "the name of the better side, whichever `chosen` is".to_owned());
                let remedy = "name the sides `response_a` and `response_b` in `dataset_columns`, and it `winner`";
                let location = Location { path: source.into(), line: 0 };
                return Err(ReadError { location, problem: Problem::Unsupported { field, got, remedy } });
            }
            missing.retain(|column| !row.contains_key(*column));
            if missing.is_empty() {
                return Ok(());
            }
            found.extend(row.into_iter().map(|(column, _)| column));
        }
        // a file without a row that can be read has errors of its own
        if found.is_empty() {
            return Ok(());
        }
        let absent = missing.into_iter().map(str::to_owned).collect();
        let problem = Problem::ColumnsAbsent { absent, found: found.into_iter().collect() };
        Err(ReadError { location: Location { path: source.into(), line: 0 }, problem })
    }

    /// The column that says which side is the better one, where one of them is named as the better one of all rows.
    fn judges(&self, row: &Map<String, Value>) -> Option<&'static str> {
        let chosen = self.chosen.as_deref()?;
        let layouts = JUDGED.iter().filter(|layout| layout.sides.contains(&chosen));
        layouts.flat_map(|layout| layout.columns()).find(|column| row.contains_key(*column))
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
            (&self.response_a, "response_a"),
            (&self.response_b, "response_b"),
            (&self.winner, "winner"),
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
                None if !named.is_empty() && is_carried(&column) => {
                    renamed.insert(format!("{column} (not in dataset_columns)"), value);
                }
                None => drop(renamed.insert(column, value)),
            }
        }
        if self.role.is_some() || self.content.is_some() || !self.roles.is_empty() {
            for (_, value) in renamed.iter_mut().filter(|(column, _)| !OF_TOOLS.contains(&column.as_str())) {
                self.rename_messages(value);
            }
        }
        renamed
    }

    /// Messages wherever they stand in a column: alone, in lists, in lists of answers, below further keys, as JSON.
    fn rename_messages(&self, value: &mut Value) {
        match value {
            Value::Array(items) => items.iter_mut().for_each(|item| self.rename_messages(item)),
            Value::Object(fields) if self.is_message(fields) => self.rename_message(fields),
            Value::Object(fields) => {
                let others = fields.iter_mut().filter(|(name, _)| !OF_TOOLS.contains(&name.as_str()));
                others.for_each(|(_, field)| self.rename_messages(field));
            }
            Value::String(text) if text.trim_start().starts_with(['[', '{']) => {
                let Ok(mut read) = serde_json::from_str::<Value>(text) else { return };
                let messages = if let Value::Array(items) = &read { items } else { std::slice::from_ref(&read) };
                if messages.iter().all(|item| item.as_object().is_some_and(|fields| self.is_message(fields))) {
                    self.rename_messages(&mut read);
                    *value = read;
                }
            }
            _ => {}
        }
    }

    /// True for an object with a speaker, by this file's name or the reader's.
    fn is_message(&self, fields: &Map<String, Value>) -> bool {
        [self.role.as_deref().unwrap_or("role"), "role", "from"]
            .iter()
            .any(|name| fields.get(*name).is_some_and(Value::is_string))
    }

    fn rename_message(&self, fields: &mut Map<String, Value>) {
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
    fn each_name_of_a_message_is_enough() {
        for (columns, message) in [
            (json!({"role": "who"}), json!({"who": "user", "content": "q"})),
            (json!({"content": "says"}), json!({"role": "user", "says": "q"})),
            (json!({"roles": {"customer": "user"}}), json!({"role": "customer", "content": "q"})),
        ] {
            let expected = json!({"messages": [{"role": "user", "content": "q"}]});
            assert_eq!(renamed(columns, json!({"messages": [message]})), expected);
        }
    }

    #[test]
    fn speakers_are_found_wherever_messages_stand() {
        let columns = json!({"role": "who", "content": "says", "roles": {"customer": "user", "us": "assistant"}});
        let said = json!([{"who": "customer", "says": "q"}]);
        let answer = json!([{"who": "us", "says": "a"}]);
        let text = serde_json::to_string(&said).unwrap();
        let row = json!({
            "conversations": text, "completions": [answer, answer], "input": {"messages": said}, "chosen_response": answer[0],
            "tools": [{"who": "a parameter", "says": "b"}], "prompt": "{\"who\": 1}",
        });
        let (said, answer) =
            (json!([{"content": "q", "role": "user"}]), json!([{"content": "a", "role": "assistant"}]));
        let expected = json!({
            "conversations": said, "completions": [answer, answer], "input": {"messages": said}, "chosen_response": answer[0],
            "tools": [{"who": "a parameter", "says": "b"}], "prompt": "{\"who\": 1}",
        });
        assert_eq!(renamed(columns, row), expected);
    }

    #[test]
    fn a_table_that_names_its_file_is_before_one_for_all_and_absent_columns_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pairs.jsonl");
        std::fs::write(&file, "not a row\n{\"ask\": \"q\"}\n{\"ask\": \"q\", \"before\": []}\n").unwrap();
        let table = |value: Value| serde_json::from_value::<Columns>(value).unwrap();
        let tables = [
            table(json!({"prompt": "question"})),
            table(json!({"files": [&file], "prompt": "ask", "history": "before"})),
        ];
        assert_eq!(Columns::of(&tables, &file, Purpose::Train).unwrap(), tables[1]);
        let error = Columns::of(&tables[..1], &file, Purpose::Train).unwrap_err().to_string();
        assert!(
            error.contains("`dataset_columns` names [\"question\"], expected some of [\"ask\", \"before\"]"),
            "{error}"
        );
    }

    #[test]
    fn one_of_two_judged_answers_is_not_chosen_for_all_rows() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pairs.jsonl");
        let of = |columns: Value, row: &str| {
            std::fs::write(&file, row).unwrap();
            let table = serde_json::from_value::<Columns>(columns).unwrap();
            Columns::of(&[table], &file, Purpose::Train).map_err(|error| error.to_string())
        };
        let judged = r#"{"ask": "q", "response_a": "a", "response_b": "b", "winner": "tie"}"#;
        let sides = json!({"prompt": "ask", "chosen": "response_a", "rejected": "response_b"});
        let error = of(sides.clone(), judged).unwrap_err();
        assert!(
            error.contains("`winner` is the name of the better side, whichever `chosen` is; name the sides"),
            "{error}"
        );
        assert!(of(sides, r#"{"ask": "q", "response_a": "a", "response_b": "b"}"#).is_ok());
        let named = json!({"prompt": "ask", "response_a": "left", "response_b": "right", "winner": "better"});
        assert!(of(named.clone(), r#"{"ask": "q", "left": "a", "right": "b", "better": "b"}"#).is_ok());
        let row = json!({"ask": "q", "left": "a", "right": "b", "better": "b", "response_0": "c"});
        let expected = json!({
            "prompt": "q", "response_a": "a", "response_b": "b", "winner": "b", "response_0 (not in dataset_columns)": "c"
        });
        assert_eq!(renamed(named, row), expected);
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
