//! The demo's leaderboard page.

use std::path::PathBuf;

use super::evaluations::Evaluations;
use super::inputs::Inputs;
use super::verdicts::{Verdicts, policy};
use crate::commands::leaderboard::{Site, write as write_site};
use crate::exit::Failure;

/// Writes the page and what lies beside it; gives the page.
pub fn write(inputs: &Inputs, evaluations: &Evaluations, verdicts: &Verdicts) -> Result<PathBuf, Failure> {
    let out = inputs.dir("leaderboard");
    let rows = evaluations.0.iter();
    let dirs: Vec<PathBuf> =
        rows.clone().map(|row| row.sampled.dir.clone()).chain(rows.map(|row| row.greedy.dir.clone())).collect();
    write_site(Site {
        dirs: &dirs,
        out: &out,
        title: "Regular and modified SMPO on a tiny model",
        baseline: Some("base"),
        policy: &policy(inputs)?,
        verdicts: verdicts.all().map(|(_, verdict)| verdict.clone()).to_vec(),
        seed: 42,
    })?;
    Ok(out.join("index.html"))
}
