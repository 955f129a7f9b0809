//! Figures of the probe's completions, by the metrics of evaluations.

use smpo_metrics::{Scratch, measure_sample, sample_metrics};
use smpo_results::{FinishReason, Sample};

use super::prompts::Prompt;
use crate::record::Figure;

/// Metrics that the probe reports, each as `probe/<id>`.
const REPORTED: [&str; 3] = ["eos_rate", "loop_rate", "length"];

/// One completion as evaluations record it.
pub(super) fn sample(prompt: &Prompt, ids: Vec<u32>, text: String, terminated: bool, cap: usize) -> Sample {
    Sample {
        tokens: u32::try_from(ids.len()).ok(),
        token_ids: Some(ids),
        finish_reason: if terminated { FinishReason::Eos } else { FinishReason::Length },
        cap: u32::try_from(cap).ok(),
        ..Sample::new(prompt.id.clone(), text)
    }
}

/// Every per-sample metric of each completion, in the order of [`sample_metrics`].
pub(super) fn measure(samples: &[Sample]) -> Vec<Vec<Option<f64>>> {
    let mut scratch = Scratch::default();
    samples.iter().map(|sample| measure_sample(sample, &mut scratch)).collect()
}

/// Means of the [`REPORTED`] metrics over the completions that have a value.
pub(super) fn figures(values: &[Vec<Option<f64>>]) -> Vec<Figure> {
    let reported = sample_metrics().enumerate().filter(|(_, metric)| REPORTED.contains(&metric.info.id));
    reported
        .filter_map(|(index, metric)| {
            let known: Vec<f64> = values.iter().filter_map(|values| values[index]).collect();
            let mean = known.iter().sum::<f64>() / known.len() as f64;
            (!known.is_empty()).then(|| (format!("probe/{}", metric.info.id).into(), mean))
        })
        .collect()
}

/// True for each completion of which the metric `id` is 1.
pub(super) fn holds(values: &[Vec<Option<f64>>], id: &str) -> Vec<bool> {
    let index = sample_metrics().position(|metric| metric.info.id == id);
    values.iter().map(|values| index.is_some_and(|index| values[index] == Some(1.0))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_the_means_of_the_metrics() {
        let prompt = Prompt { id: "p".into(), ids: vec![1], gold: None };
        let ended = sample(&prompt, vec![5, 6, 2], "ab".into(), true, 64);
        let looping = sample(&prompt, vec![7; 40], "c".repeat(40), false, 40);
        let values = measure(&[ended, looping]);
        let expected: [(&str, f64); 3] = [("probe/eos_rate", 0.5), ("probe/loop_rate", 0.5), ("probe/length", 21.5)];
        assert_eq!(figures(&values), expected.map(|(name, value)| (name.into(), value)));
        assert_eq!(holds(&values, "loop_rate"), [false, true]);
    }
}
