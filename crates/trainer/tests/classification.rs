//! Classifiers: twenty steps are those of transformers' `Trainer` (`golden/generate_classification.py`), with one label a
//! text and with several; labels from the data, adapters, resumed runs and refusals.

mod support;

use std::fs;
use std::path::Path;

use candle_core::Tensor;
use serde_json::{Value, json};
use smpo_data::HoldOut;
use smpo_fixtures::{demo, golden};
use smpo_model::{Decoder, Labels, ModelDir, SaveOptions};
use smpo_trainer::{Schedule, TrainConfig, TrainConfigBuilder};
use support::{loss, run, run_until, train_recording};

const ONE: &str = "kind = \"classification\"";

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The demo's base with a head whose values are a formula.
fn start(dir: &Path, labels: &Labels, pad: u32) {
    let mut decoder = Decoder::load(demo("base")).unwrap();
    decoder.label_sequences(labels, 0).unwrap();
    decoder.set_pad_token(pad);
    let (_, head) = decoder.trainable().into_iter().find(|(name, _)| name == "score.weight").unwrap();
    let values: Vec<f32> = (0..head.elem_count()).map(|i| (0.05 * f64::sin(i as f64 + 1.0)) as f32).collect();
    head.set(&Tensor::from_vec(values, head.dims(), head.device()).unwrap()).unwrap();
    decoder.save(dir, &SaveOptions { source: Some(demo("base")), ..SaveOptions::default() }).unwrap();
}

