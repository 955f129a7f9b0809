//! Qwen2 and Qwen2.5: biases on query, key and value; a window on late blocks when `use_sliding_window` is set.

use super::{Widths, alternating_layers, sliding_layers};
use crate::error::Result;
use crate::fields::Fields;
use crate::gguf::Architecture;
use crate::spec::{Biases, DecoderSpec, LayerSpec};

pub(super) const GGUF: Architecture = Architecture::plain("qwen2");

pub(super) fn spec(fields: &Fields) -> Result<DecoderSpec> {
    let widths = Widths::read(fields, None)?;
    let biases = Biases { qkv: true, ..Biases::default() };
    Ok(DecoderSpec {
        biases,
        layers: windowed_layers(fields, widths.layers)?,
        ..widths.plain_spec(fields, widths.rope(fields)?)?
    })
}

/// Shared with Qwen3: `sliding_window` counts only under `use_sliding_window`, from block `max_window_layers` on.
pub(super) fn windowed_layers(fields: &Fields, count: usize) -> Result<Vec<LayerSpec>> {
    let window = match fields.bool("use_sliding_window")? {
        Some(true) => super::window_or(fields, 4096)?,
        _ => None,
    };
    let first_sliding = match fields.number("max_window_layers")? {
        Some(n) if n >= 0.0 => n as usize,
        _ => 28,
    };
    let sliding = sliding_layers(fields, count, |i| window.is_some() && i >= first_sliding)?;
    if window.is_none() && sliding.contains(&true) {
        return Err(fields.error(
            "layer_types",
            "only full_attention, because no sliding window is in use",
            "sliding_attention".into(),
        ));
    }
    Ok(alternating_layers(sliding, window, 1))
}
