//! Device and dtype.

use smpo_devices::{Choice, Kind};
use smpo_model::Element;

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
    pub fn wanted_element(&self) -> Element {
        match (self.bf16, self.fp16) {
            (true, _) => Element::Bf16,
            (false, true) => Element::F16,
            (false, false) => Element::F32,
        }
    }

    /// Dtype of weights and activations on a device of this kind: the CPU trains in float32 alone.
    pub fn element(&self, kind: Kind) -> Element {
        match kind {
            Kind::Cpu => Element::F32,
            Kind::Cuda(_) | Kind::Emulated => self.wanted_element(),
        }
    }

    pub(in crate::config) fn check_device(&self, problems: &mut Problems) {
        problems.exclusive(("bf16", self.bf16), ("fp16", self.fp16));
    }
}
