//! The activation of a gate.

use super::Clamp;

/// The gate's activation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Gate {
    /// x·σ(x).
    Silu,
    /// GELU in its tanh form.
    GeluTanh,
    /// x·σ(α·x) within limits, of which up has one more ([`crate::clamped_swiglu`]).
    Clamped(Clamp),
}
