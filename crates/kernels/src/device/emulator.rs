//! Kernels on the CPU: the C++ of `emulator/` and the same `.cu` files, compiled by the build script.

use super::launch::{Arguments, Grid, Module};
use crate::error::{KernelError, Result};
use rayon::prelude::*;
use std::cell::Cell;
use std::env;
use std::ffi::{CStr, CString, c_char, c_uint, c_void};
use std::sync::Mutex;

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
        schedule: *const RawSchedule,
        reason: *mut c_char,
        reason_bytes: c_uint,
    ) -> bool;
}

/// The variable of the environment with the seed of emulated schedules.
const SEED: &str = "SMPO_EMULATOR_SEED";

/// The order in which the emulator runs the warps and lanes of a block, and completes asynchronous copies. A kernel
/// gives the same results under every seed, to the last bit, unless its threads race.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EmulatedSchedule {
    /// `None`: that of `SMPO_EMULATOR_SEED`, else 0.
    pub seed: Option<u64>,
    /// The file below `src/device/cuda` and the line, from 1, of a barrier or of a commit or wait of asynchronous copies
    /// that is left out: to test that its lack is noticed.
    pub omitted: Option<(&'static CStr, u32)>,
}

/// The twin of `Schedule` in emulator/block.h.
#[repr(C)]
struct RawSchedule {
    seed: u64,
    omitted_file: *const c_char,
    omitted_line: u32,
    unused: u32,
}

// SAFETY: the file's name is static.
unsafe impl Sync for RawSchedule {}

thread_local! {
    static SCHEDULE: Cell<EmulatedSchedule> = const { Cell::new(EmulatedSchedule { seed: None, omitted: None }) };
}

/// [`crate::emulate`] under a schedule, on this thread.
pub fn emulate_scheduled<T>(schedule: EmulatedSchedule, f: impl FnOnce() -> T) -> T {
    super::with(&SCHEDULE, schedule, || super::emulate(f))
}

impl EmulatedSchedule {
    fn raw(self) -> std::result::Result<RawSchedule, String> {
        let seed = match (self.seed, env::var(SEED)) {
            (Some(seed), _) => seed,
            (None, Ok(text)) => {
                text.parse().map_err(|_| format!("{SEED}: expected a number below 2^64, got `{text}`"))?
            }
            (None, Err(_)) => 0,
        };
        let (omitted_file, omitted_line) =
            self.omitted.map_or((std::ptr::null(), 0), |(file, line)| (file.as_ptr(), line));
        Ok(RawSchedule { seed, omitted_file, omitted_line, unused: 0 })
    }
}

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
    if grid.threads == 0 || grid.threads > 1024 || !grid.threads.is_multiple_of(32) {
        return Err(refuse(format!("no GPU has a block of {} threads", grid.threads)));
    }
    let [x, y, z] = grid.blocks.map(u64::from);
    if y > 65535 || z > 65535 {
        return Err(refuse(format!("no GPU has a grid of {:?} blocks", grid.blocks)));
    }
    let count = match u32::try_from(x * y * z) {
        Ok(count) => count,
        Err(_) => return Err(refuse("the emulator counts blocks in 32 bits".into())),
    };
    let schedule = SCHEDULE.get().raw().map_err(refuse)?;
    let fault = Mutex::new(None);
    let piece = count.div_ceil(4 * rayon::current_num_threads() as u32).max(1);
    (0..count.div_ceil(piece)).into_par_iter().for_each(|index| {
        let mut reason: [c_char; 512] = [0; 512];
        // SAFETY: name, arguments, grid, schedule and reason outlive the call; the rest is the caller's promise.
        let passed = unsafe {
            smpo_emulator_launch(
                name.as_ptr(),
                std::ptr::from_ref(arguments).cast(),
                std::mem::size_of::<A>() as c_uint,
                grid.blocks.as_ptr(),
                grid.threads,
                grid.shared,
                index * piece,
                ((index + 1) * piece).min(count),
                &raw const schedule,
                reason.as_mut_ptr(),
                reason.len() as c_uint,
            )
        };
        if !passed {
            // SAFETY: the call ends what it writes with a zero byte.
            let text = unsafe { CStr::from_ptr(reason.as_ptr()) }.to_string_lossy().into_owned();
            fault.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get_or_insert(text);
        }
    });
    match fault.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        None => Ok(()),
        Some(fault) => Err(refuse(format!("{fault} ({SEED}={})", schedule.seed))),
    }
}
