//! Cases small enough for pencil and paper, and the edges of every range.

use approx::assert_relative_eq;
use smpo_stats::binary::tango;
use smpo_stats::bootstrap::{Reach, acceleration, bca, means, quantile};
use smpo_stats::distribution::{normal_cdf, normal_quantile, student_quantile};
use smpo_stats::equivalence::student;
use smpo_stats::hierarchical::{Arm, Estimate, Options, Seeds, compare, mean};
use smpo_stats::multiplicity::{benjamini_hochberg, holm};
use smpo_stats::permutation::sign_flip;
use smpo_stats::power::{
    line_detectable, line_n, line_power, mcnemar_detectable, mcnemar_n, mcnemar_power, paired_mean_n, tango_n,
    tango_power,
};
use smpo_stats::proportion::wilson;
use smpo_stats::survival::{Observation, kaplan_meier};
use smpo_stats::{Interval, StatsError};

const OPTIONS: Options = Options { confidence: 0.9, resamples: 2_000, seed: 1 };

/// An arm of one value per seed and prompt.
fn arm(cells: &[Vec<f64>]) -> Arm<'_> {
    Arm { runs: cells.iter().map(|run| run.iter().map(std::slice::from_ref).collect()).collect() }
}

fn between(baseline: &[Vec<f64>], candidate: &[Vec<f64>], seeds: Seeds) -> Estimate {
    compare(&arm(baseline), &arm(candidate), seeds, OPTIONS).unwrap()
}

#[track_caller]
fn close(got: f64, expected: f64) {
    assert_relative_eq!(got, expected, epsilon = 1e-9, max_relative = 1e-9);
}

/// Nineteen zeros and a one: the mean's bootstrap is binomial, and its upper tail is longer than Student's.
fn one_in_twenty() -> Vec<f64> {
    (0..20).map(|i| f64::from(u8::from(i == 7))).collect()
}

#[test]
fn two_by_two_variance_components() {
    // run means 0 and 12, prompt means 5 and 7; mean squares over cells 36 (seeds), 1 (prompts), 1 (interaction)
    let found = mean(&arm(&[vec![0.0, 0.0], vec![10.0, 14.0]]), OPTIONS).unwrap();
    close(found.value, 6.0);
    close(found.standard_error, 6.0);
    close(found.seed_variance, 35.0);
    close(found.df, 1.0);
    // the same apart from the seeds' part, which is 1: its share of the interaction takes all of it
    let found = mean(&arm(&[vec![0.0, 0.0], vec![0.0, 4.0]]), OPTIONS).unwrap();
    assert_eq!((found.standard_error, found.seed_variance), (1.0, 0.0));
}

/// Prompts that are all alike leave Welch's test of the seeds' means (Welch 1947, Biometrika 34:28).
#[test]
fn independent_seeds_alone_are_welchs_test() {
    let same = |means: &[f64]| means.iter().map(|m| vec![*m; 5]).collect::<Vec<Vec<f64>>>();
    let found = between(&same(&[1.0, 2.0, 3.0]), &same(&[2.0, 4.0, 6.0, 8.0]), Seeds::Independent);
    close(found.value, 3.0);
    close(found.standard_error.powi(2), 1.0 / 3.0 + 20.0 / 3.0 / 4.0);
    close(found.seed_variance, 2.0);
    close(found.df, 216.0 / 53.0);
    assert!(found.greater < 0.06 && (found.less + found.greater - 1.0).abs() < 1e-12);
}

#[test]
fn an_arm_of_zeros_changes_nothing() {
    let candidate = vec![vec![1.0, 3.0, 2.5, 0.5], vec![2.0, 3.5, 4.0, 0.0]];
    let alone = mean(&arm(&candidate), OPTIONS).unwrap();
    let against = between(&[vec![0.0; 4]], &candidate, Seeds::Independent);
    let figures = |e: Estimate| [e.value, e.standard_error, e.seed_variance, e.df, e.two_sided];
    assert_eq!(figures(against), figures(alone));
}

