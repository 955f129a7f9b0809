//! The numbers of verdicts: each shape of data is given to the method that it should be, and planned for by hand.

mod runs;

use runs::{Build, ones_first, run};
use smpo_gate::{DecideOptions, Policy, Run, decide};
use smpo_results::{ClaimScope, Decision, MetricVerdict, Verdict};
use smpo_stats::binary::{tango, tango_z};
use smpo_stats::distribution::{normal_cdf, normal_quantile, student_cdf};
use smpo_stats::hierarchical::{self, Arm, Estimate, Options, Seeds};
use smpo_stats::permutation::sign_flip;
use smpo_stats::power::{line_power, mcnemar_detectable, mcnemar_n, tango_n, tango_power};
use smpo_stats::proportion::wilson;
use smpo_stats::{Interval, equivalence, multiplicity};

const ALPHA: f64 = 0.05;
const POWER: f64 = 0.8;
const RESAMPLES: usize = 2_000;
const SEED: u64 = 42;
const RESAMPLING: Options = Options { confidence: 0.9, resamples: RESAMPLES, seed: SEED };

fn policy(rules: &str) -> Policy {
    Policy::parse("test.toml", &format!("name = \"test\"\nmin_n = 20\nresamples = {RESAMPLES}\n{rules}")).unwrap()
}

fn rule(metric: &str, require: &str) -> String {
    format!("[[metric]]\nid = \"{metric}\"\nrequire = {{ {require} }}\n")
}

fn verdict(rules: &str, baseline: Vec<Run>, candidate: Vec<Run>) -> Verdict {
    decide(&policy(rules), baseline, candidate, DecideOptions { seed: SEED, ..Default::default() }).unwrap()
}

/// The verdict of one rule on arms of these samples.
fn row(metric: &str, require: &str, baseline: &[Vec<f64>], candidate: &[Vec<f64>]) -> MetricVerdict {
    let arm = |name: &str, values: &[Vec<f64>]| vec![run(name).with_samples(metric, values.to_vec())];
    verdict(&rule(metric, require), arm("a", baseline), arm("b", candidate)).metrics.remove(0)
}

fn single(values: impl IntoIterator<Item = f64>) -> Vec<Vec<f64>> {
    values.into_iter().map(|value| vec![value]).collect()
}

/// 0/1 answers of two arms: one in both, in the first only, in the second only, in neither.
fn pairs(both: usize, first: usize, second: usize, neither: usize) -> (Vec<Vec<f64>>, Vec<Vec<f64>>) {
    let cells = [(both, 1.0, 1.0), (first, 1.0, 0.0), (second, 0.0, 1.0), (neither, 0.0, 0.0)];
    cells.into_iter().flat_map(|(count, a, b)| std::iter::repeat_n((vec![a], vec![b]), count)).unzip()
}

#[track_caller]
fn close(got: f64, expected: f64, tolerance: f64) {
    assert!((got - expected).abs() <= tolerance, "{got} is not {expected}");
}

#[track_caller]
fn spans(row: &MetricVerdict, interval: Interval) {
    close(row.ci_low.unwrap(), interval.low, 1e-12);
    close(row.ci_high.unwrap(), interval.high, 1e-12);
}

/// Fifty values with this mean and a standard error of ½: mean ± 3.5.
fn nats(mean: f64) -> Vec<Vec<f64>> {
    single((0..50).map(|i| if i % 2 == 0 { mean + 3.5 } else { mean - 3.5 }))
}

#[test]
fn a_superiority_of_shares_is_tested_at_its_margin() {
    // 10 losses and 20 gains of 100; the error of the difference has one more pair than seen: √((31/102 − 0.01) / 100)
    let (a, b) = pairs(60, 10, 20, 10);
    for found in [row("eos_rate", "superior = 0.05", &a, &b), row("loop_rate", "superior = 0.05", &b, &a)] {
        assert_eq!(found.verdict, Decision::Inconclusive);
        close(found.p_harm.unwrap(), normal_cdf(tango_z(10.0, 20.0, 100.0, 0.05)), 1e-12);
        close(found.detectable.unwrap(), 2.486_474_9 * 0.054_214_5, 1e-6);
        assert_eq!(found.n_needed, Some(727)); // 6.182557 · 0.293922 / 0.05²
        assert_eq!(found.power, None);
    }
}

