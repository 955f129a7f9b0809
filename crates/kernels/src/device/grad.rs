//! Gradients that are being written on a device.

use candle_core::Tensor;

/// The gradient of one argument, contiguous.
#[derive(Debug)]
pub(crate) struct DeviceGrad {
    pub(crate) tensor: Tensor,
    /// True to add to the tensor; false if its content is arbitrary and all must be written.
    pub(crate) accumulate: bool,
}
