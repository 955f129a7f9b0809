//! `smpo run` as a user meets it: skipped, resumed after a kill, run anew where something changed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use assert_cmd::Command;
use predicates::prelude::PredicateBooleanExt;
use predicates::str::contains;
use serde_json::Value;
use smpo_fixtures::{Dice, demo, repository};

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
fn a_dry_run_tells_which_training_would_not_start() {
    let recipe = Recipe::new();
    fs::write(recipe.path("bad.jsonl"), "{\"prompt\": \"a\", \"chosen\": \"b\"}\n").unwrap();
    let arm = |name: &str, dataset: &Path| {
        let set = format!("dataset = {dataset:?}, dataset_sample = \"null\"");
        format!("[[arm]]\nname = {name:?}\nconfig = \"configs/demo/control.toml\"\nset = {{ {set} }}\n")
    };
    let arms = arm("bad", &recipe.path("bad.jsonl")) + &arm("good", &demo("preferences.jsonl"));
    let text = format!("model = {:?}\n{arms}[eval]\nsuites = [\"evals/demo.toml\"]\n", demo("base"));
    fs::write(recipe.path("two.toml"), text).unwrap();
    let plan = recipe.command("plan", &["--dry-run"]).assert().success().stdout(contains("train/good-1"));
    plan.stderr(
        contains("train/bad-1 would not start: ").and(contains("rejected")).and(contains("good-1 would").not()),
    );
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

/// Files that may differ between two calls of one recipe, by the ends of their paths: logs, records with the seconds that stages
/// took, locks. Of metrics everything but the speed is compared.
const MAY_DIFFER: [&str; 2] = [".log", "/.lock"];
const RECORDS: &str = "stages/";
const SPEED: &str = "tokens_per_s";

/// The bytes of every result below a directory, by its path in it.
fn all_results(out: &Path) -> BTreeMap<String, Vec<u8>> {
    let (mut results, mut dirs) = (BTreeMap::new(), vec![out.to_path_buf()]);
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(out).unwrap().to_str().unwrap().to_owned();
            if path.is_dir() {
                dirs.push(path);
            } else if !name.starts_with(RECORDS) && !MAY_DIFFER.iter().any(|end| format!("/{name}").ends_with(end)) {
                results.insert(name.clone(), timeless(&name, fs::read(path).unwrap()));
            }
        }
    }
    results
}

/// Metrics of training without the speed; other files as they are.
fn timeless(name: &str, bytes: Vec<u8>) -> Vec<u8> {
    if !name.ends_with("metrics.jsonl") {
        return bytes;
    }
    let without = |line: &str| {
        let mut record: Value = serde_json::from_str(line).unwrap();
        record.as_object_mut().unwrap().remove(SPEED);
        record.to_string() + "\n"
    };
    String::from_utf8(bytes).unwrap().lines().map(without).collect::<String>().into_bytes()
}

/// The record of a stage; none before it began.
#[cfg(unix)]
fn record(out: &Path, stage: &str) -> Option<Value> {
    let path = out.join(RECORDS).join(format!("{}.json", stage.replace('/', "--")));
    serde_json::from_str(&fs::read_to_string(path).ok()?).ok()
}

/// Runs a recipe in a process group of its own until `stage` has run for so many seconds or has ended, then kills recipe and
/// stage at once. True if the stage was killed.
#[cfg(unix)]
fn killed_in(recipe: &Recipe, stage: &str, moment: f64) -> bool {
    use std::os::unix::process::CommandExt;
    let out = recipe.path("out");
    let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin("smpo"));
    command.current_dir(repository()).arg("run").arg(recipe.path("two.toml")).arg("--out").arg(&out);
    let messages = recipe.path("killed.stderr");
    let stderr = fs::File::create(&messages).unwrap();
    let mut child = command.stdout(Stdio::null()).stderr(stderr).process_group(0).spawn().unwrap();
    let before = record(&out, stage).map(|record| record["pid"].clone());
    let mut began: Option<Instant> = None;
    let patience = Instant::now();
    loop {
        let record = record(&out, stage).filter(|record| Some(&record["pid"]) != before.as_ref());
        if record.as_ref().is_some_and(|record| !record["exit"].is_null()) {
            break;
        }
        if record.is_some() && began.get_or_insert_with(Instant::now).elapsed().as_secs_f64() >= moment {
            break;
        }
        if child.try_wait().unwrap().is_some() {
            // between two looks the stage, the recipe's last, may have begun and ended
            let ended = record.is_some() || self::record(&out, stage).is_some_and(|record| !record["exit"].is_null());
            assert!(ended, "{stage}: the recipe ended before it: {}", fs::read_to_string(&messages).unwrap());
            break;
        }
        assert!(patience.elapsed() < Duration::from_secs(120), "{stage}: does not begin");
        std::thread::sleep(Duration::from_millis(1));
    }
    let group = format!("-{}", child.id());
    let killed =
        std::process::Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status().unwrap();
    // a recipe that has ended by itself is not there to be killed
    assert!(child.wait().unwrap().code().is_some() || killed.success());
    wait_for_stages(&out);
    record(&out, stage).is_some_and(|record| record["exit"].is_null())
}

