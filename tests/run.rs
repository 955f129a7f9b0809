//! `smpo run` as a user meets it: skipped, resumed after a kill, run anew where something changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use assert_cmd::Command;
use predicates::prelude::PredicateBooleanExt;
use predicates::str::contains;
use serde_json::Value;
use smpo_fixtures::{demo, repository};

/// A recipe of two arms on a handful of prompts and steps.
struct Recipe {
    dir: tempfile::TempDir,
}

impl Recipe {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let text = fs::read_to_string(demo("ood.jsonl")).unwrap();
        let lines: Vec<&str> = text.lines().step_by(8).collect();
        fs::write(dir.path().join("suite.jsonl"), lines[..12].join("\n")).unwrap();
        fs::write(dir.path().join("prompts.jsonl"), lines[12..30].join("\n")).unwrap();
        let recipe = Recipe { dir };
        recipe.write("5e-4");
        recipe
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, learning_rate: &str) {
        let (dir, base) = (self.dir.path().display(), demo("base").display().to_string());
        let text = format!(
            "model = {base:?}\nseeds = [1]\njobs = 2\n\
             [pairs]\nprompts = \"{dir}/prompts.jsonl\"\nsamples = 4\ntemperature = 1.3\ncap = 24\nengine = \"native\"\n\
             [[arm]]\nname = \"regular\"\nconfig = \"configs/demo/regular.toml\"\nset = {{ dataset_sample = \"null\", max_steps = 30, save_steps = 5 }}\n\
             [[arm]]\nname = \"modified\"\nconfig = \"configs/demo/modified.toml\"\nmerge = 0.5\n\
             set = {{ dataset_sample = \"null\", max_steps = 30, save_steps = 5, learning_rate = {learning_rate} }}\n\
             [eval]\nsuites = [\"{dir}/suite.jsonl\"]\ncap = 24\nengine = \"native\"\n\
             [gate]\npolicy = \"smoke\"\n[board]\ntitle = \"Two arms\"\n"
        );
        fs::write(self.path("two.toml"), text).unwrap();
    }

    fn command(&self, out: &str, more: &[&str]) -> Command {
        let mut command = Command::cargo_bin("smpo").unwrap();
        command.current_dir(repository()).env_remove("OPENAI_API_KEY").arg("run").arg(self.path("two.toml"));
        command.arg("--out").arg(self.path(out)).args(more);
        command
    }

    /// Runs it to its end; two prompts decide nothing.
    fn run(&self, out: &str) -> assert_cmd::assert::Assert {
        self.command(out, &[]).assert().code(3)
    }
}

/// Results whose bytes do not name the directory they are in.
const RESULTS: [&str; 5] = [
    "pairs/start/pairs.jsonl",
    "train/regular-1/model/model.safetensors",
    "merge/modified-1/model.safetensors",
    "eval/suite/modified-1/samples.jsonl",
    "eval/suite/start/metrics.json",
];

fn results(out: &Path) -> Vec<Vec<u8>> {
    RESULTS.iter().map(|name| fs::read(out.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))).collect()
}

