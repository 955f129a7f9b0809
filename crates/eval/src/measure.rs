//! From samples to `measurements.jsonl` and `metrics.json`.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;

use rayon::prelude::*;
use smpo_metrics::estimate::{self, Estimate};
use smpo_metrics::metric::CorpusFn;
use smpo_metrics::metric::same_answer::Answer;
use smpo_metrics::{
    Completion, Corpus, Metric, MetricInfo, Scratch, all, among_metrics, measure_sample, sample_metrics,
};
use smpo_results::{FinishReason, Measurement, Measurements, MetricEstimate, MetricsFile, SCHEMA_VERSION, Sample};

use crate::slices::{ALL, HELD_OUT};

/// Prompts that are measured at a time, side by side.
const BATCH: usize = 1024;

/// Measurements and estimates of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// One row per prompt, in the order of the samples, then one per held-out pair.
    pub measurements: Measurements,
    /// Estimates: slice `all` first, then each slice in the order it appears.
    pub metrics: MetricsFile,
}

/// Samples of a run by prompt, wherever they are.
pub trait Samples: Sync {
    /// Error of reading them.
    type Error: Send;

    /// Number of prompts.
    fn prompts(&self) -> usize;

    /// The samples of one prompt, at least one.
    ///
    /// # Errors
    /// When they cannot be read.
    fn of_prompt(&self, prompt: usize) -> Result<Cow<'_, [Sample]>, Self::Error>;
}

/// Samples in memory.
struct Held<'a>(Vec<&'a [Sample]>);

impl Samples for Held<'_> {
    type Error = Infallible;

    fn prompts(&self) -> usize {
        self.0.len()
    }

    fn of_prompt(&self, prompt: usize) -> Result<Cow<'_, [Sample]>, Infallible> {
        Ok(Cow::Borrowed(self.0[prompt]))
    }
}

/// Measures completions. `samples` come grouped by prompt; `teacher_forced` are rows of
/// [`crate::teacher_forced::measure_gold`], which join the row of their prompt, and of
/// [`crate::teacher_forced::measure_pairs`], which stand alone.
pub fn measure(samples: &[Sample], teacher_forced: Vec<Measurement>) -> Measured {
    let held = Held(samples.chunk_by(|a, b| a.prompt_id == b.prompt_id).collect());
    let Ok(measured) = measure_each(&held, teacher_forced);
    measured
}

/// [`measure`] of samples that are not all in memory: they are read by prompt, once, and a few a second time.
///
/// # Errors
/// Those of reading a sample.
pub fn measure_each<S: Samples>(samples: &S, teacher_forced: Vec<Measurement>) -> Result<Measured, S::Error> {
    let mut measurements = Measurements::default();
    let mut completions = Vec::new();
    let mut compared: Vec<Vec<Option<Answer>>> = among_metrics().map(|_| Vec::new()).collect();
    // End of each prompt's samples.
    let mut ends: Vec<usize> = Vec::new();
    for start in (0..samples.prompts()).step_by(BATCH) {
        let batch = start..samples.prompts().min(start + BATCH);
        let read = |scratch: &mut Scratch, prompt| Ok(of_prompt(&samples.of_prompt(prompt)?, prompt, scratch));
        let rows = batch.into_par_iter().map_init(Scratch::default, read).collect::<Result<Vec<Row>, _>>()?;
        for row in rows {
            measurements.push(&row.measurement);
            completions.extend(row.completions);
            compared.iter_mut().zip(row.compared).for_each(|(all, of_prompt)| all.extend(of_prompt));
            ends.push(ends.last().copied().unwrap_or(0) + row.samples);
        }
    }
    for ((metric, among), parts) in among_metrics().zip(compared) {
        let values = (among.compare)(&parts);
        let starts = std::iter::once(0).chain(ends.iter().copied());
        let by_prompt = starts.zip(&ends).map(|(start, &end)| values[start..end].iter().copied().flatten().collect());
        let mut rows = by_prompt.enumerate().filter(|(_, values): &(usize, Vec<f64>)| !values.is_empty()).peekable();
        if rows.peek().is_some() {
            measurements.set(metric.info.id, rows.collect());
        }
    }
    let corpus = Corpus::read(completions, |prompt, index| {
        let of_prompt = samples.of_prompt(prompt as usize)?;
        let mut sound = of_prompt.iter().filter(|sample| sample.finish_reason != FinishReason::Error);
        Ok(sound.nth(index).map(|sample| sample.completion.clone()).unwrap_or_default())
    })?;
    join(&mut measurements, teacher_forced);
    let metrics = MetricsFile { schema: SCHEMA_VERSION, metrics: estimates(&corpus, &measurements) };
    Ok(Measured { measurements, metrics })
}

/// One prompt's samples, measured.
struct Row {
    measurement: Measurement,
    samples: usize,
    completions: Vec<Completion>,
    /// By metric of [`among_metrics`].
    compared: Vec<Vec<Option<Answer>>>,
}

