//! Results, inputs and work that a careless command line does not lose.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use assert_cmd::Command;
use assert_cmd::cargo::cargo_bin;
use predicates::prelude::*;
use predicates::str::contains;
use smpo_fixtures::demo;

fn smpo() -> Command {
    let mut smpo = Command::cargo_bin("smpo").unwrap();
    smpo.env("RAYON_NUM_THREADS", "1");
    smpo
}

/// Rows of a file of the demo.
fn head(name: &str, rows: usize, to: &Path) -> PathBuf {
    let text = fs::read_to_string(demo(name)).unwrap();
    fs::write(to, text.lines().take(rows).map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    to.to_owned()
}

/// A configuration of two steps.
fn config(dir: &Path, output: &Path) -> PathBuf {
    let text = format!(
        "model_name_or_path = {:?}\noutput_dir = {output:?}\ndataset = {:?}\ndataset_sample = 4\nmax_length = 256\n\
         per_device_train_batch_size = 2\nmax_steps = 2\nlearning_rate = 1e-4\nloss = {{ kind = \"simpo\" }}\n",
        demo("base"),
        demo("preferences.jsonl"),
    );
    fs::write(dir.join("run.toml"), text).unwrap();
    dir.join("run.toml")
}

/// Every file below a directory but its lock and tokenised rows, with its bytes.
fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found: Vec<(PathBuf, Vec<u8>)> =
        paths(dir).into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    found.sort();
    found
}

fn paths(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { paths(&path) } else { vec![path] })
        .filter(|path| !path.ends_with(".lock") && !path.parent().unwrap().ends_with("tokens"))
        .collect()
}

/// A process that is killed in the end, however the test ends.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An evaluation of the demo's base on a few prompts.
fn evaluation(dir: &Path) -> PathBuf {
    let prompts = head("ood.jsonl", 4, &dir.join("prompts.jsonl"));
    let out = dir.join("eval");
    let mut eval = smpo();
    eval.arg("eval").arg(demo("base")).arg("--suite").arg(prompts).args(["--cap", "8", "--engine", "native"]);
    eval.arg("--no-fidelity-check").arg("--out").arg(&out).assert().success();
    out
}

#[cfg(target_os = "linux")] // /dev/full
#[test]
fn a_log_that_cannot_be_written_stops_no_work() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let mut train = std::process::Command::new(cargo_bin("smpo"));
    train.arg("train").arg(config(dir.path(), &run));
    let full = || fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    assert!(train.stderr(Stdio::from(full())).stdout(Stdio::null()).status().unwrap().success());
    assert!(run.join("model/model.safetensors").is_file());
    let mut gate = std::process::Command::new(cargo_bin("smpo"));
    gate.args(["gate", "--baseline", "none", "--candidate", "nothing"]);
    assert_eq!(gate.stderr(Stdio::from(full())).status().unwrap().code(), Some(2));
    let printed = std::process::Command::new(cargo_bin("smpo")).args(["completions", "bash"]).stdout(full()).output();
    let printed = printed.unwrap();
    assert_eq!(printed.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&printed.stderr).contains("standard output: cannot write"));
}

