//! Losses of a head that reads whole sequences: reward models and classifiers. They see a few values a sequence in place of
//! log-probs of its tokens, and no transform.

use crate::batch::{Batch, Side};
use crate::error::BatchError;
use crate::evaluation::{Evaluation, PairEvaluation, Statistics};
use crate::label_counts::LabelCounts;

/// The values that a head gives the sequences of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PooledRow<'a> {
    /// Of the chosen side, or of the only one.
    pub chosen: &'a [f64],
    /// Of the rejected side.
    pub rejected: Option<&'a [f64]>,
    /// The lead in reward that chosen is to have; 0 where the data has none.
    pub margin: f64,
    /// Indices of the labels that the sequence has, for classifiers.
    pub labels: &'a [usize],
}

/// A loss of such values.
pub trait PooledLoss {
    /// Number of values of a sequence.
    fn values(&self) -> usize;

    /// True if every row must have both sides.
    fn compares_sides(&self) -> bool;

    /// True for a loss of rows with any number of labels, false for one of rows with one; `None` for a loss without labels.
    fn takes_several_labels(&self) -> Option<bool> {
        None
    }

    /// The loss of one row, with its derivatives.
    fn row(&self, row: &PooledRow<'_>) -> PooledTerms;
}

/// Such a loss at one row.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PooledTerms {
    /// The loss.
    pub value: f64,
    /// ∂value/∂ the values of chosen.
    pub d_chosen: Vec<f64>,
    /// The same for rejected.
    pub d_rejected: Vec<f64>,
    /// Rewards of chosen and rejected, of a loss that compares them.
    pub rewards: Option<(f64, f64)>,
    /// Labels that the values give the sequence, of a loss of labels.
    pub found: Option<Vec<usize>>,
}

/// Value, weights and statistics of a step, or of a part of it under [`Batch::totals`].
pub(crate) fn evaluate(loss: &dyn PooledLoss, batch: &Batch<'_>) -> Result<Evaluation, BatchError> {
    if batch.pooled.is_empty() {
        return Err(BatchError::Empty);
    }
    let share = 1.0 / batch.totals.map_or(batch.pooled.len(), |totals| totals.pairs) as f64;
    let mut evaluation = Evaluation {
        value: 0.0,
        po_loss: 0.0,
        sft_chosen_loss: 0.0,
        sft_rejected_loss: 0.0,
        eos_anchor_loss: None,
        pairs: Vec::with_capacity(batch.pooled.len()),
        statistics: Statistics::default(),
    };
    if let Some(multiple) = loss.takes_several_labels() {
        evaluation.statistics.labels = LabelCounts::new(loss.values(), multiple);
    }
    for (index, row) in batch.pooled.iter().enumerate() {
        check(loss, index, row)?;
        let PooledTerms { value, d_chosen, d_rejected, rewards, found } = loss.row(row);
        let scaled = |derivatives: Vec<f64>| derivatives.into_iter().map(|derivative| share * derivative).collect();
        if let Some((chosen, rejected)) = rewards {
            evaluation.statistics.push_rewards(chosen, rejected);
            evaluation.statistics.mean_reward.add(chosen + rejected, 2);
        }
        if let Some(found) = found {
            evaluation.statistics.labels.push(row.labels, &found);
        }
        evaluation.po_loss += share * value;
        evaluation.pairs.push(PairEvaluation {
            po_loss: value,
            chosen_reward: rewards.map(|(chosen, _)| chosen),
            rejected_reward: rewards.map(|(_, rejected)| rejected),
            chosen_weights: scaled(d_chosen),
            rejected_weights: scaled(d_rejected),
            ..PairEvaluation::default()
        });
    }
    evaluation.value = evaluation.po_loss;
    Ok(evaluation)
}

fn check(loss: &dyn PooledLoss, pair: usize, row: &PooledRow<'_>) -> Result<(), BatchError> {
    let check_side = |side: Side, values: &[f64]| {
        if values.len() != loss.values() {
            return Err(BatchError::Values { pair, side, expected: loss.values(), got: values.len() });
        }
        match values.iter().find(|value| !value.is_finite()) {
            Some(given) => Err(BatchError::NotFinite { pair, side, given: *given }),
            None => Ok(()),
        }
    };
    check_side(Side::Chosen, row.chosen)?;
    check_labels(loss, pair, row.labels)?;
    match row.rejected {
        Some(values) => check_side(Side::Rejected, values),
        None if loss.compares_sides() => Err(BatchError::EmptySide { pair, side: Side::Rejected }),
        None => Ok(()),
    }
}

fn check_labels(loss: &dyn PooledLoss, pair: usize, labels: &[usize]) -> Result<(), BatchError> {
    let Some(several) = loss.takes_several_labels() else { return Ok(()) };
    let number = loss.values();
    if let Some(label) = labels.iter().find(|label| **label >= number) {
        return Err(BatchError::Labels { pair, expected: format!("labels below {number}"), got: label.to_string() });
    }
    match labels.len() {
        1 => Ok(()),
        _ if several => Ok(()),
        got => Err(BatchError::Labels { pair, expected: "one label".to_owned(), got: got.to_string() }),
    }
}
