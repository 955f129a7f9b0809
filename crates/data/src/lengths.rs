//! Length histograms, to choose `max_length` by.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use rayon::prelude::*;
use serde::Serialize;
use smpo_chat::Message;
use smpo_tokenizer::ChatTokenizer;

use crate::read_error::ReadError;
use crate::reader::records;
use crate::record::Record;

const CHUNK: usize = 512;

/// Rows whose length lies in `from..to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Bin {
    /// Least length in the bin.
    pub from: usize,
    /// First length past it.
    pub to: usize,
    /// Number of rows in it.
    pub count: usize,
}

/// The distribution of one part's length.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Lengths {
    /// `prompt`, `chosen`, `rejected`, `completion`, or `row` (prompt and its longest completion).
    pub part: &'static str,
    /// Number of lengths.
    pub count: usize,
    /// Sum of all.
    pub total: u64,
    /// Arithmetic mean.
    pub mean: f64,
    /// The shortest.
    pub min: usize,
    /// The longest.
    pub max: usize,
    /// Median (the smallest length that at least half do not exceed).
    pub p50: usize,
    /// 90th percentile.
    pub p90: usize,
    /// 95th percentile.
    pub p95: usize,
    /// 99th percentile.
    pub p99: usize,
    /// Bins whose bounds double.
    pub bins: Vec<Bin>,
}

/// Lengths of everything in a file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LengthReport {
    /// The file.
    pub file: String,
    /// `tokens`, or `characters` where there is no tokenizer.
    pub unit: &'static str,
    /// Rows measured.
    pub rows: usize,
    /// Rows that could not be read or tokenised.
    pub skipped: usize,
    /// One distribution per part.
    pub parts: Vec<Lengths>,
    /// Of pairs, in tokens: the mean of 1 / length over rejected sides, divided by that over chosen ones. In a loss on means over
    /// tokens, the weight of a rejected terminator beside a chosen one's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terminator_weight: Option<f64>,
}

/// Measures a file, in tokens with a tokenizer and in characters without. `on_progress` is called with the rows so far; no
/// report follows a break.
///
/// # Errors
/// When the file cannot be opened or ends in an error of the file itself; bad rows are counted and skipped.
pub fn lengths(
    path: impl AsRef<Path>,
    tokenizer: Option<&ChatTokenizer>,
    on_progress: &dyn Fn(u64) -> ControlFlow<()>,
) -> Result<Option<LengthReport>, ReadError> {
    let path = path.as_ref();
    // counted, not listed: memory grows with the longest row, not with the file
    let mut parts: BTreeMap<Part, BTreeMap<usize, usize>> = BTreeMap::new();
    let (mut measured, mut skipped) = (0, 0);
    let mut rows = records(path)?;
    loop {
        let mut chunk = Vec::with_capacity(CHUNK);
        let mut ended = true;
        for row in rows.by_ref() {
            match row {
                Ok(row) => chunk.push(row.record),
                Err(error) if error.is_row() => skipped += 1,
                Err(error) => return Err(error),
            }
            if chunk.len() == CHUNK {
                ended = false;
                break;
            }
        }
        let found: Vec<_> = chunk.par_iter().map(|record| measure(record, tokenizer)).collect();
        for row in found {
            match row {
                None => skipped += 1,
                Some(row) => {
                    measured += 1;
                    for (part, length) in row {
                        *parts.entry(part).or_default().entry(length).or_default() += 1;
                    }
                }
            }
        }
        if on_progress((measured + skipped) as u64).is_break() {
            return Ok(None);
        }
        if ended {
            break;
        }
    }
    Ok(Some(LengthReport {
        file: path.display().to_string(),
        unit: if tokenizer.is_some() { "tokens" } else { "characters" },
        rows: measured,
        skipped,
        parts: parts.iter().map(|(part, lengths)| summary(*part, lengths)).collect(),
        terminator_weight: tokenizer.and_then(|_| terminator_weight(&parts)),
    }))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Prompt,
    Chosen,
    Rejected,
    Completion,
    Row,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Part::Prompt => "prompt",
            Part::Chosen => "chosen",
            Part::Rejected => "rejected",
            Part::Completion => "completion",
            Part::Row => "row",
        }
    }
}

