//! `smpo data dedup` as a user meets it.

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use predicates::prelude::PredicateBooleanExt;
use predicates::str::contains;
use serde_json::{Value, json};
use smpo_fixtures::demo;
use smpo_fixtures::http::Server;

fn dedup(dir: &Path) -> Command {
    let mut smpo = Command::cargo_bin("smpo").unwrap();
    smpo.env_remove("OPENAI_API_KEY").current_dir(dir).args(["data", "dedup"]);
    smpo
}

fn write(dir: &Path, name: &str, lines: &[&str]) {
    fs::write(dir.join(name), lines.join("\n")).unwrap();
}

const MOON: &str = r#"{"prompt": "How far away is the moon from the earth on average?", "chosen": "384,400 km", "rejected": "far",  "score": NaN}"#;
const LOUD: &str =
    r#"{"prompt":"HOW FAR AWAY is the moon from the earth on average?","chosen":"384,400 km","rejected":"far"}"#;
const NEAR: &str =
    r#"{"prompt":"How far away is the moon from the earth, on average?","chosen":"384,400 km","rejected":"far"}"#;
const SUN: &str = r#"{"prompt":"What is the sun?","chosen":"a star","rejected":"a lamp"}"#;

#[test]
fn rows_that_stay_are_written_as_they_were() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "pairs.jsonl", &[MOON, LOUD, NEAR, SUN]);
    dedup(dir.path())
        .args(["pairs.jsonl", "--out", "unique.jsonl", "--report", "report.json"])
        .assert()
        .success()
        .stdout(contains("4 preference pairs of 1 file, compared by row"))
        .stdout(contains("2 kept in unique.jsonl, 2 left out: 1 of equal text, 1 of nearly equal text"))
        .stdout(contains("1 cluster: 1 of 3 to 5"))
        .stdout(contains("repeated by pairs.jsonl:2 (1.00), pairs.jsonl:3 (0.84)"));
    assert_eq!(fs::read_to_string(dir.path().join("unique.jsonl")).unwrap(), format!("{MOON}\n{SUN}\n"));
    let report: Value = serde_json::from_str(&fs::read_to_string(dir.path().join("report.json")).unwrap()).unwrap();
    assert_eq!(report["settings"]["method"], "minhash");
    assert_eq!([&report["rows"], &report["kept"], &report["exact"], &report["near"]], [4, 2, 1, 1]);
    assert_eq!(report["clusters"][0]["left_out"][1]["line"], 3);
    // the same again, from one list and from several files, with one thread
    write(dir.path(), "list.json", &["[", MOON, ",", LOUD, ",\n", &NEAR.replace("\",\"", "\",\n\""), ",", SUN, "]"]);
    let threads = ["--threads", "1", "--out", "again.jsonl"];
    dedup(dir.path()).arg("list.json").args(threads).assert().success();
    assert_eq!(
        fs::read_to_string(dir.path().join("again.jsonl")).unwrap(),
        fs::read_to_string(dir.path().join("unique.jsonl")).unwrap()
    );
    let exact = ["pairs.jsonl", "--method", "exact", "--dry-run", "--format", "json"];
    let counts = contains(r#""left_out": 1,"#).and(contains(r#""near": 0,"#));
    dedup(dir.path()).args(exact).assert().code(1).stdout(counts);
    dedup(dir.path())
        .args(["unique.jsonl", "--dry-run"])
        .assert()
        .success()
        .stdout(contains("2 would stay, 0 left out"));
}

#[test]
fn training_rows_that_a_suite_asks_are_leaks() {
    let dir = tempfile::tempdir().unwrap();
    let suite = smpo_fixtures::repository().join("evals/ood-chat.toml");
    let prompts = fs::read_to_string(smpo_fixtures::repository().join("evals/ood-chat.jsonl")).unwrap();
    let row: Value = serde_json::from_str(prompts.lines().next().unwrap()).unwrap();
    let leak = match row["messages"].as_array() {
        Some(messages) => messages.last().unwrap()["content"].clone(),
        None => row["prompt"].clone(),
    };
    let leak =
        json!({"prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": leak}], "completion": "a"});
    let harmless = json!({"prompt": "What is the sun?", "completion": "a star"}).to_string();
    write(dir.path(), "train.jsonl", &[&harmless, &leak.to_string(), &harmless]);
    let check = |more: &[&str]| dedup(dir.path()).arg("train.jsonl").arg("--against").arg(&suite).args(more).assert();
    check(&["--dry-run"])
        .code(1)
        .stdout(contains("compared by question"))
        .stdout(contains("1 left out for repeating one of --against: 1 of equal text"))
        .stdout(contains("ood-chat.toml:1").and(contains("repeated by train.jsonl:2")));
    check(&["--out", "clean.jsonl"]).success();
    assert_eq!(fs::read_to_string(dir.path().join("clean.jsonl")).unwrap(), format!("{harmless}\n{harmless}\n"));
    check(&["--out", "x.jsonl", "--keep", "longest"]).code(2).stderr(contains("--keep has no effect with --against"));
}

