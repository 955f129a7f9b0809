//! What is measured, one file a metric.
//!
//! | kind | looks at | files |
//! |---|---|---|
//! | per sample | one completion | `eos_rate`, `loop_rate`, `seq_rep`, `zlib_ratio`, `broken_rate`, `length`, `exact_match`, `stops_when_right`, `error_rate` |
//! | per corpus | all completions of a run | `distinct_n`, `self_bleu`, `length` (its restricted mean), `eos_hazard` |
//! | teacher-forced | gold completions, held-out pairs | `eos_gold`, `preference` |
//!
//! A metric that does not apply to a completion has no value there: nothing is guessed. `eos_rate` has none where
//! the finish reason is unknown, and no metric but `error_rate` has one where the engine failed.
//!
//! To add a per-sample metric: write its file with an `INFO` and a unit struct that implements [`SampleMetric`], and
//! name it in [`SAMPLE_METRICS`].

pub mod broken_rate;
pub mod distinct_n;
pub mod eos_gold;
pub mod eos_hazard;
pub mod eos_rate;
pub mod error_rate;
pub mod exact_match;
pub mod length;
pub mod loop_rate;
pub mod preference;
pub mod self_bleu;
pub mod seq_rep;
pub mod stops_when_right;
pub mod zlib_ratio;

use std::sync::OnceLock;

use smpo_results::{Direction, FinishReason, Sample, Unit};

use crate::estimate::Estimate;
use crate::text::words::hash_words;

/// What a metric declares about itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MetricInfo {
    /// Its id in every file (`eos_rate`).
    pub id: &'static str,
    /// Unit of its values.
    pub unit: Unit,
    /// Which way is better.
    pub better: Direction,
    /// Primary metrics rank and gate; the others explain.
    pub primary: bool,
    /// Whether a sample's value is 0 or 1.
    pub binary: bool,
    /// One sentence for a reader.
    pub description: &'static str,
    /// Where the definition comes from.
    pub reference: &'static str,
}

/// One completion, prepared for every per-sample metric.
#[derive(Debug)]
pub struct View<'a> {
    /// The completion and its prompt.
    pub sample: &'a Sample,
    /// Its token ids without the terminator, where they are known.
    pub tokens: Option<&'a [u32]>,
    /// Repeated n-grams for n = 1 to 4 ([`seq_rep::seq_rep`]).
    pub seq_rep: [Option<f64>; seq_rep::MAX_N],
    /// Share of letters in a foreign script ([`broken_rate::FOREIGN_INFO`]).
    pub foreign_script: Option<f64>,
}

/// Buffers that metrics share from completion to completion, one per thread.
#[derive(Debug, Default)]
pub struct Scratch {
    words: Vec<u64>,
    repeats: seq_rep::Repeats,
    /// Suffix matches of the loop detector.
    pub matches: Vec<u32>,
    /// Compressor and its output buffer.
    pub deflate: zlib_ratio::Deflate,
}

/// A metric of one completion.
pub trait SampleMetric: Sync {
    /// Id, unit, direction, source.
    fn info(&self) -> &'static MetricInfo;
    /// Its value, or `None` where it does not apply. Never asked about a sample that the engine failed on.
    fn measure(&self, view: &View<'_>, scratch: &mut Scratch) -> Option<f64>;
}

/// Completions that are measured together.
#[derive(Debug)]
pub struct Corpus<'a> {
    /// Grouped by prompt.
    pub samples: Vec<&'a Sample>,
    /// See [`distinct_n::first_words`]; three metrics share them.
    first_words: OnceLock<Vec<Vec<u64>>>,
}

impl<'a> Corpus<'a> {
    /// Of samples grouped by prompt.
    pub fn new(samples: impl IntoIterator<Item = &'a Sample>) -> Self {
        Corpus { samples: samples.into_iter().collect(), first_words: OnceLock::new() }
    }

    /// The hashed words of a part of the completions, evenly spread.
    fn first_words(&self) -> &[Vec<u64>] {
        self.first_words.get_or_init(|| distinct_n::first_words(&self.samples))
    }
}

