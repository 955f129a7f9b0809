//! Device and dtype.

use smpo_devices::{Choice, Kind};
use smpo_model::WeightDtype;

use crate::config::builder::setters;
use crate::config::check::Problems;
use crate::config::{TrainConfig, TrainConfigBuilder};

impl TrainConfigBuilder {
    setters! {
        device: Choice,
        bf16: bool,
        fp16: bool,
    }
}

impl TrainConfig {
    /// Dtype of weights and activations as configured. Master weights, moments and log-probs are float32 always.
    pub fn requested_dtype(&self) -> WeightDtype {
        match (self.bf16, self.fp16) {
            (true, _) => WeightDtype::Bf16,
            (false, true) => WeightDtype::F16,
            (false, false) => WeightDtype::F32,
        }
    }

    /// Dtype of weights and activations on a device of this kind: the CPU trains in float32 alone.
    pub fn dtype(&self, kind: Kind) -> WeightDtype {
        match kind {
            Kind::Cpu => WeightDtype::F32,
            Kind::Cuda(_) | Kind::Emulated => self.requested_dtype(),
        }
    }

    pub(in crate::config) fn check_device(&self, problems: &mut Problems) {
        problems.exclusive(("bf16", self.bf16), ("fp16", self.fp16));
    }
}
