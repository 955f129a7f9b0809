//! A pair with its log-probs and token ids.

use super::ExplainError;
use crate::batch::{Completion, Pair, Side};
use crate::function::Pairing;
use crate::objective::Objective;

/// A pair with its log-probs and token ids.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row<'a> {
    /// The pair's id.
    pub id: &'a str,
    /// y+.
    pub chosen: Option<RowTokens<'a>>,
    /// y−.
    pub rejected: Option<RowTokens<'a>>,
    /// A completion of another prompt, for KTO's baseline.
    pub kl: Option<Completion<'a>>,
}

/// One completion, `[T]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RowTokens<'a> {
    /// Token ids.
    pub ids: &'a [u32],
    /// Log-probs under policy and reference.
    pub completion: Completion<'a>,
}

impl<'a> Row<'a> {
    /// The tokens of one side.
    pub fn side(&self, side: Side) -> Option<&RowTokens<'a>> {
        match side {
            Side::Chosen => self.chosen.as_ref(),
            Side::Rejected => self.rejected.as_ref(),
        }
    }

    pub(super) fn pair(&self) -> Pair<'a> {
        let completion = |tokens: RowTokens<'a>| tokens.completion;
        Pair { chosen: self.chosen.map(completion), rejected: self.rejected.map(completion) }
    }

    /// Refuses a row without the sides or reference log-probs that `objective` needs; `row` is its index.
    pub(super) fn check(&self, row: usize, objective: &Objective) -> Result<(), ExplainError> {
        let loss = &objective.config().loss;
        let kind = loss.kind();
        let missing =
            |field: &str, expected: String| Err(ExplainError::Missing { row, field: field.to_owned(), expected });
        for side in loss.pairing().required_sides() {
            if self.side(*side).is_none() {
                return missing(&side.to_string(), format!("a completion, as loss `{kind}` needs one"));
            }
        }
        if matches!(loss.pairing(), Pairing::Unpaired(_)) && self.chosen.is_none() && self.rejected.is_none() {
            return missing("chosen", format!("a completion on one side at least for loss `{kind}`"));
        }
        // Only some rows must have a `kl`: `Objective::evaluate` asks the batch as a whole for it.
        let completion = |tokens: RowTokens<'a>| tokens.completion;
        let completions =
            [("chosen", self.chosen.map(completion)), ("rejected", self.rejected.map(completion)), ("kl", self.kl)];
        for (field, completion) in &completions {
            if loss.needs_reference() && completion.is_some_and(|completion| completion.ref_logps.is_none()) {
                let expected = format!("the reference model's log-probs, as loss `{kind}` compares with them");
                return missing(&format!("{field}.ref_logps"), expected);
            }
        }
        if let Some(entropy) = loss.needs_entropy() {
            for (side, completion) in &completions[..2] {
                if completion.is_some_and(|completion| completion.entropy.is_none()) {
                    let field = format!("{side}.{}", entropy.name());
                    return missing(
                        &field,
                        format!("an entropy of the model at each token, as loss `{kind}` needs it"),
                    );
                }
            }
        }
        Ok(())
    }
}
