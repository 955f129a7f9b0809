//! The tensors of a model: Hugging Face names, shapes and roles, in the order they are built and saved.

use crate::spec::{DecoderSpec, DeltaSpec, FeedForward, LayerSpec};

/// One tensor of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// Name in the weight file.
    pub name: String,
    /// Shape; linear weights are (out, in).
    pub shape: Vec<usize>,
    /// Role, which decides its initial values.
    pub role: Role,
}

/// Role of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The embedding, (`V`, `H`).
    Embedding,
    /// A linear layer's matrix.
    Weight,
    /// A router's matrix, which is never quantised.
    Router,
    /// A linear layer's bias.
    Bias,
    /// A norm's gain.
    Norm,
    /// Attention sinks.
    Sinks,
    /// A convolution's taps.
    Convolution,
    /// Logarithm of a decay's rate.
    Rate,
    /// A gain or a bias that is one at first.
    Unit,
}

/// Name of the embedding.
pub(crate) const EMBEDDING: &str = "model.embed_tokens.weight";
/// Name of the final norm.
pub(crate) const FINAL_NORM: &str = "model.norm.weight";
/// Module name of the head.
pub(crate) const HEAD: &str = "lm_head";
/// Module name of a head of labels.
pub(crate) const SCORE: &str = "score";

/// Name of a block's attention sinks, after the block's prefix.
pub(crate) const SINKS: &str = "self_attn.sinks";
/// Names of a gated delta net's parts, after the block's prefix: the projections to queries, keys and values, to the gate, to
/// the strength and to the step of the update.
pub(crate) const DELTA_INPUTS: [&str; 4] =
    ["linear_attn.in_proj_qkv", "linear_attn.in_proj_z", "linear_attn.in_proj_b", "linear_attn.in_proj_a"];
/// The projection of its output.
pub(crate) const DELTA_OUTPUT: &str = "linear_attn.out_proj";
/// The convolution's taps.
pub(crate) const DELTA_CONVOLUTION: &str = "linear_attn.conv1d.weight";
/// Logarithm of the decay's rate.
pub(crate) const DELTA_RATE: &str = "linear_attn.A_log";
/// Bias of the step.
pub(crate) const DELTA_BIAS: &str = "linear_attn.dt_bias";
/// Gain of the norm.
pub(crate) const DELTA_NORM: &str = "linear_attn.norm.weight";
/// Part of the names of everything in an expert.
pub(crate) const EXPERTS: &str = ".mlp.experts.";

/// Prefix of the names of an expert of a block.
pub(crate) fn expert_prefix(block: &str, index: usize) -> String {
    format!("{block}{EXPERTS}{index}")
}

/// Prefix of all names of block `index`.
pub(crate) fn block_prefix(index: usize) -> String {
    format!("model.layers.{index}")
}

/// The block of a name, if it is of one.
pub(crate) fn block_of(name: &str) -> Option<usize> {
    name.strip_prefix("model.layers.")?.split('.').next()?.parse().ok()
}

/// True for the module of a head, of either kind.
pub(crate) fn is_head(module: &str) -> bool {
    [HEAD, SCORE].contains(&module)
}

/// All tensors of a model; the head's only when it is not tied.
pub fn layout(spec: &DecoderSpec) -> Vec<Slot> {
    let mut slots = Slots::default();
    let hidden = spec.hidden_size;
    slots.push(EMBEDDING, &[spec.vocab_size, hidden], Role::Embedding);
    for (index, layer) in spec.layers.iter().enumerate() {
        block(&mut slots, spec, layer, &block_prefix(index));
    }
    slots.push(FINAL_NORM, &[hidden], Role::Norm);
    match spec.labels {
        Some(labels) => slots.linear(SCORE, labels, hidden, false),
        None if spec.tied => {}
        None => slots.linear(HEAD, spec.vocab_size, hidden, false),
    }
    slots.0
}

