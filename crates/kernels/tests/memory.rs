//! Peak memory of head, attention and tape, measured by an allocator that counts.

use candle_core::{Device, Tensor, Var};
use smpo_fixtures::CountingAllocator;
use smpo_kernels::{
    self as kernels, AttentionOptions, Gradients, HeadOptions, Segments, Tape, attention, selected_log_probs,
};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new();

/// MiB allocated by `f` at its peak, beyond what was there before.
fn peak<T>(f: impl FnOnce() -> T) -> f64 {
    ALLOCATOR.peak(f).0 as f64 / (1 << 20) as f64
}

fn var(shape: &[usize]) -> Var {
    Var::randn(0f32, 0.1, shape, &Device::Cpu).unwrap()
}

/// One test: the counters are the whole process's.
#[test]
fn nothing_of_full_size_is_ever_kept() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    pool.install(|| {
        // All logits would take 128 MiB, once in each direction.
        let (m, v, h) = (1024, 32768, 8);
        let (hidden, weight) = (var(&[m, h]), var(&[v, h]));
        let targets: Vec<u32> = (0..m as u32).collect();
        let options = HeadOptions { chunk: 128, ..HeadOptions::default() };
        let used = peak(|| {
            let ell = selected_log_probs(&hidden, &weight, &targets, options).unwrap();
            ell.sum_all().unwrap().backward().unwrap()
        });
        assert!(used < 12.0, "the head took {used:.1} MiB");

        // All scores would take 64 MiB a head.
        let (n, d) = (4096, 4);
        let (q, k) = (var(&[n, 2, d]), var(&[n, 1, d]));
        let segments = Segments::causal(n).unwrap();
        let used = peak(|| {
            let y = attention(&q, &k, &k, &segments, AttentionOptions::for_width(d)).unwrap();
            y.sum_all().unwrap().backward().unwrap()
        });
        assert!(used < 8.0, "attention took {used:.1} MiB");

        // Sixteen blocks of 1 MiB results: candle's graph keeps every result, a tape recomputes norms and gated units
        // and frees the rest during the backward pass.
        let (n, h) = (1024, 256);
        let (x, gain, matrix) = (var(&[n, h]), var(&[h]), var(&[h, h]));
        let forward = || {
            let mut y = x.as_tensor().clone();
            for _ in 0..16 {
                let normed = kernels::rms_norm(&y, &gain, 1e-6).unwrap();
                let inner = kernels::swiglu(&kernels::linear(&normed, &matrix, None).unwrap(), &normed).unwrap();
                y = kernels::add(&kernels::linear(&inner, &matrix, None).unwrap(), &y).unwrap();
            }
            y
        };
        let ones = Tensor::ones((n, h), candle_core::DType::F32, &Device::Cpu).unwrap();
        let parameters = || Gradients::new([("gain", &gain), ("matrix", &matrix)]).unwrap();
        let graph = peak(|| parameters().backward(&kernels::weighted_sum(&forward(), &ones).unwrap()).unwrap());
        let tape = peak(|| {
            let (tape, y) = Tape::record(forward);
            tape.backward(&y, &ones, &mut parameters()).unwrap()
        });
        assert!(tape < 0.8 * graph, "a tape took {tape:.1} MiB, candle's graph {graph:.1}");
    });
}
