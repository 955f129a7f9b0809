//! Gemma 2: norms before and after, soft caps, scaled embeddings, a window on every other block.

use serde_json::{Value, json};

use super::{Widths, activation, alternating_layers, cap_or, sliding_layers, window_or};
use crate::error::Result;
use crate::fields::Fields;
use crate::gguf::{Architecture, Source};
use crate::rope::RopeSpec;
use crate::spec::{Activation, Biases, BlockNorms, DecoderSpec, LayerSpec, Projections, QkNorm};

/// Before and after both. The same name is the norm before the feed-forward layer in Llama.
const NORMS: BlockNorms<&str> = BlockNorms {
    before_attention: Some("input_layernorm"),
    after_attention: Some("post_attention_layernorm"),
    before_feed_forward: Some("pre_feedforward_layernorm"),
    after_feed_forward: Some("post_feedforward_layernorm"),
};

pub(super) const GGUF: Architecture = Architecture { fields: gguf_fields, ..Architecture::plain("gemma2") };

pub(super) fn spec(fields: &Fields) -> Result<DecoderSpec> {
    let widths = Widths::read(fields, Some(256))?;
    let window = window_or(fields, 4096)?;
    let layers = alternating_layers(sliding_layers(fields, widths.layers, |i| i % 2 == 0)?, window, 1);
    let ropes = vec![widths.rope(fields)?];
    gemma_spec(fields, &widths, layers, ropes, (Some(50.0), Some(30.0)))
}

/// The decoder of Gemma 2 and 3; `caps` are the defaults of attention and logit soft caps.
pub(super) fn gemma_spec(
    fields: &Fields,
    widths: &Widths,
    layers: Vec<LayerSpec>,
    ropes: Vec<RopeSpec>,
    caps: (Option<f64>, Option<f64>),
) -> Result<DecoderSpec> {
    if fields.bool("use_bidirectional_attention")? == Some(true) {
        return Err(fields.unsupported("bidirectional attention (`use_bidirectional_attention`)"));
    }
    let attention_bias = fields.bool("attention_bias")?.unwrap_or(false);
    Ok(DecoderSpec {
        vocab_size: fields.required_size("vocab_size")?,
        hidden_size: widths.hidden_size,
        intermediate_size: fields.required_size("intermediate_size")?,
        experts: None,
        delta: None,
        heads: widths.heads,
        kv_heads: widths.kv_heads,
        head_dim: widths.head_dim,
        layers,
        ropes,
        norm_eps: fields.positive("rms_norm_eps")?.unwrap_or(1e-6),
        norm_plus_one: true,
        norm_centred: false,
        norms: NORMS,
        qk_norm: QkNorm::None,
        parallel: false,
        activation: activation(fields, "hidden_activation", Activation::GeluTanh)?,
        attention_scale: fields.positive("query_pre_attn_scalar")?.unwrap_or(256.0).powf(-0.5),
        attention_soft_cap: cap_or(fields, "attn_logit_softcapping", caps.0)?,
        sinks: false,
        gated_attention: false,
        query_growth: None,
        logit_scale: None,
        logit_soft_cap: cap_or(fields, "final_logit_softcapping", caps.1)?,
        embedding_scale: Some((widths.hidden_size as f64).sqrt()),
        residual_scale: None,
        projections: Projections::SEPARATE,
        biases: Biases { qkv: attention_bias, output: attention_bias, mlp: false },
        tied: fields.bool("tie_word_embeddings")?.unwrap_or(true),
        labels: None,
        initializer_range: fields.number("initializer_range")?.unwrap_or(0.02),
        max_positions: fields.size("max_position_embeddings")?,
    })
}

fn gguf_fields(source: &Source<'_>) -> Result<Vec<(&'static str, Value)>> {
    Ok(vec![
        // Only the 27B model, of 46 blocks, scales by another width than that of a head.
        ("query_pre_attn_scalar", json!(source.query_width(46)?)),
        ("sliding_window", json!(source.whole("attention.sliding_window")?.unwrap_or(4096))),
        ("attn_logit_softcapping", json!(source.number("attn_logit_softcapping")?.unwrap_or(50.0))),
        ("final_logit_softcapping", json!(source.number("final_logit_softcapping")?.unwrap_or(30.0))),
    ])
}
