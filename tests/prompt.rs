//! `smpo prompt optimize`, and configurations with a `[prompt]` table, as a user meets them.

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use predicates::prelude::PredicateBooleanExt as _;
use predicates::str::contains;
use serde_json::{Value, json};
use smpo_fixtures::demo;

fn smpo(dir: &Path, arguments: &[&str]) -> Command {
    let mut smpo = Command::cargo_bin("smpo").unwrap();
    smpo.current_dir(dir).args(arguments);
    smpo
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn rows(path: &Path) -> Vec<Value> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Some of the demo's pairs.
fn pairs(first: usize, count: usize) -> Vec<Value> {
    rows(&demo("preferences.jsonl")).into_iter().skip(first).take(count).collect()
}

fn write(path: &Path, rows: &[Value]) {
    fs::write(path, rows.iter().map(|row| row.to_string() + "\n").collect::<String>()).unwrap();
}

/// The rows with a text before the first question, as a user of the text puts it.
fn with_prompt(rows: &[Value], text: &str) -> Vec<Value> {
    let mut rows = rows.to_vec();
    for row in &mut rows {
        let question = row["prompt"].as_array_mut().unwrap().iter_mut().find(|turn| turn["role"] == "user").unwrap();
        question["content"] = format!("{text}\n\n{}", question["content"].as_str().unwrap()).into();
    }
    rows
}

fn float(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value}"))
}

#[test]
fn prompts_of_a_language_model_are_worth_what_logps_gives() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write(&dir.join("pairs.jsonl"), &pairs(0, 24));
    let base = demo("base");
    let run = |out: &str, more: &[&str]| {
        let mut command = smpo(dir, &["prompt", "optimize"]);
        command.arg(&base).args(["pairs.jsonl", "--out", out, "--role", "user", "--length", "6", "--count", "2"]);
        command.args(["--eval-steps", "5", "--learning-rate", "0.02", "--steps", "20", "--forbid", "300"]);
        command.args(["--temperature", "0.5", "--noise", "0.05"]).args(more);
        command
    };
    run("one", &[])
        .assert()
        .success()
        .stderr(contains("19 rows to learn on, 5 held out to measure prompts on"))
        .stdout(contains("one/prompts.json\n2 prompts learned on 19 rows, measured on 5 others"))
        .stdout(contains("as the rows are"));
    let one = json(&dir.join("one/prompts.json"));
    let steps = rows(&dir.join("one/metrics.jsonl"));
    assert_eq!(steps.len(), 21);
    assert!(float(&one["prompts"][0]["loss"]) < float(&steps[0]["eval_best_loss"]), "{one}");
    // the same bytes from the same seed, others from another
    run("two", &[]).assert().success();
    run("three", &["--seed", "1"]).assert().success();
    let bytes = |out: &str| fs::read(dir.join(out).join("prompts.json")).unwrap();
    assert_eq!(bytes("one"), bytes("two"));
    assert_ne!(bytes("one"), bytes("three"));
    // a finished run is shown again
    run("one", &["--format", "json"]).assert().success().stdout(contains("\"loss_without\""));
    run("one", &[]).assert().success().stdout(contains("already finished"));
    run("one", &["--dissimilarity", "0.5"]).assert().code(2).stderr(contains("another configuration (prompt differs)"));

    // on rows that are known the loss is the mean of what `smpo logps` gives of the text
    let apart = pairs(100, 6);
    write(&dir.join("apart.jsonl"), &apart);
    fs::write(
        dir.join("prompt.toml"),
        format!(
            "model = {base:?}\ndataset = \"pairs.jsonl\"\neval_dataset = \"apart.jsonl\"\noutput_dir = \"run\"\n\
             max_length = 256\nmax_steps = 6\nper_device_train_batch_size = 8\nlearning_rate = 0.02\n\
             [loss]\nkind = \"sft\"\n[prompt]\nlength = 5\nrole = \"user\"\ninit = \"Answer well.\"\n"
        ),
    )
    .unwrap();
    smpo(dir, &["train", "prompt.toml", "--check"]).assert().success().stdout(contains("24 to train on, 6 held out"));
    smpo(dir, &["train", "prompt.toml"]).assert().success().stdout(contains("with prompt.init"));
    let run = json(&dir.join("run/prompts.json"));
    let mean = |rows: &[Value]| {
        write(&dir.join("given.jsonl"), rows);
        smpo(dir, &["logps", base.to_str().unwrap(), "given.jsonl", "--out", "logps.jsonl"]).assert().success();
        let logps: Vec<f64> = self::rows(&dir.join("logps.jsonl"))
            .iter()
            .flat_map(|row| row["chosen"]["logps"].as_array().unwrap().clone())
            .map(|logp| float(&logp))
            .collect();
        -logps.iter().sum::<f64>() / logps.len() as f64
    };
    let best = &run["prompts"][0];
    let text = best["text"].as_str().unwrap();
    assert!((mean(&with_prompt(&apart, text)) - float(&best["loss"])).abs() < 1e-5, "{run}");
    assert!((mean(&with_prompt(&apart, "Answer well.")) - float(&run["loss_of_init"])).abs() < 1e-5, "{run}");
    assert!((mean(&apart) - float(&run["loss_without"])).abs() < 1e-5, "{run}");
    assert!(float(&best["loss"]) <= float(&run["loss_of_init"]) + 1e-9, "{run}");
}

