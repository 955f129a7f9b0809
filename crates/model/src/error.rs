//! What can go wrong with a model, named: the file, the tensor or the field, what was expected and what was found.

use std::path::PathBuf;

/// Errors of this crate. Every message says where, what was expected and what was found.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// I/O error.
    #[error(transparent)]
    Io(#[from] smpo_files::FileError),

    /// A file is not the JSON it should be.
    #[error("{}: not valid json: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What the parser said, with line and column.
        source: serde_json::Error,
    },

    /// A configuration field is missing or has a value that cannot be right.
    #[error("{}: field `{field}`: expected {expected}, got {got}", path.display())]
    Field {
        /// The configuration file.
        path: PathBuf,
        /// The field, dotted when nested.
        field: String,
        /// What would have been right.
        expected: String,
        /// What was there.
        got: String,
    },

    /// The model family is none of those this crate maps.
    #[error("{}: model family `{name}` is not supported{hint}; supported are {supported}", path.display())]
    UnknownFamily {
        /// The configuration file.
        path: PathBuf,
        /// The `model_type` found.
        name: String,
        /// Empty, or the nearest supported name.
        hint: String,
        /// All supported names.
        supported: String,
    },

    /// The family is known, but this model uses something that would have to be approximated.
    #[error("{}: {feature} is not supported", path.display())]
    Unsupported {
        /// The configuration file.
        path: PathBuf,
        /// The feature, with the field and value that ask for it.
        feature: String,
    },

    /// A path that holds no model.
    #[error("{}: expected a model directory, got {got}", path.display())]
    NoModel {
        /// What was named.
        path: PathBuf,
        /// What is there.
        got: &'static str,
    },

    /// A weight file is damaged or is no safetensors file.
    #[error("{}: not a readable safetensors file: {reason}", path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// The weights lack tensors that the configuration asks for.
    #[error("{}: missing tensors: {names}; does config.json belong to these weights?", path.display())]
    MissingTensors {
        /// The model directory.
        path: PathBuf,
        /// The names, shortened when there are many.
        names: String,
    },

    /// The weights hold tensors that the configuration does not account for.
    #[error("{}: unexpected tensors: {names}; does config.json belong to these weights?", path.display())]
    ExtraTensors {
        /// The model directory.
        path: PathBuf,
        /// The names, shortened when there are many.
        names: String,
    },

    /// A tensor has another shape than the configuration says.
    #[error("{}: tensor `{tensor}`: expected shape {expected:?}, got {got:?}", path.display())]
    Shape {
        /// The weight file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The shape that follows from the configuration.
        expected: Vec<usize>,
        /// The shape in the file.
        got: Vec<usize>,
    },

    /// A tensor has an element type that cannot be read as a weight.
    #[error("{}: tensor `{tensor}`: expected float32, bfloat16 or float16, got {got}", path.display())]
    Dtype {
        /// The weight file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The element type in the file.
        got: String,
    },

    /// A tied head that is stored, and is not the embedding.
    #[error(
        "{}: `tie_word_embeddings` is true, but `{head}` differs from `{embedding}`; set it to false to keep the head",
        path.display()
    )]
    TiedHeadDiffers {
        /// The weight file.
        path: PathBuf,
        /// The head's tensor name.
        head: String,
        /// The embedding's tensor name.
        embedding: String,
    },

    /// An adapter that was trained on another base.
    #[error(
        "{}: tensor `{tensor}`: the adapter was trained on another base, whose weight differs from this model's",
        path.display()
    )]
    OtherBase {
        /// The adapter's weight file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
    },

    /// A save would mix with, or replace, what is already there.
    #[error("{}: the output directory is not empty; remove it or choose another", path.display())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },

    /// Whoever asked for long work has stopped it.
    #[error("stopped; nothing was written")]
    Stopped,

    /// A batch or a request that has no meaning.
    #[error("{what}: expected {expected}, got {got}")]
    Input {
        /// Which input.
        what: String,
        /// What would have been right.
        expected: String,
        /// What was given.
        got: String,
    },

    /// A fused operation refused its arguments.
    #[error(transparent)]
    Kernel(#[from] smpo_kernels::KernelError),

    /// A tensor operation failed.
    #[error("tensor operation: {0}")]
    Tensor(#[from] candle_core::Error),
}

/// The result type of this crate.
pub type Result<T> = std::result::Result<T, ModelError>;

impl ModelError {
    pub(crate) fn input(what: impl Into<String>, expected: impl Into<String>, got: impl Into<String>) -> Self {
        Self::Input { what: what.into(), expected: expected.into(), got: got.into() }
    }
}

/// Lists names for a message: all when few, else the first ones and a count.
pub(crate) fn list<S: AsRef<str>>(names: &[S]) -> String {
    const SHOWN: usize = 6;
    let shown: Vec<String> = names.iter().take(SHOWN).map(|n| format!("`{}`", n.as_ref())).collect();
    match names.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
