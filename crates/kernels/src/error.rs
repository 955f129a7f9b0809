//! Errors of the operations.

use candle_core::DType;

/// Error of an operation.
///
/// Each names the operation, the argument, the expected and the actual value.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// An argument has the wrong number of dimensions.
    #[error("{op}: expected `{argument}` with dimensions {expected}, got {got:?}")]
    Rank {
        /// The operation.
        op: &'static str,
        /// The argument.
        argument: &'static str,
        /// The dimensions by their letters, such as `(N, H)`.
        expected: &'static str,
        /// The dimensions given.
        got: Vec<usize>,
    },
    /// An argument has the right number of dimensions and the wrong extents.
    #[error("{op}: expected `{argument}` of shape {expected}, got {got:?}")]
    Shape {
        /// The operation.
        op: &'static str,
        /// The argument.
        argument: &'static str,
        /// The shape that would fit the other arguments.
        expected: String,
        /// The shape given.
        got: Vec<usize>,
    },
    /// An argument is not float32.
    #[error("{op}: expected `{argument}` as f32, got {}; convert it with `to_dtype`", got.as_str())]
    Type {
        /// The operation.
        op: &'static str,
        /// The argument.
        argument: &'static str,
        /// The dtype given.
        got: DType,
    },
    /// An argument is not in host memory.
    #[error("{op}: expected `{argument}` on the CPU, got {got}; move it with `to_device`")]
    Device {
        /// The operation.
        op: &'static str,
        /// The argument.
        argument: &'static str,
        /// The device given.
        got: String,
    },
    /// An argument has another dtype than the operation's first one, or one without a kernel.
    #[error("{op}: expected `{argument}` as {}, got {}; convert it with `to_dtype`", expected.as_str(), got.as_str())]
    OtherType {
        /// The operation.
        op: &'static str,
        /// The argument.
        argument: &'static str,
        /// The dtype that would fit.
        expected: DType,
        /// The dtype given.
        got: DType,
    },
    /// An argument is on another device than the operation's first one.
    #[error("{op}: expected `{argument}` on {expected}, got {got}; move it with `to_device`")]
    OtherDevice {
        /// The operation.
        op: &'static str,
        /// The argument.
        argument: &'static str,
        /// The device of the first argument.
        expected: String,
        /// The device given.
        got: String,
    },
    /// An operation on a device whose result requires a gradient, outside a tape.
    #[error("{op}: GPU tensors get gradients only on a tape; call it inside `Tape::record`, or detach its arguments")]
    NoTape {
        /// The operation.
        op: &'static str,
    },
    /// A kernel could not be launched.
    #[error("kernel {kernel}: {reason}")]
    Launch {
        /// The kernel, `file/name`.
        kernel: String,
        /// The cause.
        reason: String,
    },
    /// The device has not enough memory.
    #[error("the GPU is out of memory{}", shortage(*asked, *memory))]
    OutOfMemory {
        /// Bytes asked for, where known.
        asked: Option<u64>,
        /// Bytes free then, and bytes that the device has, where known.
        memory: Option<(u64, u64)>,
    },
    /// The device computes nothing any more: a fault of a kernel, of the hardware or of the driver.
    #[error(
        "the GPU is lost: {code}, noticed only now: the cause may be an earlier operation (CUDA_LAUNCH_BLOCKING=1 names it)"
    )]
    DeviceLost {
        /// The driver's or cuBLAS' error, name and number.
        code: String,
    },
    /// An argument that must be a constant carries a gradient.
    #[error("{op}: `{argument}` must be a constant, got a tensor that requires a gradient; detach it")]
    NotConstant {
        /// The operation.
        op: &'static str,
        /// The argument.
        argument: &'static str,
    },
    /// A token id is not in the vocabulary.
    #[error("{op}: {what} {id} at index {index} is outside the vocabulary, expected an id below {vocabulary}")]
    OutOfVocabulary {
        /// The operation.
        op: &'static str,
        /// Kind of the id: a token, a target, a terminator.
        what: &'static str,
        /// Its index in the list given.
        index: usize,
        /// The id.
        id: u32,
        /// The vocabulary's size, `V`.
        vocabulary: usize,
    },
    /// An option is outside its range.
    #[error("{op}: expected option `{option}` {expected}, got {got}")]
    Option {
        /// The operation.
        op: &'static str,
        /// The option.
        option: &'static str,
        /// Its range in words.
        expected: &'static str,
        /// The value given.
        got: String,
    },
    /// The spans are no partition of the packed tokens, or a prefix is invalid.
    #[error("segments: span {span}: {reason}")]
    Segments {
        /// The offending span, counted from 0.
        span: usize,
        /// The defect.
        reason: String,
    },
    /// Two parameters share a name or a tensor.
    #[error("{op}: parameter `{name}` is given twice")]
    DuplicateParameter {
        /// The operation.
        op: &'static str,
        /// The parameter.
        name: String,
    },
    /// A parameter to be updated got no gradient.
    #[error(
        "adamw: parameter `{name}` has no gradient: the loss does not depend on it, or an operation cut the graph; freeze it or repair the graph"
    )]
    NoGradient {
        /// The parameter.
        name: String,
    },
    /// The gradient's norm is infinite or not a number.
    #[error("adamw: the gradient's norm is {norm}, first seen in parameter `{name}`; nothing was updated")]
    NonFiniteGradient {
        /// The first parameter with such a gradient.
        name: String,
        /// The norm over all parameters.
        norm: f64,
    },
    /// Saved optimizer state does not fit the parameters.
    #[error("adamw: saved state of `{name}`: {reason}")]
    State {
        /// The parameter.
        name: String,
        /// The mismatch.
        reason: String,
    },
    /// An error of candle.
    #[error(transparent)]
    Candle(candle_core::Error),
}

/// Sizes of a shortage, as far as they are known.
fn shortage(asked: Option<u64>, memory: Option<(u64, u64)>) -> String {
    let asked = asked.map(|asked| format!("asked for {} MiB", asked.div_ceil(1 << 20)));
    let memory = memory.map(|(free, total)| format!("{} of {} MiB are free", free >> 20, total >> 20));
    let parts: Vec<String> = asked.into_iter().chain(memory).collect();
    if parts.is_empty() { String::new() } else { format!(": {}", parts.join(", ")) }
}

impl From<KernelError> for candle_core::Error {
    fn from(error: KernelError) -> Self {
        match error {
            KernelError::Candle(error) => error,
            other => candle_core::Error::wrap(other),
        }
    }
}

/// The result of a kernel.
pub type Result<T> = std::result::Result<T, KernelError>;