#[test]
fn pairs_are_planned_with_one_more_discordant_prompt_than_was_seen() {
    let share = |count: usize| (count as f64 + 0.5) / 82.0;
    for (first, second, margin) in [(5, 6, 0.05), (8, 5, 0.05), (9, 5, 0.05), (9, 5, 0.03)] {
        let (a, b) = pairs(50 - first, first, second, 30 - second);
        let (lost, won) = (share(first), share(second));
        let half = 0.5 * (lost + won);
        let needed = match second as f64 - first as f64 {
            gain if gain >= 0.0 => tango_n(half, half, margin, ALPHA, POWER).unwrap(),
            gain if gain / 80.0 > -margin => tango_n(lost, won, margin, ALPHA, POWER).unwrap(),
            _ => Some(mcnemar_n(lost, won, ALPHA, POWER).unwrap()),
        };
        let require = format!("non_inferior = {margin}");
        // a metric that is better lower, with the arms exchanged, is the same question
        for found in [row("eos_rate", &require, &a, &b), row("loop_rate", &require, &b, &a)] {
            assert_eq!((found.verdict, found.n_needed), (Decision::Inconclusive, needed), "{first} {second}");
            close(found.power.unwrap(), tango_power(half, half, margin, 80, ALPHA).unwrap(), 1e-12);
            let detectable = mcnemar_detectable(lost + won, 80, ALPHA, POWER).unwrap();
            close(found.detectable.unwrap(), detectable.unwrap(), 1e-12);
        }
    }
}

#[test]
fn equivalence_of_pairs_shares_its_alpha_and_its_risk_between_two_ends() {
    let (a, b) = pairs(200, 18, 20, 62);
    let found = row("eos_rate", "equivalent = 0.06", &a, &b);
    let half = 0.5 * (18.5 + 20.5) / 302.0;
    let one_side = tango_power(half, half, 0.06, 300, ALPHA).unwrap();
    assert!(one_side > 0.5);
    close(found.power.unwrap(), 2.0 * one_side - 1.0, 1e-12);
    close(found.p_equivalence.unwrap(), equivalence::tango(18.0, 20.0, 300.0, 0.06).p(), 1e-12);
    close(found.p_harm.unwrap(), found.p.unwrap(), 1e-12);
    let detectable = mcnemar_detectable(2.0 * half, 300, ALPHA / 2.0, POWER).unwrap();
    close(found.detectable.unwrap(), detectable.unwrap(), 1e-12);
    // an interval that reaches out on one side alone is no equivalence, whichever it is
    for (first, second) in [(10, 28), (28, 10)] {
        let (a, b) = pairs(200, first, second, 62);
        assert_eq!(row("eos_rate", "equivalent = 0.08", &a, &b).verdict, Decision::Inconclusive);
    }
    // too few for any power
    let (a, b) = pairs(10, 4, 4, 10);
    assert_eq!(row("eos_rate", "equivalent = 0.02", &a, &b).power, Some(0.0));
}

/// (z₀.₉₅ + z₀.₈)² = 6.182557; for two ends at half the risk 8.563847, for a change either way 7.848880. The variance of
/// one difference is 12.5.
#[test]
fn prompts_are_planned_by_the_distance_from_the_line() {
    let zero = single([0.0; 50]);
    for (require, mean, needed) in [
        ("non_inferior = 0.5", 0.1, Some(310)),  // the margin
        ("non_inferior = 0.5", 0.0, Some(310)),  // the margin
        ("non_inferior = 0.5", -0.2, Some(859)), // 0.3 up to it
        ("non_inferior = 0.5", -0.5, Some(310)), // 0.5 down to no difference
        ("non_inferior = 0.5", -0.75, Some(138)),
        ("superior = 0.5", 0.1, Some(484)),
        ("superior = 0.5", 0.5, None),
        ("equivalent = 0.5", 0.1, Some(670)),
        ("equivalent = 0.5", 0.5, Some(393)),
        ("equivalent = 0.5", 0.75, Some(175)),
        ("at_least = -0.3", 0.1, Some(484)),
        ("at_most = 0.5", 0.1, Some(484)),
        ("at_most = 0.25", 0.25, None),
    ] {
        let found = row("eos_logp_gold", require, &zero, &nats(mean));
        assert_eq!((found.verdict, found.n_needed), (Decision::Inconclusive, needed), "{require} {mean}");
        assert_eq!(found.reason.contains("the estimate lies on the line"), needed.is_none(), "{}", found.reason);
        let z = if require.starts_with("equivalent") { 2.801_585 } else { 2.486_475 };
        close(found.detectable.unwrap(), z * 0.5, 1e-5);
    }
}

