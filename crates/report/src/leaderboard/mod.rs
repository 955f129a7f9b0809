//! Any number of models over the same prompts, as a page, as Markdown and as JSON.

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

use smpo_results::{BoardEntry, MetricEstimate};

/// The slice that holds every prompt.
pub(crate) const ALL: &str = "all";
/// The slice of held-out preference pairs.
pub(crate) const HELD_OUT: &str = "held_out";

/// The estimate of a metric on a slice, if it is a number.
pub(crate) fn estimate<'a>(entry: &'a BoardEntry, metric: &str, slice: &str) -> Option<&'a MetricEstimate> {
    entry.metrics.iter().find(|e| e.metric == metric && e.slice == slice && e.value.is_finite())
}

/// The estimate a summary shows: on every prompt, or on the only slice there is (held-out pairs).
pub(crate) fn overall<'a>(entry: &'a BoardEntry, metric: &str) -> Option<&'a MetricEstimate> {
    estimate(entry, metric, ALL).or_else(|| entry.metrics.iter().find(|e| e.metric == metric && e.value.is_finite()))
}

/// `3` or `1–2`.
pub(crate) fn band(entry: &BoardEntry) -> String {
    match entry.rank_band {
        (first, last) if first >= last => first.to_string(),
        (first, last) => format!("{first}–{last}"),
    }
}
