//! `smpo train`: one training run.

use std::path::PathBuf;

use smpo_data::{CheckReport, Severity};
use smpo_trainer::{Event, Finish, Rows, TrainConfig, TrainError};

use crate::exit::{Exit, Failure, Outcome, io_is_usage, is_io};
use crate::interrupt;
use crate::progress::{Progress, Stage};

/// One training run: SFT or any preference loss.
#[derive(clap::Args)]
pub struct TrainArgs {
    /// TOML configuration; paths in it are relative to the working directory
    config: PathBuf,
    /// Override a key: `--set learning_rate=1e-5 --set loss.beta=1.2`
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Throw away what an earlier run left in output_dir
    #[arg(long)]
    restart: bool,
    /// Threads to compute with; all cores when absent
    #[arg(long)]
    threads: Option<usize>,
}

/// Runs the command.
pub fn run(args: TrainArgs) -> Outcome {
    let config = TrainConfig::read(&args.config, &args.set).map_err(blame)?;
    super::set_threads(args.threads)?;
    let progress = Progress::new();
    let finish = train(&config, args.restart, "train", &progress)?;
    Ok(match finish {
        Finish::Done { model, already } => {
            let note = if already { " (finished before; --restart trains it again)" } else { "" };
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
    let mut last = String::new();
    let finish = smpo_trainer::train(config, restart, interrupt::flag(), &mut |event| match event {
        Event::Checked(reports) => tell_findings(name, reports, progress),
        Event::Tokenizing { done, total } => {
            let stage = tokenizing.get_or_insert_with(|| progress.stage(&format!("{name}: tokenise"), total));
            stage.update(done, "rows");
            if done == total {
                stage.finish("done");
            }
        }
        Event::Data(rows) => tell_rows(name, rows, progress),
        Event::Reference => progress.say(&format!("{name}: scoring the data with the reference model")),
        Event::Started { total_steps, done } => {
            if done > 0 {
                progress.say(&format!("{name}: going on after step {done}"));
            }
            stage = Some(progress.stage(name, total_steps));
        }
        Event::Step(record) => {
            last = format!("loss {:.3}", record.metric("loss").unwrap_or(f64::NAN));
            if let Some(eos) = record.metric("eos_logp/rejected") {
                last.push_str(&format!("  EOS on rejected {eos:.2}"));
            }
            last.push_str(&format!("  {:.0} tokens/s", record.tokens_per_s));
            if let Some(stage) = &stage {
                stage.update(record.step, &last);
            }
        }
        Event::Saved(_) => {}
    })
    .map_err(blame)?;
    if let Some(stage) = &stage {
        stage.finish(&last);
    }
    Ok(finish)
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
    let wrong_input = match &error {
        TrainError::Config { .. }
        | TrainError::Data(_)
        | TrainError::DataCheck { .. }
        | TrainError::Encode(_)
        | TrainError::Model(_)
        | TrainError::Loss(_)
        | TrainError::OtherRun { .. } => true,
        TrainError::Io { action, .. } => *action == "read",
        _ => false,
    };
    let machine = is_io(&error) && !io_is_usage(&error);
    if wrong_input && !machine { Failure::Usage(error.into()) } else { Failure::Execution(error.into()) }
}
