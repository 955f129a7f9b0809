//! Evaluation on held-out rows, the best checkpoint and early stopping.

use std::path::PathBuf;

use smpo_data::HoldOut;

use crate::config::builder::setters;
use crate::config::check::{Problems, is_non_negative};
use crate::config::{Interval, TrainConfig, TrainConfigBuilder, defaults};

/// Ends of the names of metrics of which less is better.
const LOWER_IS_BETTER: [&str; 7] =
    ["loss", "rewards/rejected", "logps/rejected", "loop_rate", "length", "divergence", "kl"];

impl TrainConfigBuilder {
    /// Sets [`TrainConfig::eval_dataset`].
    #[must_use]
    pub fn eval_files(mut self, files: impl IntoIterator<Item = impl Into<PathBuf>>) -> Self {
        self.config.eval_dataset = files.into_iter().map(Into::into).collect();
        self
    }

    setters! {
        test_size?: HoldOut,
        eval_steps?: into Interval,
        per_device_eval_batch_size?: usize,
        metric_for_best_model?: into String,
        greater_is_better?: bool,
        load_best_model_at_end: bool,
        early_stopping_patience?: u64,
        early_stopping_threshold: f64,
    }
}

impl TrainConfig {
    /// Rows of a micro-batch in evaluation.
    pub fn eval_batch_size(&self) -> usize {
        self.per_device_eval_batch_size.unwrap_or(self.per_device_train_batch_size)
    }

    /// Name in `metrics.jsonl` of the metric that checkpoints are compared by.
    pub fn best_metric(&self) -> String {
        match self.metric_for_best_model.as_deref() {
            None => "eval_loss".to_owned(),
            Some(name) if name.starts_with("eval_") || name.starts_with("probe/") => name.to_owned(),
            Some(name) => format!("eval_{name}"),
        }
    }

    /// True if more of [`TrainConfig::best_metric`] is better.
    pub fn best_is_greatest(&self) -> bool {
        let name = self.best_metric();
        self.greater_is_better.unwrap_or_else(|| !LOWER_IS_BETTER.iter().any(|end| name.ends_with(end)))
    }

    /// True if rows are held out.
    pub fn evaluates(&self) -> bool {
        self.holds_out() || !self.eval_dataset.is_empty()
    }

    /// True if [`TrainConfig::test_size`] is of any rows.
    pub(crate) fn holds_out(&self) -> bool {
        match self.test_size {
            None | Some(HoldOut::Rows(0)) => false,
            Some(HoldOut::Share(share)) => share != 0.0,
            Some(HoldOut::Rows(_)) => true,
        }
    }

    /// Remarks on settings that nothing reads in this configuration.
    pub(crate) fn idle_remarks(&self) -> Vec<String> {
        let compares = self.load_best_model_at_end || self.early_stopping_patience.is_some();
        let held_out = "`test_size` or `eval_dataset`: no rows are held out";
        let compared = "`load_best_model_at_end` or `early_stopping_patience`";
        let idle = [
            ("eval_steps", self.eval_steps.is_some() && !self.evaluates(), held_out),
            ("per_device_eval_batch_size", self.per_device_eval_batch_size.is_some() && !self.evaluates(), held_out),
            ("metric_for_best_model", self.metric_for_best_model.is_some() && !compares, compared),
            ("greater_is_better", self.greater_is_better.is_some() && !compares, compared),
            (
                "early_stopping_threshold",
                self.early_stopping_threshold != 0.0 && self.early_stopping_patience.is_none(),
                "`early_stopping_patience`",
            ),
            (
                "ref_model_mixup_alpha",
                self.ref_model_mixup_alpha != defaults::ref_model_mixup_alpha() && !self.sync_ref_model,
                "`sync_ref_model`",
            ),
        ];
        let idle = idle.into_iter().filter(|(_, idle, _)| *idle);
        idle.map(|(key, _, without)| format!("`{key}` has no effect without {without}")).collect()
    }

    pub(in crate::config) fn check_evaluation(&self, problems: &mut Problems) {
        if let Some(HoldOut::Share(share)) = self.test_size {
            let expected = "a share from 0 up to but not 1, or a whole number of rows";
            problems.range("test_size", (0.0..1.0).contains(&share), expected, share);
        }
        problems.exclusive(("test_size", self.holds_out()), ("eval_dataset", !self.eval_dataset.is_empty()));
        Interval::check(self.eval_steps, "eval_steps", problems);
        problems.range("per_device_eval_batch_size", self.per_device_eval_batch_size != Some(0), "at least 1", 0);
        problems.range("early_stopping_patience", self.early_stopping_patience != Some(0), "at least 1", 0);
        let threshold = self.early_stopping_threshold;
        problems.range("early_stopping_threshold", is_non_negative(threshold), "0 or more", threshold);
        let compare = [
            ("load_best_model_at_end", self.load_best_model_at_end),
            ("early_stopping_patience", self.early_stopping_patience.is_some()),
        ];
        for (key, _) in compare.into_iter().filter(|(_, on)| *on) {
            self.check_best_metric(key, problems);
        }
    }

    /// `key` compares checkpoints by a metric: something must measure it.
    fn check_best_metric(&self, key: &str, problems: &mut Problems) {
        let metric = self.best_metric();
        if metric.starts_with("probe/") && self.probe.is_none() {
            let message = format!("`{key}` compares by {metric}, which needs a [probe] table");
            problems.refuse(&[key, "metric_for_best_model", "probe"], message);
        }
        if metric.starts_with("eval_") && !self.evaluates() {
            let message = format!("`{key}` compares by {metric}, which needs `test_size` or `eval_dataset`");
            problems.refuse(&[key, "metric_for_best_model", "test_size", "eval_dataset"], message);
        }
    }
}
