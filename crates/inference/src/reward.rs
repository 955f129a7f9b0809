//! Rewards of given conversations.

use crate::{Item, ScorerError};

/// A model that gives a whole conversation one number: a reward model.
pub trait RewardModel {
    /// The reward of each conversation, in order; `None` for one that is longer than the model's context.
    ///
    /// # Errors
    /// The model's own.
    fn rewards(&mut self, items: &[Item<'_>]) -> Result<Vec<Option<f64>>, ScorerError>;
}
