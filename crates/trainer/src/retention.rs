//! The checkpoint that becomes the run's result, and the checkpoints that are kept.

use crate::config::OnDrop;
use crate::early_stopping::{EarlyStopping, Rules, StopReason};

impl EarlyStopping {
    /// Step of the checkpoint that is the run's result; `None` is the model after the last step taken.
    pub fn result(&self, rules: &Rules) -> Option<u64> {
        match (self.stopped(), rules.eos_drop) {
            (Some(StopReason::EosRate { last_good, .. }), Some((_, OnDrop::KeepLastGood))) => Some(last_good),
            _ if rules.keep_best => self.best_step(),
            _ => None,
        }
    }

    /// The checkpoints at `steps` (ascending) to delete: all except the newest `keep` and those that may still become the
    /// result.
    pub fn superseded(&self, rules: &Rules, steps: &[u64], keep: usize) -> Vec<u64> {
        let best = self.best_step().filter(|_| rules.keep_best);
        let good = self.last_good().filter(|_| matches!(rules.eos_drop, Some((_, OnDrop::KeepLastGood))));
        let old = &steps[..steps.len().saturating_sub(keep)];
        old.iter().copied().filter(|step| Some(*step) != best && Some(*step) != good).collect()
    }
}
