//! Routed experts: choice, weights, weighted sums, and the load-balancing loss.

use std::sync::Arc;

use crate::comparison::{LAYOUTS, Source, assert_close, assert_same, flat};
use candle_core::{Device, Tensor, Var};
use proptest::prelude::*;
use smpo_kernels::{self as kernels, Balance, Gradients, KernelError, RouterOptions, Tape, naive};

const TOLERANCE: f32 = 2e-5;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn weights_of_a_choice_are_its_twin(
        seed: u64, layout in 0..3usize, n in 1..40usize, experts in 1..20usize, k in 1..20usize, normalise: bool,
    ) {
        let options = RouterOptions { per_token: k.min(experts), normalise };
        let mut source = Source::new(seed);
        let inputs = [source.input(&[n, experts], LAYOUTS[layout])];
        let routing = kernels::route(&inputs[0].view().detach(), options, None)?.routing;
        assert_same(
            &mut source,
            &inputs,
            TOLERANCE,
            |x| Ok(vec![kernels::route(&x[0], options, None)?.weights]),
            |x| naive::route(&x[0].contiguous()?, &routing, experts, normalise).map(|weights| vec![weights]),
        );
    }

    #[test]
    fn a_weighted_sum_of_outputs_is_its_twin(
        seed: u64, layout in 0..3usize, n in 1..40usize, experts in 1..6usize, k in 1..6usize, h in 1..40usize,
    ) {
        let options = RouterOptions { per_token: k.min(experts), normalise: true };
        let mut source = Source::new(seed);
        let routing = kernels::route(&source.tensor(&[n, experts]), options, None)?.routing;
        let mut inputs = vec![source.input(&[n, options.per_token], LAYOUTS[layout])];
        for rows in (0..experts).map(|expert| routing.tokens_of(expert).len()).filter(|rows| *rows > 0) {
            inputs.push(source.input(&[rows, h], LAYOUTS[layout]));
        }
        assert_same(
            &mut source,
            &inputs,
            TOLERANCE,
            |x| Ok(vec![kernels::combine(&x[1..], &x[0], &routing)?]),
            |x| {
                let parts = x[1..].iter().map(Tensor::contiguous).collect::<candle_core::Result<Vec<_>>>()?;
                naive::combine(&parts, &x[0], &routing).map(|sum| vec![sum])
            },
        );
    }
}

#[test]
fn the_most_probable_experts_are_chosen_and_of_equals_the_first() {
    let logits = Tensor::new(&[[0f32, 2.0, 1.0, 2.0], [1.0, 1.0, 1.0, 1.0]], &Device::Cpu).unwrap();
    let routed = kernels::route(&logits, RouterOptions { per_token: 2, normalise: true }, None).unwrap();
    let tokens: Vec<&[u32]> = (0..4).map(|expert| routed.routing.tokens_of(expert)).collect();
    assert_eq!(tokens, [&[1][..], &[0, 1], &[], &[0]]);
    assert_eq!(flat(&routed.weights), [0.5; 4]);
}

/// The load-balancing loss of two layers in plain candle, its shares of tokens constant.
fn naive_balance(layers: &[Tensor], shares: &[f64]) -> Tensor {
    let rows = layers.iter().map(|logits| logits.dim(0).unwrap()).sum::<usize>() as f64;
    let shares = Tensor::new(shares, &Device::Cpu).unwrap().to_dtype(candle_core::DType::F32).unwrap();
    let of = |logits: &Tensor| {
        let exp = logits.exp().unwrap();
        let p = exp.broadcast_div(&exp.sum_keepdim(1).unwrap()).unwrap();
        (p.sum(0).unwrap() * &shares).unwrap().sum_all().unwrap()
    };
    let total = layers.iter().map(of).reduce(|a, b| (a + b).unwrap()).unwrap();
    (total * (shares.dim(0).unwrap() as f64 / rows)).unwrap()
}

#[test]
fn the_backward_pass_has_the_gradient_of_the_load_balancing_loss() {
    let mut source = Source::new(3);
    let layers: Vec<Var> = [7, 5].iter().map(|rows| source.var(&[*rows, 4])).collect();
    let options = RouterOptions { per_token: 2, normalise: true };
    let balance = Arc::new(Balance::new(4));
    let routed: Vec<_> = layers.iter().map(|logits| kernels::route(logits, options, Some(&balance)).unwrap()).collect();
    balance.seal();
    let shares: Vec<f64> = (0..4)
        .map(|expert| routed.iter().map(|r| r.routing.tokens_of(expert).len()).sum::<usize>() as f64 / 12.0)
        .collect();
    let tensors: Vec<Tensor> = layers.iter().map(|var| var.as_tensor().clone()).collect();
    let expected = naive_balance(&tensors, &shares);
    assert!((balance.loss() - f64::from(expected.to_scalar::<f32>().unwrap())).abs() < 1e-6);
    balance.weigh(0.7);
    let store = expected.backward().unwrap();
    for logits in &layers {
        // Nothing else reaches the weights.
        let (tape, routed) = Tape::record(|| kernels::route(logits, options, Some(&balance)).unwrap());
        let zeros = routed.weights.zeros_like().unwrap();
        let mut others = tape.backward(&routed.weights, &zeros, &mut Gradients::default()).unwrap();
        let got = flat(&others.remove(logits).unwrap().unwrap());
        let want: Vec<f32> = flat(store.get(logits).unwrap()).iter().map(|d| 0.7 * d).collect();
        assert_close("gradient of the loss", &got, &want, 1e-6);
    }
}

#[test]
fn unfit_arguments_are_refused() {
    let logits = Tensor::zeros((3, 4), candle_core::DType::F32, &Device::Cpu).unwrap();
    for per_token in [0, 5] {
        let error = kernels::route(&logits, RouterOptions { per_token, normalise: true }, None).unwrap_err();
        assert!(matches!(error, KernelError::Option { option: "per_token", .. }), "{error}");
    }
    let routed = kernels::route(&logits, RouterOptions { per_token: 2, normalise: true }, None).unwrap();
    let rows = |count: usize| Tensor::zeros((count, 5), candle_core::DType::F32, &Device::Cpu).unwrap();
    assert!(kernels::combine(&[rows(3), rows(3)], &routed.weights, &routed.routing).is_ok());
    let error = kernels::combine(&[rows(3), rows(2)], &routed.weights, &routed.routing).unwrap_err();
    assert!(error.to_string().contains("6 rows together"), "{error}");
    let error = kernels::combine(&[rows(6)], &logits, &routed.routing).unwrap_err();
    assert!(matches!(error, KernelError::Shape { argument: "weights", .. }), "{error}");
    let error = kernels::emulate(|| kernels::route(&logits, RouterOptions { per_token: 1, normalise: true }, None));
    assert!(matches!(error.unwrap_err(), KernelError::Device { .. }));
}