/// A reward model trained on some of the demo's pairs.
fn reward_model(dir: &Path) {
    let config = format!(
        "model = {:?}\noutput_dir = \"reward\"\ndataset = \"pairs.jsonl\"\nmax_length = 256\nmax_steps = 8\n\
         per_device_train_batch_size = 4\nlearning_rate = 1e-3\n[loss]\nkind = \"reward\"\n",
        demo("base"),
    );
    fs::write(dir.join("reward.toml"), config).unwrap();
    smpo(dir, &["train", "reward.toml"]).assert().success();
}

/// A file as effective_llm_alignment's for prompts are, without its values of models and data.
const THEIRS: &str = "\
model_name_or_path: reward/model
dataset: pairs.jsonl
dataset_ratio: 0.5
test_size: 0.25
per_device_train_batch_size: 2
gradient_accumulation_steps: 2
num_train_epochs: 2
save_strategy: epoch
evaluation_strategy: epoch
num_prompts: 2
dissim_coef: 0.1
special_token_coef: 0.8
gumbel_temp: 1.0
gumbel_noise_scale: 0.1
prompt_len: 8
fused_forward: True
inserted_chat_role: user
save_only_model: True
learning_rate: 0.01
weight_decay: 0.01
lr_scheduler_type: constant
warmup_ratio: 0.01
center_rewards_coefficient: 0.01
gradient_checkpointing: True
logging_steps: 1
remove_unused_columns: False
max_length: 256
attn_implementation: sdpa
run_name: prompts
output_dir: prompts
bf16: True
fp16: False
seed: 42
report_to: wandb
force_chat_template: False
";

#[test]
fn files_of_effective_llm_alignment_learn_prompts_of_a_reward_model() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write(&dir.join("pairs.jsonl"), &pairs(0, 32));
    reward_model(dir);
    for (name, more) in [("no-init", ""), ("init", "init_prompt: \"The answer must be good and safe.\"\n")] {
        let text = THEIRS.replace("output_dir: prompts", &format!("output_dir: {name}"));
        fs::write(dir.join(format!("{name}.yaml")), format!("{text}{more}")).unwrap();
        let file = format!("{name}.yaml");
        smpo(dir, &["train", &file])
            .assert()
            .success()
            .stderr(contains("effective_llm_alignment prompt optimisation configuration"))
            .stderr(contains("12 rows to learn on, 4 held out"))
            .stdout(contains("2 prompts learned on 12 rows, measured on 4 others").and(contains("accuracy")));
        let found = json(&dir.join(name).join("prompts.json"));
        assert_eq!((&found["loss"], &found["prompt"]["length"]), (&json!("reward"), &json!(8)));
        assert_eq!(found["prompts"].as_array().unwrap().len(), 2);
        // the imported file is one of this project, and the same run
        let ours = smpo(dir, &["import", &file]).assert().success().get_output().stdout.clone();
        let ours = String::from_utf8(ours).unwrap().replace(&format!("\"{name}\""), "\"again\"");
        assert!(ours.contains("[prompt]\ncount = 2\n") && ours.contains("[loss]\nkind = \"reward\""), "{ours}");
        fs::write(dir.join("ours.toml"), ours).unwrap();
        smpo(dir, &["train", "ours.toml", "--restart"]).assert().success();
        assert_eq!(
            fs::read(dir.join("again/prompts.json")).unwrap(),
            fs::read(dir.join(name).join("prompts.json")).unwrap()
        );
    }
    // a misspelled key and a value out of range have their lines
    fs::write(dir.join("bad.yaml"), THEIRS.replace("prompt_len: 8", "prompt_len: 0") + "num_prompst: 3\n").unwrap();
    smpo(dir, &["train", "bad.yaml"])
        .assert()
        .code(2)
        .stderr(contains("bad.yaml:15: `prompt.length` must be at least 1, got 0 (`prompt_len` in this file)"))
        .stderr(contains("unknown key `num_prompst` (did you mean `num_prompts`?)"));
}

