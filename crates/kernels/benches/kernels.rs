//! Every kernel forward and backward beside its naive twin: `cargo bench -p smpo-kernels`.
//!
//! Two sizes: H 128 with N 2048 tokens, and H 256 with N 4096 tokens and V 8192, packed as pairs
//! of sequences of 256 tokens. A filter such as `attention/256` picks one.

use candle_core::{Tensor, Var};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use smpo_kernels::{
    self as kernels, AdamW, AdamWOptions, AttentionOptions, Gradients, HeadOptions, Parameter, Segments, Span, Tape,
    naive,
};

struct Size {
    hidden: usize,
    tokens: usize,
    vocabulary: usize,
    heads: usize,
    kv_heads: usize,
    inner: usize,
}

const SIZES: [Size; 2] = [
    Size { hidden: 128, tokens: 2048, vocabulary: 8192, heads: 4, kv_heads: 2, inner: 336 },
    Size { hidden: 256, tokens: 4096, vocabulary: 8192, heads: 8, kv_heads: 2, inner: 672 },
];

const SEQUENCE: usize = 256;

struct Source(ChaCha8Rng);

impl Source {
    fn var(&mut self, shape: &[usize]) -> Var {
        let len = shape.iter().product();
        let values: Vec<f32> = (0..len).map(|_| self.0.random_range(-0.5f32..0.5)).collect();
        Var::from_vec(values, shape, &candle_core::Device::Cpu).unwrap()
    }

    fn ids(&mut self, len: usize, below: usize) -> Vec<u32> {
        (0..len).map(|_| self.0.random_range(0..below as u32)).collect()
    }
}

/// Times the forward pass alone, and both passes with every gradient: on a tape, through candle's graph, in plain candle.
fn compare(
    criterion: &mut Criterion,
    name: &str,
    size: &Size,
    vars: &[&Var],
    fused: impl Fn() -> Tensor,
    twin: impl Fn() -> Tensor,
) {
    let mut group = criterion.benchmark_group(name);
    group.sample_size(10).throughput(Throughput::Elements(size.tokens as u64));
    let mut gradients = Gradients::new(["a", "b", "c", "d"].iter().copied().zip(vars.iter().copied())).unwrap();
    let weights = Tensor::randn(0f32, 1.0, fused().dims(), &candle_core::Device::Cpu).unwrap();
    group.bench_function(BenchmarkId::new("forward/fused", size.hidden), |b| b.iter(&fused));
    group.bench_function(BenchmarkId::new("forward/naive", size.hidden), |b| b.iter(&twin));
    group.bench_function(BenchmarkId::new("both/tape", size.hidden), |b| {
        b.iter(|| {
            gradients.clear();
            let (tape, y) = Tape::record(&fused);
            tape.backward(&y, &weights, &mut gradients).unwrap()
        });
    });
    group.bench_function(BenchmarkId::new("both/graph", size.hidden), |b| {
        b.iter(|| {
            gradients.clear();
            gradients.backward(&kernels::weighted_sum(&fused(), &weights).unwrap()).unwrap()
        });
    });
    group.bench_function(BenchmarkId::new("both/naive", size.hidden), |b| {
        b.iter(|| kernels::weighted_sum(&twin(), &weights).unwrap().backward().unwrap());
    });
    group.finish();
}

fn bench(criterion: &mut Criterion) {
    for size in &SIZES {
        let mut source = Source(ChaCha8Rng::seed_from_u64(1));
        rows(criterion, size, &mut source);
        activations(criterion, size, &mut source);
        attention(criterion, size, &mut source);
        products(criterion, size, &mut source);
        adamw(criterion, size, &mut source);
    }
}

/// Embedding and norms.
fn rows(criterion: &mut Criterion, size: &Size, source: &mut Source) {
    let &Size { hidden: h, tokens: n, vocabulary: v, .. } = size;
    let (table, scale) = (source.var(&[v, h]), source.var(&[h]));
    let (x, residual) = (source.var(&[n, h]), source.var(&[n, h]));
    let ids = source.ids(n, v);
    compare(
        criterion,
        "embedding",
        size,
        &[&table],
        || kernels::embedding(&table, &ids).unwrap(),
        || naive::embedding(&table, &ids).unwrap(),
    );
    compare(
        criterion,
        "rms_norm",
        size,
        &[&x, &scale],
        || kernels::rms_norm(&x, &scale, 1e-6).unwrap(),
        || naive::rms_norm(&x, &scale, 1e-6).unwrap(),
    );
    compare(
        criterion,
        "add_rms_norm",
        size,
        &[&x, &residual, &scale],
        || kernels::add_rms_norm(&x, &residual, &scale, 1e-6).unwrap().normed,
        || naive::add_rms_norm(&x, &residual, &scale, 1e-6).unwrap().normed,
    );
}

/// Gated activations.
fn activations(criterion: &mut Criterion, size: &Size, source: &mut Source) {
    let &Size { tokens: n, inner, .. } = size;
    let (gate, up) = (source.var(&[n, inner]), source.var(&[n, inner]));
    compare(
        criterion,
        "swiglu",
        size,
        &[&gate, &up],
        || kernels::swiglu(&gate, &up).unwrap(),
        || naive::swiglu(&gate, &up).unwrap(),
    );
    compare(
        criterion,
        "geglu",
        size,
        &[&gate, &up],
        || kernels::geglu(&gate, &up).unwrap(),
        || naive::geglu(&gate, &up).unwrap(),
    );
}

