//! Metrics of one completion.

use std::borrow::Cow;

use smpo_results::{FinishReason, Sample};

use crate::metric::{Among, Metric, all, broken_rate, runaway_rate, seq_rep, zlib_ratio};
use crate::text::visible;
use crate::text::words::hash_words;

/// One completion with the values that several metrics share.
#[derive(Debug)]
pub struct View<'a> {
    /// The completion and its prompt.
    pub sample: &'a Sample,
    /// Everything that the model wrote, reasoning first.
    pub text: Cow<'a, str>,
    /// The answer alone, without reasoning.
    pub answer: &'a str,
    /// Token ids without the terminator; `None` if the ids are unknown.
    pub tokens: Option<&'a [u32]>,
    /// Repeated n-grams for n = 1 to 4 ([`seq_rep::seq_rep`]).
    pub seq_rep: [Option<f64>; seq_rep::MAX_N],
    /// Share of letters in a foreign script ([`broken_rate::FOREIGN_INFO`]).
    pub foreign_script: Option<f64>,
}

/// Buffers reused from completion to completion, one per thread.
#[derive(Debug, Default)]
pub struct Scratch {
    words: Vec<u64>,
    repeats: seq_rep::Repeats,
    /// Folded words and their n-grams.
    pub runaway: runaway_rate::Buffers,
    /// Suffix matches of the loop detector.
    pub matches: Vec<u32>,
    /// Compressor and its output buffer.
    pub deflate: zlib_ratio::Deflate,
}

/// The metrics that have a value per sample for itself, in the order of the catalogue.
pub fn sample_metrics() -> impl Iterator<Item = &'static Metric> {
    all().iter().copied().filter(|metric| metric.sample.is_some())
}

/// The metrics that have a value per sample that depends on the other samples.
pub fn among_metrics() -> impl Iterator<Item = (&'static Metric, Among)> {
    all().iter().copied().filter_map(|metric| Some((metric, metric.among?)))
}

/// Every per-sample value of one completion, in the order of [`sample_metrics`]. Samples that the engine failed on
/// have values of [`Metric::of_failures`] metrics only.
pub fn measure_sample(sample: &Sample, scratch: &mut Scratch) -> Vec<Option<f64>> {
    let failed = sample.finish_reason == FinishReason::Error;
    let view = if failed { View::bare(sample) } else { View::new(sample, scratch) };
    let value = |metric: &Metric| {
        let measure = metric.sample.filter(|_| !failed || metric.of_failures)?;
        measure(&view, scratch)
    };
    sample_metrics().map(value).collect()
}

impl<'a> View<'a> {
    /// The sample with everything that several metrics share.
    pub fn new(sample: &'a Sample, scratch: &mut Scratch) -> View<'a> {
        let bare = View::bare(sample);
        let foreign_script = broken_rate::foreign_share(sample, &bare.text);
        let tokens = content_tokens(sample);
        let seq_rep = match tokens {
            Some(tokens) => seq_rep::seq_rep(tokens, &mut scratch.repeats),
            None => {
                scratch.words.clear();
                hash_words(&bare.text, &mut scratch.words);
                seq_rep::seq_rep(&scratch.words, &mut scratch.repeats)
            }
        };
        View { tokens, seq_rep, foreign_script, ..bare }
    }

    /// The sample alone, nothing computed.
    fn bare(sample: &'a Sample) -> View<'a> {
        View {
            sample,
            text: visible::whole(sample),
            answer: visible::answer(&sample.completion),
            tokens: None,
            seq_rep: [None; seq_rep::MAX_N],
            foreign_script: None,
        }
    }
}

/// Token ids without the terminator.
pub(crate) fn content_tokens(sample: &Sample) -> Option<&[u32]> {
    let ids = sample.token_ids.as_deref()?;
    Some(match (sample.finish_reason, ids) {
        (FinishReason::Eos, [content @ .., _]) => content,
        _ => ids,
    })
}

/// 1 or 0.
pub(crate) fn share(yes: bool) -> f64 {
    f64::from(u8::from(yes))
}

/// A sample of unknown ending for tests.
#[cfg(test)]
pub(crate) fn sample(completion: &str) -> Sample {
    Sample { slice: "s".into(), ..Sample::new("p", completion) }
}

/// The value of one metric on one completion.
#[cfg(test)]
pub(crate) fn value(id: &str, sample: &Sample) -> Option<f64> {
    let index = sample_metrics().position(|metric| metric.info.id == id).expect("registered");
    measure_sample(sample, &mut Scratch::default())[index]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_sample_has_the_error_rate_alone() {
        let mut failed = sample("half an ans");
        failed.finish_reason = FinishReason::Error;
        let values = measure_sample(&failed, &mut Scratch::default());
        let measured: Vec<&str> = sample_metrics()
            .zip(values)
            .filter(|(_, value)| value.is_some())
            .map(|(metric, _)| metric.info.id)
            .collect();
        assert_eq!(measured, ["error_rate"]);
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
