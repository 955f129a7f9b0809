//! Qwen3 with routed experts: Qwen3's attention, and experts in the place of the feed-forward layer of all blocks, or of
//! those that `decoder_sparse_step` and `mlp_only_layers` leave.

use serde_json::{Value, json};

use super::{Widths, routed_experts, uniform_layers, window_or};
use crate::error::Result;
use crate::fields::Fields;
use crate::gguf::{Architecture, Source};
use crate::spec::{Biases, DecoderSpec, ExpertsSpec, QkNorm};

pub(super) const GGUF: Architecture =
    Architecture { fields: gguf_fields, routed: true, ..Architecture::plain("qwen3moe") };

pub(super) fn spec(fields: &Fields) -> Result<DecoderSpec> {
    let widths = Widths::read(fields, None)?;
    let attention_bias = fields.bool("attention_bias")?.unwrap_or(false);
    let experts = routed_experts(fields, widths.layers, "moe_intermediate_size", (768, 8, 128, 0.001))?;
    let normalise = fields.bool("norm_topk_prob")?.unwrap_or(false);
    let step = fields.size("decoder_sparse_step")?.unwrap_or(1);
    let plain = fields.indices("mlp_only_layers")?.unwrap_or_default();
    let window = match fields.bool("use_sliding_window")? {
        Some(true) => window_or(fields, 4096)?,
        _ => None,
    };
    let mut layers = uniform_layers(widths.layers, window);
    for (index, layer) in layers.iter_mut().enumerate() {
        layer.routed = (index + 1).is_multiple_of(step) && !plain.contains(&index);
    }
    Ok(DecoderSpec {
        qk_norm: QkNorm::PerHead,
        biases: Biases { qkv: attention_bias, output: attention_bias, mlp: false },
        experts: Some(ExpertsSpec { normalise, ..experts }),
        layers,
        ..widths.plain_spec(fields, widths.rope(fields)?)?
    })
}

/// The number of experts as transformers 4 and vLLM name it, where transformers 5 writes `num_local_experts`; and a field that
/// mistral.rs requires and nothing else reads.
pub(super) fn further_fields(spec: &DecoderSpec) -> Vec<(&'static str, Value)> {
    let count = spec.experts.iter().map(|experts| ("num_experts", json!(experts.count)));
    count.chain([("max_window_layers", json!(spec.layers.len()))]).collect()
}

/// llama.cpp has experts in every block, and weights of a token's experts that sum to one.
fn gguf_fields(source: &Source<'_>) -> Result<Vec<(&'static str, Value)>> {
    Ok(vec![
        ("num_experts", json!(source.required("expert_count")?)),
        ("num_experts_per_tok", json!(source.required("expert_used_count")?)),
        ("moe_intermediate_size", json!(source.required("expert_feed_forward_length")?)),
        ("norm_topk_prob", json!(true)),
    ])
}
