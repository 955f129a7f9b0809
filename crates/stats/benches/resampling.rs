//! The gate's budget: 10,000 resamples over 10,000 prompts × 3 metrics in under a second on two cores.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use smpo_stats::bootstrap::{Reach, acceleration, bca, means};
use smpo_stats::permutation::sign_flip;

fn resampling(c: &mut Criterion) {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let columns: Vec<Vec<f64>> = (0..3).map(|_| (0..10_000).map(|_| rng.random::<f64>() - 0.5).collect()).collect();
    let columns: Vec<&[f64]> = columns.iter().map(Vec::as_slice).collect();
    let mut group = c.benchmark_group("10k resamples × 10k prompts × 3 metrics");
    group.sample_size(10);
    group.bench_function("bootstrap and BCa", |b| {
        b.iter(|| {
            let replicates = means(&columns, 10_000, 7).expect("valid input");
            let ends: Vec<_> = columns
                .iter()
                .zip(&replicates)
                .map(|(column, r)| {
                    let estimate = column.iter().sum::<f64>() / column.len() as f64;
                    bca(estimate, r, acceleration(column), 0.95, Reach::Normal).expect("valid input")
                })
                .collect();
            black_box(ends)
        });
    });
    group.bench_function("sign-flip", |b| {
        b.iter(|| {
            let p: Vec<_> = columns.iter().map(|column| sign_flip(column, 10_000, 7).expect("valid input")).collect();
            black_box(p)
        });
    });
    group.finish();
}

criterion_group!(benches, resampling);
criterion_main!(benches);
