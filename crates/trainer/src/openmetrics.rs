//! `metrics.prom`: the metrics of the last step as OpenMetrics text, for a scraper or node_exporter's textfile collector.
//!
//! One gauge per metric, `eos_logp/rejected` as `smpo_eos_logp_rejected`, labelled with the run directory's name; a metric
//! that a step does not measure keeps its value. (OpenMetrics 1.0, which equals the older Prometheus text format for gauges
//! without timestamps.)

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::error::TrainError;
use crate::record::StepRecord;

/// The file, replaced as a whole at every step.
pub(crate) struct Snapshot {
    path: PathBuf,
    run: String,
    gauges: BTreeMap<String, f64>,
}

impl Snapshot {
    /// Metrics of a run called `run`; the file is created with the first step.
    pub(crate) fn new(path: PathBuf, run: &str) -> Self {
        Snapshot { path, run: escaped(run), gauges: BTreeMap::new() }
    }

    /// Writes a step's metrics.
    pub(crate) fn write(&mut self, record: &StepRecord) -> Result<(), TrainError> {
        let progress = [("step".into(), record.step as f64), ("epoch".into(), record.epoch)];
        for (name, value) in record.figures().into_iter().chain(progress) {
            self.gauges.insert(gauge(&name), value);
        }
        Ok(smpo_files::write_whole(&self.path, self.text().as_bytes())?)
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for (name, value) in &self.gauges {
            let value = match value {
                value if value.is_nan() => "NaN".to_owned(),
                value if value.is_infinite() => if *value > 0.0 { "+Inf" } else { "-Inf" }.to_owned(),
                value => value.to_string(),
            };
            text += &format!("# TYPE {name} gauge\n{name}{{run=\"{}\"}} {value}\n", self.run);
        }
        text + "# EOF\n"
    }
}

/// A metric's name in the alphabet of gauges.
fn gauge(metric: &str) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    format!("smpo_{}", metric.chars().map(letter).collect::<String>())
}

/// A label's value, escaped.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_gauges_and_stay_until_they_are_measured_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.prom");
        let mut snapshot = Snapshot::new(path.clone(), "a \"run\"");
        let record = |step, name: &'static str, value| StepRecord {
            step,
            epoch: 0.5,
            metrics: vec![(name.into(), value)],
            update: None,
        };
        snapshot.write(&record(1, "eval_eos_logp/rejected", -3.25)).unwrap();
        snapshot.write(&record(2, "loss", f64::NAN)).unwrap();
        let expected = "# TYPE smpo_epoch gauge\nsmpo_epoch{run=\"a \\\"run\\\"\"} 0.5\n\
                        # TYPE smpo_eval_eos_logp_rejected gauge\nsmpo_eval_eos_logp_rejected{run=\"a \\\"run\\\"\"} -3.25\n\
                        # TYPE smpo_loss gauge\nsmpo_loss{run=\"a \\\"run\\\"\"} NaN\n\
                        # TYPE smpo_step gauge\nsmpo_step{run=\"a \\\"run\\\"\"} 2\n# EOF\n";
        assert_eq!(std::fs::read_to_string(path).unwrap(), expected);
    }
}
