//! What a run computes in, from what it asks for and where it runs.

use smpo_devices::Kind;
use smpo_model::Element;

use crate::config::TrainConfig;

impl TrainConfig {
    /// The element type that is asked for: that of weights and activations. Master weights, moments and log-probs are
    /// float32 always.
    pub fn wanted_element(&self) -> Element {
        match (self.bf16, self.fp16) {
            (true, _) => Element::Bf16,
            (false, true) => Element::F16,
            (false, false) => Element::F32,
        }
    }

    /// The element type on a device of this kind: the processor has no arithmetic for the short ones.
    pub fn element(&self, kind: Kind) -> Element {
        match kind {
            Kind::Cpu => Element::F32,
            Kind::Cuda(_) | Kind::Emulated => self.wanted_element(),
        }
    }
}
