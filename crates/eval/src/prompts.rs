//! Prompts, one JSON object a line.
//!
//! | field | |
//! |---|---|
//! | `id` | unique; in a plain file also `custom_id`, `prompt_id`, `question_id`, `uid`…; default: the hash of the prompt |
//! | `messages` | the conversation, or `prompt`: one user message; in a plain file also `instruction` (with `input`), `question`, `input`… or FastChat's `turns` |
//! | `slice` | kind of prompt; optional in a plain file |
//! | `reference` | gold answer, optional |
//! | `closed` | `true` if only the gold answer is correct, so that `exact_match` applies |
//! | `correct_answer` | in a plain file: `reference` of a closed prompt |
//! | `response_format` | in a plain file: sent to a server with this prompt |
//! | `language` | BCP 47 tag of the expected answer, optional: scripts of it are not foreign |
//!
//! A plain file may be FastChat's or Arena-Hard's `question.jsonl`, AlpacaEval's evaluation set or a batch input, and may
//! carry other fields; the prompts of a suite may not. A question of several turns, as in MT-bench, can be scored, not
//! sampled: its later turns follow the model's own answers.

use std::collections::HashMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use smpo_chat::{Content, Message, json_kind};
use smpo_files::sha256;

use crate::conversation::{REQUESTS, conversation};
use crate::input_error::InputError;
use crate::json_rows::{self, Layout, Row, count, given, list, text};
use crate::slices;

/// One prompt of a suite.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prompt {
    /// Unique in its suite.
    pub id: String,
    /// Slice: the kind of prompt.
    pub slice: String,
    /// The conversation; never empty, never ending with the assistant.
    pub messages: Vec<Message>,
    /// Gold answer.
    pub reference: Option<String>,
    /// BCP 47 tag of the language of the expected answer.
    pub language: Option<String>,
    /// Only the gold answer is correct.
    pub closed: bool,
    /// Fields of the request to a server that this prompt brings itself: `response_format`.
    pub extra_body: Map<String, Value>,
    /// The most tokens that an answer may have, where the request of a batch says it.
    pub cap: Option<u32>,
    /// Its place among the turns of a question of several; `messages` are then those of the user alone.
    pub turn: Option<Turn>,
}

/// A later prompt of a conversation whose answers each model gives itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// Id of the question.
    pub question: String,
    /// From 1.
    pub number: usize,
}

impl Turn {
    /// Id of the prompt of one turn.
    pub fn prompt_id(question: &str, number: usize) -> String {
        format!("{question}/{}", Turn::slice(number))
    }

    /// Slice of one turn.
    pub fn slice(number: usize) -> String {
        format!("turn_{number}")
    }
}

/// Required fields of a file of prompts.
#[derive(Debug, Clone, Copy)]
pub enum Strictness<'a> {
    /// The prompts of a suite: an id and a declared slice each, no unknown field, no prompt twice.
    Suite {
        /// The declared slices; without them a prompt may have any or none.
        slices: Option<&'a [String]>,
    },
    /// Anything that has prompts.
    Plain,
    /// Prompts whose answers are there: questions of several turns too.
    Answered,
}

const FIELDS: [&str; 7] = ["id", "slice", "messages", "prompt", "reference", "language", "closed"];

/// Reads a file of prompts.
///
/// # Errors
/// [`InputError`], with the line: not JSON, no prompt, an id twice, an undeclared slice, no prompt at all.
pub fn read_prompts(path: &Path, strictness: Strictness<'_>) -> Result<Vec<Prompt>, InputError> {
    prompts(path, json_rows::open(path)?, strictness)
}

/// The prompts of a file's bytes.
pub(crate) fn parse_prompts(
    path: &Path,
    bytes: Vec<u8>,
    strictness: Strictness<'_>,
) -> Result<Vec<Prompt>, InputError> {
    prompts(path, json_rows::of_bytes(path, bytes)?, strictness)
}

fn prompts(path: &Path, layout: Layout<'_>, strictness: Strictness<'_>) -> Result<Vec<Prompt>, InputError> {
    let (mut reader, mut prompts) = (Reader::new(path, strictness), Vec::new());
    json_rows::each(layout, |line, row| {
        prompts.extend(reader.prompts(line, &row)?);
        Ok(())
    })?;
    Ok(prompts)
}

/// A prompt with the row that it was read from.
#[derive(Debug, Clone)]
pub struct PromptRow {
    /// Line of the file, or number of the element of an array, from 1.
    pub line: usize,
    /// The prompt.
    pub prompt: Prompt,
    /// All fields of the row.
    pub row: Map<String, Value>,
}

