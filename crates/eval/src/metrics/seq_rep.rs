//! How much of a completion repeats itself.

use smpo_results::{Direction, Unit};

use super::{MetricInfo, SampleMetric, Scratch, View};
use crate::text::ngrams::{HashSet64, ngrams};

const fn info(id: &'static str, description: &'static str) -> MetricInfo {
    MetricInfo {
        id,
        unit: Unit::Share,
        better: Direction::Lower,
        primary: false,
        binary: false,
        description,
        reference: "Welleck et al. 2019, Neural Text Generation with Unlikelihood Training, arXiv 1908.04319, eq. 8",
    }
}

static INFOS: [MetricInfo; 4] = [
    info("seq_rep_1", "1 - distinct / all tokens within a completion (words where token ids are unknown)"),
    info("seq_rep_2", "1 - distinct / all 2-grams within a completion"),
    info("seq_rep_3", "1 - distinct / all 3-grams within a completion"),
    info("seq_rep_4", "1 - distinct / all 4-grams within a completion"),
];

/// seq-rep-n = 1 − |distinct n-grams| / |n-grams|, over token ids where they are known, words otherwise; no value
/// for a completion of fewer than n units.
pub struct SeqRep<const N: usize>;

impl<const N: usize> SampleMetric for SeqRep<N> {
    fn info(&self) -> &'static MetricInfo {
        const { assert!(N >= 1 && N <= 4) };
        &INFOS[N - 1]
    }

    fn measure(&self, view: &View<'_>, scratch: &mut Scratch) -> Option<f64> {
        match view.tokens {
            Some(tokens) => seq_rep(tokens, N, &mut scratch.ngrams),
            None => seq_rep(view.words, N, &mut scratch.ngrams),
        }
    }
}

/// 1 − distinct / all n-grams; `None` when there is no n-gram.
pub fn seq_rep<U: Copy + Into<u64>>(units: &[U], n: usize, set: &mut HashSet64) -> Option<f64> {
    let all = (units.len() + 1).checked_sub(n).filter(|&all| all > 0)?;
    set.clear_for(all);
    let distinct = ngrams(units, n).filter(|&hash| set.insert(hash)).count();
    Some(1.0 - distinct as f64 / all as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_values() {
        let rep = |units: &[u32], n| seq_rep(units, n, &mut HashSet64::default());
        assert_eq!(rep(&[], 1), None);
        assert_eq!(rep(&[1, 2, 3], 4), None);
        assert_eq!(rep(&[1, 2, 3, 4], 4), Some(0.0));
        assert_eq!(rep(&[7, 7, 7, 7], 1), Some(0.75));
        // abab: 2-grams ab ba ab, two of them distinct
        assert_eq!(rep(&[1, 2, 1, 2], 2), Some(1.0 - 2.0 / 3.0));
    }

    #[test]
    fn words_stand_in_for_unknown_tokens_and_the_terminator_is_left_out() {
        let mut sample = super::super::sample("one two one");
        assert_eq!(super::super::value(&SeqRep::<1>, &sample), Some(1.0 - 2.0 / 3.0));
        sample.token_ids = Some(vec![5, 5, 0]);
        sample.finish_reason = smpo_results::FinishReason::Eos;
        assert_eq!(super::super::value(&SeqRep::<1>, &sample), Some(0.5));
    }

    proptest! {
        #[test]
        fn equals_the_definition(units in prop::collection::vec(0u32..6, 0..60), n in 1usize..5) {
            let grams: Vec<_> = units.windows(n).collect();
            let distinct: std::collections::HashSet<_> = grams.iter().collect();
            let expected = (!grams.is_empty()).then(|| 1.0 - distinct.len() as f64 / grams.len() as f64);
            prop_assert_eq!(seq_rep(&units, n, &mut HashSet64::default()), expected);
        }
    }
}
