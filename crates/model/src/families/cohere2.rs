//! Cohere 2 (Command R7B, Command A): attention and feed-forward layer side by side after one LayerNorm; blocks with a
//! window rotate neighbouring dimensions, full ones do not rotate.

use serde_json::{Value, json};
use smpo_kernels::RotaryPairs;

use super::{Widths, alternating_layers, sliding_layers, window_or};
use crate::error::Result;
use crate::fields::Fields;
use crate::gguf::{Architecture, Source};
use crate::rope::{RopeContext, RopeSpec};
use crate::spec::{Biases, BlockNorms, DecoderSpec};

pub(super) const GGUF: Architecture = Architecture { fields: gguf_fields, ..Architecture::plain("cohere2") };

pub(super) fn spec(fields: &Fields) -> Result<DecoderSpec> {
    let widths = Widths::read(fields, None)?;
    let context = RopeContext { pairs: RotaryPairs::Neighbours, ..widths.rope_context() };
    let rope = RopeSpec::read(fields, &context)?;
    if rope.rotary_dim != widths.head_dim {
        return Err(fields.unsupported("`partial_rotary_factor` in this family"));
    }
    let window = window_or(fields, 4096)?;
    let pattern = fields.size("sliding_window_pattern")?.unwrap_or(4);
    let sliding = sliding_layers(fields, widths.layers, |i| (i + 1) % pattern != 0)?;
    // A window is what makes a block rotate.
    let mut layers = alternating_layers(sliding, window, 1);
    layers.iter_mut().for_each(|layer| layer.rope = layer.rope.filter(|_| layer.window.is_some()));
    let attention_bias = fields.bool("attention_bias")?.unwrap_or(false);
    Ok(DecoderSpec {
        norm_eps: fields.positive("layer_norm_eps")?.unwrap_or(1e-5),
        norm_centred: true,
        norms: BlockNorms {
            before_attention: Some("input_layernorm"),
            after_attention: None,
            before_feed_forward: None,
            after_feed_forward: None,
        },
        parallel: true,
        layers,
        biases: Biases { qkv: attention_bias, output: attention_bias, mlp: false },
        logit_scale: Some(fields.positive("logit_scale")?.unwrap_or(0.0625)),
        tied: fields.bool("tie_word_embeddings")?.unwrap_or(true),
        ..widths.plain_spec(fields, rope)?
    })
}

fn gguf_fields(source: &Source<'_>) -> Result<Vec<(&'static str, Value)>> {
    Ok(vec![
        ("logit_scale", json!(source.number("logit_scale")?.unwrap_or(1.0))),
        ("sliding_window", json!(source.required("attention.sliding_window")?)),
        ("layer_types", json!(source.layer_types("attention.sliding_window_pattern", 4)?)),
    ])
}
