//! `metrics.jsonl` of training runs as curves, and curves as CSV.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::{Point, Run, Series};

/// Errors of reading the metrics of a run.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// I/O error.
    #[error("{}: cannot read: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The I/O error.
        source: std::io::Error,
    },
    /// There is no such file.
    #[error("{}: expected a run's metrics.jsonl, got no such file", .0.display())]
    Missing(PathBuf),
    /// A line is not a step's metrics.
    #[error("{}:{line}: expected {problem}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// 1-based line.
        line: usize,
        /// Expected content.
        problem: String,
    },
    /// No metrics.
    #[error("{}: expected the metrics of at least one step, got none", .0.display())]
    Empty(PathBuf),
}

/// Reads run directories, or their `metrics.jsonl`. Runs are named by the shortest ends of their paths that differ.
///
/// # Errors
/// [`ReadError`].
pub fn read(runs: &[PathBuf]) -> Result<Vec<Run>, ReadError> {
    let file = |run: &PathBuf| if run.is_dir() { run.join("metrics.jsonl") } else { run.clone() };
    let named = runs.iter().zip(names(runs));
    named.map(|(run, name)| Ok(Run { name, series: read_series(&file(run))? })).collect()
}

/// Shortest ends of the paths that differ.
fn names(runs: &[PathBuf]) -> Vec<String> {
    let parts = |run: &Path| -> Vec<String> {
        let run = if run.ends_with("metrics.jsonl") { run.parent().unwrap_or(run) } else { run };
        let run = std::path::absolute(run).unwrap_or_else(|_| run.to_owned());
        run.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect()
    };
    let all: Vec<Vec<String>> = runs.iter().map(|run| parts(run)).collect();
    let end = |parts: &[String], count: usize| parts[parts.len().saturating_sub(count)..].join("/");
    all.iter()
        .map(|mine| {
            let unique =
                |count: &usize| all.iter().filter(|other| end(other, *count) == end(mine, *count)).count() == 1;
            end(mine, (1..=mine.len()).find(unique).unwrap_or(mine.len()))
        })
        .collect()
}

/// Every number of every line, by name; none that is not finite. Blank lines are none, and a last line that is half written
/// belongs to the next step and is left out.
fn read_series(path: &Path) -> Result<Vec<Series>, ReadError> {
    let text = std::fs::read_to_string(path).map_err(|source| match source.kind() {
        ErrorKind::NotFound => ReadError::Missing(path.to_owned()),
        _ => ReadError::Io { path: path.to_owned(), source },
    })?;
    let mut series: Vec<Series> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let problem = |problem: String| ReadError::Line { path: path.to_owned(), line: index + 1, problem };
        if line.trim().is_empty() {
            continue;
        }
        let finite = smpo_data::with_non_finite(line); // as Python writes NaN
        let object: Map<String, Value> = match serde_json::from_str(finite.as_deref().unwrap_or(line)) {
            Ok(object) => object,
            Err(_) if !text.ends_with('\n') && index + 1 == text.lines().count() => break,
            Err(error) => return Err(problem(format!("a JSON object: {error}"))),
        };
        let step = object.get("step").and_then(Value::as_f64);
        let step = step.ok_or_else(|| problem("a number in `step`".to_owned()))?;
        for (name, value) in &object {
            let Some(value) = value.as_f64().filter(|_| name != "step") else { continue };
            let point = Point { step, value };
            match series.iter_mut().find(|series| series.name == *name) {
                Some(series) => series.points.push(point),
                None => series.push(Series { name: name.clone(), points: vec![point] }),
            }
        }
    }
    if series.is_empty() { Err(ReadError::Empty(path.to_owned())) } else { Ok(series) }
}

/// The curves as CSV with the columns run, step, figure, value.
pub fn csv(runs: &[Run]) -> String {
    let mut text = "run,step,figure,value\n".to_owned();
    for run in runs {
        for series in &run.series {
            for Point { step, value } in &series.points {
                text += &format!("{},{step},{},{value}\n", field(&run.name), field(&series.name));
            }
        }
    }
    text
}

/// A CSV field (RFC 4180).
fn field(text: &str) -> String {
    let quoted = text.contains([',', '"', '\n', '\r']);
    if quoted { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_short_as_they_can_be() {
        let names = |runs: &[&str]| names(&runs.iter().map(PathBuf::from).collect::<Vec<_>>());
        assert_eq!(names(&["/a/runs/x", "/a/runs/y/metrics.jsonl"]), ["x", "y"]);
        assert_eq!(names(&["/a/x", "/b/x"]), ["a/x", "b/x"]);
    }

    /// A run that diverged, as Python writes it.
    #[test]
    fn what_is_not_finite_is_left_out_and_blank_lines_are_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        std::fs::write(&path, "{\"step\": 1, \"loss\": 0.5}\n{\"step\": 2, \"loss\": NaN, \"lr\": 1e-5}\n\n").unwrap();
        let series = read_series(&path).unwrap();
        let points = |name: &str| series.iter().find(|series| series.name == name).unwrap().points.len();
        assert_eq!((points("loss"), points("lr")), (1, 1));
        std::fs::write(&path, "{\"step\": 1, \"loss\": Nil}\n").unwrap();
        assert!(read_series(&path).is_err());
    }

    #[test]
    fn fields_are_quoted_where_they_must_be() {
        assert_eq!(field("a,\"b\""), "\"a,\"\"b\"\"\"");
    }
}
