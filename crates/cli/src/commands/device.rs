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
    /// Opens it; says which it is where that was left open.
    pub fn open(self, progress: &Progress) -> Result<OpenDevice, Failure> {
        let device = self.device.open().map_err(blame)?;
        if self.device == Choice::Auto {
            progress.say(&describe(&device));
        }
        Ok(device)
    }
}

/// Which device it is, and why it is no GPU, where one was looked for.
pub fn describe(device: &OpenDevice) -> String {
    let reason = match device.instead() {
        // Nobody who built without it waits for a GPU.
        None | Some(DeviceError::NotBuilt { .. }) => String::new(),
        Some(reason) => format!("; {reason}"),
    };
    format!("device: {} ({}){reason}", device.choice(), device.name())
}

/// A device that this program or machine cannot have was asked for by mistake; one that fails was not.
pub fn blame(error: DeviceError) -> Failure {
    match error {
        DeviceError::NotBuilt { .. } | DeviceError::NoSuchIndex { .. } => Failure::Usage(error.into()),
        error => Failure::Execution(error.into()),
    }
}
