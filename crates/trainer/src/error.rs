//! Errors of a training run.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use smpo_collectives::CollectiveError;
use smpo_kernels::KernelError;
use smpo_model::ModelError;

use crate::config::{ConfigErrors, ConfigProblem};
use crate::memory::MemoryShortage;

/// Errors that end a training run, or keep it from starting. Everything saved before stays.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The configuration is wrong, or a file that it names.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// I/O error.
    #[error("{}: cannot {action}: {source}{}", path.display(), remedy(action, source))]
    Io {
        /// File or directory.
        path: PathBuf,
        /// The operation, as a verb.
        action: &'static str,
        /// Cause.
        source: io::Error,
    },
    /// A data file is wrong, or leaves nothing to train on.
    #[error(transparent)]
    Data(#[from] smpo_data::DatasetError),
    /// The data check found errors.
    #[error(
        "{}; `smpo data check` lists all errors: fix them{}", first.join("; "),
        if *nothing_left { "" } else { ", drop the rows that have them with on_bad_rows = \"drop\", or set \
        data_check = \"report\" to train anyway" }
    )]
    DataCheck {
        /// The first error of each file, with its place.
        first: Vec<String>,
        /// True if a file has no readable row, so that dropping rows would not help.
        nothing_left: bool,
    },
    /// The model directory's tokenizer or chat template is wrong.
    #[error(transparent)]
    Encode(#[from] smpo_tokenizer::TokenizerError),
    /// The run cannot be tracked.
    #[error("report_to = \"mlflow\": {0}")]
    Tracking(#[from] smpo_tracking::TrackingError),
    /// The device cannot be used.
    #[error(transparent)]
    Device(#[from] smpo_devices::DeviceError),
    /// The model directory is wrong, or the model refused a batch.
    #[error(transparent)]
    Model(ModelError),
    /// The probe's prompts could not be completed.
    #[error("probe: {0}")]
    Probe(#[from] smpo_native::CompleteError),
    /// An operation refused its input.
    #[error(transparent)]
    Kernel(KernelError),
    /// The device ran out of memory.
    #[error("{0}; lower max_tokens_per_pack or max_length, or set gradient_checkpointing = true")]
    OutOfMemory(KernelError),
    /// The device failed, and with it everything in its memory.
    #[error(
        "{0}; every checkpoint is intact: the same command resumes from the last one, with --device cuda:N on another GPU if \
         this one fails again (`dmesg` has its Xid)"
    )]
    DeviceLost(KernelError),
    /// An error of candle.
    #[error(transparent)]
    Tensor(candle_core::Error),
    /// The loss configuration is wrong.
    #[error(transparent)]
    Loss(#[from] smpo_losses::ConfigError),
    /// The loss refused a batch.
    #[error("step {step}: {source}")]
    Batch {
        /// Optimizer step, from 1.
        step: u64,
        /// Cause.
        source: smpo_losses::BatchError,
    },
    /// The run would not fit into memory.
    #[error("{0}")]
    Memory(Box<MemoryShortage>),
    /// A row holds a token outside the model's vocabulary.
    #[error(
        "row {row}: token {token} is outside the model's vocabulary of {vocabulary}; expected a tokenizer that belongs \
         to the model: use the model's own, or name its new tokens in added_special_tokens, which enlarges the model"
    )]
    Vocabulary {
        /// The row.
        row: String,
        /// The token.
        token: u32,
        /// Size of the model's vocabulary, in tokens.
        vocabulary: usize,
    },
    /// KTO's baseline has no completion of another prompt.
    #[error(
        "loss `kto` with kl_baseline = \"mismatched\" compares with completions of other prompts: expected rows of at \
         least two prompts, got one prompt in all {rows}; add rows, or set loss.kl_baseline = \"zero\""
    )]
    OnePrompt {
        /// Rows to train on.
        rows: usize,
    },
    /// The reference model lacks tokens of the model.
    #[error(
        "{}: the reference model has a vocabulary of {got} tokens; expected that of the model, {expected}", model.display()
    )]
    ReferenceVocabulary {
        /// Its directory.
        model: PathBuf,
        /// Size of the model's vocabulary, in tokens.
        expected: usize,
        /// Size of its vocabulary.
        got: usize,
    },
    /// The run directory holds another run.
    #[error(
        "{}: holds a run with another configuration ({} {}); choose another output_dir, or start over with --restart",
        dir.display(),
        keys.join(", "),
        differ(keys)
    )]
    OtherRun {
        /// The run directory.
        dir: PathBuf,
        /// Keys in which the two differ.
        keys: Vec<String>,
    },
    /// The run directory holds a run of which nothing says what it is.
    #[error(
        "{}: holds {what}, but no config.toml that says of which run; restore it, choose another output_dir, or remove what \
         is there",
        dir.display()
    )]
    UnknownRun {
        /// The run directory.
        dir: PathBuf,
        /// Checkpoints, or a model.
        what: &'static str,
    },
    /// The data is not that of the steps taken.
    #[error(
        "{}: the data has changed since step {step}: {}; restore it, take the new rows from step {} on with \
         --data-changed, or start over with --restart", dir.display(), changes.join("; "), step + 1
    )]
    OtherData {
        /// The run directory.
        dir: PathBuf,
        /// Steps taken.
        step: u64,
        /// Differences, file by file.
        changes: Vec<String>,
    },
    /// A finished run was trained on other data.
    #[error(
        "{}: this run is finished, on other data: {}; choose another output_dir, or start over with --restart",
        dir.display(),
        changes.join("; ")
    )]
    FinishedOnOtherData {
        /// The run directory.
        dir: PathBuf,
        /// Differences, file by file.
        changes: Vec<String>,
    },
    /// A model that a resumed run reads again has other weights than before.
    #[error(
        "{}: the weights of the {role} are not those of the {step} steps taken; restore them, or start over with --restart",
        model.display()
    )]
    OtherWeights {
        /// The model's directory.
        model: PathBuf,
        /// `base model` or `reference model`.
        role: &'static str,
        /// Steps taken.
        step: u64,
    },
    /// New data ends before the steps taken.
    #[error(
        "{step} steps are taken and max_steps = {total}: nothing is left to train on the new data; raise max_steps"
    )]
    NoStepsLeft {
        /// Steps taken.
        step: u64,
        /// Steps of the run.
        total: u64,
    },
    /// Every held-out row of new data was trained on before.
    #[error("all {rows} held-out rows were trained on before the data changed; give rows of their own as eval_dataset")]
    NothingHeldOut {
        /// Held-out rows.
        rows: usize,
    },
    /// Another process writes to the run directory.
    #[error("{}: another process is training in this directory; wait for it, or choose another output_dir", dir.display())]
    Busy {
        /// The run directory.
        dir: PathBuf,
    },
    /// The metric that checkpoints are compared by does not exist.
    #[error("metric_for_best_model: `{name}` is not among the metrics of step {step}: {known}")]
    NoSuchMetric {
        /// Name of the metric.
        name: String,
        /// Step that should have measured it.
        step: u64,
        /// Metrics of that step.
        known: String,
    },
    /// Loss, gradient, log-prob or weight is not finite.
    #[error(
        "step {step}: {what} is {value}; lower learning_rate, or look at the data of this step; checkpoints, if any, are intact"
    )]
    NotFinite {
        /// Optimizer step, from 1.
        step: u64,
        /// Name of the quantity: `the loss`, `the gradient norm`, `a log-prob` or `a weight`.
        what: &'static str,
        /// Its value.
        value: f64,
    },
    /// More steps than allowed were skipped because something was not finite.
    #[error(
        "step {step}: {what} is {value}, and {} skipped before it (max_skipped_steps = {allowed}); lower learning_rate, \
         or look at the data of these steps; checkpoints, if any, are intact", counted(*allowed)
    )]
    TooManySkipped {
        /// Optimizer step, from 1.
        step: u64,
        /// Name of the quantity, as in [`TrainError::NotFinite`].
        what: &'static str,
        /// Its value.
        value: f64,
        /// Steps that may be skipped, all of which were.
        allowed: u64,
    },
    /// A teacher with other tokens than the student.
    #[error(
        "teacher {}: expected the tokenizer of the model that is trained, got another one ({difference}); distributions over \
         other tokens cannot be compared", teacher.display()
    )]
    OtherTokenizer {
        /// The teacher.
        teacher: PathBuf,
        /// The first difference.
        difference: String,
    },
    /// A distillation without its teacher.
    #[error("the loss compares with a teacher, and none is loaded")]
    NoTeacher,
    /// The ranks of a run could not talk to each other.
    #[error(transparent)]
    Collective(#[from] CollectiveError),
    /// Another rank of the run failed.
    #[error("rank {rank}: {message}")]
    OtherRank {
        /// Its number.
        rank: usize,
        /// Its error.
        message: String,
    },
    /// A checkpoint cannot be read back.
    #[error("{}: the checkpoint is damaged: {reason}; delete this directory to resume from the one before", dir.display())]
    Checkpoint {
        /// Its directory.
        dir: PathBuf,
        /// Damage.
        reason: String,
    },
}

