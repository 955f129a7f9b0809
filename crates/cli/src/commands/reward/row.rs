//! A scored row.

use serde_json::{Map, Value, json};
use smpo_model::Labels;

/// A row of the input with its values.
pub struct Row {
    pub id: String,
    pub sides: Vec<Side>,
    /// Its labels, where it has some.
    pub labels: Option<Vec<String>>,
}

/// An answer or a text with its values.
pub struct Side {
    /// `chosen` and `rejected`, `completion`, or `text`.
    pub name: &'static str,
    /// Its length.
    pub characters: usize,
    /// A value for each label; `None` where the conversation is longer than the model's context.
    pub values: Option<Vec<f64>>,
}

impl Side {
    pub fn reward(&self) -> Option<f64> {
        self.values.as_ref()?.first().copied()
    }

    /// Probability of each label.
    pub fn probabilities(&self, labels: &Labels) -> Option<Vec<f64>> {
        let values = self.values.as_ref()?;
        if labels.multiple {
            return Some(values.iter().map(|value| 1.0 / (1.0 + (-value).exp())).collect());
        }
        let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = values.iter().map(|value| (value - most).exp()).sum();
        Some(values.iter().map(|value| (value - most).exp() / sum).collect())
    }

    /// The labels that it is given: the likeliest, or each that is likelier than not.
    pub fn given(&self, labels: &Labels) -> Vec<usize> {
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

    /// Rewards of the sides of a pair.
    pub fn pair(&self) -> Option<(f64, f64)> {
        match &self.sides[..] {
            [chosen, rejected] => Some((chosen.reward()?, rejected.reward()?)),
            _ => None,
        }
    }
}
