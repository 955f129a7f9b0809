//! Do intervals said to hold the truth 95 times in 100 do so? Counted exactly where outcomes can be listed,
//! simulated with fixed seeds elsewhere.
//!
//! The default suite runs a reduced version; the full one:
//!
//! ```sh
//! cargo test --release -p smpo-stats --test coverage -- --ignored --nocapture
//! ```

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use smpo_stats::binary::tango;
use smpo_stats::bootstrap::{Reach, acceleration, bca, means};
use smpo_stats::distribution::normal_quantile;
use smpo_stats::hierarchical::{Arm, Options, Seeds, compare};
use smpo_stats::proportion::{clopper_pearson, wilson};

/// The band that the project promises, in share of 95 % intervals that hold the truth.
const BAND: std::ops::RangeInclusive<f64> = 0.93..=0.97;

/// ln k! for k up to n.
fn ln_factorials(n: u64) -> Vec<f64> {
    let mut table = vec![0.0];
    for k in 1..=n {
        table.push(table[k as usize - 1] + (k as f64).ln());
    }
    table
}

/// P(X = k) for X ~ Binomial(n, p).
fn binomial(n: u64, k: u64, p: f64, ln_factorial: &[f64]) -> f64 {
    if p == 0.0 || p == 1.0 {
        return f64::from(u8::from(k as f64 == p * n as f64));
    }
    let ln_choose = ln_factorial[n as usize] - ln_factorial[k as usize] - ln_factorial[(n - k) as usize];
    (ln_choose + k as f64 * p.ln() + (n - k) as f64 * (1.0 - p).ln()).exp()
}

/// Exact coverage of Wilson's interval, averaged over true shares within a range: few successes make single
/// shares jump, their average is what a user meets (Newcombe 1998; Agresti & Coull 1998).
fn wilson_coverage(n: u64, low: f64, high: f64) -> f64 {
    let intervals: Vec<_> = (0..=n).map(|x| wilson(x as f64, n as f64, 0.95).unwrap()).collect();
    let (grid, table) = (400, ln_factorials(n));
    let total: f64 = (0..grid)
        .map(|i| {
            let p = low + (high - low) * (f64::from(i) + 0.5) / f64::from(grid);
            (0..=n).filter(|x| intervals[*x as usize].contains(p)).map(|x| binomial(n, x, p, &table)).sum::<f64>()
        })
        .sum();
    total / f64::from(grid)
}

#[test]
fn wilson_holds_its_level_also_where_0_1_or_n_successes_are_usual() {
    for n in [30, 100, 400] {
        let edge = 4.0 / n as f64; // 0 and 1 successes are the usual outcomes below
        for (what, low, high) in [
            ("all shares", 0.0, 1.0),
            ("0 and 1 successes", 0.0, edge),
            ("n successes", 1.0 - edge, 1.0),
            ("middle", 0.3, 0.7),
        ] {
            let coverage = wilson_coverage(n, low, high);
            println!("wilson n={n} {what}: {coverage:.4}");
            assert!(BAND.contains(&coverage), "n={n} {what}: {coverage}");
        }
    }
}

#[test]
fn clopper_pearson_never_falls_below_its_level() {
    for n in [5, 30, 100] {
        let intervals: Vec<_> = (0..=n).map(|x| clopper_pearson(x, n, 0.95).unwrap()).collect();
        let table = ln_factorials(n);
        for i in 0..=200 {
            let p = f64::from(i) / 200.0;
            let coverage: f64 =
                (0..=n).filter(|x| intervals[*x as usize].contains(p)).map(|x| binomial(n, x, p, &table)).sum();
            assert!(coverage >= 0.95 - 1e-9, "n={n} p={p}: {coverage}");
        }
    }
}

