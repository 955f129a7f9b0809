//! A run started over: what an earlier run left is removed once the new one is known to start.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use smpo_files::resolved;
use smpo_model::ModelDir;

use crate::config::TrainConfig;
use crate::dry_run::dry_run;
use crate::error::TrainError;
use crate::resume::EarlierRun;
use crate::run_dir::RunDir;

/// Checks that a run can start over, then removes what an earlier one left in its directory. `alone` is false on several ranks, whose
/// memory is not that of one process. False if `stop` became true before.
///
/// # Errors
/// The first thing that would keep the run from starting; an input that would be removed. Nothing is removed then.
pub(crate) fn restart(config: &TrainConfig, dir: &RunDir, alone: bool, stop: &AtomicBool) -> Result<bool, TrainError> {
    keep_inputs(config, dir)?;
    let Some(found) = dry_run(config, EarlierRun::Restart, stop, &mut |_| {})? else { return Ok(false) };
    let counts = |error: &TrainError| alone || !matches!(error, TrainError::Memory(_));
    match found.errors.into_iter().find(counts) {
        Some(error) => Err(error),
        None => dir.discard().map(|()| true),
    }
}

/// The model that an adapter names as its base.
fn base_of(model: &Path) -> Option<PathBuf> {
    let opened = ModelDir::open(model, None).ok()?;
    opened.adapter().is_some().then(|| opened.weights().to_path_buf())
}

/// Refuses a model, template or data file that an earlier run in the directory made.
fn keep_inputs(config: &TrainConfig, dir: &RunDir) -> Result<(), TrainError> {
    let models = [&config.adapter_name_or_path, &config.reference_model_name_or_path].into_iter().flatten();
    let models: Vec<&PathBuf> = std::iter::once(&config.model_name_or_path).chain(models).collect();
    let bases: Vec<PathBuf> = models.iter().filter_map(|model| base_of(model)).collect();
    let template: Option<PathBuf> = config.template_file();
    let data = config.dataset.iter().chain(&config.eval_dataset).chain(config.probe.iter().map(|probe| &probe.prompts));
    let own: Vec<PathBuf> = dir.discarded().into_iter().map(|path| resolved(&path)).collect();
    match models
        .into_iter()
        .chain(&bases)
        .chain(&template)
        .chain(data)
        .find(|input| own.iter().any(|own| resolved(input).starts_with(own)))
    {
        None => Ok(()),
        Some(input) => {
            let message = format!(
                "starting over removes {}, which this run reads; copy it elsewhere, or choose another output_dir",
                input.display()
            );
            Err(TrainError::config(&dir.config(), None, message))
        }
    }
}
