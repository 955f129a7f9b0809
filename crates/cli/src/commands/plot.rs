//! `smpo plot`: metrics of training runs over their steps.

use std::path::PathBuf;

use serde_json::json;
use smpo_report::curves;

use crate::exit::{Exit, OrFail, Outcome};
use crate::output::{self, Format};
use crate::outputs;

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
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Runs the command.
pub fn run(args: PlotArgs) -> Outcome {
    outputs::check(&args.runs, &[("--out", Some(&args.out)), ("--csv", args.csv.as_deref())])?;
    let runs = curves::read(&args.runs)?;
    let page = curves::html(&runs).or_execution_error()?;
    smpo_files::write_whole(&args.out, page.as_bytes()).or_execution_error()?;
    if let Some(path) = &args.csv {
        smpo_files::write_whole(path, curves::csv(&runs).as_bytes()).or_execution_error()?;
    }
    match args.format {
        Format::Text => {
            let written = [Some(&args.out), args.csv.as_ref()].into_iter().flatten();
            let written: Vec<String> = written.map(|path| path.display().to_string()).collect();
            output::print(&written.join("\n"))?;
        }
        Format::Json => output::print_json(&json!({"schema": 1, "page": args.out, "csv": args.csv}))?,
    }
    Ok(Exit::Success)
}
