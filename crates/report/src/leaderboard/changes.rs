//! The prompts that changed between a verdict's arms, with their places in the page's sample browser.

use smpo_results::{Flip, MetricVerdict, Verdict};

use super::page_data::PageData;
use crate::inert::short_line;
use crate::{figure, wording};

/// Changed prompts that a page lists for each metric, each way.
const LISTED: usize = 20;

/// The changed prompts of one metric.
pub(crate) struct Changes {
    /// `EOS rate: 58 prompts worse, 2 better`.
    pub(crate) summary: String,
    /// Those that changed most, worse ones first.
    pub(crate) prompts: Vec<Change>,
    /// Changed prompts that are not listed.
    pub(crate) more: usize,
}

/// One prompt.
pub(crate) struct Change {
    pub(crate) worse: bool,
    pub(crate) prompt: String,
    pub(crate) slice: String,
    /// `100.0 % → 0.0 %`.
    pub(crate) values: String,
    /// Board and place in its browser, if the completions are on the page.
    pub(crate) place: Option<(usize, usize)>,
}

/// Keys of the listed prompts of all verdicts: slice and id.
pub(crate) fn prompts(verdicts: &[Verdict]) -> Vec<(&str, &str)> {
    let metrics = verdicts.iter().flat_map(|verdict| &verdict.metrics).filter(|metric| metric.primary);
    metrics.flat_map(listed).map(|(_, flip)| (flip.slice.as_str(), flip.prompt_id.as_str())).collect()
}

/// Worse and better prompts of a metric, as many as a page lists.
fn listed(metric: &MetricVerdict) -> impl Iterator<Item = (bool, &Flip)> {
    metric.flips.iter().flat_map(|flips| {
        let worse = flips.worse.iter().take(LISTED).map(|flip| (true, flip));
        worse.chain(flips.better.iter().take(LISTED).map(|flip| (false, flip)))
    })
}

/// The changes of a verdict's primary metrics, without metrics on which no prompt changed.
pub(crate) fn of(verdict: &Verdict, data: &PageData) -> Vec<Changes> {
    let changed = verdict.metrics.iter().filter(|metric| metric.primary);
    changed.filter_map(|metric| of_metric(metric, data)).collect()
}

fn of_metric(metric: &MetricVerdict, data: &PageData) -> Option<Changes> {
    let flips = metric.flips.as_ref()?;
    let total = flips.worse_total + flips.better_total;
    if total == 0 {
        return None;
    }
    let prompts: Vec<Change> = listed(metric).map(|(worse, flip)| change(worse, flip, metric, data)).collect();
    let on = match metric.slice.as_str() {
        super::ALL => String::new(),
        slice => format!(" · {}", wording::slice(slice)),
    };
    let summary = format!(
        "{}{on}: {} worse, {} better",
        wording::metric(&metric.metric),
        wording::count(flips.worse_total, "prompt"),
        wording::thousands(flips.better_total)
    );
    Some(Changes { summary, more: total.saturating_sub(prompts.len()), prompts })
}

fn change(worse: bool, flip: &Flip, metric: &MetricVerdict, data: &PageData) -> Change {
    let key = (flip.slice.clone(), flip.prompt_id.clone());
    let place = |(board, data): (usize, &super::page_data::BoardData)| Some((board, *data.samples.places.get(&key)?));
    Change {
        worse,
        prompt: short_line(&flip.prompt_id, 60),
        slice: wording::slice(&flip.slice),
        values: format!(
            "{} → {}",
            figure::value(metric.unit, flip.baseline),
            figure::value(metric.unit, flip.candidate)
        ),
        place: data.boards.iter().enumerate().find_map(place),
    }
}
