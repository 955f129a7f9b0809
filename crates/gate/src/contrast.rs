//! Statistical evidence on one metric and slice: estimate, interval, p values, independent of any requirement.

use smpo_results::PairCounts;
use smpo_stats::binary::{PairedTable, mcnemar, tango, tango_z};
use smpo_stats::bootstrap::{Reach, acceleration, bca};
use smpo_stats::distribution::{normal_cdf, student_cdf};
use smpo_stats::hierarchical::{self, Estimate, Options, Seeds};
use smpo_stats::permutation::{SignFlip, sign_flip};
use smpo_stats::proportion::wilson;
use smpo_stats::{Interval, StatsError, equivalence};

use crate::pairing::Paired;

/// Below this number of prompts that differ, a bootstrap of shares underestimates rare events and a score interval takes
/// over.
const FEW: usize = 20;

/// Settings of the analysis.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// Two-sided confidence of intervals.
    pub level: f64,
    /// Bootstrap and permutation resamples.
    pub resamples: usize,
    /// Seed of the resampling.
    pub seed: u64,
    /// Pairing of the arms' training seeds.
    pub seeds: Seeds,
    /// The metric lies in 0..=1.
    pub share: bool,
    /// `below` and `above` are about this value of the difference (of the candidate, for one arm).
    pub line: f64,
    /// Margin of a test of equivalence.
    pub equivalence: Option<f64>,
    /// True to run permutation tests; without them their p values are 1.
    pub tests: bool,
}

/// Estimates and p values of one comparison.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Evidence {
    /// Baseline mean over prompts.
    pub baseline: Option<f64>,
    /// Candidate mean over prompts.
    pub candidate: f64,
    /// candidate − baseline; the candidate itself for one arm.
    pub estimate: f64,
    /// Its interval.
    pub interval: Interval,
    /// Its standard error.
    pub standard_error: f64,
    /// The standard error to plan with: where few prompts differ, as if one more did. No sample proves that there are none.
    pub planning_error: f64,
    /// Prompts on which only the baseline and only the candidate has the metric, where a score interval on them decides; parts
    /// of a prompt where it has several samples.
    pub discordant: Option<[f64; 2]>,
    /// The part of the squared standard error that only more training seeds would shrink.
    pub seed_variance: f64,
    /// Two-sided p value of "no difference"; none for one arm.
    pub p: Option<f64>,
    /// The exact one, if `p` is a mid-p value.
    pub p_exact: Option<f64>,
    /// One-sided p value of "the estimate is below the line".
    pub below: f64,
    /// One-sided p value of "the estimate is above the line".
    pub above: f64,
    /// p value of "the arms are not within the margin of each other", where that is tested.
    pub p_equivalence: Option<f64>,
    /// Test and interval by name.
    pub test: String,
    /// The paired table of a binary metric with one sample per prompt.
    pub pairs: Option<PairCounts>,
    /// Number of prompts on which the arms differ. Nothing reads it of a single arm.
    pub differing: usize,
}

/// The data of one comparison, brought into the shape that decides the method.
#[derive(Debug, Clone)]
pub(crate) enum Shape {
    /// One 0/1 sample per prompt and arm, one run per arm.
    Binary(PairedTable),
    /// One run per arm: means over prompts, and each prompt's difference.
    Prompts { baseline: f64, candidate: f64, differences: Vec<f64> },
    /// Several training seeds in some arm.
    Seeds,
    /// One arm, one run, one 0/1 sample per prompt.
    OneBinary { ones: u64, n: u64 },
    /// One arm, one run: prompt means.
    OnePrompts(Vec<f64>),
    /// One arm, several training seeds.
    OneSeeds,
}

impl Shape {
    pub fn of(paired: &Paired) -> Shape {
        let one_run = paired.baseline.len() <= 1 && paired.candidate.len() == 1;
        let binary = |run| paired.samples(run).all(|v| matches!(v, [x] if *x == 0.0 || *x == 1.0));
        match (paired.baseline.first(), one_run) {
            (None, false) => Shape::OneSeeds,
            (Some(_), false) => Shape::Seeds,
            (None, true) => {
                let run = &paired.candidate[0];
                if binary(run) {
                    let ones = paired.samples(run).filter(|values| values[0] == 1.0).count() as u64;
                    Shape::OneBinary { ones, n: paired.n() as u64 }
                } else {
                    Shape::OnePrompts(paired.samples(run).map(average).collect())
                }
            }
            (Some(first), true) => {
                let second = &paired.candidate[0];
                let both = || paired.samples(first).zip(paired.samples(second));
                if binary(first) && binary(second) {
                    Shape::Binary(PairedTable::from_pairs(both().map(|(a, b)| (a[0] == 1.0, b[0] == 1.0))))
                } else {
                    Shape::Prompts {
                        baseline: average(&paired.samples(first).map(average).collect::<Vec<_>>()),
                        candidate: average(&paired.samples(second).map(average).collect::<Vec<_>>()),
                        differences: both().map(|(b, c)| average(c) - average(b)).collect(),
                    }
                }
            }
        }
    }

