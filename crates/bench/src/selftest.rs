//! Whether a device computes what the processor does: every kernel, then whole training steps.

use serde::Serialize;
use smpo_devices::OpenDevice;
use smpo_trainer::on_device;

use crate::error::BenchError;
use crate::parity::{self, ten_steps};

/// Version of the report's JSON.
const SCHEMA: u32 = 1;

/// What was compared.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SelfTest {
    schema: u32,
    /// The device as `--device` spells it.
    pub device: String,
    /// What it calls itself.
    pub device_name: String,
    /// Each comparison.
    pub checks: Vec<Checked>,
}

/// One comparison.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Checked {
    /// The operation, or the run.
    pub name: String,
    /// The elements' type on the device.
    pub dtype: String,
    /// Extents and options.
    pub shape: String,
    /// The largest difference from the processor's float32: relative to the largest element, or in nats for losses.
    /// Absent where something was no number.
    pub largest_difference: Option<f64>,
    /// What it may be.
    pub bound: f64,
    /// Whether it is.
    pub passed: bool,
}

impl SelfTest {
    /// Compares all there is.
    ///
    /// # Errors
    /// When an operation or a step fails outright; a difference is no error.
    pub fn run(device: &OpenDevice) -> Result<Self, BenchError> {
        let finite = |value: f64| value.is_finite().then_some(value);
        let kernels = on_device(device, || smpo_kernels::selftest(device.device()))?;
        let mut checks: Vec<Checked> = kernels
            .into_iter()
            .map(|check| Checked {
                name: check.name,
                dtype: format!("{:?}", check.dtype).to_lowercase(),
                shape: check.shape,
                largest_difference: finite(check.max_error),
                bound: check.bound,
                passed: check.passed,
            })
            .collect();
        checks.extend(ten_steps(device)?.into_iter().map(|run| Checked {
            name: format!("{} training steps", parity::STEPS),
            dtype: "f32".into(),
            shape: run.trained.into(),
            largest_difference: finite(run.difference()),
            bound: parity::BOUND,
            passed: run.passed(),
        }));
        let (device, device_name) = (device.choice().to_string(), device.name().to_owned());
        Ok(Self { schema: SCHEMA, device, device_name, checks })
    }

    /// Whether all passed.
    pub fn passed(&self) -> bool {
        self.checks.iter().all(|check| check.passed)
    }
}
