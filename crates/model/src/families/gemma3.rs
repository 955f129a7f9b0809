//! Gemma 3, text only: as Gemma 2 without caps, with query and key norms, and another rotary base on sliding blocks.

use serde_json::{Value, json};

use super::gemma2::gemma_spec;
use super::{Widths, alternating_layers, ropes_by_layer_type, sliding_layers, window_or};
use crate::error::Result;
use crate::fields::Fields;
use crate::spec::{DecoderSpec, QkNorm};

pub(super) fn spec(fields: &Fields) -> Result<DecoderSpec> {
    let widths = Widths::read(fields, Some(256))?;
    let window = window_or(fields, 4096)?;
    // Before `layer_types`: every `sliding_window_pattern`-th block attends to the whole sequence.
    let pattern = fields.size("sliding_window_pattern")?.unwrap_or(6);
    let sliding = sliding_layers(fields, widths.layers, |i| (i + 1) % pattern != 0)?;
    let ropes = ropes_by_layer_type(fields, &widths, (1_000_000.0, 10_000.0), "rope_local_base_freq")?;
    let layers = alternating_layers(sliding, window, ropes.len());
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
