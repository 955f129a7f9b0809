//! GLM-4 (0414): norms before and after, neighbouring dimensions rotated, half of each head's.

use serde_json::{Value, json};
use smpo_kernels::RotaryPairs;

use super::Widths;
use crate::error::Result;
use crate::fields::Fields;
use crate::gguf::{Architecture, Source};
use crate::rope::{RopeContext, RopeSpec};
use crate::spec::{Biases, BlockNorms, DecoderSpec, FeedForward, Projections};

pub(super) const GGUF: Architecture = Architecture { fields: gguf_fields, ..Architecture::plain("glm4") };

pub(super) fn spec(fields: &Fields) -> Result<DecoderSpec> {
    let widths = Widths::read(fields, Some(128))?;
    let context = RopeContext { default_share: Some(0.5), pairs: RotaryPairs::Neighbours, ..widths.rope_context() };
    Ok(DecoderSpec {
        norm_eps: fields.positive("rms_norm_eps")?.unwrap_or(1.5625e-7),
        norms: BlockNorms {
            before_attention: Some("input_layernorm"),
            after_attention: Some("post_self_attn_layernorm"),
            before_feed_forward: Some("post_attention_layernorm"),
            after_feed_forward: Some("post_mlp_layernorm"),
        },
        biases: Biases { qkv: fields.bool("attention_bias")?.unwrap_or(true), ..Biases::default() },
        projections: Projections { feed_forward: FeedForward::Fused, ..Projections::SEPARATE },
        ..widths.plain_spec(fields, RopeSpec::read(fields, &context)?)?
    })
}

/// Share of rotated dimensions.
pub(super) fn rope_fields(spec: &DecoderSpec) -> Vec<(&'static str, Value)> {
    vec![("partial_rotary_factor", json!(spec.ropes[0].rotary_dim as f64 / spec.head_dim as f64))]
}

fn gguf_fields(source: &Source<'_>) -> Result<Vec<(&'static str, Value)>> {
    let width = source.head_width()?;
    let rotated = source.whole("rope.dimension_count")?.unwrap_or(width);
    Ok(vec![("partial_rotary_factor", json!(rotated as f64 / width.max(1) as f64))])
}
