//! Loading the driver's library, before anything calls it.

use crate::DeviceError;

/// Loads the driver's library.
///
/// # Errors
/// When it cannot be loaded.
pub(crate) fn load(asked: &str) -> Result<(), DeviceError> {
    const LIBRARY: &str = "libcuda.so.1";
    // SAFETY: loading NVIDIA's driver library runs its initialisers, which is what using a GPU means.
    match unsafe { libloading::Library::new(LIBRARY) } {
        Ok(library) => {
            std::mem::forget(library);
            Ok(())
        }
        Err(error) => Err(DeviceError::NoDriver { asked: asked.to_owned(), reason: error.to_string() }),
    }
}
