//! KTO's KL baseline: completions of other prompts, in steps of any size and on held-out rows.

mod support;

use std::path::Path;
use std::sync::atomic::AtomicBool;

use smpo_trainer::{EarlierRun, StepRecord, TrainConfig, TrainConfigBuilder, train};
use support::{loss, run, run_until};
use tempfile::TempDir;

const ROWS: [(&str, &str, bool); 5] = [
    ("What do cows eat?", "They eat grass.", true),
    ("What do cats drink?", "xxx xxx xxx", false),
    ("Where do fish live?", "They live in water.", true),
    ("What do dogs like?", "yyy yyy yyy", false),
    ("Who sings at night?", "The owl sings.", true),
];

fn labelled<'a>(file: &Path, rows: impl IntoIterator<Item = (&'a str, &'a str, bool)>) {
    let line = |(prompt, completion, label)| {
        format!("{}\n", serde_json::json!({"prompt": prompt, "completion": completion, "label": label}))
    };
    std::fs::write(file, rows.into_iter().map(line).collect::<String>()).unwrap();
}

/// KTO over `file`, one row a step.
fn config(out: &Path, file: &Path) -> TrainConfigBuilder {
    TrainConfig::builder(loss("kind = \"kto\""))
        .model(smpo_fixtures::demo("base"))
        .output_dir(out)
        .train_files([file])
        .max_length(128)
        .max_steps(8)
        .learning_rate(1e-3)
}

fn metric(record: &StepRecord, name: &str) -> f64 {
    record.metric(name).unwrap_or_else(|| panic!("no {name}"))
}

#[test]
fn a_row_alone_in_its_step_is_compared_with_another_prompt() {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data.jsonl");
    labelled(&data, ROWS);
    let whole = config(&dir.path().join("whole"), &data).build().unwrap();
    let records = run(&whole);
    // A row that is its own baseline has β(r − z) = 0 and a loss of 0.5 as soon as its likelihood has risen.
    for record in &records[2..] {
        let ratio = record.metric("rewards/chosen").or(record.metric("rewards/rejected")).unwrap() / 0.1;
        assert!((metric(record, "kl") - ratio).abs() > 1e-3, "step {}: the row's own ratio", record.step);
        assert!((metric(record, "loss") - 0.5).abs() > 1e-6, "step {}", record.step);
    }

    let stopped = config(&dir.path().join("stopped"), &data).build().unwrap();
    run_until(&stopped, 3);
    run(&stopped);
    let weights = |config: &TrainConfig| std::fs::read(config.output_dir.join("model/model.safetensors")).unwrap();
    assert!(weights(&whole) == weights(&stopped), "the weights differ");
}

#[test]
fn data_of_one_prompt_is_refused_and_needs_no_baseline() {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data.jsonl");
    labelled(&data, ROWS.map(|(_, completion, label)| ("What do cows eat?", completion, label)));
    let builder = || config(&dir.path().join("run"), &data).per_device_train_batch_size(5);
    let error =
        train(&builder().build().unwrap(), EarlierRun::Resume, &AtomicBool::new(false), &mut |_| {}).unwrap_err();
    let error = error.to_string();
    assert!(error.contains("one prompt in all 5") && error.contains("kl_baseline = \"zero\""), "{error}");
    let zero = TrainConfig { loss: loss("kind = \"kto\"\nkl_baseline = \"zero\""), ..builder().build().unwrap() };
    let zero = TrainConfig { output_dir: dir.path().join("zero"), ..zero };
    assert!(run(&zero).iter().all(|record| metric(record, "kl") == 0.0));
}

/// The order of a file, which puts the sides of a pair side by side, does not decide what is compared.
#[test]
fn held_out_pairs_have_the_baseline_of_their_labelled_completions() {
    let dir = TempDir::new().unwrap();
    let [data, pairs, labels, one] = ["data", "pairs", "labels", "one"].map(|name| dir.path().join(name));
    labelled(&data, ROWS);
    let sides = [
        ("Who barks?", "A dog barks.", "zzz zzz"),
        ("What is cold?", "Ice is cold.", "zz zz zz"),
        ("Where is the sun?", "It is in the sky.", "zzzz"),
    ];
    let pair = |(prompt, chosen, rejected)| {
        format!("{}\n", serde_json::json!({"prompt": prompt, "chosen": chosen, "rejected": rejected}))
    };
    std::fs::write(&pairs, sides.map(pair).concat()).unwrap();
    let good = sides.map(|(prompt, chosen, _)| (prompt, chosen, true));
    let bad = sides.map(|(prompt, _, rejected)| (prompt, rejected, false));
    labelled(&labels, good.into_iter().chain(bad));
    let evaluated = |name: &str, file: &Path| {
        let config = config(&dir.path().join(name), &data).eval_files([file]).max_steps(2).build().unwrap();
        let last = run(&config).pop().unwrap();
        (metric(&last, "eval_kl"), metric(&last, "eval_loss"))
    };
    let (as_pairs, as_labels) = (evaluated("of-pairs", &pairs), evaluated("of-labels", &labels));
    assert!(
        (as_pairs.0 - as_labels.0).abs() < 1e-4 && (as_pairs.1 - as_labels.1).abs() < 1e-5,
        "{as_pairs:?} {as_labels:?}"
    );

    // Held-out rows of one prompt take completions of the training data.
    labelled(&one, [("Who barks?", "A dog barks.", true), ("Who barks?", "zzz zzz", false)]);
    assert!(evaluated("of-one", &one).1.is_finite());
}
