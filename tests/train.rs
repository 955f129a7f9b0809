//! `smpo train` as a user meets it: killed, interrupted, on a full disk, with bad configurations.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use assert_cmd::cargo::cargo_bin;
use predicates::prelude::*;
use predicates::str::contains;
use serde_json::Value;
use smpo_fixtures::demo;
use tempfile::TempDir;

const SMPO: &str = "kind = \"smpo\"\neos_term = \"invert\"\nlower_clip_percentile = 0.02\nmin_log_prob = -2.3\n";

struct Run {
    dir: PathBuf,
    config: PathBuf,
}

impl Run {
    /// A run of 20 steps in `dir/name`, with a checkpoint every other step.
    fn new(dir: &Path, name: &str, keys: &str, tables: &str) -> Self {
        let run = Run { dir: dir.join(name), config: dir.join(format!("{name}.toml")) };
        let text = format!(
            "model_name_or_path = {:?}\noutput_dir = {:?}\ndataset = {:?}\ndataset_sample = 24\nmax_length = 256\n\
             per_device_train_batch_size = 2\ngradient_accumulation_steps = 2\nmax_steps = 20\nlearning_rate = 5e-4\n\
             save_steps = 2\nseed = 5\n{keys}\n{tables}",
            demo("base"),
            run.dir,
            demo("preferences.jsonl"),
        );
        fs::write(&run.config, text).unwrap();
        run
    }

    fn command(&self) -> Command {
        let mut command = Command::new(cargo_bin("smpo"));
        command.arg("train").arg(&self.config).args(["--threads", "1"]);
        command
    }

