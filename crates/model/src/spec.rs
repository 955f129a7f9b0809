//! The decoder specification, independent of families.

use crate::rope::RopeSpec;

/// All that the forward pass depends on.
#[derive(Debug, Clone, PartialEq)]
pub struct DecoderSpec {
    /// `V`: rows of the embedding and of the head.
    pub vocab_size: usize,
    /// `H`: width of the residual stream.
    pub hidden_size: usize,
    /// Width of the feed-forward layer.
    pub intermediate_size: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of one head; not always `hidden_size / heads`.
    pub head_dim: usize,
    /// One entry per block, in order.
    pub layers: Vec<LayerSpec>,
    /// The rotary embeddings that layers refer to by index.
    pub ropes: Vec<RopeSpec>,
    /// ε, added to the mean square before the root.
    pub norm_eps: f64,
    /// Norm weights are stored as the difference from one (Gemma).
    pub norm_plus_one: bool,
    /// Placement of the norms in a block.
    pub norms: NormPlacement,
    /// Queries and keys are normalised per head before the rotation (Qwen3, Gemma 3).
    pub qk_norm: bool,
    /// The gate's activation.
    pub activation: Activation,
    /// Factor on query–key products.
    pub attention_scale: f64,
    /// `c · tanh(x / c)` on attention scores (Gemma 2).
    pub attention_soft_cap: Option<f64>,
    /// `c · tanh(x / c)` on the logits (Gemma 2).
    pub logit_soft_cap: Option<f64>,
    /// Factor on embeddings (Gemma: √H).
    pub embedding_scale: Option<f64>,
    /// Layout of the projections in the weight file.
    pub projections: Projections,
    /// Linear layers with a bias.
    pub biases: Biases,
    /// The head is the embedding.
    pub tied: bool,
    /// Standard deviation of initial weights.
    pub initializer_range: f64,
    /// Context length, in tokens; `None` where the configuration has none.
    pub max_positions: Option<usize>,
}

/// Specification of one block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerSpec {
    /// Sliding window, in tokens, the query included; `None` is full attention.
    pub window: Option<usize>,
    /// Index into [`DecoderSpec::ropes`].
    pub rope: usize,
}

/// Placement of the norms in a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormPlacement {
    /// Before attention and before the feed-forward layer.
    Pre,
    /// Before and after both (Gemma 2 and 3).
    PreAndPost,
}

/// The gate's activation in `down(act(gate(x)) · up(x))`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x · σ(x)`.
    Silu,
    /// GELU by its tanh approximation.
    GeluTanh,
}

/// Layout of the projections in the weight file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Projections {
    /// `q_proj`, `k_proj`, `v_proj`, `gate_proj`, `up_proj`.
    Separate,
    /// `qkv_proj`, `gate_up_proj` (Phi-3).
    Fused,
}

/// Linear layers with a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Biases {
    /// On query, key and value projections.
    pub qkv: bool,
    /// On the attention output projection.
    pub output: bool,
    /// On the three feed-forward projections.
    pub mlp: bool,
}

impl DecoderSpec {
    /// Width of all query heads together.
    pub fn query_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Width of all key (or value) heads together.
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }
}
