//! `smpo train --check`: a run up to its first step.

use smpo_trainer::{DryRun, EarlierRun, TrainConfig, dry_run};

use super::watch::Watch;
use crate::exit::{Classify, Exit, ExitClass, Failure, Outcome};
use crate::interrupt;
use crate::output::{self, Format};
use crate::progress::Progress;

/// Checks the run and prints what was found; fails with all errors.
pub fn run(config: &TrainConfig, format: Format, progress: &Progress) -> Outcome {
    let mut watch = Watch::new("check", config, progress);
    let Some(found) = dry_run(config, EarlierRun::Resume, interrupt::flag(), &mut |event| watch.show(event))? else {
        return Ok(Exit::Interrupted);
    };
    match format {
        Format::Text => output::print(&found.text(config))?,
        Format::Json => output::print_json(&found.json(config))?,
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
