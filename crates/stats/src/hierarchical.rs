//! Several training seeds per arm: seeds and prompts are both drawn from larger populations, and every seed
//! answers every prompt, so the design is crossed; samples are nested in a seed and a prompt.
//!
//! The bootstrap resamples seeds, then prompts, then the samples of each cell (Davison & Hinkley 1997, §3.8;
//! crossed factors independently: Owen 2007, Ann Appl Stat 1:386, "pigeonhole bootstrap"). Left alone it is
//! wrong twice: few seeds make it too narrow (its variance lacks a factor S/(S−1), its tails are not
//! Student's), and the last stage makes it too wide (the sampling noise is in the prompt means already). So
//! the spread comes from unbiased variance components of the two-way layout (Searle, Casella & McCulloch
//! 1992, ch. 4) with Satterthwaite's degrees of freedom (1946, Biometrics 2:110), and the replicates,
//! rescaled to that spread, give the skewness: each end of the interval is the farther of the two.

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::bootstrap::quantile;
use crate::distribution::{student_cdf, student_quantile};
use crate::error::{check_confidence, check_finite};
use crate::{Interval, StatsError};

const DOMAIN: u64 = 0x6869_6572_6172_6368;

/// One arm: `runs[seed][prompt]` holds the values of that prompt's samples, at least one.
#[derive(Debug, Clone, PartialEq)]
pub struct Arm<'a> {
    /// One run per training seed; all with the same prompts in the same order.
    pub runs: Vec<Vec<&'a [f64]>>,
}

/// Pairing of the training seeds of two arms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seeds {
    /// Run `s` of both arms shares its seed (same data order, same starting checkpoint): drawn together.
    Paired,
    /// The arms were trained apart: drawn apart.
    Independent,
}

/// Resampling options.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// Confidence level of the interval.
    pub confidence: f64,
    /// Bootstrap resamples; at least 100.
    pub resamples: usize,
    /// Seed of the generator.
    pub seed: u64,
}

/// An estimate over seeds and prompts, with p values of "it is 0".
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The mean (of the candidate, or candidate − baseline).
    pub value: f64,
    /// Its standard error.
    pub standard_error: f64,
    /// The part of the squared standard error that only further training seeds would shrink.
    pub seed_variance: f64,
    /// Satterthwaite's degrees of freedom.
    pub df: f64,
    /// The interval.
    pub interval: Interval,
    /// Two-sided p value.
    pub two_sided: f64,
    /// Against "below 0".
    pub less: f64,
    /// Against "above 0".
    pub greater: f64,
}

/// Mean of `candidate` − mean of `baseline` over seeds and prompts.
pub fn compare(baseline: &Arm, candidate: &Arm, seeds: Seeds, options: Options) -> Result<Estimate, StatsError> {
    let n = check_arm(baseline)?;
    let candidate_n = check_arm(candidate)?;
    if n != candidate_n {
        return Err(StatsError::Unequal { what: "prompts of the candidate", expected: n, got: candidate_n });
    }
    if seeds == Seeds::Paired && baseline.runs.len() != candidate.runs.len() {
        return Err(StatsError::Unequal {
            what: "runs of the candidate, seeds paired",
            expected: baseline.runs.len(),
            got: candidate.runs.len(),
        });
    }
    analyse(&[(-1.0, baseline), (1.0, candidate)], n, seeds, options)
}

/// Mean of one arm over seeds and prompts.
pub fn mean(arm: &Arm, options: Options) -> Result<Estimate, StatsError> {
    let n = check_arm(arm)?;
    analyse(&[(1.0, arm)], n, Seeds::Independent, options)
}

fn check_arm(arm: &Arm) -> Result<usize, StatsError> {
    let Some(first) = arm.runs.first() else {
        return Err(StatsError::TooFew { what: "an arm", expected: 1, got: 0 });
    };
    let n = first.len();
    if n < 2 {
        return Err(StatsError::TooFew { what: "the hierarchical bootstrap", expected: 2, got: n });
    }
    for run in &arm.runs {
        if run.len() != n {
            return Err(StatsError::Unequal { what: "prompts of a run", expected: n, got: run.len() });
        }
        for samples in run {
            if samples.is_empty() {
                return Err(StatsError::TooFew { what: "a prompt of a run", expected: 1, got: 0 });
            }
            check_finite("values", samples)?;
        }
    }
    Ok(n)
}

fn analyse(arms: &[(f64, &Arm)], n: usize, seeds: Seeds, options: Options) -> Result<Estimate, StatsError> {
    check_confidence(options.confidence)?;
    if options.resamples < 100 {
        return Err(StatsError::TooFew { what: "resamples", expected: 100, got: options.resamples });
    }
    let spread = Spread::of(arms, n, seeds);
    let (value, error, df) = (spread.value, spread.variance.sqrt(), spread.df);
    let t = student_quantile(0.5 + 0.5 * options.confidence, df) * error;
    let mut interval = Interval { low: value - t, high: value + t };

    let mut deviations = replicates(arms, n, seeds, options);
    deviations.iter_mut().for_each(|replicate| *replicate -= value);
    let second_moment = deviations.iter().map(|d| d * d).sum::<f64>() / deviations.len() as f64;
    if second_moment > 0.0 {
        deviations.sort_unstable_by(f64::total_cmp);
        let (scale, tail) = (error / second_moment.sqrt(), 0.5 * (1.0 - options.confidence));
        let skewed = Interval {
            low: value + scale * quantile(&deviations, tail),
            high: value + scale * quantile(&deviations, 1.0 - tail),
        };
        interval = interval.hull(skewed);
    }
    let (less, greater) = if error > 0.0 {
        (student_cdf(value / error, df), student_cdf(-value / error, df))
    } else {
        // No spread at all: the resolution of the resampling is as far as a p value may go.
        let least = 1.0 / (options.resamples as f64 + 1.0);
        let tail = |beyond: bool| if beyond { least } else { 1.0 };
        (tail(value < 0.0), tail(value > 0.0))
    };
    let two_sided = (2.0 * less.min(greater)).min(1.0);
    let seed_variance = spread.seed_variance;
    Ok(Estimate { value, standard_error: error, seed_variance, df, interval, two_sided, less, greater })
}

