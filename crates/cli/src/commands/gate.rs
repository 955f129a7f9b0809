//! `smpo gate`: a verdict on two arms.

use std::path::{Path, PathBuf};

use anyhow::Context;
use smpo_gate::{DecideOptions, GateError, OnInconclusive, Policy, Run, decide};
use smpo_report::verdict::{junit, markdown, text};
use smpo_results::{Verdict, write_atomic, write_json};

use crate::exit::{Blame, Exit, Failure, Outcome, io_is_usage};
use crate::output::{self, Format};

/// Decide whether a candidate is safe to take: exit 0 pass, 1 fail, 3 inconclusive.
#[derive(clap::Args)]
pub struct GateArgs {
    /// Evaluation directories of the baseline, one per training seed
    #[arg(long, value_name = "DIR", num_args = 1.., required = true)]
    baseline: Vec<PathBuf>,
    /// Evaluation directories of the candidate, one per training seed
    #[arg(long, value_name = "DIR", num_args = 1.., required = true)]
    candidate: Vec<PathBuf>,
    /// Policy file, or a shipped policy: default, strict, smoke, demo
    #[arg(long, value_name = "FILE|NAME", default_value = "default")]
    policy: String,
    /// Write the verdict as JUnit XML
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Write the verdict as Markdown, fit for a CI step summary
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Write the verdict as JSON
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Exit as if an inconclusive verdict had passed or failed, instead of with 3
    #[arg(long, value_name = "AS")]
    inconclusive: Option<Inconclusive>,
    /// How to print the verdict
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Seed of all resampling; the same seed gives the same bytes
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Threads to compute with; all cores when absent
    #[arg(long)]
    threads: Option<usize>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Inconclusive {
    Pass,
    Fail,
}

/// Runs the command.
pub fn run(args: GateArgs) -> Outcome {
    super::set_threads(args.threads)?;
    let policy = Policy::load(&args.policy).map_err(blame)?;
    let load = |dirs: &[PathBuf]| dirs.iter().map(Run::load).collect::<Result<Vec<Run>, GateError>>().map_err(blame);
    let on_inconclusive = match args.inconclusive {
        None => OnInconclusive::Report,
        Some(Inconclusive::Pass) => OnInconclusive::Pass,
        Some(Inconclusive::Fail) => OnInconclusive::Fail,
    };
    let options = DecideOptions { seed: args.seed, on_inconclusive };
    let verdict = decide(&policy, load(&args.baseline)?, load(&args.candidate)?, options).map_err(blame)?;
    write_reports(&args, &verdict)?;
    match args.format {
        Format::Text => output::print(&text::render(&verdict, output::verdict_style()))?,
        Format::Json => output::print_json(&verdict)?,
    }
    Ok(match verdict.exit_code {
        0 => Exit::Success,
        1 => Exit::Fail,
        _ => Exit::Inconclusive,
    })
}

fn write_reports(args: &GateArgs, verdict: &Verdict) -> Result<(), Failure> {
    if let Some(path) = &args.out {
        write_json(path, "verdict", verdict).execution()?;
    }
    if let Some(path) = &args.markdown {
        write_text(path, &markdown::render(verdict))?;
    }
    if let Some(path) = &args.junit {
        write_text(path, &junit::render(verdict).context("JUnit report").execution()?)?;
    }
    Ok(())
}

fn write_text(path: &Path, text: &str) -> Result<(), Failure> {
    write_atomic(path, text.as_bytes()).execution()
}

/// What is wrong with a policy or a run is its author's to mend; a disk that fails is not.
fn blame(error: GateError) -> Failure {
    let machine = matches!(&error, GateError::Results(smpo_results::Error::Io { .. })) && !io_is_usage(&error);
    if machine { Failure::Execution(error.into()) } else { Failure::Usage(error.into()) }
}
