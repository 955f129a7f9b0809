//! Reward models as a user meets them: trained on the demo's pairs, then a score, a scorer of pairs, and a metric.

use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use predicates::prelude::PredicateBooleanExt as _;
use predicates::str::contains;
use serde_json::Value;
use smpo_fixtures::demo;

fn smpo(arguments: &[&str]) -> Command {
    let mut smpo = Command::cargo_bin("smpo").unwrap();
    smpo.args(arguments);
    smpo
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn rows(path: &Path) -> Vec<Value> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A reward model trained on some of the demo's pairs.
fn trained(dir: &Path) -> PathBuf {
    let config = format!(
        "model_name_or_path = {:?}\noutput_dir = {:?}\ndataset = {:?}\ndataset_sample = 48\ntest_size = 12\nmax_length = 256\n\
         per_device_train_batch_size = 4\nlearning_rate = 1e-3\n[loss]\nkind = \"reward\"\n",
        demo("base"),
        dir.join("run"),
        demo("preferences.jsonl"),
    );
    fs::write(dir.join("reward.toml"), config).unwrap();
    smpo(&["train", &text(&dir.join("reward.toml"))]).assert().success();
    dir.join("run/model")
}

#[test]
fn a_reward_model_is_trained_and_used_everywhere() {
    let dir = tempfile::tempdir().unwrap();
    let model = text(&trained(dir.path()));

    // pairs: a line each, a larger reward for most chosen sides
    let pairs = demo("preferences.jsonl");
    let some: Vec<String> = fs::read_to_string(pairs).unwrap().lines().take(40).map(str::to_owned).collect();
    let input = dir.path().join("pairs.jsonl");
    fs::write(&input, some.join("\n")).unwrap();
    let out = dir.path().join("rewards.jsonl");
    smpo(&["reward", "score", &model, &text(&input), "--out", &text(&out)])
        .assert()
        .success()
        .stdout(contains("chosen has the larger reward in"))
        .stdout(contains("p97"));
    let scored = rows(&out);
    assert_eq!(scored.len(), 40);
    let right = scored.iter().filter(|row| row["chosen"].as_f64() > row["rejected"].as_f64()).count();
    assert!(right > 28, "{right} of 40");

    // a scorer of pairs, resumed from its file
    let prompts = dir.path().join("prompts.jsonl");
    let ood: Vec<String> = fs::read_to_string(demo("ood.jsonl")).unwrap().lines().take(6).map(str::to_owned).collect();
    fs::write(&prompts, ood.join("\n")).unwrap();
    let base = text(&demo("base"));
    let score = format!("rm:{model}");
    let made = dir.path().join("made");
    let make = || {
        let place = [&text(&prompts)[..], "--out", &text(&made)].map(str::to_owned);
        let mut command = smpo(&["pairs", &base, "--engine", "native", "--samples", "4", "--cap", "24", "--prompts"]);
        command.args(place).args(["--temperature", "1.2", "--score", &score]);
        command.assert().success().stdout(contains("24 samples, 0 failed, 0 without a score"));
        fs::read(made.join("pairs.jsonl")).unwrap()
    };
    let first = make();
    let journal = fs::read_to_string(made.join("rewards.jsonl")).unwrap();
    fs::write(made.join("rewards.jsonl"), &journal[..journal.len() / 2]).unwrap();
    assert_eq!(make(), first);
    for pair in rows(&made.join("pairs.jsonl")) {
        assert!(pair["score_chosen"].as_f64() > pair["score_rejected"].as_f64(), "{pair}");
    }
    // the samples of that run are an input too
    smpo(&["reward", "score", &model, &text(&made.join("samples/samples.jsonl")), "--format", "json"])
        .assert()
        .success()
        .stdout(contains("\"scored\": 24"));

    // a metric that a gate judges; the samples are not taken again
    let eval = |reward: bool| {
        let out = text(&dir.path().join("eval"));
        let mut command = smpo(&["eval", &base, "--engine", "native", "--cap", "24", "--out", &out, "--suite"]);
        command.arg(&prompts);
        if reward {
            command.args(["--reward-model", &model]);
        }
        command.assert().success()
    };
    eval(false);
    let samples = fs::read(dir.path().join("eval/samples.jsonl")).unwrap();
    eval(true).stdout(contains(" reward "));
    assert_eq!(fs::read(dir.path().join("eval/samples.jsonl")).unwrap(), samples);
    let metrics = json(&dir.path().join("eval/metrics.json"));
    let metrics = metrics["metrics"].as_array().unwrap();
    let reward = metrics.iter().find(|metric| metric["metric"] == "reward" && metric["slice"] == "all").unwrap();
    assert_eq!((&reward["n"], &reward["unit"], &reward["better"]), (&6.into(), &"number".into(), &"higher".into()));
    let manifest = json(&dir.path().join("eval/run.json"));
    assert_eq!(manifest["observed"]["reward_model"]["source"], model);
}

#[test]
fn models_of_another_kind_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let base = text(&demo("base"));
    let pairs = text(&demo("preferences.jsonl"));
    smpo(&["reward", "score", &base, &pairs])
        .assert()
        .code(2)
        .stderr(contains("expected a reward model or a classifier").and(contains("got a language model")));
    let prompts = text(&demo("ood.jsonl"));
    let out = text(&dir.path().join("out"));
    let score = format!("rm:{base}");
    smpo(&["pairs", &base, "--prompts", &prompts, "--out", &out, "--score", &score])
        .assert()
        .code(2)
        .stderr(contains("--score rm: ").and(contains("got a language model")));
    let model = text(&trained(dir.path()));
    smpo(&["eval", &model, "--suite", &prompts, "--out", &out])
        .assert()
        .code(2)
        .stderr(contains("expected a language model, got a reward model"));
    smpo(&["logps", &model, &pairs, "--out", &text(&dir.path().join("logps.jsonl"))])
        .assert()
        .code(2)
        .stderr(contains("expected a language model, got a reward model"));
    smpo(&["explain", &text(&dir.path().join("reward.toml")), "logps.jsonl"])
        .assert()
        .code(2)
        .stderr(contains("loss `reward` is of what a head gives whole texts"));
    // a head of another shape
    let config = dir.path().join("run/model/config.json");
    let mut fields = json(&config);
    fields["id2label"] = serde_json::json!({"0": "a", "1": "b"});
    fields["num_labels"] = 2.into();
    fs::write(&config, fields.to_string()).unwrap();
    smpo(&["reward", "score", &model, &pairs])
        .assert()
        .code(2)
        .stderr(contains("`score.weight`: expected shape [2, ").and(contains("got [1, ")));
}

