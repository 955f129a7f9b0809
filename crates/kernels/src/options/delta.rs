//! Shape of a gated delta rule.

/// Heads whose queries, keys and values lie side by side in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeltaHeads {
    /// Query and key heads; divides `value_heads`.
    pub key_heads: usize,
    /// Value heads, each with a state of its own; consecutive ones share a key head.
    pub value_heads: usize,
    /// K: width of a query or key.
    pub key_dim: usize,
    /// V: width of a value.
    pub value_dim: usize,
}

impl DeltaHeads {
    /// Width of all keys of a row together.
    pub fn key_width(&self) -> usize {
        self.key_heads * self.key_dim
    }

    /// Width of all values of a row together.
    pub fn value_width(&self) -> usize {
        self.value_heads * self.value_dim
    }

    /// Width of a row: queries, keys, values.
    pub fn row_width(&self) -> usize {
        2 * self.key_width() + self.value_width()
    }

    /// Value heads of a key head.
    pub(crate) fn group(&self) -> usize {
        self.value_heads / self.key_heads.max(1)
    }
}
