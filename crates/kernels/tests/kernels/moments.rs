//! Moments of few bits: their distance from float32 and from bitsandbytes, and their restoration.

use std::collections::HashMap;

use candle_core::{Device, Tensor, Var};
use smpo_kernels::{
    AdamW, AdamWOptions, KernelError, Moment, MomentFormat, Moments, Parameter, Part, Tape, emulate, weighted_sum,
};

use crate::comparison::Source;

const OPTIONS: AdamWOptions = AdamWOptions {
    beta1: 0.9,
    beta2: 0.95,
    eps: 1e-8,
    weight_decay: 0.1,
    max_grad_norm: None,
    moments: MomentFormat::Single,
};

fn optimizer(var: &Var, moments: MomentFormat, full_moments: bool) -> Result<AdamW, KernelError> {
    let parameter = Parameter { name: "p".into(), var: var.clone(), decay: true, full_moments };
    AdamW::new(vec![parameter], AdamWOptions { moments, ..OPTIONS })
}

/// One step along `gradient`.
fn step(optimizer: &mut AdamW, var: &Var, gradient: &Tensor) {
    let mut gradients = optimizer.gradients().unwrap();
    let (tape, sum) = Tape::record(|| weighted_sum(var, gradient));
    let sum = sum.unwrap();
    tape.backward(&sum, &sum.ones_like().unwrap().detach(), &mut gradients).unwrap();
    optimizer.step(&gradients, 1e-2).unwrap();
}

fn golden() -> HashMap<String, Tensor> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/bitsandbytes.safetensors");
    candle_core::safetensors::load(path, &Device::Cpu).unwrap()
}

