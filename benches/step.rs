//! Whole optimizer steps on the CPU: `cargo bench --no-default-features --bench step`.
//!
//! * `shape`: workloads A and C of `benches/peers/step.py` on pairs of equal lengths
//! * `batch`: workload A's model with ever more pairs to a step; tokens a second should stay what they are
//!
//! Throughput counts prompt and completion of both sides, the prompt once a side.

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use smpo_bench::{Base, Shape, StepBench};
use smpo_devices::Choice;
use smpo_model::WeightDtype;

const A: StepBench = StepBench {
    shape: Shape::SixMillion,
    lora_r: None,
    dtype: WeightDtype::F32,
    base: Base::Dense,
    length: 256,
    batch_size: 8,
    micro_batch_size: 8,
    steps: 1,
    warmup: 0,
    max_tokens_per_pack: None,
    checkpointing: false,
    seed: 0,
};

fn time(group: &mut BenchmarkGroup<'_, WallTime>, id: BenchmarkId, bench: StepBench) {
    let device = Choice::Cpu.open().expect("CPU");
    let mut prepared = bench.prepare(&device).expect("a learner");
    group.throughput(Throughput::Elements(prepared.tokens() as u64));
    group.bench_function(id, |b| b.iter(|| prepared.step().expect("a step")));
}

fn shapes(c: &mut Criterion) {
    let mut group = c.benchmark_group("shape");
    group.sample_size(10);
    time(&mut group, BenchmarkId::from_parameter("A"), A);
    let c = StepBench { shape: Shape::SixMillionWideHead, batch_size: 4, micro_batch_size: 4, ..A };
    time(&mut group, BenchmarkId::from_parameter("C"), c);
}

fn batches(c: &mut Criterion) {
    let mut group = c.benchmark_group("batch");
    group.sample_size(10);
    for pairs in [4, 8, 16, 32] {
        time(
            &mut group,
            BenchmarkId::from_parameter(pairs),
            StepBench { batch_size: pairs, micro_batch_size: pairs, ..A },
        );
    }
}

criterion_group!(benches, shapes, batches);
criterion_main!(benches);