/// Reads a file of prompts with everything that its rows hold.
///
/// # Errors
/// As [`read_prompts`].
pub fn read_rows(path: &Path, strictness: Strictness<'_>) -> Result<Vec<PromptRow>, InputError> {
    let (mut reader, mut rows) = (Reader::new(path, strictness), Vec::new());
    json_rows::each(json_rows::open(path)?, |line, row| {
        let prompts = reader.prompts(line, &row)?;
        rows.extend(prompts.into_iter().map(|prompt| PromptRow { line, prompt, row: row.clone() }));
        Ok(())
    })?;
    Ok(rows)
}

/// A file of prompts while it is read.
struct Reader<'a> {
    path: &'a Path,
    strictness: Strictness<'a>,
    first_line_of_id: HashMap<String, usize>,
    first_line_of_prompt: HashMap<Vec<Message>, usize>,
}

impl<'a> Reader<'a> {
    fn new(path: &'a Path, strictness: Strictness<'a>) -> Self {
        Reader { path, strictness, first_line_of_id: HashMap::new(), first_line_of_prompt: HashMap::new() }
    }

    /// The prompts of a row: one, or those of a question of several turns.
    fn prompts(&mut self, line: usize, row: &Row) -> Result<Vec<Prompt>, InputError> {
        let at = |problem: String| InputError::line(self.path, line, problem);
        if let (Strictness::Answered, Some(turns)) = (self.strictness, turns(row).map_err(at)?) {
            for prompt in &turns {
                if let Some(first) = self.first_line_of_id.insert(prompt.id.clone(), line) {
                    return Err(at(taken(&prompt.id, first)));
                }
            }
            return Ok(turns);
        }
        let prompt = parse(row, self.strictness).map_err(at)?;
        if let Some(first) = self.first_line_of_id.insert(prompt.id.clone(), line) {
            return Err(at(match id(row, false).map_err(at)? {
                Some(_) => taken(&prompt.id, first),
                None => format!("the same prompt as line {first}; give both an `id`"),
            }));
        }
        if matches!(self.strictness, Strictness::Suite { .. })
            && let Some(first) = self.first_line_of_prompt.insert(prompt.messages.clone(), line)
        {
            return Err(at(format!("the same prompt as line {first}; it would count twice")));
        }
        Ok(vec![prompt])
    }
}

/// The prompt of one row of a plain file.
///
/// # Errors
/// The problem, without its place.
pub fn prompt_of(row: &Map<String, Value>) -> Result<Prompt, String> {
    parse(row, Strictness::Plain)
}

fn taken(id: &str, line: usize) -> String {
    format!("the id {id:?} is already taken by line {line}; ids must be unique")
}

/// The prompts of a question of several turns; `None` for one of a single turn.
fn turns(row: &Row) -> Result<Option<Vec<Prompt>>, String> {
    let Some(turns) = list(row, "turns")?.filter(|turns| turns.len() > 1) else { return Ok(None) };
    let question = id(row, false)?.ok_or("expected a `question_id` beside several `turns`, got none")?;
    let mut messages = Vec::new();
    let mut prompts = Vec::new();
    for (index, turn) in turns.iter().enumerate() {
        messages.push(Message::user(turn_text(turn)?));
        let number = index + 1;
        // MT-bench gives one for each turn
        let reference = row.get("reference").and_then(|references| references.get(index)).and_then(Value::as_str);
        prompts.push(Prompt {
            id: Turn::prompt_id(&question, number),
            slice: Turn::slice(number),
            messages: messages.clone(),
            reference: reference.map(str::to_owned),
            language: text(row, "language")?,
            closed: false,
            extra_body: Map::new(),
            cap: None,
            turn: Some(Turn { question: question.clone(), number }),
        });
    }
    Ok(Some(prompts))
}

fn turn_text(turn: &Value) -> Result<String, String> {
    Ok(Content::of_value(turn).map_err(|problem| format!("`turns`: {problem}"))?.text)
}

