//! Rank bands with simultaneous confidence. Every pair of entries is tested on every primary metric; an entry's
//! band runs from one more than the number of entries proven better to the number of entries not proven worse. With
//! the tests adjusted together (Holm) all bands hold at once at 95 % (Mogstad, Romano, Shaikh & Wilhelm 2024,
//! *Inference for Ranks*, Rev Econ Stud 91:476).

use std::cmp::Ordering;

use rayon::prelude::*;
use smpo_stats::binary::{PairedTable, mcnemar};
use smpo_stats::distribution::student_cdf;
use smpo_stats::hierarchical::{self, Arm, Options, Seeds};
use smpo_stats::multiplicity::holm;

use super::columns::{Columns, MetricColumns};

/// Error rate of all bands together.
const ALPHA: f64 = 0.05;

/// Bands by entry, and the order of the rows.
pub(super) struct Ranking {
    pub bands: Vec<(usize, usize)>,
    pub order: Vec<usize>,
}

/// A tested pair on one metric.
struct Contest {
    first: usize,
    second: usize,
    /// The second is the better one.
    second_better: bool,
    p: f64,
}

pub(super) fn rank(columns: &Columns) -> Ranking {
    let n = columns.entries;
    let pairs: Vec<(usize, usize)> = (0..n).flat_map(|a| (a + 1..n).map(move |b| (a, b))).collect();
    let contests: Vec<Contest> = pairs
        .par_iter()
        .flat_map_iter(|&(first, second)| {
            columns.metrics.iter().filter_map(move |metric| {
                let (gain, p) = test(metric, first, second)?;
                Some(Contest { first, second, second_better: gain > 0.0, p })
            })
        })
        .collect();
    let adjusted = holm(&contests.iter().map(|contest| contest.p).collect::<Vec<_>>());

    // better[a][b]: a is proven better than b on some primary metric.
    let mut better = vec![vec![false; n]; n];
    for (contest, p) in contests.iter().zip(adjusted) {
        if p <= ALPHA {
            let (winner, loser) =
                if contest.second_better { (contest.second, contest.first) } else { (contest.first, contest.second) };
            better[winner][loser] = true;
        }
    }
    // Better on one metric and worse on another is no order between the two.
    let beats = |a: usize, b: usize| better[a][b] && !better[b][a];
    let bands: Vec<(usize, usize)> = (0..n)
        .map(|entry| {
            let above = (0..n).filter(|other| beats(*other, entry)).count();
            let below = (0..n).filter(|other| beats(entry, *other)).count();
            (1 + above, n - below)
        })
        .collect();

    let mean_place = mean_places(columns);
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&a, &b| {
        let by_band = bands[a].cmp(&bands[b]);
        by_band.then(mean_place[a].partial_cmp(&mean_place[b]).unwrap_or(Ordering::Equal)).then(a.cmp(&b))
    });
    Ranking { bands, order }
}

/// Within a band rows are ordered by their average place over the primary metrics.
fn mean_places(columns: &Columns) -> Vec<f64> {
    let mut places = vec![0.0; columns.entries];
    for metric in &columns.metrics {
        let common = metric.common();
        let gains: Vec<f64> = (0..columns.entries).map(|entry| metric.mean_gain(entry, common.as_deref())).collect();
        for (entry, place) in places.iter_mut().enumerate() {
            let above = gains.iter().filter(|g| **g > gains[entry]).count() as f64;
            let level = gains.iter().filter(|g| **g == gains[entry]).count() as f64;
            // Equal ones share the mean of their places, up to a constant.
            *place += above + 0.5 * level;
        }
    }
    places
}

/// Gain of the second over the first and its two-sided p value; none with fewer than two shared prompts.
fn test(metric: &MetricColumns, first: usize, second: usize) -> Option<(f64, f64)> {
    let (a, b) = (&metric.entries[first], &metric.entries[second]);
    let prompts = a.first()?.len();
    let shared: Vec<usize> = (0..prompts).filter(|&p| a.iter().chain(b).all(|run| !run[p].is_nan())).collect();
    if shared.len() < 2 {
        return None;
    }
    if metric.binary {
        let table = PairedTable::from_pairs(shared.iter().map(|&p| (a[0][p] == 1.0, b[0][p] == 1.0)));
        return Some((metric.sign * table.difference(), mcnemar(&table).mid_p));
    }
    if a.len() == 1 && b.len() == 1 {
        let differences: Vec<f64> = shared.iter().map(|&p| b[0][p] - a[0][p]).collect();
        let (mean, p) = paired_t(&differences);
        return Some((metric.sign * mean, p));
    }
    let (a, b) = (cells(a, &shared), cells(b, &shared));
    // The p value comes from the variance components, so the minimal number of resamples is enough.
    let options = Options { confidence: 0.95, resamples: 100, seed: 0 };
    let found = hierarchical::compare(&Arm { runs: a }, &Arm { runs: b }, Seeds::Independent, options).ok()?;
    Some((metric.sign * found.value, found.two_sided))
}

/// The values of these prompts, one "sample" each: samples were averaged before.
fn cells<'a>(runs: &'a [Vec<f64>], prompts: &[usize]) -> Vec<Vec<&'a [f64]>> {
    runs.iter().map(|run| prompts.iter().map(|&p| std::slice::from_ref(&run[p])).collect()).collect()
}

/// Mean and two-sided p value of Student's paired t test; of the exact sign-flip test if all differences are equal
/// and t is undefined.
fn paired_t(differences: &[f64]) -> (f64, f64) {
    let n = differences.len() as f64;
    let mean = differences.iter().sum::<f64>() / n;
    let variance = differences.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let error = (variance / n).sqrt();
    if error > 0.0 {
        (mean, (2.0 * student_cdf(-(mean / error).abs(), n - 1.0)).min(1.0))
    } else {
        (mean, if mean == 0.0 { 1.0 } else { 0.5f64.powf(n - 1.0) })
    }
}
