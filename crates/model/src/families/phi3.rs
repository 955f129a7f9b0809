//! Phi-3 and Phi-4: fused projections, partial rotary embeddings, LongRoPE.

use serde_json::{Value, json};

use super::{Widths, uniform_layers};
use crate::error::Result;
use crate::fields::Fields;
use crate::gguf::{Architecture, Source};
use crate::rope::{RopeContext, RopeScaling, RopeSpec};
use crate::spec::{DecoderSpec, FeedForward, Projections};

pub(super) const GGUF: Architecture = Architecture { fields: gguf_fields, ..Architecture::plain("phi3") };

pub(super) fn spec(fields: &Fields) -> Result<DecoderSpec> {
    let widths = Widths::read(fields, None)?;
    let context = RopeContext { yarn_is_longrope: true, default_share: Some(1.0), ..widths.rope_context() };
    let rope = RopeSpec::read(fields, &context)?;
    if !matches!(rope.scaling, RopeScaling::None | RopeScaling::LongRope { .. }) {
        return Err(fields.unsupported("rope scaling other than longrope in this family"));
    }
    Ok(DecoderSpec {
        projections: Projections { fused_heads: true, feed_forward: FeedForward::Fused },
        norm_eps: fields.positive("rms_norm_eps")?.unwrap_or(1e-5),
        layers: uniform_layers(widths.layers, fields.size("sliding_window")?),
        ..widths.plain_spec(fields, rope)?
    })
}

/// Share of rotated dimensions, and the context length before scaling.
pub(super) fn rope_fields(spec: &DecoderSpec) -> Vec<(&'static str, Value)> {
    let rope = &spec.ropes[0];
    let mut fields = vec![("partial_rotary_factor", json!(rope.rotary_dim as f64 / spec.head_dim as f64))];
    if let RopeScaling::LongRope { original_length, .. } = &rope.scaling {
        fields.push(("original_max_position_embeddings", json!(original_length)));
    }
    fields
}

fn gguf_fields(source: &Source<'_>) -> Result<Vec<(&'static str, Value)>> {
    Ok(vec![("sliding_window", json!(source.whole("attention.sliding_window")?.filter(|window| *window > 0)))])
}
