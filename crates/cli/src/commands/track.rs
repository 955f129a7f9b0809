//! `smpo track`: a run's metrics, configuration and artefacts in MLflow.

use std::path::PathBuf;

use serde::Serialize;
use smpo_tracking::{Settings, Tracked, TrackingError};
use smpo_trainer::RunDir;

use crate::exit::{Exit, Outcome};
use crate::output::{self, Format};

/// Send a run's metrics, its configuration and any artefacts to MLflow; the same run there each time.
#[derive(clap::Args)]
#[command(
    after_help = "The server, the experiment and credentials are those of MLflow's own client: MLFLOW_TRACKING_URI,
MLFLOW_EXPERIMENT_NAME, MLFLOW_TRACKING_TOKEN, MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD.

Example:\n  smpo track runs/dpo --artifact gate/verdict.json --artifact leaderboard"
)]
pub struct TrackArgs {
    /// Run directory, or another with a metrics.jsonl
    run: PathBuf,
    /// File or folder to send as an artefact; repeatable
    #[arg(long = "artifact", value_name = "PATH")]
    artifacts: Vec<PathBuf>,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// The result as JSON.
#[derive(Serialize)]
struct Sent<'a> {
    schema: u32,
    run_id: &'a str,
    page: String,
    /// Last step that the server has; null if the run has none.
    last_step: Option<u64>,
    artifacts: Vec<String>,
}

/// Version of the JSON.
const SCHEMA: u32 = 1;

/// Runs the command.
pub fn run(args: TrackArgs) -> Outcome {
    let dir = RunDir::new(&args.run);
    if !dir.metrics().is_file() {
        return Err(TrackingError::NoRun { dir: args.run }.into());
    }
    let mut tracked = Tracked::open(&args.run, &Settings::from_env()?, &dir.name())?;
    let last_step = tracked.send()?;
    let mut artifacts = Vec::new();
    for path in &args.artifacts {
        artifacts.extend(tracked.upload(path)?);
    }
    let sent = Sent { schema: SCHEMA, run_id: tracked.run_id(), page: tracked.page(), last_step, artifacts };
    match args.format {
        Format::Text => output::print(&text(&sent))?,
        Format::Json => output::print_json(&sent)?,
    }
    Ok(Exit::Success)
}

fn text(sent: &Sent<'_>) -> String {
    let steps = sent.last_step.map_or_else(|| "no step yet".to_owned(), |step| format!("up to step {step}"));
    let mut lines = vec![format!("{}: {steps}", sent.page)];
    lines.extend(sent.artifacts.iter().map(|name| format!("  {name}")));
    lines.join("\n")
}