fn parse(row: &Row, strictness: Strictness<'_>) -> Result<Prompt, String> {
    let strict = matches!(strictness, Strictness::Suite { .. });
    if strict && let Some(unknown) = row.keys().find(|key| !FIELDS.contains(&key.as_str())) {
        let hint = smpo_suggest::did_you_mean(unknown, FIELDS);
        return Err(format!("unknown field `{unknown}`{hint} (known: {})", FIELDS.join(", ")));
    }
    let messages = messages(row, strict)?;
    let id = match id(row, strict)? {
        Some(id) => id,
        None if strict => return Err("expected an `id`, got none".into()),
        None => prompt_hash(&messages),
    };
    let slice = text(row, "slice")?;
    if let Some(problem) = slice.as_deref().and_then(slices::reserved) {
        return Err(problem);
    }
    let slice = match (slice, strictness) {
        (Some(slice), Strictness::Suite { slices: Some(slices) }) if !slices.contains(&slice) => {
            let hint = smpo_suggest::did_you_mean(&slice, slices.iter().map(String::as_str));
            return Err(format!(
                "the slice {slice:?} is not declared in the suite{hint} (declared: {})",
                slices.join(", ")
            ));
        }
        (Some(slice), _) => slice,
        (None, Strictness::Suite { slices: Some(_) }) => return Err("expected a `slice`, got none".into()),
        (None, _) => slices::PLAIN.into(),
    };
    let correct = if strict { None } else { text(row, "correct_answer")? };
    let closed = match row.get("closed") {
        None | Some(Value::Null) => correct.is_some(),
        Some(Value::Bool(closed)) => *closed,
        Some(other) => return Err(format!("`closed`: expected true or false, got {}", json_kind(other))),
    };
    // FastChat writes a list even for one turn
    let reference = match given(row, "reference") {
        Some(Value::Array(references)) if !strict => references.first().and_then(Value::as_str).map(str::to_owned),
        _ => text(row, "reference")?,
    };
    let reference = reference.or(correct);
    let response_format = given(row, "response_format").filter(|_| !strict);
    let extra_body = response_format.map(|value| ("response_format".to_owned(), value.clone())).into_iter().collect();
    if closed && reference.as_deref().is_none_or(|gold| gold.trim().is_empty()) {
        return Err("a closed prompt needs its gold answer in `reference`".into());
    }
    let cap = if strict { None } else { requested_cap(row) };
    let language = text(row, "language")?;
    Ok(Prompt { id, slice, messages, reference, language, closed, extra_body, cap, turn: None })
}

/// Names of the cap of a request: OpenAI's, Anthropic's, those of the Responses API and Gemini's.
const CAPS: [&str; 4] = ["max_completion_tokens", "max_tokens", "max_output_tokens", "maxOutputTokens"];

/// The cap of a request in a batch's input.
fn requested_cap(row: &Row) -> Option<u32> {
    let request = REQUESTS.iter().find_map(|name| row.get(*name)?.as_object())?;
    let settings = ["generationConfig", "generation_config"].iter().filter_map(|name| request.get(*name)?.as_object());
    let mut places = std::iter::once(request).chain(settings);
    places.find_map(|place| CAPS.iter().find_map(|name| count(place, name).ok().flatten()))
}

/// Names of a row's id, the more particular first: a row of a batch has an `id` of its own besides.
const IDS: [&str; 10] =
    ["custom_id", "prompt_id", "question_id", "uid", "id", "task_id", "sample_id", "uuid", "key", "recordId"];

/// The row's own id: a string, or the digits of an integer.
pub(crate) fn id(row: &Row, strict: bool) -> Result<Option<String>, String> {
    for name in if strict { &["id"][..] } else { &IDS } {
        match row.get(*name) {
            None | Some(Value::Null) => {}
            Some(Value::String(id)) if !id.is_empty() => return Ok(Some(id.clone())),
            Some(Value::Number(id)) if id.is_i64() || id.is_u64() => return Ok(Some(id.to_string())),
            Some(other) => return Err(format!("`{name}`: expected a string or an integer, got {other}")),
        }
    }
    Ok(None)
}

/// Id of a prompt that has none: equal prompts of different files get equal ids, so runs pair up.
pub(crate) fn prompt_hash(messages: &[Message]) -> String {
    let text: Vec<[&str; 2]> =
        messages.iter().map(|message| [message.role.as_str(), message.content.as_str()]).collect();
    sha256(serde_json::json!(text).to_string().as_bytes())[..16].to_owned()
}

fn messages(row: &Row, strict: bool) -> Result<Vec<Message>, String> {
    let turns = if strict { None } else { list(row, "turns")? };
    let messages = match (turns, conversation(row, strict)?) {
        (_, Some(messages)) => messages,
        (Some([turn]), None) => vec![Message::user(turn_text(turn)?)],
        (Some(turns), None) => {
            return Err(format!(
                "`turns`: expected one turn, got {}; later turns need the model's own answers: give whole conversations \
                 in `messages`",
                turns.len()
            ));
        }
        (None, None) if strict => return Err("expected `messages` or `prompt`, got none of them".into()),
        (None, None) => {
            return Err("expected `messages`, `prompt`, `instruction`, `question` or `turns`, got none of them".into());
        }
    };
    match messages.last() {
        None => Err("`messages`: expected at least one message, got an empty list".into()),
        Some(last) if last.role == "assistant" => {
            Err("`messages`: expected the last message to be the one to answer, got an assistant message".into())
        }
        Some(_) => Ok(messages),
    }
}
