//! `smpo train` on several processes: `cargo test --release --features mpi --test distributed -- --ignored --nocapture`.
//! Needs mpirun; loopback alone.

#![cfg(feature = "mpi")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use smpo_fixtures::demo;
use tempfile::TempDir;

const SMPO: &str = env!("CARGO_BIN_EXE_smpo");

/// A run over some of the demo's pairs, with probe and held-out rows.
fn arguments(out: &Path, loss: &str, keys: &[&str]) -> Vec<String> {
    let probe =
        format!("probe = {{ prompts = {:?}, max_prompts = 6, steps = 4, max_new_tokens = 12 }}", demo("ood.jsonl"));
    let settings = [
        format!("dataset = {:?}", demo("preferences.jsonl")),
        format!("model_name_or_path = {:?}", demo("base")),
        format!("output_dir = {out:?}"),
        format!("loss = {loss}"),
        probe.replacen("probe = ", "probe=", 1),
        "dataset_sample = 48".to_owned(),
        "per_device_train_batch_size = 8".to_owned(),
        "max_tokens_per_pack = 300".to_owned(),
        "num_train_epochs = 1".to_owned(),
        "save_steps = 2".to_owned(),
        "test_size = 8".to_owned(),
        "device = \"cpu\"".to_owned(),
    ];
    let config = format!("{}/configs/demo/control.toml", env!("CARGO_MANIFEST_DIR"));
    let mut all = vec!["train".to_owned(), config, "--threads".to_owned(), "1".to_owned()];
    for setting in settings.iter().map(String::as_str).chain(keys.iter().copied()) {
        let (key, value) = setting.split_once('=').unwrap();
        all.push(format!("--set={}={}", key.trim(), value.trim()));
    }
    all
}

