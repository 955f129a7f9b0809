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

impl TokenScores {
    /// Mean log p per token, terminator included; 0 of nothing.
    pub fn mean(&self) -> f64 {
        mean(&self.logps)
    }

    /// Mean log p per token without the terminator; 0 of a completion that is nothing else.
    pub fn mean_without_eos(&self) -> f64 {
        mean(&self.logps[..self.logps.len().saturating_sub(1)])
    }
}

fn mean(logps: &[f64]) -> f64 {
    if logps.is_empty() { 0.0 } else { logps.iter().sum::<f64>() / logps.len() as f64 }
}
