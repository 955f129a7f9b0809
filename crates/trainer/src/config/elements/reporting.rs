//! Copies of `metrics.jsonl` in other formats.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::TrainConfigBuilder;
use crate::config::builder::setters;

/// Formats that metrics are written in beside `metrics.jsonl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reporter {
    /// Event files in `tensorboard/`, which TensorBoard reads.
    Tensorboard,
    /// A run on an MLflow server, by the variables of its own client: `MLFLOW_TRACKING_URI`, `MLFLOW_EXPERIMENT_NAME`.
    Mlflow,
    /// `metrics.prom`, the last step's metrics as OpenMetrics text: for Prometheus, through node_exporter's textfile
    /// collector or any web server.
    Openmetrics,
}

impl TrainConfigBuilder {
    setters! {
        report_to[]: Reporter,
    }
}
