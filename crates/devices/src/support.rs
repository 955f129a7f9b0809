//! Demands of this program on a driver and a GPU, as functions of version numbers.

use crate::DeviceError;

/// A driver, a GPU and a build, by their versions: (major, minor) each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Versions {
    /// The newest CUDA version that the driver supports.
    pub driver: (u32, u32),
    /// The CUDA version of the build.
    pub built: (u32, u32),
}

impl Versions {
    /// Refuses a driver that is older than the toolkit of the build, also by a minor version: kernels come as PTX too, and no
    /// driver compiles PTX of a newer minor version (CUDA's minor version compatibility excepts it).
    pub fn check(self, asked: &str) -> Result<(), DeviceError> {
        let Self { driver, built } = self;
        if driver < built {
            return Err(DeviceError::OldDriver { asked: asked.to_owned(), driver, built });
        }
        Ok(())
    }
}

/// (major, minor) of a CUDA version number: 13020 is 13.2.
pub(crate) fn version(number: i32) -> (u32, u32) {
    let number = number.max(0) as u32;
    (number / 1000, number % 1000 / 10)
}

/// (major, minor) of a compute capability as `CUDA_COMPUTE_CAP` has it: `90` is 9.0, `120` is 12.0. `None` for anything
/// else; the build script of the kernels refuses it, suffixes such as that of `90a` included.
pub(crate) fn capability(text: &str) -> Option<(u32, u32)> {
    text.parse().ok().map(|number: u32| (number / 10, number % 10))
}

/// Refuses a GPU that is older than the kernels: those of a capability run on it and on newer ones.
pub(crate) fn check_capability(
    asked: &str,
    name: &str,
    found: (u32, u32),
    needed: (u32, u32),
) -> Result<(), DeviceError> {
    if found < needed {
        return Err(DeviceError::TooOld { asked: asked.to_owned(), name: name.to_owned(), found, needed });
    }
    Ok(())
}

/// The error of a device that is there and cannot be opened: taken by others, or another one.
pub(crate) fn not_opened(asked: String, reason: String) -> DeviceError {
    // Of the driver, where the memory or the device itself is taken; of cuBLAS, where its workspace has no room.
    const TAKEN: [&str; 4] = ["OUT_OF_MEMORY", "DEVICE_UNAVAILABLE", "ALLOC_FAILED", "CUBLAS_STATUS_NOT_INITIALIZED"];
    let reason = reason.lines().next().unwrap_or_default().to_owned();
    match TAKEN.iter().any(|code| reason.contains(code)) {
        true => DeviceError::Occupied { asked, reason },
        false => DeviceError::Other { asked, reason },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_is_as_new_as_the_toolkit_of_the_build() {
        let check = |driver, built| Versions { driver: version(driver), built: version(built) }.check("cuda:0");
        assert_eq!((version(13020), version(12080), version(11040)), ((13, 2), (12, 8), (11, 4)));
        for (driver, built) in [(13000, 13000), (13010, 13000), (14000, 13040), (12080, 12060)] {
            check(driver, built).unwrap();
        }
        for (driver, built) in [(12080, 13000), (13000, 13010), (12020, 12080), (0, 12000), (-1, 12000)] {
            check(driver, built).unwrap_err();
        }
        let error = check(13000, 13020).unwrap_err().to_string();
        let expected = "cuda:0: the driver supports CUDA up to 13.0, this program was built with CUDA 13.2; update the \
                        driver, or build with an older toolkit";
        assert_eq!(error, expected);
    }

    #[test]
    fn a_gpu_is_as_new_as_the_kernels() {
        assert_eq!(
            [capability("80"), capability("90"), capability("120")],
            [Some((8, 0)), Some((9, 0)), Some((12, 0))]
        );
        for odd in ["90a", "100f", "9.0", "", "native"] {
            assert_eq!(capability(odd), None, "{odd}");
        }
        let check = |found, needed| check_capability("cuda:1", "NVIDIA A100", found, needed);
        for (found, needed) in [((8, 0), (8, 0)), ((8, 9), (8, 6)), ((12, 0), (9, 0)), ((10, 3), (10, 0))] {
            check(found, needed).unwrap();
        }
        for (found, needed) in [((7, 5), (8, 0)), ((8, 9), (9, 0)), ((9, 0), (10, 0))] {
            check(found, needed).unwrap_err();
        }
        let error = check((8, 0), (9, 0)).unwrap_err().to_string();
        assert!(
            error.starts_with("cuda:1: NVIDIA A100 has compute capability 8.0, this program was built for 9.0"),
            "{error}"
        );
        let error = check((7, 5), (8, 0)).unwrap_err().to_string();
        assert!(error.ends_with("and newer; no build runs on it, use --device cpu"), "{error}");
    }

    #[test]
    fn a_device_that_others_have_taken_is_called_so() {
        let error = |reason: &str| not_opened("cuda:0".to_owned(), reason.to_owned()).to_string();
        for taken in ["CUDA_ERROR_OUT_OF_MEMORY", "CUDA_ERROR_DEVICE_UNAVAILABLE", "CUBLAS_STATUS_NOT_INITIALIZED"] {
            let error = error(&format!("{taken}\n   0: main"));
            let expected = format!("cuda:0: other processes leave no room on it: {taken}; `nvidia-smi` lists them");
            assert!(error.starts_with(&expected), "{error}");
        }
        assert_eq!(error("CUDA_ERROR_UNKNOWN"), "cuda:0: cannot be opened: CUDA_ERROR_UNKNOWN");
    }
}
