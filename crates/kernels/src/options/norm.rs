//! Options of root-mean-square normalisation.

/// ε and the convention of the weight.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NormOptions {
    /// ε, added to the mean square.
    pub eps: f64,
    /// Multiply by 1 + weight instead of weight, as Gemma does.
    pub unit_offset: bool,
}

impl From<f64> for NormOptions {
    fn from(eps: f64) -> Self {
        Self { eps, unit_offset: false }
    }
}