#[test]
fn samples_count_as_their_mean() {
    let (samples, means) = ([[1.0, 2.0], [5.0, 5.0], [0.0, 3.0]], vec![vec![1.5, 5.0, 1.5]]);
    let found = mean(&Arm { runs: vec![samples.iter().map(|s| s.as_slice()).collect()] }, OPTIONS).unwrap();
    let expected = mean(&arm(&means), OPTIONS).unwrap();
    assert_eq!((found.value, found.standard_error), (expected.value, expected.standard_error));
}

#[test]
fn the_interval_is_students_where_the_replicates_are_not_wider() {
    let cells = vec![vec![0.1, 0.4, 0.3, 0.2, 0.5], vec![0.6, 0.9, 0.5, 0.8, 0.7], vec![1.1, 1.2, 1.0, 1.4, 1.3]];
    let found = mean(&arm(&cells), OPTIONS).unwrap();
    let reach = student_quantile(0.95, found.df) * found.standard_error;
    close(found.interval.low, found.value - reach);
    close(found.interval.high, found.value + reach);
}

#[test]
fn skewed_replicates_push_their_own_end_out() {
    // two of twenty above the mean at the 95th percentile, rescaled from the bootstrap's n to n − 1
    let expected = 0.05 + 0.1 * (20.0_f64 / 19.0).sqrt();
    let student = 0.05 - student_quantile(0.95, 19.0) * 0.05;
    let skewed = one_in_twenty();
    let (first, second) = ([0.0; 20].to_vec(), [100.0; 20].to_vec());
    let shifted = |by: f64| skewed.iter().map(|v| v + by).collect::<Vec<f64>>();
    // alone, and as a change between paired seeds that are themselves far apart
    let alone = mean(&arm(std::slice::from_ref(&skewed)), OPTIONS).unwrap();
    let paired = between(&[first, second], &[skewed.clone(), shifted(100.0)], Seeds::Paired);
    for found in [alone, paired] {
        assert!((found.interval.high - expected).abs() < 0.005, "{found:?}");
        close(found.interval.low, student);
    }
}

#[test]
fn equal_samples_of_a_prompt_count_as_one() {
    let skewed = one_in_twenty();
    let samples: Vec<[f64; 3]> = skewed.iter().map(|value| [*value; 3]).collect();
    let found = mean(&Arm { runs: vec![samples.iter().map(|s| s.as_slice()).collect()] }, OPTIONS).unwrap();
    let expected = mean(&arm(std::slice::from_ref(&skewed)), OPTIONS).unwrap();
    close(found.interval.low, expected.interval.low);
    close(found.interval.high, expected.interval.high);
}

#[test]
fn negated_values_mirror_the_interval() {
    let skewed = one_in_twenty();
    let negated: Vec<f64> = skewed.iter().map(|value| -value).collect();
    let [found, mirrored] = [skewed, negated].map(|values| mean(&arm(&[values]), OPTIONS).unwrap());
    close(mirrored.interval.low, -found.interval.high);
    close(mirrored.interval.high, -found.interval.low);
    assert_eq!((mirrored.less, mirrored.greater), (found.greater, found.less));
}

#[test]
fn arms_may_have_different_numbers_of_independent_seeds() {
    let many = vec![vec![1.0, 2.0]; 5];
    assert_eq!(between(&many, &vec![vec![2.0, 3.0]; 2], Seeds::Independent).value, 1.0);
    assert!(compare(&arm(&many), &arm(&vec![vec![2.0, 3.0]; 2]), Seeds::Paired, OPTIONS).is_err());
}

#[test]
fn without_spread_the_resampling_bounds_the_p_values() {
    for (level, less, greater) in [(1.0, 1.0, 1.0 / 101.0), (-1.0, 1.0 / 101.0, 1.0), (0.0, 1.0, 1.0)] {
        let found = mean(&arm(&vec![vec![level; 3]; 2]), Options { resamples: 100, ..OPTIONS }).unwrap();
        close(found.less, less);
        close(found.greater, greater);
        close(found.two_sided, (2.0 * less.min(greater)).min(1.0));
        assert_eq!((found.interval.low, found.interval.high), (level, level));
        assert_eq!(found.df, 1.0);
    }
}

