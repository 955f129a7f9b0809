//! Refusals on a device, in the emulator; the self-test compares it with the CPU.

use candle_core::{DType, Device, Tensor, Var};
use smpo_kernels::emulate;

#[test]
fn outside_a_tape_a_gradient_is_not_cut_silently() {
    let weight = Var::from_tensor(&Tensor::zeros((2, 2), DType::F32, &Device::Cpu).unwrap()).unwrap();
    let x = Tensor::zeros((3, 2), DType::F32, &Device::Cpu).unwrap();
    let error = emulate(|| smpo_kernels::linear(&x, &weight, None)).unwrap_err();
    assert!(error.to_string().contains("inside `Tape::record`"), "{error}");
}

#[test]
fn dtypes_do_not_mix() {
    let x = Tensor::zeros((3, 2), DType::BF16, &Device::Cpu).unwrap();
    let weight = Tensor::zeros((4, 2), DType::F32, &Device::Cpu).unwrap();
    let error = emulate(|| smpo_kernels::linear(&x, &weight, None)).unwrap_err();
    assert_eq!(error.to_string(), "linear: expected `weight` as bf16, got f32; convert it with `to_dtype`");
    let ids = Tensor::zeros((3, 2), DType::U32, &Device::Cpu).unwrap();
    assert!(emulate(|| smpo_kernels::add(&ids, &ids)).unwrap_err().to_string().contains("got u32"));
    // Outside the emulator there is no 16-bit arithmetic on the CPU.
    assert!(smpo_kernels::add(&x, &x).unwrap_err().to_string().contains("expected `a` as f32"));
}
