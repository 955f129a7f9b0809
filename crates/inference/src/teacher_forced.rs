//! Teacher-forced scoring of given completions.

use smpo_chat::Message;
use smpo_sampling::TokenScores;

/// A completion to be scored, without its terminator: the scorer's template adds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item<'a> {
    /// The conversation before it.
    pub prompt: &'a [Message],
    /// The completion: begins and ends with an assistant message.
    pub completion: &'a [Message],
}

/// Error of a scorer.
pub type ScorerError = Box<dyn std::error::Error + Send + Sync>;

/// A model that scores given completions: the reference forward pass of an evaluation.
pub trait TeacherForced {
    /// Scores of every item, in order.
    ///
    /// # Errors
    /// The scorer's own.
    fn score(&mut self, items: &[Item<'_>]) -> Result<Vec<TokenScores>, ScorerError>;

    /// log p of each token of a completion after `prompt`, in nats, terminator included: the fidelity check of an
    /// engine that sampled `token_ids`.
    ///
    /// # Errors
    /// The scorer's own.
    fn log_probs(&mut self, prompt: &[Message], token_ids: &[u32]) -> Result<Vec<f32>, ScorerError>;

    /// Token ids of a completion that a server reports as the text of each token; `None` if they are ambiguous or no
    /// tokenizer is at hand.
    fn token_ids(&self, pieces: &[String]) -> Option<Vec<u32>> {
        let _ = pieces;
        None
    }
}