#[test]
fn power_is_that_of_equal_arms() {
    let zero = single([0.0; 50]);
    let power = |require: &str| row("eos_logp_gold", require, &zero, &nats(0.1)).power;
    let one_side = |margin| line_power(0.5, margin, ALPHA).unwrap();
    close(power("non_inferior = 0.5").unwrap(), one_side(0.5), 1e-9);
    close(power("equivalent = 1.5").unwrap(), 2.0 * one_side(1.5) - 1.0, 1e-9);
    assert_eq!((power("non_inferior = 0"), power("superior = 0.5"), power("at_least = 0")), (None, None, None));
}

#[test]
fn differences_over_prompts_are_tested_by_their_signs() {
    let zero = single([0.0; 50]);
    let found = row("eos_logp_gold", "superior = 0.5", &zero, &nats(0.1));
    let at = |line: f64| {
        let differences: Vec<f64> = by_slice(&nats(0.1)).map(|v| v[0] - line).collect();
        sign_flip(&differences, RESAMPLES, SEED).unwrap()
    };
    assert_eq!((found.p, found.p_harm), (Some(at(0.0).two_sided), Some(at(0.5).less)));
    assert_ne!(at(0.0).less, at(0.5).less);
    let found = row("eos_logp_gold", "equivalent = 0.5", &zero, &nats(0.1));
    close(found.p_equivalence.unwrap(), student_cdf(-0.8, 49.0), 1e-9);
    close(found.p_harm.unwrap(), (2.0 * at(0.0).greater).min(1.0), 1e-12);
}

#[test]
fn a_mean_is_tested_against_its_bound_by_students_t() {
    let zero = single([0.0; 50]);
    let p = |require| row("eos_logp_gold", require, &zero, &nats(0.1)).p_harm.unwrap();
    close(p("at_least = 0.4"), student_cdf(-0.6, 49.0), 1e-9);
    close(p("at_most = -0.3"), student_cdf(-0.8, 49.0), 1e-9);
    // no spread at all
    let same = single([-0.5; 50]);
    for (require, p, decision) in [
        ("at_least = -0.5", 1.0, Decision::Pass),
        ("at_most = -0.5", 1.0, Decision::Pass),
        ("at_least = -0.25", 0.0, Decision::Fail),
        ("at_most = -0.75", 0.0, Decision::Fail),
    ] {
        let found = row("eos_logp_gold", require, &zero, &same);
        assert_eq!((found.p_harm, found.verdict), (Some(p), decision), "{require}");
    }
}

#[test]
fn a_share_is_tested_against_its_bound_by_its_score() {
    let found = |metric, require, ones| row(metric, require, &single([0.0; 100]), &single(ones_first(ones, 100)));
    for found in [found("eos_rate", "at_least = 0.95", 93), found("loop_rate", "at_most = 0.05", 7)] {
        close(found.p_harm.unwrap(), normal_cdf(-0.02 / (0.95_f64 * 0.05 / 100.0).sqrt()), 1e-9);
        // one more of both kinds than was seen: 94 of 102
        close(found.detectable.unwrap(), 2.486_474_9 * 0.026_884_9, 1e-6);
        assert_eq!(found.n_needed, Some(1_118));
    }
    spans(&found("eos_rate", "at_least = 0.95", 93), wilson(93.0, 100.0, 0.9).unwrap());
}

