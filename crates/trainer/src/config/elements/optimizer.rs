//! AdamW and the gradients it is given.

use crate::config::builder::setters;
use crate::config::check::{Problems, is_non_negative, is_positive};
use crate::config::{TrainConfig, TrainConfigBuilder};

impl TrainConfigBuilder {
    /// Sets the peak of the learning rate, [`TrainConfig::learning_rate`](field@TrainConfig::learning_rate).
    #[must_use]
    pub fn learning_rate(mut self, peak: f64) -> Self {
        self.config.learning_rate = peak;
        self.given("learning_rate");
        self
    }

    setters! {
        weight_decay: f64,
        adam_beta1: f64,
        adam_beta2: f64,
        adam_epsilon: f64,
        max_grad_norm: f64,
        max_skipped_steps: u64,
    }
}

impl TrainConfig {
    pub(in crate::config) fn check_optimizer(&self, problems: &mut Problems) {
        problems.range("learning_rate", is_positive(self.learning_rate), "a positive number", self.learning_rate);
        problems.range("weight_decay", is_non_negative(self.weight_decay), "0 or more", self.weight_decay);
        for (name, beta) in [("adam_beta1", self.adam_beta1), ("adam_beta2", self.adam_beta2)] {
            problems.range(name, (0.0..1.0).contains(&beta), "from 0 up to but not 1", beta);
        }
        problems.range("adam_epsilon", is_positive(self.adam_epsilon), "a positive number", self.adam_epsilon);
        problems.range("max_grad_norm", is_non_negative(self.max_grad_norm), "0 (off) or more", self.max_grad_norm);
    }
}
