//! `[alarms]`: the bounds past which a run warns.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::TrainConfigBuilder;
use crate::config::builder::setters;
use crate::config::check::Problems;

/// Warnings about a run that goes wrong. Each alarm is raised once, with the measured value and a remedy; none of them
/// stops a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AlarmConfig {
    /// False turns all alarms off.
    pub enabled: bool,
    /// Steps that a metric is averaged over before it is compared.
    pub window: usize,
    /// Chosen and rejected log-probs both fell by this much since the first steps, in nats per token.
    pub logps_fall: f64,
    /// Mean log-prob of the terminator on rejected answers fell by this much since the first steps, in nats (docs/study.md has
    /// what this bound finds and what it misses).
    pub eos_fall: f64,
    /// Mean log-prob of the terminator on rejected answers itself, in nats, once it has fallen by one; unset, its fall alone counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eos_on_rejected: Option<f64>,
    /// Share of the rejected tokens that winsorizing or the floor clips.
    pub clip_share: f64,
    /// Share of pairs in which the rewards of a loss that clips prefer chosen, less the share in which the untransformed
    /// log-probs without the terminator do.
    pub accuracy_gap: f64,
    /// Share of the probe's completions that end, less than that of the first probe by this much.
    pub probe_fall: f64,
    /// Largest learning rate without an alarm, as a multiple of the highest published one of the method. Models below 100
    /// million parameters, for which nothing is published, are left out.
    pub learning_rate_factor: f64,
}

impl Default for AlarmConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            window: 10,
            logps_fall: 0.5,
            eos_fall: 1.5,
            eos_on_rejected: None,
            clip_share: 0.5,
            accuracy_gap: 0.25,
            probe_fall: 0.2,
            learning_rate_factor: 5.0,
        }
    }
}

impl TrainConfigBuilder {
    setters! {
        alarms: AlarmConfig,
    }
}

impl AlarmConfig {
    /// Values out of range, a message each.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Problems::default();
        self.check(&mut problems);
        problems.found.into_iter().map(|problem| problem.message).collect()
    }

    pub(in crate::config) fn check(&self, problems: &mut Problems) {
        problems.range("window", self.window > 0, "at least 1", 0);
        problems.range("logps_fall", self.logps_fall > 0.0, "a positive number of nats", self.logps_fall);
        problems.range("eos_fall", self.eos_fall > 0.0, "a positive number of nats", self.eos_fall);
        if let Some(bound) = self.eos_on_rejected {
            problems.range("eos_on_rejected", bound < 0.0, "a log-prob below 0", bound);
        }
        problems.range("clip_share", (0.0..=1.0).contains(&self.clip_share), "from 0 to 1", self.clip_share);
        problems.range("accuracy_gap", (0.0..=1.0).contains(&self.accuracy_gap), "from 0 to 1", self.accuracy_gap);
        problems.range("probe_fall", (0.0..=1.0).contains(&self.probe_fall), "from 0 to 1", self.probe_fall);
        let factor = self.learning_rate_factor;
        problems.range("learning_rate_factor", factor >= 1.0, "at least 1", factor);
    }
}