/// A bootstrap of shares underestimates rare changes: fewer than twenty go to the score interval.
#[test]
fn shares_of_several_samples_change_their_method_at_twenty_prompts() {
    let halves = |changed: usize| (0..100).map(|i| vec![1.0, f64::from(u8::from(i >= changed))]).collect::<Vec<_>>();
    let ends = halves(0);
    for (changed, relative, absolute) in [(19, "Tango", "Wilson"), (20, "BCa", "BCa")] {
        let found = row("eos_rate", "equivalent = 0.12", &ends, &halves(changed));
        assert!(found.test.contains(relative), "{changed}: {}", found.test);
        let fell = 0.5 * changed as f64;
        let (mean, n) = (-fell / 100.0, 100.0);
        let error = ((fell * 0.5 - n * mean * mean) / 99.0 / n).sqrt();
        let p = match changed {
            19 => equivalence::tango(fell, 0.0, n, 0.12).p(),
            _ => equivalence::student(mean, error, 99.0, 0.12).p(),
        };
        close(found.p_equivalence.unwrap(), p, 1e-9);
        let detectable = match changed {
            // half a prompt more of either kind than differ
            19 => mcnemar_detectable((fell + 1.0) / (n + 2.0), 100, 0.5 * ALPHA, POWER).unwrap().unwrap(),
            _ => 2.801_585 * error,
        };
        close(found.detectable.unwrap(), detectable, 1e-6);
        assert!(found.test.starts_with("sign-flip permutation; "), "{}", found.test);
        assert_eq!(found.baseline, Some(1.0));
        close(found.candidate.unwrap(), 1.0 + mean, 1e-12);
        if changed < 20 {
            spans(&found, tango(fell, 0.0, n, 0.9).unwrap());
        }
        // prompts that differ from the commoner extreme, which is one end or the other
        let turned: Vec<Vec<f64>> = halves(changed).iter().map(|v| v.iter().map(|x| 1.0 - x).collect()).collect();
        for (values, sum) in [(halves(changed), n - fell), (turned, fell)] {
            let found = row("eos_rate", "at_least = 0.5", &ends, &values);
            assert!(found.test.contains(absolute), "{changed}: {}", found.test);
            assert!(found.test.starts_with("t test against the bound; "), "{}", found.test);
            if changed < 20 {
                spans(&found, wilson(sum, n, 0.9).unwrap());
                // one more of both kinds than was seen
                let share = (sum + 1.0) / (n + 2.0);
                close(found.detectable.unwrap(), 2.486_474_9 * (share * (1.0 - share) / n).sqrt(), 1e-6);
            }
        }
    }
    // rises and falls are kept apart
    let (fell, rose) = (halves(6), (0..100).map(|i| vec![1.0, f64::from(u8::from(i < 90))]).collect::<Vec<_>>());
    spans(&row("eos_rate", "non_inferior = 0.1", &fell, &rose), tango(5.0, 3.0, 100.0, 0.9).unwrap());
}

#[test]
fn shares_that_did_not_move_still_have_an_error() {
    let same: Vec<Vec<f64>> = vec![vec![1.0, 1.0]; 100];
    // planned for as for one answer a prompt: half a prompt of either kind differs
    let found = row("eos_rate", "non_inferior = 0.02", &same, &same);
    let expected = mcnemar_detectable(1.0 / 102.0, 100, ALPHA, POWER).unwrap();
    assert_eq!(
        (found.detectable, found.power),
        (expected, tango_power(0.5 / 102.0, 0.5 / 102.0, 0.02, 100, ALPHA).ok())
    );
    // half of the answers to each prompt: the least variance of a share is 1/102/20
    let same: Vec<Vec<f64>> = vec![vec![1.0, 0.0]; 100];
    let found = row("eos_rate", "at_least = 0.505", &same, &same);
    close(found.p_harm.unwrap(), student_cdf(-0.005 / (1.0_f64 / 102.0 / 20.0 / 100.0).sqrt(), 99.0), 1e-9);
    let same = single([0.25; 100]);
    close(row("eos_logp_gold", "non_inferior = 0.02", &same, &same).detectable.unwrap(), 0.0, 0.0);
}

fn over_seeds(metric: &str, arm: &str, runs: &[Vec<f64>]) -> Vec<Run> {
    let one = |(seed, values): (usize, &Vec<f64>)| run(arm).seed(arm, seed as u64).with(metric, values.iter().copied());
    runs.iter().enumerate().map(one).collect()
}

/// Prompts in the order of their slices: even ones, then odd ones.
fn by_slice<T>(prompts: &[T]) -> impl Iterator<Item = &T> {
    prompts.iter().step_by(2).chain(prompts.iter().skip(1).step_by(2))
}

fn arm(runs: &[Vec<f64>]) -> Arm<'_> {
    Arm { runs: runs.iter().map(|run| by_slice(run).map(std::slice::from_ref).collect()).collect() }
}

