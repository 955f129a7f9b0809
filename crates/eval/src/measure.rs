//! From samples to `measurements.jsonl` and `metrics.json`.

use std::collections::{BTreeMap, HashMap};

use rayon::prelude::*;
use smpo_metrics::estimate::{self, Estimate};
use smpo_metrics::metric::CorpusFn;
use smpo_metrics::{Corpus, Metric, MetricInfo, Scratch, all, among_metrics, measure_sample, sample_metrics};
use smpo_results::{
    FinishReason, Measurement, Measurements, MetricEstimate, MetricsFile, SCHEMA_VERSION, Sample, Unit,
};

use crate::slices::{ALL, HELD_OUT};

/// Samples that are measured at a time, side by side.
const BATCH: usize = 4096;

/// Measurements and estimates of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// One row per prompt, in the order of the samples, then one per held-out pair.
    pub measurements: Measurements,
    /// Estimates: slice `all` first, then each slice in the order it appears.
    pub metrics: MetricsFile,
}

/// Measures completions. `samples` come grouped by prompt; `teacher_forced` are rows of
/// [`crate::teacher_forced::measure_gold`], which join the row of their prompt, and of
/// [`crate::teacher_forced::measure_pairs`], which stand alone.
pub fn measure(samples: &[Sample], teacher_forced: Vec<Measurement>) -> Measured {
    let among: Vec<_> = among_metrics().map(|(metric, measure)| (metric.info.id, measure(samples))).collect();
    let mut measurements = Measurements::default();
    let mut start = 0;
    while start < samples.len() {
        let end = end_of_prompt(samples, (start + BATCH).min(samples.len()));
        let batch = &samples[start..end];
        let values: Vec<_> =
            batch.par_iter().map_init(Scratch::default, |scratch, s| measure_sample(s, scratch)).collect();
        let mut place = 0;
        for prompt in batch.chunk_by(|a, b| a.prompt_id == b.prompt_id) {
            let rows = &values[place..place + prompt.len()];
            let beside = |values: &Vec<Option<f64>>| -> Vec<f64> {
                let of_prompt = &values[start + place..start + place + prompt.len()];
                of_prompt.iter().copied().flatten().collect()
            };
            let alone = sample_metrics().enumerate();
            let alone = alone.map(|(index, of)| (of.info.id, rows.iter().filter_map(|row| row[index]).collect()));
            let beside = among.iter().map(|(id, values)| (*id, beside(values)));
            let values = alone.chain(beside).filter(|(_, of_prompt): &(&str, Vec<f64>)| !of_prompt.is_empty());
            measurements.push(&Measurement {
                schema: SCHEMA_VERSION,
                prompt_id: prompt[0].prompt_id.clone(),
                slice: prompt[0].slice.clone(),
                values: values.map(|(id, of_prompt)| (id.to_owned(), of_prompt)).collect(),
            });
            place += prompt.len();
        }
        start = end;
    }
    join(&mut measurements, teacher_forced);
    let metrics = MetricsFile { schema: SCHEMA_VERSION, metrics: estimates(samples, &measurements) };
    Measured { measurements, metrics }
}

/// The end of the prompt that the sample before `end` is of.
fn end_of_prompt(samples: &[Sample], end: usize) -> usize {
    let last = &samples[end - 1].prompt_id;
    end + samples[end..].iter().take_while(|sample| sample.prompt_id == *last).count()
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

fn estimates(samples: &[Sample], measurements: &Measurements) -> Vec<MetricEstimate> {
    let mut slices: Vec<&str> = vec![ALL];
    slices.extend(measurements.slices().filter(|slice| *slice != ALL));
    let whole = Corpus::new(samples.iter().filter(|sample| sample.finish_reason != FinishReason::Error));
    // Computed by metric, one pass over the rows each; written by slice.
    let by_metric: Vec<Vec<Option<MetricEstimate>>> = all()
        .into_par_iter()
        .map(|metric| {
            let info = metric.info;
            let estimates = match metric.corpus {
                Some(estimate) => of_corpus(metric, estimate, &whole, &slices),
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
fn of_corpus(metric: &Metric, estimate: CorpusFn, whole: &Corpus<'_>, slices: &[&str]) -> Vec<Option<Estimate>> {
    let over = |slice: &&str| match *slice {
        ALL => estimate(whole),
        slice if metric.by_slice => {
            estimate(&Corpus::new(whole.samples.iter().copied().filter(|sample| sample.slice == slice)))
        }
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

/// A jackknife's interval does not know of a share's ends; it is cut there.
fn written(info: &MetricInfo, slice: &str, estimate: Estimate) -> MetricEstimate {
    let (low, high) = if info.unit == Unit::Share { (0.0, 1.0) } else { (f64::NEG_INFINITY, f64::INFINITY) };
    MetricEstimate {
        metric: info.id.to_owned(),
        slice: slice.to_owned(),
        value: estimate.value,
        ci_low: estimate.interval.low.max(low),
        ci_high: estimate.interval.high.min(high),
        n: estimate.n,
        unit: info.unit,
        better: info.better,
        primary: info.primary,
    }
}
