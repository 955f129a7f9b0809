//! The devices to compute on: chosen by name, opened, or refused with the reason.
//!
//! A [`Choice`] is what a person writes (`auto`, `cpu`, `cuda:1`, `emulated`). [`Choice::open`] turns it into an
//! [`OpenDevice`]: candle's own device, and what reports want to know about it. Why a device cannot be used is a
//! [`DeviceError`]; each has its own remedy.
//!
//! Nothing here needs a GPU or its driver until a CUDA device is asked for, in builds with the feature `cuda` too: the
//! driver is looked up then (see `driver`).

mod choice;
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(feature = "cuda")]
mod driver;
mod error;
mod memory;
mod open;
mod peak;

pub use choice::{Choice, ParseChoice};
pub use error::DeviceError;
pub use memory::{peak_resident, resident};
pub use open::{Kind, OpenDevice};
pub use peak::{Arithmetic, peak_flops};
