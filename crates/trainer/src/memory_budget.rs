//! The memory that a run is planned into: the host's, or that of a GPU.

use std::fmt;

use smpo_devices::{GpuMemory, Kind, OpenDevice, format_bytes, sampling_memory};
use smpo_model::WeightDtype;
use sysinfo::System;

use crate::config::TrainConfig;

/// Share of a GPU's free memory that a plan may fill: the rest is for what it leaves out, and for gaps between allocations.
pub(crate) const GPU_SHARE: f64 = 0.9;

/// A kind of device, and the memory that a run may take there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryBudget {
    kind: Kind,
    /// Bytes that this process can still allocate.
    free: u64,
    /// Bytes of a GPU.
    total: u64,
    /// Ranks of the run.
    ranks: usize,
    /// Ranks that share this machine's memory.
    beside: usize,
}

impl MemoryBudget {
    /// Memory of a device.
    pub fn of(device: &OpenDevice) -> Self {
        match (device.kind(), device.gpu_memory()) {
            (kind @ Kind::Cuda(_), Some(memory)) => Self::of_gpu(kind, memory),
            // A driver that does not say is not asked again: the run shows what fits.
            (kind @ Kind::Cuda(_), None) => Self::of_gpu(kind, GpuMemory { free: u64::MAX, total: u64::MAX }),
            (kind, _) => Self { kind, ..Self::host() },
        }
    }

    /// Memory of a GPU.
    pub(crate) fn of_gpu(kind: Kind, memory: GpuMemory) -> Self {
        Self { kind, free: memory.free, total: memory.total, ranks: 1, beside: 1 }
    }

    /// Memory of this machine: bytes available to the system, or those left to the control group of this process. The page
    /// cache counts as free in both: the kernel gives it up before it refuses memory.
    pub fn host() -> Self {
        let mut system = System::new();
        system.refresh_memory();
        let available = system.available_memory();
        let free = system
            .cgroup_limits()
            .map_or(available, |limits| available.min(limits.total_memory.saturating_sub(limits.rss)));
        Self { kind: Kind::Cpu, free, total: free, ranks: 1, beside: 1 }
    }

    /// Memory of the device that a configuration asks for, or of the host where it cannot be opened.
    pub(crate) fn of_choice(config: &TrainConfig) -> Self {
        config.device.open().map_or_else(|_| Self::host(), |device| Self::of(&device))
    }

    /// True for a GPU.
    pub(crate) fn is_gpu(self) -> bool {
        matches!(self.kind, Kind::Cuda(_))
    }

    /// Bytes that are free.
    pub fn free(self) -> u64 {
        self.free
    }

    /// Bytes for the sampling of a probe on a device.
    pub(crate) fn for_sampling(self) -> usize {
        sampling_memory(self.kind, Some(self.free))
    }

    /// The same for one of several ranks, which may share what is not needed everywhere.
    pub(crate) fn shared_by(self, ranks: usize) -> Self {
        Self { ranks, ..self }
    }

    /// Ranks of the run.
    pub(crate) fn ranks(self) -> usize {
        self.ranks
    }

    /// The same with so many bytes free, of several ranks the fewest.
    pub(crate) fn with_free(self, free: u64) -> Self {
        Self { free, ..self }
    }

    /// The same for one of several ranks that have looked at this machine's memory together; a GPU is of one rank.
    pub(crate) fn beside(self, ranks: usize) -> Self {
        match self.is_gpu() {
            true => self,
            false => Self { free: self.free / ranks as u64, beside: ranks, ..self },
        }
    }

    /// dtype of everything on a device; `None` on the CPU.
    pub(crate) fn device_dtype(self, config: &TrainConfig) -> Option<WeightDtype> {
        (self.kind != Kind::Cpu).then(|| config.dtype(self.kind))
    }
}

/// The free memory in words.
impl fmt::Display for MemoryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_gpu() {
            true => write!(f, "{} of the GPU's {} are free", format_bytes(self.free), format_bytes(self.total)),
            false if self.beside > 1 => {
                write!(f, "{} are free for each of {} ranks of a machine", format_bytes(self.free), self.beside)
            }
            false => write!(f, "{} are free", format_bytes(self.free)),
        }
    }
}