/// Remedy for a disk that cannot be written to; empty where the I/O error says enough.
fn remedy(action: &str, error: &io::Error) -> &'static str {
    if ["read", "list"].contains(&action) {
        return "";
    }
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "; make budget, or keep fewer checkpoints (save_total_limit): the same command resumes from the last whole one"
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            "; make the directory writable, or choose another output_dir"
        }
        _ => "",
    }
}

fn differ(keys: &[String]) -> &'static str {
    if keys.len() == 1 { "differs" } else { "differ" }
}

fn counted(steps: u64) -> String {
    if steps == 1 { "1 step was".to_owned() } else { format!("{steps} steps were") }
}

impl From<KernelError> for TrainError {
    fn from(error: KernelError) -> Self {
        match error {
            KernelError::OutOfMemory { .. } => Self::OutOfMemory(error),
            KernelError::DeviceLost { .. } => Self::DeviceLost(error),
            KernelError::Candle(error) => Self::Tensor(error),
            other => Self::Kernel(other),
        }
    }
}

impl From<candle_core::Error> for TrainError {
    fn from(error: candle_core::Error) -> Self {
        KernelError::from(error).into()
    }
}

impl From<ModelError> for TrainError {
    fn from(error: ModelError) -> Self {
        match error {
            ModelError::Kernel(error) => error.into(),
            ModelError::Tensor(error) => error.into(),
            ModelError::Peers(error) => match error.downcast::<CollectiveError>() {
                Ok(error) => Self::Collective(*error),
                Err(other) => Self::Model(ModelError::Peers(other)),
            },
            other => Self::Model(other),
        }
    }
}

