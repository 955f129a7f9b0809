//! Kernels on the CPU: `emulator/emulator.cpp` and the same `.cu` files, compiled by the build script.

use super::launch::{Arguments, Grid, Module};
use crate::error::{KernelError, Result};
use rayon::prelude::*;
use std::ffi::{CString, c_char, c_int, c_uint, c_void};
use std::sync::atomic::{AtomicI32, Ordering};

unsafe extern "C" {
    fn smpo_emulator_launch(
        name: *const c_char,
        arguments: *const c_void,
        size: c_uint,
        grid: *const c_uint,
        threads: c_uint,
        shared: c_uint,
        first: c_uint,
        last: c_uint,
    ) -> c_int;
}

/// The most shared memory a block may ask for: an H100's.
const SHARED_LIMIT: u32 = 227 * 1024;

/// Runs a grid, its blocks on the current rayon pool.
///
/// # Safety
///
/// As for [`super::engine::Engine::launch`].
pub(super) unsafe fn launch<A: Arguments>(module: Module, kernel: &str, grid: Grid, arguments: &A) -> Result<()> {
    let refuse = |reason: String| KernelError::Launch { kernel: format!("{}/{kernel}", module.name), reason };
    let Ok(name) = CString::new(kernel) else {
        return Err(refuse("a name without zero bytes was expected".into()));
    };
    if grid.threads == 0 || grid.threads > 1024 || !grid.threads.is_multiple_of(32) || grid.shared > SHARED_LIMIT {
        return Err(refuse(format!("no GPU has a block of {} threads and {} bytes", grid.threads, grid.shared)));
    }
    let [x, y, z] = grid.blocks.map(u64::from);
    if y > 65535 || z > 65535 {
        return Err(refuse(format!("no GPU has a grid of {:?} blocks", grid.blocks)));
    }
    let count = match u32::try_from(x * y * z) {
        Ok(count) => count,
        Err(_) => return Err(refuse("the emulator counts blocks in 32 bits".into())),
    };
    let failed = AtomicI32::new(0);
    let size = std::mem::size_of::<A>() as c_uint;
    let piece = count.div_ceil(4 * rayon::current_num_threads() as u32).max(1);
    (0..count.div_ceil(piece)).into_par_iter().for_each(|index| {
        let (first, last) = (index * piece, ((index + 1) * piece).min(count));
        // SAFETY: name, arguments and grid outlive the call; the rest is the caller's promise.
        let code = unsafe {
            smpo_emulator_launch(
                name.as_ptr(),
                std::ptr::from_ref(arguments).cast(),
                size,
                grid.blocks.as_ptr(),
                grid.threads,
                grid.shared,
                first,
                last,
            )
        };
        if code != 0 {
            failed.store(code, Ordering::Relaxed);
        }
    });
    match failed.into_inner() {
        0 => Ok(()),
        1 => Err(refuse("no such kernel".into())),
        2 => Err(refuse(format!("its arguments are not of {size} bytes"))),
        _ => Err(refuse("threads of a block wait for others that never come".into())),
    }
}