    /// The values to bootstrap, one per prompt, for methods with a bootstrap over prompts.
    pub fn column(&self) -> Option<&[f64]> {
        match self {
            Shape::Prompts { differences, .. } => Some(differences),
            Shape::OnePrompts(values) => Some(values),
            _ => None,
        }
    }
}

/// Analyses at least two prompts. `replicates` are the bootstrap means of [`Shape::column`].
pub(crate) fn analyse(
    paired: &Paired,
    shape: &Shape,
    replicates: &[f64],
    settings: Settings,
) -> Result<Evidence, StatsError> {
    match shape {
        Shape::Binary(table) => binary(table, settings),
        Shape::Prompts { baseline, candidate, differences } => {
            let evidence = Evidence {
                baseline: Some(*baseline),
                candidate: *candidate,
                ..mean_over_prompts(differences, replicates, settings, Bounded::Difference)?
            };
            if !settings.tests {
                return Ok(evidence);
            }
            let at_zero = sign_flip(differences, settings.resamples, settings.seed)?;
            let at_line = if settings.line == 0.0 { at_zero } else { shifted_sign_flip(differences, settings)? };
            Ok(Evidence {
                p: Some(at_zero.two_sided),
                below: at_line.less,
                above: at_line.greater,
                p_equivalence: settings
                    .equivalence
                    .map(|margin| shares_or_student(differences, &evidence, settings, margin)),
                test: format!("sign-flip permutation; {}", evidence.test),
                ..evidence
            })
        }
        Shape::Seeds => several_seeds(paired, settings),
        Shape::OneBinary { ones, n } => one_binary(*ones as f64, *n as f64, settings),
        Shape::OnePrompts(values) => {
            let evidence = mean_over_prompts(values, replicates, settings, Bounded::Share)?;
            let (below, above) =
                t_tails(evidence.estimate - settings.line, evidence.standard_error, values.len() as f64 - 1.0);
            Ok(Evidence { below, above, test: format!("t test against the bound; {}", evidence.test), ..evidence })
        }
        Shape::OneSeeds => one_arm_seeds(paired, settings),
    }
}

fn binary(table: &PairedTable, settings: Settings) -> Result<Evidence, StatsError> {
    let (b, c, n) = (table.only_first as f64, table.only_second as f64, table.n() as f64);
    let test = mcnemar(table);
    let (below, above) = if settings.line == 0.0 {
        (test.second_smaller, test.second_larger)
    } else {
        let z = tango_z(b, c, n, settings.line);
        (normal_cdf(z), normal_cdf(-z))
    };
    let difference = table.difference();
    let error = discordant_error([b, c], n);
    Ok(Evidence {
        baseline: Some((table.both + table.only_first) as f64 / n),
        candidate: (table.both + table.only_second) as f64 / n,
        estimate: difference,
        interval: tango(b, c, n, settings.level)?,
        standard_error: error,
        planning_error: error,
        discordant: Some([b, c]),
        seed_variance: 0.0,
        p: Some(test.mid_p),
        p_exact: Some(test.exact),
        below,
        above,
        p_equivalence: settings.equivalence.map(|margin| equivalence::tango(b, c, n, margin).p()),
        test: "McNemar mid-p; Tango score interval".to_owned(),
        pairs: Some(PairCounts {
            both: table.both as usize,
            baseline_only: table.only_first as usize,
            candidate_only: table.only_second as usize,
            neither: table.neither as usize,
        }),
        differing: (table.only_first + table.only_second) as usize,
    })
}

/// Bounds of a column's values if the metric is a share.
#[derive(Clone, Copy, PartialEq)]
enum Bounded {
    /// −1..=1
    Difference,
    /// 0..=1
    Share,
}

