//! Whether a device computes what the processor does: every kernel, then whole training steps.

use candle_core::DType;
use serde::Serialize;
use smpo_devices::OpenDevice;
use smpo_kernels::Check;
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
    pub checks: Vec<Check>,
}

impl SelfTest {
    /// Compares all there is.
    ///
    /// # Errors
    /// When an operation or a step fails outright; a difference is no error.
    pub fn run(device: &OpenDevice) -> Result<Self, BenchError> {
        let mut checks = on_device(device, || smpo_kernels::selftest(device.device()))?;
        checks.extend(ten_steps(device)?.into_iter().map(|run| Check {
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

    /// Whether all passed.
    pub fn passed(&self) -> bool {
        self.checks.iter().all(|check| check.passed)
    }
}