#[test]
fn a_classifier_is_trained_and_labels_texts() {
    let dir = tempfile::tempdir().unwrap();
    let (texts, held) = (dir.path().join("texts.jsonl"), dir.path().join("held.jsonl"));
    let preferences = fs::read_to_string(demo("preferences.jsonl")).unwrap();
    let labelled = |line: &str| {
        let pair: Value = serde_json::from_str(line).unwrap();
        let of = |side: &str, label: &str| {
            let messages =
                [pair["prompt"].as_array().unwrap().clone(), pair[side].as_array().unwrap().clone()].concat();
            serde_json::json!({"messages": messages, "label": label}).to_string() + "\n"
        };
        of("chosen", "better") + &of("rejected", "worse")
    };
    let mut lines = preferences.lines().map(labelled);
    fs::write(&texts, lines.by_ref().take(40).collect::<String>()).unwrap();
    fs::write(&held, lines.take(20).collect::<String>()).unwrap();
    let config = format!(
        "model_name_or_path = {:?}\noutput_dir = {:?}\ndataset = {texts:?}\neval_dataset = {held:?}\nmax_length = 256\n\
         per_device_train_batch_size = 4\nlearning_rate = 1e-3\n[loss]\nkind = \"classification\"\n",
        demo("base"),
        dir.path().join("run"),
    );
    fs::write(dir.path().join("classify.toml"), config).unwrap();
    let file = text(&dir.path().join("classify.toml"));
    smpo(&["train", &file, "--check"]).assert().success();
    smpo(&["train", &file]).assert().success().stderr(contains("macro F1"));
    let model = text(&dir.path().join("run/model"));
    smpo(&["model", "info", &model]).assert().success().stdout(contains("Qwen2ForSequenceClassification"));

    let out = dir.path().join("labels.jsonl");
    let score = |rows: &Path, more: &[&str]| smpo(&[&["reward", "score", &model, &text(rows)], more].concat());
    score(&held, &["--out", &text(&out)])
        .assert()
        .success()
        .stdout(contains("of 40 rows with labels, macro F1").and(contains("precision")).and(contains("labels: ")));
    let summary = score(&held, &["--format", "json"]).output().unwrap().stdout;
    let summary: Value = serde_json::from_slice(&summary).unwrap();
    let accuracy = summary["agreement"]["accuracy"].as_f64().unwrap();
    assert!(accuracy > 0.7, "{summary}");
    let given = rows(&out);
    let right =
        given.iter().zip(["better", "worse"].iter().cycle()).filter(|(row, label)| row["label"] == **label).count();
    assert_eq!(right as f64 / given.len() as f64, accuracy);
    assert!(given.iter().all(|row| row["probabilities"]["worse"].as_f64().is_some()));

    // pairs, and texts without labels; no reward model
    score(&demo("preferences.jsonl"), &[]).assert().success().stdout(contains("mean probability"));
    fs::write(&held, "{\"text\": \"a\"}\n{\"prompt\": \"What is tea?\"}\n{\"text\": \"b\", \"label\": \"odd\"}\n")
        .unwrap();
    score(&held, &[]).assert().success().stdout(contains("1 row has a label that the model does not have"));
    let suite = text(&demo("ood.jsonl"));
    smpo(&["pairs", &text(&demo("base")), "--prompts", &suite, "--out", &text(&dir.path().join("p")), "--score"])
        .arg(format!("rm:{model}"))
        .assert()
        .code(2)
        .stderr(contains("a classifier of 2 labels"));
}
