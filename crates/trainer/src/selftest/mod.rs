//! Self-test of a device against the CPU: every kernel, then whole training steps.

mod parity;

use candle_core::DType;
use serde::Serialize;
use smpo_devices::{OpenDevice, on_device};
use smpo_kernels::Check;

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
    pub checks: Vec<Check>,
}

impl SelfTest {
    /// Runs every comparison, with `large` some at the sizes of real runs.
    ///
    /// # Errors
    /// When an operation or a step fails; a difference is no error.
    pub fn run(device: &OpenDevice, large: bool) -> Result<Self, TrainError> {
        let mut checks = on_device(device, || smpo_kernels::selftest(device.device(), large))?;
        checks.extend(parity::ten_steps(device)?.into_iter().map(|run| Check {
            passed: run.passed(),
            ..Check::new(
                format!("{} training steps", parity::STEPS),
                DType::F32,
                run.trained.into(),
                run.difference(),
                parity::BOUND,
            )
        }));
        let (device, device_name) = (device.choice().to_string(), device.name().to_owned());
        Ok(Self { schema: SCHEMA, device, device_name, checks })
    }

    /// True if every comparison passed.
    pub fn passed(&self) -> bool {
        self.checks.iter().all(|check| check.passed)
    }
}
