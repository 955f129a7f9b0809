//! The verdict of the data check before the first step.

use smpo_data::{CheckReport, OnBadRows, Severity};

use crate::error::TrainError;

/// Refuses a run whose data has errors.
///
/// # Errors
/// [`TrainError::DataCheck`] when a report has errors other than those of rows that `on_bad_rows` drops.
pub(crate) fn refuse_errors(reports: &[CheckReport], on_bad_rows: OnBadRows) -> Result<(), TrainError> {
    let refused = reports.iter().filter(|report| report.refuses(on_bad_rows));
    let first: Vec<String> = refused.filter_map(gravest).collect();
    if first.is_empty() { Ok(()) } else { Err(TrainError::DataCheck { first }) }
}

/// The gravest error of a file, with its first place.
fn gravest(report: &CheckReport) -> Option<String> {
    let finding = report.findings.iter().find(|finding| finding.severity == Severity::Error)?;
    let first = finding.first.iter().find(|sample| sample.line.is_some()).or(finding.first.first());
    let line = first.and_then(|sample| sample.line).map_or(String::new(), |line| format!(":{line}"));
    let here = first.map_or("", |sample| sample.detail.as_str());
    let here = if here.is_empty() { String::new() } else { format!("{here}; ") };
    let times = if finding.count == 1 { "once".to_owned() } else { format!("{} times", finding.count) };
    Some(format!("{}{line}: {here}{} ({times}): {}", report.file, finding.what, finding.remedy))
}
