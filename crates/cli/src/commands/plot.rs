//! `smpo plot`: metrics of training runs over their steps.

use std::path::PathBuf;

use smpo_report::curves;

use crate::exit::{Exit, OrFail, Outcome};
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
    let runs = curves::read(&args.runs)?;
    let page = curves::html(&runs).or_execution_error()?;
    smpo_files::write_whole(&args.out, page.as_bytes()).or_execution_error()?;
    print(&args.out.display().to_string())?;
    if let Some(path) = &args.csv {
        smpo_files::write_whole(path, curves::csv(&runs).as_bytes()).or_execution_error()?;
        print(&path.display().to_string())?;
    }
    Ok(Exit::Success)
}
