//! What an optimizer step is made of, whatever the objective: a prompt with one or two completions.

use std::path::Path;

use rayon::prelude::*;
use smpo_data::{
    ChatTokenizer, EncodeError, TokenizedExample, TokenizedPair, TokenizedUnpaired, Truncation, order, read_examples,
    read_pairs, read_unpaired,
};
use smpo_losses::Loss;

use crate::config::TrainConfig;
use crate::error::TrainError;

/// A prompt and its completions as token ids; every completion ends in exactly one terminator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Names it in errors.
    pub id: String,
    /// The prompt, shared by the sides.
    pub prompt: Vec<u32>,
    /// The preferred, the wanted or the only completion.
    pub chosen: Option<Vec<u32>>,
    /// The other side of a pair, or an unwanted completion.
    pub rejected: Option<Vec<u32>>,
}

impl Row {
    /// The completions that there are, chosen first.
    pub fn completions(&self) -> impl Iterator<Item = &[u32]> {
        self.chosen.iter().chain(&self.rejected).map(Vec::as_slice)
    }

    /// Prompt and completion tokens, the prompt counted once per side, as a trainer without shared prompts feeds it.
    pub fn tokens(&self) -> usize {
        self.completions().map(|completion| self.prompt.len() + completion.len()).sum()
    }
}

impl From<TokenizedPair> for Row {
    fn from(pair: TokenizedPair) -> Self {
        Row { id: pair.id, prompt: pair.prompt, chosen: Some(pair.chosen), rejected: Some(pair.rejected) }
    }
}

impl From<TokenizedExample> for Row {
    fn from(example: TokenizedExample) -> Self {
        Row { id: example.id, prompt: example.prompt, chosen: Some(example.completion), rejected: None }
    }
}

impl From<TokenizedUnpaired> for Row {
    fn from(row: TokenizedUnpaired) -> Self {
        let (chosen, rejected) = if row.label { (Some(row.completion), None) } else { (None, Some(row.completion)) };
        Row { id: row.id, prompt: row.prompt, chosen, rejected }
    }
}

/// What was cut to fit `max_length` and `max_prompt_length`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TruncatedRows {
    /// Rows whose prompt lost tokens.
    pub prompts: usize,
    /// Rows of which a completion lost tokens; it still ends in its terminator.
    pub completions: usize,
}

/// How rows are cut.
pub(crate) fn truncation(config: &TrainConfig, tokenizer: &ChatTokenizer) -> Truncation {
    Truncation {
        max_length: Some(config.max_length),
        max_prompt_length: Some(config.max_prompt_length.unwrap_or(config.max_length / 2)),
        bos: tokenizer.bos(),
        ..Truncation::default()
    }
}

/// Reads, samples, tokenises and truncates the rows that the objective trains on.
///
/// # Errors
/// At the first row that cannot be read or tokenised, with its place; when no row is left.
pub(crate) fn load(config: &TrainConfig, tokenizer: &ChatTokenizer) -> Result<(Vec<Row>, TruncatedRows), TrainError> {
    let truncation = truncation(config, tokenizer);
    match config.loss.loss {
        Loss::Sft(_) => tokenize(
            sampled(config, |path| Ok(read_examples(path)?))?,
            |example| tokenizer.encode_example(example),
            |row| truncation.apply_example(row),
        ),
        Loss::Kto(_) => tokenize(
            sampled(config, |path| Ok(read_unpaired(path)?))?,
            |row| tokenizer.encode_unpaired(row),
            |row| truncation.apply_unpaired(row),
        ),
        _ => tokenize(
            sampled(config, |path| Ok(read_pairs(path)?))?,
            |pair| tokenizer.encode_pair(pair),
            |row| truncation.apply_pair(row),
        ),
    }
}

/// Epoch number under which the sample is drawn: no training epoch has it.
const SAMPLE_EPOCH: u64 = u64::MAX;

fn sampled<T>(config: &TrainConfig, read: impl Fn(&Path) -> Result<Vec<T>, TrainError>) -> Result<Vec<T>, TrainError> {
    let mut rows = Vec::new();
    for path in &config.dataset {
        rows.extend(read(path)?);
    }
    if rows.is_empty() {
        return Err(TrainError::NoRows { path: config.dataset[0].clone() });
    }
    match config.dataset_sample {
        Some(wanted) if wanted > rows.len() => Err(TrainError::Config {
            origin: config.dataset[0].clone(),
            line: None,
            message: format!("`dataset_sample` is {wanted}, but there are only {} rows", rows.len()),
        }),
        Some(wanted) => {
            let mut keep = order(rows.len(), SAMPLE_EPOCH, config.seed);
            keep.truncate(wanted);
            keep.sort_unstable();
            let mut keep = keep.into_iter().peekable();
            let kept = rows.into_iter().enumerate().filter(|(index, _)| keep.next_if_eq(index).is_some());
            Ok(kept.map(|(_, row)| row).collect())
        }
        None => Ok(rows),
    }
}

fn tokenize<T: Sync, U: Into<Row> + Send>(
    rows: Vec<T>,
    encode: impl Fn(&T) -> Result<U, EncodeError> + Sync + Send,
    truncate: impl Fn(&mut U) -> smpo_data::Truncated,
) -> Result<(Vec<Row>, TruncatedRows), TrainError> {
    let encoded: Vec<U> = rows.par_iter().map(encode).collect::<Result<_, _>>()?;
    let mut truncated = TruncatedRows::default();
    let rows = encoded
        .into_iter()
        .map(|mut row| {
            let cut = truncate(&mut row);
            truncated.prompts += usize::from(cut.prompt > 0);
            truncated.completions += usize::from(cut.completion > 0);
            row.into()
        })
        .collect();
    Ok((rows, truncated))
}
