//! The decoder specification, independent of families.

use smpo_kernels::DeltaHeads;

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
    /// Routed experts, of the blocks that have them.
    pub experts: Option<ExpertsSpec>,
    /// Gated delta nets, of the blocks that have one in the place of attention.
    pub delta: Option<DeltaSpec>,
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
    /// The norms subtract the mean first: LayerNorm without bias instead of RMSNorm (Cohere 2).
    pub norm_centred: bool,
    /// The norms of a block, by their names.
    pub norms: BlockNorms<&'static str>,
    /// Norms of queries and keys before the rotation.
    pub qk_norm: QkNorm,
    /// The feed-forward layer reads what attention reads, beside it and not after it (Cohere 2).
    pub parallel: bool,
    /// The gate's activation.
    pub activation: Activation,
    /// Factor on query–key products.
    pub attention_scale: f64,
    /// `c · tanh(x / c)` on attention scores (Gemma 2).
    pub attention_soft_cap: Option<f64>,
    /// Attention sinks: a learned logit for each query head that takes part in the softmax and has no value (gpt-oss).
    pub sinks: bool,
    /// The query projection has a gate beside each head's query, whose σ multiplies the head's output (Qwen3.5).
    pub gated_attention: bool,
    /// Growth of queries with their position (Ministral 3).
    pub query_growth: Option<QueryGrowth>,
    /// Factor on the logits (Granite, Cohere 2).
    pub logit_scale: Option<f64>,
    /// `c · tanh(x / c)` on the logits (Gemma 2).
    pub logit_soft_cap: Option<f64>,
    /// Factor on embeddings (Gemma: √H).
    pub embedding_scale: Option<f64>,
    /// Factor on what attention and the feed-forward layer add to the residual stream (Granite).
    pub residual_scale: Option<f64>,
    /// Layout of the projections in the weight file.
    pub projections: Projections,
    /// Linear layers with a bias.
    pub biases: Biases,
    /// The head is the embedding.
    pub tied: bool,
    /// Labels of a head that reads whole sequences, in place of the one that predicts tokens.
    pub labels: Option<usize>,
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
    /// Index into [`DecoderSpec::ropes`]; `None` does not rotate (NoPE).
    pub rope: Option<usize>,
    /// True for routed experts in the place of one feed-forward layer.
    pub routed: bool,
    /// True for a gated delta net in the place of attention.
    pub delta: bool,
}

/// Specification of the gated delta nets of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeltaSpec {
    /// Heads.
    pub heads: DeltaHeads,
    /// Tokens that the convolution reads, the token itself included.
    pub taps: usize,
}

/// Specification of the routed experts of a block.
#[derive(Debug, Clone, PartialEq)]
pub struct ExpertsSpec {
    /// `E`: experts.
    pub count: usize,
    /// `k`: experts of a token.
    pub per_token: usize,
    /// Width of an expert.
    pub intermediate_size: usize,
    /// The weights of a token's experts sum to one.
    pub normalise: bool,
    /// The router and the experts' layers have biases.
    pub biases: bool,
    /// Names and tensors in the weight file.
    pub layout: ExpertLayout,
    /// Coefficient of the load-balancing loss that transformers trains with; `None` where the configuration has it off.
    pub auxiliary: Option<f64>,
}

/// Names and tensors of routed experts in the weight file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpertLayout {
    /// `mlp.gate`, and each expert by itself: `mlp.experts.N.gate_proj` (Qwen3-MoE).
    Apart,
    /// `mlp.router`, and all experts of a block in one tensor: `mlp.experts.gate_up_proj` (gpt-oss). In memory, and for
    /// adapters, they are apart as well.
    Stacked,
}

impl ExpertLayout {
    /// Name of the router, after the block's.
    pub(crate) fn router(self) -> &'static str {
        match self {
            Self::Apart => "mlp.gate",
            Self::Stacked => "mlp.router",
        }
    }
}

/// The norms of a block by their place; `None` where there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockNorms<T> {
    /// Of attention's input.
    pub before_attention: Option<T>,
    /// Of attention's output.
    pub after_attention: Option<T>,
    /// Of the feed-forward layer's input.
    pub before_feed_forward: Option<T>,
    /// Of the feed-forward layer's output.
    pub after_feed_forward: Option<T>,
}

impl<T> BlockNorms<T> {
    /// Those that there are, in the order of computation.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        [&self.before_attention, &self.after_attention, &self.before_feed_forward, &self.after_feed_forward]
            .into_iter()
            .flatten()
    }

    /// The same, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        [
            &mut self.before_attention,
            &mut self.after_attention,
            &mut self.before_feed_forward,
            &mut self.after_feed_forward,
        ]
        .into_iter()
        .flatten()
    }

    /// Another value for each.
    pub(crate) fn try_map<'a, U, E>(&'a self, mut map: impl FnMut(&'a T) -> Result<U, E>) -> Result<BlockNorms<U>, E> {
        let mut mapped = |norm: &'a Option<T>| norm.as_ref().map(&mut map).transpose();
        Ok(BlockNorms {
            before_attention: mapped(&self.before_attention)?,
            after_attention: mapped(&self.after_attention)?,
            before_feed_forward: mapped(&self.before_feed_forward)?,
            after_feed_forward: mapped(&self.after_feed_forward)?,
        })
    }
}

