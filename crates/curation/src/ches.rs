//! CHES, the centered hidden embedding similarity (Razin et al. 2024, arXiv 2410.08847): how much a preference pair pushes
//! down the answer that it prefers. With h_t the last hidden state from which token t of an answer is predicted, and
//! S = Σ_t h_t,
//!
//! ```text
//! CHES = ⟨S⁺, S⁻⟩ − ‖S⁺‖²          length-normalised: ⟨S⁺, S⁻⟩ / (T⁺T⁻) − ‖S⁺‖² / T⁺²
//! ```
//!
//! The larger, the more the answers look alike to the model, and the more of the chosen one's likelihood is lost.

use std::cmp::Ordering;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;
use smpo_data::{JsonLines, JsonRow, Record, Row, Truncation, encode_pair};
use smpo_model::{Decoder, PackedBatch};
use smpo_stats::bootstrap::quantile;
use smpo_tokenizer::ChatTokenizer;

use crate::CurationError;
use crate::index::fingerprint;
use crate::rows::Sources;

/// Columns that the scores are written to.
pub const COLUMNS: [&str; 2] = ["ches", "ches_normalized"];
/// Tokens of a forward pass at most, or those of the longest pair.
const MAX_TOKENS: usize = 4096;
/// Pairs that are tokenised at once.
const CHUNK: usize = 64;

/// Scores of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Ches {
    /// CHES.
    pub ches: f64,
    /// The length-normalised variant, which the paper filters by.
    pub normalized: f64,
}

/// One of the two scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Variant {
    /// Length-normalised.
    #[default]
    Normalized,
    /// As summed.
    Sum,
}

impl Ches {
    /// From the sums of hidden states over the tokens of both answers, and the numbers of those tokens.
    pub fn of_sums(chosen: &[f64], rejected: &[f64], lengths: [usize; 2]) -> Self {
        let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let (both, own) = (product(chosen, rejected), product(chosen, chosen));
        let [of_chosen, of_rejected] = lengths.map(|length| length as f64);
        Ches { ches: both - own, normalized: both / (of_chosen * of_rejected) - own / (of_chosen * of_chosen) }
    }

    /// The score of a variant.
    pub fn score(&self, variant: Variant) -> f64 {
        match variant {
            Variant::Normalized => self.normalized,
            Variant::Sum => self.ches,
        }
    }
}

/// Scores of tokenised pairs.
///
/// # Errors
/// When the model refuses a row.
pub fn ches(decoder: &Decoder, pairs: &[&Row]) -> Result<Vec<Ches>, CurationError> {
    let mut scores = Vec::with_capacity(pairs.len());
    let mut rest = pairs;
    while !rest.is_empty() {
        let mut tokens = 0;
        let fits = rest.iter().take_while(|pair| {
            tokens += pair.packed_tokens();
            tokens <= MAX_TOKENS
        });
        let (pack, after) = rest.split_at(fits.count().max(1));
        score_pack(decoder, pack, &mut scores)?;
        rest = after;
    }
    Ok(scores)
}

fn score_pack(decoder: &Decoder, pairs: &[&Row], scores: &mut Vec<Ches>) -> Result<(), CurationError> {
    let mut builder = PackedBatch::builder().turning_at(decoder.spec().turns_at());
    for pair in pairs {
        let sides: Vec<_> = pair.completions().map(|side| (side.ids(), side.scored())).collect();
        builder.push_scored(&pair.prompt, &sides)?;
    }
    let batch = builder.build()?;
    let hidden = decoder.predicting(&batch)?;
    let width = decoder.spec().hidden_size;
    let hidden: Vec<f32> = hidden.to_dtype(candle_core::DType::F32)?.flatten_all()?.to_vec1()?;
    let sums: Vec<(Vec<f64>, usize)> = batch
        .completions()
        .iter()
        .map(|rows| {
            let mut sum = vec![0.0; width];
            for row in hidden[rows.start * width..rows.end * width].chunks_exact(width) {
                sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value));
            }
            (sum, rows.len())
        })
        .collect();
    for sides in sums.chunks_exact(2) {
        let [(chosen, of_chosen), (rejected, of_rejected)] = sides else { continue };
        scores.push(Ches::of_sums(chosen, rejected, [*of_chosen, *of_rejected]));
    }
    Ok(())
}

/// Pairs of data files with their scores.
pub struct Ranking {
    sources: Sources,
    fingerprints: Vec<u64>,
    scores: Vec<Ches>,
    places: Vec<(PathBuf, u64)>,
    truncated: u64,
}

