//! Tapes, compared with candle's graph.

use crate::comparison::{LAYOUTS, Source, assert_close, assert_same, flat};
use candle_core::{Device, Tensor, Var};
use proptest::prelude::*;
use smpo_kernels::{self as kernels, Gradients, Tape, naive};

/// Runs on a tape and returns the gradients of the variables.
fn taped(vars: &[&Var], gradient: &Tensor, f: impl FnOnce() -> Tensor) -> Vec<Vec<f32>> {
    let names: Vec<String> = (0..vars.len()).map(|i| i.to_string()).collect();
    let pairs = names.iter().map(|name| &name[..]).zip(vars.iter().copied());
    let mut gradients = Gradients::new(pairs).unwrap();
    let (tape, y) = Tape::record(f);
    tape.backward(&y, gradient, &mut gradients).unwrap();
    vars.iter().map(|var| gradients.get(var).unwrap().to_vec()).collect()
}

/// The same through candle's graph.
fn plain(vars: &[&Var], gradient: &Tensor, f: impl FnOnce() -> Tensor) -> Vec<Vec<f32>> {
    let store = kernels::weighted_sum(&f(), gradient).unwrap().backward().unwrap();
    vars.iter().map(|var| flat(store.get(var).unwrap())).collect()
}

#[track_caller]
fn assert_taped_is_plain(vars: &[&Var], gradient: &Tensor, f: impl Fn() -> Tensor) {
    let got = taped(vars, gradient, &f);
    for (got, want) in got.iter().zip(plain(vars, gradient, &f)) {
        assert_close("taped", got, &want, 1e-6);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn add_linear_is_its_twin(
        seed: u64, layout in 0..3usize, n in 1..40usize, i in 1..40usize, o in 1..40usize, scale in -2.0..2f64,
    ) {
        let mut source = Source::new(seed);
        let inputs = [
            source.input(&[n, o], LAYOUTS[layout]),
            source.input(&[n, i], LAYOUTS[(layout + 1) % 3]),
            source.input(&[o, i], LAYOUTS[(layout + 2) % 3]),
        ];
        assert_same(
            &mut source,
            &inputs,
            2e-5,
            |x| Ok(vec![kernels::add_linear(&x[0], &x[1], &x[2], scale)?]),
            |x| Ok(vec![naive::add_linear(&x[0], &x[1].contiguous()?, &x[2], scale)?]),
        );
    }
}

/// Plain candle operations in between, views with and without moved elements, a tensor used twice.
#[test]
fn candle_operations_in_between_keep_their_gradients() {
    let mut source = Source::new(1);
    let (x, w, g) = (source.var(&[6, 8]), source.var(&[8, 8]), source.var(&[4]));
    let weights = source.tensor(&[8, 6]);
    assert_taped_is_plain(&[&x, &w, &g], &weights, || {
        let y = kernels::linear(&x, &w, None).unwrap();
        let y = (y * 1.5).unwrap();
        let y = kernels::linear(&y, &w, None).unwrap();
        // In place: rows of heads, and back.
        let y = y.reshape((6, 2, 4)).unwrap().unsqueeze(0).unwrap();
        let y = kernels::rms_norm(&y, &g, 1e-5).unwrap();
        let y = y.squeeze(0).unwrap().flatten_from(1).unwrap();
        // Moved: a transpose and a slice.
        let t = y.narrow(1, 2, 4).unwrap().t().unwrap();
        let t = kernels::swiglu(&t, &t).unwrap();
        let y = kernels::swiglu(&y.t().unwrap(), &y.t().unwrap()).unwrap();
        Tensor::cat(&[&t, &y.narrow(0, 0, 4).unwrap()], 0).unwrap()
    });
}

#[test]
fn one_tensor_in_several_places_adds_up() {
    let mut source = Source::new(2);
    let (x, g) = (source.var(&[6, 8]), source.var(&[8]));
    let weights = source.tensor(&[6, 8]);
    assert_taped_is_plain(&[&x, &g], &weights, || {
        let both = kernels::add_rms_norm(&x, &x, &g, 1e-5).unwrap();
        let both = kernels::add_rms_norm(&both.normed, &both.sum, &g, 1e-5).unwrap();
        let z = both.sum.reshape((6, 2, 4)).unwrap();
        let segments = kernels::Segments::causal(6).unwrap();
        let options = kernels::AttentionOptions::for_width(4);
        let z = kernels::attention(&z, &z, &z, &segments, options).unwrap();
        kernels::geglu(&z.reshape((6, 8)).unwrap(), &both.sum).unwrap()
    });
    // One of two results alone.
    assert_taped_is_plain(&[&x], &weights, || kernels::add_rms_norm(&x, &x, &g, 1e-5).unwrap().sum);
    assert_taped_is_plain(&[&x, &g], &weights, || kernels::add_rms_norm(&x, &x, &g, 1e-5).unwrap().normed);
}

/// A block recomputed from its input: the gradient of that input comes back.
#[test]
fn other_variables_come_back() {
    let mut source = Source::new(3);
    let (x, w) = (source.var(&[6, 8]), source.var(&[8, 8]));
    let weights = source.tensor(&[6, 8]);
    let run = || {
        let y = kernels::linear(&x, &w, None).unwrap();
        kernels::swiglu(&y, x.as_tensor()).unwrap()
    };
    let mut gradients = Gradients::new([("w", &w)]).unwrap();
    let (tape, y) = Tape::record(run);
    assert_eq!(tape.len(), 2);
    let mut others = tape.backward(&y, &weights, &mut gradients).unwrap();
    let want = plain(&[&x, &w], &weights, run);
    assert_close("input", &flat(&others.remove(&x).unwrap().unwrap()), &want[0], 1e-6);
    assert_close("weight", gradients.get(&w).unwrap(), &want[1], 1e-6);
    assert!(others.remove(&x).unwrap().is_none());
    assert!(others.remove(&w).unwrap().is_none());
}

/// Operations that the root does not depend on have no backward pass.
#[test]
fn dead_ends_are_skipped() {
    let mut source = Source::new(4);
    let (x, w) = (source.tensor(&[6, 8]), source.var(&[8, 8]));
    let mut gradients = Gradients::new([("w", &w)]).unwrap();
    let (tape, y) = Tape::record(|| {
        kernels::linear(&x, &w, None).unwrap();
        x.sum_all().unwrap()
    });
    let one = Tensor::new(1f32, &Device::Cpu).unwrap();
    tape.backward(&y, &one, &mut gradients).unwrap();
    assert!(gradients.get(&w).is_none());
    let (tape, _) = Tape::record(|| kernels::linear(&x, &w.as_detached_tensor(), None).unwrap());
    assert!(tape.is_empty());
}

#[test]
fn tapes_nest_and_survive_a_panic() {
    let mut source = Source::new(5);
    let (x, w) = (source.tensor(&[6, 8]), source.var(&[8, 8]));
    let run = || kernels::linear(&x, &w, None).unwrap();
    let (outer, inner) = Tape::record(|| {
        run();
        let (inner, _) = Tape::record(|| (run(), run()));
        let panicked =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| Tape::record(|| -> () { panic!("on purpose") })));
        assert!(panicked.is_err());
        run();
        inner
    });
    assert_eq!((outer.len(), inner.len()), (2, 2));
    // Nothing records now: candle has the graph again.
    assert!(!run().is_variable());
}

#[test]
fn an_unfit_gradient_is_refused() {
    let mut source = Source::new(6);
    let w = source.var(&[8, 8]);
    let (tape, y) = Tape::record(|| kernels::linear(&w, &w, None).unwrap());
    let wrong = source.tensor(&[8, 7]);
    let error = tape.backward(&y, &wrong, &mut Gradients::default()).unwrap_err();
    assert_eq!(error.to_string(), "backward: expected `gradient` of shape [8, 8], got [8, 7]");
}
