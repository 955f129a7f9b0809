//! The preflight linter: what in a file, or in a model directory, would teach a model the wrong thing, found before
//! hours are spent on it.

mod rows;
mod rule;
mod tally;

use std::ops::ControlFlow;
use std::path::Path;

use rayon::prelude::*;
use serde::Serialize;
use smpo_tokenizer::ChatTokenizer;

use crate::read_error::ReadError;
use crate::reader::{Row, records};
use crate::record::Record;
use crate::{OnBadRows, Truncation};

pub use rule::{Rule, Severity};
pub use tally::Sample;

use tally::Tally;

/// Rows that are read before they are checked in parallel; bounds memory.
const CHUNK: usize = 512;

/// One rule that was broken.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// Which rule.
    pub rule: Rule,
    /// How bad it is.
    pub severity: Severity,
    /// Rows (or sides of rows) that break it; 1 for what concerns the model directory.
    pub count: u64,
    /// The same as a share of all rows; absent for what concerns the model directory.
    pub share: Option<f64>,
    /// The first offenders.
    pub first: Vec<Sample>,
    /// What is wrong.
    pub what: &'static str,
    /// What to do about it.
    pub remedy: &'static str,
}

/// What a check found in one file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CheckReport {
    /// The file.
    pub file: String,
    /// Rows that are not blank, readable or not.
    pub rows: u64,
    /// Preference pairs among them.
    pub pairs: u64,
    /// Labelled completions among them.
    pub labelled: u64,
    /// Instruction examples among them.
    pub examples: u64,
    /// Broken rules, errors first.
    pub findings: Vec<Finding>,
}

impl CheckReport {
    /// How many findings are of a severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }

    /// Whether training on this file should be refused.
    pub fn has_errors(&self) -> bool {
        self.count(Severity::Error) > 0
    }

    /// The same for a run that may leave out rows: what it drops anyway is no reason to refuse.
    pub fn refuses(&self, on_bad_rows: OnBadRows) -> bool {
        let dropped =
            |rule| on_bad_rows == OnBadRows::Drop && matches!(rule, Rule::UnreadableRow | Rule::NotRenderable);
        self.findings.iter().any(|finding| finding.severity == Severity::Error && !dropped(finding.rule))
    }
}

/// Checks a file. Without a tokenizer only what the text itself shows is checked; with one, also terminators,
/// lengths against `truncation`, and the model directory. `done` is told the rows checked so far, and may break off:
/// then there is no report.
///
/// # Errors
/// When the file cannot be opened; everything after that is a finding.
pub fn check(
    path: impl AsRef<Path>,
    tokenizer: Option<&ChatTokenizer>,
    truncation: &Truncation,
    done: &dyn Fn(u64) -> ControlFlow<()>,
) -> Result<Option<CheckReport>, ReadError> {
    let path = path.as_ref();
    let mut tally = Tally::default();
    if let Some(tokenizer) = tokenizer {
        rule::model_findings(tokenizer, &mut tally);
    }
    let mut rows = records(path)?;
    loop {
        let mut chunk: Vec<Row<Record>> = Vec::with_capacity(CHUNK);
        let mut ended = true;
        for row in rows.by_ref() {
            match row {
                Ok(row) => chunk.push(row),
                Err(error) => tally.unreadable(&error),
            }
            if chunk.len() == CHUNK {
                ended = false;
                break;
            }
        }
        let facts: Vec<_> = chunk.par_iter().map(|row| rows::inspect(&row.record, tokenizer, truncation)).collect();
        for (row, facts) in chunk.iter().zip(facts) {
            tally.row(row, facts);
        }
        if done(tally.rows()).is_break() {
            return Ok(None);
        }
        if ended {
            return Ok(Some(tally.report(path)));
        }
    }
}
