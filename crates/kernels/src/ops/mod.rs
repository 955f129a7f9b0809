//! The public operations: arguments checked, computed on the CPU or a device, recorded for the backward pass.
//!
//! Every operation has one form: check the arguments, then `on_cpu` or `on_device` by the first tensor's [`Engine`].
//!
//! [`Engine`]: crate::device::Engine

mod adapted_linear;
mod adapted_linears;
mod add;
mod attention;
mod columns;
mod delta;
mod dropout;
mod embedding;
mod experts;
mod gated;
mod gated_halves;
mod head;
mod linear;
mod norm;
mod rotary;
mod weight;
mod weighted_sum;

pub use adapted_linear::{LowRank, adapted_linear, adapted_linear_for_backward};
pub use adapted_linears::{AdaptedLayer, adapted_linears};
pub use add::add;
pub use attention::{attention, attention_with_sinks};
pub use columns::columns;
pub use delta::{gated_delta_rule, log_decay, short_convolution};
pub use dropout::dropout;
pub use embedding::embedding;
pub use experts::{Routed, combine, route};
pub use gated::{clamped_swiglu, geglu, sigmoid_gate, swiglu};
pub use gated_halves::gated_halves;
pub use head::{
    SelectedLogProbs, selected_log_probs, selected_log_probs_with_entropy, selected_log_probs_with_terminators,
};
pub use linear::{add_linear, linear, linear_for_backward};
pub use norm::{AddRmsNorm, add_rms_norm, rms_norm};
pub use rotary::rotary;
pub use weighted_sum::weighted_sum;
