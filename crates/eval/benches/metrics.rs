//! Throughput of the metrics in bytes of completion per second, on completions of about 1.8 kB: sound ones, looping
//! ones, Cyrillic ones, and one runaway of 1 MB. Run with `cargo bench -p smpo-eval`.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use smpo_eval::measure;
use smpo_metrics::{Scratch, View, measure_sample, sample_metrics};
use smpo_results::{FinishReason, Message, Sample};

const ENGLISH: &str = "the of and to in a is that it was for on are with as his they be at one have this from or had by \
                       but what some we can out other were all there when up use your how said an each she which do \
                       their time if will way about many then them write would like so these her long make thing see \
                       him two has look more day could go come did number sound no most people my over know water";
const RUSSIAN: &str = "и в не на я что он с это как по но они к у ты из мы за вы так же от то о его для только ещё \
                       было меня мне когда уже если или ни быть время год даже другой наш свой ничего сам жизнь рука \
                       день раз себя под работа слово место лицо друг вопрос дом страна мир случай голова ребёнок сила";

fn sample(index: usize, completion: String) -> Sample {
    Sample {
        slice: "prompts".into(),
        messages: vec![Message::user("Tell me about the history of the city. Расскажи.")],
        finish_reason: FinishReason::Eos,
        tokens: Some(400),
        cap: Some(2048),
        ..Sample::new(format!("p{index}"), completion)
    }
}

/// Sentences with punctuation and paragraphs, about `bytes` long.
fn prose(vocabulary: &str, bytes: usize, rng: &mut StdRng) -> String {
    let words: Vec<&str> = vocabulary.split_whitespace().collect();
    let mut text = String::new();
    while text.len() < bytes {
        text.push_str(words.choose(rng).unwrap_or(&"word"));
        text.push_str(match rng.random_range(0..12) {
            0 => ", ",
            1 => ". ",
            2 if rng.random_bool(0.2) => ".\n\n",
            _ => " ",
        });
    }
    text
}

fn corpus(kind: &str, count: usize) -> Vec<Sample> {
    let mut rng = StdRng::seed_from_u64(1);
    (0..count)
        .map(|index| {
            let completion = match kind {
                "english" => prose(ENGLISH, 1800, &mut rng),
                "russian" => prose(RUSSIAN, 1800, &mut rng),
                "looping" => prose(ENGLISH, 600, &mut rng) + &prose(ENGLISH, 60, &mut rng).repeat(20),
                _ => prose(ENGLISH, 60, &mut rng).repeat(17_000),
            };
            sample(index, completion)
        })
        .collect()
}

fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("per_sample");
    for (kind, count) in [("english", 400), ("russian", 400), ("looping", 400), ("runaway_1MB", 1)] {
        let samples = corpus(kind, count);
        group.throughput(Throughput::Bytes(samples.iter().map(|sample| sample.completion.len() as u64).sum()));
        group.bench_with_input(BenchmarkId::new("all", kind), &samples, |bench, samples| {
            let mut scratch = Scratch::default();
            bench.iter(|| {
                for sample in samples {
                    black_box(measure_sample(sample, &mut scratch));
                }
            });
        });
    }
    let samples = corpus("english", 400);
    group.throughput(Throughput::Bytes(samples.iter().map(|sample| sample.completion.len() as u64).sum()));
    let views: Vec<View<'_>> = samples.iter().map(|sample| View::new(sample, &mut Scratch::default())).collect();
    for metric in sample_metrics() {
        let Some(measure) = metric.sample else { continue };
        group.bench_function(BenchmarkId::new(metric.info.id, "english"), |bench| {
            let mut scratch = Scratch::default();
            bench.iter(|| {
                for view in &views {
                    black_box(measure(view, &mut scratch));
                }
            });
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group("whole_run");
    group.sample_size(20);
    let samples = corpus("english", 805);
    group.throughput(Throughput::Bytes(samples.iter().map(|sample| sample.completion.len() as u64).sum()));
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
    group.bench_function("measure_one_thread", |bench| bench.iter(|| one.install(|| measure(&samples, Vec::new()))));
    group.finish();
}

criterion_group!(all, benches);
criterion_main!(all);
