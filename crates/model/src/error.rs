//! Errors of this crate, with file, tensor or field, expected and found.

use std::path::PathBuf;

/// Errors of this crate. Every message has the place, the expected and the found.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// I/O error.
    #[error(transparent)]
    Io(#[from] smpo_files::FileError),

    /// A file is not valid JSON.
    #[error("{}: not valid JSON: {source}", path.display())]
    Json {
        /// File.
        path: PathBuf,
        /// The parser's error, with line and column.
        source: serde_json::Error,
    },

    /// A configuration field is missing or invalid.
    #[error("{}: field `{field}`: expected {expected}, got {got}", path.display())]
    Field {
        /// Configuration file.
        path: PathBuf,
        /// Field, dotted when nested.
        field: String,
        /// Valid values.
        expected: String,
        /// Value found.
        got: String,
    },

    /// The model family is not supported.
    #[error("{}: model family `{name}` is not supported{hint}; supported are {supported}", path.display())]
    UnknownFamily {
        /// Configuration file.
        path: PathBuf,
        /// `model_type` found.
        name: String,
        /// Empty, or the nearest supported name.
        hint: String,
        /// Supported names, comma-separated.
        supported: String,
    },

    /// The family is supported, but not a feature that this model uses.
    #[error("{}: {feature} is not supported", path.display())]
    Unsupported {
        /// Configuration file.
        path: PathBuf,
        /// Feature, with its field and value.
        feature: String,
    },

    /// The path is no model.
    #[error("{}: expected a model directory or a GGUF file, got {got}", path.display())]
    NoModel {
        /// Path given.
        path: PathBuf,
        /// Kind of the path.
        got: &'static str,
    },

    /// A directory has no weights that are read.
    #[error("{}: expected {expected}, got {got}", path.display())]
    NoWeights {
        /// Directory.
        path: PathBuf,
        /// Files that are read.
        expected: &'static str,
        /// File that is there instead, and the way out.
        got: String,
    },

    /// A weight file is damaged or no safetensors file.
    #[error("{}: not a readable safetensors file: {reason}", path.display())]
    Safetensors {
        /// File.
        path: PathBuf,
        /// Defect.
        reason: String,
    },

    /// Error of a GGUF file.
    #[error(transparent)]
    Gguf(#[from] smpo_gguf::GgufError),

    /// Tensors of the configuration are missing in the weights.
    #[error("{}: missing tensors: {names}{found}; {}", path.display(), remedy(path, &format!("{names}{found}")))]
    MissingTensors {
        /// Model directory.
        path: PathBuf,
        /// Names, shortened when there are many.
        names: String,
        /// Names that are there in their place, as a part of the sentence: `; got …`; empty where there are none.
        found: String,
    },

    /// The weights have tensors that are not in the configuration.
    #[error("{}: unexpected tensors: {names}; {}", path.display(), remedy(path, names))]
    ExtraTensors {
        /// Model directory.
        path: PathBuf,
        /// Names, shortened when there are many.
        names: String,
    },

    /// A tensor's shape differs from the configuration's.
    #[error(
        "{}: tensor `{tensor}`: expected shape {expected:?}, got {got:?}{}",
        path.display(),
        if got.contains(&0) { NOT_GATHERED } else { "" }
    )]
    Shape {
        /// Weight file.
        path: PathBuf,
        /// Tensor name.
        tensor: String,
        /// Shape by the configuration.
        expected: Vec<usize>,
        /// Shape in the file.
        got: Vec<usize>,
    },

    /// A tensor's dtype is not supported for weights.
    #[error(
        "{}: tensor `{tensor}`: expected float32, bfloat16 or float16, got {got}{}",
        path.display(),
        if got.starts_with("F64") { "" } else { "; these are quantised weights, give the model they were made from" }
    )]
    Dtype {
        /// Weight file.
        path: PathBuf,
        /// Tensor name.
        tensor: String,
        /// dtype in the file.
        got: String,
    },

    /// A weight is no number.
    #[error(
        "{}: tensor `{tensor}`: expected finite numbers, got {value} at index {index}; training has diverged or the file is \
         damaged: take an earlier checkpoint or fetch the file again",
        path.display()
    )]
    NotFinite {
        /// Weight file.
        path: PathBuf,
        /// Tensor name.
        tensor: String,
        /// NaN or an infinity.
        value: f32,
        /// Its place in the tensor, row-major.
        index: usize,
    },

    /// A value does not fit the dtype that it is written in.
    #[error(
        "{}: tensor `{tensor}`: expected values that float16 has, got one beyond 65504 at index {index}; write it in bfloat16 \
         or float32",
        path.display()
    )]
    BeyondDtype {
        /// Weight file.
        path: PathBuf,
        /// Tensor name.
        tensor: String,
        /// Its place in the tensor, row-major.
        index: usize,
    },

    /// A stored head differs from the embedding it is tied to.
    #[error(
        "{}: `tie_word_embeddings` is true, but `{head}` differs from `{embedding}`; set it to false to keep the head",
        path.display()
    )]
    TiedHeadDiffers {
        /// Weight file.
        path: PathBuf,
        /// Tensor name of the head.
        head: String,
        /// Tensor name of the embedding.
        embedding: String,
    },

    /// The model gives something else than it is loaded for.
    #[error("{}: expected {expected}, got {got}", path.display())]
    Head {
        /// Model directory.
        path: PathBuf,
        /// Kind of model expected.
        expected: &'static str,
        /// Kind of model found.
        got: String,
    },

    /// The adapter was trained on another base.
    #[error(
        "{}: tensor `{tensor}`: the adapter was trained on another base, whose weight differs from this model's",
        path.display()
    )]
    OtherBase {
        /// Weight file of the adapter.
        path: PathBuf,
        /// Tensor name.
        tensor: String,
    },

    /// The output directory is not empty.
    #[error("{}: the output directory is not empty; remove it or choose another", path.display())]
    NotEmpty {
        /// Output directory.
        path: PathBuf,
    },

    /// The caller stopped the work.
    #[error("stopped; nothing was written")]
    Stopped,

    /// Invalid input.
    #[error("{what}: expected {expected}, got {got}")]
    Input {
        /// Name of the input.
        what: String,
        /// Valid values.
        expected: String,
        /// Value given.
        got: String,
    },

    /// A part of the weights did not come from another process.
    #[error("weights in parts: {0}")]
    Peers(crate::shards::PeerError),

    /// Error of a fused operation.
    #[error(transparent)]
    Kernel(#[from] smpo_kernels::KernelError),

    /// Error of a tensor operation.
    #[error("tensor operation: {0}")]
    Tensor(#[from] candle_core::Error),
}

/// Result type of this crate.
pub type Result<T> = std::result::Result<T, ModelError>;

impl ModelError {
    /// True if a device failed or has no memory left: no fault of what was asked of it.
    pub fn is_of_the_device(&self) -> bool {
        use smpo_kernels::KernelError as E;
        matches!(self, Self::Kernel(E::OutOfMemory { .. } | E::DeviceLost { .. }))
    }

    /// True if the error is about the values of a model: weights or an adapter that do not mean what they seem to. No other
    /// reader knows better; of an unknown family or feature one may.
    pub fn is_about_values(&self) -> bool {
        match self {
            Self::Field { .. }
            | Self::Safetensors { .. }
            | Self::MissingTensors { .. }
            | Self::ExtraTensors { .. }
            | Self::Shape { .. }
            | Self::Dtype { .. }
            | Self::NotFinite { .. }
            | Self::TiedHeadDiffers { .. }
            | Self::Head { .. }
            | Self::OtherBase { .. }
            | Self::Gguf(smpo_gguf::GgufError::Field { .. }) => true,
            Self::Unsupported { path, .. } => path.ends_with(crate::lora::ADAPTER_CONFIG),
            _ => false,
        }
    }

    /// Missing tensors, of which nothing else that is there tells more.
    pub(crate) fn missing(path: impl Into<PathBuf>, names: impl Into<String>) -> Self {
        Self::MissingTensors { path: path.into(), names: names.into(), found: String::new() }
    }

    /// Invalid input: a value and what would be valid.
    pub fn input(what: impl Into<String>, expected: impl Into<String>, got: impl Into<String>) -> Self {
        Self::Input { what: what.into(), expected: expected.into(), got: got.into() }
    }
}

/// The way out of a tensor without values.
const NOT_GATHERED: &str = "; DeepSpeed's ZeRO-3 leaves such tensors where its parts were not gathered: make the weights from its \
                            checkpoint with zero_to_fp32.py";

const QUANTISED: &str =
    "these are quantised weights (GPTQ, AWQ, MLX, FP8, bitsandbytes); give the model they were made from";

/// Parts of names that tell where tensors come from, with the way out; a name is in quotes.
const ORIGINS: [(&[&str], &str); 5] = [
    (&[".qweight", ".qzeros", ".scales", ".g_idx", "_scale", "scale_inv", ".absmax", "quant_state"], QUANTISED),
    (
        &[".lora_", ".base_layer."],
        "this is a model of PEFT with its adapter: save it after merge_and_unload(), or give the directory of the adapter \
         alone, as save_pretrained writes it",
    ),
    (
        &["_flat_param"],
        "these are FSDP's flat parameters: save the full state dict (FULL_STATE_DICT), or join them with `accelerate \
         merge-weights`",
    ),
    (
        &["`v_head."],
        "`v_head` is the value head that TRL puts on a model for PPO: save the model without it \
         (model.pretrained_model.save_pretrained)",
    ),
    (
        &["`module.", "`base_model.model.", "_orig_mod.", "_fsdp_wrapped_module."],
        "these are names of a wrapped model (DDP, PEFT, torch.compile, FSDP): save the model in it, which \
         `accelerator.unwrap_model` gives",
    ),
];

/// The way out for tensors whose names, in quotes, tell where they come from.
fn way_out(names: &str) -> Option<&'static str> {
    let origin = ORIGINS.iter().find(|(parts, _)| parts.iter().any(|part| names.contains(part)));
    origin.map(|(_, way_out)| *way_out)
}