#[test]
fn drawn_sign_patterns_never_give_a_p_value_of_zero() {
    // thirty equal differences: all signs alike are not drawn in 99 draws
    for (sign, less, greater) in [(1.0, 1.0, 0.01), (-1.0, 0.01, 1.0)] {
        let test = sign_flip(&[sign; 30], 99, 1).unwrap();
        assert_eq!((test.less, test.greater, test.two_sided, test.exact), (less, greater, 0.02, false));
    }
}

#[test]
fn sixteen_differences_are_tried_in_full_and_seventeen_drawn() {
    let exact = [15, 16, 17].map(|n| sign_flip(&vec![1.0; n], 10, 1).unwrap().exact);
    assert_eq!(exact, [true, true, false]);
    assert_eq!(sign_flip(&[1.0; 16], 10, 1).unwrap().greater, 1.0 / 65_536.0);
}

#[test]
fn sums_that_differ_by_rounding_are_the_same_sum() {
    // 1 + 2 − 3 and −1 − 2 + 3 sevenths of 1e8: not 0, and not equal
    let differences = [1.0, 2.0, -3.0].map(|part| part * (1e9 / 7.0) / 10.0);
    assert!(differences.iter().sum::<f64>() > 0.0);
    let test = sign_flip(&differences, 10, 1).unwrap();
    assert_eq!((test.less, test.greater), (0.625, 0.625));
}

#[test]
fn drawn_signs_are_fair_on_every_difference() {
    // one difference that outweighs the others decides the sign of the sum, whichever it is of more than a word's
    for place in [0, 3, 62, 63, 64, 69] {
        let mut differences = [0.001; 70];
        differences[place] = 1.0;
        let greater = sign_flip(&differences, 2_000, 5).unwrap().greater;
        // the sum is as large when the one keeps its sign and the others do: never in 2,000 draws
        assert!(greater < 0.01, "{place}: {greater}");
        differences.iter_mut().for_each(|d| *d *= if *d < 1.0 { -1.0 } else { 1.0 });
        let greater = sign_flip(&differences, 2_000, 5).unwrap().greater;
        assert!((0.45..0.55).contains(&greater), "{place}: {greater}");
    }
}

#[test]
fn without_cuts_the_restricted_mean_has_the_error_of_a_mean() {
    let times = [3.0, 5.0, 5.0, 9.0, 14.0];
    let curve = kaplan_meier(&times.map(|time| Observation { time, ended: true })).unwrap();
    let restricted = curve.restricted_mean(20.0);
    let variance = times.iter().map(|t| (t - 7.2_f64).powi(2)).sum::<f64>() / 5.0;
    close(restricted.mean, 7.2);
    close(restricted.standard_error, (variance / 5.0).sqrt());
    let last = curve.steps.last().unwrap();
    assert_eq!((last.survival, last.standard_error, last.hazard), (0.0, 0.0, 1.0));
    assert_eq!(curve.restricted_mean(2.0).mean, 2.0);
    assert_eq!(curve.restricted_mean(-1.0).mean, 0.0);
}

#[test]
fn a_curve_steps_only_where_something_ended() {
    let seen = [(2.0, true), (4.0, false), (6.0, true), (8.0, false)];
    let curve = kaplan_meier(&seen.map(|(time, ended)| Observation { time, ended })).unwrap();
    let steps: Vec<_> = curve.steps.iter().map(|s| (s.time, s.at_risk, s.ended, s.survival)).collect();
    assert_eq!(steps, [(2.0, 4, 1, 0.75), (6.0, 2, 1, 0.375)]);
    assert_eq!(curve.last, 8.0);
    assert_eq!([1.9, 2.0, 5.9, 6.0, 99.0].map(|t| curve.at(t)), [1.0, 0.75, 0.75, 0.375, 0.375]);
}

