//! The experiment that ships with smpo: a base model and three arms on demo data, trained under several seeds, evaluated,
//! gated and ranked by the shipped recipe.
//!
//! [`unpack`] gives the recipe, the caller runs it, [`read`](Demo::read) reads what came out.

mod arms;
mod evaluations;
mod findings;
mod inputs;
mod next_steps;
mod table;
mod verdicts;

use std::path::PathBuf;

use smpo_eval::InputError;
use smpo_files::FileError;
use smpo_gate::GateError;
use smpo_recipe::{Recipe, RecipeError};
use smpo_report::verdict::text;
use smpo_results::{Decision, Verdict, write_json};

use self::evaluations::Evaluations;
use self::findings::Finding;
use self::inputs::Inputs;
use self::verdicts::Verdicts;

/// Errors of the demo.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// A file that could not be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file of the schema.
    #[error(transparent)]
    Results(#[from] smpo_results::Error),
    /// A suite.
    #[error(transparent)]
    Suite(#[from] InputError),
    /// A gate.
    #[error(transparent)]
    Gate(#[from] GateError),
    /// The recipe.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
}

/// Options of the demo.
#[derive(Debug, Clone)]
pub struct DemoOptions {
    /// Output directory; an interrupted demo resumes from it.
    pub out: PathBuf,
    /// Training seeds, one run per arm and seed.
    pub seeds: Vec<u64>,
    /// Train the base model too.
    pub from_scratch: bool,
    /// Stages side by side, each on one thread: the model is so small that this is faster than one on all.
    pub threads: usize,
}

/// Writes the shipped files into the output directory, and gives the recipe on them.
///
/// # Errors
/// A file that cannot be written.
pub fn unpack(options: &DemoOptions) -> Result<Recipe, DemoError> {
    Ok(Inputs::unpack(&options.out)?.recipe(options)?)
}

/// Results of the demo.
pub struct Demo {
    options: DemoOptions,
    inputs: Inputs,
    evaluations: Evaluations,
    verdicts: Verdicts,
    findings: Vec<Finding>,
}

impl Demo {
    /// Reads the results of the recipe that [`unpack`] gave, gates modified SMPO against the others, and writes the verdicts.
    ///
    /// # Errors
    /// A result that cannot be read or written.
    pub fn read(options: DemoOptions) -> Result<Self, DemoError> {
        let inputs = Inputs::of(&options.out);
        let evaluations = Evaluations::read(&inputs, &options)?;
        let verdicts = verdicts::decide(&inputs, &evaluations)?;
        let write = |path: PathBuf, verdict: &Verdict| write_json(&path, "verdict", verdict);
        write(options.out.join("verdict.json"), &verdicts.over_regular)?;
        for (name, verdict) in verdicts.all() {
            write(options.out.join("verdicts").join(format!("{name}.json")), verdict)?;
        }
        let findings = findings::of(&evaluations);
        Ok(Demo { options, inputs, evaluations, verdicts, findings })
    }

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
            next_steps::render(&self.options.out, &self.inputs, &self.page()),
        ]
    }

    /// The same for programs.
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "schema": 1,
            "table": table::rows(&self.evaluations),
            "verdicts": self.verdicts.all().into_iter().collect::<std::collections::BTreeMap<_, _>>(),
            "findings": self.findings,
            "leaderboard": self.page(),
        })
    }

    fn page(&self) -> PathBuf {
        self.options.out.join("leaderboard").join("index.html")
    }
}
