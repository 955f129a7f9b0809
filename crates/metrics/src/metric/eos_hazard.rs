//! EOS hazard: the probability that a running completion ends at the next token.

use smpo_results::{CurvePoint, Direction, Unit};

use super::length::Lifetime;
use super::{Corpus, Metric, MetricInfo};
use crate::estimate::{Estimate, jackknife};

/// `eos_hazard`.
pub static INFO: MetricInfo = MetricInfo {
    id: "eos_hazard",
    name: "EOS hazard",
    unit: Unit::Share,
    better: Direction::Neither,
    primary: false,
    binary: false,
    leaderboard: None,
    summary: false,
    description: "terminators per generated token: the chance that a running completion ends at the next token, \
                  averaged over all tokens generated",
    reference: "occurrence / exposure rate, e.g. Kalbfleisch & Prentice 2002, The Statistical Analysis of Failure Time \
                Data, ch. 3",
};

/// The entry of the catalogue.
pub static METRICS: &[Metric] = &[Metric::of_corpus(&INFO, estimate)];

/// Ends / tokens at risk.
fn estimate(corpus: &Corpus) -> Option<Estimate> {
    jackknife(&corpus.completions, |lifetimes| {
        let (ends, tokens) = lifetimes.iter().fold((0u64, 0u64), |(ends, tokens), lifetime| {
            (ends + u64::from(lifetime.ended), tokens + u64::from(lifetime.tokens))
        });
        (tokens > 0).then(|| ends as f64 / tokens as f64)
    })
}

/// The hazard in bins of `width` tokens: ends in the bin / tokens that running completions spent in it. `t` is the
/// end of the bin. Bins that no completion reached are left out.
pub fn curve(lifetimes: &[Lifetime], width: u32) -> Vec<CurvePoint> {
    let width = width.max(1);
    let Some(longest) = lifetimes.iter().map(|lifetime| lifetime.tokens).max() else { return Vec::new() };
    let bins = longest.div_ceil(width) as usize;
    let mut ends = vec![0usize; bins];
    for lifetime in lifetimes.iter().filter(|lifetime| lifetime.ended && lifetime.tokens > 0) {
        ends[((lifetime.tokens - 1) / width) as usize] += 1;
    }
    // Completions that reach past a bin spend all of it there; those that end inside, a part.
    let mut exposure = vec![0u64; bins];
    let mut through = vec![0i64; bins + 1];
    for &Lifetime { tokens, .. } in lifetimes {
        let full = (tokens / width) as usize;
        through[0] += 1;
        through[full] -= 1;
        if tokens % width > 0 {
            exposure[full] += u64::from(tokens % width);
        }
    }
    let mut running = 0;
    let mut points = Vec::new();
    for bin in 0..bins {
        running += through[bin];
        let tokens = exposure[bin] + running.unsigned_abs() * u64::from(width);
        if tokens > 0 {
            let end = ((bin as u32 + 1) * width).min(longest);
            points.push(CurvePoint { t: f64::from(end), y: ends[bin] as f64 / tokens as f64 });
        }
    }
    points
}

#[cfg(test)]
mod tests {
    use super::super::length::lived;
    use super::*;
    use smpo_results::FinishReason::{Eos, Length, Unknown};
    use smpo_results::Sample;

    fn lifetimes(samples: &[Sample]) -> Vec<Lifetime> {
        samples.iter().filter_map(Lifetime::of).collect()
    }

    #[test]
    fn ends_per_token() {
        let samples = [lived(3, Eos), lived(5, Length), lived(2, Eos), lived(9, Unknown)];
        let all: Vec<_> = samples.iter().collect();
        assert_eq!(estimate(&Corpus::new(all.iter().copied())).map(|estimate| estimate.value), Some(0.2));
        assert!(estimate(&Corpus::new([])).is_none());
    }

    #[test]
    fn one_token_bins_are_the_discrete_hazard() {
        let samples = [lived(1, Eos), lived(2, Eos), lived(2, Length), lived(3, Eos)];
        let points: Vec<_> = curve(&lifetimes(&samples), 1).iter().map(|point| (point.t, point.y)).collect();
        assert_eq!(points, [(1.0, 0.25), (2.0, 1.0 / 3.0), (3.0, 1.0)]);
    }

    #[test]
    fn wide_bins_divide_by_the_tokens_spent_in_them() {
        let samples = [lived(2, Eos), lived(6, Eos), lived(8, Length)];
        let points: Vec<_> = curve(&lifetimes(&samples), 4).iter().map(|point| (point.t, point.y)).collect();
        assert_eq!(points, [(4.0, 1.0 / 10.0), (8.0, 1.0 / 6.0)]);
        assert!(curve(&[], 4).is_empty());
        assert!(curve(&lifetimes(&[lived(0, Eos)]), 4).is_empty());
    }
}
