//! Whole data sets to tokens, in parallel.

use rayon::prelude::*;

use crate::record::{Example, PreferencePair, TokenizedExample, TokenizedPair, TokenizedUnpaired, UnpairedExample};
use crate::{ChatTokenizer, EncodeError};

/// Tokenises pairs on all threads of the current rayon pool, in order; `done` is called after each row.
pub fn tokenize_pairs(
    tokenizer: &ChatTokenizer,
    pairs: &[PreferencePair],
    done: &(dyn Fn() + Sync),
) -> Vec<Result<TokenizedPair, EncodeError>> {
    all(pairs, |pair| tokenizer.encode_pair(pair), done)
}

/// Tokenises SFT examples, as [`tokenize_pairs`].
pub fn tokenize_examples(
    tokenizer: &ChatTokenizer,
    examples: &[Example],
    done: &(dyn Fn() + Sync),
) -> Vec<Result<TokenizedExample, EncodeError>> {
    all(examples, |example| tokenizer.encode_example(example), done)
}

/// Tokenises labelled completions, as [`tokenize_pairs`].
pub fn tokenize_unpaired(
    tokenizer: &ChatTokenizer,
    rows: &[UnpairedExample],
    done: &(dyn Fn() + Sync),
) -> Vec<Result<TokenizedUnpaired, EncodeError>> {
    all(rows, |row| tokenizer.encode_unpaired(row), done)
}

fn all<T: Sync, U: Send>(
    rows: &[T],
    encode: impl Fn(&T) -> Result<U, EncodeError> + Sync,
    done: &(dyn Fn() + Sync),
) -> Vec<Result<U, EncodeError>> {
    rows.par_iter()
        .map(|row| {
            let result = encode(row);
            done();
            result
        })
        .collect()
}