/// Exact coverage of Tango's interval, averaged over true discordant shares from 0 to `most` in each arm.
fn tango_coverage(n: u64, most: f64, grid: u32) -> f64 {
    let table = ln_factorials(n);
    let tables: Vec<(u64, u64)> = (0..=n).flat_map(|b| (0..=n - b).map(move |c| (b, c))).collect();
    let intervals: Vec<_> =
        tables.par_iter().map(|(b, c)| tango(*b as f64, *c as f64, n as f64, 0.95).unwrap()).collect();
    let at = |i: u32| most * (f64::from(i) + 0.5) / f64::from(grid);
    let truths: Vec<(f64, f64)> = (0..grid).flat_map(|i| (0..grid).map(move |j| (at(i), at(j)))).collect();
    let covered = |&(first, second): &(f64, f64)| -> f64 {
        let inside = tables.iter().zip(&intervals).filter(|(_, interval)| interval.contains(second - first));
        inside
            .map(|((b, c), _)| {
                binomial(n, b + c, first + second, &table) * binomial(b + c, *b, first / (first + second), &table)
            })
            .sum()
    };
    truths.par_iter().map(covered).sum::<f64>() / truths.len() as f64
}

fn check_tango(sizes: &[u64], grid: u32) {
    for &n in sizes {
        // With next to no discordant pairs the interval errs on the wide side, as it should.
        for (what, most, high) in [
            ("0 to 4 discordant a side", 4.0 / n as f64, 0.975),
            ("0 to 10 discordant a side", 10.0 / n as f64, 0.97),
            ("up to 20 %", 0.2, 0.97),
        ] {
            let coverage = tango_coverage(n, most, grid);
            println!("tango n={n} {what}: {coverage:.4}");
            assert!((*BAND.start()..=high).contains(&coverage), "n={n} {what}: {coverage}");
        }
    }
}

#[test]
fn tango_holds_its_level() {
    check_tango(&[60], 8);
}

#[test]
#[ignore = "half a minute; see the module's head for the command"]
fn tango_holds_its_level_in_full() {
    check_tango(&[30, 100, 243], 16);
}

/// A distribution of prompt-level differences with mean 0.
#[derive(Debug, Clone, Copy)]
enum Differences {
    Normal,
    /// Skewed, as gold log-probs are.
    Exponential,
    /// Means of four 0/1 samples in each arm, the prompt's own share drawn first.
    FourSamples,
}

fn normal(rng: &mut ChaCha8Rng) -> f64 {
    normal_quantile(rng.random_range(1e-12..1.0))
}

fn draw(kind: Differences, n: usize, rng: &mut ChaCha8Rng) -> Vec<f64> {
    (0..n)
        .map(|_| match kind {
            Differences::Normal => normal(rng),
            Differences::Exponential => -rng.random_range(1e-12..1.0f64).ln() - 1.0,
            Differences::FourSamples => {
                let share = rng.random::<f64>().powf(0.2); // mean 5/6: most prompts finish
                let mut arm = || (0..4).filter(|_| rng.random::<f64>() < share).count() as f64 / 4.0;
                arm() - arm()
            }
        })
        .collect()
}

fn bootstrap_coverage(kind: Differences, n: usize, simulations: u64, resamples: usize) -> f64 {
    let hits = (0..simulations)
        .into_par_iter()
        .filter(|&simulation| {
            let mut rng = ChaCha8Rng::seed_from_u64(1_000 + simulation);
            let values = draw(kind, n, &mut rng);
            let mean = values.iter().sum::<f64>() / n as f64;
            let replicates = &means(&[&values], resamples, simulation).unwrap()[0];
            bca(mean, replicates, acceleration(&values), 0.95, Reach::Expanded { n }).unwrap().contains(0.0)
        })
        .count();
    hits as f64 / simulations as f64
}

