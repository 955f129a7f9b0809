//! Embedding, norms, rotary, gated units, linear, weighted sum.

use crate::comparison::{Input, LAYOUTS, Source, assert_close, assert_same, flat};
use candle_core::{Tensor, Var};
use proptest::prelude::*;
use smpo_kernels::{self as kernels, DropoutMask, Gate, NormOptions, naive};

const TOLERANCE: f32 = 2e-5;
/// Limits within the range of the inputs.
const CLAMP: kernels::Clamp = kernels::Clamp { alpha: 1.702, limit: 1.0 };

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn embedding_is_its_twin(seed: u64, layout in 0..3usize, v in 1..40usize, n in 0..70usize, h in 1..90usize) {
        let mut source = Source::new(seed);
        let ids = source.ids(n, v);
        if n == 0 {
            let rows = kernels::embedding(&source.tensor(&[v, h]), &ids)?;
            prop_assert_eq!(rows.dims(), [0, h]);
            return Ok(());
        }
        let inputs = [source.input(&[v, h], LAYOUTS[layout])];
        assert_same(
            &mut source,
            &inputs,
            TOLERANCE,
            |x| Ok(vec![kernels::embedding(&x[0], &ids)?]),
            // candle's own lookup requires a contiguous table.
            |x| Ok(vec![naive::embedding(&x[0].contiguous()?, &ids)?]),
        );
    }

    #[test]
    fn rms_norm_is_its_twin(
        seed: u64, layout in 0..3usize, n in 1..150usize, h in 1..140usize, unit_offset: bool,
    ) {
        let options = NormOptions { eps: 1e-5, unit_offset };
        let mut source = Source::new(seed);
        let inputs = [source.input(&[n, h], LAYOUTS[layout]), source.input(&[h], LAYOUTS[layout])];
        assert_same(
            &mut source,
            &inputs,
            TOLERANCE,
            |x| Ok(vec![kernels::rms_norm(&x[0], &x[1], options)?]),
            |x| Ok(vec![naive::rms_norm(&x[0], &x[1], options)?]),
        );
    }

    #[test]
    fn rms_norm_of_heads_is_its_twin(seed: u64, layout in 0..3usize, n in 1..20usize, d in 1..40usize) {
        let mut source = Source::new(seed);
        let inputs = [source.input(&[n, 3, d], LAYOUTS[layout]), source.input(&[d], LAYOUTS[0])];
        assert_same(
            &mut source,
            &inputs,
            TOLERANCE,
            |x| Ok(vec![kernels::rms_norm(&x[0], &x[1], 1e-6)?]),
            |x| Ok(vec![naive::rms_norm(&x[0], &x[1], 1e-6)?]),
        );
    }

    #[test]
    fn add_rms_norm_is_its_twin(
        seed: u64, layout in 0..3usize, n in 1..150usize, h in 1..140usize, unit_offset: bool,
    ) {
        let options = NormOptions { eps: 1e-6, unit_offset };
        let mut source = Source::new(seed);
        let inputs = [
            source.input(&[n, h], LAYOUTS[layout]),
            source.input(&[n, h], LAYOUTS[(layout + 1) % 3]),
            source.input(&[h], LAYOUTS[0]),
        ];
        let both = |output: kernels::AddRmsNorm| vec![output.sum, output.normed];
        assert_same(
            &mut source,
            &inputs,
            TOLERANCE,
            |x| Ok(both(kernels::add_rms_norm(&x[0], &x[1], &x[2], options)?)),
            |x| Ok(both(naive::add_rms_norm(&x[0], &x[1], &x[2], options)?)),
        );
    }

    #[test]
    fn rotary_is_its_twin(
        seed: u64, layout in 0..3usize, n in 1..60usize, heads in 1..5usize, half in 1..20usize, tail in 0..9usize,
        neighbours: bool,
    ) {
        let pairs = if neighbours { kernels::RotaryPairs::Neighbours } else { kernels::RotaryPairs::Halves };
        let mut source = Source::new(seed);
        let (cos, sin) = (source.tensor(&[n, half]), source.tensor(&[half, n]).t()?);
        let inputs = [source.input(&[n, heads, 2 * half + tail], LAYOUTS[layout])];
        assert_same(
            &mut source,
            &inputs,
            TOLERANCE,
            |x| Ok(vec![kernels::rotary(&x[0], &cos, &sin, pairs)?]),
            |x| Ok(vec![naive::rotary(&x[0], &cos, &sin, pairs)?]),
        );
    }

    #[test]
    fn gated_units_are_their_twins(seed: u64, layout in 0..3usize, n in 1..90usize, h in 1..90usize) {
        let mut source = Source::new(seed);
        let inputs = [
            source.input(&[n, h], LAYOUTS[layout]),
            source.input(&[n, h], LAYOUTS[(layout + 1) % 3]),
        ];
        assert_same(
            &mut source,
            &inputs,
            TOLERANCE,
            |x| {
                let clamped = kernels::clamped_swiglu(&x[0], &x[1], CLAMP)?;
                Ok(vec![kernels::swiglu(&x[0], &x[1])?, kernels::geglu(&x[0], &x[1])?, clamped])
            },
            |x| {
                let clamped = naive::clamped_swiglu(&x[0], &x[1], CLAMP)?;
                Ok(vec![naive::swiglu(&x[0], &x[1])?, naive::geglu(&x[0], &x[1])?, clamped])
            },
        );
    }

    #[test]
    fn gated_halves_are_their_twins(seed: u64, layout in 0..3usize, n in 1..60usize, h in 1..60usize) {
        let mut source = Source::new(seed);
        let inputs = [source.input(&[n, 2 * h], LAYOUTS[layout])];
        for kind in [Gate::Silu, Gate::GeluTanh, Gate::Clamped(CLAMP)] {
            assert_same(
                &mut source,
                &inputs,
                TOLERANCE,
                |x| Ok(vec![kernels::gated_halves(&x[0], kind)?]),
                |x| Ok(vec![naive::gated_halves(&x[0], kind)?]),
            );
        }
    }

    #[test]
    fn sums_and_columns_are_their_twins(seed: u64, layout in 0..3usize, n in 1..60usize, cuts in (0..9usize, 1..9usize, 0..9usize)) {
        let (before, kept, after) = cuts;
        let width = before + kept + after;
        let mut source = Source::new(seed);
        let inputs = [source.input(&[n, width], LAYOUTS[layout]), source.input(&[n, width], LAYOUTS[(layout + 1) % 3])];
        assert_same(
            &mut source,
            &inputs,
            TOLERANCE,
            |x| {
                let sum = kernels::add(&x[0], &x[1])?;
                let parts = [0..before + kept, before..before + kept, 0..width].map(|range| kernels::columns(&sum, range));
                parts.into_iter().collect::<kernels::Result<Vec<_>>>()
            },
            |x| {
                let sum = naive::add(&x[0], &x[1])?;
                let parts = [0..before + kept, before..before + kept, 0..width].map(|range| naive::columns(&sum, range));
                parts.into_iter().collect()
            },
        );
    }

    #[test]
    fn dropout_is_its_twin(
        seed: u64, layout in 0..3usize, n in 1..60usize, h in 1..40usize, share in 0.0..0.9f64, first_element in 0..99u64,
    ) {
        let mask = DropoutMask { share, seed, stream: 3, first_element };
        let mut source = Source::new(seed);
        let inputs = [source.input(&[n, h], LAYOUTS[layout])];
        assert_same(
            &mut source,
            &inputs,
            TOLERANCE,
            |x| Ok(vec![kernels::dropout(&x[0], mask)?]),
            |x| Ok(vec![naive::dropout(&x[0], mask)?]),
        );
    }

    #[test]
    fn weighted_sum_is_its_twin(seed: u64, layout in 0..3usize, n in 1..60usize, h in 1..40usize) {
        let mut source = Source::new(seed);
        // Of the order of 1 / √(n h), so that the sum and its partial sums are of order 1.
        let weights = (source.tensor(&[n, h]) / ((n * h) as f64).sqrt()).unwrap();
        let inputs = [source.input(&[n, h], LAYOUTS[layout])];
        assert_same(
            &mut source,
            &inputs,
            TOLERANCE,
            |x| Ok(vec![kernels::weighted_sum(&x[0], &weights)?]),
            |x| Ok(vec![naive::weighted_sum(&x[0], &weights)?]),
        );
    }

    #[test]
    fn linear_is_its_twin(
        seed: u64, layout in 0..3usize, n in 1..70usize, i in 1..70usize, o in 1..70usize, bias: bool,
    ) {
        let mut source = Source::new(seed);
        let mut inputs = vec![
            source.input(&[n, i], LAYOUTS[layout]),
            source.input(&[o, i], LAYOUTS[(layout + 1) % 3]),
        ];
        if bias {
            inputs.push(source.input(&[o], LAYOUTS[0]));
        }
        assert_same(
            &mut source,
            &inputs,
            TOLERANCE,
            |x| Ok(vec![kernels::linear(&x[0], &x[1], x.get(2))?]),
            |x| Ok(vec![naive::linear(&x[0].contiguous()?, &x[1], x.get(2))?]),
        );
    }
}

