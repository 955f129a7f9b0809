//! Metric estimates of one or several models for a terminal.

use comfy_table::{CellAlignment, Table};
use smpo_results::{MetricEstimate, MetricsFile, Unit};

use crate::inert::{NAME, apart};
use crate::leaderboard::ALL;
use crate::plain_table;

/// Every metric of one model over the whole suite.
pub fn one(model: &str, metrics: &MetricsFile) -> String {
    let mut table = plain_table();
    table.set_header([model, "value [95 % interval]", "prompts"]);
    for info in smpo_metrics::all().iter().map(|metric| metric.info) {
        if let Some(estimate) = metrics.get(info.id, ALL) {
            table.add_row([info.id.to_owned(), cell(estimate), estimate.n.to_string()]);
        }
    }
    right_aligned(table)
}

/// The summary metrics of several models over the whole suite, a row per model.
pub fn several(models: &[(&str, &MetricsFile)]) -> String {
    let has = |id: &str| models.iter().any(|(_, metrics)| metrics.get(id, ALL).is_some());
    let summary = smpo_metrics::all().iter().map(|metric| metric.info).filter(|info| info.summary);
    let columns: Vec<&str> = summary.map(|info| info.id).filter(|id| has(id)).collect();
    let mut table = plain_table();
    table.set_header(["model", "prompts"].into_iter().chain(columns.iter().copied()));
    let names: Vec<&str> = models.iter().map(|(model, _)| *model).collect();
    for (name, (_, metrics)) in apart(&names, NAME).into_iter().zip(models) {
        let prompts = metrics.get("error_rate", ALL).map_or(0, |estimate| estimate.n);
        let values = columns.iter().map(|id| metrics.get(id, ALL).map_or_else(|| "–".into(), cell));
        table.add_row([name, prompts.to_string()].into_iter().chain(values));
    }
    right_aligned(table)
}

fn right_aligned(mut table: Table) -> String {
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

/// `4.2 % [2.7, 6.4]` or `1.873 [1.851, 1.895]`.
fn cell(estimate: &MetricEstimate) -> String {
    let MetricEstimate { value, ci_low, ci_high, .. } = estimate;
    match estimate.unit {
        Unit::Share => format!("{:.1} % [{:.1}, {:.1}]", value * 100.0, ci_low * 100.0, ci_high * 100.0),
        Unit::Tokens | Unit::Rank => format!("{value:.1} [{ci_low:.1}, {ci_high:.1}]"),
        Unit::Nats | Unit::Ratio | Unit::Number => format!("{value:.3} [{ci_low:.3}, {ci_high:.3}]"),
    }
}