/// Takes a finished stage and its results away.
#[cfg(unix)]
fn forget(out: &Path, stage: &str) {
    fs::remove_file(out.join(RECORDS).join(format!("{}.json", stage.replace('/', "--")))).unwrap();
    let output = match stage {
        "board" => out.join("leaderboard"),
        gate if gate.starts_with("gate/") => out.join(format!("{gate}.json")),
        other => out.join(other),
    };
    if output.is_dir() { fs::remove_dir_all(output).unwrap() } else { fs::remove_file(output).unwrap() }
}

/// Kills recipe and stage together, in every kind of stage, at moments that a seed draws from the time that the stage takes.
#[cfg(unix)]
#[test]
fn killed_at_any_moment_of_any_stage_a_recipe_gives_the_same_bytes() {
    const STAGES: [&str; 7] = [
        "sft/start",
        "pairs/start",
        "train/regular-1",
        "merge/modified-1",
        "eval/suite/modified-1",
        "gate/suite/modified",
        "board",
    ];
    const SEED: u64 = 19;
    const KILLS: usize = 2;
    let recipe = Recipe::new();
    // one after the other, from a start of its own
    let sft = format!(
        "model = {:?}\noutput_dir = \"of the recipe\"\ndataset = {:?}\ndataset_sample = 48\nmax_length = 256\nmax_steps = 8\n\
         save_steps = 2\nper_device_train_batch_size = 6\nlearning_rate = 1e-4\n[loss]\nkind = \"sft\"\n",
        demo("base"),
        demo("preferences.jsonl"),
    );
    fs::write(recipe.path("sft.toml"), sft).unwrap();
    let text = fs::read_to_string(recipe.path("two.toml")).unwrap();
    let text = text.replace("jobs = 2\n", &format!("jobs = 1\n[sft]\nconfig = {:?}\n", recipe.path("sft.toml")));
    fs::write(
        recipe.path("two.toml"),
        text.replace("max_steps = 30, save_steps = 5", "max_steps = 12, save_steps = 3"),
    )
    .unwrap();

    // in the same directory, whose name is in some results
    let ran = recipe.run("out");
    let lines = String::from_utf8(ran.get_output().stderr.clone()).unwrap();
    let started = |stage: &str| lines.find(&format!("{stage}: started")).unwrap();
    assert!(
        started("eval/suite/regular-1") < started("train/modified-1"),
        "evaluated before the next is trained\n{lines}"
    );
    fs::rename(recipe.path("out"), recipe.path("whole")).unwrap();
    let whole = all_results(&recipe.path("whole"));
    assert!(whole.len() > 60, "{:?}", whole.keys());
    let mut dice = Dice::new(SEED);
    let mut kills: Vec<(&str, f64)> = Vec::new();
    for stage in STAGES {
        let takes = record(&recipe.path("whole"), stage).unwrap()["seconds"].as_f64().unwrap();
        for _ in 0..KILLS {
            let mut share = dice.below(1000) as f64 / 1000.0;
            // a stage that was faster than its time is begun anew, and killed earlier
            while !killed_in(&recipe, stage, share * takes) {
                forget(&recipe.path("out"), stage);
                share /= 2.0;
            }
            kills.push((stage, share));
        }
    }
    recipe.run("out");
    assert_same(&all_results(&recipe.path("out")), &whole, &format!("killed at {kills:?}"));

    // the last moment: a stage has ended, and its end is not recorded
    for entry in fs::read_dir(recipe.path("out/stages")).unwrap() {
        let path = entry.unwrap().path();
        let mut record: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        record["exit"] = Value::Null;
        fs::write(&path, record.to_string()).unwrap();
    }
    recipe.run("out");
    assert_same(&all_results(&recipe.path("out")), &whole, "ends not recorded");
}

#[cfg(unix)]
fn assert_same(results: &BTreeMap<String, Vec<u8>>, expected: &BTreeMap<String, Vec<u8>>, case: &str) {
    let names = |results: &BTreeMap<String, Vec<u8>>| results.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(results), names(expected), "{case}");
    for (name, bytes) in expected {
        assert!(results[name] == *bytes, "{name} differs: {case}");
    }
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
    refuse(
        &format!("{arm}set = {{ seed = 3 }}\n"),
        "arm \"a\": set: `seed` is the recipe's to set: `seeds` has the seeds",
    );
    refuse(&format!("[pairs]\nprompts = \"x.jsonl\"\n{arm}set = {{ dataset = \"x\" }}\n"), "rows of [pairs]");
    refuse(&format!("[pairs]\nprompts = \"x.jsonl\"\nrows = \"ela\"\n{arm}"), "which `ela` does not write");
    refuse(&format!("{arm}[gate]\nbaseline = \"a\"\n"), "add [eval]");
    refuse(
        &format!("{arm}[eval]\nsuites = [\"evals/demo.toml\"]\n[gate]\nbaseline = \"b\"\n"),
        "there is no arm \"b\"",
    );
    refuse("[eval]\nsuites = [\"evals/demo.toml\"]\nsampels = 3\n", "--sampels");
    refuse("[pairs]\nprompts = \"x.jsonl\"\nscore = { rule = 1 }\n", "`score`");
    refuse("[eval]\nsuites = []\n", "expected at least one");
    refuse(&format!("{arm}set = {{ dataset = \"nope.jsonl\" }}\n"), "train/a-1: nope.jsonl: expected a data file");
    refuse(
        &format!("{arm}[eval]\nsuites = [\"evals/demo.toml\"]\n[board]\nbaseline = \"zzz\"\n"),
        "board: baseline: there is no arm \"zzz\"",
    );
}
