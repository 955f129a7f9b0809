//! Layers with adapters and one input as one operation, against one after the other.

use candle_core::{DType, Device, Tensor, Var};
use smpo_kernels::{
    AdaptedLayer, Gradients, KernelError, LowRank, Tape, adapted_linear, adapted_linears, emulate, linear, naive,
};

use crate::comparison::{LAYOUTS, Source, assert_close, assert_same, flat};

const SCALES: [f64; 3] = [0.7, 1.0, 2.5];
/// Outputs and ranks of three layers of 12 inputs.
const SHAPES: [(usize, usize); 3] = [(10, 3), (6, 5), (7, 1)];
const BIASED: [bool; 3] = [true, false, true];

/// x (9, 12), then weight, bias, A and B of each layer.
fn variables() -> Vec<Var> {
    let mut source = Source::new(2);
    let mut all = vec![source.var(&[9, 12])];
    for (outputs, rank) in SHAPES {
        all.extend([&[outputs, 12][..], &[outputs], &[rank, 12], &[outputs, rank]].map(|shape| source.var(shape)));
    }
    all
}

fn layers(arguments: &[Tensor]) -> Vec<AdaptedLayer<'_>> {
    let each = arguments[1..].chunks_exact(4).enumerate();
    each.map(|(index, own)| {
        let [weight, bias, a, b] = own else { panic!("four tensors a layer") };
        AdaptedLayer { weight: weight.into(), bias: BIASED[index].then_some(bias), a, b, scale: SCALES[index] }
    })
    .collect()
}

fn together(arguments: &[Tensor]) -> Result<Vec<Tensor>, KernelError> {
    adapted_linears(&arguments[0], &layers(arguments))
}

fn apart(arguments: &[Tensor]) -> Result<Vec<Tensor>, KernelError> {
    let x = &arguments[0];
    let one = |AdaptedLayer { weight, bias, a, b, scale }: AdaptedLayer<'_>| {
        adapted_linear(x, weight, bias, LowRank { low: &linear(x, a, None)?, b, scale })
    };
    layers(arguments).into_iter().map(one).collect()
}

/// Results and gradients in float32, in the order of [`variables`]; those of `frozen` are none. `read` are the results that go on.
type Outcome = (Vec<Vec<f32>>, Vec<Option<Vec<f32>>>);

fn outcome(
    dtype: DType,
    frozen: &[usize],
    read: &[usize],
    run: impl Fn(&[Tensor]) -> Result<Vec<Tensor>, KernelError>,
) -> Outcome {
    let vars: Vec<Var> = variables()
        .iter()
        .map(|var| Var::from_tensor(&var.as_detached_tensor().to_dtype(dtype).unwrap()).unwrap())
        .collect();
    let names: Vec<String> = (0..vars.len()).map(|index| index.to_string()).collect();
    let mut gradients = Gradients::new(names.iter().map(String::as_str).zip(&vars).skip(1)).unwrap();
    let arguments: Vec<Tensor> = vars
        .iter()
        .enumerate()
        .map(|(index, var)| if frozen.contains(&index) { var.as_detached_tensor() } else { var.as_tensor().clone() })
        .collect();
    let (tape, recorded) = Tape::record(|| {
        let results = run(&arguments).unwrap();
        let mut source = Source::new(3);
        let weights = SHAPES.map(|(outputs, _)| source.tensor(&[9, outputs]).to_dtype(dtype).unwrap());
        let weigh = |index: &usize| (&results[*index] * &weights[*index]).unwrap().sum_all().unwrap();
        let root = read.iter().map(weigh).reduce(|a, b| (a + b).unwrap()).unwrap();
        (results, root)
    });
    let (results, root) = recorded;
    let one = Tensor::ones(root.shape(), dtype, &Device::Cpu).unwrap();
    let mut others = tape.backward(&root, &one, &mut gradients).unwrap();
    let float = |tensor: Tensor| flat(&tensor.to_dtype(DType::F32).unwrap());
    let mut grads = vec![others.remove(&vars[0]).unwrap().map(float)];
    grads.extend(vars[1..].iter().map(|var| gradients.tensor(var).unwrap().map(float)));
    (results.into_iter().map(float).collect(), grads)
}

