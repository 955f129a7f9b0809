//! `mlflow.json` in the run directory: the run on the server, and how far it has got.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use smpo_files::{FileError, write_whole};

use crate::error::TrackingError;

/// Name of the file in a run directory.
pub const FILE: &str = "mlflow.json";

/// Version of the file.
const SCHEMA: u32 = 1;

/// A run on a server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    schema: u32,
    /// Address of the server.
    pub server: String,
    pub experiment_id: String,
    pub run_id: String,
    /// Location of artefacts.
    pub artifacts: String,
    /// Step of the last line that was sent.
    pub sent: Option<u64>,
    /// The configuration was sent.
    pub parameters: bool,
}

impl State {
    pub(crate) fn new(server: &str, experiment_id: String, run_id: String, artifacts: String) -> Self {
        State {
            schema: SCHEMA,
            server: server.to_owned(),
            experiment_id,
            run_id,
            artifacts,
            sent: None,
            parameters: false,
        }
    }

    pub(crate) fn path(dir: &Path) -> PathBuf {
        dir.join(FILE)
    }

    pub(crate) fn read(dir: &Path) -> Result<Option<Self>, TrackingError> {
        let path = Self::path(dir);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(FileError::at(&path, "read")(error).into()),
        };
        serde_json::from_slice(&text).map(Some).map_err(|error| TrackingError::Line {
            path,
            line: error.line(),
            problem: format!(
                "expected the run on an MLflow server: {error}; without this file the run gets a new one there"
            ),
        })
    }

    pub(crate) fn write(&self, dir: &Path) -> Result<(), TrackingError> {
        let text = serde_json::to_vec_pretty(self).unwrap_or_default();
        Ok(write_whole(&Self::path(dir), &text)?)
    }
}
