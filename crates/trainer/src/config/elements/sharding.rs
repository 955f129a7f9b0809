//! Weights in parts on the processes of a run: `zero_stage = 3`.

use crate::config::check::Problems;
use crate::config::{Init, TrainConfig};

impl TrainConfig {
    /// Refuses what weights in parts exclude.
    pub(in crate::config) fn check_sharding(&self, problems: &mut Problems) {
        if self.zero_stage != 3 {
            return;
        }
        if !self.gradient_checkpointing {
            let message = "`zero_stage` = 3 needs gradient_checkpointing = true: the backward pass gathers each block once \
                           more and recomputes it";
            problems.refuse(&["zero_stage", "gradient_checkpointing"], message.to_owned());
        }
        let changes_base = self.init_lora_weights.is_some_and(|init| init.changes_base());
        for (key, given, reason) in [
            (
                "probe",
                self.probe.is_some(),
                "each sampled token passes all blocks, which would be gathered for it; without [probe], sample from the \
                 saved model by `smpo eval`",
            ),
            ("load_in_4bit", self.load_in_4bit, "packed blocks are not cut into parts"),
            ("dequantize", self.dequantize, "packed blocks are not cut into parts"),
            ("init", self.init == Init::Random, "parts are read from the files of a model"),
            ("init_lora_weights", changes_base, "what such a start leaves of the base is whole on every process"),
            ("sync_ref_model", self.sync_ref_model, "a reference that follows the model is whole on every process"),
        ] {
            if given {
                let message =
                    format!("`zero_stage` = 3 and `{key}` exclude each other: {reason}; or set zero_stage = 1");
                problems.refuse(&["zero_stage", key], message);
            }
        }
    }
}
