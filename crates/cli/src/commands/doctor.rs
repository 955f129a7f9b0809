//! `smpo doctor`: the machine and a model, looked at before the first run.

mod machine;
mod model;
mod page;
mod speed;

use std::path::PathBuf;

use serde::Serialize;

use crate::exit::{Exit, Outcome};
use crate::output::{self, Format};
use crate::progress::Progress;

/// Check this machine, and a model if one is named: device, memory, speed, template, terminators.
#[derive(clap::Args)]
#[command(after_help = "Exit codes: 0 all usable, 1 something is not.

Examples:
  smpo doctor
  smpo doctor hf://HuggingFaceTB/SmolLM2-135M-Instruct
  smpo doctor MODEL_DIR --no-speed --format json")]
pub struct DoctorArgs {
    /// Model directory in Hugging Face format or hf://ORG/NAME, GGUF file, or PEFT adapter directory
    model: Option<PathBuf>,
    /// Leave out the measurements of speed, which take about ten seconds
    #[arg(long)]
    no_speed: bool,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// CPU threads [default: all cores]
    #[arg(long)]
    threads: Option<usize>,
}

/// Version of the JSON.
const SCHEMA: u32 = 1;

/// The findings, as JSON.
#[derive(Serialize)]
struct Report {
    schema: u32,
    version: &'static str,
    /// Engines of this build.
    engines: Vec<&'static str>,
    machine: Vec<Check>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<ModelReport>,
    /// FLOP/s of training steps; absent without measurements.
    #[serde(skip_serializing_if = "Option::is_none")]
    training_flops_per_s: Option<f64>,
}

/// A model's part of the report.
#[derive(Serialize)]
struct ModelReport {
    path: String,
    checks: Vec<Check>,
    #[serde(skip_serializing_if = "Option::is_none")]
    speed: Option<speed::ModelSpeed>,
}

/// One thing that was looked at.
#[derive(Serialize)]
struct Check {
    name: &'static str,
    state: State,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

/// Outcome of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Ok,
    Warning,
    Error,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Check { name, state: State::Ok, found: found.into(), remedy: None }
    }

    fn warning(name: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Check { name, state: State::Warning, found: found.into(), remedy: Some(remedy.into()) }
    }

    /// Errors of the libraries say themselves what to do.
    fn error(name: &'static str, error: impl std::fmt::Display) -> Self {
        Check { name, state: State::Error, found: error.to_string(), remedy: None }
    }
}

/// Runs the command.
pub fn run(args: DoctorArgs) -> Outcome {
    super::set_threads(args.threads)?;
    let progress = Progress::new();
    let machine = machine::checks();
    let flops = if args.no_speed { None } else { speed::training_flops(&progress)? };
    let model = args.model.as_deref().map(|path| model::report(path, flops, !args.no_speed, &progress));
    let report = Report {
        schema: SCHEMA,
        version: env!("CARGO_PKG_VERSION"),
        engines: machine::engines(),
        machine,
        model,
        training_flops_per_s: flops,
    };
    match args.format {
        Format::Text => output::print(&page::text(&report))?,
        Format::Json => output::print_json(&report)?,
    }
    let of_model = report.model.iter().flat_map(|model| &model.checks);
    let usable = report.machine.iter().chain(of_model).all(|check| check.state != State::Error);
    Ok(if usable { Exit::Success } else { Exit::Fail })
}
