//! What an optimizer step is made of, whatever the objective: a prompt with one or two completions.

use std::ops::ControlFlow;

use smpo_data::{
    BadRows, Dataset, Example, PreferencePair, TokenCache, TokenizedExample, TokenizedPair, TokenizedUnpaired,
    TrainingRow, TruncatedRows, Truncation, UnpairedExample,
};
use smpo_losses::Pairing;
use smpo_tokenizer::ChatTokenizer;

use crate::config::TrainConfig;
use crate::error::TrainError;
use crate::run_dir::RunDir;

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

    /// Tokens that enter the model: the prompt once, and each completion but its last token.
    pub(crate) fn packed_tokens(&self) -> usize {
        self.prompt.len() + self.completions().map(|completion| completion.len().saturating_sub(1)).sum::<usize>()
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

/// The rows of a run.
#[derive(Debug)]
pub struct Rows {
    /// To train on.
    pub train: Vec<Row>,
    /// To evaluate on: `test_size` of the data.
    pub held_out: Vec<Row>,
    /// What was cut to fit `max_length` and `max_prompt_length`.
    pub truncated: TruncatedRows,
    /// Rows left out, where `on_bad_rows` says so.
    pub bad: BadRows,
    /// Why the tokens could not be kept for the next run; they are good all the same.
    pub not_kept: Option<std::io::Error>,
}

/// Refuses tokens that the model has no embedding for: a tokenizer that is not the model's.
///
/// # Errors
/// [`TrainError::Vocabulary`] names the first row.
pub(crate) fn check_vocabulary<'a>(rows: impl Iterator<Item = &'a Row>, vocabulary: usize) -> Result<(), TrainError> {
    for row in rows {
        let outside = row.prompt.iter().chain(row.completions().flatten()).find(|id| **id as usize >= vocabulary);
        if let Some(&token) = outside {
            return Err(TrainError::Vocabulary { row: row.id.clone(), token, vocabulary });
        }
    }
    Ok(())
}

/// Which rows of which files a configuration asks for.
pub fn dataset(config: &TrainConfig) -> Dataset {
    Dataset {
        files: config.dataset.clone(),
        ratios: config.dataset_ratio.clone(),
        test_size: config.test_size,
        sample: config.dataset_sample,
        seed: config.seed,
        on_bad_rows: config.on_bad_rows,
    }
}

/// The lengths that a configuration bounds.
pub fn truncation(config: &TrainConfig, tokenizer: &ChatTokenizer) -> Truncation {
    Truncation {
        max_length: Some(config.max_length),
        max_prompt_length: Some(config.max_prompt_length.unwrap_or(config.max_length / 2)),
        keep: config.truncation_mode,
        bos: tokenizer.bos(),
    }
}

/// Reads, splits, mixes, tokenises and truncates the rows that the objective trains on. `done` is told the rows
/// tokenised so far and how many there are, and may break off: then there is no result.
///
/// # Errors
/// At the first row that cannot be read or tokenised, with its place, unless it may be dropped; when no row is left.
pub fn load(
    config: &TrainConfig,
    tokenizer: &ChatTokenizer,
    done: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
) -> Result<Option<Rows>, TrainError> {
    match config.loss.loss.pairing() {
        Pairing::SftOnly => tokens::<Example>(config, tokenizer, done),
        Pairing::Unpaired(_) => tokens::<UnpairedExample>(config, tokenizer, done),
        Pairing::Pairwise(_) => tokens::<PreferencePair>(config, tokenizer, done),
    }
}

fn tokens<T: TrainingRow<Tokens: Into<Row>> + Clone>(
    config: &TrainConfig,
    tokenizer: &ChatTokenizer,
    done: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
) -> Result<Option<Rows>, TrainError> {
    let cache = TokenCache::new(config.token_cache.clone().unwrap_or_else(|| RunDir::new(&config.output_dir).tokens()));
    let truncation = truncation(config, tokenizer);
    let tokens = dataset(config).tokens::<T>(tokenizer, &truncation, Some(&cache), done)?;
    Ok(tokens.map(|tokens| Rows {
        train: tokens.train.into_iter().map(Into::into).collect(),
        held_out: tokens.held_out.into_iter().map(Into::into).collect(),
        truncated: tokens.truncated,
        bad: tokens.bad,
        not_kept: tokens.not_kept,
    }))
}