/// A metric of all completions of a run together.
pub trait CorpusMetric: Sync {
    /// Id, unit, direction, source.
    fn info(&self) -> &'static MetricInfo;
    /// Its value over these samples with a 95 % interval, or `None` where it does not apply.
    fn estimate(&self, corpus: &Corpus<'_>) -> Option<Estimate>;
    /// Whether slices have estimates of their own.
    fn by_slice(&self) -> bool;
}

/// All per-sample metrics, in the order of every report.
pub static SAMPLE_METRICS: [&dyn SampleMetric; 13] = [
    &eos_rate::EosRate,
    &loop_rate::LoopRate,
    &exact_match::ExactMatch,
    &stops_when_right::StopsWhenRight,
    &broken_rate::BrokenRate,
    &broken_rate::ForeignScript,
    &seq_rep::SeqRep::<1>,
    &seq_rep::SeqRep::<2>,
    &seq_rep::SeqRep::<3>,
    &seq_rep::SeqRep::<4>,
    &zlib_ratio::ZlibRatio,
    &length::CapRate,
    &length::Length,
];

/// All metrics of a whole run.
pub static CORPUS_METRICS: [&dyn CorpusMetric; 6] = [
    &length::Length,
    &eos_hazard::EosHazard,
    &distinct_n::Distinct::<1>,
    &distinct_n::Distinct::<2>,
    &distinct_n::Distinct::<3>,
    &self_bleu::SelfBleu,
];

/// What every metric declares, in the order of every report, each id once.
pub fn all() -> Vec<&'static MetricInfo> {
    let mut infos: Vec<&'static MetricInfo> = SAMPLE_METRICS.iter().map(|metric| metric.info()).collect();
    infos.extend(eos_gold::INFOS.iter().chain(&preference::INFOS));
    infos.extend(CORPUS_METRICS.iter().map(|metric| metric.info()).filter(|info| info.id != length::INFO.id));
    infos.push(&error_rate::INFO);
    infos
}

/// The metric of this id.
pub fn find(id: &str) -> Option<&'static MetricInfo> {
    all().into_iter().find(|info| info.id == id)
}

/// The id nearest to a mistyped one.
pub fn similar(id: &str) -> Option<&'static str> {
    smpo_suggest::nearest(id, all().iter().map(|info| info.id))
}

/// Every per-sample value of one completion, by position in [`SAMPLE_METRICS`].
pub fn measure_sample(sample: &Sample, scratch: &mut Scratch) -> [Option<f64>; SAMPLE_METRICS.len()] {
    if sample.finish_reason == FinishReason::Error {
        return [None; SAMPLE_METRICS.len()];
    }
    let foreign_script = broken_rate::foreign_share(sample);
    let tokens = content_tokens(sample);
    let seq_rep = match tokens {
        Some(tokens) => seq_rep::seq_rep(tokens, &mut scratch.repeats),
        None => {
            scratch.words.clear();
            hash_words(&sample.completion, &mut scratch.words);
            seq_rep::seq_rep(&scratch.words, &mut scratch.repeats)
        }
    };
    let view = View { sample, tokens, seq_rep, foreign_script };
    std::array::from_fn(|index| SAMPLE_METRICS[index].measure(&view, scratch))
}

/// Token ids without the terminator.
fn content_tokens(sample: &Sample) -> Option<&[u32]> {
    let ids = sample.token_ids.as_deref()?;
    Some(match (sample.finish_reason, ids) {
        (FinishReason::Eos, [content @ .., _]) => content,
        _ => ids,
    })
}

/// 1 or 0.
fn share(yes: bool) -> f64 {
    f64::from(u8::from(yes))
}

#[cfg(test)]
pub(crate) fn sample(completion: &str) -> Sample {
    Sample {
        schema: smpo_results::SCHEMA_VERSION,
        prompt_id: "p".into(),
        slice: "s".into(),
        sample: 0,
        messages: Vec::new(),
        reference: None,
        closed: false,
        language: None,
        completion: completion.into(),
        token_ids: None,
        logps: None,
        terminator_logps: None,
        finish_reason: FinishReason::Unknown,
        tokens: None,
        cap: None,
        error: None,
    }
}

/// The value of one metric on one completion.
#[cfg(test)]
pub(crate) fn value(metric: &dyn SampleMetric, sample: &Sample) -> Option<f64> {
    let index = SAMPLE_METRICS.iter().position(|other| other.info().id == metric.info().id).expect("registered");
    measure_sample(sample, &mut Scratch::default())[index]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_is_declared_once_and_found() {
        let mut ids: Vec<_> = all().iter().map(|info| info.id).collect();
        for id in &ids {
            assert_eq!(find(id).expect("found").id, *id);
        }
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), count);
        assert_eq!(similar("loop_rat"), Some("loop_rate"));
        assert_eq!(similar("zzz"), None);
    }

    #[test]
    fn a_failed_sample_has_no_values() {
        let mut failed = sample("half an ans");
        failed.finish_reason = FinishReason::Error;
        assert!(measure_sample(&failed, &mut Scratch::default()).iter().all(Option::is_none));
    }

    #[test]
    fn odd_completions_are_measured_without_trouble() {
        let mut scratch = Scratch::default();
        for text in ["", " ", "\0\0\0", "\u{fffd}", "a", "\n\n\n", "💖", "\u{202e}\u{0}\u{10ffff}"] {
            for value in measure_sample(&sample(text), &mut scratch).into_iter().flatten() {
                assert!(value.is_finite(), "{text:?}: {value}");
            }
        }
    }
}
