//! Qwen3.5, dense: three of four blocks have a gated delta net in the place of attention, and attention has a gate on its
//! output.

use serde_json::{Value, json};
use smpo_kernels::DeltaHeads;

use super::Widths;
use crate::error::Result;
use crate::fields::Fields;
use crate::rope::{RopeContext, RopeSpec};
use crate::spec::{Biases, DecoderSpec, DeltaSpec, LayerSpec, QkNorm};

/// More taps than any convolution has.
const MAX_TAPS: usize = 64;

pub(super) fn spec(fields: &Fields) -> Result<DecoderSpec> {
    let widths = Widths::read(fields, Some(256))?;
    let context = RopeContext { default_share: Some(0.25), ..widths.rope_context() };
    let attention_bias = fields.bool("attention_bias")?.unwrap_or(false);
    let layers = delta_layers(fields, widths.layers)?;
    Ok(DecoderSpec {
        delta: Some(delta(fields)?),
        gated_attention: true,
        norm_plus_one: true,
        qk_norm: QkNorm::PerHead,
        biases: Biases { qkv: attention_bias, output: attention_bias, mlp: false },
        layers,
        ..widths.plain_spec(fields, RopeSpec::read(fields, &context)?)?
    })
}

fn delta(fields: &Fields) -> Result<DeltaSpec> {
    let size =
        |name: &'static str, default: usize| Ok::<_, crate::error::ModelError>(fields.size(name)?.unwrap_or(default));
    let heads = DeltaHeads {
        key_heads: size("linear_num_key_heads", 16)?,
        value_heads: size("linear_num_value_heads", 32)?,
        key_dim: size("linear_key_head_dim", 128)?,
        value_dim: size("linear_value_head_dim", 128)?,
    };
    if !heads.value_heads.is_multiple_of(heads.key_heads) {
        let expected = format!("a divisor of linear_num_value_heads {}", heads.value_heads);
        return Err(fields.error("linear_num_key_heads", &expected, heads.key_heads.to_string()));
    }
    let taps = size("linear_conv_kernel_dim", 4)?;
    if taps > MAX_TAPS {
        return Err(fields.error("linear_conv_kernel_dim", &format!("at most {MAX_TAPS}"), taps.to_string()));
    }
    Ok(DeltaSpec { heads, taps })
}

/// Blocks by `layer_types`; without it every `full_attention_interval`-th has attention.
fn delta_layers(fields: &Fields, count: usize) -> Result<Vec<LayerSpec>> {
    let layer = |delta: bool| LayerSpec { window: None, rope: (!delta).then_some(0), routed: false, delta };
    let Some(types) = fields.strings("layer_types")? else {
        let interval = fields.size("full_attention_interval")?.unwrap_or(4);
        return Ok((0..count).map(|index| layer(!(index + 1).is_multiple_of(interval))).collect());
    };
    if types.len() != count {
        let expected = format!("num_hidden_layers {count} entries");
        return Err(fields.error("layer_types", &expected, format!("{} entries", types.len())));
    }
    let kind = |name: &str| match name {
        "full_attention" => Ok(layer(false)),
        "linear_attention" => Ok(layer(true)),
        other => Err(fields.unsupported(format!("layer type `{other}`"))),
    };
    types.into_iter().map(kind).collect()
}

/// Share of rotated dimensions.
pub(super) fn rope_fields(spec: &DecoderSpec) -> Vec<(&'static str, Value)> {
    vec![("partial_rotary_factor", json!(spec.ropes[0].rotary_dim as f64 / spec.head_dim as f64))]
}

/// `Qwen3_5TextConfig`'s defaults.
pub(super) fn text_defaults() -> Vec<(&'static str, Value)> {
    vec![
        ("vocab_size", json!(248_320)),
        ("hidden_size", json!(4096)),
        ("intermediate_size", json!(12_288)),
        ("num_hidden_layers", json!(32)),
        ("num_attention_heads", json!(16)),
        ("num_key_value_heads", json!(4)),
        ("max_position_embeddings", json!(32_768)),
    ]
}
