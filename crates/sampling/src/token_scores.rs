//! Teacher-forced log-probs of one completion.

/// Log-probs of one completion, in nats.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenScores {
    /// log p of each completion token, the terminator last.
    pub logps: Vec<f64>,
    /// log p of the whole terminator set in the terminator's place.
    pub terminator_logp: f64,
    /// Tokens strictly likelier there than the likeliest terminator.
    pub terminator_rank: u32,
}
