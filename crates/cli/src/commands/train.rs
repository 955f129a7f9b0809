//! `smpo train`: one training run.

use std::path::PathBuf;

use smpo_data::{CheckReport, Severity};
use smpo_devices::{Choice, OpenDevice};
use smpo_native::CompleteError;
use smpo_trainer::{Event, Finish, ReadConfig, Rows, StepRecord, TrainConfig, TrainError};

use crate::exit::{Exit, Failure, Outcome, io_is_usage, is_io};
use crate::progress::{Progress, Stage};
use crate::{interrupt, memory};

/// Train a model with SFT or a preference loss (DPO, SimPO, ORPO, KTO, SMPO, …).
#[derive(clap::Args)]
#[command(after_help = "Example:\n  smpo train configs/demo/modified.toml --set seed=7 --set output_dir=runs/seed-7")]
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
    /// CPU threads [default: all cores]
    #[arg(long)]
    threads: Option<usize>,
}

/// Runs the command.
pub fn run(args: TrainArgs) -> Outcome {
    let ReadConfig { mut config, notes } = TrainConfig::read(&args.config, &args.set).map_err(blame)?;
    config.device = args.device.unwrap_or(config.device);
    super::set_threads(args.threads)?;
    let progress = Progress::new();
    for note in notes {
        progress.say(&format!("{}: {note}", args.config.display()));
    }
    let finish = train(&config, args.restart, "train", &progress)?;
    Ok(match finish {
        Finish::Done { model, already, of_step, stopped } => {
            if let Some(reason) = stopped {
                progress.say(&format!("stopped early: {reason}"));
            }
            let note = match of_step {
                _ if already => " (finished before; --restart trains it again)".to_owned(),
                Some(step) => format!(" (of step {step})"),
                None => String::new(),
            };
            crate::output::print(&format!("{}{note}", model.display()))?;
            Exit::Success
        }
        Finish::Stopped { step } => {
            progress.say(&format!("stopped after step {step}; the same command goes on from there"));
            Exit::Interrupted
        }
    })
}

/// Trains under a progress bar called `name`.
pub fn train(config: &TrainConfig, restart: bool, name: &str, progress: &Progress) -> Result<Finish, Failure> {
    let mut tokenizing: Option<Stage> = None;
    let mut stage: Option<Stage> = None;
    let mut scoring: Option<Stage> = None;
    let mut last = String::new();
    let finish = smpo_trainer::train(config, restart, interrupt::flag(), &mut |event| match event {
        Event::Device(device) => tell_device(name, config, device, progress),
        Event::Checked(reports) => tell_findings(name, reports, progress),
        Event::Tokenizing { done, total } => {
            let stage = tokenizing.get_or_insert_with(|| progress.stage(&format!("{name}: tokenise"), total));
            stage.update(done, "rows");
            if done == total {
                stage.finish("");
                tokenizing = None;
            }
        }
        Event::Data(rows) => tell_rows(name, rows, progress),
        Event::Reference { done, rows } => {
            let stage =
                scoring.get_or_insert_with(|| progress.stage(&format!("{name}: reference log-probs"), rows as u64));
            stage.update(done as u64, "");
            if done == rows {
                stage.finish("");
                scoring = None;
            }
        }
        Event::Started { total_steps, done } => {
            if done > 0 {
                progress.say(&format!("{name}: going on after step {done}"));
            }
            stage = Some(progress.stage(name, total_steps));
        }
        Event::Step(record) => {
            if let Some(line) = measured(record) {
                progress.say(&format!("{name}: step {}: {line}", record.step));
            }
            if let (Some(stage), Some(line)) = (&stage, figures(record)) {
                last = line;
                let parts = [last.clone(), stage.remaining(record.step), memory::resident()];
                let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
                stage.update(record.step, &parts.join("  "));
            }
        }
        Event::Alarm(alarm) => {
            progress.say(&format!("{name}: alarm at step {}: {}; {}", alarm.step, alarm.what, alarm.remedy));
        }
        Event::Saved(_) => {}
    })
    .map_err(blame)?;
    if let Some(stage) = &stage {
        stage.finish(&last);
    }
    Ok(finish)
}

