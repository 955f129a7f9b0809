//! The self-test on the emulated device. In a process of its own: it asks which kernels were launched at all.

use std::ffi::{CStr, c_char, c_void};

use candle_core::Device;
use smpo_kernels::{emulate, selftest};

unsafe extern "C" {
    /// emulator/launch.cpp
    fn smpo_emulator_unlaunched(visit: extern "C" fn(*mut c_void, *const c_char), context: *mut c_void);
}

extern "C" fn push(names: *mut c_void, name: *const c_char) {
    // SAFETY: `unlaunched` passes its list and names that outlive the call.
    unsafe { (*names.cast::<Vec<String>>()).push(CStr::from_ptr(name).to_string_lossy().into_owned()) };
}

/// Kernels of the `.cu` files that this process has never launched.
fn unlaunched() -> Vec<String> {
    let mut names: Vec<String> = vec![];
    // SAFETY: `push` accepts the list that it is called with.
    unsafe { smpo_emulator_unlaunched(push, std::ptr::from_mut(&mut names).cast()) };
    names
}

#[test]
fn every_operation_agrees_with_the_cpu_and_every_kernel_has_a_case() {
    let checks = emulate(|| selftest(&Device::Cpu, false)).unwrap();
    let failed: Vec<String> = checks.iter().filter(|check| !check.passed).map(|check| format!("{check:?}")).collect();
    assert!(failed.is_empty(), "{} of {} failed:\n{}", failed.len(), checks.len(), failed.join("\n"));
    println!("{} comparisons", checks.len());
    for dtype in ["f32", "bf16", "f16"] {
        assert!(checks.iter().any(|check| check.dtype == dtype));
    }
    let missing = unlaunched();
    assert!(missing.is_empty(), "kernels without a self-test case (src/selftest/cases.rs): {missing:?}");
}
