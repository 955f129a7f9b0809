//! The first commands of a new user: what is there, what is wrong, what goes wrong later.

use std::fs;

use assert_cmd::Command;
use predicates::prelude::*;
use predicates::str::contains;
use serde_json::Value;
use smpo_fixtures::demo;

fn smpo() -> Command {
    Command::cargo_bin("smpo").unwrap()
}

#[test]
fn a_machine_and_a_model_are_described() {
    let output = smpo().arg("doctor").arg(demo("base")).args(["--format", "json"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let names = |checks: &Value| -> Vec<String> {
        checks.as_array().unwrap().iter().map(|check| check["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&report["machine"]), ["device", "memory", "threads", "hub"]);
    assert_eq!(names(&report["model"]["checks"]), ["weights", "template", "terminators", "memory to train"]);
    assert!(report["model"]["checks"][2]["found"].as_str().unwrap().contains("<|im_end|>"));
    assert!(report["training_flops_per_s"].as_f64().unwrap() > 1e8);
    for speed in ["train_all_weights", "train_adapters", "generate"] {
        assert!(report["model"]["speed"][speed].as_f64().unwrap() > 100.0, "{speed}: {}", report["model"]["speed"]);
    }
    let text = smpo().arg("doctor").arg(demo("base")).arg("--no-speed").assert().success();
    text.stdout(contains("Next: smpo data check").and(contains("tokens/s").not()));
}

#[test]
fn what_is_wrong_with_a_model_is_said_and_is_exit_1() {
    let dir = tempfile::tempdir().unwrap();
    smpo().arg("doctor").arg(dir.path()).arg("--no-speed").assert().code(1).stdout(contains("error"));
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        fs::copy(demo("base").join(file), dir.path().join(file)).unwrap();
    }
    let report = smpo().arg("doctor").arg(dir.path()).arg("--no-speed").assert().code(1);
    report.stdout(contains("ok      weights").and(contains("error   template")).and(contains("Next:").not()));
}

#[test]
fn figures_of_any_trainer_raise_our_alarms() {
    let dir = tempfile::tempdir().unwrap();
    let falling: String = (0..30)
        .map(|step| {
            format!(
                "{{\"step\": {step}, \"loss\": 0.1, \"eos_logp/rejected\": {}, \"note\": \"x\"}}\n",
                -0.4 * f64::from(step)
            )
        })
        .collect();
    let file = dir.path().join("metrics.jsonl");
    fs::write(&file, &falling).unwrap();
    smpo().arg("watch").arg(&file).assert().code(1).stdout(contains("alarm at step 1").and(contains("eos_term")));
    let piped =
        smpo().args(["watch", "-", "--set", "window=1", "--format", "json"]).write_stdin(falling).output().unwrap();
    let alarm: Value = serde_json::from_slice(&piped.stdout).unwrap();
    assert_eq!((alarm["kind"].as_str(), alarm["step"].as_u64()), (Some("eos_on_rejected"), Some(4)));
    let quiet = smpo().args(["watch", "-", "--set", "eos_fall=99"]).write_stdin("{\"step\": 1}\n\n").assert();
    quiet.success().stdout("").stderr(contains("no line has a figure that is watched"));
    let unwatched = dir.path().join("other.jsonl");
    fs::write(&unwatched, "{\"step\": 1, \"accuracy\": 0.5}\n").unwrap();
    smpo().arg("watch").arg(&unwatched).assert().code(2).stderr(contains("no line has a figure that is watched"));
    // as Python writes a run that diverges; a run directory stands for its metrics
    let diverging = "{\"step\": 1, \"logps/chosen\": -1.0}\n{\"step\": 2, \"logps/chosen\": NaN, \"loss\": null}\n";
    fs::write(&file, diverging).unwrap();
    let broken = "alarm at step 2: `logps/chosen` is not finite";
    smpo().arg("watch").arg(dir.path()).assert().code(1).stdout(contains(broken));
    for (line, expected) in
        [("{\"step\": -1}", "/dev/stdin:2: expected a JSON object with the number `step`"), ("[1]", ":2: expected")]
    {
        let given = format!("{{\"step\": 1}}\n{line}\n");
        smpo().args(["watch", "-"]).write_stdin(given).assert().code(2).stderr(contains(expected));
    }
    for set in ["window=0", "windows=3", "window"] {
        smpo().args(["watch", "-", "--set", set]).write_stdin("").assert().code(2).stderr(contains("--set"));
    }
}

#[test]
fn completions_and_manual_pages_know_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        smpo()
            .args(["completions", shell])
            .assert()
            .success()
            .stdout(contains("leaderboard").and(contains("no-speed")));
    }
    let dir = tempfile::tempdir().unwrap();
    smpo().arg("man").arg(dir.path()).assert().success();
    let page = fs::read_to_string(dir.path().join("smpo-data-check.1")).unwrap();
    assert!(page.contains(".TH SMPO-DATA-CHECK 1") && page.contains("smpo data check"), "{page}");
    assert!(dir.path().join("smpo.1").is_file());
}

#[test]
fn shipped_suites_go_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let eval = |suite: &str| {
        let mut command = smpo();
        command.arg("eval").arg(demo("base")).args(["--suite", suite, "--cap", "2", "--no-fidelity-check"]);
        command.args(["--engine", "native"]).arg("--out").arg(dir.path().join("eval")).current_dir(dir.path());
        command
    };
    eval("ood-smoke").assert().success();
    eval("ood-smoak")
        .assert()
        .code(2)
        .stderr(contains("ood-smoak: no such file; the suites that ship: ood-smoke, ood-chat"));
}
