//! `smpo train` on several processes: `cargo test --release --features mpi --test distributed -- --ignored --nocapture`.
//! Needs mpirun; loopback alone.

#![cfg(feature = "mpi")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};
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
    largest(a, b, |_| true).0
}

/// The same of losses alone.
fn of_losses(a: &[Value], b: &[Value]) -> f64 {
    largest(a, b, |figure| ["loss", "eval_loss"].contains(&figure)).0
}

/// The same of some figures, with the figure and its step.
fn largest(a: &[Value], b: &[Value], counts: impl Fn(&str) -> bool) -> (f64, String) {
    assert_eq!(a.len(), b.len());
    let mut most = (0.0f64, "none".to_owned());
    for (a, b) in a.iter().zip(b) {
        let (a, b) = (a.as_object().unwrap(), b.as_object().unwrap());
        assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
        for (key, value) in a.iter().filter(|(key, _)| *key != "tokens_per_s" && counts(key)) {
            if let (Some(x), Some(y)) = (value.as_f64(), b[key].as_f64()) {
                let difference = (x - y).abs() / x.abs().max(1.0);
                if difference > most.0 {
                    most = (difference, format!("{key} at step {}", a["step"]));
                }
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
    println!("| loss | ranks | losses | all figures | the figure |\n|---|---|---|---|---|");
    for (name, loss) in LOSSES {
        let at = |ranks: usize| dir.path().join(format!("{name}-{ranks}"));
        succeeded(&Command::new(SMPO).args(arguments(&at(1), loss, &[])).output().unwrap());
        let alone = figures(&at(1));
        for ranks in [2, 4] {
            let output = mpirun(ranks, &arguments(&at(ranks), loss, &[])).output().unwrap();
            succeeded(&output);
            let lines = String::from_utf8_lossy(&output.stdout).lines().count();
            assert_eq!(lines, 1, "the first rank alone prints");
            let shared = figures(&at(ranks));
            let losses = of_losses(&alone, &shared);
            let (most, figure) = largest(&alone, &shared, |_| true);
            println!("| {name} | {ranks} | {losses:.1e} | {most:.1e} | {figure} |");
            assert!(losses < 1e-6, "{name} on {ranks}: a loss by {losses}");
            // Extremes over tokens are float32 numbers of one token, norms are of all.
            assert!(most < 1e-5, "{name} on {ranks}: {figure} by {most}");
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
    // Another step every day.
    let day = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() / 86_400;
    let random = |most: u64| 3 + (day.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33) % most;
    let steps = random(14) as usize;
    for (ranks, dying, steps, then, zero) in
        [(2, 1, 3, 4, "zero_stage = 0"), (4, 0, steps, 1, "zero_stage = 1"), (3, 2, 9, 2, "zero_stage = 1")]
    {
        let keys = [keys[0], zero];
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

/// Writes data of other shapes from some of the demo's pairs: each with the completions of the next one as a group, and the
/// chosen sides as texts with labels. Returns the keys that name them.
fn other_data(dir: &Path) -> [String; 2] {
    let text = fs::read_to_string(demo("preferences.jsonl")).unwrap();
    let pairs: Vec<Value> = text.lines().take(33).map(|line| serde_json::from_str(line).unwrap()).collect();
    let group = |(at, two): (usize, &[Value])| {
        let completions = [&two[0]["chosen"], &two[0]["rejected"], &two[1]["chosen"], &two[1]["rejected"]];
        let rewards = [1.0, 0.25, 0.5, at as f64 / 40.0];
        json!({"prompt": two[0]["prompt"], "completions": completions, "rewards": rewards})
    };
    let labelled = |(at, pair): (usize, &Value)| {
        let label = ["first", "second", "third"][at % 3];
        json!({"messages": [pair["prompt"][0], pair["chosen"][0]], "label": label})
    };
    let write = |name: &str, rows: Vec<Value>| {
        let path = dir.join(name);
        fs::write(&path, rows.iter().map(|row| format!("{row}\n")).collect::<String>()).unwrap();
        format!("dataset = {path:?}")
    };
    let groups = pairs.windows(2).enumerate().map(group).collect();
    [write("groups.jsonl", groups), write("texts.jsonl", pairs.iter().enumerate().map(labelled).collect())]
}

/// Losses of pairs and groups, which winsorizing composes with.
const PAIR_LOSSES: [&str; 12] =
    ["smpo", "dpo", "simpo", "cpo", "lmpo", "orpo", "simper", "repo", "npo", "unlikelihood", "slime", "gpo"];
const OTHER_LOSSES: [&str; 5] = ["sft", "kto", "reward", "distill", "classification"];
const SCOPES: [&str; 4] = ["", "microbatch", "step", "window:64"];

/// Largest relative difference of loss and gradient norm in the first step, whose weights are the same.
fn in_first_step(a: &[Value], b: &[Value]) -> f64 {
    let first = |run: &[Value]| run.iter().find(|line| line["step"] == 1).unwrap().clone();
    let (x, y) = (first(a), first(b));
    let of =
        |name: &str| (x[name].as_f64().unwrap() - y[name].as_f64().unwrap()).abs() / x[name].as_f64().unwrap().abs();
    of("loss").max(of("grad_norm"))
}

#[test]
#[ignore = "needs mpirun"]
fn every_loss_and_scope_trains_alike_with_uneven_packs_and_with_fewer_packs_than_ranks() {
    let dir = TempDir::new().unwrap();
    let teacher = format!("reference_model_name_or_path = {:?}", demo("base"));
    let [groups, texts] = other_data(dir.path());
    let pairs = PAIR_LOSSES.iter().flat_map(|kind| SCOPES.iter().map(move |scope| (*kind, *scope)));
    println!("| loss | scope | rows a step, ranks | first step | losses | all figures | the figure |");
    println!("|---|---|---|---|---|---|---|");
    for (kind, scope) in pairs.chain(OTHER_LOSSES.map(|kind| (kind, ""))) {
        let loss = match scope {
            "" => format!("{{ kind = \"{kind}\" }}"),
            _ => format!("{{ kind = \"{kind}\", lower_clip_percentile = 0.02, winsor_scope = \"{scope}\" }}"),
        };
        for (rows, ranks, tokens) in [(8, 3, 300), (2, 4, 100_000)] {
            let batch = format!("per_device_train_batch_size = {rows}");
            let sample = format!("dataset_sample = {}", 8 + 2 * rows);
            let most = format!("max_tokens_per_pack = {tokens}");
            // ZeRO in every other run: it changes nothing.
            let zero = format!("zero_stage = {}", usize::from(rows == 8));
            let mut keys = vec![&batch[..], &sample, &most, "save_steps = 100", "probe = null"];
            keys.extend(match kind {
                "distill" => Some(teacher.as_str()),
                "gpo" => Some(groups.as_str()),
                "classification" => Some(texts.as_str()),
                _ => None,
            });
            let at = |ranks: usize| dir.path().join(format!("{kind}-{scope}-{rows}-{ranks}"));
            succeeded(&Command::new(SMPO).args(arguments(&at(1), &loss, &keys)).output().unwrap());
            keys.push(&zero);
            succeeded(&mpirun(ranks, &arguments(&at(ranks), &loss, &keys)).output().unwrap());
            let (alone, shared) = (figures(&at(1)), figures(&at(ranks)));
            let (first, losses) = (in_first_step(&alone, &shared), of_losses(&alone, &shared));
            let (all, figure) = largest(&alone, &shared, |_| true);
            println!("| {kind} | {scope} | {rows}, {ranks} | {first:.1e} | {losses:.1e} | {all:.1e} | {figure} |");
            assert!(first < 2e-6, "{kind} {scope} on {ranks}: {first}");
            // −log(1 − p) has the slope p/(1 − p): near p = 1 the last digits of a float32 log-prob count many times.
            let bound = if kind == "unlikelihood" { 5e-6 } else { 1e-6 };
            assert!(losses < bound, "{kind} {scope} on {ranks}: a loss by {losses}");
            assert!(all < 2e-5, "{kind} {scope} on {ranks}: {figure} by {all}");
        }
    }
}

fn bytes_of(out: &Path, file: &str) -> Vec<u8> {
    fs::read(out.join(file)).unwrap()
}

#[test]
#[ignore = "needs mpirun"]
fn moments_dealt_to_ranks_give_the_same_files_and_resume_anywhere() {
    let dir = TempDir::new().unwrap();
    let (_, loss) = LOSSES[2];
    let keys = |zero: &'static str| [zero, "max_grad_norm = 0", "num_train_epochs = 2"];
    let (plain, dealt) = (keys("zero_stage = 0"), keys("zero_stage = 1"));
    for ranks in [2, 4] {
        let at = |name: &str| dir.path().join(format!("{name}-{ranks}"));
        succeeded(&mpirun(ranks, &arguments(&at("plain"), loss, &plain)).output().unwrap());
        succeeded(&mpirun(ranks, &arguments(&at("dealt"), loss, &dealt)).output().unwrap());
        for file in ["model/model.safetensors", "checkpoints/step-8/optimizer.safetensors"] {
            assert!(bytes_of(&at("plain"), file) == bytes_of(&at("dealt"), file), "{file} on {ranks}");
        }
    }
    let alone = dir.path().join("plain-2");
    for (ranks, first, then, second) in [(4, &dealt, 1, &plain), (2, &dealt, 3, &dealt), (1, &plain, 4, &dealt)] {
        let out = dir.path().join(format!("{ranks}-{then}"));
        let mut child = mpirun(ranks, &arguments(&out, loss, first)).spawn().unwrap();
        after_steps(&out, 5, &mut child);
        child.kill().unwrap();
        child.wait().unwrap();
        // The ranks end after their launcher.
        std::thread::sleep(Duration::from_secs(2));
        assert!(!out.join("model").exists());
        succeeded(&mpirun(then, &arguments(&out, loss, second)).output().unwrap());
        let most = difference(&figures(&alone), &figures(&out));
        println!("{ranks} ranks, then {then}: largest difference {most:.1e}");
        assert!(most < 1e-4, "{most}");
    }
}

#[test]
#[ignore = "needs mpirun"]
fn weights_in_parts_give_the_same_files_and_resume_anywhere() {
    let dir = TempDir::new().unwrap();
    let (_, loss) = LOSSES[2];
    let common = ["max_grad_norm = 0", "gradient_checkpointing = true", "probe = null", "num_train_epochs = 2"];
    let adapters = ["use_peft = true", "lora_dropout = 0.1", "max_tokens_per_pack = 1"];
    for (name, ranks, more, file) in [
        ("all", 2, &[][..], "model.safetensors"),
        ("all", 4, &[], "model.safetensors"),
        ("adapters", 3, &adapters, "adapter_model.safetensors"),
    ] {
        let at = |stage: u8| dir.path().join(format!("{name}-{ranks}-{stage}"));
        // A pack for each rank: gradients are added in one order.
        let batch = format!("per_device_train_batch_size = {ranks}");
        for stage in [0, 3] {
            let zero = format!("zero_stage = {stage}");
            let keys = [&[&zero[..], &batch, "max_steps = 10"], &common[..], more].concat();
            succeeded(&mpirun(ranks, &arguments(&at(stage), loss, &keys)).output().unwrap());
        }
        for file in [format!("model/{file}"), "checkpoints/step-8/optimizer.safetensors".to_owned()] {
            assert!(bytes_of(&at(0), &file) == bytes_of(&at(3), &file), "{name}: {file} on {ranks}");
        }
    }
    let [plain, parts] = ["zero_stage = 0", "zero_stage = 3"].map(|zero| [&[zero], &common[..]].concat());
    let alone = dir.path().join("alone");
    succeeded(&mpirun(1, &arguments(&alone, loss, &plain)).output().unwrap());
    for (ranks, first, then, second) in [(4, &parts, 1, &plain), (2, &parts, 3, &parts), (1, &plain, 4, &parts)] {
        let out = dir.path().join(format!("{ranks}-{then}"));
        let mut child = mpirun(ranks, &arguments(&out, loss, first)).spawn().unwrap();
        after_steps(&out, 5, &mut child);
        child.kill().unwrap();
        child.wait().unwrap();
        // The ranks end after their launcher.
        std::thread::sleep(Duration::from_secs(2));
        assert!(!out.join("model").exists());
        succeeded(&mpirun(then, &arguments(&out, loss, second)).output().unwrap());
        let most = difference(&figures(&alone), &figures(&out));
        println!("{ranks} ranks, then {then}: largest difference {most:.1e}");
        assert!(most < 1e-4, "{most}");
    }
}

#[test]
#[ignore = "needs mpirun"]
fn a_slow_rank_changes_nothing() {
    let dir = TempDir::new().unwrap();
    let (_, loss) = LOSSES[3];
    for zero in ["zero_stage = 0", "zero_stage = 1"] {
        let at = |name: &str| dir.path().join(format!("{name}-{}", zero.len() + usize::from(zero.ends_with('1'))));
        succeeded(&mpirun(3, &arguments(&at("even"), loss, &[zero])).output().unwrap());
        let mut child = mpirun(3, &arguments(&at("slow"), loss, &[zero])).spawn().unwrap();
        after_steps(&at("slow"), 1, &mut child);
        let slow = children(child.id())[1];
        let since = Instant::now();
        let mut pauses = 0;
        while child.try_wait().unwrap().is_none() {
            signal("-STOP", slow);
            std::thread::sleep(Duration::from_millis(150));
            signal("-CONT", slow);
            std::thread::sleep(Duration::from_millis(30));
            pauses += 1;
            assert!(since.elapsed() < Duration::from_secs(300));
        }
        succeeded(&child.wait_with_output().unwrap());
        println!("{zero}: rank 1 of 3 stopped {pauses} times");
        assert!(pauses > 2);
        for file in ["model/model.safetensors", "metrics.jsonl"] {
            let text = |name: &str| bytes_of(&at(name), file);
            let same = match file {
                "metrics.jsonl" => difference(&figures(&at("even")), &figures(&at("slow"))) == 0.0,
                _ => text("even") == text("slow"),
            };
            assert!(same, "{zero}: {file}");
        }
    }
}

/// Two network namespaces with a link between them, as two machines; removed when dropped.
struct Machines;

impl Machines {
    /// `None` where this process may not make any.
    fn new() -> Option<Self> {
        let ip = |arguments: &str| Command::new("ip").args(arguments.split(' ')).stderr(Stdio::null()).status();
        drop(Self);
        let made = [
            "netns add smpo-a",
            "netns add smpo-b",
            "link add smpo-a netns smpo-a type veth peer name smpo-b netns smpo-b",
        ];
        let set = ["a", "b"].into_iter().zip(["10.83.0.1/24", "10.83.0.2/24"]).flat_map(|(name, address)| {
            [
                "link set lo up".to_owned(),
                format!("addr add {address} dev smpo-{name}"),
                format!("link set smpo-{name} up"),
            ]
            .map(|command| format!("-n smpo-{name} {command}"))
        });
        let works = |command: &str| ip(command).is_ok_and(|status| status.success());
        (made.iter().all(|command| works(command)) && set.into_iter().all(|command| works(&command))).then_some(Self)
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        for name in ["smpo-a", "smpo-b"] {
            drop(Command::new("ip").args(["netns", "delete", name]).stderr(Stdio::null()).status());
        }
    }
}

#[test]
#[ignore = "needs mpirun, and root for network namespaces"]
fn two_network_namespaces_train_as_two_machines() {
    let Some(_machines) = Machines::new() else {
        println!("not run: no network namespaces can be made here");
        return;
    };
    let dir = TempDir::new().unwrap();
    let (_, loss) = LOSSES[2];
    let (alone, out) = (dir.path().join("alone"), dir.path().join("two"));
    succeeded(&Command::new(SMPO).args(arguments(&alone, loss, &[])).output().unwrap());
    // A launcher's way to another machine: here into its namespace.
    let agent = dir.path().join("agent");
    fs::write(&agent, "#!/bin/sh\nhost=$1; shift\nexec ip netns exec \"$host\" sh -c \"$*\"\n").unwrap();
    Command::new("chmod").args(["+x", agent.to_str().unwrap()]).status().unwrap();
    let mut command = Command::new("ip");
    command.args(["netns", "exec", "smpo-a", "mpirun", "--allow-run-as-root", "--bind-to", "none", "-n", "4"]);
    command.args(["-H", "smpo-a:2,smpo-b:2", "--mca", "plm_rsh_agent", agent.to_str().unwrap()]);
    command.args(["--mca", "btl", "tcp,self", "--mca", "btl_tcp_if_include", "10.83.0.0/24"]);
    command.args(["--mca", "oob_tcp_if_include", "10.83.0.0/24", "--mca", "routed", "direct"]);
    // One name of each machine: that of its address.
    command.args(["--mca", "orte_keep_fqdn_hostnames", "1", SMPO]).args(arguments(&out, loss, &["zero_stage = 1"]));
    succeeded(&command.output().unwrap());
    let most = difference(&figures(&alone), &figures(&out));
    println!("two ranks in each of two namespaces: largest difference {most:.1e}");
    assert!(most < 1e-4, "{most}");
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