fn block(slots: &mut Slots, spec: &DecoderSpec, layer: &LayerSpec, prefix: &str) {
    let hidden = spec.hidden_size;
    let biases = spec.biases;
    let name = |tail: &str| format!("{prefix}.{tail}");
    match spec.delta_of(layer) {
        None => attention(slots, spec, prefix),
        Some(delta) => delta_net(slots, delta, hidden, prefix),
    }
    match spec.experts_of(layer) {
        None => {
            let widths = [hidden, spec.intermediate_size];
            slots.feed_forward(prefix, spec.projections.feed_forward, widths, biases.mlp);
        }
        Some(experts) => {
            let router = name(experts.layout.router());
            slots.push(&format!("{router}.weight"), &[experts.count, hidden], Role::Router);
            if experts.biases {
                slots.push(&format!("{router}.bias"), &[experts.count], Role::Bias);
            }
            for index in 0..experts.count {
                let widths = [hidden, experts.intermediate_size];
                slots.feed_forward(&expert_prefix(prefix, index), FeedForward::Expert, widths, experts.biases);
            }
        }
    }
    for norm in spec.norms.iter() {
        slots.push(&name(&format!("{norm}.weight")), &[hidden], Role::Norm);
    }
}

fn attention(slots: &mut Slots, spec: &DecoderSpec, prefix: &str) {
    let (hidden, biases) = (spec.hidden_size, spec.biases);
    let (queries, keys) = (spec.query_rows(), spec.kv_width());
    let name = |tail: &str| format!("{prefix}.{tail}");
    if spec.projections.fused_heads {
        slots.linear(&name("self_attn.qkv_proj"), queries + 2 * keys, hidden, biases.qkv);
    } else {
        slots.linear(&name("self_attn.q_proj"), queries, hidden, biases.qkv);
        slots.linear(&name("self_attn.k_proj"), keys, hidden, biases.qkv);
        slots.linear(&name("self_attn.v_proj"), keys, hidden, biases.qkv);
    }
    slots.linear(&name("self_attn.o_proj"), hidden, spec.query_width(), biases.output);
    if spec.sinks {
        slots.push(&name(SINKS), &[spec.heads], Role::Sinks);
    }
    if let Some([query_gain, key_gain]) = spec.qk_norm_widths() {
        slots.push(&name("self_attn.q_norm.weight"), &[query_gain], Role::Norm);
        slots.push(&name("self_attn.k_norm.weight"), &[key_gain], Role::Norm);
    }
}

fn delta_net(slots: &mut Slots, delta: &DeltaSpec, hidden: usize, prefix: &str) {
    let DeltaSpec { heads, taps } = *delta;
    let name = |tail: &str| format!("{prefix}.{tail}");
    let widths = [heads.row_width(), heads.value_width(), heads.value_heads, heads.value_heads];
    for (tail, width) in DELTA_INPUTS.into_iter().zip(widths) {
        slots.linear(&name(tail), width, hidden, false);
    }
    slots.linear(&name(DELTA_OUTPUT), hidden, heads.value_width(), false);
    slots.push(&name(DELTA_CONVOLUTION), &[heads.row_width(), 1, taps], Role::Convolution);
    slots.push(&name(DELTA_RATE), &[heads.value_heads], Role::Rate);
    slots.push(&name(DELTA_BIAS), &[heads.value_heads], Role::Unit);
    slots.push(&name(DELTA_NORM), &[heads.value_dim], Role::Unit);
}

#[derive(Default)]
struct Slots(Vec<Slot>);

impl Slots {
    fn push(&mut self, name: &str, shape: &[usize], role: Role) {
        self.0.push(Slot { name: name.to_string(), shape: shape.to_vec(), role });
    }

    fn feed_forward(&mut self, prefix: &str, names: FeedForward, [hidden, inner]: [usize; 2], bias: bool) {
        let gate_up = names.gate_up();
        for module in gate_up {
            self.linear(&format!("{prefix}.{module}"), 2 * inner / gate_up.len(), hidden, bias);
        }
        self.linear(&format!("{prefix}.{}", names.down()), hidden, inner, bias);
    }

    fn linear(&mut self, module: &str, out: usize, into: usize, bias: bool) {
        self.push(&format!("{module}.weight"), &[out, into], Role::Weight);
        if bias {
            self.push(&format!("{module}.bias"), &[out], Role::Bias);
        }
    }
}
