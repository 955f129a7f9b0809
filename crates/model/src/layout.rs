//! The tensors of a model: Hugging Face names, shapes and roles, in the order they are built and saved.

use crate::spec::DecoderSpec;

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
    /// A linear layer's bias.
    Bias,
    /// A norm's gain.
    Norm,
}

/// Name of the embedding.
pub(crate) const EMBEDDING: &str = "model.embed_tokens.weight";
/// Name of the final norm.
pub(crate) const FINAL_NORM: &str = "model.norm.weight";
/// Module name of the head.
pub(crate) const HEAD: &str = "lm_head";

/// Prefix of all names of block `index`.
pub(crate) fn block_prefix(index: usize) -> String {
    format!("model.layers.{index}")
}

/// All tensors of a model; the head's only when it is not tied.
pub fn layout(spec: &DecoderSpec) -> Vec<Slot> {
    let mut slots = Slots::default();
    let hidden = spec.hidden_size;
    slots.push(EMBEDDING, &[spec.vocab_size, hidden], Role::Embedding);
    for index in 0..spec.layers.len() {
        block(&mut slots, spec, &block_prefix(index));
    }
    slots.push(FINAL_NORM, &[hidden], Role::Norm);
    if !spec.tied {
        slots.linear(HEAD, spec.vocab_size, hidden, false);
    }
    slots.0
}

fn block(slots: &mut Slots, spec: &DecoderSpec, prefix: &str) {
    let (hidden, inner) = (spec.hidden_size, spec.intermediate_size);
    let (queries, keys) = (spec.query_width(), spec.kv_width());
    let biases = spec.biases;
    let name = |tail: &str| format!("{prefix}.{tail}");
    if spec.projections.fused_heads {
        slots.linear(&name("self_attn.qkv_proj"), queries + 2 * keys, hidden, biases.qkv);
    } else {
        slots.linear(&name("self_attn.q_proj"), queries, hidden, biases.qkv);
        slots.linear(&name("self_attn.k_proj"), keys, hidden, biases.qkv);
        slots.linear(&name("self_attn.v_proj"), keys, hidden, biases.qkv);
    }
    slots.linear(&name("self_attn.o_proj"), hidden, queries, biases.output);
    if let Some([query_gain, key_gain]) = spec.qk_norm_widths() {
        slots.push(&name("self_attn.q_norm.weight"), &[query_gain], Role::Norm);
        slots.push(&name("self_attn.k_norm.weight"), &[key_gain], Role::Norm);
    }
    let feed_forward = spec.projections.feed_forward;
    let gate_up = feed_forward.gate_up();
    for module in gate_up {
        slots.linear(&name(module), 2 * inner / gate_up.len(), hidden, biases.mlp);
    }
    slots.linear(&name(feed_forward.down()), hidden, inner, biases.mlp);
    for norm in spec.norms.iter() {
        slots.push(&name(&format!("{norm}.weight")), &[hidden], Role::Norm);
    }
}

#[derive(Default)]
struct Slots(Vec<Slot>);

impl Slots {
    fn push(&mut self, name: &str, shape: &[usize], role: Role) {
        self.0.push(Slot { name: name.to_string(), shape: shape.to_vec(), role });
    }

    fn linear(&mut self, module: &str, out: usize, into: usize, bias: bool) {
        self.push(&format!("{module}.weight"), &[out, into], Role::Weight);
        if bias {
            self.push(&format!("{module}.bias"), &[out], Role::Bias);
        }
    }
}