fn check_bootstrap(simulations: u64, resamples: usize) {
    let error = 2.0 * (0.95f64 * 0.05 / simulations as f64).sqrt();
    for (kind, n) in [
        (Differences::Normal, 30),
        (Differences::Normal, 100),
        (Differences::Exponential, 100),
        (Differences::FourSamples, 80),
        (Differences::FourSamples, 240),
    ] {
        let coverage = bootstrap_coverage(kind, n, simulations, resamples);
        println!("BCa {kind:?} n={n}: {coverage:.4} (Monte-Carlo error {error:.4})");
        assert!((BAND.start() - error..=BAND.end() + error).contains(&coverage), "{kind:?} n={n}: {coverage}");
    }
}

#[test]
fn the_bootstrap_holds_its_level() {
    check_bootstrap(300, 400);
}

#[test]
#[ignore = "a minute; see the module's head for the command"]
fn the_bootstrap_holds_its_level_in_full() {
    check_bootstrap(4_000, 2_000);
}

/// Sizes of the random effects, in standard deviations.
#[derive(Debug, Clone, Copy)]
struct Effects {
    seed: f64,
    prompt: f64,
    cell: f64,
    sample: f64,
}

fn seeds_coverage(seeds: usize, pairing: Seeds, effects: Effects, simulations: u64, resamples: usize) -> f64 {
    let (n, k) = (60, 3);
    let hits = (0..simulations)
        .into_par_iter()
        .filter(|&simulation| {
            let mut rng = ChaCha8Rng::seed_from_u64(9_000 + simulation);
            let prompts: Vec<f64> = (0..n).map(|_| effects.prompt * normal(&mut rng)).collect();
            let mut arm = || -> Vec<Vec<Vec<f64>>> {
                (0..seeds)
                    .map(|_| {
                        let shift = effects.seed * normal(&mut rng);
                        prompts
                            .iter()
                            .map(|prompt| {
                                let cell = prompt + shift + effects.cell * normal(&mut rng);
                                (0..k).map(|_| cell + effects.sample * normal(&mut rng)).collect()
                            })
                            .collect()
                    })
                    .collect()
            };
            let (a, b) = (arm(), arm());
            let baseline = Arm { runs: a.iter().map(|run| run.iter().map(Vec::as_slice).collect()).collect() };
            let candidate = Arm { runs: b.iter().map(|run| run.iter().map(Vec::as_slice).collect()).collect() };
            let options = Options { confidence: 0.95, resamples, seed: simulation };
            compare(&baseline, &candidate, pairing, options).unwrap().interval.contains(0.0)
        })
        .count();
    hits as f64 / simulations as f64
}

fn check_seeds(simulations: u64, resamples: usize) {
    let error = 2.0 * (0.95f64 * 0.05 / simulations as f64).sqrt();
    let seeds_matter = Effects { seed: 0.5, prompt: 1.0, cell: 0.5, sample: 1.0 };
    let prompts_matter = Effects { seed: 0.02, prompt: 1.0, cell: 1.0, sample: 1.0 };
    for (effects, what, high) in [(seeds_matter, "seeds differ", 0.97), (prompts_matter, "seeds hardly differ", 1.0)] {
        for seeds in [3, 5] {
            for pairing in [Seeds::Paired, Seeds::Independent] {
                let coverage = seeds_coverage(seeds, pairing, effects, simulations, resamples);
                println!(
                    "hierarchical {what}, {seeds} seeds, {pairing:?}: {coverage:.4} (Monte-Carlo error {error:.4})"
                );
                // Where seeds hardly differ, a few of them cannot show that: the interval may be wide, never narrow.
                let allowed = BAND.start() - error..=high + error;
                assert!(allowed.contains(&coverage), "{what}, {seeds} seeds, {pairing:?}: {coverage}");
            }
        }
    }
}

#[test]
fn intervals_over_seeds_hold_their_level() {
    check_seeds(150, 100);
}

#[test]
#[ignore = "a minute; see the module's head for the command"]
fn intervals_over_seeds_hold_their_level_in_full() {
    check_seeds(4_000, 500);
}