#[test]
fn stages_are_skipped_resumed_and_run_anew_where_they_changed() {
    let recipe = Recipe::new();
    let plan = recipe.command("whole", &["--dry-run"]).assert().success();
    plan.stdout(contains("train/modified-1").and(contains("merge/modified-1")).and(contains("to do")));
    assert!(!recipe.path("whole").exists(), "a dry run writes nothing");
    let without_pairs = fs::read_to_string(recipe.path("two.toml")).unwrap();
    let (head, tail) = (without_pairs.find("[pairs]").unwrap(), without_pairs.find("[[arm]]").unwrap());
    fs::write(recipe.path("known.toml"), format!("{}{}", &without_pairs[..head], &without_pairs[tail..])).unwrap();
    let known = recipe.path("known.toml");
    let mut plan = Command::cargo_bin("smpo").unwrap();
    plan.current_dir(repository()).arg("run").arg(known).arg("--out").arg(recipe.path("known")).arg("--dry-run");
    plan.assert().success().stdout(contains("train/modified-1").and(contains("MiB")));
    assert!(!recipe.path("known").exists(), "nor where it reads the data");
    recipe.run("whole").stdout(contains("gate/suite/modified: inconclusive").and(contains("leaderboard/index.html")));
    let whole = results(&recipe.path("whole"));

    let again = recipe.run("whole");
    let lines = String::from_utf8(again.get_output().stderr.clone()).unwrap();
    assert!(lines.contains("done before") && !lines.contains("started"), "{lines}");

    // killed over and over
    let mut kills = 0;
    loop {
        let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin("smpo"));
        command
            .current_dir(repository())
            .arg("run")
            .arg(recipe.path("two.toml"))
            .arg("--out")
            .arg(recipe.path("killed"));
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(300 + 170 * kills));
        if let Ok(Some(status)) = child.try_wait() {
            assert_eq!(status.code(), Some(3));
            break;
        }
        kills += 1;
        assert!(kills < 40, "it never ends");
        child.kill().unwrap();
        child.wait().unwrap();
        // stages of a killed call go on by themselves
        wait_for_stages(&recipe.path("killed"));
    }
    assert!(kills > 0);
    assert_eq!(results(&recipe.path("killed")), whole);

    // a changed arm runs anew with what depends on it, and nothing else
    recipe.write("1e-3");
    let changed = recipe.run("whole");
    let lines = String::from_utf8(changed.get_output().stderr.clone()).unwrap();
    for (stage, runs) in [
        ("pairs/start", false),
        ("train/regular-1", false),
        ("train/modified-1", true),
        ("merge/modified-1", true),
        ("eval/suite/start", false),
        ("eval/suite/modified-1", true),
        ("gate/suite/regular", false),
        ("gate/suite/modified", true),
        ("board", true),
    ] {
        assert_eq!(lines.contains(&format!("{stage}: started")), runs, "{stage}\n{lines}");
    }
    let superseded = fs::read_dir(recipe.path("whole/superseded")).unwrap().count();
    assert_eq!(superseded, 5, "earlier results are kept");
}

/// Waits until no process of a stage is left.
fn wait_for_stages(out: &Path) {
    let running = |record: &Path| {
        let record: Value = serde_json::from_str(&fs::read_to_string(record).ok()?).ok()?;
        let command = fs::read(format!("/proc/{}/cmdline", record["pid"].as_u64()?)).ok()?;
        (!command.is_empty()).then_some(())
    };
    for _ in 0..600 {
        let records = fs::read_dir(out.join("stages")).into_iter().flatten().flatten();
        if records.filter_map(|record| running(&record.path())).next().is_none() {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn mistakes_are_told_before_anything_runs() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("r.toml");
    let base = demo("base").display().to_string();
    let refuse = |text: &str, expected: &str| {
        fs::write(&path, format!("model = {base:?}\nout = {:?}\n{text}", dir.path().join("out"))).unwrap();
        let mut command = Command::cargo_bin("smpo").unwrap();
        command.current_dir(repository()).arg("run").arg(&path);
        command.assert().code(2).stderr(contains("r.toml").and(contains(expected)));
        assert!(!dir.path().join("out").exists(), "{expected}");
    };
    let arm = "[[arm]]\nname = \"a\"\nconfig = \"configs/demo/regular.toml\"\n";
    refuse("", "nothing to do");
    refuse("seedz = [1]\n", "did you mean `seeds`");
    refuse("seeds = []\n[[arm]]\nname = \"a\"\nconfig = \"x\"\n", "expected at least one seed");
    refuse(&format!("{arm}{arm}"), "arm \"a\": given twice");
    refuse("[[arm]]\nname = \"../a\"\nconfig = \"x\"\n", "expected a name of letters");
    refuse("[[arm]]\nname = \"a\"\nconfig = \"absent.toml\"\n", "absent.toml");
    refuse(&format!("{arm}set = {{ learning_rat = 1 }}\n"), "learning_rat");
    refuse(&format!("{arm}merge = 1.5\n"), "a weight from 0 to 1");
    refuse(&format!("{arm}[gate]\nbaseline = \"a\"\n"), "add [eval]");
    refuse(
        &format!("{arm}[eval]\nsuites = [\"evals/demo.toml\"]\n[gate]\nbaseline = \"b\"\n"),
        "there is no arm \"b\"",
    );
    refuse("[eval]\nsuites = [\"evals/demo.toml\"]\nsampels = 3\n", "--sampels");
    refuse("[pairs]\nprompts = \"x.jsonl\"\nscore = { rule = 1 }\n", "`score`");
    refuse("[eval]\nsuites = []\n", "expected at least one");
}
