//! The rows of a run: from files, by ratio, some of them held out, as tokens.

use std::ops::ControlFlow;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smpo_tokenizer::{ChatTokenizer, TokenizerError};

use crate::cache::{Cached, TokenCache};
use crate::mixture::{HoldOut, MixtureError, RowOf, mix, sample, split};
use crate::read_error::{Location, ReadError};
use crate::reader::{Row, records, training_rows};
use crate::training_row::{TrainingRow, tokenize};
use crate::{Truncated, Truncation};

/// The seed of held-out rows, whatever the run's own: runs that differ in their seed are measured on the same rows.
const HOLD_OUT_SEED: u64 = 42;
/// Bad rows that are listed; all are counted.
const LISTED: usize = 20;

/// What is done about a row that cannot be read, or not be rendered and tokenised.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnBadRows {
    /// The first one is an error.
    #[default]
    Fail,
    /// They are left out, counted, and listed.
    Drop,
}

/// Which rows a run is made of. Every file is split into rows to train on and rows held out, then `ratios` of both are
/// taken and the files joined in order, as effective_llm_alignment does.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    /// Files in any format and shape that [`records`] reads.
    pub files: Vec<PathBuf>,
    /// One ratio per file: 0.5 draws half of its rows, 2 takes them twice. Empty: all rows of all files. A ratio above 1
    /// repeats no held-out row.
    pub ratios: Vec<f64>,
    /// How many rows of every file are held out. Drawn by a seed of its own, so that they are the same for every `seed`.
    pub test_size: Option<HoldOut>,
    /// Train on so many rows of what is left.
    pub sample: Option<usize>,
    /// Seed of ratios and sample.
    pub seed: u64,
    /// What is done about bad rows.
    pub on_bad_rows: OnBadRows,
}

/// Rows with their places: to train on and to evaluate on.
#[derive(Debug)]
pub struct Rows<T> {
    /// In file order, repetitions included.
    pub train: Vec<Row<T>>,
    /// In file order.
    pub held_out: Vec<Row<T>>,
    /// What was left out.
    pub bad: BadRows,
}

/// The same as tokens, cut to length.
#[derive(Debug)]
pub struct Tokens<T> {
    /// To train on.
    pub train: Vec<T>,
    /// To evaluate on.
    pub held_out: Vec<T>,
    /// What was left out.
    pub bad: BadRows,
    /// What was cut, of both.
    pub truncated: TruncatedRows,
    /// Whether all tokens came from the cache.
    pub cached: bool,
    /// Why the cache could not keep them; they are good all the same.
    pub not_kept: Option<std::io::Error>,
}

/// Rows that were left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BadRows {
    /// How many.
    pub count: u64,
    /// The first of them: place and problem.
    pub first: Vec<String>,
}

/// How many rows lost something to `max_length` and `max_prompt_length`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TruncatedRows {
    /// Rows whose prompt lost tokens.
    pub prompts: usize,
    /// Rows of which a completion lost tokens; it still ends in its terminator.
    pub completions: usize,
}

/// Why there are no rows.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// A file, or a row of it, cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A row cannot be rendered or tokenised.
    #[error("{location}: {source}")]
    Encode {
        /// Where it begins.
        location: Location,
        /// Why.
        source: TokenizerError,
    },
    /// A completion does not fit at all.
    #[error(
        "{location}: cut to {max_length} tokens, a completion keeps nothing but its terminator; expected room for at \
         least one token of it: raise max_length"
    )]
    Vanished {
        /// Where the row begins.
        location: Location,
        /// The most tokens of prompt and completion together.
        max_length: usize,
    },
    /// Rows cannot be split, mixed or drawn as asked.
    #[error("{file}: {source}", file = file.display())]
    Mixture {
        /// The file that was being split, or the first of all.
        file: PathBuf,
        /// Why.
        source: MixtureError,
    },
    /// Nothing is left to train on.
    #[error(
        "{file}: no row to train on: expected at least one {expected}, got {bad} bad rows and no other", file = file.display()
    )]
    NoRows {
        /// The first file.
        file: PathBuf,
        /// What was looked for.
        expected: &'static str,
        /// Rows left out.
        bad: u64,
    },
    /// A file was written to while it was read.
    #[error("{file}: has {now} rows, had {before} a moment ago; it must not change while it is read", file = file.display())]
    Changed {
        /// The file.
        file: PathBuf,
        /// Rows of the first pass.
        before: usize,
        /// Rows of the second pass.
        now: usize,
    },
}

