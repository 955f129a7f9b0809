//! Lengths of rows, in tokens, and completions that did not end.

use smpo_data::{TruncationMode, Unfinished};

use crate::config::builder::setters;
use crate::config::check::Problems;
use crate::config::{TrainConfig, TrainConfigBuilder};

impl TrainConfigBuilder {
    setters! {
        max_length: usize,
        max_prompt_length?: usize,
        truncation_mode: TruncationMode,
        unfinished: Unfinished,
    }
}

impl TrainConfig {
    pub(in crate::config) fn check_lengths(&self, problems: &mut Problems) {
        problems.range("max_length", self.max_length >= 2, "at least 2", self.max_length);
        if let Some(prompt) = self.max_prompt_length
            && (prompt == 0 || prompt >= self.max_length)
        {
            let longest = self.max_length.saturating_sub(1);
            let message = format!("`max_prompt_length` must be from 1 to max_length - 1 = {longest}, got {prompt}");
            problems.refuse(&["max_prompt_length", "max_length"], message);
        }
    }
}