/// Summary of a ranking.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChesReport {
    /// Version of the layout.
    pub schema: u32,
    /// Pairs scored.
    pub pairs: u64,
    /// Pairs that were cut to length.
    pub truncated: u64,
    /// Pairs written.
    pub kept: u64,
    /// Pairs left out, those with the highest scores.
    pub left_out: u64,
    /// Quantiles of CHES.
    pub ches: Vec<Quantile>,
    /// Quantiles of the length-normalised variant.
    pub ches_normalized: Vec<Quantile>,
    /// The pairs with the highest scores, the highest first.
    pub highest: Vec<Ranked>,
}

/// A quantile of scores.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Quantile {
    /// Share of the pairs with lower scores.
    pub share: f64,
    /// The score.
    pub value: f64,
}

/// A pair with its scores.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ranked {
    /// File.
    pub path: PathBuf,
    /// Line.
    pub line: u64,
    /// Its scores.
    #[serde(flatten)]
    pub scores: Ches,
}

/// Called with the pairs scored so far; a break ends the work.
pub type OnScored<'a> = &'a dyn Fn(u64) -> ControlFlow<()>;

/// Scores all pairs of data files under a model. `None` after a break.
///
/// # Errors
/// When a row is no preference pair, or nothing is left of one of its answers.
pub fn rank(
    inputs: &[PathBuf],
    decoder: &Decoder,
    tokenizer: &ChatTokenizer,
    truncation: &Truncation,
    on_scored: OnScored<'_>,
) -> Result<Option<Ranking>, CurationError> {
    let sources = Sources::open(inputs, &[])?;
    let (fingerprints, scores, places) = (Vec::new(), Vec::new(), Vec::new());
    let mut ranking = Ranking { sources, fingerprints, scores, places, truncated: 0 };
    let mut rows = ranking.sources.inputs()?;
    loop {
        let chunk = rows.by_ref().take(CHUNK).collect::<Result<Vec<_>, _>>()?;
        if chunk.is_empty() {
            return Ok(Some(ranking));
        }
        let mut pairs = Vec::with_capacity(chunk.len());
        for row in &chunk {
            let (pair, cut) = tokenized(row, tokenizer, truncation)?;
            ranking.truncated += u64::from(cut);
            pairs.push(pair);
        }
        ranking.scores.extend(ches(decoder, &pairs.iter().collect::<Vec<_>>())?);
        ranking.fingerprints.extend(chunk.iter().map(fingerprint));
        ranking.places.extend(chunk.iter().map(|row| (row.location.path.to_path_buf(), row.location.line)));
        if on_scored(ranking.scores.len() as u64).is_break() {
            return Ok(None);
        }
    }
}

/// The pair of a row as tokens; true if it was cut.
fn tokenized(row: &JsonRow, tokenizer: &ChatTokenizer, truncation: &Truncation) -> Result<(Row, bool), CurationError> {
    let problem = |problem: String| CurationError::row(&row.location, problem);
    let pair = match row.record()? {
        Record::Pair(pair) => pair,
        other => return Err(problem(format!("expected a preference pair, got {}", other.kind().name()))),
    };
    let (pair, cut) = encode_pair(&pair, tokenizer, truncation).map_err(|error| problem(error.to_string()))?;
    if cut.vanished {
        return Err(problem(
            "nothing is left of an answer: the prompt takes all of the maximum length; give --max-prompt-length, or \
             leave the row out"
                .into(),
        ));
    }
    Ok((pair, cut.any()))
}

impl Ranking {
    /// Writes the rows with their scores in two more columns, without the share `drop` of them that has the highest scores
    /// of a variant; whole or not at all.
    ///
    /// # Errors
    /// When a file changed or cannot be read any more, or the output cannot be written.
    pub fn write(&self, out: Option<&Path>, drop: f64, variant: Variant) -> Result<ChesReport, CurationError> {
        let order = self.highest_first(variant);
        let dropped = (drop * order.len() as f64).round() as usize;
        let mut stays = vec![true; order.len()];
        order.iter().take(dropped).for_each(|row| stays[*row] = false);
        if let Some(out) = out {
            self.write_rows(out, &stays)?;
        }
        let quantiles = |score: fn(&Ches) -> f64| quantiles(self.scores.iter().map(score).collect());
        let ranked = |row: &usize| {
            let (path, line) = self.places[*row].clone();
            Ranked { path, line, scores: self.scores[*row] }
        };
        Ok(ChesReport {
            schema: 1,
            pairs: order.len() as u64,
            truncated: self.truncated,
            kept: (order.len() - dropped) as u64,
            left_out: dropped as u64,
            ches: quantiles(|scores| scores.ches),
            ches_normalized: quantiles(|scores| scores.normalized),
            highest: order.iter().take(SHOWN).map(ranked).collect(),
        })
    }

