//! The file.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use smpo_files::{FileError, line_at};
use toml::Table;

use crate::RecipeError;
use crate::plan::stem;

/// An experiment. Paths in it are relative to the working directory, as in training configurations.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Name; the file's where it is absent.
    #[serde(default)]
    pub name: String,
    /// Output directory; `runs/NAME` where it is absent.
    pub out: Option<PathBuf>,
    /// The model that everything starts from: directory, or name of the Hugging Face Hub.
    pub model: String,
    /// Training seeds of every arm.
    #[serde(default = "one")]
    pub seeds: Vec<u64>,
    /// Stages side by side.
    #[serde(default = "one_job")]
    pub jobs: usize,
    /// Fine-tuning that all arms start from.
    pub sft: Option<Training>,
    /// Options of `smpo pairs`, on the fine-tuned model or the first; its pairs are the arms' `dataset`.
    pub pairs: Option<Table>,
    /// The configurations under comparison.
    #[serde(default, rename = "arm")]
    pub arms: Vec<Arm>,
    /// Evaluation.
    pub eval: Option<Evaluation>,
    /// Comparison of the arms with the baseline.
    pub gate: Option<Gate>,
    /// Options of `smpo leaderboard`.
    pub board: Option<Table>,
    /// The file it was read from.
    #[serde(skip)]
    pub path: PathBuf,
}

/// A training run.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// Training configuration.
    pub config: PathBuf,
    /// Settings that replace its own.
    #[serde(default)]
    pub set: Table,
    /// Seeds; every arm is trained from each.
    #[serde(default = "one")]
    pub seeds: Vec<u64>,
}

/// A training configuration under comparison.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arm {
    /// Name in files and reports.
    pub name: String,
    /// Training configuration.
    pub config: PathBuf,
    /// Settings that replace its own.
    #[serde(default)]
    pub set: Table,
    /// Weight of the trained model in a linear merge with the model that it was trained from; none: no merge.
    pub merge: Option<f64>,
}

/// Evaluation of every arm and of the model before.
#[derive(Debug, Clone, Deserialize)]
pub struct Evaluation {
    /// Suites.
    pub suites: Vec<PathBuf>,
    /// Options of `smpo eval`.
    #[serde(flatten)]
    pub options: Table,
}

/// Gate of every arm against the baseline.
#[derive(Debug, Clone, Deserialize)]
pub struct Gate {
    /// Name of an arm, or `start`: the model that the arms are trained from.
    #[serde(default = "start")]
    pub baseline: String,
    /// Options of `smpo gate`.
    #[serde(flatten)]
    pub options: Table,
}

/// Arm of the model that the others are trained from.
pub const START: &str = "start";

fn start() -> String {
    START.to_owned()
}

fn one() -> Vec<u64> {
    vec![1]
}

fn one_job() -> usize {
    1
}

/// Keys of the file, for "did you mean".
const KEYS: [&str; 16] = [
    "name", "out", "model", "seeds", "jobs", "sft", "pairs", "arm", "eval", "gate", "board", "config", "set", "merge",
    "suites", "baseline",
];

