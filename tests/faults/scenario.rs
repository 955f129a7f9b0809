//! The commands that meet faults, each in a directory of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use smpo_fixtures::http::Server;
use smpo_fixtures::{Gguf, demo};

use crate::shim::{Kind, Shim};
use crate::tree::{self, Tree};

/// Directories, files and the server of a scenario's command.
pub struct Place {
    dir: tempfile::TempDir,
    server: Server,
}

/// Calls that are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Below {
    /// Those on the command's own directories.
    Outputs,
    /// Those on the files that it reads.
    Inputs,
    /// Those on its sockets.
    Sockets,
}

/// A server whose answer is a function of the question alone.
fn server() -> Server {
    Server::start(|_, body: &Value| {
        let asked = body["messages"][0]["content"].as_str().unwrap_or_default();
        let answer: String = asked.chars().rev().filter(|c| c.is_alphanumeric() || *c == ' ').collect();
        let choice = json!({"message": {"content": answer}, "finish_reason": "stop"});
        ("200 OK", json!({"choices": [choice], "usage": {"completion_tokens": asked.len()}}).to_string())
    })
}

impl Place {
    fn new() -> Self {
        let place = Place { dir: tempfile::tempdir().unwrap(), server: server() };
        let lines = |file: &str, n: usize| -> String {
            fs::read_to_string(demo(file)).unwrap().lines().take(n).map(|line| format!("{line}\n")).collect()
        };
        for dir in ["in", "out", "scratch"] {
            fs::create_dir(place.path(dir)).unwrap();
        }
        tree::copy(&demo("base"), &place.path("in/base"));
        fs::write(place.path("in/pairs.jsonl"), lines("preferences.jsonl", 12)).unwrap();
        fs::write(place.path("in/suite.jsonl"), lines("ood.jsonl", 2)).unwrap();
        let long =
            |id: usize| json!({"id": id, "prompt": format!("{id}?"), "completion": format!("{id} and ").repeat(800)});
        let rows: String = (0..24).map(|id| format!("{}\n", long(id))).collect();
        fs::write(place.path("in/long.jsonl"), rows).unwrap();
        let config = format!(
            "model_name_or_path = {:?}\noutput_dir = {:?}\ndataset = {:?}\nmax_length = 96\nper_device_train_batch_size = 2\n\
             max_steps = 4\nsave_steps = 2\nlearning_rate = 1e-4\nreport_to = [\"tensorboard\"]\n[loss]\nkind = \"simpo\"\n",
            place.path("in/base"),
            place.path("out/run"),
            place.path("in/pairs.jsonl"),
        );
        fs::write(place.path("in/train.toml"), config).unwrap();
        place
    }

    /// A path in the directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A command; a word that begins with `@` is a path here, and `%` the server's URL.
    pub fn command(&self, words: &str) -> Command {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin("smpo"));
        command.env_remove("OPENAI_API_KEY").env("RAYON_NUM_THREADS", "1").current_dir(self.dir.path());
        for word in words.split_whitespace() {
            match (word, word.strip_prefix('@')) {
                ("%", _) => command.arg(&self.server.url),
                (_, Some(name)) => command.arg(self.path(name)),
                (_, None) => command.arg(word),
            };
        }
        command
    }

    fn prepare(&self, words: &str) {
        let output = self.command(words).output().unwrap();
        assert!(output.status.success(), "{words}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn shim<R>(&self, below: Below, work: impl FnOnce(&Shim<'_>) -> R) -> R {
        let below = match below {
            Below::Outputs => self.path("out").display().to_string(),
            Below::Inputs => self.path("in").display().to_string(),
            Below::Sockets => "socket:".to_owned(),
        };
        work(&Shim { below, scratch: &self.path("scratch") })
    }
}

/// A command with its state before and its result.
pub struct Scenario {
    name: &'static str,
    words: &'static str,
    place: Place,
    below: Below,
    before: Tree,
    whole: Tree,
    code: i32,
}

