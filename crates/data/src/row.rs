//! Rows of training data as token ids.

use smpo_chat::Conversation;
use smpo_tokenizer::{ChatTokenizer, TokenizerError};

use crate::completion::{CompletionIds, TokenizedCompletion};
use crate::record::{PreferencePair, RecordKind};
use crate::{Truncated, Truncation};

/// A prompt with its completions as token ids: one row of an optimizer step, for every objective.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Id of the record, for errors.
    pub id: String,
    /// Prompt token ids, shared by both completions.
    pub prompt: Vec<u32>,
    /// Chosen side of a pair, completion of an instruction example, or desirable completion.
    pub chosen: Option<TokenizedCompletion>,
    /// Rejected side of a pair, or undesirable completion.
    pub rejected: Option<TokenizedCompletion>,
}

impl Row {
    /// Completions of the row, chosen first.
    pub fn completions(&self) -> impl Iterator<Item = &TokenizedCompletion> {
        self.chosen.iter().chain(&self.rejected)
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
    let ids = tokenizer.encode_completions(
        Conversation { messages: &pair.prompt, inputs: &pair.inputs },
        &[&pair.chosen, &pair.rejected],
    )?;
    let mut completions =
        ids.completion_ids.into_iter().zip(ids.turns).map(|(ids, turns)| CompletionIds::new(ids, turns));
    let row = RowIds {
        id: pair.id.clone(),
        prompt: ids.prompt_ids,
        chosen: completions.next(),
        rejected: completions.next(),
    };
    Ok(row.cut(tokenizer, truncation))
}

/// A row before it is cut to length.
#[derive(Debug, Clone)]
pub(crate) struct RowIds {
    pub id: String,
    pub prompt: Vec<u32>,
    pub chosen: Option<CompletionIds>,
    pub rejected: Option<CompletionIds>,
}

impl RowIds {
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
        truncated.identical = differ && chosen.is_some() && chosen == rejected;
        (Row { id: self.id, prompt: self.prompt, chosen, rejected }, truncated)
    }
}

/// The kind of rows that an objective trains on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowKind {
    /// Preference pairs.
    Pairs,
    /// Prompts with one completion to learn (SFT): instruction examples, chosen sides of pairs, desirable completions.
    Examples,
    /// Desirable and undesirable completions (KTO): labelled completions, and both sides of pairs.
    Labelled,
}

impl RowKind {
    /// Noun phrase for errors.
    pub fn expected(self) -> &'static str {
        match self {
            Self::Pairs => "a preference pair (`prompt`, `chosen`, `rejected`)",
            Self::Examples => "an instruction example",
            Self::Labelled => "a labelled completion (`prompt`, `completion`, `label`)",
        }
    }

    /// True if records of `kind` give rows of this kind.
    pub fn accepts(self, kind: RecordKind) -> bool {
        match self {
            Self::Pairs => kind == RecordKind::Pair,
            Self::Examples => true,
            Self::Labelled => kind != RecordKind::Example,
        }
    }
}
