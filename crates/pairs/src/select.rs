//! Selection of pairs or a group among the samples of a prompt.

use serde::{Deserialize, Serialize};

use crate::Answered;

/// One sample of a prompt with its score.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// The sample.
    pub answered: Answered<'a>,
    /// Its score; `None` if it could not be scored.
    pub score: Option<f64>,
}

/// Kind of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// One pair: the best sample against the worst.
    #[default]
    BestWorst,
    /// Every pair of samples that lie far enough apart, the widest gaps first.
    AllPairs,
    /// All samples with their scores as one row.
    Groups,
}

/// Rules of the selection.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Selection {
    /// Kind of rows.
    pub policy: Policy,
    /// Least difference of scores; 0 still refuses ties.
    pub min_gap: f64,
    /// Maximum pairs of one prompt, for [`Policy::AllPairs`].
    pub max_pairs: usize,
    /// Allow a chosen answer that is known to have been cut before its end.
    pub cut_chosen: bool,
}

impl Default for Selection {
    fn default() -> Self {
        Selection { policy: Policy::default(), min_gap: 0.0, max_pairs: usize::MAX, cut_chosen: false }
    }
}

/// Rows of one prompt, as indices of its candidates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selected {
    /// (chosen, rejected), at least one.
    Pairs(Vec<(usize, usize)>),
    /// At least two, not all of one score.
    Group(Vec<usize>),
}

/// Reason for which a prompt gives no row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dropped {
    /// Fewer than two samples did not fail.
    Failed,
    /// Fewer than two samples have a score.
    Unscored,
    /// All samples have the same text.
    SameText,
    /// All samples have the same score.
    Tied,
    /// The scores lie nearer together than the least gap.
    SmallGap,
    /// Every sample that would be chosen was cut before its end.
    CutChosen,
}

impl Dropped {
    /// Words for the report.
    pub fn describe(self) -> &'static str {
        match self {
            Dropped::Failed => "fewer than two samples that did not fail",
            Dropped::Unscored => "fewer than two samples with a score",
            Dropped::SameText => "all samples have the same text",
            Dropped::Tied => "all samples have the same score",
            Dropped::SmallGap => "scores nearer together than the least gap",
            Dropped::CutChosen => "the samples to be chosen were cut before their end",
        }
    }
}

