//! The device's operations against the CPU's, on the machine at hand.

mod adamw;
mod attention;
mod cases;
mod compare;

use crate::error::Result;
use candle_core::{DType, Device};

/// One comparison.
#[derive(Clone, Debug)]
pub struct Check {
    /// The operation, and whether values or gradients were compared.
    pub name: String,
    /// The elements' type on the device.
    pub dtype: DType,
    /// Extents and options.
    pub shape: String,
    /// The largest difference from the CPU's float32, relative to the largest element; NaN for what is no number.
    pub max_error: f64,
    /// What it may be.
    pub bound: f64,
    /// Whether it is.
    pub passed: bool,
    /// Seconds on the device.
    pub seconds: f64,
}

/// Runs every operation on `device`, forward and backward, in every type of elements, and compares with the CPU. Inside
/// [`crate::emulate`] the CPU's own memory is such a device.
///
/// # Errors
///
/// What a device or an operation refuses; a difference is no error but a check that did not pass.
pub fn selftest(device: &Device) -> Result<Vec<Check>> {
    let mut checks = vec![];
    for case in cases::all()? {
        for dtype in [DType::F32, DType::BF16, DType::F16] {
            compare::compare(&case, device, dtype, &mut checks)?;
        }
    }
    adamw::compare(device, &mut checks)?;
    Ok(checks)
}
