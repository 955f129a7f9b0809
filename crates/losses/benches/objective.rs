//! One optimizer step of 64 pairs × 1,024 tokens a side: what the loss adds to a step that takes seconds.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use smpo_losses::loss::{DpoConfig, SmpoConfig};
use smpo_losses::{Batch, Completion, LOSSES, Loss, LossConfig, LossState, Objective, Pair, Transforms, WinsorScope};

const PAIRS: usize = 64;
const TOKENS: usize = 1024;

fn bench(c: &mut Criterion) {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    // Most tokens near certain, a tail of surprises: about what a trained model gives.
    let mut draw = || -> Vec<f64> { (0..TOKENS).map(|_| -rng.random::<f64>().powi(4) * 12.0).collect() };
    let sides: Vec<[Vec<f64>; 4]> = (0..PAIRS).map(|_| [draw(), draw(), draw(), draw()]).collect();
    let mut is_terminator = vec![false; TOKENS];
    is_terminator[TOKENS - 1] = true;
    let entropies: Vec<f64> = (0..TOKENS).map(|t| (t % 31) as f64 * 0.1).collect();
    let pairs: Vec<Pair<'_>> = sides
        .iter()
        .map(|[chosen, rejected, ref_chosen, ref_rejected]| {
            Pair::new(
                Completion::new(chosen, &is_terminator).with_reference(ref_chosen).with_entropy(&entropies),
                Completion::new(rejected, &is_terminator).with_reference(ref_rejected).with_entropy(&entropies),
            )
        })
        .collect();

    let smpo = || LossConfig::from(Loss::Smpo(SmpoConfig { beta: 1.2, ..SmpoConfig::default() }));
    let everything =
        Transforms { upper_clip_percentile: Some(0.97), winsor_scope: WinsorScope::Step, ..Transforms::modified() };
    let window = Transforms { winsor_scope: WinsorScope::Window(4096), ..Transforms::modified() };
    let mismatched: Vec<Completion<'_>> = pairs.iter().filter_map(|pair| pair.rejected).collect();
    let mut group = c.benchmark_group("64 pairs of 1024 tokens a side");
    for (name, config) in [
        ("regular SMPO", smpo()),
        ("modified SMPO, microbatch", smpo().with_transforms(Transforms::modified())),
        ("modified SMPO, all four, step", smpo().with_transforms(everything.clone())),
        ("modified SMPO, window of 4096", smpo().with_transforms(window)),
        ("DPO, all four, step", LossConfig::from(Loss::Dpo(DpoConfig::default())).with_transforms(everything)),
    ]
    .map(|(name, config)| (name.to_owned(), config))
    .into_iter()
    .chain(variants())
    {
        let objective = Objective::new(config).expect("a valid configuration");
        let batch = Batch { mismatched: &mismatched, ..Batch::new(&pairs) };
        let mut state = LossState::default();
        group.bench_function(name, |b| {
            b.iter(|| objective.evaluate(black_box(&batch), &mut state).expect("a valid batch"))
        });
    }
    group.finish();
}

/// Every variant of every loss without transforms, named by its kind and its keys that are not the default's.
fn variants() -> impl Iterator<Item = (String, LossConfig)> {
    LOSSES.iter().flat_map(|entry| {
        let keys = |loss: &Loss| {
            serde_json::to_value(loss).expect("a loss serializes").as_object().cloned().unwrap_or_default()
        };
        let default = keys(&(entry.default)());
        (entry.variants)().into_iter().map(move |loss| {
            let own = keys(&loss).into_iter().filter(|(key, value)| default.get(key) != Some(value));
            let own: Vec<String> = own.map(|(key, value)| format!("{key}={value}")).collect();
            (format!("{} {}", loss.kind(), own.join(" ")), LossConfig::from(loss))
        })
    })
}

criterion_group!(benches, bench);
criterion_main!(benches);
