//! Options and extents of attention.

/// Scale, cap and window of attention scores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionOptions {
    /// Multiplies q·k; usually 1/√D.
    pub scale: f64,
    /// Gemma 2's cap c: scaled scores s become c·tanh(s/c).
    pub soft_cap: Option<f64>,
    /// A query at position p sees keys at positions above p − window.
    pub window: Option<usize>,
}

impl AttentionOptions {
    /// Scale 1/√`width`, no cap, no window.
    pub fn for_width(width: usize) -> Self {
        Self { scale: (width as f64).powf(-0.5), soft_cap: None, window: None }
    }
}

/// Extents of one call: q (tokens, heads, width), k and v (tokens, kv_heads, width).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extents {
    pub(crate) tokens: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) width: usize,
}

impl Extents {
    /// Query heads that share one key head.
    pub(crate) fn group(self) -> usize {
        self.heads / self.kv_heads
    }
}