impl BadRows {
    fn add(&mut self, problem: impl std::fmt::Display) {
        self.count += 1;
        if self.first.len() < LISTED {
            self.first.push(problem.to_string());
        }
    }
}

impl Dataset {
    /// Every row of some files, none held out.
    pub fn all(files: Vec<PathBuf>) -> Self {
        Self { files, ratios: Vec::new(), test_size: None, sample: None, seed: 0, on_bad_rows: OnBadRows::Fail }
    }

    /// Reads the rows. Every file is read twice: to count its rows, and to keep those that are wanted; memory holds only
    /// these.
    ///
    /// # Errors
    /// At the first bad row, unless they may be dropped; when nothing is left to train on.
    pub fn rows<T: TrainingRow + Clone>(&self) -> Result<Rows<T>, DatasetError> {
        let mut bad = BadRows::default();
        let counts = self.files.iter().map(|file| self.count::<T>(file, &mut bad)).collect::<Result<Vec<_>, _>>()?;
        let Selection { train, held_out } = self.select(&counts)?;
        let mut rows = Rows { train: Vec::new(), held_out: Vec::new(), bad };
        for (file, path) in self.files.iter().enumerate() {
            // row of the file → how often it is trained on, and whether it is held out
            let mut wanted = vec![(0, false); counts[file]];
            for at in train.iter().filter(|at| at.file == file) {
                wanted[at.row].0 += 1;
            }
            for at in held_out.iter().filter(|at| at.file == file) {
                wanted[at.row].1 = true;
            }
            let mut row = 0;
            for record in records(path)? {
                // what is bad was counted, or was an error, the first time
                let Ok(found) = record.and_then(training_rows::<T>) else { continue };
                let (times, held_out) = wanted.get(row).copied().unwrap_or_default();
                row += 1;
                for found in found {
                    rows.train.extend((0..times).map(|_| found.clone()));
                    if held_out {
                        rows.held_out.push(found);
                    }
                }
            }
            if row != counts[file] {
                return Err(DatasetError::Changed { file: path.clone(), before: counts[file], now: row });
            }
        }
        if rows.train.is_empty() {
            return Err(self.no_rows::<T>(rows.bad.count));
        }
        Ok(rows)
    }

    /// Reads the rows, tokenises them in parallel or finds them in the cache, and cuts them to length. `done` is told the
    /// rows tokenised so far and how many there are, and may break off: then there is no result.
    ///
    /// # Errors
    /// At the first bad row, unless they may be dropped; when nothing is left to train on.
    pub fn tokens<T: TrainingRow + Clone>(
        &self,
        tokenizer: &ChatTokenizer,
        truncation: &Truncation,
        cache: Option<&TokenCache>,
        done: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
    ) -> Result<Option<Tokens<T::Tokens>>, DatasetError> {
        let Rows { train, held_out, bad } = self.rows::<T>()?;
        let total = (train.len() + held_out.len()) as u64;
        let mut tokens = Tokens {
            train: Vec::with_capacity(train.len()),
            held_out: Vec::with_capacity(held_out.len()),
            bad,
            truncated: TruncatedRows::default(),
            cached: cache.is_some(),
            not_kept: None,
        };
        let mut before = 0;
        for (rows, training) in [(train, true), (held_out, false)] {
            let mut progress = |rows| done(before + rows, total);
            let made = match cache {
                Some(cache) => cache.tokenize(tokenizer, &rows, &mut progress),
                None => {
                    tokenize(tokenizer, &rows, &mut progress).map(|rows| Cached { rows, found: false, not_kept: None })
                }
            };
            let Some(made) = made else { return Ok(None) };
            before += rows.len() as u64;
            tokens.cached &= made.found;
            tokens.not_kept = tokens.not_kept.or(made.not_kept);
            for (row, result) in rows.into_iter().zip(made.rows) {
                let location = row.location;
                let fitted = match result {
                    Ok(row) => fit::<T>(row, truncation, &location),
                    Err(source) => Err(DatasetError::Encode { location, source }),
                };
                match (fitted, self.on_bad_rows) {
                    (Ok((row, cut)), _) => {
                        tokens.truncated.prompts += usize::from(cut.prompt > 0);
                        tokens.truncated.completions += usize::from(cut.completion > 0);
                        if training { tokens.train.push(row) } else { tokens.held_out.push(row) }
                    }
                    (Err(error), OnBadRows::Fail) => return Err(error),
                    (Err(error), OnBadRows::Drop) => tokens.bad.add(error),
                }
            }
        }
        if tokens.train.is_empty() {
            return Err(self.no_rows::<T>(tokens.bad.count));
        }
        Ok(Some(tokens))
    }

