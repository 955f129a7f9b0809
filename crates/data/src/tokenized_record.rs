//! A record of a data file as token ids, with the findings of the data check: a line of the token cache.

use serde::{Deserialize, Serialize};
use serde_json::Number;
use smpo_chat::Message;
use smpo_tokenizer::{ChatTokenizer, PromptCompletions, Sequence, Turn};

use crate::Truncation;
use crate::check::{Inspection, Rule};
use crate::completion::CompletionIds;
use crate::preparation::Preparation;
use crate::read_error::ReadError;
use crate::reader::Located;
use crate::record::{ClassifiedText, Record, RecordKind};
use crate::row::{RowIds, RowKind};

/// A row of a data file: a record, or the reason why there is none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// Line that it begins on, or number of the row in a Parquet file, from 1.
    pub line: u64,
    /// The record, or the problem of a row that cannot be read.
    pub record: Result<TokenizedRecord, String>,
}

/// A record as token ids, for any kind of rows, before it is cut to length.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct TokenizedRecord {
    pub inspection: Inspection,
    /// Of labelled completions: true for a desirable one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    label: Option<bool>,
    /// Of groups: the reward of each completion.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    rewards: Vec<f64>,
    /// Of pairs: the lead in reward that chosen is to have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    margin: Option<f64>,
    /// Of texts: their labels, where the row has some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    labels: Option<Labels>,
    /// Prompt and completions with one split, or the error of the template or the tokenizer.
    pub sides: Result<Sides, String>,
    /// Of pairs: each side as the only completion, where that is not [`Sides::alone`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    apart: Option<[Result<Alone, String>; 2]>,
}

/// Labels of a text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Labels {
    pub names: Vec<String>,
    /// True where the row gives them as a list.
    pub several: bool,
}

/// A prompt and its completions, split at one point.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sides {
    pub prompt: Vec<u32>,
    /// Chosen and rejected, the completion, or those of a group.
    pub completions: Vec<CompletionIds>,
    /// Per completion, the number of its first tokens that belong to the prompt where it is the only completion.
    #[serde(default, skip_serializing_if = "is_zero")]
    carried: Vec<usize>,
}

/// A prompt and its only completion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Alone {
    prompt: Vec<u32>,
    completion: CompletionIds,
}

impl Entry {
    /// Tokenises and checks a record.
    pub fn new(row: Located<Record>, tokenizer: &ChatTokenizer, preparation: &Preparation) -> Self {
        let mut record = TokenizedRecord::new(&preparation.prepare(row.record), tokenizer);
        record.inspection.remark(row.remarks);
        Self { line: row.location.line, record: Ok(record) }
    }

    /// The entry of a row that cannot be read.
    pub fn unreadable(error: &ReadError) -> Self {
        Self { line: error.location.line, record: Err(error.problem.to_string()) }
    }

    /// The reason why this entry gives no rows of `kind`, where it gives none.
    pub fn problem(&self, kind: RowKind) -> Option<String> {
        match &self.record {
            Ok(record) => record.problem(kind),
            Err(problem) => Some(problem.clone()),
        }
    }
}

impl TokenizedRecord {
    /// Tokenises a record, its sides together, and checks it.
    pub fn new(record: &Record, tokenizer: &ChatTokenizer) -> Self {
        if let Record::Classified(row) = record {
            return Self::of_text(row, record, tokenizer);
        }
        let sides = record.completions();
        let messages: Vec<&[Message]> = sides.iter().map(|(_, messages)| *messages).collect();
        let encoded = tokenizer.encode_completions(record.conversation(), &messages);
        let mut inspection = Inspection::of_text(record);
        inspection.special_tokens(record, tokenizer);
        let apart = match &encoded {
            Ok(PromptCompletions { alone_prompt_lengths: Some(_), .. }) => None,
            _ => apart(record, tokenizer),
        };
        let sides = match encoded {
            Ok(encoded) => {
                inspection.ids(record, tokenizer, &encoded);
                Ok(Sides::from(encoded))
            }
            Err(error) => {
                inspection.add(Rule::NotRenderable, error.to_string());
                Err(error.to_string())
            }
        };
        let label = match record {
            Record::Unpaired(row) => Some(row.label),
            Record::Pair(_) | Record::Group(_) | Record::Example(_) | Record::Classified(_) => None,
        };
        let rewards = match record {
            Record::Group(row) => row.rewards.clone(),
            Record::Pair(_) | Record::Unpaired(_) | Record::Example(_) | Record::Classified(_) => Vec::new(),
        };
        let margin = match record {
            Record::Pair(row) => row.margin.as_ref().and_then(Number::as_f64),
            Record::Unpaired(_) | Record::Group(_) | Record::Example(_) | Record::Classified(_) => None,
        };
        Self { inspection, label, rewards, margin, labels: None, sides, apart }
    }

