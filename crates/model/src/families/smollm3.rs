//! SmolLM3: Llama without rotation on every fourth block (NoPE).

use super::{Widths, alternating_layers, sliding_layers, window_or};
use crate::error::Result;
use crate::fields::Fields;
use crate::gguf::{Architecture, Rows};
use crate::rope::{RopeContext, RopeSpec};
use crate::spec::{Biases, DecoderSpec};

pub(super) const GGUF: Architecture = Architecture { rows: Rows::Interleaved, ..Architecture::plain("smollm3") };

pub(super) fn spec(fields: &Fields) -> Result<DecoderSpec> {
    let widths = Widths::read(fields, None)?;
    let context = RopeContext { default_theta: 2_000_000.0, ..widths.rope_context() };
    let attention_bias = fields.bool("attention_bias")?.unwrap_or(false);
    let rotated = rotated_layers(fields, widths.layers)?;
    let window = match fields.bool("use_sliding_window")? {
        Some(true) if fields.is_written("sliding_window") => window_or(fields, 4096)?,
        _ => None,
    };
    let sliding = sliding_layers(fields, widths.layers, |i| window.is_some() && !rotated[i])?;
    if window.is_none() && sliding.contains(&true) {
        let expected = "only full_attention, because no sliding window is in use";
        return Err(fields.error("layer_types", expected, "sliding_attention".into()));
    }
    let mut layers = alternating_layers(sliding, window, 1);
    layers.iter_mut().zip(rotated).for_each(|(layer, rotated)| layer.rope = layer.rope.filter(|_| rotated));
    Ok(DecoderSpec {
        biases: Biases { qkv: attention_bias, output: attention_bias, mlp: fields.bool("mlp_bias")?.unwrap_or(false) },
        layers,
        tied: fields.bool("tie_word_embeddings")?.unwrap_or(true),
        ..widths.plain_spec(fields, RopeSpec::read(fields, &context)?)?
    })
}

/// True for each block that rotates: `no_rope_layers` has a 1 for it.
fn rotated_layers(fields: &Fields, count: usize) -> Result<Vec<bool>> {
    let Some(flags) = fields.numbers("no_rope_layers")? else {
        let interval = fields.size("no_rope_layer_interval")?.unwrap_or(4);
        return Ok((0..count).map(|i| (i + 1) % interval != 0).collect());
    };
    if flags.len() < count || flags.iter().any(|flag| ![0.0, 1.0].contains(flag)) {
        let expected = format!("a 0 or 1 for each of {count} blocks");
        return Err(fields.error("no_rope_layers", &expected, format!("{flags:?}")));
    }
    Ok(flags.into_iter().take(count).map(|flag| flag == 1.0).collect())
}
