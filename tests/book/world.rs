//! The directory that the book's commands run in.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use assert_cmd::cargo::cargo_bin;
use smpo_fixtures::{Gguf, demo, repository};
use tempfile::TempDir;

/// Configurations by the names that the pages give them, all of two steps on the demo's base.
const CONFIGS: [(&str, &str); 4] = [
    ("smpo.toml", "[loss]\nkind = \"smpo\"\n"),
    ("dpo.toml", "[loss]\nkind = \"dpo\"\n"),
    ("train.toml", "use_peft = true\nlora_r = 4\n[loss]\nkind = \"smpo\"\n"),
    ("reward.toml", "[loss]\nkind = \"reward\"\n"),
];

/// A file of TRL.
const THEIRS: &str = "model_name_or_path: MODEL\ndataset_name: pairs.jsonl\nbeta: 0.1\nloss_type: sigmoid\nmax_steps: 2\n\
                      learning_rate: 1.0e-4\nmax_length: 256\nreport_to: none\nbf16: false\n";

/// Runs and evaluations that the pages take for given.
const PREPARED: [&str; 8] = [
    "train dpo.toml",
    "train smpo.toml",
    "train smpo.toml --set output_dir=runs/sft",
    "train reward.toml",
    "eval MODEL --suite suite.toml --out runs/before",
    "eval runs/dpo/model --suite suite.toml --out runs/dpo/eval",
    "gate --baseline runs/before --candidate runs/dpo/eval --policy smoke --out verdict.json",
    "logps MODEL pairs.jsonl --out logps.jsonl",
];

/// Pages that start from nothing.
const FROM_NOTHING: [&str; 2] = ["README.md", "docs/tutorial.md"];

/// The directory as pages find it: files alone, and with what commands made of them.
pub struct World {
    bare: TempDir,
    prepared: TempDir,
}

fn head(of: &Path, rows: usize) -> String {
    let text = fs::read_to_string(of).unwrap();
    text.lines().take(rows).fold(String::new(), |all, line| all + line + "\n")
}

/// Copies a directory with the links in it.
fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status().unwrap();
    assert!(status.success());
}

impl World {
    /// Files, then what commands make of them.
    pub fn new() -> Self {
        let world = World { bare: tempfile::tempdir().unwrap(), prepared: tempfile::tempdir().unwrap() };
        world.models();
        world.data();
        copy(world.bare.path(), world.prepared.path());
        for command in PREPARED {
            let mut smpo = Command::new(cargo_bin("smpo"));
            let output = smpo.args(command.split(' ')).current_dir(world.prepared.path()).output().unwrap();
            let verdict = command.starts_with("gate") && matches!(output.status.code(), Some(1 | 3));
            assert!(output.status.success() || verdict, "{command}: {}", String::from_utf8_lossy(&output.stderr));
        }
        world
    }

    /// A copy for one page.
    pub fn copy(&self, page: &str) -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        let from = if FROM_NOTHING.contains(&page) { &self.bare } else { &self.prepared };
        copy(from.path(), dir.path());
        dir
    }

    fn path(&self, name: &str) -> PathBuf {
        let path = self.bare.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path(name), text).unwrap();
    }

    /// The demo's base in the place of every model, as a directory and as a GGUF file.
    fn models(&self) {
        for name in ["MODEL", "models/baseline", "models/candidate"] {
            let dir = self.path(name);
            fs::create_dir(&dir).unwrap();
            copy(&demo("base"), &dir);
        }
        let gguf = Gguf::of_model(&demo("base"), "qwen2").with_tokenizer(&demo("base"));
        for name in ["model.gguf", "SmolLM2-135M-Instruct.Q4_1.gguf"] {
            self.write(name, gguf.bytes());
        }
        let [first, second] = gguf.split_in_two();
        self.write("model-00001-of-00002.gguf", first);
        self.write("model-00002-of-00002.gguf", second);
        fs::create_dir(self.path("home")).unwrap();
    }

    /// Pairs, prompts, answers, configurations; what the repository ships, by links.
    fn data(&self) {
        for name in ["configs", "datasets", "evals", "recipes", "examples"] {
            std::os::unix::fs::symlink(repository().join(name), self.path(name)).unwrap();
        }
        let pairs = head(&demo("preferences.jsonl"), 64);
        for name in ["pairs.jsonl", "train.jsonl"] {
            self.write(name, &pairs);
        }
        self.write("heldout.jsonl", head(&demo("held_out.jsonl"), 16));
        let rows = |end: &str| -> String {
            let row = |i: usize| format!("{{\"prompt\": \"What is {i} + 1?\", \"completion\": \"{}\"{end}}}\n", i + 1);
            (0..40).map(row).collect()
        };
        self.write("rows.jsonl", rows(""));
        self.write("answers.jsonl", rows(", \"finish_reason\": \"stop\""));
        self.write("answers/baseline.jsonl", rows(", \"finish_reason\": \"stop\""));
        self.write("answers/candidate.jsonl", rows(", \"finish_reason\": \"length\""));
        self.write("prompts.jsonl", head(&demo("ood.jsonl"), 24));
        self.write("suite.toml", "name = \"suite\"\nprompts = \"prompts.jsonl\"\nslices = [\"closed\", \"day\", \"story\", \"poem\", \"describe\", \"list\", \"steps\"]\ncap = 32\n[sampler]\ntemperature = 0.8\n");
        for (name, rest) in CONFIGS {
            let kind = name.split('.').next().unwrap();
            let text = format!(
                "model_name_or_path = \"MODEL\"\ndataset = \"pairs.jsonl\"\noutput_dir = \"runs/{kind}\"\nmax_steps = 2\n\
                 per_device_train_batch_size = 4\nmax_length = 256\nlearning_rate = 1e-4\n{rest}"
            );
            self.write(name, text);
        }
        self.write("their-dpo.yaml", THEIRS);
        for model in ["base", "candidate"] {
            let row = |id: usize| {
                format!(
                    "{{\"question_id\": {id}, \"model_id\": \"{model}\", \"choices\": [{{\"turns\": [\"Answer {id}.\"]}}]}}\n"
                )
            };
            self.write(&format!("model_answer/{model}.jsonl"), (0..40).map(row).collect::<String>());
        }
        for shard in ["shard-1.jsonl", "shard-2.jsonl"] {
            self.write(shard, rows(", \"finish_reason\": \"stop\""));
            assert!(Command::new("gzip").arg(self.path(shard)).status().unwrap().success());
        }
        let question = |id: usize| format!("{{\"question_id\": {id}, \"turns\": [\"Question {id}?\"]}}\n");
        self.write("question.jsonl", (0..40).map(question).collect::<String>());
    }
}
