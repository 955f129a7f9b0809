//! `smpo plot`: the figures of training runs over their steps.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use serde_json::{Map, Value};
use smpo_report::curves::{self, Point, Run, Series};

use crate::exit::{Blame, Exit, Failure, Outcome};
use crate::output::print;

/// Plot the training metrics of one or more runs over their steps, on one self-contained HTML page.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  smpo plot runs/regular runs/modified --out curves.html")]
pub struct PlotArgs {
    /// Run directories, or their metrics.jsonl; several runs are overlaid
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// HTML file to write
    #[arg(long, value_name = "FILE", default_value = "curves.html")]
    out: PathBuf,
    /// Also write the metrics as CSV (run, step, figure, value), for pandas, MLflow or W&B
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: PlotArgs) -> Outcome {
    let paths: Vec<PathBuf> =
        args.runs.iter().map(|run| if run.is_dir() { run.join("metrics.jsonl") } else { run.clone() }).collect();
    let names = names(&args.runs);
    let mut runs = Vec::with_capacity(paths.len());
    for (path, name) in paths.iter().zip(names) {
        runs.push(Run { name, series: read(path)? });
    }
    let page = curves::html(&runs).execution()?;
    smpo_files::write_whole(&args.out, page.as_bytes()).execution()?;
    print(&args.out.display().to_string())?;
    if let Some(path) = &args.csv {
        smpo_files::write_whole(path, table(&runs).as_bytes()).execution()?;
        print(&path.display().to_string())?;
    }
    Ok(Exit::Success)
}

/// The shortest ends of the paths that tell them apart.
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

/// Every number of every line, by name. A last line that is half written is the next step's, and left out.
fn read(path: &Path) -> Result<Vec<Series>, Failure> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(anyhow!("{}: expected a run's metrics.jsonl, got no such file", path.display())).usage();
        }
        Err(error) => return Err(error).with_context(|| format!("{}: cannot read", path.display())).usage(),
    };
    let mut series: Vec<Series> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let object: Map<String, Value> = match serde_json::from_str(line) {
            Ok(object) => object,
            Err(_) if !text.ends_with('\n') && index + 1 == text.lines().count() => break,
            Err(error) => {
                return Err(anyhow!("{}:{}: expected a JSON object: {error}", path.display(), index + 1)).usage();
            }
        };
        let Some(step) = object.get("step").and_then(Value::as_f64) else {
            return Err(anyhow!("{}:{}: expected a number in `step`", path.display(), index + 1)).usage();
        };
        for (name, value) in &object {
            let Some(value) = value.as_f64().filter(|_| name != "step") else { continue };
            let point = Point { step, value };
            match series.iter_mut().find(|series| series.name == *name) {
                Some(series) => series.points.push(point),
                None => series.push(Series { name: name.clone(), points: vec![point] }),
            }
        }
    }
    if series.is_empty() {
        return Err(anyhow!("{}: expected the figures of at least one step, got none", path.display())).usage();
    }
    Ok(series)
}

fn table(runs: &[Run]) -> String {
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

    #[test]
    fn fields_are_quoted_where_they_must_be() {
        assert_eq!(field("a,\"b\""), "\"a,\"\"b\"\"\"");
    }
}
