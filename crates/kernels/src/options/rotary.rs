//! Options of rotary position embedding.

/// Dimensions of a head that turn together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RotaryPairs {
    /// Dimension i with i + R/2, as Llama and Qwen store them.
    #[default]
    Halves,
    /// Dimension 2i with 2i + 1, as GLM and Cohere store them.
    Neighbours,
}
