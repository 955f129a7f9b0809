//! The text of a row that is compared.

use serde::Serialize;
use serde_json::{Map, Value};
use smpo_chat::{Content, Message, json_kind};
use smpo_data::{ClassifiedText, Example, JsonRow, Problem, Record};
use smpo_eval::prompts::prompt_of;

use crate::CurationError;
use crate::normal::normal;

/// The compared part of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum By {
    /// Everything: prompt and answers.
    Row,
    /// All messages before the answer.
    Prompt,
    /// The same without system messages.
    Question,
    /// One column: a text, messages, or any other value as JSON.
    Column(String),
}

/// Kind of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RowKind {
    /// A preference pair.
    Pair,
    /// A labelled completion.
    Labelled,
    /// An instruction example.
    Example,
    /// A prompt with several scored completions.
    Group,
    /// A text or conversation with its label.
    Classified,
    /// A prompt alone.
    Prompt,
    /// Any object, of which one column is compared.
    Object,
}

impl RowKind {
    /// Singular, for reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pair => "preference pair",
            Self::Labelled => "labelled completion",
            Self::Example => "instruction example",
            Self::Group => "group",
            Self::Classified => "labelled text",
            Self::Prompt => "prompt",
            Self::Object => "row",
        }
    }
}

/// Place of a text in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// Before the answer, or the one column.
    Prompt,
    /// Answer that is learned: the only one, the better one, a desirable one, those of a group.
    Chosen,
    /// The worse answer, or an undesirable one.
    Rejected,
}

/// A text of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub place: Place,
    pub text: String,
}

/// A row as it is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RowText {
    pub kind: RowKind,
    /// Its texts in the order of their places.
    pub parts: Vec<Part>,
    /// Labels, margins, rewards, marks of messages, tools and documents: rows of equal text that differ in them are no duplicates.
    /// Empty where only a prompt or a column is compared.
    pub beside: String,
}

impl RowText {
    /// Reads the compared part of a row, in its normal form.
    pub fn of(row: &JsonRow, by: &By) -> Result<Self, CurationError> {
        let mut read = Self::as_written(row, by)?;
        read.parts.iter_mut().for_each(|part| part.text = normal(&part.text));
        Ok(read)
    }

    /// Reads the compared part of a row.
    pub fn as_written(row: &JsonRow, by: &By) -> Result<Self, CurationError> {
        let By::Column(name) = by else { return Self::of_record(row, by) };
        let columns = row.columns()?;
        let text = match columns.get(name) {
            None | Some(Value::Null) => {
                let names: Vec<&String> = columns.keys().collect();
                let problem = format!("expected a column `{name}`, got only {names:?}");
                return Err(CurationError::row(&row.location, problem));
            }
            Some(value) => value_text(value),
        };
        Ok(Self { kind: RowKind::Object, parts: vec![Part { place: Place::Prompt, text }], beside: String::new() })
    }

    fn of_record(row: &JsonRow, by: &By) -> Result<Self, CurationError> {
        let record = match row.record() {
            Ok(record) => record,
            // rows without an answer to learn: prompts of suites and baskets, groups without rewards
            Err(error) if is_without_answer(&error.problem) => {
                let columns = row.columns()?;
                return of_columns(&columns, by).ok_or(CurationError::Read(error));
            }
            Err(error) => return Err(error.into()),
        };
        let answers = match &record {
            Record::Pair(pair) => vec![(Place::Chosen, text(&pair.chosen)), (Place::Rejected, text(&pair.rejected))],
            Record::Group(group) => {
                let all: Vec<String> = group.completions.iter().map(|messages| text(messages)).collect();
                vec![(Place::Chosen, all.join("\n"))]
            }
            Record::Unpaired(row) if row.label => vec![(Place::Chosen, text(&row.completion))],
            Record::Unpaired(row) => vec![(Place::Rejected, text(&row.completion))],
            Record::Example(row) => vec![(Place::Chosen, text(&row.completion))],
            Record::Classified(_) => Vec::new(),
        };
        let kind = match &record {
            Record::Pair(_) => RowKind::Pair,
            Record::Group(_) => RowKind::Group,
            Record::Unpaired(_) => RowKind::Labelled,
            Record::Example(_) => RowKind::Example,
            Record::Classified(_) => RowKind::Classified,
        };
        let mut parts = vec![match &record {
            Record::Classified(ClassifiedText { text: Some(text), .. }) => {
                Part { place: Place::Prompt, text: text.clone() }
            }
            Record::Example(row) if *by != By::Row => prompt(&before_last_answer(row), by),
            _ => prompt(record.prompt(), by),
        }];
        let mut beside = String::new();
        if *by == By::Row {
            parts.extend(answers.into_iter().map(|(place, text)| Part { place, text }));
            beside = beside_text(&record);
        }
        Ok(Self { kind, parts, beside })
    }