    fn highest_first(&self, variant: Variant) -> Vec<usize> {
        let score = |row: &usize| self.scores[*row].score(variant);
        let mut order: Vec<usize> = (0..self.scores.len()).collect();
        order.sort_by(|a, b| score(b).partial_cmp(&score(a)).unwrap_or(Ordering::Equal));
        order
    }

    fn write_rows(&self, out: &Path, stays: &[bool]) -> Result<(), CurationError> {
        let mut lines = JsonLines::create(out)?;
        let mut rows = self.sources.inputs()?;
        for (number, stays) in stays.iter().enumerate() {
            let row = rows.next().transpose()?;
            let changed = || {
                let (path, line) = self.places[number].clone();
                CurationError::Changed { location: smpo_data::Location { path: path.into(), line } }
            };
            let row = row.filter(|row| fingerprint(row) == self.fingerprints[number]).ok_or_else(changed)?;
            if *stays {
                lines.write_json(&with_scores(&row, self.scores[number])?)?;
            }
        }
        Ok(lines.commit()?)
    }
}

/// Highest pairs in a report.
const SHOWN: usize = 10;
/// Shares of reported quantiles.
const SHARES: [f64; 9] = [0.0, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 1.0];

/// The reported quantiles; none of nothing.
fn quantiles(mut scores: Vec<f64>) -> Vec<Quantile> {
    if scores.is_empty() {
        return Vec::new();
    }
    scores.sort_by(f64::total_cmp);
    SHARES.map(|share| Quantile { share, value: quantile(&scores, share) }).to_vec()
}

/// A row with its scores as its last columns, in place of earlier ones; the rest of its text stays as it is.
fn with_scores(row: &JsonRow, scores: Ches) -> Result<Vec<u8>, CurationError> {
    let mut columns = row.columns()?;
    let values = [scores.ches, scores.normalized];
    if COLUMNS.iter().any(|name| columns.contains_key(*name)) {
        COLUMNS.iter().for_each(|name| drop(columns.shift_remove(*name)));
        columns.extend(COLUMNS.iter().zip(values).map(|(name, value)| ((*name).to_owned(), value.into())));
        return Ok(Value::Object(columns).to_string().into_bytes());
    }
    let mut json = row.json.trim_ascii().to_vec();
    json.pop();
    let new = COLUMNS.iter().zip(values).map(|(name, value)| format!("\"{name}\": {}", Value::from(value)));
    let between = if columns.is_empty() { "" } else { ", " };
    json.extend_from_slice(format!("{between}{}}}", new.collect::<Vec<_>>().join(", ")).as_bytes());
    Ok(json)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(json: &str) -> JsonRow {
        let location = smpo_data::Location { path: Path::new("a").into(), line: 1 };
        JsonRow { location, json: json.into() }
    }

    #[test]
    fn scores_follow_the_formula() {
        let scores = Ches::of_sums(&[1.0, 2.0], &[3.0, -1.0], [2, 4]);
        assert_eq!((scores.ches, scores.normalized), (1.0 - 5.0, 1.0 / 8.0 - 5.0 / 4.0));
        // equal answers: nothing to learn
        assert_eq!(Ches::of_sums(&[1.0, 2.0], &[1.0, 2.0], [3, 3]), Ches { ches: 0.0, normalized: 0.0 });
    }

    #[test]
    fn scores_stand_beside_the_row_and_replace_earlier_ones() {
        let scores = Ches { ches: -4.0, normalized: 0.5 };
        let with = |json: &str| String::from_utf8(with_scores(&row(json), scores).unwrap()).unwrap();
        assert_eq!(with(r#"{"a":1, "s": NaN }"#), r#"{"a":1, "s": NaN , "ches": -4.0, "ches_normalized": 0.5}"#);
        assert_eq!(with(r#"{"ches": 7, "b": "c"}"#), r#"{"b":"c","ches":-4.0,"ches_normalized":0.5}"#);
    }

    #[test]
    fn quantiles_lie_between_values() {
        let of =
            |share| quantiles(vec![5.0, 1.0, 2.0]).iter().find(|quantile| quantile.share == share).map(|q| q.value);
        assert_eq!([0.0, 0.5, 0.75, 1.0].map(of), [1.0, 2.0, 3.5, 5.0].map(Some));
        assert!(quantiles(Vec::new()).is_empty());
    }
}
