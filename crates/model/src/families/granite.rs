//! Granite 3: Llama with four multipliers: on embeddings, attention scores, what layers add to the stream, and logits.

use super::Widths;
use crate::error::Result;
use crate::fields::Fields;
use crate::rope::RopeSpec;
use crate::spec::{Biases, DecoderSpec};

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
