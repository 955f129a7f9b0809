//! gpt-oss: attention with sinks, a window on every other block, YaRN, and routed experts of a clamped gate.

use serde_json::{Value, json};

use super::{Widths, alternating_layers, routed_experts, sliding_layers, window_or};
use crate::error::Result;
use crate::fields::Fields;
use crate::gguf::{Architecture, Source, rope_scaling};
use crate::rope::{RopeContext, RopeScaling, RopeSpec};
use crate::spec::{Activation, Biases, DecoderSpec, ExpertLayout, ExpertsSpec};

pub(super) const GGUF: Architecture = Architecture {
    fields: gguf_fields,
    routed: true,
    feed_forward_norm: "post_attention_norm",
    ..Architecture::plain("gpt-oss")
};

pub(super) fn spec(fields: &Fields) -> Result<DecoderSpec> {
    let widths = Widths::read(fields, Some(64))?;
    let experts = routed_experts(fields, widths.layers, "intermediate_size", (2880, 4, 128, 0.001))?;
    let sliding = sliding_layers(fields, widths.layers, |i| i % 2 == 0)?;
    let mut layers = alternating_layers(sliding, window_or(fields, 128)?, 1);
    layers.iter_mut().for_each(|layer| layer.routed = true);
    let bias = fields.bool("attention_bias")?.unwrap_or(true);
    let experts = ExpertsSpec { normalise: true, biases: true, layout: ExpertLayout::Stacked, ..experts };
    Ok(DecoderSpec {
        sinks: true,
        biases: Biases { qkv: bias, output: bias, mlp: false },
        activation: Activation::ClampedSilu {
            alpha: fields.positive("swiglu_alpha")?.unwrap_or(1.702),
            limit: fields.positive("swiglu_limit")?.unwrap_or(7.0),
        },
        norm_eps: fields.positive("rms_norm_eps")?.unwrap_or(1e-5),
        experts: Some(experts),
        layers,
        ..widths.plain_spec(fields, rope(fields, &widths)?)?
    })
}

/// YaRN by default.
fn rope(fields: &Fields, widths: &Widths) -> Result<RopeSpec> {
    let rope = RopeSpec::read(fields, &RopeContext { default_theta: 150_000.0, ..widths.rope_context() })?;
    if fields.is_written("rope_parameters") || fields.is_written("rope_scaling") {
        return Ok(rope);
    }
    let (factor, original_length) = (32.0, 4096);
    let scaling = RopeScaling::Yarn {
        factor,
        attention_factor: 0.1 * f64::ln(factor) + 1.0,
        beta_fast: 32.0,
        beta_slow: 1.0,
        truncate: false,
        original_length,
    };
    Ok(RopeSpec { scaling, ..rope })
}

/// The numbers of experts as vLLM names them.
pub(super) fn further_fields(spec: &DecoderSpec) -> Vec<(&'static str, Value)> {
    let Some(experts) = &spec.experts else { return Vec::new() };
    vec![("num_local_experts", json!(experts.count)), ("experts_per_token", json!(experts.per_token))]
}

/// llama.cpp has the clamp of the published models; that YaRN does not round its bounds is in no file.
fn gguf_fields(source: &Source<'_>) -> Result<Vec<(&'static str, Value)>> {
    let layers = (0..source.blocks()?).map(|block| if block % 2 == 0 { "sliding_attention" } else { "full_attention" });
    let mut fields = vec![
        ("num_local_experts", json!(source.required("expert_count")?)),
        ("num_experts_per_tok", json!(source.required("expert_used_count")?)),
        ("intermediate_size", json!(source.required("expert_feed_forward_length")?)),
        ("sliding_window", json!(source.required("attention.sliding_window")?)),
        ("layer_types", json!(layers.collect::<Vec<_>>())),
    ];
    if let Some(mut yarn) = rope_scaling(source)? {
        yarn["truncate"] = json!(false);
        fields.push(("rope_scaling", yarn));
    }
    Ok(fields)
}
