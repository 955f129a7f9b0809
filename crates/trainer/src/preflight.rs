//! The data check before the first step: what would teach the model the wrong thing ends the run before it costs hours.

use std::ops::ControlFlow;

use smpo_data::{CheckReport, ReadError, Severity, check};
use smpo_tokenizer::ChatTokenizer;

use crate::config::{DataCheck, TrainConfig};
use crate::error::TrainError;
use crate::row;

/// Checks every file of a run against its model and lengths, as `smpo data check` does; no report with
/// `data_check = "off"`. `done` is told the rows of the current file so far, and may break off: then there is no result.
///
/// # Errors
/// When a file cannot be opened; what is wrong in it is in the reports.
pub fn preflight(
    config: &TrainConfig,
    tokenizer: &ChatTokenizer,
    done: &dyn Fn(u64) -> ControlFlow<()>,
) -> Result<Option<Vec<CheckReport>>, ReadError> {
    if config.data_check == DataCheck::Off {
        return Ok(Some(Vec::new()));
    }
    let truncation = row::truncation(config, tokenizer);
    let mut reports = Vec::with_capacity(config.dataset.len() + config.eval_dataset.len());
    for file in config.dataset.iter().chain(&config.eval_dataset) {
        match check(file, Some(tokenizer), &truncation, done)? {
            Some(report) => reports.push(report),
            None => return Ok(None),
        }
    }
    Ok(Some(reports))
}

/// Refuses a run that its data check speaks against.
///
/// # Errors
/// When a report has errors that the run neither drops nor was told to train on.
pub fn refuse(config: &TrainConfig, reports: &[CheckReport]) -> Result<(), TrainError> {
    let refused: Vec<String> =
        reports.iter().filter(|report| report.refuses(config.on_bad_rows)).filter_map(gravest).collect();
    if refused.is_empty() || config.data_check != DataCheck::Refuse {
        return Ok(());
    }
    Err(TrainError::DataCheck { first: refused })
}

/// The gravest error of a file: its first place, and what is there.
fn gravest(report: &CheckReport) -> Option<String> {
    let finding = report.findings.iter().find(|finding| finding.severity == Severity::Error)?;
    let first = finding.first.iter().find(|sample| sample.line.is_some()).or(finding.first.first());
    let line = first.and_then(|sample| sample.line).map_or(String::new(), |line| format!(":{line}"));
    let here = first.map_or("", |sample| sample.detail.as_str());
    let here = if here.is_empty() { String::new() } else { format!("{here}; ") };
    let times = if finding.count == 1 { "once".to_owned() } else { format!("{} times", finding.count) };
    Some(format!("{}{line}: {here}{} ({times}): {}", report.file, finding.what, finding.remedy))
}
