//! Distinct n-grams across completions.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use smpo_results::{Direction, Unit};

use super::{Corpus, CorpusFn, Metric, MetricInfo};
use crate::corpus::{Completion, spread};
use crate::estimate::{Estimate, GROUPS, from_left_out};
use crate::text::ngrams::{AsIs, ngrams};

/// Completions looked at, spread evenly over the run: a fixed number bounds the cost and makes runs alike.
pub const MAX_COMPLETIONS: usize = 200;
/// Words of each completion that are looked at: a fixed amount of text keeps the length bias small.
pub const MAX_WORDS: usize = 128;

const fn info(id: &'static str, name: &'static str, description: &'static str) -> MetricInfo {
    MetricInfo {
        id,
        name,
        unit: Unit::Share,
        better: Direction::Higher,
        primary: false,
        binary: false,
        leaderboard: None,
        summary: false,
        description,
        reference: "Li et al. 2016, A Diversity-Promoting Objective Function, arXiv 1510.03055; on the first 128 words \
                    of at most 200 completions",
    }
}

static INFOS: [MetricInfo; 3] = [
    info(
        "distinct_1",
        "Distinct-1",
        "distinct / all words across completions; falls with length, so only runs of like length compare",
    ),
    info("distinct_2", "Distinct-2", "distinct / all word 2-grams across completions"),
    info("distinct_3", "Distinct-3", "distinct / all word 3-grams across completions"),
];

/// The entries of the catalogue.
pub static METRICS: &[Metric] =
    &[of_run(&INFOS[0], estimate::<1>), of_run(&INFOS[1], estimate::<2>), of_run(&INFOS[2], estimate::<3>)];

/// Diversity is a property of a whole run; per slice it would cost more than all other metrics together.
const fn of_run(info: &'static MetricInfo, corpus: CorpusFn) -> Metric {
    Metric { by_slice: false, ..Metric::of_corpus(info, corpus) }
}

/// |distinct n-grams| / |n-grams| over completions.
fn estimate<const N: usize>(corpus: &Corpus) -> Option<Estimate> {
    let texts = &corpus.spread;
    // The groups of completions that have an n-gram: one, or several.
    let mut owner: HashMap<u64, Owner, BuildHasherDefault<AsIs>> =
        HashMap::with_capacity_and_hasher(texts.len() * MAX_WORDS, BuildHasherDefault::default());
    let mut all_of_group = vec![0usize; GROUPS.min(texts.len())];
    for (index, words) in texts.iter().enumerate() {
        let group = index % all_of_group.len();
        for hash in ngrams(words, N) {
            all_of_group[group] += 1;
            let owner = owner.entry(hash).or_insert(Owner::One(group));
            if !matches!(owner, Owner::One(one) if *one == group) {
                *owner = Owner::Several;
            }
        }
    }
    let all: usize = all_of_group.iter().sum();
    let mut own = vec![0usize; all_of_group.len()];
    for owner in owner.values() {
        if let Owner::One(group) = owner {
            own[*group] += 1;
        }
    }
    let value = (all > 0).then(|| owner.len() as f64 / all as f64)?;
    let left_out = all_of_group.iter().zip(&own).filter(|(of_group, _)| all > **of_group);
    let left_out = left_out.map(|(of_group, own)| (owner.len() - own) as f64 / (all - of_group) as f64);
    Some(from_left_out(value, &left_out.collect::<Vec<_>>(), texts.len()))
}

/// Groups of completions that have an n-gram.
enum Owner {
    One(usize),
    Several,
}

/// Places of the completions that are looked at.
pub(crate) fn places(completions: &[Completion]) -> Vec<usize> {
    spread(completions.len(), MAX_COMPLETIONS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use smpo_results::Sample;

    fn distinct<const N: usize>(texts: &[&str]) -> Option<f64> {
        let samples: Vec<Sample> = texts.iter().map(|text| crate::sample::sample(text)).collect();
        estimate::<N>(&Corpus::new(&samples)).map(|estimate| estimate.value)
    }

    #[test]
    fn known_values() {
        assert_eq!(distinct::<1>(&["a b", "a c"]), Some(0.75));
        assert_eq!(distinct::<2>(&["a b", "a b", "b a"]), Some(2.0 / 3.0));
        assert_eq!(distinct::<3>(&["a b", "c"]), None);
        assert_eq!(distinct::<1>(&[]), None);
    }

    /// The interval comes from one pass; leaving out each group and counting again must give the same.
    #[test]
    fn the_interval_is_the_delete_a_group_jackknife() {
        let texts: Vec<String> =
            (0..70).map(|i| format!("the {} cat w{} sat on {}", i % 7, i, "mat ".repeat(i % 5))).collect();
        let samples: Vec<Sample> = texts.iter().map(|text| crate::sample::sample(text)).collect();
        let all: Vec<&Sample> = samples.iter().collect();
        let fast = estimate::<2>(&Corpus::new(all.iter().copied())).expect("some");
        let slow = crate::estimate::delete_a_group(&all, |left| {
            let left: Vec<&Sample> = left.iter().map(|sample| **sample).collect();
            estimate::<2>(&Corpus::new(left)).map(|estimate| estimate.value)
        })
        .expect("some");
        assert!((fast.value - slow.value).abs() < 1e-12);
        assert!((fast.interval.low - slow.interval.low).abs() < 1e-12 && fast.interval.width() > 0.0);
    }

    #[test]
    fn only_so_much_text_is_read_evenly_spread() {
        let texts: Vec<String> = (0..1000).map(|i| format!("w{}", if i % 5 == 0 { i } else { 0 })).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        assert_eq!(distinct::<1>(&texts), Some(1.0));
        // One endless completion counts its first words only.
        let endless = "one two ".repeat(100_000);
        assert_eq!(distinct::<1>(&[&endless]), Some(2.0 / 128.0));
        // and a runaway word does no harm
        assert_eq!(distinct::<1>(&[&"日".repeat(1_000_000), &"a".repeat(1_000_000)]), Some(2.0 / 129.0));
    }
}