#[test]
fn the_interval_of_a_curve_has_no_width_at_one_and_zero() {
    let curve = kaplan_meier(&[1.0, 2.0].map(|time| Observation { time, ended: true })).unwrap();
    let ends = |time| {
        let interval = curve.interval_at(time, 0.95).unwrap();
        (interval.low, interval.high)
    };
    assert_eq!((ends(0.5), ends(2.0)), ((1.0, 1.0), (0.0, 0.0)));
    let (low, high) = ends(1.0);
    assert!(0.0 < low && low < 0.5 && 0.5 < high && high < 1.0, "steps count from their own time on");
}

#[test]
fn without_error_equivalence_is_decided_by_the_estimate() {
    let tails = |estimate| {
        let test = student(estimate, 0.0, 5.0, 1.0);
        (test.lower, test.upper)
    };
    assert_eq!((tails(0.5), tails(1.0), tails(-1.0)), ((0.0, 0.0), (0.0, 1.0), (1.0, 0.0)));
}

#[test]
fn an_interval_holds_its_ends_and_nothing_beyond() {
    let interval = Interval { low: -1.0, high: 2.0 };
    assert_eq!([-1.5, -1.0, 0.0, 2.0, 2.5].map(|v| interval.contains(v)), [false, true, true, true, false]);
    assert_eq!(interval.width(), 3.0);
}

#[test]
fn a_column_of_ones_has_replicates_of_one_whatever_its_length() {
    for n in [2, 511, 512, 513, 1_500] {
        assert!(means(&[&vec![1.0; n]], 20, 3).unwrap()[0].iter().all(|mean| *mean == 1.0), "{n}");
    }
}

#[test]
fn every_prompt_is_drawn_as_often_as_the_others() {
    let identity: Vec<Vec<f64>> = (0..9).map(|i| (0..9).map(|j| f64::from(u8::from(i == j))).collect()).collect();
    let columns: Vec<&[f64]> = identity.iter().map(Vec::as_slice).collect();
    for replicates in means(&columns, 4_000, 3).unwrap() {
        let share = replicates.iter().sum::<f64>() / 4_000.0;
        assert!((share - 1.0 / 9.0).abs() < 0.008, "{share}");
    }
}

#[test]
fn replicates_equal_to_the_estimate_count_half() {
    let interval = bca(0.0, &[-1.0, 0.0, 0.0, 0.0, 0.0, 1.0], 0.0, 0.9, Reach::Normal).unwrap();
    close(interval.low, -interval.high);
    assert!(interval.high > 0.0);
}

#[test]
fn an_estimate_beyond_its_replicates_leaves_the_nearest_of_them() {
    let replicates: Vec<f64> = (0..100).map(f64::from).collect();
    for (estimate, inside) in [(1_000.0, 98.0..99.0), (-1_000.0, 0.0..1.0)] {
        let interval = bca(estimate, &replicates, 0.0, 0.95, Reach::Normal).unwrap();
        let end = if estimate > 0.0 { interval.low } else { interval.high };
        assert!(inside.contains(&end) && end.fract() != 0.0, "{interval:?}");
    }
}

#[test]
fn past_the_pole_of_the_acceleration_the_end_is_the_extreme() {
    let replicates: Vec<f64> = (0..100).map(f64::from).collect();
    assert_eq!(bca(49.5, &replicates, 1.0, 0.95, Reach::Normal).unwrap().high, 99.0);
    assert_eq!(bca(49.5, &replicates, -1.0, 0.95, Reach::Normal).unwrap().low, 0.0);
}