/// Estimate and interval of a mean over prompts; the tests are the caller's.
fn mean_over_prompts(
    values: &[f64],
    replicates: &[f64],
    settings: Settings,
    bounded: Bounded,
) -> Result<Evidence, StatsError> {
    let n = values.len() as f64;
    let estimate = average(values);
    let differing = match bounded {
        Bounded::Difference => values.iter().filter(|v| **v != 0.0).count(),
        Bounded::Share => differing_shares(values),
    };
    let few = settings.share && differing < FEW;
    let (interval, name) = if few {
        match bounded {
            Bounded::Difference => (tango_of_shares(values, settings.level)?, "Tango score interval on shares"),
            Bounded::Share => (wilson_of_shares(values, settings.level)?, "Wilson interval on shares"),
        }
    } else {
        let reach = Reach::Expanded { n: values.len() };
        (bca(estimate, replicates, acceleration(values), settings.level, reach)?, "BCa bootstrap over prompts")
    };
    let mut variance = values.iter().map(|v| (v - estimate).powi(2)).sum::<f64>() / (n - 1.0);
    if settings.share {
        variance = variance.max(1.0 / (n + 2.0) / FEW as f64);
    }
    let standard_error = (variance / n).sqrt();
    Ok(Evidence {
        baseline: None,
        candidate: estimate,
        estimate,
        interval,
        standard_error,
        planning_error: match bounded {
            _ if !few => standard_error,
            Bounded::Difference => standard_error.max(discordant_error(parts(values), n)),
            Bounded::Share => standard_error.max(share_error(estimate * n, n)),
        },
        discordant: (few && bounded == Bounded::Difference).then(|| parts(values)),
        seed_variance: 0.0,
        p: None,
        p_exact: None,
        below: 1.0,
        above: 1.0,
        p_equivalence: None,
        test: name.to_owned(),
        pairs: None,
        differing,
    })
}

fn tango_of_shares(differences: &[f64], level: f64) -> Result<Interval, StatsError> {
    let [fell, rose] = parts(differences);
    tango(fell, rose, differences.len() as f64, level)
}

fn wilson_of_shares(means: &[f64], level: f64) -> Result<Interval, StatsError> {
    let n = means.len() as f64;
    wilson(means.iter().sum::<f64>().clamp(0.0, n), n, level)
}

/// Prompts whose share differs from the commoner of the two extremes.
fn differing_shares(means: &[f64]) -> usize {
    let at = |extreme: f64| means.iter().filter(|mean| **mean == extreme).count();
    means.len() - at(0.0).max(at(1.0))
}

/// The interval of a share over several training seeds, and the number of prompts that differ: where they are few, resampling
/// alone underestimates, and Wilson's interval on the prompts' means is in it.
pub(crate) fn over_seeds_of_shares(
    means: &[f64],
    found: Interval,
    level: f64,
) -> Result<(Interval, usize), StatsError> {
    let differing = differing_shares(means);
    let whole = if differing < FEW { found.hull(wilson_of_shares(means, level)?) } else { found };
    Ok((Interval { low: whole.low.max(0.0), high: whole.high.min(1.0) }, differing))
}

/// Sums of the negative and of the positive parts.
fn parts(differences: &[f64]) -> [f64; 2] {
    differences.iter().fold([0.0; 2], |[fell, rose], d| [fell + (-d).max(0.0), rose + d.max(0.0)])
}

/// Standard error of a difference of shares, with one more discordant prompt of `n` than was seen.
fn discordant_error([fell, rose]: [f64; 2], n: f64) -> f64 {
    let (discordant, difference) = ((fell + rose + 1.0) / (n + 2.0), (rose - fell) / n);
    ((discordant - difference * difference).max(0.0) / n).sqrt()
}

/// Standard error of a share, with one more prompt of each kind than was seen.
fn share_error(ones: f64, n: f64) -> f64 {
    let smoothed = (ones + 1.0) / (n + 2.0);
    (smoothed * (1.0 - smoothed) / n).sqrt()
}

/// p value of equivalence on prompt means: by the test that belongs to the interval.
fn shares_or_student(differences: &[f64], evidence: &Evidence, settings: Settings, margin: f64) -> f64 {
    let n = differences.len() as f64;
    if settings.share && evidence.differing < FEW {
        let [fell, rose] = parts(differences);
        equivalence::tango(fell, rose, n, margin).p()
    } else {
        equivalence::student(evidence.estimate, evidence.standard_error, n - 1.0, margin).p()
    }
}

fn shifted_sign_flip(differences: &[f64], settings: Settings) -> Result<SignFlip, StatsError> {
    let shifted: Vec<f64> = differences.iter().map(|d| d - settings.line).collect();
    sign_flip(&shifted, settings.resamples, settings.seed)
}

