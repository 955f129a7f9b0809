//! Granite 3: Llama with four multipliers: on embeddings, attention scores, what layers add to the stream, and logits.

use serde_json::{Value, json};

use super::Widths;
use crate::error::Result;
use crate::fields::Fields;
use crate::gguf::{Architecture, Rows, Source};
use crate::rope::RopeSpec;
use crate::spec::{Biases, DecoderSpec};

pub(super) const GGUF: Architecture =
    Architecture { rows: Rows::Interleaved, fields: gguf_fields, ..Architecture::plain("granite") };

pub(super) fn spec(fields: &Fields) -> Result<DecoderSpec> {
    let widths = Widths::read(fields, None)?;
    let attention_bias = fields.bool("attention_bias")?.unwrap_or(false);
    let biases = Biases { qkv: attention_bias, output: attention_bias, mlp: fields.bool("mlp_bias")?.unwrap_or(false) };
    Ok(DecoderSpec { biases, ..granite_spec(fields, &widths, widths.rope(fields)?)? })
}

/// The decoder of Granite 3 and 4.
pub(super) fn granite_spec(fields: &Fields, widths: &Widths, rope: RopeSpec) -> Result<DecoderSpec> {
    let factor = |name: &str| -> Result<Option<f64>> { Ok(fields.positive(name)?.filter(|factor| *factor != 1.0)) };
    Ok(DecoderSpec {
        attention_scale: fields.positive("attention_multiplier")?.unwrap_or(1.0),
        embedding_scale: factor("embedding_multiplier")?,
        residual_scale: factor("residual_multiplier")?,
        logit_scale: factor("logits_scaling")?.map(|divisor| 1.0 / divisor),
        ..widths.plain_spec(fields, rope)?
    })
}

fn gguf_fields(source: &Source<'_>) -> Result<Vec<(&'static str, Value)>> {
    const ROTATES: &str = "rope.scaling.finetuned";
    if source.file.metadata().bool(&source.key(ROTATES))? == Some(false) {
        return Err(source.unsupported(ROTATES, "false, a model that does not rotate"));
    }
    let multipliers = [
        ("attention_multiplier", "attention.scale"),
        ("embedding_multiplier", "embedding_scale"),
        ("residual_multiplier", "residual_scale"),
        ("logits_scaling", "logit_scale"),
    ];
    multipliers.into_iter().map(|(field, key)| Ok((field, json!(source.number(key)?.unwrap_or(1.0))))).collect()
}