/// Name, commands that prepare inputs, commands that leave an earlier state, and the command itself.
type Line = (&'static str, &'static [&'static str], &'static [&'static str], &'static str);

const EVAL: &str = "eval @in/base --suite @in/suite.jsonl --out @in/eval --engine native --samples 2 --cap 8";
const OTHER: &str =
    "eval @in/base --suite @in/suite.jsonl --out @in/other --engine native --samples 2 --cap 8 --seed 3 --name other";

/// Every scenario by its name.
const SCENARIOS: [Line; 12] = [
    ("train", &[], &[], "train @in/train.toml --threads 1"),
    (
        "train over earlier results",
        &[],
        &["train @in/train.toml --set learning_rate=2e-4"],
        "train @in/train.toml --threads 1 --restart",
    ),
    ("eval", &[], &[], "eval @in/base --suite @in/suite.jsonl --out @out/eval --engine native --samples 2 --cap 8"),
    (
        "pairs",
        &[],
        &[
            "pairs @in/base --prompts @in/suite.jsonl --out @out/pairs --engine native --samples 3 --cap 8 --temperature 1.3 --policy groups",
        ],
        "pairs @in/base --prompts @in/suite.jsonl --out @out/pairs --engine native --samples 3 --cap 8 --temperature 1.3",
    ),
    (
        "score",
        &[EVAL, OTHER],
        &["score @in/other/samples.jsonl --out @out/score"],
        "score @in/eval/samples.jsonl --out @out/score",
    ),
    (
        "score of more than memory holds",
        &[EVAL, OTHER],
        &["score @in/other/samples.jsonl --out @out/score"],
        "score @in/long.jsonl --out @out/score",
    ),
    (
        "gate",
        &[EVAL, OTHER],
        &[
            "gate --baseline @in/other --candidate @in/other --policy smoke --out @out/v/verdict.json --junit @out/v/verdict.xml --inconclusive pass",
        ],
        "gate --baseline @in/eval --candidate @in/other --policy smoke --out @out/v/verdict.json --junit @out/v/verdict.xml \
         --markdown @out/v/verdict.md --inconclusive pass",
    ),
    (
        "eval of a server",
        &[],
        &[],
        "eval % --model served --suite @in/suite.jsonl --out @out/eval --samples 2 --concurrency 2",
    ),
    ("merge", &[], &[], "merge @in/base @in/base --out @out/merged"),
    ("export", &[], &[], "export @in/base --out @out/exported --dtype bfloat16 --max-shard-size 0.001"),
    ("convert", &[], &[], "convert @in/model.gguf @out/converted"),
    (
        "leaderboard",
        &[EVAL, OTHER],
        &["leaderboard @in/other --out @out/board"],
        "leaderboard @in/eval @in/other --out @out/board --title Two",
    ),
];

/// Commands that take an output directory which holds nothing.
const REFUSES_RESULTS: [&str; 3] = ["merge", "export", "convert"];

/// The names of all scenarios.
pub fn names() -> impl Iterator<Item = &'static str> {
    SCENARIOS.iter().map(|line| line.0)
}

impl Scenario {
    /// Prepares a scenario and takes its result. Calls `below` count.
    pub fn new(name: &str, below: Below) -> Self {
        let (name, inputs, earlier, words) = *SCENARIOS.iter().find(|line| line.0 == name).unwrap();
        let place = Place::new();
        if name == "convert" {
            let gguf = Gguf::of_model(&demo("base"), "qwen2").with_tokenizer(&demo("base")).bytes();
            fs::write(place.path("in/model.gguf"), gguf).unwrap();
        }
        inputs.iter().for_each(|words| place.prepare(words));
        earlier.iter().for_each(|words| place.prepare(words));
        tree::copy(&place.path("out"), &place.path("before"));
        let before = tree::read(&place.path("out"));
        let output = place.command(words).output().unwrap();
        let code = output.status.code().unwrap();
        assert!(code == 0, "{name}: {}", String::from_utf8_lossy(&output.stderr));
        let whole = tree::read(&place.path("out"));
        assert!(!tree::differences(&whole, &before).is_empty(), "{name} changes nothing");
        Scenario { name, words, place, below, before, whole, code }
    }

    /// Puts the state before the command back.
    fn reset(&self) {
        fs::remove_dir_all(self.place.path("out")).unwrap();
        tree::copy(&self.place.path("before"), &self.place.path("out"));
    }

    /// The paths of the calls that a kind of fault meets, in order.
    pub fn calls(&self, kind: Kind) -> Vec<String> {
        self.reset();
        let (calls, output) =
            self.place.shim(self.below, |shim| shim.count(self.place.command(self.words), Some(kind)));
        assert_eq!(output.status.code(), Some(self.code), "{}: {}", self.name, String::from_utf8_lossy(&output.stderr));
        calls.into_iter().map(|call| call.path).collect()
    }

    /// Lets the `at`th call meet a fault. Returns every promise that is broken, in words.
    pub fn meet(&self, kind: Kind, at: usize) -> Vec<String> {
        self.reset();
        let (call, output) = self.place.shim(self.below, |shim| shim.run(self.place.command(self.words), kind, at));
        let Some(call) = call else { return Vec::new() };
        let mut broken = Vec::new();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        if stderr.contains("panicked") {
            broken.push("it panics".to_owned());
        }
        let after = tree::read(&self.place.path("out"));
        match output.status.code() {
            None if kind.kills() || kind.0 == "term" => {}
            Some(130) if kind.0 == "term" => {}
            None => broken.push(format!("it ends by {:?}", output.status)),
            Some(code) if code == self.code => {
                let different = tree::differences(&after, &self.whole);
                let different: Vec<_> = different.into_iter().filter(|name| !name.contains(".partial")).collect();
                if !different.is_empty() {
                    broken.push(format!("exit code {code}, and {different:?}"));
                }
            }
            Some(code) if kind.is_harmless() => broken.push(format!("exit code {code}")),
            // of a torn write the next call failed, on another file perhaps
            Some(4) if kind.0 == "torn" || names_path(&stderr, &call.path) => {}
            Some(4) => broken.push("the message does not name the path".to_owned()),
            Some(code) => broken.push(format!("exit code {code}")),
        }
        let mut halves =
            if kind.0.starts_with("power") { Vec::new() } else { tree::halves(&after, &self.before, &self.whole) };
        // An interrupted training has a checkpoint more, which the retry removes.
        halves.retain(|name| kind.0 != "term" || !name.contains("/checkpoints/step-"));
        if !halves.is_empty() {
            broken.push(format!("neither as before nor as in the end: {halves:?}"));
        }
        // a whole result is not written over
        let is_there = REFUSES_RESULTS.contains(&self.name) && tree::differences(&after, &self.whole).is_empty();
        if !is_there {
            broken.extend(self.retry());
        }
        let label = format!("{}: {} at call {at}, {} {}", self.name, kind.0, call.name, call.path);
        broken
            .into_iter()
            .map(|broken| format!("{label}: {broken}\n    {}", stderr.trim().replace('\n', "\n    ")))
            .collect()
    }

    /// Runs the command twice at once. Returns every promise that is broken, in words.
    pub fn twice(&self) -> Vec<String> {
        self.reset();
        let begin = || self.place.command(self.words).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let both = [begin(), begin()].map(|child| child.wait_with_output().unwrap());
        let said = |output: &Output| String::from_utf8_lossy(&output.stderr).trim().to_owned();
        let mut broken = Vec::new();
        let refuses = REFUSES_RESULTS.contains(&self.name);
        for output in &both {
            match output.status.code() {
                Some(code) if code == self.code => {}
                // busy, or the other was there first
                Some(4) => {}
                Some(2) if refuses => {}
                _ => broken.push(format!("{}: one of two ends with {:?}: {}", self.name, output.status, said(output))),
            }
        }
        if both.iter().all(|output| output.status.code() != Some(self.code)) {
            broken.push(format!("{}: none of two succeeds: {}", self.name, said(&both[0])));
        }
        let different = tree::differences(&tree::read(&self.place.path("out")), &self.whole);
        if !different.is_empty() {
            broken.push(format!("{}: after two at once {different:?}", self.name));
        }
        broken
    }

    /// The same command once more, without a fault.
    fn retry(&self) -> Vec<String> {
        let output: Output = self.place.command(self.words).output().unwrap();
        if output.status.code() != Some(self.code) {
            let stderr = String::from_utf8_lossy(&output.stderr);
            return vec![format!("the retry ends with {:?}: {}", output.status.code(), stderr.trim())];
        }
        let different = tree::differences(&tree::read(&self.place.path("out")), &self.whole);
        if different.is_empty() { Vec::new() } else { vec![format!("after the retry {different:?}")] }
    }
}

/// True if a message names the file of a call, the target of a temporary one, or its directory.
fn names_path(message: &str, path: &str) -> bool {
    if message.contains(path) {
        return true;
    }
    let mut named = Vec::new();
    for part in Path::new(path).components() {
        let part = part.as_os_str().to_str().unwrap();
        let temporary = part.strip_prefix('.').and_then(|part| part.strip_suffix(".partial"));
        named.push(temporary.and_then(|part| part.rsplit_once('.')).map_or(part, |(name, _)| name));
    }
    let path: PathBuf = named.iter().collect();
    path.ancestors().take_while(|at| at.components().count() > 3).any(|at| message.contains(at.to_str().unwrap()))
}
