//! Self-BLEU: likeness of the answers to different prompts.
//!
//! The BLEU-4 of each completion against all the others as references, averaged (Zhu et al. 2018). Taken literally
//! this is quadratic. The clipped count of an n-gram needs only the largest count in any *other* completion, so the
//! largest and second-largest count with the holder of the largest, kept per n-gram, give the same number in linear
//! time.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use smpo_results::{Direction, Unit};

use super::{Corpus, Metric, MetricInfo};
use crate::corpus::{Completion, spread};
use crate::estimate::{Estimate, mean};
use crate::text::ngrams::{AsIs, ngrams};

/// Completions compared with each other, spread evenly over the run. Self-BLEU rises with their number, so runs of
/// fewer completions have lower values; a fixed number bounds the cost too.
pub const MAX_COMPLETIONS: usize = 100;
/// Words of each completion that are compared.
pub const MAX_WORDS: usize = 128;
const ORDER: usize = 4;

/// `self_bleu`.
pub static INFO: MetricInfo = MetricInfo {
    id: "self_bleu",
    name: "Self-BLEU",
    unit: Unit::Share,
    better: Direction::Lower,
    primary: false,
    binary: false,
    leaderboard: None,
    summary: false,
    description: "mean BLEU-4 of a completion against the completions of other prompts; high where all answers are \
                  alike; rises with their number and length",
    reference: "Zhu et al. 2018, Texygen, arXiv 1802.01886; BLEU: Papineni et al. 2002, add-one smoothing of Lin & Och \
                2004 for n > 1; on the first 128 words of at most 100 completions",
};

/// The entry of the catalogue. Diversity is a property of a whole run; per slice it would cost more than all other
/// metrics together.
pub static METRICS: &[Metric] = &[Metric { by_slice: false, ..Metric::of_corpus(&INFO, estimate) }];

/// Mean BLEU-4 against the rest.
fn estimate(corpus: &Corpus) -> Option<Estimate> {
    let texts: Vec<Vec<u64>> = corpus.of_prompts.iter().filter(|words| !words.is_empty()).cloned().collect();
    mean(&self_bleu(&texts))
}

/// Places of the completions that are compared, the first one of its prompt each: those of one prompt are expected to be
/// alike.
pub(crate) fn places(completions: &[Completion]) -> Vec<usize> {
    let is_first = |&place: &usize| place == 0 || completions[place - 1].prompt != completions[place].prompt;
    let firsts: Vec<usize> = (0..completions.len()).filter(is_first).collect();
    spread(firsts.len(), MAX_COMPLETIONS).map(|index| firsts[index]).collect()
}

/// The two largest counts of one n-gram in any text, and the index of the text with the largest.
#[derive(Clone, Copy)]
struct Largest {
    holder: usize,
    first: u32,
    second: u32,
}

/// Hashes of a text's n-grams with their counts.
fn counted(words: &[u64], n: usize) -> Vec<(u64, u32)> {
    let mut hashes: Vec<u64> = ngrams(words, n).collect();
    hashes.sort_unstable();
    hashes.chunk_by(|a, b| a == b).map(|same| (same[0], same.len() as u32)).collect()
}

/// BLEU-4 of each text against all others; empty for fewer than two texts.
pub fn self_bleu(texts: &[Vec<u64>]) -> Vec<f64> {
    if texts.len() < 2 {
        return Vec::new();
    }
    let mut log_precision = vec![0.0; texts.len()];
    for n in 1..=ORDER {
        let counts: Vec<_> = texts.iter().map(|words| counted(words, n)).collect();
        let mut largest: HashMap<u64, Largest, BuildHasherDefault<AsIs>> =
            HashMap::with_capacity_and_hasher(texts.len() * MAX_WORDS, BuildHasherDefault::default());
        for (holder, grams) in counts.iter().enumerate() {
            for &(hash, count) in grams {
                let entry = largest.entry(hash).or_insert(Largest { holder, first: 0, second: 0 });
                if count > entry.first {
                    *entry = Largest { holder, first: count, second: entry.first };
                } else {
                    entry.second = entry.second.max(count);
                }
            }
        }
        for (text, grams) in counts.iter().enumerate() {
            let (mut matched, mut all) = (0, 0);
            for &(hash, count) in grams {
                let others = largest.get(&hash).map_or(0, |l| if l.holder == text { l.second } else { l.first });
                matched += count.min(others);
                all += count;
            }
            let smoothing = if n > 1 { 1.0 } else { 0.0 };
            log_precision[text] +=
                ((f64::from(matched) + smoothing) / (f64::from(all) + smoothing)).ln() / ORDER as f64;
        }
    }
    let mut lengths: Vec<usize> = texts.iter().map(Vec::len).collect();
    lengths.sort_unstable();
    texts.iter().zip(log_precision).map(|(words, log)| brevity(words.len(), &lengths) * f64::exp(log)).collect()
}

