//! Rows of training data as token ids.

use smpo_tokenizer::{ChatTokenizer, TokenizerError};

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

/// A completion as token ids, `[T]`. Rows of a data set end in exactly one terminator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenizedCompletion {
    ids: Vec<u32>,
    is_terminator: Vec<bool>,
}

impl TokenizedCompletion {
    /// Marks the terminators among `ids`.
    pub fn new(ids: Vec<u32>, is_terminator: impl Fn(u32) -> bool) -> Self {
        let is_terminator = ids.iter().map(|&id| is_terminator(id)).collect();
        Self { ids, is_terminator }
    }

    /// Token ids, `[T]`.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// True where the token is a terminator, `[T]`.
    pub fn is_terminator(&self) -> &[bool] {
        &self.is_terminator
    }

    /// Number of tokens, T.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// True for a completion without tokens.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}

impl Row {
    /// Completions of the row, chosen first.
    pub fn completions(&self) -> impl Iterator<Item = &TokenizedCompletion> {
        self.chosen.iter().chain(&self.rejected)
    }

    /// Tokens of the row in a pack: the prompt once, and each completion without its last token, which predicts nothing.
    pub fn packed_tokens(&self) -> usize {
        self.prompt.len() + self.completions().map(|completion| completion.len().saturating_sub(1)).sum::<usize>()
    }

    /// Prompt and completion tokens, the prompt counted once per completion, as in a trainer without shared prompts.
    pub fn tokens(&self) -> usize {
        self.completions().map(|completion| self.prompt.len() + completion.len()).sum()
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
    let ids = tokenizer.encode_completions(&pair.prompt, &[&pair.chosen, &pair.rejected])?;
    let mut completions = ids.completion_ids.into_iter();
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
    pub chosen: Option<Vec<u32>>,
    pub rejected: Option<Vec<u32>>,
}

impl RowIds {
    /// Cuts the row to length and marks its terminators.
    pub fn cut(mut self, tokenizer: &ChatTokenizer, truncation: &Truncation) -> (Row, Truncated) {
        let mut completions: Vec<&mut Vec<u32>> = self.chosen.iter_mut().chain(&mut self.rejected).collect();
        let cut = truncation.apply(&mut self.prompt, &mut completions);
        let marked = |ids| TokenizedCompletion::new(ids, |id| tokenizer.is_terminator(id));
        let row = Row {
            id: self.id,
            prompt: self.prompt,
            chosen: self.chosen.map(marked),
            rejected: self.rejected.map(marked),
        };
        (row, cut)
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
