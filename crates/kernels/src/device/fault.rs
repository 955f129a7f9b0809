//! Failures of a GPU itself, told by the numbers of the driver's errors.

use crate::error::KernelError;

/// Free and total bytes of a GPU, where its driver still answers.
pub(super) type MemoryInfo = Option<(u64, u64)>;

/// The driver's number for memory that cannot be had.
const OUT_OF_MEMORY: i32 = 2;

/// Numbers after which a context computes nothing any more: uncorrectable memory or link (214, 220), faults of a kernel (700,
/// 702, 714 to 719), a context that is gone (4, 201, 709), a device that fell off the bus or a driver that does not know
/// (46, 101, 304, 721, 999), a lost connection to MPS (805 to 807).
const LOST: [i32; 22] =
    [4, 46, 101, 201, 214, 220, 304, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 721, 805, 806, 807, 999];

/// The error for a number of the driver's, if it is one of the GPU and not of the call. `asked` bytes were asked for.
pub(super) fn of_driver(number: i32, name: &str, asked: Option<u64>, memory: MemoryInfo) -> Option<KernelError> {
    match number {
        OUT_OF_MEMORY => Some(KernelError::OutOfMemory { asked, memory }),
        _ if LOST.contains(&number) => Some(KernelError::DeviceLost { code: format!("{name} ({number})") }),
        _ => None,
    }
}

/// The same for a status of cuBLAS: 3 has no memory for its workspace, 11 and 13 follow a fault of a kernel.
pub(super) fn of_blas(number: i32, name: &str, memory: MemoryInfo) -> Option<KernelError> {
    match number {
        3 => Some(KernelError::OutOfMemory { asked: None, memory }),
        11 | 13 => Some(KernelError::DeviceLost { code: format!("{name} ({number})") }),
        _ => None,
    }
}

/// An error of candle as such, or as that of the GPU which it reports.
impl From<candle_core::Error> for KernelError {
    fn from(error: candle_core::Error) -> Self {
        super::cuda_engine::gpu_error(&error).unwrap_or(Self::Candle(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_and_lost_devices_are_told_from_wrong_calls() {
        let memory = Some((3 << 29, 24 << 30));
        let full = of_driver(2, "CUDA_ERROR_OUT_OF_MEMORY", Some(5 << 20), memory).unwrap().to_string();
        assert_eq!(full, "the GPU is out of memory: asked for 5 MiB, 1536 of 24576 MiB are free");
        let full = of_blas(3, "CUBLAS_STATUS_ALLOC_FAILED", None).unwrap().to_string();
        assert_eq!(full, "the GPU is out of memory");
        let lost = of_driver(719, "CUDA_ERROR_LAUNCH_FAILED", None, None).unwrap();
        assert!(
            matches!(&lost, KernelError::DeviceLost { code } if code == "CUDA_ERROR_LAUNCH_FAILED (719)"),
            "{lost}"
        );
        assert!(of_blas(13, "CUBLAS_STATUS_EXECUTION_FAILED", None).is_some());
        // A wrong value, a missing kernel and an unsupported PTX are faults of this program.
        for number in [1, 200, 209, 218, 222, 500] {
            assert!(of_driver(number, "", None, memory).is_none(), "{number}");
        }
        assert!(of_blas(7, "CUBLAS_STATUS_INVALID_VALUE", None).is_none());
    }
}
