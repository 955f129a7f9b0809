//! The devices to compute on: chosen by name, opened, or refused with the reason.
//!
//! A [`Choice`] is a requested device (`auto`, `cpu`, `cuda:1`, `emulated`). [`Choice::open`] gives an [`OpenDevice`],
//! candle's device with its kind, name and peak memory, or a [`DeviceError`] with its remedy. [`on_device`] runs
//! computations on it.
//!
//! Builds with the feature `cuda` run on machines without a GPU or driver too: the driver is loaded when a CUDA device is
//! requested.

mod choice;
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(feature = "cuda")]
mod driver;
mod emulation;
mod error;
mod memory;
mod open;
#[cfg(any(feature = "cuda", test))]
mod support;

pub use choice::{Choice, ParseChoice};
pub use emulation::on_device;
pub use error::DeviceError;
pub use memory::{format_bytes, peak_resident, resident, sampling_memory};
pub use open::{GpuMemory, Kind, OpenDevice};