#[test]
fn embeddings_come_from_a_model_or_a_server() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "pairs.jsonl", &[MOON, LOUD, NEAR, SUN]);
    let by = ["pairs.jsonl", "--by", "prompt", "--method", "embeddings", "--out", "unique.jsonl"];
    let base = demo("base");
    let of_model = |threshold: &str| {
        dedup(dir.path()).args(by).arg("--model").arg(&base).args(["--threshold", threshold]).assert().success()
    };
    of_model("0.9999").stdout(contains("3 kept in"));
    of_model("0.1").stdout(contains("near: cosine of embeddings of at least 0.1")).stdout(contains("1 kept in"));

    // a server for which the number of a text's commas is its meaning; it fails once
    let server = Server::start(|request, body| {
        if request == 0 {
            return ("503 Service Unavailable", r#"{"error": "starting"}"#.to_owned());
        }
        let of = |(index, text): (usize, &Value)| {
            let commas = text.as_str().unwrap().matches(',').count() as f64;
            json!({"index": index, "embedding": [1.0, commas]})
        };
        let data: Vec<Value> = body["input"].as_array().unwrap().iter().enumerate().map(of).collect();
        ("200 OK", json!({"data": data}).to_string())
    });
    let without_certificates = |url: &str| {
        let mut command = dedup(dir.path());
        command.args(by).args(["--model", url, "--model-name", "m"]);
        command.envs([("SSL_CERT_FILE", "/nowhere"), ("SSL_CERT_DIR", "/nowhere")]).assert()
    };
    without_certificates(&server.url)
        .success()
        .stdout(contains("2 kept in unique.jsonl, 2 left out: 1 of equal text, 1 of nearly equal text"));
    assert_eq!(fs::read_to_string(dir.path().join("unique.jsonl")).unwrap(), format!("{MOON}\n{NEAR}\n"));
    assert!(server.seen()[0].head.starts_with("POST /v1/embeddings"), "{}", server.seen()[0].head);

    fs::remove_file(dir.path().join("unique.jsonl")).unwrap();
    let broken = Server::start(|_, _| ("400 Bad Request", r#"{"error": {"message": "too long"}}"#.to_owned()));
    let failed = dedup(dir.path()).args(by).args(["--model", &broken.url, "--model-name", "m"]).assert().code(4);
    failed.stderr(contains("/v1/embeddings: no embeddings: status 400: too long (attempt 1)"));
    assert!(!dir.path().join("unique.jsonl").exists());
    dedup(dir.path()).args(by).args(["--model", &broken.url]).assert().code(2).stderr(contains("--model-name"));
    let refused = without_certificates("https://localhost:1").failure();
    refused.stderr(contains("no HTTPS connection is possible").and(contains("the package ca-certificates")));
}

#[test]
fn bad_rows_and_idle_options_are_named() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "pairs.jsonl", &[SUN, r#"{"prompt": "q", "chosen": "a"}"#]);
    let run = |args: &[&str]| dedup(dir.path()).args(args).args(["--out", "out.jsonl"]).assert().code(2);
    run(&["pairs.jsonl"]).stderr(contains("pairs.jsonl:2: expected `rejected`"));
    run(&["pairs.jsonl", "--column", "rejected"]).stderr(contains("pairs.jsonl:2: expected a column `rejected`"));
    run(&["pairs.jsonl", "--threshold", "0"]).stderr(contains("expected a number above 0"));
    run(&["pairs.jsonl", "--method", "exact", "--threshold", "0.9"]).stderr(contains("--threshold has no effect"));
    run(&["pairs.jsonl", "--score", "s"]).stderr(contains("--score has no effect"));
    run(&["pairs.jsonl", "--column", "prompt", "--keep", "best", "--score", "s"])
        .stderr(contains("pairs.jsonl:1: expected a number in a column `s`"));
    run(&["missing.jsonl"]).stderr(contains("missing.jsonl"));
    assert!(!dir.path().join("out.jsonl").exists());
}

/// The words are those of `smpo train`.
#[test]
fn logps_refuses_a_token_without_an_embedding() {
    let dir = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(demo("base")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
    }
    let read = |name: &str| -> Value { serde_json::from_slice(&fs::read(dir.path().join(name)).unwrap()).unwrap() };
    let (config, mut tokenizer) = (read("config.json"), read("tokenizer.json"));
    let added = json!({"id": config["vocab_size"], "content": "<new>", "single_word": false, "lstrip": false,
                       "rstrip": false, "normalized": false, "special": false});
    tokenizer["added_tokens"].as_array_mut().unwrap().push(added);
    fs::write(dir.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
    write(dir.path(), "pairs.jsonl", &[r#"{"prompt": "Say <new>.", "chosen": "Yes.", "rejected": "No."}"#]);
    let mut logps = Command::cargo_bin("smpo").unwrap();
    logps.current_dir(dir.path()).args(["logps", ".", "pairs.jsonl", "--out", "out.jsonl", "--device", "cpu"]);
    logps.assert().code(2).stderr(contains("pairs.jsonl: row ").and(contains("is outside the model's vocabulary of")));
    assert!(!dir.path().join("out.jsonl").exists());
}

/// `smpo data ches` and `smpo logps` run a model, which has no positions beyond its context.
#[test]
fn rows_longer_than_the_models_context_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (base, pairs) = (demo("base"), demo("preferences.jsonl"));
    let (base, pairs, out) = (base.to_str().unwrap(), pairs.to_str().unwrap(), dir.path().join("out.jsonl"));
    for arguments in [["data", "ches", pairs, "--model", base].as_slice(), &["logps", base, pairs]] {
        Command::cargo_bin("smpo")
            .unwrap()
            .args(arguments)
            .args(["--out", out.to_str().unwrap(), "--max-length", "4096"])
            .assert()
            .code(2)
            .stderr(contains("--max-length: expected at most the model's context length of 1024 tokens, got 4096"));
    }
}
