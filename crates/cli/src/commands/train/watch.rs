//! Progress and remarks of a training run on standard error.

use std::path::PathBuf;

use smpo_data::{CheckReport, FileProgress, Severity, list_unread};
use smpo_devices::{Choice, OpenDevice};
use smpo_trainer::{Event, Rows, StepRecord, TrainConfig};

use crate::progress::{Progress, Stage};
use crate::{memory, output};

/// Shows the events of a run.
pub struct Watch<'a> {
    name: &'a str,
    config: &'a TrainConfig,
    progress: &'a Progress,
    /// Data file that is being read.
    reading: Option<(PathBuf, Stage)>,
    scoring: Option<Stage>,
    steps: Option<Stage>,
    /// Metrics of the last step.
    last: String,
}

impl<'a> Watch<'a> {
    /// Shows the events of a run under `name`.
    pub fn new(name: &'a str, config: &'a TrainConfig, progress: &'a Progress) -> Self {
        Watch { name, config, progress, reading: None, scoring: None, steps: None, last: String::new() }
    }

    /// Shows an event.
    pub fn show(&mut self, event: Event<'_>) {
        let Self { name, config, progress, .. } = *self;
        match event {
            Event::Device(device) => show_device(name, config, device, progress),
            Event::Note(note) => progress.say(&format!("{name}: {note}")),
            Event::Reading(file) => self.show_reading(file),
            Event::Checked(reports) => {
                self.end_reading();
                show_findings(name, reports, progress);
            }
            Event::Data(rows) => {
                self.end_reading();
                show_rows(name, config, rows, progress);
            }
            Event::Reference { done, rows } => {
                let start = || progress.stage(&format!("{name}: reference log-probs"), rows as u64);
                let stage = self.scoring.get_or_insert_with(start);
                stage.update(done as u64, "");
                if done == rows {
                    stage.finish("");
                    self.scoring = None;
                }
            }
            Event::Started { total_steps, done } => {
                if done > 0 {
                    progress.say(&format!("{name}: resuming after step {done}"));
                }
                self.steps = Some(progress.stage(name, total_steps));
            }
            Event::Step(record) => self.show_step(record),
            Event::Alarm(alarm) => {
                progress.say(&format!("{name}: alarm at step {}: {}; {}", alarm.step, alarm.what, alarm.remedy));
            }
            Event::Saved(_) => {}
        }
    }

    /// Shows a data file in a stage of its own, in percent of the file.
    fn show_reading(&mut self, file: FileProgress<'_>) {
        if self.reading.as_ref().is_none_or(|(path, _)| path != file.file) {
            self.end_reading();
            let file_name = file.file.file_name().unwrap_or_default().to_string_lossy();
            let stage = self.progress.stage(&format!("{}: read {file_name}", self.name), 100);
            self.reading = Some((file.file.to_owned(), stage));
        }
        if let Some((_, stage)) = &self.reading {
            stage.update((100.0 * file.share) as u64, &format!("% {} rows", file.rows));
        }
    }

    fn end_reading(&mut self) {
        if let Some((_, stage)) = self.reading.take() {
            stage.finish("");
        }
    }

    fn show_step(&mut self, record: &StepRecord) {
        if let Some(line) = measured(record) {
            self.progress.say(&format!("{}: step {}: {line}", self.name, record.step));
        }
        if let (Some(stage), Some(line)) = (&self.steps, of_training(record)) {
            self.last = line;
            let parts = [self.last.clone(), memory::resident()];
            let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
            stage.update(record.step, &parts.join("  "));
        }
    }

    /// Ends the bar of the steps.
    pub fn finish(&self) {
        if let Some(stage) = &self.steps {
            stage.finish(&self.last);
        }
    }
}

/// Metrics of a training step for the bar; `None` at step 0.
fn of_training(record: &StepRecord) -> Option<String> {
    let update = record.update?;
    let mut parts = vec![match record.metric("loss") {
        Some(loss) => format!("loss {loss:.3}"),
        None => "skipped".to_owned(),
    }];
    parts.extend(record.metric("accuracy").map(|accuracy| format!("accuracy {accuracy:.2}")));
    parts.extend(of_both(record, "accuracies", "accuracy"));
    parts.extend(of_both(record, "margins", "margin"));
    parts.extend(record.metric("eos_logp/rejected").map(|eos| format!("EOS rejected {eos:.2}")));
    parts.push(format!("{:.0} tok/s", update.tokens_per_s));
    Some(parts.join("  "))
}

