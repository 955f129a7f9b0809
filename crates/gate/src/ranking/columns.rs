//! The primary metrics of all entries on a common list of prompts, so that any two can be paired at once.

use std::collections::HashMap;

use smpo_results::{BoardMetric, Direction};

use super::entries::Entry;
use crate::run::Run;
use crate::shared::PromptKey;

/// The values that ranking compares.
pub(super) struct Columns {
    /// `metrics[metric]`
    pub metrics: Vec<MetricColumns>,
    /// Number of entries.
    pub entries: usize,
}

/// One primary metric.
pub(super) struct MetricColumns {
    /// +1 for a metric that is better higher, −1 lower.
    pub sign: f64,
    /// `entries[entry][run][prompt]`: mean over samples, NaN for a missing value.
    pub entries: Vec<Vec<Vec<f64>>>,
    /// One 0/1 sample per prompt and one run in every entry: McNemar's test applies.
    pub binary: bool,
}

impl MetricColumns {
    /// Prompts with a value in every run of every entry that has the metric at all; `None` if there are none.
    pub fn common(&self) -> Option<Vec<usize>> {
        let measured = self.entries.iter().filter(|runs| runs.iter().flatten().any(|value| !value.is_nan()));
        let measured: Vec<&Vec<f64>> = measured.flatten().collect();
        let prompts = measured.first()?.len();
        let common: Vec<usize> = (0..prompts).filter(|&p| measured.iter().all(|run| !run[p].is_nan())).collect();
        (!common.is_empty()).then_some(common)
    }

    /// Mean over these prompts (all, if there are none) and runs, as gain; −∞ without values.
    pub fn mean_gain(&self, entry: usize, common: Option<&[usize]>) -> f64 {
        let runs = self.entries[entry].iter();
        let values: Vec<f64> = match common {
            Some(common) => runs.flat_map(|run| common.iter().map(|&p| run[p])).filter(|v| !v.is_nan()).collect(),
            None => runs.flatten().copied().filter(|v| !v.is_nan()).collect(),
        };
        if values.is_empty() { f64::NEG_INFINITY } else { self.sign * values.iter().sum::<f64>() / values.len() as f64 }
    }
}

impl Columns {
    pub fn new<'e>(entries: &'e [Entry], primary: &[&BoardMetric]) -> Columns {
        let mut places: HashMap<PromptKey, usize> = HashMap::new();
        let mut place_of = |run: &'e Run| -> Vec<usize> {
            let mut place = |row| {
                let next = places.len();
                *places.entry(run.measurements.key(row)).or_insert(next)
            };
            (0..run.measurements.len()).map(&mut place).collect()
        };
        let of_entry = |entry: &'e Entry| entry.runs.iter().map(&mut place_of).collect();
        let place_of: Vec<Vec<Vec<usize>>> = entries.iter().map(of_entry).collect();
        let prompts = places.len();
        let metrics = primary
            .iter()
            .map(|metric| {
                let mut binary = true;
                let mut columns = Vec::with_capacity(entries.len());
                for (entry, place_of) in entries.iter().zip(&place_of) {
                    binary &= entry.runs.len() == 1;
                    let column = |(run, place_of): (&Run, &Vec<usize>)| {
                        let mut column = vec![f64::NAN; prompts];
                        for (row, values) in run.rows(&metric.id) {
                            binary &= matches!(values, [v] if *v == 0.0 || *v == 1.0);
                            column[place_of[row]] = values.iter().sum::<f64>() / values.len() as f64;
                        }
                        column
                    };
                    columns.push(entry.runs.iter().zip(place_of).map(column).collect());
                }
                let sign = if metric.better == Direction::Lower { -1.0 } else { 1.0 };
                MetricColumns { sign, entries: columns, binary }
            })
            .collect();
        Columns { metrics, entries: entries.len() }
    }
}
