//! The loss of classifiers of texts, as the `…ForSequenceClassification` classes of transformers compute it: softmax
//! cross-entropy where a text has one label, binary cross-entropy of each label where it may have several.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::catalog::{FlatKeys, PublishedRate, PublishedRates, Spelling};
use crate::error::ConfigError;
use crate::function::{Direction, LossFunction, Pairing, SftWeights};
use crate::logistic::{log_sigmoid, sigmoid};
use crate::pooled::{PooledLoss, PooledRow, PooledTerms};

/// A classifier. With one label a text the loss is −log softmax(z)_y; with several it is the mean over labels of
/// −log σ(z) for those of the text and −log σ(−z) for the others. It trains a head of one value a label in place of the one
/// that predicts tokens.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ClassificationConfig {
    /// Names of the labels, in the order of the head's values. Absent: those of the model that training starts from, if
    /// it is a classifier, else those of the data, sorted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// One label a text or several. Absent: as the model or the data has it; several where a row has a list of labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem_type: Option<ProblemType>,
    /// Number of labels that there must be. Absent: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_labels: Option<usize>,
}

/// One label a text or several, by the names of transformers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ProblemType {
    /// One label a text.
    #[serde(rename = "single_label_classification")]
    SingleLabel,
    /// Any number of labels a text, also none.
    #[serde(rename = "multi_label_classification")]
    MultiLabel,
}

impl ClassificationConfig {
    /// True if a text may have several labels.
    pub fn is_multiple(&self) -> bool {
        self.problem_type == Some(ProblemType::MultiLabel)
    }

    fn check_labels(&self) -> Result<(), String> {
        let Self { labels, num_labels, .. } = self;
        let repeated = labels.iter().enumerate().find(|(at, label)| labels[..*at].contains(label));
        match num_labels {
            _ if labels.iter().any(|label| label.trim().is_empty()) => Err("an empty name".to_owned()),
            _ if repeated.is_some() => Err(format!("{:?} twice", repeated.map_or("", |(_, label)| label))),
            Some(number) if *number != labels.len() => {
                Err(format!("{} of them, and `num_labels` is {number}", labels.len()))
            }
            _ if labels.len() == 1 && !self.is_multiple() => Err("one, which every text has".to_owned()),
            _ => Ok(()),
        }
    }
}

impl LossFunction for ClassificationConfig {
    const KIND: &'static str = "classification";
    const FLAT_KEYS: FlatKeys = FlatKeys {
        spellings: &[Spelling::same("labels"), Spelling::same("problem_type"), Spelling::same("num_labels")],
        distinctive: &["num_labels", "problem_type"],
        suggestive: &[],
        loss_types: &[],
    };
    const USUAL: &'static [crate::catalog::UsualRange] = &[];
    const LEARNING_RATES: PublishedRates = PublishedRates {
        full: Some(PublishedRate { highest: 3e-5, source: "effective_llm_alignment's configuration" }),
        lora: Some(PublishedRate { highest: 4e-4, source: "effective_llm_alignment's reward models" }),
    };

    fn variants() -> Vec<Self> {
        let labels = ["a", "b", "c"].map(str::to_owned).to_vec();
        vec![
            Self::default(),
            Self { labels: labels.clone(), num_labels: Some(3), ..Self::default() },
            Self { labels, problem_type: Some(ProblemType::MultiLabel), num_labels: None },
        ]
    }

    fn validate(&self) -> Result<(), ConfigError> {
        if self.labels.is_empty() {
            return Ok(());
        }
        let mismatch = |got| ConfigError::Mismatch {
            kind: Self::KIND,
            field: "labels".to_owned(),
            expected: "the names of two labels or more, each once".to_owned(),
            got,
        };
        self.check_labels().map_err(mismatch)
    }

    fn pairing(&self) -> Pairing<'_> {
        Pairing::Pooled(self)
    }

    fn needs_reference(&self) -> bool {
        false
    }

    fn sft_weights(&self) -> SftWeights {
        SftWeights::default()
    }

    fn direction(&self) -> Direction {
        Direction::DownOrZero
    }
}

impl PooledLoss for ClassificationConfig {
    fn values(&self) -> usize {
        self.labels.len()
    }

    fn compares_sides(&self) -> bool {
        false
    }

    fn takes_several_labels(&self) -> Option<bool> {
        Some(self.is_multiple())
    }

    fn row(&self, row: &PooledRow<'_>) -> PooledTerms {
        match self.is_multiple() {
            true => of_each_label(row),
            false => of_one_label(row),
        }
    }
}

/// Softmax cross-entropy.
fn of_one_label(row: &PooledRow<'_>) -> PooledTerms {
    let values = row.chosen;
    let label = row.labels.first().copied().unwrap_or_default();
    let found = values.iter().enumerate().fold(0, |best, (at, value)| if *value > values[best] { at } else { best });
    let most = values[found];
    let exponentials: Vec<f64> = values.iter().map(|value| (value - most).exp()).collect();
    let sum: f64 = exponentials.iter().sum();
    let mut d_chosen: Vec<f64> = exponentials.iter().map(|exponential| exponential / sum).collect();
    d_chosen[label] -= 1.0;
    let value = sum.ln() + most - values[label];
    PooledTerms { value, d_chosen, found: Some(vec![found]), ..PooledTerms::default() }
}

/// The mean of the binary cross-entropies.
fn of_each_label(row: &PooledRow<'_>) -> PooledTerms {
    let share = 1.0 / row.chosen.len() as f64;
    let mut terms = PooledTerms { found: Some(positive(row.chosen)), ..PooledTerms::default() };
    for (label, &value) in row.chosen.iter().enumerate() {
        let sign = if row.labels.contains(&label) { 1.0 } else { -1.0 };
        terms.value -= share * log_sigmoid(sign * value);
        terms.d_chosen.push(-share * sign * sigmoid(-sign * value));
    }
    terms
}

/// The labels whose probability is above one half.
fn positive(values: &[f64]) -> Vec<usize> {
    values.iter().enumerate().filter(|(_, value)| **value > 0.0).map(|(label, _)| label).collect()
}