#[test]
fn gated_units_stay_finite_far_out() {
    let gate = Var::new(&[-1e4f32, -100.0, 100.0, 1e4], &candle_core::Device::Cpu).unwrap();
    let up = Tensor::new(&[1f32, 1.0, 1.0, 1.0], &candle_core::Device::Cpu).unwrap();
    for unit in [kernels::swiglu, kernels::geglu] {
        let y = unit(&gate, &up).unwrap();
        assert_close("values", &flat(&y), &[0.0, 0.0, 100.0, 1e4], 1e-6);
        let store = y.sum_all().unwrap().backward().unwrap();
        assert_close("gradients", &flat(store.get(&gate).unwrap()), &[0.0, 0.0, 1.0, 1.0], 1e-6);
    }
}

#[test]
fn a_clamped_gate_is_cut_above_and_up_on_both_sides() {
    let clamp = kernels::Clamp { alpha: 1.702, limit: 7.0 };
    let var = |values: &[f32]| Var::new(values, &candle_core::Device::Cpu).unwrap();
    let (gate, up) = (var(&[1e4, -20.0, 7.0, 8.0]), var(&[1e4, 2.0, -7.0, -8.0]));
    let fused = kernels::clamped_swiglu(&gate, &up, clamp).unwrap();
    for y in [fused, naive::clamped_swiglu(&gate, &up, clamp).unwrap()] {
        // σ(1.702 · 7) is one to six digits.
        assert_close("values", &flat(&y), &[8.0 * 7.0, 0.0, -6.0 * 7.0, -6.0 * 7.0], 1e-4);
        let store = y.sum_all().unwrap().backward().unwrap();
        let of = |var: &Var| flat(store.get(var).unwrap());
        // At the limit the gradient passes, beyond it none does.
        assert_close("gate", &of(&gate), &[0.0, 0.0, -6.0, 0.0], 1e-3);
        assert_close("up", &of(&up), &[0.0, 0.0, 7.0, 0.0], 1e-3);
    }
    let refusal = |clamp| kernels::clamped_swiglu(&gate, &up, clamp).unwrap_err().to_string();
    assert!(refusal(kernels::Clamp { limit: 0.0, ..clamp }).contains("a limit above 0"));
    let error = kernels::emulate(|| kernels::clamped_swiglu(&gate, &up, clamp)).unwrap_err();
    assert!(matches!(error, kernels::KernelError::Device { .. }), "{error}");
}