/// Three seeds of a value that varies by prompt and seed.
fn varied(level: f64, apart: f64) -> Vec<Vec<f64>> {
    let value = |s: usize, p: usize| level + apart * s as f64 + ((p * 7919 + s * 104_729) % 1_000) as f64 / 1_000.0;
    (0..3).map(|s| (0..60).map(|p| value(s, p)).collect()).collect()
}

#[track_caller]
fn is_the_estimate(row: &MetricVerdict, expected: &Estimate) {
    spans(row, expected.interval);
    close(row.candidate.unwrap() - row.baseline.unwrap_or(0.0), expected.value, 1e-12);
}

#[test]
fn several_seeds_are_the_hierarchical_comparison() {
    let (before, after) = (varied(0.0, 0.1), varied(-0.2, 0.1));
    let rules = rule("eos_logp_gold", "non_inferior = 0.1");
    let arms = || (over_seeds("eos_logp_gold", "a", &before), over_seeds("eos_logp_gold", "b", &after));
    let (a, mut b) = arms();
    let paired = hierarchical::compare(&arm(&before), &arm(&after), Seeds::Paired, RESAMPLING).unwrap();
    let found = verdict(&rules, a, b).metrics.remove(0);
    is_the_estimate(&found, &paired);
    close(found.p.unwrap(), paired.two_sided, 1e-12);
    close(found.p_harm.unwrap(), paired.less, 1e-12);
    // a seed that the other arm does not share: drawn apart
    let a = arms().0;
    b = arms().1;
    b[2].manifest.model.training_seed = Some(9);
    let apart = hierarchical::compare(&arm(&before), &arm(&after), Seeds::Independent, RESAMPLING).unwrap();
    assert_ne!(apart.interval, paired.interval);
    is_the_estimate(&verdict(&rules, a, b).metrics[0], &apart);
}

#[test]
fn seeds_that_differ_too_much_need_more_seeds() {
    let after = |apart| over_seeds("eos_logp_gold", "b", &varied(0.0, apart));
    let before = || vec![run("a").with("eos_logp_gold", vec![0.5; 60])];
    let rules = rule("eos_logp_gold", "non_inferior = 0.2");
    let wild = verdict(&rules, before(), after(0.5)).metrics.remove(0);
    assert!(wild.n_needed.is_none() && wild.reason.contains("the training seeds differ too much"), "{}", wild.reason);

    // the seeds' part of the error stays, whatever the number of prompts
    let tame = varied(0.0, 0.05);
    let found = verdict(&rule("eos_logp_gold", "superior = 0"), before(), after(0.05)).metrics.remove(0);
    let expected = hierarchical::compare(&arm(&[vec![0.5; 60]]), &arm(&tame), Seeds::Independent, RESAMPLING).unwrap();
    let z = 2.486_474_9;
    let left = (expected.value / z).powi(2) - expected.seed_variance;
    let needed = 60.0 * (expected.standard_error.powi(2) - expected.seed_variance) / left;
    assert!(expected.seed_variance > 0.0 && needed > 500.0, "{expected:?}");
    assert_eq!((found.verdict, found.n_needed), (Decision::Inconclusive, Some(needed.ceil() as usize)));
    close(found.detectable.unwrap(), z * expected.standard_error, 1e-6);
}

#[test]
fn seeds_that_all_agree_are_no_proof() {
    let ones = vec![vec![1.0; 200]; 3];
    let arms = || (over_seeds("eos_rate", "a", &ones), over_seeds("eos_rate", "b", &ones));
    let (a, b) = arms();
    let found = verdict(&rule("eos_rate", "equivalent = 0.03"), a, b).metrics.remove(0);
    spans(&found, tango(0.0, 0.0, 200.0, 0.9).unwrap());
    // the least variance of a share, 1/202/20, over 200 prompts
    let error = (1.0_f64 / 202.0 / 20.0 / 200.0).sqrt();
    // and for planning one prompt of 200 that differs
    close(found.detectable.unwrap(), 2.801_585 * (1.0_f64 / 202.0 / 200.0).sqrt(), 1e-8);
    close(found.p_equivalence.unwrap(), equivalence::student(0.0, error, 2.0, 0.03).p(), 1e-12);
    let (a, b) = arms();
    let found = verdict(&rule("eos_rate", "at_least = 0.9"), a, b).metrics.remove(0);
    spans(&found, wilson(200.0, 200.0, 0.9).unwrap());
    close(found.p_harm.unwrap(), student_cdf(0.1 / error, 2.0), 1e-12);
}