/// The demo's chosen sides as texts with labels, every fourth one without speakers.
fn texts(path: &Path, rows: usize, label: impl Fn(usize) -> (&'static str, Value)) {
    let preferences = fs::read_to_string(demo("preferences.jsonl")).unwrap();
    let row = |(number, line): (usize, &str)| {
        let pair: Value = serde_json::from_str(line).unwrap();
        let (column, label) = label(number);
        let mut row = match number % 4 {
            3 => json!({"text": pair["chosen"][0]["content"]}),
            _ => json!({"messages": [pair["prompt"][0], pair["chosen"][0]]}),
        };
        row[column] = label;
        row.to_string() + "\n"
    };
    fs::write(path, preferences.lines().take(rows).enumerate().map(row).collect::<String>()).unwrap();
}

fn config(dir: &Path, model: &Path, loss_keys: &str) -> TrainConfigBuilder {
    TrainConfig::builder(loss(loss_keys))
        .model(model)
        .output_dir(dir.join("run"))
        .train_files([dir.join("texts.jsonl")])
        .max_length(512)
        .per_device_train_batch_size(4)
        .learning_rate(3e-4)
        .lr_scheduler_type(Schedule::Constant)
        .seed(3)
}

fn twenty_steps_are_those_of_transformers(labels: &Labels, label: impl Fn(usize) -> (&'static str, Value), case: &str) {
    let expected = read(&golden("trainer", "classification.json"));
    let rows = read(&golden("trainer", "order.json"))["rows"].as_u64().unwrap() as usize;
    let dir = tempfile::tempdir().unwrap();
    start(&dir.path().join("start"), labels, expected["pad_token_id"].as_u64().unwrap() as u32);
    texts(&dir.path().join("texts.jsonl"), rows, label);
    let records = run(&config(dir.path(), &dir.path().join("start"), ONE).max_steps(20).build().unwrap());
    let expected = expected[case].as_array().unwrap();
    assert_eq!((records.len(), expected.len()), (20, 20));
    for (record, expected) in records.iter().zip(expected) {
        for name in ["loss", "accuracy"] {
            let (found, theirs) = (record.metric(name).unwrap(), expected[name].as_f64().unwrap());
            assert!((found - theirs).abs() <= 2e-4, "step {}: {name}: {found}, transformers {theirs}", record.step);
        }
        assert!(record.metric("f1/macro").is_some());
        assert_eq!(record.metric("f1/micro").is_some(), labels.multiple);
        assert_eq!((record.metric("rewards/mean"), record.metric("eos_logp/chosen")), (None, None));
    }
    let saved = read(&dir.path().join("run/model/config.json"));
    assert_eq!(saved["architectures"][0], "Qwen2ForSequenceClassification");
    assert_eq!(saved["id2label"]["1"], labels.names[1].as_str());
    let problem = if labels.multiple { "multi_label_classification" } else { "single_label_classification" };
    assert_eq!(saved["problem_type"], problem);
}

#[test]
fn one_label_a_text() {
    let labels = Labels { names: ["0", "1", "2"].map(str::to_owned).to_vec(), multiple: false };
    twenty_steps_are_those_of_transformers(&labels, |number| ("label", json!(number % 3)), "one");
}

#[test]
fn several_labels_a_text() {
    let labels = Labels { names: ["even", "third"].map(str::to_owned).to_vec(), multiple: true };
    let of = |number: usize| {
        let all = [(number.is_multiple_of(2), "even"), (number.is_multiple_of(3), "third")];
        ("labels", all.iter().filter(|(has, _)| *has).map(|(_, name)| json!(name)).collect())
    };
    twenty_steps_are_those_of_transformers(&labels, of, "several");
}

/// Labels that can be learned; adapters on the demo's base, with labels that only the data names.
#[test]
fn adapters_learn_the_labels_of_the_data_and_resume_bit_for_bit() {
    let dir = tempfile::tempdir().unwrap();
    let label = |number: usize| ("label", json!(if number % 4 == 3 { "plain" } else { "chat" }));
    texts(&dir.path().join("texts.jsonl"), 24, label);
    let of = |name: &str| {
        config(dir.path(), &demo("base"), ONE)
            .output_dir(dir.path().join(name))
            .use_peft(true)
            .lora_r(4)
            .num_train_epochs(6.0)
            .learning_rate(3e-3)
            .test_size(HoldOut::Rows(6))
            .build()
            .unwrap()
    };
    let records = run(&of("whole"));
    let (first, last) = (&records[1], records.last().unwrap());
    assert!(last.metric("eval_accuracy").is_some() && last.metric("eval_f1/macro").is_some(), "{last:?}");
    assert!(last.metric("loss").unwrap() < first.metric("loss").unwrap(), "nothing was learned");
    run_until(&of("parts"), 3);
    run(&of("parts"));
    for file in ["adapter_model.safetensors", "adapter_config.json", "smpo_labels.json"] {
        let read = |name: &str| fs::read(dir.path().join(name).join("model").join(file)).unwrap();
        assert_eq!(read("whole"), read("parts"), "{file}");
    }
    let adapter = read(&dir.path().join("whole/model/adapter_config.json"));
    assert_eq!((&adapter["task_type"], &adapter["modules_to_save"][0]), (&"SEQ_CLS".into(), &"score".into()));
    let opened = ModelDir::open(dir.path().join("whole/model"), None).unwrap().load().unwrap();
    assert_eq!(opened.config().labels().unwrap().names, ["chat", "plain"]);
    // the resolved configuration names them, and a run that goes on from the adapter takes its labels
    let resolved = fs::read_to_string(dir.path().join("whole/config.toml")).unwrap();
    assert!(resolved.contains("labels = [\"chat\", \"plain\"]"), "{resolved}");
    texts(&dir.path().join("texts.jsonl"), 8, |_| ("label", json!("plain")));
    let on = config(dir.path(), &demo("base"), ONE).use_peft(true).adapter_name_or_path(dir.path().join("whole/model"));
    run(&on.max_steps(1).build().unwrap());
    let labels = read(&dir.path().join("run/model/smpo_labels.json"));
    assert_eq!(labels["id2label"], json!({"0": "chat", "1": "plain"}));
}

#[test]
fn what_does_not_fit_a_classifier_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let refusal = |model: &Path, keys: &str| {
        let config = config(dir.path(), model, keys).build().unwrap();
        train_recording(&config).0.unwrap_err().to_string()
    };
    let base = demo("base");
    let write = |rows: &str| fs::write(dir.path().join("texts.jsonl"), rows).unwrap();
    write("{\"messages\": [{\"role\": \"user\", \"content\": \"q\"}]}\n");
    assert!(refusal(&base, ONE).contains("expected rows with labels"), "{}", refusal(&base, ONE));
    write("{\"text\": \"a\", \"label\": \"yes\"}\n{\"text\": \"b\", \"label\": \"yes\"}\n");
    let error = refusal(&base, ONE);
    assert!(error.contains("expected the names of two labels or more, each once, got one"), "{error}");
    write(
        "{\"text\": \"a\", \"label\": \"yes\"}\n{\"text\": \"b\", \"label\": \"no\"}\n{\"text\": \"c\", \"label\": \"ja\"}\n",
    );
    let error = refusal(&base, &format!("{ONE}\nlabels = [\"no\", \"yes\"]\n"));
    assert!(
        error.contains("texts.jsonl:3") && error.contains("label \"ja\": expected one of \"no\", \"yes\""),
        "{error}"
    );
    let error = refusal(&base, &format!("{ONE}\nnum_labels = 2\n"));
    assert!(error.contains("`loss.num_labels` is 2: expected as many labels as there are, got 3"), "{error}");
    write("{\"text\": \"a\", \"labels\": [\"x\", \"y\"]}\n{\"text\": \"b\", \"labels\": []}\n");
    let error = refusal(&base, &format!("{ONE}\nproblem_type = \"single_label_classification\"\n"));
    assert!(error.contains("expected one label, got 2: set `problem_type`"), "{error}");

    // a classifier keeps its labels and their order
    let labels = Labels { names: vec!["yes".into(), "no".into()], multiple: false };
    start(&dir.path().join("classifier"), &labels, 0);
    write("{\"text\": \"a\", \"label\": \"yes\"}\n{\"text\": \"b\", \"label\": \"no\"}\n");
    let error = refusal(&dir.path().join("classifier"), &format!("{ONE}\nlabels = [\"no\", \"yes\"]\n"));
    assert!(error.contains("the classifier that training starts from has \"yes\", \"no\""), "{error}");
    run(&config(dir.path(), &dir.path().join("classifier"), ONE).max_steps(1).build().unwrap());
    assert_eq!(read(&dir.path().join("run/model/config.json"))["id2label"], json!({"0": "yes", "1": "no"}));
}
