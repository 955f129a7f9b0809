//! Estimates of one arm: a value and its 95 % interval over prompts.

use std::cell::RefCell;
use std::collections::HashMap;

use smpo_results::Unit;
use smpo_stats::Interval;
use smpo_stats::distribution::{normal_critical, student_quantile};
use smpo_stats::proportion::wilson;

use crate::MetricInfo;
use crate::corpus::Completion;
use crate::metric::length::Lifetime;

/// Confidence of every interval of this crate.
pub const CONFIDENCE: f64 = 0.95;
/// Groups of the delete-a-group jackknife.
pub(crate) const GROUPS: usize = 20;

/// A value with its interval and number of prompts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The estimate.
    pub value: f64,
    /// Its 95 % interval.
    pub interval: Interval,
    /// Prompts.
    pub n: usize,
}

/// The mean of a metric over prompts, with an interval of values that it can have.
pub fn of_prompts(info: &MetricInfo, prompts: &[f64]) -> Option<Estimate> {
    let estimate = match info.unit {
        Unit::Share if info.binary => share(prompts),
        Unit::Share => continuous_share(prompts),
        _ => mean(prompts),
    };
    estimate.map(|estimate| estimate.within(info))
}

impl Estimate {
    /// The same with the interval cut to values that the metric can have.
    pub fn within(mut self, info: &MetricInfo) -> Self {
        let (least, greatest) = info.range();
        self.interval.low = self.interval.low.max(least);
        self.interval.high = self.interval.high.min(greatest);
        self
    }
}

/// The mean over prompts with Student's t interval. A single prompt has no spread: its interval is the value.
pub fn mean(prompts: &[f64]) -> Option<Estimate> {
    let n = prompts.len();
    let value = average(prompts)?;
    let half = if n < 2 { 0.0 } else { t(n - 1) * (variance(prompts, value) / n as f64).sqrt() };
    Some(Estimate { value, interval: around(value, half), n })
}

/// The mean over prompts of shares in \[0, 1\] with Wilson's interval. With one sample a prompt the values are 0 and
/// 1 and it is the ordinary one. With several, the prompts' means spread less than 0 and 1 would, so Wilson's n is
/// the effective one: the number of independent 0/1 prompts with the same standard error (Korn & Graubard 1998,
/// Survey Methodology 24:193). At 0 and 1, where nothing spreads, n is the number of prompts.
pub fn share(prompts: &[f64]) -> Option<Estimate> {
    share_of(prompts, 1.0)
}

/// [`share`] of values that are no means of 0 and 1: with few prompts their spread is itself uncertain, so the effective n
/// is reduced to Student's quantile, (z / t)² (Korn & Graubard 1998).
fn continuous_share(prompts: &[f64]) -> Option<Estimate> {
    let reduced = if prompts.len() < 2 { 1.0 } else { normal_critical(CONFIDENCE) / t(prompts.len() - 1) };
    share_of(prompts, reduced.powi(2))
}

fn share_of(prompts: &[f64], reduced: f64) -> Option<Estimate> {
    let n = prompts.len();
    let value = average(prompts)?.clamp(0.0, 1.0);
    let binary = prompts.iter().all(|&prompt| prompt == 0.0 || prompt == 1.0);
    let spread = if n < 2 { 0.0 } else { variance(prompts, value) };
    let effective =
        if binary || spread == 0.0 { n as f64 } else { n as f64 * value * (1.0 - value) / spread * reduced };
    // The arguments are in range by construction.
    let interval = wilson(value * effective, effective, CONFIDENCE).ok()?;
    Some(Estimate { value, interval, n })
}

/// A statistic of the lengths of a whole run with the interval of the delete-a-group jackknife over prompts: completions
/// of one prompt stay together. They come grouped by prompt.
pub fn jackknife(
    completions: &[Completion],
    mut statistic: impl FnMut(&[Lifetime]) -> Option<f64>,
) -> Option<Estimate> {
    let prompts: Vec<&[Completion]> = completions.chunk_by(|a, b| a.prompt == b.prompt).collect();
    delete_a_group(&prompts, |prompts| {
        let lifetimes = prompts.iter().flat_map(|prompt| prompt.iter()).filter_map(|completion| completion.lifetime);
        statistic(&lifetimes.collect::<Vec<_>>())
    })
}

