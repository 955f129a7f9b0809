//! Accumulation in place, and that nothing cuts the graph.

use crate::comparison::{Source, assert_close, flat};
use candle_core::{Tensor, Var};
use smpo_kernels::{self as kernels, AttentionOptions, Gradients, HeadOptions, Segments, Tape, naive};

/// A decoder of one layer, with every kernel in it.
struct Model {
    parameters: Vec<(&'static str, Var)>,
}

const HIDDEN: usize = 16;
const VOCABULARY: usize = 50;
const TOKENS: usize = 12;

impl Model {
    fn new(source: &mut Source) -> Self {
        let mut var = |name, shape: &[usize]| (name, source.var(shape));
        Self {
            parameters: vec![
                var("embed", &[VOCABULARY, HIDDEN]),
                var("norm1", &[HIDDEN]),
                var("q", &[HIDDEN, HIDDEN]),
                var("q_bias", &[HIDDEN]),
                var("k", &[HIDDEN / 2, HIDDEN]),
                var("v", &[HIDDEN / 2, HIDDEN]),
                var("q_norm", &[4]),
                var("o", &[HIDDEN, HIDDEN]),
                var("norm2", &[HIDDEN]),
                var("gate", &[24, HIDDEN]),
                var("up", &[24, HIDDEN]),
                var("down", &[HIDDEN, 24]),
                var("norm3", &[HIDDEN]),
                var("head", &[VOCABULARY, HIDDEN]),
            ],
        }
    }

    fn get(&self, name: &str) -> &Tensor {
        &self.parameters.iter().find(|(known, _)| *known == name).unwrap().1
    }

    fn fused(&self, ids: &[u32], targets: &[u32], cos: &Tensor, sin: &Tensor) -> Tensor {
        let n = ids.len();
        let x = kernels::embedding(self.get("embed"), ids).unwrap();
        let h = kernels::rms_norm(&x, self.get("norm1"), 1e-6).unwrap();
        let heads = |y: Tensor| y.reshape((n, y.dim(1).unwrap() / 4, 4)).unwrap();
        let q = heads(kernels::linear(&h, self.get("q"), Some(self.get("q_bias"))).unwrap());
        let q = kernels::rms_norm(&q, self.get("q_norm"), 1e-6).unwrap();
        let k = heads(kernels::linear(&h, self.get("k"), None).unwrap());
        let v = heads(kernels::linear(&h, self.get("v"), None).unwrap());
        let q = kernels::rotary(&q, cos, sin, kernels::RotaryPairs::Halves).unwrap();
        let k = kernels::rotary(&k, cos, sin, kernels::RotaryPairs::Halves).unwrap();
        let segments = Segments::causal(n).unwrap();
        let mixed = kernels::attention(&q, &k, &v, &segments, AttentionOptions::for_width(4)).unwrap();
        let mixed = mixed.reshape((n, HIDDEN)).unwrap();
        let mixed = kernels::linear(&mixed, self.get("o"), None).unwrap();
        let step = kernels::add_rms_norm(&mixed, &x, self.get("norm2"), 1e-6).unwrap();
        let gate = kernels::linear(&step.normed, self.get("gate"), None).unwrap();
        let up = kernels::linear(&step.normed, self.get("up"), None).unwrap();
        let inner = kernels::swiglu(&gate, &up).unwrap();
        let inner = kernels::linear(&inner, self.get("down"), None).unwrap();
        let last = kernels::add_rms_norm(&inner, &step.sum, self.get("norm3"), 1e-6).unwrap();
        let options = HeadOptions::default();
        kernels::selected_log_probs(&last.normed, self.get("head"), targets, options).unwrap()
    }

