//! `smpo eval` as a user meets it: every kind of model, both engines, servers that behave and servers that do not.

mod fleet;
mod local;
mod served;

use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use serde_json::Value;
use smpo_fixtures::demo;
use smpo_results::{MetricsFile, RunManifest, Sample, read_json, read_jsonl};

fn demo_base() -> PathBuf {
    demo("base")
}

fn golden(name: &str) -> PathBuf {
    smpo_fixtures::golden("inference", name)
}

/// A suite of some of the demo's prompts, spread over its slices, gold answers and all.
fn suite(dir: &Path, prompts: usize) -> PathBuf {
    let text = fs::read_to_string(demo("ood.jsonl")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let some: Vec<&str> = lines.iter().step_by(lines.len() / prompts).take(prompts).copied().collect();
    fs::write(dir.join("prompts.jsonl"), some.join("\n")).unwrap();
    let slice = |line: &&str| serde_json::from_str::<Value>(line).unwrap()["slice"].as_str().unwrap().to_owned();
    let mut slices: Vec<String> = some.iter().map(slice).collect();
    slices.sort();
    slices.dedup();
    let suite = format!(
        "name = \"some\"\nprompts = \"prompts.jsonl\"\nslices = {slices:?}\ncap = 40\nseed = 3\n\
         [sampler]\ntemperature = 1.0\n"
    );
    fs::write(dir.join("some.toml"), suite).unwrap();
    dir.join("some.toml")
}

/// `smpo eval MODEL --suite SUITE --out OUT`, without any key of the machine the tests run on.
fn eval(model: impl AsRef<std::ffi::OsStr>, suite: &Path, out: &Path) -> Command {
    let mut command = Command::cargo_bin("smpo").unwrap();
    command.env_remove("OPENAI_API_KEY").arg("eval").arg(model);
    command.arg("--suite").arg(suite).arg("--out").arg(out);
    command
}

fn samples(out: &Path) -> Vec<Sample> {
    read_jsonl(&out.join("samples.jsonl"), "sample").unwrap()
}

fn manifest(out: &Path) -> RunManifest {
    read_json(&out.join("run.json"), "run manifest").unwrap()
}

fn metrics(out: &Path) -> MetricsFile {
    read_json(&out.join("metrics.json"), "metrics file").unwrap()
}

/// Checks what every evaluation with this program's own forward pass has.
fn check_complete(out: &Path, prompts: usize, tolerance: f64) {
    let fidelity = manifest(out).fidelity_max_abs_nats.expect("the engine was checked");
    assert!(fidelity < tolerance, "{fidelity}");
    assert_eq!(samples(out).len(), prompts);
    for metric in ["eos_rate", "loop_rate", "error_rate", "eos_logp_gold", "eos_rank_gold"] {
        assert!(metrics(out).get(metric, "all").is_some(), "{metric}");
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}