/// The statistic of all `units`, and its interval from leaving out one group of units after the other (Kott 2001,
/// *The Delete-a-Group Jackknife*, J. Official Statistics 17:521). Unit i belongs to group i mod 20.
pub fn delete_a_group<U>(units: &[U], statistic: impl FnMut(&[&U]) -> Option<f64>) -> Option<Estimate> {
    let mut statistic = statistic;
    let value = statistic(&units.iter().collect::<Vec<_>>())?;
    let groups = GROUPS.min(units.len());
    let without = |group: usize| -> Vec<&U> {
        units.iter().enumerate().filter(|(index, _)| index % groups != group).map(|(_, unit)| unit).collect()
    };
    let left: Vec<f64> = (0..groups).filter_map(|group| statistic(&without(group))).collect();
    Some(from_left_out(value, &left, units.len()))
}

/// The jackknife's interval, from the statistic without each group.
pub(crate) fn from_left_out(value: f64, left: &[f64], n: usize) -> Estimate {
    let half = match average(left) {
        Some(centre) if left.len() > 1 => {
            let g = left.len() as f64;
            let squares: f64 = left.iter().map(|value| (value - centre).powi(2)).sum();
            t(left.len() - 1) * (squares * (g - 1.0) / g).sqrt()
        }
        _ => 0.0,
    };
    Estimate { value, interval: around(value, half), n }
}

