//! The demo's table: a row per arm, the mean over its seeds.

use comfy_table::{Cell, CellAlignment};
use serde_json::{Value, json};
use smpo_metrics::MetricInfo;
use smpo_metrics::metric::{
    broken_rate, eos_gold, eos_rate, exact_match, length, loop_rate, preference, seq_rep, stops_when_right,
};
use smpo_results::Unit;

use crate::arms::Arm;
use crate::evaluations::{Decoding, Evaluations};

/// A column: its heading, the source of its values, its metric in the catalogue.
struct Column {
    /// `{cap}` stands for the suite's cap.
    heading: &'static str,
    decoding: Decoding,
    metric: &'static MetricInfo,
}

impl Column {
    /// Decimals of the values.
    fn digits(&self) -> usize {
        match self.metric.unit {
            Unit::Share | Unit::Ratio | Unit::Number => 3,
            Unit::Nats => 2,
            Unit::Tokens | Unit::Rank => 1,
        }
    }
}

const fn column(heading: &'static str, decoding: Decoding, metric: &'static MetricInfo) -> Column {
    Column { heading, decoding, metric }
}

static COLUMNS: &[Column] = &[
    column("held-out\naccuracy", Decoding::Sampled, &preference::INFOS[0]),
    column("log p of EOS\nafter gold", Decoding::Sampled, &eos_gold::INFOS[0]),
    column("ends by {cap}\nT 0.8", Decoding::Sampled, &eos_rate::INFO),
    column("ends by {cap}\ngreedy", Decoding::Greedy, &eos_rate::INFO),
    column("loops\ngreedy", Decoding::Greedy, &loop_rate::INFO),
    column("seq-rep-4\ngreedy", Decoding::Greedy, &seq_rep::INFOS[3]),
    column("tokens\nT 0.8", Decoding::Sampled, &length::INFO),
    column("broken\nT 0.8", Decoding::Sampled, &broken_rate::INFO),
    column("exact match\ngreedy", Decoding::Greedy, &exact_match::INFO),
    column("stops when\nright, greedy", Decoding::Greedy, &stops_when_right::INFO),
];

/// The table for a terminal.
pub fn render(evaluations: &Evaluations) -> String {
    let suite = &evaluations.suite;
    let cap = suite.cap.to_string();
    let mut table = smpo_report::plain_table();
    let headings =
        std::iter::once(String::new()).chain(COLUMNS.iter().map(|column| column.heading.replace("{cap}", &cap)));
    table.set_header(headings.map(|heading| Cell::new(heading).set_alignment(CellAlignment::Right)));
    for arm in Arm::ALL {
        let mut cells = vec![Cell::new(arm.title())];
        for column in COLUMNS {
            let values = evaluations.values(arm, column.decoding, column.metric.id);
            cells.push(Cell::new(mean_and_spread(&values, column.digits())).set_alignment(CellAlignment::Right));
        }
        table.add_row(cells);
    }
    let seeds = evaluations.of(Arm::Modified).count();
    let spread =
        if seeds > 1 { format!("mean ± sd over {seeds} training seeds") } else { "one training seed".to_owned() };
    format!("\n{table}\n{} out-of-distribution prompts, cap {cap} tokens; {spread}\n", suite.prompts.len())
}

/// The table for programs: a row per arm, a list of values over seeds per column.
pub fn rows(evaluations: &Evaluations) -> Vec<Value> {
    Arm::ALL
        .into_iter()
        .map(|arm| {
            let mut row = serde_json::Map::from_iter([("arm".to_owned(), json!(arm.id()))]);
            for column in COLUMNS {
                let decoding = match column.decoding {
                    Decoding::Sampled => "sampled",
                    Decoding::Greedy => "greedy",
                };
                let values = evaluations.values(arm, column.decoding, column.metric.id);
                row.insert(format!("{}/{decoding}", column.metric.id), json!(values));
            }
            Value::Object(row)
        })
        .collect()
}

fn mean_and_spread(values: &[f64], digits: usize) -> String {
    let Some(mean) = mean(values) else { return "–".to_owned() };
    // Never −0.000.
    let mean = if mean.abs() < 0.5 * 10_f64.powi(-(digits as i32)) { 0.0 } else { mean };
    if values.len() < 2 {
        return format!("{mean:.digits$}");
    }
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (values.len() - 1) as f64;
    format!("{mean:.digits$} ±{:.digits$}", variance.sqrt())
}

/// Mean; `None` without values.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}
