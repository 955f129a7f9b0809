//! Gradients that are being written.

/// The gradient of one argument, row-major.
#[derive(Debug)]
pub(crate) struct GradBuffer {
    /// As long as the argument.
    pub(crate) values: Vec<f32>,
    /// True to add to `values`; false if their content is arbitrary and all must be written.
    pub(crate) accumulate: bool,
}

impl GradBuffer {
    /// Makes `values` a sum to add to in either case.
    pub(crate) fn zero_unless_accumulating(&mut self) {
        if !self.accumulate {
            self.values.fill(0.0);
        }
    }
}
