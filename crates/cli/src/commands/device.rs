//! `--device`, wherever this program's own kernels compute.

use smpo_devices::{Choice, DeviceError, OpenDevice};

use crate::exit::Failure;
use crate::progress::Progress;

/// Device to compute on.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct DeviceArgs {
    /// Device: auto (a GPU if this build and machine have one), cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value_t)]
    pub device: Choice,
}

impl DeviceArgs {
    /// Opens the device; prints which one `auto` chose.
    pub fn open(self, progress: &Progress) -> Result<OpenDevice, Failure> {
        let device = self.device.open()?;
        if self.device == Choice::Auto {
            progress.say(&describe(&device));
        }
        Ok(device)
    }
}

/// The device, with the reason if auto found no GPU.
pub fn describe(device: &OpenDevice) -> String {
    let reason = match device.fallback_reason() {
        // A build without CUDA expects none.
        None | Some(DeviceError::NotBuilt { .. }) => String::new(),
        Some(reason) => format!("; {reason}"),
    };
    format!("device: {} ({}){reason}", device.choice(), device.name())
}
