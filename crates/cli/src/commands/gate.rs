//! `smpo gate`: a candidate tested for regressions against a baseline.

use std::path::{Path, PathBuf};

use smpo_files::{append, resolved, write_whole};
use smpo_gate::{DecideOptions, GateError, OnInconclusive, Policy, Run, decide};
use smpo_report::verdict::{junit, markdown, text};
use smpo_results::{ExitCode, Verdict, write_json};

use crate::exit::{Exit, Failure, OrFail, Outcome};
use crate::output::{self, Format};
use crate::outputs;

/// Test a candidate model for regressions against a baseline: exit 0 pass, 1 fail, 3 inconclusive.
#[derive(clap::Args)]
#[command(after_help = "Exit codes: 0 pass, 1 regression, 2 usage or input error, 3 inconclusive, 4 execution error.

Example:\n  smpo gate --baseline runs/sft/eval --candidate runs/smpo/eval --policy strict --junit gate.xml")]
pub struct GateArgs {
    /// Evaluation directories (`smpo eval --out`) of the baseline, one per training seed
    #[arg(long, value_name = "DIR", num_args = 1.., required = true)]
    baseline: Vec<PathBuf>,
    /// Evaluation directories (`smpo eval --out`) of the candidate, one per training seed
    #[arg(long, value_name = "DIR", num_args = 1.., required = true)]
    candidate: Vec<PathBuf>,
    /// Gate policy (metrics, margins, error rates): a TOML file or the name of a shipped policy
    #[arg(long, value_name = "FILE|NAME", default_value = "default", help = policy_help())]
    policy: String,
    /// Write the verdict as JUnit XML
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Write the verdict as Markdown; appended where FILE is $GITHUB_STEP_SUMMARY
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Write the verdict as JSON
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Treat an inconclusive verdict as pass (exit 0) or fail (exit 1) [default: exit 3]
    #[arg(long, value_name = "AS")]
    inconclusive: Option<Inconclusive>,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Seed of the bootstrap; the same seed gives byte-identical output
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// CPU threads [default: all cores]
    #[arg(long)]
    threads: Option<usize>,
}

fn policy_help() -> String {
    let shipped = smpo_gate::policy::shipped_names().join(", ");
    format!("Gate policy (metrics, margins, error rates): a TOML file, or a shipped policy: {shipped}")
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Inconclusive {
    Pass,
    Fail,
}

impl GateArgs {
    /// The policy.
    ///
    /// # Errors
    /// No policy of this name, or one that is wrong.
    pub fn load_policy(&self) -> Result<Policy, GateError> {
        Policy::load(&self.policy)
    }
}

/// Runs the command.
pub fn run(args: GateArgs) -> Outcome {
    super::set_threads(args.threads)?;
    let runs = args.baseline.iter().chain(&args.candidate);
    let reports =
        [("--out", args.out.as_deref()), ("--markdown", args.markdown.as_deref()), ("--junit", args.junit.as_deref())];
    outputs::check(runs, &reports)?;
    let policy = args.load_policy()?;
    let load = |dirs: &[PathBuf]| dirs.iter().map(Run::load).collect::<Result<Vec<Run>, GateError>>();
    let on_inconclusive = match args.inconclusive {
        None => OnInconclusive::Report,
        Some(Inconclusive::Pass) => OnInconclusive::Pass,
        Some(Inconclusive::Fail) => OnInconclusive::Fail,
    };
    let options = DecideOptions { seed: args.seed, on_inconclusive };
    let verdict = decide(&policy, load(&args.baseline)?, load(&args.candidate)?, options)?;
    write_reports(&args, &verdict)?;
    match args.format {
        Format::Text => output::print(&text::render(&verdict, output::verdict_style()))?,
        Format::Json => output::print_json(&verdict)?,
    }
    Ok(match verdict.exit_code {
        ExitCode::Pass => Exit::Success,
        ExitCode::Fail => Exit::Fail,
        ExitCode::Inconclusive => Exit::Inconclusive,
    })
}

fn write_reports(args: &GateArgs, verdict: &Verdict) -> Result<(), Failure> {
    if let Some(path) = &args.out {
        write_json(path, "verdict", verdict).or_execution_error()?;
    }
    if let Some(path) = &args.markdown {
        let text = markdown::render(verdict);
        if is_step_summary(path) {
            // the other commands of the step write there too
            append(path, format!("\n{text}").as_bytes()).or_execution_error()?;
        } else {
            write_text(path, &text)?;
        }
    }
    if let Some(path) = &args.junit {
        write_text(path, &junit::render(verdict).or_execution_error()?)?;
    }
    Ok(())
}

/// True for the job summary of GitHub Actions and those that follow it, which every step adds to.
fn is_step_summary(path: &Path) -> bool {
    std::env::var_os("GITHUB_STEP_SUMMARY").is_some_and(|summary| resolved(path) == resolved(summary.as_ref()))
}

fn write_text(path: &Path, text: &str) -> Result<(), Failure> {
    write_whole(path, text.as_bytes()).or_execution_error()
}