fn average(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// With n − 1.
fn variance(values: &[f64], mean: f64) -> f64 {
    values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (values.len() - 1) as f64
}

/// Student's quantile, cached: it is found by root search, and every metric of a slice needs the same one.
fn t(degrees_of_freedom: usize) -> f64 {
    thread_local! {
        static KNOWN: RefCell<HashMap<usize, f64>> = RefCell::default();
    }
    KNOWN.with_borrow_mut(|known| {
        *known
            .entry(degrees_of_freedom)
            .or_insert_with(|| student_quantile(0.5 + 0.5 * CONFIDENCE, degrees_of_freedom as f64))
    })
}

fn around(value: f64, half: f64) -> Interval {
    Interval { low: value - half, high: value + half }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binary_shares_have_the_ordinary_wilson_interval() {
        // 9 of 10: Wilson 1927, the textbook interval
        let mut values = vec![1.0; 9];
        values.push(0.0);
        let estimate = share(&values).expect("some");
        assert!((estimate.value - 0.9).abs() < 1e-12);
        assert!((estimate.interval.low - 0.595_850_0).abs() < 1e-6, "{estimate:?}");
        assert!((estimate.interval.high - 0.982_123_8).abs() < 1e-6, "{estimate:?}");
        let none = share(&[1.0; 20]).expect("some");
        assert!(none.interval.low < 0.9 && none.interval.high == 1.0);
        assert_eq!(share(&[]), None);
    }

    #[test]
    fn several_samples_a_prompt_narrow_the_interval_but_not_below_what_prompts_allow() {
        let clustered: Vec<f64> = (0..40).map(|i| if i % 4 == 0 { 0.0 } else { 1.0 }).collect();
        let averaged: Vec<f64> = (0..40).map(|i| if i % 2 == 0 { 0.7 } else { 0.8 }).collect();
        let (one, many) = (share(&clustered).expect("some"), share(&averaged).expect("some"));
        assert!((one.value - many.value).abs() < 1e-12);
        assert!(many.interval.width() < one.interval.width() / 3.0);
        // t interval of the same values: they agree where the normal approximation is good
        let plain = mean(&averaged).expect("some");
        assert!((plain.interval.width() - many.interval.width()).abs() < 0.2 * plain.interval.width());
    }

    #[test]
    fn intervals_hold_no_value_that_the_metric_cannot_have() {
        let interval =
            |id: &str, prompts: &[f64]| of_prompts(crate::find(id).expect("known"), prompts).expect("some").interval;
        for id in ["gold_nll", "eos_rank_gold", "zlib_ratio"] {
            let found = interval(id, &[0.1, 1.0]);
            assert!(found.low == 0.0 && found.high > 1.0, "{id}: {found:?}");
        }
        let log_prob = interval("eos_logp_gold", &[-0.1, -1.0]);
        assert!(log_prob.high == 0.0 && log_prob.low < -1.0, "{log_prob:?}");
    }

    /// Three prompts of a share that spreads little: a t interval would run from -77 % to 210 % where it spreads much.
    #[test]
    fn the_interval_of_a_share_is_made_of_shares() {
        let info = crate::find("seq_rep_4").expect("known");
        for prompts in [[0.0, 1.0, 1.0], [0.2, 0.9, 0.9], [0.0, 0.0, 0.03], [1.0, 0.99, 1.0], [0.5, 0.5, 0.5]] {
            let Estimate { value, interval, .. } = of_prompts(info, &prompts).expect("some");
            assert!(0.0 <= interval.low && interval.low <= value, "{prompts:?}: {interval:?}");
            assert!(value <= interval.high && interval.high <= 1.0, "{prompts:?}: {interval:?}");
        }
        // where the normal approximation is good it is Student's interval
        let many: Vec<f64> = (0..30).map(|i| 0.5 + 0.01 * f64::from(i % 7)).collect();
        let (bounded, plain) = (of_prompts(info, &many).expect("some"), mean(&many).expect("some"));
        assert!((bounded.interval.low - plain.interval.low).abs() < 1e-4, "{bounded:?} {plain:?}");
        assert!((bounded.interval.high - plain.interval.high).abs() < 1e-4, "{bounded:?} {plain:?}");
    }

    #[test]
    fn a_share_that_is_no_mean_of_zeros_and_ones_has_fewer_effective_prompts() {
        let info = crate::find("seq_rep_4").expect("known");
        // mean 2/3, variance 0.49/3: 3 · (2/9) / (0.49/3) = 4.081633 prompts, times (1.959964 / 4.302653)²
        let found = of_prompts(info, &[0.2, 0.9, 0.9]).expect("some");
        let effective = 4.081_632_653 * (1.959_963_985_f64 / 4.302_652_730).powi(2);
        let expected = wilson(2.0 / 3.0 * effective, effective, CONFIDENCE).expect("in range");
        assert!((found.interval.low - expected.low).abs() < 1e-8, "{found:?} {expected:?}");
        assert!((found.interval.high - expected.high).abs() < 1e-8, "{found:?} {expected:?}");
        let alone = of_prompts(info, &[0.25]).expect("some");
        assert_eq!(alone.interval, wilson(0.25, 1.0, CONFIDENCE).expect("in range"));
        assert_eq!(of_prompts(info, &[]), None);
        // mean 1/2, variance 1/8: 2 · (1/4) / (1/8) = 4 prompts, times (1.959964 / 12.706205)²
        let of_two = of_prompts(info, &[0.25, 0.75]).expect("some");
        let effective = 4.0 * (1.959_963_985_f64 / 12.706_204_736).powi(2);
        let expected = wilson(0.5 * effective, effective, CONFIDENCE).expect("in range");
        assert!((of_two.interval.low - expected.low).abs() < 1e-8, "{of_two:?} {expected:?}");
    }

    /// The spread of zeros and ones is known from their mean.
    #[test]
    fn means_of_zeros_and_ones_keep_all_their_effective_prompts() {
        let found = of_prompts(crate::find("eos_rate").expect("known"), &[0.2, 0.9, 0.9]).expect("some");
        let effective = 4.081_632_653; // as above
        let expected = wilson(2.0 / 3.0 * effective, effective, CONFIDENCE).expect("in range");
        assert!((found.interval.low - expected.low).abs() < 1e-8, "{found:?} {expected:?}");
        assert!((found.interval.high - expected.high).abs() < 1e-8, "{found:?} {expected:?}");
    }

    #[test]
    fn a_mean_has_students_interval() {
        // 1..5: mean 3, sd sqrt(2.5), t(4) = 2.776445
        let estimate = mean(&[1.0, 2.0, 3.0, 4.0, 5.0]).expect("some");
        assert!((estimate.interval.high - (3.0 + 2.776_445_1 * f64::sqrt(0.5))).abs() < 1e-6);
        assert_eq!(mean(&[7.0]).map(|e| e.interval.width()), Some(0.0));
    }

    #[test]
    fn the_jackknife_of_a_mean_is_its_t_interval() {
        let values: Vec<f64> = (0..20).map(|i| f64::from(i * i % 17)).collect();
        let by_group =
            delete_a_group(&values, |values| Some(values.iter().copied().sum::<f64>() / values.len() as f64));
        let (by_group, plain) = (by_group.expect("some"), mean(&values).expect("some"));
        assert!((by_group.interval.low - plain.interval.low).abs() < 1e-9);
    }

    #[test]
    fn the_jackknife_leaves_out_whole_prompts() {
        let lengths = [(0, 10), (0, 20), (1, 30), (1, 30), (2, 40), (2, 50)];
        let completions =
            lengths.map(|(prompt, tokens)| Completion { prompt, lifetime: Some(Lifetime { tokens, ended: true }) });
        let found = jackknife(&completions, |lifetimes| {
            let lengths: Vec<f64> = lifetimes.iter().map(|lifetime| f64::from(lifetime.tokens)).collect();
            average(&lengths)
        });
        let found = found.expect("some");
        assert_eq!((found.value, found.n), (30.0, 3));
        // without each prompt 37.5, 30 and 22.5: t(2) · sqrt(2/3 · 2 · 7.5²)
        assert!((found.interval.high - (30.0 + 37.262_066)).abs() < 1e-5, "{found:?}");
    }
}
