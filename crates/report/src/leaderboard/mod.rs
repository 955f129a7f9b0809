//! Any number of models over the same prompts, as a page, as Markdown and as JSON.

mod cards;
mod changes;
mod curve;
pub mod excerpt;
pub mod html;
pub mod json;
pub mod markdown;
mod page_data;
mod provenance;
mod publish;
mod samples;
mod scale;
pub mod story;
mod table;
pub mod text;

pub use publish::{PublishError, publish};

use smpo_results::{Board, BoardEntry, COMMON_PROMPTS, MetricEstimate};

use crate::wording;

/// The slice that holds every prompt.
pub(crate) const ALL: &str = "all";
/// The slice of held-out preference pairs.
pub(crate) const HELD_OUT: &str = "held_out";

/// The estimate of a metric on a slice, if it is a number.
pub(crate) fn estimate<'a>(entry: &'a BoardEntry, metric: &str, slice: &str) -> Option<&'a MetricEstimate> {
    entry.metrics.iter().find(|e| e.metric == metric && e.slice == slice && e.value.is_finite())
}

/// The estimate a summary shows: on the prompts that all entries answered, where they differ, else on every prompt, or on
/// the only slice there is (held-out pairs).
pub(crate) fn overall<'a>(entry: &'a BoardEntry, metric: &str) -> Option<&'a MetricEstimate> {
    let on = |slice| estimate(entry, metric, slice);
    let any = || entry.metrics.iter().find(|e| e.metric == metric && e.value.is_finite());
    on(COMMON_PROMPTS).or_else(|| on(ALL)).or_else(any)
}

/// The number of prompts of an entry, on a board whose entries answered different ones.
pub(crate) fn own_prompts(board: &Board, entry: &BoardEntry) -> Option<usize> {
    entry.prompts.filter(|_| board.common_prompts.is_some())
}

/// The prompts that a board's figures are over, for a headline: the same for all, or those that all have in common.
pub(crate) fn coverage(board: &Board) -> String {
    let counts = || board.entries.iter().filter_map(|entry| entry.prompts);
    let (least, most) = (counts().min().unwrap_or(0), counts().max().unwrap_or(0));
    match board.common_prompts {
        Some(0) => format!(
            "no prompt was answered by all models ({least} to {}): each figure is over the model's own, and ranks compare \
             two models on what both answered",
            wording::count(most, "prompt")
        ),
        Some(common) => format!(
            "models answered {least} to {}; figures are over the {common} that all answered, and ranks compare two models \
             on what both answered",
            wording::count(most, "prompt")
        ),
        None if most == 0 => String::new(),
        None => format!("{} each", wording::count(most, "prompt")),
    }
}

/// `3` or `1–2`.
pub(crate) fn band(entry: &BoardEntry) -> String {
    match entry.rank_band {
        (first, last) if first >= last => first.to_string(),
        (first, last) => format!("{first}–{last}"),
    }
}
