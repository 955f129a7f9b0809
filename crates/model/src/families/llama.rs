//! Llama 2, 3, 3.1 and later.

use super::Widths;
use crate::error::Result;
use crate::fields::Fields;
use crate::gguf::{Architecture, Rows};
use crate::spec::{Biases, DecoderSpec};

pub(super) const GGUF: Architecture = Architecture { rows: Rows::Interleaved, ..Architecture::plain("llama") };

pub(super) fn spec(fields: &Fields) -> Result<DecoderSpec> {
    if fields.number("pretraining_tp")?.is_some_and(|n| n != 1.0) {
        return Err(fields.unsupported("`pretraining_tp` other than 1"));
    }
    let widths = Widths::read(fields, None)?;
    let attention_bias = fields.bool("attention_bias")?.unwrap_or(false);
    let biases = Biases { qkv: attention_bias, output: attention_bias, mlp: fields.bool("mlp_bias")?.unwrap_or(false) };
    Ok(DecoderSpec { biases, ..widths.plain_spec(fields, widths.rope(fields)?)? })
}
