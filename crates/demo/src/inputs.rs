//! Files that ship inside the program: data, base model, recipes, suites, policy. Unpacked, so that every stage of the
//! demo works on ordinary files.

use std::path::{Path, PathBuf};

use smpo_devices::Choice;
use smpo_files::{FileError, write_whole};
use smpo_trainer::{TrainConfig, TrainError};

macro_rules! shipped {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_bytes!(concat!("../../../", $path)))),*]
    };
}

/// Files at their places in the repository, from which the recipes and suites refer to each other.
const FILES: &[(&str, &[u8])] = shipped![
    "configs/demo/sft.toml",
    "configs/demo/control.toml",
    "configs/demo/regular.toml",
    "configs/demo/modified.toml",
    "datasets/demo/README.md",
    "datasets/demo/sft.jsonl.gz",
    "datasets/demo/preferences.jsonl",
    "datasets/demo/held_out.jsonl",
    "datasets/demo/ood.jsonl",
    "datasets/demo/base/config.json",
    "datasets/demo/base/generation_config.json",
    "datasets/demo/base/tokenizer.json",
    "datasets/demo/base/tokenizer_config.json",
    "datasets/demo/base/chat_template.jinja",
    "datasets/demo/base/model.safetensors",
    "evals/demo.toml",
    "evals/demo-greedy.toml",
    "evals/gates/demo.toml",
];

/// The demo's directory with the shipped files in it.
pub struct Inputs {
    out: PathBuf,
}

impl Inputs {
    /// Writes what is missing or differs.
    pub fn unpack(out: &Path) -> Result<Self, FileError> {
        let inputs = Inputs { out: out.to_owned() };
        for (path, bytes) in FILES {
            let target = inputs.path(path);
            if std::fs::read(&target).is_ok_and(|there| there == *bytes) {
                continue;
            }
            write_whole(&target, bytes)?;
        }
        Ok(inputs)
    }

    /// Path of a shipped file.
    pub fn path(&self, shipped: &str) -> PathBuf {
        self.out.join("inputs").join(shipped)
    }

    /// A directory of the demo.
    pub fn dir(&self, name: &str) -> PathBuf {
        self.out.join(name)
    }

    /// A shipped recipe on the unpacked data. `name` is the run's directory below `runs`.
    pub fn recipe(&self, recipe: &str, name: &str, model: &Path, seed: Option<u64>) -> Result<TrainConfig, TrainError> {
        let path = self.path(&format!("configs/demo/{recipe}.toml"));
        let mut config = TrainConfig::read(&path, &[])?.config;
        config.model_name_or_path = model.to_owned();
        config.output_dir = self.dir("runs").join(name);
        for dataset in &mut config.dataset {
            *dataset = self.path(&dataset.to_string_lossy());
        }
        // Several runs side by side, too small for a GPU; and the figures that ship with it are from a CPU.
        config.device = Choice::Cpu;
        config.seed = seed.unwrap_or(config.seed);
        Ok(config)
    }
}
