//! The run directory: what is where, whose it is, and that one process writes to it.

use std::fs;
use std::path::{Path, PathBuf};

use smpo_files::{DirLock, remove_leftovers, write_whole};

use smpo_data::Row;

use crate::checkpoint;
use crate::config::{Changes, TrainConfig};
use crate::error::{TrainError, io};
use crate::origin::Origin;

/// The paths inside a run directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunDir(PathBuf);

impl RunDir {
    /// Names the directory; touches nothing.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        RunDir(dir.into())
    }

    /// The resolved configuration.
    pub fn config(&self) -> PathBuf {
        self.0.join("config.toml")
    }

    /// Metrics, one line per step.
    pub fn metrics(&self) -> PathBuf {
        self.0.join("metrics.jsonl")
    }

    /// Checkpoints, one directory each.
    pub fn checkpoints(&self) -> PathBuf {
        self.0.join("checkpoints")
    }

    /// The trained model; it exists once the run is finished.
    pub fn model(&self) -> PathBuf {
        self.0.join("model")
    }

    /// The prompts that were learned; the file exists once such a run is finished.
    pub fn prompts(&self) -> PathBuf {
        self.0.join("prompts.json")
    }

    /// State of a run that learns prompts.
    pub(crate) fn prompt_state(&self) -> PathBuf {
        self.0.join("prompts.safetensors")
    }

    /// The tokenizer, if the configuration changes the model's.
    pub fn tokenizer(&self) -> PathBuf {
        self.0.join("tokenizer")
    }

    /// Tokenised rows, unless `token_cache` names another directory.
    pub fn tokens(&self) -> PathBuf {
        self.0.join("tokens")
    }

    /// Log-probs under the reference model.
    pub fn reference(&self) -> PathBuf {
        self.0.join("reference")
    }

    /// Fingerprints of the data and models of the run.
    pub fn origin(&self) -> PathBuf {
        self.0.join("origin.json")
    }

    /// Hashes of the rows that the run was trained on.
    pub fn rows(&self) -> PathBuf {
        self.0.join("rows")
    }

    /// Completions of the probe, one file per probe.
    pub fn probe(&self) -> PathBuf {
        self.0.join("probe")
    }

    /// Event files.
    pub fn tensorboard(&self) -> PathBuf {
        self.0.join("tensorboard")
    }

    /// The run on an MLflow server.
    pub fn mlflow(&self) -> PathBuf {
        self.0.join(smpo_tracking::FILE)
    }

    /// The run in Weights & Biases, which the Python package writes.
    pub fn wandb(&self) -> PathBuf {
        self.0.join("wandb.json")
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The last step's metrics for a scraper.
    pub fn openmetrics(&self) -> PathBuf {
        self.0.join("metrics.prom")
    }

    /// The directory's own name, which labels the metrics of this run.
    pub fn name(&self) -> String {
        let path = std::path::absolute(&self.0).unwrap_or_else(|_| self.0.clone());
        path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
    }

    /// Locks the directory for one process, until the lock is dropped or the process ends.
    pub(crate) fn lock(&self) -> Result<DirLock, TrainError> {
        DirLock::take(&self.0)?.ok_or_else(|| TrainError::Busy { dir: self.0.clone() })
    }

    /// Directories and files of a run. Tokens are not among them: their names are hashes of their origin.
    fn own(&self) -> ([PathBuf; 7], [PathBuf; 8]) {
        let dirs = [
            self.checkpoints(),
            self.model(),
            self.tokenizer(),
            self.reference(),
            self.rows(),
            self.probe(),
            self.tensorboard(),
        ];
        let files = [
            self.metrics(),
            self.openmetrics(),
            self.mlflow(),
            self.wandb(),
            self.origin(),
            self.prompts(),
            self.prompt_state(),
            self.config(),
        ];
        (dirs, files)
    }

    /// The paths that [`RunDir::discard`] removes.
    pub(crate) fn discarded(&self) -> Vec<PathBuf> {
        let (dirs, files) = self.own();
        dirs.into_iter().chain(files).collect()
    }

    /// Removes the files of an earlier run; others in the directory stay.
    ///
    /// # Errors
    /// [`TrainError::UnknownRun`] for a model or checkpoints of which nothing says that they are a run's.
    pub(crate) fn discard(&self) -> Result<(), TrainError> {
        if !smpo_files::exists(&self.config())? && !smpo_files::exists(&self.origin())? {
            // a start finds here what it would find of no run
            return self.unclaimed();
        }
        let (dirs, files) = self.own();
        for path in dirs {
            gone(&path, fs::remove_dir_all(&path))?;
        }
        for path in files {
            gone(&path, fs::remove_file(&path))?;
        }
        Ok(())
    }

    /// Removes temporary files of a killed process. The caller holds the lock.
    pub(crate) fn sweep(&self) -> Result<(), TrainError> {
        let dirs = [self.0.clone(), self.checkpoints(), self.reference(), self.rows(), self.probe()];
        dirs.iter().try_for_each(|dir| Ok(remove_leftovers(dir)?))
    }

    /// Makes the directory this run's: writes the resolved configuration and the origin.
    pub(crate) fn claim(&self, config: &TrainConfig, origin: &Origin, train: &[Row]) -> Result<(), TrainError> {
        origin.write(self, train)?;
        self.write_config(config)
    }

    /// Writes the resolved configuration.
    pub(crate) fn write_config(&self, config: &TrainConfig) -> Result<(), TrainError> {
        let path = self.config();
        let text = toml::to_string(config).map_err(|error| TrainError::config(&path, None, error.to_string()))?;
        Ok(write_whole(&path, text.as_bytes())?)
    }

    /// The run that the directory holds, if any, and the keys in which `config` differs from it.
    ///
    /// # Errors
    /// [`TrainError::OtherRun`] if they make another run of it, [`TrainError::UnknownRun`] if it is not known what it holds.
    pub(crate) fn earlier(&self, config: &TrainConfig) -> Result<Option<EarlierConfig>, TrainError> {
        let path = self.config();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return self.unclaimed().map(|()| None),
            Err(source) => return Err(TrainError::Io { path, action: "read", source }),
        };
        let earlier = TrainConfig::parse(&text, &path, &[])?;
        let changes = config.changes(&earlier);
        if changes.refused.is_empty() {
            Ok(Some(EarlierConfig { config: earlier, changes }))
        } else {
            Err(self.other_run(changes.refused))
        }
    }

    /// Refuses what a run without a configuration left, which a new run would go on from.
    fn unclaimed(&self) -> Result<(), TrainError> {
        let what = match (checkpoint::list(&self.checkpoints())?.is_empty(), smpo_files::is_dir(&self.model())?) {
            (false, _) => "checkpoints",
            (true, true) => "a model",
            (true, false) => return Ok(()),
        };
        Err(TrainError::UnknownRun { dir: self.0.clone(), what })
    }

    /// The error of a configuration that makes another run.
    pub(crate) fn other_run(&self, keys: Vec<String>) -> TrainError {
        TrainError::OtherRun { dir: self.0.clone(), keys }
    }
}

/// Configuration of the run in a directory.
#[derive(Debug)]
pub(crate) struct EarlierConfig {
    /// The configuration.
    pub config: TrainConfig,
    /// Keys that differ now.
    pub changes: Changes,
}

fn gone(path: &Path, outcome: std::io::Result<()>) -> Result<(), TrainError> {
    match outcome {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io(path, "remove")(error)),
        _ => Ok(()),
    }
}