impl Selection {
    /// The rows of one prompt.
    ///
    /// Among equal scores the earlier sample is taken, so that the same samples always give the same rows.
    ///
    /// # Errors
    /// The reason for which there are none.
    pub fn select(&self, candidates: &[Candidate<'_>]) -> Result<Selected, Dropped> {
        let alive = (0..candidates.len()).filter(|&index| !candidates[index].answered.failed());
        if alive.clone().count() < 2 {
            return Err(Dropped::Failed);
        }
        let scored: Vec<(usize, f64)> = alive
            .filter_map(|index| Some((index, candidates[index].score.filter(|score| score.is_finite())?)))
            .collect();
        let [(first, score), rest @ ..] = &scored[..] else { return Err(Dropped::Unscored) };
        if rest.is_empty() {
            return Err(Dropped::Unscored);
        }
        let first = &candidates[*first].answered;
        if rest.iter().all(|(index, _)| candidates[*index].answered.same_text(first)) {
            return Err(Dropped::SameText);
        }
        if rest.iter().all(|(_, other)| other == score) {
            return Err(Dropped::Tied);
        }
        match self.policy {
            Policy::Groups => self.group(&scored),
            Policy::BestWorst => self.pairs(candidates, &scored, 1).map(Selected::Pairs),
            Policy::AllPairs => self.pairs(candidates, &scored, self.max_pairs).map(Selected::Pairs),
        }
    }

    fn group(&self, scored: &[(usize, f64)]) -> Result<Selected, Dropped> {
        let lowest = scored.iter().map(|(_, score)| *score).fold(f64::INFINITY, f64::min);
        let highest = scored.iter().map(|(_, score)| *score).fold(f64::NEG_INFINITY, f64::max);
        if highest - lowest < self.min_gap {
            return Err(Dropped::SmallGap);
        }
        Ok(Selected::Group(scored.iter().map(|(index, _)| *index).collect()))
    }

    /// The pairs of the widest gaps, at most `maximum`.
    fn pairs(
        &self,
        candidates: &[Candidate<'_>],
        scored: &[(usize, f64)],
        maximum: usize,
    ) -> Result<Vec<(usize, usize)>, Dropped> {
        let mut pairs = Vec::new();
        let mut dropped = None;
        for &(chosen, high) in scored {
            for &(rejected, low) in scored {
                let gap = high - low;
                let reason = match () {
                    () if gap <= 0.0 => continue,
                    () if candidates[chosen].answered.same_text(&candidates[rejected].answered) => Dropped::SameText,
                    () if gap < self.min_gap => Dropped::SmallGap,
                    () if !self.cut_chosen && candidates[chosen].answered.cut() => Dropped::CutChosen,
                    () => {
                        pairs.push((gap, chosen, rejected));
                        continue;
                    }
                };
                // the reason of a pair that came furthest
                dropped = dropped.max(Some(reason));
            }
        }
        if pairs.is_empty() {
            return Err(dropped.unwrap_or(Dropped::Tied));
        }
        pairs.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
        Ok(pairs.into_iter().take(maximum).map(|(_, chosen, rejected)| (chosen, rejected)).collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use smpo_results::{FinishReason, Sample};

    use super::*;

    /// (text, finish, score)
    type Given<'a> = (&'a str, FinishReason, Option<f64>);

    fn samples(given: &[Given<'_>]) -> Vec<Sample> {
        let sample = |(index, (text, finish, _)): (usize, &Given<'_>)| Sample {
            finish_reason: *finish,
            sample: index as u32,
            ..Sample::new("p", *text)
        };
        given.iter().enumerate().map(sample).collect()
    }

    fn select(selection: Selection, given: &[Given<'_>]) -> Result<Selected, Dropped> {
        let samples = samples(given);
        let candidates: Vec<Candidate<'_>> = samples
            .iter()
            .zip(given)
            .map(|(first, (_, _, score))| Candidate { answered: Answered { first, follow_up: None }, score: *score })
            .collect();
        selection.select(&candidates)
    }

    use FinishReason::{Eos, Error, Length, Unknown};

    #[test]
    fn best_against_worst_the_earlier_of_equals() {
        let given = [("a", Eos, Some(1.0)), ("b", Eos, Some(3.0)), ("c", Length, Some(0.0)), ("d", Eos, Some(3.0))];
        assert_eq!(select(Selection::default(), &given), Ok(Selected::Pairs(vec![(1, 2)])));
    }

    #[test]
    fn a_cut_answer_is_not_chosen_unless_it_is_allowed() {
        let given = [("a", Length, Some(3.0)), ("b", Eos, Some(2.0)), ("c", Eos, Some(1.0))];
        assert_eq!(select(Selection::default(), &given), Ok(Selected::Pairs(vec![(1, 2)])));
        let allowed = Selection { cut_chosen: true, ..Selection::default() };
        assert_eq!(select(allowed, &given), Ok(Selected::Pairs(vec![(0, 2)])));
        let all_cut = [("a", Length, Some(3.0)), ("b", Length, Some(2.0))];
        assert_eq!(select(Selection::default(), &all_cut), Err(Dropped::CutChosen));
        // an unknown ending is not known to be cut
        let unknown = [("a", Unknown, Some(3.0)), ("b", Length, Some(2.0))];
        assert_eq!(select(Selection::default(), &unknown), Ok(Selected::Pairs(vec![(0, 1)])));
    }

    #[test]
    fn every_reason_is_told() {
        let of = |given: &[Given<'_>]| select(Selection { min_gap: 0.5, ..Selection::default() }, given).unwrap_err();
        assert_eq!(of(&[("a", Eos, Some(1.0))]), Dropped::Failed);
        assert_eq!(of(&[("a", Eos, Some(1.0)), ("b", Error, Some(0.0))]), Dropped::Failed);
        assert_eq!(of(&[("a", Eos, Some(1.0)), ("b", Eos, None)]), Dropped::Unscored);
        assert_eq!(of(&[("a", Eos, Some(1.0)), ("b", Eos, Some(f64::NAN))]), Dropped::Unscored);
        assert_eq!(of(&[("a", Eos, Some(1.0)), ("a", Eos, Some(0.0))]), Dropped::SameText);
        assert_eq!(of(&[("a", Eos, Some(1.0)), ("b", Eos, Some(1.0))]), Dropped::Tied);
        assert_eq!(of(&[("a", Eos, Some(1.0)), ("b", Eos, Some(0.6))]), Dropped::SmallGap);
    }

    #[test]
    fn all_pairs_come_widest_gap_first() {
        let given = [("a", Eos, Some(2.0)), ("b", Eos, Some(1.0)), ("c", Eos, Some(0.0))];
        let all = Selection { policy: Policy::AllPairs, ..Selection::default() };
        assert_eq!(select(all, &given), Ok(Selected::Pairs(vec![(0, 2), (0, 1), (1, 2)])));
        assert_eq!(select(Selection { max_pairs: 1, ..all }, &given), Ok(Selected::Pairs(vec![(0, 2)])));
    }

    #[test]
    fn a_group_keeps_everything_that_has_a_score() {
        let groups = Selection { policy: Policy::Groups, ..Selection::default() };
        let given = [("a", Length, Some(2.0)), ("b", Error, None), ("c", Eos, Some(0.0))];
        assert_eq!(select(groups, &given), Ok(Selected::Group(vec![0, 2])));
    }

    proptest! {
        #[test]
        fn no_pair_is_tied_or_narrow_or_of_one_text(
            scores in prop::collection::vec((0u8..4, 0u8..4), 0..9), min_gap in 0.0f64..3.0, all in any::<bool>(),
        ) {
            let texts = ["a", "b", "c", "d"];
            let given: Vec<Given<'_>> =
                scores.iter().map(|(text, score)| (texts[usize::from(*text)], Eos, Some(f64::from(*score)))).collect();
            let policy = if all { Policy::AllPairs } else { Policy::BestWorst };
            if let Ok(Selected::Pairs(pairs)) = select(Selection { policy, min_gap, ..Selection::default() }, &given) {
                prop_assert!(!pairs.is_empty());
                for (chosen, rejected) in pairs {
                    let gap = given[chosen].2.unwrap() - given[rejected].2.unwrap();
                    prop_assert!(gap > 0.0 && gap >= min_gap && given[chosen].0 != given[rejected].0);
                }
            }
        }
    }
}
