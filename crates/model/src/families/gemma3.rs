//! Gemma 3, text only: as Gemma 2 without caps, with query and key norms, and another rotary base on sliding blocks.

use serde_json::{Value, json};

use super::gemma2::gemma_spec;
use super::{Widths, alternating_layers, ropes_by_layer_type, sliding_layers, window_or};
use crate::error::Result;
use crate::fields::Fields;
use crate::gguf::{Architecture, Source};
use crate::spec::{DecoderSpec, QkNorm};

pub(super) const GGUF: Architecture = Architecture { fields: gguf_fields, ..Architecture::plain("gemma3") };

pub(super) fn spec(fields: &Fields) -> Result<DecoderSpec> {
    let widths = Widths::read(fields, Some(256))?;
    let window = window_or(fields, 4096)?;
    // Before `layer_types`: every `sliding_window_pattern`-th block attends to the whole sequence.
    let pattern = fields.size("sliding_window_pattern")?.unwrap_or(6);
    let sliding = sliding_layers(fields, widths.layers, |i| (i + 1) % pattern != 0)?;
    let ropes = ropes_by_layer_type(fields, &widths, (1_000_000.0, 10_000.0), "rope_local_base_freq")?;
    let layers = alternating_layers(sliding, window, ropes.len());
    if fields.positive("attn_logit_softcapping")?.is_some() {
        return Err(fields.unsupported("`attn_logit_softcapping` in this family"));
    }
    Ok(DecoderSpec { qk_norm: QkNorm::PerHead, ..gemma_spec(fields, &widths, layers, ropes, (None, None))? })
}

/// θ of sliding blocks.
pub(super) fn rope_fields(spec: &DecoderSpec) -> Vec<(&'static str, Value)> {
    vec![("rope_local_base_freq", json!(spec.ropes[1].theta))]
}

/// `Gemma3TextConfig`'s defaults that Gemma 3 4B to 27B rely on.
pub(super) fn text_defaults() -> Vec<(&'static str, Value)> {
    vec![
        ("vocab_size", json!(262_208)),
        ("num_attention_heads", json!(8)),
        ("num_key_value_heads", json!(4)),
        ("head_dim", json!(256)),
        ("max_position_embeddings", json!(131_072)),
    ]
}

fn gguf_fields(source: &Source<'_>) -> Result<Vec<(&'static str, Value)>> {
    const PATTERN: &str = "attention.sliding_window_pattern";
    let window = source.whole("attention.sliding_window")?.ok_or_else(|| {
        source.missing("attention.sliding_window", "the sliding window of its local blocks, in tokens")
    })?;
    // Every so many blocks one attends to the whole sequence.
    let pattern = match source.is_list(PATTERN) {
        true => return Err(source.unsupported(PATTERN, "a list (one number for all blocks is read)")),
        false => source.whole(PATTERN)?.unwrap_or(6).max(1),
    };
    let kind = |block: u64| if (block + 1).is_multiple_of(pattern) { "full_attention" } else { "sliding_attention" };
    Ok(vec![
        // Only the 27B model, of 62 blocks, scales by another width than that of a head.
        ("query_pre_attn_scalar", json!(source.query_width(62)?)),
        ("sliding_window", json!(window)),
        ("sliding_window_pattern", json!(pattern)),
        ("layer_types", (0..source.blocks()?).map(kind).collect()),
        ("rope_local_base_freq", json!(source.number("rope.freq_base_swa")?.unwrap_or(10_000.0))),
        ("final_logit_softcapping", json!(source.number("final_logit_softcapping")?)),
    ])
}
