//! However a step is cut, into micro-batches or into packs, it is the same step to float32 rounding.

mod support;

use std::path::Path;

use smpo_fixtures::demo;
use smpo_losses::{Loss, LossConfig, Transforms, WinsorScope};
use smpo_model::Decoder;
use smpo_trainer::{Schedule, TrainConfigBuilder};
use support::{demo_run, loss, run};
use tempfile::TempDir;

/// Modified SMPO with quantiles over a scope.
fn modified(winsor_scope: WinsorScope) -> LossConfig {
    LossConfig::from(Loss::Smpo(Default::default()))
        .with_transforms(Transforms { winsor_scope, ..Transforms::modified() })
}

/// Loss and gradient of one step over 8 rows. An ε far above every gradient and a learning rate as large make AdamW's
/// first update the gradient itself.
struct OneStep {
    loss: f64,
    gradient: Vec<f32>,
}

fn one_step(loss: LossConfig, split: impl FnOnce(TrainConfigBuilder) -> TrainConfigBuilder) -> OneStep {
    let dir = TempDir::new().unwrap();
    let config = demo_run(&dir.path().join("run"), 8, loss)
        .max_steps(1)
        .learning_rate(1e3)
        .adam_epsilon(1e3)
        .lr_scheduler_type(Schedule::Constant)
        .max_grad_norm(0.0);
    let config = split(config).build().unwrap();
    let loss = run(&config)[0].metric("loss").unwrap();
    let weights = |dir: &Path| -> Vec<f32> {
        let decoder = Decoder::load(dir).unwrap();
        decoder.trainable().iter().flat_map(|(_, var)| var.flatten_all().unwrap().to_vec1::<f32>().unwrap()).collect()
    };
    let (before, after) = (weights(&demo("base")), weights(&config.output_dir.join("model")));
    OneStep { loss, gradient: before.iter().zip(&after).map(|(before, after)| before - after).collect() }
}

/// The two steps are one: losses, and gradients at most and on average.
fn same(what: &str, a: &OneStep, b: &OneStep) {
    assert!((a.loss - b.loss).abs() < 1e-5 * a.loss.abs().max(1.0), "{what}: losses {} and {}", a.loss, b.loss);
    let largest = a.gradient.iter().fold(0f32, |most, value| most.max(value.abs()));
    assert!(largest > 1e-3, "{what}: no gradient to compare");
    let differences = || a.gradient.iter().zip(&b.gradient).map(|(x, y)| (x - y).abs());
    let most = differences().fold(0f32, f32::max);
    let mean = differences().map(f64::from).sum::<f64>() / a.gradient.len() as f64;
    println!("{what}: largest {largest:.2e}, differences at most {most:.1e}, on average {mean:.1e}");
    assert!(most < 2e-6 * largest.max(1.0), "{what}: gradients up to {largest} differ by up to {most}");
    assert!(mean < 1e-8 * f64::from(largest.max(1.0)), "{what}: gradients differ by {mean} on average");
}

#[test]
fn micro_batches_change_rounding_only() {
    let split = |micro: usize, accumulation: usize| {
        one_step(modified(WinsorScope::Step), |config| {
            let config = config.per_device_train_batch_size(micro).gradient_accumulation_steps(accumulation);
            config.gradient_checkpointing(micro == 4)
        })
    };
    let whole = split(8, 1);
    for (micro, accumulation) in [(4, 2), (2, 4), (1, 8)] {
        same(&format!("{micro} × {accumulation}"), &whole, &split(micro, accumulation));
    }
}

#[test]
fn packs_change_rounding_only() {
    let losses = [
        ("regular", Loss::Smpo(Default::default()).into()),
        ("microbatch", modified(WinsorScope::Microbatch)),
        ("step", modified(WinsorScope::Step)),
        ("window", modified(WinsorScope::Window(64))),
        ("dpo", loss("kind = \"dpo\"")),
        ("kto", loss("kind = \"kto\"")),
        ("sft", loss("kind = \"sft\"")),
        ("eaft", loss("kind = \"sft\"\nloss_type = \"eaft\"")),
        ("wpo", loss("kind = \"dpo\"\nuse_weighting = true")),
        ("lmpo", loss("kind = \"lmpo\"")),
    ];
    for (name, loss) in &losses {
        let packed = |most: usize| {
            one_step(loss.clone(), |config| {
                let config = config.per_device_train_batch_size(4).gradient_accumulation_steps(2);
                config.max_tokens_per_pack(most)
            })
        };
        let whole = packed(100_000);
        // Every row alone; about three rows.
        for most in [1, 150] {
            same(&format!("{name}, packs of {most}"), &whole, &packed(most));
        }
    }
}