/// A metric of the model's own log-probs, and beside it that of the loss's rewards where it shows another number: they are against
/// a reference, or of transformed log-probs. Unpaired rows have the second alone.
fn of_both(record: &StepRecord, name: &str, label: &str) -> Option<String> {
    let shown = |group: &str| record.metric(&format!("{group}/{name}")).map(|value| format!("{value:.2}"));
    match (shown("logps"), shown("rewards")) {
        (Some(own), Some(rewards)) if own != rewards => Some(format!("{label} {own} ({rewards} of rewards)")),
        (own, rewards) => own.or(rewards).map(|value| format!("{label} {value}")),
    }
}

/// Metrics of evaluation and probe, for a line of their own.
fn measured(record: &StepRecord) -> Option<String> {
    let mut parts = Vec::new();
    let mut add = |name: &str, label: &str, decimals: usize| {
        parts.extend(record.metric(name).map(|value| format!("{label} {value:.decimals$}")));
    };
    add("eval_loss", "held-out loss", 4);
    add("eval_best_loss", "best", 4);
    add("eval_logps/accuracies", "accuracy", 3);
    add("eval_accuracy", "accuracy", 3);
    add("eval_f1/macro", "macro F1", 3);
    add("eval_f1/micro", "micro F1", 3);
    add("eval_logps/accuracies_without_eos", "without EOS", 3);
    add("eval_logps/margins", "margin", 3);
    add("probe/eos_rate", "probe: completions that end", 3);
    add("probe/loop_rate", "loops", 3);
    add("probe/length", "tokens", 1);
    add("probe/eos_logp", "log p of EOS", 2);
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// The device, if it was chosen automatically, and the dtype, if the device lacks the configured one.
fn show_device(name: &str, config: &TrainConfig, device: &OpenDevice, progress: &Progress) {
    if config.device == Choice::Auto {
        progress.say(&format!("{name}: {}", crate::commands::device::describe(device)));
    }
    let (requested, dtype) = (config.requested_dtype(), config.dtype(device.kind()));
    if requested != dtype {
        let key = if config.bf16 { "bf16" } else { "fp16" };
        let (requested, dtype) = (requested.name(), dtype.name());
        progress.say(&format!("{name}: `{key}` is for GPUs: the CPU trains in {dtype} instead of {requested}"));
    }
}

/// The table of findings if the data has errors, a line if it has warnings.
fn show_findings(name: &str, reports: &[CheckReport], progress: &Progress) {
    for report in reports {
        if !report.unread.is_empty() {
            let unread = list_unread(&report.unread);
            progress.say(&format!("{name}: {}: keys that nothing reads, with their rows: {unread}", report.file));
        }
        if report.has_errors() {
            progress.say(&smpo_report::data::findings(report, output::width()));
        } else if report.count(Severity::Warning) > 0 {
            let rules: Vec<&str> = report
                .findings
                .iter()
                .filter(|finding| finding.severity == Severity::Warning)
                .map(|finding| finding.rule.id())
                .collect();
            let warnings = report.counted(Severity::Warning);
            progress.say(&format!("{name}: {}: {warnings} ({})", report.file, rules.join(", ")));
        }
    }
}

/// Counts of rows: held out, truncated, unfinished, dropped.
fn show_rows(name: &str, config: &TrainConfig, rows: &Rows, progress: &Progress) {
    let truncated = rows.truncated;
    let total = rows.train.len() + rows.held_out.len();
    if !rows.held_out.is_empty() {
        let train = smpo_suggest::counted(rows.train.len(), "row");
        progress.say(&format!("{name}: {train} to train on, {} held out", rows.held_out.len()));
    }
    if truncated.prompts + truncated.completions > 0 {
        progress.say(&format!(
            "{name}: of {}, {} lost prompt tokens to max_prompt_length and {} completion tokens to max_length",
            smpo_suggest::counted(total, "row"),
            truncated.prompts,
            truncated.completions
        ));
    }
    if rows.unfinished.any() {
        progress.say(&format!(
            "{name}: {} (unfinished = \"{policy}\")",
            rows.unfinished,
            policy = config.unfinished.name()
        ));
    }
    if rows.degenerate.any() {
        progress.say(&format!("{name}: {}", rows.degenerate));
    }
    if rows.bad.count > 0 {
        let dropped = smpo_suggest::counted(rows.bad.count, "bad row");
        progress.say(&format!("{name}: {dropped} dropped (on_bad_rows): {}", rows.bad));
        for bad in &rows.bad.first {
            progress.say(&format!("  {bad}"));
        }
        if rows.bad.count as usize > rows.bad.first.len() {
            progress.say("  …; `smpo data convert --drop-bad` lists all");
        }
    }
    if let Some(error) = &rows.cache_write_error {
        progress.say(&format!("{name}: the tokens cannot be cached for the next run: {error}"));
    }
}
