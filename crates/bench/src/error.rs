//! Errors of a bench.

/// The reason why a bench did not run.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// An option is out of range.
    #[error("{option}: expected {expected}, got {got}")]
    Option {
        /// Option, with its dashes.
        option: &'static str,
        /// Values allowed.
        expected: String,
        /// Value given.
        got: String,
    },
    /// The device cannot be used.
    #[error(transparent)]
    Device(#[from] smpo_devices::DeviceError),
    /// The model cannot be created.
    #[error(transparent)]
    Model(#[from] smpo_model::ModelError),
    /// A step failed.
    #[error(transparent)]
    Train(#[from] smpo_trainer::TrainError),
    /// The loss configuration is invalid.
    #[error(transparent)]
    Loss(#[from] smpo_losses::ConfigError),
    /// Error of a kernel.
    #[error(transparent)]
    Kernel(#[from] smpo_kernels::KernelError),
    /// Error of candle or the device.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}
