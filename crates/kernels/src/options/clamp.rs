//! Options of the clamped gate.

/// α and the limit of the clamped SwiGLU of gpt-oss: (u + 1) · g · σ(α·g), where g is the gate, at most the limit, and u is
/// up, within ± the limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clamp {
    /// α.
    pub alpha: f32,
    /// The limit; above 0.
    pub limit: f32,
}