    /// Tokenises a text with its labels.
    fn of_text(row: &ClassifiedText, record: &Record, tokenizer: &ChatTokenizer) -> Self {
        let mut inspection = Inspection::of_text(record);
        inspection.special_tokens(record, tokenizer);
        let sides = match row.encode(tokenizer) {
            Ok(Sequence { ids, .. }) if ids.is_empty() => Err("a text without tokens".to_owned()),
            Ok(sequence) => Ok(Sides::of_sequence(sequence)),
            Err(error) => Err(error.to_string()),
        };
        match &sides {
            Ok(_) => inspection.prompt_dropped(record, tokenizer),
            Err(error) => inspection.add(Rule::NotRenderable, error.clone()),
        }
        let labels = row.names().map(|names| Labels { names: names.to_vec(), several: row.labels.is_some() });
        Self { inspection, label: None, rewards: Vec::new(), margin: None, labels, sides, apart: None }
    }

    /// Labels of a text, where the row has some.
    pub fn labels(&self) -> Option<&Labels> {
        self.labels.as_ref()
    }

    fn problem(&self, kind: RowKind) -> Option<String> {
        let found = self.inspection.kind;
        if kind == RowKind::Classified && found == RecordKind::Classified && self.labels.is_none() {
            return Some(format!("expected {}, got one without a label", kind.expected()));
        }
        (!kind.accepts(found)).then(|| format!("expected {}, got {}", kind.expected(), found.name()))
    }

    /// Rows of `kind`: none for an undesirable completion among examples, two for a pair among labelled completions. The
    /// error is that of the template or the tokenizer.
    pub fn into_rows(self, kind: RowKind) -> Vec<Result<RowIds, String>> {
        let id = self.inspection.id.clone();
        let desirable = self.label != Some(false);
        match (self.inspection.kind, kind) {
            (RecordKind::Pair, RowKind::Pairs | RowKind::Groups) => {
                vec![self.sides.map(|sides| RowIds { margin: self.margin, ..sides.row(id) })]
            }
            (RecordKind::Group, RowKind::Groups) => vec![self.sides.map(|sides| sides.group(id, &self.rewards))],
            (RecordKind::Pair, RowKind::Labelled) => vec![
                self.alone(0).map(|side| side.row(format!("{id}/chosen"), true)),
                self.alone(1).map(|side| side.row(format!("{id}/rejected"), false)),
            ],
            (RecordKind::Pair | RecordKind::Example, RowKind::Examples) | (RecordKind::Labelled, RowKind::Labelled) => {
                vec![self.alone(0).map(|side| side.row(id, desirable))]
            }
            (RecordKind::Labelled, RowKind::Examples) if desirable => {
                vec![self.alone(0).map(|side| side.row(id, true))]
            }
            (RecordKind::Classified, RowKind::Classified) => {
                let labels = self.labels.map(|labels| labels.names);
                vec![self.sides.map(|sides| RowIds { labels, ..sides.sequence(id) })]
            }
            (RecordKind::Classified, _)
            | (_, RowKind::Classified)
            | (RecordKind::Labelled, RowKind::Examples)
            | (RecordKind::Labelled | RecordKind::Example, RowKind::Pairs)
            | (RecordKind::Example, RowKind::Labelled)
            | (RecordKind::Group, _)
            | (_, RowKind::Groups) => Vec::new(),
        }
    }

    /// A side as the only completion of its prompt.
    fn alone(&self, side: usize) -> Result<Alone, String> {
        match &self.apart {
            Some(sides) => sides[side].clone(),
            None => self.sides.as_ref().map(|sides| sides.alone(side)).map_err(Clone::clone),
        }
    }

