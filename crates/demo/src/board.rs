//! The demo's leaderboard page.

use std::path::PathBuf;

use crate::evaluations::Evaluations;
use crate::inputs::Inputs;
use crate::verdicts::{Verdicts, policy};
use crate::{Ranking, Stages};

/// Writes the page and the files beside it; gives the page.
pub fn write<S: Stages>(
    inputs: &Inputs,
    evaluations: &Evaluations,
    verdicts: &Verdicts,
    stages: &S,
) -> Result<PathBuf, S::Error> {
    let out = inputs.dir("leaderboard");
    let rows = evaluations.rows.iter();
    let dirs: Vec<PathBuf> =
        rows.clone().map(|row| row.sampled.dir.clone()).chain(rows.map(|row| row.greedy.dir.clone())).collect();
    stages.leaderboard(Ranking {
        dirs: &dirs,
        out: &out,
        title: "Regular and modified SMPO on a tiny model",
        baseline: "base",
        policy: &policy(inputs)?,
        verdicts: verdicts.all().map(|(_, verdict)| verdict.clone()).to_vec(),
        seed: 42,
    })?;
    Ok(out.join("index.html"))
}