#[test]
fn starting_over_removes_nothing_before_the_run_is_known_to_start() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let config = config(dir.path(), &run);
    smpo().arg("train").arg(&config).assert().success();
    let before = files(&run);
    let restart = |sets: &[String], expected: &str| {
        let mut train = smpo();
        train.arg("train").arg(&config).arg("--restart");
        train.args(sets.iter().map(|set| format!("--set={set}")));
        train.assert().code(2).stderr(contains(expected));
        assert!(files(&run) == before, "{sets:?}");
    };
    restart(&["dataset=nosuch.jsonl".into()], "nosuch.jsonl");
    restart(&["model_name_or_path=nosuch".into()], "nosuch");
    restart(&[format!("model_name_or_path={}", run.join("model").display())], "starting over removes");
    restart(&["loss.kind=dpo".into(), "loss.beta=0.1".into(), "reference_model_name_or_path=nosuch".into()], "nosuch");
    let unweighted = dir.path().join("unweighted");
    fs::create_dir(&unweighted).unwrap();
    for name in ["chat_template.jinja", "config.json", "tokenizer.json", "tokenizer_config.json"] {
        fs::copy(demo("base").join(name), unweighted.join(name)).unwrap();
    }
    restart(&[format!("model_name_or_path={}", unweighted.display())], "unweighted");
    restart(&[format!("eval_dataset={}", run.join("metrics.jsonl").display())], "starting over removes");
    let template = run.join("model/chat_template.jinja").display().to_string();
    restart(&[format!("chat_template={template}"), "force_chat_template=true".into()], "starting over removes");
    // an adapter that is elsewhere, on the model that is here
    let elsewhere = dir.path().join("elsewhere");
    let mut adapt = smpo();
    adapt.arg("train").arg(&config).arg("--set=max_steps=1").arg("--set=use_peft=true");
    adapt.arg(format!("--set=model_name_or_path={}", run.join("model").display()));
    adapt.arg(format!("--set=output_dir={}", elsewhere.display())).assert().success();
    let adapter = format!("reference_model_name_or_path={}", elsewhere.join("model").display());
    restart(&["loss.kind=dpo".into(), "loss.beta=0.1".into(), adapter], "starting over removes");
    // what the run refuses, its check refuses
    for set in ["max_steps=3", "dataset_sample=6"] {
        smpo().arg("train").arg(&config).args(["--check", "--set", set]).assert().code(2);
        smpo().arg("train").arg(&config).args(["--set", set]).assert().code(2);
    }
    assert!(files(&run) == before);
    smpo().arg("train").arg(&config).arg("--check").assert().success();
    smpo().arg("train").arg(&config).arg("--restart").assert().success();
}

#[test]
fn the_users_configuration_is_not_replaced_by_the_record_of_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    fs::create_dir(&run).unwrap();
    let own = run.join("config.toml");
    fs::rename(config(dir.path(), &run), &own).unwrap();
    let before = fs::read(&own).unwrap();
    smpo().arg("train").arg(&own).assert().code(2).stderr(contains("rename yours"));
    assert_eq!(fs::read(&own).unwrap(), before);
    // that of a run itself stays usable
    let (moved, other) = (dir.path().join("mine.toml"), dir.path().join("other"));
    fs::rename(&own, &moved).unwrap();
    smpo().arg("train").arg(&moved).arg("--set").arg(format!("output_dir={}", other.display())).assert().success();
    smpo().arg("train").arg(other.join("config.toml")).assert().success().stdout(contains("already finished"));
}

