//! Rows of training data as token ids.

use serde_json::Number;
use smpo_chat::{Conversation, Message};
use smpo_tokenizer::{ChatTokenizer, TokenizerError, Turn};

use crate::completion::{CompletionIds, TokenizedCompletion};
use crate::record::{PreferencePair, RecordKind, ScoredGroup};
use crate::{Truncated, Truncation};

/// A prompt with its completions as token ids: one row of an optimizer step, for every objective.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Row {
    /// Id of the record, for errors.
    pub id: String,
    /// Prompt token ids, shared by all completions.
    pub prompt: Vec<u32>,
    /// Chosen side of a pair, completion of an instruction example, or desirable completion.
    pub chosen: Option<TokenizedCompletion>,
    /// Rejected side of a pair, or undesirable completion.
    pub rejected: Option<TokenizedCompletion>,
    /// The lead in reward that chosen is to have, where the data has one.
    pub margin: Option<f64>,
    /// Completions of a group; empty for other rows.
    pub group: Vec<ScoredCompletion>,
    /// Labels of a text, as indices among those of the run.
    pub labels: Vec<usize>,
}

/// A completion of a group, with its reward.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoredCompletion {
    /// Its token ids.
    pub completion: TokenizedCompletion,
    /// Its reward, finite.
    pub reward: f64,
}

impl Row {
    /// Completions of the row, chosen first, those of a group in order.
    pub fn completions(&self) -> impl Iterator<Item = &TokenizedCompletion> {
        let sides = self.chosen.iter().chain(&self.rejected);
        sides.chain(self.group.iter().map(|scored| &scored.completion))
    }

    /// Tokens of the row in a pack: the prompt once, and each completion without its last token, which predicts nothing.
    pub fn packed_tokens(&self) -> usize {
        let predicting = |completion: &TokenizedCompletion| completion.ids().len().saturating_sub(1);
        self.prompt.len() + self.completions().map(predicting).sum::<usize>()
    }

    /// Prompt and completion tokens, the prompt counted once per completion, as in a trainer without shared prompts.
    pub fn tokens(&self) -> usize {
        self.completions().map(|completion| self.prompt.len() + completion.ids().len()).sum()
    }
}

/// Tokenises a preference pair and cuts it to length.
///
/// # Errors
/// When the roles cannot be split, or the template or the tokenizer fails.
pub fn encode_pair(
    pair: &PreferencePair,
    tokenizer: &ChatTokenizer,
    truncation: &Truncation,
) -> Result<(Row, Truncated), TokenizerError> {
    let conversation = Conversation { messages: &pair.prompt, inputs: &pair.inputs };
    let (prompt, completions) = encode(conversation, &[&pair.chosen, &pair.rejected], tokenizer)?;
    let mut completions = completions.into_iter();
    let (chosen, rejected) = (completions.next(), completions.next());
    let margin = pair.margin.as_ref().and_then(Number::as_f64);
    let row = RowIds { id: pair.id.clone(), prompt, chosen, rejected, margin, ..RowIds::default() };
    Ok(row.cut(tokenizer, truncation))
}

/// Tokenises a group and cuts it to length.
///
/// # Errors
/// As for [`encode_pair`].
pub fn encode_group(
    group: &ScoredGroup,
    tokenizer: &ChatTokenizer,
    truncation: &Truncation,
) -> Result<(Row, Truncated), TokenizerError> {
    let conversation = Conversation { messages: &group.prompt, inputs: &group.inputs };
    let completions: Vec<&[Message]> = group.completions.iter().map(Vec::as_slice).collect();
    let (prompt, completions) = encode(conversation, &completions, tokenizer)?;
    let scored = completions.into_iter().zip(group.rewards.iter().copied()).collect();
    Ok(RowIds { id: group.id.clone(), prompt, group: scored, ..RowIds::default() }.cut(tokenizer, truncation))
}

fn encode(
    conversation: Conversation<'_>,
    completions: &[&[Message]],
    tokenizer: &ChatTokenizer,
) -> Result<(Vec<u32>, Vec<CompletionIds>), TokenizerError> {
    let ids = tokenizer.encode_completions(conversation, completions)?;
    let completions = ids.completion_ids.into_iter().zip(ids.turns);
    Ok((ids.prompt_ids, completions.map(|(ids, turns)| CompletionIds::new(ids, turns)).collect()))
}

