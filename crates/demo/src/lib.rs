//! The experiment that ships with smpo: a base model and three arms on demo data, trained under several seeds, evaluated,
//! gated and ranked.
//!
//! [`run`] is the whole flow; [`Stages`] are the parts of it that are commands of their own, run by the caller with the
//! caller's engine and progress.

mod arms;
mod board;
mod evaluations;
mod findings;
mod inputs;
mod next_steps;
mod table;
mod verdicts;

use std::path::{Path, PathBuf};

use smpo_eval::{InputError, Options, Suite};
use smpo_files::FileError;
use smpo_gate::{GateError, Policy};
use smpo_report::verdict::text;
use smpo_results::{Decision, MetricsFile, Verdict, write_json};
use smpo_trainer::{Finish, TrainConfig, TrainError};

use self::evaluations::Evaluations;
use self::findings::Finding;
use self::inputs::Inputs;
use self::verdicts::Verdicts;

/// Training, evaluation and leaderboard, as the caller runs them.
pub trait Stages: Sync {
    /// The caller's error.
    type Error: From<TrainError> + From<InputError> + From<GateError> + From<DemoError> + Send;

    /// Trains one run; called from several threads.
    ///
    /// # Errors
    /// The caller's.
    fn train(&self, config: &TrainConfig, name: &str) -> Result<Finish, Self::Error>;

    /// Evaluates the model directory `options.model.source` with `engines` engines of one thread each; `None` when
    /// stopped.
    ///
    /// # Errors
    /// The caller's.
    fn evaluate(&self, suite: &Suite, options: Options, engines: usize) -> Result<Option<MetricsFile>, Self::Error>;

    /// Writes a leaderboard.
    ///
    /// # Errors
    /// The caller's.
    fn leaderboard(&self, ranking: Ranking<'_>) -> Result<(), Self::Error>;
}

/// Input of a leaderboard.
pub struct Ranking<'a> {
    /// Evaluation directories.
    pub dirs: &'a [PathBuf],
    /// Output directory.
    pub out: &'a Path,
    /// Title of the page.
    pub title: &'a str,
    /// Entry that others are compared with.
    pub baseline: &'a str,
    /// Policy whose margins are shown.
    pub policy: &'a Policy,
    /// Verdicts to show.
    pub verdicts: Vec<Verdict>,
    /// Seed of the bootstrap.
    pub seed: u64,
}

/// Errors of the demo's own files.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// A file that could not be written or hashed.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file of the schema.
    #[error(transparent)]
    Results(#[from] smpo_results::Error),
    /// A suite.
    #[error(transparent)]
    Suite(#[from] InputError),
    /// A recipe could not be written as TOML.
    #[error("cannot write a recipe: {0}")]
    Recipe(#[from] toml::ser::Error),
    /// No thread pool.
    #[error("cannot start a thread pool: {0}")]
    Threads(#[from] rayon::ThreadPoolBuildError),
}

/// Options of [`run`].
#[derive(Debug, Clone)]
pub struct DemoOptions {
    /// Output directory; an interrupted demo resumes from it.
    pub out: PathBuf,
    /// Training seeds, one run per arm and seed.
    pub seeds: Vec<u64>,
    /// Train the base model too.
    pub from_scratch: bool,
    /// Training runs and engines side by side.
    pub threads: usize,
}

/// Results of the demo.
pub struct Demo {
    out: PathBuf,
    inputs: Inputs,
    evaluations: Evaluations,
    verdicts: Verdicts,
    findings: Vec<Finding>,
    page: PathBuf,
}

/// Trains the arms, evaluates them at temperature 0.8 and greedily, gates modified SMPO against the others and ranks all.
/// `None` when stopped; the same call resumes.
///
/// # Errors
/// The stages', and those of the demo's own files.
pub fn run<S: Stages>(options: &DemoOptions, stages: &S) -> Result<Option<Demo>, S::Error> {
    let inputs = Inputs::unpack(&options.out).map_err(DemoError::from)?;
    let threads = options.threads;
    let Some(base) = arms::base(&inputs, options.from_scratch, stages)? else { return Ok(None) };
    let Some(models) = arms::train(&inputs, &base, &options.seeds, threads, stages)? else { return Ok(None) };
    let Some(evaluations) = evaluations::evaluate(&inputs, models, threads, stages)? else { return Ok(None) };
    let verdicts = verdicts::decide(&inputs, &evaluations)?;
    let write = |path: PathBuf, verdict: &Verdict| write_json(&path, "verdict", verdict).map_err(DemoError::from);
    write(options.out.join("verdict.json"), &verdicts.over_regular)?;
    for (name, verdict) in verdicts.all() {
        write(options.out.join("verdicts").join(format!("{name}.json")), verdict)?;
    }
    let page = board::write(&inputs, &evaluations, &verdicts, stages)?;
    let findings = findings::of(&evaluations);
    Ok(Some(Demo { out: options.out.clone(), inputs, evaluations, verdicts, findings, page }))
}

impl Demo {
    /// The decision on modified against regular SMPO, as in `verdict.json`.
    pub fn decision(&self) -> Decision {
        self.verdicts.over_regular.verdict
    }

    /// Table, verdicts, findings and next steps, for a terminal.
    pub fn text(&self, style: text::Style) -> [String; 4] {
        [
            table::render(&self.evaluations),
            verdicts::render(&self.verdicts, style),
            findings::render(&self.findings),
            next_steps::render(&self.out, &self.inputs, &self.page),
        ]
    }

    /// The same for programs.
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "table": table::rows(&self.evaluations),
            "verdicts": self.verdicts.all().into_iter().collect::<std::collections::BTreeMap<_, _>>(),
            "findings": self.findings,
            "leaderboard": self.page,
        })
    }
}