    /// Records of a file that are of use.
    fn count<T: TrainingRow>(&self, file: &PathBuf, bad: &mut BadRows) -> Result<usize, DatasetError> {
        let mut count = 0;
        for record in records(file)? {
            match record.and_then(training_rows::<T>) {
                Ok(_) => count += 1,
                Err(error) if error.is_row() && self.on_bad_rows == OnBadRows::Drop => bad.add(error),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(count)
    }

    fn select(&self, counts: &[usize]) -> Result<Selection, DatasetError> {
        let in_file = |file: usize| {
            let file = self.files.get(file).cloned().unwrap_or_default();
            move |source| DatasetError::Mixture { file, source }
        };
        let mut parts = Vec::new();
        for (file, &rows) in counts.iter().enumerate() {
            let held_out = self.test_size.unwrap_or(HoldOut::Rows(0));
            parts.push(split(rows, held_out, HOLD_OUT_SEED).map_err(in_file(file))?);
        }
        let ratios = if self.ratios.is_empty() { vec![1.0; counts.len()] } else { self.ratios.clone() };
        let lengths =
            |of: fn(&crate::Split) -> &Vec<usize>| parts.iter().map(|part| of(part).len()).collect::<Vec<_>>();
        let drawn = mix(&lengths(|part| &part.train), &ratios, self.seed).map_err(in_file(0))?;
        let once: Vec<f64> = ratios.iter().map(|ratio| ratio.min(1.0)).collect();
        let held_out = mix(&lengths(|part| &part.held_out), &once, HOLD_OUT_SEED).map_err(in_file(0))?;
        let mut train: Vec<RowOf> =
            drawn.into_iter().map(|at| RowOf { row: parts[at.file].train[at.row], ..at }).collect();
        if let Some(wanted) = self.sample {
            train =
                sample(train.len(), wanted, self.seed).map_err(in_file(0))?.into_iter().map(|at| train[at]).collect();
        }
        let held_out = held_out.into_iter().map(|at| RowOf { row: parts[at.file].held_out[at.row], ..at }).collect();
        Ok(Selection { train, held_out })
    }

    fn no_rows<T: TrainingRow>(&self, bad: u64) -> DatasetError {
        DatasetError::NoRows { file: self.files.first().cloned().unwrap_or_default(), expected: T::EXPECTED, bad }
    }
}

/// Cuts a row to length, unless nothing of a completion would be left.
fn fit<T: TrainingRow>(
    mut row: T::Tokens,
    truncation: &Truncation,
    location: &Location,
) -> Result<(T::Tokens, Truncated), DatasetError> {
    let cut = T::truncate(&mut row, truncation);
    match truncation.max_length {
        Some(max_length) if cut.vanished => Err(DatasetError::Vanished { location: location.clone(), max_length }),
        _ => Ok((row, cut)),
    }
}

struct Selection {
    train: Vec<RowOf>,
    held_out: Vec<RowOf>,
}
