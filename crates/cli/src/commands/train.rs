//! `smpo train`: one training run.

mod check;
mod next;
mod ranks;
mod watch;

use std::path::{Path, PathBuf};

use smpo_devices::Choice;
use smpo_files::resolved;
use smpo_trainer::{EarlierRun, Finish, Ranks, ReadConfig, RunDir, TrainConfig};

use super::prompt;
use crate::exit::{Exit, Failure, Outcome};
use crate::hub::model_dir;
use crate::interrupt;
use crate::output::{self, Format};
use crate::progress::Progress;
use watch::Watch;

/// Train a model with SFT or a preference loss (DPO, SimPO, ORPO, KTO, SMPO, …).
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smpo train configs/demo/modified.toml --set seed=7 --set output_dir=runs/seed-7
  smpo train configs/demo/modified.toml --check
  smpo train their-trl-dpo.yaml --set output_dir=runs/dpo")]
pub struct TrainArgs {
    /// Configuration file, TOML, YAML or JSON; files of TRL, LLaMA-Factory, Halo, effective_llm_alignment and axolotl run
    /// unchanged, with their defaults (docs/imports.md). Paths in it are relative to the working directory
    config: PathBuf,
    /// Trainer that the file is for: trl, llamafactory, halo, ela or axolotl [default: told by its keys]
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// Override a configuration key; repeatable: `--set learning_rate=1e-5 --set loss.beta=1.2`; null takes it out
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Device to train on: auto (a GPU if this build and machine have one), cpu, cuda or cuda:N
    /// [default: `device` of the configuration]
    #[arg(long, value_name = "DEVICE")]
    device: Option<Choice>,
    /// Delete existing results in output_dir and start over instead of resuming
    #[arg(long)]
    restart: bool,
    /// Resume although the data has changed: the new rows begin at their first epoch, steps go on counting, and the
    /// learning rate follows its schedule over the new total
    #[arg(long, conflicts_with_all = ["restart", "check"])]
    data_changed: bool,
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

/// Endings of data files, which are easily given in place of a configuration.
const DATA: [&str; 6] = ["jsonl", "parquet", "arrow", "csv", "gz", "zst"];

/// Runs the command.
pub fn run(args: TrainArgs) -> Outcome {
    if args.config.extension().is_some_and(|ending| DATA.iter().any(|data| ending == *data)) {
        return Err(Failure::user(format!(
            "{}: expected a configuration in TOML, YAML or JSON, got a data file; a configuration names it as `dataset` \
             (`smpo train --help` has an example, docs/configuration.md every key)",
            args.config.display()
        )));
    }
    let ReadConfig { mut config, notes, .. } = TrainConfig::read_as(&args.config, args.profile.as_deref(), &args.set)?;
    config.device = args.device.unwrap_or(config.device);
    keep_config(&args.config, &config, args.restart && !args.check)?;
    resolve_models(&mut config)?;
    super::set_threads(args.threads)?;
    let progress = Progress::new();
    let ranks = if args.check { Ranks::default() } else { ranks::start(&mut config.device)? };
    for note in notes.iter().filter(|_| ranks.leads()) {
        progress.say(&format!("{}: {note}", args.config.display()));
    }
    if args.check {
        return check::run(&config, args.format, &progress);
    }
    let earlier = match (args.restart, args.data_changed) {
        (true, _) => EarlierRun::Restart,
        (false, true) => EarlierRun::ResumeOnNewData,
        (false, false) => EarlierRun::Resume,
    };
    let leads = ranks.leads();
    let finish = train(ranks, &config, earlier, "train", &progress)?;
    match (leads, &config.prompt) {
        (true, Some(_)) => return prompt::print(&finish, args.format, &progress),
        (true, None) => {
            print(&finish, args.format, &progress)?;
            if let (Finish::Done { model, .. }, Format::Text) = (&finish, args.format) {
                progress.say(&next::steps(&config, model));
            }
        }
        (false, _) => {}
    }
    Ok(match finish {
        Finish::Done { .. } => Exit::Success,
        Finish::Stopped { .. } => Exit::Interrupted,
    })
}

/// Refuses a file of the user's that the run's own record would replace.
fn keep_config(file: &Path, config: &TrainConfig, restart: bool) -> Result<(), Failure> {
    let dir = RunDir::new(&config.output_dir);
    let same = resolved(file) == resolved(&dir.config());
    let problem = match dir.origin().exists() || dir.metrics().exists() {
        _ if !same => return Ok(()),
        true if !restart => return Ok(()),
        true => "starting over removes that file before the run writes it again; copy it elsewhere",
        false => "the run writes its whole configuration to that file; rename yours",
    };
    Err(Failure::user(format!("{}: {problem}, or choose another output_dir", file.display())))
}

/// Puts directories in place of names of the Hugging Face Hub. The run records them, so that it keeps to one commit.
fn resolve_models(config: &mut TrainConfig) -> Result<(), Failure> {
    config.model_name_or_path = model_dir(&config.model_name_or_path)?;
    let others = [&mut config.adapter_name_or_path, &mut config.reference_model_name_or_path];
    for model in others.into_iter().flatten() {
        *model = model_dir(model)?;
    }
    Ok(())
}

/// Trains under a progress bar called `name`.
pub fn train(
    ranks: Ranks,
    config: &TrainConfig,
    earlier: EarlierRun,
    name: &str,
    progress: &Progress,
) -> Result<Finish, Failure> {
    let mut watch = Watch::new(name, config, progress);
    let finish = smpo_trainer::train_on(&ranks, config, earlier, interrupt::flag(), &mut |event| watch.show(event));
    if finish.is_err() {
        // The others may wait for this rank: it ends without taking leave, and the launcher ends them.
        std::mem::forget(ranks);
    }
    let finish = finish?;
    watch.finish();
    Ok(finish)
}

/// Prints the result of a run on standard output, and remarks on standard error.
fn print(finish: &Finish, format: Format, progress: &Progress) -> Result<(), Failure> {
    let text = match finish {
        Finish::Done { model, already, of_step, stopped } => {
            if let Some(reason) = stopped {
                progress.say(&format!("stopped early: {reason}"));
            }
            let note = match of_step {
                _ if *already => " (already finished; --restart trains it again)".to_owned(),
                Some(step) => format!(" (of step {step})"),
                None => String::new(),
            };
            Some(format!("{}{note}", model.display()))
        }
        Finish::Stopped { step } => {
            progress.say(&format!("stopped after step {step}; the same command resumes from there"));
            None
        }
    };
    match (format, text) {
        (Format::Json, _) => output::print_json(&finish.json()),
        (Format::Text, Some(text)) => output::print(&text),
        (Format::Text, None) => Ok(()),
    }
}
