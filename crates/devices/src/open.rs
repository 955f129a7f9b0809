//! Opening a chosen device.

use candle_core::Device;

use crate::{Choice, DeviceError};

/// Kind of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The CPU.
    Cpu,
    /// The CUDA device of this index.
    Cuda(usize),
    /// The CUDA kernels emulated on the CPU.
    Emulated,
}

/// Memory of a GPU, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GpuMemory {
    /// Free, to this process.
    pub free: u64,
    /// Of the whole card.
    pub total: u64,
}

/// A device ready for computation.
#[derive(Debug, Clone)]
pub struct OpenDevice {
    device: Device,
    kind: Kind,
    name: String,
    /// Error that made [`Choice::Auto`] fall back to the CPU.
    fallback_reason: Option<DeviceError>,
}

impl Choice {
    /// Opens the device.
    ///
    /// [`Choice::Auto`] falls back to the CPU where no CUDA device can be used; [`OpenDevice::fallback_reason`] has the
    /// reason.
    ///
    /// # Errors
    /// When a requested CUDA device cannot be used.
    pub fn open(self) -> Result<OpenDevice, DeviceError> {
        match self {
            Self::Cpu => Ok(OpenDevice::cpu(Kind::Cpu)),
            Self::Emulated => Ok(OpenDevice::cpu(Kind::Emulated)),
            Self::Cuda(index) => cuda(index),
            Self::Auto => Ok(match cuda(0) {
                Ok(device) => device,
                Err(why) => OpenDevice { fallback_reason: Some(why), ..OpenDevice::cpu(Kind::Cpu) },
            }),
        }
    }
}

#[cfg(feature = "cuda")]
fn cuda(index: usize) -> Result<OpenDevice, DeviceError> {
    let (device, name) = crate::cuda::open(index)?;
    Ok(OpenDevice { device, kind: Kind::Cuda(index), name, fallback_reason: None })
}

#[cfg(not(feature = "cuda"))]
fn cuda(index: usize) -> Result<OpenDevice, DeviceError> {
    Err(DeviceError::NotBuilt { asked: Choice::Cuda(index).to_string() })
}

impl OpenDevice {
    fn cpu(kind: Kind) -> Self {
        let name = cpu_name().unwrap_or_else(|| std::env::consts::ARCH.to_owned());
        Self { device: Device::Cpu, kind, name, fallback_reason: None }
    }

    /// candle's device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Kind of the device.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Device name, such as `NVIDIA H200`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The device as a [`Choice`].
    pub fn choice(&self) -> Choice {
        match self.kind {
            Kind::Cpu => Choice::Cpu,
            Kind::Cuda(index) => Choice::Cuda(index),
            Kind::Emulated => Choice::Emulated,
        }
    }

    /// Error that made [`Choice::Auto`] fall back to the CPU.
    pub fn fallback_reason(&self) -> Option<&DeviceError> {
        self.fallback_reason.as_ref()
    }

    /// Waits for all kernels launched on the device.
    ///
    /// # Errors
    /// Errors of those kernels.
    pub fn synchronize(&self) -> candle_core::Result<()> {
        self.device.synchronize()
    }

    /// Memory of a GPU as its driver reports it; `None` for the CPU, whose memory is the host's.
    pub fn gpu_memory(&self) -> Option<GpuMemory> {
        #[cfg(feature = "cuda")]
        if let Device::Cuda(device) = &self.device {
            return crate::cuda::memory(device);
        }
        None
    }

    /// Resets the peak of a GPU; the process's own, for the CPU, cannot be reset.
    pub fn reset_peak_memory(&self) {
        #[cfg(feature = "cuda")]
        if let Device::Cuda(device) = &self.device {
            crate::cuda::reset_peak(device);
        }
    }

    /// Peak memory, in bytes: of the device's allocations for a GPU, of the process for the CPU.
    pub fn peak_memory(&self) -> Option<u64> {
        #[cfg(feature = "cuda")]
        if let Device::Cuda(device) = &self.device {
            return crate::cuda::peak(device);
        }
        crate::peak_resident()
    }
}

/// Name of the CPU; `None` where the system does not report it.
fn cpu_name() -> Option<String> {
    let info = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = info.lines().find(|line| line.starts_with("model name"))?;
    line.split_once(':').map(|(_, name)| name.trim().to_owned())
}

#[cfg(all(test, not(feature = "cuda")))]
mod tests {
    use super::*;

    #[test]
    fn without_cuda_auto_falls_back_to_the_cpu_and_a_gpu_is_refused() {
        let auto = Choice::Auto.open().unwrap();
        assert_eq!(auto.kind(), Kind::Cpu);
        assert_eq!(auto.fallback_reason(), Some(&DeviceError::NotBuilt { asked: "cuda:0".into() }));
        assert_eq!(Choice::Cpu.open().unwrap().fallback_reason(), None);
        let refusal = Choice::Cuda(1).open().unwrap_err().to_string();
        assert!(refusal.starts_with("cuda:1: this program was built without CUDA; build it with"), "{refusal}");
        assert_eq!(Choice::Emulated.open().unwrap().kind(), Kind::Emulated);
    }
}
