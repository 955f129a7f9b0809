//! One token for each of `B` sequences of 64 tokens, and a prompt of 256, through the demo's model on one thread:
//! `cargo bench -p smpo-model --bench decode`.

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use smpo_model::{Decoder, Feed, PackedDecoder, Scratch, Sequence};

fn grown(decoder: &PackedDecoder, tokens: usize, scratch: &mut Scratch) -> Sequence {
    let ids: Vec<u32> = (0..tokens as u32).map(|t| 3 + t * 37 % 900).collect();
    let mut sequence = decoder.sequence(tokens + 64);
    let mut feeds = [Feed { sequence: &mut sequence, tokens: &ids }];
    decoder.advance(&mut feeds, scratch).expect("room");
    sequence
}

fn benches(criterion: &mut Criterion) {
    let base = smpo_fixtures::demo("base");
    let decoder = Decoder::load(base).and_then(|decoder| decoder.pack()).expect("the demo's model");
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
    let mut scratch = Scratch::default();

    let mut group = criterion.benchmark_group("decode");
    for batch in [1usize, 4, 16, 64] {
        let sequence = grown(&decoder, 64, &mut scratch);
        group.throughput(Throughput::Elements(batch as u64));
        group.bench_function(BenchmarkId::new("step", batch), |bench| {
            bench.iter_batched_ref(
                || vec![sequence.clone(); batch],
                |sequences| {
                    let feeds = sequences.iter_mut().map(|sequence| Feed { sequence, tokens: &[7] });
                    let mut feeds: Vec<Feed> = feeds.collect();
                    one.install(|| black_box(decoder.advance(&mut feeds, &mut scratch).expect("room")[0]))
                },
                BatchSize::LargeInput,
            );
        });
    }
    group.throughput(Throughput::Elements(256));
    group.bench_function("prompt_of_256", |bench| {
        bench.iter(|| one.install(|| black_box(grown(&decoder, 256, &mut scratch))));
    });
    group.finish();
}

criterion_group!(all, benches);
criterion_main!(all);
