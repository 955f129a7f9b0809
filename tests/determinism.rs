//! The same bytes from the same seed: over threads, over the size of batches, over interruptions (tests/faults and
//! crates/trainer/tests/resume.rs), and over reports. docs/reliability.md has the table.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use smpo_fixtures::{demo, repository};

/// A directory with a few prompts and pairs.
struct Desk {
    dir: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        let desk = Desk { dir: tempfile::tempdir().unwrap() };
        let lines = |file: &str, n: usize| -> String {
            fs::read_to_string(demo(file)).unwrap().lines().take(n).map(|line| format!("{line}\n")).collect()
        };
        fs::write(desk.path("suite.jsonl"), lines("ood.jsonl", 6)).unwrap();
        fs::write(desk.path("pairs.jsonl"), lines("preferences.jsonl", 24)).unwrap();
        let config = format!(
            "model_name_or_path = {:?}\noutput_dir = {:?}\ndataset = {:?}\nmax_length = 128\nper_device_train_batch_size = 8\n\
             max_steps = 3\nlearning_rate = 2e-4\n[loss]\nkind = \"smpo\"\nlower_clip_percentile = 0.05\n",
            demo("base"),
            desk.path("run"),
            desk.path("pairs.jsonl"),
        );
        fs::write(desk.path("train.toml"), config).unwrap();
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs a command, whose words that begin with `@` are paths here, with so many threads in all.
    fn run(&self, words: &str, threads: usize) {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin("smpo"));
        command.current_dir(repository()).env_remove("OPENAI_API_KEY").env("RAYON_NUM_THREADS", threads.to_string());
        for word in words.split_whitespace() {
            match word.strip_prefix('@') {
                Some(name) => command.arg(self.path(name)),
                None => command.arg(word),
            };
        }
        let output = command.output().unwrap();
        assert!(matches!(output.status.code(), Some(0 | 3)), "{words}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// The files below a directory, which is removed.
    fn take(&self, name: &str) -> Vec<(PathBuf, Vec<u8>)> {
        let dir = self.path(name);
        let mut found = Vec::new();
        collect(&dir, &dir, &mut found);
        found.sort();
        fs::remove_dir_all(dir).unwrap();
        found
    }

    /// The results of a command are the same with each number of threads, and with other words in the place of `{}`.
    fn is_the_same(&self, words: &str, out: &str, variants: &[(usize, &str)]) {
        let mut first: Option<Vec<(PathBuf, Vec<u8>)>> = None;
        for (threads, variant) in variants {
            self.run(&words.replace("{}", variant), *threads);
            let results = self.take(out);
            assert!(!results.is_empty(), "{words}");
            let Some(first) = &first else {
                first = Some(results);
                continue;
            };
            assert_eq!(results.len(), first.len(), "{words}, {threads} threads, {variant}");
            // the record of an evaluation says the size of its batches
            let results = results.iter().zip(first).filter(|((name, _), _)| !name.ends_with("run.json"));
            for ((name, bytes), (_, expected)) in results {
                assert!(bytes == expected, "{words}, {threads} threads, {variant}: {} differs", name.display());
            }
        }
    }
}

fn collect(root: &Path, dir: &Path, found: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(root).unwrap().to_owned();
        if path.is_dir() {
            collect(root, &path, found);
        } else if name.ends_with("metrics.jsonl") {
            // the speed is its own in every run
            let text = fs::read_to_string(&path).unwrap();
            let mut records: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            records.iter_mut().for_each(|record| drop(record.as_object_mut().unwrap().remove("tokens_per_s")));
            found.push((name, serde_json::to_vec(&records).unwrap()));
        } else {
            found.push((name, fs::read(&path).unwrap()));
        }
    }
}

const THREADS: [(usize, &str); 4] = [(1, ""), (2, ""), (3, ""), (8, "")];

#[test]
fn training_gives_the_same_bytes_with_any_number_of_threads() {
    Desk::new().is_the_same("train @train.toml", "run", &THREADS);
}

#[test]
fn evaluation_gives_the_same_bytes_with_any_number_of_threads_and_any_batch() {
    let desk = Desk::new();
    let base = demo("base").display().to_string();
    let words =
        format!("eval {base} --suite @suite.jsonl --out @eval --engine native --samples 3 --cap 16 --batch {{}}");
    desk.is_the_same(&words, "eval", &[(1, "16"), (2, "1"), (3, "5"), (8, "16"), (2, "64")]);
}

#[test]
fn pairs_and_reports_give_the_same_bytes_with_any_number_of_threads() {
    let desk = Desk::new();
    let base = demo("base").display().to_string();
    let native = "--engine native --samples 4 --cap 16 --temperature 1.2";
    desk.is_the_same(&format!("pairs {base} --prompts @suite.jsonl --out @pairs {native}"), "pairs", &THREADS);
    for (out, seed) in [("a", 1), ("b", 2)] {
        desk.run(&format!("eval {base} --suite @suite.jsonl --out @{out} {native} --seed {seed} --name {out}"), 2);
    }
    desk.is_the_same("score @a/samples.jsonl --out @score", "score", &THREADS);
    let gate = "gate --baseline @a --candidate @b --out @gate/verdict.json --junit @gate/v.xml --markdown @gate/v.md";
    desk.is_the_same(gate, "gate", &THREADS);
    desk.is_the_same("leaderboard @a @b --out @board", "board", &THREADS);
}