impl Recipe {
    /// Reads a recipe and checks it against itself.
    ///
    /// # Errors
    /// [`RecipeError`], with the line.
    pub fn read(path: &Path) -> Result<Recipe, RecipeError> {
        let text = std::fs::read_to_string(path).map_err(FileError::at(path, "read"))?;
        let mut recipe: Recipe = toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(1, |span| line_at(&text, span.start));
            let message = smpo_suggest::expected_and_got(error.message().trim());
            let unknown = message.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next());
            let hint = unknown.map(|field| smpo_suggest::did_you_mean(field, KEYS)).unwrap_or_default();
            RecipeError::Line { path: path.to_owned(), line, problem: format!("{message}{hint}") }
        })?;
        if recipe.name.is_empty() {
            recipe.name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        }
        recipe.path = path.to_owned();
        match recipe.problem() {
            Some(problem) => Err(RecipeError::Whole { path: path.to_owned(), problem }),
            None => Ok(recipe),
        }
    }

    /// Output directory.
    pub fn out(&self) -> PathBuf {
        self.out.clone().unwrap_or_else(|| Path::new("runs").join(&self.name))
    }

    /// The first contradiction.
    fn problem(&self) -> Option<String> {
        let distinct = |what: &str, seeds: &[u64]| {
            let mut seen = HashSet::new();
            match seeds.iter().find(|seed| !seen.insert(**seed)) {
                Some(twice) => Some(format!("{what}: the seed {twice} is given twice")),
                None if seeds.is_empty() => Some(format!("{what}: expected at least one seed, got none")),
                None => None,
            }
        };
        if let Some(problem) = distinct("seeds", &self.seeds) {
            return Some(problem);
        }
        if let Some(problem) = self.sft.as_ref().and_then(|sft| distinct("sft.seeds", &sft.seeds)) {
            return Some(problem);
        }
        if self.jobs == 0 {
            return Some("jobs: expected at least 1, got 0".into());
        }
        let mut names = HashSet::from([START]);
        for Arm { name, merge, .. } in &self.arms {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            if name.is_empty() || !name.chars().all(plain) || name.starts_with('.') {
                return Some(format!("arm: expected a name of letters, digits, `-`, `_` and `.`, got {name:?}"));
            }
            if !names.insert(name) {
                let taken =
                    if name == START { "the model that the arms start from has that name" } else { "given twice" };
                return Some(format!("arm {name:?}: {taken}"));
            }
            if merge.is_some_and(|weight| !(0.0..=1.0).contains(&weight)) {
                return Some(format!(
                    "arm {name:?}: merge: expected a weight from 0 to 1, got {}",
                    merge.unwrap_or_default()
                ));
            }
        }
        if let Some(problem) = self.settings_of_its_own() {
            return Some(problem);
        }
        if !self.arms.is_empty() && self.pairs.as_ref().and_then(|pairs| pairs.get("rows")?.as_str()) == Some("ela") {
            return Some(
                "pairs: rows: the arms train on pairs.jsonl, which `ela` does not write; remove it, or the arms".into(),
            );
        }
        if let Some(problem) = self.eval.as_ref().and_then(|eval| equal_stems(&eval.suites)) {
            return Some(problem);
        }
        if self.sft.is_none() && self.pairs.is_none() && self.arms.is_empty() && self.eval.is_none() {
            return Some("nothing to do; add [sft], [pairs], [[arm]] or [eval]".into());
        }
        if let Some(Gate { baseline, .. }) = &self.gate {
            if !names.contains(baseline.as_str()) {
                let hint = smpo_suggest::did_you_mean(baseline, names.iter().copied());
                return Some(format!("gate: baseline: there is no arm {baseline:?}{hint}"));
            }
            if self.eval.is_none() {
                return Some("[gate] compares evaluations; add [eval]".into());
            }
        }
        let of_board = self.board.as_ref().and_then(|board| board.get("baseline")?.as_str());
        let is_run = |wanted: &str| {
            let of_arm = |rest: &str| rest.is_empty() || rest.starts_with('-');
            names.iter().any(|name| wanted.strip_prefix(name).is_some_and(of_arm))
        };
        if let Some(baseline) = of_board.filter(|baseline| !is_run(baseline)) {
            let hint = smpo_suggest::did_you_mean(baseline, names.iter().copied());
            return Some(format!("board: baseline: there is no arm {baseline:?}{hint}"));
        }
        if self.board.is_some() && self.eval.is_none() {
            return Some("[board] shows evaluations; add [eval]".into());
        }
        if self.eval.as_ref().is_some_and(|eval| eval.suites.is_empty()) {
            return Some("eval: suites: expected at least one, got none".into());
        }
        None
    }

    /// A setting of a training that the recipe gives itself, and would replace.
    fn settings_of_its_own(&self) -> Option<String> {
        let of_pairs = self.pairs.is_some().then_some(("dataset", "arms train on the rows of [pairs]"));
        let arms = self.arms.iter().map(|arm| (format!("arm {:?}", arm.name), &arm.set, of_pairs));
        let sft = self.sft.iter().map(|sft| ("sft".to_owned(), &sft.set, None));
        let own = [
            ("seed", "`seeds` has the seeds"),
            ("output_dir", "directories go by `out` and the names of stages"),
            ("model_name_or_path", "`model` is the model that all start from"),
        ];
        sft.chain(arms).find_map(|(place, set, more)| {
            let (key, why) = own.into_iter().chain(more).find(|(key, _)| set.contains_key(*key))?;
            Some(format!("{place}: set: `{key}` is the recipe's to set: {why}"))
        })
    }
}

/// Two suites whose stages would have one name and directory.
fn equal_stems(suites: &[PathBuf]) -> Option<String> {
    let earlier = |at: usize| suites[..at].iter().find(|first| stem(first) == stem(&suites[at]));
    let (first, second) = (0..suites.len()).find_map(|at| Some((earlier(at)?, &suites[at])))?;
    Some(format!(
        "eval.suites: {} and {} have one name, by which their directories go; rename one",
        first.display(),
        second.display()
    ))
}