/// The way out for tensors that do not fit, by their names and their file.
fn remedy(path: &std::path::Path, names: &str) -> &'static str {
    let is_adapter = path.file_name().is_some_and(|name| name == crate::lora::ADAPTER_WEIGHTS);
    match way_out(names) {
        Some(way_out) if !is_adapter || way_out == QUANTISED => way_out,
        _ if is_adapter => {
            "read are the LoRA matrices of linear layers, and what adapter_config.json names in `modules_to_save` and \
             `trainable_token_indices`; merge the adapter with PEFT (merge_and_unload) and give the result"
        }
        _ => "does config.json belong to these weights?",
    }
}

/// Names for a message: all when few, else the first ones and a count.
pub(crate) fn list<S: AsRef<str>>(names: &[S]) -> String {
    first(names, 6)
}

/// Names that are there in place of missing tensors, for [`ModelError::MissingTensors`]: those that tell where they come from
/// before others.
pub(crate) fn found<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut names: Vec<&str> = names.into_iter().collect();
    names.sort_by_key(|name| way_out(&format!("`{name}`")).is_none());
    if names.is_empty() { String::new() } else { format!("; got {}", first(&names, 3)) }
}

/// The first `count` names in quotes, and the number of others.
fn first<S: AsRef<str>>(names: &[S], count: usize) -> String {
    let shown: Vec<String> = names.iter().take(count).map(|n| format!("`{}`", n.as_ref())).collect();
    match names.len().saturating_sub(count) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
