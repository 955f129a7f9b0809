//! The three kinds of rows a run can be made of, seen alike: from a record, to tokens, cut to length.

use std::ops::ControlFlow;

use rayon::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use smpo_tokenizer::{ChatTokenizer, TokenizerError};

use crate::reader::Row;
use crate::record::{
    Example, PreferencePair, Record, TokenizedExample, TokenizedPair, TokenizedUnpaired, UnpairedExample, content_hash,
};
use crate::{Truncated, Truncation};

/// Rows that are tokenised between two calls of the progress callback.
const CHUNK: usize = 1024;

/// A row that an objective trains on.
pub trait TrainingRow: Sync + Send + Sized {
    /// The row as token ids.
    type Tokens: Serialize + DeserializeOwned + Send;

    /// What a file must hold, for errors.
    const EXPECTED: &'static str;

    /// The rows a record gives: none where it is of use to others, two where a pair is two labelled completions.
    ///
    /// # Errors
    /// The record, where it is of another kind.
    fn from_record(record: Record) -> Result<Vec<Self>, Record>;

    /// The row's id.
    fn id(&self) -> &str;

    /// What the row says, apart from its id, as [`Record::content_hash`].
    fn content_hash(&self) -> u64;

    /// The row as tokens; every completion ends in exactly one terminator.
    ///
    /// # Errors
    /// When the roles cannot be split, or the template or the tokenizer fails.
    fn encode(&self, tokenizer: &ChatTokenizer) -> Result<Self::Tokens, TokenizerError>;

    /// Cuts the tokens to length.
    fn truncate(tokens: &mut Self::Tokens, truncation: &Truncation) -> Truncated;
}

impl TrainingRow for PreferencePair {
    type Tokens = TokenizedPair;

    const EXPECTED: &'static str = "a preference pair (`prompt`, `chosen`, `rejected`)";

    fn from_record(record: Record) -> Result<Vec<Self>, Record> {
        match record {
            Record::Pair(pair) => Ok(vec![pair]),
            other => Err(other),
        }
    }

    fn id(&self) -> &str {
        &self.id
    }

    fn content_hash(&self) -> u64 {
        content_hash(None, &[&self.prompt, &self.chosen, &self.rejected])
    }

    fn encode(&self, tokenizer: &ChatTokenizer) -> Result<TokenizedPair, TokenizerError> {
        let mut ids = tokenizer.encode_completions(&self.prompt, &[&self.chosen, &self.rejected])?;
        let rejected = ids.completion_ids.swap_remove(1);
        let chosen = ids.completion_ids.swap_remove(0);
        Ok(TokenizedPair { id: self.id.clone(), prompt: ids.prompt_ids, chosen, rejected })
    }

    fn truncate(tokens: &mut TokenizedPair, truncation: &Truncation) -> Truncated {
        truncation.apply_pair(tokens)
    }
}

/// A pair counts as its chosen side, a labelled completion counts where it is wanted.
impl TrainingRow for Example {
    type Tokens = TokenizedExample;

    const EXPECTED: &'static str = "an instruction example";

    fn from_record(record: Record) -> Result<Vec<Self>, Record> {
        Ok(match record {
            Record::Example(example) => vec![example],
            Record::Pair(pair) => vec![Example { id: pair.id, prompt: pair.prompt, completion: pair.chosen }],
            Record::Unpaired(row) if row.label => {
                vec![Example { id: row.id, prompt: row.prompt, completion: row.completion }]
            }
            Record::Unpaired(_) => Vec::new(),
        })
    }

    fn id(&self) -> &str {
        &self.id
    }

    fn content_hash(&self) -> u64 {
        content_hash(None, &[&self.prompt, &self.completion])
    }

    fn encode(&self, tokenizer: &ChatTokenizer) -> Result<TokenizedExample, TokenizerError> {
        let ids = tokenizer.encode_completion(&self.prompt, &self.completion)?;
        Ok(TokenizedExample { id: self.id.clone(), prompt: ids.prompt_ids, completion: ids.completion_ids })
    }

    fn truncate(tokens: &mut TokenizedExample, truncation: &Truncation) -> Truncated {
        truncation.apply_example(tokens)
    }
}

/// A pair counts as two: its chosen side wanted, its rejected side not.
impl TrainingRow for UnpairedExample {
    type Tokens = TokenizedUnpaired;

    const EXPECTED: &'static str = "a labelled completion (`prompt`, `completion`, `label`)";

    fn from_record(record: Record) -> Result<Vec<Self>, Record> {
        match record {
            Record::Unpaired(row) => Ok(vec![row]),
            Record::Pair(pair) => Ok([(pair.chosen, true), (pair.rejected, false)]
                .into_iter()
                .map(|(completion, label)| UnpairedExample {
                    id: format!("{}/{}", pair.id, if label { "chosen" } else { "rejected" }),
                    prompt: pair.prompt.clone(),
                    completion,
                    label,
                })
                .collect()),
            other @ Record::Example(_) => Err(other),
        }
    }

    fn id(&self) -> &str {
        &self.id
    }

    fn content_hash(&self) -> u64 {
        content_hash(Some(self.label), &[&self.prompt, &self.completion])
    }

    fn encode(&self, tokenizer: &ChatTokenizer) -> Result<TokenizedUnpaired, TokenizerError> {
        let ids = tokenizer.encode_completion(&self.prompt, &self.completion)?;
        Ok(TokenizedUnpaired {
            id: self.id.clone(),
            prompt: ids.prompt_ids,
            completion: ids.completion_ids,
            label: self.label,
        })
    }

    fn truncate(tokens: &mut TokenizedUnpaired, truncation: &Truncation) -> Truncated {
        truncation.apply_unpaired(tokens)
    }
}

/// Tokenises rows on all threads of the current rayon pool, in order. `done` is told the rows so far, and may break off:
/// then there is no result.
pub fn tokenize<T: TrainingRow>(
    tokenizer: &ChatTokenizer,
    rows: &[Row<T>],
    done: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Option<Vec<Result<T::Tokens, TokenizerError>>> {
    let mut tokens = Vec::with_capacity(rows.len());
    for chunk in rows.chunks(CHUNK) {
        tokens.par_extend(chunk.par_iter().map(|row| row.record.encode(tokenizer)));
        if done(tokens.len() as u64).is_break() {
            return None;
        }
    }
    Some(tokens)
}
