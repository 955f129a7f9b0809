//! Qwen3, dense: queries and keys are normalised per head.

use super::Widths;
use super::qwen2::windowed_layers;
use crate::error::Result;
use crate::fields::Fields;
use crate::gguf::Architecture;
use crate::spec::{Biases, DecoderSpec, QkNorm};

pub(super) const GGUF: Architecture = Architecture::plain("qwen3");

pub(super) fn spec(fields: &Fields) -> Result<DecoderSpec> {
    let widths = Widths::read(fields, Some(128))?;
    let attention_bias = fields.bool("attention_bias")?.unwrap_or(false);
    Ok(DecoderSpec {
        qk_norm: QkNorm::PerHead,
        biases: Biases { qkv: attention_bias, output: attention_bias, mlp: false },
        layers: windowed_layers(fields, widths.layers)?,
        ..widths.plain_spec(fields, widths.rope(fields)?)?
    })
}
