//! Checkpoints.

use crate::config::builder::setters;
use crate::config::check::Problems;
use crate::config::{Interval, TrainConfig, TrainConfigBuilder};

impl TrainConfigBuilder {
    setters! {
        save_steps?: into Interval,
        save_total_limit: usize,
    }
}

impl TrainConfig {
    pub(in crate::config) fn check_checkpoints(&self, problems: &mut Problems) {
        Interval::check(self.save_steps, "save_steps", problems);
        problems.range("save_total_limit", self.save_total_limit > 0, "at least 1", 0);
    }
}