fn floats(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// Mean and greatest distance.
fn distance(a: &[f32], b: &[f32]) -> (f32, f32) {
    let distances = || a.iter().zip(b).map(|(a, b)| (a - b).abs());
    (distances().sum::<f32>() / a.len() as f32, distances().fold(0.0, f32::max))
}

#[test]
fn eight_bits_are_as_near_to_float32_as_those_of_bitsandbytes() {
    let golden = golden();
    let var = Var::from_tensor(&golden["adamw.start"]).unwrap();
    let mut ours = optimizer(&var, MomentFormat::EightBit, false).unwrap();
    for index in 0..3 {
        step(&mut ours, &var, &golden[&format!("adamw.gradient.{index}")]);
        let get = |bits: u32| floats(&golden[&format!("adamw.{bits}.{index}")]);
        let (values, theirs, exact) = (floats(&var), get(8), get(32));
        if index == 0 {
            // The first step reads no quantised moment.
            assert!(distance(&values, &theirs).1 < 1e-6);
        }
        let (own, other) = (distance(&values, &exact), distance(&theirs, &exact));
        println!("step {index}: ours {own:?}, theirs {other:?}");
        assert!(own.0 <= other.0 * 1.05 + 1e-7, "step {index}: {own:?} and {other:?}");
        assert!(own.0 < 3e-4 && distance(&values, &theirs).0 < 1e-4, "step {index}: {own:?}");
    }
}

#[test]
fn moments_of_few_bits_stay_near_to_float32_over_many_steps() {
    let mut source = Source::new(1);
    let start = source.tensor(&[64, 80]);
    let gradients: Vec<Tensor> = (0..60).map(|_| source.tensor(&[64, 80])).collect();
    let run = |format| {
        let var = Var::from_tensor(&start).unwrap();
        let mut optimizer = optimizer(&var, format, false).unwrap();
        gradients.iter().for_each(|gradient| step(&mut optimizer, &var, gradient));
        floats(&var)
    };
    let exact = run(MomentFormat::Single);
    let travelled = distance(&exact, &floats(&start)).0;
    for (format, bound) in [(MomentFormat::Bf16, 0.01), (MomentFormat::EightBit, 0.05)] {
        let (mean, greatest) = distance(&run(format), &exact);
        println!("{format:?}: mean {mean}, greatest {greatest}, travelled {travelled}");
        assert!(mean < bound * travelled, "{format:?}: {mean} of {travelled}");
    }
}

#[test]
fn a_restored_optimizer_goes_on_to_the_last_bit() {
    let mut source = Source::new(2);
    let start = source.tensor(&[70, 70]);
    let gradients: Vec<Tensor> = (0..6).map(|_| source.tensor(&[70, 70])).collect();
    for format in [MomentFormat::Single, MomentFormat::Bf16, MomentFormat::EightBit] {
        let var = Var::from_tensor(&start).unwrap();
        let mut whole = optimizer(&var, format, false).unwrap();
        gradients[..3].iter().for_each(|gradient| step(&mut whole, &var, gradient));
        let half = Var::from_tensor(&var.copy().unwrap()).unwrap();
        let saved: Vec<Moments> = whole
            .moments()
            .map(|view| {
                let (first, second) = (view.first().unwrap().into_owned(), view.second().unwrap().into_owned());
                assert_eq!((first.format(), second.format()), (format, format));
                Moments { name: view.name().into(), start: 0, first, second, master: None }
            })
            .collect();
        let mut resumed = optimizer(&half, format, false).unwrap();
        resumed.restore(3, saved.clone()).unwrap();
        for gradient in &gradients[3..] {
            step(&mut whole, &var, gradient);
            step(&mut resumed, &half, gradient);
        }
        assert!(floats(&var) == floats(&half), "{format:?}");
        let other = if format == MomentFormat::Bf16 { MomentFormat::Single } else { MomentFormat::Bf16 };
        let error = optimizer(&var, other, false).unwrap().restore(3, saved).unwrap_err().to_string();
        assert!(error.contains("expected moments in"), "{error}");
    }
}

#[test]
fn parts_of_a_parameter_are_updated_as_the_whole_is() {
    let mut source = Source::new(5);
    let start = source.tensor(&[70, 70]);
    let gradients: Vec<Tensor> = (0..3).map(|_| source.tensor(&[70, 70])).collect();
    for format in [MomentFormat::Single, MomentFormat::Bf16, MomentFormat::EightBit] {
        let expected = Var::from_tensor(&start).unwrap();
        let mut whole = optimizer(&expected, format, false).unwrap();
        gradients.iter().for_each(|gradient| step(&mut whole, &expected, gradient));
        for values in [0..4864, 4864..4900] {
            let var = Var::from_tensor(&start).unwrap();
            let parameter = Parameter { name: "p".into(), var: var.clone(), decay: true, full_moments: false };
            let part = Part { parameter: 0, values: values.clone() };
            let mut own = AdamW::of_parts(
                vec![parameter],
                AdamWOptions { moments: format, ..OPTIONS },
                vec![(part.clone(), None)],
            )
            .unwrap();
            gradients.iter().for_each(|gradient| step(&mut own, &var, gradient));
            let (got, expected, before) = (floats(&var), floats(&expected), floats(&start));
            assert!(got[values.clone()] == expected[values.clone()], "{format:?}");
            assert!((0..4900).all(|at| values.contains(&at) || got[at] == before[at]), "{format:?}");
            let mut read = Vec::new();
            own.read_part(&part, &mut read).unwrap();
            assert_eq!(read, got[values.clone()]);
            own.write_part(&part, &before[values.clone()]).unwrap();
            assert_eq!(floats(&var), before);
        }
    }
    let parameter =
        Parameter { name: "p".into(), var: Var::from_tensor(&start).unwrap(), decay: true, full_moments: false };
    for values in [0..4901, 70..4900] {
        let error =
            AdamW::of_parts(vec![parameter.clone()], OPTIONS, vec![(Part { parameter: 0, values }, None)]).unwrap_err();
        assert!(error.to_string().contains("no part of a parameter"), "{error}");
    }
}

#[test]
fn small_and_marked_parameters_have_float32_moments() {
    let format = |shape: &[usize], full| {
        let var = Var::from_tensor(&Source::new(3).tensor(shape)).unwrap();
        let optimizer = optimizer(&var, MomentFormat::EightBit, full).unwrap();
        let view = optimizer.moments().next().unwrap();
        view.first().unwrap().format()
    };
    assert_eq!(format(&[63, 65], false), MomentFormat::Single);
    assert_eq!(format(&[64, 64], false), MomentFormat::EightBit);
    assert_eq!(format(&[64, 64], true), MomentFormat::Single);
}

#[test]
fn a_device_refuses_moments_of_few_bits() {
    let var = Var::from_tensor(&Source::new(4).tensor(&[4, 4])).unwrap();
    let error = emulate(|| optimizer(&var, MomentFormat::EightBit, false)).unwrap_err().to_string();
    assert_eq!(error, "adamw: expected option `moments` float32 on a GPU or in the emulator, got 8 bits");
    let mut optimizer = optimizer(&var, MomentFormat::Single, false).unwrap();
    let empty = || Moment::Single(vec![].into());
    let moments = Moments { name: "p".into(), start: 0, first: empty(), second: empty(), master: None };
    assert!(optimizer.restore(1, vec![moments]).is_err());
}
