//! Runs of distillation on the demo's base model, with a teacher made from it.

mod support;

use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::AtomicBool;

use smpo_fixtures::demo;
use smpo_trainer::{EarlierRun, Schedule, StepRecord, TrainConfig, TrainConfigBuilder, dry_run};
use support::{demo_run, loss, run, run_until};
use tempfile::TempDir;

/// The demo's base after some steps of fine-tuning, with the same tokenizer.
static TEACHER: LazyLock<(TempDir, PathBuf)> = LazyLock::new(|| {
    let dir = TempDir::new().unwrap();
    let config =
        demo_run(&dir.path().join("run"), 24, loss("kind = \"sft\"")).max_steps(6).per_device_train_batch_size(8);
    let config = config.learning_rate(2e-3).build().unwrap();
    run(&config);
    let model = config.output_dir.join("model");
    (dir, model)
});

fn config(dir: &Path, name: &str, keys: &str) -> TrainConfigBuilder {
    demo_run(&dir.join(name), 8, loss(&format!("kind = \"distill\"\n{keys}")))
        .reference_model_name_or_path(TEACHER.1.clone())
        .per_device_train_batch_size(8)
        .learning_rate(5e-4)
}

/// A learning rate and an ε far above the gradient: an update is the gradient times `size`.
fn plain(config: TrainConfigBuilder, size: f64) -> TrainConfigBuilder {
    let config = config.learning_rate(1e3 * size).adam_epsilon(1e3).max_grad_norm(0.0);
    config.lr_scheduler_type(Schedule::Constant)
}

fn figure(record: &StepRecord, name: &str) -> f64 {
    record.metric(name).unwrap_or_else(|| panic!("{name}: {record:?}"))
}

#[test]
fn every_divergence_goes_down_its_gradient() {
    let dir = TempDir::new().unwrap();
    for (index, keys) in [
        "loss_type = \"forward_kl\"\nalpha = 1.0",
        "loss_type = \"reverse_kl\"\ntemperature = 2.0",
        "loss_type = \"jensen_shannon\"\nalpha = 1.0",
        "loss_type = \"jensen_shannon\"\njs_beta = 0.2",
        "loss_type = \"soft_cross_entropy\"\ntemperature = 1.5",
        "loss_type = \"slim\"",
    ]
    .into_iter()
    .enumerate()
    {
        let size = 1e-3;
        let steps = run(&plain(config(dir.path(), &index.to_string(), keys), size).max_steps(2).build().unwrap());
        let [first, second] = &steps[..] else { panic!("{steps:?}") };
        let norm = first.update.unwrap().grad_norm;
        let fall = figure(first, "loss") - figure(second, "loss");
        let expected = size * norm * norm;
        assert!((fall / expected - 1.0).abs() < 0.1, "{keys}: the loss fell by {fall}, expected {expected}");
        let parts = figure(first, "po_loss") + figure(first, "sft_chosen_loss");
        assert!((parts - figure(first, "loss")).abs() < 1e-9);
        assert!(figure(first, "distill/divergence") > 0.0 && figure(first, "distill/agreement") <= 1.0);
    }
}

#[test]
fn the_teacher_is_at_no_distance_from_itself() {
    let dir = TempDir::new().unwrap();
    let keys = "alpha = 1.0\nloss_type = \"reverse_kl\"";
    let own = config(dir.path(), "own", keys).model(TEACHER.1.clone()).max_steps(1).build().unwrap();
    let steps = run(&own);
    assert!(figure(&steps[0], "distill/divergence").abs() < 1e-6 && figure(&steps[0], "distill/agreement") == 1.0);
    assert!(steps[0].update.unwrap().grad_norm < 1e-3, "{steps:?}");
    // and the other is learned: most of the distance is gone after some steps
    let steps = run(&config(dir.path(), "other", "alpha = 1.0")
        .max_steps(30)
        .test_size(smpo_data::HoldOut::Rows(2))
        .build()
        .unwrap());
    let eval = |record: &StepRecord| record.metric("eval_distill/divergence");
    let found: Vec<f64> = steps.iter().filter_map(eval).collect();
    assert!(found.last() < found.first(), "{found:?}");
    assert!(figure(&steps[30], "distill/divergence") < 0.5 * figure(&steps[1], "distill/divergence"), "{steps:?}");
}