    fn naive(&self, ids: &[u32], targets: &[u32], cos: &Tensor, sin: &Tensor) -> Tensor {
        let n = ids.len();
        let x = naive::embedding(self.get("embed"), ids).unwrap();
        let h = naive::rms_norm(&x, self.get("norm1"), 1e-6).unwrap();
        let heads = |y: Tensor| y.reshape((n, y.dim(1).unwrap() / 4, 4)).unwrap();
        let q = heads(naive::linear(&h, self.get("q"), Some(self.get("q_bias"))).unwrap());
        let q = naive::rms_norm(&q, self.get("q_norm"), 1e-6).unwrap();
        let k = heads(naive::linear(&h, self.get("k"), None).unwrap());
        let v = heads(naive::linear(&h, self.get("v"), None).unwrap());
        let q = naive::rotary(&q, cos, sin, kernels::RotaryPairs::Halves).unwrap();
        let k = naive::rotary(&k, cos, sin, kernels::RotaryPairs::Halves).unwrap();
        let segments = Segments::causal(n).unwrap();
        let mixed = naive::attention(&q, &k, &v, &segments, AttentionOptions::for_width(4)).unwrap();
        let mixed = mixed.reshape((n, HIDDEN)).unwrap();
        let mixed = naive::linear(&mixed, self.get("o"), None).unwrap();
        let step = naive::add_rms_norm(&mixed, &x, self.get("norm2"), 1e-6).unwrap();
        let gate = naive::linear(&step.normed, self.get("gate"), None).unwrap();
        let up = naive::linear(&step.normed, self.get("up"), None).unwrap();
        let inner = naive::swiglu(&gate, &up).unwrap();
        let inner = naive::linear(&inner, self.get("down"), None).unwrap();
        let last = naive::add_rms_norm(&inner, &step.sum, self.get("norm3"), 1e-6).unwrap();
        naive::selected_log_probs(&last.normed, self.get("head"), targets, None).unwrap()
    }