/// Only shares with few changes are widened to the score interval.
#[test]
fn seeds_of_one_arm_are_the_hierarchical_mean() {
    let shares = |ones: usize| vec![ones_first(ones, 100).collect(), ones_first(ones - 5, 100).collect()];
    for (metric, values) in [("eos_logp_gold", varied(0.0, 0.1)), ("eos_rate", shares(60))] {
        let expected = hierarchical::mean(&arm(&values), RESAMPLING).unwrap();
        let b = over_seeds(metric, "b", &values);
        let found = verdict(&rule(metric, "at_least = 0.3"), over_seeds(metric, "a", &values), b).metrics.remove(0);
        is_the_estimate(&found, &expected);
    }
    let changes = |ones: usize| {
        verdict(
            &rule("eos_rate", "non_inferior = 0.3"),
            over_seeds("eos_rate", "a", &shares(90)),
            over_seeds("eos_rate", "b", &shares(ones)),
        )
        .metrics
        .remove(0)
    };
    let expected =
        |ones| hierarchical::compare(&arm(&shares(90)), &arm(&shares(ones)), Seeds::Paired, RESAMPLING).unwrap();
    is_the_estimate(&changes(60), &expected(60));
    let (few, plain) = (changes(88), expected(88));
    assert!(few.ci_low.unwrap() < plain.interval.low, "{few:?} {plain:?}");
}

#[test]
fn the_policys_limits_are_inclusive() {
    let values = |n: usize| single(vec![1.0; n]);
    let lacking = |n: usize| (0..n).map(|i| if i % 4 == 0 { vec![] } else { vec![1.0] }).collect::<Vec<_>>();
    let decision = |more: &str, a: &[Vec<f64>], b: &[Vec<f64>]| {
        row("eos_rate", &format!("non_inferior = 0.2 }}\n{more} # {{"), a, b).verdict
    };
    for (min_n, expected) in [(80, Decision::Pass), (81, Decision::Inconclusive)] {
        assert_eq!(decision(&format!("min_n = {min_n}"), &values(80), &values(80)), expected);
    }
    for (max_unpaired, expected) in [(0.25, Decision::Pass), (0.24, Decision::Inconclusive)] {
        assert_eq!(decision(&format!("max_unpaired = {max_unpaired}"), &values(400), &lacking(400)), expected);
    }
}

#[test]
fn two_prompts_are_measured_and_one_is_not() {
    let found = |n: usize| row("eos_rate", "non_inferior = 0.02", &single(vec![1.0; n]), &single(vec![1.0; n]));
    assert_eq!((found(1).candidate, found(1).n, found(1).n_needed), (None, 1, Some(20)));
    assert_eq!((found(2).candidate, found(2).n), (Some(1.0), 2));
}

#[test]
fn secondary_rules_share_a_false_discovery_rate() {
    let metrics = ["eos_rate", "loop_rate", "broken_rate"];
    let rules: String = metrics.iter().map(|metric| rule(metric, "non_inferior = 0.001")).collect();
    let rules = rules.replace("id = \"loop", "role = \"secondary\"\nid = \"loop");
    let rules = rules.replace("id = \"broken", "role = \"secondary\"\nid = \"broken");
    let make = |name: &str, loops, broken| {
        let run = run(name).with("eos_rate", ones_first(90, 100)).with("loop_rate", ones_first(loops, 100));
        vec![run.with("broken_rate", ones_first(broken, 100))]
    };
    let found = verdict(&rules, make("a", 0, 0), make("b", 5, 4));
    let raw = [0.5_f64.powi(6), 0.5_f64.powi(5)];
    let adjusted: Vec<(&str, f64)> = found.metrics.iter().map(|m| (m.adjustment.as_str(), m.p_harm.unwrap())).collect();
    let expected = multiplicity::benjamini_hochberg(&raw);
    assert_eq!(adjusted[0].0, "none");
    for (got, expected) in adjusted[1..].iter().zip(expected) {
        assert_eq!(got.0, "bh");
        close(got.1, expected, 1e-12);
    }
}

