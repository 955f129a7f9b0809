//! Checks before the first step: findings of the data check, token ids, prompts, memory.

use smpo_data::{CheckReport, OnBadRows, Row, Rule, Severity};
use smpo_losses::Objective;
use smpo_model::DecoderSpec;

use crate::config::{DataCheck, Reporter, TrainConfig};
use crate::error::TrainError;
use crate::memory;
use crate::memory_budget::MemoryBudget;
use crate::mismatched;

/// Refuses a run whose figures are to go where the environment names nothing.
///
/// # Errors
/// [`TrainError::Tracking`].
pub(crate) fn check_reporters(config: &TrainConfig) -> Result<(), TrainError> {
    if config.report_to.contains(&Reporter::Mlflow) {
        smpo_tracking::Settings::from_env()?;
    }
    Ok(())
}

/// Refuses a run whose data has errors.
///
/// # Errors
/// [`TrainError::DataCheck`] when a report has errors other than those of rows that `on_bad_rows` drops.
pub(crate) fn check_findings(
    data_check: DataCheck,
    on_bad_rows: OnBadRows,
    reports: &[CheckReport],
) -> Result<(), TrainError> {
    let refused: Vec<&CheckReport> = reports.iter().filter(|report| report.refuses(on_bad_rows)).collect();
    if refused.is_empty() || data_check != DataCheck::Refuse {
        return Ok(());
    }
    let nothing_left = refused.iter().any(|report| report.is_unreadable());
    let first = refused.into_iter().filter_map(gravest).collect();
    Err(TrainError::DataCheck { first, nothing_left })
}

/// Refuses token ids without an embedding: those of a tokenizer that is not the model's.
///
/// # Errors
/// [`TrainError::Vocabulary`] names the first row.
pub fn check_vocabulary<'a>(rows: impl Iterator<Item = &'a Row>, vocabulary: usize) -> Result<(), TrainError> {
    for row in rows {
        let completions = row.completions().flat_map(|completion| completion.ids());
        if let Some(&token) = row.prompt.iter().chain(completions).find(|id| **id as usize >= vocabulary) {
            return Err(TrainError::Vocabulary { row: row.id.clone(), token, vocabulary });
        }
    }
    Ok(())
}

/// Remark on held-out rows of which some are trained on.
pub(crate) fn remark_on_held_out(known: usize, all: usize) -> Option<String> {
    (known > 0).then(|| {
        format!(
            "{known} of {all} held-out rows are trained on too: the held-out loss says less of new rows than it seems; \
             `smpo data dedup` finds them"
        )
    })
}

/// Remark on a warm-up that is longer than the run.
pub(crate) fn remark_on_warm_up(config: &TrainConfig, total_steps: u64) -> Option<String> {
    let rate = config.learning_rate(total_steps);
    let (steps, peak) = (rate.warmup_steps, rate.peak);
    (steps > total_steps).then(|| {
        let last = rate.at(total_steps.saturating_sub(1));
        format!(
            "`warmup_steps` is {steps}, but the run has {total_steps}: the learning rate ends at {last:.3e} and never reaches \
             {peak:e}; give fewer, or `warmup_ratio`, a share of all steps"
        )
    })
}

/// For each row the index of one with another prompt, where the objective compares completions of other prompts (KTO's
/// baseline); else empty.
///
/// # Errors
/// [`TrainError::OnePrompt`] if all rows have the same prompt.
pub(crate) fn partners(objective: &Objective, rows: &[Row]) -> Result<Vec<usize>, TrainError> {
    if !objective.needs_mismatched() {
        return Ok(Vec::new());
    }
    let all: Vec<&Row> = rows.iter().collect();
    mismatched::partners(&all).ok_or(TrainError::OnePrompt { rows: rows.len() })
}

/// Refuses a run that would not fit into the free memory of its device.
///
/// # Errors
/// [`TrainError::Memory`], with the first change of the configuration that would make it fit.
pub(crate) fn check_memory(
    config: &TrainConfig,
    spec: &DecoderSpec,
    budget: MemoryBudget,
    rows: &[Row],
) -> Result<(), TrainError> {
    match memory::shortage(config, spec, budget, rows)? {
        Some(shortage) => Err(TrainError::Memory(Box::new(shortage))),
        None => Ok(()),
    }
}

/// The gravest error of a file, with its first place.
fn gravest(report: &CheckReport) -> Option<String> {
    let finding = report.findings.iter().find(|finding| finding.severity == Severity::Error)?;
    let first = finding.first.iter().find(|sample| sample.line.is_some()).or(finding.first.first());
    let line = first.and_then(|sample| sample.line).map_or(String::new(), |line| format!(":{line}"));
    let here = first.map_or("", |sample| sample.detail.as_str());
    let here = if here.is_empty() { String::new() } else { format!("{here}; ") };
    if finding.rule == Rule::UnreadableRow && report.is_unreadable() {
        let here = first.map_or("", |sample| sample.detail.as_str());
        return Some(format!("{}{line}: {here}; no row can be read, of {}", report.file, report.rows));
    }
    let times = match (finding.share, finding.count) {
        (None, _) => String::new(),
        (_, 1) => " (once)".to_owned(),
        (_, n) => format!(" ({n} times)"),
    };
    Some(format!("{}{line}: {here}{}{times}: {}", report.file, finding.what, finding.remedy))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warm_up_that_outlasts_the_run_is_remarked_on() {
        let remark = |warm_up: &str| {
            let text = format!(
                "model = \"m\"\noutput_dir = \"o\"\ndataset = \"d\"\nlearning_rate = 1e-4\n{warm_up}\n[loss]\nkind = \"dpo\"\n"
            );
            let config = TrainConfig::parse(&text, std::path::Path::new("run.toml"), &[]).unwrap();
            remark_on_warm_up(&config, 9)
        };
        assert_eq!((remark("warmup_steps = 9"), remark("warmup_ratio = 1.0"), remark("")), (None, None, None));
        let said = remark("warmup_steps = 99").unwrap();
        assert!(
            said.starts_with(
                "`warmup_steps` is 99, but the run has 9: the learning rate ends at 9.000e-6 and never reaches 1e-4"
            ),
            "{said}"
        );
    }
}