fn mpirun(ranks: usize, arguments: &[String]) -> Command {
    let mut command = Command::new("mpirun");
    command.args(["--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-n", &ranks.to_string(), SMPO]);
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn succeeded(output: &Output) {
    assert!(output.status.success(), "{:?}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
}

/// Figures of each step, but for those that are times.
fn figures(out: &Path) -> Vec<Value> {
    let lines = fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Largest difference of figures, relative to those above 1.
fn difference(a: &[Value], b: &[Value]) -> f64 {
    assert_eq!(a.len(), b.len());
    let mut most = 0.0f64;
    for (a, b) in a.iter().zip(b) {
        let (a, b) = (a.as_object().unwrap(), b.as_object().unwrap());
        assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
        for (key, value) in a.iter().filter(|(key, _)| *key != "tokens_per_s") {
            if let (Some(x), Some(y)) = (value.as_f64(), b[key].as_f64()) {
                most = most.max((x - y).abs() / x.abs().max(1.0));
            }
        }
    }
    most
}

const LOSSES: [(&str, &str); 8] = [
    ("SMPO", "{ kind = \"smpo\" }"),
    ("microbatch", "{ kind = \"smpo\", lower_clip_percentile = 0.02, winsor_scope = \"microbatch\" }"),
    (
        "step",
        "{ kind = \"smpo\", eos_term = \"invert\", lower_clip_percentile = 0.02, min_log_prob = -2.3, winsor_scope = \"step\" }",
    ),
    ("window", "{ kind = \"smpo\", lower_clip_percentile = 0.02, winsor_scope = \"window:64\" }"),
    ("DPO", "{ kind = \"dpo\" }"),
    ("KTO", "{ kind = \"kto\" }"),
    ("SFT", "{ kind = \"sft\" }"),
    ("LMPO", "{ kind = \"lmpo\" }"),
];

#[test]
#[ignore = "needs mpirun"]
fn every_loss_trains_alike_on_one_two_and_four_processes() {
    let dir = TempDir::new().unwrap();
    println!("| loss | ranks | largest difference |\n|---|---|---|");
    for (name, loss) in LOSSES {
        let at = |ranks: usize| dir.path().join(format!("{name}-{ranks}"));
        succeeded(&Command::new(SMPO).args(arguments(&at(1), loss, &[])).output().unwrap());
        let alone = figures(&at(1));
        for ranks in [2, 4] {
            let output = mpirun(ranks, &arguments(&at(ranks), loss, &[])).output().unwrap();
            succeeded(&output);
            let lines = String::from_utf8_lossy(&output.stdout).lines().count();
            assert_eq!(lines, 1, "the first rank alone prints");
            let most = difference(&alone, &figures(&at(ranks)));
            println!("| {name} | {ranks} | {most:.1e} |");
            // Some updates apart, at the rates of the demo; one step differs by 1e-7 (trainer/tests/ranks.rs).
            assert!(most < 1e-4, "{name} on {ranks}: {most}");
        }
    }
}

/// Processes that `mpirun` started, by its process number.
fn children(parent: u32) -> Vec<i32> {
    let listed = Command::new("ps").args(["-o", "pid=", "--ppid", &parent.to_string()]).output().unwrap();
    String::from_utf8_lossy(&listed.stdout).split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn signal(name: &str, pid: i32) {
    Command::new("kill").args([name, &pid.to_string()]).status().unwrap();
}

/// Waits until a run has taken a number of steps.
fn after_steps(out: &Path, steps: usize, child: &mut Child) {
    let since = Instant::now();
    let taken = || fs::read_to_string(out.join("metrics.jsonl")).map_or(0, |text| text.lines().count());
    while taken() < steps && since.elapsed() < Duration::from_secs(120) {
        assert!(child.try_wait().unwrap().is_none(), "ended before it was killed");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn whole_checkpoints(out: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(out.join("checkpoints")).map(|entries| entries.flatten().map(|entry| entry.path()));
    entries
        .into_iter()
        .flatten()
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("step-"))
        .collect()
}

#[test]
#[ignore = "needs mpirun"]
fn a_killed_rank_ends_the_job_and_the_run_goes_on_with_other_ranks() {
    let dir = TempDir::new().unwrap();
    let (_, loss) = LOSSES[2];
    let keys = ["num_train_epochs = 4"];
    let alone = dir.path().join("alone");
    succeeded(&Command::new(SMPO).args(arguments(&alone, loss, &keys)).output().unwrap());
    for (ranks, dying, steps, then) in [(2, 1, 3, 4), (4, 0, 6, 1), (3, 2, 9, 2)] {
        let out = dir.path().join(format!("{ranks}-{dying}"));
        let mut child = mpirun(ranks, &arguments(&out, loss, &keys)).spawn().unwrap();
        after_steps(&out, steps, &mut child);
        let processes = children(child.id());
        assert_eq!(processes.len(), ranks);
        signal("-KILL", processes[dying]);
        let since = Instant::now();
        let output = child.wait_with_output().unwrap();
        println!(
            "rank {dying} of {ranks} killed after {steps} lines: {:?} within {:?}",
            output.status,
            since.elapsed()
        );
        assert!(!output.status.success() && since.elapsed() < Duration::from_secs(60));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(&format!("rank {dying}")), "mpirun says which: {said}");
        assert!(!whole_checkpoints(&out).is_empty() && !out.join("model").exists());
        succeeded(&mpirun(then, &arguments(&out, loss, &keys)).output().unwrap());
        let most = difference(&figures(&alone), &figures(&out));
        println!("resumed on {then}: largest difference {most:.1e}");
        assert!(most < 1e-3, "{most}");
    }
}

#[test]
#[ignore = "needs mpirun"]
fn an_interrupt_saves_and_an_error_of_the_configuration_ends_all() {
    let dir = TempDir::new().unwrap();
    let out = dir.path().join("run");
    let (_, loss) = LOSSES[0];
    let keys = ["num_train_epochs = 40"];
    let mut child = mpirun(2, &arguments(&out, loss, &keys)).spawn().unwrap();
    after_steps(&out, 3, &mut child);
    signal("-INT", i32::try_from(child.id()).unwrap());
    let output = child.wait_with_output().unwrap();
    assert!(!output.status.success());
    assert!(!whole_checkpoints(&out).is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let output = mpirun(2, &arguments(&dir.path().join("other"), loss, &["learning_rate = -1"])).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("learning_rate"));
}
