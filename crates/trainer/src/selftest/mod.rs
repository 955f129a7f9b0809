//! Self-test of a device against the CPU: every kernel, then whole training steps.

mod parity;

use serde::Serialize;
use smpo_devices::{OpenDevice, on_device};

use crate::error::TrainError;

/// Version of the report's JSON.
const SCHEMA: u32 = 1;

/// Results of all comparisons of a device with the CPU.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SelfTest {
    schema: u32,
    /// The device as `--device` spells it.
    pub device: String,
    /// Device name.
    pub device_name: String,
    /// Comparisons, kernels first.
    pub checks: Vec<Checked>,
}

/// One comparison.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Checked {
    /// Operation, or training run.
    pub name: String,
    /// dtype on the device.
    pub dtype: String,
    /// Shape and options.
    pub shape: String,
    /// Maximum absolute difference from the CPU's float32, divided by the largest absolute value; for losses, in nats.
    /// Absent where a value is not finite.
    pub largest_difference: Option<f64>,
    /// Largest difference that passes.
    pub bound: f64,
    /// True if within the bound.
    pub passed: bool,
}

impl SelfTest {
    /// Runs every comparison.
    ///
    /// # Errors
    /// When an operation or a step fails; a difference is no error.
    pub fn run(device: &OpenDevice) -> Result<Self, TrainError> {
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
        checks.extend(parity::ten_steps(device)?.into_iter().map(|run| Checked {
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

    /// True if every comparison passed.
    pub fn passed(&self) -> bool {
        self.checks.iter().all(|check| check.passed)
    }
}
