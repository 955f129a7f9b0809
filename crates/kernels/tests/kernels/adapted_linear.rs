//! A linear layer with an adapter as one operation, against its two products one after the other.

use candle_core::{DType, Device, Tensor, Var};
use smpo_kernels::{
    Gradients, KernelError, LowRank, Tape, adapted_linear, adapted_linear_for_backward, add_linear, emulate, linear,
    naive,
};

use crate::comparison::{LAYOUTS, Source, assert_close, assert_same, flat};

const SCALE: f64 = 0.7;
const PARAMETERS: [&str; 4] = ["weight", "bias", "low", "b"];

/// x (9, 12), weight (10, 12), bias (10), low (9, 3), b (10, 3).
fn variables(source: &mut Source) -> [Var; 5] {
    [&[9, 12][..], &[10, 12], &[10], &[9, 3], &[10, 3]].map(|shape| source.var(shape))
}

/// Results and gradients in float32, in the order x, weight, bias, low, b; those of `frozen` are none.
type Outcome = (Vec<f32>, Vec<Option<Vec<f32>>>);

fn outcome(
    vars: &[Var; 5],
    dtype: DType,
    frozen: &[usize],
    run: impl Fn(&[Tensor; 5]) -> Result<Tensor, KernelError>,
) -> Outcome {
    let vars = vars.each_ref().map(|var| Var::from_tensor(&var.as_detached_tensor().to_dtype(dtype).unwrap()).unwrap());
    let mut gradients = Gradients::new(PARAMETERS.into_iter().zip(&vars[1..])).unwrap();
    let arguments: [Tensor; 5] = std::array::from_fn(|index| match frozen.contains(&index) {
        true => vars[index].as_detached_tensor(),
        false => vars[index].as_tensor().clone(),
    });
    let (tape, y) = Tape::record(|| run(&arguments));
    let y = y.unwrap();
    let weights = Source::new(3).tensor(y.dims()).to_dtype(dtype).unwrap();
    let mut others = tape.backward(&y, &weights, &mut gradients).unwrap();
    let float = |tensor: Tensor| flat(&tensor.to_dtype(DType::F32).unwrap());
    let mut grads = vec![others.remove(&vars[0]).unwrap().map(float)];
    grads.extend(vars[1..].iter().map(|var| gradients.tensor(var).unwrap().map(float)));
    (float(y), grads)
}

fn fused([x, weight, bias, low, b]: &[Tensor; 5]) -> Result<Tensor, KernelError> {
    adapted_linear(x, weight, Some(bias), LowRank { low, b, scale: SCALE })
}

fn apart([x, weight, bias, low, b]: &[Tensor; 5]) -> Result<Tensor, KernelError> {
    add_linear(&linear(x, weight, Some(bias))?, low, b, SCALE)
}

#[test]
fn agrees_with_plain_products_in_value_and_gradient_in_every_graph() {
    for layout in LAYOUTS {
        let mut source = Source::new(1);
        let shapes = [[5, 8], [6, 8], [5, 2], [6, 2]];
        let inputs = shapes.map(|shape| source.input(&shape, layout));
        assert_same(
            &mut source,
            &inputs,
            1e-5,
            |x| Ok(vec![adapted_linear(&x[0], &x[1], None, LowRank { low: &x[2], b: &x[3], scale: SCALE })?]),
            |x| {
                let [x, weight, low, b] = [0, 1, 2, 3].map(|index| x[index].contiguous());
                Ok(vec![naive::adapted_linear(&x?, &weight?, None, LowRank { low: &low?, b: &b?, scale: SCALE })?])
            },
        );
    }
}

#[test]
fn on_the_cpu_no_bit_differs_from_the_products_one_after_the_other() {
    let vars = variables(&mut Source::new(2));
    for frozen in [&[][..], &[1, 2], &[0, 1, 2], &[0]] {
        let (want, got) = (outcome(&vars, DType::F32, frozen, apart), outcome(&vars, DType::F32, frozen, fused));
        assert_eq!(got, want, "without gradients of {frozen:?}");
        assert!(got.1.iter().enumerate().all(|(index, grad)| grad.is_some() != frozen.contains(&index)), "{frozen:?}");
    }
}

#[test]
fn on_a_device_it_agrees_with_the_cpu() {
    let vars = variables(&mut Source::new(4));
    let want = outcome(&vars, DType::F32, &[], apart);
    for (dtype, tolerance) in [(DType::F32, 1e-6), (DType::BF16, 0.02), (DType::F16, 0.003)] {
        for frozen in [&[][..], &[1, 2]] {
            let got = emulate(|| outcome(&vars, dtype, frozen, fused));
            assert_close("result", &got.0, &want.0, tolerance);
            for (index, (got, want)) in got.1.iter().zip(&want.1).enumerate() {
                match (got, want) {
                    (Some(got), Some(want)) => assert_close(&format!("gradient {index}"), got, want, tolerance),
                    (None, _) => assert!(frozen.contains(&index), "no gradient {index}"),
                    (Some(_), None) => panic!("gradient {index} of the CPU is missing"),
                }
            }
        }
    }
}

#[test]
fn is_one_node_whose_backward_pass_needs_no_values() {
    let vars = variables(&mut Source::new(5));
    let for_backward = |[x, weight, bias, low, b]: &[Tensor; 5]| {
        adapted_linear_for_backward(x, weight, Some(bias), LowRank { low, b, scale: SCALE })
    };
    let run = || {
        let tensors = vars.each_ref().map(|var| var.as_tensor().clone());
        let (tape, y) = Tape::record(|| fused(&tensors));
        y.unwrap();
        assert_eq!(tape.len(), 1);
        (outcome(&vars, DType::F32, &[], fused).1, outcome(&vars, DType::F32, &[], for_backward).1)
    };
    let (want, got) = run();
    assert_eq!(got, want);
    let (want, got) = emulate(run);
    assert_eq!(got, want);
}

#[test]
fn unfit_arguments_are_refused() {
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
    let (x, weight) = (zeros(&[4, 6]), zeros(&[5, 6]));
    let refused = |low: &[usize], b: &[usize], scale: f64| {
        let update = LowRank { low: &zeros(low), b: &zeros(b), scale };
        adapted_linear(&x, &weight, None, update).unwrap_err().to_string()
    };
    assert!(
        refused(&[4, 2], &[6, 2], 1.0).contains("expected `b` of shape [5, 2]"),
        "{}",
        refused(&[4, 2], &[6, 2], 1.0)
    );
    assert!(refused(&[3, 2], &[5, 2], 1.0).contains("low"), "{}", refused(&[3, 2], &[5, 2], 1.0));
    assert!(refused(&[4, 2], &[5, 2], f64::NAN).contains("scale"));
}