/// The estimate and its unbiased variance.
struct Spread {
    value: f64,
    variance: f64,
    seed_variance: f64,
    df: f64,
}

impl Spread {
    fn of(arms: &[(f64, &Arm)], n: usize, seeds: Seeds) -> Spread {
        // Layers of cell means, each a two-way table seed × prompt. Paired seeds: one layer of differences.
        let tables: Vec<Vec<Vec<f64>>> =
            arms.iter().map(|(sign, arm)| arm.runs.iter().map(|run| cell_means(*sign, run)).collect()).collect();
        let layers: Vec<Vec<Vec<f64>>> = match seeds {
            Seeds::Independent => tables,
            Seeds::Paired => {
                let runs = tables[0].len();
                let sum = |s: usize| (0..n).map(|p| tables.iter().map(|table| table[s][p]).sum()).collect();
                vec![(0..runs).map(sum).collect()]
            }
        };
        let mut prompt_means = vec![0.0; n];
        let (mut seed_part, mut interaction, mut df_terms) = (0.0, 0.0, 0.0);
        let mut least_df = (n - 1) as f64;
        for layer in &layers {
            let size = layer.len();
            let across: Vec<f64> = (0..n).map(|p| layer.iter().map(|run| run[p]).sum::<f64>() / size as f64).collect();
            if size > 1 {
                let run_means: Vec<f64> = layer.iter().map(|run| average(run)).collect();
                let part = variance(&run_means) / size as f64;
                let grand = average(&run_means);
                let mut residual = 0.0;
                for (run, run_mean) in layer.iter().zip(&run_means) {
                    for (value, prompt_mean) in run.iter().zip(&across) {
                        residual += (value - run_mean - prompt_mean + grand).powi(2);
                    }
                }
                interaction += residual / ((size - 1) as f64 * (n - 1) as f64) / (size * n) as f64;
                seed_part += part;
                df_terms += part * part / (size - 1) as f64;
                least_df = least_df.min((size - 1) as f64);
            }
            prompt_means.iter_mut().zip(&across).for_each(|(total, mean)| *total += mean);
        }
        let prompt_part = variance(&prompt_means) / n as f64;
        df_terms += prompt_part * prompt_part / (n - 1) as f64;
        // Both parts hold the interaction once; it belongs in once. Neither part may be undercut.
        let variance = (seed_part + prompt_part - interaction).max(seed_part).max(prompt_part);
        let df = if df_terms > 0.0 { variance * variance / df_terms } else { least_df };
        Spread {
            value: average(&prompt_means),
            variance,
            seed_variance: (seed_part - interaction).max(0.0),
            df: df.max(least_df),
        }
    }
}

fn cell_means(sign: f64, run: &[&[f64]]) -> Vec<f64> {
    run.iter().map(|samples| sign * average(samples)).collect()
}

fn average(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn variance(values: &[f64]) -> f64 {
    let mean = average(values);
    values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (values.len() - 1) as f64
}

fn replicates(arms: &[(f64, &Arm)], n: usize, seeds: Seeds, options: Options) -> Vec<f64> {
    let generator = ChaCha8Rng::seed_from_u64(options.seed ^ DOMAIN);
    (0..options.resamples)
        .into_par_iter()
        .map(|resample| {
            let mut stream = generator.clone();
            stream.set_stream(resample as u64);
            let prompts: Vec<usize> = (0..n).map(|_| index(&mut stream, n)).collect();
            let mut drawn: Vec<usize> = Vec::new();
            let mut total = 0.0;
            for (position, (sign, arm)) in arms.iter().enumerate() {
                let size = arm.runs.len();
                if position == 0 || seeds == Seeds::Independent {
                    drawn = (0..size).map(|_| index(&mut stream, size)).collect();
                }
                let mut sum = 0.0;
                for &run in &drawn {
                    for &prompt in &prompts {
                        sum += resampled_cell(arm.runs[run][prompt], &mut stream);
                    }
                }
                total += sign * sum / (size * n) as f64;
            }
            total
        })
        .collect()
}

fn resampled_cell(samples: &[f64], stream: &mut ChaCha8Rng) -> f64 {
    if let [only] = samples {
        return *only;
    }
    let sum: f64 = (0..samples.len()).map(|_| samples[index(stream, samples.len())]).sum();
    sum / samples.len() as f64
}

fn index(stream: &mut ChaCha8Rng, n: usize) -> usize {
    ((u64::from(stream.next_u32()) * n as u64) >> 32) as usize
}
