//! Names of the Hugging Face Hub wherever models and data are taken, against a stand-in of it.

use std::path::Path;
use std::process::Command;

use assert_cmd::assert::OutputAssertExt;
use assert_cmd::cargo::cargo_bin;
use predicates::prelude::*;
use predicates::str::contains;
use smpo_fixtures::{COMMIT, HubRepo, HubServer, demo};

/// The demo's base model and some of its pairs.
fn hub() -> HubServer {
    let pairs = std::fs::read_to_string(demo("preferences.jsonl")).unwrap();
    let rows = |range: std::ops::Range<usize>| {
        pairs.lines().skip(range.start).take(range.len()).collect::<Vec<_>>().join("\n")
    };
    let files = [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
    ];
    let model = files.map(|name| (name.to_string(), std::fs::read(demo("base").join(name)).unwrap()));
    let data = [
        ("README.md", "pairs".to_string()),
        ("data/train-00000-of-00002.jsonl", rows(0..3)),
        ("data/train-00001-of-00002.jsonl", rows(3..8)),
        ("data/test-00000-of-00001.jsonl", rows(8..12)),
    ];
    let data = data.map(|(name, text)| (name.to_string(), text.into_bytes()));
    HubServer::start(vec![
        HubRepo { path: "models/org/base".into(), files: model.into(), token: Some("secret".into()) },
        HubRepo { path: "datasets/org/pairs".into(), files: data.into(), token: None },
    ])
}

fn smpo(hub: &HubServer, cache: &Path) -> Command {
    let mut command = Command::new(cargo_bin("smpo"));
    command.env("HF_ENDPOINT", &hub.url).env("HF_HOME", cache).env("HF_TOKEN", "secret").env_remove("HF_HUB_CACHE");
    command.current_dir(cache);
    command
}

#[test]
fn data_of_the_hub_is_converted_and_checked_with_a_model_of_the_hub() {
    let (hub, cache) = (hub(), tempfile::tempdir().unwrap());
    let convert = |name: &str, rows: &str| {
        let mut command = smpo(&hub, cache.path());
        command.args(["data", "convert", name, "--out", "out.jsonl"]).assert().success().stdout(contains(rows));
    };
    convert("hf://datasets/org/pairs", "out.jsonl: 8 rows");
    convert("hf://datasets/org/pairs/test", "out.jsonl: 4 rows");
    convert("hf://datasets/org/pairs@main/data/train-00000*", "out.jsonl: 3 rows");

    let check = ["data", "check", "hf://datasets/org/pairs/test", "--model", "hf://org/base"];
    smpo(&hub, cache.path()).args(check).assert().success().stderr(contains("downloading model.safetensors"));
    let asked = hub.requests().len();
    let mut offline = smpo(&hub, cache.path());
    offline.env("HF_HUB_OFFLINE", "1").args(check).assert().success();
    assert_eq!(hub.requests().len(), asked);
}

#[test]
fn a_run_trains_a_model_of_the_hub_on_data_of_the_hub() {
    let (hub, cache) = (hub(), tempfile::tempdir().unwrap());
    let config = "model_name_or_path = \"hf://org/base\"\noutput_dir = \"run\"\ndataset = \"hf://datasets/org/pairs\"\n\
                  eval_dataset = \"hf://datasets/org/pairs\"\nmax_length = 256\nmax_steps = 1\nlearning_rate = 1e-4\n\
                  [loss]\nkind = \"simpo\"\n";
    std::fs::write(cache.path().join("run.toml"), config).unwrap();
    let run = smpo(&hub, cache.path()).args(["train", "run.toml", "--threads", "1"]).assert().success();
    run.stderr(contains("8 rows to train on, 4 held out"));
    let recorded = std::fs::read_to_string(cache.path().join("run/config.toml")).unwrap();
    assert!(recorded.contains(COMMIT), "the run keeps to the commit of its model: {recorded}");
    let mut info = smpo(&hub, cache.path());
    info.args(["model", "info", "hf://org/base@main"]).assert().success().stdout(contains("vocabulary"));
}

#[test]
fn names_that_lead_nowhere_are_user_errors() {
    let (hub, cache) = (hub(), tempfile::tempdir().unwrap());
    for (arguments, expected) in [
        (["model", "info", "hf://org/absent"], "no such repository"),
        (["model", "info", "hf://base"], "expected hf://ORG/MODEL"),
        (["data", "check", "hf://datasets/org/pairs/dev"], "its splits are test, train"),
        (["data", "check", "hf://datasets/org/absent"], "no such repository"),
    ] {
        let failed = smpo(&hub, cache.path()).args(arguments).assert().code(2);
        failed.stderr(contains(expected).and(contains("hf://")));
    }
    let mut stranger = smpo(&hub, cache.path());
    stranger
        .env_remove("HF_TOKEN")
        .args(["model", "info", "hf://org/base"])
        .assert()
        .code(2)
        .stderr(contains("set HF_TOKEN"));
}
