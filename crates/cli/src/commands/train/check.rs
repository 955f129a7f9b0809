//! `smpo train --check`: a run up to its first step.

use serde::Serialize;
use smpo_data::{CheckReport, Severity};
use smpo_trainer::{DryRun, MemoryPlan, TrainConfig, dry_run};

use super::watch::Watch;
use crate::exit::{Classify, Exit, ExitClass, Failure, Outcome};
use crate::interrupt;
use crate::output::{self, Format};
use crate::progress::Progress;

/// Checks the run and prints what was found; fails with all errors.
pub fn run(config: &TrainConfig, format: Format, progress: &Progress) -> Outcome {
    let mut watch = Watch::new("check", config, progress);
    let Some(found) = dry_run(config, interrupt::flag(), &mut |event| watch.show(event))? else {
        return Ok(Exit::Interrupted);
    };
    match format {
        Format::Text => output::print(&text(config, &found))?,
        Format::Json => output::print_json(&Checked::new(config, &found))?,
    }
    match failure(found) {
        Some(failure) => Err(failure),
        None => Ok(Exit::Success),
    }
}

/// All errors as one: a user error if one of them is.
fn failure(found: DryRun) -> Option<Failure> {
    let user = found.errors.iter().any(|error| error.exit_class() == ExitClass::User);
    let messages: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
    let error = match &messages[..] {
        [] => return None,
        [only] => only.clone(),
        several => format!("the run cannot start: {} errors\n  {}", several.len(), several.join("\n  ")),
    };
    Some(if user { Failure::user(error) } else { Failure::execution(error) })
}

fn text(config: &TrainConfig, found: &DryRun) -> String {
    let mut lines = vec![
        format!("model   {}", config.model_name_or_path.display()),
        format!("loss    {}", config.loss.loss.kind()),
    ];
    for report in &found.data {
        lines.push(format!("data    {}", counts(report)));
    }
    if let Some(rows) = &found.rows {
        let truncated = rows.truncated;
        lines.push(format!(
            "rows    {} to train on, {} held out, {} dropped; {} prompts and {} completions truncated",
            rows.train, rows.held_out, rows.dropped, truncated.prompts, truncated.completions
        ));
    }
    if let Some(steps) = found.steps {
        lines.push(format!("steps   {steps} of {} rows", config.batch_size()));
    }
    let MemoryPlan { estimate, reference, tokens, .. } = &found.memory;
    let reference = if *reference > 0 { format!(", reference model {}", gigabytes(*reference)) } else { String::new() };
    lines.push(format!(
        "memory  about {} (weights {}, gradients {}, moments {}, activations of a pack of {tokens} tokens {}{reference}), \
         {} free",
        gigabytes(found.memory.total()),
        gigabytes(estimate.weights),
        gigabytes(estimate.gradients),
        gigabytes(estimate.optimizer),
        gigabytes(estimate.activations),
        gigabytes(found.free_memory),
    ));
    lines.join("\n")
}

/// File, rows and number of findings.
fn counts(report: &CheckReport) -> String {
    let (errors, warnings) = (report.count(Severity::Error), report.count(Severity::Warning));
    format!("{}: {} rows, {errors} kinds of errors, {warnings} of warnings", report.file, report.rows)
}

fn gigabytes(bytes: u64) -> String {
    format!("{:.1} GB", bytes as f64 / 1e9)
}

/// Result as JSON.
#[derive(Serialize)]
struct Checked<'a> {
    schema: u32,
    config: &'a TrainConfig,
    data: &'a [CheckReport],
    /// Absent if the rows cannot be loaded.
    rows: Option<Rows>,
    steps: Option<u64>,
    memory: Memory,
    errors: Vec<String>,
}

#[derive(Serialize)]
struct Rows {
    train: usize,
    held_out: usize,
    dropped: u64,
    truncated_prompts: usize,
    truncated_completions: usize,
}

#[derive(Serialize)]
struct Memory {
    pack_tokens: usize,
    weights_bytes: u64,
    gradients_bytes: u64,
    optimizer_bytes: u64,
    activations_bytes: u64,
    reference_bytes: u64,
    total_bytes: u64,
    free_bytes: u64,
}

impl<'a> Checked<'a> {
    fn new(config: &'a TrainConfig, found: &'a DryRun) -> Self {
        let estimate = &found.memory.estimate;
        Checked {
            schema: 1,
            config,
            data: &found.data,
            rows: found.rows.map(|rows| Rows {
                train: rows.train,
                held_out: rows.held_out,
                dropped: rows.dropped,
                truncated_prompts: rows.truncated.prompts,
                truncated_completions: rows.truncated.completions,
            }),
            steps: found.steps,
            memory: Memory {
                pack_tokens: found.memory.tokens,
                weights_bytes: estimate.weights,
                gradients_bytes: estimate.gradients,
                optimizer_bytes: estimate.optimizer,
                activations_bytes: estimate.activations,
                reference_bytes: found.memory.reference,
                total_bytes: found.memory.total(),
                free_bytes: found.free_memory,
            },
            errors: found.errors.iter().map(ToString::to_string).collect(),
        }
    }
}