/// The brevity penalty against the closest length among the others (the shorter of two as close). `lengths` are
/// sorted and hold the text's own once.
fn brevity(len: usize, lengths: &[usize]) -> f64 {
    let below = lengths.partition_point(|&other| other < len);
    let after = lengths.partition_point(|&other| other <= len);
    let closest = if after - below > 1 {
        len
    } else {
        let shorter = below.checked_sub(1).map(|index| lengths[index]);
        let longer = lengths.get(after).copied();
        match (shorter, longer) {
            (Some(shorter), Some(longer)) if longer - len < len - shorter => longer,
            (Some(shorter), _) => shorter,
            (None, Some(longer)) => longer,
            (None, None) => len,
        }
    };
    if len >= closest { 1.0 } else { (1.0 - closest as f64 / len as f64).exp() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use smpo_results::Sample;

    /// The definition: every text against every other, clipped counts by brute force.
    fn by_definition(texts: &[Vec<u64>]) -> f64 {
        let count = |words: &[u64], gram: &[u64]| words.windows(gram.len()).filter(|other| *other == gram).count();
        let bleu = |index: usize| {
            let words = &texts[index];
            let others: Vec<&Vec<u64>> = (0..texts.len()).filter(|&i| i != index).map(|i| &texts[i]).collect();
            let mut log = 0.0;
            for n in 1..=4 {
                let mut grams: Vec<&[u64]> = words.windows(n).collect();
                let all = grams.len();
                grams.sort_unstable();
                grams.dedup();
                let matched: usize = grams
                    .iter()
                    .map(|gram| {
                        let most = others.iter().map(|other| count(other, gram)).max().unwrap_or(0);
                        count(words, gram).min(most)
                    })
                    .sum();
                let smoothing = usize::from(n > 1);
                log += ((matched + smoothing) as f64 / (all + smoothing) as f64).ln() / 4.0;
            }
            let closest = others.iter().map(|o| o.len()).min_by_key(|&len| (len.abs_diff(words.len()), len)).unwrap();
            let penalty = if words.len() >= closest { 1.0 } else { (1.0 - closest as f64 / words.len() as f64).exp() };
            penalty * log.exp()
        };
        (0..texts.len()).map(bleu).sum::<f64>() / texts.len() as f64
    }

    fn average(texts: &[Vec<u64>]) -> Option<f64> {
        mean(&self_bleu(texts)).map(|estimate| estimate.value)
    }

    proptest! {
        #[test]
        fn equals_the_definition(texts in prop::collection::vec(prop::collection::vec(0u64..6, 1..20), 2..8)) {
            let fast = average(&texts).expect("two texts");
            prop_assert!((fast - by_definition(&texts)).abs() < 1e-12);
        }
    }

    #[test]
    fn equal_answers_score_one_and_unlike_ones_nothing() {
        let equal = vec![vec![1, 2, 3, 4, 5]; 3];
        assert!((average(&equal).expect("some") - 1.0).abs() < 1e-12);
        assert_eq!(average(&[vec![1, 2], vec![3, 4]]), Some(0.0));
        assert_eq!(average(&[vec![1, 2]]), None);
    }

    #[test]
    fn samples_of_one_prompt_are_not_compared() {
        let of = |prompt: &str| Sample { prompt_id: prompt.into(), ..crate::sample::sample("the same words here") };
        let value = |samples: &[Sample]| estimate(&Corpus::new(samples)).map(|estimate| estimate.value);
        assert_eq!(value(&[of("a"), of("a")]), None);
        assert!((value(&[of("a"), of("a"), of("b")]).expect("two prompts") - 1.0).abs() < 1e-12);
    }
}