#[test]
fn the_expanded_interval_reaches_to_students_quantile_and_the_factor_that_the_bootstrap_lacks() {
    let replicates: Vec<f64> = (0..=1_000).map(f64::from).collect();
    // n = 5: t of 4 degrees of freedom at 95 % is 2.13185 in any table
    let reach = 2.131_846_786_327 * 1.25_f64.sqrt();
    let expanded = bca(500.0, &replicates, 0.0, 0.9, Reach::Expanded { n: 5 }).unwrap();
    close(expanded.high, 1_000.0 * normal_cdf(reach));
    assert!(bca(500.0, &replicates, 0.0, 0.9, Reach::Expanded { n: 0 }).is_ok());
}

#[test]
fn values_without_spread_have_no_acceleration() {
    assert_eq!(acceleration(&[3.0; 4]), 0.0);
}

#[test]
fn quantiles_clamp_their_level() {
    let sorted = [1.0, 2.0, 4.0];
    assert_eq!([-0.5, 0.0, 0.25, 0.75, 1.0, 2.0].map(|p| quantile(&sorted, p)), [1.0, 1.0, 1.5, 3.0, 4.0, 4.0]);
    assert_eq!([0.0, 1.0].map(normal_quantile), [f64::NEG_INFINITY, f64::INFINITY]);
    assert_eq!(student_quantile(0.5, 3.0), 0.0);
}

/// One degree of freedom is Cauchy's distribution, tan(π(p − ½)); two have (2p − 1)/√(2p(1 − p)).
#[test]
fn students_quantiles_are_found_far_out() {
    for upper in [0.3, 0.025, 1e-4, 1e-9] {
        let p = 1.0 - upper;
        assert_relative_eq!(student_quantile(p, 1.0), 1.0 / (std::f64::consts::PI * upper).tan(), max_relative = 1e-6);
        assert_relative_eq!(student_quantile(p, 2.0), (2.0 * p - 1.0) / (2.0 * p * upper).sqrt(), max_relative = 1e-6);
        assert_relative_eq!(
            student_quantile(upper, 1.0),
            -1.0 / (std::f64::consts::PI * upper).tan(),
            max_relative = 1e-6
        );
    }
    assert!(student_quantile(1.0, 1.0) > 1e11, "an end is found for all");
}

#[test]
fn a_test_that_was_not_computed_rejects_nothing() {
    assert_eq!(holm(&[0.01, f64::NAN, 0.03]), [0.03, 1.0, 0.06]);
    assert_eq!(benjamini_hochberg(&[0.01, f64::NAN, 0.02]), [0.03, 1.0, 0.03]);
}

#[test]
fn levels_shares_and_distances_at_the_edges_of_their_ranges_are_refused() {
    for edge in [0.0, 1.0] {
        assert!(mcnemar_n(0.1, 0.0, edge, 0.8).is_err() && mcnemar_n(0.1, 0.0, 0.05, edge).is_err());
        assert!(mcnemar_power(0.1, 0.0, 10, edge).is_err() && mcnemar_detectable(0.1, 10, 0.05, edge).is_err());
        assert!(line_detectable(1.0, edge, 0.8).is_err() && line_detectable(1.0, 0.05, edge).is_err());
        assert!(line_n(1.0, 1.0, edge, 0.8).is_err() && line_n(1.0, 1.0, 0.05, edge).is_err());
        assert!(paired_mean_n(1.0, edge, 0.8).is_err() && paired_mean_n(1.0, 0.05, edge).is_err());
        assert!(line_power(1.0, 1.0, edge).is_err() && tango_power(0.1, 0.1, 0.1, 9, edge).is_err());
        assert!(tango_n(0.1, 0.1, 0.1, 0.05, edge).is_err() && tango(1.0, 1.0, 9.0, edge).is_err());
    }
    for bad in [-0.1, f64::INFINITY, f64::NAN] {
        assert!(line_n(bad, 1.0, 0.05, 0.8).is_err() && line_n(1.0, bad, 0.05, 0.8).is_err(), "{bad}");
        assert!(line_power(bad, 1.0, 0.05).is_err() && tango(0.0, bad, 5.0, 0.95).is_err(), "{bad}");
        assert!(mcnemar_detectable(bad, 9, 0.05, 0.8).is_err() && tango_power(0.1, 0.1, bad, 9, 0.05).is_err());
    }
    assert!(mcnemar_n(0.1, 0.1, 0.05, 0.8).is_err() && paired_mean_n(0.0, 0.05, 0.8).is_err());
    assert!(tango_power(0.1, 0.1, 0.1, 0, 0.05).is_err());
    assert!(tango(5.0, 5.0, 10.0, 0.95).is_ok() && tango(5.0, 5.1, 10.0, 0.95).is_err());
    let error = tango(5.0, 5.5, 10.0, 0.95).unwrap_err();
    assert_eq!(error, StatsError::OutOfRange { what: "discordant pairs", expected: "at most n", got: 10.5 });
    for n in [0.0, f64::INFINITY] {
        assert!(tango(0.0, 0.0, n, 0.95).is_err() && wilson(0.0, n, 0.95).is_err(), "{n}");
    }
    let with = |resamples| Options { resamples, ..OPTIONS };
    assert!(mean(&arm(&[vec![1.0; 2]]), with(99)).is_err() && mean(&arm(&[vec![1.0]]), OPTIONS).is_err());
}

