//! Ministral 3: Mistral with YaRN, and queries that grow with their position.

use super::{Widths, uniform_layers};
use crate::error::Result;
use crate::fields::Fields;
use crate::gguf::{Architecture, Rows, TEMPERATURE};
use crate::spec::{DecoderSpec, QueryGrowth};

pub(super) const GGUF: Architecture = Architecture {
    rows: Rows::Interleaved,
    chosen: |source| Ok(source.number(TEMPERATURE)?.is_some()),
    ..Architecture::plain("mistral3")
};

pub(super) fn spec(fields: &Fields) -> Result<DecoderSpec> {
    let widths = Widths::read(fields, Some(128))?;
    if let Some(types) = fields.strings("layer_types")? {
        return Err(fields.unsupported(format!("`layer_types` {types:?} in this family")));
    }
    let Some(rope) = fields.object("rope_scaling")?.or(fields.object("rope_parameters")?) else {
        return Err(fields.missing("rope_parameters", "the rotary parameters that transformers 5 writes"));
    };
    let beta = rope.number("llama_4_scaling_beta")?;
    let beta = beta.ok_or_else(|| rope.missing("llama_4_scaling_beta", "a number, 0 for queries that do not grow"))?;
    const LENGTH: &str = "original_max_position_embeddings";
    let length = rope.size(LENGTH)?.ok_or_else(|| rope.missing(LENGTH, "a number of tokens"))?;
    Ok(DecoderSpec {
        norm_eps: fields.positive("rms_norm_eps")?.unwrap_or(1e-5),
        layers: uniform_layers(widths.layers, fields.size("sliding_window")?),
        query_growth: (beta != 0.0).then_some(QueryGrowth { beta, length }),
        ..widths.plain_spec(fields, widths.rope(fields)?)?
    })
}
