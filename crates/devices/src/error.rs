//! Why a device cannot be used, each reason with its remedy.

/// Why a device cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// This program knows no CUDA.
    #[error(
        "{asked}: this program was built without CUDA; build it with `--features cuda` (docs/cuda.md), or take \
         --device cpu"
    )]
    NotBuilt {
        /// The device asked for.
        asked: String,
    },
    /// The driver's library is not on this machine.
    #[error("{asked}: no driver: {reason}; install NVIDIA's driver, or take --device cpu")]
    NoDriver {
        /// The device asked for.
        asked: String,
        /// What the system said.
        reason: String,
    },
    /// The driver is there and does not start.
    #[error(
        "{asked}: no driver that works: it answered {code}; see whether `nvidia-smi` works here, or take --device cpu"
    )]
    Driver {
        /// The device asked for.
        asked: String,
        /// The driver's error, by name and number.
        code: String,
    },
    /// The driver is older than what this program was built with.
    #[error(
        "{asked}: the driver knows CUDA up to {}.{}, this program was built with CUDA {}.{}; update the driver, or \
         build with an older toolkit", driver.0, driver.1, built.0, built.1
    )]
    OldDriver {
        /// The device asked for.
        asked: String,
        /// The newest CUDA version that the driver knows.
        driver: (u32, u32),
        /// The version that this program was built with.
        built: (u32, u32),
    },
    /// A library of the CUDA toolkit is not on this machine.
    #[error(
        "{asked}: {library} is missing: {reason}; put the CUDA toolkit's libraries on LD_LIBRARY_PATH (docs/cuda.md), \
         or take --device cpu"
    )]
    NoLibrary {
        /// The device asked for.
        asked: String,
        /// The library.
        library: String,
        /// What the system said.
        reason: String,
    },
    /// The driver works and has no device.
    #[error(
        "{asked}: no device: the driver works but sees no GPU; look at CUDA_VISIBLE_DEVICES and `nvidia-smi`, or take \
         --device cpu"
    )]
    NoDevice {
        /// The device asked for.
        asked: String,
    },
    /// There are devices, and none of this index.
    #[error("cuda:{index}: there is no such device: expected an index below {count}, the number of GPUs here")]
    NoSuchIndex {
        /// The index asked for.
        index: usize,
        /// How many devices there are.
        count: usize,
    },
    /// The device cannot run the kernels.
    #[error(
        "{asked}: {name} has compute capability {}.{}, this program was built for {}.{} and newer; build it with \
         CUDA_COMPUTE_CAP={}{}, or take --device cpu", found.0, found.1, needed.0, needed.1, found.0, found.1
    )]
    TooOld {
        /// The device asked for.
        asked: String,
        /// What the device calls itself.
        name: String,
        /// Its compute capability.
        found: (u32, u32),
        /// The least that was built for.
        needed: (u32, u32),
    },
    /// Anything else that goes wrong when a device is opened.
    #[error("{asked}: cannot be opened: {reason}")]
    Other {
        /// The device asked for.
        asked: String,
        /// What candle or the driver said.
        reason: String,
    },
}
