//! However a step is cut, into micro-batches or into packs, it is the same step to float32 rounding.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use smpo_model::Decoder;
use smpo_trainer::{Event, TrainConfig, train};
use tempfile::TempDir;

const MODIFIED: &str = "kind = \"smpo\"\neos_term = \"invert\"\nlower_clip_percentile = 0.02\nmin_log_prob = -2.3";

/// Loss and gradient of one step over 8 rows. An ε far above every gradient and a learning rate as large make AdamW's
/// first update the gradient itself.
struct OneStep {
    loss: f64,
    gradient: Vec<f32>,
}

fn one_step(loss: &str, keys: &str) -> OneStep {
    let demo = |name| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/demo").join(name);
    let dir = TempDir::new().unwrap();
    let text = format!(
        "model_name_or_path = {:?}\noutput_dir = {:?}\ndataset = {:?}\ndataset_sample = 8\nmax_length = 256\n\
         max_steps = 1\nlearning_rate = 1e3\nadam_epsilon = 1e3\nlr_scheduler_type = \"constant\"\nmax_grad_norm = 0.0\n\
         seed = 3\n{keys}\n[loss]\n{loss}",
        demo("base"),
        dir.path().join("run"),
        demo("preferences.jsonl"),
    );
    let config = TrainConfig::parse(&text, Path::new("test.toml"), &[]).unwrap();
    let mut loss = f64::NAN;
    train(&config, false, &AtomicBool::new(false), &mut |event| {
        if let Event::Step(record) = event {
            loss = record.metric("loss").unwrap();
        }
    })
    .unwrap();
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
    let loss = format!("{MODIFIED}\nwinsor_scope = \"step\"");
    let split = |micro: usize, accumulation: usize| {
        let keys = format!(
            "per_device_train_batch_size = {micro}\ngradient_accumulation_steps = {accumulation}\n\
             gradient_checkpointing = {}",
            micro == 4
        );
        one_step(&loss, &keys)
    };
    let whole = split(8, 1);
    for (micro, accumulation) in [(4, 2), (2, 4), (1, 8)] {
        same(&format!("{micro} × {accumulation}"), &whole, &split(micro, accumulation));
    }
}

#[test]
fn packs_change_rounding_only() {
    let scope = |scope: &str| format!("{MODIFIED}\nwinsor_scope = \"{scope}\"");
    let losses = [
        ("regular", "kind = \"smpo\"".to_owned()),
        ("microbatch", scope("microbatch")),
        ("step", scope("step")),
        ("window", format!("{MODIFIED}\nwinsor_scope = {{ window = 64 }}")),
        ("dpo", "kind = \"dpo\"".to_owned()),
        ("kto", "kind = \"kto\"".to_owned()),
        ("sft", "kind = \"sft\"".to_owned()),
    ];
    for (name, loss) in &losses {
        let packed = |most: usize| {
            let keys = format!(
                "per_device_train_batch_size = 4\ngradient_accumulation_steps = 2\nmax_tokens_per_pack = {most}"
            );
            one_step(loss, &keys)
        };
        let whole = packed(100_000);
        // Every row alone; about three rows.
        for most in [1, 150] {
            same(&format!("{name}, packs of {most}"), &whole, &packed(most));
        }
    }
}