impl TrainError {
    /// One error of the configuration, or of a file that it names.
    pub(crate) fn config(origin: &Path, line: Option<usize>, message: String) -> Self {
        let problems = vec![ConfigProblem { line, message }];
        Self::Config(ConfigErrors { origin: Some(origin.to_owned()), problems })
    }
}

impl From<smpo_files::FileError> for TrainError {
    fn from(error: smpo_files::FileError) -> Self {
        TrainError::Io { path: error.path, action: error.action, source: error.source }
    }
}

pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> TrainError {
    let path = path.to_owned();
    move |source| TrainError::Io { path, action, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_out_of_memory_comes_with_the_keys_that_help() {
        let full = || KernelError::OutOfMemory { asked: Some(8 << 20), memory: Some((4 << 20, 6 << 20)) };
        for error in [TrainError::from(full()), ModelError::from(full()).into()] {
            assert!(matches!(error, TrainError::OutOfMemory(_)), "{error:?}");
            let expected = "asked for 8 MiB, 4 of 6 MiB are free; lower max_tokens_per_pack or max_length";
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    fn a_lost_device_comes_with_the_way_to_resume() {
        let lost = || KernelError::DeviceLost { code: "CUDA_ERROR_LAUNCH_FAILED (719)".into() };
        for error in [TrainError::from(lost()), ModelError::from(lost()).into()] {
            assert!(matches!(error, TrainError::DeviceLost(_)), "{error:?}");
            let text = error.to_string();
            assert!(text.starts_with("the GPU is lost: CUDA_ERROR_LAUNCH_FAILED (719)"), "{text}");
            assert!(text.contains("the same command resumes from the last one"), "{text}");
        }
    }
}