#[test]
fn samples_of_a_run_in_progress_stay() {
    let dir = tempfile::tempdir().unwrap();
    let prompts = head("ood.jsonl", 12, &dir.path().join("prompts.jsonl"));
    let out = dir.path().join("eval");
    let eval = || {
        let mut eval = std::process::Command::new(cargo_bin("smpo"));
        eval.arg("eval").arg(demo("base")).arg("--suite").arg(&prompts).arg("--out").arg(&out);
        eval.args(["--engine", "native", "--no-fidelity-check", "--samples", "10000", "--threads", "1"]);
        eval.stdout(Stdio::null()).stderr(Stdio::null());
        eval
    };
    let mut first = Killed(eval().spawn().unwrap());
    let (samples, begun) = (out.join("samples.jsonl"), Instant::now());
    while fs::metadata(&samples).map_or(0, |found| found.len()) < 4096 {
        assert!(begun.elapsed() < Duration::from_secs(60) && first.0.try_wait().unwrap().is_none(), "no samples");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(eval().arg("--restart").status().unwrap().code(), Some(2));
    assert!(fs::metadata(&samples).unwrap().len() >= 4096);
    let scored = dir.path().join("answers.jsonl");
    fs::write(&scored, "{\"prompt\": \"q\", \"completion\": \"a\"}\n").unwrap();
    smpo().arg("score").arg(&scored).arg("--out").arg(&out).assert().code(2).stderr(contains("another smpo"));
    drop(first);
    smpo().arg("score").arg(&scored).arg("--out").arg(&out).assert().code(2).stderr(contains("samples of its own"));
    assert!(fs::metadata(&samples).unwrap().len() >= 4096);
}

#[test]
fn scored_answers_replace_scored_answers_alone() {
    let dir = tempfile::tempdir().unwrap();
    let evaluated = evaluation(dir.path());
    let before = files(&evaluated);
    let samples = evaluated.join("samples.jsonl");
    smpo()
        .arg("score")
        .arg(&samples)
        .arg("--out")
        .arg(&evaluated)
        .assert()
        .code(2)
        .stderr(contains("choose another --out"));
    assert_eq!(files(&evaluated), before);
    let scored = dir.path().join("scored");
    for _ in 0..2 {
        smpo().arg("score").arg(&samples).arg("--out").arg(&scored).assert().success();
    }
    let own = scored.join("samples.jsonl");
    smpo().arg("score").arg(own).arg("--out").arg(&scored).assert().code(2).stderr(contains("are an input"));
}

#[test]
fn no_output_replaces_an_input_or_another_output() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let pairs = head("preferences.jsonl", 3, &at("pairs.jsonl"));
    let evaluated = evaluation(dir.path());
    let model = demo("base");
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let (pairs, out, evaluated) = (text(&pairs), text(&at("out")), text(&evaluated));
    let metrics = format!("{evaluated}/metrics.json");
    let refused: [&[&str]; 8] = [
        &["logps", model.to_str().unwrap(), &pairs, "--out", &pairs],
        &["data", "dedup", &pairs, "--out", &out, "--report", &pairs],
        &["data", "dedup", &pairs, "--out", &out, "--report", &out],
        &["data", "ches", &pairs, "--model", model.to_str().unwrap(), "--dry-run", "--report", &pairs],
        &["gate", "--baseline", &evaluated, "--candidate", &pairs, "--out", &metrics],
        &["gate", "--baseline", &evaluated, "--candidate", &pairs, "--out", &out, "--junit", &out],
        &["plot", &pairs, "--out", &out, "--csv", &out],
        &["plot", &pairs, "--out", &pairs],
    ];
    let before = files(dir.path());
    for arguments in refused {
        smpo().args(arguments).assert().code(2).stderr(contains("choose another file"));
        assert_eq!(files(dir.path()), before, "{arguments:?}");
    }
    // one directory on both sides is said in every report
    let same = format!("{}/../eval", evaluated);
    let mut gate = smpo();
    gate.args(["gate", "--baseline", &evaluated, "--candidate", &same]).assert().stdout(contains("is on both sides"));
}

#[test]
fn pairs_of_an_earlier_call_stay_where_a_later_one_has_none() {
    let dir = tempfile::tempdir().unwrap();
    let prompts = head("ood.jsonl", 4, &dir.path().join("prompts.jsonl"));
    let out = dir.path().join("pairs");
    let pairs = |more: &[&str]| {
        let mut pairs = smpo();
        pairs.arg("pairs").arg(demo("base")).arg("--prompts").arg(&prompts).arg("--out").arg(&out);
        pairs.args(["--engine", "native", "--no-fidelity-check", "--cap", "24", "--temperature", "1.5"]).args(more);
        pairs
    };
    pairs(&[]).assert().success();
    let rows = fs::read(out.join("pairs.jsonl")).unwrap();
    pairs(&["--min-gap", "100"]).assert().code(2).stderr(contains("pairs.jsonl stays as it was"));
    assert_eq!(fs::read(out.join("pairs.jsonl")).unwrap(), rows);
}