/// A row before it is cut to length.
#[derive(Debug, Clone, Default)]
pub(crate) struct RowIds {
    pub id: String,
    pub prompt: Vec<u32>,
    pub chosen: Option<CompletionIds>,
    pub rejected: Option<CompletionIds>,
    pub group: Vec<(CompletionIds, f64)>,
    pub margin: Option<f64>,
    /// Labels of a text.
    pub labels: Option<Vec<String>>,
}

impl RowIds {
    /// A row of one completion that teaches its prompt too, from the second token on.
    pub fn learned_whole(mut self) -> Self {
        let Some(completion) = self.chosen.take().filter(|_| !self.prompt.is_empty()) else { return self };
        let before = self.prompt.len() - 1;
        let cut = completion.turns().last().and_then(|turn| turn.cut).map(|cut| cut + before);
        let ids = [&self.prompt[1..], &completion.ids].concat();
        self.prompt.truncate(1);
        let whole = Turn { tokens: 0..ids.len(), cut };
        self.chosen = Some(CompletionIds::new(ids, vec![whole]));
        self
    }

    /// Cuts the row to length and marks its terminators: the prompt first, then each side to what it leaves.
    pub fn cut(mut self, tokenizer: &ChatTokenizer, truncation: &Truncation) -> (Row, Truncated) {
        let mut truncated = Truncated { prompt: truncation.cut_prompt(&mut self.prompt), ..Truncated::default() };
        let differ = self.chosen != self.rejected;
        let room = truncation.room(self.prompt.len());
        let mut cut = |side: CompletionIds| {
            let (completion, lost) = side.cut(room, truncation.unfinished, |id| tokenizer.is_terminator(id));
            truncated.completion += lost;
            let is_terminator = completion.is_terminator();
            truncated.vanished |= is_terminator.is_empty() || lost > 0 && is_terminator == [true];
            completion
        };
        let (chosen, rejected) = (self.chosen.map(&mut cut), self.rejected.map(&mut cut));
        let group =
            self.group.into_iter().map(|(side, reward)| ScoredCompletion { completion: cut(side), reward }).collect();
        truncated.identical = differ && chosen.is_some() && chosen == rejected;
        // a text of one token is one all the same
        truncated.vanished &= self.labels.is_none();
        let row =
            Row { id: self.id, prompt: self.prompt, chosen, rejected, margin: self.margin, group, labels: Vec::new() };
        (row, truncated)
    }
}

/// The kind of rows that an objective trains on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowKind {
    /// Preference pairs.
    Pairs,
    /// Groups of scored completions (GPO): groups, and pairs as groups of two with rewards 1 and 0.
    Groups,
    /// Prompts with one completion to learn (SFT): instruction examples, chosen sides of pairs, desirable completions.
    Examples,
    /// Desirable and undesirable completions (KTO): labelled completions, and both sides of pairs.
    Labelled,
    /// Texts and conversations with labels (classification).
    Classified,
}

impl RowKind {
    /// Noun phrase for errors.
    pub fn expected(self) -> &'static str {
        match self {
            Self::Pairs => "a preference pair (`prompt`, `chosen`, `rejected`)",
            Self::Groups => "a group of scored completions (`prompt`, `completions`, `rewards`)",
            Self::Examples => "an instruction example",
            Self::Labelled => "a labelled completion (`prompt`, `completion`, `label`)",
            Self::Classified => "a text or conversation with its label (`text` or `messages`, `label` or `labels`)",
        }
    }

    /// True if records of `kind` give rows of this kind.
    pub fn accepts(self, kind: RecordKind) -> bool {
        match self {
            Self::Pairs => kind == RecordKind::Pair,
            Self::Groups => matches!(kind, RecordKind::Group | RecordKind::Pair),
            Self::Examples => !matches!(kind, RecordKind::Group | RecordKind::Classified),
            Self::Labelled => matches!(kind, RecordKind::Pair | RecordKind::Labelled),
            Self::Classified => kind == RecordKind::Classified,
        }
    }
}
