//! Runs that train adapters or a part of the weights: what they write, what they leave alone, what they refer to.

mod support;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use smpo_data::HoldOut;
use smpo_fixtures::demo;
use smpo_model::Decoder;
use smpo_trainer::config::ProbeConfig;
use smpo_trainer::{EarlierRun, Event, Finish, Schedule, StepRecord, TrainConfigBuilder, train};
use support::{demo_run, loss, run, train_recording};
use tempfile::TempDir;

fn config(out: &Path, kind: &str) -> TrainConfigBuilder {
    demo_run(out, 24, loss(kind))
        .per_device_train_batch_size(4)
        .max_steps(6)
        .learning_rate(2e-3)
        .lr_scheduler_type(Schedule::Constant)
}

fn lora(out: &Path, kind: &str) -> TrainConfigBuilder {
    config(out, kind).use_peft(true).lora_r(4).lora_dropout(0.2).lora_target_modules(["q_proj", "up_proj"])
}

const DPO: &str = "kind = \"dpo\"";

#[test]
fn an_adapter_is_written_as_peft_does_and_can_be_gone_on_from() {
    let dir = TempDir::new().unwrap();
    let first = lora(&dir.path().join("first"), DPO).build().unwrap();
    let records = run(&first);
    assert!(records[5].metric("loss") < records[0].metric("loss"));
    let model = first.output_dir.join("model");
    for file in ["adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "chat_template.jinja"] {
        assert!(model.join(file).is_file(), "{file}");
    }
    assert!(!model.join("model.safetensors").exists());
    let adapter: serde_json::Value =
        serde_json::from_slice(&std::fs::read(model.join("adapter_config.json")).unwrap()).unwrap();
    assert_eq!((&adapter["r"], &adapter["lora_dropout"]), (&4.into(), &0.2.into()));
    let mut decoder = Decoder::load(demo("base")).unwrap();
    decoder.load_adapter(&model).unwrap();

    // The reference is the start of training, and the adapter's own dropout is off: the second run starts at ln 2. Against
    // the bare base it starts where the first one ended.
    let second = |out: &str| config(&dir.path().join(out), DPO).adapter_name_or_path(&model);
    let start = run(&second("second").build().unwrap())[0].metric("loss").unwrap();
    assert!((start - std::f64::consts::LN_2).abs() < 1e-6, "{start}");
    let bare = second("bare").reference_model_name_or_path(demo("base")).build().unwrap();
    let start = run(&bare)[0].metric("loss").unwrap();
    assert!(start < std::f64::consts::LN_2 - 0.01, "{start}");
}

#[test]
fn dpo_with_adapters_refers_to_the_base_once() {
    let dir = TempDir::new().unwrap();
    let config = lora(&dir.path().join("run"), DPO).build().unwrap();
    let mut scored = 0;
    for stop_after in [1, 3, 6] {
        let stop = AtomicBool::new(false);
        train(&config, EarlierRun::Resume, &stop, &mut |event| match event {
            Event::Reference { done, rows } if done < rows => scored += 1,
            Event::Step(record) => stop.store(record.step == stop_after, Ordering::SeqCst),
            _ => {}
        })
        .unwrap();
    }
    assert_eq!(scored, 1, "one block of rows, scored once over three starts");
    let metrics = std::fs::read_to_string(config.output_dir.join("metrics.jsonl")).unwrap();
    let first: serde_json::Value = serde_json::from_str(metrics.lines().next().unwrap()).unwrap();
    // Fresh adapters change nothing, but dropout in them does not either: B is zero.
    assert!((first["loss"].as_f64().unwrap() - std::f64::consts::LN_2).abs() < 1e-6);
}

#[test]
fn patterns_unfreeze_their_modules_alone() {
    let dir = TempDir::new().unwrap();
    let config = config(&dir.path().join("run"), "kind = \"smpo\"");
    let config = config.unfreeze_layers_patterns(["*.1.mlp.up_proj", "norm"]).build().unwrap();
    run(&config);
    let read = |path: &Path| {
        let decoder = Decoder::load(path).unwrap();
        let named = decoder.trainable().into_iter();
        named.map(|(name, var)| (name, var.flatten_all().unwrap().to_vec1::<f32>().unwrap())).collect::<Vec<_>>()
    };
    let (before, after) = (read(&demo("base")), read(&config.output_dir.join("model")));
    let changed: Vec<&str> =
        before.iter().zip(&after).filter(|(a, b)| a != b).map(|((name, _), _)| name.as_str()).collect();
    assert_eq!(changed, ["model.layers.1.mlp.up_proj.weight", "model.norm.weight"]);
}

#[test]
fn held_out_rows_decide_which_checkpoint_is_the_result() {
    let dir = TempDir::new().unwrap();
    // A learning rate that soon does harm: the best evaluation is not the last.
    let config = config(&dir.path().join("run"), "kind = \"sft\"").learning_rate(0.05).max_steps(40);
    let config =
        config.test_size(HoldOut::Rows(8)).eval_steps(1).load_best_model_at_end(true).early_stopping_patience(2);
    let config = config.build().unwrap();
    let (finish, records) = train_recording(&config);
    let Finish::Done { of_step: Some(best), stopped: Some(reason), .. } = finish.unwrap() else { panic!() };
    assert!(records.len() < 40, "{reason}");
    let loss = |record: &StepRecord| record.metric("eval_loss").unwrap();
    let lowest = records.iter().min_by(|a, b| loss(a).total_cmp(&loss(b))).unwrap();
    assert_eq!(lowest.step, best);
    assert_eq!(records.last().unwrap().step, best + 2);
    let kept = config.output_dir.join(format!("checkpoints/step-{best}/model/model.safetensors"));
    assert!(std::fs::read(kept).unwrap() == std::fs::read(config.output_dir.join("model/model.safetensors")).unwrap());
}

#[test]
fn a_probe_ends_the_run_before_the_damage() {
    let dir = TempDir::new().unwrap();
    let probe = ProbeConfig {
        steps: 3,
        max_prompts: 16,
        max_new_tokens: 40,
        max_eos_drop: Some(0.1),
        ..ProbeConfig::new(demo("ood.jsonl"))
    };
    let config = config(&dir.path().join("run"), "kind = \"smpo\"\nloss_type = \"sigmoid\"\nbeta = 1.4");
    let config = config.probe(probe).max_steps(150).learning_rate(3e-3).build().unwrap();
    let (finish, records) = train_recording(&config);
    let Finish::Done { of_step: Some(good), stopped: Some(_), .. } = finish.unwrap() else {
        panic!("{:?}", records.iter().filter_map(|record| record.metric("probe/eos_rate")).collect::<Vec<_>>())
    };
    let rate = |step: u64| records.iter().find(|record| record.step == step).unwrap().metric("probe/eos_rate").unwrap();
    let last = records.last().unwrap().step;
    assert!(
        rate(last) < rate(0) - 0.1 && rate(good) >= rate(0) - 0.1 - 1e-9,
        "{} {} {}",
        rate(0),
        rate(good),
        rate(last)
    );
    assert_eq!(last, good + 3);
    for figure in ["probe/loop_rate", "probe/length", "probe/eos_logp"] {
        assert!(records[0].metric(figure).is_some(), "{figure}");
    }
    let said = std::fs::read_to_string(config.output_dir.join("probe/step-0.jsonl")).unwrap();
    assert_eq!(said.lines().count(), 16);
}