#[test]
fn many_rules_list_fewer_changed_prompts_each() {
    let on_slices: String =
        (1..100).map(|i| rule("loop_rate", &format!("non_inferior = 0.1 }}\nslice = \"s{i}\" # {{"))).collect();
    let make = |name, ones| vec![run(name).with("loop_rate", ones_first(ones, 300))];
    let found = verdict(&(rule("loop_rate", "non_inferior = 0.1") + &on_slices), make("a", 0), make("b", 60));
    let flips = found.metrics[0].flips.as_ref().unwrap();
    assert_eq!((flips.worse_total, flips.worse.len()), (60, 20));
}

#[test]
fn arms_are_named_by_what_their_runs_share() {
    let plain = |name: &str| run(name).with("eos_rate", ones_first(300, 300));
    let rules = rule("eos_rate", "non_inferior = 0.02");
    let found = verdict(&rules, vec![plain("a").seed("arm", 1)], vec![plain("b"), plain("c")]);
    assert_eq!((found.baseline.as_str(), found.candidate.as_str()), ("a", "b, c"));
    assert_eq!(found.suite.as_deref(), Some("ood"));
    let one = |b: usize, c: usize| {
        format!("{b} baseline and {c} candidate checkpoints: the arm with one stands only for that checkpoint")
    };
    assert_eq!((found.notes, found.claim), (vec![one(1, 2)], ClaimScope::Checkpoints));
    let found = verdict(&rules, vec![plain("b"), plain("c")], vec![plain("a")]);
    assert_eq!((found.notes, found.claim), (vec![one(2, 1)], ClaimScope::Checkpoints));
    // the arm's name takes two runs that are of it
    for (arms, name) in [(["arm", "arm"], "arm"), (["arm", "other"], "b, c")] {
        let candidate = [("b", 1), ("c", 2)].iter().zip(arms).map(|((name, seed), arm)| plain(name).seed(arm, *seed));
        assert_eq!(verdict(&rules, vec![plain("a")], candidate.collect()).candidate, name);
    }
    let mut other = plain("b");
    other.manifest.suite.name = "other".into();
    assert_eq!(verdict(&rules, vec![plain("a")], vec![other]).suite, None);
    assert!(verdict(&rules, vec![plain("a")], vec![plain("b")]).notes.is_empty());
    // servers that sampled by defaults of their own, one of them by more
    let served = |name: &str, fields: &[&str]| {
        let mut run = plain(name);
        let own_defaults = fields.iter().map(|field| (*field).to_owned()).collect();
        run.manifest.observed.server = Some(smpo_results::ServerInfo { own_defaults, ..Default::default() });
        run
    };
    let [a, b] = [served("a", &["top_k"]), served("b", &["top_k", "repetition_penalty"])];
    assert_eq!(
        verdict(&rules, vec![a], vec![b]).notes,
        [
            "the candidate's server refused repetition_penalty and sampled by its own defaults: the arms were not sampled alike, \
          and a repetition penalty hides loops"
        ]
    );
    assert!(verdict(&rules, vec![served("a", &["top_k"])], vec![served("b", &["top_k"])]).notes.is_empty());
}

/// Below twenty prompts that differ, the score interval is in that over seeds, and planning takes one more than was seen.
#[test]
fn shares_over_seeds_change_their_method_at_twenty_prompts() {
    let z = 2.486_474_9;
    let one_of = |rules: &str, a: &[Vec<f64>], b: &[Vec<f64>]| {
        verdict(rules, over_seeds("eos_rate", "a", a), over_seeds("eos_rate", "b", b)).metrics.remove(0)
    };
    for changed in [19, 20] {
        let pick = |few: Interval, many: Interval| if changed < 20 { few } else { many };
        let ends = 100 - changed;
        let values = vec![ones_first(ends, 100).collect::<Vec<f64>>(); 2];
        let plain = hierarchical::mean(&arm(&values), RESAMPLING).unwrap();
        let widened = plain.interval.hull(wilson(ends as f64, 100.0, 0.9).unwrap());
        assert_ne!(widened, plain.interval);
        let found = one_of(&rule("eos_rate", "at_least = 0.5"), &values, &values);
        spans(&found, pick(widened, plain.interval));
        let share = (ends as f64 + 1.0) / 102.0;
        let smoothed = (share * (1.0 - share) / 100.0).sqrt();
        assert!(smoothed > plain.standard_error);
        close(found.detectable.unwrap(), z * if changed < 20 { smoothed } else { plain.standard_error }, 1e-6);

        // ten prompts are lost and the others won
        let won = changed - 10;
        let before = vec![ones_first(50, 100).collect::<Vec<f64>>(); 2];
        let after: Vec<f64> = (0..100).map(|i| f64::from(u8::from((10..50 + won).contains(&i)))).collect();
        let after = vec![after; 2];
        let plain = hierarchical::compare(&arm(&before), &arm(&after), Seeds::Paired, RESAMPLING).unwrap();
        let widened = plain.interval.hull(tango(10.0, won as f64, 100.0, 0.9).unwrap());
        assert_ne!(widened, plain.interval);
        let found = one_of(&rule("eos_rate", "non_inferior = 0.05"), &before, &after);
        spans(&found, pick(widened, plain.interval));
        let mean = (won as f64 - 10.0) / 100.0;
        let smoothed = (((changed as f64 + 1.0) / 102.0 - mean * mean) / 100.0).sqrt();
        assert!(smoothed > plain.standard_error);
        close(found.detectable.unwrap(), z * if changed < 20 { smoothed } else { plain.standard_error }, 1e-6);
    }
}

