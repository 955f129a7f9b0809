//! The reference model of DPO and KTO: the start of training, or a model of one's own.

mod support;

use std::f64::consts::LN_2;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use smpo_fixtures::demo;
use smpo_trainer::{EarlierRun, Event, StepRecord, TrainConfig, TrainConfigBuilder, train};
use support::{demo_run, loss, run};
use tempfile::TempDir;

fn builder(out: &Path, kind: &str) -> TrainConfigBuilder {
    demo_run(out, 16, loss(&format!("kind = \"{kind}\"")))
        .per_device_train_batch_size(8)
        .max_steps(2)
        .learning_rate(3e-3)
}

fn first_loss(records: &[StepRecord]) -> f64 {
    records[0].metric("loss").unwrap()
}

/// Trains; what the run says of its reference.
fn said(config: &TrainConfig) -> String {
    let mut said = Vec::new();
    train(config, EarlierRun::Resume, &AtomicBool::new(false), &mut |event| {
        if let Event::Note(note) = event {
            said.push(note.to_owned());
        }
    })
    .unwrap();
    said.join("\n")
}

#[test]
fn training_from_an_adapter_refers_to_it() {
    let dir = TempDir::new().unwrap();
    let path = |name: &str| dir.path().join(name);
    let sft = builder(&path("sft"), "sft").use_peft(true).lora_r(4).build().unwrap();
    run(&sft);
    let adapter = path("sft").join("model");
    let of_adapter = |out: &str, kind: &str| builder(&path(out), kind).adapter_name_or_path(&adapter);
    for (kind, expected) in [("dpo", LN_2), ("kto", 0.5)] {
        let start = first_loss(&run(&of_adapter(kind, kind).build().unwrap()));
        assert!((start - expected).abs() < 1e-6, "{kind}: {start}");
    }
    // The bare base, if it is asked for.
    let bare = of_adapter("bare", "dpo").reference_model_name_or_path(demo("base")).build().unwrap();
    assert!((first_loss(&run(&bare)) - LN_2).abs() > 1e-3);
    // A fresh model against an adapter.
    let to_adapter = builder(&path("full"), "dpo").reference_model_name_or_path(&adapter).build().unwrap();
    assert!((first_loss(&run(&to_adapter)) - LN_2).abs() > 1e-3);
    let words = said(&of_adapter("words", "dpo").build().unwrap());
    assert!(words.contains("reference model: ") && words.contains("with the adapter"), "{words}");
    let words = said(&builder(&path("more"), "dpo").reference_model_name_or_path(&adapter).build().unwrap());
    assert!(words.contains(&format!("reference model: {}", adapter.display())), "{words}");
}

#[test]
fn a_reference_that_nothing_reads_is_refused() {
    let dir = TempDir::new().unwrap();
    let error =
        builder(dir.path(), "simpo").reference_model_name_or_path(demo("base")).build().unwrap_err().to_string();
    assert!(error.contains("loss `simpo` has no reference model"), "{error}");
}
