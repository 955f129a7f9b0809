//! Do different prompts get different answers?

use smpo_results::{Direction, FinishReason, Sample, Unit};

use super::{CorpusMetric, MetricInfo};
use crate::estimate::{Estimate, delete_a_group};
use crate::text::ngrams::{HashSet64, ngrams};
use crate::text::words::hash_words;

/// Completions looked at, spread evenly over the run: their distinct n-grams are counted in one set, which would
/// outgrow every cache on a large run.
pub const MAX_COMPLETIONS: usize = 200;
/// Words of each completion that are looked at: a fixed amount of text keeps the length bias small.
pub const MAX_WORDS: usize = 128;

const fn info(id: &'static str, description: &'static str) -> MetricInfo {
    MetricInfo {
        id,
        unit: Unit::Share,
        better: Direction::Higher,
        primary: false,
        binary: false,
        description,
        reference: "Li et al. 2016, A Diversity-Promoting Objective Function, arXiv 1510.03055; on the first 128 words \
                    of at most 200 completions",
    }
}

static INFOS: [MetricInfo; 3] = [
    info(
        "distinct_1",
        "distinct / all words across completions; falls with length, so only runs of like length compare",
    ),
    info("distinct_2", "distinct / all word 2-grams across completions"),
    info("distinct_3", "distinct / all word 3-grams across completions"),
];

/// |distinct n-grams| / |n-grams| over completions.
pub struct Distinct<const N: usize>;

impl<const N: usize> CorpusMetric for Distinct<N> {
    fn info(&self) -> &'static MetricInfo {
        const { assert!(N >= 1 && N <= 3) };
        &INFOS[N - 1]
    }

    fn estimate(&self, samples: &[&Sample]) -> Option<Estimate> {
        let mut words: Vec<Vec<u64>> = Vec::new();
        for sample in spread(samples, MAX_COMPLETIONS) {
            let mut hashes = Vec::new();
            hash_words(first_words(&sample.completion), &mut hashes);
            hashes.truncate(MAX_WORDS);
            words.push(hashes);
        }
        let mut set = HashSet64::default();
        delete_a_group(&words, |texts| {
            set.clear_for(MAX_COMPLETIONS * MAX_WORDS);
            let (mut all, mut distinct) = (0usize, 0usize);
            for hash in texts.iter().flat_map(|words| ngrams(words, N)) {
                all += 1;
                distinct += usize::from(set.insert(hash));
            }
            (all > 0).then(|| distinct as f64 / all as f64)
        })
    }
}

/// Enough text to hold the first [`MAX_WORDS`] words of anything but a runaway word.
fn first_words(text: &str) -> &str {
    let end = (MAX_WORDS * 32).min(text.len());
    &text[..text.floor_char_boundary(end)]
}

/// At most `limit` samples that did not fail, evenly spread over the run.
pub(super) fn spread<'a>(samples: &[&'a Sample], limit: usize) -> Vec<&'a Sample> {
    let sound: Vec<&Sample> =
        samples.iter().copied().filter(|sample| sample.finish_reason != FinishReason::Error).collect();
    let take = sound.len().min(limit);
    (0..take).map(|index| sound[index * sound.len() / take]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn distinct<const N: usize>(texts: &[&str]) -> Option<f64> {
        let samples: Vec<Sample> = texts.iter().map(|text| super::super::sample(text)).collect();
        Distinct::<N>.estimate(&samples.iter().collect::<Vec<_>>()).map(|estimate| estimate.value)
    }

    #[test]
    fn known_values() {
        assert_eq!(distinct::<1>(&["a b", "a c"]), Some(0.75));
        assert_eq!(distinct::<2>(&["a b", "a b", "b a"]), Some(2.0 / 3.0));
        assert_eq!(distinct::<3>(&["a b", "c"]), None);
        assert_eq!(distinct::<1>(&[]), None);
    }

    #[test]
    fn only_so_much_text_is_read_evenly_spread() {
        let texts: Vec<String> = (0..1000).map(|i| format!("w{i}")).collect();
        let samples: Vec<Sample> = texts.iter().map(|text| super::super::sample(text)).collect();
        let all: Vec<&Sample> = samples.iter().collect();
        let chosen = spread(&all, 200);
        assert_eq!((chosen.len(), chosen[0].completion.as_str(), chosen[199].completion.as_str()), (200, "w0", "w995"));
        // One endless completion counts its first words only.
        let endless = "one two ".repeat(100_000);
        assert_eq!(distinct::<1>(&[&endless]), Some(2.0 / 128.0));
        // and a runaway word does no harm
        assert_eq!(distinct::<1>(&[&"日".repeat(1_000_000), &"a".repeat(1_000_000)]), Some(2.0 / 129.0));
    }
}