fn t_tails(distance: f64, standard_error: f64, df: f64) -> (f64, f64) {
    if standard_error > 0.0 {
        (student_cdf(distance / standard_error, df), student_cdf(-distance / standard_error, df))
    } else {
        (f64::from(u8::from(distance >= 0.0)), f64::from(u8::from(distance <= 0.0)))
    }
}

fn several_seeds(paired: &Paired, settings: Settings) -> Result<Evidence, StatsError> {
    let (baseline, candidate) = (paired.arm(&paired.baseline), paired.arm(&paired.candidate));
    let found = hierarchical::compare(&baseline, &candidate, settings.seeds, options(settings))?;
    let (before, after) = (prompt_means(&baseline.runs), prompt_means(&candidate.runs));
    let differences: Vec<f64> = after.iter().zip(&before).map(|(c, b)| c - b).collect();
    let differing = differences.iter().filter(|d| **d != 0.0).count();
    let mut interval = found.interval;
    if settings.share && differing < FEW {
        interval = interval.hull(tango_of_shares(&differences, settings.level)?);
    }
    let evidence = over_seeds(&found, interval, differing, settings, differences.len());
    let rare = if settings.share && differing < FEW {
        discordant_error(parts(&differences), differences.len() as f64)
    } else {
        0.0
    };
    Ok(Evidence {
        planning_error: evidence.planning_error.max(rare),
        baseline: Some(average(&before)),
        candidate: average(&after),
        p: Some(found.two_sided),
        ..evidence
    })
}

fn one_arm_seeds(paired: &Paired, settings: Settings) -> Result<Evidence, StatsError> {
    let candidate = paired.arm(&paired.candidate);
    let found = hierarchical::mean(&candidate, options(settings))?;
    let means = prompt_means(&candidate.runs);
    if !settings.share {
        return Ok(over_seeds(&found, found.interval, 0, settings, means.len()));
    }
    let (interval, differing) = over_seeds_of_shares(&means, found.interval, settings.level)?;
    let evidence = over_seeds(&found, interval, differing, settings, means.len());
    let rare = if differing < FEW { share_error(means.iter().sum(), means.len() as f64) } else { 0.0 };
    Ok(Evidence { planning_error: evidence.planning_error.max(rare), ..evidence })
}

fn options(settings: Settings) -> Options {
    Options { confidence: settings.level, resamples: settings.resamples, seed: settings.seed }
}

fn over_seeds(found: &Estimate, interval: Interval, differing: usize, settings: Settings, n: usize) -> Evidence {
    let n = n as f64;
    let floor = if settings.share { (1.0 / (n + 2.0) / FEW as f64 / n).sqrt() } else { 0.0 };
    let (below, above) = t_tails(found.value - settings.line, found.standard_error.max(floor), found.df);
    Evidence {
        baseline: None,
        candidate: found.value,
        estimate: found.value,
        interval,
        standard_error: found.standard_error.max(floor),
        planning_error: found.standard_error.max(floor),
        discordant: None,
        seed_variance: found.seed_variance,
        p: None,
        p_exact: None,
        below,
        above,
        p_equivalence: settings
            .equivalence
            .map(|margin| equivalence::student(found.value, found.standard_error.max(floor), found.df, margin).p()),
        test: "hierarchical bootstrap over seeds, prompts and samples; t with Satterthwaite's degrees of freedom"
            .to_owned(),
        pairs: None,
        differing,
    }
}

fn one_binary(ones: f64, n: f64, settings: Settings) -> Result<Evidence, StatsError> {
    let share = ones / n;
    let bound = settings.line;
    let error = (bound * (1.0 - bound) / n).max(0.0).sqrt();
    let (below, above) = if error > 0.0 {
        let z = (share - bound) / error;
        (normal_cdf(z), normal_cdf(-z))
    } else {
        t_tails(share - bound, 0.0, 1.0)
    };
    let planning_error = share_error(ones, n);
    Ok(Evidence {
        baseline: None,
        candidate: share,
        estimate: share,
        interval: wilson(ones, n, settings.level)?,
        standard_error: planning_error,
        planning_error,
        discordant: None,
        seed_variance: 0.0,
        p: None,
        p_exact: None,
        below,
        above,
        p_equivalence: None,
        test: "score test against the bound; Wilson interval".to_owned(),
        pairs: None,
        differing: 0,
    })
}

/// Means over runs and samples, by prompt.
pub(crate) fn prompt_means(runs: &[Vec<&[f64]>]) -> Vec<f64> {
    let prompts = runs.first().map_or(0, Vec::len);
    (0..prompts).map(|p| runs.iter().map(|run| average(run[p])).sum::<f64>() / runs.len() as f64).collect()
}

fn average(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}
