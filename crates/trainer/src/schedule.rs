//! Learning-rate schedules, under the names that published configurations use.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Shape of the learning rate after warm-up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// Constant.
    #[serde(alias = "constant_with_warmup")]
    Constant,
    /// Linear decay.
    Linear,
    /// Half a cosine (Loshchilov and Hutter, arXiv 1608.03983).
    #[default]
    #[serde(alias = "cosine_with_min_lr")]
    Cosine,
    /// Constant, then linear decay in the last `lr_decay_ratio` of the steps (WSD; Hu et al. 2024, arXiv 2404.06395).
    #[serde(alias = "wsd")]
    WarmupStableDecay,
}

/// The learning rate as a function of the optimizer step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LearningRate {
    /// Peak.
    pub peak: f64,
    /// Shape after the warm-up.
    pub schedule: Schedule,
    /// Steps of linear warm-up.
    pub warmup_steps: u64,
    /// Steps of the run.
    pub total_steps: u64,
    /// Final learning rate as a share of the peak, in [0, 1].
    pub min_ratio: f64,
    /// Share of all steps in which [`Schedule::WarmupStableDecay`] decays, in [0, 1].
    pub decay_ratio: f64,
}

impl LearningRate {
    /// The learning rate of optimizer step `step`, counted from 0.
    pub fn at(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            // The first step already learns: a rate of exactly 0 would waste it.
            return self.peak * (step + 1) as f64 / (self.warmup_steps + 1) as f64;
        }
        let decay_steps = self.total_steps.saturating_sub(self.warmup_steps).max(1);
        let progress = ((step - self.warmup_steps) as f64 / decay_steps as f64).min(1.0);
        let shape = match self.schedule {
            Schedule::Constant => return self.peak,
            Schedule::Linear => 1.0 - progress,
            Schedule::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
            Schedule::WarmupStableDecay => {
                let decay_steps = self.decay_ratio * self.total_steps as f64;
                let left = self.total_steps.saturating_sub(step) as f64;
                if left >= decay_steps { 1.0 } else { left / decay_steps }
            }
        };
        self.peak * (self.min_ratio + (1.0 - self.min_ratio) * shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(schedule: Schedule) -> LearningRate {
        LearningRate { peak: 1.0, schedule, warmup_steps: 4, total_steps: 104, min_ratio: 0.1, decay_ratio: 0.25 }
    }

    #[test]
    fn warm_up_rises_to_the_peak() {
        let rises: Vec<f64> = (0..5).map(|step| rate(Schedule::Cosine).at(step)).collect();
        assert_eq!(rises, [0.2, 0.4, 0.6, 0.8, 1.0]);
    }

    #[test]
    fn schedules_pass_their_middle_and_end_at_their_floor() {
        assert_eq!(rate(Schedule::Constant).at(103), 1.0);
        assert!((rate(Schedule::Linear).at(54) - 0.55).abs() < 1e-12);
        assert!((rate(Schedule::Cosine).at(54) - 0.55).abs() < 1e-12);
        assert_eq!(rate(Schedule::WarmupStableDecay).at(4), 1.0);
        assert_eq!(rate(Schedule::WarmupStableDecay).at(78), 1.0); // 26 of 104 steps are left to decay in
        assert!((rate(Schedule::WarmupStableDecay).at(91) - 0.55).abs() < 1e-12);
        for schedule in [Schedule::Linear, Schedule::Cosine, Schedule::WarmupStableDecay] {
            assert!((rate(schedule).at(104) - 0.1).abs() < 1e-12);
            assert!((rate(schedule).at(10_000) - 0.1).abs() < 1e-12);
        }
    }

    #[test]
    fn no_warm_up_starts_at_the_peak() {
        let rate = LearningRate { warmup_steps: 0, ..rate(Schedule::Linear) };
        assert_eq!(rate.at(0), 1.0);
    }
}
