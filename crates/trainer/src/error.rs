//! What can go wrong in a training run.

use std::io::{self, ErrorKind};
use std::path::PathBuf;

use crate::memory::MemoryShortage;

/// Why a run did not start or did not go on. Nothing that was saved before is lost.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The configuration is wrong.
    #[error("{}{}: {message}", origin.display(), line.map(|line| format!(":{line}")).unwrap_or_default())]
    Config {
        /// The file.
        origin: PathBuf,
        /// 1-based line, where one is to blame.
        line: Option<usize>,
        /// What is wrong.
        message: String,
    },
    /// The operating system said no.
    #[error("{}: cannot {action}: {source}{}", path.display(), remedy(action, source))]
    Io {
        /// Which file or directory.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// The reason.
        source: io::Error,
    },
    /// A data file is wrong, or leaves nothing to train on.
    #[error(transparent)]
    Data(#[from] smpo_data::DatasetError),
    /// The data check speaks against training.
    #[error(
        "{}; `smpo data check` lists all that is wrong: mend it, leave out rows that cannot be read or rendered with \
         on_bad_rows = \"drop\", or train all the same with data_check = \"report\"", first.join("; ")
    )]
    DataCheck {
        /// The first error of each file, with its place.
        first: Vec<String>,
    },
    /// The model directory's tokenizer or chat template is wrong.
    #[error(transparent)]
    Encode(#[from] smpo_tokenizer::TokenizerError),
    /// The device cannot be used.
    #[error(transparent)]
    Device(#[from] smpo_devices::DeviceError),
    /// The model directory is wrong, or the model refused a batch.
    #[error(transparent)]
    Model(#[from] smpo_model::ModelError),
    /// The probe's prompts could not be completed.
    #[error("probe: {0}")]
    Probe(#[from] smpo_native::CompleteError),
    /// An operation refused its input.
    #[error(transparent)]
    Kernel(#[from] smpo_kernels::KernelError),
    /// candle refused something.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    /// The loss configuration is wrong.
    #[error(transparent)]
    Loss(#[from] smpo_losses::ConfigError),
    /// The loss refused a batch.
    #[error("step {step}: {source}")]
    Batch {
        /// Optimizer step, from 1.
        step: u64,
        /// What it said.
        source: smpo_losses::BatchError,
    },
    /// The run would not fit into memory.
    #[error("{0}")]
    Memory(Box<MemoryShortage>),
    /// A row holds a token that the model does not know.
    #[error(
        "row {row}: token {token} is outside the model's vocabulary of {vocabulary}; expected a tokenizer that belongs \
         to the model: use the model's own, or enlarge the model's embedding to fit"
    )]
    Vocabulary {
        /// The row.
        row: String,
        /// The token.
        token: u32,
        /// How many tokens the model knows.
        vocabulary: usize,
    },
    /// The run directory holds another run.
    #[error(
        "{}: holds a run with another configuration ({} differ); choose another output_dir, or start afresh with --restart",
        dir.display(),
        keys.join(", ")
    )]
    OtherRun {
        /// The run directory.
        dir: PathBuf,
        /// The keys in which the two differ.
        keys: Vec<String>,
    },
    /// Another process writes to the run directory.
    #[error("{}: another process trains here; wait for it, or choose another output_dir", dir.display())]
    Busy {
        /// The run directory.
        dir: PathBuf,
    },
    /// The figure that checkpoints are compared by does not exist.
    #[error("metric_for_best_model: `{name}` is not among the figures of step {step}: {known}")]
    NoSuchMetric {
        /// The name asked for.
        name: String,
        /// The step that should have had it.
        step: u64,
        /// What there is.
        known: String,
    },
    /// Loss or gradient is not a number.
    #[error(
        "step {step}: {what} is {value}; lower learning_rate, or look at the data of this step; the last checkpoint is intact"
    )]
    NotFinite {
        /// Optimizer step, from 1.
        step: u64,
        /// `the loss`, `the gradient norm`, `a log-prob` or `a weight`.
        what: &'static str,
        /// What it was.
        value: f64,
    },
    /// More steps than allowed were skipped because something was not finite.
    #[error(
        "step {step}: {what} is {value}, and {} skipped before it (max_skipped_steps = {allowed}); lower learning_rate, \
         or look at the data of these steps; the last checkpoint is intact", counted(*allowed)
    )]
    TooManySkipped {
        /// Optimizer step, from 1.
        step: u64,
        /// What was not finite, as in [`TrainError::NotFinite`].
        what: &'static str,
        /// What it was.
        value: f64,
        /// Steps that may be skipped, all of which were.
        allowed: u64,
    },
    /// A checkpoint cannot be read back.
    #[error("{}: the checkpoint is damaged: {reason}; delete this directory to resume from the one before", dir.display())]
    Checkpoint {
        /// Its directory.
        dir: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// What to do where a disk takes nothing; empty where the operating system's words are enough.
fn remedy(action: &str, error: &io::Error) -> &'static str {
    if ["read", "list"].contains(&action) {
        return "";
    }
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "; make room, or keep fewer checkpoints (save_total_limit): the same command goes on from the last whole one"
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            "; make the directory writable, or choose another output_dir"
        }
        _ => "",
    }
}

fn counted(steps: u64) -> String {
    if steps == 1 { "1 step was".to_owned() } else { format!("{steps} steps were") }
}

impl From<smpo_files::FileError> for TrainError {
    fn from(error: smpo_files::FileError) -> Self {
        TrainError::Io { path: error.path, action: error.action, source: error.source }
    }
}

pub(crate) fn io(path: &std::path::Path, action: &'static str) -> impl FnOnce(io::Error) -> TrainError {
    let path = path.to_owned();
    move |source| TrainError::Io { path, action, source }
}