impl BlockNorms<&'static str> {
    /// Before attention and before the feed-forward layer, as Llama has them.
    pub const BEFORE: Self = Self {
        before_attention: Some("input_layernorm"),
        after_attention: None,
        before_feed_forward: Some("post_attention_layernorm"),
        after_feed_forward: None,
    };
}

/// Norms of queries and keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QkNorm {
    /// None.
    None,
    /// Each head by itself, with one gain for all (Qwen3, Gemma 3).
    PerHead,
    /// All heads together (OLMo 2 and 3).
    AllHeads,
}

/// Queries grow with their position p: 1 + `beta` · ln(1 + ⌊p / `length`⌋), so that attention over long contexts stays as
/// sharp as over short ones.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QueryGrowth {
    /// β.
    pub beta: f64,
    /// Tokens per step.
    pub length: usize,
}

impl QueryGrowth {
    /// Factor on the query at a position, rounded where transformers rounds.
    pub fn factor(&self, position: u32) -> f32 {
        let steps = (position as f32 / self.length as f32).floor();
        1.0 + self.beta as f32 * (1.0 + steps).ln()
    }
}

/// The gate's activation in `down(act(gate(x)) · up(x))`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Activation {
    /// `x · σ(x)`.
    Silu,
    /// GELU by its tanh approximation.
    GeluTanh,
    /// `x · σ(α·x)` of a gate below a limit, and up within ± that limit and one more (gpt-oss).
    ClampedSilu {
        /// α.
        alpha: f64,
        /// The limit.
        limit: f64,
    },
}

/// Layout of the projections in the weight file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Projections {
    /// `qkv_proj` in the place of `q_proj`, `k_proj`, `v_proj` (Phi-3).
    pub fused_heads: bool,
    /// The feed-forward layer's.
    pub feed_forward: FeedForward,
}

impl Projections {
    /// All apart, as Llama has them.
    pub const SEPARATE: Self = Self { fused_heads: false, feed_forward: FeedForward::Separate };
}

/// Linear layers of a feed-forward layer in the weight file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeedForward {
    /// `mlp.gate_proj`, `mlp.up_proj`, `mlp.down_proj`.
    Separate,
    /// `mlp.gate_up_proj`, `mlp.down_proj` (Phi-3, GLM-4).
    Fused,
    /// `shared_mlp.input_linear`, `shared_mlp.output_linear`: the same under other names (Granite 4).
    Shared,
    /// `gate_proj`, `up_proj`, `down_proj` of one expert.
    Expert,
}

impl FeedForward {
    /// Names of gate and up, or of both in one.
    pub(crate) fn gate_up(self) -> &'static [&'static str] {
        match self {
            Self::Separate => &["mlp.gate_proj", "mlp.up_proj"],
            Self::Fused => &["mlp.gate_up_proj"],
            Self::Shared => &["shared_mlp.input_linear"],
            Self::Expert => &["gate_proj", "up_proj"],
        }
    }

    /// Name of down.
    pub(crate) fn down(self) -> &'static str {
        match self {
            Self::Separate | Self::Fused => "mlp.down_proj",
            Self::Shared => "shared_mlp.output_linear",
            Self::Expert => "down_proj",
        }
    }
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
    /// Length, in tokens, beyond which a sequence turns by other frequencies, its first tokens too (LongRoPE).
    pub fn turns_at(&self) -> Option<usize> {
        self.ropes.iter().filter_map(RopeSpec::turns_at).min()
    }

    /// Width of all query heads together.
    pub fn query_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Width of all key (or value) heads together.
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Width of the query projection's output: queries, and their gates where there are any.
    pub(crate) fn query_rows(&self) -> usize {
        self.query_width() * (1 + usize::from(self.gated_attention))
    }

    /// The gated delta net of a block; `None` for attention.
    pub(crate) fn delta_of(&self, layer: &LayerSpec) -> Option<&DeltaSpec> {
        self.delta.as_ref().filter(|_| layer.delta)
    }

    /// Width of what a block's output projection reads.
    pub(crate) fn mixed_width(&self, layer: &LayerSpec) -> usize {
        self.delta_of(layer).map_or(self.query_width(), |delta| delta.heads.value_width())
    }

    /// Parameters of the experts that a token does not pass through.
    pub fn idle_parameters(&self) -> usize {
        let of_a_block = self.experts.as_ref().map_or(0, |experts| {
            let (hidden, inner) = (self.hidden_size, experts.intermediate_size);
            let biases = if experts.biases { 2 * inner + hidden } else { 0 };
            (3 * hidden * inner + biases) * (experts.count - experts.per_token)
        });
        of_a_block * self.layers.iter().filter(|layer| layer.routed).count()
    }

    /// Experts of a block; `None` for one feed-forward layer.
    pub(crate) fn experts_of(&self, layer: &LayerSpec) -> Option<&ExpertsSpec> {
        self.experts.as_ref().filter(|_| layer.routed)
    }

    /// Widths of the gains of query and key norms; `None` without such norms.
    pub(crate) fn qk_norm_widths(&self) -> Option<[usize; 2]> {
        match self.qk_norm {
            QkNorm::None => None,
            QkNorm::PerHead => Some([self.head_dim; 2]),
            QkNorm::AllHeads => Some([self.query_width(), self.kv_width()]),
        }
    }
}
