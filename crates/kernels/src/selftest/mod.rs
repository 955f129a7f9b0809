//! Every operation of a device against the CPU.

mod adamw;
mod attention;
mod cases;
mod compare;
mod decode;
mod large;
mod stacked;

use crate::error::Result;
use candle_core::{DType, Device};
use large::Sizes;
use serde::Serialize;

/// One comparison of a device with the CPU.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    /// The operation, or the run; with `, backward` if its gradients were compared.
    pub name: String,
    /// The dtype on the device: `f32`, `bf16` or `f16`.
    pub dtype: String,
    /// Shapes and options.
    pub shape: String,
    /// Largest difference from the CPU's float32: relative to the largest element, or in nats for losses. `None` for NaN
    /// or infinity.
    pub largest_difference: Option<f64>,
    /// Largest difference that passes.
    pub bound: f64,
    /// True if the difference is within the bound.
    pub passed: bool,
}

impl Check {
    /// A check that passes if `difference` is at most `bound`.
    pub fn new(name: String, dtype: DType, shape: String, difference: f64, bound: f64) -> Self {
        let largest_difference = difference.is_finite().then_some(difference);
        let dtype = dtype.as_str().to_owned();
        Self { name, dtype, shape, largest_difference, bound, passed: difference <= bound }
    }
}

/// Runs every operation on `device`, forward and backward, in float32, bfloat16 and float16, and compares it with the
/// CPU's float32. Inside [`crate::emulate`] the host's memory is such a device. With `large`, some cases have the sizes of
/// real runs: seconds on a GPU, hours in the emulator.
///
/// # Errors
///
/// Those of the device and the operations; a difference is no error but a check that did not pass.
pub fn selftest(device: &Device, large: bool) -> Result<Vec<Check>> {
    let mut checks = vec![];
    let sizes = if large { Sizes::REAL } else { Sizes::REDUCED };
    for case in cases::all(sizes)? {
        for dtype in [DType::F32, DType::BF16, DType::F16] {
            compare::compare(&case, device, dtype, &mut checks)?;
        }
    }
    adamw::compare(device, &mut checks)?;
    decode::compare(device, sizes, &mut checks)?;
    Ok(checks)
}
