//! Options and terminator scores of the language-model head.

/// Soft cap and chunk size of the head.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HeadOptions {
    /// Gemma 2's cap c: logits z become c·tanh(z/c).
    pub soft_cap: Option<f64>,
    /// Rows computed together: bounds the scratch memory to about `chunk` × 512 floats a thread; on a device, four times
    /// as many rows are. Chunk sizes change results by rounding alone.
    pub chunk: usize,
}

impl Default for HeadOptions {
    fn default() -> Self {
        Self { soft_cap: None, chunk: 512 }
    }
}

/// Probability and rank of the terminators as the next token of one row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TerminatorScore {
    /// Log of the probability that the next token is one of the terminators, in nats.
    pub log_prob: f32,
    /// Number of tokens other than terminators with a logit above the likeliest terminator's; 0 means that
    /// greedy decoding stops here.
    pub rank: u32,
}