/// Rotary embedding and attention.
fn attention(criterion: &mut Criterion, size: &Size, source: &mut Source) {
    let &Size { hidden, tokens: n, heads, kv_heads, .. } = size;
    let width = hidden / heads;
    let angles = [source.var(&[n, width / 2]), source.var(&[n, width / 2])];
    let [cos, sin] = angles.map(|angle| angle.as_detached_tensor());
    let q = source.var(&[n, heads, width]);
    let (k, values) = (source.var(&[n, kv_heads, width]), source.var(&[n, kv_heads, width]));
    compare(
        criterion,
        "rotary",
        size,
        &[&q],
        || kernels::rotary(&q, &cos, &sin, kernels::RotaryPairs::Halves).unwrap(),
        || naive::rotary(&q, &cos, &sin, kernels::RotaryPairs::Halves).unwrap(),
    );
    // The naive twin keeps N × N scores a head, so it works sequence by sequence.
    let spans = (0..n / SEQUENCE).map(|i| Span::new(i * SEQUENCE..(i + 1) * SEQUENCE));
    let (packed, alone) = (Segments::new(spans.collect()).unwrap(), Segments::causal(SEQUENCE).unwrap());
    let options = AttentionOptions::for_width(width);
    compare(
        criterion,
        "attention",
        size,
        &[&q, &k, &values],
        || kernels::attention(&q, &k, &values, &packed, options).unwrap(),
        || {
            let parts: Vec<Tensor> = (0..n / SEQUENCE)
                .map(|i| {
                    let part = |x: &Var| x.narrow(0, i * SEQUENCE, SEQUENCE).unwrap();
                    naive::attention(&part(&q), &part(&k), &part(&values), &alone, options).unwrap()
                })
                .collect();
            Tensor::cat(&parts, 0).unwrap()
        },
    );
}

/// A projection, and the head with a trained and with a frozen weight.
fn products(criterion: &mut Criterion, size: &Size, source: &mut Source) {
    let &Size { hidden: h, tokens: n, vocabulary: v, inner, .. } = size;
    let (x, weight, table) = (source.var(&[n, h]), source.var(&[inner, h]), source.var(&[v, h]));
    let targets = source.ids(n, v);
    compare(
        criterion,
        "linear",
        size,
        &[&x, &weight],
        || kernels::linear(&x, &weight, None).unwrap(),
        || naive::linear(&x, &weight, None).unwrap(),
    );
    compare(
        criterion,
        "selected_log_probs",
        size,
        &[&x, &table],
        || kernels::selected_log_probs(&x, &table, &targets, HeadOptions::default()).unwrap(),
        || naive::selected_log_probs(&x, &table, &targets, None).unwrap(),
    );
    let frozen = table.as_detached_tensor();
    compare(
        criterion,
        "selected_log_probs_frozen",
        size,
        &[&x],
        || kernels::selected_log_probs(&x, &frozen, &targets, HeadOptions::default()).unwrap(),
        || naive::selected_log_probs(&x, &frozen, &targets, None).unwrap(),
    );
}

/// One step over six layers' worth of parameters; its twin is the formula in candle operations.
fn adamw(criterion: &mut Criterion, size: &Size, source: &mut Source) {
    let &Size { hidden: h, vocabulary: v, inner, .. } = size;
    let mut vars = vec![source.var(&[v, h])];
    for _ in 0..6 {
        vars.extend([source.var(&[inner, h]), source.var(&[h, inner]), source.var(&[2 * h, h])]);
    }
    let elements: usize = vars.iter().map(|var| var.elem_count()).sum();
    let parameters = vars
        .iter()
        .enumerate()
        .map(|(i, var)| Parameter { name: i.to_string(), var: var.clone(), decay: true, full_moments: false })
        .collect();
    let options = AdamWOptions { weight_decay: 0.1, max_grad_norm: Some(1.0), ..AdamWOptions::default() };
    let mut adamw = AdamW::new(parameters, options).unwrap();
    let mut gradients = adamw.gradients().unwrap();
    let root = vars.iter().map(|var| kernels::weighted_sum(var, &var.as_detached_tensor()).unwrap());
    let root = root.reduce(|a, b| (a + b).unwrap()).unwrap();
    gradients.backward(&root).unwrap();
    let mut group = criterion.benchmark_group("adamw");
    group.sample_size(10).throughput(Throughput::Elements(elements as u64));
    group.bench_function(BenchmarkId::new("step/fused", h), |b| {
        b.iter(|| adamw.step(&gradients, 1e-6).unwrap());
    });
    let zero = |var: &Var| Var::from_tensor(&var.zeros_like().unwrap()).unwrap();
    let moments: Vec<(Var, Var)> = vars.iter().map(|var| (zero(var), zero(var))).collect();
    let given: Vec<Tensor> = vars.iter().map(|var| gradients.tensor(var).unwrap().unwrap()).collect();
    group.bench_function(BenchmarkId::new("step/naive", h), |b| {
        b.iter(|| {
            let squares = given.iter().map(|g| g.sqr().unwrap().sum_all().unwrap());
            let norm = squares.reduce(|a, b| (a + b).unwrap()).unwrap().to_scalar::<f32>().unwrap();
            let clip = 1.0 / f64::from(norm.sqrt()).max(1.0);
            for ((var, g), (m, s)) in vars.iter().zip(&given).zip(&moments) {
                let g = (g * clip).unwrap();
                let first = ((m.as_tensor() * 0.9).unwrap() + (&g * 0.1).unwrap()).unwrap();
                let square = (g.sqr().unwrap() * 0.001).unwrap();
                let second = ((s.as_tensor() * 0.999).unwrap() + square).unwrap();
                let root = (second.sqrt().unwrap() + 1e-8).unwrap();
                let step = ((&first / root).unwrap() * 1e-6).unwrap();
                let kept = (var.as_tensor() * (1.0 - 1e-7)).unwrap();
                var.set(&(kept - step).unwrap()).unwrap();
                m.set(&first).unwrap();
                s.set(&second).unwrap();
            }
        });
    });
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
