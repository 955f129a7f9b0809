//! Rewards in a few numbers.

use std::path::Path;

use serde::Serialize;
use smpo_model::Labels;
use smpo_pairs::{PERCENTILES, Spread};

use super::classes::{self, Agreement, LabelShare};
use super::row::{Row, Side};
use crate::output;

/// Rewards of a file, or its labels.
#[derive(Serialize)]
pub struct Summary {
    schema: u32,
    model: String,
    rows: usize,
    /// Answers with values.
    pub scored: usize,
    /// Answers whose conversation is longer than the model's context.
    too_long: usize,
    /// Rewards of all answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    rewards: Option<Spread>,
    /// Rewards of the sides of pairs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pairs: Option<Pairs>,
    /// Labels of a classifier.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    labels: Vec<LabelShare>,
    /// Agreement of a classifier with the labels of the rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    agreement: Option<Agreement>,
    /// Lengths of the answers, in characters.
    lengths: Option<Spread>,
}

/// Pairs of a file.
#[derive(Serialize)]
struct Pairs {
    n: usize,
    /// Share of pairs whose chosen side has the larger reward.
    accuracy: f64,
    /// Rewards of chosen less those of rejected.
    margins: Option<Spread>,
    chosen: Option<Spread>,
    rejected: Option<Spread>,
}

impl Summary {
    pub fn of(model: &Path, labels: &Labels, rows: &[Row]) -> Self {
        let sides = || rows.iter().flat_map(|row| &row.sides);
        let scored: Vec<&Side> = sides().filter(|side| side.values.is_some()).collect();
        let is_reward = labels.is_reward();
        let agreement = if is_reward { None } else { Agreement::of(labels, rows) };
        let shares = || classes::shares(labels, &scored, agreement.as_ref());
        Summary {
            schema: 1,
            model: model.display().to_string(),
            rows: rows.len(),
            scored: scored.len(),
            too_long: sides().count() - scored.len(),
            rewards: is_reward.then(|| Spread::of(scored.iter().filter_map(|side| side.reward()))).flatten(),
            pairs: is_reward.then(|| Pairs::of(rows)).flatten(),
            labels: if is_reward { Vec::new() } else { shares() },
            lengths: Spread::of(sides().map(|side| side.characters as f64)),
            agreement,
        }
    }

    /// As text, with the file of the rows.
    pub fn text(&self, out: Option<&Path>) -> String {
        let mut lines = Vec::new();
        let mut table = output::table();
        let percentiles = PERCENTILES.iter().map(|percent| format!("p{percent}"));
        table.set_header(
            ["", "n", "mean", "std", "min"].map(str::to_owned).into_iter().chain(percentiles).chain(["max".to_owned()]),
        );
        let spreads = [
            ("reward", &self.rewards, 3),
            ("chosen", self.pairs.as_ref().map_or(&None, |pairs| &pairs.chosen), 3),
            ("rejected", self.pairs.as_ref().map_or(&None, |pairs| &pairs.rejected), 3),
            ("chosen − rejected", self.pairs.as_ref().map_or(&None, |pairs| &pairs.margins), 3),
            ("characters", &self.lengths, 0),
        ];
        for (name, spread, digits) in spreads {
            if let Some(spread) = spread {
                let number = |value: f64| format!("{value:.digits$}");
                let numbers =
                    [spread.mean, spread.std, spread.min].into_iter().chain(spread.percentiles).chain([spread.max]);
                table.add_row([name.to_owned(), spread.n.to_string()].into_iter().chain(numbers.map(number)));
            }
        }
        lines.push(table.to_string());
        let is_classifier = !self.labels.is_empty();
        if is_classifier {
            lines.push(classes::table(&self.labels).to_string());
        }
        lines.extend(self.agreement.iter().flat_map(Agreement::lines));
        if let Some(pairs) = &self.pairs {
            let share = 100.0 * pairs.accuracy;
            let scored = smpo_suggest::counted(pairs.n, "pair");
            lines.push(format!("chosen has the larger reward in {share:.1} % of {scored}"));
        }
        if self.too_long > 0 {
            let what = if is_classifier { "texts without labels" } else { "answers without a reward" };
            lines.push(format!("{} {what}: longer than the model's context", self.too_long));
        }
        let what = if is_classifier { "labels" } else { "rewards" };
        lines.extend(out.map(|out| format!("{what}: {}", out.display())));
        lines.join("\n")
    }
}

impl Pairs {
    fn of(rows: &[Row]) -> Option<Self> {
        let pairs: Vec<(f64, f64)> = rows.iter().filter_map(Row::pair).collect();
        let right = pairs.iter().filter(|(chosen, rejected)| chosen > rejected).count();
        (!pairs.is_empty()).then(|| Pairs {
            n: pairs.len(),
            accuracy: right as f64 / pairs.len() as f64,
            margins: Spread::of(pairs.iter().map(|(chosen, rejected)| chosen - rejected)),
            chosen: Spread::of(pairs.iter().map(|(chosen, _)| *chosen)),
            rejected: Spread::of(pairs.iter().map(|(_, rejected)| *rejected)),
        })
    }
}
