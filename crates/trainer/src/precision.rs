//! What a run computes in, from what it asks for and where it runs.

use smpo_devices::Kind;
use smpo_model::WeightDtype;

use crate::config::TrainConfig;

impl TrainConfig {
    /// Requested dtype of weights and activations. Master weights, moments and log-probs are always float32.
    pub fn requested_dtype(&self) -> WeightDtype {
        match (self.bf16, self.fp16) {
            (true, _) => WeightDtype::Bf16,
            (false, true) => WeightDtype::F16,
            (false, false) => WeightDtype::F32,
        }
    }

    /// dtype on a device of this kind: the CPU computes in float32.
    pub fn dtype(&self, kind: Kind) -> WeightDtype {
        match kind {
            Kind::Cpu => WeightDtype::F32,
            Kind::Cuda(_) | Kind::Emulated => self.requested_dtype(),
        }
    }
}