    fn spawn(&self) -> Child {
        self.command().stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    fn finish(&self) {
        let output = self.command().output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn lines(&self) -> usize {
        fs::read_to_string(self.dir.join("metrics.jsonl")).map_or(0, |text| text.lines().count())
    }

    /// Waits until `metrics.jsonl` has so many lines; `false` when the run ended before.
    fn wait_for(&self, lines: usize, child: &mut Child) -> bool {
        let began = Instant::now();
        while self.lines() < lines {
            if child.try_wait().unwrap().is_some() {
                return false;
            }
            assert!(began.elapsed() < Duration::from_secs(120), "no {lines} lines in two minutes");
            std::thread::sleep(Duration::from_millis(2));
        }
        true
    }

    fn assert_equal(&self, other: &Run, what: &str) {
        for entry in fs::read_dir(self.dir.join("model")).unwrap() {
            let name = entry.unwrap().file_name();
            let read = |run: &Run| fs::read(run.dir.join("model").join(&name)).unwrap();
            assert!(read(self) == read(other), "{what}: model/{} differs", name.display());
        }
        let metrics = |run: &Run| -> Vec<Value> {
            let text = fs::read_to_string(run.dir.join("metrics.jsonl")).unwrap();
            let timeless = |line: &str| {
                let mut record: Value = serde_json::from_str(line).unwrap();
                record.as_object_mut().unwrap().remove("tokens_per_s");
                record
            };
            text.lines().map(timeless).collect()
        };
        assert_eq!(metrics(self), metrics(other), "{what}");
    }
}

/// Random numbers that differ from run to run (SplitMix64). `SMPO_TEST_SEED` repeats the run that printed it.
struct Random(u64);

impl Random {
    fn new(test: &str) -> Self {
        let seed = match std::env::var("SMPO_TEST_SEED") {
            Ok(seed) => seed.parse().expect("SMPO_TEST_SEED: expected a whole number"),
            Err(_) => SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64,
        };
        println!("{test}: SMPO_TEST_SEED={seed}");
        Random(seed)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// Kills with SIGKILL at random steps and moments, resumes each time, and compares with a run never interrupted.
fn killed_at_random_steps(name: &str, keys: &str, tables: &str) {
    let mut random = Random::new(name);
    let dir = TempDir::new().unwrap();
    let whole = Run::new(dir.path(), "whole", keys, tables);
    whole.finish();
    let killed = Run::new(dir.path(), "killed", keys, tables);
    let mut history = Vec::new();
    let mut reached = 0;
    for _ in 0..4 {
        reached += 1 + random.below(5) as usize;
        let mut child = killed.spawn();
        if !killed.wait_for(reached, &mut child) {
            break;
        }
        let moment = random.below(40);
        std::thread::sleep(Duration::from_millis(moment));
        child.kill().unwrap();
        child.wait().unwrap();
        history.push((reached, moment));
    }
    assert!(!history.is_empty());
    killed.finish();
    whole.assert_equal(&killed, &format!("{name}: killed after (line, ms) {history:?}"));
}

#[test]
fn killed_at_any_step_a_run_ends_bit_identical() {
    let loss = format!("[loss]\n{SMPO}winsor_scope = {{ window = 300 }}\n");
    killed_at_random_steps("all weights", "", &loss);
}

#[test]
fn killed_at_any_step_adapters_evaluation_and_probe_end_bit_identical() {
    let keys = "use_peft = true\nlora_r = 4\nlora_dropout = 0.1\nuse_dora = true\ntest_size = 8\neval_steps = 3\n\
                load_best_model_at_end = true\nreport_to = \"tensorboard\"";
    let probe =
        format!("[probe]\nprompts = {:?}\nsteps = 4\nmax_prompts = 6\nmax_new_tokens = 12\n", demo("ood.jsonl"));
    killed_at_random_steps("dpo with adapters", keys, &format!("[loss]\nkind = \"dpo\"\n{probe}"));
}

#[cfg(unix)]
#[test]
fn ctrl_c_finishes_the_step_saves_and_exits_with_130() {
    let dir = TempDir::new().unwrap();
    let run = Run::new(dir.path(), "run", "", &format!("[loss]\n{SMPO}"));
    // Long enough to be interrupted on any machine.
    fs::write(&run.config, fs::read_to_string(&run.config).unwrap().replace("max_steps = 20", "max_steps = 9999"))
        .unwrap();
    let mut child = run.spawn();
    assert!(run.wait_for(3, &mut child));
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let steps = run.lines();
    assert!(run.dir.join(format!("checkpoints/step-{steps}")).is_dir(), "after {steps} steps");
}

/// A limit on the size of files stands in for a full disk: the write fails in the middle of a file either way.
#[cfg(unix)]
#[test]
fn a_full_disk_loses_no_earlier_checkpoint_and_is_reported() {
    let dir = TempDir::new().unwrap();
    let tables = format!("[loss]\n{SMPO}");
    let whole = Run::new(dir.path(), "whole", "", &tables);
    whole.finish();
    let run = Run::new(dir.path(), "run", "", &tables);
    let mut child = run.spawn();
    assert!(run.wait_for(5, &mut child));
    child.kill().unwrap();
    child.wait().unwrap();
    let checkpoints = || {
        let mut names: Vec<String> = fs::read_dir(run.dir.join("checkpoints"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.starts_with('.'))
            .collect();
        names.sort();
        names
    };
    let before = checkpoints();
    assert!(!before.is_empty());
    let limited = "trap '' XFSZ; ulimit -f 1000; exec \"$0\" train \"$1\" --threads 1";
    let output = Command::new("bash").args(["-c", limited]).arg(cargo_bin("smpo")).arg(&run.config).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(said.contains("error: ") && said.contains("File too large"), "{said}");
    assert_eq!(checkpoints(), before);
    run.finish();
    whole.assert_equal(&run, "after a full disk");
}

#[test]
fn two_processes_do_not_share_a_run_directory() {
    let dir = TempDir::new().unwrap();
    let run = Run::new(dir.path(), "run", "", &format!("[loss]\n{SMPO}"));
    // this process, for longer than the lock is waited for
    let held = smpo_files::DirLock::take(&run.dir).unwrap();
    assert!(held.is_some());
    let second = run.command().output().unwrap();
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(
        second.status.code() == Some(4) && said.contains("another process is training in this directory"),
        "{said}"
    );
    drop(held);
    assert!(run.command().status().unwrap().success());
}

/// The rest of a directory that was removed while a run ended: a checkpoint, and nothing that says of which run.
#[test]
fn checkpoints_of_an_unknown_run_are_not_gone_on_from() {
    let dir = TempDir::new().unwrap();
    let run = Run::new(dir.path(), "run", "", &format!("[loss]\n{SMPO}"));
    let mut child = run.spawn();
    run.wait_for(4, &mut child);
    child.kill().unwrap();
    child.wait().unwrap();
    fs::remove_file(run.dir.join("config.toml")).unwrap();
    let again = run.command().output().unwrap();
    let said = String::from_utf8_lossy(&again.stderr);
    assert!(again.status.code() == Some(2) && said.contains("holds checkpoints, but no config.toml"), "{said}");
    assert!(run.dir.join("checkpoints").is_dir(), "nothing is removed unasked");
    assert!(run.command().arg("--restart").status().unwrap().success());
}

/// A project's own directories, in which no run has ever been.
#[test]
fn starting_over_removes_nothing_of_a_directory_that_no_run_has_claimed() {
    let dir = TempDir::new().unwrap();
    let run = Run::new(dir.path(), "run", "", &format!("[loss]\n{SMPO}"));
    for own in ["model", "checkpoints", "rows", "reference", "probe"] {
        fs::create_dir_all(run.dir.join(own)).unwrap();
        fs::write(run.dir.join(own).join("mine.txt"), "mine").unwrap();
    }
    let refused = run.command().arg("--restart").output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(2) && said.contains("holds a model, but no config.toml"), "{said}");
    for own in ["model", "checkpoints", "rows", "reference", "probe"] {
        assert!(run.dir.join(own).join("mine.txt").is_file(), "{own}");
    }
}

fn refused(keys: &str, tables: &str) -> assert_cmd::assert::Assert {
    let dir = TempDir::new().unwrap();
    let run = Run::new(dir.path(), "run", keys, tables);
    assert_cmd::Command::from_std(run.command()).assert()
}

#[test]
fn bad_configurations_exit_with_2_and_say_where() {
    let loss = format!("[loss]\n{SMPO}");
    let cases = [
        ("lora_r = 8", "run.toml:12: `lora_r` has no effect without use_peft = true"),
        ("use_peft = true\nlora_target_modules = \"q_prj\"", "did you mean `q_proj`?"),
        ("unfreeze_layers_patterns = \"up_prj\"", "did you mean `up_proj`?"),
        ("eval_step = 3", "run.toml:12: unknown key `eval_step` (did you mean `eval_steps`?)"),
        ("load_best_model_at_end = true", "needs `test_size` or `eval_dataset`"),
        ("test_size = 1.5", "`test_size` must be a share from 0 up to but not 1, or a whole number of rows, got 1.5"),
        ("test_size = 1200", "`test_size`: expected fewer held-out rows than the 1200 of the data"),
        ("lr_scheduler_type = \"cosin\"", "unknown variant `cosin`"),
        ("report_to = \"wandb\"", "unknown variant `wandb`"),
        ("adapter_name_or_path = \"nowhere\"", "nowhere"),
        ("eos_token = \"<|stop|>\"", "`eos_token` is \"<|stop|>\", which is not in the vocabulary"),
    ];
    for (keys, expected) in cases {
        let said = contains(expected).and(predicate::str::is_match("(?m)^error: ").unwrap());
        refused(keys, &loss).code(2).stdout("").stderr(said);
    }
    let probe = |keys: &str| format!("{loss}[probe]\n{keys}");
    refused("", &probe("prompts = \"nowhere.jsonl\"")).code(2).stderr(contains("nowhere.jsonl: cannot read"));
    refused("", &probe("prompt = \"x\""))
        .code(2)
        .stderr(contains("unknown key `prompt` in [probe] (did you mean `prompts`?)"));
    refused("", &probe("prompts = \"x\"\nsteps = 0")).code(2).stderr(contains("`probe.steps` must be at least 1"));
}

#[test]
fn all_errors_of_a_configuration_are_reported_at_once() {
    let said = contains("run.toml: 4 errors\n")
        .and(contains("run.toml:12: unknown key `eval_step` (did you mean `eval_steps`?)\n"))
        .and(contains("run.toml:13: `lr_scheduler_type`: unknown variant `cosin`"))
        .and(contains("run.toml:16: loss `smpo`: `beta` must be"))
        .and(contains("run.toml:17: loss `smpo`: unknown key `eos`"));
    refused("eval_step = 3\nlr_scheduler_type = \"cosin\"", "[loss]\nkind = \"smpo\"\nbeta = -1\neos = 2")
        .code(2)
        .stderr(said);
}

/// A dry run of the configuration in a directory; its report and exit code.
fn checked(run: &Run, arguments: &[&str]) -> (Option<i32>, Value, String) {
    let mut command = run.command();
    let output = command.args(["--check", "--format", "json"]).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or_default(), said)
}

#[test]
fn a_check_counts_rows_and_memory_and_trains_nothing() {
    let dir = TempDir::new().unwrap();
    let run = Run::new(dir.path(), "run", "test_size = 4\neos_token = \"<|im_end|>\"", &format!("[loss]\n{SMPO}"));
    let (code, report, said) = checked(&run, &[]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!((report["schema"].as_u64(), report["steps"].as_u64()), (Some(1), Some(20)));
    assert_eq!((report["rows"]["train"].as_u64(), report["rows"]["held_out"].as_u64()), (Some(24), Some(4)));
    assert_eq!(report["data"][0]["rows"].as_u64(), Some(1200));
    assert!(report["memory"]["total_bytes"].as_u64() > Some(1_000_000), "{report}");
    assert_eq!(report["errors"], serde_json::json!([]));
    for name in ["config.toml", "metrics.jsonl", "model", "tokenizer", "checkpoints"] {
        assert!(!run.dir.join(name).exists(), "{name}");
    }
    let said = contains("1200 rows").and(contains("24 to train on, 4 held out")).and(contains("memory  about"));
    assert_cmd::Command::from_std(run.command()).arg("--check").assert().code(0).stdout(said);
}

#[test]
fn a_check_reports_every_error_that_would_end_the_run() {
    let dir = TempDir::new().unwrap();
    let pairs = dir.path().join("pairs.jsonl");
    let same = r#"{"prompt": "a?", "chosen": "Yes, it is.", "rejected": "Yes, it is."}"#;
    fs::write(&pairs, format!("{same}\n").repeat(24)).unwrap();
    let probe = format!("[loss]\n{SMPO}[probe]\nprompts = \"nowhere.jsonl\"\n");
    let run = Run::new(dir.path(), "run", "", &probe);
    let (code, report, said) = checked(&run, &["--set", &format!("dataset={}", pairs.display())]);
    assert_eq!(code, Some(2), "{said}");
    let errors: Vec<&str> = report["errors"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(errors[0].contains("pairs.jsonl:1") && errors[1].contains("nowhere.jsonl: cannot read"), "{errors:?}");
    assert!(said.contains("the run cannot start: 2 errors") && said.contains("nowhere.jsonl"), "{said}");
}

#[test]
fn a_directory_that_cannot_be_written_is_reported() {
    let dir = TempDir::new().unwrap();
    let run = Run::new(dir.path(), "run", "", &format!("[loss]\n{SMPO}"));
    fs::write(&run.dir, "a file, where the directory should be").unwrap();
    let said = contains("error: ").and(contains("cannot create"));
    assert_cmd::Command::from_std(run.command()).assert().code(4).stderr(said);
}

#[test]
fn errors_in_the_data_are_refused_before_training_unless_told_otherwise() {
    let dir = TempDir::new().unwrap();
    let pairs = dir.path().join("pairs.jsonl");
    let same = r#"{"prompt": "a?", "chosen": "Yes, it is.", "rejected": "Yes, it is."}"#;
    let good = r#"{"prompt": "b?", "chosen": "Yes, it is.", "rejected": "No."}"#;
    fs::write(&pairs, format!("{good}\n{same}\n{good}\n")).unwrap();
    let run = Run::new(dir.path(), "run", "", &format!("[loss]\n{SMPO}"));
    let train = |sets: &[&str]| {
        let mut command = run.command();
        command.arg("--set").arg(format!("dataset={}", pairs.display())).args(["--set", "dataset_sample=3"]);
        for set in sets {
            command.args(["--set", set]);
        }
        assert_cmd::Command::from_std(command).assert()
    };
    train(&[]).code(2).stderr(contains("pairs.jsonl:2").and(contains("data_check")));
    assert!(!run.dir.join("model").exists() && run.lines() == 0);
    train(&["data_check=report", "max_steps=2", &format!("output_dir={}", dir.path().join("warned").display())])
        .code(0)
        .stderr(contains("error"));
}

#[test]
fn published_yaml_runs_as_it_is() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("smpo.yaml");
    let text = format!(
        "model_name_or_path: {base:?}\ndataset: {pairs:?}\nper_device_train_batch_size: 1\nper_device_eval_batch_size: 1\n\
         num_train_epochs: 1\nlog_level: \"info\"\nattn_implementation: \"sdpa\"\nsave_strategy: \"steps\"\nsave_steps: 50\n\
         save_total_limit: 12\nlearning_rate: 0.00002\nlr_scheduler_type: cosine\ngradient_accumulation_steps: 16\n\
         gradient_checkpointing: True\nlogging_steps: 1\nremove_unused_columns: True\ndataloader_num_workers: 2\n\
         max_length: 256\nmax_prompt_length: 128\ntest_size: 0.05\nevaluation_strategy: \"steps\"\neval_steps: 50\n\
         run_name: \"a run\"\noutput_dir: {out:?}\nwarmup_steps: 10\nreport_to: \"wandb\"\nbeta: 1.1\nmargin_min: 0.5\n\
         margin_delta: 0.2\nchosen_sft_ratio: 1.0\nloss_type: \"smooth_lower_bound\"\nlower_clip_percentile: 0.02\n\
         min_log_prob: -2.3\nbf16: True\nseed: 42\nuse_peft: True\nlora_task_type: CAUSAL_LM\n\
         lora_target_modules:\n  - \"q_proj\"\n  - \"down_proj\"\nlora_r: 8\nlora_alpha: 8\npad_token: \"<|endoftext|>\"\n\
         eos_token: \"<|im_end|>\"\nchat_template: \"{{{{ messages }}}}\"\nforce_chat_template: False\n",
        base = demo("base"),
        pairs = demo("preferences.jsonl"),
        out = dir.path().join("run"),
    );
    fs::write(&path, &text).unwrap();
    let train = |sets: &[&str]| {
        let mut command = assert_cmd::Command::new(cargo_bin("smpo"));
        command.arg("train").arg(&path);
        for set in sets {
            command.args(["--set", set]);
        }
        command.assert()
    };
    let said = contains("ignored settings:").and(contains("`attn_implementation`")).and(contains("wandb"));
    train(&["max_steps=2"]).code(0).stderr(said);
    let model = dir.path().join("run/model");
    let adapter: Value = serde_json::from_slice(&fs::read(model.join("adapter_config.json")).unwrap()).unwrap();
    assert_eq!(
        (adapter["r"].as_u64(), adapter["lora_dropout"].as_f64()),
        (Some(8), Some(0.0)),
        "the trainer turns dropout off"
    );
    assert!(model.join("adapter_model.safetensors").is_file() && model.join("tokenizer.json").is_file());
    let resolved = fs::read_to_string(dir.path().join("run/config.toml")).unwrap();
    assert!(resolved.contains("target_margin = 0.5") && resolved.contains("seed = 42"), "{resolved}");

    fs::write(&path, text.replace("margin_min", "margin_mn")).unwrap();
    train(&["kind=smpo"])
        .code(2)
        .stderr(contains("smpo.yaml:28: unknown key `margin_mn` (did you mean `margin_min`?)"));
    fs::write(&path, text.replace("beta: 1.1", "beta: [")).unwrap();
    train(&[]).code(2).stderr(contains("smpo.yaml:"));
}
