//! AOT: the pair loss between quantiles of a step, by sorting (Melnyk et al. 2024, arXiv 2406.05882).

use super::loss_type::{Constants, RatioTerms};
use crate::function::Score;
use crate::logistic::smoothed;

/// The k-th smallest policy difference against the k-th smallest reference difference. The value of rank k belongs to the
/// pair whose policy difference has that rank.
pub(super) fn differences(pairs: &[(Score, Score)], constants: Constants) -> Vec<RatioTerms> {
    let policy: Vec<f64> = pairs.iter().map(|(chosen, rejected)| chosen.policy - rejected.policy).collect();
    let reference: Vec<f64> = pairs.iter().map(|(chosen, rejected)| chosen.reference - rejected.reference).collect();
    let matched = Matched::new(&policy, &reference, constants);
    let of_pair = |(value, d_h): (f64, f64)| RatioTerms { value, d_chosen: d_h, d_rejected: -d_h };
    matched.of_upper(&policy).into_iter().map(of_pair).collect()
}

/// The k-th smallest log-ratio of chosen against the k-th smallest of rejected. The value of rank k belongs to the pair
/// whose chosen side has that rank.
pub(super) fn ratios(pairs: &[(Score, Score)], constants: Constants) -> Vec<RatioTerms> {
    let chosen: Vec<f64> = pairs.iter().map(|(chosen, _)| chosen.ratio()).collect();
    let rejected: Vec<f64> = pairs.iter().map(|(_, rejected)| rejected.ratio()).collect();
    let matched = Matched::new(&chosen, &rejected, constants);
    let sides = matched.of_upper(&chosen).into_iter().zip(matched.of_lower(&rejected));
    sides.map(|((value, d_chosen), (_, d_h))| RatioTerms { value, d_chosen, d_rejected: -d_h }).collect()
}

/// Two samples matched by rank.
struct Matched {
    /// Indices by rank of the sample that should be the larger.
    upper: Vec<usize>,
    /// The same for the other.
    lower: Vec<usize>,
    /// Per rank, the value and its derivative by the difference.
    terms: Vec<(f64, f64)>,
}

impl Matched {
    fn new(upper: &[f64], lower: &[f64], constants: Constants) -> Self {
        let (by_rank, other) = (ranks(upper), ranks(lower));
        let term = |(at, other): (&usize, &usize)| {
            let (value, d_z) = smoothed(constants.beta * (upper[*at] - lower[*other]), constants.epsilon);
            (value, constants.beta * d_z)
        };
        let terms = by_rank.iter().zip(&other).map(term).collect();
        Self { upper: by_rank, lower: other, terms }
    }

    /// The terms in the order of the larger sample.
    fn of_upper(&self, values: &[f64]) -> Vec<(f64, f64)> {
        self.placed(&self.upper, values)
    }

    /// The terms in the order of the smaller sample.
    fn of_lower(&self, values: &[f64]) -> Vec<(f64, f64)> {
        self.placed(&self.lower, values)
    }

    /// The terms in the order of `values`; equal values share the mean of theirs, so that the order of pairs decides
    /// nothing.
    fn placed(&self, ranks: &[usize], values: &[f64]) -> Vec<(f64, f64)> {
        let mut placed = vec![(0.0, 0.0); values.len()];
        let mut start = 0;
        for tied in ranks.chunk_by(|a, b| values[*a] == values[*b]) {
            let terms = &self.terms[start..start + tied.len()];
            start += tied.len();
            let count = tied.len() as f64;
            let sum = terms.iter().fold((0.0, 0.0), |sum, term| (sum.0 + term.0, sum.1 + term.1));
            tied.iter().for_each(|at| placed[*at] = (sum.0 / count, sum.1 / count));
        }
        placed
    }
}

/// Indices in ascending order of their values.
fn ranks(values: &[f64]) -> Vec<usize> {
    let mut ranks: Vec<usize> = (0..values.len()).collect();
    ranks.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONSTANTS: Constants =
        Constants { beta: 1.0, epsilon: 0.0, discopop_tau: 0.05, shift_lambda: 1.0, balance: 1.0 };

    fn score(policy: f64) -> Score {
        Score { policy, reference: 0.0, tokens: 1 }
    }

    #[test]
    fn a_rank_is_compared_with_the_same_rank_of_the_other_sample() {
        // chosen sorted: −3 (second pair), −1 (first); rejected sorted: −4 (first), −2 (second)
        let terms = ratios(&[(score(-1.0), score(-4.0)), (score(-3.0), score(-2.0))], CONSTANTS);
        // the first pair's chosen is compared with the second pair's rejected, and the reverse
        assert_eq!(terms[0].value, smoothed(-1.0 + 2.0, 0.0).0);
        assert_eq!(terms[1].value, smoothed(-3.0 + 4.0, 0.0).0);
        assert_eq!((terms[0].d_chosen, terms[0].d_rejected), (smoothed(1.0, 0.0).1, -smoothed(1.0, 0.0).1));
    }

    #[test]
    fn equal_values_share_their_terms() {
        let terms = ratios(&[(score(-1.0), score(-4.0)), (score(-1.0), score(-2.0))], CONSTANTS);
        assert_eq!((terms[0].value, terms[0].d_chosen), (terms[1].value, terms[1].d_chosen));
        assert_eq!(terms[0].value + terms[1].value, smoothed(3.0, 0.0).0 + smoothed(1.0, 0.0).0);
        assert_eq!(terms[0].d_chosen + terms[1].d_chosen, smoothed(3.0, 0.0).1 + smoothed(1.0, 0.0).1);
    }
}
