//! Records of a data file, as text.

use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};
use sha2::{Digest, Sha256};
use smpo_chat::{Conversation, Message, TemplateInputs};
use smpo_tokenizer::{ChatTokenizer, Sequence, TokenizerError};

/// A prompt with a preferred and a rejected completion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreferencePair {
    /// The record's own id, or the hash of its content.
    pub id: String,
    /// The conversation before the completion; never empty.
    pub prompt: Vec<Message>,
    /// Inputs of the template beside the messages.
    #[serde(flatten)]
    pub inputs: TemplateInputs,
    /// The preferred side: begins and ends with an assistant message.
    pub chosen: Vec<Message>,
    /// The rejected side: begins and ends with an assistant message.
    pub rejected: Vec<Message>,
    /// The lead in reward that chosen is to have, for reward models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub margin: Option<Number>,
}

/// A prompt with one completion to learn (SFT).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Example {
    /// The record's own id, or the hash of its content.
    pub id: String,
    /// The conversation before the completion; never empty.
    pub prompt: Vec<Message>,
    /// Inputs of the template beside the messages.
    #[serde(flatten)]
    pub inputs: TemplateInputs,
    /// Begins and ends with an assistant message.
    pub completion: Vec<Message>,
}

/// A prompt with one completion, labelled desirable or not (KTO).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnpairedExample {
    /// The record's own id, or the hash of its content.
    pub id: String,
    /// The conversation before the completion; never empty.
    pub prompt: Vec<Message>,
    /// Inputs of the template beside the messages.
    #[serde(flatten)]
    pub inputs: TemplateInputs,
    /// Begins and ends with an assistant message.
    pub completion: Vec<Message>,
    /// True if the completion is desirable.
    pub label: bool,
}

/// A prompt with several completions, each with a reward (offline GRPO).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScoredGroup {
    /// The record's own id, or the hash of its content.
    pub id: String,
    /// The conversation before the completions; never empty.
    pub prompt: Vec<Message>,
    /// Inputs of the template beside the messages.
    #[serde(flatten)]
    pub inputs: TemplateInputs,
    /// At least one; each begins and ends with an assistant message.
    pub completions: Vec<Vec<Message>>,
    /// The reward of each completion: finite.
    pub rewards: Vec<f64>,
}

/// A text or a conversation with its label or labels (classification).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassifiedText {
    /// The record's own id, or the hash of its content.
    pub id: String,
    /// A text that no template renders, in place of messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The whole conversation; any role may be the last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<Message>,
    /// Inputs of the template beside the messages.
    #[serde(flatten)]
    pub inputs: TemplateInputs,
    /// Its label, where it has one and can have no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Its labels, where it may have several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Vec<String>>,
}

impl ClassifiedText {
    /// Its labels; `None` where nothing says what they are.
    pub fn names(&self) -> Option<&[String]> {
        self.labels.as_deref().or(self.label.as_ref().map(std::slice::from_ref))
    }

    /// Token ids of the text, or of the conversation as the template renders it.
    ///
    /// # Errors
    /// When the template or the tokenizer fails.
    pub fn encode(&self, tokenizer: &ChatTokenizer) -> Result<Sequence, TokenizerError> {
        match &self.text {
            Some(text) => tokenizer.encode_plain(text),
            None => tokenizer.encode_whole(Conversation { messages: &self.messages, inputs: &self.inputs }),
        }
    }
}

/// A record of a data file, of any kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Record {
    /// `prompt`, `chosen`, `rejected`.
    Pair(PreferencePair),
    /// `prompt`, `completions`, `rewards`.
    Group(ScoredGroup),
    /// `prompt`, `completion`, `label`.
    Unpaired(UnpairedExample),
    /// `prompt`, `completion`, or a conversation.
    Example(Example),
    /// `text` or `messages`, with `label` or `labels`.
    Classified(ClassifiedText),
}

impl Record {
    /// Id of the record.
    pub fn id(&self) -> &str {
        match self {
            Self::Pair(row) => &row.id,
            Self::Group(row) => &row.id,
            Self::Unpaired(row) => &row.id,
            Self::Example(row) => &row.id,
            Self::Classified(row) => &row.id,
        }
    }

    /// The conversation before the completion; of a text with its label all of it, and none of a text without speakers.
    pub fn prompt(&self) -> &[Message] {
        match self {
            Self::Pair(row) => &row.prompt,
            Self::Group(row) => &row.prompt,
            Self::Unpaired(row) => &row.prompt,
            Self::Example(row) => &row.prompt,
            Self::Classified(row) => &row.messages,
        }
    }

