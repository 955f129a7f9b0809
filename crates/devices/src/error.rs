//! Errors of opening a device, each with its remedy.

/// The oldest compute capability that has the instructions of the kernels, (major, minor).
const OLDEST: (u32, u32) = (8, 0);

/// The reason why a device cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// The program was built without CUDA.
    #[error(
        "{asked}: this program was built without CUDA; build it with `--features cuda` (docs/cuda.md), or use \
         --device cpu"
    )]
    NotBuilt {
        /// Requested device.
        asked: String,
    },
    /// The driver's library is not on this machine.
    #[error("{asked}: no driver: {reason}; install NVIDIA's driver, or use --device cpu")]
    NoDriver {
        /// Requested device.
        asked: String,
        /// The system's error.
        reason: String,
    },
    /// The driver is installed and fails to start.
    #[error("{asked}: the driver failed with {code}; check that `nvidia-smi` works, or use --device cpu")]
    Driver {
        /// Requested device.
        asked: String,
        /// The driver's error, name and number.
        code: String,
    },
    /// The driver is older than the CUDA version that the program was built with.
    #[error(
        "{asked}: the driver supports CUDA up to {}.{}, this program was built with CUDA {}.{}; update the driver, or \
         build with an older toolkit", driver.0, driver.1, built.0, built.1
    )]
    OldDriver {
        /// Requested device.
        asked: String,
        /// The newest CUDA version that the driver supports.
        driver: (u32, u32),
        /// The version that the program was built with.
        built: (u32, u32),
    },
    /// The driver works and finds no device.
    #[error(
        "{asked}: no device: the driver finds no GPU; check CUDA_VISIBLE_DEVICES and `nvidia-smi`, or use \
         --device cpu"
    )]
    NoDevice {
        /// Requested device.
        asked: String,
    },
    /// No device of this index.
    #[error("cuda:{index}: no such device: expected an index below {count}, the number of GPUs here")]
    NoSuchIndex {
        /// Requested index.
        index: usize,
        /// Number of devices.
        count: usize,
    },
    /// The device is older than the kernels.
    #[error(
        "{asked}: {name} has compute capability {}.{}, this program was built for {}.{} and newer; {}use --device cpu",
        found.0, found.1, needed.0, needed.1, older_build(*found)
    )]
    TooOld {
        /// Requested device.
        asked: String,
        /// Device name.
        name: String,
        /// Its compute capability.
        found: (u32, u32),
        /// The lowest that the program was built for.
        needed: (u32, u32),
    },
    /// The program was built for the features of another GPU, which newer ones need not have.
    #[error(
        "{asked}: {name} has compute capability {}.{}, this program was built for {}.{} alone; build it with \
         CUDA_COMPUTE_CAP=80, which runs on all newer GPUs, or use --device cpu", found.0, found.1, built.0, built.1
    )]
    OtherTarget {
        /// Requested device.
        asked: String,
        /// Device name.
        name: String,
        /// Its compute capability.
        found: (u32, u32),
        /// The one that the program was built for.
        built: (u32, u32),
    },
    /// The device's memory is taken, or it is another process's alone.
    #[error(
        "{asked}: other processes leave no room on it: {reason}; `nvidia-smi` lists them: end them, choose another GPU with \
         --device cuda:N, or use --device cpu"
    )]
    Occupied {
        /// Requested device.
        asked: String,
        /// Error of candle or the driver.
        reason: String,
    },
    /// Any other error of opening a device.
    #[error("{asked}: cannot be opened: {reason}")]
    Other {
        /// Requested device.
        asked: String,
        /// Error of candle or the driver.
        reason: String,
    },
}

/// Remedy for a GPU older than the build's kernels.
fn older_build(found: (u32, u32)) -> String {
    match found < OLDEST {
        true => "no build runs on it, ".to_owned(),
        false => format!("build it with CUDA_COMPUTE_CAP={}{}, or ", found.0, found.1),
    }
}