#[test]
fn prompts_of_a_reward_model_are_worth_what_reward_score_gives() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write(&dir.join("pairs.jsonl"), &pairs(0, 32));
    let apart = pairs(200, 6);
    write(&dir.join("apart.jsonl"), &apart);
    reward_model(dir);
    fs::write(
        dir.join("prompt.toml"),
        "model = \"reward/model\"\ndataset = \"pairs.jsonl\"\neval_dataset = \"apart.jsonl\"\noutput_dir = \"run\"\n\
         max_length = 256\nmax_steps = 5\nper_device_train_batch_size = 8\nlearning_rate = 0.02\n\
         [loss]\nkind = \"reward\"\n[prompt]\nlength = 4\nrole = \"user\"\n",
    )
    .unwrap();
    smpo(dir, &["train", "prompt.toml"]).assert().success();
    let run = json(&dir.join("run/prompts.json"));
    let of = |rows: &[Value]| {
        write(&dir.join("given.jsonl"), rows);
        smpo(dir, &["reward", "score", "reward/model", "given.jsonl", "--out", "rewards.jsonl"]).assert().success();
        let leads: Vec<f64> = self::rows(&dir.join("rewards.jsonl"))
            .iter()
            .map(|row| float(&row["chosen"]) - float(&row["rejected"]))
            .collect();
        let mean = leads.iter().map(|lead| (-lead).exp().ln_1p()).sum::<f64>() / leads.len() as f64;
        (mean, leads.iter().filter(|lead| **lead > 0.0).count() as f64 / leads.len() as f64)
    };
    let best = &run["prompts"][0];
    let (loss, accuracy) = of(&with_prompt(&apart, best["text"].as_str().unwrap()));
    assert!((loss - float(&best["loss"])).abs() < 1e-5 && accuracy == float(&best["accuracy"]), "{loss} {run}");
    let (loss, accuracy) = of(&apart);
    assert!((loss - float(&run["loss_without"])).abs() < 1e-5 && accuracy == float(&run["accuracy_without"]), "{run}");
}

#[test]
fn wrong_options_and_models_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write(&dir.join("pairs.jsonl"), &pairs(0, 8));
    let refused = |more: &[&str]| {
        let mut command = smpo(dir, &["prompt", "optimize"]);
        command.arg(demo("base")).args(["pairs.jsonl", "--out", "out", "--role", "user"]).args(more);
        command.assert().code(2)
    };
    refused(&["--count", "0"]).stderr(contains("`prompt.count` must be at least 1, got 0"));
    refused(&["--temperature", "0"]).stderr(contains("`prompt.temperature` must be a positive number, got 0"));
    refused(&["--noise", "-0.5"]).stderr(contains("`prompt.noise` must be from -0.2 to 0.2, got -0.5"));
    refused(&["--forbid", "99999999"]).stderr(contains("expected ids below"));
    refused(&["--test-size", "8"])
        .stderr(contains("`test_size`: expected fewer held-out rows than the 8 of the data, got 8"));
    refused(&["--test-size", "-1"]).stderr(contains("--test-size: expected a share below 1 or a whole number of rows"));
    smpo(dir, &["prompt", "optimize", "absent", "pairs.jsonl", "--out", "out"])
        .assert()
        .code(2)
        .stderr(contains("absent: expected a model directory or a GGUF file"));
    assert!(!dir.join("out/prompts.json").exists());
}