    /// The same, to be changed.
    pub fn prompt_mut(&mut self) -> &mut Vec<Message> {
        match self {
            Self::Pair(row) => &mut row.prompt,
            Self::Group(row) => &mut row.prompt,
            Self::Unpaired(row) => &mut row.prompt,
            Self::Example(row) => &mut row.prompt,
            Self::Classified(row) => &mut row.messages,
        }
    }

    /// The prompt as a template gets it.
    pub fn conversation(&self) -> Conversation<'_> {
        Conversation { messages: self.prompt(), inputs: self.inputs() }
    }

    /// Inputs of the template beside the messages.
    pub fn inputs(&self) -> &TemplateInputs {
        match self {
            Self::Pair(row) => &row.inputs,
            Self::Group(row) => &row.inputs,
            Self::Unpaired(row) => &row.inputs,
            Self::Example(row) => &row.inputs,
            Self::Classified(row) => &row.inputs,
        }
    }

    /// The completions by name: `chosen` and `rejected`, or `completion`, in a group several times; none of a text with its
    /// label.
    pub fn completions(&self) -> Vec<(&'static str, &[Message])> {
        match self {
            Self::Pair(row) => vec![("chosen", &row.chosen), ("rejected", &row.rejected)],
            Self::Group(row) => row.completions.iter().map(|side| ("completion", &side[..])).collect(),
            Self::Unpaired(row) => vec![("completion", &row.completion)],
            Self::Example(row) => vec![("completion", &row.completion)],
            Self::Classified(_) => Vec::new(),
        }
    }

    /// Hash of the content without the id: the first 64 bits of SHA-256, the same in every release. In hexadecimal it is
    /// the id of records that bring none.
    pub fn content_hash(&self) -> u64 {
        match self {
            Self::Pair(row) => content_hash(None, &row.inputs, &[&row.prompt, &row.chosen, &row.rejected]),
            Self::Group(row) => {
                // as messages of a role that no row has, so that groups of the same texts with other rewards differ
                let rewards: Vec<Message> =
                    row.rewards.iter().map(|reward| Message::new("reward", reward.to_string())).collect();
                let completions = row.completions.iter().map(Vec::as_slice);
                let parts: Vec<&[Message]> = [&row.prompt[..], &rewards].into_iter().chain(completions).collect();
                content_hash(None, &row.inputs, &parts)
            }
            Self::Unpaired(row) => content_hash(Some(row.label), &row.inputs, &[&row.prompt, &row.completion]),
            Self::Example(row) => content_hash(None, &row.inputs, &[&row.prompt, &row.completion]),
            Self::Classified(row) => {
                // as messages of roles that no row has
                let text = row.text.iter().map(|text| Message::new("text", text));
                let labels = row.names().into_iter().flatten().map(|label| Message::new("label", label));
                let beside: Vec<Message> = text.chain(labels).collect();
                content_hash(None, &row.inputs, &[&row.messages, &beside])
            }
        }
    }

    /// Kind of the record.
    pub fn kind(&self) -> RecordKind {
        match self {
            Self::Pair(_) => RecordKind::Pair,
            Self::Group(_) => RecordKind::Group,
            Self::Unpaired(_) => RecordKind::Labelled,
            Self::Example(_) => RecordKind::Example,
            Self::Classified(_) => RecordKind::Classified,
        }
    }
}

/// Kind of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordKind {
    /// A [`PreferencePair`].
    Pair,
    /// A [`ScoredGroup`].
    Group,
    /// An [`UnpairedExample`].
    Labelled,
    /// An [`Example`].
    Example,
    /// A [`ClassifiedText`].
    Classified,
}

impl RecordKind {
    /// Noun phrase for errors.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pair => "a preference pair",
            Self::Group => "a group of scored completions",
            Self::Labelled => "a labelled completion",
            Self::Example => "an instruction example",
            Self::Classified => "a text with its label",
        }
    }
}

/// Hash of a label, template inputs and lists of messages.
pub(crate) fn content_hash(label: Option<bool>, inputs: &TemplateInputs, parts: &[&[Message]]) -> u64 {
    let mut hash = Sha256::new();
    let mut add = |part: &str| {
        // lengths before parts, so that no two rows run together into the same bytes
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    };
    if let Some(label) = label {
        add(if label { "1" } else { "0" });
    }
    for messages in parts {
        add(&messages.len().to_string());
        for message in *messages {
            add(&message.role);
            add(&message.content);
            // only where there are any, so that rows of text alone keep the ids that earlier releases gave them
            if !message.fields.is_empty() || !message.finished || !message.scored {
                add(&format!("{} {} {}", message.finished, message.scored, Value::Object(message.fields.clone())));
            }
        }
    }
    if !inputs.is_empty() {
        add(&serde_json::to_string(inputs).unwrap_or_default());
    }
    hash.finalize().iter().take(8).fold(0, |hash, byte| hash << 8 | u64::from(*byte))
}
