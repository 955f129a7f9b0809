//! Options, terminator scores and entropies of the language-model head.

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

/// A number of the whole distribution of one row's next token, in nats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowEntropy {
    /// −log Σ p², the collision (Rényi) entropy of order 2.
    Collision,
    /// The Shannon entropy of the 20 likeliest tokens among themselves.
    Top,
}

/// Tokens of [`RowEntropy::Top`].
pub(crate) const TOP_TOKENS: usize = 20;

impl RowEntropy {
    /// [`RowEntropy::Collision`] from Σ e^l and Σ e^2l.
    pub(crate) fn of_sums(sum: f64, squares: f64) -> f32 {
        (2.0 * sum.ln() - squares.ln()) as f32
    }

    /// [`RowEntropy::Top`] from logits that hold the largest ones.
    pub(crate) fn of_top(logits: &mut [f32]) -> f32 {
        logits.sort_unstable_by(|a, b| b.total_cmp(a));
        let top = &logits[..logits.len().min(TOP_TOKENS)];
        let above = |logit: &f32| f64::from(logit - top[0]);
        let sum: f64 = top.iter().map(|logit| above(logit).exp()).sum();
        // Σ p·(log Σ e^l − l)
        let of =
            |logit: &f32| if logit.is_finite() { above(logit).exp() / sum * (sum.ln() - above(logit)) } else { 0.0 };
        top.iter().map(of).sum::<f64>() as f32
    }
}