    /// Rules that cutting the sides to length breaks.
    pub fn truncated(&self, truncation: &Truncation, tokenizer: &ChatTokenizer) -> Vec<(Rule, String)> {
        let Ok(sides) = self.sides.clone() else { return Vec::new() };
        let row = match self.inspection.kind {
            RecordKind::Group => sides.group(String::new(), &self.rewards),
            RecordKind::Classified => sides.sequence(String::new()),
            RecordKind::Pair | RecordKind::Labelled | RecordKind::Example => sides.row(String::new()),
        };
        let (_, cut) = row.cut(tokenizer, truncation);
        let tokens = |tokens: usize| format!("{} cut", smpo_suggest::counted(tokens, "token"));
        let broken = [
            (Rule::NothingLeft, cut.vanished, String::new()),
            (Rule::IdenticalWhenCut, cut.identical && !cut.vanished, tokens(cut.completion)),
            (Rule::PromptTruncated, cut.prompt > 0, tokens(cut.prompt)),
            (Rule::CompletionTruncated, cut.completion > 0, tokens(cut.completion)),
        ];
        broken.into_iter().filter(|(_, is_broken, _)| *is_broken).map(|(rule, _, detail)| (rule, detail)).collect()
    }

    /// Tokens of each completion; none where the record could not be tokenised.
    pub fn lengths(&self) -> Vec<usize> {
        self.sides.iter().flat_map(|sides| &sides.completions).map(|side| side.ids.len()).collect()
    }
}

/// Each side of a pair tokenised as the only completion.
fn apart(record: &Record, tokenizer: &ChatTokenizer) -> Option<[Result<Alone, String>; 2]> {
    let Record::Pair(pair) = record else { return None };
    let alone = |side| match tokenizer.encode_completion(record.conversation(), side) {
        Ok(ids) => Ok(Alone { prompt: ids.prompt_ids, completion: CompletionIds::new(ids.completion_ids, ids.turns) }),
        Err(error) => Err(error.to_string()),
    };
    Some([alone(&pair.chosen), alone(&pair.rejected)])
}

impl Sides {
    /// Both sides as a row.
    fn row(self, id: String) -> RowIds {
        let mut completions = self.completions.into_iter();
        RowIds {
            id,
            prompt: self.prompt,
            chosen: completions.next(),
            rejected: completions.next(),
            ..RowIds::default()
        }
    }

    /// A text, as its only completion after nothing.
    fn of_sequence(Sequence { ids, finished }: Sequence) -> Self {
        let whole = Turn { tokens: 0..ids.len(), cut: (!finished).then_some(ids.len()) };
        Self { prompt: Vec::new(), completions: vec![CompletionIds::new(ids, vec![whole])], carried: Vec::new() }
    }

    /// A text as a row: its first token is the prompt, which nothing predicts and no cut takes.
    fn sequence(self, id: String) -> RowIds {
        let text = &self.completions[0];
        RowIds {
            id,
            prompt: text.ids[..1].to_vec(),
            chosen: Some(text.after(1)),
            labels: Some(Vec::new()),
            ..RowIds::default()
        }
    }

    /// All completions as a group.
    fn group(self, id: String, rewards: &[f64]) -> RowIds {
        let group = self.completions.into_iter().zip(rewards.iter().copied()).collect();
        RowIds { id, prompt: self.prompt, group, ..RowIds::default() }
    }

    /// One side as the only completion.
    fn alone(&self, side: usize) -> Alone {
        let completion = &self.completions[side];
        let carried = self.carried.get(side).copied().unwrap_or(0);
        let prompt = [&self.prompt, &completion.ids[..carried]].concat();
        Alone { prompt, completion: completion.after(carried) }
    }
}

impl From<PromptCompletions> for Sides {
    fn from(ids: PromptCompletions) -> Self {
        let alone = ids.alone_prompt_lengths.unwrap_or_default();
        let carried = alone.into_iter().map(|length| length - ids.prompt_ids.len()).collect();
        let completions = ids.completion_ids.into_iter().zip(ids.turns);
        let completions = completions.map(|(ids, turns)| CompletionIds::new(ids, turns)).collect();
        Self { prompt: ids.prompt_ids, completions, carried }
    }
}

impl Alone {
    fn row(self, id: String, desirable: bool) -> RowIds {
        let completion = Some(self.completion);
        let (chosen, rejected) = if desirable { (completion, None) } else { (None, completion) };
        RowIds { id, prompt: self.prompt, chosen, rejected, ..RowIds::default() }
    }
}

fn is_zero(numbers: &[usize]) -> bool {
    numbers.iter().all(|number| *number == 0)
}
