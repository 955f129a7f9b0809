//! The check that `smpo data check` does, before anything is trained on a file.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use smpo_data::{ChatTokenizer, CheckReport, Finding, Severity, Truncation, check};

use crate::config::{DataCheck, TrainConfig};
use crate::error::TrainError;
use crate::run::Event;

/// Checks every file that the run reads. `false` when stopped on the way.
///
/// # Errors
/// When a file cannot be opened, or has errors that the configuration does not accept.
pub(crate) fn run(
    config: &TrainConfig,
    tokenizer: &ChatTokenizer,
    truncation: &Truncation,
    stop: &AtomicBool,
    watch: &mut dyn FnMut(Event<'_>),
) -> Result<bool, TrainError> {
    if config.data_check == DataCheck::Off {
        return Ok(true);
    }
    for path in config.dataset.iter().chain(&config.eval_dataset) {
        let go_on = |_| if stop.load(Ordering::SeqCst) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        let Some(report) = check(path, Some(tokenizer), truncation, &go_on)? else { return Ok(false) };
        watch(Event::Checked(&report));
        if config.data_check == DataCheck::Refuse && report.has_errors() {
            return Err(refusal(path, &report));
        }
    }
    Ok(true)
}

fn refusal(path: &Path, report: &CheckReport) -> TrainError {
    let errors = report.findings.iter().filter(|finding| finding.severity == Severity::Error);
    TrainError::Preflight { file: path.to_owned(), findings: errors.map(|finding| told(path, finding)).collect() }
}

fn told(path: &Path, finding: &Finding) -> String {
    let place = finding.first.iter().find_map(|sample| sample.line);
    let place = place.map_or(String::new(), |line| format!(", first at {}:{line}", path.display()));
    format!("{} ({} times{place}): {}", finding.what, finding.count, finding.remedy)
}
