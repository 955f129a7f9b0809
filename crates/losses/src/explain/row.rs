//! A pair with its log-probs and token ids.

use super::ExplainError;
use crate::batch::{Completion, Member, Pair, Side};
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
    /// The completions of a group; empty for a pair.
    pub group: &'a [RowMember<'a>],
    /// A completion of another prompt, for KTO's baseline.
    pub kl: Option<Completion<'a>>,
}

/// One completion of a group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RowMember<'a> {
    /// Its tokens.
    pub tokens: RowTokens<'a>,
    /// Its reward.
    pub reward: f64,
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

    pub(super) fn members(&self) -> Vec<Member<'a>> {
        let member = |member: &RowMember<'a>| Member { completion: member.tokens.completion, reward: member.reward };
        self.group.iter().map(member).collect()
    }

    pub(super) fn pair<'b>(&'b self, group: &'b [Member<'b>]) -> Pair<'b> {
        let completion = |tokens: RowTokens<'b>| tokens.completion;
        Pair { chosen: self.chosen.map(completion), rejected: self.rejected.map(completion), group }
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
        let is_groupwise = matches!(loss.pairing(), Pairing::Groupwise(_));
        if is_groupwise && self.chosen.is_none() && self.rejected.is_none() && self.group.is_empty() {
            return missing("completions", format!("a group of completions, or a pair, for loss `{kind}`"));
        }
        if !is_groupwise && !self.group.is_empty() {
            return missing("chosen", format!("a pair, as loss `{kind}` reads no group"));
        }
        // Only some rows must have a `kl`: `Objective::evaluate` asks the batch as a whole for it.
        let completion = |tokens: RowTokens<'a>| tokens.completion;
        let completions =
            [("chosen", self.chosen.map(completion)), ("rejected", self.rejected.map(completion)), ("kl", self.kl)];
        let expected = || format!("the reference model's log-probs, as loss `{kind}` compares with them");
        for (field, completion) in &completions {
            if loss.needs_reference() && completion.is_some_and(|completion| completion.ref_logps.is_none()) {
                return missing(&format!("{field}.ref_logps"), expected());
            }
        }
        let without = |member: &RowMember<'_>| member.tokens.completion.ref_logps.is_none();
        if let Some(at) = self.group.iter().position(without).filter(|_| loss.needs_reference()) {
            return missing(&format!("completions[{at}].ref_logps"), expected());
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