#[test]
fn without_a_teachers_share_it_is_fine_tuning() {
    let dir = TempDir::new().unwrap();
    let distilled = plain(config(dir.path(), "distilled", "alpha = 0.0"), 1.0).max_steps(1).build().unwrap();
    let tuned = demo_run(&dir.path().join("tuned"), 8, loss("kind = \"sft\"")).per_device_train_batch_size(8);
    let tuned = plain(tuned, 1.0).max_steps(1).build().unwrap();
    let (one, other) = (run(&distilled), run(&tuned));
    assert!((figure(&one[0], "loss") - figure(&other[0], "loss")).abs() < 1e-5);
    let norms = [&one, &other].map(|steps| steps[0].update.unwrap().grad_norm);
    assert!((norms[0] / norms[1] - 1.0).abs() < 1e-4, "{norms:?}");
}

#[test]
fn packs_and_recomputed_blocks_change_rounding_only() {
    let dir = TempDir::new().unwrap();
    let step = |name: &str, change: fn(TrainConfigBuilder) -> TrainConfigBuilder| {
        let config = change(plain(config(dir.path(), name, "temperature = 1.5"), 1.0)).max_steps(1).build().unwrap();
        let steps = run(&config);
        [figure(&steps[0], "loss"), steps[0].update.unwrap().grad_norm]
    };
    let whole = step("whole", |config| config);
    let changed = [
        step("packs", |config| config.max_tokens_per_pack(200)),
        step("micro", |config| config.per_device_train_batch_size(2).gradient_accumulation_steps(4)),
        step("recomputed", |config| config.gradient_checkpointing(true)),
    ];
    for other in changed {
        assert!((whole[0] - other[0]).abs() < 1e-5 && (whole[1] / other[1] - 1.0).abs() < 1e-4, "{whole:?} {other:?}");
    }
}

#[test]
fn a_stopped_run_with_adapters_ends_bit_identical() {
    let dir = TempDir::new().unwrap();
    let of = |name: &str| {
        let config = config(dir.path(), name, "").per_device_train_batch_size(4).num_train_epochs(2.0).use_peft(true);
        config.build().unwrap()
    };
    let (whole, stopped) = (of("whole"), of("stopped"));
    run(&whole);
    run_until(&stopped, 2);
    run(&stopped);
    let adapter =
        |config: &TrainConfig| std::fs::read(config.output_dir.join("model/adapter_model.safetensors")).unwrap();
    assert!(adapter(&whole) == adapter(&stopped), "the adapters differ");
}

#[test]
fn a_teacher_must_be_there_and_have_the_same_tokens() {
    let dir = TempDir::new().unwrap();
    let without = demo_run(&dir.path().join("run"), 8, loss("kind = \"distill\"")).learning_rate(1e-4).build();
    let error = without.unwrap_err().to_string();
    assert!(
        error.contains("loss `distill` needs a teacher") && error.contains("teacher_model_name_or_path"),
        "{error}"
    );
    let other = dir.path().join("other");
    std::fs::create_dir(&other).unwrap();
    for entry in std::fs::read_dir(demo("base")).unwrap().map(|entry| entry.unwrap().path()) {
        std::fs::copy(&entry, other.join(entry.file_name().unwrap())).unwrap();
    }
    let tokenizer = other.join("tokenizer.json");
    let mut json: serde_json::Value = serde_json::from_slice(&std::fs::read(&tokenizer).unwrap()).unwrap();
    let vocab = json["model"]["vocab"].as_object_mut().unwrap();
    let names: Vec<String> = vocab.keys().take(2).cloned().collect();
    let (a, b) = (vocab[&names[0]].clone(), vocab[&names[1]].clone());
    vocab.insert(names[0].clone(), b);
    vocab.insert(names[1].clone(), a);
    std::fs::write(&tokenizer, json.to_string()).unwrap();
    let config = config(dir.path(), "refused", "").reference_model_name_or_path(other).max_steps(1).build().unwrap();
    let expected = "expected the tokenizer of the model that is trained, got another one";
    let error = support::train_recording(&config).0.unwrap_err().to_string();
    assert!(error.contains(expected), "{error}");
    let checked = dry_run(&config, EarlierRun::Resume, &AtomicBool::new(false), &mut |_| {}).unwrap().unwrap();
    assert!(checked.errors.iter().any(|error| error.to_string().contains(expected)), "{:?}", checked.errors);
}
