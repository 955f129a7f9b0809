//! Training: the base model, and from it every arm under every seed.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use smpo_trainer::{Finish, RunDir, TrainConfig};

use crate::inputs::Inputs;
use crate::{DemoError, Stages};

/// An arm of the experiment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arm {
    /// The base model itself.
    Base,
    /// SFT on chosen: the control for the preference losses.
    Control,
    /// Regular SMPO.
    Regular,
    /// Modified SMPO.
    Modified,
}

impl Arm {
    /// Every arm, in the order of the table.
    pub const ALL: [Arm; 4] = [Arm::Base, Arm::Control, Arm::Regular, Arm::Modified];

    /// Name in files.
    pub fn id(self) -> &'static str {
        match self {
            Arm::Base => "base",
            Arm::Control => "control",
            Arm::Regular => "regular",
            Arm::Modified => "modified",
        }
    }

    /// Title in tables.
    pub fn title(self) -> &'static str {
        match self {
            Arm::Base => "base (before)",
            Arm::Control => "SFT on chosen (control)",
            Arm::Regular => "regular SMPO",
            Arm::Modified => "modified SMPO",
        }
    }
}

/// A trained checkpoint.
#[derive(Debug, Clone)]
pub struct Model {
    /// Its arm.
    pub arm: Arm,
    /// Its training seed; none for the base model.
    pub seed: Option<u64>,
    /// Its directory.
    pub dir: PathBuf,
}

impl Model {
    /// Its name in files and progress.
    pub fn name(&self) -> String {
        match self.seed {
            Some(seed) => format!("{}-{seed}", self.arm.id()),
            None => self.arm.id().to_owned(),
        }
    }
}

/// The base model: the shipped one, or one trained here by the shipped recipe. `None` when stopped by Ctrl-C.
pub fn base<S: Stages>(inputs: &Inputs, from_scratch: bool, stages: &S) -> Result<Option<Model>, S::Error> {
    let shipped = inputs.path("datasets/demo/base");
    if !from_scratch {
        return Ok(Some(Model { arm: Arm::Base, seed: None, dir: shipped }));
    }
    let config = inputs.recipe("sft", "base", &shipped, None)?;
    Ok(match stages.train(&config, "base")? {
        Finish::Done { model, .. } => Some(Model { arm: Arm::Base, seed: None, dir: model }),
        Finish::Stopped { .. } => None,
    })
}

/// All arms under all seeds, the base model first. `None` when stopped by Ctrl-C.
///
/// The model is so small that several runs side by side, each on one thread, are faster than one on all threads.
pub fn train<S: Stages>(
    inputs: &Inputs,
    base: &Model,
    seeds: &[u64],
    threads: usize,
    stages: &S,
) -> Result<Option<Vec<Model>>, S::Error> {
    let mut jobs: Vec<(Model, TrainConfig)> = Vec::new();
    for &seed in seeds {
        for arm in [Arm::Control, Arm::Regular, Arm::Modified] {
            let mut model = Model { arm, seed: Some(seed), dir: PathBuf::new() };
            let config = inputs.recipe(arm.id(), &model.name(), &base.dir, Some(seed))?;
            model.dir = RunDir::new(&config.output_dir).model();
            jobs.push((model, config));
        }
    }
    write_recipes(inputs, &jobs)?;

    let next = AtomicUsize::new(0);
    let outcomes: Mutex<Vec<Result<Finish, S::Error>>> = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads.min(jobs.len()) {
            scope.spawn(|| {
                while let Some((model, config)) = jobs.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let outcome = on_one_thread(|| stages.train(config, &model.name()));
                    let failed = outcome.is_err();
                    outcomes.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(outcome);
                    if failed {
                        next.store(jobs.len(), Ordering::SeqCst);
                    }
                }
            });
        }
    });
    let outcomes = outcomes.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    for outcome in outcomes {
        if let Finish::Stopped { .. } = outcome? {
            return Ok(None);
        }
    }
    let mut models = vec![base.clone()];
    models.extend(jobs.into_iter().map(|(model, _)| model));
    Ok(Some(models))
}

fn on_one_thread<T: Send, E: From<DemoError> + Send>(work: impl FnOnce() -> Result<T, E> + Send) -> Result<T, E> {
    rayon::ThreadPoolBuilder::new().num_threads(1).build().map_err(DemoError::from)?.install(work)
}

/// Writes the recipes with the paths of this demo in them, to run and change.
fn write_recipes(inputs: &Inputs, jobs: &[(Model, TrainConfig)]) -> Result<(), DemoError> {
    for (model, config) in jobs {
        let path = recipe_path(inputs, model.arm);
        if path.exists() {
            continue;
        }
        let text = toml::to_string(config)?;
        smpo_files::write_whole(&path, text.as_bytes())?;
    }
    Ok(())
}

/// Path of an arm's recipe.
pub fn recipe_path(inputs: &Inputs, arm: Arm) -> PathBuf {
    Path::new(&inputs.dir("configs")).join(format!("{}.toml", arm.id()))
}