/// The figures of a step for the bar; `None` at step 0, which has none of training.
fn figures(record: &StepRecord) -> Option<String> {
    let update = record.update?;
    let mut parts = vec![match record.metric("loss") {
        Some(loss) => format!("loss {loss:.3}"),
        None => "skipped".to_owned(),
    }];
    parts.extend(record.metric("rewards/margins").map(|margin| format!("margin {margin:.2}")));
    parts.extend(record.metric("eos_logp/rejected").map(|eos| format!("EOS on rejected {eos:.2}")));
    parts.push(format!("{:.0} tok/s", update.tokens_per_s));
    Some(parts.join("  "))
}

/// What evaluation and probe found, for a line of its own.
fn measured(record: &StepRecord) -> Option<String> {
    let mut parts = Vec::new();
    let mut add = |name: &str, label: &str, decimals: usize| {
        parts.extend(record.metric(name).map(|value| format!("{label} {value:.decimals$}")));
    };
    add("eval_loss", "held-out loss", 4);
    add("eval_rewards/accuracies", "accuracy", 3);
    add("eval_rewards/margins", "margin", 3);
    add("probe/eos_rate", "probe: completions that end", 3);
    add("probe/loop_rate", "loops", 3);
    add("probe/length", "tokens", 1);
    add("probe/eos_logp", "log p of EOS", 2);
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// Which device it is where that was left open, and what it does not compute in.
fn tell_device(name: &str, config: &TrainConfig, device: &OpenDevice, progress: &Progress) {
    if config.device == Choice::Auto {
        progress.say(&format!("{name}: {}", super::device::describe(device)));
    }
    let (wanted, element) = (config.wanted_element(), config.element(device.kind()));
    if wanted != element {
        let key = if config.bf16 { "bf16" } else { "fp16" };
        let (wanted, element) = (wanted.name(), element.name());
        progress.say(&format!("{name}: `{key}` is for GPUs: the processor trains in {element} instead of {wanted}"));
    }
}

/// The table where the data has errors, a line where it has less.
fn tell_findings(name: &str, reports: &[CheckReport], progress: &Progress) {
    for report in reports {
        let warnings = report.count(Severity::Warning);
        if report.has_errors() {
            progress.say(&super::data::findings(report));
        } else if warnings > 0 {
            let rules: Vec<&str> = report
                .findings
                .iter()
                .filter(|finding| finding.severity == Severity::Warning)
                .map(|finding| finding.rule.id())
                .collect();
            progress.say(&format!("{name}: {}: {warnings} warnings ({})", report.file, rules.join(", ")));
        }
    }
}

/// What became of the data on its way to tokens.
fn tell_rows(name: &str, rows: &Rows, progress: &Progress) {
    let truncated = rows.truncated;
    let total = rows.train.len() + rows.held_out.len();
    if !rows.held_out.is_empty() {
        progress.say(&format!("{name}: {} rows to train on, {} held out", rows.train.len(), rows.held_out.len()));
    }
    if truncated.prompts + truncated.completions > 0 {
        progress.say(&format!(
            "{name}: of {total} rows, {} lost prompt tokens and {} lost completion tokens to max_length",
            truncated.prompts, truncated.completions
        ));
    }
    if rows.bad.count > 0 {
        progress.say(&format!("{name}: {} bad rows dropped (on_bad_rows):", rows.bad.count));
        for bad in &rows.bad.first {
            progress.say(&format!("  {bad}"));
        }
        if rows.bad.count as usize > rows.bad.first.len() {
            progress.say("  …; `smpo data check` counts them by kind");
        }
    }
    if let Some(error) = &rows.not_kept {
        progress.say(&format!("{name}: the tokens cannot be kept for the next run: {error}"));
    }
}

/// A configuration, data or model that is wrong is its author's to mend; a disk that fails is not.
pub fn blame(error: TrainError) -> Failure {
    let error = match error {
        TrainError::Device(error) => return super::device::blame(error),
        error => error,
    };
    let wrong_input = match &error {
        TrainError::Config { .. }
        | TrainError::Data(_)
        | TrainError::Encode(_)
        | TrainError::Model(_)
        | TrainError::Probe(CompleteError::Model(_))
        | TrainError::Loss(_)
        | TrainError::DataCheck { .. }
        | TrainError::NoSuchMetric { .. }
        | TrainError::OtherRun { .. } => true,
        TrainError::Io { action, .. } => *action == "read",
        _ => false,
    };
    let machine = is_io(&error) && !io_is_usage(&error);
    if wrong_input && !machine { Failure::Usage(error.into()) } else { Failure::Execution(error.into()) }
}