fn measure(record: &Record, tokenizer: Option<&ChatTokenizer>) -> Option<Vec<(Part, usize)>> {
    if let Record::Classified(row) = record {
        let length = match tokenizer {
            Some(tokenizer) => row.encode(tokenizer).ok()?.ids.len(),
            None => characters(&row.messages) + row.text.as_ref().map_or(0, |text| text.chars().count()),
        };
        return Some(vec![(Part::Row, length)]);
    }
    let sides = record.completions();
    let (prompt, completions): (usize, Vec<usize>) = match tokenizer {
        None => (characters(record.prompt()), sides.iter().map(|(_, side)| characters(side)).collect()),
        Some(tokenizer) => {
            let messages: Vec<&[Message]> = sides.iter().map(|(_, side)| *side).collect();
            let ids = tokenizer.encode_completions(record.conversation(), &messages).ok()?;
            (ids.prompt_ids.len(), ids.completion_ids.iter().map(Vec::len).collect())
        }
    };
    let names = match record {
        Record::Pair(_) => vec![Part::Chosen, Part::Rejected],
        Record::Group(row) => vec![Part::Completion; row.completions.len()],
        Record::Unpaired(_) | Record::Example(_) => vec![Part::Completion],
        Record::Classified(_) => Vec::new(),
    };
    let longest = completions.iter().copied().max().unwrap_or(0);
    let mut row: Vec<_> = names.into_iter().zip(completions).collect();
    row.push((Part::Prompt, prompt));
    row.push((Part::Row, prompt + longest));
    Some(row)
}

fn characters(messages: &[Message]) -> usize {
    messages.iter().map(|message| message.content.chars().count()).sum()
}

fn terminator_weight(parts: &BTreeMap<Part, BTreeMap<usize, usize>>) -> Option<f64> {
    // as many sides of each kind, so that sums compare as means do
    let sum = |part| {
        let lengths = parts.get(&part)?.iter().filter(|(length, _)| **length > 0);
        Some(lengths.map(|(&length, &times)| times as f64 / length as f64).sum::<f64>())
    };
    Some(sum(Part::Rejected)? / sum(Part::Chosen)?).filter(|weight| weight.is_normal())
}

/// The distribution of lengths, given how often each occurs; at least one does.
fn summary(part: Part, lengths: &BTreeMap<usize, usize>) -> Lengths {
    let count: usize = lengths.values().sum();
    let total: u64 = lengths.iter().map(|(&length, &times)| length as u64 * times as u64).sum();
    let at = |percent: usize| {
        let mut left = (count * percent).div_ceil(100).max(1);
        let reached = lengths.iter().find(|(_, times)| {
            left = left.saturating_sub(**times);
            left == 0
        });
        reached.map_or(0, |(length, _)| *length)
    };
    let mut bins: BTreeMap<usize, Bin> = BTreeMap::new();
    for (&length, &times) in lengths {
        // 0, 1, 2–3, 4–7, …
        let (from, to) = match length {
            0 => (0, 1),
            length => (1 << length.ilog2(), (1usize << length.ilog2()).saturating_mul(2)),
        };
        bins.entry(from).or_insert(Bin { from, to, count: 0 }).count += times;
    }
    Lengths {
        part: part.name(),
        count,
        total,
        mean: total as f64 / count as f64,
        min: lengths.keys().next().copied().unwrap_or(0),
        max: lengths.keys().next_back().copied().unwrap_or(0),
        p50: at(50),
        p90: at(90),
        p95: at(95),
        p99: at(99),
        bins: bins.into_values().collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Bin, Lengths, Part};

    fn summary(part: Part, lengths: impl IntoIterator<Item = usize>) -> Lengths {
        let mut counts = BTreeMap::new();
        for length in lengths {
            *counts.entry(length).or_default() += 1;
        }
        super::summary(part, &counts)
    }

    #[test]
    fn quantiles_are_lengths_that_occur() {
        let found = summary(Part::Prompt, (1..=100).rev());
        assert_eq!((found.p50, found.p90, found.p95, found.p99), (50, 90, 95, 99));
        assert_eq!((found.min, found.max, found.total), (1, 100, 5050));
        let one = summary(Part::Row, vec![7]);
        assert_eq!((one.p50, one.p99, one.mean), (7, 7, 7.0));
    }

    #[test]
    fn bins_double_and_hold_every_row() {
        let found = summary(Part::Prompt, vec![0, 1, 2, 3, 4, 7, 8]);
        let bin = |from, to, count| Bin { from, to, count };
        assert_eq!(found.bins, [bin(0, 1, 1), bin(1, 2, 1), bin(2, 4, 2), bin(4, 8, 2), bin(8, 16, 1)]);
    }
}
