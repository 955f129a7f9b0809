//! `smpo train`: one training run.

mod check;
mod watch;

use std::path::{Path, PathBuf};

use serde::Serialize;
use smpo_devices::Choice;
use smpo_trainer::{Finish, ReadConfig, TrainConfig};

use crate::exit::{Exit, Failure, Outcome};
use crate::interrupt;
use crate::output::{self, Format};
use crate::progress::Progress;
use watch::Watch;

/// Train a model with SFT or a preference loss (DPO, SimPO, ORPO, KTO, SMPO, …).
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smpo train configs/demo/modified.toml --set seed=7 --set output_dir=runs/seed-7
  smpo train configs/demo/modified.toml --check")]
pub struct TrainArgs {
    /// Configuration file, TOML or YAML (effective_llm_alignment's configs run unchanged); paths in it are relative to
    /// the working directory
    config: PathBuf,
    /// Override a configuration key; repeatable: `--set learning_rate=1e-5 --set loss.beta=1.2`
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Device to train on: auto (a GPU if this build and machine have one), cpu, cuda or cuda:N
    /// [default: `device` of the configuration]
    #[arg(long, value_name = "DEVICE")]
    device: Option<Choice>,
    /// Delete existing results in output_dir and start over instead of resuming
    #[arg(long)]
    restart: bool,
    /// Check configuration, data and memory, print the result and exit: 0 if the run can start, 2 with all errors if not
    #[arg(long, conflicts_with = "restart")]
    check: bool,
    /// Output format of the result
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// CPU threads [default: all cores]
    #[arg(long)]
    threads: Option<usize>,
}

/// Runs the command.
pub fn run(args: TrainArgs) -> Outcome {
    let ReadConfig { mut config, notes } = TrainConfig::read(&args.config, &args.set)?;
    config.device = args.device.unwrap_or(config.device);
    super::set_threads(args.threads)?;
    let progress = Progress::new();
    for note in notes {
        progress.say(&format!("{}: {note}", args.config.display()));
    }
    if args.check {
        return check::run(&config, args.format, &progress);
    }
    let finish = train(&config, args.restart, "train", &progress)?;
    print(&finish, args.format, &progress)?;
    Ok(match finish {
        Finish::Done { .. } => Exit::Success,
        Finish::Stopped { .. } => Exit::Interrupted,
    })
}

/// Trains under a progress bar called `name`.
pub fn train(config: &TrainConfig, restart: bool, name: &str, progress: &Progress) -> Result<Finish, Failure> {
    let mut watch = Watch::new(name, config, progress);
    let finish = smpo_trainer::train(config, restart, interrupt::flag(), &mut |event| watch.show(event))?;
    watch.finish();
    Ok(finish)
}

/// Result of a run, as JSON.
#[derive(Serialize)]
struct Trained<'a> {
    schema: u32,
    /// Absent if the run was interrupted.
    model: Option<&'a Path>,
    /// Step of the checkpoint that the model is, if not the last step; of an interrupted run, steps done.
    step: Option<u64>,
    /// Reason for ending before the last step.
    stopped: Option<String>,
    /// True if the run had finished before.
    already: bool,
}

/// Prints the result of a run on standard output, and remarks on standard error.
fn print(finish: &Finish, format: Format, progress: &Progress) -> Result<(), Failure> {
    let result = match finish {
        Finish::Done { model, already, of_step, stopped } => {
            let stopped = stopped.map(|reason| reason.to_string());
            Trained { schema: 1, model: Some(model), step: *of_step, stopped, already: *already }
        }
        Finish::Stopped { step } => {
            progress.say(&format!("stopped after step {step}; the same command resumes from there"));
            Trained { schema: 1, model: None, step: Some(*step), stopped: None, already: false }
        }
    };
    if let Some(reason) = &result.stopped {
        progress.say(&format!("stopped early: {reason}"));
    }
    match (format, result.model) {
        (Format::Json, _) => output::print_json(&result),
        (Format::Text, None) => Ok(()),
        (Format::Text, Some(model)) => {
            let note = match result.step {
                _ if result.already => " (already finished; --restart trains it again)".to_owned(),
                Some(step) => format!(" (of step {step})"),
                None => String::new(),
            };
            output::print(&format!("{}{note}", model.display()))
        }
    }
}
