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

/// The GPUs that PTX runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target {
    /// Compute capability, (major, minor).
    pub capability: (u32, u32),
    pub reach: Reach,
}

/// Other GPUs than that of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// All newer ones.
    Newer,
    /// Newer ones of its major version: the suffix `f`.
    Family,
    /// None: the suffix `a`, which candle's build adds by itself from 9.0 on.
    Alone,
}

impl Target {
    /// The target that PTX names, such as `.target sm_90a`.
    pub fn of_ptx(ptx: &str) -> Option<Self> {
        let name = ptx.lines().find_map(|line| line.trim().strip_prefix(".target sm_"))?;
        let name = name.split([',', ' ']).next()?;
        let digits = name.trim_end_matches(['a', 'f']);
        let reach = match &name[digits.len()..] {
            "" => Reach::Newer,
            "f" => Reach::Family,
            _ => Reach::Alone,
        };
        let number: u32 = digits.parse().ok()?;
        Some(Self { capability: (number / 10, number % 10), reach })
    }

    /// Refuses a GPU on which it does not run.
    pub fn check(self, asked: &str, name: &str, found: (u32, u32)) -> Result<(), DeviceError> {
        let Self { capability: needed, reach } = self;
        let (asked, name) = (asked.to_owned(), name.to_owned());
        if found < needed {
            return Err(DeviceError::TooOld { asked, name, found, needed });
        }
        let runs = match reach {
            Reach::Newer => true,
            Reach::Family => found.0 == needed.0,
            Reach::Alone => found == needed,
        };
        if runs { Ok(()) } else { Err(DeviceError::OtherTarget { asked, name, found, built: needed }) }
    }
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
        let check = |found, target: &str| {
            let ptx = format!("// made by nvcc\n.version 9.0\n.target {target}\n.address_size 64\n");
            Target::of_ptx(&ptx).unwrap().check("cuda:1", "NVIDIA A100", found)
        };
        for (found, target) in [
            ((8, 0), "sm_80"),
            ((8, 9), "sm_86"),
            ((12, 0), "sm_80, debug"),
            ((10, 3), "sm_100"),
            ((9, 0), "sm_90a"),
            ((10, 3), "sm_100f"),
            ((12, 1), "sm_120f"),
        ] {
            check(found, target).unwrap();
        }
        for (found, target) in [
            ((7, 5), "sm_80"),
            ((8, 9), "sm_90"),
            ((9, 0), "sm_100"),
            ((10, 0), "sm_90a"),
            ((10, 3), "sm_100a"),
            ((12, 0), "sm_100f"),
            ((10, 0), "sm_103f"),
        ] {
            check(found, target).unwrap_err();
        }
        for odd in ["", ".version 9.0", ".target native", ".target sm_"] {
            assert_eq!(Target::of_ptx(odd), None, "{odd}");
        }
        let error = check((10, 0), "sm_90a").unwrap_err().to_string();
        let expected = "cuda:1: NVIDIA A100 has compute capability 10.0, this program was built for 9.0 alone; build it with \
                        CUDA_COMPUTE_CAP=80, which runs on all newer GPUs";
        assert!(error.starts_with(expected), "{error}");
        let error = check((8, 0), "sm_90").unwrap_err().to_string();
        assert!(
            error.starts_with("cuda:1: NVIDIA A100 has compute capability 8.0, this program was built for 9.0"),
            "{error}"
        );
        let error = check((7, 5), "sm_80").unwrap_err().to_string();
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
