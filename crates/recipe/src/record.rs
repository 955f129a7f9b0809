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
    /// The command, as [`without_secrets`] shows it.
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

/// A command as a record shows it: without the values of headers, and without user, password and query of URLs.
pub(crate) fn without_secrets(command: &[String]) -> Vec<String> {
    command.iter().map(|word| shown(word)).collect()
}

fn shown(word: &str) -> String {
    if word.starts_with(SECRET) {
        return format!("{SECRET}[hidden]");
    }
    let Some((scheme, rest)) = word.split_once("://") else { return word.to_owned() };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}{}", path.split('?').next().unwrap_or_default())
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
        let words: Vec<String> =
            command.split(|&byte| byte == 0).map(|word| shown(&String::from_utf8_lossy(word))).collect();
        self.command.iter().all(|word| words.contains(word))
    }
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn records_have_no_secrets() {
        for (word, expected) in [
            ("--header=api-key: s", "--header=[hidden]"),
            ("http://user:s@host:9/v1?token=s", "http://host:9/v1"),
            ("http://u:s@s@host?token=s", "http://host"),
            ("--judge=https://s@host/v1#s", "--judge=https://host/v1#s"),
            ("--out=a@b/c?d", "--out=a@b/c?d"),
        ] {
            assert_eq!(shown(word), expected);
        }
    }
}
