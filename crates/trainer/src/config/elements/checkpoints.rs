//! Checkpoints.

use crate::config::builder::setters;
use crate::config::check::Problems;
use crate::config::{TrainConfig, TrainConfigBuilder};

impl TrainConfigBuilder {
    setters! {
        save_steps?: u64,
        save_total_limit: usize,
    }
}

impl TrainConfig {
    pub(in crate::config) fn check_checkpoints(&self, problems: &mut Problems) {
        problems.range("save_steps", self.save_steps != Some(0), "at least 1", 0);
        problems.range("save_total_limit", self.save_total_limit > 0, "at least 1", 0);
    }
}
