//! One training step of a six-layer decoder, the sum of all kernels: `cargo bench -p smpo-kernels --bench step`.
//!
//! H 256, 8 query and 2 key heads, V 8192, 4096 packed tokens in pairs with a shared prompt, 3072 of them scored: on a
//! tape and through candle's graph. The line before the figures says how many FLOPs of matrix
//! products a step must do.

use std::time::Duration;

use candle_core::{Device, Tensor, Var};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use smpo_kernels::{
    self as kernels, AdamW, AdamWOptions, AttentionOptions, Gradients, HeadOptions, Parameter, Segments, Span, Tape,
};

const LAYERS: usize = 6;
const HIDDEN: usize = 256;
const INNER: usize = 672;
const HEADS: usize = 8;
const KV_HEADS: usize = 2;
const WIDTH: usize = HIDDEN / HEADS;
const VOCABULARY: usize = 8192;
/// A prompt, a chosen and a rejected completion.
const PAIR: [usize; 3] = [128, 192, 192];
const PAIRS: usize = 8;

struct Layer {
    norms: [Var; 2],
    qkv: [Var; 3],
    qkv_bias: [Var; 3],
    output: Var,
    gate: Var,
    up: Var,
    down: Var,
}

struct Model {
    table: Var,
    layers: Vec<Layer>,
    norm: Var,
    head: Var,
    named: Vec<(String, Var)>,
}

impl Model {
    fn new(rng: &mut ChaCha8Rng) -> Self {
        let mut named = vec![];
        let mut var = |shape: &[usize]| {
            let len = shape.iter().product();
            let values: Vec<f32> = (0..len).map(|_| rng.random_range(-0.05f32..0.05)).collect();
            let var = Var::from_vec(values, shape, &Device::Cpu).unwrap();
            named.push((named.len().to_string(), var.clone()));
            var
        };
        let kv = KV_HEADS * WIDTH;
        let table = var(&[VOCABULARY, HIDDEN]);
        let layers = (0..LAYERS)
            .map(|_| Layer {
                norms: [var(&[HIDDEN]), var(&[HIDDEN])],
                qkv: [var(&[HIDDEN, HIDDEN]), var(&[kv, HIDDEN]), var(&[kv, HIDDEN])],
                qkv_bias: [var(&[HIDDEN]), var(&[kv]), var(&[kv])],
                output: var(&[HIDDEN, HIDDEN]),
                gate: var(&[INNER, HIDDEN]),
                up: var(&[INNER, HIDDEN]),
                down: var(&[HIDDEN, INNER]),
            })
            .collect();
        let (norm, head) = (var(&[HIDDEN]), var(&[VOCABULARY, HIDDEN]));
        Self { table, layers, norm, head, named }
    }

    fn forward(&self, batch: &Batch) -> kernels::Result<Tensor> {
        let n = batch.ids.len();
        let mut residual = kernels::embedding(&self.table, &batch.ids)?;
        let mut update: Option<Tensor> = None;
        let add_norm = |residual: &mut Tensor, update: Option<Tensor>, gain: &Var| -> kernels::Result<Tensor> {
            let Some(update) = update else { return kernels::rms_norm(residual, gain, 1e-6) };
            let both = kernels::add_rms_norm(residual, &update, gain, 1e-6)?;
            *residual = both.sum;
            Ok(both.normed)
        };
        for layer in &self.layers {
            let x = add_norm(&mut residual, update, &layer.norms[0])?;
            let heads = |i: usize, count: usize| -> kernels::Result<Tensor> {
                Ok(kernels::linear(&x, &layer.qkv[i], Some(&layer.qkv_bias[i]))?.reshape((n, count, WIDTH))?)
            };
            let q = kernels::rotary(&heads(0, HEADS)?, &batch.cos, &batch.sin, kernels::RotaryPairs::Halves)?;
            let k = kernels::rotary(&heads(1, KV_HEADS)?, &batch.cos, &batch.sin, kernels::RotaryPairs::Halves)?;
            let v = heads(2, KV_HEADS)?;
            let mixed = kernels::attention(&q, &k, &v, &batch.segments, AttentionOptions::for_width(WIDTH))?;
            let mixed = kernels::linear(&mixed.reshape((n, HIDDEN))?, &layer.output, None)?;
            let x = add_norm(&mut residual, Some(mixed), &layer.norms[1])?;
            let gated =
                kernels::swiglu(&kernels::linear(&x, &layer.gate, None)?, &kernels::linear(&x, &layer.up, None)?)?;
            update = Some(kernels::linear(&gated, &layer.down, None)?);
        }
        let x = add_norm(&mut residual, update, &self.norm)?;
        let rows = kernels::embedding(&x, &batch.rows)?;
        kernels::selected_log_probs(&rows, &self.head, &batch.targets, HeadOptions::default())
    }
}