    /// Further prompts of a conversation whose every answer is learned: what stands before each answer, and each question alone.
    pub fn of_turns(row: &JsonRow, by: &By) -> Vec<Self> {
        let Ok(Record::Example(row)) = row.record() else { return Vec::new() };
        let whole = [&row.prompt[..], &row.completion].concat();
        let is_answer = |at: &usize| whole[*at].role == "assistant" && whole[*at].scored;
        let before = (row.prompt.len()..whole.len()).filter(is_answer).map(|at| &whole[..at]);
        let alone = whole.iter().filter(|message| message.role == "user").map(std::slice::from_ref);
        let of = |messages: &[Message]| {
            let mut part = prompt(messages, by);
            part.text = normal(&part.text);
            Self { kind: RowKind::Example, parts: vec![part], beside: String::new() }
        };
        before.chain(alone).map(of).collect()
    }

    /// True where there is nothing to compare.
    pub fn is_empty(&self) -> bool {
        self.parts.iter().all(|part| part.text.is_empty())
    }

    /// Characters of all texts.
    pub fn characters(&self) -> usize {
        self.parts.iter().map(|part| part.text.chars().count()).sum()
    }

    /// The beginning, for reports.
    pub fn excerpt(&self) -> String {
        const CHARACTERS: usize = 100;
        let whole = self.parts.iter().map(|part| part.text.as_str()).collect::<Vec<_>>().join(" | ");
        match whole.char_indices().nth(CHARACTERS) {
            Some((end, _)) => format!("{}…", &whole[..end]),
            None => whole,
        }
    }
}

fn is_without_answer(problem: &Problem) -> bool {
    matches!(problem, Problem::UnknownShape { .. } | Problem::Roles { .. } | Problem::WrongType { .. })
        || matches!(problem, Problem::Missing { field: "completion" | "rewards", .. } | Problem::Unsupported { .. })
}

/// All that a row has beside its texts, as one text; empty where it has nothing.
fn beside_text(record: &Record) -> String {
    let own = match record {
        Record::Group(group) => format!("{:?}", group.rewards),
        Record::Classified(row) => row.names().map(|names| format!("{names:?}")).unwrap_or_default(),
        Record::Pair(pair) => pair.margin.as_ref().map(ToString::to_string).unwrap_or_default(),
        Record::Unpaired(_) | Record::Example(_) => String::new(),
    };
    let completions = record.completions();
    let messages = completions.iter().flat_map(|(_, side)| side.iter()).enumerate();
    let marked = messages.filter(|(_, message)| !message.finished || !message.scored);
    let own = marked.fold(own, |own, (at, message)| format!("{own} {at} {} {}", message.finished, message.scored));
    match record.inputs() {
        inputs if inputs.is_empty() => own,
        inputs => format!("{own}{inputs:?}"),
    }
}

/// A group without rewards, a question of several turns, or a prompt.
fn of_columns(columns: &Map<String, Value>, by: &By) -> Option<RowText> {
    if let Some(Value::Array(completions)) = columns.get("completions") {
        let Ok(read) = prompt_of(columns) else { return None };
        let mut parts = vec![prompt(&read.messages, by)];
        if *by == By::Row {
            let all: Vec<String> = completions.iter().map(value_text).collect();
            parts.push(Part { place: Place::Chosen, text: all.join("\n") });
        }
        return Some(RowText { kind: RowKind::Group, parts, beside: String::new() });
    }
    // a row that has an answer and cannot be read is broken, not a prompt
    if ["chosen", "rejected", "completion", "response"].iter().any(|name| columns.contains_key(*name)) {
        return None;
    }
    let text = match columns.get("turns") {
        Some(turns @ Value::Array(_)) => Part { place: Place::Prompt, text: value_text(turns) },
        _ => prompt(&prompt_of(columns).ok()?.messages, by),
    };
    Some(RowText { kind: RowKind::Prompt, parts: vec![text], beside: String::new() })
}

/// All messages of a conversation before its last answer.
fn before_last_answer(row: &Example) -> Vec<Message> {
    let last = row.completion.iter().rposition(|message| message.role == "assistant").unwrap_or(0);
    [&row.prompt[..], &row.completion[..last]].concat()
}

fn prompt(messages: &[Message], by: &By) -> Part {
    let compared: Vec<Message> =
        messages.iter().filter(|message| *by != By::Question || message.role != "system").cloned().collect();
    Part { place: Place::Prompt, text: text(&compared) }
}

/// The texts of messages, a line each, with thoughts and calls.
fn text(messages: &[Message]) -> String {
    let of_message = |message: &Message| {
        let calls = message.fields.get("tool_calls").map(Value::to_string);
        let texts = [message.reasoning().map(str::to_owned), Some(message.content.clone()), calls];
        texts.into_iter().flatten().collect::<Vec<_>>().join("\n")
    };
    messages.iter().map(of_message).collect::<Vec<_>>().join("\n")
}

