//! The lines of `metrics.jsonl` as MLflow's metrics.

use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use smpo_files::FileError;

use crate::client::now;
use crate::error::TrackingError;

/// Lines of a file, from where the last ones ended.
pub(crate) struct Lines {
    path: PathBuf,
    /// Byte and line that follow.
    next: (u64, usize),
}

/// The metrics of a step.
pub(crate) struct Step {
    pub step: u64,
    pub metrics: Vec<Value>,
}

impl Lines {
    pub(crate) fn of(dir: &Path) -> Self {
        Lines { path: dir.join("metrics.jsonl"), next: (0, 1) }
    }

    /// The whole lines that have come since; half a line that is being written waits for the next call. None while the
    /// file does not exist.
    pub(crate) fn read(&mut self) -> Result<Vec<Step>, TrackingError> {
        let read = |error| TrackingError::from(FileError::at(&self.path, "read")(error));
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(read(error)),
        };
        file.seek(SeekFrom::Start(self.next.0)).map_err(read)?;
        let (mut reader, mut steps, mut line) = (BufReader::new(file), Vec::new(), Vec::new());
        let (mut offset, mut number) = self.next;
        while reader.read_until(b'\n', &mut line).map_err(read)? > 0 && line.last() == Some(&b'\n') {
            if !line.trim_ascii().is_empty() {
                steps.push(step(&line).map_err(|problem| TrackingError::Line {
                    path: self.path.clone(),
                    line: number,
                    problem,
                })?);
            }
            offset += line.len() as u64;
            number += 1;
            line.clear();
        }
        self.next = (offset, number);
        Ok(steps)
    }
}

/// A step's figures; those that are not finite, null in the file or as Python writes them, are left out.
fn step(line: &[u8]) -> Result<Step, String> {
    let expected = "expected a JSON object with the number `step`";
    let strict: Result<Map<String, Value>, _> = serde_json::from_slice(line);
    let fields = strict.or_else(|error| serde_json::from_slice(&without_non_finite(line)).map_err(|_| error));
    let fields = fields.map_err(|error| format!("{expected}: {error}"))?;
    let step = fields.get("step").and_then(Value::as_u64).ok_or(expected)?;
    let time = now();
    let figures = fields.iter().filter(|(name, value)| *name != "step" && value.is_number());
    let metrics = figures.map(|(name, value)| json!({"key": name, "value": value, "timestamp": time, "step": step}));
    Ok(Step { step, metrics: metrics.collect() })
}

/// A line with null in place of the numbers that JSON lacks and Python writes.
fn without_non_finite(line: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(line);
    ["-Infinity", "Infinity", "NaN"]
        .into_iter()
        .flat_map(|number| [format!(": {number}"), format!(":{number}")])
        .fold(text.into_owned(), |text, number| text.replace(&number, ": null"))
        .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_once_and_whole() {
        let dir = tempfile::tempdir().unwrap();
        let mut lines = Lines::of(dir.path());
        assert!(lines.read().unwrap().is_empty());
        let path = dir.path().join("metrics.jsonl");
        std::fs::write(&path, "{\"step\":0,\"loss\":1.5,\"lr\":null}\n{\"step\":1,\"lo").unwrap();
        let steps = lines.read().unwrap();
        assert_eq!(steps.iter().map(|step| (step.step, step.metrics.len())).collect::<Vec<_>>(), [(0, 1)]);
        std::fs::write(&path, "{\"step\":0,\"loss\":1.5,\"lr\":null}\n{\"step\":1,\"loss\":2}\n").unwrap();
        assert_eq!(lines.read().unwrap()[0].metrics[0]["value"], 2);
        std::fs::write(&path, "{\"step\":0,\"loss\":NaN,\"lr\":1e-5}\n").unwrap();
        assert_eq!(Lines::of(dir.path()).read().unwrap()[0].metrics.len(), 1, "as Python writes it");
        std::fs::write(&path, "{\"step\":0,\"loss\":1.5,\"lr\":null}\n{\"step\":1,\"loss\":2}\n[]\n").unwrap();
        assert!(lines.read().err().unwrap().to_string().contains("metrics.jsonl:3: expected a JSON object"));
    }
}