struct Batch {
    ids: Vec<u32>,
    segments: Segments,
    cos: Tensor,
    sin: Tensor,
    rows: Vec<u32>,
    targets: Vec<u32>,
    weights: Tensor,
}

impl Batch {
    fn new(rng: &mut ChaCha8Rng) -> Self {
        let (mut spans, mut rows, mut start) = (vec![], vec![], 0);
        for _ in 0..PAIRS {
            let prompt = start..start + PAIR[0];
            spans.push(Span::new(prompt.clone()));
            start = prompt.end;
            for length in &PAIR[1..] {
                spans.push(Span::with_prefix(start..start + length, prompt.clone()));
                rows.extend((start..start + length).map(|row| row as u32));
                start += length;
            }
        }
        let mut ids = |len| (0..len).map(|_| rng.random_range(0..VOCABULARY as u32)).collect::<Vec<_>>();
        let (ids, targets) = (ids(start), ids(rows.len()));
        let segments = Segments::new(spans).unwrap();
        let half = WIDTH / 2;
        let angle = |f: fn(f32) -> f32| {
            let values: Vec<f32> = segments
                .positions()
                .iter()
                .flat_map(|&p| (0..half).map(move |i| f(p as f32 * 1e4f32.powf(-(i as f32) / half as f32))))
                .collect();
            Tensor::from_vec(values, (start, half), &Device::Cpu).unwrap()
        };
        let weights = Tensor::full(1e-3f32, rows.len(), &Device::Cpu).unwrap();
        let (cos, sin) = (angle(f32::cos), angle(f32::sin));
        Self { ids, segments, cos, sin, rows, targets, weights }
    }

    /// FLOPs of all products: forward and twice that backward, and the head's and attention's scores once more.
    fn flops(&self) -> f64 {
        let n = self.ids.len() as f64;
        let layer = 2 * HIDDEN * HIDDEN + 2 * KV_HEADS * WIDTH * HIDDEN + 3 * HIDDEN * INNER;
        let linear = 6.0 * n * (LAYERS * layer) as f64;
        let head = 8.0 * self.rows.len() as f64 * (VOCABULARY * HIDDEN) as f64;
        let pairs: usize = self
            .segments
            .spans()
            .iter()
            .map(|span| {
                let own = span.end - span.start;
                own * (own + 1) / 2 + own * span.prefix.as_ref().map_or(0, |prefix| prefix.len())
            })
            .sum();
        linear + head + 14.0 * (LAYERS * pairs * HIDDEN) as f64
    }
}

fn bench(criterion: &mut Criterion) {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let model = Model::new(&mut rng);
    let batch = Batch::new(&mut rng);
    println!("{} tokens, {:.1} GFLOP a step", batch.ids.len(), batch.flops() / 1e9);
    let parameters = model.named.iter().map(|(name, var)| Parameter {
        name: name.clone(),
        var: var.clone(),
        decay: true,
        full_moments: false,
    });
    let mut adamw = AdamW::new(parameters.collect(), AdamWOptions::default()).unwrap();
    let mut gradients: Gradients = adamw.gradients().unwrap();
    let mut group = criterion.benchmark_group("step");
    group.sample_size(10).measurement_time(Duration::from_secs(20));
    group.throughput(Throughput::Elements(batch.ids.len() as u64));
    group.bench_function("tape", |b| {
        b.iter(|| {
            gradients.clear();
            let (tape, ell) = Tape::record(|| model.forward(&batch).unwrap());
            tape.backward(&ell, &batch.weights, &mut gradients).unwrap();
            adamw.step(&gradients, 1e-6).unwrap()
        });
    });
    group.bench_function("graph", |b| {
        b.iter(|| {
            gradients.clear();
            let root = kernels::weighted_sum(&model.forward(&batch).unwrap(), &batch.weights).unwrap();
            gradients.backward(&root).unwrap();
            adamw.step(&gradients, 1e-6).unwrap()
        });
    });
    // The rate of candle's own product, to compare with: a feed-forward matrix on all tokens.
    let (x, w) = (model.table.narrow(0, 0, 4096).unwrap(), &model.layers[0].gate);
    group.throughput(Throughput::Elements((2 * 4096 * HIDDEN * INNER) as u64));
    group.bench_function("product", |b| b.iter(|| x.matmul(&w.t().unwrap()).unwrap()));
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
