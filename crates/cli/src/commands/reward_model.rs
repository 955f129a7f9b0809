//! Reward models that other commands score with.

use std::path::Path;

use smpo_eval::weights;
use smpo_native::LabelModel;
use smpo_results::RewardModelInfo;

use crate::exit::{Failure, OrFail};

/// Loads a reward model, with what a run records of it. `flag` names the option that gave the directory.
pub fn open(flag: &str, dir: &Path) -> Result<(RewardModelInfo, LabelModel), Failure> {
    let named = |failure: Failure| failure.prefixed(format_args!("{flag}: "));
    let model = LabelModel::load_reward(dir, None).map_err(Failure::from).map_err(named)?;
    let weights_sha256 = weights::sha256(dir).or_execution_error()?;
    Ok((RewardModelInfo { source: dir.display().to_string(), weights_sha256 }, model))
}

/// The failure where no conversation fits into the model's context.
pub fn all_too_long(model: &Path, rows: usize) -> Failure {
    Failure::user(format!("{}: all {rows} rows are longer than the model's context", model.display()))
}
