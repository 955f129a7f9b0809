//! Every operation of a device against the CPU.

mod adamw;
mod attention;
mod cases;
mod compare;

use crate::error::Result;
use candle_core::{DType, Device};
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
/// CPU's float32. Inside [`crate::emulate`] the host's memory is such a device.
///
/// # Errors
///
/// Those of the device and the operations; a difference is no error but a check that did not pass.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::emulate;
    use std::ffi::{CStr, c_char, c_void};

    unsafe extern "C" {
        /// emulator.cpp
        fn smpo_emulator_unlaunched(visit: extern "C" fn(*mut c_void, *const c_char), context: *mut c_void);
    }

    extern "C" fn push(names: *mut c_void, name: *const c_char) {
        // SAFETY: `unlaunched` passes its list and names that outlive the call.
        unsafe { (*names.cast::<Vec<String>>()).push(CStr::from_ptr(name).to_string_lossy().into_owned()) };
    }

    /// Kernels of the `.cu` files that this process has never launched.
    fn unlaunched() -> Vec<String> {
        let mut names: Vec<String> = vec![];
        // SAFETY: `push` accepts the list that it is called with.
        unsafe { smpo_emulator_unlaunched(push, std::ptr::from_mut(&mut names).cast()) };
        names
    }

    #[test]
    fn every_operation_agrees_with_the_cpu_and_every_kernel_has_a_case() {
        let checks = emulate(|| selftest(&Device::Cpu)).unwrap();
        let failed: Vec<String> =
            checks.iter().filter(|check| !check.passed).map(|check| format!("{check:?}")).collect();
        assert!(failed.is_empty(), "{} of {} failed:\n{}", failed.len(), checks.len(), failed.join("\n"));
        for dtype in ["f32", "bf16", "f16"] {
            assert!(checks.iter().any(|check| check.dtype == dtype));
        }
        let missing = unlaunched();
        assert!(missing.is_empty(), "kernels without a self-test case (src/selftest/cases.rs): {missing:?}");
    }
}
