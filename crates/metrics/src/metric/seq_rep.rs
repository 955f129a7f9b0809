//! Share of repeated n-grams within a completion.

use smpo_results::{Direction, Unit};

use super::{Metric, MetricInfo, Scratch, View};
use crate::text::ngrams::{FirstSeen, mix};

const fn info(id: &'static str, name: &'static str, leaderboard: Option<u8>, description: &'static str) -> MetricInfo {
    MetricInfo {
        id,
        name,
        unit: Unit::Share,
        better: Direction::Lower,
        primary: false,
        binary: false,
        leaderboard,
        summary: leaderboard.is_some(),
        description,
        reference: "Welleck et al. 2019, Neural Text Generation with Unlikelihood Training, arXiv 1908.04319, eq. 8",
    }
}

/// `seq_rep_1` to `seq_rep_4`.
pub static INFOS: [MetricInfo; MAX_N] = [
    info("seq_rep_1", "Seq-rep-1", None, "1 - distinct / all tokens within a completion (words where token ids are unknown)"),
    info("seq_rep_2", "Seq-rep-2", None, "1 - distinct / all 2-grams within a completion"),
    info("seq_rep_3", "Seq-rep-3", None, "1 - distinct / all 3-grams within a completion"),
    info("seq_rep_4", "Seq-rep-4", Some(0), "1 - distinct / all 4-grams within a completion"),
];

/// The entries of the catalogue.
pub static METRICS: &[Metric] = &[
    Metric::of_sample(&INFOS[0], measure::<1>),
    Metric::of_sample(&INFOS[1], measure::<2>),
    Metric::of_sample(&INFOS[2], measure::<3>),
    Metric::of_sample(&INFOS[3], measure::<4>),
];

/// seq-rep-n = 1 − |distinct n-grams| / |n-grams|, over token ids if they are known, words otherwise; no value for a
/// completion of fewer than n units.
fn measure<const N: usize>(view: &View<'_>, _: &mut Scratch) -> Option<f64> {
    const { assert!(N >= 1 && N <= MAX_N) };
    view.seq_rep[N - 1]
}

/// The longest n-grams counted.
pub const MAX_N: usize = 4;

/// Buffers of [`seq_rep`].
#[derive(Debug, Default)]
pub struct Repeats {
    /// The hash of the n-gram that begins at each unit.
    grams: Vec<u64>,
    /// True if the n-gram that begins there occurs elsewhere too.
    repeated: Vec<bool>,
    /// Starts of n-grams that may occur elsewhere.
    candidates: Vec<u32>,
    seen: FirstSeen,
}

/// 1 − distinct / all n-grams for n = 1 to 4; `None` if there is no n-gram.
///
/// An n-gram can only occur twice if its first n − 1 units do, so each round looks at those alone: in prose, about all
/// units, then half of them, then few.
pub fn seq_rep<U: Copy + Into<u64>>(units: &[U], repeats: &mut Repeats) -> [Option<f64>; MAX_N] {
    let mut shares = [None; MAX_N];
    let Ok(len) = u32::try_from(units.len()) else { return shares };
    let Repeats { grams, repeated, candidates, seen } = repeats;
    grams.clear();
    grams.resize(units.len(), 0);
    candidates.clear();
    candidates.extend(0..len);
    for (index, share) in shares.iter_mut().enumerate() {
        let Some(ends) = units.get(index..).filter(|ends| !ends.is_empty()) else { break };
        seen.clear_for(candidates.len());
        repeated.clear();
        repeated.resize(units.len(), false);
        let mut again = 0;
        for &start in candidates.iter() {
            let place = start as usize;
            grams[place] = mix(grams[place], ends[place].into());
            let first = seen.insert(grams, start);
            let is_repeated = first != start;
            again += usize::from(is_repeated);
            repeated[first as usize] |= is_repeated;
            repeated[place] = is_repeated;
        }
        *share = Some(1.0 - (ends.len() - again) as f64 / ends.len() as f64);
        // Without a branch: which are kept cannot be foreseen.
        let mut kept = 0;
        for read in 0..candidates.len() {
            let start = candidates[read];
            candidates[kept] = start;
            kept += usize::from(repeated[start as usize] & (start as usize + 1 < ends.len()));
        }
        candidates.truncate(kept);
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_values() {
        let rep = |units: &[u32], n: usize| seq_rep(units, &mut Repeats::default())[n - 1];
        assert_eq!(rep(&[], 1), None);
        assert_eq!(rep(&[1, 2, 3], 4), None);
        assert_eq!(rep(&[1, 2, 3, 4], 4), Some(0.0));
        assert_eq!(rep(&[7, 7, 7, 7], 1), Some(0.75));
        // abab: 2-grams ab ba ab, two of them distinct
        assert_eq!(rep(&[1, 2, 1, 2], 2), Some(1.0 - 2.0 / 3.0));
    }

    #[test]
    fn words_stand_in_for_unknown_tokens_and_the_terminator_is_left_out() {
        let mut sample = crate::sample::sample("one two one");
        assert_eq!(crate::sample::value("seq_rep_1", &sample), Some(1.0 - 2.0 / 3.0));
        sample.token_ids = Some(vec![5, 5, 0]);
        sample.finish_reason = smpo_results::FinishReason::Eos;
        assert_eq!(crate::sample::value("seq_rep_1", &sample), Some(0.5));
    }

    proptest! {
        #[test]
        fn equals_the_definition(units in prop::collection::vec(0u32..6, 0..60)) {
            let shares = seq_rep(&units, &mut Repeats::default());
            for n in 1..=MAX_N {
                let grams: Vec<_> = units.windows(n).collect();
                let distinct: std::collections::HashSet<_> = grams.iter().collect();
                let expected = (!grams.is_empty()).then(|| 1.0 - distinct.len() as f64 / grams.len() as f64);
                prop_assert_eq!(shares[n - 1], expected);
            }
        }
    }
}
