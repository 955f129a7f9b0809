//! OLMo 3: OLMo 2 with a window on three of four blocks, which are never scaled to longer contexts.

use serde_json::{Value, json};

use super::olmo2::{gguf_window, olmo_spec};
use super::{Widths, alternating_layers, ropes_by_layer_type, sliding_layers, window_or};
use crate::error::Result;
use crate::fields::Fields;
use crate::gguf::{Architecture, Source};
use crate::spec::DecoderSpec;

pub(super) const GGUF: Architecture = Architecture {
    fields: gguf_fields,
    chosen: |source| Ok(gguf_window(source)?.is_some()),
    ..Architecture::plain("olmo2")
};

pub(super) fn spec(fields: &Fields) -> Result<DecoderSpec> {
    const THETA: f64 = 500_000.0;
    let widths = Widths::read(fields, None)?;
    let window = window_or(fields, 4096)?;
    let sliding = sliding_layers(fields, widths.layers, |i| (i + 1) % 4 != 0)?;
    let ropes = ropes_by_layer_type(fields, &widths, (THETA, THETA), "rope_theta")?;
    let layers = alternating_layers(sliding, window, ropes.len());
    let plain = olmo_spec(fields, &widths, ropes[0].clone())?;
    Ok(DecoderSpec { layers, ropes, ..plain })
}

fn gguf_fields(source: &Source<'_>) -> Result<Vec<(&'static str, Value)>> {
    Ok(vec![
        ("sliding_window", json!(gguf_window(source)?)),
        ("layer_types", json!(source.layer_types("attention.sliding_window_pattern", 4)?)),
    ])
}
