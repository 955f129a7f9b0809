//! Rows with a place for a prompt.

use smpo_chat::{Conversation, Message};
use smpo_data::{DatasetError, Located, Record, Row, RowKind, Truncation, encode_record};
use smpo_tokenizer::ChatTokenizer;

use crate::config::PromptRole;

/// Text that stands for the prompt while a row is rendered.
const PROBE: &str = "\u{2047}PROMPT\u{2047}";

/// A row, and the place of the prompt in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Slotted {
    /// The row without a prompt.
    row: Row,
    /// Tokens before the prompt.
    before: usize,
}

impl Slotted {
    /// A row of a prompt's surroundings; its own prompt is not read.
    pub fn new(before: &[u32], after: &[u32], row: Row) -> Self {
        Slotted { row: Row { prompt: [before, after].concat(), ..row }, before: before.len() }
    }

    /// The row with a prompt in place.
    pub fn with(&self, prompt: &[u32]) -> Row {
        let (before, after) = self.row.prompt.split_at(self.before);
        Row { prompt: [before, prompt, after].concat(), ..self.row.clone() }
    }

    /// The row without a prompt.
    pub fn row(&self) -> &Row {
        &self.row
    }

    /// Tokens before the prompt.
    pub fn before(&self) -> usize {
        self.before
    }
}

/// Renders records with a prompt, as rows of one kind.
#[derive(Debug, Clone, Copy)]
pub(super) struct Renderer<'a> {
    pub tokenizer: &'a ChatTokenizer,
    pub kind: RowKind,
    pub role: PromptRole,
    pub truncation: &'a Truncation,
}

impl Renderer<'_> {
    /// The row of a record as a text's user gets it; without a text, that of the record as it is.
    pub fn row(&self, at: &Located<Record>, text: Option<&str>) -> Result<Row, DatasetError> {
        let problem = |problem: String| DatasetError::Row { location: at.location.clone(), problem };
        let record = match text {
            Some(text) => self.insert(&at.record, text),
            None => at.record.clone(),
        };
        let rows = encode_record(&record, self.kind, self.tokenizer, self.truncation);
        let row = rows.into_iter().next().unwrap_or_else(|| Err("the record gives no row".into()));
        let (row, cut) = row.map_err(problem)?;
        match cut.vanished {
            true => Err(DatasetError::Vanished { location: at.location.clone(), max_length: None }),
            false => Ok(row),
        }
    }

    /// The tokens of a record around a prompt.
    pub fn slotted(&self, at: &Located<Record>) -> Result<Slotted, DatasetError> {
        let problem = |problem: String| DatasetError::Row { location: at.location.clone(), problem };
        let record = self.insert(&at.record, PROBE);
        let conversation = Conversation { messages: record.prompt(), inputs: record.inputs() };
        let rendered = self.tokenizer.render_prompt(conversation).map_err(|error| problem(error.to_string()))?;
        let mut parts = rendered.split(PROBE);
        let (Some(before), Some(after), None) = (parts.next(), parts.next(), parts.next()) else {
            let role = self.role.name();
            return Err(problem(format!(
                "expected a chat template that writes the {role} message once and as it is, got one that does not: set \
                 prompt.role = \"{}\"",
                if self.role == PromptRole::System { "user" } else { "system" }
            )));
        };
        let encode = |text: &str| self.tokenizer.encode_text(text).map_err(|error| problem(error.to_string()));
        Ok(Slotted::new(&encode(before)?, &encode(after)?, self.row(at, Some(PROBE))?))
    }

    /// A record with a text in its place.
    fn insert(&self, record: &Record, text: &str) -> Record {
        let mut record = record.clone();
        let messages = record.prompt_mut();
        let own = messages.iter_mut().find(|message| message.role == self.role.name());
        match (own, self.role) {
            (Some(own), PromptRole::System) => own.content = text.to_owned(),
            (Some(own), PromptRole::User) => own.content = format!("{text}\n\n{}", own.content),
            (None, _) => messages.insert(0, Message::new(self.role.name(), text)),
        }
        record
    }
}