    fn gradients(&self) -> Gradients {
        Gradients::new(self.parameters.iter().map(|(name, var)| (*name, var))).unwrap()
    }
}

struct Batch {
    ids: Vec<u32>,
    targets: Vec<u32>,
    cos: Tensor,
    sin: Tensor,
    weights: Tensor,
}

fn batch(source: &mut Source, tokens: usize) -> Batch {
    Batch {
        ids: source.ids(tokens, VOCABULARY),
        targets: source.ids(tokens, VOCABULARY),
        cos: source.tensor(&[tokens, 2]),
        sin: source.tensor(&[tokens, 2]),
        weights: source.tensor(&[tokens]),
    }
}

/// Forward and backward through the model above once: few enough operations for Miri (`.ci/nightly miri`).
#[test]
fn a_small_pass_gives_every_gradient() {
    let mut source = Source::new(5);
    let model = Model::new(&mut source);
    let Batch { ids, targets, cos, sin, weights } = batch(&mut source, 5);
    let mut gradients = model.gradients();
    let (tape, y) = Tape::record(|| model.fused(&ids, &targets, &cos, &sin));
    tape.backward(&y, &weights, &mut gradients).unwrap();
    assert!(flat(&y).iter().all(|value| value.is_finite()));
    for (name, gradient) in gradients.iter() {
        let gradient = gradient.unwrap_or_else(|| panic!("{name}: the tape is cut"));
        assert!(gradient.iter().all(|value| value.is_finite()) && gradient.iter().any(|value| *value != 0.0), "{name}");
    }
}

/// Some of candle's operations cut the graph silently; through a whole layer of ours every
/// parameter gets its gradient, the one that the naive twins give it.
#[test]
fn no_kernel_cuts_the_graph() {
    let mut source = Source::new(1);
    let model = Model::new(&mut source);
    let Batch { ids, targets, cos, sin, weights } = batch(&mut source, TOKENS);
    let fused = model.fused(&ids, &targets, &cos, &sin);
    let naive = model.naive(&ids, &targets, &cos, &sin);
    assert_close("values", &flat(&fused), &flat(&naive), 2e-5);
    let naive = (naive * &weights).unwrap().sum_all().unwrap().backward().unwrap();
    let root = kernels::weighted_sum(&fused, &weights).unwrap();
    let plain = root.backward().unwrap();
    let mut gradients = model.gradients();
    let rest = gradients.backward(&root).unwrap();
    for (name, var) in &model.parameters {
        let want = flat(naive.get(var).unwrap());
        let got = plain.get(var).unwrap_or_else(|| panic!("{name}: the graph is cut"));
        assert!(want.iter().any(|&value| value != 0.0));
        assert_close(name, &flat(got), &want, 5e-5);
        // In place gives the same, and leaves nothing behind for candle.
        assert_close(name, gradients.get(var).unwrap(), &flat(got), 0.0);
        assert!(rest.get(var).is_none());
        let shaped = gradients.tensor(var).unwrap().unwrap();
        assert_eq!(shaped.dims(), var.dims());
    }
    // On a tape every gradient arrives too.
    let mut taped = model.gradients();
    let (tape, y) = Tape::record(|| model.fused(&ids, &targets, &cos, &sin));
    assert_eq!(flat(&y), flat(&fused));
    tape.backward(&y, &weights, &mut taped).unwrap();
    for (name, var) in &model.parameters {
        let got = taped.get(var).unwrap_or_else(|| panic!("{name}: the tape is cut"));
        assert_close(name, got, gradients.get(var).unwrap(), 1e-6);
    }
}

#[test]
fn gradients_add_up_over_micro_batches() {
    let mut source = Source::new(2);
    let model = Model::new(&mut source);
    let batches: Vec<Batch> = (0..3).map(|_| batch(&mut source, TOKENS)).collect();
    let root = |b: &Batch| kernels::weighted_sum(&model.fused(&b.ids, &b.targets, &b.cos, &b.sin), &b.weights).unwrap();
    let together = batches.iter().map(root).reduce(|a, b| (a + b).unwrap()).unwrap();
    let want = together.backward().unwrap();
    let (mut gradients, mut taped) = (model.gradients(), model.gradients());
    for _ in 0..2 {
        gradients.clear();
        assert!(gradients.iter().all(|(_, gradient)| gradient.is_none()));
        for batch in &batches {
            gradients.backward(&root(batch)).unwrap();
        }
        taped.clear();
        for b in &batches {
            let (tape, y) = Tape::record(|| model.fused(&b.ids, &b.targets, &b.cos, &b.sin));
            tape.backward(&y, &b.weights, &mut taped).unwrap();
        }
        for (name, var) in &model.parameters {
            let want = flat(want.get(var).unwrap());
            assert_close(name, gradients.get(var).unwrap(), &want, 1e-5);
            assert_close(name, taped.get(var).unwrap(), &want, 1e-5);
        }
    }
    gradients.release();
    assert!(gradients.iter().all(|(_, gradient)| gradient.is_none()));
}

/// Variables outside the list, such as the input of a recomputed block, come back to the caller.
#[test]
fn other_variables_are_returned() {
    let mut source = Source::new(3);
    let (input, weight) = (source.var(&[4, 6]), source.var(&[5, 6]));
    let y = kernels::linear(&input, &weight, None).unwrap();
    let mut gradients = Gradients::new([("weight", &weight)]).unwrap();
    let rest = gradients.backward(&y.sum_all().unwrap()).unwrap();
    assert!(rest.get(&input).is_some());
    assert!(rest.get(&weight).is_none());
    assert!(gradients.get(&weight).is_some());
    assert!(gradients.get(&input).is_none());
}

/// candle's own operations reach the same buffers.
#[test]
fn gradients_of_plain_candle_operations_join() {
    let mut source = Source::new(4);
    let (x, weight) = (source.tensor(&[4, 6]), source.var(&[5, 6]));
    let fused = kernels::linear(&x, &weight, None).unwrap();
    let plain = x.matmul(&weight.t().unwrap()).unwrap();
    let root = (fused.sum_all().unwrap() + plain.sum_all().unwrap()).unwrap();
    let mut gradients = Gradients::new([("weight", &weight)]).unwrap();
    gradients.backward(&root).unwrap();
    let want = root.backward().unwrap();
    assert_close("joined", gradients.get(&weight).unwrap(), &flat(want.get(&weight).unwrap()), 1e-6);
}

/// A backward pass that fails leaves the gradients usable.
#[test]
fn a_failed_backward_pass_gives_the_buffers_back() {
    let mut source = Source::new(5);
    let weight = source.var(&[5, 6]);
    let mut gradients = Gradients::new([("weight", &weight)]).unwrap();
    let bad = weight.unsqueeze(0).unwrap().unsqueeze(0).unwrap().interpolate2d(7, 9).unwrap();
    assert!(gradients.backward(&bad.sum_all().unwrap()).is_err());
    gradients.backward(&weight.sum_all().unwrap()).unwrap();
    assert_eq!(gradients.get(&weight).unwrap(), [1.0; 30]);
}
