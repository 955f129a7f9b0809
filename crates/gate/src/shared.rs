//! The prompts of several runs, and the row of each in each run.

use smpo_metrics::Metric;

use crate::run::Run;

/// The metric that every answer has a value of.
pub(crate) const ERRORS: &str = "error_rate";

/// A prompt's identity within a suite: slice and id.
pub(crate) type PromptKey<'a> = (&'a str, &'a str);

/// Row of a prompt that the run does not have: beyond the end of every column.
const ABSENT: usize = usize::MAX;

/// Every prompt that some run has, ascending.
#[derive(Debug)]
pub(crate) struct Prompts<'a> {
    runs: Vec<&'a Run>,
    /// `rows[run][prompt]`
    rows: Vec<Vec<usize>>,
    len: usize,
}

impl<'a> Prompts<'a> {
    /// Merges the runs' prompts.
    pub fn of(runs: impl IntoIterator<Item = &'a Run>) -> Prompts<'a> {
        let runs: Vec<&Run> = runs.into_iter().collect();
        let sorted: Vec<Vec<usize>> = runs.iter().map(|run| run.measurements.sorted()).collect();
        let mut rows: Vec<Vec<usize>> = runs.iter().map(|run| Vec::with_capacity(run.measurements.len())).collect();
        let mut next = vec![0; runs.len()];
        let mut len = 0;
        loop {
            let key = |run: usize| sorted[run].get(next[run]).map(|&row| runs[run].measurements.key(row));
            let Some(least) = (0..runs.len()).filter_map(key).min() else { break };
            let here: Vec<bool> = (0..runs.len()).map(|run| key(run) == Some(least)).collect();
            for (run, here) in here.into_iter().enumerate() {
                rows[run].push(if here { sorted[run][next[run]] } else { ABSENT });
                next[run] += usize::from(here);
            }
            len += 1;
        }
        Prompts { runs, rows, len }
    }

    /// Number of prompts.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Slice and id of a prompt.
    pub fn key(&self, prompt: usize) -> PromptKey<'a> {
        let found = self.runs.iter().zip(&self.rows).find(|(_, rows)| rows[prompt] != ABSENT);
        found.map_or(("", ""), |(run, rows)| run.measurements.key(rows[prompt]))
    }

    /// The row of a prompt in a run.
    pub fn row(&self, run: usize, prompt: usize) -> Option<usize> {
        Some(self.rows[run][prompt]).filter(|row| *row != ABSENT)
    }

    /// One metric of one run, by prompt.
    pub fn values<'p>(&'p self, run: usize, metric: &str) -> Values<'p> {
        Values { column: self.runs[run].measurements.column(metric), rows: &self.rows[run] }
    }

    /// Answers of a run to these prompts that have no value of a metric though it applies to every answer, and all answers:
    /// those that failed, and for a metric of the end those that do not say how they ended. No answer where the run does not
    /// tell how many failed.
    pub fn lost(&self, run: usize, metric: &Metric, prompts: &[usize]) -> (usize, usize) {
        let (failures, values) = (self.values(run, ERRORS), self.values(run, metric.info.id));
        let told = prompts.iter().map(|&prompt| (failures.of(prompt), values.of(prompt).len()));
        told.fold((0, 0), |(lost, answers), (failed, measured)| {
            let here = match metric.of_ends {
                true => failed.len().saturating_sub(measured),
                false => failed.iter().filter(|failed| **failed > 0.0).count(),
            };
            (lost + here, answers + failed.len())
        })
    }

    /// Prompts of a slice (`all`: of every one) for which some of these runs `has` it in its row.
    pub fn count(&self, slice: &str, runs: &[usize], has: impl Fn(usize, usize) -> bool) -> usize {
        let on_slice = |prompt: &usize| slice == "all" || self.key(*prompt).0 == slice;
        let some = |prompt: &usize| runs.iter().any(|&run| self.row(run, *prompt).is_some_and(|row| has(run, row)));
        (0..self.len).filter(some).filter(on_slice).count()
    }
}

/// One metric of one run, by prompt.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Values<'a> {
    column: Option<&'a smpo_results::Column>,
    rows: &'a [usize],
}

impl<'a> Values<'a> {
    /// The values of a prompt; none where the run lacks it.
    pub fn of(&self, prompt: usize) -> &'a [f64] {
        self.column.map_or(&[], |column| column.row(self.rows[prompt]))
    }
}
