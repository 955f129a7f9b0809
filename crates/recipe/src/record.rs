//! Records of stages' earlier runs, `OUT/stages/NAME.json`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use smpo_files::{FileError, write_whole};

/// The last run of a stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Version of this file's layout.
    pub schema: u32,
    /// Hash of command, inputs and earlier stages.
    pub key: String,
    /// The command, without the values of headers.
    pub command: Vec<String>,
    /// Its exit code; none while it runs, or if it was killed.
    pub exit: Option<i32>,
    /// Seconds that the last call took.
    pub seconds: f64,
    /// Its process, while it runs.
    pub pid: Option<u32>,
}

/// State of a stage before a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Done with the same command and inputs.
    Done {
        /// Exit code.
        exit: i32,
    },
    /// Begun with the same command and inputs, not finished.
    Begun,
    /// Not run yet.
    New,
    /// Run with another command, other inputs, or after other results.
    Changed,
}

/// Exit codes that mean a result: success, and a gate's fail and inconclusive.
pub(crate) fn is_result(kind: crate::Kind, exit: i32) -> bool {
    exit == 0 || kind == crate::Kind::Gate && matches!(exit, 1 | 3)
}

pub(crate) fn path(out: &Path, stage: &str) -> PathBuf {
    out.join("stages").join(format!("{}.json", stage.replace('/', "--")))
}

/// The record of a stage; none if it never ran, or if its record is damaged.
///
/// # Errors
/// When the record is there and cannot be read: results without one would be set aside.
pub(crate) fn read(out: &Path, stage: &str) -> Result<Option<Record>, FileError> {
    let path = path(out, stage);
    match std::fs::read(&path) {
        Ok(text) => Ok(serde_json::from_slice(&text).ok()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(FileError::at(&path, "read")(error)),
    }
}

pub(crate) fn write(out: &Path, stage: &str, record: &Record) -> Result<(), FileError> {
    let text = serde_json::json!(record).to_string() + "\n";
    write_whole(&path(out, stage), text.as_bytes())
}

/// Option whose value may be a key for a server.
const SECRET: &str = "--header=";

/// Its place in a record.
const HIDDEN: &str = "--header=[hidden]";

/// A command as a record shows it.
pub(crate) fn without_secrets(command: &[String]) -> Vec<String> {
    command.iter().map(|word| if word.starts_with(SECRET) { HIDDEN.to_owned() } else { word.clone() }).collect()
}

impl Record {
    /// The state of a stage that has this record and now the key `key`.
    pub(crate) fn state(record: Option<&Record>, kind: crate::Kind, key: &str) -> State {
        match record {
            None => State::New,
            Some(record) if record.key != key => State::Changed,
            Some(Record { exit: Some(exit), .. }) if is_result(kind, *exit) => State::Done { exit: *exit },
            Some(_) => State::Begun,
        }
    }

    /// True if the process of this record still runs this stage. Known on Linux alone.
    pub(crate) fn is_running(&self) -> bool {
        let Some(pid) = self.pid.filter(|_| self.exit.is_none()) else { return false };
        let Ok(command) = std::fs::read(format!("/proc/{pid}/cmdline")) else { return false };
        let words: Vec<&[u8]> = command.split(|&byte| byte == 0).collect();
        self.command.iter().filter(|word| *word != HIDDEN).all(|word| words.contains(&word.as_bytes()))
    }
}
