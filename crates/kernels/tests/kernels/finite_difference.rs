//! Gradients against central differences of the kernels' own values.

use crate::comparison::{Source, flat};
use candle_core::{Tensor, Var};
use smpo_kernels::{self as kernels, AttentionOptions, DeltaHeads, HeadOptions, NormOptions, Segments, Span};

const STEP: f32 = 1e-2;

/// Compares directional derivatives along random directions.
fn check(name: &str, vars: &[Var], f: impl Fn(&[Tensor]) -> kernels::Result<Tensor>) {
    let mut source = Source::new(99);
    let inputs: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let weights = source.tensor(f(&inputs).unwrap().dims());
    let root = |inputs: &[Tensor]| kernels::weighted_sum(&f(inputs).unwrap(), &weights).unwrap();
    let value = |inputs: &[Tensor]| {
        flat(&f(inputs).unwrap()).iter().zip(flat(&weights)).map(|(y, w)| f64::from(*y) * f64::from(w)).sum::<f64>()
    };
    let store = root(&inputs).backward().unwrap();
    for (index, var) in vars.iter().enumerate() {
        let direction = source.tensor(var.dims());
        let moved = |step: f32| {
            let mut inputs = inputs.clone();
            inputs[index] = (var.as_tensor() + (&direction * f64::from(step)).unwrap()).unwrap();
            value(&inputs)
        };
        // Five points: the error is of fourth order in the step.
        let numeric =
            (8.0 * (moved(STEP) - moved(-STEP)) - (moved(2.0 * STEP) - moved(-2.0 * STEP))) / (12.0 * f64::from(STEP));
        let analytic: f64 =
            flat(store.get(var).unwrap()).iter().zip(flat(&direction)).map(|(g, d)| f64::from(*g) * f64::from(d)).sum();
        let size = numeric.abs().max(1.0);
        assert!((numeric - analytic).abs() < 2e-3 * size, "{name}, input {index}: {analytic}, expected {numeric}");
    }
}

#[test]
fn gradients_are_central_differences() {
    let mut source = Source::new(1);
    let mut vars = |shapes: &[&[usize]]| shapes.iter().map(|shape| source.var(shape)).collect::<Vec<_>>();
    let norm = NormOptions { eps: 1e-3, unit_offset: true };
    check("rms_norm", &vars(&[&[5, 7], &[7]]), |x| kernels::rms_norm(&x[0], &x[1], norm));
    check("swiglu", &vars(&[&[5, 7], &[5, 7]]), |x| kernels::swiglu(&x[0], &x[1]));
    check("geglu", &vars(&[&[5, 7], &[5, 7]]), |x| kernels::geglu(&x[0], &x[1]));
    let clamp = kernels::Clamp { alpha: 1.7, limit: 9.0 };
    check("clamped_swiglu", &vars(&[&[5, 7], &[5, 7]]), |x| kernels::clamped_swiglu(&x[0], &x[1], clamp));
    check("linear", &vars(&[&[5, 7], &[3, 7], &[3]]), |x| kernels::linear(&x[0], &x[1], Some(&x[2])));
    check("adapted_linear", &vars(&[&[5, 7], &[3, 7], &[3], &[5, 2], &[3, 2]]), |x| {
        let update = kernels::LowRank { low: &x[3], b: &x[4], scale: 0.7 };
        kernels::adapted_linear(&x[0], &x[1], Some(&x[2]), update)
    });
    check("adapted_linears", &vars(&[&[5, 7], &[3, 7], &[2, 7], &[3, 2], &[3, 7], &[1, 7], &[3, 1]]), |x| {
        let layer = |first: usize, scale| kernels::AdaptedLayer {
            weight: (&x[first]).into(),
            bias: None,
            a: &x[first + 1],
            b: &x[first + 2],
            scale,
        };
        let both = kernels::adapted_linears(&x[0], &[layer(1, 0.7), layer(4, 1.3)])?;
        Ok((&both[0] * &both[1])?)
    });
    check("embedding", &vars(&[&[6, 4]]), |x| kernels::embedding(&x[0], &[0, 5, 5, 2]));
    let angles = vars(&[&[5, 2], &[5, 2]]);
    for pairs in [kernels::RotaryPairs::Halves, kernels::RotaryPairs::Neighbours] {
        check("rotary", &vars(&[&[5, 2, 6]]), |x| {
            kernels::rotary(&x[0], &angles[0].as_detached_tensor(), &angles[1].as_detached_tensor(), pairs)
        });
    }
    let segments =
        Segments::new(vec![Span::new(0..4), Span::with_prefix(4..6, 0..4), Span::with_prefix(6..9, 0..4)]).unwrap();
    check("sigmoid_gate", &vars(&[&[5, 7], &[5, 7]]), |x| kernels::sigmoid_gate(&x[0], &x[1]));
    check("log_decay", &vars(&[&[5, 3], &[3], &[3]]), |x| kernels::log_decay(&x[0], &x[1], &x[2]));
    check("short_convolution", &vars(&[&[9, 5], &[5, 1, 3]]), |x| kernels::short_convolution(&x[0], &x[1], &segments));
    let heads = DeltaHeads { key_heads: 2, value_heads: 4, key_dim: 3, value_dim: 5 };
    check("gated_delta_rule", &vars(&[&[9, heads.row_width()], &[9, 4], &[9, 4]]), |x| {
        let decay = (x[1].sqr()? * -0.3)?;
        kernels::gated_delta_rule(&x[0], &decay, &x[2], heads, &segments)
    });
    for (soft_cap, window) in [(None, None), (Some(1.5), Some(3))] {
        let options = AttentionOptions { scale: 0.5, soft_cap, window };
        check("attention", &vars(&[&[9, 4, 3], &[9, 2, 3], &[9, 2, 3]]), |x| {
            kernels::attention(&x[0], &x[1], &x[2], &segments, options)
        });
        check("attention_with_sinks", &vars(&[&[9, 4, 3], &[9, 2, 3], &[9, 2, 3], &[4]]), |x| {
            kernels::attention_with_sinks(&x[0], &x[1], &x[2], &x[3], &segments, options)
        });
        let options = HeadOptions { soft_cap, chunk: 2 };
        check("head", &vars(&[&[5, 6], &[11, 6]]), |x| {
            kernels::selected_log_probs(&x[0], &x[1], &[0, 10, 3, 3, 7], options)
        });
    }
}
