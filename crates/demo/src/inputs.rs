//! Files that ship inside the program: data, base model, configurations, suites, policy, recipe. Unpacked, so that every
//! stage of the demo works on ordinary files.

use std::path::{Path, PathBuf};

use smpo_files::{FileError, write_whole};
use smpo_recipe::{Recipe, RecipeError, Training};
use toml::{Table, Value};

use crate::DemoOptions;

macro_rules! shipped {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_bytes!(concat!("../../../", $path)))),*]
    };
}

/// Files at their places in the repository.
const FILES: &[(&str, &[u8])] = shipped![
    "recipes/demo.toml",
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
    /// Files that [`unpack`](Self::unpack) wrote before.
    pub fn of(out: &Path) -> Self {
        Inputs { out: out.to_owned() }
    }

    /// Writes what is missing or differs.
    pub fn unpack(out: &Path) -> Result<Self, FileError> {
        let inputs = Inputs::of(out);
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

    /// The shipped recipe on the unpacked files.
    pub fn recipe(&self, options: &DemoOptions) -> Result<Recipe, RecipeError> {
        let mut recipe = Recipe::read(&self.path("recipes/demo.toml"))?;
        recipe.out = Some(self.out.clone());
        recipe.seeds.clone_from(&options.seeds);
        recipe.jobs = options.threads;
        self.move_into(&mut recipe.model);
        for arm in &mut recipe.arms {
            arm.config = self.path(&arm.config.to_string_lossy());
            self.move_entry(&mut arm.set, "dataset");
        }
        for suite in recipe.eval.iter_mut().flat_map(|eval| &mut eval.suites) {
            *suite = self.path(&suite.to_string_lossy());
        }
        recipe.gate.iter_mut().for_each(|gate| self.move_entry(&mut gate.options, "policy"));
        recipe.board.iter_mut().for_each(|board| self.move_entry(board, "policy"));
        recipe.sft = options.from_scratch.then(|| {
            let data = self.path("datasets/demo/sft.jsonl.gz").to_string_lossy().into_owned();
            let set = Table::from_iter([("dataset".to_owned(), data.into()), ("device".to_owned(), "cpu".into())]);
            Training { config: self.path("configs/demo/sft.toml"), set, seeds: vec![1] }
        });
        Ok(recipe)
    }

    fn move_into(&self, path: &mut String) {
        *path = self.path(path).to_string_lossy().into_owned();
    }

    fn move_entry(&self, table: &mut Table, key: &str) {
        if let Some(Value::String(path)) = table.get_mut(key) {
            self.move_into(path);
        }
    }
}