#[test]
fn a_whole_number_of_prompts_is_not_rounded_up() {
    let z = normal_quantile(0.95) + normal_quantile(0.8);
    for n in [1.0, 10.0, 337.0] {
        assert_eq!(line_n(n / (z * z), 1.0, 0.05, 0.8).unwrap(), n as usize);
    }
    assert_eq!(line_n(0.0, 1.0, 0.05, 0.8).unwrap(), 1);
}

#[test]
fn power_where_nothing_varies_is_all_or_nothing() {
    // every prompt is won: three of them exceed the critical value of 1.645 standard errors, two do not
    assert_eq!([2, 3].map(|n| mcnemar_power(0.0, 1.0, n, 0.05).unwrap()), [0.0, 1.0]);
    assert_eq!(mcnemar_power(0.0, 0.0, 10, 0.05).unwrap(), 0.0, "no discordant pair shows nothing");
    assert_eq!([-1.0, 0.0, 1.0].map(|d| line_power(0.0, d, 0.05).unwrap()), [0.0, 0.0, 1.0]);
    // every prompt lost or won, on few and on many prompts
    for n in [9, 200] {
        let power = |lost, won| tango_power(lost, won, 0.5, n, 0.05).unwrap();
        assert_eq!((power(1.0, 0.0), power(0.0, 1.0)), (0.0, 1.0), "{n}");
        assert_eq!(tango_power(1.0, 0.0, 1.0, n, 0.05).unwrap(), 0.0, "{n}");
    }
}

#[test]
fn a_truth_on_the_margin_passes_as_often_as_the_test_errs() {
    let power = tango_power(0.4, 0.3, 0.1, 2_000, 0.05).unwrap();
    assert!((power - 0.05).abs() < 0.002, "{power}");
    assert_eq!(tango_n(0.05, 0.01, 0.04, 0.05, 0.03).unwrap(), None, "more prompts change nothing there");
}

/// No discordant pair is expected: the score of none is above z on n > z²(1 − margin)/margin prompts, z = 1.64485.
#[test]
fn no_plan_is_below_two_prompts() {
    // by the formula 0.68, 1.80, 2.04, 2.71, 4.06
    for (margin, expected) in [(0.8, 2), (0.6, 2), (0.57, 3), (0.5, 3), (0.4, 5)] {
        assert_eq!(tango_n(0.0, 0.0, margin, 0.05, 0.8).unwrap(), Some(expected), "{margin}");
    }
}

#[test]
fn more_prompts_than_are_planned_for_are_no_plan() {
    assert_eq!(tango_n(0.25, 0.25, 1e-5, 0.05, 0.8).unwrap(), None);
    assert!(tango_n(0.25, 0.25, 6e-4, 0.05, 0.8).unwrap().is_some_and(|n| (8_388_608..10_000_000).contains(&n)));
}
