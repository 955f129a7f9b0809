//! Labels of a file in a few numbers: those that a classifier gives, and how they agree with those that the rows have.

use comfy_table::Table;
use serde::Serialize;
use smpo_losses::LabelCounts;
use smpo_model::Labels;

use super::row::{Row, Side};
use crate::output;

/// One label of a classifier.
#[derive(Serialize)]
pub struct LabelShare {
    label: String,
    /// Share of the texts that are given it.
    share: f64,
    /// Its mean probability.
    probability: f64,
    /// Rows that have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    rows: Option<u64>,
    /// Share of those that are given it and have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    precision: Option<f64>,
    /// Share of those that have it and are given it.
    #[serde(skip_serializing_if = "Option::is_none")]
    recall: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    f1: Option<f64>,
}

/// Agreement with the labels of the rows.
#[derive(Serialize)]
pub struct Agreement {
    /// Rows with labels that the model has.
    n: u64,
    /// Rows with a label that it does not have.
    unknown: u64,
    /// Share of rows of which exactly the labels were found.
    accuracy: Option<f64>,
    macro_f1: Option<f64>,
    micro_f1: Option<f64>,
    #[serde(skip)]
    counts: LabelCounts,
}

impl Agreement {
    /// That of rows with labels; `None` where no row has any.
    pub fn of(labels: &Labels, rows: &[Row]) -> Option<Self> {
        let (mut counts, mut unknown) = (LabelCounts::new(labels.count(), labels.multiple), 0);
        for row in rows {
            let (Some(names), [side]) = (&row.labels, &row.sides[..]) else { continue };
            let index = |name: &String| labels.names.iter().position(|known| known == name);
            match names.iter().map(index).collect::<Option<Vec<usize>>>() {
                None => unknown += 1,
                Some(_) if side.values.is_none() => {}
                Some(indices) => counts.push(&indices, &side.given(labels)),
            }
        }
        let n = counts.accuracy.count;
        (n + unknown > 0).then(|| Self {
            n,
            unknown,
            accuracy: counts.accuracy.value(),
            macro_f1: counts.macro_f1(),
            micro_f1: counts.micro_f1(),
            counts,
        })
    }

    /// Lines of text.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let (Some(accuracy), Some(macro_f1), Some(micro_f1)) = (self.accuracy, self.macro_f1, self.micro_f1) {
            let share = 100.0 * accuracy;
            let micro = if self.counts.multiple { format!(", micro F1 {micro_f1:.3}") } else { String::new() };
            let rows = if self.n == 1 { "row" } else { "rows" };
            lines
                .push(format!("right in {share:.1} % of {} {rows} with labels, macro F1 {macro_f1:.3}{micro}", self.n));
        }
        if self.unknown > 0 {
            let have = if self.unknown == 1 { "row has" } else { "rows have" };
            lines.push(format!("{} {have} a label that the model does not have", self.unknown));
        }
        lines
    }
}

/// Shares of the labels among some texts.
pub fn shares(labels: &Labels, scored: &[&Side], agreement: Option<&Agreement>) -> Vec<LabelShare> {
    let share = |(label, name): (usize, &String)| {
        let given = scored.iter().filter(|side| side.given(labels).contains(&label)).count();
        let probability: f64 = scored.iter().filter_map(|side| Some(side.probabilities(labels)?[label])).sum();
        let n = scored.len().max(1) as f64;
        let counts = agreement.filter(|agreement| agreement.n > 0).map(|agreement| agreement.counts.of_label[label]);
        let ratio = |of: u64| counts.filter(|_| of > 0).map(|counts| counts.right as f64 / of as f64);
        LabelShare {
            label: name.clone(),
            share: given as f64 / n,
            probability: probability / n,
            rows: counts.map(|counts| counts.right + counts.missed),
            precision: counts.and_then(|counts| ratio(counts.right + counts.wrong)),
            recall: counts.and_then(|counts| ratio(counts.right + counts.missed)),
            f1: counts.map(|counts| counts.f1()),
        }
    };
    labels.names.iter().enumerate().map(share).collect()
}

/// The labels as a table.
pub fn table(labels: &[LabelShare]) -> Table {
    let mut table = output::table();
    let compared = labels.iter().any(|label| label.rows.is_some());
    let of_rows = ["rows", "precision", "recall", "F1"].into_iter().filter(|_| compared);
    table.set_header(["label", "given", "mean probability"].into_iter().chain(of_rows));
    for label in labels {
        let number = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.3}"));
        let mut cells =
            vec![label.label.clone(), format!("{:.1} %", 100.0 * label.share), format!("{:.3}", label.probability)];
        if compared {
            cells.push(label.rows.map_or_else(|| "–".to_owned(), |rows| rows.to_string()));
            cells.extend([label.precision, label.recall, label.f1].map(number));
        }
        table.add_row(cells);
    }
    table
}