fn of_prompt(samples: &[Sample], prompt: usize, scratch: &mut Scratch) -> Row {
    let measured: Vec<_> = samples.iter().map(|sample| measure_sample(sample, scratch)).collect();
    let by_metric = sample_metrics().enumerate().map(|(index, metric)| {
        let values: Vec<f64> = measured.iter().filter_map(|of_sample| of_sample[index]).collect();
        (metric.info.id.to_owned(), values)
    });
    Row {
        measurement: Measurement {
            schema: SCHEMA_VERSION,
            prompt_id: samples[0].prompt_id.clone(),
            slice: samples[0].slice.clone(),
            values: by_metric.filter(|(_, values)| !values.is_empty()).collect(),
        },
        samples: samples.len(),
        completions: samples.iter().filter_map(|sample| Completion::of(sample, prompt as u32)).collect(),
        compared: among_metrics().map(|(_, among)| samples.iter().map(among.part).collect()).collect(),
    }
}

/// Adds teacher-forced values to the rows of their prompts, and rows for those that have none.
fn join(measurements: &mut Measurements, teacher_forced: Vec<Measurement>) {
    if teacher_forced.is_empty() {
        return;
    }
    let row_of: HashMap<String, usize> =
        (0..measurements.len()).map(|row| (measurements.key(row).1.to_owned(), row)).collect();
    let mut joined: BTreeMap<String, BTreeMap<usize, Vec<f64>>> = BTreeMap::new();
    let mut alone = Vec::new();
    for row in teacher_forced {
        match row_of.get(&row.prompt_id).filter(|_| row.slice != HELD_OUT) {
            Some(&index) => row.values.into_iter().for_each(|(metric, values)| {
                joined.entry(metric).or_default().insert(index, values);
            }),
            None => alone.push(row),
        }
    }
    for (metric, values) in joined {
        measurements.set(&metric, values.into_iter().collect());
    }
    alone.iter().for_each(|row| measurements.push(row));
}

fn estimates(whole: &Corpus, measurements: &Measurements) -> Vec<MetricEstimate> {
    let mut slices: Vec<&str> = vec![ALL];
    slices.extend(measurements.slices().filter(|slice| *slice != ALL));
    // Computed by metric, one pass over the rows each; written by slice.
    let by_metric: Vec<Vec<Option<MetricEstimate>>> = all()
        .into_par_iter()
        .map(|metric| {
            let info = metric.info;
            let estimates = match metric.corpus {
                Some(estimate) => of_corpus(metric, estimate, whole, measurements, &slices),
                None => of_prompts(info, measurements, &slices),
            };
            let named = slices.iter().zip(estimates);
            named.map(|(slice, estimate)| estimate.map(|estimate| written(info, slice, estimate))).collect()
        })
        .collect();
    let mut by_slice = Vec::new();
    for slice in 0..slices.len() {
        by_slice.extend(by_metric.iter().filter_map(|of_metric| of_metric[slice].clone()));
    }
    by_slice
}

/// A metric of a whole run, over each slice that it is estimated over.
fn of_corpus(
    metric: &Metric,
    estimate: CorpusFn,
    whole: &Corpus,
    measurements: &Measurements,
    slices: &[&str],
) -> Vec<Option<Estimate>> {
    let over = |slice: &&str| match *slice {
        ALL => estimate(whole),
        slice if metric.by_slice => estimate(&whole.part(|prompt| measurements.key(prompt as usize).0 == slice)),
        _ => None,
    };
    slices.iter().map(over).collect()
}

/// A metric of each prompt, over all of them and over each slice. The unit is the prompt: its samples are averaged first
/// (Miller 2024, arXiv 2411.00640).
fn of_prompts(info: &MetricInfo, measurements: &Measurements, slices: &[&str]) -> Vec<Option<Estimate>> {
    let mut means: Vec<Vec<f64>> = vec![Vec::new(); slices.len()];
    for (row, values) in measurements.column(info.id).into_iter().flat_map(|column| column.rows()) {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        means[0].push(mean);
        if let Some(slice) = slices.iter().skip(1).position(|slice| *slice == measurements.key(row).0) {
            means[slice + 1].push(mean);
        }
    }
    means.iter().map(|prompts| estimate::of_prompts(info, prompts)).collect()
}

/// A jackknife's interval does not know of values that the metric cannot have; it is cut there.
fn written(info: &MetricInfo, slice: &str, estimate: Estimate) -> MetricEstimate {
    let estimate = estimate.within(info);
    MetricEstimate {
        metric: info.id.to_owned(),
        slice: slice.to_owned(),
        value: estimate.value,
        ci_low: estimate.interval.low,
        ci_high: estimate.interval.high,
        n: estimate.n,
        unit: info.unit,
        better: info.better,
        primary: info.primary,
    }
}