#[test]
fn agree_with_plain_products_in_value_and_gradient_in_every_graph() {
    for layout in LAYOUTS {
        let mut source = Source::new(1);
        let shapes = [[5, 8], [6, 8], [2, 8], [6, 2], [3, 8], [4, 8], [3, 4]];
        let inputs = shapes.map(|shape| source.input(&shape, layout));
        assert_same(
            &mut source,
            &inputs,
            1e-5,
            |x| {
                let layer = |[weight, a, b]: [usize; 3]| AdaptedLayer {
                    weight: (&x[weight]).into(),
                    bias: None,
                    a: &x[a],
                    b: &x[b],
                    scale: 0.7,
                };
                adapted_linears(&x[0], &[layer([1, 2, 3]), layer([4, 5, 6])])
            },
            |x| {
                let x = x.iter().map(Tensor::contiguous).collect::<Result<Vec<_>, _>>()?;
                naive::adapted_linears(&x[0], &[[&x[1], &x[2], &x[3]], [&x[4], &x[5], &x[6]]], 0.7)
            },
        );
    }
}

/// Weights, and whole adapters.
const FROZEN: [&[usize]; 5] = [&[], &[1, 5, 9], &[0, 1, 2, 5, 6, 9, 10], &[0], &[3, 4, 7, 8, 11, 12]];

#[test]
fn on_the_cpu_no_bit_differs_from_one_after_the_other() {
    for frozen in FROZEN {
        let want = outcome(DType::F32, frozen, &[0, 1, 2], apart);
        assert_eq!(outcome(DType::F32, frozen, &[0, 1, 2], together), want, "without gradients of {frozen:?}");
    }
}

#[test]
fn on_a_device_they_agree_with_the_cpu_whichever_results_are_read() {
    for (dtype, tolerance) in [(DType::F32, 1e-6), (DType::BF16, 0.02), (DType::F16, 0.003)] {
        for frozen in FROZEN {
            for read in [&[0, 1, 2][..], &[1], &[2, 0]] {
                let want = outcome(DType::F32, frozen, read, apart);
                let got = emulate(|| outcome(dtype, frozen, read, together));
                for (got, want) in got.0.iter().zip(&want.0) {
                    assert_close("result", got, want, tolerance);
                }
                for (index, want) in want.1.iter().enumerate() {
                    // What no gradient reaches has none, or zeros.
                    let got = got.1[index].clone().unwrap_or_default();
                    let zeros = vec![0.0; got.len()];
                    let want = want.as_ref().unwrap_or(&zeros);
                    let got = if got.is_empty() { &zeros } else { &got };
                    if !got.is_empty() || want.iter().any(|&value| value != 0.0) {
                        assert_close(&format!("{dtype:?}, {frozen:?}, {read:?}: {index}"), got, want, tolerance);
                    }
                }
            }
        }
    }
}

#[test]
fn on_a_device_they_are_one_node_or_without_gradients_none() {
    let tensors: Vec<Tensor> = variables().iter().map(|var| var.as_tensor().clone()).collect();
    let frozen: Vec<Tensor> = tensors.iter().map(Tensor::detach).collect();
    emulate(|| {
        for (arguments, nodes) in [(&tensors, 1), (&frozen, 0)] {
            let (tape, results) = Tape::record(|| together(arguments));
            assert_eq!((tape.len(), results.unwrap().len()), (nodes, 3));
        }
        let (tape, results) = Tape::record(|| adapted_linears(&tensors[0], &[]));
        assert_eq!((tape.len(), results.unwrap().len()), (0, 0));
    });
}

#[test]
fn unfit_arguments_are_refused() {
    let refused = |change: fn(&mut Vec<Tensor>), scale: f64| {
        let mut arguments: Vec<Tensor> = variables().iter().map(|var| var.as_tensor().clone()).collect();
        change(&mut arguments);
        let run = || {
            let mut layers = layers(&arguments);
            layers[1].scale = scale;
            let (_, results) = Tape::record(|| adapted_linears(&arguments[0], &layers));
            results.unwrap_err().to_string()
        };
        let (on_cpu, on_device) = (run(), emulate(run));
        assert_eq!(on_cpu, on_device);
        on_cpu
    };
    let b = refused(|x| x[8] = x[4].clone(), 1.0);
    assert!(b.contains("expected `b` of shape [6, "), "{b}");
    assert!(refused(|x| x[7] = x[7].t().unwrap(), 1.0).contains("weight"), "A of other inputs");
    assert!(refused(|_| {}, f64::NAN).contains("scale"));
}