/// The text of any value: a string itself, the contents of messages, elements of a list line by line, JSON otherwise.
fn value_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(value_text).collect::<Vec<_>>().join("\n"),
        Value::Object(message) => match message.get("content").or_else(|| message.get("value")) {
            Some(content) => Content::of_value(content).map_or_else(|_| content.to_string(), |content| content.text),
            None => value.to_string(),
        },
        other => other.to_string(),
    }
}

/// A number in a column.
pub(crate) fn number(row: &JsonRow, column: &str) -> Result<f64, CurationError> {
    let columns = row.columns()?;
    let problem = match columns.get(column) {
        None => format!("expected a number in a column `{column}`, got only {:?}", columns.keys().collect::<Vec<_>>()),
        Some(value) => match value.as_f64() {
            Some(number) => return Ok(number),
            None => format!("`{column}`: expected a number, got {}", json_kind(value)),
        },
    };
    Err(CurationError::row(&row.location, problem))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;
    use smpo_data::Location;

    use super::*;

    fn of(row: &Value, by: &By) -> Result<(RowKind, Vec<String>), String> {
        let location = Location { path: Path::new("a.jsonl").into(), line: 3 };
        let row = JsonRow { location, json: row.to_string().into_bytes() };
        let read = RowText::of(&row, by).map_err(|error| error.to_string())?;
        Ok((read.kind, read.parts.into_iter().map(|part| part.text).collect()))
    }

    #[test]
    fn every_kind_of_row_has_its_texts() {
        let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        let system = json!([{"role": "system", "content": "S"}, {"role": "user", "content": "Q"}]);
        let pair = json!({"prompt": system, "chosen": "A", "rejected": "B"});
        assert_eq!(of(&pair, &By::Row), Ok((RowKind::Pair, texts(&["s q", "a", "b"]))));
        assert_eq!(of(&pair, &By::Prompt), Ok((RowKind::Pair, texts(&["s q"]))));
        assert_eq!(of(&pair, &By::Question), Ok((RowKind::Pair, texts(&["q"]))));
        assert_eq!(of(&pair, &By::Column("chosen".into())), Ok((RowKind::Object, texts(&["a"]))));
        assert_eq!(of(&json!({"prompt": "Q"}), &By::Row), Ok((RowKind::Prompt, texts(&["q"]))));
        assert_eq!(of(&json!({"messages": system}), &By::Question), Ok((RowKind::Prompt, texts(&["q"]))));
        assert_eq!(
            of(&json!({"question_id": 1, "turns": ["Q", "R"]}), &By::Row),
            Ok((RowKind::Prompt, texts(&["q r"])))
        );
        let group =
            json!({"prompt": "Q", "completions": ["A", [{"role": "assistant", "content": "B"}]], "rewards": [1, 0]});
        assert_eq!(of(&group, &By::Row), Ok((RowKind::Group, texts(&["q", "a b"]))));
        let example = json!({"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]});
        assert_eq!(of(&example, &By::Row), Ok((RowKind::Example, texts(&["q", "a"]))));
    }

    /// The label decides what such a row teaches, and so do rewards and tools.
    #[test]
    fn rows_of_equal_text_may_differ_beside_it() {
        let key = |row: Value, by: By| {
            let location = Location { path: Path::new("a.jsonl").into(), line: 3 };
            let row = JsonRow { location, json: row.to_string().into_bytes() };
            crate::index::key(&RowText::of(&row, &by).unwrap()).unwrap()
        };
        let labelled = |label: &str| json!({"text": "T", "label": label});
        assert_ne!(key(labelled("pos"), By::Row), key(labelled("neg"), By::Row));
        assert_eq!(key(labelled("pos"), By::Row), key(labelled("pos"), By::Row));
        assert_eq!(key(labelled("pos"), By::Prompt), key(labelled("neg"), By::Prompt));
        let tools = json!([{"type": "function", "function": {"name": "f", "parameters": {}}}]);
        let pair = json!({"prompt": "Q", "chosen": "A", "rejected": "B"});
        let mut with_tools = pair.clone();
        with_tools["tools"] = tools;
        assert_ne!(key(pair, By::Row), key(with_tools, By::Row));
        let group = |second: f64| json!({"prompt": "Q", "completions": ["A", "B"], "rewards": [1.0, second]});
        assert_ne!(key(group(0.0), By::Row), key(group(0.5), By::Row));
    }

    #[test]
    fn rows_that_say_nothing_to_compare_are_errors_with_their_line() {
        let error = of(&json!({"prompt": "q", "chosen": "a"}), &By::Prompt).unwrap_err();
        assert!(error.starts_with("a.jsonl:3: expected `rejected`"), "{error}");
        let error = of(&json!({"text": "q"}), &By::Row).unwrap_err();
        assert!(error.starts_with("a.jsonl:3: expected a preference pair"), "{error}");
        let error = of(&json!({"text": "q"}), &By::Column("txt".into())).unwrap_err();
        assert_eq!(error, "a.jsonl:3: expected a column `txt`, got only [\"text\"]");
    }
}
