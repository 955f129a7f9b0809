//! Settings and result of one draw of a token.

/// Settings of the draw of one token, as `smpo_sampling` draws it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenDraw<'a> {
    /// Key of the ChaCha8 stream.
    pub key: [u32; 8],
    /// Number of the stream: the step.
    pub step: u64,
    /// 0 is the arg max.
    pub temperature: f64,
    /// Number of likeliest tokens that are kept, at least 1.
    pub top_k: Option<u32>,
    /// Probability of the likeliest tokens that are kept, of those that `top_k` keeps.
    pub top_p: Option<f64>,
    /// Least share of the likeliest token's probability.
    pub min_p: Option<f64>,
    /// Tokens whose log-sum-exp is wanted; those beyond the vocabulary have none.
    pub terminators: &'a [u32],
}

/// A drawn token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DrawnToken {
    /// The token id; `None` if no logit is above −∞.
    pub token: Option<u32>,
    /// Its logit.
    pub logit: f32,
    /// Log-sum-exp of all logits.
    pub log_sum: f64,
    /// Log-sum-exp of the terminators' logits; −∞ without one.
    pub terminator_log_sum: f64,
    /// The first token whose logit is NaN or +∞, and that logit; the other fields then mean nothing.
    pub broken: Option<(u32, f32)>,
}
