//! Loss and gradient of one step of the demo's model, and their comparison.

use std::path::Path;

use smpo_fixtures::demo;
use smpo_losses::{Loss, LossConfig, Transforms, WinsorScope};
use smpo_model::Decoder;
use smpo_trainer::{Schedule, TrainConfigBuilder};
use tempfile::TempDir;

use super::{demo_run, loss, run_on};

/// Modified SMPO with quantiles over a scope.
pub fn modified(winsor_scope: WinsorScope) -> LossConfig {
    LossConfig::from(Loss::Smpo(Default::default()))
        .with_transforms(Transforms { winsor_scope, ..Transforms::modified() })
}

/// Objectives of single pairs, of micro-batches and of whole steps.
pub fn losses() -> Vec<(&'static str, LossConfig)> {
    vec![
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
    ]
}

/// Loss and gradient of one step over 8 rows. An ε far above every gradient and a learning rate as large make AdamW's
/// first update the gradient itself.
pub struct OneStep {
    pub loss: f64,
    pub gradient: Vec<f32>,
}

pub fn one_step(loss: LossConfig, split: impl FnOnce(TrainConfigBuilder) -> TrainConfigBuilder) -> OneStep {
    one_step_on(1, loss, split)
}

/// The same step on several ranks.
pub fn one_step_on(
    world: usize,
    loss: LossConfig,
    split: impl FnOnce(TrainConfigBuilder) -> TrainConfigBuilder,
) -> OneStep {
    let dir = TempDir::new().unwrap();
    let config = demo_run(&dir.path().join("run"), 8, loss)
        .max_steps(1)
        .learning_rate(1e3)
        .adam_epsilon(1e3)
        .lr_scheduler_type(Schedule::Constant)
        .max_grad_norm(0.0);
    let config = split(config).build().unwrap();
    let loss = run_on(world, &config)[0].metric("loss").unwrap();
    let weights = |dir: &Path| -> Vec<f32> {
        let decoder = Decoder::load(dir).unwrap();
        decoder.trainable().iter().flat_map(|(_, var)| var.flatten_all().unwrap().to_vec1::<f32>().unwrap()).collect()
    };
    let (before, after) = (weights(&demo("base")), weights(&config.output_dir.join("model")));
    OneStep { loss, gradient: before.iter().zip(&after).map(|(before, after)| before - after).collect() }
}

/// The two steps are one: losses, and gradients at most and on average.
pub fn same(what: &str, a: &OneStep, b: &OneStep) {
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