/// A reward may happen to be 0 or 1; its bound is no share that a score could be computed at.
#[test]
fn values_of_zero_and_one_may_be_held_against_any_bound() {
    for (require, ones, p, decision) in [
        ("at_least = -0.5", 25, 1.0, Decision::Pass),
        ("at_most = -0.5", 25, 0.0, Decision::Fail),
        ("at_least = 1.5", 25, 0.0, Decision::Fail),
        ("at_most = 1.5", 25, 1.0, Decision::Pass),
        ("at_least = 0", 0, 1.0, Decision::Pass),
        ("at_most = 1", 50, 1.0, Decision::Pass),
    ] {
        let found = row("reward", require, &single([0.0; 50]), &single(ones_first(ones, 50)));
        assert_eq!((found.p_harm, found.verdict), (Some(p), decision), "{require}");
    }
}

#[test]
fn fewer_than_a_hundred_million_prompts_are_promised() {
    let z = normal_quantile(1.0 - ALPHA) + normal_quantile(POWER);
    for (needed, promised) in [(99_999_999, Some(99_999_999)), (100_000_000, None)] {
        let distance = (z * z * 12.5 / (f64::from(needed) - 0.5)).sqrt();
        let found = row("eos_logp_gold", "superior = 0.5", &single([0.0; 50]), &nats(0.5 + distance));
        assert_eq!((found.verdict, found.n_needed), (Decision::Inconclusive, promised));
    }
}

/// All of four signs agree by chance in one case of 16, all of five in one of 32.
#[test]
fn an_open_question_needs_at_least_one_more_prompt() {
    let found = |n: usize| {
        row("eos_logp_gold", "non_inferior = 0.5 }\nmin_n = 2 # {", &single(vec![0.0; n]), &single(vec![-1.0; n]))
    };
    let (four, five) = (found(4), found(5));
    assert_eq!((four.p_harm, four.verdict, four.n_needed), (Some(0.0625), Decision::Inconclusive, Some(5)));
    assert_eq!((five.p_harm, five.verdict, five.n_needed), (Some(0.03125), Decision::Fail, None));
}

/// More prompts help against `min_n` alone where the interval clears the margin.
#[test]
fn a_pass_that_is_blocked_needs_what_the_policy_asks_for() {
    let lacking: Vec<Vec<f64>> = (0..400).map(|i| if i % 4 == 0 { vec![] } else { vec![1.0] }).collect();
    for (limits, needed, block) in [
        ("min_n = 299", None, "100 of 400 prompts lack `eos_rate` in some run"),
        ("min_n = 300", None, "100 of 400 prompts lack `eos_rate` in some run"),
        ("min_n = 301", Some(301), "100 of 400 prompts lack `eos_rate` in some run"),
        ("min_n = 301\nmax_unpaired = 1.0", Some(301), "only 300 prompts, and the policy asks for at least 301"),
    ] {
        let require = format!("non_inferior = 0.2 }}\n{limits} # {{");
        let found = row("eos_rate", &require, &single([1.0; 400]), &lacking);
        assert_eq!((found.verdict, found.n_needed), (Decision::Inconclusive, needed), "{limits}");
        let expected = format!("): not worse by the 20 points allowed; no pass, because {block}");
        assert!(found.reason.contains(&expected), "{limits}: {}", found.reason);
    }
}
