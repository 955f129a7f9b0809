//! The fused head.

use crate::comparison::{LAYOUTS, Source, assert_close, assert_same, flat};
use candle_core::{D, Tensor};
use proptest::prelude::*;
use smpo_kernels::{self as kernels, HeadOptions, RowEntropy, naive};

const TOLERANCE: f32 = 3e-5;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn head_is_its_twin(
        seed: u64,
        layout in 0..3usize,
        m in 1..50usize,
        h in 1..40usize,
        v in prop_oneof![1..60usize, 1000..3000usize],
        chunk in 1..60usize,
        soft_cap in prop::option::of(0.5..5f64),
    ) {
        let options = HeadOptions { soft_cap, chunk };
        let mut source = Source::new(seed);
        let targets = source.ids(m, v);
        let inputs =
            [source.input(&[m, h], LAYOUTS[layout]), source.input(&[v, h], LAYOUTS[(layout + 1) % 3])];
        assert_same(
            &mut source,
            &inputs,
            TOLERANCE,
            |x| Ok(vec![kernels::selected_log_probs(&x[0], &x[1], &targets, options)?]),
            |x| {
                let hidden = x[0].contiguous()?;
                Ok(vec![naive::selected_log_probs(&hidden, &x[1], &targets, soft_cap)?])
            },
        );
    }

    /// The forward pass computes the direction of its gradient.
    #[test]
    fn a_frozen_head_is_its_twin(
        seed: u64,
        m in 1..50usize,
        h in 1..40usize,
        v in prop_oneof![1..60usize, 1000..3000usize],
        chunk in 1..60usize,
        soft_cap in prop::option::of(0.5..5f64),
        scale in prop_oneof![Just(1f64), Just(30f64)],
    ) {
        let mut source = Source::new(seed);
        let weight = (source.tensor(&[v, h]) * scale).unwrap();
        let targets = source.ids(m, v);
        let inputs = [source.input(&[m, h], LAYOUTS[0])];
        assert_same(
            &mut source,
            &inputs,
            TOLERANCE * scale as f32,
            |x| Ok(vec![kernels::selected_log_probs(&x[0], &weight, &targets, HeadOptions { soft_cap, chunk })?]),
            |x| Ok(vec![naive::selected_log_probs(&x[0], &weight, &targets, soft_cap)?]),
        );
    }

    #[test]
    fn terminator_scores_are_those_of_all_logits(
        seed: u64, m in 1..20usize, v in prop_oneof![3..60usize, 1000..3000usize], count in 1..4usize,
        soft_cap in prop::option::of(0.5..5f64),
    ) {
        let options = HeadOptions { soft_cap, chunk: 7 };
        let mut source = Source::new(seed);
        let (hidden, weight) = (source.tensor(&[m, 9]), source.tensor(&[v, 9]));
        let targets = source.ids(m, v);
        let mut terminators = source.ids(count, v);
        terminators.sort_unstable();
        terminators.dedup();
        let got = kernels::selected_log_probs_with_terminators(&hidden, &weight, &targets, &terminators, options)?;
        let plain = kernels::selected_log_probs(&hidden, &weight, &targets, options)?;
        prop_assert_eq!(flat(&got.log_probs), flat(&plain));
        let logits = naive::logits(&hidden, &weight, soft_cap)?;
        let total = logits.exp()?.sum(D::Minus1)?.log()?;
        let (logits, total) = (logits.to_vec2::<f32>()?, total.to_vec1::<f32>()?);
        for (row, score) in got.terminators.iter().enumerate() {
            let of = |id: &u32| logits[row][*id as usize];
            let mass: f32 = terminators.iter().map(|id| of(id).exp()).sum();
            assert_close("log p", &[score.log_prob], &[mass.ln() - total[row]], 3e-5);
            let best = terminators.iter().map(of).fold(f32::NEG_INFINITY, f32::max);
            let others = || (0..v as u32).filter(|id| !terminators.contains(id));
            // Rounding may swap neighbours.
            let min = others().filter(|id| of(id) > best + 1e-4).count() as u32;
            let max = others().filter(|id| of(id) > best - 1e-4).count() as u32;
            prop_assert!((min..=max).contains(&score.rank), "{} not in {min}..={max}", score.rank);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn entropies_are_those_of_all_logits(
        seed: u64, m in 1..20usize, v in prop_oneof![1..60usize, 1000..3000usize],
        soft_cap in prop::option::of(0.5..5f64), scale in prop_oneof![Just(1f64), Just(8f64)], frozen: bool,
    ) {
        let options = HeadOptions { soft_cap, chunk: 7 };
        let mut source = Source::new(seed);
        let hidden = source.tensor(&[m, 9]);
        let weight = (source.tensor(&[v, 9]) * scale).unwrap();
        let hidden = if frozen { candle_core::Var::from_tensor(&hidden)?.as_tensor().clone() } else { hidden };
        let targets = source.ids(m, v);
        let plain = kernels::selected_log_probs(&hidden, &weight, &targets, options)?;
        let logits = naive::logits(&hidden, &weight, soft_cap)?.to_vec2::<f32>()?;
        // −Σ p·log p and −log Σ p² of some logits, in float64
        let of = |logits: &[f32]| {
            let logits: Vec<f64> = logits.iter().copied().map(f64::from).collect();
            let top = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let total = top + logits.iter().map(|logit| (logit - top).exp()).sum::<f64>().ln();
            let log_probs: Vec<f64> = logits.iter().map(|logit| logit - total).collect();
            let squares: f64 = log_probs.iter().map(|log_prob| (2.0 * log_prob).exp()).sum();
            let shannon: f64 = log_probs.iter().map(|log_prob| -log_prob.exp() * log_prob).sum();
            (shannon as f32, -squares.ln() as f32)
        };
        for entropy in [RowEntropy::Collision, RowEntropy::Top] {
            let terminators: &[u32] = if entropy == RowEntropy::Top { &[0] } else { &[] };
            let got = kernels::selected_log_probs_with_entropy(&hidden, &weight, &targets, entropy, terminators, options)?;
            prop_assert_eq!(flat(&got.log_probs), flat(&plain));
            prop_assert_eq!(got.terminators.len(), terminators.len() * m);
            let expected: Vec<f32> = logits.iter().map(|row| {
                let mut row = row.clone();
                if entropy == RowEntropy::Collision {
                    return of(&row).1;
                }
                row.sort_by(|a, b| b.total_cmp(a));
                of(&row[..row.len().min(20)]).0
            }).collect();
            assert_close("entropy", &got.entropies, &expected, 1e-4);
        }
    }
}

/// A tied head: one variable as table and head weight.
#[test]
fn tied_weight_collects_both_gradients() {
    let mut source = Source::new(5);
    let weight = source.var(&[70, 12]);
    let ids = source.ids(30, 70);
    let targets = source.ids(30, 70);
    let fused = kernels::selected_log_probs(
        &kernels::embedding(&weight, &ids).unwrap(),
        &weight,
        &targets,
        HeadOptions::default(),
    )
    .unwrap();
    let naive = naive::selected_log_probs(&naive::embedding(&weight, &ids).unwrap(), &weight, &targets, None).unwrap();
    let gradient = |y: Tensor| flat(y.sum_all().unwrap().backward().unwrap().get(&weight).unwrap());
    assert_close("tied", &gradient(fused), &gradient(naive), TOLERANCE);
}

#[test]
fn rows_of_no_weight_get_no_gradient() {
    let mut source = Source::new(6);
    let (hidden, weight) = (source.var(&[9, 5]), source.var(&[40, 5]));
    let targets = source.ids(9, 40);
    let weights = [0f32, 1.0, 0.0, 0.0, -2.0, 0.0, 0.0, 0.5, 0.0];
    let options = HeadOptions { chunk: 2, ..HeadOptions::default() };
    let ell = kernels::selected_log_probs(&hidden, &weight, &targets, options).unwrap();
    let w = Tensor::new(&weights, hidden.device()).unwrap();
    let store = kernels::weighted_sum(&ell, &w).unwrap().backward().unwrap();
    let rows: Vec<Vec<f32>> = store.get(&hidden).unwrap().to_vec2().unwrap();
    for (row, weight) in rows.iter().zip(weights) {
        assert_eq!(weight == 0.0, row.iter().all(|&value| value == 0.0));
    }
    let naive = naive::selected_log_probs(&hidden, &weight, &targets, None).unwrap();
    let want = (naive * w).unwrap().sum_all().unwrap().backward().unwrap();
    for var in [&hidden, &weight] {
        assert_close("weighted", &flat(store.get(var).unwrap()), &flat(want.get(var).unwrap()), TOLERANCE);
    }
    // Not one row: the gradients exist and are zero.
    let none = Tensor::zeros_like(&ell).unwrap().detach();
    let store = kernels::weighted_sum(&ell, &none).unwrap().backward().unwrap();
    assert!(flat(store.get(&weight).unwrap()).iter().all(|&value| value == 0.0));
}

#[test]
fn a_frozen_head_gets_no_gradient() {
    let mut source = Source::new(10);
    let (hidden, weight) = (source.var(&[9, 5]), source.tensor(&[40, 5]));
    let ell = kernels::selected_log_probs(&hidden, &weight, &source.ids(9, 40), HeadOptions::default()).unwrap();
    assert!(ell.sum_all().unwrap().backward().unwrap().get(&weight).is_none());
}

/// A head alone trainable, as in a probe on fixed states.
#[test]
fn fixed_states_still_train_the_head() {
    let mut source = Source::new(11);
    let (hidden, weight) = (source.tensor(&[9, 5]), source.var(&[40, 5]));
    let targets = source.ids(9, 40);
    let ell = kernels::selected_log_probs(&hidden, &weight, &targets, HeadOptions::default()).unwrap();
    let store = ell.sum_all().unwrap().backward().unwrap();
    let naive = naive::selected_log_probs(&hidden, &weight, &targets, None).unwrap();
    let want = naive.sum_all().unwrap().backward().unwrap();
    assert!(store.get(&hidden).is_none());
    let of = |store: &candle_core::backprop::GradStore| flat(store.get(&weight).unwrap());
    assert_close("weight", &of(&store), &of(&want), TOLERANCE);
}

#[test]
fn chunks_give_what_one_chunk_gives() {
    let mut source = Source::new(12);
    let (hidden, weight) = (source.var(&[100, 16]), source.var(&[3000, 16]));
    let targets = source.ids(100, 3000);
    let run = |chunk| {
        let options = HeadOptions { chunk, ..HeadOptions::default() };
        let ell = kernels::selected_log_probs(&hidden, &weight, &targets, options).unwrap();
        let store = ell.sum_all().unwrap().backward().unwrap();
        [flat(&ell), flat(store.get(&hidden).unwrap()), flat(store.get(&weight).unwrap())]
    };
    let whole = run(1000);
    for chunk in [1, 7, 64] {
        for (got, want) in run(chunk).iter().zip(&whole) {
            assert_close("chunk", got, want, 3e-6);
        }
    }
}

#[test]
fn extreme_logits_stay_finite() {
    let mut source = Source::new(13);
    let hidden = candle_core::Var::from_tensor(&(source.tensor(&[6, 8]) * 1e3).unwrap()).unwrap();
    let weight = source.var(&[50, 8]);
    let targets = source.ids(6, 50);
    let ell = kernels::selected_log_probs(&hidden, &weight, &targets, HeadOptions::default()).unwrap();
    assert!(flat(&ell).iter().all(|ell| ell.is_finite() && *ell <= 0.0));
    let store = ell.sum_all().unwrap().backward().unwrap();
    assert!(flat(store.get(&weight).unwrap()).iter().all(|value| value.is_finite()));
    let frozen = weight.as_tensor().detach();
    let ell = kernels::selected_log_probs(&hidden, &frozen, &targets, HeadOptions::default()).unwrap();
    let along = ell.sum_all().unwrap().backward().unwrap();
    assert_close("hidden", &flat(along.get(&hidden).unwrap()), &flat(store.get(&hidden).unwrap()), TOLERANCE);
}
