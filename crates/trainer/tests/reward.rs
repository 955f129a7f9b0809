//! Reward models: twenty steps are those of TRL's `RewardTrainer` (`golden/generate_reward.py`); adapters, held-out rows,
//! resumed runs and refusals.

mod support;

use std::fs;
use std::path::Path;

use candle_core::Tensor;
use serde_json::Value;
use smpo_data::HoldOut;
use smpo_fixtures::{demo, golden};
use smpo_model::{Decoder, Labels, ModelDir, SaveOptions};
use smpo_trainer::TrainConfig;
use support::{demo_run, loss, run, run_until, train_recording};

const REWARD: &str = "kind = \"reward\"\ncenter_rewards_coefficient = 0.01";

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The demo's base with a head whose values are a formula.
fn start(dir: &Path, pad: u32) {
    let mut decoder = Decoder::load(demo("base")).unwrap();
    decoder.label_sequences(&Labels::reward(), 0).unwrap();
    decoder.set_pad_token(pad);
    let (_, head) = decoder.trainable().into_iter().find(|(name, _)| name == "score.weight").unwrap();
    let values: Vec<f32> = (0..head.dims()[1]).map(|i| (0.05 * f64::sin(i as f64 + 1.0)) as f32).collect();
    head.set(&Tensor::from_vec(values, head.dims(), head.device()).unwrap()).unwrap();
    decoder.save(dir, &SaveOptions { source: Some(demo("base")), ..SaveOptions::default() }).unwrap();
}

#[test]
fn twenty_steps_are_those_of_trl() {
    let expected = json(&golden("trainer", "reward.json"));
    let order = json(&golden("trainer", "order.json"));
    let (rows, seed) = (order["rows"].as_u64().unwrap() as usize, order["seed"].as_u64().unwrap());
    let dir = tempfile::tempdir().unwrap();
    start(&dir.path().join("start"), expected["pad_token_id"].as_u64().unwrap() as u32);
    let preferences = fs::read_to_string(demo("preferences.jsonl")).unwrap();
    let with_margin = |(number, line): (usize, &str)| {
        let mut row: Value = serde_json::from_str(line).unwrap();
        row["margin"] = Value::from(0.25 * (number % 3) as f64);
        row.to_string() + "\n"
    };
    let pairs: String = preferences.lines().take(rows).enumerate().map(with_margin).collect();
    fs::write(dir.path().join("pairs.jsonl"), pairs).unwrap();
    let config = TrainConfig::builder(loss(REWARD))
        .model(dir.path().join("start"))
        .output_dir(dir.path().join("run"))
        .train_files([dir.path().join("pairs.jsonl")])
        .max_length(512)
        .max_steps(20)
        .per_device_train_batch_size(4)
        .learning_rate(3e-4)
        .lr_scheduler_type(smpo_trainer::Schedule::Constant)
        .seed(seed)
        .build()
        .unwrap();
    let records = run(&config);
    let expected = expected["steps"].as_array().unwrap();
    assert_eq!((records.len(), expected.len()), (20, 20));
    for (record, expected) in records.iter().zip(expected) {
        for (ours, theirs) in [
            ("loss", "loss"),
            ("rewards/accuracies", "accuracy"),
            ("rewards/margins", "margin"),
            ("rewards/mean", "mean"),
        ] {
            let (found, trl) = (record.metric(ours).unwrap(), expected[theirs].as_f64().unwrap());
            assert!((found - trl).abs() <= 2e-4, "step {}: {ours}: {found}, TRL {trl}", record.step);
        }
        assert_eq!(record.metric("eos_logp/chosen"), None);
    }
    let saved = json(&dir.path().join("run/model/config.json"));
    assert_eq!(saved["architectures"][0], "Qwen2ForSequenceClassification");
    assert_eq!((&saved["num_labels"], &saved["pad_token_id"]), (&Value::from(1), &Value::from(0)));
}

/// Adapters on the demo's base, with a head of their own; two runs, one of them interrupted, give the same bytes.
#[test]
fn adapters_carry_the_head_and_resume_bit_for_bit() {
    let dir = tempfile::tempdir().unwrap();
    let config = |name: &str| {
        demo_run(&dir.path().join(name), 24, loss(REWARD))
            .use_peft(true)
            .lora_r(4)
            .per_device_train_batch_size(4)
            .num_train_epochs(2.0)
            .learning_rate(1e-3)
            .test_size(HoldOut::Rows(6))
            .build()
            .unwrap()
    };
    let (whole, parts) = (config("whole"), config("parts"));
    let records = run(&whole);
    let last = records.last().unwrap();
    assert!(last.metric("eval_rewards/accuracies").is_some() && last.metric("eval_loss").is_some(), "{last:?}");
    assert!(last.metric("eval_loss").unwrap() < records[0].metric("eval_loss").unwrap(), "nothing was learned");
    run_until(&parts, 3);
    run(&parts);
    for file in ["adapter_model.safetensors", "adapter_config.json", "smpo_labels.json"] {
        let read = |name: &str| fs::read(dir.path().join(name).join("model").join(file)).unwrap();
        assert_eq!(read("whole"), read("parts"), "{file}");
    }
    let adapter = json(&dir.path().join("whole/model/adapter_config.json"));
    assert_eq!((&adapter["task_type"], &adapter["modules_to_save"][0]), (&"SEQ_CLS".into(), &"score".into()));
    let opened = ModelDir::open(dir.path().join("whole/model"), None).unwrap().load().unwrap();
    assert!(opened.config().labels().unwrap().is_reward());
    assert_eq!(opened.config().pad_token(), Some(0));
}

#[test]
fn what_does_not_fit_a_reward_model_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let build = |keys: &str| {
        let text = format!(
            "model_name_or_path = \"base\"\noutput_dir = \"out\"\ndataset = \"pairs.jsonl\"\nlearning_rate = 1e-4\n{keys}"
        );
        fs::write(dir.path().join("run.toml"), text).unwrap();
        TrainConfig::read(&dir.path().join("run.toml"), &[]).unwrap_err().to_string()
    };
    let error = build("[loss]\nkind = \"reward\"\n[probe]\nprompts = \"ood.jsonl\"\n");
    assert!(error.contains("`probe` completes prompts") && error.contains("gives no text"), "{error}");
    let error = build("[loss]\nkind = \"reward\"\neos_term = \"invert\"\n");
    assert!(error.contains("has no effect on a head of labels"), "{error}");
    let error = build("reference_model_name_or_path = \"other\"\n[loss]\nkind = \"reward\"\n");
    assert!(error.contains("has no reference model"), "{error}");

    // a reward model is no policy, and a classifier of three labels no reward model
    start(&dir.path().join("rm"), 0);
    let refusal = |model: &Path, keys: &str| {
        let config = demo_run(&dir.path().join("run"), 4, loss(keys)).model(model).learning_rate(1e-4).build().unwrap();
        train_recording(&config).0.unwrap_err().to_string()
    };
    let error = refusal(&dir.path().join("rm"), "kind = \"dpo\"");
    assert!(error.contains("loss `dpo` trains a language model, got a reward model"), "{error}");
    let mut three = Decoder::load(demo("base")).unwrap();
    three.label_sequences(&Labels::numbered(3, false), 0).unwrap();
    three
        .save(dir.path().join("three"), &SaveOptions { source: Some(demo("base")), ..SaveOptions::default() })
        .unwrap();
    let error = refusal(&dir.path().join("three"), REWARD);
    assert!(error.contains("expected one with 1 of them, or a language model, got one with 3"), "{error}");
}