#[test]
fn numbers_that_take_all_memory_are_refused() {
    let out = tempfile::tempdir().unwrap();
    let prompts = head("ood.jsonl", 2, &out.path().join("prompts.jsonl"));
    let eval = |option: &str, value: &str| {
        let mut eval = smpo();
        eval.arg("eval").arg(demo("base")).arg("--suite").arg(&prompts).args(["--engine", "native", option, value]);
        eval.arg("--out").arg(out.path().join("eval")).assert().code(2).stderr(contains(value).and(contains("1 to ")));
    };
    eval("--samples", "100000000");
    eval("--batch", "100000000");
    for (option, value) in [
        ("--batch-size", "100000000"),
        ("--length", "100000000000"),
        ("--steps", "99999999999"),
        ("--lora-r", "100000000"),
    ] {
        smpo().args(["bench", "step", option, value]).assert().code(2).stderr(contains(value));
    }
    smpo()
        .args(["bench", "decode", "--batch-size", "65536", "--context", "1000000"])
        .assert()
        .code(2)
        .stderr(contains("tokens in a batch"));
    smpo()
        .args(["data", "check"])
        .arg(demo("held_out.jsonl"))
        .args(["--threads", "100000"])
        .assert()
        .code(2)
        .stderr(contains("1024"));
}

#[test]
fn what_checks_nothing_is_no_pass() {
    let dir = tempfile::tempdir().unwrap();
    let pairs = head("preferences.jsonl", 3, &dir.path().join("pairs.jsonl"));
    let empty = dir.path().join("empty.jsonl");
    fs::write(&empty, "").unwrap();
    let dedup = |against: &Path| {
        let mut dedup = smpo();
        dedup.args(["data", "dedup", "--dry-run"]).arg(&pairs).arg("--against").arg(against);
        dedup
    };
    dedup(&empty).assert().code(2).stderr(contains("expected rows to compare with"));
    dedup(&pairs).assert().code(1);
    let mut logps = smpo();
    logps.arg("logps").arg(demo("base")).arg(&empty).arg("--out").arg(dir.path().join("logps.jsonl"));
    logps.assert().code(2).stderr(contains("expected at least one row to score"));
    let mut eval = smpo();
    eval.args([
        "eval",
        "http://127.0.0.1:9",
        "--model",
        "m",
        "--api-key-env",
        "SMPO_NO_SUCH_KEY",
        "--suite",
        "ood-smoke",
    ]);
    eval.arg("--out").arg(dir.path().join("eval")).assert().code(2).stderr(contains("SMPO_NO_SUCH_KEY"));
    let mut generate = smpo();
    generate.arg("generate").arg(demo("base")).arg("--prompts").arg(&pairs).args(["--base", "nosuch"]);
    generate
        .arg("--out")
        .arg(dir.path().join("answers"))
        .assert()
        .code(2)
        .stderr(contains("--base is for a PEFT adapter"));
}

#[test]
fn a_recipe_is_refused_before_anything_runs() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let recipe = |model: &str, suite: &str, policy: &str| {
        let text = format!(
            "model = {model:?}\nout = {out:?}\n[[arm]]\nname = \"a\"\nconfig = {:?}\n\
             [eval]\nsuites = [{suite:?}]\n[gate]\nbaseline = \"start\"\npolicy = {policy:?}\n",
            config(dir.path(), &dir.path().join("run")),
        );
        fs::write(dir.path().join("recipe.toml"), text).unwrap();
        let mut run = smpo();
        run.arg("run").arg(dir.path().join("recipe.toml"));
        run
    };
    let base = demo("base");
    let base = base.to_str().unwrap();
    for (model, suite, policy, expected) in [
        ("nosuch", "ood-smoke", "smoke", "`model`: expected a model directory"),
        (base, "nosuch.jsonl", "smoke", "nosuch.jsonl"),
        (base, "ood-smoke", "nosuch", "nosuch"),
    ] {
        for dry_run in [&["--dry-run"][..], &[]] {
            recipe(model, suite, policy).args(dry_run).assert().code(2).stderr(contains(expected));
            assert!(!out.exists());
        }
    }
    recipe(base, "ood-smoke", "smoke").arg("--dry-run").assert().success();
}
