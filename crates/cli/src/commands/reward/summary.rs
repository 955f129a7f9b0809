//! Rewards in a few numbers.

use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value, json};
use smpo_model::Labels;
use smpo_pairs::{PERCENTILES, Spread};

use crate::output;

/// A row of the input with its values.
pub struct Row {
    pub id: String,
    pub sides: Vec<Side>,
}

/// An answer with its values.
pub struct Side {
    /// `chosen` and `rejected`, or `completion`.
    pub name: &'static str,
    /// Length of the answer.
    pub characters: usize,
    /// A value for each label; `None` where the conversation is longer than the model's context.
    pub values: Option<Vec<f64>>,
}

impl Side {
    fn reward(&self) -> Option<f64> {
        self.values.as_ref()?.first().copied()
    }

    /// Probability of each label.
    fn probabilities(&self, labels: &Labels) -> Option<Vec<f64>> {
        let values = self.values.as_ref()?;
        if labels.multiple {
            return Some(values.iter().map(|value| 1.0 / (1.0 + (-value).exp())).collect());
        }
        let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = values.iter().map(|value| (value - most).exp()).sum();
        Some(values.iter().map(|value| (value - most).exp() / sum).collect())
    }

    /// The labels that it is given: the likeliest, or each that is likelier than not.
    fn given(&self, labels: &Labels) -> Vec<usize> {
        let probabilities = self.probabilities(labels).unwrap_or_default();
        let numbered = probabilities.iter().copied().enumerate();
        match labels.multiple {
            true => numbered.filter(|(_, p)| *p > 0.5).map(|(label, _)| label).collect(),
            false => numbered.max_by(|a, b| a.1.total_cmp(&b.1)).map(|(label, _)| label).into_iter().collect(),
        }
    }

    fn json(&self, labels: &Labels) -> Value {
        if labels.is_reward() {
            return json!(self.reward());
        }
        let named = |probabilities: Vec<f64>| -> Map<String, Value> {
            labels.names.iter().cloned().zip(probabilities.into_iter().map(Value::from)).collect()
        };
        let given: Vec<&str> = self.given(labels).into_iter().map(|label| labels.names[label].as_str()).collect();
        match (labels.multiple, given.first()) {
            (true, _) => json!({"labels": given, "probabilities": self.probabilities(labels).map(named)}),
            (false, label) => json!({"label": label, "probabilities": self.probabilities(labels).map(named)}),
        }
    }
}

impl Row {
    /// A line of the output.
    pub fn json(&self, labels: &Labels) -> Value {
        let mut line = Map::from_iter([("id".to_owned(), json!(self.id))]);
        match &self.sides[..] {
            [only] if labels.is_reward() => {
                line.insert("reward".into(), only.json(labels));
            }
            [only] => {
                if let Value::Object(fields) = only.json(labels) {
                    line.extend(fields);
                }
            }
            sides => line.extend(sides.iter().map(|side| (side.name.to_owned(), side.json(labels)))),
        }
        Value::Object(line)
    }

    fn pair(&self) -> Option<(f64, f64)> {
        match &self.sides[..] {
            [chosen, rejected] => Some((chosen.reward()?, rejected.reward()?)),
            _ => None,
        }
    }
}

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

/// One label of a classifier.
#[derive(Serialize)]
struct LabelShare {
    label: String,
    /// Share of the answers that are given it.
    share: f64,
    /// Its mean probability.
    probability: f64,
}

impl Summary {
    pub fn of(model: &Path, labels: &Labels, rows: &[Row]) -> Self {
        let sides = || rows.iter().flat_map(|row| &row.sides);
        let scored: Vec<&Side> = sides().filter(|side| side.values.is_some()).collect();
        let is_reward = labels.is_reward();
        Summary {
            schema: 1,
            model: model.display().to_string(),
            rows: rows.len(),
            scored: scored.len(),
            too_long: sides().count() - scored.len(),
            rewards: is_reward.then(|| Spread::of(scored.iter().filter_map(|side| side.reward()))).flatten(),
            pairs: is_reward.then(|| Pairs::of(rows)).flatten(),
            labels: if is_reward { Vec::new() } else { label_shares(labels, &scored) },
            lengths: Spread::of(sides().map(|side| side.characters as f64)),
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
        for LabelShare { label, share, probability } in &self.labels {
            lines.push(format!("{label}: {:.1} % of the answers, mean probability {probability:.3}", 100.0 * share));
        }
        if let Some(pairs) = &self.pairs {
            let share = 100.0 * pairs.accuracy;
            lines.push(format!("chosen has the larger reward in {share:.1} % of {} pairs", pairs.n));
        }
        if self.too_long > 0 {
            lines.push(format!("{} answers without a reward: longer than the model's context", self.too_long));
        }
        lines.extend(out.map(|out| format!("rewards: {}", out.display())));
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

fn label_shares(labels: &Labels, scored: &[&Side]) -> Vec<LabelShare> {
    let share = |(label, name): (usize, &String)| {
        let given = scored.iter().filter(|side| side.given(labels).contains(&label)).count();
        let probability: f64 = scored.iter().filter_map(|side| Some(side.probabilities(labels)?[label])).sum();
        let n = scored.len().max(1) as f64;
        LabelShare { label: name.clone(), share: given as f64 / n, probability: probability / n }
    };
    labels.names.iter().enumerate().map(share).collect()
}
