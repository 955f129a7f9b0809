//! Counts of prompts, samples and rows.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Candidate, Dropped, Rows, Selected, Spread};

/// Counts of a run, `report.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Prompts.
    pub prompts: usize,
    /// Samples, failed ones included.
    pub samples: usize,
    /// Samples that the engine failed on.
    pub failed: usize,
    /// Samples that did not fail and have no score.
    pub unscored: usize,
    /// Questions that the judge gave no usable answer to.
    pub unjudged: usize,
    /// Prompts that gave at least one row.
    pub kept: usize,
    /// Rows written.
    pub rows: usize,
    /// Prompts without a row by reason.
    pub dropped: BTreeMap<Dropped, usize>,
    /// Scores of all samples.
    pub scores: Option<Spread>,
    /// Chosen sides; absent for groups.
    pub chosen: Option<Side>,
    /// Rejected sides; absent for groups.
    pub rejected: Option<Side>,
}

/// All chosen or all rejected sides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Side {
    /// Scores.
    pub scores: Option<Spread>,
    /// Lengths in tokens, where known.
    pub tokens: Option<Spread>,
    /// Share that was cut before its end.
    pub cut: f64,
}

impl Report {
    /// The counts; `dropped` has a reason for each prompt without a row.
    pub fn new(candidates: &[Candidate<'_>], rows: &[Rows<'_>], dropped: &[Dropped], unjudged: usize) -> Report {
        let failed = candidates.iter().filter(|one| one.answered.failed()).count();
        let scored = candidates.iter().filter(|one| one.score.is_some()).count();
        let (mut chosen, mut rejected, mut count) = (Vec::new(), Vec::new(), 0);
        for of_prompt in rows {
            match &of_prompt.selected {
                Selected::Group(_) => count += 1,
                Selected::Pairs(pairs) => {
                    count += pairs.len();
                    chosen.extend(pairs.iter().map(|(index, _)| of_prompt.candidates[*index]));
                    rejected.extend(pairs.iter().map(|(_, index)| of_prompt.candidates[*index]));
                }
            }
        }
        let mut reasons = BTreeMap::new();
        for reason in dropped {
            *reasons.entry(*reason).or_default() += 1;
        }
        Report {
            prompts: rows.len() + dropped.len(),
            samples: candidates.len(),
            failed,
            unscored: candidates.len() - failed - scored,
            unjudged,
            kept: rows.len(),
            rows: count,
            dropped: reasons,
            scores: Spread::of(candidates.iter().filter_map(|one| one.score)),
            chosen: Side::of(&chosen),
            rejected: Side::of(&rejected),
        }
    }
}

impl Side {
    fn of(sides: &[Candidate<'_>]) -> Option<Side> {
        if sides.is_empty() {
            return None;
        }
        let cut = sides.iter().filter(|side| side.answered.cut()).count();
        Some(Side {
            scores: Spread::of(sides.iter().filter_map(|side| side.score)),
            tokens: Spread::of(sides.iter().filter_map(|side| side.answered.tokens().map(f64::from))),
            cut: cut as f64 / sides.len() as f64,
        })
    }
}
