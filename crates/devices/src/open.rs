//! Opening what was chosen.

use candle_core::Device;

use crate::{Choice, DeviceError};

/// What kind of device it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The processor.
    Cpu,
    /// A CUDA device of this index.
    Cuda(usize),
    /// The CUDA kernels on the processor.
    Emulated,
}

/// A device that can be computed on.
#[derive(Debug, Clone)]
pub struct OpenDevice {
    device: Device,
    kind: Kind,
    name: String,
    /// Why it is not the GPU, where that was left open.
    instead: Option<DeviceError>,
}

impl Choice {
    /// Opens the device.
    ///
    /// [`Choice::Auto`] is the processor where no CUDA device can be used; the reason is in
    /// [`OpenDevice::instead`].
    ///
    /// # Errors
    /// Why a CUDA device that was asked for cannot be used.
    pub fn open(self) -> Result<OpenDevice, DeviceError> {
        match self {
            Self::Cpu => Ok(OpenDevice::processor(Kind::Cpu)),
            Self::Emulated => Ok(OpenDevice::processor(Kind::Emulated)),
            Self::Cuda(index) => cuda(index),
            Self::Auto => Ok(match cuda(0) {
                Ok(device) => device,
                Err(why) => OpenDevice { instead: Some(why), ..OpenDevice::processor(Kind::Cpu) },
            }),
        }
    }
}

#[cfg(feature = "cuda")]
fn cuda(index: usize) -> Result<OpenDevice, DeviceError> {
    let (device, name) = crate::cuda::open(index)?;
    Ok(OpenDevice { device, kind: Kind::Cuda(index), name, instead: None })
}

#[cfg(not(feature = "cuda"))]
fn cuda(index: usize) -> Result<OpenDevice, DeviceError> {
    Err(DeviceError::NotBuilt { asked: Choice::Cuda(index).to_string() })
}

impl OpenDevice {
    fn processor(kind: Kind) -> Self {
        let name = processor_name().unwrap_or_else(|| std::env::consts::ARCH.to_owned());
        Self { device: Device::Cpu, kind, name, instead: None }
    }

    /// candle's device, where tensors lie.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// What kind of device it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What the device calls itself, such as `NVIDIA H200`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The device as [`Choice`] spells it.
    pub fn choice(&self) -> Choice {
        match self.kind {
            Kind::Cpu => Choice::Cpu,
            Kind::Cuda(index) => Choice::Cuda(index),
            Kind::Emulated => Choice::Emulated,
        }
    }

    /// Why it is the processor, where any device would have done and a GPU was looked for.
    pub fn instead(&self) -> Option<&DeviceError> {
        self.instead.as_ref()
    }

    /// Waits until everything that was started on it is done.
    ///
    /// # Errors
    /// What went wrong on the device since it was last waited for.
    pub fn synchronize(&self) -> candle_core::Result<()> {
        self.device.synchronize()
    }

    /// Forgets the peak so far, where the device can: a process's own peak stays.
    pub fn reset_peak_memory(&self) {
        #[cfg(feature = "cuda")]
        if let Device::Cuda(device) = &self.device {
            crate::cuda::reset_peak(device);
        }
    }

    /// The most memory taken so far, in bytes: of the device's allocations for a GPU, of the process for the processor.
    pub fn peak_memory(&self) -> Option<u64> {
        #[cfg(feature = "cuda")]
        if let Device::Cuda(device) = &self.device {
            return crate::cuda::peak(device);
        }
        crate::peak_resident()
    }
}

/// The processor's name, where the system tells.
fn processor_name() -> Option<String> {
    let info = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = info.lines().find(|line| line.starts_with("model name"))?;
    line.split_once(':').map(|(_, name)| name.trim().to_owned())
}

#[cfg(all(test, not(feature = "cuda")))]
mod tests {
    use super::*;

    #[test]
    fn without_cuda_the_processor_is_taken_or_the_reason_is_given() {
        let auto = Choice::Auto.open().unwrap();
        assert_eq!(auto.kind(), Kind::Cpu);
        assert_eq!(auto.instead(), Some(&DeviceError::NotBuilt { asked: "cuda:0".into() }));
        assert_eq!(Choice::Cpu.open().unwrap().instead(), None);
        let refusal = Choice::Cuda(1).open().unwrap_err().to_string();
        assert!(refusal.starts_with("cuda:1: this program was built without CUDA; build it with"), "{refusal}");
        assert_eq!(Choice::Emulated.open().unwrap().kind(), Kind::Emulated);
    }
}
