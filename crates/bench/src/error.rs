//! Why a bench did not run.

/// Why a bench did not run.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// What was asked for cannot be timed.
    #[error("{option}: expected {expected}, got {got}")]
    Option {
        /// The option.
        option: &'static str,
        /// What it may be.
        expected: String,
        /// What it was.
        got: String,
    },
    /// The device cannot be used.
    #[error(transparent)]
    Device(#[from] smpo_devices::DeviceError),
    /// The model could not be made.
    #[error(transparent)]
    Model(#[from] smpo_model::ModelError),
    /// A step could not be taken.
    #[error(transparent)]
    Train(#[from] smpo_trainer::TrainError),
    /// The objective is wrong.
    #[error(transparent)]
    Loss(#[from] smpo_losses::ConfigError),
    /// A kernel refused.
    #[error(transparent)]
    Kernel(#[from] smpo_kernels::KernelError),
    /// candle or the device refused.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}