#[test]
fn weighted_sum_hands_on_its_weights() {
    let mut source = Source::new(3);
    let x = source.input(&[4, 6], LAYOUTS[1]);
    let weights = source.tensor(&[6, 4]).t().unwrap();
    let root = (kernels::weighted_sum(&x.view(), &weights).unwrap() * 0.5).unwrap();
    let want: f32 = flat(&x.view()).iter().zip(flat(&weights)).map(|(x, w)| x * w).sum();
    assert_close("value", &flat(&root), &[want * 0.5], 1e-6);
    let store = root.backward().unwrap();
    let got = store.get(&x.var).unwrap().t().unwrap();
    assert_close("gradient", &flat(&got), &flat(&(weights * 0.5).unwrap()), 1e-6);
}

#[test]
fn a_frozen_argument_costs_no_gradient() {
    let mut source = Source::new(4);
    let frozen = source.tensor(&[5, 7]);
    let x: Input = source.input(&[3, 7], LAYOUTS[0]);
    let y = kernels::linear(&x.view(), &frozen, None).unwrap();
    let store = y.sum_all().unwrap().backward().unwrap();
    assert!(store.get(&frozen).is_none());
    assert!(store.get(&x.var).is_some());
    // With nothing to differentiate, nothing is recorded.
    assert!(!kernels::linear(&source.tensor(&[3, 7]), &frozen, None).unwrap().track_op());
}
